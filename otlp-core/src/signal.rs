//! The three signals, and everything that differs between them only by name: the one place that lists them.

use std::fmt;

/// A kind of telemetry.
///
/// Code that works for every signal is written over this type; nothing else in the workspace lists the signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Spans. The item is a span.
    Traces,
    /// Metrics. The item is a data point, not a metric (OTLP, Partial Success).
    Metrics,
    /// Logs. The item is a log record.
    Logs,
}

impl Signal {
    /// Every signal, in the order in which they are numbered by [`Signal::index`].
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    /// A dense number below `ALL.len()`, for tables.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in pipeline ids and in the `data_type` and `otel.signal` labels: `traces`, `metrics`, `logs`.
    pub const fn as_str(self) -> &'static str {
        ["traces", "metrics", "logs"][self as usize]
    }

    /// The signal of that name, as written in a pipeline id.
    pub fn from_name(name: &str) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.as_str() == name)
    }

    /// The default request path (OTLP/HTTP Request).
    pub const fn http_path(self) -> &'static str {
        ["/v1/traces", "/v1/metrics", "/v1/logs"][self as usize]
    }

    /// The path of the unary Export call (OTLP/gRPC).
    pub const fn grpc_path(self) -> &'static str {
        [
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        ][self as usize]
    }

    /// What the items are called in messages: `spans`, `data points`, `log records`.
    pub const fn items_name(self) -> &'static str {
        ["spans", "data points", "log records"][self as usize]
    }

    /// The suffix of the Collector's metric names: `spans`, `metric_points`, `log_records`.
    pub const fn metric_suffix(self) -> &'static str {
        ["spans", "metric_points", "log_records"][self as usize]
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
