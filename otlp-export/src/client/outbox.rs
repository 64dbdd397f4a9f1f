//! What carries requests to the destination: a queue and one thread, or the caller alone. It knows nothing of spans.
//!
//! # Threads
//!
//! One, begun by the first thing recorded and only where [`Mode::Queued`] is asked for. The lock is held for as long as
//! it takes to copy an item; never over I/O, a callback, a log line or anything else that is not ours.
//!
//! # On shutdown
//!
//! The caller waits until everything is settled, or for its deadline. Then what waits is dropped and counted, connections
//! are closed under what is on its way, and the thread, if it still waits in the system, ends by itself.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::component::Exporter;
use otlp_core::flow::gate::WhenFull;
use otlp_core::{Batch, Code, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};

use super::envelope::{Items, Origin};
use super::queue::{Limits, Parcel, Push, Queue, Room};
use super::stats::{Lost, Report, Stats};
use crate::lock::{Mutex, wait};
use crate::quiet;
use crate::retry::{self, Decision, Retry};

/// Who does the I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A thread of the client's own. Recording never blocks, unless [`WhenFull::Block`] is asked for.
    #[default]
    Queued,
    /// The caller's thread, which gets the outcome. No thread is started, ever.
    ///
    /// Each call ends within `timeout`; the host's name is resolved before that begins to count, since the system's
    /// resolver has no deadline.
    Direct,
}

/// What becomes of what one call gave to the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    /// It waits in the queue. What becomes of it then, [`flush`](super::OtlpClient::flush) and
    /// [`stats`](super::OtlpClient::stats) say.
    Queued,
    /// Its journey is over: in direct mode by the destination's answer, in queued mode because it was not taken.
    Settled(Outcome),
}

impl Sent {
    /// Whether it was taken: by the queue in queued mode, by the destination, all of it, in direct mode.
    pub fn is_success(&self) -> bool {
        match self {
            Sent::Queued => true,
            Sent::Settled(Outcome::Partial { rejected, .. }) => rejected.get() == 0,
            Sent::Settled(outcome) => outcome.is_delivered(),
        }
    }

    /// The failure, if it was not taken.
    ///
    /// # Errors
    ///
    /// What went wrong; items that a destination rejected out of several are a failure, too.
    pub fn into_result(self) -> Result<(), Failure> {
        match self {
            Sent::Settled(Outcome::Failed(failure)) => Err(failure),
            Sent::Settled(Outcome::Partial { rejected, message }) if rejected.get() > 0 => {
                Err(Failure::rejected(Code::InvalidArgument, Reason::PARTIAL_SUCCESS, message))
            }
            Sent::Queued | Sent::Settled(_) => Ok(()),
        }
    }
}

/// A destination for each signal, in the order of [`Signal::ALL`].
pub(crate) type Ways = [Box<dyn Way>; 3];

/// An exporter, with what a caller without a thread needs of it.
pub(crate) trait Way: Exporter {
    /// Resolves the name of the host where it is not known, without a deadline.
    fn resolve_ahead(&self);
}

/// Called with the first failure since the last success.
pub(crate) type OnFailure = Arc<dyn Fn(&Failure) + Send + Sync>;

/// How an outbox is run.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) thread_name: String,
    pub(crate) stack_kib: usize,
    pub(crate) limits: [Limits; 3],
    pub(crate) queue_bytes_max: u64,
    pub(crate) when_full: WhenFull,
    pub(crate) block_timeout: Duration,
    /// For one attempt; in direct mode for the whole call.
    pub(crate) timeouts: [Duration; 3],
    /// How long a request is tried in queued mode, where that is limited beside `retry`.
    pub(crate) export_timeouts: [Option<Duration>; 3],
    pub(crate) retry: retry::Config,
    pub(crate) on_failure: Option<OnFailure>,
    /// Not in a child of fork: another thread of the parent may have held the logger's lock, which nobody releases there.
    pub(crate) may_log: bool,
}

/// See the module.
pub(crate) struct Outbox(Arc<Shared>);

struct Shared {
    plan: Plan,
    ways: Ways,
    /// Of the delays of the three signals.
    shortest_delay: Duration,
    state: Mutex<State>,
    /// For the thread, and for whoever waits between two attempts.
    wake: Condvar,
    /// For those who wait for room or for the end of something.
    settled: Condvar,
}

struct State {
    queue: Queue,
    stats: Stats,
    /// As it was at the last flush.
    reported: Stats,
    phase: Phase,
    worker: Worker,
    in_flight: Option<Room>,
    /// Calls in direct mode that are open, and their items by signal.
    calls: [u64; 3],
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Running,
    /// What is held should leave by then.
    Stopping(Deadline),
    Stopped,
}

#[derive(Debug, PartialEq)]
enum Worker {
    None,
    Running,
    /// Waits for something to do, and looks by itself then.
    Idle {
        until: Option<Instant>,
    },
}

#[derive(Debug, Default)]
struct Trouble {
    /// A line was logged.
    logged: bool,
    /// Nothing has succeeded since a failure.
    failing: bool,
}

impl Outbox {
    pub(crate) fn new(plan: Plan, ways: Ways) -> Outbox {
        let queue = Queue::new(plan.limits, plan.queue_bytes_max);
        let state = State {
            queue,
            stats: Stats::default(),
            reported: Stats::default(),
            phase: Phase::Running,
            worker: Worker::None,
            in_flight: None,
            calls: [0; 3],
            trouble: Trouble::default(),
        };
        let shortest_delay = plan.limits.iter().map(|limits| limits.delay).min().unwrap_or_default();
        Outbox(Arc::new(Shared {
            shortest_delay,
            plan,
            ways,
            state: Mutex::new(state),
            wake: Condvar::new(),
            settled: Condvar::new(),
        }))
    }

    /// Takes one encoded item, which is of `count` items.
    #[inline]
    pub(crate) fn send_item(&self, signal: Signal, origin: &Origin, item: &[u8], count: u64) -> Sent {
        if self.0.plan.mode == Mode::Direct {
            let mut items = Items::with_capacity(item.len() + 8);
            items.push(origin, item, count);
            return self.send_items(signal, items);
        }
        self.queue(signal, count, |queue| queue.push_item(signal, origin, item, count, Instant::now))
    }

    /// Sends items together in the caller's thread. In direct mode only.
    pub(crate) fn send_items(&self, signal: Signal, items: Items) -> Sent {
        self.send_now(signal, items.count(), items.to_request().into())
    }

    /// Who does the I/O.
    pub(crate) fn mode(&self) -> Mode {
        self.0.plan.mode
    }

    /// Takes a whole request of `count` items.
    pub(crate) fn send_request(&self, signal: Signal, count: u64, body: Bytes) -> Sent {
        match self.0.plan.mode {
            Mode::Direct => self.send_now(signal, count, body),
            Mode::Queued => self.queue(signal, count, |queue| queue.push_request(signal, count, body.clone())),
        }
    }

    /// Sends in the caller's thread, and returns with what became of it.
    fn send_now(&self, signal: Signal, count: u64, body: Bytes) -> Sent {
        let shared = &*self.0;
        {
            let mut state = shared.state.lock();
            if state.phase != Phase::Running {
                return state.refuse(count, Reason::SHUTDOWN, "the client has been shut down");
            }
            state.calls[signal.index()] += count;
            state.stats.signals[signal.index()].recorded += ItemCount(count);
        }
        let outcome = shared.carry(signal, count, body);
        let mut state = shared.state.lock();
        // After a shutdown that did not wait for it, it has been counted.
        if state.calls[signal.index()] >= count {
            state.calls[signal.index()] -= count;
            state.settle(signal, count, &outcome);
        }
        drop(state);
        shared.settled.notify_all();
        Sent::Settled(outcome)
    }

    #[inline]
    fn queue(&self, signal: Signal, count: u64, mut push: impl FnMut(&mut Queue) -> Push) -> Sent {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        let mut patience = None;
        loop {
            if state.phase != Phase::Running {
                return state.refuse(count, Reason::SHUTDOWN, "the client has been shut down");
            }
            match push(&mut state.queue) {
                Push::Full => {}
                push => {
                    state.stats.signals[signal.index()].recorded += ItemCount(count);
                    // A thread that will look by itself in time is left alone: waking it costs more than recording.
                    let asleep = || match state.worker {
                        Worker::Idle { until } => {
                            until.is_none_or(|until| state.queue.due().is_some_and(|due| due < until))
                        }
                        Worker::None => true,
                        Worker::Running => false,
                    };
                    if push == Push::Ready || (push == Push::Begun && asleep()) {
                        self.tell_worker(state);
                    }
                    return Sent::Queued;
                }
            }
            match shared.plan.when_full {
                WhenFull::Refuse => return state.refuse(count, Reason::QUEUE_FULL, "the queue is full"),
                WhenFull::DropOldest => match state.queue.take_oldest(signal) {
                    Some(parcel) => {
                        let room = parcel.room();
                        state.queue.release(&room);
                        state.drop_items(signal, room.items, Reason::QUEUE_FULL);
                    }
                    // All of it is on its way.
                    None => return state.drop_new(signal, count),
                },
                WhenFull::DropNewest => return state.drop_new(signal, count),
                WhenFull::Block => {
                    let now = Instant::now();
                    let until = *patience.get_or_insert(now + shared.plan.block_timeout);
                    if now >= until {
                        return state.drop_new(signal, count);
                    }
                    state = wait(&shared.settled, state, Some(until - now));
                }
            }
        }
    }

    /// Wakes the thread, or starts it where there is none.
    #[cold]
    fn tell_worker(&self, mut state: MutexGuard<'_, State>) {
        match state.worker {
            Worker::Idle { .. } => {
                drop(state);
                // Those who wait between attempts and the thread itself are on one condition.
                self.0.wake.notify_all();
            }
            Worker::Running => {}
            Worker::None => {
                state.worker = Worker::Running;
                drop(state);
                let shared = Arc::clone(&self.0);
                let mut builder = std::thread::Builder::new().name(self.0.plan.thread_name.clone());
                if self.0.plan.stack_kib > 0 {
                    builder = builder.stack_size(self.0.plan.stack_kib << 10);
                }
                if builder.spawn(move || shared.work()).is_err() {
                    // No room for a thread now: the next one that records tries again.
                    self.0.state.lock().worker = Worker::None;
                }
            }
        }
    }

    /// Sends everything that was recorded before the call, and waits for that.
    pub(crate) fn flush(&self, deadline: Deadline) -> Result<Report, Lost> {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        let number = state.queue.seal_all();
        // Those who flush at the same time hear of the same.
        let earlier = state.reported;
        if state.is_before(number) {
            self.tell_worker(state);
            state = shared.state.lock();
        }
        while state.is_before(number) || (shared.plan.mode == Mode::Direct && state.calls != [0; 3]) {
            match deadline.remaining(Instant::now()) {
                Some(Duration::ZERO) => break,
                left => state = wait(&shared.settled, state, left),
            }
        }
        let stats = state.snapshot();
        let report = stats.report_since(&earlier);
        state.reported = stats;
        report.into_result()
    }

    /// Takes nothing more, sends what it holds, and waits for that until the deadline; what is left then is lost.
    pub(crate) fn shutdown(&self, deadline: Deadline) -> Result<Report, Lost> {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        match state.phase {
            Phase::Running => {
                state.phase = Phase::Stopping(deadline);
                state.queue.seal_all();
                if state.queue.has_before(u64::MAX) || matches!(state.worker, Worker::Idle { .. }) {
                    self.tell_worker(state);
                } else {
                    drop(state);
                    shared.wake.notify_all();
                }
            }
            // Somebody else's. The earlier deadline counts.
            Phase::Stopping(other) => {
                state.phase = Phase::Stopping(other.min(deadline));
                drop(state);
                shared.wake.notify_all();
            }
            Phase::Stopped => return state.snapshot().report_since(&Stats::default()).into_result(),
        }
        let mut state = shared.state.lock();
        while state.phase != Phase::Stopped && (state.is_before(u64::MAX) || state.calls != [0; 3]) {
            match deadline.remaining(Instant::now()) {
                Some(Duration::ZERO) => break,
                left => state = wait(&shared.settled, state, left),
            }
        }
        let first = state.phase != Phase::Stopped;
        state.stop();
        let report = state.snapshot().report_since(&Stats::default());
        drop(state);
        shared.wake.notify_all();
        shared.settled.notify_all();
        if first {
            let now = Deadline::at(Instant::now());
            shared.ways.iter().for_each(|way| way.shutdown(now));
        }
        report.into_result()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.0.state.lock().snapshot()
    }

    /// Counts items that came after the end of whoever gave them.
    #[cfg(feature = "sdk")]
    pub(crate) fn refuse(&self, count: u64) {
        self.0.state.lock().refuse(count, Reason::SHUTDOWN, "the processor has been shut down");
    }
}

impl State {
    fn snapshot(&self) -> Stats {
        let mut stats = self.stats;
        for signal in Signal::ALL {
            let index = signal.index();
            stats.signals[index].held = ItemCount(self.queue.held_items(signal) + self.calls[index]);
        }
        stats
    }

    /// Whether anything with a number below this waits or is on its way.
    fn is_before(&self, number: u64) -> bool {
        self.queue.has_before(number) || self.in_flight.is_some_and(|room| room.number < number)
    }

    fn refuse(&mut self, count: u64, reason: Reason, message: &'static str) -> Sent {
        self.stats.refused += ItemCount(count);
        Sent::Settled(Failure::refused(reason, message).into())
    }

    #[cold]
    fn drop_new(&mut self, signal: Signal, count: u64) -> Sent {
        self.stats.signals[signal.index()].recorded += ItemCount(count);
        self.drop_items(signal, count, Reason::QUEUE_FULL);
        Sent::Settled(Failure::refused(Reason::QUEUE_FULL, "the queue is full").into())
    }

    fn drop_items(&mut self, signal: Signal, count: u64, reason: Reason) {
        self.stats.signals[signal.index()].dropped.add(reason, count);
    }

    fn settle(&mut self, signal: Signal, count: u64, outcome: &Outcome) {
        let lost = match outcome {
            Outcome::Delivered => 0,
            Outcome::Partial { rejected, .. } => {
                let rejected = rejected.get().min(count);
                self.drop_items(signal, rejected, Reason::PARTIAL_SUCCESS);
                rejected
            }
            Outcome::Failed(failure) => {
                self.drop_items(signal, count, failure.reason);
                count
            }
        };
        self.stats.signals[signal.index()].delivered += ItemCount(count - lost);
    }

    /// Drops all that is left.
    fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.queue.seal_all();
        let waiting: Vec<Room> =
            std::iter::from_fn(|| self.queue.next(Instant::now())).map(|parcel| parcel.room()).collect();
        for room in waiting.into_iter().chain(self.in_flight.take()) {
            self.queue.release(&room);
            self.drop_items(room.signal, room.items, Reason::SHUTDOWN);
        }
        for signal in Signal::ALL {
            let open = std::mem::take(&mut self.calls[signal.index()]);
            self.drop_items(signal, open, Reason::SHUTDOWN);
        }
    }
}

impl Shared {
    /// The thread.
    fn work(&self) {
        // For whatever else the host has plugged into the SDK: on this thread it records nothing.
        #[cfg(feature = "sdk")]
        let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
        while let Some(parcel) = self.take() {
            let room = parcel.room();
            let (body, spare) = parcel.into_body();
            if let Some(items) = spare {
                self.state.lock().queue.recycle(items);
            }
            let outcome = self.carry(room.signal, room.items, body);
            let mut state = self.state.lock();
            // Else a shutdown did not wait for it and has counted it.
            if state.in_flight.take().is_some() {
                state.queue.release(&room);
                state.settle(room.signal, room.items, &outcome);
            }
            drop(state);
            self.settled.notify_all();
        }
        self.settled.notify_all();
    }

    /// Waits for the next request; `None` at the end.
    fn take(&self) -> Option<Parcel> {
        let mut state = self.state.lock();
        let mut lately = Some(Instant::now());
        loop {
            let now = Instant::now();
            if let Some(parcel) = state.queue.next(now) {
                state.worker = Worker::Running;
                state.in_flight = Some(parcel.room());
                return Some(parcel);
            }
            if state.phase != Phase::Running {
                state.worker = Worker::None;
                return None;
            }
            // Where there was something to do lately there will be again: one more look, before it sleeps for good, saves
            // whoever records next from waking it.
            let until = state.queue.due().or(lately.take().and_then(|at: Instant| at.checked_add(self.shortest_delay)));
            state.worker = Worker::Idle { until };
            state = wait(&self.wake, state, until.map(|until| until.saturating_duration_since(now)));
        }
    }

    /// One request, until it is taken or given up. Everything that is not ours happens in here, without a lock.
    fn carry(&self, signal: Signal, count: u64, body: Bytes) -> Outcome {
        let carried = catch_unwind(AssertUnwindSafe(|| {
            let _quiet = quiet::enter();
            self.attempts(signal, count, body)
        }));
        carried.unwrap_or_else(|_| Failure::rejected(Code::Internal, Reason::PANIC, "the exporter panicked").into())
    }

    fn attempts(&self, signal: Signal, count: u64, body: Bytes) -> Outcome {
        let index = signal.index();
        let (way, timeout) = (&self.ways[index], self.plan.timeouts[index]);
        let is_direct = self.plan.mode == Mode::Direct;
        let group = Group::of(Batch::trusted(signal, ItemCount(count), body));
        if is_direct {
            way.resolve_ahead();
        }
        let began = Instant::now();
        let longest = if is_direct { Some(timeout) } else { self.plan.export_timeouts[index] };
        let limit = longest.map_or(Deadline::NEVER, |longest| Deadline::after(began, longest));
        let mut retry = Retry::new(&self.plan.retry, began, retry::seed());
        let outcome = loop {
            let by = match self.state.lock().phase {
                Phase::Running => limit,
                Phase::Stopping(deadline) => limit.min(deadline),
                Phase::Stopped => break Failure::refused(Reason::SHUTDOWN, "the client has been shut down").into(),
            };
            let outcome = way.export(&group, by.min(Deadline::after(Instant::now(), timeout)));
            self.note(&outcome);
            let Outcome::Failed(failure) = outcome else { break outcome };
            match retry.next(Instant::now(), &failure) {
                Decision::GiveUp(why) => break why.outcome(failure, retry.attempts()).into(),
                Decision::Wait(pause) => {
                    if !self.pause(pause, limit) {
                        break retry::stopped(failure).into();
                    }
                }
            }
        };
        group.settle(Outcome::Delivered);
        outcome
    }

    /// Waits before the next attempt; false where there will be none.
    fn pause(&self, pause: Duration, limit: Deadline) -> bool {
        let Some(until) = Instant::now().checked_add(pause) else { return false };
        let mut state = self.state.lock();
        loop {
            let by = match state.phase {
                Phase::Running => limit,
                Phase::Stopping(deadline) => limit.min(deadline),
                Phase::Stopped => return false,
            };
            if by.passed(until) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = wait(&self.wake, state, Some(left));
        }
    }

    /// Counts an attempt. The first failure of all is logged, the first after a success goes to the callback.
    fn note(&self, outcome: &Outcome) {
        let mut state = self.state.lock();
        state.stats.attempts += 1;
        let Outcome::Failed(failure) = outcome else {
            state.trouble.failing = false;
            return;
        };
        state.stats.failed_attempts += 1;
        let news = !std::mem::replace(&mut state.trouble.failing, true);
        let first = !std::mem::replace(&mut state.trouble.logged, true);
        drop(state);
        if first && self.plan.may_log {
            log::warn!("{}: telemetry cannot be exported, this is said once: {failure}", self.plan.thread_name);
        }
        if news && let Some(tell) = &self.plan.on_failure {
            // A host's mistake must not cost it its telemetry.
            let _ = catch_unwind(AssertUnwindSafe(|| tell(failure)));
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}
