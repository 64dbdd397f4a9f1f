//! YAML text into a [`Node`] tree, from granit-parser's events.
//!
//! # Limits
//!
//! A text above 4 MiB, nesting above 64, or a tree (aliases copied out) of a weight above 200 000 is refused: each of
//! them long before memory or time matters.
//!
//! # Differences from YAML 1.2
//!
//! As the Collector's parser: merge keys (`<<`), only the first document counts, a duplicate key is refused, and a
//! `%YAML` directive other than 1.1 is refused.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::node::{Entry, Map, Node, Place, Value};
use super::report::Diagnostic;
use super::scalar;

/// Bytes of one source.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 20;
/// Nesting of collections.
pub(super) const DEPTH_MAX: usize = 64;
/// See [`Node::weight`].
pub(super) const WEIGHT_MAX: usize = 200_000;

/// The first document of `text`; nothing at all is [`Value::Null`].
pub(super) fn parse(text: &str, source: &Arc<str>) -> Result<Node, Diagnostic> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("{} bytes of text; the limit is {TEXT_BYTES_MAX}", text.len());
        return Err(Diagnostic::error(&Place::whole(source), "", message));
    }
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
        bom_inside_document_as_content: true,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { source, stack: Vec::new(), anchors: HashMap::new(), weight: 0, root: None };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let place = builder.place(*error.marker());
            Diagnostic::error(&place, "", format!("not valid YAML: {}", error.info()))
        })?;
        let place = builder.place(span.start);
        match event {
            Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                return Err(Diagnostic::error(
                    &place,
                    "",
                    "%YAML directive: only version 1.1 is read; remove the line",
                ));
            }
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(text.as_ref(), style, tag.as_deref(), &place)?;
                let merge_key = style == ScalarStyle::Plain && text == "<<";
                builder.scalar(text.as_ref(), value, place, anchor, merge_key)?;
            }
            Event::Alias(anchor) => builder.alias(anchor, place)?,
            Event::SequenceStart(_, anchor, _) => builder.open(Frame::list(place, anchor))?,
            Event::MappingStart(_, anchor, _) => builder.open(Frame::map(place, anchor))?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            _ => {}
        }
    }
    Ok(builder.root.unwrap_or_else(|| Node::new(Value::Null, Place::whole(source))))
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Result<Value, Diagnostic> {
    let plain = || match style {
        ScalarStyle::Plain => scalar::plain(text),
        _ => Value::Str(text.to_owned()),
    };
    let Some(tag) = tag else { return Ok(plain()) };
    let tagged = match tag.core_suffix() {
        Some("str") => Some(Value::Str(text.to_owned())),
        Some("null") => matches!(scalar::plain(text), Value::Null).then_some(Value::Null),
        Some("bool") => Some(scalar::plain(text)).filter(|value| matches!(value, Value::Bool(_))),
        Some("int") => Some(scalar::plain(text)).filter(|value| matches!(value, Value::Int(_))),
        Some("float") => match scalar::plain(text) {
            #[allow(clippy::cast_precision_loss, reason = "the tag asks for a float")]
            Value::Int(int) => Some(Value::Float(int as f64)),
            value @ Value::Float(_) => Some(value),
            _ => None,
        },
        Some("timestamp") => Some(scalar::plain(text)).filter(|value| matches!(value, Value::Time(_))),
        // A tag of one's own changes nothing.
        _ => Some(plain()),
    };
    tagged.ok_or_else(|| Diagnostic::error(place, "", format!("the text does not fit its tag {}", tag.original())))
}

enum Items {
    List(Vec<Node>),
    Map { map: Map, key: Option<(String, Place, bool)>, merged: Vec<(Node, Place)> },
}

struct Frame {
    items: Items,
    place: Place,
    anchor: usize,
}

impl Frame {
    fn list(place: Place, anchor: usize) -> Self {
        Self { items: Items::List(Vec::new()), place, anchor }
    }

    fn map(place: Place, anchor: usize) -> Self {
        Self { items: Items::Map { map: Map::default(), key: None, merged: Vec::new() }, place, anchor }
    }
}

struct Builder<'a> {
    source: &'a Arc<str>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    weight: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn place(&self, marker: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { source: self.source.clone(), line: number(marker.line()), column: number(marker.col() + 1), via: None }
    }

    fn charge(&mut self, weight: usize, place: &Place) -> Result<(), Diagnostic> {
        self.weight += weight;
        if self.weight > WEIGHT_MAX {
            return Err(Diagnostic::error(place, "", "too many values (aliases counted as often as they are used)"));
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> Result<(), Diagnostic> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(Diagnostic::error(&frame.place, "", format!("nested deeper than {DEPTH_MAX}")));
        }
        if let Some(Frame { items: Items::Map { key: None, .. }, .. }) = self.stack.last() {
            return Err(Diagnostic::error(&frame.place, "", "a key must be a scalar, not a list or a map"));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn scalar(&mut self, text: &str, value: Value, place: Place, anchor: usize, merge: bool) -> Result<(), Diagnostic> {
        let node = Node::new(value, place);
        self.charge(node.weight(), &node.place)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        if let Some(Frame { items: Items::Map { key: key @ None, .. }, .. }) = self.stack.last_mut() {
            *key = Some((text.to_owned(), node.place, merge));
            return Ok(());
        }
        self.add(node)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Diagnostic> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(Diagnostic::error(&place, "", "the alias stands inside the value it names"));
        };
        // Weighed before it is copied: the copy of an alias of aliases is what must not happen.
        let (weight, depth) = (target.weight(), target.depth());
        self.charge(weight, &place)?;
        if self.stack.len() + depth > DEPTH_MAX {
            return Err(Diagnostic::error(&place, "", format!("nested deeper than {DEPTH_MAX}")));
        }
        let node = self.anchors[&anchor].clone();
        if let Some(Frame { items: Items::Map { key: key @ None, .. }, .. }) = self.stack.last_mut() {
            let Some(text) = node.as_str() else {
                return Err(Diagnostic::error(&place, "", "a key must be a string"));
            };
            *key = Some((text.to_owned(), place, false));
            return Ok(());
        }
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<(), Diagnostic> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.items {
            Items::List(items) => items.push(node),
            Items::Map { map, key, merged } => {
                // `open` and `scalar` have set the key: values only arrive after one.
                let Some((key, place, merge)) = key.take() else { return Ok(()) };
                if merge {
                    merged.push((node, place));
                } else if let Some(first) = map.entry(&key) {
                    let message = format!("the key \"{key}\" is given twice; first on line {}", first.place.line);
                    return Err(Diagnostic::error(&place, "", message));
                } else {
                    map.insert(Entry { key, place, value: node });
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        let Some(Frame { items, place, anchor }) = self.stack.pop() else { return Ok(()) };
        let value = match items {
            Items::List(items) => Value::List(items),
            Items::Map { mut map, merged, .. } => {
                if let [_, (_, place), ..] = merged.as_slice() {
                    return Err(Diagnostic::error(place, "", "the key \"<<\" is given twice"));
                }
                for (node, place) in merged {
                    merge_into(&mut map, node, &place)?;
                }
                Value::Map(map)
            }
        };
        let node = Node::new(value, place);
        self.charge(1, &node.place)?;
        if anchor != 0 {
            // The copy kept for aliases counts, so that nested anchors cannot multiply it.
            self.charge(node.weight(), &node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node)
    }
}

/// A merge key's value: a map, or a list of maps of which the first that has a key wins. Keys given beside it win.
fn merge_into(map: &mut Map, node: Node, place: &Place) -> Result<(), Diagnostic> {
    let refused = || Diagnostic::error(place, "", "the merge key \"<<\" takes a map or a list of maps");
    let sources = match node.value {
        Value::Map(source) => vec![source],
        Value::List(items) => items
            .into_iter()
            .map(|item| match item.value {
                Value::Map(source) => Ok(source),
                _ => Err(refused()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(refused()),
    };
    for source in sources {
        for entry in source {
            if map.get(&entry.key).is_none() {
                map.insert(entry);
            }
        }
    }
    Ok(())
}
