//! Log records.

use std::time::SystemTime;

use otlp_core::Signal;
use otlp_core::wire::writer::put_delimited;

use super::attributes::{put_attribute, put_fixed32, put_fixed64, put_number, put_value};
use super::sealed::Destination;
use super::{Buffer, Number, Sent, SpanContext, TelemetryData, Value, send, unix_nanos};
use crate::client::OtlpClient;

/// A log record that is being described: [`OtlpClient::send_log`] or [`TelemetryData::log`].
///
/// Its time is that at which it was made, unless another is given. One that is dropped unfinished is not recorded.
#[derive(Debug)]
#[must_use = "a log record that is not finished is not recorded"]
pub struct Log<D: Destination> {
    to: D,
    bytes: Buffer,
    time: u64,
    observed: u64,
    severity: Option<Severity>,
    span: Option<SpanContext>,
}

/// How much a log record matters: `SeverityNumber`, the first of each range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Severity {
    Trace = 1,
    Debug = 5,
    Info = 9,
    Warn = 13,
    Error = 17,
    Fatal = 21,
}

impl Severity {
    /// The name in `severity_text`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Trace => "TRACE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

impl<D: Destination> Log<D> {
    pub(in crate::client) fn begin(to: D, body: Value<'_>) -> Log<D> {
        let mut bytes = Buffer::new();
        put_value(&mut bytes, 5, body);
        let now = unix_nanos(SystemTime::now());
        Log { to, bytes, time: now, observed: now, severity: None, span: None }
    }

    /// An attribute.
    #[inline(always)]
    pub fn with_attribute<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Log<D> {
        put_attribute(&mut self.bytes, 6, key, value.into());
        self
    }

    /// An attribute that is a number.
    #[inline(always)]
    pub fn with_numeric_attribute(mut self, key: &str, value: impl Into<Number>) -> Log<D> {
        put_attribute(&mut self.bytes, 6, key, value.into().into());
        self
    }

    /// How much it matters. Default not said.
    pub fn with_severity(mut self, severity: Severity) -> Log<D> {
        self.severity = Some(severity);
        self
    }

    /// When it happened.
    pub fn with_time(mut self, time: SystemTime) -> Log<D> {
        self.time = unix_nanos(time);
        self
    }

    /// The span during which it happened.
    pub fn with_span(mut self, span: SpanContext) -> Log<D> {
        self.span = Some(span);
        self
    }

    fn finished(mut self) -> (D, Buffer) {
        let bytes = &mut self.bytes;
        put_fixed64(bytes, 1, self.time);
        put_fixed64(bytes, 11, self.observed);
        if let Some(severity) = self.severity {
            put_number(bytes, 2, severity as u64);
            put_delimited(bytes, 3, severity.as_str().as_bytes());
        }
        if let Some(span) = self.span {
            put_fixed32(bytes, 8, 1);
            put_delimited(bytes, 9, &span.trace_id.0);
            put_delimited(bytes, 10, &span.span_id.0);
        }
        (self.to, self.bytes)
    }
}

impl Log<&OtlpClient> {
    /// Records it; what is answered is as for [`Span::finish`](super::Span::finish).
    pub fn finish(self) -> Sent {
        let (client, bytes) = self.finished();
        send(client, Signal::Logs, bytes)
    }
}

impl From<Log<()>> for TelemetryData {
    fn from(log: Log<()>) -> TelemetryData {
        TelemetryData { signal: Signal::Logs, bytes: log.finished().1 }
    }
}
