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

/// A wall-clock time as RFC 3339 in UTC with milliseconds: `2026-01-01T00:00:00.000Z`. Times before 1970 read as 1970.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a civil date: shift the year to begin in March, so that the leap day is its last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_767_225_600), "2026-01-01T00:00:00.000Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_simulated_clock_moves_only_when_told() {
        let clock = Clock::simulated();
        let (now, wall) = (clock.now(), clock.wall());
        clock.clone().advance(Duration::from_secs(90));
        assert_eq!(clock.now() - now, Duration::from_secs(90));
        assert_eq!(clock.wall().duration_since(wall).unwrap(), Duration::from_secs(90));
        assert_eq!(rfc3339(clock.wall()), "2026-01-01T00:01:30.000Z");
    }
}
