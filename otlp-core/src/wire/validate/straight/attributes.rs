//! Attributes and values: most of every item.
//!
//! Attributes of a text are recognised as a whole, and the text of as many as follow each other is tested for ASCII at
//! once, tags and lengths included, which are below 0x80 as well.

use crate::wire::reader::{Fault, Read, delimited, varint};
use crate::wire::utf8::{is_ascii, is_utf8};

use super::{Found, ONEOF, Once, down, known_to, other, take, text};

/// A run of attributes, of which the first tag has been read: most of every item.
///
/// Their text is looked at in one go for as many as follow each other: what is not text in most of them, tags and lengths,
/// is below 0x80 as well, and one long test costs less than one for each, of which each has another length.
#[inline(always)]
pub(super) fn attributes(found: &mut Found, bytes: &[u8], at: &mut usize, tag: u8, depth: u32) -> Read<()> {
    let below = down(depth)?;
    // Nobody has looked at the text behind `unread`, where the tag of an attribute ends.
    let (mut position, mut unread) = (*at, *at - 1);
    loop {
        // With less than two levels left prost would refuse what is inside; the general form knows.
        match text_pair(bytes, position) {
            Some(end) if below >= 2 => position = end,
            _ => {
                let start = position;
                let pair = delimited(bytes, &mut position)?;
                if !other_pair(found, &bytes[unread..start], pair, below)? {
                    unread = position;
                }
            }
        }
        if bytes.get(position) != Some(&tag) {
            *at = position;
            return texts(&bytes[unread..position]);
        }
        position += 1;
    }
}

/// The end of the attribute whose length is at `at`, where that is what most are: a key and a text, shorter than 128 bytes
/// with all that is around them.
#[inline(always)]
fn text_pair(bytes: &[u8], at: usize) -> Option<usize> {
    let &[length, first_tag, first_len, third, fourth] = bytes.get(at..)?.first_chunk()?;
    let second = at + 3 + first_len as usize;
    let next = *bytes.get(second..)?.first_chunk::<4>()?;
    let end = at + 1 + length as usize;
    // That the second of the two fills the rest bounds all lengths: none is above 127 where the whole is not.
    let left = end.wrapping_sub(second + 2) as u32;
    if length >= 0x80 || end > bytes.len() {
        return None;
    }
    // Two branches, not one that selects: what is selected is waited for.
    let fits = if first_tag == 0x0a {
        is_text_head(next, left)
    } else {
        is_text_head([first_tag, first_len, third, fourth], u32::from(first_len))
            && left < 0x80
            && next[0] == 0x0a
            && u32::from(next[1]) == left
    };
    fits.then_some(end)
}

/// Whether these are the four bytes before a text that is the value of an attribute and takes `length` bytes with its tag and
/// its own length.
#[inline(always)]
fn is_text_head(bytes: [u8; 4], length: u32) -> bool {
    let text = length.wrapping_sub(2);
    let head = u32::from_le_bytes([0x12, 2, 0x0a, 0]);
    text < 0x7e && u32::from_le_bytes(bytes) == text.wrapping_mul(1 << 8 | 1 << 24).wrapping_add(head)
}

/// An attribute that is not what most are, behind a run of others that nobody has looked at. Says whether it continues it.
#[inline(always)]
fn other_pair(found: &mut Found, run: &[u8], pair: &[u8], below: u32) -> Read<bool> {
    let number = match shape(pair) {
        Shape::Text if below >= 2 => return Ok(true),
        Shape::Number { key } if below >= 2 => Some(key),
        _ => None,
    };
    texts(run)?;
    match number {
        Some(key) if is_utf8(key) => {}
        Some(_) => return Err(Fault::Utf8),
        None => key_value_general(found, pair, below)?,
    }
    Ok(false)
}

/// What an attribute is made of.
enum Shape<'a> {
    /// A key and a text, or a number that is one byte: all bytes that are not text are below 0x80.
    Text,
    /// A key and a number.
    Number { key: &'a [u8] },
    /// Anything else.
    Other,
}

/// Nearly all attributes are a key and a value `0a text | 18 int | 10 bool | 21 double` with lengths below 128: the key
/// first where an SDK wrote it, the value first where the Collector did.
#[inline(always)]
fn shape(pair: &[u8]) -> Shape<'_> {
    let Some((&[first_tag, first_len], rest)) = pair.split_first_chunk() else { return Shape::Other };
    let Some((first, second)) = rest.split_at_checked(first_len as usize) else { return Shape::Other };
    let Some((&[second_tag, second_len], second)) = second.split_first_chunk() else { return Shape::Other };
    // Where the whole is shorter than 128 bytes, so is everything in it.
    if pair.len() >= 0x80 || second_len as usize != second.len() {
        return Shape::Other;
    }
    match (first_tag, second_tag) {
        (0x0a, 0x12) => shape_of(first, second),
        (0x12, 0x0a) => shape_of(second, first),
        _ => Shape::Other,
    }
}

#[inline(always)]
fn shape_of<'a>(key: &'a [u8], value: &[u8]) -> Shape<'a> {
    match *value {
        [0x0a, length, ref text @ ..] if length as usize == text.len() => Shape::Text,
        [0x18 | 0x10, 0..0x80] => Shape::Text,
        [0x18 | 0x10, ..] if is_varint(&value[1..]) => Shape::Number { key },
        [0x21, ref number @ ..] if number.len() == 8 => Shape::Number { key },
        _ => Shape::Other,
    }
}

/// Whether the bytes are one varint.
#[inline(always)]
fn is_varint(bytes: &[u8]) -> bool {
    let mut at = 0;
    varint(bytes, &mut at).is_ok() && at == bytes.len()
}

/// The text in a run of attributes of which [`shape`] says that they are text.
#[inline(always)]
fn texts(run: &[u8]) -> Read<()> {
    if is_ascii(run) { Ok(()) } else { texts_slow(run) }
}

#[inline(never)]
fn texts_slow(run: &[u8]) -> Read<()> {
    // Each begins with its tag, of which the run has the last byte; that of one more may follow.
    let mut at = 1;
    while at < run.len() {
        let pair = delimited(run, &mut at)?;
        let second = 2 + pair[1] as usize;
        for part in [&pair[..second], &pair[second..]] {
            // The key; or the value, whose text comes after its tag and length.
            let valid = match *part {
                [0x12, _, 0x0a, _, ref text @ ..] | [0x0a, _, ref text @ ..] => is_utf8(text),
                _ => true,
            };
            if !valid {
                return Err(Fault::Utf8);
            }
        }
        at += 1;
    }
    Ok(())
}

#[inline(never)]
fn key_value_general(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => {
                once.see(1);
                text(bytes, &mut at)?;
            }
            0x12 => {
                once.see(2);
                any_value(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x18 => {
                once.see(3);
                found.string_indexes += 1;
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(3), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

pub(super) fn any_value(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => {
                once.see(ONEOF);
                text(bytes, &mut at)?;
            }
            0x10 | 0x18 => {
                once.see(ONEOF);
                varint(bytes, &mut at)?;
            }
            0x21 => {
                once.see(ONEOF);
                take(bytes, &mut at, 8)?;
            }
            0x2a => {
                once.see(ONEOF);
                array_value(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x32 => {
                once.see(ONEOF);
                key_value_list(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x3a => {
                once.see(ONEOF);
                delimited(bytes, &mut at)?;
            }
            0x40 => {
                once.see(ONEOF);
                found.string_indexes += 1;
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(8), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn array_value(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let mut at = 0;
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => any_value(found, delimited(bytes, &mut at)?, down(depth)?)?,
            tag => at = other(bytes, at, tag, known_to(1), depth)?,
        }
    }
    Ok(())
}

#[inline(never)]
fn key_value_list(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let mut at = 0;
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => attributes(found, bytes, &mut at, 0x0a, depth)?,
            tag => at = other(bytes, at, tag, known_to(1), depth)?,
        }
    }
    Ok(())
}
