//! The smallest and the largest value of the last minute.

use std::time::{Duration, Instant};

/// Each part of the minute is forgotten as a whole, so what is told covers 60 to 70 seconds.
const PART: Duration = Duration::from_secs(10);
const PARTS: usize = 7;

/// The extremes of a minute that moves on with the times it is given.
#[derive(Clone, Debug)]
pub(super) struct Extremes {
    start: Instant,
    parts: [Part; PARTS],
}

#[derive(Clone, Copy, Debug)]
struct Part {
    /// Which ten seconds since the start these are; the same place is used again for later ones.
    number: u64,
    least: f64,
    greatest: f64,
}

impl Extremes {
    pub(super) fn new(start: Instant) -> Extremes {
        Extremes { start, parts: [Part { number: u64::MAX, least: 0.0, greatest: 0.0 }; PARTS] }
    }

    pub(super) fn record(&mut self, now: Instant, value: f64) {
        let number = self.number(now);
        let part = &mut self.parts[(number % PARTS as u64) as usize];
        if part.number == number {
            part.least = part.least.min(value);
            part.greatest = part.greatest.max(value);
        } else {
            *part = Part { number, least: value, greatest: value };
        }
    }

    /// The least and the greatest; `None` where nothing was recorded for a minute.
    pub(super) fn get(&self, now: Instant) -> Option<(f64, f64)> {
        let number = self.number(now);
        self.parts
            .iter()
            .filter(|part| number.checked_sub(part.number).is_some_and(|age| age < PARTS as u64))
            .map(|part| (part.least, part.greatest))
            .reduce(|one, two| (one.0.min(two.0), one.1.max(two.1)))
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / PART.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_remembered_for_a_minute_and_not_much_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut extremes = Extremes::new(start);
        assert_eq!(extremes.get(at(0)), None);
        extremes.record(at(5), 7.0);
        extremes.record(at(9), 3.0);
        extremes.record(at(31), 5.0);
        for (second, expected) in [
            (31, Some((3.0, 7.0))),
            (69, Some((3.0, 7.0))),
            (70, Some((5.0, 5.0))),
            (99, Some((5.0, 5.0))),
            (100, None),
        ] {
            assert_eq!(extremes.get(at(second)), expected, "after {second} s");
        }
        extremes.record(at(75), 1.0);
        assert_eq!(extremes.get(at(76)), Some((1.0, 5.0)), "the place of the first part is used again");
        extremes.record(at(10_000), 2.0);
        assert_eq!(extremes.get(at(10_000)), Some((2.0, 2.0)));
    }
}
