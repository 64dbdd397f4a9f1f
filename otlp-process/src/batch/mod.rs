//! Batching: lets small batches of one signal leave together.
//!
//! | file             | purpose                                                        |
//! |------------------|----------------------------------------------------------------|
//! | `config.rs`      | the limits and their defaults                                  |
//! | `accumulator.rs` | decides when a group is full or old; no clock, no channel      |
//! | `tests.rs`       | those decisions, around every limit                            |
//!
//! # What it does
//!
//! Joins without copying: a [`Group`] is a list of batches that are written one after another. A group leaves when it has
//! `send_batch_size` items, when its first batch is `timeout` old, or before it would exceed [`GROUP_BYTES_MAX`].
//!
//! Where senders wait until the data is exported, a group also leaves as soon as every open request waits in this
//! processor (the inlet is empty and no destination has anything of this pipeline): nothing more can come from those
//! who wait, so waiting on only costs time. While one group is on its way the next one fills; it leaves when the first
//! has been settled, or at its own limits.
//!
//! # Place in the pipeline
//!
//! After memory_limiter, filters and sampling, so that removed items take no room.
//!
//! # Threads
//!
//! On the pipeline's own thread. Never blocks, but for the destinations' policy: see *On failure*.
//!
//! # Limits
//!
//! What is held counts against the capacity of the destinations' queues and the memory budget from the moment it is
//! taken, and it has fewer than `send_batch_size` items for each combination of metadata values.
//!
//! # On failure
//!
//! Where the destinations have no room for one more batch, all that is held leaves at once (it may be what fills the
//! queue), and room is asked for again; if there is none the batch goes on alone, to wait or to be refused as the
//! destinations say. One that would have to be split is refused then. A batch with one metadata combination too many is
//! rejected.
//!
//! # On shutdown
//!
//! `flush` releases all that is held, in the order in which groups were begun.
//!
//! # Specification
//!
//! The Collector's batch processor; OTLP, Empty Telemetry Envelopes: never emits an empty batch.

mod accumulator;
mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use otlp_core::component::{Downstream, Processor, Refused};
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Gauge, Histogram, ITEM_BOUNDS, Registry};
use otlp_core::wire;
use otlp_core::{Batch, Code, Context, Deadline, Failure, Group, Reason};

pub(crate) use accumulator::Split;
use accumulator::{Accumulator, Limits, Trigger};
pub use config::{Config, GROUP_BYTES_MAX};

use crate::error::ConfigError;

/// The batch processor.
pub struct BatchProcessor {
    config: Config,
    split: Split,
    limits: Limits,
    /// One for each combination of metadata values that was seen; the only one where no keys are configured.
    accumulators: Vec<Accumulator>,
    by_metadata: HashMap<Box<[Box<[String]>]>, usize>,
    metrics: Metrics,
    out: Vec<(Group, Trigger)>,
    stopped: bool,
}

struct Metrics {
    send_size: Histogram,
    size_trigger: Counter,
    timeout_trigger: Counter,
    cardinality: Gauge,
}

impl BatchProcessor {
    /// A processor with the id under which it is counted.
    ///
    /// # Errors
    ///
    /// As [`Config::check`].
    pub fn new(id: &str, config: Config, registry: &Registry) -> Result<BatchProcessor, ConfigError> {
        BatchProcessor::with_split(id, config, wire::split_first, registry)
    }

    /// The same with another way to split: tests count bytes.
    pub(crate) fn with_split(
        id: &str,
        config: Config,
        split: Split,
        registry: &Registry,
    ) -> Result<BatchProcessor, ConfigError> {
        config.check()?;
        let straight = config.timeout.is_zero();
        let limits = Limits {
            items_min: if straight { 0 } else { config.send_batch_size.into() },
            items_max: config.send_batch_max_size.into(),
            bytes_max: GROUP_BYTES_MAX.get(),
            age_max: config.timeout,
        };
        let labels = || vec![("processor", id.to_owned())];
        let metrics = Metrics {
            send_size: registry.histogram(names::BATCH_SEND_SIZE, None, labels(), ITEM_BOUNDS),
            size_trigger: registry.counter(names::BATCH_SIZE_TRIGGER, None, labels()),
            timeout_trigger: registry.counter(names::BATCH_TIMEOUT_TRIGGER, None, labels()),
            cardinality: registry.gauge(names::BATCH_CARDINALITY, None, labels()),
        };
        let mut processor = BatchProcessor {
            config,
            split,
            limits,
            accumulators: Vec::new(),
            by_metadata: HashMap::new(),
            metrics,
            out: Vec::new(),
            stopped: false,
        };
        if processor.config.metadata_keys.is_empty() {
            processor.accumulators.push(Accumulator::new(limits));
            processor.metrics.cardinality.set(1);
        }
        Ok(processor)
    }

    /// The accumulator for a batch that came with these metadata.
    fn accumulator(&mut self, context: &Context) -> Result<usize, Failure> {
        if self.config.metadata_keys.is_empty() {
            return Ok(0);
        }
        let values = |key: &String| context.metadata(key).map(str::to_owned).collect();
        let key: Box<[Box<[String]>]> = self.config.metadata_keys.iter().map(values).collect();
        if let Some(&index) = self.by_metadata.get(&key) {
            return Ok(index);
        }
        let limit = self.config.metadata_cardinality_limit as usize;
        if limit > 0 && self.accumulators.len() >= limit {
            return Err(Failure::rejected(
                Code::Internal,
                Reason::CARDINALITY,
                "too many batcher metadata-value combinations",
            ));
        }
        let index = self.accumulators.len();
        self.accumulators.push(Accumulator::new(self.limits));
        self.by_metadata.insert(key, index);
        self.metrics.cardinality.set(self.accumulators.len() as u64);
        Ok(index)
    }

    fn emit(&mut self, group: Group, trigger: Trigger, downstream: &mut dyn Downstream) {
        self.metrics.send_size.record(group.items().get() as f64);
        match trigger {
            Trigger::Size => self.metrics.size_trigger.increment(),
            Trigger::Timeout => self.metrics.timeout_trigger.increment(),
        }
        downstream.emit(group);
    }

    /// Lets all go, in the order in which groups were begun: their due times have that order.
    fn emit_all(&mut self, trigger: Trigger, downstream: &mut dyn Downstream) {
        let mut order: Vec<(Instant, usize)> =
            self.accumulators.iter().enumerate().filter_map(|(index, held)| Some((held.due()?, index))).collect();
        order.sort_unstable();
        for (_, index) in order {
            if let Some(group) = self.accumulators[index].leave() {
                self.emit(group, trigger, downstream);
            }
        }
    }
}

impl Processor for BatchProcessor {
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        if self.stopped {
            let failure = Failure::refused(Reason::SHUTDOWN, "the batch processor has stopped");
            return Err(Refused { batch: Box::new(batch), failure, hold: false });
        }
        let index = match self.accumulator(batch.context()) {
            Ok(index) => index,
            Err(failure) => return Err(Refused { batch: Box::new(batch), failure, hold: false }),
        };
        let mut batch = batch;
        let mut plan = self.accumulators[index].plan(batch.items(), batch.size().get());
        if self.limits.items_min == 0 && !plan.splits {
            // Never held, so it needs no place of its own: whoever takes it may wait for one.
            self.emit(Group::of(batch), Trigger::Size, downstream);
            return Ok(());
        }
        if plan.leave_first
            && let Some(group) = self.accumulators[index].leave()
        {
            self.emit(group, Trigger::Size, downstream);
        }
        let room = match downstream.hold_split(&mut batch, plan.begins) {
            Ok(room) => room,
            Err(_) => {
                self.emit_all(Trigger::Size, downstream);
                // What was begun has left, so it joins nothing now.
                plan = self.accumulators[index].plan(batch.items(), batch.size().get());
                match downstream.hold_split(&mut batch, plan.begins) {
                    Ok(room) => room,
                    // In pieces it could be taken in part only, and then be sent again as a whole.
                    Err(failure) if plan.splits => {
                        return Err(Refused { batch: Box::new(batch), failure, hold: false });
                    }
                    Err(_) => {
                        self.emit(Group::of(batch), Trigger::Size, downstream);
                        return Ok(());
                    }
                }
            }
        };
        let mut out = std::mem::take(&mut self.out);
        self.accumulators[index].push(downstream.now(), batch, room, self.split, &mut out);
        for (group, trigger) in out.drain(..) {
            self.emit(group, trigger, downstream);
        }
        self.out = out;
        Ok(())
    }

    fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        let now = downstream.now();
        if self.accumulators.iter().any(Accumulator::is_awaited) && downstream.is_idle() {
            self.emit_all(Trigger::Timeout, downstream);
            return None;
        }
        let mut next: Option<Instant> = None;
        for index in 0..self.accumulators.len() {
            match self.accumulators[index].due() {
                Some(due) if due <= now => {
                    if let Some(group) = self.accumulators[index].leave_due(now) {
                        self.emit(group, Trigger::Timeout, downstream);
                    }
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        next
    }

    fn flush(&mut self, downstream: &mut dyn Downstream) {
        self.emit_all(Trigger::Timeout, downstream);
    }

    fn shutdown(&mut self, _: Deadline) {
        self.stopped = true;
    }
}

impl fmt::Debug for BatchProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchProcessor").field("config", &self.config).finish_non_exhaustive()
    }
}
