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
//! are closed under what is on its way, and the thread is joined, as far as the deadline allows: one that still waits in
//! the system ends by itself.
//!
//! # Without a thread
//!
//! Where none can be had, `flush` and `shutdown` send in their caller's thread: the system has none left, or it never
//! begins, which is so in a child of fork whose parent was beginning or ending another thread (std has a lock for that,
//! and nobody releases it in the child).

use std::fmt;
use std::sync::{Arc, Condvar, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::component::Exporter;
use otlp_core::flow::gate::WhenFull;
use otlp_core::{Code, Deadline, Failure, ItemCount, Outcome, Reason, Signal};

use super::envelope::{Items, Origin};
use super::queue::{Limits, Push, Queue, Room};
use super::stats::{Lost, Report, Stats};
use crate::lock::{Mutex, wait};
use crate::quiet;
use crate::retry;

mod carry;
#[cfg(test)]
mod tests;

/// For a thread that has not begun by then others stand in.
const BEGIN_PATIENCE: Duration = Duration::from_millis(200);

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
    /// Of the thread, until somebody joins it.
    thread: Option<JoinHandle<()>>,
    /// A thread has not begun yet, for longer than one takes: no other is tried.
    threadless: bool,
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
    /// Asked for.
    Beginning(Instant),
    /// The thread, or whoever stands in for it.
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
    last: Option<Failure>,
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
            thread: None,
            threadless: false,
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
        let outcome = shared.carry(signal, count, body, Deadline::NEVER);
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
                        Worker::Running | Worker::Beginning(_) => false,
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
            Worker::Running | Worker::Beginning(_) => {}
            Worker::None if state.threadless => {}
            Worker::None => {
                state.worker = Worker::Beginning(Instant::now());
                drop(state);
                let shared = Arc::clone(&self.0);
                let mut builder = std::thread::Builder::new().name(self.0.plan.thread_name.clone());
                if self.0.plan.stack_kib > 0 {
                    builder = builder.stack_size(self.0.plan.stack_kib << 10);
                }
                let spawned = builder.spawn(move || shared.work());
                let mut state = self.0.state.lock();
                match spawned {
                    Ok(thread) => state.thread = Some(thread),
                    // No room for a thread now: the next one that records tries again.
                    Err(_) => state.worker = Worker::None,
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
                left => state = self.wait(state, number, left, deadline),
            }
        }
        let stats = state.snapshot();
        let report = stats.report_since(&earlier);
        state.reported = stats;
        report.into_result(state.trouble.last.as_ref())
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
            Phase::Stopped => {
                let result = state.report();
                drop(state);
                self.join(deadline);
                return result;
            }
        }
        let mut state = shared.state.lock();
        while state.phase != Phase::Stopped && (state.is_before(u64::MAX) || state.calls != [0; 3]) {
            match deadline.remaining(Instant::now()) {
                Some(Duration::ZERO) => break,
                left => state = self.wait(state, u64::MAX, left, deadline),
            }
        }
        let first = state.phase != Phase::Stopped;
        state.stop();
        let result = state.report();
        drop(state);
        shared.wake.notify_all();
        shared.settled.notify_all();
        if first {
            let _quiet = quiet::enter();
            let now = Deadline::at(Instant::now());
            shared.ways.iter().for_each(|way| way.shutdown(now));
        }
        self.join(deadline);
        result
    }

    /// Waits for the thread to settle something, or does its work where it does not run.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        number: u64,
        left: Option<Duration>,
        deadline: Deadline,
    ) -> MutexGuard<'a, State> {
        let patience = match state.worker {
            Worker::None if state.is_before(number) => Duration::ZERO,
            Worker::Beginning(asked) => (asked + BEGIN_PATIENCE).saturating_duration_since(Instant::now()),
            _ => return wait(&self.0.settled, state, left),
        };
        if patience.is_zero() {
            return self.stand_in(state, deadline);
        }
        wait(&self.0.settled, state, Some(left.map_or(patience, |left| left.min(patience))))
    }

    /// Sends what the thread would send, in the caller's.
    #[cold]
    fn stand_in<'a>(&'a self, mut state: MutexGuard<'a, State>, deadline: Deadline) -> MutexGuard<'a, State> {
        let shared = &*self.0;
        state.threadless |= matches!(state.worker, Worker::Beginning(_));
        // Nobody else stands in, and a thread that begins after all waits until this is over.
        state.worker = Worker::Running;
        state.queue.seal_all();
        while !deadline.passed(Instant::now())
            && let Some(parcel) = state.queue.next(Instant::now())
        {
            state.in_flight = Some(parcel.room());
            drop(state);
            shared.send(parcel, deadline);
            state = shared.state.lock();
        }
        state.worker = Worker::None;
        // Others who wait, and the thread, if it has begun after all.
        shared.settled.notify_all();
        state
    }

    /// Waits for the thread's end, unless it is this one, or there is no time.
    fn join(&self, deadline: Deadline) {
        // What is called while something is sent may well be called by the thread.
        if quiet::is_quiet() {
            return;
        }
        let mut state = self.0.state.lock();
        while matches!(state.worker, Worker::Running | Worker::Idle { .. }) {
            match deadline.remaining(Instant::now()) {
                Some(Duration::ZERO) => return,
                left => state = wait(&self.0.settled, state, left),
            }
        }
        // What has not begun yet may never.
        let thread = state.thread.take().filter(|_| state.worker == Worker::None && !state.threadless);
        drop(state);
        if let Some(thread) = thread {
            // It has left our code: what is left is the system's, and its storage.
            let _ = thread.join();
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.0.state.lock().snapshot()
    }

    /// What the last attempt that failed died of.
    #[cfg(feature = "sdk")]
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        self.0.state.lock().trouble.last.clone()
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

    /// Of the whole life.
    fn report(&self) -> Result<Report, Lost> {
        self.snapshot().report_since(&Stats::default()).into_result(self.trouble.last.as_ref())
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

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}
