//! Limits on items, bytes or requests a second: the configuration, and the limiter shared by threads.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Weight;
use super::{SlidingWindow, TokenBucket};
use crate::clock::Clock;
use crate::outcome::{Code, Failure, Reason};

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    /// Spans, data points or log records.
    Items,
    /// Bytes, uncompressed.
    Bytes,
    /// Requests, or batches.
    Requests,
}

/// How a rate is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateAlgorithm {
    /// `rate` on average, and up to `capacity` at once.
    #[default]
    TokenBucket,
    /// Never more than `rate * window` within any `window`.
    SlidingWindow,
}

/// The `rate_limit` section.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// What is counted.
    pub unit: RateUnit,
    /// How.
    pub algorithm: RateAlgorithm,
    /// Units a second. At least 1.
    pub rate: u64,
    /// Units that may come at once; for the token bucket only. Default: those of one second. At least 1.
    ///
    /// A single batch that is larger passes when the bucket is full, and the bucket is empty for as long as it takes to
    /// make up for it.
    pub capacity: Option<u64>,
    /// For the sliding window only. Default 1 s. Range 1 ms to 1 h, and long enough for one unit.
    ///
    /// A single batch larger than what a window lets through passes when it is empty, and fills the next ones, too.
    pub window: Option<Duration>,
}

/// What is wrong with a `rate_limit` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitError {
    /// The key below `rate_limit`.
    pub key: &'static str,
    /// What it must be.
    pub message: &'static str,
}

impl RateLimit {
    /// A token bucket of one second's worth.
    pub fn per_second(unit: RateUnit, rate: u64) -> RateLimit {
        RateLimit { unit, algorithm: RateAlgorithm::TokenBucket, rate, capacity: None, window: None }
    }

    /// Says what is wrong with it.
    ///
    /// # Errors
    ///
    /// With the first key that is out of its range or belongs to the other algorithm.
    pub fn check(&self) -> Result<(), RateLimitError> {
        let error = |key, message| Err(RateLimitError { key, message });
        if self.rate == 0 {
            return error("rate", "must be at least 1");
        }
        if self.capacity == Some(0) {
            return error("capacity", "must be at least 1");
        }
        match self.algorithm {
            RateAlgorithm::TokenBucket if self.window.is_some() => error("window", "is for the sliding_window only"),
            RateAlgorithm::SlidingWindow if self.capacity.is_some() => {
                error("capacity", "is for the token_bucket only")
            }
            RateAlgorithm::SlidingWindow => {
                let window = self.window();
                if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&window) {
                    error("window", "must be 1ms to 1h")
                } else if self.window_limit() == 0 {
                    error("window", "must be long enough for one unit at this rate")
                } else {
                    Ok(())
                }
            }
            RateAlgorithm::TokenBucket => Ok(()),
        }
    }

    fn window(&self) -> Duration {
        self.window.unwrap_or(Duration::from_secs(1))
    }

    fn window_limit(&self) -> u64 {
        let limit = u128::from(self.rate) * self.window().as_nanos() / 1_000_000_000;
        u64::try_from(limit).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for RateLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate_limit::{} {}", self.key, self.message)
    }
}

impl std::error::Error for RateLimitError {}

/// A rate kept by several threads together. Clones share it.
///
/// # Threads
///
/// May be asked from any thread; never blocks for longer than a few additions take.
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    config: RateLimit,
    clock: Clock,
    state: Mutex<State>,
    refused: AtomicU64,
}

#[derive(Debug)]
enum State {
    Bucket(TokenBucket),
    Window(SlidingWindow),
}

impl Limiter {
    /// Keeps the rate by that clock. A configuration that [`RateLimit::check`] would refuse is taken for the nearest one
    /// that it would not.
    pub fn new(config: RateLimit, clock: Clock) -> Limiter {
        let now = clock.now();
        let state = match config.algorithm {
            RateAlgorithm::TokenBucket => {
                State::Bucket(TokenBucket::new(config.rate, config.capacity.unwrap_or(config.rate), now))
            }
            RateAlgorithm::SlidingWindow => {
                State::Window(SlidingWindow::new(config.window_limit(), config.window(), now))
            }
        };
        Limiter(Arc::new(Inner { config, clock, state: Mutex::new(state), refused: AtomicU64::new(0) }))
    }

    /// Lets `weight` through.
    ///
    /// # Errors
    ///
    /// How long to wait before it is worth asking again. Counted.
    pub fn try_take(&self, weight: Weight) -> Result<(), Duration> {
        let taken = self.take(weight);
        if taken.is_err() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The same without counting a refusal: for whoever waits and asks again.
    pub(crate) fn take(&self, weight: Weight) -> Result<(), Duration> {
        let count = match self.0.config.unit {
            RateUnit::Items => weight.items,
            RateUnit::Bytes => weight.bytes,
            RateUnit::Requests => weight.requests,
        };
        // The time is read under the lock, so that it does not go back between two threads.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Instant = self.0.clock.now();
        match &mut *state {
            State::Bucket(bucket) => bucket.try_take(now, count),
            State::Window(window) => window.try_take(now, count),
        }
    }

    /// How often it did not let something through.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The configuration.
    pub fn config(&self) -> &RateLimit {
        &self.0.config
    }

    /// The failure that tells a sender to come back after `wait`: 429, RESOURCE_EXHAUSTED with RetryInfo.
    pub fn failure(wait: Duration) -> Failure {
        let failure = Failure::refused(Reason::RATE_LIMIT, "rate limit exceeded").retry_after(wait);
        Failure { code: Code::ResourceExhausted, ..failure }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limiter({:?})", self.0.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_out_of_range_are_named() {
        let bucket = RateLimit::per_second(RateUnit::Items, 10);
        let window = RateLimit { algorithm: RateAlgorithm::SlidingWindow, ..bucket.clone() };
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (limit, key) in [
            (bucket.clone(), None),
            (window.clone(), None),
            (RateLimit { rate: 0, ..bucket.clone() }, Some("rate")),
            (RateLimit { capacity: Some(0), ..bucket.clone() }, Some("capacity")),
            (RateLimit { capacity: Some(1), ..bucket.clone() }, None),
            (RateLimit { window: seconds(1.0), ..bucket }, Some("window")),
            (RateLimit { capacity: Some(1), ..window.clone() }, Some("capacity")),
            (RateLimit { window: seconds(0.0009), ..window.clone() }, Some("window")),
            (RateLimit { window: seconds(0.05), ..window.clone() }, Some("window")),
            (RateLimit { window: seconds(0.1), ..window.clone() }, None),
            (RateLimit { window: seconds(3601.0), ..window }, Some("window")),
        ] {
            assert_eq!(limit.check().err().map(|error| error.key), key, "{limit:?}");
        }
    }

    #[test]
    fn each_unit_and_algorithm_lets_through_its_own_count_in_a_minute() {
        let weight = Weight { requests: 1, items: 10, bytes: 100 };
        for (unit, count) in [(RateUnit::Requests, 1), (RateUnit::Items, 10), (RateUnit::Bytes, 100)] {
            for algorithm in [RateAlgorithm::TokenBucket, RateAlgorithm::SlidingWindow] {
                let clock = Clock::simulated();
                let limit = RateLimit { unit, algorithm, rate: 500, capacity: None, window: None };
                let limiter = Limiter::new(limit, clock.clone());
                let mut taken = 0;
                for _ in 0..60_000 {
                    taken += if limiter.try_take(weight).is_ok() { count } else { 0 };
                    clock.advance(Duration::from_millis(1));
                }
                // The bucket starts full, so it lets a second's worth more through.
                let due = if algorithm == RateAlgorithm::TokenBucket { 61 * 500 } else { 60 * 500 };
                assert!((due - count..=due).contains(&taken), "{unit:?} {algorithm:?}: {taken} of {due}");
                assert_eq!(limiter.refused(), 60_000 - taken / count);
            }
        }
    }
}
