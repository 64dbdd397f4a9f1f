//! References: `${env:X}`, `${env:X:-default}`, `${X}`, `${file:path}`, `${yaml:text}` and the escape `$$`.
//!
//! As the Collector: the innermost reference of the first `}` first, again and again, values only (never keys), after
//! all sources are merged. A reference that is the whole value may become any value; within text it becomes its text.
//!
//! # Limits
//!
//! At most 1 000 rounds for one value and 10 000 references in all; one value's text at most 1 MiB; and 16 MiB of text
//! read or rewritten in all. Cycles end there.

use std::sync::Arc;

use super::node::{self, Map, Node, Place, Value};
use super::report::Diagnostic;
use super::source::{Location, Sources};
use super::yaml;

const ROUNDS_MAX: usize = 1_000;
const REFERENCES_MAX: usize = 10_000;
const VALUE_BYTES_MAX: usize = 1 << 20;
const WORK_BYTES_MAX: usize = 16 << 20;

/// Replaces every reference in `map`.
pub(super) fn expand(map: Map, sources: &Sources, warnings: &mut Vec<Diagnostic>) -> Result<Map, Vec<Diagnostic>> {
    let mut expander =
        Expander { sources, warnings, errors: Vec::new(), references: 0, work: 0, weight: 0, stopped: false };
    let mut root = Node::new(Value::Map(map), Place::whole(&Arc::from("configuration")));
    expander.node(&mut root, 0, "");
    if !expander.errors.is_empty() {
        return Err(expander.errors);
    }
    match root.value {
        // A value may have brought keys with `::` along.
        Value::Map(map) => Ok(node::unflatten(map)),
        _ => Ok(Map::default()),
    }
}

struct Expander<'a> {
    sources: &'a Sources,
    warnings: &'a mut Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
    references: usize,
    /// Bytes of text read or rewritten: what a value that grows with every round is bounded by.
    work: usize,
    weight: usize,
    /// A limit was met: nothing more is replaced, and the one error says why.
    stopped: bool,
}

impl Expander<'_> {
    fn node(&mut self, node: &mut Node, depth: usize, path: &str) {
        if self.stopped {
            return;
        }
        if depth > yaml::DEPTH_MAX {
            return self.stop(
                &node.place,
                path,
                format!("nested deeper than {} after its references", yaml::DEPTH_MAX),
            );
        }
        match &mut node.value {
            Value::Str(text) if text.contains('$') => self.text(node, depth, path),
            Value::List(items) => {
                items
                    .iter_mut()
                    .enumerate()
                    .for_each(|(at, item)| self.node(item, depth + 1, &format!("{path}[{at}]")));
            }
            Value::Map(map) => map.iter_mut().for_each(|entry| {
                let path = super::joined(path, &entry.key);
                self.node(&mut entry.value, depth + 1, &path);
            }),
            _ => {}
        }
    }

    fn stop(&mut self, place: &Place, path: &str, message: String) {
        self.stopped = true;
        self.errors.push(Diagnostic::error(place, path, message));
    }

    /// Replaces the references of a string until none is left.
    fn text(&mut self, node: &mut Node, depth: usize, path: &str) {
        for _ in 0..ROUNDS_MAX {
            let Value::Str(text) = &node.value else { break };
            let Some(reference) = find(text) else {
                unescape(node);
                return;
            };
            let whole = reference.len() == text.len();
            let reference = reference.to_owned();
            let Some(replacement) = self.retrieve(&reference, &node.place, path) else { return };
            if !whole {
                let text = text.replace(&reference, &text_of(&replacement));
                self.work += text.len();
                if text.len() > VALUE_BYTES_MAX {
                    let message = format!("longer than {VALUE_BYTES_MAX} bytes after its references");
                    return self.stop(&node.place, path, message);
                }
                node.value = Value::Str(text);
                node.place.via = Some(via(&node.place, &reference));
                continue;
            }
            *node = replacement;
            if matches!(node.value, Value::Str(_)) {
                continue;
            }
            let weight = node.weight();
            self.weight += weight;
            if self.weight > yaml::WEIGHT_MAX {
                return self.stop(&node.place.clone(), path, "too many values after its references".to_owned());
            }
            self.original(node, path);
            return self.node(node, depth, path);
        }
        let place = node.place.clone();
        self.stop(&place, path, "its references lead to each other without an end".to_owned());
    }

    /// The text that stands beside a value which is no string has references of its own.
    fn original(&mut self, node: &mut Node, path: &str) {
        let Some(mut text) = node.expanded.as_deref().map(str::to_owned) else { return };
        for _ in 0..ROUNDS_MAX {
            let Some(reference) = find(&text).map(str::to_owned) else { break };
            let Some(replacement) = self.retrieve(&reference, &node.place, path) else { return };
            text = text.replace(&reference, &text_of(&replacement));
            self.work += text.len();
            if text.len() > VALUE_BYTES_MAX {
                break;
            }
        }
        node.expanded = Some(Arc::from(text.replace("$$", "$")));
    }

    fn retrieve(&mut self, reference: &str, place: &Place, path: &str) -> Option<Node> {
        self.references += 1;
        if self.references > REFERENCES_MAX || self.work > WORK_BYTES_MAX {
            self.stop(place, path, "more references than can be followed: they lead to each other".to_owned());
            return None;
        }
        let inside = &reference[2..reference.len() - 1];
        let with_scheme;
        let uri = if inside.contains(':') {
            inside
        } else {
            with_scheme = format!("env:{inside}");
            &with_scheme
        };
        let hint = match inside.split_once(":-") {
            Some((name, _)) if !name.contains(':') => {
                format!("; a default needs the scheme: ${{env:{name}:-…}}")
            }
            _ => String::new(),
        };
        let warnings_before = self.warnings.len();
        let retrieved = match Location::of_uri(uri) {
            None => Err(format!("{} is no reference{hint}", shown(reference))),
            Some(location) if location.rest.contains('$') => Err(format!("{} holds a lone \"$\"", shown(reference))),
            Some(location) => self
                .sources
                .retrieve(&location, &shown(reference), self.warnings)
                .map_err(|error| format!("{}{hint}", error.message)),
        };
        for warning in &mut self.warnings[warnings_before..] {
            warning.place = Some(place.clone());
            path.clone_into(&mut warning.path);
        }
        match retrieved {
            Ok(mut node) => {
                self.work += 64 + text_of(&node).len();
                let from_file = uri.starts_with("file:") && matches!(node.value, Value::Map(_) | Value::List(_));
                if matches!(node.value, Value::Str(_)) {
                    node.expanded = None;
                }
                if !from_file {
                    // Lines inside a variable mean nothing: the reference is what one can find.
                    let place = Place { via: Some(via(place, reference)), ..place.clone() };
                    node.place_at(&place);
                }
                Some(node)
            }
            Err(message) => {
                self.errors.push(Diagnostic::error(place, path, message));
                None
            }
        }
    }
}

/// The first reference is the one written in the source; what it leads to is not shown.
fn via(place: &Place, reference: &str) -> Arc<str> {
    place.via.clone().unwrap_or_else(|| Arc::from(shown(reference)))
}

/// A reference as messages show it: a default or a text of its own may be long, and may be a secret.
fn shown(reference: &str) -> String {
    match (reference.split_once(":-"), reference.starts_with("${yaml:")) {
        (_, true) => "${yaml:…}".to_owned(),
        (Some((name, _)), false) => format!("{name}}}"),
        (None, false) => reference.chars().take(80).collect(),
    }
}

/// The text a value is spliced in with.
fn text_of(node: &Node) -> String {
    match (&node.expanded, &node.value) {
        (Some(text), _) => text.to_string(),
        (None, Value::Str(text)) => text.clone(),
        (None, _) => String::new(),
    }
}

fn unescape(node: &mut Node) {
    if let Value::Str(text) = &mut node.value
        && text.contains("$$")
    {
        *text = text.replace("$$", "$");
    }
}

/// The innermost reference before the first `}` that ends one; `$${` is an escape, `$$${` is not.
fn find(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let close = rest.find('}')?;
        if let Some(open) = rest[..close].rfind("${") {
            let dollars = rest.as_bytes()[..open].iter().rev().take_while(|b| **b == b'$').count();
            if dollars % 2 == 0 {
                return Some(&rest[open..=close]);
            }
        }
        rest = &rest[close + 1..];
    }
}
