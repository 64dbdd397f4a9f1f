//! Spans.

use std::time::SystemTime;

use otlp_core::Signal;
use otlp_core::wire::writer::{begin, end, put_delimited};

use super::attributes::{put_attribute, put_fixed64, put_number};
use super::sealed::Destination;
use super::{Buffer, Number, Sent, SpanContext, SpanId, TelemetryData, Value, send, unix_nanos};
use crate::client::OtlpClient;

/// A span that is being described: [`OtlpClient::send_trace`] or [`TelemetryData::trace`].
///
/// It began when it was made and ends when it is finished, unless times are given. One that is dropped unfinished is not
/// recorded.
///
/// A key that is given twice is sent twice.
#[derive(Debug)]
#[must_use = "a span that is not finished is not recorded"]
pub struct Span<D: Destination> {
    to: D,
    bytes: Buffer,
    context: SpanContext,
    parent: Option<SpanId>,
    start: u64,
    end: Option<u64>,
    kind: Kind,
    status: Option<(u64, String)>,
}

/// What a span is to those of other processes: `SpanKind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Kind {
    #[default]
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// Sampled, and that it is known whether the parent is of another process: not said here (OTLP, `SpanFlags`).
const FLAGS: u32 = 1;

impl<D: Destination> Span<D> {
    #[inline]
    pub(in crate::client) fn begin(to: D, name: &str) -> Span<D> {
        let context = SpanContext::random();
        let mut bytes = Buffer::new();
        put_delimited(&mut bytes, 5, name.as_bytes());
        let start = unix_nanos(SystemTime::now());
        Span { to, bytes, context, parent: None, start, end: None, kind: Kind::Internal, status: None }
    }

    /// Its ids, for children, for log records, and to be carried to another process.
    pub fn context(&self) -> SpanContext {
        self.context
    }

    /// Makes it a child of that span, and part of its trace.
    pub fn with_parent(mut self, parent: SpanContext) -> Span<D> {
        self.context.trace_id = parent.trace_id;
        self.parent = Some(parent.span_id);
        self
    }

    /// Ids of the caller's choice, both not zero.
    pub fn with_context(mut self, context: SpanContext) -> Span<D> {
        self.context = context;
        self
    }

    /// An attribute.
    #[inline(always)]
    pub fn with_attribute<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Span<D> {
        put_attribute(&mut self.bytes, 9, key, value.into());
        self
    }

    /// An attribute that is a number.
    #[inline(always)]
    pub fn with_numeric_attribute(mut self, key: &str, value: impl Into<Number>) -> Span<D> {
        put_attribute(&mut self.bytes, 9, key, value.into().into());
        self
    }

    /// What it is to the spans of other processes. Default [`Kind::Internal`].
    pub fn with_kind(mut self, kind: Kind) -> Span<D> {
        self.kind = kind;
        self
    }

    /// When it began.
    pub fn with_start_time(mut self, time: SystemTime) -> Span<D> {
        self.start = unix_nanos(time);
        self
    }

    /// When it ended.
    pub fn with_end_time(mut self, time: SystemTime) -> Span<D> {
        self.end = Some(unix_nanos(time));
        self
    }

    /// Something that happened during it, now.
    pub fn with_event(self, name: &str) -> Span<D> {
        self.with_event_at(name, SystemTime::now(), &[])
    }

    /// Something that happened during it, with attributes.
    pub fn with_event_at(mut self, name: &str, time: SystemTime, attributes: &[(&str, Value<'_>)]) -> Span<D> {
        let event = begin(&mut self.bytes, 11, 64);
        put_fixed64(&mut self.bytes, 1, unix_nanos(time));
        put_delimited(&mut self.bytes, 2, name.as_bytes());
        for (key, value) in attributes {
            put_attribute(&mut self.bytes, 3, key, *value);
        }
        end(&mut self.bytes, event);
        self
    }

    /// Another span that it has to do with.
    pub fn with_link(mut self, to: SpanContext) -> Span<D> {
        let link = begin(&mut self.bytes, 13, 28);
        put_delimited(&mut self.bytes, 1, &to.trace_id.0);
        put_delimited(&mut self.bytes, 2, &to.span_id.0);
        end(&mut self.bytes, link);
        self
    }

    /// It succeeded: said by an operator or the program, over what any instrument says.
    pub fn with_ok(mut self) -> Span<D> {
        self.status = Some((1, String::new()));
        self
    }

    /// It failed.
    pub fn with_error(mut self, message: impl Into<String>) -> Span<D> {
        self.status = Some((2, message.into()));
        self
    }

    #[inline]
    fn finished(mut self) -> (D, Buffer) {
        let bytes = &mut self.bytes;
        let now = self.end.unwrap_or_else(|| unix_nanos(SystemTime::now()));
        // A clock that was put back must not make it end before it began, where nobody said so.
        let end_time = if self.end.is_none() { now.max(self.start) } else { now };
        // What every span has, in one piece: trace_id, span_id, kind, start and end, flags.
        let mut fixed = [0; 54];
        fixed[..2].copy_from_slice(&[1 << 3 | 2, 16]);
        fixed[2..18].copy_from_slice(&self.context.trace_id.0);
        fixed[18..20].copy_from_slice(&[2 << 3 | 2, 8]);
        fixed[20..28].copy_from_slice(&self.context.span_id.0);
        fixed[28..31].copy_from_slice(&[6 << 3, self.kind as u8, 7 << 3 | 1]);
        fixed[31..39].copy_from_slice(&self.start.to_le_bytes());
        fixed[39] = 8 << 3 | 1;
        fixed[40..48].copy_from_slice(&end_time.to_le_bytes());
        // The varint of 16 << 3 | 5.
        fixed[48..50].copy_from_slice(&[0x85, 1]);
        fixed[50..54].copy_from_slice(&FLAGS.to_le_bytes());
        bytes.extend_from_slice(&fixed);
        if let Some(parent) = self.parent {
            put_delimited(bytes, 4, &parent.0);
        }
        if let Some((code, message)) = &self.status {
            let status = begin(bytes, 15, message.len() + 4);
            if !message.is_empty() {
                put_delimited(bytes, 2, message.as_bytes());
            }
            put_number(bytes, 3, *code);
            end(bytes, status);
        }
        (self.to, self.bytes)
    }
}

impl Span<&OtlpClient> {
    /// Ends it and records it.
    ///
    /// In queued mode it never blocks, unless `when_full` says so, and answers [`Sent::Queued`] or that there was no
    /// room. In direct mode it sends, in the caller's thread, and answers with the outcome.
    #[inline]
    pub fn finish(self) -> Sent {
        let (client, bytes) = self.finished();
        send(client, Signal::Traces, bytes)
    }
}

impl From<Span<()>> for TelemetryData {
    fn from(span: Span<()>) -> TelemetryData {
        TelemetryData { signal: Signal::Traces, bytes: span.finished().1 }
    }
}
