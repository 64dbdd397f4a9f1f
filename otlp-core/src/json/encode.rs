//! From protobuf to JSON, in one pass.
//!
//! Each field is written with a comma before it; the first comma of an object or list is then overwritten by the brace or
//! bracket. A list of messages need not stand together on the wire: where one does not, the pass is given up and the
//! request is written again by looking for each field in turn, which is rare and costs a few times as much.

use crate::signal::Signal;
use crate::wire::normalize;
use crate::wire::reader::{self, DEPTH_MAX, FIXED32, FIXED64, LEN, VARINT};
use crate::wire::schema::Message;

use super::binary::{put_base64, put_hex};
use super::number::{put_double, put_quoted, put_signed, put_unsigned};
use super::scan::{is_plain, quote_end};
use super::schema::{Entry, Form, Table};

/// Appends a request in JSON: one object, without white space and without line ends.
///
/// Field names in lowerCamelCase, ids in lower-case hex, enums as integers, 64-bit integers as strings, bytes in base64, NaN
/// and the infinities as strings. Fields with their default value are left out, except where protobuf tells the default
/// from absence: members of a oneof and `optional` fields (OTLP, JSON Protobuf Encoding; ProtoJSON). Unknown fields and
/// the payload of a NaN are not written.
///
/// `protobuf` is the body of a [`Batch`](crate::Batch), or other bytes that
/// [`wire::validate`](crate::wire::validate) accepts. Of others it writes JSON of as much as it can read: never a
/// panic, but text that is not UTF-8 stays so.
///
/// # Examples
///
/// ```
/// use otlp_core::{Signal, json};
///
/// let request = br#"{"resourceSpans":[{"schemaUrl":"https://example.com","scopeSpans":[{}]}]}"#;
/// let protobuf = json::decode(Signal::Traces, request, &json::Limits::default()).unwrap();
/// let mut out = Vec::new();
/// json::encode(Signal::Traces, &protobuf, &mut out);
/// assert_eq!(out, request);
/// ```
pub fn encode(signal: Signal, protobuf: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // Between two and three times the protobuf form is usual.
    out.reserve(protobuf.len() * 2 + 2);
    let request = Message::request(signal);
    if object(out, request, protobuf, DEPTH_MAX).is_err() {
        out.truncate(start);
        gathered(out, request, &normalize(signal, protobuf), DEPTH_MAX);
    }
}

/// A shape that cannot be written in one pass.
struct Odd;

/// Writes an object in the order of the wire.
fn object(out: &mut Vec<u8>, of: Message, bytes: &[u8], depth: u32) -> Result<(), Odd> {
    let table = Table::of(of);
    let start = out.len();
    let mut seen = 0u32;
    // The list that is being written: its field and where it began.
    let mut list: Option<(u32, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let Ok((number, wire_type)) = reader::tag(bytes, &mut at) else { break };
        let Some((index, entry)) = table.by_number(number) else {
            if reader::skip(bytes, &mut at, number, wire_type, DEPTH_MAX).is_err() {
                break;
            }
            continue;
        };
        let continues = list.is_some_and(|(field, _)| field == number);
        if !continues {
            if let Some((_, begun)) = list.take() {
                close(out, begun, b'[', b']');
            }
            // Of a oneof any member after the first is odd.
            let bit = if entry.oneof { 1 << 31 } else { 1 << index };
            if seen & bit != 0 {
                return Err(Odd);
            }
            seen |= bit;
        }
        let Some(value) = read(bytes, &mut at, wire_type) else { break };
        match (entry.form, value) {
            (Form::Message(inner), Value::Bytes(body)) => {
                let Some(below) = depth.checked_sub(1) else { break };
                if !entry.repeated {
                    entry.put_key(out);
                    object(out, inner, body, below)?;
                    continue;
                }
                if !continues {
                    entry.put_key(out);
                    list = Some((number, out.len()));
                }
                out.push(b',');
                if inner != Message::KeyValue || !put_plain_attribute(out, body) {
                    object(out, inner, body, below)?;
                }
            }
            (Form::Text, Value::Bytes(text)) if entry.repeated => {
                if !continues {
                    entry.put_key(out);
                    list = Some((number, out.len()));
                }
                out.push(b',');
                put_text(out, text);
            }
            (form, Value::Bytes(packed)) if entry.repeated => put_packed(out, entry, form, packed),
            // Numbers of a list that is not packed.
            _ if entry.repeated => return Err(Odd),
            (_, value) => put_scalar(out, entry, value),
        }
    }
    if let Some((_, begun)) = list {
        close(out, begun, b'[', b']');
    }
    close(out, start, b'{', b'}');
    Ok(())
}

/// Writes an object field by field, each from wherever its values stand. The bytes are canonical.
fn gathered(out: &mut Vec<u8>, of: Message, bytes: &[u8], depth: u32) {
    let start = out.len();
    for entry in Table::of(of).entries() {
        let mut values = reader::fields(bytes).map_while(Result::ok).filter(|field| field.number == entry.number);
        if !entry.repeated {
            match (entry.form, values.next().map(|field| field.value)) {
                (Form::Message(inner), Some(reader::Value::Len(body))) if depth > 0 => {
                    entry.put_key(out);
                    gathered(out, inner, body, depth - 1);
                }
                (_, Some(reader::Value::Len(bytes))) => put_scalar(out, entry, Value::Bytes(bytes)),
                (_, Some(reader::Value::Varint(bits) | reader::Value::Fixed64(bits))) => {
                    put_scalar(out, entry, Value::Bits(bits));
                }
                (_, Some(reader::Value::Fixed32(bits))) => put_scalar(out, entry, Value::Bits(u64::from(bits))),
                _ => {}
            }
            continue;
        }
        let field = out.len();
        entry.put_key(out);
        let begun = out.len();
        for value in values {
            let reader::Value::Len(body) = value.value else { continue };
            match entry.form {
                Form::Message(inner) if depth > 0 => {
                    out.push(b',');
                    gathered(out, inner, body, depth - 1);
                }
                Form::Message(_) => {}
                Form::Text => {
                    out.push(b',');
                    put_text(out, body);
                }
                form => put_elements(out, form, body),
            }
        }
        if out.len() == begun {
            out.truncate(field);
        } else {
            close(out, begun, b'[', b']');
        }
    }
    close(out, start, b'{', b'}');
}

/// Ends an object or list whose members each have a comma before them.
#[inline(always)]
fn close(out: &mut Vec<u8>, begun: usize, open: u8, close: u8) {
    match out.get_mut(begun) {
        Some(comma) => *comma = open,
        None => out.push(open),
    }
    out.push(close);
}

/// A field's value as the wire has it.
#[derive(Clone, Copy)]
enum Value<'a> {
    Bits(u64),
    Bytes(&'a [u8]),
}

#[inline(always)]
fn read<'a>(bytes: &'a [u8], at: &mut usize, wire_type: u8) -> Option<Value<'a>> {
    Some(match wire_type {
        LEN => Value::Bytes(reader::delimited(bytes, at).ok()?),
        VARINT => Value::Bits(reader::varint(bytes, at).ok()?),
        FIXED64 => Value::Bits(reader::fixed64(bytes, at).ok()?),
        FIXED32 => Value::Bits(u64::from(reader::fixed32(bytes, at).ok()?)),
        _ => return None,
    })
}

#[inline(always)]
fn put_scalar(out: &mut Vec<u8>, entry: &Entry, value: Value<'_>) {
    match value {
        Value::Bytes(bytes) => {
            if bytes.is_empty() && !entry.explicit {
                return;
            }
            match entry.form {
                Form::Text => {
                    entry.put_key(out);
                    put_text(out, bytes);
                }
                Form::Id(_) => {
                    entry.put_key(out);
                    out.push(b'"');
                    put_hex(out, bytes);
                    out.push(b'"');
                }
                Form::Base64 => {
                    entry.put_key(out);
                    out.push(b'"');
                    put_base64(out, bytes);
                    out.push(b'"');
                }
                // Another wire type than the field's, in bytes that were not validated.
                _ => {}
            }
        }
        Value::Bits(bits) => {
            if is_default(entry.form, bits) && !entry.explicit {
                return;
            }
            if !matches!(entry.form, Form::Text | Form::Id(_) | Form::Base64 | Form::Message(_)) {
                entry.put_key(out);
                put_number(out, entry.form, bits);
            }
        }
    }
}

/// A varint of a 32-bit field may have more bits, which protobuf cuts off.
#[inline(always)]
fn is_default(form: Form, bits: u64) -> bool {
    match form {
        Form::Enum | Form::Int32 | Form::Sint32 | Form::Uint32 => bits as u32 == 0,
        _ => bits == 0,
    }
}

#[inline(always)]
fn put_number(out: &mut Vec<u8>, form: Form, bits: u64) {
    match form {
        Form::Double => put_double(out, f64::from_bits(bits)),
        Form::Bool => out.extend_from_slice(if bits == 0 { b"false" } else { b"true" }),
        Form::Enum | Form::Int32 => put_signed(out, i64::from(bits as i32)),
        Form::Sint32 => {
            let bits = bits as u32;
            put_signed(out, i64::from((bits >> 1) as i32 ^ -((bits & 1) as i32)));
        }
        Form::Uint32 | Form::Fixed32 => put_unsigned(out, u64::from(bits as u32)),
        Form::Uint64 | Form::Fixed64 => put_quoted(out, bits),
        _ => {
            out.push(b'"');
            put_signed(out, bits as i64);
            out.push(b'"');
        }
    }
}

fn put_packed(out: &mut Vec<u8>, entry: &Entry, form: Form, packed: &[u8]) {
    if packed.is_empty() {
        return;
    }
    entry.put_key(out);
    let begun = out.len();
    put_elements(out, form, packed);
    close(out, begun, b'[', b']');
}

fn put_elements(out: &mut Vec<u8>, form: Form, packed: &[u8]) {
    let varints = matches!(form, Form::Uint64);
    let mut at = 0;
    while at < packed.len() {
        let bits = if varints { reader::varint(packed, &mut at) } else { reader::fixed64(packed, &mut at) };
        let Ok(bits) = bits else { break };
        if bits < 10 && form != Form::Double {
            // Most buckets are empty or nearly so.
            out.extend_from_slice(&[b',', b'"', b'0' + bits as u8, b'"']);
        } else {
            out.push(b',');
            put_number(out, form, bits);
        }
    }
}

/// Appends a string in quotes.
#[inline(always)]
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        put_escaped(out, text);
    }
    out.push(b'"');
}

#[inline(never)]
fn put_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let (plain, rest) = text.split_at(quote_end(text, 0));
        out.extend_from_slice(plain);
        let Some((&byte, rest)) = rest.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                out.extend_from_slice(b"\\u00");
                put_hex(out, &[byte]);
            }
        }
        text = rest;
    }
}

/// Appends an attribute in the form that nearly all have: a key, then a short text, an integer or a boolean, with lengths
/// below 128 and nothing to escape. False where it has another form; nothing is appended then.
#[inline(always)]
fn put_plain_attribute(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let [0x0a, key_len @ 1..0x80, rest @ ..] = bytes else { return false };
    let Some((key, rest)) = rest.split_at_checked(*key_len as usize) else { return false };
    let [0x12, value_len @ ..0x80, value @ ..] = rest else { return false };
    if *value_len as usize != value.len() || !is_plain(key) {
        return false;
    }
    match value {
        [0x0a, len, text @ ..] if *len as usize == text.len() && is_plain(text) => {
            out.reserve(64 + 2 * 0x80);
            out.extend_from_slice(b"{\"key\":\"");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\",\"value\":{\"stringValue\":\"");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\"}}");
        }
        [0x18, rest @ ..] => {
            let mut at = 0;
            let Ok(value) = reader::varint(rest, &mut at) else { return false };
            if at != rest.len() {
                return false;
            }
            out.reserve(64 + 0x80);
            out.extend_from_slice(b"{\"key\":\"");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\",\"value\":{\"intValue\":\"");
            put_signed(out, value as i64);
            out.extend_from_slice(b"\"}}");
        }
        [0x10, value @ 0..=1] => {
            out.extend_from_slice(b"{\"key\":\"");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\",\"value\":{\"boolValue\":");
            out.extend_from_slice(if *value == 0 { b"false}}" } else { b"true}}" });
        }
        _ => return false,
    }
    true
}
