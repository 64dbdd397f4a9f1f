//! The SDK's types, written as OTLP: straight to bytes, without a message type between.
//!
//! | file        | purpose                                                                      |
//! |-------------|------------------------------------------------------------------------------|
//! | `span.rs`   | spans, their events and links                                                |
//! | `log.rs`    | log records                                                                  |
//! | `metric.rs` | metrics of every kind                                                        |
//!
//! # Specification
//!
//! OTLP; what the SDK has and OTLP has not (integers beyond 2⁶³ − 1) becomes the nearest that can be said.

pub(super) mod log;
pub(super) mod metric;
pub(super) mod span;

use std::cell::Cell;

use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use otlp_core::wire::writer::{begin, end, put_delimited};

use crate::client::Value as Plain;
use crate::client::envelope::Encoded;
use crate::client::record::Buffer;
use crate::client::record::attributes::{put_attribute, put_value};

/// What an attribute that is not plain is expected to take.
const EXPECTED_LEN: usize = 100;

/// Appends a `KeyValue` as field `field`.
fn put_key_value(out: &mut Vec<u8>, field: u32, key: &str, value: &Value) {
    let plain = match value {
        Value::Bool(value) => Plain::Bool(*value),
        Value::I64(value) => Plain::Int(*value),
        Value::F64(value) => Plain::Double(*value),
        Value::String(value) => Plain::Text(value.as_str()),
        Value::Array(array) => return put_array_attribute(out, field, key, array),
        // A kind that a later SDK has: the attribute is there, its value is not.
        _ => return put_nested(out, field, key, |_| ()),
    };
    put_plain(out, field, key, plain);
}

/// Not inlined: there are many callers, and none knows key or type.
#[inline(never)]
fn put_plain(out: &mut Vec<u8>, field: u32, key: &str, value: Plain<'_>) {
    put_attribute(out, field, key, value);
}

/// Appends a `KeyValue` whose `AnyValue` is written by `put`.
fn put_nested(out: &mut Vec<u8>, field: u32, key: &str, put: impl FnOnce(&mut Vec<u8>)) {
    let pair = begin(out, field, EXPECTED_LEN);
    put_delimited(out, 1, key.as_bytes());
    let value = begin(out, 2, EXPECTED_LEN);
    put(out);
    end(out, value);
    end(out, pair);
}

fn put_array_attribute(out: &mut Vec<u8>, field: u32, key: &str, array: &Array) {
    put_nested(out, field, key, |out| {
        let values = begin(out, 5, EXPECTED_LEN);
        match array {
            Array::Bool(items) => items.iter().for_each(|item| put_value(out, 1, Plain::Bool(*item))),
            Array::I64(items) => items.iter().for_each(|item| put_value(out, 1, Plain::Int(*item))),
            Array::F64(items) => items.iter().for_each(|item| put_value(out, 1, Plain::Double(*item))),
            Array::String(items) => items.iter().for_each(|item| put_value(out, 1, Plain::Text(item.as_str()))),
            _ => {}
        }
        end(out, values);
    });
}

/// Appends attributes as field `field`.
fn put_attributes<'a>(out: &mut Vec<u8>, field: u32, attributes: impl IntoIterator<Item = &'a KeyValue>) {
    for KeyValue { key, value, .. } in attributes {
        put_key_value(out, field, key.as_str(), value);
    }
}

/// Appends text; nothing where it is empty, as proto3 has it.
fn put_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        put_delimited(out, field, text.as_bytes());
    }
}

/// What a `Resource*` message says of who sends.
pub(super) fn resource(resource: &Resource) -> Encoded {
    let mut out = Vec::new();
    for (key, value) in resource {
        put_key_value(&mut out, 1, key.as_str(), value);
    }
    Encoded::new(&out, resource.schema_url().unwrap_or_default())
}

/// What a thread remembers: items of few scopes follow each other.
const KNOWN_MAX: usize = 16;

/// A scope, the name that goes for it, and both as they are sent.
type Known = (InstrumentationScope, Box<str>, Encoded);

thread_local! {
    static KNOWN: Cell<Vec<Known>> = const { Cell::new(Vec::new()) };
}

/// What a `Scope*` message says of what made its items, under that name.
///
/// Found by what it is made of: writing it first, only to compare, costs a fifth of what ending a span takes.
pub(super) fn scope(scope: &InstrumentationScope, name: &str) -> Encoded {
    // At the end of a thread its storage may be gone already.
    let mut known = KNOWN.try_with(Cell::take).unwrap_or_default();
    let found = known.iter().find(|(of, by, _)| **by == *name && of == scope);
    let encoded = match found {
        Some((_, _, encoded)) => encoded.clone(),
        None => {
            let encoded = encoded_scope(scope, name);
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.push((scope.clone(), name.into(), encoded.clone()));
            encoded
        }
    };
    let _ = KNOWN.try_with(|cell| cell.set(known));
    encoded
}

fn encoded_scope(scope: &InstrumentationScope, name: &str) -> Encoded {
    let mut out = Buffer::new();
    put_text(&mut out, 1, name);
    put_text(&mut out, 2, scope.version().unwrap_or_default());
    put_attributes(&mut out, 3, scope.attributes());
    Encoded::new(&out, scope.schema_url().unwrap_or_default())
}
