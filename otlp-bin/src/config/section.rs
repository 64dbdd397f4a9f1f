//! A decoded block: typed values with the defaults filled in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use otlp_core::auth::{userinfo, without_userinfo};

use super::id::Id;
use super::node::{Entry, Map, Node, Place, Value};
use super::report::Diagnostic;
use super::scalar;
use super::schema::{Block, Kind, Presence};

/// Text that is never shown: [`fmt::Debug`] and `print-config` write `[REDACTED]`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// What stands for a secret wherever one would be printed.
pub const REDACTED: &str = "[REDACTED]";

/// A value of its key's type.
#[derive(Clone, Debug)]
pub(super) enum Typed {
    Bool(bool),
    /// Also unsigned ones: decoding has kept them in their range.
    Int(i64),
    Float(f64),
    Str(String),
    Secret(Secret),
    Nanoseconds(i64),
    Strings(Vec<String>),
    Id(Option<Id>),
    Ids(Vec<(Id, Place)>),
    Secrets(Vec<(String, Secret)>),
    Any(Node),
    Block(Option<Section>),
    Blocks(Vec<Section>),
}

/// The groups that TLS has here.
pub(super) const CURVES: [&str; 3] = ["X25519", "P256", "P384"];

/// The `curve_preferences` of a `tls` section without those that the Collector has and we have not, unless it names no other.
pub(crate) fn supported_curves(tls: &Section) -> Vec<String> {
    let named = tls.list_str("curve_preferences").to_vec();
    let ours: Vec<String> = named.iter().filter(|curve| CURVES.contains(&curve.as_str())).cloned().collect();
    if ours.is_empty() { named } else { ours }
}

/// Whether a key holds a URL, in which the user's name and password may stand.
fn is_url(key: &str) -> bool {
    key == "proxy_url" || key.ends_with("endpoint")
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: &'static str,
    pub(super) value: Typed,
    pub(super) place: Place,
    pub(super) given: bool,
}

/// The keys of one block, each with its value or its default. Cheap to clone.
///
/// The getters take the key's name as in the file and the type its table gives it. A name or a type that is not in the
/// table is a mistake of the caller, not of the configuration.
///
/// # Panics
///
/// Every getter panics on such a mistake.
///
/// # Examples
///
/// ```
/// use otlp_bin::config::{self, Sources};
/// use std::time::Duration;
///
/// let text = "yaml:{receivers: {otlp: {protocols: {http: }}}, exporters: {otlp_http: {endpoint: 'http://a:4318'}}, \
///             service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}}}}";
/// let loaded = config::load(&Sources::new(vec![text.to_owned()], vec![])).unwrap();
/// let exporter = &loaded.tree.exporters[0];
/// let section = &exporter.section;
/// assert_eq!(section.str("endpoint"), "http://a:4318");
/// assert_eq!(section.duration("timeout"), Duration::from_secs(30));
/// let queue = section.sub("sending_queue").expect("on by default");
/// assert_eq!(queue.u64("queue_size"), 1000);
/// assert!(queue.sub("batch").is_none());
/// let error = section.error_at("endpoint", "cannot be reached");
/// assert_eq!(error.path, "exporters::otlp_http::endpoint");
/// ```
#[derive(Clone)]
pub struct Section(Arc<Inner>);

struct Inner {
    path: String,
    place: Place,
    block: &'static Block,
    slots: Vec<Slot>,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("path", &self.0.path).field("place", &self.0.place).finish_non_exhaustive()
    }
}

impl Section {
    pub(super) fn new(path: String, place: Place, block: &'static Block, slots: Vec<Slot>) -> Self {
        Self(Arc::new(Inner { path, place, block, slots }))
    }

    /// The path from the top, joined by `::`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Where the block was written.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    fn slot(&self, key: &str) -> &Slot {
        match self.0.slots.iter().find(|slot| slot.name == key) {
            Some(slot) => slot,
            None => panic!("{}: the table has no key \"{key}\"", self.0.path),
        }
    }

    /// Whether the file gives the key.
    pub fn given(&self, key: &str) -> bool {
        self.slot(key).given
    }

    /// Where the key was written; the block's place if it was not.
    pub fn place_of(&self, key: &str) -> &Place {
        &self.slot(key).place
    }

    /// A [`Kind::Bool`].
    pub fn bool(&self, key: &str) -> bool {
        match self.slot(key).value {
            Typed::Bool(value) => value,
            _ => self.other_type(key, "a boolean"),
        }
    }

    /// Any integer.
    pub fn i64(&self, key: &str) -> i64 {
        match self.slot(key).value {
            Typed::Int(value) => value,
            _ => self.other_type(key, "an integer"),
        }
    }

    /// An integer; a negative one counts as 0.
    pub fn u64(&self, key: &str) -> u64 {
        u64::try_from(self.i64(key)).unwrap_or(0)
    }

    /// A [`Kind::Uint32`]; what does not fit is the nearest that does.
    pub fn u32(&self, key: &str) -> u32 {
        u32::try_from(self.u64(key)).unwrap_or(u32::MAX)
    }

    /// A count; what does not fit is the nearest that does.
    pub fn usize(&self, key: &str) -> usize {
        usize::try_from(self.u64(key)).unwrap_or(usize::MAX)
    }

    /// A size in bytes; the same as [`Section::u64`].
    pub fn bytes(&self, key: &str) -> u64 {
        self.u64(key)
    }

    /// A [`Kind::Float`].
    pub fn f64(&self, key: &str) -> f64 {
        match self.slot(key).value {
            Typed::Float(value) => value,
            _ => self.other_type(key, "a number"),
        }
    }

    /// Text or a choice; empty when there is none.
    pub fn str(&self, key: &str) -> &str {
        match &self.slot(key).value {
            Typed::Str(value) => value,
            _ => self.other_type(key, "a text"),
        }
    }

    /// A [`Kind::Secret`].
    pub fn secret(&self, key: &str) -> &Secret {
        match &self.slot(key).value {
            Typed::Secret(value) => value,
            _ => self.other_type(key, "a secret"),
        }
    }

    /// A [`Kind::Duration`]; a negative one counts as 0.
    pub fn duration(&self, key: &str) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanoseconds(key)).unwrap_or(0))
    }

    pub(super) fn nanoseconds(&self, key: &str) -> i64 {
        match self.slot(key).value {
            Typed::Nanoseconds(value) => value,
            _ => self.other_type(key, "a duration"),
        }
    }

    /// A [`Kind::Strings`] or [`Kind::HiddenStrings`].
    pub fn list_str(&self, key: &str) -> &[String] {
        match &self.slot(key).value {
            Typed::Strings(value) => value,
            _ => self.other_type(key, "a list of texts"),
        }
    }

    /// A [`Kind::Id`].
    pub fn id(&self, key: &str) -> Option<&Id> {
        match &self.slot(key).value {
            Typed::Id(value) => value.as_ref(),
            _ => self.other_type(key, "an id"),
        }
    }

    /// A [`Kind::Ids`], each with the place it was written at.
    pub fn ids(&self, key: &str) -> &[(Id, Place)] {
        match &self.slot(key).value {
            Typed::Ids(value) => value,
            _ => self.other_type(key, "a list of ids"),
        }
    }

    /// A [`Kind::Secrets`], in the order of the file.
    pub fn map_str(&self, key: &str) -> &[(String, Secret)] {
        match &self.slot(key).value {
            Typed::Secrets(value) => value,
            _ => self.other_type(key, "a map of secrets"),
        }
    }

    /// A [`Kind::Any`] or [`Kind::AnyMap`]; [`Value::Null`] when there is none.
    pub fn value(&self, key: &str) -> &Node {
        match &self.slot(key).value {
            Typed::Any(value) => value,
            _ => self.other_type(key, "an untyped value"),
        }
    }

    /// A block; `None` when it is off.
    pub fn sub(&self, key: &str) -> Option<Section> {
        match &self.slot(key).value {
            Typed::Block(value) => value.clone(),
            _ => self.other_type(key, "a block"),
        }
    }

    /// A [`Kind::Blocks`].
    pub fn list(&self, key: &str) -> &[Section] {
        match &self.slot(key).value {
            Typed::Blocks(value) => value,
            _ => self.other_type(key, "a list of blocks"),
        }
    }

    fn other_type(&self, key: &str, wanted: &str) -> ! {
        panic!("{}: the table does not make \"{key}\" {wanted}", self.0.path)
    }

    /// An error about the key that points to its line: for what a constructor finds later.
    ///
    /// `key` may be a path (`sending_queue::batch::min_size`, `actions[0]::key`, `.` in place of `::`) or empty for the
    /// block itself. Where the path leaves the tables, the place is that of its last part which is in them.
    pub fn error_at(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        let path = key.replace('.', "::");
        let mut message = message.into();
        for slot in self.0.slots.iter().filter(|slot| is_url(slot.name)) {
            if let Typed::Str(value) = &slot.value
                && let Some(secret) = userinfo(value)
            {
                // As it is, and as it is in quotes.
                message = message.replace(secret, REDACTED).replace(&secret.escape_debug().to_string(), REDACTED);
            }
        }
        Diagnostic::error(&self.find(&path), super::joined(&self.0.path, &path), message)
    }

    fn find(&self, path: &str) -> Place {
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        let (name, at) = match first.strip_suffix(']').and_then(|first| first.split_once('[')) {
            Some((name, at)) => (name, at.parse().ok()),
            None => (first, None),
        };
        let Some(slot) = self.0.slots.iter().find(|slot| slot.name == name) else { return self.0.place.clone() };
        let inner = match (&slot.value, at) {
            (Typed::Block(inner), _) => inner.as_ref(),
            (Typed::Blocks(items), Some(at)) => items.get::<usize>(at),
            _ => None,
        };
        match inner {
            Some(inner) if !rest.is_empty() => inner.find(rest),
            Some(inner) if at.is_some() => inner.0.place.clone(),
            _ => slot.place.clone(),
        }
    }

    /// A warning about the key.
    pub fn warning_at(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: super::report::Severity::Warning, ..self.error_at(key, message) }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.0.slots
    }

    /// The block as a tree again, defaults filled in; what is off or empty is left out.
    pub(super) fn to_node(&self, redact: bool) -> Node {
        let mut map = Map::default();
        for slot in &self.0.slots {
            let Some(field) = self.0.block.field(slot.name) else { continue };
            if field.idle && !slot.given {
                continue;
            }
            if let Some(value) = slot.to_value(redact, field.kind) {
                let value = Node::new(value, slot.place.clone());
                map.insert(Entry { key: slot.name.to_owned(), place: slot.place.clone(), value });
            }
        }
        Node::new(Value::Map(map), self.0.place.clone())
    }
}

impl Slot {
    fn to_value(&self, redact: bool, kind: Kind) -> Option<Value> {
        let node = |value| Node::new(value, self.place.clone());
        let hidden = |secret: &Secret| {
            Value::Str(if redact && !secret.0.is_empty() { REDACTED.to_owned() } else { secret.0.clone() })
        };
        Some(match &self.value {
            Typed::Bool(value) => Value::Bool(*value),
            Typed::Int(value) => Value::Int((*value).into()),
            Typed::Float(value) => Value::Float(*value),
            // Without a default there is no word or list that could be given in the place of none.
            Typed::Str(value) if value.is_empty() && !self.given => return None,
            Typed::Str(value) if redact && is_url(self.name) => Value::Str(without_userinfo(value).into_owned()),
            Typed::Str(value) => Value::Str(value.clone()),
            Typed::Secret(secret) if secret.0.is_empty() && !self.given => return None,
            Typed::Secret(secret) => hidden(secret),
            Typed::Nanoseconds(value) => Value::Str(scalar::show_duration(*value)),
            Typed::Strings(items) if items.is_empty() && !self.given => return None,
            Typed::Strings(items) if redact && matches!(kind, Kind::HiddenStrings) => {
                Value::List(items.iter().map(|_| node(Value::Str(REDACTED.to_owned()))).collect())
            }
            Typed::Strings(items) => Value::List(items.iter().map(|item| node(Value::Str(item.clone()))).collect()),
            Typed::Id(id) => Value::Str(id.as_ref()?.to_string()),
            Typed::Ids(ids) => Value::List(ids.iter().map(|(id, _)| node(Value::Str(id.to_string()))).collect()),
            Typed::Secrets(entries) if entries.is_empty() => return None,
            Typed::Secrets(entries) => {
                let mut map = Map::default();
                for (name, secret) in entries {
                    let value = node(hidden(secret));
                    map.insert(Entry { key: name.clone(), place: self.place.clone(), value });
                }
                Value::Map(map)
            }
            Typed::Any(any) if !self.given => {
                debug_assert!(matches!(any.value, Value::Null));
                return None;
            }
            Typed::Any(_) if redact && matches!(kind, Kind::Hidden) => Value::Str(REDACTED.to_owned()),
            Typed::Any(any) => any.value.clone(),
            Typed::Block(Some(section)) => section.to_node(redact).value,
            Typed::Block(None) if matches!(kind, Kind::Optional(_, Presence::On)) => {
                let mut map = Map::default();
                let value = node(Value::Bool(false));
                map.insert(Entry { key: "enabled".to_owned(), place: self.place.clone(), value });
                Value::Map(map)
            }
            Typed::Block(None) => return None,
            Typed::Blocks(sections) if sections.is_empty() => return None,
            Typed::Blocks(sections) => Value::List(sections.iter().map(|section| section.to_node(redact)).collect()),
        })
    }
}
