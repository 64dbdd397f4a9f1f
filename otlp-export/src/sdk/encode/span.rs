//! Spans (OTLP, trace.proto).

use opentelemetry::trace::{Event, Link, SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use otlp_core::wire::writer::{begin, end, put_delimited, put_varint_field};

use super::{put_attributes, put_text};
use crate::client::record::attributes::{put_fixed32, put_fixed64};
use crate::client::record::unix_nanos;

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`.
const IS_REMOTE: u32 = 0x200;

/// What an event, a link or a status is expected to take.
const EXPECTED_LEN: usize = 100;

/// Appends the fields of a `Span`.
pub(in crate::sdk) fn put(out: &mut Vec<u8>, span: &SpanData) {
    let context = &span.span_context;
    put_delimited(out, 1, &context.trace_id().to_bytes());
    put_delimited(out, 2, &context.span_id().to_bytes());
    put_text(out, 3, &context.trace_state().header());
    if span.parent_span_id != SpanId::INVALID {
        put_delimited(out, 4, &span.parent_span_id.to_bytes());
    }
    put_text(out, 5, &span.name);
    let kind = match span.span_kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    put_varint_field(out, 6, kind);
    put_fixed64(out, 7, unix_nanos(span.start_time));
    put_fixed64(out, 8, unix_nanos(span.end_time));
    put_attributes(out, 9, &span.attributes);
    put_varint_field(out, 10, span.dropped_attributes_count.into());
    span.events.iter().for_each(|event| put_event(out, event));
    put_varint_field(out, 12, span.events.dropped_count.into());
    span.links.iter().for_each(|link| put_link(out, link));
    put_varint_field(out, 14, span.links.dropped_count.into());
    put_status(out, &span.status);
    put_fixed32(out, 16, flags(context.trace_flags().to_u8(), span.parent_span_is_remote));
}

fn flags(trace_flags: u8, is_remote: bool) -> u32 {
    u32::from(trace_flags) | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    let open = begin(out, 11, EXPECTED_LEN);
    put_fixed64(out, 1, unix_nanos(event.timestamp));
    put_text(out, 2, &event.name);
    put_attributes(out, 3, &event.attributes);
    put_varint_field(out, 4, event.dropped_attributes_count.into());
    end(out, open);
}

fn put_link(out: &mut Vec<u8>, link: &Link) {
    let context = &link.span_context;
    let open = begin(out, 13, EXPECTED_LEN);
    put_delimited(out, 1, &context.trace_id().to_bytes());
    put_delimited(out, 2, &context.span_id().to_bytes());
    put_text(out, 3, &context.trace_state().header());
    put_attributes(out, 4, &link.attributes);
    put_varint_field(out, 5, link.dropped_attributes_count.into());
    put_fixed32(out, 6, flags(context.trace_flags().to_u8(), context.is_remote()));
    end(out, open);
}

fn put_status(out: &mut Vec<u8>, status: &Status) {
    let (code, message) = match status {
        Status::Unset => return,
        Status::Ok => (1, ""),
        Status::Error { description } => (2, &**description),
    };
    let open = begin(out, 15, EXPECTED_LEN);
    put_text(out, 2, message);
    put_varint_field(out, 3, code);
    end(out, open);
}
