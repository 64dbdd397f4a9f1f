//! From JSON to protobuf, in one pass.
//!
//! Each value is written as its bytes are read. A message's length stands before it and is known only after it: room is left
//! for as many bytes as the length of the last message of that kind took, and the body moves only where it took another
//! number. Below [`LEVELS_MOVED`] the room is always five bytes and stays: a large text under a hundred lists, each of which
//! moves it, is what somebody would send who wants us to be busy. Protobuf allows lengths that are longer than need be.

use crate::signal::Signal;
use crate::wire::reader::{DEPTH_MAX, FIXED32, FIXED64, LEN, VARINT};
use crate::wire::schema::Message;
use crate::wire::writer::{begin, end, put_delimited, put_tag, put_varint, varint_len};

use super::binary::{put_unbase64, put_unhex, unhex};
use super::error::{Expected, JsonError};
use super::number::Integer;
use super::scan::{Cursor, Plain, Scan};
use super::schema::{Entry, Form, Table};

/// What a JSON request may not exceed, and whether it is one that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep messages may nest below the request, and lists and objects inside what is unknown.
    ///
    /// Default 100, as on the wire. Range 0 to 100; above that it is taken as 100. Deeper is refused.
    pub depth_max: u32,
    /// The largest protobuf form, in bytes.
    ///
    /// Default and largest value 4 GiB − 1, as on the wire. Beyond it the request is refused with
    /// [`Expected::Smaller`]; at most four times the document's length can come of it.
    pub protobuf_bytes_max: usize,
    /// Whether ids may have any length, as they may in protobuf. They are never padded or cut.
    ///
    /// Default false: a trace id has 32 hex digits or none, a span id 16 or none. True is for reading back what
    /// [`encode`](super::encode) wrote.
    pub any_id_length: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth_max: DEPTH_MAX, protobuf_bytes_max: u32::MAX as usize, any_id_length: false }
    }
}

/// Reads a request in JSON and gives it in protobuf, canonical and valid.
///
/// The bytes need no more than [`wire::validate`](fn@crate::wire::validate) to count their items; an empty object gives no
/// bytes, the request without items.
///
/// # Errors
///
/// [`JsonError`]: the document is not JSON, or not a request of this signal. Retrying cannot help: the answer is 400, or 413
/// for [`Expected::Smaller`].
///
/// # Examples
///
/// ```
/// use otlp_core::{Signal, json};
///
/// let limits = json::Limits::default();
/// let error = json::decode(Signal::Logs, br#"{"resourceLogs":[{"schemaUrl":7}]}"#, &limits).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "cannot decode the JSON at byte 30, in resourceLogs[0].schemaUrl: expected a string"
/// );
/// ```
pub fn decode(signal: Signal, document: &[u8], limits: &Limits) -> Result<Vec<u8>, JsonError> {
    let depth_max = limits.depth_max.min(DEPTH_MAX);
    let mut reader = Reader {
        cursor: Cursor::new(document),
        // Protobuf takes about half of what JSON takes; more is appended as needed.
        out: Vec::with_capacity(document.len() / 2),
        bytes_max: limits.protobuf_bytes_max.min(u32::MAX as usize),
        moved_to_depth: depth_max.saturating_sub(LEVELS_MOVED),
        limits: *limits,
        expected_len: [0; Message::ALL.len()],
    };
    // The envelopes hold nearly all of the request, so that their length needs as many bytes as the request's own.
    for (message, len) in Message::ALL.iter().zip(&mut reader.expected_len) {
        if message.is_envelope() {
            *len = document.len() / 3;
        }
    }
    match reader.request(signal, depth_max) {
        Ok(()) => Ok(reader.out),
        Err(_) => {
            let (offset, expected) = reader.cursor.failure();
            Err(JsonError::at(document, offset, expected))
        }
    }
}

/// How many levels below the request bodies may move. Without nested values there are eight.
const LEVELS_MOVED: u32 = 16;

struct Reader<'a> {
    cursor: Cursor<'a>,
    out: Vec<u8>,
    limits: Limits,
    bytes_max: usize,
    /// With fewer levels left than this, bodies stay where they are.
    moved_to_depth: u32,
    /// Length of the last message of each kind.
    expected_len: [usize; Message::ALL.len()],
}

/// What an object has had so far: fields by index, and whether a member of the oneof.
#[derive(Default)]
struct Seen {
    fields: u32,
    member: bool,
}

impl Reader<'_> {
    fn request(&mut self, signal: Signal, depth_max: u32) -> Scan<()> {
        self.message(Message::request(signal), depth_max)?;
        self.cursor.end()?;
        self.check_size()
    }

    /// Appends the body of a message. `depth` is how many more levels may open below it.
    fn message(&mut self, of: Message, depth: u32) -> Scan<()> {
        self.cursor.expect(b'{', Expected::Object)?;
        if self.cursor.closes(b'}') {
            return Ok(());
        }
        let table = Table::of(of);
        let (mut seen, mut next) = (Seen::default(), 0);
        loop {
            match self.cursor.key(table, next)? {
                Some(index) => {
                    let entry = &table.entries()[index];
                    self.field(entry, 1 << index, &mut seen, depth)?;
                    next = index + 1;
                }
                None => self.cursor.skip(depth)?,
            }
            if !self.cursor.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Appends the field of which the key has been read.
    #[inline(always)]
    fn field(&mut self, entry: &Entry, bit: u32, seen: &mut Seen, depth: u32) -> Scan<()> {
        self.cursor.space();
        if seen.fields & bit != 0 {
            return Err(self.cursor.fail_here(Expected::Once));
        }
        seen.fields |= bit;
        if self.cursor.null()? {
            return Ok(());
        }
        if entry.oneof {
            if seen.member {
                return Err(self.cursor.fail_here(Expected::OneMember));
            }
            seen.member = true;
        }
        match (entry.form, entry.repeated) {
            (Form::Text, false) => self.text(entry.number, entry.explicit),
            (Form::Message(of), false) => self.nested(entry.number, of, depth),
            (Form::Message(Message::KeyValue), true) => self.list(|reader| reader.attribute(entry.number, depth)),
            (Form::Message(of), true) => self.list(|reader| reader.nested(entry.number, of, depth)),
            (Form::Text, true) => self.list(|reader| reader.text(entry.number, true)),
            (form, false) => self.scalar(form, entry),
            (form, true) => self.packed(form, entry),
        }
    }

    fn list(&mut self, mut element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.cursor.expect(b'[', Expected::Array)?;
        if self.cursor.closes(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.cursor.more(b']')? {
                return Ok(());
            }
        }
    }

    #[inline]
    fn nested(&mut self, number: u32, of: Message, depth: u32) -> Scan<()> {
        let below = match depth.checked_sub(1) {
            Some(below) => below,
            None => return Err(self.cursor.fail_here(Expected::Depth)),
        };
        if below < self.moved_to_depth {
            return self.nested_in_place(number, of, below);
        }
        let open = begin(&mut self.out, number, self.expected_len[of as usize]);
        let body = self.out.len();
        self.message(of, below)?;
        self.expected_len[of as usize] = self.out.len() - body;
        end(&mut self.out, open);
        self.check_size()
    }

    /// A message far down: its length takes five bytes, whatever it is.
    #[inline(never)]
    fn nested_in_place(&mut self, number: u32, of: Message, below: u32) -> Scan<()> {
        put_tag(&mut self.out, number, LEN);
        let at = self.out.len();
        self.out.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0]);
        self.message(of, below)?;
        self.check_size()?;
        let mut rest = self.out.len() - at - 5;
        for byte in &mut self.out[at..at + 5] {
            *byte |= (rest & 0x7f) as u8;
            rest >>= 7;
        }
        Ok(())
    }

    /// An attribute: most are written at once, with lengths that are known beforehand.
    #[inline(always)]
    fn attribute(&mut self, number: u32, depth: u32) -> Scan<()> {
        self.cursor.space();
        let start = self.cursor.at();
        // Two messages open in it. In a list of attributes the field's number is below 16.
        if depth >= 2
            && let Some((key, value)) = self.cursor.plain_attribute()
        {
            // The lengths of the value and of the attribute without its tag and length.
            let value_len = match value {
                Plain::Text(text) => 2 + text.len(),
                Plain::Int(value) => 1 + varint_len(value as u64),
            };
            let len = 2 + key.len() + 2 + value_len;
            if len < 0x80 {
                self.out.reserve(2 + 0x80);
                self.out.extend_from_slice(&[(number << 3) as u8 | LEN, len as u8, 0x0a, key.len() as u8]);
                self.out.extend_from_slice(key);
                match value {
                    Plain::Text(text) => {
                        self.out.extend_from_slice(&[0x12, value_len as u8, 0x0a, text.len() as u8]);
                        self.out.extend_from_slice(text);
                    }
                    Plain::Int(value) => {
                        self.out.extend_from_slice(&[0x12, value_len as u8, 0x18]);
                        put_varint(&mut self.out, value as u64);
                    }
                }
                return self.check_size();
            }
            self.cursor.back_to(start);
        }
        self.nested(number, Message::KeyValue, depth)
    }

    /// Refuses what has become too large.
    #[inline(always)]
    fn check_size(&mut self) -> Scan<()> {
        if self.out.len() > self.bytes_max {
            return Err(self.cursor.fail_here(Expected::Smaller { protobuf_bytes_max: self.bytes_max }));
        }
        Ok(())
    }

    #[inline(always)]
    fn text(&mut self, number: u32, explicit: bool) -> Scan<()> {
        match self.cursor.plain_string(Expected::Text)? {
            Some([]) if !explicit => Ok(()),
            Some(plain) => {
                put_delimited(&mut self.out, number, plain);
                Ok(())
            }
            None => self.text_slow(number),
        }
    }

    /// A string that is not ASCII or has escapes. Its protobuf form is no longer than its JSON.
    #[inline(never)]
    fn text_slow(&mut self, number: u32) -> Scan<()> {
        let open = begin(&mut self.out, number, 200);
        self.cursor.put_string(&mut self.out)?;
        end(&mut self.out, open);
        Ok(())
    }

    fn scalar(&mut self, form: Form, entry: &Entry) -> Scan<()> {
        let number = entry.number;
        match form {
            Form::Fixed64 | Form::Sfixed64 | Form::Double => {
                let bits = self.number(form)?;
                if bits != 0 || entry.explicit {
                    put_tag(&mut self.out, number, FIXED64);
                    self.out.extend_from_slice(&bits.to_le_bytes());
                }
            }
            Form::Fixed32 => {
                let bits = self.number(form)?;
                if bits != 0 || entry.explicit {
                    put_tag(&mut self.out, number, FIXED32);
                    self.out.extend_from_slice(&(bits as u32).to_le_bytes());
                }
            }
            Form::Id(len) => self.id(number, len)?,
            Form::Base64 => {
                let start = self.cursor.at();
                let text = self.cursor.string(Expected::Base64)?;
                let open = begin(&mut self.out, number, text.len() * 3 / 4);
                if put_unbase64(&mut self.out, &text).is_none() {
                    return Err(self.cursor.fail(start, Expected::Base64));
                }
                end(&mut self.out, open);
            }
            _ => {
                let value = self.number(form)?;
                if value != 0 || entry.explicit {
                    put_tag(&mut self.out, number, VARINT);
                    put_varint(&mut self.out, value);
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn id(&mut self, number: u32, len: u8) -> Scan<()> {
        let start = self.cursor.at();
        let text = self.cursor.string(Expected::Hex { bytes: len })?;
        let hex = match len {
            _ if text.is_empty() => return Ok(()),
            16 => unhex::<16>(&text).map(|id| put_delimited(&mut self.out, number, &id)),
            _ => unhex::<8>(&text).map(|id| put_delimited(&mut self.out, number, &id)),
        };
        match hex {
            Some(()) => Ok(()),
            None if self.limits.any_id_length => {
                let open = begin(&mut self.out, number, text.len() / 2);
                if put_unhex(&mut self.out, &text).is_none() {
                    return Err(self.cursor.fail(start, Expected::HexPairs));
                }
                end(&mut self.out, open);
                Ok(())
            }
            None => Err(self.cursor.fail(start, Expected::Hex { bytes: len })),
        }
    }

    /// A list of numbers. An empty one leaves nothing.
    fn packed(&mut self, form: Form, entry: &Entry) -> Scan<()> {
        let start = self.out.len();
        let open = begin(&mut self.out, entry.number, 127);
        let body = self.out.len();
        let eight_bytes = matches!(form, Form::Fixed64 | Form::Sfixed64 | Form::Double);
        self.list(|reader| {
            reader.cursor.space();
            let value = reader.number(form)?;
            if eight_bytes {
                reader.out.extend_from_slice(&value.to_le_bytes());
            } else {
                put_varint(&mut reader.out, value);
            }
            reader.check_size()
        })?;
        if self.out.len() == body {
            self.out.truncate(start);
        } else {
            end(&mut self.out, open);
        }
        Ok(())
    }

    /// A number or boolean as the bits of its varint or fixed form.
    #[inline(always)]
    fn number(&mut self, form: Form) -> Scan<u64> {
        match form {
            Form::Double => self.cursor.double().map(f64::to_bits),
            Form::Bool => self.cursor.boolean().map(u64::from),
            Form::Enum if self.cursor.peek() == b'"' => Err(self.cursor.fail_here(Expected::Enum)),
            Form::Enum => self.integer(Expected::Enum, |integer| signed_32(integer).map(|value| value as u64)),
            Form::Int32 => self.integer(INT32, |integer| signed_32(integer).map(|value| value as u64)),
            Form::Sint32 => {
                self.integer(INT32, |integer| signed_32(integer).map(|value| ((value << 1) ^ (value >> 63)) as u64))
            }
            Form::Uint32 | Form::Fixed32 => {
                self.integer(UINT32, |integer| integer.unsigned().filter(|value| *value <= u64::from(u32::MAX)))
            }
            Form::Uint64 | Form::Fixed64 => {
                self.integer(Expected::Integer { min: 0, max: u64::MAX }, Integer::unsigned)
            }
            // The rest are no numbers; `field` and `scalar` have dealt with them.
            _ => self.integer(Expected::Integer { min: i64::MIN, max: i64::MAX as u64 }, |integer| {
                integer.signed().map(|value| value as u64)
            }),
        }
    }

    #[inline(always)]
    fn integer(&mut self, expected: Expected, fit: impl FnOnce(Integer) -> Option<u64>) -> Scan<u64> {
        let (start, integer) = self.cursor.integer()?;
        match integer.and_then(fit) {
            Some(value) => Ok(value),
            None => Err(self.cursor.fail(start, expected)),
        }
    }
}

const INT32: Expected = Expected::Integer { min: i32::MIN as i64, max: i32::MAX as u64 };
const UINT32: Expected = Expected::Integer { min: 0, max: u32::MAX as u64 };

#[inline(always)]
fn signed_32(integer: Integer) -> Option<i64> {
    integer.signed().filter(|value| i32::try_from(*value).is_ok())
}
