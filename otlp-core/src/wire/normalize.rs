//! Odd but legal shapes, put into [canonical shape](mod@super::validate) on the wire.
//!
//! # What it does
//!
//! Decoding the result gives what decoding the original would have given, and unknown fields and groups stay where they
//! were. A singular message given several times becomes one with the fields of all: protobuf defines its meaning as
//! that of the bodies joined. Of a singular scalar the last stays, of a oneof the last member; a member that lost is
//! data that was overwritten, and goes with all that is in it. Numbers of a list are gathered in one packed field.
//!
//! # Threads
//!
//! On the caller's thread; only for what the validator has accepted.
//!
//! # Limits
//!
//! Reads a message's fields at most once for each singular field that repeats, and copies no body to join it, so a
//! request made to be slow costs no more than a small multiple of its size. The result is no longer than the original,
//! but for the tags and lengths of lists that were not packed.
//!
//! # Specification
//!
//! Protocol Buffers, Encoding: Last One Wins, Packed Repeated Fields.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::signal::Signal;

use super::reader::{self, DEPTH_MAX, Fields, LEN, Value};
use super::schema::{Field, Kind, Label, Message};
use super::writer::{begin, end, put_tag, put_varint};

/// The same request in canonical shape.
///
/// What is canonical already comes out as it went in, but for a copy: ask
/// [`Checked::canonical`](super::validate::Checked::canonical) first. Bytes that were not validated give some bytes,
/// never a panic.
pub fn normalize(signal: Signal, bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len());
    message(&mut out, Message::request(signal), &[bytes], DEPTH_MAX + 1);
    out.into()
}

/// Takes the content of field 1000 of each resource as its scopes, where it has no others.
///
/// Up to OTLP 0.15 the scopes were called instrumentation libraries and stood there; the number is reserved since. The
/// Collector still moves them. The result has to be validated: what is in an unknown field has not been.
///
/// The tag gets one byte shorter, so the body never grows.
pub fn adopt_legacy(signal: Signal, bytes: &[u8]) -> Bytes {
    const LEGACY_SCOPES: u32 = 1000;
    let request = Message::request(signal);
    let mut out = Vec::with_capacity(bytes.len());
    for field in fields(&[bytes]) {
        let body = match (request.field(field.number), field.value) {
            (Some(_), Value::Len(body)) if fields(&[body]).all(|inner| inner.number != 2) => body,
            _ => {
                out.extend_from_slice(field.bytes);
                continue;
            }
        };
        let open = begin(&mut out, field.number, body.len());
        for inner in fields(&[body]) {
            match inner.value {
                Value::Len(scopes) if inner.number == LEGACY_SCOPES => {
                    super::writer::put_delimited(&mut out, 2, scopes)
                }
                _ => out.extend_from_slice(inner.bytes),
            }
        }
        end(&mut out, open);
    }
    out.into()
}

/// A field with all its bytes, tag included.
#[derive(Clone, Copy)]
struct Whole<'a> {
    number: u32,
    value: Value<'a>,
    bytes: &'a [u8],
}

/// The fields of a message that came in several parts.
struct Parts<'a, 'p> {
    parts: std::slice::Iter<'p, &'a [u8]>,
    current: (&'a [u8], Fields<'a>),
}

fn fields<'a, 'p>(parts: &'p [&'a [u8]]) -> Parts<'a, 'p> {
    Parts { parts: parts.iter(), current: (&[], reader::fields(&[])) }
}

impl<'a> Iterator for Parts<'a, '_> {
    type Item = Whole<'a>;

    fn next(&mut self) -> Option<Whole<'a>> {
        loop {
            // Validated bytes have no faults; in others the rest of the part is skipped.
            if let Some(Ok(field)) = self.current.1.next() {
                let bytes = &self.current.0[field.start..field.end];
                return Some(Whole { number: field.number, value: field.value, bytes });
            }
            let part = self.parts.next()?;
            self.current = (part, reader::fields(part));
        }
    }
}

/// Bit of the oneof in a mask of singular fields; no field has number 0.
const ONEOF: u32 = 1;

fn bit(field: &Field) -> u32 {
    match field.label {
        Label::Oneof => ONEOF,
        _ => 1 << field.number,
    }
}

/// Whether the field is a list of numbers, which may be packed.
fn packs(field: &Field) -> bool {
    field.label == Label::Repeated && matches!(field.kind, Kind::Varint | Kind::Fixed32 | Kind::Fixed64)
}

fn message(out: &mut Vec<u8>, of: Message, parts: &[&[u8]], depth: u32) {
    // Deeper than the validator lets anything be: nobody validated this, and the stack is finite.
    let Some(below) = depth.checked_sub(1) else {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        return;
    };
    let (mut seen, mut twice) = (0u32, 0u32);
    for whole in fields(parts) {
        if let Some(field) = of.field(whole.number)
            && (field.label != Label::Repeated || packs(field))
        {
            twice |= seen & bit(field);
            seen |= bit(field);
        }
    }
    let mut written = 0u32;
    for whole in fields(parts) {
        let Some(field) = of.field(whole.number) else {
            out.extend_from_slice(whole.bytes);
            continue;
        };
        match (field.kind, whole.value) {
            (Kind::Message(inner), Value::Len(body)) if field.label == Label::Repeated => {
                enclosed(out, field.number, inner, &[body], below);
            }
            _ if packs(field) => {
                let alone = twice & bit(field) == 0;
                match whole.value {
                    Value::Len(_) if alone => out.extend_from_slice(whole.bytes),
                    _ if written & bit(field) == 0 => list(out, field, parts),
                    _ => {}
                }
                written |= bit(field);
            }
            _ if field.label == Label::Repeated => out.extend_from_slice(whole.bytes),
            _ if written & bit(field) != 0 => {}
            (Kind::Message(inner), Value::Len(body)) if twice & bit(field) == 0 => {
                enclosed(out, field.number, inner, &[body], below);
            }
            _ if twice & bit(field) == 0 => out.extend_from_slice(whole.bytes),
            _ => {
                singular(out, of, field, parts, below);
                written |= bit(field);
            }
        }
    }
}

fn enclosed(out: &mut Vec<u8>, number: u32, of: Message, parts: &[&[u8]], depth: u32) {
    let open = begin(out, number, parts.iter().map(|part| part.len()).sum());
    message(out, of, parts, depth);
    end(out, open);
}

/// What a singular field, or the oneof that it belongs to, amounts to after all its occurrences.
fn singular(out: &mut Vec<u8>, of: Message, field: &Field, parts: &[&[u8]], depth: u32) {
    let mut last: Option<Whole<'_>> = None;
    let mut bodies: SmallVec<[&[u8]; 2]> = SmallVec::new();
    for whole in fields(parts) {
        let Some(other) = of.field(whole.number) else { continue };
        if bit(other) != bit(field) || other.label == Label::Repeated {
            continue;
        }
        // Messages merge with what stands before them, unless another member of the oneof came between.
        if last.is_some_and(|last| last.number != whole.number) {
            bodies.clear();
        }
        if let Value::Len(body) = whole.value {
            bodies.push(body);
        }
        last = Some(whole);
    }
    let Some(last) = last else { return };
    match of.field(last.number).map(|field| field.kind) {
        Some(Kind::Message(inner)) => enclosed(out, last.number, inner, &bodies, depth),
        _ => out.extend_from_slice(last.bytes),
    }
}

/// All numbers of a list as one packed field.
fn list(out: &mut Vec<u8>, field: &Field, parts: &[&[u8]]) {
    let mut numbers = Vec::new();
    for whole in fields(parts).filter(|whole| whole.number == field.number) {
        match whole.value {
            Value::Len(packed) => numbers.extend_from_slice(packed),
            Value::Varint(number) => put_varint(&mut numbers, number),
            Value::Fixed64(number) => numbers.extend_from_slice(&number.to_le_bytes()),
            Value::Fixed32(number) => numbers.extend_from_slice(&number.to_le_bytes()),
            Value::Group(_) => {}
        }
    }
    put_tag(out, field.number, LEN);
    put_varint(out, numbers.len() as u64);
    out.extend_from_slice(&numbers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::generate;
    use crate::wire::validate::{Limits, validate};
    use crate::wire::writer::put_delimited;

    fn nest(path: &[u32], body: &[u8]) -> Vec<u8> {
        path.iter().rev().fold(body.to_vec(), |body, field| {
            let mut out = Vec::new();
            put_delimited(&mut out, *field, &body);
            out
        })
    }

    #[test]
    fn what_is_canonical_comes_out_as_it_went_in() {
        for signal in Signal::ALL {
            let body = generate::request(signal, 3, 30);
            assert_eq!(normalize(signal, &body), body);
            let turned = generate::in_collector_order(signal, &body);
            assert_eq!(normalize(signal, &turned), turned);
        }
    }

    #[test]
    fn each_odd_shape_has_its_canonical_form() {
        let value = |body: &[u8]| nest(&[1, 2, 2, 9, 2], body);
        let counts = |body: &[u8]| nest(&[1, 2, 2, 10, 1, 8], body);
        let table: &[(&str, Signal, Vec<u8>, Vec<u8>)] = &[
            (
                "two resources merge where the first stands",
                Signal::Traces,
                nest(&[1], &[0x12, 0, 0x0a, 2, 0x10, 1, 0x0a, 3, 0x98, 1, 5]),
                nest(&[1], &[0x12, 0, 0x0a, 5, 0x10, 1, 0x98, 1, 5]),
            ),
            (
                "of two keys the last stays, in the place of the first",
                Signal::Traces,
                nest(&[1, 2, 2, 9], &[0x0a, 1, b'a', 0x12, 0, 0xa0, 1, 9, 0x0a, 1, b'b']),
                nest(&[1, 2, 2, 9], &[0x0a, 1, b'b', 0x12, 0, 0xa0, 1, 9]),
            ),
            ("the last kind of value stays", Signal::Traces, value(&[0x0a, 1, b'x', 0x18, 7]), value(&[0x18, 7])),
            (
                "two arrays are one array",
                Signal::Traces,
                value(&[0x2a, 2, 0x0a, 0, 0x2a, 4, 0x0a, 2, 0x10, 1]),
                value(&[0x2a, 6, 0x0a, 0, 0x0a, 2, 0x10, 1]),
            ),
            (
                "an array after a list of pairs begins anew",
                Signal::Traces,
                value(&[0x2a, 2, 0x0a, 0, 0x32, 0, 0x2a, 0]),
                value(&[0x2a, 0]),
            ),
            (
                "numbers are packed, in order",
                Signal::Metrics,
                counts(&[0x10, 1, 0x12, 2, 2, 3, 0x08, 4, 0x10, 0x84, 0]),
                counts(&[0x12, 4, 1, 2, 3, 4, 0x08, 4]),
            ),
        ];
        for (case, signal, odd, canonical) in table {
            assert!(!validate(*signal, odd, &Limits::default()).unwrap().canonical, "{case}");
            assert_eq!(normalize(*signal, odd), canonical, "{case}");
            assert!(validate(*signal, canonical, &Limits::default()).unwrap().canonical, "{case}");
        }
    }

    #[test]
    fn bytes_nested_without_end_come_out_and_do_not_end_the_stack() {
        let mut body = Vec::new();
        for _ in 0..3_000 {
            body = nest(&[5, 1], &body);
        }
        let body = nest(&[1, 2, 2, 9, 2], &body);
        assert!(validate(Signal::Traces, &body, &Limits::default()).is_err());
        assert_eq!(normalize(Signal::Traces, &body), body);
    }

    #[test]
    fn the_deepest_message_that_is_legal_is_normalized_too() {
        // 94 levels of values and arrays below the attribute's, then a value at the limit.
        let deep = |value: &[u8]| nest(&[1, 2, 2, 9, 2], &nest(&[5, 1].repeat(47), value));
        let odd = deep(&[0x10, 0, 0x18, 7]);
        assert!(validate(Signal::Traces, &deep(&[0x2a, 0]), &Limits::default()).is_ok());
        assert!(!validate(Signal::Traces, &odd, &Limits::default()).unwrap().canonical);
        assert_eq!(normalize(Signal::Traces, &odd), deep(&[0x18, 7]));
    }

    #[test]
    fn legacy_scopes_are_adopted_only_without_others() {
        let legacy = |field: u32, body: &[u8]| nest(&[1, field], body);
        assert_eq!(adopt_legacy(Signal::Traces, &legacy(1000, &[0x12, 0])), legacy(2, &[0x12, 0]));
        let both = nest(&[1], &[nest(&[2], b""), nest(&[1000], b"")].concat());
        assert_eq!(adopt_legacy(Signal::Traces, &both), both);
    }
}
