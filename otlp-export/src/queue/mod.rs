//! The sending queue: what a destination still has to send.
//!
//! | file         | purpose                                                     |
//! |--------------|-------------------------------------------------------------|
//! | `config.rs`  | the keys, their defaults, their limits                      |
//! | `batcher.rs` | joins what waits into larger requests; no clock, no channel |
//! | `tests.rs`   | the queue against a naive one, the batcher by table         |
//!
//! # What it does
//!
//! Holds groups in memory until a worker takes them. A place stays taken until what took it is settled, so `queue_size`
//! bounds what waits and what is being sent together.
//!
//! # Threads
//!
//! Reserving and pushing never wait. Taking does: any number of workers may. Where groups are joined, one of them at a
//! time fills the next batch while the others send.
//!
//! # Limits
//!
//! `queue_size`, exact. What is larger than the whole queue is never admitted. `memory_mib` beside it, exact as well, but that
//! what is larger alone takes all of it and is admitted.
//!
//! # On shutdown
//!
//! What it holds is taken out by the workers, in order; it refuses nothing that has a place already.

mod batcher;
mod config;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crossbeam_channel::select;
use otlp_core::flow::gate::{Admitted, Full, GateInlet, GateOutlet, GateState, Permit, Weight, gate};
use otlp_core::{ByteSize, Clock, Deadline, Group, Stop};
use parking_lot::Mutex;

use batcher::Batcher;
pub(crate) use batcher::{Entry, Places};
pub use config::{Batch, Config, Sizer};

/// A queue in memory.
#[derive(Debug)]
pub(crate) struct Queue {
    outlet: GateOutlet<Group>,
    inlet: GateInlet<Group>,
    batcher: Option<Mutex<Batcher>>,
    sizer: Sizer,
    /// No weight is taken for larger than this.
    bytes_max: u64,
    clock: Clock,
}

/// What a worker gets that asks for work.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, from the queue to the worker; a box would be an allocation")]
pub(crate) enum Next {
    Entry(Entry),
    /// There was nothing for as long as it was ready to wait.
    Idle,
    /// Stop was asked and all was taken.
    Closed,
}

impl Queue {
    pub(crate) fn new(config: &Config, clock: Clock) -> Queue {
        let (outlet, inlet) = gate(config.capacity());
        let batcher = config.batch.clone().map(|batch| Mutex::new(Batcher::new(batch)));
        let bytes_max = match config.sizer {
            Sizer::Bytes => None,
            Sizer::Requests | Sizer::Items => config.memory_max,
        };
        let bytes_max = bytes_max.map_or(u64::MAX, ByteSize::get);
        Queue { outlet, inlet, batcher, sizer: config.sizer, bytes_max, clock }
    }

    /// Reserves a place.
    pub(crate) fn try_reserve(&self, weight: Weight) -> Result<Permit, Full> {
        self.outlet.try_reserve(self.taken(weight))
    }

    /// Reserves a place, waiting for it.
    pub(crate) fn reserve_deadline(&self, weight: Weight, deadline: Deadline) -> Result<Permit, Full> {
        self.outlet.reserve_deadline(self.taken(weight), deadline)
    }

    /// Whether something of that weight could be admitted if it held nothing.
    pub(crate) fn can_hold(&self, weight: Weight) -> bool {
        let (capacity, weight) = (self.outlet.capacity(), self.taken(weight));
        let fits = |limit: Option<u64>, size| limit.is_none_or(|limit| size <= limit);
        fits(capacity.requests, weight.requests)
            && fits(capacity.items, weight.items)
            && fits(capacity.bytes, weight.bytes)
    }

    fn taken(&self, weight: Weight) -> Weight {
        Weight { bytes: weight.bytes.min(self.bytes_max), ..weight }
    }

    /// Hands a group over into its place. Never waits.
    pub(crate) fn push(&self, group: Group, permit: Permit) -> Result<(), Box<Group>> {
        self.outlet.send(group, permit).map_err(|admitted| Box::new(admitted.item))
    }

    /// Takes the oldest that no worker has looked at yet.
    pub(crate) fn take_oldest(&self) -> Option<Admitted<Group>> {
        self.inlet.try_recv().ok()
    }

    /// Takes all that is left, once no worker comes any more.
    pub(crate) fn take_left(&self) -> Vec<Group> {
        let mut left = Vec::new();
        // Locked is only one that a worker is filling, which then is not the end yet.
        if let Some(mut batcher) = self.batcher.as_ref().and_then(Mutex::try_lock) {
            let now = self.clock.now();
            left.extend(std::iter::from_fn(|| batcher.next(now, true)).map(|entry| entry.group));
        }
        left.extend(std::iter::from_fn(|| self.take_oldest()).map(|admitted| admitted.item));
        left
    }

    /// Whether what waits is joined into larger requests.
    pub(crate) fn joins(&self) -> bool {
        self.batcher.is_some()
    }

    /// Whether anything waits for a worker.
    pub(crate) fn waiting(&self) -> usize {
        // A batcher that is locked is being filled by a worker, which counts as one that waits for work.
        let batching = self.batcher.as_ref().and_then(Mutex::try_lock).is_some_and(|batcher| !batcher.is_empty());
        self.inlet.len() + usize::from(batching)
    }

    /// How it fares.
    pub(crate) fn state(&self) -> GateState {
        self.inlet.state()
    }

    /// How it fares, for metrics.
    pub(crate) fn watch(&self) -> impl Fn() -> GateState + Send + Sync + 'static {
        self.outlet.watch()
    }

    /// What it holds and can hold, in units of its sizer.
    pub(crate) fn size(&self) -> (u64, u64) {
        let state = self.state();
        let capacity = Weight {
            requests: state.capacity.requests.unwrap_or(0),
            items: state.capacity.items.unwrap_or(0),
            bytes: state.capacity.bytes.unwrap_or(0),
        };
        (self.sizer.of(state.held), self.sizer.of(capacity))
    }

    /// When what is being joined leaves although it is small, if anything is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.batcher.as_ref()?.lock().due()
    }

    /// Waits for something to send, for as long as `idle`, or until stop is asked and nothing is left.
    pub(crate) fn next(&self, stop: &Stop, idle: Duration) -> Next {
        match &self.batcher {
            None => self.next_single(stop, idle),
            Some(batcher) => match batcher.try_lock_for(idle) {
                None => Next::Idle,
                Some(mut batcher) => self.next_batch(&mut batcher, stop, idle),
            },
        }
    }

    fn next_single(&self, stop: &Stop, idle: Duration) -> Next {
        let entry = |Admitted { item: group, permit }| Next::Entry(Entry { group, places: Places::One(permit) });
        if let Ok(admitted) = self.inlet.try_recv() {
            return entry(admitted);
        }
        if stop.asked() {
            // Once more: what was pushed before stop was asked is there by now.
            return self.inlet.try_recv().map_or(Next::Closed, entry);
        }
        select! {
            recv(self.inlet.channel()) -> admitted => admitted.map_or(Next::Closed, entry),
            recv(stop.channel()) -> _ => self.inlet.try_recv().map_or(Next::Closed, entry),
            default(idle) => Next::Idle,
        }
    }

    fn next_batch(&self, batcher: &mut Batcher, stop: &Stop, idle: Duration) -> Next {
        let give_up = self.clock.now() + idle;
        loop {
            let stopping = stop.asked();
            let now = self.clock.now();
            if let Some(entry) = batcher.next(now, false) {
                return Next::Entry(entry);
            }
            if let Ok(admitted) = self.inlet.try_recv() {
                batcher.add(admitted, now);
                continue;
            }
            if stopping {
                return batcher.next(now, true).map_or(Next::Closed, Next::Entry);
            }
            if now >= give_up {
                return Next::Idle;
            }
            let until = batcher.due().map_or(give_up, |due| due.min(give_up));
            self.wait(batcher, stop, until.saturating_duration_since(now), now);
        }
    }

    fn wait(&self, batcher: &mut Batcher, stop: &Stop, wait: Duration, now: Instant) {
        select! {
            recv(self.inlet.channel()) -> admitted => if let Ok(admitted) = admitted {
                batcher.add(admitted, now.max(self.clock.now()));
            },
            recv(stop.channel()) -> _ => {}
            default(wait) => {}
        }
    }
}
