//! Windows: every so many items are shown to a closure together, which says what becomes of them.
//!
//! # What it does
//!
//! Cuts what comes into windows of exactly so many items, in arrival order. The closure sees a full window and lets it go
//! on, takes it out, or puts a batch of its own making in its place: a summary, say. The remainder is a window of its own
//! at the end.
//!
//! # Place in the pipeline
//!
//! After filters. What comes out of it is not joined again: a batch processor behind it does that.
//!
//! # Threads
//!
//! On the pipeline's own thread. Never blocks.
//!
//! # Limits
//!
//! Holds fewer items than a window has; each window takes a place in the destinations' queues from its first batch on.
//! Where a queue is full before a window is, the window ends early: it may be what fills the queue.
//!
//! # On failure
//!
//! What there is no room for is refused. A closure that panics costs the window that it saw.
//!
//! Where senders wait until their data is exported, they wait for the window to be full:
//! [`Aggregate::with_age_max`] bounds that, and should be less than `acknowledge_timeout`.
//!
//! # In the books
//!
//! What is taken out, or something else is put in the place of, is removed; the batch that is put there is accepted anew.
//! Whoever still waits for the items of the window hears what becomes of that batch.
//!
//! # On shutdown
//!
//! `flush` ends the open window.

use std::fmt;
use std::time::{Duration, Instant};

use otlp_core::component::{Downstream, Processor, Refused};
use otlp_core::flow::gate::{Room, Weight};
use otlp_core::wire::split_first;
use otlp_core::{Ack, Batch, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};

use super::Item;

/// What becomes of a window.
#[derive(Debug)]
pub enum Aggregated {
    /// Its items go on as they are, as one group.
    Keep,
    /// This batch, of the same signal, goes on in their place. Its own acknowledgement is replaced.
    Replace(Batch),
    /// They are removed, and nothing takes their place.
    Remove,
}

/// The items of a window, in order.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a>(&'a Group);

/// See [`aggregate`](fn@aggregate).
pub struct Aggregate<F> {
    items: u64,
    age_max: Option<Duration>,
    close: F,
    open: Option<Open>,
    stopped: bool,
}

struct Open {
    group: Group,
    due: Option<Instant>,
}

/// A processor that shows every `items` items to `close`, and the remainder at the end. At least 1; 0 is taken as 1.
///
/// # Examples
///
/// One summary for every thousand spans:
///
/// ```
/// use otlp_core::{Batch, ItemCount, Signal};
/// use otlp_process::closure::{Aggregated, aggregate};
///
/// fn summary(longest_nanos: u128) -> Batch {
///     // … a request with one span.
/// #   let _ = longest_nanos;
/// #   Batch::trusted(Signal::Traces, ItemCount(1), bytes::Bytes::from_static(&[0x0a, 4, 0x12, 2, 0x12, 0]))
/// }
///
/// let summaries = aggregate(1000, |window| {
///     let mut longest = 0;
///     window.for_each(|item| longest = longest.max(item.duration().as_nanos()));
///     Aggregated::Replace(summary(longest))
/// });
/// # let _ = summaries;
/// ```
pub fn aggregate<F>(items: u64, close: F) -> Aggregate<F>
where
    F: FnMut(Window<'_>) -> Aggregated + Send,
{
    Aggregate { items: items.max(1), age_max: None, close, open: None, stopped: false }
}

impl<'a> Window<'a> {
    /// The signal of its items.
    pub fn signal(&self) -> Signal {
        self.0.signal()
    }

    /// How many they are: as many as asked for, but for a window that ended early.
    pub fn items(&self) -> ItemCount {
        self.0.items()
    }

    /// Calls `each` with every item, in arrival order.
    pub fn for_each(&self, mut each: impl FnMut(Item<'a>)) {
        self.0.parts().iter().for_each(|batch| batch.walk(|item| each(Item::of(item))));
    }

    /// The batches, or parts of them, that it is made of.
    pub fn parts(&self) -> &'a [Batch] {
        self.0.parts()
    }
}

impl<F: FnMut(Window<'_>) -> Aggregated + Send> Aggregate<F> {
    /// Ends a window at the latest this long after its first batch came.
    pub fn with_age_max(mut self, age_max: Duration) -> Aggregate<F> {
        self.age_max = Some(age_max);
        self
    }

    fn held(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.group.items().get())
    }

    /// Windows that a batch of so many items would begin.
    fn begins(&self, items: ItemCount) -> u64 {
        (self.held() + items.get()).div_ceil(self.items) - u64::from(self.open.is_some())
    }

    fn add(&mut self, batch: Batch, room: Room, downstream: &mut dyn Downstream) {
        let open = self.open.get_or_insert_with(|| Open {
            group: Group::new(batch.signal()),
            due: self.age_max.and_then(|age| downstream.now().checked_add(age)),
        });
        open.group.push(batch);
        open.group.join_room(room);
        if open.group.items().get() >= self.items {
            self.close(downstream);
        }
    }

    fn close(&mut self, downstream: &mut dyn Downstream) {
        let Some(Open { mut group, .. }) = self.open.take() else { return };
        match (self.close)(Window(&group)) {
            Aggregated::Keep => downstream.emit(group),
            Aggregated::Remove => settle(group),
            Aggregated::Replace(batch) if batch.items() == ItemCount::ZERO => settle(group),
            Aggregated::Replace(batch) if batch.signal() != group.signal() => {
                log::error!("a window of {} was to be replaced by {}: it stays", group.signal(), batch.signal());
                downstream.emit(group);
            }
            Aggregated::Replace(batch) => {
                let room = group.take_room();
                let mut new = Group::of(batch.with_ack(acknowledged_by(&group)));
                settle(group);
                if let Some(room) = room {
                    new.join_room(room);
                }
                downstream.emit(new);
            }
        }
    }
}

/// Removed, as configured.
fn settle(group: Group) {
    group.settle(Outcome::Delivered);
}

/// An acknowledgement whose outcome everybody hears who still waits for a part of the group.
fn acknowledged_by(group: &Group) -> Ack {
    let open = group.parts().iter().map(|batch| batch.ticket().ack()).filter(|ack| ack.is_open());
    let shares: Vec<Ack> = open.cloned().collect();
    let Some(mode) = shares.iter().map(Ack::mode).max() else { return Ack::nobody() };
    Ack::new(mode, move |outcome| shares.into_iter().for_each(|share| share.settle(as_a_whole(&outcome))))
}

/// Which of the sender's items a partial success is about cannot be told: none of them were sent as they were.
fn as_a_whole(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Partial { .. } => Outcome::Delivered,
        other => other.clone(),
    }
}

impl<F: FnMut(Window<'_>) -> Aggregated + Send> Processor for Aggregate<F> {
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        let mut batch = batch;
        if self.stopped {
            let failure = Failure::refused(Reason::SHUTDOWN, "the aggregation has stopped");
            return Err(Refused { batch: Box::new(batch), failure, hold: false });
        }
        let items = batch.items();
        let mut held = downstream.hold_split(&mut batch, self.begins(items));
        if held.is_err() {
            self.close(downstream);
            held = downstream.hold_split(&mut batch, self.begins(items));
        }
        let mut room = match held {
            Ok(room) => room,
            Err(failure) => return Err(Refused { batch: Box::new(batch), failure, hold: false }),
        };
        while let Some(first) = split_first(&mut batch, ItemCount(self.items - self.held())) {
            let requests = u64::from(self.open.is_none());
            let part = room.split(Weight { requests, ..first.weight() });
            self.add(first, part, downstream);
        }
        self.add(batch, room, downstream);
        Ok(())
    }

    fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        let due = self.open.as_ref()?.due?;
        if due > downstream.now() {
            return Some(due);
        }
        self.close(downstream);
        None
    }

    fn flush(&mut self, downstream: &mut dyn Downstream) {
        self.close(downstream);
    }

    fn shutdown(&mut self, _: Deadline) {
        self.stopped = true;
    }
}

impl<F> fmt::Debug for Aggregate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregate").field("items", &self.items).field("age_max", &self.age_max).finish_non_exhaustive()
    }
}
