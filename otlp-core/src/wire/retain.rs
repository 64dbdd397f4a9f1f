//! Items taken out of a request: filters, samplers, routing.
//!
//! # What it does
//!
//! Asks about every item once, in order, and then writes the request again without those that were not wanted. A
//! resource, scope or metric of which all was removed goes too; one that was empty before stays, since the unknown
//! fields in it may be what a later release calls an item.
//!
//! # Limits
//!
//! One bit of memory an item, and the new body. Where all stay, or none, nothing is copied.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::signal::Signal;
use crate::unit::ItemCount;

use super::index::{ItemRef, walk};
use super::rebuild::{Verdict, rebuild};

/// What is left of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The request; the very bytes that came in where nothing was removed, empty where no item is left.
    pub body: Bytes,
    /// Its items.
    pub kept: ItemCount,
    /// Items that are not in it any more.
    pub removed: ItemCount,
}

/// Keeps the items for which `keep` says so.
///
/// The body must be in [canonical shape](mod@super::validate), as that of every batch is.
///
/// # Examples
///
/// ```
/// use otlp_core::{Signal, testing::generate};
/// use otlp_core::wire::retain;
///
/// let body = generate::request(Signal::Logs, 1, 10);
/// let mut number = 0;
/// let left = retain(Signal::Logs, &body, |_| {
///     number += 1;
///     number % 2 == 0
/// });
/// assert_eq!((left.kept.get(), left.removed.get()), (5, 5));
/// ```
pub fn retain(signal: Signal, body: &Bytes, mut keep: impl FnMut(&ItemRef<'_>) -> bool) -> Retained {
    let mut kept: SmallVec<[u64; 16]> = SmallVec::new();
    let (mut items, mut left, mut left_bytes) = (0usize, 0u64, 0usize);
    walk(signal, body, |item| {
        if items.is_multiple_of(64) {
            kept.push(0);
        }
        if keep(item) {
            kept[items / 64] |= 1 << (items % 64);
            left += 1;
            left_bytes += item.field.len();
        }
        items += 1;
    });
    let retained = |body| Retained { body, kept: ItemCount(left), removed: ItemCount(items as u64 - left) };
    if left == items as u64 {
        return retained(body.clone());
    }
    if left == 0 {
        return retained(Bytes::new());
    }
    // Room for the items and, as a guess, for as much again as the rest divided by how many were removed.
    let rest = body.len() - left_bytes.min(body.len());
    let capacity = (left_bytes + rest.min(2048)).min(body.len());
    let parts = rebuild(signal, body, capacity, |offer| {
        let number = offer.number as usize;
        match kept.get(number / 64) {
            Some(bits) if bits >> (number % 64) & 1 == 1 => Verdict::Take,
            _ => Verdict::Leave,
        }
    });
    match parts.map(|mut parts| parts.pop()) {
        Ok(Some(part)) if part.items == left => retained(part.body.into()),
        // Only bytes that nobody validated come here: leave them alone.
        _ => Retained { body: body.clone(), kept: ItemCount(items as u64), removed: ItemCount::ZERO },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::generate;

    #[test]
    fn nothing_removed_is_the_same_memory_and_all_removed_is_nothing() {
        for signal in Signal::ALL {
            let body = generate::request(signal, 4, 70);
            let all = retain(signal, &body, |_| true);
            assert_eq!((all.body.as_ptr(), all.kept, all.removed), (body.as_ptr(), ItemCount(70), ItemCount::ZERO));
            let none = retain(signal, &body, |_| false);
            assert_eq!((none.body.len(), none.kept, none.removed), (0, ItemCount::ZERO, ItemCount(70)));
        }
    }

    #[test]
    fn what_was_emptied_goes_and_what_was_empty_stays() {
        // A resource with an empty scope and one of a span; a resource of a span; a resource with nothing.
        let body = Bytes::from_static(&[0x0a, 6, 0x12, 0, 0x12, 2, 0x12, 0, 0x0a, 4, 0x12, 2, 0x12, 0, 0x0a, 0]);
        let mut number = 0;
        let left = retain(Signal::Traces, &body, |_| {
            number += 1;
            number == 2
        });
        assert_eq!(left.body[..], [0x0a, 2, 0x12, 0, 0x0a, 4, 0x12, 2, 0x12, 0, 0x0a, 0]);
    }
}
