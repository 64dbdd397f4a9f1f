//! One list of attributes, as an editor sees and changes it.
//!
//! # How it is fast
//!
//! A lookup walks the message once, from where the last one stopped, and notes each attribute in twelve bytes; it ends at
//! the attribute it was asked for, and every later lookup compares key lengths in those notes first. Nothing else is
//! parsed. An edit is encoded whole, tag and length included, when it is made: writing the message is then one copy for
//! each edit and one for each run between.
//!
//! # Invariants
//!
//! - `places` are the attributes before `position` in the order of the bytes. `complete` says that there are no more.
//! - `edits` are in the order of their slots: those of the message first, then the appended ones. An appended one exists
//!   only where the walk is complete, since its slot counts from there.
//! - `scratch` only grows until the list is reset.
//! - What is not in `edits` is written as it was.

use smallvec::SmallVec;

use super::value::Value;
use crate::wire::reader::{self, FIXED64, LEN, VARINT};
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
    /// How far the message has been walked.
    position: usize,
    complete: bool,
    /// An attribute has another name than the message says.
    renamed: bool,
    places: Vec<Place>,
    edits: Vec<Edit>,
    scratch: Vec<u8>,
}

/// An attribute's place in its list. Good for this list until the walk moves on to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// Where an attribute is in the message.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The whole field, tag included.
    start: u32,
    end: u32,
    /// Bytes from `start` to the key. 0 where the attribute is anything else than one key shorter than 128 bytes and one
    /// value, in either order: then it is read field by field.
    key_at: u16,
    key_len: u8,
}

/// What becomes of an attribute.
#[derive(Clone, Copy, Debug)]
struct Edit {
    slot: usize,
    /// What is replaced in the message; empty for an appended attribute.
    start: u32,
    end: u32,
    /// The field in the scratch, whole; of no length where only the removal was asked for.
    at: u32,
    len: u32,
    removed: bool,
}

impl Edit {
    #[inline]
    fn field<'a>(&self, scratch: &'a [u8]) -> &'a [u8] {
        &scratch[self.at as usize..(self.at + self.len) as usize]
    }
}

/// Key and value of an attribute, and the message they are in where that holds more than the two.
#[derive(Clone, Copy)]
struct Pair<'a> {
    key: &'a [u8],
    /// `None` where the attribute has no value field.
    value: Option<&'a [u8]>,
    odd: Option<&'a [u8]>,
}

/// A value about to be written.
#[derive(Clone, Copy)]
enum NewValue<'a> {
    /// The bytes of an AnyValue message.
    Encoded(&'a [u8]),
    /// The text of a `string_value`.
    Text(&'a [u8]),
}

impl NewValue<'_> {
    #[inline]
    fn len(self) -> usize {
        match self {
            NewValue::Encoded(bytes) => bytes.len(),
            NewValue::Text(text) => delimited_len(1, text.len()),
        }
    }

    /// Whether these are the very bytes it would be encoded to.
    #[inline]
    fn is(self, encoded: &[u8]) -> bool {
        match self {
            NewValue::Encoded(bytes) => encoded == bytes,
            NewValue::Text(text) => {
                let mut position = 1;
                encoded.len() == self.len()
                    && encoded[0] == (1 << 3 | LEN)
                    && reader::delimited(encoded, &mut position) == Ok(text)
                    && position == encoded.len()
            }
        }
    }
}

impl<'m> AttributeList<'m> {
    pub(super) fn new() -> AttributeList<'m> {
        AttributeList {
            message: &[],
            field: 0,
            position: 0,
            complete: true,
            renamed: false,
            places: Vec::new(),
            edits: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Makes it the list in field `field` of `message`.
    #[inline]
    pub(super) fn reset(&mut self, message: &'m [u8], field: u32) {
        (self.message, self.field, self.position) = (message, field, 0);
        (self.complete, self.renamed) = (false, false);
        self.places.clear();
        self.edits.clear();
        self.scratch.clear();
    }

    #[inline]
    pub(super) fn is_edited(&self) -> bool {
        !self.edits.is_empty()
    }

    /// The first attribute of that name.
    #[inline]
    pub fn find(&mut self, key: &str) -> Option<Slot> {
        if self.renamed {
            return self.slots().find(|&slot| self.is_live(slot) && self.pair(slot).key == key.as_bytes());
        }
        for (index, place) in self.places.iter().enumerate() {
            // The length rules out nearly every other key without touching its bytes.
            if (usize::from(place.key_len) == key.len() || place.key_at == 0)
                && is_named(place.field(self.message), place.key_at, place.key_len, key.as_bytes())
                && self.is_live(Slot(index))
            {
                return Some(Slot(index));
            }
        }
        while let Some(slot) = self.walk(Some(key.as_bytes())) {
            if self.is_live(slot) {
                return Some(slot);
            }
        }
        let appended = self.edits.iter().skip_while(|edit| edit.slot < self.places.len());
        let same = |edit: &&Edit| !edit.removed && Pair::of(edit.field(&self.scratch)).key == key.as_bytes();
        { appended }.find(same).map(|edit| Slot(edit.slot))
    }

    /// The value of the first attribute of that name.
    pub fn get(&mut self, key: &str) -> Option<AnyValue<'_>> {
        self.find(key).map(|slot| self.value(slot))
    }

    /// Every attribute of which `matches` says that its name does, in order.
    pub fn find_all(&mut self, mut matches: impl FnMut(&str) -> bool) -> SmallVec<[Slot; 8]> {
        let slots = self.slots();
        slots.filter(|&slot| self.is_live(slot) && matches(self.key(slot))).collect()
    }

    /// Whether there is no attribute.
    pub fn is_empty(&mut self) -> bool {
        !self.slots().any(|slot| self.is_live(slot))
    }

    /// The name of an attribute.
    pub fn key(&self, slot: Slot) -> &str {
        std::str::from_utf8(self.pair(slot).key).unwrap_or_default()
    }

    /// The value of an attribute; [`AnyValue::Empty`] where it has none.
    pub fn value(&self, slot: Slot) -> AnyValue<'_> {
        self.pair(slot).value.map_or(AnyValue::Empty, AnyValue::new)
    }

    /// The bytes of an attribute's value, where that is a string in the form that every encoder writes; for those who do not
    /// need to know that they are UTF-8, which costs as much as finding them.
    pub fn string_bytes(&self, slot: Slot) -> Option<&[u8]> {
        match self.pair(slot).value? {
            [0x0a, len @ ..0x80, text @ ..] if text.len() == usize::from(*len) => Some(text),
            _ => None,
        }
    }

    /// Gives an attribute another value. Nothing happens where it has the very same one.
    pub fn set(&mut self, slot: Slot, value: &Value) {
        self.set_unless_same(slot, NewValue::Encoded(value.as_bytes()));
    }

    /// Gives an attribute a string.
    pub fn set_string(&mut self, slot: Slot, value: &str) {
        self.set_unless_same(slot, NewValue::Text(value.as_bytes()));
    }

    /// Gives an attribute a string of lower-case hexadecimal digits: two for each of the bytes.
    pub fn set_hex(&mut self, slot: Slot, bytes: &[u8; 32]) {
        // Arithmetic over all of them, not a table byte by byte: the compiler makes vectors of it.
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        let mut hex = [0; 64];
        for (byte, pair) in bytes.iter().zip(hex.as_chunks_mut::<2>().0) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        self.rewrite(slot, None, Some(NewValue::Text(&hex)));
    }

    /// Gives an attribute the value of another one.
    pub fn set_from(&mut self, slot: Slot, source: Slot) {
        let value = self.copied_value(source);
        self.rewrite(slot, None, Some(NewValue::Encoded(&value)));
    }

    /// Takes an attribute out.
    pub fn remove(&mut self, slot: Slot) {
        match self.edit_of(slot) {
            Ok(index) => self.edits[index].removed = true,
            Err(index) => {
                let Place { start, end, .. } = self.places[slot.0];
                self.edits.insert(index, Edit { slot: slot.0, start, end, at: 0, len: 0, removed: true });
            }
        }
    }

    /// Gives an attribute another name. No other is touched, even where it has that name already.
    pub fn rename(&mut self, slot: Slot, key: &str) {
        if self.key(slot) != key {
            self.rewrite(slot, Some(key), None);
            self.renamed = true;
        }
    }

    /// Adds an attribute after the last one, without looking whether there is one of that name.
    pub fn append(&mut self, key: &str, value: &Value) -> Slot {
        self.push(key, NewValue::Encoded(value.as_bytes()))
    }

    /// Adds an attribute with a string.
    pub fn append_string(&mut self, key: &str, value: &str) -> Slot {
        self.push(key, NewValue::Text(value.as_bytes()))
    }

    /// Adds an attribute with the value of another one.
    pub fn append_from(&mut self, key: &str, source: Slot) -> Slot {
        let value = self.copied_value(source);
        self.push(key, NewValue::Encoded(&value))
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

    /// Bytes of the message as it is to be written.
    pub(super) fn encoded_len(&self) -> usize {
        let kept = |edit: &Edit| if edit.removed { 0 } else { edit.len as usize };
        let len = |len, edit: &Edit| len + kept(edit) - (edit.end - edit.start) as usize;
        self.edits.iter().fold(self.message.len(), len)
    }

    /// The edits in the order of the bytes: what is replaced in the message, and where in the scratch that is by which.
    #[inline]
    pub(super) fn replacements(&self) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> {
        self.edits.iter().map(|edit| {
            let (at, len) = (edit.at as usize, if edit.removed { 0 } else { edit.len as usize });
            (edit.start as usize..edit.end as usize, at..at + len)
        })
    }

    /// What was encoded for the edits.
    #[inline]
    pub(super) fn scratch(&self) -> &[u8] {
        &self.scratch
    }

    /// All slots, those of removed attributes too.
    fn slots(&mut self) -> impl Iterator<Item = Slot> + use<> {
        self.walk(None);
        let present = self.places.len();
        (0..self.edits.last().map_or(present, |last| present.max(last.slot + 1))).map(Slot)
    }

    /// Where the edit of a slot is, or where it would be.
    #[inline]
    fn edit_of(&self, slot: Slot) -> Result<usize, usize> {
        match self.edits.last() {
            Some(last) if last.slot >= slot.0 => self.edits.binary_search_by_key(&slot.0, |edit| edit.slot),
            _ => Err(self.edits.len()),
        }
    }

    #[inline]
    fn is_live(&self, slot: Slot) -> bool {
        self.edit_of(slot).map_or(true, |index| !self.edits[index].removed)
    }

    /// The attribute as the edits left it.
    #[inline]
    fn pair(&self, slot: Slot) -> Pair<'_> {
        match self.edit_of(slot) {
            Ok(index) if self.edits[index].len > 0 => Pair::of(self.edits[index].field(&self.scratch)),
            _ => self.places[slot.0].pair(self.message),
        }
    }

    /// A source without a value field is a value without kind, which is what the empty encoding says.
    fn copied_value(&self, source: Slot) -> SmallVec<[u8; 64]> {
        self.pair(source).value.unwrap_or_default().into()
    }

    #[inline]
    fn set_unless_same(&mut self, slot: Slot, value: NewValue<'_>) {
        if !self.pair(slot).value.is_some_and(|old| value.is(old)) {
            self.rewrite(slot, None, Some(value));
        }
    }

    /// Encodes an attribute anew: with another name, another value, or both.
    fn rewrite(&mut self, slot: Slot, key: Option<&str>, value: Option<NewValue<'_>>) {
        let found = self.edit_of(slot);
        // What is rewritten a second time is read from the buffer that is written to.
        let held: SmallVec<[u8; 64]>;
        let (start, end, old) = match found {
            Ok(index) if self.edits[index].len > 0 => {
                let edit = self.edits[index];
                held = edit.field(&self.scratch).into();
                (edit.start, edit.end, Pair::of(&held))
            }
            _ => {
                let place = self.places[slot.0];
                (place.start, place.end, place.pair(self.message))
            }
        };
        let value = value.or(old.value.map(NewValue::Encoded));
        let at = self.scratch.len() as u32;
        encode(&mut self.scratch, self.field, key.map_or(old.key, str::as_bytes), value, old.odd);
        let edit = Edit { slot: slot.0, start, end, at, len: self.scratch.len() as u32 - at, removed: false };
        match found {
            Ok(index) => self.edits[index] = edit,
            Err(index) => self.edits.insert(index, edit),
        }
    }

    fn push(&mut self, key: &str, value: NewValue<'_>) -> Slot {
        if !self.complete {
            self.walk(None);
        }
        let present = self.places.len();
        let slot = self.edits.last().map_or(present, |last| present.max(last.slot + 1));
        let after = self.places.last().map_or(self.message.len() as u32, |last| last.end);
        let at = self.scratch.len() as u32;
        encode(&mut self.scratch, self.field, key.as_bytes(), Some(value), None);
        let len = self.scratch.len() as u32 - at;
        self.edits.push(Edit { slot, start: after, end: after, at, len, removed: false });
        Slot(slot)
    }

    /// Walks on to the next attribute of that name as the message has it, or to the end.
    #[inline(never)]
    fn walk(&mut self, wanted: Option<&[u8]>) -> Option<Slot> {
        if self.complete {
            return None;
        }
        let (message, field) = (self.message, self.field);
        let usual_tag = (field << 3) as u8 | LEN;
        let mut position = self.position;
        if position == 0 && field > 4 {
            position = usual_head(message);
        }
        // In a local, so that its length stays in a register; and the place goes there in pieces, because a struct put
        // together on the stack is read back before it is written: a third of the whole walk.
        let mut places = std::mem::take(&mut self.places);
        let mut found = None;
        'fields: while position < message.len() {
            let start = position;
            let rest = &message[start..];
            let (size, key_at, key_len) = 'noted: {
                if let Some(&[tag, len, third, fourth]) = rest.first_chunk() {
                    if tag == usual_tag {
                        if let Some(noted) = usual_attribute(rest, len, third, fourth) {
                            break 'noted noted;
                        }
                    } else if let Some(size) = usual_field(rest.len(), tag, len, third) {
                        position += size;
                        continue 'fields;
                    }
                }
                match any_field(rest, field) {
                    Ok(AnyField::Attribute { size, key_at, key_len }) => (size, key_at, key_len),
                    Ok(AnyField::Other { size }) => {
                        position += size;
                        continue 'fields;
                    }
                    Err(_) => break 'fields,
                }
            };
            position += size;
            places.push(Place { start: start as u32, end: position as u32, key_at, key_len });
            if let Some(wanted) = wanted
                && (key_at == 0 || usize::from(key_len) == wanted.len())
                && is_named(&message[start..position], key_at, key_len, wanted)
            {
                found = Some(Slot(places.len() - 1));
                break;
            }
        }
        self.places = places;
        self.position = position;
        self.complete = found.is_none();
        found
    }
}

impl Place {
    #[inline(always)]
    fn field(self, message: &[u8]) -> &[u8] {
        &message[self.start as usize..self.end as usize]
    }

    #[inline]
    fn pair(self, message: &[u8]) -> Pair<'_> {
        let field = self.field(message);
        if self.key_at == 0 {
            return Pair::odd(field);
        }
        let (from, to) = (usize::from(self.key_at), usize::from(self.key_at) + usize::from(self.key_len));
        // The value's tag is one byte; its length was read when the place was noted. Where it does not follow the key it
        // stands before it, first in the message.
        let mut position = 1;
        match to == field.len() {
            true => drop(reader::varint(field, &mut position)),
            false => position = to,
        }
        position += 1;
        Pair { key: &field[from..to], value: reader::delimited(field, &mut position).ok(), odd: None }
    }
}

/// Whether a whole field that was noted so has that name.
#[inline(always)]
fn is_named(field: &[u8], key_at: u16, key_len: u8, name: &[u8]) -> bool {
    if key_at == 0 {
        return Pair::odd(field).key == name;
    }
    let key_at = usize::from(key_at);
    field.get(key_at..key_at + usize::from(key_len)) == Some(name)
}

impl<'a> Pair<'a> {
    /// Reads the pair in a whole field.
    fn of(field: &'a [u8]) -> Pair<'a> {
        match note_field(field) {
            Some(place) => place.pair(field),
            None => Pair::odd(field),
        }
    }

    #[cold]
    fn odd(field: &'a [u8]) -> Pair<'a> {
        let mut position = 0;
        let message = reader::tag(field, &mut position).and_then(|_| reader::delimited(field, &mut position));
        let message = message.unwrap_or_default();
        let mut pair = Pair { key: &[], value: None, odd: Some(message) };
        for field in reader::fields(message) {
            let Ok(field) = field else { break };
            let reader::Value::Len(bytes) = field.value else { continue };
            match field.number {
                1 => pair.key = bytes,
                2 => pair.value = Some(bytes),
                _ => {}
            }
        }
        pair
    }
}

/// Appends an attribute, whole. The fields of `odd` that are neither key nor value survive.
fn encode(out: &mut Vec<u8>, field: u32, key: &[u8], value: Option<NewValue<'_>>, odd: Option<&[u8]>) {
    let value_len = value.map_or(0, NewValue::len);
    let len = 4 + key.len() + value_len;
    // Where all lengths are below 128, tags and lengths are bytes, and known ones.
    if let (true, Some(value), None) = (len < 0x80, value, odd) {
        out.reserve(2 + len);
        out.extend_from_slice(&[(field << 3) as u8 | LEN, len as u8, 0x0a, key.len() as u8]);
        out.extend_from_slice(key);
        let bytes = match value {
            NewValue::Encoded(bytes) => {
                out.extend_from_slice(&[0x12, value_len as u8]);
                bytes
            }
            NewValue::Text(text) => {
                out.extend_from_slice(&[0x12, value_len as u8, 0x0a, text.len() as u8]);
                text
            }
        };
        return out.extend_from_slice(bytes);
    }
    let others = || {
        let message = odd.unwrap_or_default();
        let fields = reader::fields(message).map_while(Result::ok).filter(|field| field.number > 2);
        fields.map(move |field| &message[field.start..field.end])
    };
    let others_len: usize = others().map(<[u8]>::len).sum();
    let value_field_len = value.map_or(0, |_| delimited_len(2, value_len));
    put_tag(out, field, LEN);
    put_varint(out, (delimited_len(1, key.len()) + value_field_len + others_len) as u64);
    put_delimited(out, 1, key);
    if let Some(value) = value {
        put_tag(out, 2, LEN);
        put_varint(out, value_len as u64);
        match value {
            NewValue::Encoded(bytes) => out.extend_from_slice(bytes),
            NewValue::Text(text) => put_delimited(out, 1, text),
        }
    }
    others().for_each(|field| out.extend_from_slice(field));
}

/// The end of what a span begins with, as far as it is as nearly every encoder writes it: ids, name, kind, times. Tests
/// that nearly always come out the same cost less than waiting for one length after another.
#[inline(always)]
fn usual_head(message: &[u8]) -> usize {
    let mut end =
        match message.first_chunk::<38>() {
            Some(ids) if [ids[0], ids[1], ids[18], ids[19]] == [0x0a, 16, 0x12, 8] => {
                if [ids[28], ids[29]] == [0x22, 8] { 38 } else { 28 }
            }
            _ => return 0,
        };
    if let Some([0x2a, len @ ..0x80, rest @ ..]) = message.get(end..)
        && let Some([0x30, ..0x80, 0x39, times @ ..]) = rest.get(usize::from(*len)..)
        && times.get(8) == Some(&0x41)
        && times.len() >= 17
    {
        end += 2 + usize::from(*len) + 20;
    }
    end
}

/// The size of the attribute that `rest` begins with, and where its key is, where it is as nearly all are: shorter than 128
/// bytes, of a key and a value or, from the Collector, a value and a key. Its first four bytes were read: tag, length, the
/// tag and length of the first of the two.
#[inline(always)]
fn usual_attribute(rest: &[u8], len: u8, first_tag: u8, first_len: u8) -> Option<(usize, u16, u8)> {
    let size = 2 + usize::from(len);
    let second_at = 4 + u16::from(first_len);
    let &[second_tag, second_len, ref second @ ..] = rest.get(usize::from(second_at)..size)? else { return None };
    // That the second fills the rest bounds all lengths: none is above 127 where the whole is not.
    if usize::from(second_len) != second.len() || len >= 0x80 {
        return None;
    }
    match (first_tag, second_tag) {
        (0x0a, 0x12) => Some((size, 4, first_len)),
        (0x12, 0x0a) => Some((size, second_at + 2, second_len)),
        _ => None,
    }
}

/// The size of another field, where its tag is one byte, and of the flags of a span. `None` leaves it to the reader.
#[inline(always)]
fn usual_field(rest_len: usize, tag: u8, len: u8, third: u8) -> Option<usize> {
    let size = match tag & 7 {
        LEN if len < 0x80 => 2 + usize::from(len),
        LEN if third < 0x80 => 3 + usize::from(len & 0x7f) + (usize::from(third) << 7),
        FIXED64 => 9,
        VARINT if len < 0x80 => 2,
        // Field 16, four bytes.
        _ if tag == 0x85 && len == 1 => return (rest_len >= 6).then_some(6),
        _ => return None,
    };
    // Below 8 the field number is 0, which is none.
    ((8..0x80).contains(&tag) && size <= rest_len).then_some(size)
}

/// A field of any form, and its size.
enum AnyField {
    /// As in [`Place`].
    Attribute {
        size: usize,
        key_at: u16,
        key_len: u8,
    },
    Other {
        size: usize,
    },
}

/// Reads any field.
#[inline(never)]
fn any_field(rest: &[u8], wanted: u32) -> reader::Read<AnyField> {
    let mut size = 0;
    let (number, wire_type) = reader::tag(rest, &mut size)?;
    reader::skip(rest, &mut size, number, wire_type, reader::DEPTH_MAX)?;
    if number != wanted || wire_type != LEN {
        return Ok(AnyField::Other { size });
    }
    let (key_at, key_len) = note_field(&rest[..size]).map_or((0, 0), |place| (place.key_at, place.key_len));
    Ok(AnyField::Attribute { size, key_at, key_len })
}

/// Notes a field that holds one key and one value and nothing else, of any length but for the key's, which also has to
/// begin where 16 bits can say.
#[inline]
fn note_field(field: &[u8]) -> Option<Place> {
    let mut position = 0;
    reader::tag(field, &mut position).ok()?;
    // A longer tag would be read over as one byte by who reads the pair.
    if position != 1 {
        return None;
    }
    let pair = reader::delimited(field, &mut position).ok()?;
    let before = field.len() - pair.len();
    let value_at = |at: usize| {
        let mut end = at + 1;
        (pair.get(at) == Some(&0x12)).then(|| reader::delimited(pair, &mut end).ok()).flatten()?;
        Some(end)
    };
    let (key_at, key_len) = if let [0x0a, key_len @ ..0x80, ..] = *pair {
        let key_end = 2 + usize::from(key_len);
        (value_at(key_end)? == pair.len()).then_some((before + 2, key_len))?
    } else {
        let [0x0a, key_len @ ..0x80, ref key @ ..] = *pair.get(value_at(0)?..)? else { return None };
        (usize::from(key_len) == key.len()).then_some((field.len() - key.len(), key_len))?
    };
    Some(Place { start: 0, end: field.len() as u32, key_at: u16::try_from(key_at).ok()?, key_len })
}
