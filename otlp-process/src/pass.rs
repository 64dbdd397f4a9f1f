//! The fused pass: the attribute edits of several processors in one walk over the bytes.
//!
//! Every transform that edits attributes is a [`Pass`] of one step. A chain joins neighbours into one: each further step
//! costs its lookups and not another copy. The steps of a pass see every list of attributes in order, each with the
//! changes of those before it, so the result is the same as one walk after another.
//!
//! # Why that holds
//!
//! A step changes attributes only. What it decides by (names, kinds, scope names, other attributes) no step changes, but
//! for the attributes of the very list it is shown, or of a resource: that it sees at its own turn, before the items.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use otlp_core::batch::{Batch, Context};
use otlp_core::component::{Refused, Transform};
use otlp_core::wire::edit::{AttributeList, Editor, edit_batch};
use otlp_core::wire::view::{ItemView, MetricView, ResourceItemsView, ScopeItemsView};
use smallvec::SmallVec;

/// One processor's part in a pass.
///
/// # Threads
///
/// Begun from several threads at once.
pub trait Step: Send + Sync {
    /// Begins on a batch that came with `context`. What it gives back is used for this batch alone.
    fn begin<'s>(&'s self, context: &'s Context) -> Box<dyn Editor + 's>;
}

/// Steps that share one walk.
#[derive(Clone, Default)]
pub struct Pass {
    steps: Vec<Arc<dyn Step>>,
}

impl Pass {
    /// A pass of one step.
    pub fn of(step: Arc<dyn Step>) -> Pass {
        Pass { steps: vec![step] }
    }

    /// Puts another pass's steps behind its own.
    pub fn join(&mut self, other: &Pass) {
        self.steps.extend(other.steps.iter().cloned());
    }

    /// How many steps it has.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Transform for Pass {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let context = Arc::clone(batch.context());
        let batch = match self.steps.as_slice() {
            [] => batch,
            [only] => edit_batch(batch, &mut *only.begin(&context)),
            steps => {
                let turns = steps.iter().map(|step| Turn {
                    editor: step.begin(&context),
                    resource: false,
                    scope: false,
                    metric: false,
                });
                edit_batch(batch, &mut Turns(turns.collect()))
            }
        };
        Ok(Some(batch))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// A step on one batch, with what it said of the messages that enclose the walk.
struct Turn<'a> {
    editor: Box<dyn Editor + 'a>,
    /// Whether it wants to see what is below the resource.
    resource: bool,
    /// Whether it wants to see what is below the scope.
    scope: bool,
    /// Whether it wants to see the data points; of the other signals as `scope`.
    metric: bool,
}

struct Turns<'a>(SmallVec<[Turn<'a>; 4]>);

impl Editor for Turns<'_> {
    fn resource(&mut self, envelope: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        let mut any = false;
        for turn in &mut self.0 {
            turn.resource = turn.editor.resource(envelope, attributes);
            any |= turn.resource;
        }
        any
    }

    fn scope(&mut self, envelope: ScopeItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        let mut any = false;
        for turn in &mut self.0 {
            turn.scope = turn.resource && turn.editor.scope(envelope, attributes);
            turn.metric = turn.scope;
            any |= turn.scope;
        }
        any
    }

    fn metric(&mut self, metric: MetricView<'_>) -> bool {
        let mut any = false;
        for turn in &mut self.0 {
            turn.metric = turn.scope && turn.editor.metric(metric);
            any |= turn.metric;
        }
        any
    }

    fn item(&mut self, item: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        for turn in self.0.iter_mut().filter(|turn| turn.metric) {
            turn.editor.item(item, attributes);
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({} steps)", self.steps.len())
    }
}
