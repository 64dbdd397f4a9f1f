//! What a receiver tells about itself. Handles are made once; counting is an atomic addition.

use std::sync::OnceLock;
use std::time::Duration;

use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, DURATION_BOUNDS, Gauge, Histogram, Labels, Registry};
use otlp_core::{ItemCount, Reason, Signal};

/// The counters of one receiver and transport.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    labels: Labels,
    accepted: [Counter; 3],
    refused: [Counter; 3],
    requests: [Counter; 3],
    failures: Vec<OnceLock<Counter>>,
    pub(crate) bytes: Counter,
    pub(crate) invalid_ids: Counter,
    pub(crate) connections: Gauge,
    pub(crate) connections_opened: Counter,
    duration: Histogram,
}

/// How a request ended, as in the `outcome` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Taken.
    Success,
    /// Not taken, to be sent again.
    Refused,
    /// Not taken, the sender's fault or ours.
    Failure,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, receiver: &str, transport: &'static str) -> Metrics {
        let labels: Labels = vec![("receiver", receiver.to_owned()), ("transport", transport.to_owned())];
        let by_signal = |name| Signal::ALL.map(|signal| registry.counter(name, Some(signal), labels.clone()));
        by_signal(names::RECEIVER_FAILED);
        let requests = ["success", "refused", "failure"].map(|outcome| {
            let mut labels = labels.clone();
            labels.push(("outcome", outcome.to_owned()));
            registry.counter(names::RECEIVER_REQUESTS, None, labels)
        });
        Metrics {
            accepted: by_signal(names::RECEIVER_ACCEPTED),
            refused: by_signal(names::RECEIVER_REFUSED),
            requests,
            failures: Reason::ALL.iter().map(|_| OnceLock::new()).collect(),
            bytes: registry.counter(names::RECEIVER_BYTES, None, labels.clone()),
            invalid_ids: registry.counter(names::RECEIVER_INVALID_IDS, None, labels.clone()),
            connections: registry.gauge(names::RECEIVER_CONNECTIONS, None, labels.clone()),
            connections_opened: registry.counter(names::RECEIVER_CONNECTIONS_OPENED, None, labels.clone()),
            duration: registry.histogram(names::RECEIVER_DURATION, None, labels.clone(), DURATION_BOUNDS),
            registry: registry.clone(),
            labels,
        }
    }

    /// The sender hears that the items are taken.
    pub(crate) fn accepted(&self, signal: Signal, items: ItemCount) {
        self.accepted[signal.index()].add(items.get());
    }

    /// The items could not be handed on, or were withdrawn.
    pub(crate) fn refused(&self, signal: Signal, items: ItemCount) {
        self.refused[signal.index()].add(items.get());
    }

    /// A request was taken back before its outcome was known, because its sender went away.
    pub(crate) fn withdrawn(&self, signal: Signal, items: ItemCount) {
        self.refused(signal, items);
        self.requests[Ending::Refused as usize].increment();
        self.failed(Reason::WITHDRAWN);
    }

    /// A request ended.
    pub(crate) fn ended(&self, ending: Ending, reason: Option<Reason>, took: Duration) {
        self.requests[ending as usize].increment();
        self.duration.record_duration(took);
        if let Some(reason) = reason {
            self.failed(reason);
        }
    }

    fn failed(&self, reason: Reason) {
        let counter = self.failures[reason.index()].get_or_init(|| {
            let mut labels = self.labels.clone();
            labels.push(("reason", reason.to_string()));
            self.registry.counter(names::RECEIVER_FAILURES, None, labels)
        });
        counter.increment();
    }
}

/// What went well in one turn of a connection, counted without atomics and added up at its end: most requests of a turn
/// take as long as each other.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    accepted: [u64; 3],
    succeeded: u64,
    /// How long the last ones took, and how many those are.
    took: Duration,
    alike: u64,
    /// The others, in the same way.
    others: Vec<(Duration, u64)>,
}

impl Tally {
    /// As [`Metrics::accepted`].
    pub(crate) fn accepted(&mut self, signal: Signal, items: ItemCount) {
        self.accepted[signal.index()] += items.get();
    }

    /// As [`Metrics::ended`] of a success.
    pub(crate) fn succeeded(&mut self, took: Duration) {
        if took != self.took && self.alike > 0 {
            self.others.push((self.took, std::mem::take(&mut self.alike)));
        }
        self.took = took;
        self.alike += 1;
        self.succeeded += 1;
    }

    /// Adds it up.
    pub(crate) fn flush(&mut self, metrics: &Metrics) {
        for (counter, items) in metrics.accepted.iter().zip(&mut self.accepted).filter(|(_, items)| **items > 0) {
            counter.add(std::mem::take(items));
        }
        if self.succeeded > 0 {
            metrics.requests[Ending::Success as usize].add(std::mem::take(&mut self.succeeded));
            let last = (self.took, std::mem::take(&mut self.alike));
            for (took, count) in self.others.drain(..).chain([last]) {
                metrics.duration.record_many(took.as_secs_f64(), count);
            }
        }
    }
}
