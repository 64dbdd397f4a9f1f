//! The `attributes` processor: changes the attributes of spans, log records and data points.
//!
//! | file          | purpose                                                            |
//! |---------------|--------------------------------------------------------------------|
//! | `config.rs`   | the settings, and what is wrong with them                          |
//! | `action.rs`   | the actions, ready to run; shared with the `resource` processor     |
//! | `digest.rs`   | SHA-256 of values, remembered within a batch                       |
//! | `matching.rs` | `include` and `exclude`, ready to run                              |
//! | `tests.rs`    | every action against a naive map; matching; bad settings           |
//!
//! # What it does
//!
//! Actions run in order on the attributes of each item that `include` and `exclude` leave: `insert`, `update`, `upsert`,
//! `delete`, `hash`, `extract`, `convert`. Data points of every kind are items, summaries and exponential histograms too.
//! Attributes of resources, scopes, events, links, metrics and exemplars are not touched.
//!
//! # Place in the pipeline
//!
//! Anywhere. Neighbours that edit attributes share one walk over the bytes; see [`pass`](crate::pass).
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
//! It cannot fail. What an action cannot do (a source that is missing, a text that is no number) it leaves undone.
//!
//! # On shutdown
//!
//! It holds nothing.
//!
//! # Where it departs from the Collector
//!
//! - Attributes keep their order; the Collector moves the last one into the place of one that was deleted.
//! - A key that occurs twice is hashed once at each place by `pattern`; the Collector hashes the first one twice.
//! - `libraries` matches where one entry does, as its documentation says; the Collector asks for all of them.
//! - `from_context` with `auth.` finds `auth.username`, which basicauth establishes; not `auth.raw`, which is the password.
//! - Deleting by `key` takes out the first attribute of that name, as the Collector does: where a sender repeats a key the
//!   second one stays. `pattern` takes out all.

mod action;
mod config;
mod digest;
mod matching;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;

use otlp_core::batch::{Batch, Context};
use otlp_core::component::{Refused, Transform};
use otlp_core::signal::Signal;
use otlp_core::wire::edit::{AttributeList, Editor};
use otlp_core::wire::view::{ItemView, MetricView, ResourceItemsView, ScopeItemsView};

pub(crate) use action::{Actions, Resolved};
pub(crate) use config::check_actions;
pub use config::{Action, Attribute, Config, Library, Match, MatchType, RegexpCache, SeverityNumberMatch};

use crate::ConfigError;
use crate::pass::{Pass, Step};
use matching::Matcher;

/// The processor, ready to run on one signal.
///
/// # Examples
///
/// ```
/// use otlp_core::component::Transform;
/// use otlp_core::wire::edit::Value;
/// use otlp_core::wire::view::resources;
/// use otlp_core::{Batch, ItemCount, Signal};
/// use otlp_process::attributes::{Action, Attributes, Config};
///
/// let upsert = Action { key: "env".into(), action: "upsert".into(), value: Some(Value::string("test")), ..Action::default() };
/// let config = Config { actions: vec![upsert], ..Config::default() };
/// let attributes = Attributes::new(config, Signal::Traces).unwrap();
/// let body = bytes::Bytes::from_static(&[0x0a, 9, 0x12, 7, 0x12, 5, 0x2a, 3, b'g', b'e', b't']);
/// let batch = attributes.apply(Batch::trusted(Signal::Traces, ItemCount(1), body)).unwrap().unwrap();
/// let span = resources(batch.body()).next().unwrap().scopes().next().unwrap().spans().next().unwrap();
/// assert_eq!(span.attributes().get("env").unwrap().as_str(), Some("test"));
/// ```
#[derive(Clone, Debug)]
pub struct Attributes(Pass);

impl Attributes {
    /// Makes it ready to run.
    ///
    /// # Errors
    ///
    /// As [`Config::check`], and where `include` or `exclude` asks for what the signal does not have.
    pub fn new(config: Config, signal: Signal) -> Result<Attributes, ConfigError> {
        config.check()?;
        let matcher = |section: &str, of: Option<&Match>| {
            of.map(|of| Matcher::new(section, of, signal)).transpose().map(Option::flatten)
        };
        Ok(Attributes(Pass::of(Arc::new(Items {
            actions: Actions::new("actions", &config.actions)?,
            include: matcher("include", config.include.as_ref())?,
            exclude: matcher("exclude", config.exclude.as_ref())?,
        }))))
    }
}

impl Transform for Attributes {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        self.0.apply(batch)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(&self.0)
    }
}

struct Items {
    actions: Actions,
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

/// The step on one batch. The flags say what is known of `exclude` on the way down.
struct OnBatch<'a> {
    items: &'a Items,
    resolved: Resolved<'a>,
    /// Whether the resource, the scope, the metric of the moment leave it to what is below whether it is excluded.
    excluding_resource: bool,
    excluding: bool,
}

impl Step for Items {
    fn begin<'s>(&'s self, context: &'s Context) -> Box<dyn Editor + 's> {
        let resolved = self.actions.resolve(context);
        Box::new(OnBatch { items: self, resolved, excluding_resource: false, excluding: false })
    }
}

impl Editor for OnBatch<'_> {
    fn resource(&mut self, _: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        if self.items.include.as_ref().is_some_and(|include| !include.resource(attributes)) {
            return false;
        }
        self.excluding_resource = self.items.exclude.as_ref().is_some_and(|exclude| exclude.resource(attributes));
        true
    }

    fn scope(&mut self, envelope: ScopeItemsView<'_>, _: &mut AttributeList<'_>) -> bool {
        if self.items.include.as_ref().is_some_and(|include| !include.scope(envelope)) {
            return false;
        }
        self.excluding =
            self.excluding_resource && self.items.exclude.as_ref().is_some_and(|exclude| exclude.scope(envelope));
        !(self.excluding && self.items.exclude.as_ref().is_some_and(Matcher::is_decided_by_scope))
    }

    fn metric(&mut self, metric: MetricView<'_>) -> bool {
        let matches = |matcher: &Option<Matcher>| matcher.as_ref().is_none_or(|matcher| matcher.metric(metric));
        // For metrics nothing below the metric is matched, so this decides it.
        matches(&self.items.include) && !(self.excluding && matches(&self.items.exclude))
    }

    fn item(&mut self, item: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        if self.items.include.as_ref().is_some_and(|include| !include.item(item, attributes)) {
            return;
        }
        // Points were decided with their metric.
        if self.excluding
            && !matches!(item, ItemView::Point(_))
            && self.items.exclude.as_ref().is_some_and(|exclude| exclude.item(item, attributes))
        {
            return;
        }
        self.items.actions.run(&mut self.resolved, attributes);
    }
}
