//! The validator in its shortest form, from the schema table.
//!
//! It runs when the fast one has refused a request, to say where; and in tests, to check the fast one. Messages nest at
//! most [`DEPTH_MAX`](crate::wire::reader::DEPTH_MAX) deep, so the recursion is bounded.

use crate::signal::Signal;
use crate::unit::ItemCount;
use crate::wire::reader::{FIXED32, FIXED64, Fault, LEN, VARINT, delimited, fields, fixed32, fixed64, tag, varint};
use crate::wire::schema::{Field, Kind, Label, Message};

use super::{Checked, Malformed, is_valid_id, straight};

pub(super) fn validate(signal: Signal, bytes: &[u8], depth: u32) -> Result<Checked, Malformed> {
    let mut checked = Checked {
        items: ItemCount::ZERO,
        canonical: true,
        invalid_ids: ItemCount::ZERO,
        string_indexes: 0,
        legacy: false,
    };
    message(&mut checked, Message::request(signal), bytes, 0, depth)?;
    Ok(checked)
}

/// Checks a message of which the first byte is at `base` in the request.
fn message(checked: &mut Checked, of: Message, bytes: &[u8], base: usize, depth: u32) -> Result<(), Malformed> {
    let here = |fault, offset| Malformed { fault, offset: base + offset, path: String::new() };
    let (mut seen, mut odd) = (0u32, false);
    let mut ids = [&bytes[..0]; 2];
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let (number, wire_type) = tag(bytes, &mut at).map_err(|fault| here(fault, start))?;
        let Some(field) = of.field(number) else {
            straight::unknown(bytes, &mut at, number, wire_type, depth).map_err(|fault| here(fault, start))?;
            checked.legacy |= is_legacy(of, number, wire_type);
            continue;
        };
        let body = at;
        value(checked, field, wire_type, bytes, &mut at, base, depth).map_err(|mut malformed| {
            if malformed.offset == base + body && malformed.path.is_empty() && malformed.fault != Fault::Utf8 {
                malformed.offset = base + start;
            }
            malformed.path = join(place(field, &bytes[..start]), &malformed.path);
            malformed
        })?;
        // The shape: what stands twice, or apart.
        let bit = match field.label {
            Label::Oneof => 1,
            Label::Repeated if field.kind == Kind::Varint || field.kind == Kind::Fixed64 => {
                odd |= wire_type != LEN;
                1 << number
            }
            Label::Repeated => 0,
            Label::Singular => 1 << number,
        };
        odd |= seen & bit != 0;
        seen |= bit;
        checked.string_indexes += u64::from(field.name.ends_with("strindex"));
        if let Some(index) = id_index(of, number) {
            ids[index] = delimited(bytes, &mut { body }).map_err(|fault| here(fault, start))?;
        }
    }
    checked.canonical &= !odd;
    if of.is_item() {
        checked.items += ItemCount(1);
        checked.invalid_ids += ItemCount(u64::from(has_invalid_id(of, ids)));
    }
    Ok(())
}

/// Checks the value of a known field. A fault of its own is at the position where the value begins.
fn value(
    checked: &mut Checked,
    field: &Field,
    wire_type: u8,
    bytes: &[u8],
    at: &mut usize,
    base: usize,
    depth: u32,
) -> Result<(), Malformed> {
    let begin = *at;
    let here = |fault| Malformed { fault, offset: base + begin, path: String::new() };
    let packs = field.label == Label::Repeated && wire_type == LEN;
    match (field.kind, wire_type) {
        (Kind::Varint, VARINT) => varint(bytes, at).map(drop).map_err(here),
        (Kind::Fixed32, FIXED32) => fixed32(bytes, at).map(drop).map_err(here),
        (Kind::Fixed64, FIXED64) => fixed64(bytes, at).map(drop).map_err(here),
        (Kind::Varint, LEN) if packs => {
            let list = delimited(bytes, at).map_err(here)?;
            let mut inside = 0;
            while inside < list.len() {
                varint(list, &mut inside).map_err(here)?;
            }
            Ok(())
        }
        (Kind::Fixed64, LEN) if packs => {
            let list = delimited(bytes, at).map_err(here)?;
            if list.len() % 8 == 0 { Ok(()) } else { Err(here(Fault::Truncated)) }
        }
        (Kind::Bytes, LEN) => delimited(bytes, at).map(drop).map_err(here),
        (Kind::Text, LEN) => {
            let text = delimited(bytes, at).map_err(here)?;
            std::str::from_utf8(text).map(drop).map_err(|error| Malformed {
                fault: Fault::Utf8,
                offset: base + *at - text.len() + error.valid_up_to(),
                path: String::new(),
            })
        }
        (Kind::Message(of), LEN) => {
            let body = delimited(bytes, at).map_err(here)?;
            let below = depth.checked_sub(1).ok_or(here(Fault::Depth))?;
            message(checked, of, body, base + *at - body.len(), below)
        }
        _ => Err(here(Fault::WireType)),
    }
}

/// The field's name, numbered among its like where it repeats.
fn place(field: &Field, before: &[u8]) -> String {
    match field.label {
        Label::Repeated => {
            let index = fields(before).flatten().filter(|other| other.number == field.number).count();
            format!("{}[{index}]", field.name)
        }
        Label::Singular | Label::Oneof => field.name.to_owned(),
    }
}

fn join(outer: String, inner: &str) -> String {
    if inner.is_empty() { outer } else { format!("{outer}.{inner}") }
}

fn is_legacy(of: Message, number: u32, wire_type: u8) -> bool {
    number == 1000
        && wire_type == LEN
        && matches!(of, Message::ResourceSpans | Message::ResourceMetrics | Message::ResourceLogs)
}

/// Which id of an item a field is: 0 the trace's, 1 the span's.
fn id_index(of: Message, number: u32) -> Option<usize> {
    match (of, number) {
        (Message::Span, 1) | (Message::LogRecord, 9) => Some(0),
        (Message::Span, 2) | (Message::LogRecord, 10) => Some(1),
        _ => None,
    }
}

fn has_invalid_id(of: Message, [trace_id, span_id]: [&[u8]; 2]) -> bool {
    match of {
        Message::Span => !is_valid_id::<16>(trace_id) || !is_valid_id::<8>(span_id),
        Message::LogRecord => {
            !(trace_id.is_empty() || is_valid_id::<16>(trace_id)) || !(span_id.is_empty() || is_valid_id::<8>(span_id))
        }
        _ => false,
    }
}
