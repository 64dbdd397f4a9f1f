//! The tree a configuration is read into: values with the place each one came from.
//!
//! # Invariants
//!
//! - Every node knows its [`Place`], through merging and substitution.
//! - `expanded` is set exactly when the value came from a reference such as `${env:X}` and is not a string:
//!   a field that wants a string takes that text, as the Collector does.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named, or the URI of another source.
    pub source: Arc<str>,
    /// Line, from 1; 0 where a source has no lines (the whole of it is meant).
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The reference (`${env:X}`) the value came through, if any.
    pub via: Option<Arc<str>>,
}

impl Place {
    /// The whole of a source.
    pub fn whole(source: &Arc<str>) -> Self {
        Self { source: source.clone(), line: 0, column: 0, via: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written.
    pub place: Place,
    /// The text of a reference that stood for the whole value (see the module's invariants).
    pub expanded: Option<Arc<str>>,
}

/// A YAML value as the core schema of YAML 1.2 (with the Collector's extensions of it) resolves it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`; `yes` and `on` are strings.
    Bool(bool),
    /// An integer in any of YAML's notations.
    Int(i128),
    /// A floating point number.
    Float(f64),
    /// Quoted text, or plain text that is nothing else.
    Str(String),
    /// A plain date or time, kept as written.
    Time(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; keys are text.
    Map(Map),
}

impl Node {
    /// A node that came through no reference.
    pub fn new(value: Value, place: Place) -> Self {
        Self { value, place, expanded: None }
    }

    /// The mapping, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages: `a string`, `an integer`, …
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Time(_) => "a date",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Its cost in memory: one for every node and one for every 32 bytes of text.
    pub(super) fn weight(&self) -> usize {
        1 + match &self.value {
            Value::Str(text) | Value::Time(text) => text.len() / 32,
            Value::List(items) => items.iter().map(Node::weight).sum(),
            Value::Map(map) => map.iter().map(|entry| 1 + entry.key.len() / 32 + entry.value.weight()).sum(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        }
    }

    /// How deep it nests: 1 for a scalar.
    pub(super) fn depth(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(map) => map.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Gives every node below (and this one) `place`: for text that came from a variable, where positions inside
    /// the text mean nothing to the reader.
    pub(super) fn place_at(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.place_at(place)),
            Value::Map(map) => map.entries.iter_mut().for_each(|entry| {
                entry.place = place.clone();
                entry.value.place_at(place);
            }),
            _ => {}
        }
    }
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key was written.
    pub place: Place,
    /// The value.
    pub value: Node,
}

/// A mapping in the order it was written, with constant-time lookup (a hostile file has many keys).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl Map {
    /// The entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|&at| &self.entries[at])
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the entry, or replaces the one of the same key in its position.
    pub fn insert(&mut self, entry: Entry) {
        match self.index.get(&entry.key) {
            Some(&at) => self.entries[at] = entry,
            None => {
                self.index.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    pub(super) fn entry_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.index.get(key).map(|&at| &mut self.entries[at])
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry> {
        self.entries.iter_mut()
    }
}

impl IntoIterator for Map {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// Lays `over` onto `base`: maps are merged deeply, everything else (lists and null included) is replaced.
pub(super) fn merge(base: &mut Node, over: Node) {
    match (&mut base.value, over) {
        (Value::Map(under), Node { value: Value::Map(map), place, .. }) => {
            base.place = place;
            for entry in map {
                match under.entry_mut(&entry.key) {
                    Some(present) => {
                        present.place = entry.place;
                        merge(&mut present.value, entry.value);
                    }
                    None => under.insert(entry),
                }
            }
        }
        (_, over) => *base = over,
    }
}

/// Splits keys that hold `::` into nested maps, at any depth of maps (lists are left alone).
pub(super) fn unflatten(map: Map) -> Map {
    let mut result = Map::default();
    for Entry { key, place, mut value } in map {
        if let Value::Map(inner) = value.value {
            value.value = Value::Map(unflatten(inner));
        }
        let mut parts: Vec<&str> = key.split("::").collect();
        let first = parts.remove(0).to_owned();
        for part in parts.iter().rev() {
            let mut map = Map::default();
            map.insert(Entry { key: (*part).to_owned(), place: place.clone(), value });
            value = Node::new(Value::Map(map), place.clone());
        }
        match result.entry_mut(&first) {
            Some(present) => merge(&mut present.value, value),
            None => result.insert(Entry { key: first, place, value }),
        }
    }
    result
}
