//! The protobuf wire form, written to a `Vec<u8>`.

/// Bytes that a varint takes.
#[inline(always)]
pub const fn varint_len(value: u64) -> usize {
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Appends a varint.
#[inline(always)]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
#[inline(always)]
pub fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u8) {
    put_varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

/// Appends a length-delimited field: tag, length, bytes.
#[inline]
pub fn put_delimited(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, super::reader::LEN);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint field; nothing when the value is the default, as proto3 has it.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, super::reader::VARINT);
        put_varint(out, value);
    }
}

/// Bytes that a length-delimited field of a body of `len` bytes takes, tag included.
#[inline]
pub const fn delimited_len(field: u32, len: usize) -> usize {
    varint_len((field as u64) << 3) + varint_len(len as u64) + len
}

/// A message that has been begun and whose length is not known yet.
#[derive(Debug)]
#[must_use = "a message that is not ended has no length"]
pub struct Open {
    at: usize,
    width: usize,
}

/// Begins a length-delimited field with room for the length that is expected.
#[inline]
pub fn begin(out: &mut Vec<u8>, field: u32, expected_len: usize) -> Open {
    put_tag(out, field, super::reader::LEN);
    let at = out.len();
    let width = varint_len(expected_len as u64);
    out.resize(at + width, 0);
    Open { at, width }
}

/// Ends a message: writes its length, moving the body only where the length took another width than expected.
#[inline]
pub fn end(out: &mut Vec<u8>, open: Open) {
    let body = open.at + open.width;
    let len = out.len() - body;
    let width = varint_len(len as u64);
    if width < open.width {
        out.copy_within(body.., open.at + width);
        out.truncate(open.at + width + len);
    } else if width > open.width {
        out.resize(open.at + width + len, 0);
        out.copy_within(body..body + len, open.at + width);
    }
    let mut rest = len;
    for index in 0..width {
        out[open.at + index] = (rest & 0x7f) as u8 | if index + 1 < width { 0x80 } else { 0 };
        rest >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_patched_at_every_width() {
        for (expected, actual) in
            [(0, 0), (0, 127), (0, 128), (200, 3), (20_000, 127), (1, 20_000), (127, 128), (128, 128)]
        {
            let body = vec![7u8; actual];
            let mut patched = vec![1, 2, 3];
            let open = begin(&mut patched, 5, expected);
            patched.extend_from_slice(&body);
            end(&mut patched, open);
            let mut direct = vec![1, 2, 3];
            put_delimited(&mut direct, 5, &body);
            assert_eq!(patched, direct, "expected {expected}, was {actual}");
            assert_eq!(direct.len() - 3, delimited_len(5, actual));
        }
        for shift in 0..64 {
            let mut out = Vec::new();
            put_varint(&mut out, 1 << shift);
            assert_eq!(out.len(), varint_len(1 << shift));
        }
    }
}
