//! Keys and values, encoded.

use otlp_core::wire::writer::{delimited_len, put_delimited, put_tag, put_varint, varint_len};

/// The value of an attribute, or the body of a log record.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A whole number or one with a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Value<'a> {
        Value::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Value<'a> {
        Value::Bytes(bytes)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<Number> for Value<'_> {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(number) => Value::Int(number),
            Number::Double(number) => Value::Double(number),
        }
    }
}

macro_rules! numbers {
    ($($type:ident => $variant:ident),*) => {
        $(
            impl From<$type> for Number {
                fn from(number: $type) -> Number {
                    Number::$variant(number.into())
                }
            }

            impl From<$type> for Value<'_> {
                fn from(number: $type) -> Self {
                    Value::$variant(number.into())
                }
            }
        )*
    };
}

numbers!(i64 => Int, i32 => Int, i16 => Int, i8 => Int, u32 => Int, u16 => Int, u8 => Int, f64 => Double, f32 => Double);

/// Whole numbers beyond what OTLP has, 2⁶³ − 1, become that.
impl From<u64> for Number {
    fn from(number: u64) -> Number {
        Number::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Number {
        Number::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

impl Value<'_> {
    /// Bytes of the `AnyValue`.
    #[inline]
    fn encoded_len(self) -> usize {
        match self {
            Value::Text(text) => delimited_len(1, text.len()),
            Value::Bool(_) => 2,
            Value::Int(number) => 1 + varint_len(number as u64),
            Value::Double(_) => 9,
            Value::Bytes(bytes) => delimited_len(7, bytes.len()),
        }
    }

    /// Appends the fields of the `AnyValue`. All are written, the default too: which one it is says the type.
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => put_delimited(out, 1, text.as_bytes()),
            Value::Bool(value) => out.extend_from_slice(&[2 << 3, u8::from(value)]),
            Value::Int(number) => {
                out.push(3 << 3);
                put_varint(out, number as u64);
            }
            Value::Double(number) => put_double(out, 4, number),
            Value::Bytes(bytes) => put_delimited(out, 7, bytes),
        }
    }
}

/// Appends a `KeyValue` as field `field`, which is below 16.
///
/// Inlined into the host's code, where key and type are known as a rule: then little more than a few stores is left of it.
#[inline(always)]
pub(crate) fn put_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: Value<'_>) {
    // Short ones, nearly all there are: every length takes one byte, and what is not text is of a size known here.
    if key.len() < 48 {
        match value {
            Value::Text(text) if text.len() < 64 => {
                put_short(out, field, key, [1 << 3 | LEN, text.len() as u8], text.len());
                return out.extend_from_slice(text.as_bytes());
            }
            Value::Int(number @ 0..128) => return put_short(out, field, key, [3 << 3, number as u8], 0),
            Value::Bool(value) => return put_short(out, field, key, [2 << 3, u8::from(value)], 0),
            Value::Double(number) => {
                let mut bytes = [4 << 3 | FIXED64; 9];
                bytes[1..].copy_from_slice(&number.to_bits().to_le_bytes());
                return put_short(out, field, key, bytes, 0);
            }
            _ => {}
        }
    }
    put_long(out, field, key, value);
}

/// The same whatever the lengths.
#[inline(never)]
fn put_long(out: &mut Vec<u8>, field: u32, key: &str, value: Value<'_>) {
    let value_len = value.encoded_len();
    put_tag(out, field, LEN);
    put_varint(out, (delimited_len(1, key.len()) + delimited_len(2, value_len)) as u64);
    put_delimited(out, 1, key.as_bytes());
    out.push(2 << 3 | LEN);
    put_varint(out, value_len as u64);
    value.put(out);
}

/// Appends a `KeyValue` of a short key and a short value: of that, `head` here, and `rest` bytes that the caller appends.
#[inline(always)]
fn put_short<const N: usize>(out: &mut Vec<u8>, field: u32, key: &str, head: [u8; N], rest: usize) {
    let (key_len, value_len) = (key.len(), N + rest);
    out.reserve(6 + key_len + value_len);
    out.extend_from_slice(&[(field << 3) as u8 | LEN, (4 + key_len + value_len) as u8, 1 << 3 | LEN, key_len as u8]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[2 << 3 | LEN, value_len as u8]);
    out.extend_from_slice(&head);
}

/// Appends an `AnyValue` as field `field`.
pub(crate) fn put_value(out: &mut Vec<u8>, field: u32, value: Value<'_>) {
    put_tag(out, field, LEN);
    put_varint(out, value.encoded_len() as u64);
    value.put(out);
}

/// Appends a fixed64 field.
#[inline]
pub(crate) fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a double field.
pub(crate) fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_fixed64(out, field, value.to_bits());
}

/// Appends a fixed32 field.
pub(crate) fn put_fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    put_tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a varint field, the default too.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

/// An encoded `Resource`.
pub(crate) fn resource<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.for_each(|(key, value)| put_attribute(&mut out, 1, key, Value::Text(value)));
    out
}

/// An encoded `InstrumentationScope`; nothing where it has no name.
pub(crate) fn scope(name: &str, version: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, text) in [(1, name), (2, version)] {
        if !text.is_empty() {
            put_delimited(&mut out, field, text.as_bytes());
        }
    }
    out
}
