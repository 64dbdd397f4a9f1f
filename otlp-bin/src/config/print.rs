//! A resolved configuration as text again: `print-config`.

use std::fmt::Write as _;

use super::Format;
use super::node::{Entry, Map, Node, Value};
use super::scalar;
use super::schema::Role;
use super::topology::Resolved;

impl Resolved {
    /// The configuration with its defaults filled in. Secrets are [`super::REDACTED`] unless `reveal`.
    pub fn print(&self, format: Format, reveal: bool) -> String {
        let root = self.to_node(!reveal);
        match format {
            Format::Yaml => {
                let mut out = String::new();
                yaml(&root.value, 0, &mut out);
                out
            }
            Format::Json => {
                // Maps of strings cannot fail to serialise; keys keep their order in neither form that matters.
                let mut text = serde_json::to_string_pretty(&json(&root.value)).unwrap_or_default();
                text.push('\n');
                text
            }
        }
    }

    fn to_node(&self, redact: bool) -> Node {
        let place = self.service.place().clone();
        let mut root = Map::default();
        let insert = |map: &mut Map, key: String, value: Node| {
            let place = value.place.clone();
            map.insert(Entry { key, place, value });
        };
        for role in Role::ALL {
            let mut map = Map::default();
            for component in self.components(role) {
                insert(&mut map, component.id.to_string(), component.section.to_node(redact));
            }
            if !map.is_empty() {
                insert(&mut root, role.section().to_owned(), Node::new(Value::Map(map), place.clone()));
            }
        }
        let mut service = self.service.to_node(redact);
        if let Value::Map(map) = &mut service.value {
            let mut pipelines = Map::default();
            for pipeline in &self.pipelines {
                insert(&mut pipelines, pipeline.id.to_string(), pipeline.section.to_node(redact));
            }
            insert(map, "pipelines".to_owned(), Node::new(Value::Map(pipelines), place.clone()));
        }
        insert(&mut root, "service".to_owned(), service);
        Node::new(Value::Map(root), place)
    }
}

/// A `$` is doubled so that the output loads as what it was.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(map) if !map.is_empty() => {
            for entry in map.iter() {
                out.push_str(&" ".repeat(indent));
                out.push_str(&quoted(&entry.key));
                out.push(':');
                nested(&entry.value.value, indent + 4, out);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "{}-", " ".repeat(indent));
                let mut text = String::new();
                nested(&item.value, indent + 2, &mut text);
                // A map's first key stands behind the dash.
                match text.strip_prefix('\n') {
                    Some(below) => {
                        out.push(' ');
                        out.push_str(below.get(indent + 2..).unwrap_or_default());
                    }
                    None => out.push_str(&text),
                }
            }
        }
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    let collection = match value {
        Value::Map(map) => !map.is_empty(),
        Value::List(items) => !items.is_empty(),
        _ => false,
    };
    out.push(if collection { '\n' } else { ' ' });
    yaml(value, indent, out);
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_nan() => ".nan".to_owned(),
        Value::Float(value) if value.is_infinite() => if *value > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        Value::Float(value) => format!("{value:?}"),
        Value::Str(text) => quoted(&text.replace('$', "$$")),
        Value::Time(text) => text.clone(),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
    }
}

/// Plain where plain text reads back as itself, else in double quotes.
fn quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/'));
    let inner = text.replace(':', "");
    let colons = !text.ends_with(':');
    if starts && colons && inner.chars().all(safe) && matches!(scalar::plain(text), Value::Str(_)) {
        return text.to_owned();
    }
    // JSON's escapes are YAML's in double quotes.
    serde_json::Value::from(text).to_string()
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => i64::try_from(*value).map_or_else(|_| value.to_string().into(), Into::into),
        Value::Float(value) => (*value).into(),
        Value::Str(text) => text.replace('$', "$$").into(),
        Value::Time(text) => text.clone().into(),
        Value::List(items) => items.iter().map(|item| json(&item.value)).collect(),
        Value::Map(map) => map.iter().map(|entry| (entry.key.clone(), json(&entry.value.value))).collect(),
    }
}
