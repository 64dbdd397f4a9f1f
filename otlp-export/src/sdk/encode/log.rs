//! Log records (OTLP, logs.proto).

use opentelemetry::logs::AnyValue;
use opentelemetry_sdk::logs::SdkLogRecord;
use otlp_core::wire::writer::{begin, end, put_delimited, put_varint_field};

use super::{put_nested, put_plain, put_text};
use crate::client::Value as Plain;
use crate::client::record::attributes::{put_fixed32, put_fixed64, put_value};
use crate::client::record::unix_nanos;

/// What a nested value is expected to take.
const EXPECTED_LEN: usize = 100;

/// A value that holds others deeper than this is written as if it were empty: receivers refuse what is deeper, and
/// writing it must not take the stack. prost, and with it most of them, takes a hundred messages; a map is three.
const DEPTH_MAX: u32 = 30;

/// Appends the fields of a `LogRecord`. Its target is not among them: it is the name of the scope.
pub(in crate::sdk) fn put(out: &mut Vec<u8>, record: &SdkLogRecord) {
    if let Some(time) = record.timestamp() {
        put_fixed64(out, 1, unix_nanos(time));
    }
    put_varint_field(out, 2, record.severity_number().map_or(0, |severity| severity as u64));
    put_text(out, 3, record.severity_text().unwrap_or_default());
    if let Some(body) = record.body() {
        put_any(out, 5, body, DEPTH_MAX);
    }
    record.attributes_iter().for_each(|(key, value)| put_pair(out, 6, key.as_str(), value, DEPTH_MAX));
    if let Some(context) = record.trace_context() {
        let flags = context.trace_flags.map_or(0, |flags| flags.to_u8());
        if flags != 0 {
            put_fixed32(out, 8, flags.into());
        }
        put_delimited(out, 9, &context.trace_id.to_bytes());
        put_delimited(out, 10, &context.span_id.to_bytes());
    }
    if let Some(time) = record.observed_timestamp() {
        put_fixed64(out, 11, unix_nanos(time));
    }
    put_text(out, 12, record.event_name().unwrap_or_default());
}

fn plain(value: &AnyValue) -> Option<Plain<'_>> {
    Some(match value {
        AnyValue::Int(value) => Plain::Int(*value),
        AnyValue::Double(value) => Plain::Double(*value),
        AnyValue::String(value) => Plain::Text(value.as_str()),
        AnyValue::Boolean(value) => Plain::Bool(*value),
        AnyValue::Bytes(value) => Plain::Bytes(value),
        _ => return None,
    })
}

/// Appends a `KeyValue`.
fn put_pair(out: &mut Vec<u8>, field: u32, key: &str, value: &AnyValue, depth_left: u32) {
    match plain(value) {
        Some(value) => put_plain(out, field, key, value),
        None => put_nested(out, field, key, |out| put_content(out, value, depth_left)),
    }
}

/// Appends an `AnyValue`.
fn put_any(out: &mut Vec<u8>, field: u32, value: &AnyValue, depth_left: u32) {
    match plain(value) {
        Some(value) => put_value(out, field, value),
        None => {
            let open = begin(out, field, EXPECTED_LEN);
            put_content(out, value, depth_left);
            end(out, open);
        }
    }
}

/// Appends the field of an `AnyValue` that holds others.
fn put_content(out: &mut Vec<u8>, value: &AnyValue, depth_left: u32) {
    let Some(depth_left) = depth_left.checked_sub(1) else { return };
    match value {
        AnyValue::ListAny(items) => {
            let open = begin(out, 5, EXPECTED_LEN);
            items.iter().for_each(|item| put_any(out, 1, item, depth_left));
            end(out, open);
        }
        AnyValue::Map(pairs) => {
            let open = begin(out, 6, EXPECTED_LEN);
            pairs.iter().for_each(|(key, value)| put_pair(out, 1, key.as_str(), value, depth_left));
            end(out, open);
        }
        // A kind that a later SDK has.
        _ => {}
    }
}
