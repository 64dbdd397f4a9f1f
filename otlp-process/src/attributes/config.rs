//! The settings, named as the Collector's keys.

use otlp_core::wire::edit::Value;

use crate::{ConfigError, pattern};

/// Settings of the `attributes` processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What to do, in order. At least one.
    pub actions: Vec<Action>,
    /// Only items that match are touched. Default: all.
    pub include: Option<Match>,
    /// Items that match are not touched. Asked after `include`. Default: none.
    pub exclude: Option<Match>,
}

/// One action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Action {
    /// The attribute. Required but for `delete` and `hash` with a `pattern`.
    pub key: String,
    /// `insert`, `update`, `upsert`, `delete`, `hash`, `extract` or `convert`, in any case.
    pub action: String,
    /// The new value, for `insert`, `update` and `upsert`. One of `value`, `from_attribute`, `from_context`.
    pub value: Option<Value>,
    /// The attribute to take the new value from. Empty: none.
    pub from_attribute: String,
    /// Where in the request's context to take the new value from: `metadata.<key>` or a bare key, `auth.<attribute>`,
    /// `client.address`. Several values are joined with `;`. Empty: none.
    pub from_context: String,
    /// The new value where its source is missing. Without it, a missing source means that nothing is done.
    pub default_value: Option<Value>,
    /// A regular expression: over names for `delete` and `hash` (it matches anywhere in a name), over the value for
    /// `extract`, where all groups must have names. Empty: none.
    pub pattern: String,
    /// `int`, `double` or `string`, for `convert`.
    pub converted_type: String,
}

/// Which items are meant: every criterion that is given must match, and of a list one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// How texts are compared. Required.
    pub match_type: Option<MatchType>,
    /// Taken and not needed: patterns are compiled once.
    pub regexp: Option<RegexpCache>,
    /// The resource's `service.name`. Spans only.
    pub services: Vec<String>,
    /// The span's name. Spans only.
    pub span_names: Vec<String>,
    /// The span's kind, as `SPAN_KIND_CLIENT`. Spans only.
    pub span_kinds: Vec<String>,
    /// The log record's body as text. Logs only.
    pub log_bodies: Vec<String>,
    /// The log record's severity as text. Logs only.
    pub log_severity_texts: Vec<String>,
    /// The log record's severity as a number. Logs only.
    pub log_severity_number: Option<SeverityNumberMatch>,
    /// The metric's name. Metrics only.
    pub metric_names: Vec<String>,
    /// The item's attributes; all must match. Spans and logs.
    pub attributes: Vec<Attribute>,
    /// The resource's attributes; all must match.
    pub resources: Vec<Attribute>,
    /// The scope. Spans and logs.
    pub libraries: Vec<Library>,
}

/// How texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchType {
    /// Equal.
    Strict,
    /// A regular expression matches somewhere in it.
    Regexp,
}

impl MatchType {
    /// The type of that name, as written in a configuration: `strict` or `regexp`.
    pub fn from_name(name: &str) -> Option<MatchType> {
        match name {
            "strict" => Some(MatchType::Strict),
            "regexp" => Some(MatchType::Regexp),
            _ => None,
        }
    }
}

/// The Collector's cache of matches, which nothing here needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegexpCache {
    /// Whether the Collector would use it.
    pub cacheenabled: bool,
    /// How much it would hold; 0 for everything.
    pub cachemaxnumentries: u64,
}

/// From which severity on a log record matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeverityNumberMatch {
    /// The lowest number that matches: 1 (trace) to 24 (fatal4).
    pub min: i32,
    /// Whether a record without a severity matches. Default: no.
    pub match_undefined: bool,
}

/// An attribute that is to be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attribute {
    /// Its name, compared as it is whatever the match type.
    pub key: String,
    /// Its value; a pattern for `regexp`. `None`: any.
    pub value: Option<Value>,
}

/// A scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// Its version. `None`: any; empty: a scope without version.
    pub version: Option<String>,
}

impl Config {
    /// Looks for what is wrong whatever the signal.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_actions("actions", &self.actions)?;
        for (section, of) in [("include", &self.include), ("exclude", &self.exclude)] {
            if let Some(of) = of {
                of.check(section)?;
            }
        }
        Ok(())
    }
}

impl Match {
    fn check(&self, section: &str) -> Result<(), ConfigError> {
        let Some(match_type) = self.match_type else {
            return Err(ConfigError::new(format!("{section}.match_type"), "required; strict or regexp"));
        };
        for (list, attributes) in [("attributes", &self.attributes), ("resources", &self.resources)] {
            for (index, attribute) in attributes.iter().enumerate() {
                let at = |key: &str| format!("{section}.{list}[{index}].{key}");
                if attribute.key.is_empty() {
                    return Err(ConfigError::new(at("key"), "required"));
                }
                let Some(value) = &attribute.value else { continue };
                if match_type == MatchType::Regexp && value.view().as_str().is_none() {
                    let message = format!("match_type regexp takes a string, not {}", value.view().kind());
                    return Err(ConfigError::new(at("value"), message));
                }
            }
        }
        Ok(())
    }
}

/// Looks for what is wrong with a list of actions that stands under `section`.
pub(crate) fn check_actions(section: &str, actions: &[Action]) -> Result<(), ConfigError> {
    if actions.is_empty() {
        return Err(ConfigError::new(section, "required; at least one action"));
    }
    actions.iter().enumerate().try_for_each(|(index, action)| {
        action.check().map_err(|(key, message)| ConfigError::new(format!("{section}[{index}].{key}"), message))
    })
}

impl Action {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let action = self.action.to_ascii_lowercase();
        let takes = |key: &'static str, given: bool, taken: bool| match given && !taken {
            true => Err((key, format!("{action} does not use it"))),
            false => Ok(()),
        };
        let (sets, by_pattern) = match action.as_str() {
            "insert" | "update" | "upsert" => (true, false),
            "delete" | "hash" => (false, true),
            "extract" | "convert" => (false, false),
            _ => {
                let known = "insert, update, upsert, delete, hash, extract or convert";
                return Err(("action", format!("unknown action {:?}; {known}", self.action)));
            }
        };
        if self.key.is_empty() && (!by_pattern || self.pattern.is_empty()) {
            let or_pattern = if by_pattern { ", or pattern" } else { "" };
            return Err(("key", format!("required by {action}{or_pattern}")));
        }
        takes("value", self.value.is_some(), sets)?;
        takes("from_attribute", !self.from_attribute.is_empty(), sets)?;
        // The Collector lets from_context stand beside delete and hash, where it does nothing.
        takes("from_context", !self.from_context.is_empty(), sets || by_pattern)?;
        takes("pattern", !self.pattern.is_empty(), by_pattern || action == "extract")?;
        takes("converted_type", !self.converted_type.is_empty(), action == "convert")?;
        if sets {
            let sources = [self.value.is_some(), !self.from_attribute.is_empty(), !self.from_context.is_empty()];
            match sources.into_iter().filter(|&given| given).count() {
                0 if self.default_value.is_none() => {
                    return Err(("value", format!("{action} needs one of value, from_attribute, from_context")));
                }
                0 | 1 => {}
                _ => return Err(("value", "only one of value, from_attribute, from_context".into())),
            }
        }
        match action.as_str() {
            "extract" => self.check_groups(),
            "convert" if !matches!(self.converted_type.as_str(), "int" | "double" | "string") => {
                Err(("converted_type", format!("int, double or string, not {:?}", self.converted_type)))
            }
            _ if !self.pattern.is_empty() => self.compile().map(drop),
            _ => Ok(()),
        }
    }

    fn check_groups(&self) -> Result<(), (&'static str, String)> {
        if self.pattern.is_empty() {
            return Err(("pattern", "required by extract".into()));
        }
        let regex = self.compile()?;
        if regex.captures_len() <= 1 {
            return Err(("pattern", "has no named groups, as (?P<name>…)".into()));
        }
        if regex.capture_names().skip(1).any(|name| name.is_none()) {
            return Err(("pattern", "has a group without a name; write (?P<name>…) or (?:…)".into()));
        }
        Ok(())
    }

    fn compile(&self) -> Result<regex::Regex, (&'static str, String)> {
        pattern::compile(&self.pattern).map_err(|error| ("pattern", format!("no regular expression: {error}")))
    }
}
