//! Ends of a pipeline for tests: they collect what they get, fail as a script says, or block until they are let go.
//!
//! Clones share what they have collected, so one goes into the pipeline and one stays with the test. All of them wait on
//! conditions with a deadline, never for a time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::batch::{Batch, Group};
use crate::component::{Exporter, Fanout, Health, HealthState, Outlet, Outlets, Refused};
use crate::flow::gate::{Place, Room, Weight};
use crate::outcome::{Failure, Outcome, Reason};
use crate::shutdown::Deadline;
use crate::signal::Signal;
use crate::unit::ItemCount;

/// What a sink got in one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its signal.
    pub signal: Signal,
    /// Its items.
    pub items: ItemCount,
    /// Its bytes, uncompressed: the parts of a group one after the other.
    pub body: Bytes,
    /// How many parts a group had; 1 for a batch.
    pub parts: usize,
}

impl Seen {
    fn batch(batch: &Batch) -> Seen {
        Seen { signal: batch.signal(), items: batch.items(), body: batch.body().clone(), parts: 1 }
    }

    fn group(group: &Group) -> Seen {
        Seen { signal: group.signal(), items: group.items(), body: group.joined(), parts: group.parts().len() }
    }
}

/// A value that threads change and wait for.
#[derive(Debug, Default)]
struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    fn new(value: T) -> Watched<T> {
        Watched { value: Mutex::new(value), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `found` finds something or the deadline has passed.
    fn wait<R>(&self, deadline: Deadline, mut found: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let mut value = self.lock();
        loop {
            if let Some(result) = found(&mut value) {
                return Some(result);
            }
            let left = deadline.remaining(Instant::now()).unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return None;
            }
            value = self.changed.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn items(seen: &[Seen]) -> ItemCount {
    seen.iter().map(|seen| seen.items).sum()
}

fn after(within: Duration) -> Deadline {
    Deadline::after(Instant::now(), within)
}

/// An exporter that keeps what it is given and answers as told.
///
/// What it answers is first the script, then for ever [`Outcome::Delivered`] or the failure of
/// [`CollectingExporter::failing`]. Only what it answers with a success is kept as delivered.
#[derive(Clone, Debug)]
pub struct CollectingExporter(Arc<Watched<ExporterState>>);

#[derive(Debug)]
struct ExporterState {
    script: VecDeque<Outcome>,
    then: Outcome,
    delivered: Vec<Seen>,
    attempts: usize,
    stopped: bool,
}

impl Default for CollectingExporter {
    fn default() -> CollectingExporter {
        CollectingExporter::new()
    }
}

impl CollectingExporter {
    /// One that takes everything.
    pub fn new() -> CollectingExporter {
        CollectingExporter::answering([])
    }

    /// One that answers so, in order, and takes everything after.
    pub fn answering(script: impl IntoIterator<Item = Outcome>) -> CollectingExporter {
        CollectingExporter(Arc::new(Watched::new(ExporterState {
            script: script.into_iter().collect(),
            then: Outcome::Delivered,
            delivered: Vec::new(),
            attempts: 0,
            stopped: false,
        })))
    }

    /// One that takes nothing.
    pub fn failing(failure: Failure) -> CollectingExporter {
        let exporter = CollectingExporter::new();
        exporter.answer_from_now(failure.into());
        exporter
    }

    /// Forgets the script and answers so from now on.
    pub fn answer_from_now(&self, outcome: Outcome) {
        self.0.change(|state| {
            state.script.clear();
            state.then = outcome;
        });
    }

    /// What was delivered, in order of arrival.
    pub fn delivered(&self) -> Vec<Seen> {
        self.0.lock().delivered.clone()
    }

    /// Items delivered.
    pub fn items(&self) -> ItemCount {
        items(&self.0.lock().delivered)
    }

    /// How often it was called.
    pub fn attempts(&self) -> usize {
        self.0.lock().attempts
    }

    /// Waits until that many items were delivered; false where there were fewer by then.
    pub fn wait_for_items(&self, count: ItemCount, within: Duration) -> bool {
        self.0.wait(after(within), |state| (items(&state.delivered) >= count).then_some(())).is_some()
    }

    /// Waits until it was called that often; false where it was less by then.
    pub fn wait_for_attempts(&self, count: usize, within: Duration) -> bool {
        self.0.wait(after(within), |state| (state.attempts >= count).then_some(())).is_some()
    }
}

impl Exporter for CollectingExporter {
    fn export(&self, group: &Group, _: Deadline) -> Outcome {
        self.0.change(|state| {
            state.attempts += 1;
            if state.stopped {
                return Failure::refused(Reason::SHUTDOWN, "the exporter is stopped").into();
            }
            let outcome = state.script.pop_front().unwrap_or_else(|| state.then.clone());
            if outcome.is_delivered() {
                state.delivered.push(Seen::group(group));
            }
            outcome
        })
    }

    fn shutdown(&self, _: Deadline) {
        self.0.change(|state| state.stopped = true);
    }

    fn health(&self) -> Health {
        stopped_or_ok(self.0.lock().stopped)
    }
}

fn stopped_or_ok(stopped: bool) -> Health {
    if stopped { Health { state: HealthState::Stopped, message: String::new() } } else { Health::ok() }
}

/// An exporter whose calls block until they are let go, their deadline passes or it is shut down. What is let go is
/// delivered, the rest refused.
#[derive(Clone, Debug, Default)]
pub struct BlockingExporter(Arc<Watched<BlockingState>>);

#[derive(Debug, Default)]
struct BlockingState {
    blocked: usize,
    allowed: usize,
    open: bool,
    stopped: bool,
    delivered: Vec<Seen>,
}

impl BlockingExporter {
    /// One that lets nothing go.
    pub fn new() -> BlockingExporter {
        BlockingExporter::default()
    }

    /// Lets `count` calls go, those that block now or come later.
    pub fn release(&self, count: usize) {
        self.0.change(|state| state.allowed += count);
    }

    /// Lets all calls go from now on.
    pub fn open(&self) {
        self.0.change(|state| state.open = true);
    }

    /// Calls that block now.
    pub fn blocked(&self) -> usize {
        self.0.lock().blocked
    }

    /// Waits until that many calls block; false where there were fewer by then.
    pub fn wait_for_blocked(&self, count: usize, within: Duration) -> bool {
        self.0.wait(after(within), |state| (state.blocked >= count).then_some(())).is_some()
    }

    /// What was let go.
    pub fn delivered(&self) -> Vec<Seen> {
        self.0.lock().delivered.clone()
    }

    /// Items let go.
    pub fn items(&self) -> ItemCount {
        items(&self.0.lock().delivered)
    }
}

impl Exporter for BlockingExporter {
    fn export(&self, group: &Group, deadline: Deadline) -> Outcome {
        self.0.change(|state| state.blocked += 1);
        let outcome = self.0.wait(deadline, |state| {
            if state.stopped {
                return Some(Failure::refused(Reason::SHUTDOWN, "the exporter is stopped").into());
            }
            if !state.open {
                state.allowed = state.allowed.checked_sub(1)?;
            }
            state.delivered.push(Seen::group(group));
            Some(Outcome::Delivered)
        });
        self.0.change(|state| state.blocked -= 1);
        outcome.unwrap_or_else(|| Failure::refused(Reason::TIMEOUT, "the exporter is blocked").into())
    }

    fn shutdown(&self, _: Deadline) {
        self.0.change(|state| state.stopped = true);
    }

    fn health(&self) -> Health {
        stopped_or_ok(self.0.lock().stopped)
    }
}

/// What an outlet does with a batch.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Takes it and settles it with this outcome at once.
    Settle(Outcome),
    /// Takes it and keeps it until [`CollectingOutlet::settle_held`].
    Hold,
    /// Gives it back.
    Refuse(Failure),
    /// Gives it back and asks to hold it until there is room, as a gate does that is to block.
    Full,
}

/// An outlet that keeps what it is given and answers as told: first the script, then for ever the same.
#[derive(Clone, Debug)]
pub struct CollectingOutlet(Arc<Watched<OutletState>>);

#[derive(Debug)]
struct OutletState {
    script: VecDeque<Answer>,
    then: Answer,
    taken: Vec<Seen>,
    held: Vec<Batch>,
    calls: usize,
}

impl Default for CollectingOutlet {
    fn default() -> CollectingOutlet {
        CollectingOutlet::new()
    }
}

impl CollectingOutlet {
    /// One that takes everything and settles it as delivered.
    pub fn new() -> CollectingOutlet {
        CollectingOutlet::answering([], Answer::Settle(Outcome::Delivered))
    }

    /// One that answers so, in order, and then always `then`.
    pub fn answering(script: impl IntoIterator<Item = Answer>, then: Answer) -> CollectingOutlet {
        CollectingOutlet(Arc::new(Watched::new(OutletState {
            script: script.into_iter().collect(),
            then,
            taken: Vec::new(),
            held: Vec::new(),
            calls: 0,
        })))
    }

    /// Forgets the script and answers so from now on.
    pub fn answer_from_now(&self, answer: Answer) {
        self.0.change(|state| {
            state.script.clear();
            state.then = answer;
        });
    }

    /// The outlet for every signal, for [`crate::component::Receiver::start`].
    pub fn outlets(&self) -> Outlets {
        let mut outlets = Outlets::default();
        for signal in Signal::ALL {
            outlets.set(signal, Arc::new(self.clone()));
        }
        outlets
    }

    /// What was taken, in order of arrival.
    pub fn taken(&self) -> Vec<Seen> {
        self.0.lock().taken.clone()
    }

    /// Items taken.
    pub fn items(&self) -> ItemCount {
        items(&self.0.lock().taken)
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Batches taken that nobody has settled yet.
    pub fn held(&self) -> usize {
        self.0.lock().held.len()
    }

    /// Settles all that is held.
    pub fn settle_held(&self, outcome: &Outcome) {
        // Settled outside the lock: it calls the sender's sink.
        let held = self.0.change(|state| std::mem::take(&mut state.held));
        held.into_iter().for_each(|batch| batch.settle(outcome.clone()));
    }

    /// Waits until that many items were taken; false where there were fewer by then.
    pub fn wait_for_items(&self, count: ItemCount, within: Duration) -> bool {
        self.0.wait(after(within), |state| (items(&state.taken) >= count).then_some(())).is_some()
    }

    /// Waits until that many batches are held; false where there were fewer by then.
    pub fn wait_for_held(&self, count: usize, within: Duration) -> bool {
        self.0.wait(after(within), |state| (state.held.len() >= count).then_some(())).is_some()
    }
}

impl Outlet for CollectingOutlet {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        let settle = self.0.change(|state| {
            state.calls += 1;
            let answer = state.script.pop_front().unwrap_or_else(|| state.then.clone());
            let (failure, hold) = match answer {
                Answer::Settle(outcome) => {
                    state.taken.push(Seen::batch(&batch));
                    return Ok(Some((batch, outcome)));
                }
                Answer::Hold => {
                    state.taken.push(Seen::batch(&batch));
                    state.held.push(batch);
                    return Ok(None);
                }
                Answer::Refuse(failure) => (failure, false),
                Answer::Full => (Failure::refused(Reason::QUEUE_FULL, "the pipeline is full"), true),
            };
            Err(Refused { batch: Box::new(batch), failure, hold })
        })?;
        if let Some((batch, outcome)) = settle {
            batch.settle(outcome);
        }
        Ok(())
    }
}

/// The destinations of a pipeline, all of which take everything and deliver it at once. Where it is told so it has no
/// room.
///
/// The tickets of what is sent are assigned, one share for each destination, and settled as delivered: so the ledger
/// they were accepted into has to name as many destinations.
#[derive(Clone, Debug)]
pub struct CollectingFanout {
    destinations: usize,
    state: Arc<Watched<FanoutState>>,
}

#[derive(Debug, Default)]
struct FanoutState {
    full: Option<Failure>,
    sent: Vec<Seen>,
    reserved: Weight,
}

impl CollectingFanout {
    /// One of that many destinations.
    pub fn new(destinations: usize) -> CollectingFanout {
        CollectingFanout { destinations, state: Arc::default() }
    }

    /// Refuses reservations so from now on, or no more.
    pub fn set_full(&self, failure: Option<Failure>) {
        self.state.change(|state| state.full = failure);
    }

    /// What was sent.
    pub fn sent(&self) -> Vec<Seen> {
        self.state.lock().sent.clone()
    }

    /// Items sent, counted once however many destinations there are.
    pub fn items(&self) -> ItemCount {
        items(&self.state.lock().sent)
    }

    /// What was reserved so far, all together.
    pub fn reserved(&self) -> Weight {
        self.state.lock().reserved
    }

    /// Waits until that many items were sent; false where there were fewer by then.
    pub fn wait_for_items(&self, count: ItemCount, within: Duration) -> bool {
        self.state.wait(after(within), |state| (items(&state.sent) >= count).then_some(())).is_some()
    }
}

impl Fanout for CollectingFanout {
    fn reserve(&self, weight: Weight) -> Result<Room, Failure> {
        self.state.change(|state| match &state.full {
            Some(failure) => Err(failure.clone()),
            None => {
                state.reserved.requests += weight.requests;
                state.reserved.items += weight.items;
                state.reserved.bytes += weight.bytes;
                Ok(Room { permits: (0..self.destinations).map(|_| Place::Direct).collect() })
            }
        })
    }

    fn send(&self, group: Group, room: Room) {
        self.state.change(|state| state.sent.push(Seen::group(&group)));
        for group in group.assign(self.destinations) {
            group.settle(Outcome::Delivered);
        }
        drop(room);
    }
}
