//! Decides when a group is full or old. No clock, no channel: the time is told.
//!
//! Invariants:
//!
//! - Batches leave in the order in which they came; the parts of a split batch, too.
//! - What is held has fewer items than `items_min`, so no more than one group is ever held.
//! - No group has more items than `items_max`, except where a batch could not be split.

use std::time::{Duration, Instant};

use otlp_core::flow::gate::{Room, Weight};
use otlp_core::{AckMode, Batch, Group, ItemCount};

/// When groups leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// At this count of items a group leaves at once.
    pub(crate) items_min: u64,
    /// No group has more; 0 is no limit.
    pub(crate) items_max: u64,
    /// A group leaves before it would hold more.
    pub(crate) bytes_max: u64,
    /// A group leaves when its first batch is this old.
    pub(crate) age_max: Duration,
}

/// Why a group left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// It was full, or its place was wanted.
    Size,
    /// It was old, or nothing was left to wait for.
    Timeout,
}

/// Splits the first items off a batch; `None` where it cannot be split there, and then it is unchanged.
pub(crate) type Split = fn(batch: &mut Batch, items: ItemCount) -> Option<Batch>;

/// What a batch would do to an accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What is held leaves before.
    pub(crate) leave_first: bool,
    /// The batch has to be split.
    pub(crate) splits: bool,
    /// Groups that it begins.
    pub(crate) begins: u64,
}

/// What is held for one combination of metadata values.
#[derive(Debug)]
pub(crate) struct Accumulator {
    limits: Limits,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    group: Group,
    due: Instant,
    /// Whether somebody waits for an answer that comes only after it has left.
    awaited: bool,
}

impl Accumulator {
    pub(crate) fn new(limits: Limits) -> Accumulator {
        Accumulator { limits, held: None }
    }

    /// What taking in a batch of that size would mean. Nothing changes yet: room has to be had for it first.
    pub(crate) fn plan(&self, items: ItemCount, bytes: u64) -> Plan {
        let held = self.held.as_ref().map(|held| &held.group).filter(|group| !group.is_empty());
        let leave_first = held.is_some_and(|group| group.size().get() + bytes > self.limits.bytes_max);
        let held_items = held.filter(|_| !leave_first).map(|group| group.items().get());
        let (items, items_max) = (items.get(), self.limits.items_max);
        let beyond = match held_items {
            _ if items_max == 0 => 0,
            Some(held) => (held + items).saturating_sub(items_max).div_ceil(items_max),
            None => items.div_ceil(items_max).saturating_sub(1),
        };
        Plan { leave_first, splits: beyond > 0, begins: beyond + u64::from(held_items.is_none()) }
    }

    /// Takes in a batch for which there is room, according to the plan that was made for it, and lets go what is full.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        batch: Batch,
        mut room: Room,
        split: Split,
        out: &mut Vec<(Group, Trigger)>,
    ) {
        let mut batch = batch;
        while let Some(first) = self.part(&mut batch, split) {
            let weight = Weight { requests: u64::from(self.held.is_none()), ..first.weight() };
            self.add(now, first, room.split(weight));
            out.extend(self.leave().map(|group| (group, Trigger::Size)));
        }
        self.add(now, batch, room);
        if self.items() >= self.limits.items_min {
            out.extend(self.leave().map(|group| (group, Trigger::Size)));
        }
    }

    /// The part of a batch that fills the group to its limit, where the batch is larger.
    fn part(&self, batch: &mut Batch, split: Split) -> Option<Batch> {
        let fits = self.limits.items_max.saturating_sub(self.items());
        if self.limits.items_max == 0 || batch.items().get() <= fits {
            return None;
        }
        split(batch, ItemCount(fits))
    }

    fn add(&mut self, now: Instant, batch: Batch, room: Room) {
        let held = self.held.get_or_insert_with(|| Held {
            group: Group::new(batch.signal()),
            due: now + self.limits.age_max,
            awaited: false,
        });
        held.awaited |= batch.ticket().ack().is_open() && batch.ticket().ack().mode() > AckMode::Queued;
        held.group.push(batch);
        held.group.join_room(room);
    }

    /// What is held, if it is due.
    pub(crate) fn leave_due(&mut self, now: Instant) -> Option<Group> {
        self.due().is_some_and(|due| due <= now).then(|| self.leave()).flatten()
    }

    /// What is held.
    pub(crate) fn leave(&mut self) -> Option<Group> {
        self.held.take().map(|held| held.group)
    }

    /// When what is held is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.due)
    }

    /// Whether somebody waits for an answer that comes only after what is held has left.
    pub(crate) fn is_awaited(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.awaited)
    }

    fn items(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.group.items().get())
    }
}
