//! One list of attributes, as an editor sees and changes it.
//!
//! Invariants:
//!
//! - `entries` are the attributes in the order of the bytes, then those that were appended, in order.
//! - An entry's pieces point into the message or into `scratch`; `scratch` only grows until the list is reset.
//! - What is not edited is never rewritten: only an entry with a mark, or an appended one, differs from the message.

use smallvec::SmallVec;

use super::value::{Value, put_string};
use crate::wire::reader::{self, FIXED64, LEN};
use crate::wire::view::AnyValue;
use crate::wire::writer::{delimited_len, put_delimited, put_tag, put_varint};

/// The attributes of one item, scope or resource: read by key, and edited.
///
/// Reading sees the effect of the edits made before. Nothing is parsed until the first call, and then keys and values are
/// only located.
///
/// # Duplicate keys
///
/// A list may hold a key twice (OTLP allows it on the wire and asks for it not to happen). As in the Collector's `pdata`,
/// a key means its first occurrence: that one is read, updated and removed, and a second one then comes to light.
///
/// # What an edit keeps
///
/// Order, and everything that is not named: other attributes byte for byte, and unknown fields of the attribute that is
/// edited. New attributes come after the last one.
#[derive(Debug)]
pub struct AttributeList<'m> {
    message: &'m [u8],
    field: u32,
    scanned: bool,
    edited: bool,
    /// How many of `entries` are in the message.
    present: usize,
    entries: Vec<Entry>,
    scratch: Vec<u8>,
}

/// An attribute's place in its list. Good for this list until the walk moves on to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The whole field in the message, tag included. Means nothing for an appended entry.
    start: u32,
    end: u32,
    key: Piece,
    /// `None` where the attribute has no value field.
    value: Option<Piece>,
    mark: Mark,
    /// The message holds nothing but one key and one value, in that order.
    plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    Kept,
    Rewritten,
    Removed,
}

/// Bytes in the message or in the scratch.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u32,
    len: u32,
    scratch: bool,
}

impl Piece {
    #[inline]
    fn of<'a>(self, message: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        let source = if self.scratch { scratch } else { message };
        &source[self.at as usize..(self.at + self.len) as usize]
    }
}

impl<'m> AttributeList<'m> {
    pub(super) fn new() -> AttributeList<'m> {
        AttributeList {
            message: &[],
            field: 0,
            scanned: true,
            edited: false,
            present: 0,
            entries: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Makes it the list in field `field` of `message`.
    #[inline]
    pub(super) fn reset(&mut self, message: &'m [u8], field: u32) {
        (self.message, self.field, self.scanned, self.edited) = (message, field, false, false);
        self.present = 0;
        self.entries.clear();
        self.scratch.clear();
    }

    #[inline]
    pub(super) fn is_edited(&self) -> bool {
        self.edited
    }

    /// The first attribute of that name.
    #[inline]
    pub fn find(&mut self, key: &str) -> Option<Slot> {
        self.scan();
        let (message, scratch) = (self.message, &self.scratch[..]);
        let same = |entry: &Entry| {
            // The length rules out nearly every other key without touching its bytes.
            entry.key.len as usize == key.len()
                && entry.mark != Mark::Removed
                && entry.key.of(message, scratch) == key.as_bytes()
        };
        self.entries.iter().position(same).map(Slot)
    }

    /// The value of the first attribute of that name.
    pub fn get(&mut self, key: &str) -> Option<AnyValue<'_>> {
        self.find(key).map(|slot| self.value(slot))
    }

    /// Every attribute of which `matches` says that its name does, in order.
    pub fn find_all(&mut self, mut matches: impl FnMut(&str) -> bool) -> SmallVec<[Slot; 8]> {
        self.scan();
        let live = (0..self.entries.len()).filter(|&index| self.entries[index].mark != Mark::Removed);
        live.map(Slot).filter(|&slot| matches(self.key(slot))).collect()
    }

    /// Whether there is no attribute.
    pub fn is_empty(&mut self) -> bool {
        self.scan();
        self.entries.iter().all(|entry| entry.mark == Mark::Removed)
    }

    /// The name of an attribute.
    pub fn key(&self, slot: Slot) -> &str {
        let bytes = self.entries[slot.0].key.of(self.message, &self.scratch);
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The value of an attribute; [`AnyValue::Empty`] where it has none.
    pub fn value(&self, slot: Slot) -> AnyValue<'_> {
        let value = self.entries[slot.0].value;
        value.map_or(AnyValue::Empty, |value| AnyValue::new(value.of(self.message, &self.scratch)))
    }

    /// Gives an attribute another value. Nothing happens where it has the very same one.
    pub fn set(&mut self, slot: Slot, value: &Value) {
        self.replace(slot, |scratch| scratch.extend_from_slice(value.as_bytes()));
    }

    /// Gives an attribute a string.
    pub fn set_string(&mut self, slot: Slot, value: &str) {
        self.replace(slot, |scratch| put_string(scratch, value));
    }

    /// Gives an attribute the value of another one.
    pub fn set_from(&mut self, slot: Slot, source: Slot) {
        // A source without a value field is a value without kind, which is what the empty encoding says.
        let value = self.entries[source.0].value.unwrap_or(Piece { at: 0, len: 0, scratch: true });
        self.put(slot, value);
    }

    /// Takes an attribute out.
    pub fn remove(&mut self, slot: Slot) {
        self.entries[slot.0].mark = Mark::Removed;
        self.edited = true;
    }

    /// Gives an attribute another name. No other is touched, even where it has that name already.
    pub fn rename(&mut self, slot: Slot, key: &str) {
        if self.key(slot) != key {
            let key = self.keep(|scratch| scratch.extend_from_slice(key.as_bytes()));
            let entry = &mut self.entries[slot.0];
            (entry.key, entry.mark) = (key, Mark::Rewritten);
            self.edited = true;
        }
    }

    /// Adds an attribute after the last one, without looking whether there is one of that name.
    pub fn append(&mut self, key: &str, value: &Value) -> Slot {
        let value = self.keep(|scratch| scratch.extend_from_slice(value.as_bytes()));
        self.push(key, value)
    }

    /// Adds an attribute with a string.
    pub fn append_string(&mut self, key: &str, value: &str) -> Slot {
        let value = self.keep(|scratch| put_string(scratch, value));
        self.push(key, value)
    }

    /// Adds an attribute with the value of another one.
    pub fn append_from(&mut self, key: &str, source: Slot) -> Slot {
        let value = self.entries[source.0].value.unwrap_or(Piece { at: 0, len: 0, scratch: true });
        self.push(key, value)
    }

    /// Adds an attribute unless there is one of that name. Says whether it did.
    pub fn insert(&mut self, key: &str, value: &Value) -> bool {
        let absent = self.find(key).is_none();
        if absent {
            self.append(key, value);
        }
        absent
    }

    /// Gives the attribute of that name another value, where there is one. Says whether there was.
    pub fn update(&mut self, key: &str, value: &Value) -> bool {
        let found = self.find(key);
        if let Some(slot) = found {
            self.set(slot, value);
        }
        found.is_some()
    }

    /// Updates the attribute of that name, or adds it.
    pub fn upsert(&mut self, key: &str, value: &Value) {
        if !self.update(key, value) {
            self.append(key, value);
        }
    }

    /// Takes out the first attribute of that name. Says whether there was one.
    pub fn delete(&mut self, key: &str) -> bool {
        let found = self.find(key);
        if let Some(slot) = found {
            self.remove(slot);
        }
        found.is_some()
    }

    fn scan(&mut self) {
        if !self.scanned {
            self.scanned = true;
            self.locate();
            self.present = self.entries.len();
        }
    }

    fn locate(&mut self) {
        let message = self.message;
        // Lists of attributes have field numbers below 16, so their tag is one byte unless it is written oddly.
        let usual_tag = (self.field << 3) as u8 | LEN;
        let mut position = 0;
        while position < message.len() {
            let start = position;
            let wanted = if message[position] == usual_tag {
                position += 1;
                true
            } else if let Some(end) = skip_usual(message, position) {
                position = end;
                false
            } else {
                let Ok((number, wire_type)) = reader::tag(message, &mut position) else { return };
                if number == self.field && wire_type == LEN {
                    true
                } else if reader::skip(message, &mut position, number, wire_type, reader::DEPTH_MAX).is_ok() {
                    false
                } else {
                    return;
                }
            };
            if wanted {
                let Ok(pair) = reader::delimited(message, &mut position) else { return };
                let entry = locate_pair(pair, position - pair.len());
                self.entries.push(Entry { start: start as u32, end: position as u32, ..entry });
            }
        }
    }

    /// Appends to the scratch and says where.
    #[inline]
    fn keep(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Piece {
        let at = self.scratch.len();
        write(&mut self.scratch);
        Piece { at: at as u32, len: (self.scratch.len() - at) as u32, scratch: true }
    }

    fn replace(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) {
        let value = self.keep(write);
        let old = self.entries[slot.0].value.map(|old| old.of(self.message, &self.scratch));
        if old != Some(value.of(self.message, &self.scratch)) {
            self.put(slot, value);
        }
    }

    fn put(&mut self, slot: Slot, value: Piece) {
        let entry = &mut self.entries[slot.0];
        (entry.value, entry.mark) = (Some(value), Mark::Rewritten);
        self.edited = true;
    }

    fn push(&mut self, key: &str, value: Piece) -> Slot {
        self.scan();
        let key = self.keep(|scratch| scratch.extend_from_slice(key.as_bytes()));
        self.entries.push(Entry { start: 0, end: 0, key, value: Some(value), mark: Mark::Rewritten, plain: true });
        self.edited = true;
        Slot(self.entries.len() - 1)
    }

    /// Bytes of the message as it is to be written.
    pub(super) fn encoded_len(&self) -> usize {
        let mut len = self.message.len();
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.mark != Mark::Kept && index < self.present {
                len -= (entry.end - entry.start) as usize;
            }
            if entry.mark == Mark::Rewritten {
                len += delimited_len(self.field, self.pair_len(entry));
            }
        }
        len
    }

    /// Writes the message: untouched runs as they are, edited attributes in their places, new ones after the last.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut copied = 0;
        let (present, appended) = self.entries.split_at(self.present);
        for entry in present {
            match entry.mark {
                Mark::Kept => {}
                Mark::Removed => {
                    out.extend_from_slice(&self.message[copied..entry.start as usize]);
                    copied = entry.end as usize;
                }
                Mark::Rewritten => {
                    out.extend_from_slice(&self.message[copied..entry.start as usize]);
                    self.write_pair(entry, out);
                    copied = entry.end as usize;
                }
            }
        }
        if let Some(last) = present.last()
            && !appended.is_empty()
        {
            out.extend_from_slice(&self.message[copied..last.end as usize]);
            copied = last.end as usize;
        } else if !appended.is_empty() {
            out.extend_from_slice(&self.message[copied..]);
            copied = self.message.len();
        }
        for entry in appended {
            if entry.mark != Mark::Removed {
                self.write_pair(entry, out);
            }
        }
        out.extend_from_slice(&self.message[copied..]);
    }

    fn pair_len(&self, entry: &Entry) -> usize {
        let value = entry.value.map_or(0, |value| delimited_len(2, value.len as usize));
        let others = if entry.plain { 0 } else { self.other_fields(entry).map(<[u8]>::len).sum() };
        delimited_len(1, entry.key.len as usize) + value + others
    }

    fn write_pair(&self, entry: &Entry, out: &mut Vec<u8>) {
        put_tag(out, self.field, LEN);
        put_varint(out, self.pair_len(entry) as u64);
        put_delimited(out, 1, entry.key.of(self.message, &self.scratch));
        if let Some(value) = entry.value {
            put_delimited(out, 2, value.of(self.message, &self.scratch));
        }
        if !entry.plain {
            self.other_fields(entry).for_each(|field| out.extend_from_slice(field));
        }
    }

    /// The fields of an attribute that are neither key nor value, whole: they survive an edit.
    fn other_fields(&self, entry: &Entry) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        let pair = self.pair(entry);
        let fields = reader::fields(pair).map_while(Result::ok);
        fields.filter(|field| field.number > 2).map(move |field| &pair[field.start..field.end])
    }

    /// The bytes of an attribute's message, as they are.
    fn pair(&self, entry: &Entry) -> &'m [u8] {
        let field = &self.message[entry.start as usize..entry.end as usize];
        let mut position = 0;
        match reader::tag(field, &mut position).and_then(|_| reader::delimited(field, &mut position)) {
            Ok(pair) => pair,
            Err(_) => &[],
        }
    }
}

/// The end of the field at `position`, where it is one of the forms that most are: a tag of one byte, then eight bytes or a
/// length below 128 and as many bytes. `None` leaves it to the reader.
#[inline(always)]
fn skip_usual(message: &[u8], position: usize) -> Option<usize> {
    let (tag, next) = (message[position], *message.get(position + 1)?);
    let end = match tag & 7 {
        LEN if next < 0x80 => position + 2 + usize::from(next),
        FIXED64 => position + 9,
        _ => return None,
    };
    // Below 8 the field number is 0, which is none.
    ((8..0x80).contains(&tag) && end <= message.len()).then_some(end)
}

/// Finds key and value of an attribute whose message begins at `base`.
#[inline(always)]
fn locate_pair(pair: &[u8], base: usize) -> Entry {
    // What every encoder writes: the key, then the value, and nothing else.
    if let [0x0a, key_len, rest @ ..] = pair {
        let key_len = usize::from(*key_len);
        if key_len < 0x80 && rest.get(key_len) == Some(&0x12) {
            let mut position = 3 + key_len;
            // A value shorter than 128 bytes first: its length is one byte, to be compared and nothing else.
            let short =
                rest.get(key_len + 1).is_some_and(|&len| len < 0x80 && usize::from(len) + key_len + 4 == pair.len());
            let value_len = match short {
                true => Some(pair.len() - key_len - 4),
                false => {
                    reader::delimited(pair, &mut position).ok().map(<[u8]>::len).filter(|_| position == pair.len())
                }
            };
            if let Some(value_len) = value_len {
                let value_at = base + pair.len() - value_len;
                return Entry {
                    start: 0,
                    end: 0,
                    key: Piece { at: base as u32 + 2, len: key_len as u32, scratch: false },
                    value: Some(Piece { at: value_at as u32, len: value_len as u32, scratch: false }),
                    mark: Mark::Kept,
                    plain: true,
                };
            }
        }
    }
    locate_odd_pair(pair, base)
}

#[cold]
fn locate_odd_pair(pair: &[u8], base: usize) -> Entry {
    let mut entry = Entry {
        start: 0,
        end: 0,
        key: Piece { at: 0, len: 0, scratch: true },
        value: None,
        mark: Mark::Kept,
        plain: false,
    };
    for field in reader::fields(pair) {
        let Ok(field) = field else { break };
        let reader::Value::Len(bytes) = field.value else { continue };
        let piece = Piece { at: (base + field.end - bytes.len()) as u32, len: bytes.len() as u32, scratch: false };
        match field.number {
            1 => entry.key = piece,
            2 => entry.value = Some(piece),
            _ => {}
        }
    }
    entry
}
