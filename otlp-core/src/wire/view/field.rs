//! How one field of a message is found and read.

use std::marker::PhantomData;

use crate::wire::reader::{self, Fields, Value};

/// The last value of a field, if it is there at all.
#[inline]
pub(super) fn last(message: &[u8], number: u32) -> Option<Value<'_>> {
    let mut found = None;
    for field in reader::fields(message) {
        match field {
            Ok(field) if field.number == number => found = Some(field.value),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    found
}

/// Bytes as text. They were validated; what is not UTF-8 all the same reads as empty.
#[inline]
pub(super) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A type that a field can be read as.
pub(super) trait FromField<'a>: Sized {
    /// Reads field `number` of a message: its last value, or all of them where it is repeated.
    fn read(message: &'a [u8], number: u32) -> Self;
}

/// A type over the bytes of one message.
pub(super) trait FromBytes<'a>: Sized {
    fn from_bytes(bytes: &'a [u8]) -> Self;
}

impl<'a> FromField<'a> for &'a [u8] {
    fn read(message: &'a [u8], number: u32) -> &'a [u8] {
        match last(message, number) {
            Some(Value::Len(bytes)) => bytes,
            _ => &[],
        }
    }
}

impl<'a> FromField<'a> for &'a str {
    fn read(message: &'a [u8], number: u32) -> &'a str {
        text(FromField::read(message, number))
    }
}

/// Every scalar wire type carries a number; which one a field has is the validator's business.
impl FromField<'_> for u64 {
    fn read(message: &[u8], number: u32) -> u64 {
        match last(message, number) {
            Some(Value::Varint(value) | Value::Fixed64(value)) => value,
            Some(Value::Fixed32(value)) => u64::from(value),
            _ => 0,
        }
    }
}

/// Numbers too wide for their type are cut as protobuf cuts them.
impl FromField<'_> for u32 {
    fn read(message: &[u8], number: u32) -> u32 {
        u64::read(message, number) as u32
    }
}

impl FromField<'_> for i32 {
    fn read(message: &[u8], number: u32) -> i32 {
        u64::read(message, number) as i32
    }
}

impl FromField<'_> for bool {
    fn read(message: &[u8], number: u32) -> bool {
        u64::read(message, number) != 0
    }
}

impl FromField<'_> for f64 {
    fn read(message: &[u8], number: u32) -> f64 {
        f64::from_bits(u64::read(message, number))
    }
}

/// `optional double`: whether it is there matters.
impl FromField<'_> for Option<f64> {
    fn read(message: &[u8], number: u32) -> Option<f64> {
        match last(message, number) {
            Some(Value::Fixed64(bits)) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }
}

/// A message: whether it is there matters.
impl<'a, V: FromBytes<'a>> FromField<'a> for Option<V> {
    fn read(message: &'a [u8], number: u32) -> Option<V> {
        match last(message, number) {
            Some(Value::Len(bytes)) => Some(V::from_bytes(bytes)),
            _ => None,
        }
    }
}

/// `sint32`: the sign is in the lowest bit.
pub(super) fn zigzag(message: &[u8], number: u32) -> i32 {
    let value = u32::read(message, number);
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// The values of a repeated message field, in order.
pub struct List<'a, V> {
    fields: Fields<'a>,
    number: u32,
    of: PhantomData<V>,
}

/// The values of a repeated string field, in order.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<V> Clone for List<'_, V> {
    fn clone(&self) -> Self {
        List { fields: self.fields.clone(), number: self.number, of: PhantomData }
    }
}

impl<V> std::fmt::Debug for List<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "List(field {})", self.number)
    }
}

impl<'a, V> FromField<'a> for List<'a, V> {
    fn read(message: &'a [u8], number: u32) -> List<'a, V> {
        List { fields: reader::fields(message), number, of: PhantomData }
    }
}

impl<'a> FromField<'a> for Strings<'a> {
    fn read(message: &'a [u8], number: u32) -> Strings<'a> {
        Strings { fields: reader::fields(message), number }
    }
}

#[inline]
fn next_bytes<'a>(fields: &mut Fields<'a>, number: u32) -> Option<&'a [u8]> {
    for field in fields {
        match field {
            Ok(field) if field.number == number => {
                if let Value::Len(bytes) = field.value {
                    return Some(bytes);
                }
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    None
}

#[allow(private_bounds, reason = "only the views of this module are made from bytes")]
impl<'a, V: FromBytes<'a>> Iterator for List<'a, V> {
    type Item = V;

    #[inline]
    fn next(&mut self) -> Option<V> {
        next_bytes(&mut self.fields, self.number).map(V::from_bytes)
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        next_bytes(&mut self.fields, self.number).map(text)
    }
}

/// Declares the iterator over a repeated scalar field, packed (in one piece or several) or not.
macro_rules! scalars {
    ($(#[$doc:meta])* $name:ident of $item:ty, $read:path, $from:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<'a> {
            fields: Fields<'a>,
            number: u32,
            packed: &'a [u8],
            position: usize,
        }

        impl<'a> FromField<'a> for $name<'a> {
            fn read(message: &'a [u8], number: u32) -> $name<'a> {
                $name { fields: reader::fields(message), number, packed: &[], position: 0 }
            }
        }

        impl Iterator for $name<'_> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                loop {
                    if self.position < self.packed.len() {
                        let raw = $read(self.packed, &mut self.position).ok()?;
                        return Some($from(raw));
                    }
                    let field = self.fields.next()?.ok()?;
                    if field.number == self.number {
                        match field.value {
                            Value::Len(packed) => (self.packed, self.position) = (packed, 0),
                            Value::Varint(raw) | Value::Fixed64(raw) => return Some($from(raw)),
                            _ => {}
                        }
                    }
                }
            }
        }
    };
}

scalars! {
    /// The values of a `repeated fixed64` field, in order.
    Fixed64s of u64, reader::fixed64, |raw| raw
}
scalars! {
    /// The values of a `repeated double` field, in order.
    Doubles of f64, reader::fixed64, f64::from_bits
}
scalars! {
    /// The values of a `repeated uint64` field, in order.
    Varints of u64, reader::varint, |raw| raw
}

/// Declares a view: its name, and each field's name, type and number.
macro_rules! view {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$field_doc:meta])* $field:ident: $kind:ty = $number:literal, )* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(&'a [u8]);

        impl<'a> $name<'a> {
            /// A view of the bytes of such a message, without tag and length.
            pub fn new(message: &'a [u8]) -> $name<'a> {
                $name(message)
            }

            /// The bytes it is a view of.
            pub fn as_bytes(&self) -> &'a [u8] {
                self.0
            }

            $(
                $(#[$field_doc])*
                #[inline]
                pub fn $field(&self) -> $kind {
                    $crate::wire::view::field::FromField::read(self.0, $number)
                }
            )*
        }

        impl<'a> $crate::wire::view::field::FromBytes<'a> for $name<'a> {
            #[inline]
            fn from_bytes(bytes: &'a [u8]) -> $name<'a> {
                $name(bytes)
            }
        }

        impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))$( .field(stringify!($field), &self.$field()) )*.finish()
            }
        }
    };
}
pub(super) use view;
