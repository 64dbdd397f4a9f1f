//! Attributes and their values.

use super::field::{FromBytes, FromField, List, last, text, view};
use crate::wire::reader::{self, Value};

/// A value of any kind (OTLP, AnyValue).
#[derive(Clone, Debug)]
pub enum AnyValue<'a> {
    /// No kind is set, or one that only profiles know (`string_value_strindex`).
    Empty,
    /// `string_value`
    String(&'a str),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `array_value`, in order.
    Array(List<'a, AnyValue<'a>>),
    /// `kvlist_value`, in order; a key may be there twice.
    KvList(List<'a, KeyValueView<'a>>),
    /// `bytes_value`
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads the bytes of an AnyValue message, without tag and length. Where several kinds are set the last one counts.
    pub fn new(message: &'a [u8]) -> AnyValue<'a> {
        // The form that every encoder writes for a short string, which most values are.
        if let [0x0a, length, string @ ..] = message
            && *length < 0x80
            && string.len() == usize::from(*length)
        {
            return AnyValue::String(text(string));
        }
        let mut found = AnyValue::Empty;
        for field in reader::fields(message) {
            let Ok(field) = field else { break };
            found = match (field.number, field.value) {
                (1, Value::Len(string)) => AnyValue::String(text(string)),
                (2, Value::Varint(value)) => AnyValue::Bool(value != 0),
                (3, Value::Varint(value)) => AnyValue::Int(value as i64),
                (4, Value::Fixed64(bits)) => AnyValue::Double(f64::from_bits(bits)),
                (5, Value::Len(values)) => AnyValue::Array(List::read(values, 1)),
                (6, Value::Len(values)) => AnyValue::KvList(List::read(values, 1)),
                (7, Value::Len(bytes)) => AnyValue::Bytes(bytes),
                (8, _) => AnyValue::Empty,
                _ => found,
            };
        }
        found
    }

    /// The string, where it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            AnyValue::String(string) => Some(string),
            _ => None,
        }
    }

    /// What kind it is, in the Collector's words.
    pub fn kind(&self) -> &'static str {
        match self {
            AnyValue::Empty => "Empty",
            AnyValue::String(_) => "Str",
            AnyValue::Bool(_) => "Bool",
            AnyValue::Int(_) => "Int",
            AnyValue::Double(_) => "Double",
            AnyValue::Array(_) => "Slice",
            AnyValue::KvList(_) => "Map",
            AnyValue::Bytes(_) => "Bytes",
        }
    }
}

impl<'a> FromBytes<'a> for AnyValue<'a> {
    fn from_bytes(bytes: &'a [u8]) -> AnyValue<'a> {
        AnyValue::new(bytes)
    }
}

/// Equal in kind and content; lists of pairs in any order, doubles as numbers (`NaN` is equal to nothing).
impl PartialEq for AnyValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (AnyValue::Empty, AnyValue::Empty) => true,
            (AnyValue::String(one), AnyValue::String(two)) => one == two,
            (AnyValue::Bool(one), AnyValue::Bool(two)) => one == two,
            (AnyValue::Int(one), AnyValue::Int(two)) => one == two,
            (AnyValue::Double(one), AnyValue::Double(two)) => one == two,
            (AnyValue::Bytes(one), AnyValue::Bytes(two)) => one == two,
            (AnyValue::Array(one), AnyValue::Array(two)) => one.clone().eq(two.clone()),
            (AnyValue::KvList(one), AnyValue::KvList(two)) => {
                one.clone().count() == two.clone().count()
                    && one
                        .clone()
                        .all(|pair| two.clone().any(|other| pair.key() == other.key() && pair.value() == other.value()))
            }
            _ => false,
        }
    }
}

view! {
    /// A key and its value: an attribute, or an entry of a `kvlist_value`.
    KeyValueView {
        /// The key. May be empty, and may occur twice in one list.
        key: &'a str = 1,
        /// The key's index in the dictionary of a profile; means nothing elsewhere.
        key_strindex: i32 = 3,
    }
}

impl<'a> KeyValueView<'a> {
    /// The value; [`AnyValue::Empty`] where it is absent.
    pub fn value(&self) -> AnyValue<'a> {
        self.value_bytes().map_or(AnyValue::Empty, AnyValue::new)
    }

    /// The bytes of the value's message, if it is there.
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        match last(self.0, 2) {
            Some(Value::Len(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

impl<'a> List<'a, KeyValueView<'a>> {
    /// The value of the first attribute of that name. Other attributes' values are not read.
    pub fn get(&self, key: &str) -> Option<AnyValue<'a>> {
        self.clone().find(|pair| pair.key() == key).map(|pair| pair.value())
    }
}
