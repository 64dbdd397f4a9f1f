//! The protobuf wire form, read from a slice: varints, tags, lengths.
//!
//! Every function takes the slice and a position and moves the position past what it read. Nothing here allocates.

use std::fmt;

/// Why bytes are not the protobuf message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end inside a field, or a length points past the end of its message.
    Truncated,
    /// A varint of more than ten bytes, or one that does not fit in 64 bits.
    Varint,
    /// Field number 0, one above 2^29 - 1, or a tag that does not fit in 32 bits.
    Tag,
    /// A known field with a wire type that it cannot have, or wire type 6 or 7.
    WireType,
    /// A group that ends with another number than it began with, or that ends without having begun.
    Group,
    /// A string field that is not UTF-8.
    Utf8,
    /// Nested deeper than the limit.
    Depth,
    /// A request of 4 GiB or more.
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Truncated => "the message ends inside a field",
            Fault::Varint => "a varint is longer than 64 bits",
            Fault::Tag => "a field number is out of range",
            Fault::WireType => "a field has a wire type that it cannot have",
            Fault::Group => "a group does not end as it began",
            Fault::Utf8 => "a string is not UTF-8",
            Fault::Depth => "nested too deeply",
            Fault::TooLong => "larger than 4 GiB",
        })
    }
}

impl std::error::Error for Fault {}

/// What reading gives.
pub type Read<T> = Result<T, Fault>;

/// Wire type of a varint.
pub const VARINT: u8 = 0;
/// Wire type of eight bytes.
pub const FIXED64: u8 = 1;
/// Wire type of a length and as many bytes.
pub const LEN: u8 = 2;
/// Wire type of a group's start (deprecated, still legal).
pub const GROUP_START: u8 = 3;
/// Wire type of a group's end.
pub const GROUP_END: u8 = 4;
/// Wire type of four bytes.
pub const FIXED32: u8 = 5;

/// The largest field number.
pub const FIELD_MAX: u64 = (1 << 29) - 1;

/// Nesting limit of messages and groups, as prost's.
pub const DEPTH_MAX: u32 = 100;

/// Reads a varint of up to ten bytes.
#[inline(always)]
pub fn varint(bytes: &[u8], position: &mut usize) -> Read<u64> {
    let at = *position;
    let Some(&first) = bytes.get(at) else { return Err(Fault::Truncated) };
    if first < 0x80 {
        *position = at + 1;
        return Ok(u64::from(first));
    }
    let Some(&second) = bytes.get(at + 1) else { return Err(Fault::Truncated) };
    if second < 0x80 {
        *position = at + 2;
        return Ok(u64::from(first & 0x7f) | u64::from(second) << 7);
    }
    let (value, end) = varint_slow(bytes, at)?;
    *position = end;
    Ok(value)
}

// By value, and so is `skip_group`: the address of a position that leaves the caller keeps it in memory, where every field
// waits for the one before.
#[cold]
#[inline(never)]
fn varint_slow(bytes: &[u8], mut at: usize) -> Read<(u64, usize)> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some(&byte) = bytes.get(at) else { return Err(Fault::Truncated) };
        at += 1;
        if shift == 63 && byte > 1 {
            return Err(Fault::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value, at));
        }
    }
    Err(Fault::Varint)
}

/// Reads a tag: field number and wire type. Wire types 6 and 7 are returned, not refused.
#[inline(always)]
pub fn tag(bytes: &[u8], position: &mut usize) -> Read<(u32, u8)> {
    let tag = varint(bytes, position)?;
    let field = tag >> 3;
    if field == 0 || field > FIELD_MAX {
        return Err(Fault::Tag);
    }
    Ok((field as u32, (tag & 7) as u8))
}

/// Reads a length and the bytes it announces.
#[inline(always)]
pub fn delimited<'a>(bytes: &'a [u8], position: &mut usize) -> Read<&'a [u8]> {
    let length = varint(bytes, position)?;
    let start = *position;
    if length > (bytes.len() - start) as u64 {
        return Err(Fault::Truncated);
    }
    let end = start + length as usize;
    *position = end;
    Ok(&bytes[start..end])
}

/// Reads eight bytes, little-endian.
#[inline(always)]
pub fn fixed64(bytes: &[u8], position: &mut usize) -> Read<u64> {
    match bytes.get(*position..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => {
            *position += 8;
            Ok(u64::from_le_bytes(*chunk))
        }
        None => Err(Fault::Truncated),
    }
}

/// Reads four bytes, little-endian.
#[inline(always)]
pub fn fixed32(bytes: &[u8], position: &mut usize) -> Read<u32> {
    match bytes.get(*position..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => {
            *position += 4;
            Ok(u32::from_le_bytes(*chunk))
        }
        None => Err(Fault::Truncated),
    }
}

/// Moves past the value of a field of which the tag was just read, a whole group included.
///
/// `depth` is how many more groups may open inside.
#[inline(always)]
pub fn skip(bytes: &[u8], position: &mut usize, field: u32, wire_type: u8, depth: u32) -> Read<()> {
    match wire_type {
        VARINT => varint(bytes, position).map(drop),
        FIXED64 => fixed64(bytes, position).map(drop),
        LEN => delimited(bytes, position).map(drop),
        FIXED32 => fixed32(bytes, position).map(drop),
        GROUP_START => {
            *position = skip_group(bytes, *position, field, depth)?;
            Ok(())
        }
        GROUP_END => Err(Fault::Group),
        _ => Err(Fault::WireType),
    }
}

#[cold]
#[inline(never)]
fn skip_group(bytes: &[u8], mut at: usize, field: u32, depth: u32) -> Read<usize> {
    if depth == 0 {
        return Err(Fault::Depth);
    }
    loop {
        let (inner, wire_type) = tag(bytes, &mut at)?;
        match wire_type {
            GROUP_END if inner == field => return Ok(at),
            GROUP_END => return Err(Fault::Group),
            _ => skip(bytes, &mut at, inner, wire_type, depth - 1)?,
        }
    }
}

/// A field of a message: its number, its value, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// The field number.
    pub number: u32,
    /// The value, by wire type.
    pub value: Value<'a>,
    /// Offset of the first byte of the tag.
    pub start: usize,
    /// Offset after the last byte of the value.
    pub end: usize,
}

/// A field's value as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A varint: integers, booleans, enums.
    Varint(u64),
    /// Eight bytes: fixed64, sfixed64, double.
    Fixed64(u64),
    /// Four bytes: fixed32, float.
    Fixed32(u32),
    /// Bytes: strings, messages, packed lists.
    Len(&'a [u8]),
    /// A group, its end tag not included.
    Group(&'a [u8]),
}

/// The fields of one message, in the order of the bytes. Ends after the first fault.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// Walks the fields of a message.
pub fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { bytes, position: 0 }
}

impl<'a> Fields<'a> {
    #[inline]
    fn read(&mut self) -> Read<Field<'a>> {
        let (bytes, start) = (self.bytes, self.position);
        let position = &mut self.position;
        let (number, wire_type) = tag(bytes, position)?;
        let value = match wire_type {
            VARINT => Value::Varint(varint(bytes, position)?),
            FIXED64 => Value::Fixed64(fixed64(bytes, position)?),
            LEN => Value::Len(delimited(bytes, position)?),
            FIXED32 => Value::Fixed32(fixed32(bytes, position)?),
            GROUP_START => {
                let from = *position;
                *position = skip_group(bytes, *position, number, DEPTH_MAX)?;
                let end_tag = crate::wire::writer::varint_len(u64::from(number) << 3 | u64::from(GROUP_END));
                // An end tag may be written longer than it needs to be; then the slice keeps a part of it. Nobody
                // reads groups but to copy the whole field.
                Value::Group(&bytes[from..*position - end_tag])
            }
            GROUP_END => return Err(Fault::Group),
            _ => return Err(Fault::WireType),
        };
        Ok(Field { number, value, start, end: *position })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Read<Field<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Read<Field<'a>>> {
        if self.position >= self.bytes.len() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.position = self.bytes.len();
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_end_at_ten_bytes_and_sixty_four_bits() {
        let read = |bytes: &[u8]| varint(bytes, &mut 0);
        assert_eq!(read(&[0x01]), Ok(1));
        assert_eq!(read(&[0xff, 0x7f]), Ok(16_383));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(u64::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), Err(Fault::Varint));
        assert_eq!(read(&[0x80; 11]), Err(Fault::Varint));
        assert_eq!(read(&[0x80, 0x80, 0x80]), Err(Fault::Truncated));
        assert_eq!(read(&[]), Err(Fault::Truncated));
    }

    #[test]
    fn groups_are_skipped_whole_and_must_match() {
        // 1: group { 2: varint 5, 3: group {} }, then 4: varint 7
        let bytes = [0x0b, 0x10, 0x05, 0x1b, 0x1c, 0x0c, 0x20, 0x07];
        let found: Vec<_> = fields(&bytes).map(Result::unwrap).map(|f| (f.number, f.value)).collect();
        assert_eq!(found, [(1, Value::Group(&bytes[1..5])), (4, Value::Varint(7))]);
        assert_eq!(fields(&[0x0b, 0x14]).next(), Some(Err(Fault::Group)));
        assert_eq!(fields(&[0x0c]).next(), Some(Err(Fault::Group)));
        assert_eq!(fields(&[0x0b; 200]).next(), Some(Err(Fault::Depth)));
        assert_eq!(fields(&[0x0e]).next(), Some(Err(Fault::WireType)));
        assert_eq!(fields(&[0x00]).next(), Some(Err(Fault::Tag)));
    }
}
