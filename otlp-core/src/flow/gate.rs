//! A gate: a bounded channel whose places are reserved before anything is handed over.
//!
//! Room is reserved first and the item is sent into it afterwards, so that a batch can be admitted to several queues all
//! or nothing, and so that its place stays taken until it is settled, not only until a worker took it out.
//!
//! Invariants:
//!
//! - What is held never exceeds a limit, except that a single item larger than a limit is refused always.
//! - A permit is given back exactly once, when it is dropped.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use smallvec::SmallVec;

use crate::shutdown::Deadline;

/// What happens at a full gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The sender waits for room: it, and all that waits behind it, is held up.
    Block,
    /// The sender gets its batch back and is told to try again. Nothing is lost.
    #[default]
    Refuse,
    /// The oldest that waits is dropped, and counted, to make room.
    DropOldest,
    /// What comes is dropped, and counted.
    DropNewest,
}

/// What something takes of a gate's capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Places.
    pub requests: u64,
    /// Spans, data points or log records.
    pub items: u64,
    /// Bytes, uncompressed.
    pub bytes: u64,
}

/// How much a gate holds. `None` is no limit; at least one should be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Places.
    pub requests: Option<u64>,
    /// Spans, data points or log records.
    pub items: Option<u64>,
    /// Bytes, uncompressed.
    pub bytes: Option<u64>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Whether it never will be: the item alone is larger than the gate.
    pub never: bool,
}

/// A reserved place; given back when dropped.
pub struct Permit {
    space: Arc<Space>,
    weight: Weight,
}

struct Space {
    capacity: Capacity,
    held: Mutex<Weight>,
    freed: Condvar,
    blocked_ns: AtomicU64,
    refused: AtomicU64,
}

/// The sending side of a gate.
pub struct GateOutlet<T> {
    space: Arc<Space>,
    sender: Sender<Admitted<T>>,
}

/// The receiving side of a gate. The channel closes when it is dropped.
pub struct GateInlet<T> {
    space: Arc<Space>,
    receiver: Receiver<Admitted<T>>,
}

/// An item with the place it takes until the permit is dropped.
#[derive(Debug)]
pub struct Admitted<T> {
    /// The item.
    pub item: T,
    /// Its place.
    pub permit: Permit,
}

/// What a gate holds and how it fares, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateState {
    /// Its limits.
    pub capacity: Capacity,
    /// What is reserved or held now.
    pub held: Weight,
    /// Time that senders spent waiting for room, all together.
    pub blocked: Duration,
    /// Reservations refused so far.
    pub refused: u64,
}

/// A connected pair.
pub fn gate<T>(capacity: Capacity) -> (GateOutlet<T>, GateInlet<T>) {
    let space = Arc::new(Space {
        capacity,
        held: Mutex::new(Weight::default()),
        freed: Condvar::new(),
        blocked_ns: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    // A permit is a promise of a slot, so a send into a channel of that many slots never waits.
    let (sender, receiver) = match capacity.requests {
        Some(requests) => bounded(usize::try_from(requests).unwrap_or(usize::MAX).clamp(1, 1 << 20)),
        None => unbounded(),
    };
    (GateOutlet { space: Arc::clone(&space), sender }, GateInlet { space, receiver })
}

impl Weight {
    fn plus(self, other: Weight) -> Weight {
        Weight {
            requests: self.requests + other.requests,
            items: self.items + other.items,
            bytes: self.bytes + other.bytes,
        }
    }

    fn minus(self, other: Weight) -> Weight {
        Weight {
            requests: self.requests.saturating_sub(other.requests),
            items: self.items.saturating_sub(other.items),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Capacity {
    fn fits(&self, weight: Weight) -> bool {
        self.requests.is_none_or(|limit| weight.requests <= limit)
            && self.items.is_none_or(|limit| weight.items <= limit)
            && self.bytes.is_none_or(|limit| weight.bytes <= limit)
    }
}

impl Space {
    fn try_take(&self, weight: Weight) -> Result<(), Full> {
        if !self.capacity.fits(weight) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full { never: true });
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let total = held.plus(weight);
        if self.capacity.fits(total) {
            *held = total;
            Ok(())
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Err(Full { never: false })
        }
    }

    fn take_deadline(&self, weight: Weight, deadline: Deadline) -> Result<(), Full> {
        if !self.capacity.fits(weight) {
            return Err(Full { never: true });
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        while !self.capacity.fits(held.plus(weight)) {
            let now = Instant::now();
            let wait = deadline.remaining(now).unwrap_or(Duration::from_secs(3600));
            if wait.is_zero() {
                self.blocked_ns.fetch_add((now - began).as_nanos() as u64, Ordering::Relaxed);
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Full { never: false });
            }
            held = self.freed.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        *held = held.plus(weight);
        drop(held);
        let waited = began.elapsed();
        if waited > Duration::from_micros(10) {
            self.blocked_ns.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn give_back(&self, weight: Weight) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.minus(weight);
        drop(held);
        self.freed.notify_all();
    }

    fn state(&self) -> GateState {
        GateState {
            capacity: self.capacity,
            held: *self.held.lock().unwrap_or_else(PoisonError::into_inner),
            blocked: Duration::from_nanos(self.blocked_ns.load(Ordering::Relaxed)),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

impl Permit {
    /// What it holds.
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Makes one permit of two of the same gate: the items and bytes of both, and the places of the first.
    ///
    /// # Panics
    ///
    /// Where they are of different gates.
    pub fn join(&mut self, mut other: Permit) {
        assert!(Arc::ptr_eq(&self.space, &other.space), "permits of different gates cannot be joined");
        let places = Weight { requests: other.weight.requests, items: 0, bytes: 0 };
        self.weight = self.weight.plus(other.weight.minus(places));
        other.weight = places;
    }

    /// Splits off what `weight` says, or what there is of it.
    pub fn split(&mut self, weight: Weight) -> Permit {
        let rest = self.weight.minus(weight);
        let part = self.weight.minus(rest);
        self.weight = rest;
        Permit { space: Arc::clone(&self.space), weight: part }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.weight != Weight::default() {
            self.space.give_back(self.weight);
        }
    }
}

impl<T> GateOutlet<T> {
    /// Reserves a place, or says that there is none. Never waits.
    ///
    /// # Errors
    ///
    /// [`Full`] where a limit would be exceeded.
    pub fn try_reserve(&self, weight: Weight) -> Result<Permit, Full> {
        self.space.try_take(weight)?;
        Ok(Permit { space: Arc::clone(&self.space), weight })
    }

    /// Reserves a place, waiting for one until the deadline.
    ///
    /// # Errors
    ///
    /// [`Full`] where there was none by then, or never can be.
    pub fn reserve_deadline(&self, weight: Weight, deadline: Deadline) -> Result<Permit, Full> {
        self.space.take_deadline(weight, deadline)?;
        Ok(Permit { space: Arc::clone(&self.space), weight })
    }

    /// Hands an item over into a reserved place. Never waits.
    ///
    /// # Errors
    ///
    /// The item comes back where the inlet is gone.
    pub fn send(&self, item: T, permit: Permit) -> Result<(), Admitted<T>> {
        self.sender.try_send(Admitted { item, permit }).map_err(|error| error.into_inner())
    }

    /// How it fares.
    pub fn state(&self) -> GateState {
        self.space.state()
    }
}

impl<T> Clone for GateOutlet<T> {
    fn clone(&self) -> GateOutlet<T> {
        GateOutlet { space: Arc::clone(&self.space), sender: self.sender.clone() }
    }
}

impl<T> GateInlet<T> {
    /// Takes the oldest, waiting until the deadline.
    ///
    /// # Errors
    ///
    /// `Timeout` at the deadline, `Disconnected` once every outlet is gone and all was taken.
    pub fn recv_deadline(&self, deadline: Deadline) -> Result<Admitted<T>, RecvTimeoutError> {
        match deadline.instant() {
            Some(instant) => self.receiver.recv_deadline(instant),
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Takes the oldest if there is any.
    ///
    /// # Errors
    ///
    /// `Empty`, or `Disconnected` once every outlet is gone and all was taken.
    pub fn try_recv(&self) -> Result<Admitted<T>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// The channel, for `select!`.
    pub fn channel(&self) -> &Receiver<Admitted<T>> {
        &self.receiver
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// How it fares.
    pub fn state(&self) -> GateState {
        self.space.state()
    }
}

impl<T> Clone for GateInlet<T> {
    fn clone(&self) -> GateInlet<T> {
        GateInlet { space: Arc::clone(&self.space), receiver: self.receiver.clone() }
    }
}

/// Places in the queues of all destinations of a pipeline, reserved together. `None` where a destination has no queue or
/// is to drop what comes.
#[derive(Debug, Default)]
pub struct Room {
    /// One for each destination, in the ledger's order.
    pub permits: SmallVec<[Place; 2]>,
}

/// What was reserved at one destination.
#[derive(Debug)]
pub enum Place {
    /// A place in its queue.
    Permit(Permit),
    /// It has no queue: whoever hands over exports.
    Direct,
    /// Its queue was full and it drops what comes.
    Dropped,
}

impl Room {
    /// Adds the room of another part of the same group: items and bytes add up, places do not.
    pub fn join(&mut self, other: Room) {
        for (own, other) in self.permits.iter_mut().zip(other.permits) {
            match (&mut *own, other) {
                (Place::Permit(permit), Place::Permit(more)) => permit.join(more),
                (Place::Dropped, Place::Permit(permit)) => *own = Place::Permit(permit),
                _ => {}
            }
        }
    }
}

impl Room {
    /// Splits off room for a part of what it was reserved for.
    pub fn split(&mut self, weight: Weight) -> Room {
        let part = |place: &mut Place| match place {
            Place::Permit(permit) => Place::Permit(permit.split(weight)),
            Place::Direct => Place::Direct,
            Place::Dropped => Place::Dropped,
        };
        Room { permits: self.permits.iter_mut().map(part).collect() }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?})", self.weight)
    }
}

impl<T> fmt::Debug for GateOutlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GateOutlet({:?})", self.state())
    }
}

impl<T> fmt::Debug for GateInlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GateInlet({:?})", self.state())
    }
}
