//! The actions, ready to run.

use std::borrow::Cow;

use otlp_core::batch::Context;
use otlp_core::wire::edit::{AttributeList, Slot, Value};
use otlp_core::wire::view::AnyValue;
use regex::Regex;

use super::config::Action;
use super::digest::Digests;
use crate::{ConfigError, pattern};

/// Actions in the order in which they run.
pub(crate) struct Actions(Vec<Compiled>);

/// What the actions keep for one batch.
pub(crate) struct Resolved<'a> {
    /// What they take from its context: the same for all of its items.
    values: Vec<Option<Cow<'a, Value>>>,
    digests: Digests,
}

struct Compiled {
    key: String,
    work: Work,
}

enum Work {
    Insert(Source),
    Update(Source),
    Upsert(Source),
    Delete(Option<Regex>),
    Hash(Option<Regex>),
    Extract(Regex),
    Convert(Target),
}

/// Where a new value comes from.
enum Source {
    /// The same for every item: from the configuration, or from the context.
    Batch(BatchSource),
    Attribute(String, Option<Value>),
}

enum BatchSource {
    Value(Value),
    Metadata(String, Option<Value>),
    ClientAddress(Option<Value>),
    /// What authentication established: `auth.<attribute>`.
    Auth(String, Option<Value>),
    /// None: the default alone.
    Nothing(Option<Value>),
}

#[derive(Clone, Copy)]
enum Target {
    Int,
    Double,
    String,
}

impl Actions {
    /// Compiles actions that stand under `section`. They were checked; what was not comes back as an error all the same.
    pub(crate) fn new(section: &str, actions: &[Action]) -> Result<Actions, ConfigError> {
        super::check_actions(section, actions)?;
        let compile = |(index, action): (usize, &Action)| {
            let at = |key: &str, message: String| ConfigError::new(format!("{section}[{index}].{key}"), message);
            let regex = match action.pattern.as_str() {
                "" => None,
                text => Some(pattern::compile(text).map_err(|error| at("pattern", error.to_string()))?),
            };
            let work = match (action.action.to_ascii_lowercase().as_str(), regex) {
                ("insert", _) => Work::Insert(Source::new(action)),
                ("update", _) => Work::Update(Source::new(action)),
                ("upsert", _) => Work::Upsert(Source::new(action)),
                ("delete", regex) => Work::Delete(regex),
                ("hash", regex) => Work::Hash(regex),
                ("extract", Some(regex)) => Work::Extract(regex),
                ("convert", _) => Work::Convert(match action.converted_type.as_str() {
                    "int" => Target::Int,
                    "double" => Target::Double,
                    _ => Target::String,
                }),
                (unknown, _) => return Err(at("action", format!("unknown action {unknown:?}"))),
            };
            Ok(Compiled { key: action.key.clone(), work })
        };
        actions.iter().enumerate().map(compile).collect::<Result<_, _>>().map(Actions)
    }

    /// Takes what the actions need from a batch's context.
    pub(crate) fn resolve<'a>(&'a self, context: &Context) -> Resolved<'a> {
        let resolve = |action: &'a Compiled| match &action.work {
            Work::Insert(Source::Batch(source))
            | Work::Update(Source::Batch(source))
            | Work::Upsert(Source::Batch(source)) => source.resolve(context),
            _ => None,
        };
        Resolved { values: self.0.iter().map(resolve).collect(), digests: Digests::default() }
    }

    /// Runs the actions on one list of attributes.
    pub(crate) fn run(&self, resolved: &mut Resolved<'_>, list: &mut AttributeList<'_>) {
        for (action, value) in self.0.iter().zip(&resolved.values) {
            action.run(value.as_deref(), &mut resolved.digests, list);
        }
    }
}

impl Source {
    fn new(action: &Action) -> Source {
        let default = action.default_value.clone();
        if let Some(value) = &action.value {
            return Source::Batch(BatchSource::Value(value.clone()));
        }
        if !action.from_attribute.is_empty() {
            return Source::Attribute(action.from_attribute.clone(), default);
        }
        Source::Batch(match action.from_context.as_str() {
            "client.address" => BatchSource::ClientAddress(default),
            // Alone, the default is the value.
            "" => BatchSource::Nothing(default),
            path => match (path.strip_prefix("metadata."), path.strip_prefix("auth.")) {
                (Some(key), _) => BatchSource::Metadata(key.into(), default),
                (None, Some(attribute)) => BatchSource::Auth(attribute.into(), default),
                (None, None) => BatchSource::Metadata(path.into(), default),
            },
        })
    }
}

impl BatchSource {
    fn resolve<'a>(&'a self, context: &Context) -> Option<Cow<'a, Value>> {
        let (found, default) = match self {
            BatchSource::Value(value) => return Some(Cow::Borrowed(value)),
            BatchSource::Metadata(key, default) => {
                let values: Vec<&str> = context.metadata(key).collect();
                ((!values.is_empty()).then(|| values.join(";")), default)
            }
            BatchSource::ClientAddress(default) => {
                (context.peer.map(|peer| peer.ip().to_canonical().to_string()), default)
            }
            BatchSource::Auth(attribute, default) => (context.auth(attribute).map(str::to_owned), default),
            BatchSource::Nothing(default) => (None, default),
        };
        match found {
            Some(text) => Some(Cow::Owned(Value::string(&text))),
            None => default.as_ref().map(Cow::Borrowed),
        }
    }
}

impl Compiled {
    fn run(&self, resolved: Option<&Value>, digests: &mut Digests, list: &mut AttributeList<'_>) {
        let key = self.key.as_str();
        match &self.work {
            Work::Insert(source) => {
                if list.find(key).is_none() {
                    self.put(None, source, resolved, list);
                }
            }
            Work::Update(source) => {
                if let Some(slot) = list.find(key) {
                    self.put(Some(slot), source, resolved, list);
                }
            }
            Work::Upsert(source) => {
                let slot = list.find(key);
                self.put(slot, source, resolved, list);
            }
            Work::Delete(regex) => {
                if !key.is_empty() {
                    list.delete(key);
                }
                self.each_match(regex, list, |list, slot| list.remove(slot));
            }
            Work::Hash(regex) => {
                if !key.is_empty()
                    && let Some(slot) = list.find(key)
                {
                    hash(list, slot, digests);
                }
                self.each_match(regex, list, |list, slot| hash(list, slot, digests));
            }
            Work::Extract(regex) => extract(list, key, regex),
            Work::Convert(target) => {
                if let Some(slot) = list.find(key)
                    && let Some(value) = converted(&list.value(slot), *target)
                {
                    list.set(slot, &value);
                }
            }
        }
    }

    /// Writes the source's value to the slot, or to a new attribute. Does nothing where the source is missing.
    fn put(&self, slot: Option<Slot>, source: &Source, resolved: Option<&Value>, list: &mut AttributeList<'_>) {
        let value = match source {
            Source::Batch(_) => resolved,
            Source::Attribute(from, default) => match list.find(from) {
                Some(source) => {
                    match slot {
                        Some(slot) if slot == source => {}
                        Some(slot) => list.set_from(slot, source),
                        None => drop(list.append_from(&self.key, source)),
                    }
                    return;
                }
                None => default.as_ref(),
            },
        };
        match (value, slot) {
            (Some(value), Some(slot)) => list.set(slot, value),
            (Some(value), None) => drop(list.append(&self.key, value)),
            (None, _) => {}
        }
    }

    fn each_match(
        &self,
        regex: &Option<Regex>,
        list: &mut AttributeList<'_>,
        mut each: impl FnMut(&mut AttributeList<'_>, Slot),
    ) {
        if let Some(regex) = regex {
            for slot in list.find_all(|key| regex.is_match(key)) {
                each(list, slot);
            }
        }
    }
}

/// Puts the SHA-256 of a value in its place, in lower-case hexadecimal.
///
/// What is hashed is what the Collector hashes: the bytes of a string; one byte, 0 or 1, of a boolean; eight bytes,
/// little-endian, of an integer or a double. An empty string and every other kind become the empty string: nothing of
/// them is left.
fn hash(list: &mut AttributeList<'_>, slot: Slot, digests: &mut Digests) {
    if let Some(text @ [_, ..]) = list.string_bytes(slot) {
        let digest = digests.of(text);
        return list.set_hex(slot, &digest);
    }
    let digest = match list.value(slot) {
        AnyValue::String("") => None,
        AnyValue::String(string) => Some(digests.of(string.as_bytes())),
        AnyValue::Bool(value) => Some(digests.of(&[u8::from(value)])),
        AnyValue::Int(value) => Some(digests.of(&value.to_le_bytes())),
        AnyValue::Double(value) => Some(digests.of(&value.to_bits().to_le_bytes())),
        AnyValue::Empty | AnyValue::Array(_) | AnyValue::KvList(_) | AnyValue::Bytes(_) => None,
    };
    match digest {
        Some(digest) => list.set_hex(slot, &digest),
        None => list.set_string(slot, ""),
    }
}

/// Sets an attribute for each group of a pattern that matches a string. A group that took no part is empty.
fn extract(list: &mut AttributeList<'_>, key: &str, regex: &Regex) {
    let Some(slot) = list.find(key) else { return };
    // The groups are copied because they may replace the very text they come from.
    let Some(groups) = list.value(slot).as_str().and_then(|text| {
        let captures = regex.captures(text)?;
        let group =
            |name: Option<&str>| name.map(|name| captures.name(name).map_or("", |found| found.as_str()).to_owned());
        Some(regex.capture_names().skip(1).map(group).collect::<Vec<_>>())
    }) else {
        return;
    };
    for (name, text) in regex.capture_names().skip(1).zip(groups) {
        let (Some(name), Some(text)) = (name, text) else { continue };
        match list.find(name) {
            Some(slot) => list.set_string(slot, &text),
            None => drop(list.append_string(name, &text)),
        }
    }
}

/// The value as another kind; `None` where it is of that kind already or cannot be.
fn converted(value: &AnyValue<'_>, target: Target) -> Option<Value> {
    match (target, value) {
        (Target::String, AnyValue::String(_)) => None,
        (Target::String, value) => Some(Value::string(&value.to_text())),
        (Target::Int, AnyValue::Double(value)) => Some(Value::int(*value as i64)),
        (Target::Int, AnyValue::Bool(value)) => Some(Value::int(i64::from(*value))),
        (Target::Int, AnyValue::String(text)) => text.parse().ok().map(Value::int),
        (Target::Double, AnyValue::Int(value)) => Some(Value::double(*value as f64)),
        (Target::Double, AnyValue::Bool(value)) => Some(Value::double(f64::from(u8::from(*value)))),
        (Target::Double, AnyValue::String(text)) => parse_double(text).map(Value::double),
        _ => None,
    }
}

/// A number too large for a double is an error, not infinity; infinity can be asked for by name.
fn parse_double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() || !text.bytes().any(|byte| byte.is_ascii_digit())).then_some(value)
}
