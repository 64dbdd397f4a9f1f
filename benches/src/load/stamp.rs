//! The stamp: which request this is and when it was due, in a resource attribute of constant length.
//!
//! `otlp_load.request` = `NNNNNNNNNNNNNNNN-TTTTTTTTTTTTTTTT`: the number and the due time in nanoseconds since the epoch,
//! 16 lower-case hexadecimal digits each. Text, so that every pipeline hands it on, and of one length, so that it is
//! written over in place.

use otlp_core::wire::reader::{Value, fields};
use otlp_core::wire::writer::{begin, end, put_delimited};

/// The attribute's key.
pub const KEY: &str = "otlp_load.request";

/// Bytes of the value.
pub const LEN: usize = 33;

/// What the attribute says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The request's number, from 0.
    pub request: u64,
    /// When it was due, in nanoseconds since the epoch.
    pub due_unix_nano: u64,
}

impl Stamp {
    /// The attribute's value.
    pub fn text(&self) -> [u8; LEN] {
        let mut text = [b'-'; LEN];
        hex(self.request, &mut text[..16]);
        hex(self.due_unix_nano, &mut text[17..]);
        text
    }

    /// Reads the attribute's value.
    pub fn parse(text: &[u8]) -> Option<Stamp> {
        if text.len() != LEN || text[16] != b'-' {
            return None;
        }
        let number = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        Some(Stamp { request: number(&text[..16])?, due_unix_nano: number(&text[17..])? })
    }

    /// Finds it among a resource's attributes.
    pub fn of_resource(resource: &[u8]) -> Option<Stamp> {
        fields(resource).map_while(Result::ok).find_map(|field| match (field.number, field.value) {
            (1, Value::Len(pair)) => Stamp::of_pair(pair),
            _ => None,
        })
    }

    fn of_pair(pair: &[u8]) -> Option<Stamp> {
        let (mut is_it, mut value) = (false, None);
        for field in fields(pair).map_while(Result::ok) {
            match (field.number, field.value) {
                (1, Value::Len(key)) => is_it = key == KEY.as_bytes(),
                (2, Value::Len(any)) => value = Some(any),
                _ => {}
            }
        }
        fields(value.filter(|_| is_it)?).map_while(Result::ok).find_map(|field| match (field.number, field.value) {
            (1, Value::Len(text)) => Stamp::parse(text),
            _ => None,
        })
    }

    /// Writes the attribute into a `Resource`.
    pub fn put(&self, resource: &mut Vec<u8>) {
        let pair = begin(resource, 1, 64);
        put_delimited(resource, 1, KEY.as_bytes());
        let value = begin(resource, 2, LEN);
        put_delimited(resource, 1, &self.text());
        end(resource, value);
        end(resource, pair);
    }
}

fn hex(number: u64, out: &mut [u8]) {
    for (place, digit) in out.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found() {
        for stamp in [Stamp::default(), Stamp { request: u64::MAX, due_unix_nano: 0x0123_4567_89ab_cdef }] {
            let mut resource = b"\x0a\x05\x0a\x03key".to_vec();
            stamp.put(&mut resource);
            assert_eq!(Stamp::of_resource(&resource), Some(stamp));
            assert_eq!(Stamp::parse(&stamp.text()), Some(stamp));
        }
    }

    #[test]
    fn what_is_no_stamp_is_not_found() {
        assert_eq!(Stamp::of_resource(b""), None);
        assert_eq!(Stamp::of_resource(b"\x0a\x05\x0a\x03key"), None);
        let mut resource = Vec::new();
        Stamp::default().put(&mut resource);
        let last = resource.len() - 1;
        resource[last] = b'x';
        assert_eq!(Stamp::of_resource(&resource), None);
        assert_eq!(Stamp::parse(b"0"), None);
    }
}
