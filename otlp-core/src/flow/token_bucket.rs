//! A token bucket: so much a second on average, and a burst at once.
//!
//! Invariant: from the start to any later time `t`, what was let through is at most `capacity + rate * t`, but for the
//! last batch where that alone is larger than the bucket.
//!
//! All numbers are whole: tokens are counted in billionths, as many of which come in a nanosecond as there are tokens in
//! a second. So nothing is lost to rounding, however often it is asked.

use std::time::{Duration, Instant};

const SCALE: i128 = 1_000_000_000;

/// A token bucket, driven by the times it is given.
///
/// # Examples
///
/// ```
/// use otlp_core::flow::TokenBucket;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let mut bucket = TokenBucket::new(10, 5, start);
/// assert_eq!(bucket.try_take(start, 5), Ok(()));
/// assert_eq!(bucket.try_take(start, 1), Err(Duration::from_millis(100)));
/// assert_eq!(bucket.try_take(start + Duration::from_millis(100), 1), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    capacity: i128,
    /// In billionths of a token; below zero after a batch larger than the bucket.
    level: i128,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket of `capacity` tokens into which `rate` tokens come each second. Both are at least one.
    pub fn new(rate: u64, capacity: u64, now: Instant) -> TokenBucket {
        let capacity = i128::from(capacity.max(1)) * SCALE;
        TokenBucket { rate: rate.max(1), capacity, level: capacity, at: now }
    }

    /// Takes `count` tokens.
    ///
    /// More than the bucket can hold are given when it is full, and owed: until they have come in nothing is given. So a
    /// large batch is let through late rather than never, and the rate holds all the same.
    ///
    /// # Errors
    ///
    /// How long to wait until there are enough, if nobody else takes any.
    pub fn try_take(&mut self, now: Instant, count: u64) -> Result<(), Duration> {
        self.fill(now);
        let wanted = i128::from(count) * SCALE;
        let needed = wanted.min(self.capacity);
        if self.level >= needed {
            self.level -= wanted;
            return Ok(());
        }
        let rate = i128::from(self.rate);
        let wait_ns = (needed - self.level + rate - 1) / rate;
        Err(Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX)))
    }

    /// Whole tokens in it now.
    pub fn available(&mut self, now: Instant) -> u64 {
        self.fill(now);
        u64::try_from(self.level / SCALE).unwrap_or(0)
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        let come = (elapsed.as_nanos() as i128).saturating_mul(i128::from(self.rate));
        self.level = self.level.saturating_add(come).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_over_a_minute_are_exact() {
        for (rate, capacity, step, count) in [
            (100, 50, Duration::from_millis(1), 1),
            (7, 7, Duration::from_micros(777), 1),
            (1000, 1000, Duration::from_millis(3), 64),
        ] {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, capacity, start);
            let mut now = start;
            let mut taken = 0;
            while now <= start + Duration::from_secs(60) {
                if bucket.try_take(now, count).is_ok() {
                    taken += count;
                }
                now += step;
            }
            let due = capacity + 60 * rate;
            assert!(taken <= due && taken + count > due - rate * 3 / 1000 - 1, "{taken} of {due}");
        }
    }

    #[test]
    fn the_wait_it_names_is_enough_and_no_longer_than_needed() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 10, start);
        bucket.try_take(start, 10).unwrap();
        for count in [1, 3, 10, 25] {
            let mut now = bucket.at;
            let wait = bucket.try_take(now, count).unwrap_err();
            now += wait;
            assert!(bucket.clone().try_take(now - Duration::from_nanos(1), count).is_err());
            assert_eq!(bucket.try_take(now, count), Ok(()), "{count}");
        }
    }

    #[test]
    fn more_than_the_bucket_is_let_through_once_and_paid_for() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 10, start);
        assert_eq!(bucket.try_take(start, 30), Ok(()));
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.try_take(start, 1), Err(Duration::from_millis(2100)));
        assert_eq!(bucket.try_take(start + Duration::from_millis(2100), 1), Ok(()));
    }

    #[test]
    fn time_that_goes_back_and_huge_numbers_do_no_harm() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(u64::MAX, u64::MAX, start);
        assert_eq!(bucket.try_take(start - Duration::from_secs(5), u64::MAX), Ok(()));
        assert!(bucket.try_take(start - Duration::from_secs(5), 1).is_err());
        assert_eq!(bucket.try_take(start + Duration::from_secs(1 << 30), u64::MAX), Ok(()));
        let mut slow = TokenBucket::new(1, 1, start);
        assert_eq!(slow.try_take(start, u64::MAX), Ok(()));
        assert_eq!(slow.try_take(start, 1), Err(Duration::from_nanos(u64::MAX)));
    }
}
