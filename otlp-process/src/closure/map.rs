//! Changes every item by a closure: attributes set, changed and deleted, spans and events renamed.
//!
//! # What it does
//!
//! Shows the closure one item after another. Attributes are edited in one pass over the bytes; names, where any was
//! changed, in a second one. Where nothing was changed the batch leaves with the bytes it came with.
//!
//! # Place in the pipeline
//!
//! Anywhere.
//!
//! # Threads
//!
//! A [`Transform`]: any thread, several batches at once.
//!
//! # Limits
//!
//! None of its own.
//!
//! # On failure
//!
//! It cannot fail.
//!
//! # On shutdown
//!
//! It holds nothing.

use otlp_core::Batch;
use otlp_core::component::{Refused, Transform};
use otlp_core::wire::edit::{AttributeList, Editor, edit_batch};
use otlp_core::wire::view::ItemView;

use super::rename::{Name, rename};
use crate::chain::Stateless;

struct Map<F>(F);

/// An item that a closure may change.
#[derive(Debug)]
pub struct ItemMut<'a, 'm> {
    view: ItemView<'a>,
    attributes: &'a mut AttributeList<'m>,
    name: Option<String>,
}

/// A processor that lets `change` see, and change, every item.
///
/// # Examples
///
/// ```
/// use otlp_core::wire::edit::Value;
/// use otlp_process::closure::map;
///
/// let tidy = map(|item| {
///     if item.name().starts_with("GET /users/") {
///         item.set_name("GET /users/{id}");
///     }
///     item.attributes().insert("deployment.environment.name", &Value::string("test"));
///     item.attributes().delete("http.request.header.cookie");
/// });
/// # let _ = tidy;
/// ```
pub fn map(change: impl Fn(&mut ItemMut<'_, '_>) + Send + Sync + 'static) -> Stateless {
    Stateless::new(Map(change))
}

impl<'a, 'm> ItemMut<'a, 'm> {
    /// The item as it was before it was changed.
    pub fn view(&self) -> ItemView<'a> {
        self.view
    }

    /// Its attributes, read and edited; they show what was changed.
    pub fn attributes(&mut self) -> &mut AttributeList<'m> {
        self.attributes
    }

    /// A span's name, or the name of the event that a log record is; shows what was changed. Empty for a data point, whose
    /// name is its metric's.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| own_name(self.view))
    }

    /// Gives a span, or the event that a log record is, another name. Says whether it could: a data point has none.
    pub fn set_name(&mut self, name: &str) -> bool {
        if matches!(self.view, ItemView::Point(_)) {
            return false;
        }
        self.name = Some(name.to_owned());
        true
    }
}

fn own_name(view: ItemView<'_>) -> &str {
    match view {
        ItemView::Span(span) => span.name(),
        ItemView::LogRecord(record) => record.event_name(),
        ItemView::Point(_) => "",
    }
}

/// One walk over a batch.
struct Walk<'f, F> {
    change: &'f F,
    number: usize,
    names: Vec<Name>,
}

impl<F: Fn(&mut ItemMut<'_, '_>)> Editor for Walk<'_, F> {
    fn item(&mut self, view: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        let mut item = ItemMut { view, attributes, name: None };
        (self.change)(&mut item);
        if let Some(text) = item.name
            && text != own_name(view)
        {
            self.names.push(Name { item: self.number, text });
        }
        self.number += 1;
    }
}

impl<F: Fn(&mut ItemMut<'_, '_>) + Send + Sync> Transform for Map<F> {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let mut walk = Walk { change: &self.0, number: 0, names: Vec::new() };
        let batch = edit_batch(batch, &mut walk);
        // Editing attributes moves no item, so their numbers are the same in what it gave back.
        match rename(batch.signal(), batch.body(), &walk.names) {
            Some(body) => Ok(Some(batch.with_body(body))),
            None => Ok(Some(batch)),
        }
    }
}
