//! An exporter that keeps what it gets in memory, and can fail now and then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otlp_core::component::{Exporter, Health, HealthState};
use otlp_core::wire::view::{AnyValue, resources};
use otlp_core::{Deadline, Failure, Group, Outcome, Reason};

use super::stamp::KEY;

/// What is kept of a span.
pub struct Seen {
    pub name: String,
    pub duration: Duration,
    pub batch_number: Option<i64>,
}

/// Clones keep together.
#[derive(Clone, Default)]
pub struct Sink(Arc<Inner>);

#[derive(Default)]
struct Inner {
    spans: Mutex<Vec<Seen>>,
    calls: Mutex<Calls>,
    stopped: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Calls {
    made: u64,
    /// Every call of this number fails; 0 is none.
    fails_every: u64,
}

impl Sink {
    /// One that fails every so many calls, as a destination does that is busy.
    pub fn failing_every(calls: u64) -> Sink {
        let sink = Sink::default();
        lock(&sink.0.calls).fails_every = calls;
        sink
    }

    pub fn spans(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.0.spans)
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        lock(&self.0.calls).made
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exporter for Sink {
    // Called from several workers at once. It says what became of the group; retrying, settling and counting are not its
    // business.
    fn export(&self, group: &Group, _: Deadline) -> Outcome {
        if self.0.stopped.load(Ordering::Acquire) {
            return Failure::refused(Reason::SHUTDOWN, "the sink is closed").into();
        }
        let mut calls = lock(&self.0.calls);
        calls.made += 1;
        let Calls { made, fails_every } = *calls;
        drop(calls);
        if fails_every > 0 && made.is_multiple_of(fails_every) {
            return Failure::refused(Reason::UNAVAILABLE, "the sink is busy").into();
        }
        let mut spans = self.spans();
        for batch in group.parts() {
            let scopes = resources(batch.body()).flat_map(|resource| resource.scopes());
            spans.extend(scopes.flat_map(|scope| scope.spans()).map(|span| Seen {
                name: span.name().to_owned(),
                duration: Duration::from_nanos(span.end_time_unix_nano() - span.start_time_unix_nano()),
                batch_number: match span.attributes().get(KEY) {
                    Some(AnyValue::Int(number)) => Some(number),
                    _ => None,
                },
            }));
        }
        Outcome::Delivered
    }

    fn shutdown(&self, _: Deadline) {
        self.0.stopped.store(true, Ordering::Release);
    }

    fn health(&self) -> Health {
        match self.0.stopped.load(Ordering::Acquire) {
            true => Health { state: HealthState::Stopped, message: String::new() },
            false => Health::ok(),
        }
    }
}
