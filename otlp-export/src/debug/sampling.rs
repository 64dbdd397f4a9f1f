//! Which groups are written: the first few of each second, then every so manieth. No clock.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Sampling {
    initial: u64,
    thereafter: u64,
    since: Instant,
    seen: u64,
}

impl Sampling {
    pub(crate) fn new(initial: u64, thereafter: u64, now: Instant) -> Sampling {
        Sampling { initial, thereafter, since: now, seen: 0 }
    }

    /// Whether the next one is written, at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= SECOND {
            self.since = now;
            self.seen = 0;
        }
        self.seen += 1;
        match self.seen.checked_sub(self.initial) {
            None | Some(0) => true,
            Some(beyond) => self.thereafter != 0 && beyond % self.thereafter == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_second_and_then_every_so_manieth() {
        let now = Instant::now();
        for (initial, thereafter, expected) in
            [(2, 1, "1111111"), (2, 3, "1100100"), (0, 2, "0101010"), (1, 0, "1000000")]
        {
            let mut sampling = Sampling::new(initial, thereafter, now);
            for second in 0..3 {
                let at = now + SECOND * second;
                let taken: String = (0..7).map(|_| if sampling.take(at) { '1' } else { '0' }).collect();
                assert_eq!(taken, expected);
            }
        }
    }
}
