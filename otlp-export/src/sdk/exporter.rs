//! The exporters, for a processor or a reader of the SDK's or of one's own: the calling thread sends, and the future that
//! is returned is ready.

use std::fmt;
use std::future::{Future, ready};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::LogBatch;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::SpanData;
use otlp_core::{Deadline, Reason, Signal};

use super::{bridge, encode};
use crate::ConfigError;
use crate::client::envelope::{Encoded, Items, Origin};
use crate::client::fork::PerProcess;
use crate::client::outbox::Outbox;
use crate::client::record::Buffer;
use crate::client::{Builder, Mode, Stats};

/// A request is not made larger than this, unless by a single item: what gRPC servers take at least is 4 MiB.
const REQUEST_BYTES_MAX: usize = 3 << 20;

/// Exports spans.
#[derive(Debug)]
pub struct SpanExporter(Direct);

/// Exports log records. A record's target becomes the name of its instrumentation scope.
#[derive(Debug)]
pub struct LogExporter(Direct);

/// Exports metrics, for `PeriodicReader::builder(…)`.
#[derive(Debug)]
pub struct MetricExporter {
    direct: Direct,
    temporality: Temporality,
}

macro_rules! made_from_a_builder {
    ($type:ident, $signal:ident, $wrap:expr) => {
        impl $type {
            /// An exporter. Connects to nothing and starts nothing; files that `tls` names are read.
            ///
            /// Each call of `export` ends within [`Builder::timeout`], failures tried again within it included, and is
            /// `Err` where anything was not taken. Queue, mode and resource of the builder are not used.
            ///
            /// # Errors
            ///
            /// Names the setting that cannot be used, and never shows a secret.
            pub fn new(builder: Builder) -> Result<$type, ConfigError> {
                Direct::new(builder, Signal::$signal).map($wrap)
            }
        }
    };
}

made_from_a_builder!(SpanExporter, Traces, SpanExporter);
made_from_a_builder!(LogExporter, Logs, LogExporter);
made_from_a_builder!(MetricExporter, Metrics, |direct| MetricExporter { direct, temporality: Temporality::Cumulative });

impl MetricExporter {
    /// Whether series are told of as a whole or by what they grew. Default cumulative.
    pub fn with_temporality(mut self, temporality: Temporality) -> MetricExporter {
        self.temporality = temporality;
        self
    }

    /// The same as `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` has it: `cumulative`, `delta` or `lowmemory`, in
    /// letters of either case. Anything else leaves what is set.
    pub fn with_temporality_from_env(self, look_up: impl Fn(&str) -> Option<String>) -> MetricExporter {
        let preference = look_up("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").unwrap_or_default();
        let temporality = match preference.trim().to_ascii_lowercase().as_str() {
            "cumulative" => Temporality::Cumulative,
            "delta" => Temporality::Delta,
            "lowmemory" => Temporality::LowMemory,
            _ => self.temporality,
        };
        self.with_temporality(temporality)
    }

    /// What became of everything exported, in data points.
    pub fn stats(&self) -> Stats {
        self.direct.outbox.get_surely().stats()
    }
}

/// Sends in the caller's thread.
struct Direct {
    outbox: PerProcess<Outbox>,
    signal: Signal,
    resource: Encoded,
    disabled: bool,
}

impl Direct {
    fn new(mut builder: Builder, signal: Signal) -> Result<Direct, ConfigError> {
        builder.mode = Mode::Direct;
        builder.check()?;
        builder.retry.get_or_insert_with(bridge::retry_of_exporters);
        Ok(Direct { outbox: builder.outbox()?, signal, resource: Encoded::default(), disabled: builder.disabled })
    }

    /// Sends what `fill` gives to it.
    fn export(&self, fill: impl FnOnce(&mut Gathering<'_>)) -> OTelSdkResult {
        if self.disabled {
            return Ok(());
        }
        let mut gathering = Gathering { direct: self, items: Items::default(), result: Ok(()) };
        fill(&mut gathering);
        gathering.leave();
        gathering.result
    }

    fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        let outbox = self.outbox.get_surely();
        let result = outbox.shutdown(Deadline::after(Instant::now(), timeout));
        result.map(drop).map_err(|lost| OTelSdkError::InternalFailure(lost.to_string()))
    }

    /// Whatever was exported is settled; what was lost was said by `export`.
    fn flush(&self) -> OTelSdkResult {
        let result = self.outbox.get_surely().flush(Deadline::after(Instant::now(), bridge::FLUSH_TIMEOUT));
        result.map(drop).map_err(|lost| OTelSdkError::InternalFailure(lost.to_string()))
    }
}

/// Items of one call, which leave in requests that a server takes.
struct Gathering<'a> {
    direct: &'a Direct,
    items: Items,
    /// The first failure.
    result: OTelSdkResult,
}

impl Gathering<'_> {
    fn push(&mut self, resource: &Encoded, scope: Encoded, item: &[u8], count: u64) {
        if self.items.bytes() + item.len() > REQUEST_BYTES_MAX {
            self.leave();
        }
        self.items.push(&Origin { resource: resource.clone(), scope }, item, count);
    }

    fn leave(&mut self) {
        let items = std::mem::take(&mut self.items);
        if items.bytes() == 0 {
            return;
        }
        let sent = self.direct.outbox.get().send_items(self.direct.signal, items);
        let result = sent.into_result().map_err(|failure| match failure.reason {
            Reason::SHUTDOWN => OTelSdkError::AlreadyShutdown,
            _ => OTelSdkError::InternalFailure(failure.to_string()),
        });
        self.result = std::mem::replace(&mut self.result, Ok(())).and(result);
    }
}

impl opentelemetry_sdk::trace::SpanExporter for SpanExporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let Direct { resource, .. } = &self.0;
        ready(self.0.export(|gathering| {
            let mut bytes = Buffer::new();
            for span in &batch {
                let scope = encode::scope(&span.instrumentation_scope, span.instrumentation_scope.name());
                bytes.clear();
                encode::span::put(&mut bytes, span);
                gathering.push(resource, scope, &bytes, 1);
            }
        }))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.resource = encode::resource(resource);
    }
}

impl opentelemetry_sdk::logs::LogExporter for LogExporter {
    fn export(&self, batch: LogBatch<'_>) -> impl Future<Output = OTelSdkResult> + Send {
        let Direct { resource, .. } = &self.0;
        ready(self.0.export(|gathering| {
            let mut bytes = Buffer::new();
            for (record, scope) in batch.iter() {
                let scope = encode::scope(scope, record.target().map_or(scope.name(), |target| target));
                bytes.clear();
                encode::log::put(&mut bytes, record);
                gathering.push(resource, scope, &bytes, 1);
            }
        }))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.resource = encode::resource(resource);
    }
}

impl PushMetricExporter for MetricExporter {
    fn export(&self, metrics: &ResourceMetrics) -> impl Future<Output = OTelSdkResult> + Send {
        ready(self.direct.export(|gathering| {
            // It comes with each collection.
            let resource = encode::resource(metrics.resource());
            let mut bytes = Buffer::new();
            for scope_metrics in metrics.scope_metrics() {
                let scope = encode::scope(scope_metrics.scope(), scope_metrics.scope().name());
                for metric in scope_metrics.metrics() {
                    bytes.clear();
                    let count = encode::metric::put(&mut bytes, metric);
                    gathering.push(&resource, scope.clone(), &bytes, count);
                }
            }
        }))
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.direct.flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.direct.shutdown(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.temporality
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("signal", &self.signal).finish_non_exhaustive()
    }
}
