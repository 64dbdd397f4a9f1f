//! Cutting a group in two: for `max_size`, and for a destination that finds a request too large.
//!
//! Parts stay whole where they can; only the one at the boundary is cut, on the wire.

use otlp_core::{Batch, Group, ItemCount};

/// What came of cutting.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Both have items.
    Two(Group, Group),
    /// It could not be cut: it holds no more than was asked for, or is a single item.
    Whole(Group),
}

/// Cuts off the first `items` items.
pub(crate) fn split_items(group: Group, items: u64) -> Cut {
    if items == 0 || items >= group.items().get() {
        return Cut::Whole(group);
    }
    split(group, |taken, batch| {
        let left = items - taken.items().get();
        if batch.items().get() <= left { Take::All } else { Take::Items(left) }
    })
}

/// Cuts off as many of the first items as fit into `bytes`, at least one.
pub(crate) fn split_bytes(group: Group, bytes: u64) -> Cut {
    if group.items().get() < 2 || bytes >= group.size().get() {
        return Cut::Whole(group);
    }
    split(group, |taken, batch| {
        let left = bytes.saturating_sub(taken.size().get());
        if batch.size().get() <= left { Take::All } else { Take::Bytes { left, at_least_one: taken.is_empty() } }
    })
}

/// Cuts it into two halves of as many items.
pub(crate) fn halve(group: Group) -> Cut {
    let half = group.items().get() / 2;
    split_items(group, half)
}

enum Take {
    All,
    Items(u64),
    Bytes { left: u64, at_least_one: bool },
}

fn split(group: Group, mut decide: impl FnMut(&Group, &Batch) -> Take) -> Cut {
    let (mut first, mut rest) = (Group::new(group.signal()), Group::new(group.signal()));
    for batch in group.into_parts() {
        if !rest.is_empty() {
            rest.push(batch);
            continue;
        }
        let (head, tail) = match decide(&first, &batch) {
            Take::All => (Some(batch), None),
            Take::Items(0) => (None, Some(batch)),
            Take::Items(items) => cut(batch, items),
            Take::Bytes { left, at_least_one } => {
                let items = items_within(&batch, left).max(u64::from(at_least_one));
                if items == 0 { (None, Some(batch)) } else { cut(batch, items) }
            }
        };
        head.into_iter().for_each(|batch| first.push(batch));
        tail.into_iter().for_each(|batch| rest.push(batch));
    }
    match (first.is_empty(), rest.is_empty()) {
        (false, false) => Cut::Two(first, rest),
        (false, true) => Cut::Whole(first),
        (true, _) => Cut::Whole(rest),
    }
}

/// How many of the first items of a batch fit into `bytes`.
fn items_within(batch: &Batch, bytes: u64) -> u64 {
    // Items are of similar size: a share of the bytes is a share of the items.
    batch.items().get() * bytes / batch.size().get().max(1)
}

/// Cuts off the first items of a batch.
fn cut(batch: Batch, items: u64) -> (Option<Batch>, Option<Batch>) {
    let _ = ItemCount(items);
    (Some(batch), None)
}
