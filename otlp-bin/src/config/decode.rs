//! Nodes into sections, by the tables: every mistake is reported, and decoding goes on.
//!
//! Strings are strict and numbers are loose, as in the Collector: `"16"` is no integer, `100.7` is one; a value that
//! came through a reference and is no string gives a string field the reference's text.

use super::id::Id;
use super::node::{Entry, Map, Node, Place, Value};
use super::report::{Diagnostic, suggestion};
use super::scalar;
use super::schema::{Block, Default, Field, Kind, Presence, Unknown, Unlimited};
use super::section::{Secret, Section, Slot, Typed};

/// Collects what checking finds.
#[derive(Debug)]
pub struct Checker<'a> {
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Self { diagnostics }
    }

    /// Adds an error at a key of a section.
    pub fn error(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        self.diagnostics.push(section.error_at(key, message));
    }

    /// Adds a warning at a key of a section.
    pub fn warn(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        self.diagnostics.push(section.warning_at(key, message));
    }

    /// Adds `message` at the key unless `fits`.
    pub fn require(&mut self, fits: bool, section: &Section, key: &str, message: impl Into<String>) {
        if !fits {
            self.error(section, key, message);
        }
    }
}

/// Decodes `node` by `block`, then checks it when it decoded without an error. The section is there even after
/// errors, with defaults in the place of what was wrong.
pub(super) fn decode(node: &Node, block: &'static Block, path: &str, diagnostics: &mut Vec<Diagnostic>) -> Section {
    let mut decoder = Decoder { diagnostics: Vec::new(), idle: Vec::new(), failed: false };
    let section = decoder.block(node, block, path, false);
    if !decoder.failed {
        check(&section, block, &mut Checker::new(&mut decoder.diagnostics));
    }
    if let Some((place, first)) = decoder.idle.first() {
        let names: Vec<&str> = decoder.idle[1..].iter().map(|(_, path)| path.as_str()).collect();
        let others = if names.is_empty() { String::new() } else { format!("; so have {}", names.join(", ")) };
        let message = format!("has no effect in otlpd: the key is read for compatibility{others}");
        decoder.diagnostics.push(Diagnostic::warning(place, first.clone(), message));
    }
    diagnostics.append(&mut decoder.diagnostics);
    section
}

/// The block's own check after those of the blocks in it; a block that is off is not checked.
fn check(section: &Section, block: &Block, checker: &mut Checker<'_>) {
    for slot in section.slots() {
        let Some(field) = block.field(slot.name) else { continue };
        match (&slot.value, field.kind) {
            (Typed::Block(Some(inner)), Kind::Block(block) | Kind::Optional(block, _)) => check(inner, block, checker),
            (Typed::Blocks(items), Kind::Blocks(block)) => items.iter().for_each(|item| check(item, block, checker)),
            _ => {}
        }
    }
    if let Some(own) = block.check {
        own(section, checker);
    }
}

struct Decoder {
    diagnostics: Vec<Diagnostic>,
    /// Keys that are read and have no effect, for one warning that names them.
    idle: Vec<(Place, String)>,
    failed: bool,
}

impl Decoder {
    fn error(&mut self, place: &Place, path: &str, message: impl Into<String>) {
        self.failed = true;
        self.diagnostics.push(Diagnostic::error(place, path, message));
    }

    fn block(&mut self, node: &Node, block: &'static Block, path: &str, optional: bool) -> Section {
        let empty = Map::default();
        let map = match &node.value {
            Value::Map(map) => map,
            Value::Null => &empty,
            _ => {
                self.error(&node.place, path, format!("expected a map, got {}", node.what()));
                &empty
            }
        };
        for entry in map.iter().filter(|entry| block.field(&entry.key).is_none()) {
            // The virtual key of a block that may be off; `optional` looks at it.
            if !(optional && entry.key == "enabled") {
                self.unknown(entry, block, path);
            }
        }
        let slots = block.fields().map(|field| self.slot(map.entry(field.name), field, node, path)).collect();
        Section::new(path.to_owned(), node.place.clone(), block, slots)
    }

    fn unknown(&mut self, entry: &Entry, block: &Block, path: &str) {
        let path = super::joined(path, &entry.key);
        if let Some((_, now)) = block.removed.iter().find(|(old, _)| *old == entry.key) {
            return self.error(&entry.place, &path, format!("no longer a key; {now}"));
        }
        let hint = suggestion(&entry.key, block.fields().map(|field| field.name));
        let hint = if hint.is_empty() { expected(block) } else { hint };
        match block.unknown {
            Unknown::Refuse => self.error(&entry.place, &path, format!("unknown key{hint}")),
            Unknown::Warn => {
                let message = format!("unknown key, ignored as the Collector does{hint}");
                self.diagnostics.push(Diagnostic::warning(&entry.place, path, message));
            }
        }
    }

    fn slot(&mut self, entry: Option<&Entry>, field: &'static Field, parent: &Node, path: &str) -> Slot {
        let path = super::joined(path, field.name);
        let Some(entry) = entry else {
            let value = self.absent(field, &parent.place, &path);
            return Slot { name: field.name, value, place: parent.place.clone(), given: false };
        };
        if field.idle {
            self.idle.push((entry.place.clone(), path.clone()));
        }
        let mut value = self.value(&entry.value, field, &path);
        if no_limit(field, &value) {
            value = default(field, &entry.place);
            let message = match field.default {
                Default::Int(limit) => format!("there is always a limit; this means the default, {limit}"),
                Default::Text(limit) => format!("there is always a limit; this means the default, {limit}"),
                _ => "there is always a limit; this means the default".to_owned(),
            };
            self.diagnostics.push(Diagnostic::warning(&entry.value.place, path, message));
        }
        // The value's own place names the variable it came from.
        let place = match entry.value.place.via {
            Some(_) => entry.value.place.clone(),
            None => entry.place.clone(),
        };
        Slot { name: field.name, value, place, given: true }
    }

    fn absent(&mut self, field: &Field, place: &Place, path: &str) -> Typed {
        let nothing = Node::new(Value::Null, place.clone());
        match field.kind {
            Kind::Optional(_, Presence::ByKey | Presence::ByContent) => Typed::Block(None),
            Kind::Optional(block, Presence::On) | Kind::Block(block) => {
                Typed::Block(Some(self.block(&nothing, block, path, false)))
            }
            _ => default(field, place),
        }
    }

    fn value(&mut self, node: &Node, field: &'static Field, path: &str) -> Typed {
        if matches!(node.value, Value::Null) {
            return match field.kind {
                Kind::Optional(_, Presence::ByContent) => Typed::Block(None),
                Kind::Optional(block, _) | Kind::Block(block) => {
                    Typed::Block(Some(self.block(&Node { expanded: None, ..node.clone() }, block, path, false)))
                }
                // An unset variable is the type's zero; a key with nothing behind it is the default.
                _ if node.expanded.is_some() => default(&Field { default: Default::Zero, ..*field }, &node.place),
                _ => default(field, &node.place),
            };
        }
        let decoded = match field.kind {
            Kind::Block(block) => return Typed::Block(Some(self.block(node, block, path, false))),
            Kind::Optional(block, _) => return Typed::Block(self.optional(node, block, path)),
            Kind::Blocks(block) => match &node.value {
                Value::List(items) => {
                    let items = items.iter().enumerate();
                    return Typed::Blocks(
                        items.map(|(at, item)| self.block(item, block, &format!("{path}[{at}]"), false)).collect(),
                    );
                }
                _ => Err(format!("expected a list of maps, got {}", node.what())),
            },
            Kind::Ids => return Typed::Ids(self.ids(node, path)),
            Kind::Secrets => return Typed::Secrets(self.secrets(node, path)),
            _ => scalar_value(node, field.kind),
        };
        decoded.unwrap_or_else(|message| {
            self.error(&node.place, path, message);
            default(field, &node.place)
        })
    }

    fn optional(&mut self, node: &Node, block: &'static Block, path: &str) -> Option<Section> {
        let mut enabled = true;
        if let Some(entry) = node.as_map().and_then(|map| map.entry("enabled")) {
            match entry.value.value {
                Value::Bool(value) => enabled = value,
                Value::Null => enabled = entry.value.expanded.is_none(),
                _ => {
                    let message = format!("expected true or false, got {}", entry.value.what());
                    self.error(&entry.value.place, &super::joined(path, "enabled"), message);
                }
            }
        }
        let section = self.block(node, block, path, true);
        enabled.then_some(section)
    }

    fn ids(&mut self, node: &Node, path: &str) -> Vec<(Id, Place)> {
        let Value::List(items) = &node.value else {
            let hint = node.as_str().map(|text| format!("; write [{text}]")).unwrap_or_default();
            self.error(&node.place, path, format!("expected a list of ids, got {}{hint}", node.what()));
            return Vec::new();
        };
        let mut ids = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match text(item).and_then(|text| Id::parse(&text)) {
                Ok(id) => ids.push((id, item.place.clone())),
                Err(message) => self.error(&item.place, &format!("{path}[{at}]"), message),
            }
        }
        ids
    }

    fn secrets(&mut self, node: &Node, path: &str) -> Vec<(String, Secret)> {
        let mut entries = Vec::new();
        match &node.value {
            Value::Map(map) => {
                for entry in map.iter() {
                    match text(&entry.value) {
                        Ok(value) => entries.push((entry.key.clone(), Secret::new(value))),
                        Err(message) => self.error(&entry.value.place, &super::joined(path, &entry.key), message),
                    }
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let section = self.block(item, &NAME_AND_VALUE, &format!("{path}[{at}]"), false);
                    entries.push((section.str("name").to_owned(), section.secret("value").clone()));
                }
            }
            _ => self.error(&node.place, path, format!("expected a map of names and values, got {}", node.what())),
        }
        entries
    }
}

static NAME_AND_VALUE: Block =
    super::schema::block(&[&[super::schema::zero("name", Kind::Str), super::schema::zero("value", Kind::Secret)]]);

/// See [`Unlimited`].
fn no_limit(field: &Field, value: &Typed) -> bool {
    let (Typed::Int(value) | Typed::Nanoseconds(value)) = value else { return false };
    match field.unlimited {
        Unlimited::Never => false,
        Unlimited::Zero => *value == 0,
        Unlimited::ZeroAndLess => *value <= 0,
    }
}

/// `; expected one of …` for a block of few keys.
fn expected(block: &Block) -> String {
    let names: Vec<_> = block.fields().map(|field| field.name).collect();
    if names.is_empty() || names.len() > 12 { String::new() } else { format!("; expected one of {}", names.join(", ")) }
}

/// A text, or what a reference gave where its text is meant.
fn text(node: &Node) -> Result<String, String> {
    match (&node.value, &node.expanded) {
        (Value::Str(text), _) => Ok(text.clone()),
        (_, Some(text)) => Ok(text.to_string()),
        (Value::Null, None) => Ok(String::new()),
        (_, None) => Err(format!("expected a string, got {}; write it in quotes", node.what())),
    }
}

fn integer(node: &Node) -> Result<i64, String> {
    let beyond = || "the number is out of range".to_owned();
    match &node.value {
        Value::Int(value) => i64::try_from(*value).map_err(|_| beyond()),
        // 2^63: every float below it has an i64 as its whole part.
        #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
        Value::Float(value) if value.abs() < 9_223_372_036_854_775_808.0 => Ok(*value as i64),
        Value::Float(_) => Err(beyond()),
        Value::Str(text) if matches!(scalar::plain(text), Value::Int(_)) => {
            Err(format!("expected an integer, got a string; write {text} without quotes"))
        }
        _ => Err(format!("expected an integer, got {}", node.what())),
    }
}

fn within(value: i64, max: i64) -> Result<Typed, String> {
    if (0..=max).contains(&value) { Ok(Typed::Int(value)) } else { Err(format!("expected 0 to {max}, got {value}")) }
}

fn words(levels: &[(&'static str, i64)]) -> Vec<&'static str> {
    levels.iter().map(|(word, _)| *word).collect()
}

fn choice(text: &str, words: &[&str], wanted: &str) -> Result<Typed, String> {
    if words.contains(&wanted) {
        return Ok(Typed::Str(wanted.to_owned()));
    }
    let shown: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
    Err(format!("expected one of {}, got {text:?}{}", shown.join(", "), suggestion(wanted, words.iter().copied())))
}

fn scalar_value(node: &Node, kind: Kind) -> Result<Typed, String> {
    Ok(match kind {
        Kind::Bool => match node.value {
            Value::Bool(value) => Typed::Bool(value),
            _ => return Err(format!("expected true or false, got {}", node.what())),
        },
        Kind::Int => Typed::Int(integer(node)?),
        Kind::Uint => within(integer(node)?, i64::MAX)?,
        Kind::Uint32 => within(integer(node)?, u32::MAX.into())?,
        Kind::Float => match node.value {
            Value::Float(value) => Typed::Float(value),
            #[allow(clippy::cast_precision_loss, reason = "a ratio or a factor: never near 2^53")]
            Value::Int(value) => Typed::Float(value as f64),
            _ => return Err(format!("expected a number, got {}", node.what())),
        },
        Kind::Str => Typed::Str(text(node)?),
        Kind::Secret => Typed::Secret(Secret::new(text(node)?)),
        Kind::Duration => Typed::Nanoseconds(match &node.value {
            Value::Str(text) => scalar::duration_ns(text)
                .map_err(|_| format!("expected a duration such as 300ms, 5s or 1h30m, got {text:?}"))?,
            Value::Int(_) | Value::Float(_) => integer(node)?,
            _ => return Err(format!("expected a duration such as 300ms, 5s or 1h30m, got {}", node.what())),
        }),
        Kind::Choice(words) => {
            let text = text(node)?;
            choice(&text, words, &text)?
        }
        Kind::ChoiceAnyCase(words) => {
            let text = text(node)?;
            choice(&text, words, &text.to_lowercase())?
        }
        Kind::Level(levels) => match &node.value {
            Value::Int(number) => match levels.iter().find(|(_, level)| i128::from(*level) == *number) {
                Some((word, _)) => Typed::Str((*word).to_owned()),
                None => return Err(format!("expected one of {}, got {number}", words(levels).join(", "))),
            },
            _ => {
                let text = text(node)?;
                choice(&text, &words(levels), &text.to_lowercase())?
            }
        },
        Kind::HiddenStrings if matches!(&node.value, Value::Str(text) if !text.is_empty()) => {
            return Err("expected a list of strings, got a string".to_owned());
        }
        Kind::Strings | Kind::HiddenStrings => Typed::Strings(match &node.value {
            Value::List(items) => items.iter().map(text).collect::<Result<_, _>>()?,
            Value::Str(text) if text.is_empty() => Vec::new(),
            Value::Str(text) => text.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("expected a list of strings, got {}", node.what())),
        }),
        Kind::Id => Typed::Id(Some(Id::parse(&text(node)?)?)),
        Kind::AnyMap if node.as_map().is_none() => return Err(format!("expected a map, got {}", node.what())),
        Kind::Any | Kind::AnyMap | Kind::Hidden => Typed::Any(node.clone()),
        // The decoder has taken these.
        Kind::Ids | Kind::Secrets | Kind::Block(_) | Kind::Optional(..) | Kind::Blocks(_) => {
            return Err("unexpected".to_owned());
        }
    })
}

fn default(field: &Field, place: &Place) -> Typed {
    match field.kind {
        Kind::Bool => Typed::Bool(matches!(field.default, Default::Bool(true))),
        Kind::Int | Kind::Uint | Kind::Uint32 => Typed::Int(match field.default {
            Default::Int(value) => value,
            _ => 0,
        }),
        Kind::Float => Typed::Float(match field.default {
            Default::Float(value) => value,
            _ => 0.0,
        }),
        Kind::Str | Kind::Choice(_) | Kind::ChoiceAnyCase(_) | Kind::Level(_) => Typed::Str(match field.default {
            Default::Text(text) => text.to_owned(),
            _ => String::new(),
        }),
        Kind::Secret => Typed::Secret(Secret::default()),
        Kind::Duration => Typed::Nanoseconds(match field.default {
            Default::Text(text) => scalar::duration_ns(text).unwrap_or_default(),
            _ => 0,
        }),
        Kind::Strings | Kind::HiddenStrings => Typed::Strings(match field.default {
            Default::Texts(texts) => texts.iter().map(|text| (*text).to_owned()).collect(),
            _ => Vec::new(),
        }),
        Kind::Id => Typed::Id(None),
        Kind::Ids => Typed::Ids(Vec::new()),
        Kind::Secrets => Typed::Secrets(Vec::new()),
        Kind::Any | Kind::AnyMap | Kind::Hidden => Typed::Any(Node::new(Value::Null, place.clone())),
        Kind::Block(_) | Kind::Optional(..) => Typed::Block(None),
        Kind::Blocks(_) => Typed::Blocks(Vec::new()),
    }
}
