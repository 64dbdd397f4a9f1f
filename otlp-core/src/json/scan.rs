//! The words of a JSON document: strings, numbers, literals, and skipping what nobody asked for.
//!
//! # What it does
//!
//! Takes RFC 8259 and no more: no comments, no trailing commas, no bare words. A byte order mark before the document is
//! passed over. Strings are read eight bytes at a time and copied as they are where they hold neither escape nor non-ASCII;
//! what is not ASCII is checked to be UTF-8. A lone surrogate escape becomes U+FFFD: browsers make them when they cut a
//! string to a length.
//!
//! # Limits
//!
//! Nesting is counted down by the caller's `depth`. Allocates only for strings with escapes that are not copied to the
//! output (ids, numbers, keys).

use std::borrow::Cow;

use super::error::Expected;
use super::number::{self, Integer};
use super::schema::Table;

/// The cursor has noted why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed;

pub(super) type Scan<T> = Result<T, Failed>;

/// A place in a document.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    failure: (usize, Expected),
}

/// The value of a plain attribute.
pub(super) enum Plain<'a> {
    Text(&'a [u8]),
    Int(i64),
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// High bits of the bytes that are zero. Above the lowest one found there may be others that are not.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// Position of the first byte, from `at` on, that cannot be copied as it is: a quote, a backslash, a control character,
/// or, where `ASCII`, one above 0x7f. The length where there is none.
#[inline(always)]
fn plain_end<const ASCII: bool>(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * b'"' as u64));
        let backslash = zeros(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let high = if ASCII { word & HIGH } else { 0 };
        let special = quote | backslash | control | high;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 || (ASCII && byte >= 0x80) {
            break;
        }
        at += 1;
    }
    at
}

/// Whether a JSON string can hold the text as it is. The last word may overlap the one before: no byte is looked at alone.
#[inline(always)]
pub(super) fn is_plain(text: &[u8]) -> bool {
    let special = |word: u64| {
        let quote = zeros(word ^ (ONES * b'"' as u64));
        let backslash = zeros(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        quote | backslash | control
    };
    if let Some(last) = text.last_chunk::<8>() {
        let mut all = special(u64::from_le_bytes(*last));
        for word in text.as_chunks::<8>().0 {
            all |= special(u64::from_le_bytes(*word));
        }
        all == 0
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        special(u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32) == 0
    } else {
        text.iter().all(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    }
}

/// Position of the first byte, from `at` on, that a JSON string cannot hold as it is.
#[inline(always)]
pub(super) fn quote_end(bytes: &[u8], at: usize) -> usize {
    plain_end::<false>(bytes, at)
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        let at = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Cursor { bytes, at, failure: (0, Expected::Value) }
    }

    pub(super) fn failure(&self) -> (usize, Expected) {
        self.failure
    }

    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
    }

    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, at: usize, expected: Expected) -> Failed {
        self.failure = (at, expected);
        Failed
    }

    #[cold]
    #[inline(never)]
    pub(super) fn fail_here(&mut self, expected: Expected) -> Failed {
        self.fail(self.at, expected)
    }

    /// The byte at the cursor; 0, which is none of JSON's, at the end.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Moves past white space.
    #[inline(always)]
    pub(super) fn space(&mut self) {
        if self.peek() <= b' ' {
            self.space_slow();
        }
    }

    #[inline(never)]
    fn space_slow(&mut self) {
        while let b' ' | b'\n' | b'\r' | b'\t' = self.peek() {
            self.at += 1;
        }
    }

    /// Moves past white space and one byte that has to be there.
    #[inline(always)]
    pub(super) fn expect(&mut self, byte: u8, expected: Expected) -> Scan<()> {
        self.space();
        if self.peek() != byte {
            return Err(self.fail_here(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Moves past the byte if it is next.
    #[inline(always)]
    pub(super) fn closes(&mut self, byte: u8) -> bool {
        self.space();
        let closes = self.peek() == byte;
        self.at += usize::from(closes);
        closes
    }

    /// Moves past a comma or the end of a list or object. True for the comma.
    #[inline(always)]
    pub(super) fn more(&mut self, close: u8) -> Scan<bool> {
        self.space();
        let byte = self.peek();
        if byte != b',' && byte != close {
            return Err(self.fail_here(Expected::CommaOrEnd));
        }
        self.at += 1;
        Ok(byte == b',')
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Scan<()> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fail_here(Expected::Nothing)) }
    }

    /// Moves past a key and its colon: the index of the field that it names. The opening quote is next.
    #[inline(always)]
    pub(super) fn key(&mut self, table: &Table, next: usize) -> Scan<Option<usize>> {
        self.expect(b'"', Expected::Key)?;
        let found = match self.bytes.get(self.at..).and_then(|rest| table.find(rest, next)) {
            Some(index) => {
                self.at += table.entries()[index].name().len() + 1;
                Some(index)
            }
            None => self.key_slow(table)?,
        };
        if self.peek() == b':' {
            self.at += 1;
        } else {
            self.expect(b':', Expected::Colon)?;
        }
        Ok(found)
    }

    /// A key that is unknown or has escapes. The opening quote is behind.
    #[inline(never)]
    fn key_slow(&mut self, table: &Table) -> Scan<Option<usize>> {
        let name = self.string_rest()?;
        Ok(table.named(&name))
    }

    /// Moves past any key and its colon.
    pub(super) fn any_key(&mut self) -> Scan<Cow<'a, [u8]>> {
        self.expect(b'"', Expected::Key)?;
        let name = self.string_rest()?;
        self.expect(b':', Expected::Colon)?;
        Ok(name)
    }

    /// Moves past `null` if it is next.
    #[inline(always)]
    pub(super) fn null(&mut self) -> Scan<bool> {
        self.space();
        if self.peek() != b'n' {
            return Ok(false);
        }
        self.literal(b"null", Expected::Value).map(|()| true)
    }

    pub(super) fn boolean(&mut self) -> Scan<bool> {
        self.space();
        if self.peek() == b't' {
            self.literal(b"true", Expected::Boolean).map(|()| true)
        } else {
            self.literal(b"false", Expected::Boolean).map(|()| false)
        }
    }

    fn literal(&mut self, literal: &[u8], expected: Expected) -> Scan<()> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(self.fail_here(expected));
        }
        self.at += literal.len();
        Ok(())
    }

    /// A string without its quotes, if it is ASCII without escapes; otherwise the cursor stays.
    #[inline(always)]
    pub(super) fn plain_string(&mut self, expected: Expected) -> Scan<Option<&'a [u8]>> {
        self.space();
        if self.peek() != b'"' {
            return Err(self.fail_here(expected));
        }
        let start = self.at + 1;
        let end = plain_end::<true>(self.bytes, start);
        if self.bytes.get(end) != Some(&b'"') {
            return Ok(None);
        }
        self.at = end + 1;
        Ok(Some(&self.bytes[start..end]))
    }

    /// A string without its quotes, escapes resolved.
    #[inline]
    pub(super) fn string(&mut self, expected: Expected) -> Scan<Cow<'a, [u8]>> {
        if let Some(plain) = self.plain_string(expected)? {
            return Ok(Cow::Borrowed(plain));
        }
        self.at += 1;
        self.string_rest()
    }

    /// The same, appended. The opening quote is next.
    #[inline(never)]
    pub(super) fn put_string(&mut self, out: &mut Vec<u8>) -> Scan<()> {
        self.at += 1;
        loop {
            let segment = self.segment()?;
            out.extend_from_slice(segment);
            if self.peek() == b'"' {
                self.at += 1;
                return Ok(());
            }
            let escaped = self.escape()?;
            out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// The rest of a string of which the opening quote is behind.
    fn string_rest(&mut self) -> Scan<Cow<'a, [u8]>> {
        let segment = self.segment()?;
        if self.peek() == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(segment));
        }
        let mut owned = segment.to_vec();
        // From the backslash on it is a string's inside like any other.
        self.at -= 1;
        self.put_string(&mut owned)?;
        Ok(Cow::Owned(owned))
    }

    /// Moves to the next quote or backslash: what stands before it, which is UTF-8.
    #[inline(always)]
    fn segment(&mut self) -> Scan<&'a [u8]> {
        let start = self.at;
        let mut end = plain_end::<true>(self.bytes, start);
        if self.bytes.get(end).is_some_and(|byte| *byte >= 0x80) {
            end = plain_end::<false>(self.bytes, end);
            if let Err(error) = std::str::from_utf8(&self.bytes[start..end]) {
                return Err(self.fail(start + error.valid_up_to(), Expected::Utf8));
            }
        }
        match self.bytes.get(end) {
            Some(b'"' | b'\\') => {
                self.at = end;
                Ok(&self.bytes[start..end])
            }
            Some(_) => Err(self.fail(end, Expected::NoControl)),
            None => Err(self.fail(end, Expected::Quote)),
        }
    }

    /// The character of an escape. The backslash is next.
    fn escape(&mut self) -> Scan<char> {
        let start = self.at;
        self.at += 2;
        Ok(match self.bytes.get(start + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_hex(start)?;
                if let Some(plain) = char::from_u32(first) {
                    return Ok(plain);
                }
                let after = self.at;
                if first < 0xdc00 && self.bytes[after..].starts_with(b"\\u") {
                    self.at += 2;
                    let second = self.four_hex(after)?;
                    if (0xdc00..0xe000).contains(&second) {
                        let pair = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    // The second escape is no other half: it is read again, as itself.
                    self.at = after;
                }
                char::REPLACEMENT_CHARACTER
            }
            _ => return Err(self.fail(start, Expected::Escape)),
        })
    }

    fn four_hex(&mut self, start: usize) -> Scan<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).and_then(super::binary::unhex::<2>);
        match digits {
            Some(bytes) => {
                self.at += 4;
                Ok(u32::from(u16::from_be_bytes(bytes)))
            }
            None => Err(self.fail(start, Expected::Escape)),
        }
    }

    /// An attribute in the form that nearly all have: key, then a text or an integer, without white space or escapes. The
    /// cursor moves only where it is one. The key is not empty.
    #[inline(always)]
    pub(super) fn plain_attribute(&mut self) -> Option<(&'a [u8], Plain<'a>)> {
        const KEY: &[u8] = b"{\"key\":\"";
        const VALUE: &[u8] = b"\",\"value\":{\"";
        const TEXT: &[u8] = b"stringValue\":\"";
        const INT: &[u8] = b"intValue\":";
        let (bytes, start) = (self.bytes, self.at);
        if !bytes.get(start..)?.starts_with(KEY) {
            return None;
        }
        let key_start = start + KEY.len();
        let key_end = plain_end::<true>(bytes, key_start);
        if key_end == key_start || !bytes.get(key_end..)?.starts_with(VALUE) {
            return None;
        }
        let key = &bytes[key_start..key_end];
        let kind = key_end + VALUE.len();
        if bytes[kind..].starts_with(TEXT) {
            let text_start = kind + TEXT.len();
            let text_end = plain_end::<true>(bytes, text_start);
            if !bytes.get(text_end..)?.starts_with(b"\"}}") {
                return None;
            }
            self.at = text_end + 3;
            return Some((key, Plain::Text(&bytes[text_start..text_end])));
        }
        if bytes[kind..].starts_with(INT) {
            self.at = kind + INT.len();
            let integer = self.integer().ok().and_then(|(_, integer)| integer?.signed());
            if let Some(value) = integer
                && bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"}}"))
            {
                self.at += 2;
                return Some((key, Plain::Int(value)));
            }
            self.at = start;
        }
        None
    }

    /// The bytes that a number is made of, which need not be one.
    #[inline]
    fn number_text(&mut self) -> &'a [u8] {
        let start = self.at;
        while let b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E' = self.peek() {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    /// An integer, as number or in a string, or nothing where it is none. The offset is that of its first byte.
    #[inline(always)]
    pub(super) fn integer(&mut self) -> Scan<(usize, Option<Integer>)> {
        self.space();
        let start = self.at;
        let quoted = self.peek() == b'"';
        let mut at = start + usize::from(quoted);
        let negative = self.bytes.get(at) == Some(&b'-');
        at += usize::from(negative);
        if let Some(rest) = self.bytes.get(at..) {
            let (magnitude, len) = number::digits(rest);
            let simple = match rest.get(len) {
                Some(b'"') => quoted,
                Some(b'.' | b'e' | b'E') => false,
                _ => !quoted,
            };
            if simple && (1..=19).contains(&len) && (rest[0] != b'0' || len == 1) {
                self.at = at + len + usize::from(quoted);
                return Ok((start, Some(Integer { negative, magnitude })));
            }
        }
        self.integer_slow(start)
    }

    #[inline(never)]
    fn integer_slow(&mut self, start: usize) -> Scan<(usize, Option<Integer>)> {
        let text = match self.peek() {
            b'"' => self.string(Expected::Text)?,
            _ => Cow::Borrowed(self.number_text()),
        };
        Ok((start, number::integer(&text)))
    }

    /// A double, as number or in a string.
    #[inline(always)]
    pub(super) fn double(&mut self) -> Scan<f64> {
        self.space();
        if let Some((value, len)) = self.bytes.get(self.at..).and_then(number::short_double) {
            self.at += len;
            return Ok(value);
        }
        self.double_slow()
    }

    #[inline(never)]
    fn double_slow(&mut self) -> Scan<f64> {
        let start = self.at;
        let value = match self.peek() {
            b'"' => number::double_in_string(&self.string(Expected::Double)?),
            _ => number::double(self.number_text()),
        };
        value.ok_or_else(|| self.fail(start, Expected::Double))
    }

    /// Moves past a value of any kind, which has to be JSON all the same. `depth` is how many more lists and objects may
    /// open.
    pub(super) fn skip(&mut self, depth: u32) -> Scan<()> {
        self.space();
        match self.peek() {
            b'"' => {
                self.at += 1;
                loop {
                    self.segment()?;
                    if self.peek() == b'"' {
                        self.at += 1;
                        return Ok(());
                    }
                    self.escape()?;
                }
            }
            open @ (b'{' | b'[') => {
                let below = depth.checked_sub(1).ok_or_else(|| self.fail_here(Expected::Depth))?;
                let close = open + 2;
                self.at += 1;
                if self.closes(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.space();
                        if self.peek() != b'"' {
                            return Err(self.fail_here(Expected::Key));
                        }
                        self.skip(0)?;
                        self.expect(b':', Expected::Colon)?;
                    }
                    self.skip(below)?;
                    if !self.more(close)? {
                        return Ok(());
                    }
                }
            }
            b't' | b'f' => self.boolean().map(drop),
            b'n' => self.null().map(drop),
            b'-' | b'0'..=b'9' => {
                let start = self.at;
                let text = self.number_text();
                if number::is_number(text) { Ok(()) } else { Err(self.fail(start, Expected::Value)) }
            }
            _ => Err(self.fail_here(Expected::Value)),
        }
    }
}
