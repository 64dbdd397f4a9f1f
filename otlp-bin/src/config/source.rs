//! Where a configuration is read from: the URIs of `--config`, the settings of `--set`, and the built-in one.
//!
//! # Order
//!
//! `--config` in the order given, then every `--set`: later ones win (maps merge deeply, the rest is replaced).

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use super::node::{self, Map, Node, Place, Value};
use super::report::Diagnostic;
use super::yaml;

/// What runs when no source is given.
pub const BUILT_IN: &str = include_str!("built-in.yaml");

/// The sources of one configuration.
#[derive(Clone, Default)]
pub struct Sources {
    uris: Vec<String>,
    sets: Vec<String>,
    environment: Option<BTreeMap<String, String>>,
}

// Variables hold secrets: their names are enough.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("uris", &self.uris.len()).field("sets", &self.sets.len()).finish()
    }
}

impl Sources {
    /// The URIs of `--config` (`file:…`, a plain path, `env:…`, `yaml:…`) and the `key=value` of `--set`.
    /// Without a URI the built-in configuration takes its place.
    pub fn new(uris: Vec<String>, sets: Vec<String>) -> Self {
        Self { uris, sets, environment: None }
    }

    /// Reads variables from `environment` in place of the process's: for tests and embedding.
    #[must_use]
    pub fn with_environment(mut self, environment: BTreeMap<String, String>) -> Self {
        self.environment = Some(environment);
        self
    }

    /// The names the sources go by in messages.
    pub fn names(&self) -> Vec<String> {
        if self.uris.is_empty() {
            return vec!["(built-in)".to_owned()];
        }
        self.uris.iter().enumerate().map(|(at, uri)| label(uri, at)).collect()
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        match &self.environment {
            Some(environment) => environment.get(name).cloned(),
            // Not UTF-8 is treated as it is by Go: passed on, here with replacements.
            None => std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
        }
    }

    /// All sources read and merged, references not yet replaced.
    pub(super) fn read(&self, warnings: &mut Vec<Diagnostic>) -> Result<Map, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut whole = Node::new(Value::Map(Map::default()), Place::whole(&Arc::from("configuration")));
        if self.uris.is_empty() {
            match yaml::parse(BUILT_IN, &Arc::from("(built-in)")).and_then(as_conf) {
                Ok(map) => node::merge(&mut whole, map),
                Err(error) => errors.push(error),
            }
        }
        for (at, uri) in self.uris.iter().enumerate() {
            let location = Location::of_option(uri);
            let label = label(uri, at);
            let retrieved = location.and_then(|location| self.retrieve(&location, &label, warnings)).and_then(as_conf);
            match retrieved {
                Ok(map) => node::merge(&mut whole, map),
                Err(error) => errors.push(error),
            }
        }
        for set in &self.sets {
            match setting(set).and_then(as_conf) {
                Ok(map) => node::merge(&mut whole, map),
                Err(error) => errors.push(error),
            }
        }
        match whole.value {
            Value::Map(map) if errors.is_empty() => Ok(map),
            _ => Err(errors),
        }
    }

    /// What `location` holds, as a value. `label` names it in messages.
    pub(super) fn retrieve(
        &self,
        location: &Location<'_>,
        label: &str,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Node, Diagnostic> {
        let source: Arc<str> = Arc::from(label);
        match location.scheme {
            "file" => {
                let path = location.rest;
                let source: Arc<str> = Arc::from(path);
                Ok(read_value(&read_file(path)?, &source))
            }
            "yaml" => Ok(read_value(location.rest, &source)),
            "env" => {
                let (name, default) = match location.rest.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (location.rest, None),
                };
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(fits) {
                    return Err(Diagnostic::placeless(format!(
                        "{label}: \"{name}\" is no name of an environment variable (letters, digits and _)"
                    )));
                }
                let text = match (self.variable(name), default) {
                    (Some(text), _) => text,
                    (None, Some(default)) => default.to_owned(),
                    (None, None) => {
                        let mut warning = Diagnostic::placeless(format!(
                            "the environment variable {name} is not set and counts as empty; \
                             ${{env:{name}:-value}} gives it a default"
                        ));
                        warning.severity = super::report::Severity::Warning;
                        warnings.push(warning);
                        String::new()
                    }
                };
                Ok(read_value(&text, &source))
            }
            "http" | "https" => Err(Diagnostic::placeless(format!(
                "{label}: configurations are not fetched over {}; download it and use its path",
                location.scheme
            ))),
            scheme => Err(Diagnostic::placeless(format!(
                "{label}: unknown scheme \"{scheme}\"; known are file, env and yaml"
            ))),
        }
    }
}

/// A scheme and what follows its colon.
#[derive(Debug)]
pub(super) struct Location<'a> {
    pub(super) scheme: &'a str,
    pub(super) rest: &'a str,
}

impl<'a> Location<'a> {
    /// A value of `--config`: without a scheme it is a path.
    fn of_option(uri: &'a str) -> Result<Self, Diagnostic> {
        if !uri.contains(':') {
            return Ok(Self { scheme: "file", rest: uri });
        }
        Self::of_uri(uri)
            .ok_or_else(|| Diagnostic::placeless(format!("{uri}: not a path and no URI of file, env or yaml")))
    }

    /// `scheme:rest`; a scheme has two characters at least.
    pub(super) fn of_uri(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
        let valid =
            scheme.len() >= 2 && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(fits);
        valid.then_some(Self { scheme, rest })
    }
}

/// What the source goes by in messages. The text of a `yaml:` source and the default of a variable may hold secrets,
/// and their lines are enough.
fn label(uri: &str, at: usize) -> String {
    match uri.split_once(":-") {
        _ if uri.starts_with("yaml:") => format!("yaml source {}", at + 1),
        Some((name, _)) if uri.starts_with("env:") => name.to_owned(),
        _ => uri.to_owned(),
    }
}

fn read_file(path: &str) -> Result<String, Diagnostic> {
    let failed = |error: &dyn fmt::Display| Diagnostic::placeless(format!("cannot read {path:?}: {error}"));
    let mut bytes = Vec::new();
    // One byte above the limit is enough to know; a device or a pipe may have no end.
    let limit = yaml::TEXT_BYTES_MAX as u64 + 1;
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() > yaml::TEXT_BYTES_MAX {
        return Err(failed(&format!("more than {} bytes", yaml::TEXT_BYTES_MAX)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        failed(&format!("line {line} is not UTF-8"))
    })
}

/// Retrieved text as a value. A string is the text itself, quotes and all; text that is no YAML is a string too,
/// and `expanded` keeps the text of everything else.
fn read_value(text: &str, source: &Arc<str>) -> Node {
    match yaml::parse(text, source) {
        Ok(node) if matches!(node.value, Value::Str(_)) => {
            Node::new(Value::Str(text.to_owned()), Place { line: 1, column: 1, ..Place::whole(source) })
        }
        Ok(mut node) => {
            node.expanded = Some(Arc::from(text));
            node
        }
        Err(error) => {
            let place = error.place.unwrap_or_else(|| Place::whole(source));
            let mut node = Node::new(Value::Str(text.to_owned()), place);
            node.expanded = Some(Arc::from(error.message));
            node
        }
    }
}

/// A whole source must be a map, or nothing.
fn as_conf(mut node: Node) -> Result<Node, Diagnostic> {
    match node.value {
        Value::Map(map) => {
            node.value = Value::Map(node::unflatten(map));
            node.expanded = None;
            Ok(node)
        }
        Value::Null => Ok(Node::new(Value::Map(Map::default()), node.place)),
        // `read_value` leaves the parser's message with text that is no YAML.
        Value::Str(_) if node.expanded.is_some() => {
            Err(Diagnostic::error(&node.place, "", node.expanded.as_deref().unwrap_or_default()))
        }
        _ => Err(Diagnostic::error(
            &node.place,
            "",
            format!("expected a map of receivers, processors, exporters, extensions and service, got {}", node.what()),
        )),
    }
}

/// `a.b.c=value`, where the value is YAML.
fn setting(set: &str) -> Result<Node, Diagnostic> {
    let Some((key, value)) = set.split_once('=') else {
        return Err(Diagnostic::placeless(format!("--set {set}: no \"=\"; the form is --set key=value")));
    };
    let source: Arc<str> = Arc::from(format!("--set {}", key.trim()));
    let text = format!("{}: {}", key.trim().replace('.', "::"), value.trim());
    let mut node = yaml::parse(&text, &source)?;
    node.place_at(&Place::whole(&source));
    Ok(node)
}
