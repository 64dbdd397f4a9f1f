//! Names of spans and of events, written anew on the wire.
//!
//! The attribute edits of `otlp_core` leave other fields alone, and few pipelines rename, so this is a pass of its own. The
//! messages around items are written with their lengths; every item without a new name is copied whole, and an item with
//! one keeps its other fields byte for byte, unknown ones included.

use bytes::Bytes;
use otlp_core::Signal;
use otlp_core::wire::reader::{self, DEPTH_MAX, LEN, Read};
use otlp_core::wire::writer::{begin, delimited_len, end, put_delimited, put_tag, put_varint};

/// A name for the item of that number, from 0 in the order of the bytes.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) item: usize,
    pub(super) text: String,
}

/// The fields that lead to an item: the request's, the resource's, the scope's.
const WAY: [u32; 3] = [1, 2, 2];

/// Writes a request with other names, which are in the order of their items. `None` where there are none, and for bytes
/// that nobody validated.
pub(super) fn rename(signal: Signal, body: &[u8], names: &[Name]) -> Option<Bytes> {
    let field = match signal {
        // Span.name; LogRecord.event_name.
        Signal::Traces => 5,
        Signal::Logs => 12,
        Signal::Metrics => return None,
    };
    if names.is_empty() {
        return None;
    }
    let added: usize = names.iter().map(|name| name.text.len() + 4).sum();
    let mut pass = Pass { field, names: names.iter(), next: names.first(), number: 0 };
    let mut out = Vec::with_capacity(body.len() + added);
    pass.copy(body, 0, &mut out).ok()?;
    Some(out.into())
}

struct Pass<'n> {
    /// Where an item has its name.
    field: u32,
    names: std::slice::Iter<'n, Name>,
    next: Option<&'n Name>,
    number: usize,
}

impl Pass<'_> {
    fn copy(&mut self, message: &[u8], depth: usize, out: &mut Vec<u8>) -> Read<()> {
        let mut position = 0;
        while position < message.len() {
            let start = position;
            let (number, inner) = field(message, &mut position)?;
            match inner {
                Some(inner) if number == WAY[depth] && depth + 1 < WAY.len() => {
                    let open = begin(out, number, inner.len());
                    self.copy(inner, depth + 1, out)?;
                    end(out, open);
                }
                Some(inner) if number == WAY[depth] && self.is_next() => self.item(number, inner, out)?,
                _ => out.extend_from_slice(&message[start..position]),
            }
        }
        Ok(())
    }

    /// Counts an item, and says whether it has a new name.
    fn is_next(&mut self) -> bool {
        self.number += 1;
        self.next.is_some_and(|name| name.item + 1 == self.number)
    }

    /// Writes an item with the next name, in the place of the old one or else at the end. An empty one is not written, as
    /// proto3 has it.
    fn item(&mut self, number: u32, message: &[u8], out: &mut Vec<u8>) -> Read<()> {
        let text = self.next.map_or("", |name| name.text.as_str());
        let own = self.field;
        let name_len = if text.is_empty() { 0 } else { delimited_len(own, text.len()) };
        let mut kept = 0;
        each_field(message, |field, bytes| kept += if field == own { 0 } else { bytes.len() })?;
        put_tag(out, number, LEN);
        put_varint(out, (kept + name_len) as u64);
        let mut written = text.is_empty();
        let mut put = |out: &mut Vec<u8>| {
            if !std::mem::replace(&mut written, true) {
                put_delimited(out, own, text.as_bytes());
            }
        };
        each_field(message, |field, bytes| match field == own {
            true => put(out),
            false => out.extend_from_slice(bytes),
        })?;
        put(out);
        self.names.next();
        self.next = self.names.as_slice().first();
        Ok(())
    }
}

/// Calls `each` with the number and the whole bytes of every field.
fn each_field(message: &[u8], mut each: impl FnMut(u32, &[u8])) -> Read<()> {
    let mut position = 0;
    while position < message.len() {
        let start = position;
        let (number, _) = field(message, &mut position)?;
        each(number, &message[start..position]);
    }
    Ok(())
}

/// Reads a field: its number, and its content where it has a length.
fn field<'m>(message: &'m [u8], position: &mut usize) -> Read<(u32, Option<&'m [u8]>)> {
    let (number, wire_type) = reader::tag(message, position)?;
    if wire_type == LEN {
        return Ok((number, Some(reader::delimited(message, position)?)));
    }
    reader::skip(message, position, number, wire_type, DEPTH_MAX)?;
    Ok((number, None))
}
