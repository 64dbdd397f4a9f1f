//! One stream into two outlets, by what a closure says of each item.
//!
//! # What it does
//!
//! Splits a batch into the items that match and the others, each a whole request with the resources and scopes around its
//! items, and hands them over. A batch of one kind passes as it came. Both parts share in the sender's answer, which is
//! the worse of the two; order is kept within each.
//!
//! # Place in the pipeline
//!
//! An [`Outlet`]: between a receiver and two pipelines, or behind a pipeline, as the outlet of its connector.
//!
//! # Threads
//!
//! Those of whoever sends. Never blocks.
//!
//! # Limits
//!
//! One byte of memory an item while a batch is split, and the new bodies.
//!
//! # On failure
//!
//! Where the outlet for what matches refuses, the whole batch comes back and nothing has been handed over. Where the other
//! one refuses after that, its part alone comes back: held and offered again where it asks for that, else answered with
//! "send again", and then the part that was taken comes twice (at least once, as OTLP has it). Put the one more likely to
//! refuse first, or let the other's gate block.
//!
//! # On shutdown
//!
//! It holds nothing.

use std::fmt;
use std::sync::Arc;

use otlp_core::component::{Outlet, Refused};
use otlp_core::wire::retain;
use otlp_core::{Batch, ItemCount, Outcome};

use super::Item;

/// See [`partition`].
pub struct Partition<F> {
    matches: F,
    matching: Arc<dyn Outlet>,
    others: Arc<dyn Outlet>,
}

/// An outlet that hands the items for which `matches` says so to `matching` and all others to `others`.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use otlp_core::component::Outlet;
/// use otlp_process::closure::partition;
///
/// fn slow_and_fast(slow: Arc<dyn Outlet>, fast: Arc<dyn Outlet>) -> Arc<dyn Outlet> {
///     Arc::new(partition(|item| item.duration() >= Duration::from_secs(1), slow, fast))
/// }
/// ```
pub fn partition<F: Fn(Item<'_>) -> bool + Send + Sync>(
    matches: F,
    matching: Arc<dyn Outlet>,
    others: Arc<dyn Outlet>,
) -> Partition<F> {
    Partition { matches, matching, others }
}

impl<F: Fn(Item<'_>) -> bool + Send + Sync> Outlet for Partition<F> {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        // Each item is asked about once, whatever the closure does.
        let mut verdicts: Vec<bool> = Vec::new();
        let matching = retain(batch.signal(), batch.body(), |item| {
            let matches = (self.matches)(Item::of(item));
            verdicts.push(matches);
            matches
        });
        if matching.removed == ItemCount::ZERO {
            return self.matching.try_send(batch);
        }
        if matching.kept == ItemCount::ZERO {
            return self.others.try_send(batch);
        }
        let mut verdicts = verdicts.into_iter();
        let rest = retain(batch.signal(), batch.body(), |_| verdicts.next() == Some(false));
        // The batch itself keeps a share until both are handed over: it is what comes back.
        let mut others = batch.share();
        let matching = others.split_off(matching.kept, matching.body, rest.body);
        if let Err(Refused { batch: part, failure, hold }) = self.matching.try_send(matching) {
            // These shares end here without a say in the answer: what comes back has its own.
            part.settle(Outcome::Delivered);
            others.settle(Outcome::Delivered);
            return Err(Refused { batch: Box::new(batch), failure, hold });
        }
        let sent = self.others.try_send(others);
        batch.settle(Outcome::Delivered);
        sent
    }
}

impl<F> fmt::Debug for Partition<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partition")
    }
}
