//! What a table of keys is made of. The tables themselves are in [`super::tables`]: data, no code per component.

use otlp_core::Signal;

use super::decode::Checker;
use super::section::Section;

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// Any integer; a number with a fraction loses it, as in the Collector.
    Int,
    /// An integer from 0.
    Uint,
    /// An integer from 0 to 4 294 967 295.
    Uint32,
    /// Any number.
    Float,
    /// Text.
    Str,
    /// Text that is printed as `[REDACTED]`.
    Secret,
    /// `300ms`, `1h30m`; a bare integer counts nanoseconds.
    Duration,
    /// One of these words, exactly.
    Choice(&'static [&'static str]),
    /// One of these words in any letter case, kept in lower case.
    ChoiceAnyCase(&'static [&'static str]),
    /// A list of texts; one text is a list of one (split at commas).
    Strings,
    /// The same, each text printed as `[REDACTED]`.
    HiddenStrings,
    /// One of these words in any letter case, or its number.
    Level(&'static [(&'static str, i64)]),
    /// A component's id; nothing means none.
    Id,
    /// A list of component ids, and nothing but a list.
    Ids,
    /// Names with secret values: a map, or a list of `{name, value}`.
    Secrets,
    /// Anything, kept as it is.
    Any,
    /// A map of anything, kept as it is.
    AnyMap,
    /// A block that is always there, with its defaults.
    Block(&'static Block),
    /// Anything, and printed as `[REDACTED]`: what no table describes may hold secrets.
    Hidden,
    /// A block that may be off; `enabled: false` turns it off, and its other keys are still decoded.
    Optional(&'static Block, Presence),
    /// A list of blocks.
    Blocks(&'static Block),
}

/// When an optional block is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Without its key too.
    On,
    /// Once its key is there, even with nothing under it.
    ByKey,
    /// Once there is something under its key.
    ByContent,
}

/// A key's default.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// The type's zero: false, 0, empty.
    Zero,
    /// For [`Kind::Bool`].
    Bool(bool),
    /// For integers.
    Int(i64),
    /// For [`Kind::Float`].
    Float(f64),
    /// For texts, choices and durations (in Go's form).
    Text(&'static str),
    /// For [`Kind::Strings`].
    Texts(&'static [&'static str]),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key, as in the file.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// What it is when not given.
    pub default: Default,
    /// Decoded and checked, and then without effect in this version: a warning says so.
    pub idle: bool,
    /// What counts as not given, with a warning, because it would mean no limit.
    pub unlimited: Unlimited,
}

/// Values that would mean no limit, where otlpd always has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlimited {
    /// Every value is meant as it is.
    Never,
    /// 0 means the default.
    Zero,
    /// 0 and less mean the default.
    ZeroAndLess,
}

/// What happens to a key that is in no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// An error.
    Refuse,
    /// A warning: the Collector ignores such keys there.
    Warn,
}

/// A set of keys.
#[derive(Debug)]
pub struct Block {
    /// Several tables; of two fields of one name the first counts, so a component's own defaults come first.
    pub fields: &'static [&'static [Field]],
    /// Keys in no table.
    pub unknown: Unknown,
    /// Keys of old, with what to write now.
    pub removed: &'static [(&'static str, &'static str)],
    /// What the values must fulfil together; called when all of the component was decoded without error.
    pub check: Option<fn(&Section, &mut Checker<'_>)>,
}

impl Block {
    /// The fields in order, each name once.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> + use<> {
        let tables = self.fields;
        tables.iter().enumerate().flat_map(move |(at, table)| {
            table.iter().filter(move |field| !tables[..at].iter().any(|t| t.iter().any(|f| f.name == field.name)))
        })
    }

    /// The field of a name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().flat_map(|table| table.iter()).find(|field| field.name == name)
    }
}

/// What a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes data in.
    Receiver,
    /// Changes or holds data.
    Processor,
    /// Hands data on.
    Exporter,
    /// Joins pipelines: an exporter of one, a receiver of another.
    Connector,
    /// Stands beside the pipelines.
    Extension,
}

impl Role {
    /// All of them, in the order of a configuration.
    pub const ALL: [Self; 5] = [Self::Receiver, Self::Processor, Self::Exporter, Self::Connector, Self::Extension];

    /// `receiver`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Processor => "processor",
            Self::Exporter => "exporter",
            Self::Connector => "connector",
            Self::Extension => "extension",
        }
    }

    /// `receivers`: the section's key.
    pub fn section(self) -> &'static str {
        match self {
            Self::Receiver => "receivers",
            Self::Processor => "processors",
            Self::Exporter => "exporters",
            Self::Connector => "connectors",
            Self::Extension => "extensions",
        }
    }
}

/// A component type: the one list of what a configuration may name.
#[derive(Debug)]
pub struct Component {
    /// What it is.
    pub role: Role,
    /// Its type in ids.
    pub name: &'static str,
    /// Older names that mean the same and are warned about.
    pub aliases: &'static [&'static str],
    /// Its keys.
    pub block: &'static Block,
    /// Stability of each signal it carries; empty for an extension.
    pub signals: &'static [(Signal, &'static str)],
    /// What must hold once a pipeline of this signal uses it: the Collector finds it when building, not before.
    pub check_used: Option<fn(&Section, Signal, &mut Checker<'_>)>,
}

pub(super) const fn field(name: &'static str, kind: Kind, default: Default) -> Field {
    Field { name, kind, default, idle: false, unlimited: Unlimited::Never }
}

/// A key without a default of its own.
pub(super) const fn zero(name: &'static str, kind: Kind) -> Field {
    field(name, kind, Default::Zero)
}

/// A key that is read and has no effect.
pub(super) const fn idle(name: &'static str, kind: Kind, default: Default) -> Field {
    Field { idle: true, ..field(name, kind, default) }
}

/// A limit that cannot be switched off.
pub(super) const fn limit(name: &'static str, kind: Kind, default: Default, unlimited: Unlimited) -> Field {
    Field { unlimited, ..field(name, kind, default) }
}

pub(super) const fn block(fields: &'static [&'static [Field]]) -> Block {
    Block { fields, unknown: Unknown::Refuse, removed: &[], check: None }
}
