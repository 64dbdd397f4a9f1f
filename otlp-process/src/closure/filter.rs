//! Keeps the items of which a closure says so.
//!
//! # What it does
//!
//! Asks once about every item. What is not kept is removed, as configured: the books hear of it, and of a batch that
//! nothing is left of its sender hears OK. A resource, scope or metric that was emptied goes too. Where all stay, the
//! batch leaves with the bytes it came with.
//!
//! # Place in the pipeline
//!
//! Early: what is removed takes no room behind it.
//!
//! # Threads
//!
//! A [`Transform`]: any thread, several batches at once.
//!
//! # Limits
//!
//! One bit of memory an item.
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
use otlp_core::wire::retain;

use super::Item;
use crate::chain::Stateless;

struct Filter<F>(F);

/// A processor that keeps the items for which `keep` says so, and removes the others.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use otlp_process::closure::filter;
///
/// let slow = filter(|item| item.duration() >= Duration::from_millis(5));
/// let checkout = filter(|item| item.attribute("http.route").is_some_and(|route| route.as_str() == Some("/checkout")));
/// # let _ = (slow, checkout);
/// ```
pub fn filter(keep: impl Fn(Item<'_>) -> bool + Send + Sync + 'static) -> Stateless {
    Stateless::new(Filter(keep))
}

impl<F: Fn(Item<'_>) -> bool + Send + Sync> Transform for Filter<F> {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let left = retain(batch.signal(), batch.body(), |item| (self.0)(Item::of(item)));
        Ok(batch.retained(left))
    }
}
