//! What waits to be sent: items gathered into requests, requests in order. No clock, no lock, no thread.
//!
//! Invariants:
//! - A request has at most `batch_items_max` items (one message of more data points than that leaves alone), and its
//!   items lie within [`REQUEST_BYTES_MAX`] unless a single one is larger. They are of one resource.
//! - Requests leave in the order in which they were sealed, whatever their signal.
//! - What was taken out keeps its room until it is released.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::Signal;

use super::envelope::{Items, Origin};

/// A request is sealed before its items are larger than this: what gRPC servers take at least is 4 MiB.
const REQUEST_BYTES_MAX: usize = 3 << 20;

/// What a request is expected to take, before one was seen.
const REQUEST_BYTES_EXPECTED: usize = 4 << 10;

/// Buffers that are kept for the next requests: growing one anew for each costs whoever records more than all the rest,
/// since fresh memory of that size comes from the system page by page.
const SPARE_MAX: usize = 3;

/// A buffer that is larger is not kept.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// The limits of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) queue_items_max: u64,
    pub(crate) batch_items_max: u64,
    pub(crate) delay: Duration,
}

#[derive(Debug)]
pub(crate) struct Queue {
    limits: [Limits; 3],
    bytes_max: u64,
    open: [Option<Open>; 3],
    sealed: VecDeque<Parcel>,
    spare: Vec<Items>,
    held_items: [u64; 3],
    held_bytes: u64,
    next_number: u64,
}

/// A request that still takes items.
#[derive(Debug)]
struct Open {
    items: Items,
    since: Instant,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// They go up in the order of sealing.
    pub(crate) number: u64,
    pub(crate) signal: Signal,
    pub(crate) items: u64,
    bytes: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Items(Items),
    Request(Bytes),
}

/// Whether something was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// It was, and nothing is due that was not before.
    Taken,
    /// It was, and a request was begun: there is a time to keep.
    Begun,
    /// It was, and a request is ready.
    Ready,
    Full,
}

impl Queue {
    pub(crate) fn new(limits: [Limits; 3], bytes_max: u64) -> Queue {
        Queue {
            limits,
            bytes_max,
            open: Default::default(),
            sealed: VecDeque::new(),
            spare: Vec::new(),
            held_items: [0; 3],
            held_bytes: 0,
            next_number: 0,
        }
    }

    /// Items of a signal that have room here.
    pub(crate) fn held_items(&self, signal: Signal) -> u64 {
        self.held_items[signal.index()]
    }

    fn has_room(&self, signal: Signal, items: u64, bytes: usize) -> bool {
        let index = signal.index();
        // What is larger than the whole queue may pass when nothing else is there.
        let free = self.held_items[index] == 0 || self.held_items[index] + items <= self.limits[index].queue_items_max;
        free && (self.held_bytes == 0 || self.held_bytes + bytes as u64 <= self.bytes_max)
    }

    fn hold(&mut self, signal: Signal, items: u64, bytes: u64) {
        self.held_items[signal.index()] += items;
        self.held_bytes += bytes;
    }

    /// Takes an encoded item that is of `count` items: data points of one metric may be several. The clock is read only
    /// where a request is begun.
    #[inline]
    pub(crate) fn push_item(
        &mut self,
        signal: Signal,
        origin: &Origin,
        item: &[u8],
        count: u64,
        now: impl FnOnce() -> Instant,
    ) -> Push {
        if !self.has_room(signal, count, item.len()) {
            return Push::Full;
        }
        self.hold(signal, count, item.len() as u64);
        let index = signal.index();
        let limit = self.limits[index].batch_items_max;
        let mut push = Push::Taken;
        let must_leave = |open: &Open| {
            open.items.count() + count > limit
                || open.items.bytes() + item.len() > REQUEST_BYTES_MAX
                || !open.items.can_be_of(&origin.resource)
        };
        if self.open[index].as_ref().is_some_and(must_leave) {
            self.seal(signal);
            push = Push::Ready;
        }
        let open = self.open[index].get_or_insert_with(|| {
            if push == Push::Taken {
                push = Push::Begun;
            }
            let items = self.spare.pop().unwrap_or_else(|| Items::with_capacity(REQUEST_BYTES_EXPECTED));
            Open { items, since: now() }
        });
        open.items.push(origin, item, count);
        if open.items.count() >= limit {
            self.seal(signal);
            push = Push::Ready;
        }
        push
    }

    /// Takes a whole request.
    pub(crate) fn push_request(&mut self, signal: Signal, items: u64, body: Bytes) -> Push {
        if !self.has_room(signal, items, body.len()) {
            return Push::Full;
        }
        let bytes = body.len() as u64;
        self.hold(signal, items, bytes);
        self.push_sealed(signal, items, bytes, Content::Request(body));
        Push::Ready
    }

    fn push_sealed(&mut self, signal: Signal, items: u64, bytes: u64, content: Content) {
        self.sealed.push_back(Parcel { number: self.next_number, signal, items, bytes, content });
        self.next_number += 1;
    }

    fn seal(&mut self, signal: Signal) {
        if let Some(Open { items, .. }) = self.open[signal.index()].take() {
            // As it was held: without the tags and lengths that were put around each item.
            let (count, bytes) = (items.count(), items.held_bytes());
            self.push_sealed(signal, count, bytes, Content::Items(items));
        }
    }

    /// Makes everything ready to be sent; what is sealed after it has this number, or a higher one.
    pub(crate) fn seal_all(&mut self) -> u64 {
        Signal::ALL.into_iter().for_each(|signal| self.seal(signal));
        self.next_number
    }

    /// The next request, if one is ready or has waited for long enough.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Parcel> {
        for signal in Signal::ALL {
            if self.due_of(signal).is_some_and(|due| due <= now) {
                self.seal(signal);
            }
        }
        self.sealed.pop_front()
    }

    /// When [`Queue::next`] will have something, if nothing else comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        Signal::ALL.into_iter().filter_map(|signal| self.due_of(signal)).min()
    }

    fn due_of(&self, signal: Signal) -> Option<Instant> {
        let open = self.open[signal.index()].as_ref()?;
        open.since.checked_add(self.limits[signal.index()].delay)
    }

    /// Whether a request with a number below this is still here.
    pub(crate) fn has_before(&self, number: u64) -> bool {
        self.sealed.front().is_some_and(|parcel| parcel.number < number)
    }

    /// The oldest request of that signal, to be dropped.
    pub(crate) fn take_oldest(&mut self, signal: Signal) -> Option<Parcel> {
        if !self.sealed.iter().any(|parcel| parcel.signal == signal) {
            self.seal(signal);
        }
        let at = self.sealed.iter().position(|parcel| parcel.signal == signal)?;
        self.sealed.remove(at)
    }

    /// Gives back the room of a request that was taken out.
    pub(crate) fn release(&mut self, parcel: &Room) {
        self.held_items[parcel.signal.index()] -= parcel.items;
        self.held_bytes -= parcel.bytes;
    }

    /// Keeps a buffer for what comes.
    pub(crate) fn recycle(&mut self, items: Items) {
        if self.spare.len() < SPARE_MAX && items.capacity() <= SPARE_BYTES_MAX {
            self.spare.push(items);
        }
    }
}

/// The room that a request takes while it is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) number: u64,
    pub(crate) signal: Signal,
    pub(crate) items: u64,
    bytes: u64,
}

impl Parcel {
    pub(crate) fn room(&self) -> Room {
        Room { number: self.number, signal: self.signal, items: self.items, bytes: self.bytes }
    }

    /// The whole request, and the buffer that it was gathered in.
    pub(crate) fn into_body(self) -> (Bytes, Option<Items>) {
        match self.content {
            Content::Items(items) => (items.to_request().into(), Some(items.cleared())),
            Content::Request(body) => (body, None),
        }
    }
}
