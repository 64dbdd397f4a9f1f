//! Batches and groups made smaller, by items and by bytes.
//!
//! # What it does
//!
//! Every part is a whole request: the resource, scope and schema URLs around its items are repeated in it, with their
//! unknown fields; a metric that is divided repeats its name, unit, temporality and so on. Tickets are divided with the
//! items, so that each sender hears once all parts of what it sent have an outcome.
//!
//! # Place in the pipeline
//!
//! The batch processor's `send_batch_max_size`, the maximum sizes of a sending queue, and a destination that answers
//! 413.
//!
//! # Limits
//!
//! An item that is larger than the limit with what must stand around it makes a part of its own. Resources and scopes
//! without items travel with their neighbours and are not counted.

use bytes::Bytes;

use crate::batch::{Batch, Group};
use crate::unit::{ByteSize, ItemCount};

use super::rebuild::{Part, Verdict, rebuild};

/// How large a part may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimit {
    /// Items at most. At least 1: zero is taken as 1.
    pub items: ItemCount,
    /// Bytes at most, uncompressed and encoded, but for a part of a single item.
    pub bytes: ByteSize,
}

impl PartLimit {
    /// No limit.
    pub const NONE: PartLimit = PartLimit { items: ItemCount(u64::MAX), bytes: ByteSize(u64::MAX) };

    /// So many items, of whatever size.
    pub const fn items(items: ItemCount) -> PartLimit {
        PartLimit { items, bytes: ByteSize(u64::MAX) }
    }

    /// So many bytes, of however many items.
    pub const fn bytes(bytes: ByteSize) -> PartLimit {
        PartLimit { items: ItemCount(u64::MAX), bytes }
    }

    fn holds(&self, items: ItemCount, bytes: ByteSize) -> bool {
        items <= self.items && bytes <= self.bytes
    }
}

/// Splits a batch into parts within the limit, in order. One that fits already comes back as it is.
pub fn split(batch: Batch, limit: PartLimit) -> Vec<Batch> {
    if limit.holds(batch.items(), batch.size()) {
        return vec![batch];
    }
    let parts = cut(&batch, limit, limit);
    divide(batch, parts)
}

/// Splits off the first items. `None` where that would be all, or none.
pub fn split_first(batch: &mut Batch, items: ItemCount) -> Option<Batch> {
    if items == ItemCount::ZERO || items >= batch.items() {
        return None;
    }
    let parts = cut(batch, PartLimit::items(items), PartLimit::NONE);
    let [first, rest] = <[Part; 2]>::try_from(parts).ok()?;
    Some(batch.split_off(ItemCount(first.items), first.body.into(), rest.body.into()))
}

/// Splits a group into groups within the limit, in order: each is filled before the next begins.
///
/// Batches that fit stay whole. Room that was reserved in queues stays with the first group.
pub fn split_group(mut group: Group, limit: PartLimit) -> Vec<Group> {
    if limit.holds(group.items(), group.size()) {
        return vec![group];
    }
    let signal = group.signal();
    let room = group.take_room();
    let mut groups = Vec::new();
    let mut current = Group::new(signal);
    for batch in group.into_parts() {
        if limit.holds(current.items() + batch.items(), current.size() + batch.size()) {
            current.push(batch);
            continue;
        }
        let left = PartLimit {
            items: limit.items.saturating_sub(current.items()),
            bytes: limit.bytes.saturating_sub(current.size()),
        };
        let (begun, parts) = if current.is_empty() {
            (false, cut(&batch, limit, limit))
        } else if left.items == ItemCount::ZERO {
            (true, whole_or_cut(&batch, limit))
        } else {
            cut_after(&batch, left, limit)
        };
        // `begun`: the current group is full without any of these.
        if begun {
            groups.push(std::mem::replace(&mut current, Group::new(signal)));
        }
        for (number, part) in divide(batch, parts).into_iter().enumerate() {
            if number > 0 {
                groups.push(std::mem::replace(&mut current, Group::new(signal)));
            }
            current.push(part);
        }
    }
    if !current.is_empty() {
        groups.push(current);
    }
    if let (Some(first), Some(room)) = (groups.first_mut(), room) {
        first.join_room(room);
    }
    groups
}

/// The parts of a batch that begins a group of its own.
fn whole_or_cut(batch: &Batch, limit: PartLimit) -> Vec<Part> {
    if limit.holds(batch.items(), batch.size()) {
        return Vec::new();
    }
    cut(batch, limit, limit)
}

/// The parts of a batch of which the first joins a group that has `left` to spare; or, where not even one item fits
/// there, `true` and the parts of one that begins a group of its own.
fn cut_after(batch: &Batch, left: PartLimit, limit: PartLimit) -> (bool, Vec<Part>) {
    let parts = cut(batch, left, limit);
    let fits = parts.first().is_some_and(|first| ByteSize::from(first.body.len()) <= left.bytes);
    if fits { (false, parts) } else { (true, whole_or_cut(batch, limit)) }
}

/// Cuts a body into parts, the first within another limit than the others.
fn cut(batch: &Batch, first: PartLimit, others: PartLimit) -> Vec<Part> {
    let mut limit = first;
    let each = (batch.body().len() as u64 / batch.items().get().max(1) + 1).saturating_mul(others.items.get());
    let capacity = (batch.body().len() as u64).min(each).min(others.bytes.get()) as usize;
    let parts = rebuild(batch.signal(), batch.body(), capacity, |offer| {
        let full = offer.part_items >= limit.items.get() || offer.part_bytes_with as u64 > limit.bytes.get();
        if full && offer.part_items > 0 {
            limit = others;
            Verdict::TakeInNext
        } else {
            Verdict::Take
        }
    });
    parts.unwrap_or_default()
}

/// Gives each part its share of the ticket. No parts, or one, is the batch as it was.
fn divide(mut batch: Batch, parts: Vec<Part>) -> Vec<Batch> {
    // Counts that are not the batch's come from bytes that nobody validated: then it stays in one piece.
    if parts.len() < 2 || parts.iter().map(|part| part.items).sum::<u64>() != batch.items().get() {
        return vec![batch];
    }
    let last = parts.len() - 1;
    let mut batches = Vec::with_capacity(parts.len());
    for (number, part) in parts.into_iter().enumerate() {
        let body = Bytes::from(part.body);
        if number == last {
            batches.push(batch.with_body(body));
            break;
        }
        batches.push(batch.split_off(ItemCount(part.items), body, Bytes::new()));
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::ack::{Ack, AckMode};
    use crate::outcome::Outcome;
    use crate::signal::Signal;
    use crate::testing::generate;
    use crate::wire::{Limits, validate};

    fn sizes(parts: &[Batch]) -> Vec<u64> {
        parts
            .iter()
            .map(|part| {
                let checked = validate(part.signal(), part.body(), &Limits::default()).unwrap();
                assert!(checked.canonical);
                assert_eq!(checked.items, part.items());
                part.items().get()
            })
            .collect()
    }

    #[test]
    fn a_batch_splits_by_items_exactly() {
        for signal in Signal::ALL {
            let batch = || generate::batch(signal, 7, 100);
            let by = |items| sizes(&split(batch(), PartLimit::items(ItemCount(items))));
            assert_eq!(by(100), [100]);
            assert_eq!(by(99), [99, 1]);
            assert_eq!(by(30), [30, 30, 30, 10]);
            assert_eq!(by(1), [1; 100]);
            assert_eq!(by(0), [1; 100]);
            let whole = batch();
            let body = whole.body().as_ptr();
            assert_eq!(split(whole, PartLimit::NONE)[0].body().as_ptr(), body);
        }
    }

    #[test]
    fn a_batch_splits_by_bytes_within_the_limit() {
        for signal in Signal::ALL {
            for bytes in [1, 900, 1_000, 3_000, 20_000] {
                let parts = split(generate::batch(signal, 7, 100), PartLimit::bytes(ByteSize(bytes)));
                assert_eq!(sizes(&parts).iter().sum::<u64>(), 100);
                for pair in parts.windows(2) {
                    assert!(pair[0].size().get() <= bytes || pair[0].items().get() == 1, "{signal} {bytes}");
                    // Filled: the next part's first item would not have fitted.
                    let two = pair[0].size().get() + pair[1].size().get() / pair[1].items().get();
                    assert!(pair[0].items().get() == 1 || two + 700 > bytes, "{signal} {bytes}");
                }
            }
        }
    }

    #[test]
    fn the_first_items_come_off_and_the_rest_stays() {
        let mut batch = generate::batch(Signal::Metrics, 7, 50);
        assert!(split_first(&mut batch, ItemCount::ZERO).is_none());
        assert!(split_first(&mut batch, ItemCount(50)).is_none());
        let first = split_first(&mut batch, ItemCount(13)).unwrap();
        assert_eq!(sizes(&[first, batch]), [13, 37]);
    }

    #[test]
    fn a_group_splits_into_full_groups_and_the_sender_hears_once() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let group = || {
            let mut group = Group::new(Signal::Logs);
            for (seed, items) in [(1, 10), (2, 25), (3, 1), (4, 40)] {
                let heard = Arc::clone(&heard);
                let ack = Ack::new(AckMode::Exported, move |outcome| heard.lock().unwrap().push((seed, outcome)));
                group.push(generate::batch(Signal::Logs, seed, items).with_ack(ack));
            }
            group
        };
        for limit in [1, 7, 10, 20, 35, 75, 76] {
            let groups = split_group(group(), PartLimit::items(ItemCount(limit)));
            let sizes: Vec<u64> = groups.iter().map(|group| group.items().get()).collect();
            let full = 76 / limit as usize;
            assert_eq!(sizes[..full], vec![limit; full]);
            assert_eq!(sizes.iter().sum::<u64>(), 76);
            for group in groups {
                self::sizes(group.parts());
                group.settle(Outcome::Delivered);
            }
            let mut outcomes = std::mem::take(&mut *heard.lock().unwrap());
            outcomes.sort_by_key(|(seed, _)| *seed);
            assert_eq!(outcomes, [1, 2, 3, 4].map(|seed| (seed, Outcome::Delivered)), "limit {limit}");
        }
        for bytes in [500, 2_000, 8_000, 20_000] {
            let groups = split_group(group(), PartLimit::bytes(ByteSize(bytes)));
            assert_eq!(groups.iter().map(Group::items).sum::<ItemCount>(), ItemCount(76));
            assert!(groups.iter().all(|group| group.size().get() <= bytes || group.items().get() == 1));
        }
    }
}
