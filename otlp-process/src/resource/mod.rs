//! The `resource` processor: changes the attributes of resources.
//!
//! | file        | purpose                                                     |
//! |-------------|-------------------------------------------------------------|
//! | `mod.rs`    | the settings and the processor; the actions are those of [`attributes`](crate::attributes) |
//! | `tests.rs`  | resources there and absent, and the fused pass               |
//!
//! # What it does
//!
//! Runs actions in order on the attributes of every resource. A resource that is absent comes into being where an action
//! adds an attribute to it.
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
//! It cannot fail.
//!
//! # On shutdown
//!
//! It holds nothing.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;

use otlp_core::batch::{Batch, Context};
use otlp_core::component::{Refused, Transform};
use otlp_core::wire::edit::{AttributeList, Editor};
use otlp_core::wire::view::ResourceItemsView;

use crate::ConfigError;
use crate::attributes::{Action, Actions, check_actions};
use crate::pass::{Pass, Step};

/// Settings of the `resource` processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What to do, in order. At least one.
    pub attributes: Vec<Action>,
}

impl Config {
    /// Looks for what is wrong.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_actions("attributes", &self.attributes)
    }
}

/// The processor, ready to run on any signal.
#[derive(Clone, Debug)]
pub struct Resource(Pass);

impl Resource {
    /// Makes it ready to run.
    ///
    /// # Errors
    ///
    /// As [`Config::check`].
    pub fn new(config: Config) -> Result<Resource, ConfigError> {
        let actions = Actions::new("attributes", &config.attributes)?;
        Ok(Resource(Pass::of(Arc::new(Resources(actions)))))
    }
}

impl Transform for Resource {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        self.0.apply(batch)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(&self.0)
    }
}

struct Resources(Actions);

impl Step for Resources {
    fn begin<'s>(&'s self, context: &'s Context) -> Box<dyn Editor + 's> {
        let resolved = self.0.resolve(context);
        Box::new(OnBatch { actions: &self.0, resolved })
    }
}

struct OnBatch<'a> {
    actions: &'a Actions,
    resolved: crate::attributes::Resolved<'a>,
}

impl Editor for OnBatch<'_> {
    fn resource(&mut self, _: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        self.actions.run(&mut self.resolved, attributes);
        false
    }
}
