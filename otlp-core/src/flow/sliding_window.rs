//! A sliding window: never more than so much within any stretch of time of that length.
//!
//! Invariant: in any window what was let through is at most the limit, but for a batch that alone is larger, which is let
//! through into an empty window and fills as many of them as it needs.
//!
//! What is let through within a thousandth of the window is remembered together, as of its last part: so it leaves the
//! window late by that much at most, never early, and memory stays below a thousand entries.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const ENTRIES_MAX: u32 = 1000;

/// A sliding window, driven by the times it is given.
///
/// # Examples
///
/// ```
/// use otlp_core::flow::SlidingWindow;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let mut window = SlidingWindow::new(5, Duration::from_secs(1), start);
/// assert_eq!(window.try_take(start, 5), Ok(()));
/// assert_eq!(window.try_take(start, 1), Err(Duration::from_secs(1)));
/// assert_eq!(window.try_take(start + Duration::from_secs(1), 5), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct SlidingWindow {
    limit: u64,
    window: Duration,
    /// In the order in which they leave the window.
    entries: VecDeque<Entry>,
    sum: u64,
    at: Instant,
}

#[derive(Clone, Debug)]
struct Entry {
    first: Instant,
    leaves: Instant,
    count: u64,
}

impl SlidingWindow {
    /// Lets `limit` through within any `window`. The limit is at least one, the window at least a microsecond.
    pub fn new(limit: u64, window: Duration, now: Instant) -> SlidingWindow {
        let window = window.max(Duration::from_micros(1));
        SlidingWindow { limit: limit.max(1), window, entries: VecDeque::new(), sum: 0, at: now }
    }

    /// Takes `count` of what the window has left.
    ///
    /// # Errors
    ///
    /// How long to wait until there is enough, if nobody else takes any.
    pub fn try_take(&mut self, now: Instant, count: u64) -> Result<(), Duration> {
        self.slide(now);
        let now = self.at;
        if count > self.limit {
            if let Some(last) = self.entries.back() {
                return Err(last.leaves - now);
            }
            let windows = count.div_ceil(self.limit).min(u64::from(u32::MAX)) as u32;
            self.enter(now, self.window.saturating_mul(windows), self.limit);
            return Ok(());
        }
        let mut free = self.limit - self.sum;
        if count <= free {
            self.enter(now, self.window, count);
            return Ok(());
        }
        let enough = self.entries.iter().find(|entry| {
            free += entry.count;
            free >= count
        });
        Err(enough.map_or(self.window, |entry| entry.leaves - now))
    }

    /// What the window has left now.
    pub fn available(&mut self, now: Instant) -> u64 {
        self.slide(now);
        self.limit - self.sum
    }

    fn slide(&mut self, now: Instant) {
        self.at = self.at.max(now);
        while let Some(entry) = self.entries.front()
            && entry.leaves <= self.at
        {
            self.sum -= entry.count;
            self.entries.pop_front();
        }
    }

    fn enter(&mut self, now: Instant, stays: Duration, count: u64) {
        if count == 0 {
            return;
        }
        // Beyond what the clock can say: a century will do.
        let leaves = now.checked_add(stays).unwrap_or(now + Duration::from_secs(100 * 365 * 86_400));
        self.sum += count;
        match self.entries.back_mut() {
            Some(last) if now - last.first < self.window / ENTRIES_MAX => {
                last.leaves = last.leaves.max(leaves);
                last.count += count;
            }
            _ => self.entries.push_back(Entry { first: now, leaves, count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_over_a_minute_are_exact() {
        let start = Instant::now();
        let mut window = SlidingWindow::new(100, Duration::from_secs(1), start);
        let mut taken = Vec::new();
        let mut now = start;
        while now < start + Duration::from_secs(60) {
            if window.try_take(now, 1).is_ok() {
                taken.push(now);
            }
            now += Duration::from_millis(7);
        }
        // A hundred in each of sixty windows, each of which begins at the first step after the last has gone by.
        assert_eq!(taken.len(), 6000);
        for (index, &from) in taken.iter().enumerate() {
            let within = taken[index..].iter().take_while(|&&at| at < from + Duration::from_secs(1)).count();
            assert!(within <= 100, "{within} within a second");
        }
    }

    #[test]
    fn no_window_holds_more_than_the_limit_and_memory_is_bounded() {
        let start = Instant::now();
        let mut window = SlidingWindow::new(2000, Duration::from_millis(100), start);
        let mut taken: Vec<(Instant, u64)> = Vec::new();
        let mut state = 1u64;
        let mut now = start;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += Duration::from_nanos(state >> 46);
            let count = state >> 8 & 7;
            if window.try_take(now, count).is_ok() {
                taken.push((now, count));
            }
            assert!(window.entries.len() <= 1001);
        }
        let mut from = 0;
        let mut sum = 0;
        for &(at, count) in &taken {
            sum += count;
            while taken[from].0 + Duration::from_millis(100) <= at {
                sum -= taken[from].1;
                from += 1;
            }
            assert!(sum <= 2000, "{sum}");
        }
        assert!(taken.len() > 10_000);
    }

    #[test]
    fn the_wait_it_names_is_enough_and_no_longer_than_needed() {
        let start = Instant::now();
        let mut window = SlidingWindow::new(10, Duration::from_secs(1), start);
        for (ms, count) in [(0, 4), (300, 4), (600, 2)] {
            window.try_take(start + Duration::from_millis(ms), count).unwrap();
        }
        let now = start + Duration::from_millis(700);
        for (count, wait_ms) in [(1, 300), (4, 300), (5, 600), (9, 900), (11, 900)] {
            assert_eq!(window.try_take(now, count), Err(Duration::from_millis(wait_ms)), "{count}");
            let then = now + Duration::from_millis(wait_ms);
            assert_eq!(window.clone().try_take(then, count), Ok(()), "{count}");
        }
    }

    #[test]
    fn more_than_the_limit_fills_several_windows() {
        let start = Instant::now();
        let mut window = SlidingWindow::new(10, Duration::from_secs(1), start);
        assert_eq!(window.try_take(start, 25), Ok(()));
        assert_eq!(window.try_take(start, 1), Err(Duration::from_secs(3)));
        assert_eq!(window.try_take(start + Duration::from_secs(3), 10), Ok(()));
        assert_eq!(window.available(start + Duration::from_secs(3)), 0);
        let mut endless = SlidingWindow::new(1, Duration::MAX, start);
        assert_eq!(endless.try_take(start, u64::MAX), Ok(()));
        assert!(endless.try_take(start, 1).is_err());
    }
}
