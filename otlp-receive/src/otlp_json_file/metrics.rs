//! What the receiver tells about itself.

use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Labels, Registry};
use otlp_core::{ItemCount, Outcome, Reason, Signal};

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    labels: Labels,
    accepted: [Counter; 3],
    refused: [Counter; 3],
    pub(super) bytes: Counter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry, receiver: &str) -> Metrics {
        let labels: Labels = vec![("receiver", receiver.to_owned()), ("transport", "file".to_owned())];
        let by_signal = |name| Signal::ALL.map(|signal| registry.counter(name, Some(signal), labels.clone()));
        by_signal(names::RECEIVER_FAILED);
        Metrics {
            accepted: by_signal(names::RECEIVER_ACCEPTED),
            refused: by_signal(names::RECEIVER_REFUSED),
            bytes: registry.counter(names::RECEIVER_BYTES, None, labels.clone()),
            registry: registry.clone(),
            labels,
        }
    }

    /// A request has an outcome. One that comes back is counted as refused each time.
    pub(super) fn settled(&self, signal: Signal, items: ItemCount, outcome: &Outcome) {
        let counters = if outcome.is_delivered() { &self.accepted } else { &self.refused };
        counters[signal.index()].add(items.get());
        if let Outcome::Failed(failure) = outcome {
            self.bad(failure.reason);
        }
    }

    /// A line was passed over, or a request came back.
    pub(super) fn bad(&self, reason: Reason) {
        let mut labels = self.labels.clone();
        labels.push(("reason", reason.to_string()));
        self.registry.counter(names::RECEIVER_FAILURES, None, labels).increment();
    }
}
