//! An owned value, kept encoded.

use std::fmt;

use crate::wire::reader::{FIXED64, VARINT};
use crate::wire::view::AnyValue;
use crate::wire::writer::{put_delimited, put_tag, put_varint};

/// An owned attribute value: the bytes of an AnyValue message, made once and written as often as needed.
///
/// # Examples
///
/// ```
/// use otlp_core::wire::{edit::Value, view::AnyValue};
///
/// let value = Value::array([Value::int(1), Value::string("two")]);
/// assert_eq!(value.view().to_text(), r#"[1,"two"]"#);
/// assert_eq!(Value::default().view(), AnyValue::Empty);
/// ```
#[derive(Clone, Default)]
pub struct Value(pub(super) Vec<u8>);

impl Value {
    /// `string_value`
    pub fn string(value: &str) -> Value {
        Value::delimited(1, value.as_bytes())
    }

    /// `bool_value`
    pub fn bool(value: bool) -> Value {
        Value::varint(2, u64::from(value))
    }

    /// `int_value`
    pub fn int(value: i64) -> Value {
        Value::varint(3, value as u64)
    }

    /// `double_value`
    pub fn double(value: f64) -> Value {
        let mut out = Vec::with_capacity(9);
        put_tag(&mut out, 4, FIXED64);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
        Value(out)
    }

    /// `array_value`
    pub fn array(values: impl IntoIterator<Item = Value>) -> Value {
        let mut list = Vec::new();
        for value in values {
            put_delimited(&mut list, 1, &value.0);
        }
        Value::delimited(5, &list)
    }

    /// `kvlist_value`
    pub fn kvlist<'k>(pairs: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
        let (mut list, mut pair) = (Vec::new(), Vec::new());
        for (key, value) in pairs {
            pair.clear();
            put_delimited(&mut pair, 1, key.as_bytes());
            put_delimited(&mut pair, 2, &value.0);
            put_delimited(&mut list, 1, &pair);
        }
        Value::delimited(6, &list)
    }

    /// `bytes_value`
    pub fn bytes(value: &[u8]) -> Value {
        Value::delimited(7, value)
    }

    /// The encoded message, without tag and length.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value, to be read.
    pub fn view(&self) -> AnyValue<'_> {
        AnyValue::new(&self.0)
    }

    fn delimited(field: u32, bytes: &[u8]) -> Value {
        let mut out = Vec::with_capacity(bytes.len() + 6);
        put_delimited(&mut out, field, bytes);
        Value(out)
    }

    /// Unlike an ordinary scalar field, one of a oneof is written even where it is the default: it says the kind.
    fn varint(field: u32, value: u64) -> Value {
        let mut out = Vec::with_capacity(11);
        put_tag(&mut out, field, VARINT);
        put_varint(&mut out, value);
        Value(out)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.view() == other.view()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.view().kind(), self.view().to_text())
    }
}
