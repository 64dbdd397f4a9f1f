//! The messages of OTLP as JSON has them: [`crate::wire::schema`] with JSON names and the exact kind of each number.
//!
//! Made at compile time. Reader and writer share it, so that what one writes the other reads.
//!
//! # Layout
//!
//! A key is compared as three words of eight bytes, its closing quote included, each under a mask: the longest name,
//! `aggregationTemporality`, has 22 bytes. Keys mostly come in the order of the schema, so a reader that begins to search behind
//! the field it found last finds the next one at once, without reading a key byte by byte.

use crate::wire::schema::{Kind, Label, Message};

/// What a field holds, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// A trace or span id of so many bytes.
    Id(u8),
    Base64,
    Bool,
    Enum,
    Int32,
    Sint32,
    Uint32,
    Int64,
    Uint64,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    Message(Message),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    words: [u64; 3],
    masks: [u64; 3],
    /// `,"name":`, padded to a size that is copied without a loop.
    key: [u8; KEY_MAX],
    key_len: u8,
    pub(super) number: u32,
    pub(super) form: Form,
    pub(super) repeated: bool,
    pub(super) oneof: bool,
    /// Whether a value is kept although it is the default: members of a oneof and `optional` fields.
    pub(super) explicit: bool,
}

pub(super) const KEY_MAX: usize = 32;
const NAME_MAX: usize = 22;
const FIELDS_MAX: usize = 16;

/// The fields of a message, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    entries: [Entry; FIELDS_MAX],
    count: usize,
    /// Index of an entry by field number; [`FIELDS_MAX`] where there is none.
    by_number: [u8; FIELDS_MAX + 1],
}

static TABLES: [Table; Message::ALL.len()] = {
    let mut tables = [table(Message::ALL[0]); Message::ALL.len()];
    let mut index = 0;
    while index < tables.len() {
        // Tables are found by discriminant.
        assert!(Message::ALL[index] as usize == index);
        tables[index] = table(Message::ALL[index]);
        index += 1;
    }
    tables
};

impl Table {
    #[inline(always)]
    pub(super) fn of(message: Message) -> &'static Table {
        &TABLES[message as usize]
    }

    #[inline(always)]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries[..self.count]
    }

    #[inline(always)]
    pub(super) fn by_number(&self, number: u32) -> Option<(usize, &Entry)> {
        let index = *self.by_number.get(number as usize)? as usize;
        Some((index, self.entries.get(index)?))
    }

    /// Finds the entry of which the name and the closing quote stand at the front of these bytes. `next` is where to
    /// begin.
    #[inline(always)]
    pub(super) fn find(&self, bytes: &[u8], next: usize) -> Option<usize> {
        let Some(chunk) = bytes.first_chunk::<24>() else { return self.find_at_end(bytes) };
        let words = split(chunk);
        let hit = |entry: &Entry| {
            (words[0] ^ entry.words[0]) & entry.masks[0] == 0
                && (words[1] ^ entry.words[1]) & entry.masks[1] | (words[2] ^ entry.words[2]) & entry.masks[2] == 0
        };
        let entries = self.entries();
        let (behind, rest) = entries.split_at(next.min(entries.len()));
        match rest.iter().position(hit) {
            Some(found) => Some(behind.len() + found),
            None => behind.iter().position(hit),
        }
    }

    /// The same within the last bytes of a document.
    #[cold]
    #[inline(never)]
    fn find_at_end(&self, bytes: &[u8]) -> Option<usize> {
        self.entries().iter().position(|entry| {
            bytes.strip_prefix(entry.name().as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'))
        })
    }

    /// Finds an entry by its name.
    pub(super) fn named(&self, name: &[u8]) -> Option<usize> {
        self.entries().iter().position(|entry| entry.name().as_bytes() == name)
    }
}

#[inline(always)]
fn split(chunk: &[u8; 24]) -> [u64; 3] {
    let (words, _) = chunk.as_chunks::<8>();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2])]
}

impl Entry {
    /// The name in JSON.
    pub(super) fn name(&self) -> &str {
        // Names are identifiers of the schema, which is ASCII.
        std::str::from_utf8(&self.key[2..self.key_len as usize - 2]).unwrap_or_default()
    }

    /// Appends `,"name":`.
    #[inline(always)]
    pub(super) fn put_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        out.truncate(out.len() - (KEY_MAX - self.key_len as usize));
    }
}

const fn table(message: Message) -> Table {
    let fields = message.fields();
    let blank = Entry {
        words: [u64::MAX; 3],
        masks: [u64::MAX; 3],
        key: [0; KEY_MAX],
        key_len: 4,
        number: 0,
        form: Form::Bool,
        repeated: false,
        oneof: false,
        explicit: false,
    };
    let mut table =
        Table { entries: [blank; FIELDS_MAX], count: fields.len(), by_number: [FIELDS_MAX as u8; FIELDS_MAX + 1] };
    let mut index = 0;
    while index < fields.len() {
        let field = &fields[index];
        let repeated = matches!(field.label, Label::Repeated);
        let oneof = matches!(field.label, Label::Oneof);
        let mut entry = Entry {
            number: field.number,
            form: form(field.name, field.kind),
            repeated,
            oneof,
            explicit: oneof || is_optional(message, field.name),
            ..blank
        };
        name(&mut entry, field.name.as_bytes());
        table.by_number[field.number as usize] = index as u8;
        table.entries[index] = entry;
        index += 1;
    }
    table
}

/// `optional` in the schema: written and kept although zero (OTLP metrics.proto, `HistogramDataPoint.sum`, `min`, `max`).
const fn is_optional(message: Message, name: &str) -> bool {
    matches!(message, Message::HistogramDataPoint | Message::ExponentialHistogramDataPoint)
        && is_one_of(name, &["sum", "min", "max"])
}

/// What the schema's name and wire kind of a field amount to. Names mean the same in all messages of OTLP.
const fn form(name: &str, kind: Kind) -> Form {
    match kind {
        Kind::Text => Form::Text,
        Kind::Message(of) => Form::Message(of),
        Kind::Fixed32 => Form::Fixed32,
        Kind::Bytes if is_one_of(name, &["trace_id"]) => Form::Id(16),
        Kind::Bytes if is_one_of(name, &["span_id", "parent_span_id"]) => Form::Id(8),
        Kind::Bytes => Form::Base64,
        Kind::Varint if is_one_of(name, &["bool_value", "is_monotonic"]) => Form::Bool,
        Kind::Varint if is_one_of(name, &["kind", "code", "severity_number", "aggregation_temporality"]) => Form::Enum,
        Kind::Varint if is_one_of(name, &["key_strindex", "string_value_strindex"]) => Form::Int32,
        Kind::Varint if is_one_of(name, &["scale", "offset"]) => Form::Sint32,
        Kind::Varint if is_one_of(name, &["int_value"]) => Form::Int64,
        Kind::Varint if is_one_of(name, &["bucket_counts"]) => Form::Uint64,
        Kind::Varint => Form::Uint32,
        Kind::Fixed64 if is_one_of(name, &["as_int"]) => Form::Sfixed64,
        Kind::Fixed64
            if is_one_of(
                name,
                &[
                    "as_double",
                    "double_value",
                    "sum",
                    "min",
                    "max",
                    "explicit_bounds",
                    "zero_threshold",
                    "quantile",
                    "value",
                ],
            ) =>
        {
            Form::Double
        }
        Kind::Fixed64 => Form::Fixed64,
    }
}

/// Puts the lowerCamelCase form of a name into the entry.
const fn name(entry: &mut Entry, snake: &[u8]) {
    let mut camel = [0u8; NAME_MAX + 2];
    let (mut len, mut upper, mut index) = (0, false, 0);
    while index < snake.len() {
        if snake[index] == b'_' {
            upper = true;
        } else {
            camel[len] = if upper { snake[index].to_ascii_uppercase() } else { snake[index] };
            upper = false;
            len += 1;
        }
        index += 1;
    }
    assert!(len <= NAME_MAX);
    camel[len] = b'"';
    entry.key[0] = b',';
    entry.key[1] = b'"';
    (entry.words, entry.masks) = ([0; 3], [0; 3]);
    let mut index = 0;
    while index <= len {
        entry.words[index / 8] |= (camel[index] as u64) << (index % 8 * 8);
        entry.masks[index / 8] |= 0xff << (index % 8 * 8);
        entry.key[2 + index] = camel[index];
        index += 1;
    }
    entry.key[2 + len + 1] = b':';
    entry.key_len = len as u8 + 4;
}

const fn is_one_of(name: &str, names: &[&str]) -> bool {
    let mut index = 0;
    while index < names.len() {
        if is(name.as_bytes(), names[index].as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

const fn is(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_name_and_number() {
        for &message in Message::ALL {
            let table = Table::of(message);
            assert_eq!(table.entries().len(), message.fields().len());
            for (index, (entry, field)) in table.entries().iter().zip(message.fields()).enumerate() {
                assert_eq!(entry.number, field.number);
                assert_eq!(table.by_number(field.number).map(|(index, _)| index), Some(index));
                assert_eq!(entry.name().to_lowercase(), field.name.replace('_', ""));
                assert_eq!(table.named(entry.name().as_bytes()), Some(index));
                for tail in ["\"", "\":                          "] {
                    let text = format!("{}{tail}", entry.name());
                    for next in [0, index, index + 1, 99] {
                        assert_eq!(table.find(text.as_bytes(), next), Some(index), "{text}");
                        assert_eq!(table.find(&text.as_bytes()[1..], next), None, "{text}");
                        assert_eq!(table.find(text.replace('"', "x").as_bytes(), next), None, "{text}");
                    }
                }
                let mut out = vec![b'{'];
                entry.put_key(&mut out);
                assert_eq!(String::from_utf8(out).unwrap(), format!("{{,\"{}\":", entry.name()));
            }
            assert!(table.by_number(0).is_none() && table.by_number(17).is_none() && table.by_number(1000).is_none());
        }
    }

    #[test]
    fn names_are_lower_camel_case() {
        let name = |message: Message, number| Table::of(message).by_number(number).unwrap().1.name().to_owned();
        assert_eq!(name(Message::Span, 7), "startTimeUnixNano");
        assert_eq!(name(Message::Sum, 2), "aggregationTemporality");
        assert_eq!(name(Message::KeyValue, 3), "keyStrindex");
        assert_eq!(name(Message::Span, 5), "name");
    }
}
