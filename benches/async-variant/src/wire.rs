//! otlpd's own engine: validated bytes, edits in one pass, joining for nothing, a compressed body that leaves as it came.

use bytes::{Buf, BufMut, Bytes};
use otlp_bin::config::Resolved;
use otlp_bin::registry::{self, Environment, ThreadSettings};
use otlp_core::batch::Encoded;
use otlp_core::codec::Coding;
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::Registry;
use otlp_core::wire::validate::Limits;
use otlp_core::{Batch, ByteSize, Clock, Group, Outcome, Signal};
use otlp_process::chain::Prefix;
use std::sync::Arc;

use crate::Problem;
use crate::engine::{self, Engine};
use crate::settings::PipelineSettings;

/// The attributes and resource processors of otlpd, fused.
pub struct Wire(Prefix);

/// Batches on their way together. Settled when dropped: here tickets have nobody behind them.
pub struct Parts(Option<Group>);

impl Parts {
    fn group(&self) -> &Group {
        self.0.as_ref().expect("taken only when dropped or joined")
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            group.settle(Outcome::Delivered);
        }
    }
}

impl Engine for Wire {
    type Data = Parts;

    fn new(tree: &Resolved, settings: &PipelineSettings) -> Result<Wire, Problem> {
        let environment = Environment {
            registry: Registry::new(),
            clock: Clock::system(),
            budget: MemoryBudget::new(ByteSize::mib(64)),
            threads: ThreadSettings { process: 1, ..ThreadSettings::default() },
            healthy: Arc::new(|| true),
        };
        let built = registry::build(tree, &environment).map_err(|errors| format!("{errors:?}"))?;
        let pipeline = built.pipelines.into_iter().find(|pipeline| pipeline.id == settings.id);
        let processors = pipeline.ok_or("no such pipeline")?.processors;
        let edits = processors.iter().filter(|(id, _)| settings.edits.iter().any(|edit| edit.id == *id));
        Ok(Wire(Prefix::new(edits.filter_map(|(_, processor)| processor.transform()).collect())))
    }

    fn decode(signal: Signal, mut body: impl Buf) -> Result<Parts, String> {
        let body = body.copy_to_bytes(body.remaining());
        let (batch, _) = Batch::check(signal, body, &Limits::default()).map_err(|error| error.to_string())?;
        Ok(Parts(Some(Group::of(batch))))
    }

    fn came_as(mut data: Parts, coding: Coding, body: Bytes) -> Parts {
        let Some(group) = data.0.take() else { return data };
        let mut marked = Group::new(group.signal());
        for batch in group.into_parts() {
            marked.push(batch.with_encoded(Encoded { coding, body: body.clone() }));
        }
        Parts(Some(marked))
    }

    fn process(&self, mut data: Parts) -> Parts {
        let Some(group) = data.0.take() else { return data };
        if self.0.is_empty() {
            return Parts(Some(group));
        }
        let mut left = Group::new(group.signal());
        for batch in group.into_parts() {
            match self.0.apply(batch) {
                Ok(Some(batch)) => left.push(batch),
                Ok(None) => {}
                Err(refused) => unreachable!("edits refuse nothing: {}", refused.failure),
            }
        }
        Parts(Some(left))
    }

    fn items(data: &Parts) -> usize {
        data.group().items().get() as usize
    }

    fn append(data: &mut Parts, mut other: Parts) {
        if let (Some(group), Some(other)) = (&mut data.0, other.0.take()) {
            group.append(other);
        }
    }

    fn encoded_len(data: &Parts) -> usize {
        data.group().size().as_usize()
    }

    fn write(data: &Parts, to: &mut impl BufMut) {
        data.group().parts().iter().for_each(|batch| to.put_slice(batch.body()));
    }

    fn body(data: &Parts, coding: Coding) -> Bytes {
        let group = data.group();
        if let [only] = group.parts()
            && let Some(encoded) = only.encoded()
            && encoded.coding == coding
        {
            return encoded.body.clone();
        }
        if coding == Coding::Identity {
            return group.joined();
        }
        engine::compressed(coding, group.joined().into())
    }
}
