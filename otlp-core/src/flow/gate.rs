//! A gate: a bounded channel whose places are reserved before anything is handed over.
//!
//! Room is reserved first and the item is sent into it afterwards, so that a batch can be admitted to several queues all
//! or nothing, and so that its place stays taken until it is settled, not only until a worker took it out.
//!
//! | call                                           | a full gate                                        |
//! |------------------------------------------------|----------------------------------------------------|
//! | [`GateOutlet::try_reserve`], then `send`       | says so                                            |
//! | [`GateOutlet::reserve_deadline`], then `send`  | is waited for                                      |
//! | [`GateOutlet::offer`], `offer_deadline`        | does what the gate was told to do: [`WhenFull`]    |
//!
//! Invariants:
//!
//! - What is held never exceeds a limit, except that a single item larger than a limit is refused always.
//! - A permit is given back exactly once, when it is dropped.
//! - Who waits is served in the order of coming, and nobody overtakes.
//! - An item that is not taken comes back, or goes to the drop handler and is counted. Never neither.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded, unbounded};
use smallvec::SmallVec;

use super::rate::{Limiter, RateLimit};
use super::space::Space;
use crate::clock::Clock;
use crate::outcome::{Code, Failure, Reason};
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
    /// Whether there never will be: the item alone is larger than the gate, or nobody takes from it any more.
    pub never: bool,
}

/// A reserved place; given back when dropped.
pub struct Permit {
    space: Arc<Space>,
    weight: Weight,
}

/// The sending side of a gate.
pub struct GateOutlet<T> {
    space: Arc<Space>,
    sender: Sender<Admitted<T>>,
    policy: Arc<Policy<T>>,
}

/// The receiving side of a gate. The channel closes when the last clone of it is dropped: whoever waits for room is told,
/// and what still waits in it is dropped.
pub struct GateInlet<T> {
    receiver: Receiver<Admitted<T>>,
    open: Arc<Open<T>>,
}

struct Policy<T> {
    when_full: WhenFull,
    limiter: Option<Limiter>,
    on_drop: Box<dyn Fn(T) + Send + Sync>,
    /// For taking the oldest, and for emptying the channel when the last inlet goes: crossbeam's own would keep what
    /// waits in it for as long as an outlet lives, and its senders would never hear of it.
    receiver: Receiver<Admitted<T>>,
}

/// Closes the gate with the last inlet.
struct Open<T> {
    space: Arc<Space>,
    policy: Arc<Policy<T>>,
}

/// What a gate is to be.
#[derive(Clone, Debug, Default)]
pub struct GateOptions {
    /// How much it holds.
    pub capacity: Capacity,
    /// How much it lets through in a time; applied by [`GateOutlet::offer`] and [`GateOutlet::offer_deadline`] only.
    pub rate: Option<RateLimit>,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// What the rate goes by.
    pub clock: Clock,
}

/// An item that a gate did not take.
#[derive(Debug)]
pub struct NotTaken<T> {
    /// It comes back.
    pub item: T,
    /// Why.
    pub cause: NotTakenCause,
}

/// Why a gate did not take an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTakenCause {
    /// There is no room now.
    Full,
    /// The item alone is larger than the gate: there never will be room.
    TooLarge,
    /// The rate is used up.
    RateLimited {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Nobody takes from it any more.
    Closed,
}

/// An item with the place it takes until the permit is dropped.
#[derive(Debug)]
pub struct Admitted<T> {
    /// The item.
    pub item: T,
    /// Its place.
    pub permit: Permit,
}

impl From<NotTakenCause> for Failure {
    /// What the sender is told: no room and closed are refusals without a time, a rate is one with the time to come back,
    /// and what is too large is rejected.
    fn from(cause: NotTakenCause) -> Failure {
        match cause {
            NotTakenCause::Full => Failure::refused(Reason::QUEUE_FULL, "the queue is full"),
            NotTakenCause::Closed => Failure::refused(Reason::SHUTDOWN, "the pipeline is stopping"),
            NotTakenCause::RateLimited { retry_after } => Limiter::failure(retry_after),
            NotTakenCause::TooLarge => {
                let message = "the batch is larger than the whole queue";
                Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message)
            }
        }
    }
}

/// What a gate holds and how it fares, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateState {
    /// Its limits.
    pub capacity: Capacity,
    /// What is reserved or held now.
    pub held: Weight,
    /// Senders that wait for room now.
    pub waiting: usize,
    /// Time that senders spent waiting for room or for the rate, all together, those that still wait included.
    pub blocked: Duration,
    /// Items for which there was no room so far, and which their senders got back.
    pub refused: u64,
    /// Items that the rate did not let through so far.
    pub rate_limited: u64,
    /// Items dropped so far, as [`WhenFull`] says.
    pub dropped: u64,
}

impl GateState {
    /// What there is room for now; `None` where there is no limit.
    pub fn available(&self) -> Capacity {
        let left = |limit: Option<u64>, held: u64| limit.map(|limit| limit.saturating_sub(held));
        Capacity {
            requests: left(self.capacity.requests, self.held.requests),
            items: left(self.capacity.items, self.held.items),
            bytes: left(self.capacity.bytes, self.held.bytes),
        }
    }
}

/// A connected pair of which the sender is refused when it is full.
pub fn gate<T: 'static>(capacity: Capacity) -> (GateOutlet<T>, GateInlet<T>) {
    gate_with(GateOptions { capacity, ..GateOptions::default() }, drop)
}

/// A connected pair.
///
/// `on_drop` is given every item that is dropped for want of room, one that waited or the one that comes, and settles it.
/// It runs on the thread that offers, under no lock of the gate's; it is not called where an inlet is dropped.
///
/// # Examples
///
/// ```
/// use otlp_core::flow::gate::{Capacity, GateOptions, Weight, WhenFull, gate_with};
///
/// let capacity = Capacity { requests: Some(1), ..Capacity::default() };
/// let options = GateOptions { capacity, when_full: WhenFull::DropOldest, ..GateOptions::default() };
/// let (outlet, inlet) = gate_with(options, |dropped: &str| assert_eq!(dropped, "first"));
/// let one = Weight { requests: 1, ..Weight::default() };
/// outlet.offer("first", one).unwrap();
/// outlet.offer("second", one).unwrap();
/// assert_eq!(inlet.try_recv().unwrap().item, "second");
/// assert_eq!(outlet.state().dropped, 1);
/// ```
pub fn gate_with<T: 'static>(
    options: GateOptions,
    on_drop: impl Fn(T) + Send + Sync + 'static,
) -> (GateOutlet<T>, GateInlet<T>) {
    /// More slots than that are not set aside: the permits are the limit, the channel only has to have room for them.
    const SLOTS_MAX: u64 = 1 << 16;
    let space = Arc::new(Space::new(options.capacity));
    // A permit is a promise of a slot, so a send into a channel of that many slots never waits.
    let (sender, receiver) = match options.capacity.requests {
        Some(requests) if requests <= SLOTS_MAX => bounded(requests.max(1) as usize),
        _ => unbounded(),
    };
    let policy = Arc::new(Policy {
        when_full: options.when_full,
        limiter: options.rate.map(|rate| Limiter::new(rate, options.clock)),
        on_drop: Box::new(on_drop),
        receiver: receiver.clone(),
    });
    let open = Arc::new(Open { space: Arc::clone(&space), policy: Arc::clone(&policy) });
    (GateOutlet { space, sender, policy }, GateInlet { receiver, open })
}

impl Weight {
    pub(super) fn plus(self, other: Weight) -> Weight {
        Weight {
            requests: self.requests.saturating_add(other.requests),
            items: self.items.saturating_add(other.items),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn minus(self, other: Weight) -> Weight {
        Weight {
            requests: self.requests.saturating_sub(other.requests),
            items: self.items.saturating_sub(other.items),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Capacity {
    pub(super) fn fits(&self, weight: Weight) -> bool {
        self.requests.is_none_or(|limit| weight.requests <= limit)
            && self.items.is_none_or(|limit| weight.items <= limit)
            && self.bytes.is_none_or(|limit| weight.bytes <= limit)
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
        self.space.try_take(weight, true)?;
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

    /// Offers an item and does at once what the gate was told to do: never waits. Where it is told to block, the item
    /// comes back as where it is told to refuse, and the caller holds it or waits with [`GateOutlet::offer_deadline`].
    ///
    /// `Ok` is that the sender may be told OK: the item is in the gate, or it was dropped and counted as configured.
    ///
    /// # Errors
    ///
    /// The item comes back with the reason. The rate is asked last, so nothing is taken from it for a full gate.
    pub fn offer(&self, item: T, weight: Weight) -> Result<(), NotTaken<T>> {
        let mut rated = false;
        let permit = loop {
            match self.space.try_take(weight, false) {
                Ok(()) => break Permit { space: Arc::clone(&self.space), weight },
                Err(full) if full.never => return Err(self.never(item)),
                Err(_) => {}
            }
            match self.policy.when_full {
                WhenFull::Block | WhenFull::Refuse => {
                    self.space.count_refused();
                    return Err(NotTaken { item, cause: NotTakenCause::Full });
                }
                WhenFull::DropOldest => {
                    if !rated && let Err(cause) = self.take_rate(weight) {
                        // Before anything makes way for what would then not be let through.
                        return Err(NotTaken { item, cause });
                    }
                    rated = true;
                    if let Ok(oldest) = self.policy.receiver.try_recv() {
                        // The item goes first: whoever is told of the room must not find both of them.
                        self.drop_item(oldest.item);
                        continue;
                    }
                    // All that is held is being worked on already: what comes is the oldest that waits.
                }
                WhenFull::DropNewest => {}
            }
            self.drop_item(item);
            return Ok(());
        };
        if !rated && let Err(cause) = self.take_rate(weight) {
            return Err(NotTaken { item, cause });
        }
        self.hand_over(item, permit)
    }

    /// Offers an item and does what the gate was told to do. Where that is to block, it waits for room and for the rate
    /// until the deadline, and by the machine's own clock.
    ///
    /// # Errors
    ///
    /// The item comes back with the reason.
    pub fn offer_deadline(&self, item: T, weight: Weight, deadline: Deadline) -> Result<(), NotTaken<T>> {
        if self.policy.when_full != WhenFull::Block {
            return self.offer(item, weight);
        }
        let permit = match self.space.take_deadline(weight, deadline) {
            Ok(()) => Permit { space: Arc::clone(&self.space), weight },
            Err(full) if full.never => return Err(self.never_counted(item)),
            Err(_) => return Err(NotTaken { item, cause: NotTakenCause::Full }),
        };
        while let Some(Err(retry_after)) = self.policy.limiter.as_ref().map(|limiter| limiter.take(weight)) {
            let now = Instant::now();
            if deadline.passed(now) {
                self.space.count_rate_limited();
                return Err(NotTaken { item, cause: NotTakenCause::RateLimited { retry_after } });
            }
            if self.space.is_closed() {
                return Err(NotTaken { item, cause: NotTakenCause::Closed });
            }
            self.space.pause(deadline.remaining(now).map_or(retry_after, |left| left.min(retry_after)));
        }
        self.hand_over(item, permit)
    }

    fn take_rate(&self, weight: Weight) -> Result<(), NotTakenCause> {
        let Some(limiter) = &self.policy.limiter else { return Ok(()) };
        limiter.try_take(weight).map_err(|retry_after| {
            self.space.count_rate_limited();
            NotTakenCause::RateLimited { retry_after }
        })
    }

    fn hand_over(&self, item: T, permit: Permit) -> Result<(), NotTaken<T>> {
        self.send(item, permit).map_err(|admitted| NotTaken { item: admitted.item, cause: NotTakenCause::Closed })
    }

    fn never(&self, item: T) -> NotTaken<T> {
        self.space.count_refused();
        self.never_counted(item)
    }

    fn never_counted(&self, item: T) -> NotTaken<T> {
        let cause = if self.space.is_closed() { NotTakenCause::Closed } else { NotTakenCause::TooLarge };
        NotTaken { item, cause }
    }

    fn drop_item(&self, item: T) {
        self.space.count_dropped();
        (self.policy.on_drop)(item);
    }

    /// The rate, where there is one: for whoever reserves and has to ask for it himself.
    pub fn limiter(&self) -> Option<&Limiter> {
        self.policy.limiter.as_ref()
    }

    /// What happens at the full gate.
    pub fn when_full(&self) -> WhenFull {
        self.policy.when_full
    }

    /// Its limits.
    pub fn capacity(&self) -> Capacity {
        self.space.capacity()
    }

    /// A function that says how it fares, for as long as anybody wants to know; it does not keep the channel open.
    pub fn watch(&self) -> impl Fn() -> GateState + Send + Sync + 'static {
        let space = Arc::clone(&self.space);
        move || space.state()
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.policy.receiver.is_empty()
    }

    /// Hands an item over into a reserved place, one whose weight has at least one request. Never waits.
    ///
    /// # Errors
    ///
    /// The item comes back where the inlet is gone.
    pub fn send(&self, item: T, permit: Permit) -> Result<(), Admitted<T>> {
        let admitted = Admitted { item, permit };
        if self.space.is_closed() {
            return Err(admitted);
        }
        self.sender.try_send(admitted).map_err(TrySendError::into_inner)?;
        if self.space.is_closed() {
            // It closed meanwhile. What is found may be another sender's, who then finds this one's, or nothing is left.
            return self.policy.receiver.try_recv().map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// How it fares.
    pub fn state(&self) -> GateState {
        self.space.state()
    }
}

impl<T> Clone for GateOutlet<T> {
    fn clone(&self) -> GateOutlet<T> {
        GateOutlet { space: Arc::clone(&self.space), sender: self.sender.clone(), policy: Arc::clone(&self.policy) }
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
        self.open.space.state()
    }
}

impl<T> Clone for GateInlet<T> {
    fn clone(&self) -> GateInlet<T> {
        GateInlet { receiver: self.receiver.clone(), open: Arc::clone(&self.open) }
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

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        // Whoever sends looks whether the gate is closed after sending, too, so nothing stays behind: either it is found
        // here, or its sender finds the gate closed.
        self.space.close();
        self.policy.receiver.try_iter().for_each(drop);
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
