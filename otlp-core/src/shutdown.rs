//! Asking threads to stop, and how long they may take.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The point in time by which a call has to return. [`Deadline::NEVER`] waits for as long as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No limit.
    pub const NEVER: Deadline = Deadline(None);

    /// At `instant`.
    pub const fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    /// `after` from `now`; [`Deadline::NEVER`] where that lies beyond what the clock can say.
    pub fn after(now: Instant, after: Duration) -> Deadline {
        Deadline(now.checked_add(after))
    }

    /// The instant, unless there is no limit.
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Whether it has come.
    pub fn passed(self, now: Instant) -> bool {
        self.0.is_some_and(|instant| now >= instant)
    }

    /// What is left of it, zero when it has passed, `None` when there is no limit.
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(now))
    }

    /// The earlier of the two.
    pub fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Deadline(Some(one.min(two))),
            (one, two) => Deadline(one.or(two)),
        }
    }
}

/// The side that is asked: clones all see the same request.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    closed: Receiver<Infallible>,
}

/// The side that asks. Dropping it asks, too.
#[derive(Debug)]
pub struct Stopper {
    asked: Arc<AtomicBool>,
    sender: Option<Sender<Infallible>>,
}

/// A connected pair.
pub fn stop() -> (Stopper, Stop) {
    let asked = Arc::new(AtomicBool::new(false));
    let (sender, closed) = bounded(0);
    (Stopper { asked: Arc::clone(&asked), sender: Some(sender) }, Stop { asked, closed })
}

impl Stop {
    /// Whether it was asked. Costs one atomic load.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// A channel that never yields and closes when stop is asked: for `select!` beside other channels.
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.closed
    }

    /// Sleeps for `duration` or until stop is asked; true when it was asked.
    pub fn wait(&self, duration: Duration) -> bool {
        let _ = self.closed.recv_timeout(duration);
        self.asked()
    }
}

impl Stopper {
    /// Asks. Safe at any time and any number of times; returns at once.
    pub fn stop(&mut self) {
        self.asked.store(true, Ordering::Release);
        self.sender = None;
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_wakes_a_sleeper_and_stays_asked() {
        let (mut stopper, stop) = stop();
        assert!(!stop.wait(Duration::ZERO));
        let sleeper = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait(Duration::from_secs(600))
        });
        stopper.stop();
        stopper.stop();
        assert!(sleeper.join().unwrap());
        assert!(stop.asked());
    }

    #[test]
    fn the_earlier_deadline_wins_and_never_loses_to_any() {
        let now = Instant::now();
        let soon = Deadline::after(now, Duration::from_secs(1));
        assert_eq!(soon.min(Deadline::NEVER), soon);
        assert_eq!(Deadline::NEVER.min(soon), soon);
        assert_eq!(soon.remaining(now + Duration::from_secs(2)), Some(Duration::ZERO));
        assert!(soon.passed(now + Duration::from_secs(1)));
        assert!(!Deadline::NEVER.passed(now));
    }
}
