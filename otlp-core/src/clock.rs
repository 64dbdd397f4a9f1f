//! Time as a value, so that everything that decides by the clock can be stepped by a test.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A source of time.
///
/// # Threads
///
/// May be read from any thread; never blocks.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Simulated(Arc<Simulation>),
}

struct Simulation {
    start: Instant,
    start_wall: SystemTime,
    elapsed_ns: AtomicU64,
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it. Clones share the same time.
    ///
    /// Its wall clock starts at 2026-01-01T00:00:00Z, whatever the machine says.
    pub fn simulated() -> Clock {
        Clock(Source::Simulated(Arc::new(Simulation {
            start: Instant::now(),
            start_wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
            elapsed_ns: AtomicU64::new(0),
        })))
    }

    /// The monotonic time.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Simulated(simulation) => simulation.start + simulation.elapsed(),
        }
    }

    /// The wall clock, for timestamps in messages and for `Retry-After` dates.
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Simulated(simulation) => simulation.start_wall + simulation.elapsed(),
        }
    }

    /// Moves a simulated clock on.
    ///
    /// # Panics
    ///
    /// On the system clock, which nobody can move.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system clock cannot be advanced"),
            Source::Simulated(simulation) => {
                simulation.elapsed_ns.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
            }
        }
    }
}

impl Simulation {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns.load(Ordering::SeqCst))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::system",
            Source::Simulated(_) => "Clock::simulated",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_stands_still_until_it_is_moved_and_its_clones_with_it() {
        let clock = Clock::simulated();
        let other = clock.clone();
        let (start, wall) = (clock.now(), clock.wall());
        assert_eq!((other.now(), other.wall()), (start, wall));
        clock.advance(Duration::from_millis(1500));
        assert_eq!(other.now() - start, Duration::from_millis(1500));
        assert_eq!(other.wall(), wall + Duration::from_millis(1500));
        assert_eq!(wall, SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
    }

    #[test]
    #[should_panic(expected = "cannot be advanced")]
    fn the_system_clock_is_nobodys_to_move() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
