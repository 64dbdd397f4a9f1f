//! The thread's work: one request after the other, each until it is taken or given up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::{Batch, Code, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};

use super::{Mode, Phase, Shared, Worker};
use crate::client::queue::Parcel;
use crate::lock::wait;
use crate::quiet;
use crate::retry::{self, Decision, Retry};

impl Shared {
    /// The thread.
    pub(super) fn work(&self) {
        // For whatever else the host has plugged into the SDK: on this thread it records nothing.
        #[cfg(feature = "sdk")]
        let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
        self.begin();
        while let Some(parcel) = self.take() {
            self.send(parcel, Deadline::NEVER);
        }
        self.settled.notify_all();
    }

    /// Takes over, once nobody stands in any more.
    fn begin(&self) {
        let mut state = self.state.lock();
        while state.worker == Worker::Running {
            state = wait(&self.settled, state, None);
        }
        state.worker = Worker::Running;
        state.threadless = false;
    }

    /// Sends a request that is in flight, and settles it. Tries for no longer than `by`.
    pub(super) fn send(&self, parcel: Parcel, by: Deadline) {
        let room = parcel.room();
        let (body, spare) = parcel.into_body();
        if let Some(items) = spare {
            self.state.lock().queue.recycle(items);
        }
        let outcome = self.carry(room.signal, room.items, body, by);
        let mut state = self.state.lock();
        // Else a shutdown did not wait for it and has counted it.
        if state.in_flight.take().is_some() {
            state.queue.release(&room);
            state.settle(room.signal, room.items, &outcome);
        }
        drop(state);
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
    pub(super) fn carry(&self, signal: Signal, count: u64, body: Bytes, by: Deadline) -> Outcome {
        let carried = catch_unwind(AssertUnwindSafe(|| {
            let _quiet = quiet::enter();
            self.attempts(signal, count, body, by)
        }));
        carried.unwrap_or_else(|_| Failure::rejected(Code::Internal, Reason::PANIC, "the exporter panicked").into())
    }

    fn attempts(&self, signal: Signal, count: u64, body: Bytes, by: Deadline) -> Outcome {
        let index = signal.index();
        let (way, timeout) = (&self.ways[index], self.plan.timeouts[index]);
        let is_direct = self.plan.mode == Mode::Direct;
        let group = Group::of(Batch::trusted(signal, ItemCount(count), body));
        if is_direct {
            way.resolve_ahead();
        }
        let began = Instant::now();
        let longest = if is_direct { Some(timeout) } else { self.plan.export_timeouts[index] };
        let limit = by.min(longest.map_or(Deadline::NEVER, |longest| Deadline::after(began, longest)));
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
        // A shutdown is to say the same twice.
        if state.phase != Phase::Stopped {
            state.trouble.last = Some(failure.clone());
        }
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
