//! What is refused before it is read or decoded, and the memory that a body takes.
//!
//! Invariants:
//!
//! - Memory is reserved before a body is read: at first for the smaller of what was announced and 64 KiB, then as bytes
//!   arrive and as they inflate. What was announced and never sent costs nothing.
//! - A body that is refused or given up gives everything back at once.

use std::time::Duration;

use otlp_core::flow::{Limiter, MemoryBudget, RateUnit, Reservation, Weight};
use otlp_core::{ByteSize, Code, Failure, ItemCount, Reason};

/// What is reserved before the first byte of a body.
const FIRST_RESERVATION: u64 = 64 << 10;
/// A buffer is made as large as the sender announced up to this size; beyond it, it grows with what comes.
const BUFFER_BYTES_MAX: u64 = 1 << 20;
/// What a sender is told to wait where there is no room. Long enough for a queue to move, short enough for its retry.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decides whether a request may be read, and later whether its batch may be handed on.
#[derive(Debug)]
pub(crate) struct Admission {
    budget: MemoryBudget,
    body_size_max: ByteSize,
    rate: Option<Limiter>,
}

/// A body that is being received, and the memory it takes.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    announced: Option<u64>,
    memory: Reservation,
    size_max: ByteSize,
}

impl Admission {
    pub(crate) fn new(budget: MemoryBudget, size_max: ByteSize, rate: Option<Limiter>) -> Admission {
        Admission { budget, body_size_max: size_max, rate }
    }

    /// Whether a body may be read. `announced` is its Content-Length.
    pub(crate) fn begin(&self, announced: Option<u64>) -> Result<Body, Failure> {
        if announced.is_some_and(|bytes| bytes > self.body_size_max.get()) {
            return Err(too_large(self.body_size_max));
        }
        self.take(|unit| unit == RateUnit::Requests, Weight { requests: 1, ..Weight::default() })?;
        let first = announced.unwrap_or(FIRST_RESERVATION).min(FIRST_RESERVATION);
        let memory = self.budget.reserve(ByteSize(first)).map_err(no_room)?;
        let capacity = announced.unwrap_or(4096).min(BUFFER_BYTES_MAX) as usize;
        Ok(Body { bytes: Vec::with_capacity(capacity), announced, memory, size_max: self.body_size_max })
    }

    /// Whether so many items of so many bytes may be handed on now.
    pub(crate) fn take_batch(&self, items: ItemCount, size: ByteSize) -> Result<(), Failure> {
        let weight = Weight { requests: 0, items: items.get(), bytes: size.get() };
        self.take(|unit| unit != RateUnit::Requests, weight)
    }

    pub(crate) fn body_size_max(&self) -> ByteSize {
        self.body_size_max
    }

    /// Requests are counted before their body is read, items and bytes when they are known.
    fn take(&self, counts: impl Fn(RateUnit) -> bool, weight: Weight) -> Result<(), Failure> {
        match &self.rate {
            Some(limiter) if counts(limiter.config().unit) => limiter.try_take(weight).map_err(Limiter::failure),
            _ => Ok(()),
        }
    }
}

impl Body {
    /// Takes a piece of it.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let len = (self.bytes.len() + piece.len()) as u64;
        if len > self.size_max.get() {
            return Err(too_large(self.size_max));
        }
        self.reserve(len)?;
        if piece.len() > self.bytes.capacity() - self.bytes.len() {
            self.grow(piece.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The buffer, with room to read into. To be followed by [`Body::pushed`].
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == self.bytes.len() {
            self.grow(1);
        }
        &mut self.bytes
    }

    /// Cuts off what was read beyond the body's end.
    pub(crate) fn buffer_end(&mut self, over: usize) -> Vec<u8> {
        if over == 0 {
            return Vec::new();
        }
        self.bytes.split_off(self.bytes.len() - over)
    }

    /// Says that the buffer was filled further.
    pub(crate) fn pushed(&mut self) -> Result<(), Failure> {
        self.reserve(self.bytes.len() as u64)
    }

    /// All of it, and the memory it takes.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Reservation) {
        // An announced body has its exact size; one that came in chunks may have grown to nearly twice.
        if self.bytes.capacity() > self.bytes.len() + self.bytes.len() / 4 + 64 {
            self.bytes.shrink_to_fit();
        }
        self.memory.shrink_to(ByteSize::from(self.bytes.len()));
        (self.bytes, self.memory)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn end(&self) -> u64 {
        self.announced.unwrap_or(self.size_max.get())
    }

    /// Reserves ahead by doubling, so that a large body takes a few steps and never more than twice what came.
    fn reserve(&mut self, len: u64) -> Result<(), Failure> {
        let held = self.memory.bytes().get();
        if len <= held {
            return Ok(());
        }
        let ahead = (held * 2).clamp(len, self.end().max(len));
        // Where there is no room ahead there may still be enough.
        self.memory
            .grow_to(ByteSize(ahead))
            .or_else(|failure| if len < ahead { self.memory.grow_to(ByteSize(len)) } else { Err(failure) })
            .map_err(no_room)
    }

    fn grow(&mut self, least: usize) {
        let len = self.bytes.len();
        let rest = usize::try_from(self.end()).unwrap_or(usize::MAX).saturating_sub(len);
        self.bytes.reserve_exact(len.max(4096).min(rest).max(least));
    }
}

fn no_room(failure: Failure) -> Failure {
    failure.retry_after(RETRY_AFTER)
}

pub(crate) fn too_large(limit: ByteSize) -> Failure {
    Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, format!("the body is larger than {limit}"))
}

/// The sender must come again because the process is stopping.
pub(crate) fn draining() -> Failure {
    Failure::refused(Reason::SHUTDOWN, "stopping").retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::Clock;
    use otlp_core::flow::{RateAlgorithm, RateLimit};

    fn admission(budget: u64, size_max: u64) -> (MemoryBudget, Admission) {
        let budget = MemoryBudget::new(ByteSize(budget));
        (budget.clone(), Admission::new(budget, ByteSize(size_max), None))
    }

    #[test]
    fn what_was_announced_and_not_sent_is_not_reserved_lim_15() {
        let (budget, admission) = admission(1 << 30, 64 << 20);
        let mut body = admission.begin(Some(15 << 20)).unwrap();
        assert_eq!(budget.reserved(), ByteSize::kib(64));
        body.push(&[7; 1024]).unwrap();
        assert_eq!(budget.reserved(), ByteSize::kib(64));
        body.push(&vec![7; 64 << 10]).unwrap();
        assert_eq!(budget.reserved(), ByteSize::kib(128));
        drop(body);
        assert_eq!(budget.reserved(), ByteSize::ZERO);
        let _small = admission.begin(Some(100)).unwrap();
        assert_eq!(budget.reserved(), ByteSize(100));
    }

    #[test]
    fn bodies_above_the_limit_are_rejected_at_once_or_when_they_pass_it_lim_01() {
        let (budget, admission) = admission(1 << 30, 1000);
        assert!(admission.begin(Some(1000)).is_ok());
        let failure = admission.begin(Some(1001)).unwrap_err();
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::TOO_LARGE, false));
        let mut chunked = admission.begin(None).unwrap();
        chunked.push(&[0; 1000]).unwrap();
        assert_eq!(chunked.push(&[0]).unwrap_err().reason, Reason::TOO_LARGE);
        drop(chunked);
        assert_eq!(budget.reserved(), ByteSize::ZERO);
    }

    #[test]
    fn a_body_that_finds_no_room_is_refused_and_gives_all_back() {
        let (budget, admission) = admission(100 << 10, 1 << 20);
        let other = budget.reserve(ByteSize::kib(20)).unwrap();
        let mut body = admission.begin(Some(1 << 20)).unwrap();
        body.push(&vec![0; 70 << 10]).unwrap();
        let failure = body.push(&vec![0; 20 << 10]).unwrap_err();
        assert_eq!(failure.reason, Reason::MEMORY_BUDGET);
        assert_eq!(failure.retry, otlp_core::Retry::After(RETRY_AFTER));
        assert!(admission.begin(Some(64 << 10)).is_err());
        assert_eq!(body.push(&vec![0; 200 << 10]).unwrap_err().reason, Reason::TOO_LARGE, "there will never be room");
        drop((body, other));
        assert!(admission.begin(Some(64 << 10)).is_ok());
        assert_eq!(budget.reserved(), ByteSize::ZERO);
    }

    #[test]
    fn a_finished_body_holds_what_it_is() {
        let (budget, admission) = admission(1 << 30, 1 << 20);
        let mut body = admission.begin(None).unwrap();
        for _ in 0..1000 {
            body.push(&[1; 100]).unwrap();
        }
        let (bytes, memory) = body.finish();
        assert_eq!((bytes.len(), memory.bytes(), budget.reserved()), (100_000, ByteSize(100_000), ByteSize(100_000)));
        assert!(bytes.capacity() <= 125_064);
    }

    #[test]
    fn a_minute_at_a_configured_rate_lets_through_what_it_says() {
        for (algorithm, capacity, expected) in
            [(RateAlgorithm::TokenBucket, Some(50), 650), (RateAlgorithm::SlidingWindow, None, 600)]
        {
            let rate = RateLimit { algorithm, capacity, ..RateLimit::per_second(RateUnit::Items, 10) };
            let clock = Clock::simulated();
            let limiter = Limiter::new(rate, clock.clone());
            let admission = Admission::new(MemoryBudget::new(ByteSize::mib(1)), ByteSize::mib(1), Some(limiter));
            let mut passed = 0;
            for _ in 0..60_000 {
                passed += u64::from(admission.take_batch(ItemCount(1), ByteSize::ZERO).is_ok());
                assert!(admission.begin(Some(1)).is_ok(), "requests are not limited");
                clock.advance(Duration::from_millis(1));
            }
            // What the last millisecond let in comes with the next minute.
            assert!((expected - 1..=expected).contains(&passed), "{algorithm:?}: {passed}");
        }
    }

    #[test]
    fn a_rate_exceeded_says_when_to_come_again() {
        let rate = RateLimit { capacity: Some(1), ..RateLimit::per_second(RateUnit::Requests, 2) };
        let limiter = Limiter::new(rate, Clock::simulated());
        let admission = Admission::new(MemoryBudget::new(ByteSize::mib(1)), ByteSize::mib(1), Some(limiter));
        assert!(admission.begin(Some(1)).is_ok());
        let failure = admission.begin(Some(1)).unwrap_err();
        assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, Reason::RATE_LIMIT));
        assert_eq!(failure.retry, otlp_core::Retry::After(Duration::from_millis(500)));
    }
}
