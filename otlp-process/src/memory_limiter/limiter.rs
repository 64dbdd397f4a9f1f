//! Decides when to refuse and when to take data again. No clock, no file: time and memory are told.

use std::time::{Duration, Instant};

use otlp_core::ByteSize;

/// Whether data are refused, from one measurement to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    soft: ByteSize,
    interval: Duration,
    next: Option<Instant>,
    refusing: bool,
}

/// What a measurement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// From here on everything is refused.
    Refuse,
    /// From here on everything is taken.
    Resume,
}

impl Limiter {
    pub(crate) fn new(soft: ByteSize, interval: Duration) -> Limiter {
        Limiter { soft, interval, next: None, refusing: false }
    }

    /// Whether memory is to be measured again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// Takes in a measurement. Without one (it could not be had) nothing changes until the next.
    pub(crate) fn observe(&mut self, now: Instant, resident: Option<ByteSize>) -> Option<Change> {
        self.next = Some(now + self.interval);
        let over = resident? >= self.soft;
        if over == self.refusing {
            return None;
        }
        self.refusing = over;
        Some(if over { Change::Refuse } else { Change::Resume })
    }
}
