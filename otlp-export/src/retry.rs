//! Trying again: when, how often, and when to give up.
//!
//! # What it does
//!
//! [`Config`] is the policy, [`Retry`] the state of one thing that is tried, [`retry`] the loop over any step. The first
//! two decide only: they read no clock and never wait.
//!
//! # Limits
//!
//! It gives up where the next wait would end after `max_elapsed_time`, or after `max_attempts` if that is set.
//!
//! # On failure
//!
//! The last error stays with the outcome.
//!
//! # On shutdown
//!
//! [`retry`] stops waiting at once and makes no further attempt. The workers of a destination go on until the deadline
//! that they were given; see [`crate::Destination::shutdown`].
//!
//! # Specification
//!
//! OTLP/HTTP Throttling, OTLP/HTTP Connection (exponential backoff with jitter), OTLP/gRPC Throttling. A delay that the
//! server asks for is kept where it is longer than our own.

use std::time::{Duration, Instant};

use otlp_core::{Clock, Deadline, Failure, Outcome, Reason, Retry as Advice, Stop};

use crate::ConfigError;

/// `retry_on_failure`: how a failed request is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether to try again at all. Default true.
    pub enabled: bool,
    /// The first wait, before jitter. Default 5 s. Not negative by type; 0 tries again at once.
    pub initial_interval: Duration,
    /// How far a wait may lie from its nominal length, as a share of it. Default 0.5. Range 0 to 1.
    pub randomization_factor: f64,
    /// What each nominal wait is multiplied by for the next. Default 1.5. At least 0; below 1 the waits shrink.
    pub multiplier: f64,
    /// The longest nominal wait. Default 30 s.
    pub max_interval: Duration,
    /// Give up where the next wait would end later than this after the first attempt. Default 300 s; 0 never gives up.
    /// At least `initial_interval` and `max_interval` where it is not 0.
    pub max_elapsed_time: Duration,
    /// Give up after this many attempts, the first included. A key of ours; `None`, the default, sets no limit.
    pub max_attempts: Option<u32>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
            max_attempts: None,
        }
    }
}

impl Config {
    /// One attempt only.
    pub fn disabled() -> Config {
        Config { enabled: false, ..Config::default() }
    }

    /// So many retries after the first attempt, that far apart.
    pub fn fixed(retries: u32, interval: Duration) -> Config {
        Config {
            enabled: true,
            initial_interval: interval,
            randomization_factor: 0.0,
            multiplier: 1.0,
            max_interval: interval,
            max_elapsed_time: Duration::ZERO,
            max_attempts: Some(retries.saturating_add(1)),
        }
    }

    /// Checks the values, also where `enabled` is false.
    ///
    /// # Errors
    ///
    /// Names the key, relative to `retry_on_failure`.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            return Err(ConfigError::new("randomization_factor", "must be within [0, 1]"));
        }
        if !self.multiplier.is_finite() || self.multiplier < 0.0 {
            return Err(ConfigError::new("multiplier", "must be a non-negative number"));
        }
        if self.max_attempts == Some(0) {
            return Err(ConfigError::new("max_attempts", "must be positive"));
        }
        if !self.max_elapsed_time.is_zero() {
            if self.max_elapsed_time < self.initial_interval {
                return Err(ConfigError::new("max_elapsed_time", "must not be less than initial_interval"));
            }
            if self.max_elapsed_time < self.max_interval {
                return Err(ConfigError::new("max_elapsed_time", "must not be less than max_interval"));
            }
        }
        Ok(())
    }
}

/// One thing that is tried until it succeeds or is given up: how often it was, and how long the next wait is.
#[derive(Clone, Debug)]
pub struct Retry {
    config: Config,
    began: Instant,
    attempts: u32,
    nominal: Duration,
    random: u64,
}

/// What to do after a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Try again once this much time has passed.
    Wait(Duration),
    /// Do not try again.
    GiveUp(GiveUp),
}

/// Why nothing more is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The same bytes would fail again.
    Permanent,
    /// `retry_on_failure::enabled` is false.
    Disabled,
    /// The next wait would end after `max_elapsed_time`.
    ElapsedTime,
    /// There were `max_attempts`.
    Attempts,
}

impl Retry {
    /// Begins at `now`. The same seed gives the same waits.
    pub fn new(config: &Config, now: Instant, seed: u64) -> Retry {
        Retry {
            config: config.clone(),
            began: now,
            attempts: 0,
            nominal: config.initial_interval.min(config.max_interval),
            // SplitMix64 spreads small seeds; xorshift must not start at 0.
            random: mix(seed) | 1,
        }
    }

    /// Attempts that have failed so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Decides after a failed attempt that ended at `now`.
    pub fn next(&mut self, now: Instant, failure: &Failure) -> Decision {
        self.attempts = self.attempts.saturating_add(1);
        if !failure.is_retryable() {
            return Decision::GiveUp(GiveUp::Permanent);
        }
        if !self.config.enabled {
            return Decision::GiveUp(GiveUp::Disabled);
        }
        if self.config.max_attempts.is_some_and(|limit| self.attempts >= limit) {
            return Decision::GiveUp(GiveUp::Attempts);
        }
        let backoff = self.backoff();
        let wait = match failure.retry {
            Advice::After(throttle) => backoff.max(throttle),
            Advice::Backoff | Advice::Never => backoff,
        };
        let limit = self.config.max_elapsed_time;
        let elapsed = now.saturating_duration_since(self.began);
        if !limit.is_zero() && elapsed.saturating_add(wait) > limit {
            return Decision::GiveUp(GiveUp::ElapsedTime);
        }
        Decision::Wait(wait)
    }

    /// The next wait of our own schedule: the nominal one and up to `randomization_factor` of it more or less.
    fn backoff(&mut self) -> Duration {
        let nominal = self.nominal;
        let grown = nominal.as_secs_f64() * self.config.multiplier;
        self.nominal = Duration::try_from_secs_f64(grown).unwrap_or(Duration::MAX).min(self.config.max_interval);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        let factor = 1.0 + self.config.randomization_factor * (2.0 * share - 1.0);
        Duration::try_from_secs_f64(nominal.as_secs_f64() * factor).unwrap_or(nominal)
    }
}

impl GiveUp {
    /// The outcome of something given up: the last error with what it was given up for.
    ///
    /// A failure that would only repeat itself stays as it is, and so does one that was not to be tried again.
    pub fn outcome(self, last: Failure, attempts: u32) -> Failure {
        let message = match self {
            GiveUp::Permanent | GiveUp::Disabled => return last,
            GiveUp::ElapsedTime => format!("no more retries left after {attempts} attempts: {}", last.message),
            GiveUp::Attempts => format!("no more retries left, max_attempts is {attempts}: {}", last.message),
        };
        Failure { reason: Reason::RETRIES_EXHAUSTED, message: message.into(), ..last }
    }
}

/// Runs a step until it succeeds or the policy gives up. The step gets the number of its attempt, from 0.
///
/// Not only for exporting: any step with an [`Outcome`] will do.
///
/// # Threads
///
/// Everything happens in the caller's thread, which sleeps between attempts.
///
/// # Errors
///
/// None of its own: the outcome is the step's last one, as [`Reason::RETRIES_EXHAUSTED`] where the policy gave up, or as
/// [`Reason::SHUTDOWN`] where `stop` was asked or the next attempt would begin after `deadline`.
///
/// # Examples
///
/// ```
/// use otlp_core::{Clock, Deadline, Failure, Outcome, Reason, shutdown};
/// use otlp_export::retry::{Config, retry};
///
/// let policy = Config { initial_interval: std::time::Duration::ZERO, ..Config::default() };
/// let (_stopper, stop) = shutdown::stop();
/// let outcome = retry(&policy, &Clock::system(), &stop, Deadline::NEVER, |attempt| match attempt {
///     0 => Failure::refused(Reason::CONNECTION, "nobody listens").into(),
///     _ => Outcome::Delivered,
/// });
/// assert_eq!(outcome, Outcome::Delivered);
/// ```
pub fn retry(
    policy: &Config,
    clock: &Clock,
    stop: &Stop,
    deadline: Deadline,
    step: impl FnMut(u32) -> Outcome,
) -> Outcome {
    retry_with(policy, clock, deadline, |wait| stop.wait(wait), step)
}

/// [`retry`] over any way to wait, which says whether to stop.
pub(crate) fn retry_with(
    policy: &Config,
    clock: &Clock,
    deadline: Deadline,
    mut wait: impl FnMut(Duration) -> bool,
    mut step: impl FnMut(u32) -> Outcome,
) -> Outcome {
    let mut state = Retry::new(policy, clock.now(), seed());
    loop {
        let failure = match step(state.attempts()) {
            Outcome::Failed(failure) => failure,
            taken => return taken,
        };
        let now = clock.now();
        match state.next(now, &failure) {
            Decision::GiveUp(why) => return why.outcome(failure, state.attempts()).into(),
            Decision::Wait(pause) => {
                let late = deadline.remaining(now).is_some_and(|left| left < pause);
                if late || wait(pause) {
                    return stopped(failure).into();
                }
            }
        }
    }
}

/// What is said of something that shutdown kept from being tried again.
pub(crate) fn stopped(last: Failure) -> Failure {
    Failure {
        reason: Reason::SHUTDOWN,
        message: format!("not tried again because of shutdown: {}", last.message).into(),
        ..last
    }
}

/// A seed that differs from call to call; from std, whose hashers are seeded by the system.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}

fn mix(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_schedule_is_as_often_and_as_far_apart_as_it_says() {
        let config = Config::fixed(3, Duration::from_millis(100));
        assert_eq!(config.check(), Ok(()));
        let now = Instant::now();
        let mut retry = Retry::new(&config, now, 1);
        let failure = Failure::refused(Reason::CONNECTION, "nobody listens");
        let decisions: Vec<_> = (0..4).map(|_| retry.next(now, &failure)).collect();
        let wait = Decision::Wait(Duration::from_millis(100));
        assert_eq!(decisions, [wait.clone(), wait.clone(), wait, Decision::GiveUp(GiveUp::Attempts)]);
    }
    use otlp_core::Code;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused() -> Failure {
        Failure::refused(Reason::UNAVAILABLE, "busy")
    }

    fn exact() -> Config {
        Config { randomization_factor: 0.0, ..Config::default() }
    }

    #[test]
    fn waits_grow_to_the_maximum_and_end_before_the_limit() {
        let clock = Clock::simulated();
        let mut state = Retry::new(&exact(), clock.now(), 1);
        let mut waits = Vec::new();
        while let Decision::Wait(wait) = state.next(clock.now(), &refused()) {
            waits.push(wait.as_millis());
            clock.advance(wait);
        }
        assert_eq!(waits[..6], [5000, 7500, 11_250, 16_875, 25_312, 30_000]);
        let total: u128 = waits.iter().sum();
        assert!(total <= 300_000 && total + 30_000 > 300_000, "{total}");
        assert_eq!(state.next(clock.now(), &refused()), Decision::GiveUp(GiveUp::ElapsedTime));
    }

    #[test]
    fn decisions_by_table() {
        let now = Instant::now();
        let forever = Config { max_elapsed_time: Duration::ZERO, ..exact() };
        let rejected = Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "no");
        let wait = |seconds| Decision::Wait(SECOND * seconds);
        for (name, config, failure, at, expected) in [
            ("permanent", exact(), rejected, 0, Decision::GiveUp(GiveUp::Permanent)),
            ("disabled", Config { enabled: false, ..exact() }, refused(), 0, Decision::GiveUp(GiveUp::Disabled)),
            (
                "one attempt",
                Config { max_attempts: Some(1), ..exact() },
                refused(),
                0,
                Decision::GiveUp(GiveUp::Attempts),
            ),
            ("backoff", exact(), refused(), 0, wait(5)),
            ("throttle shorter", exact(), refused().retry_after(SECOND), 0, wait(5)),
            ("throttle longer", exact(), refused().retry_after(SECOND * 12), 0, wait(12)),
            (
                "throttle too long",
                exact(),
                refused().retry_after(SECOND * 301),
                0,
                Decision::GiveUp(GiveUp::ElapsedTime),
            ),
            ("at the limit", exact(), refused(), 295, wait(5)),
            ("past the limit", exact(), refused(), 296, Decision::GiveUp(GiveUp::ElapsedTime)),
            ("no limit", forever, refused().retry_after(SECOND * 9999), 9999, wait(9999)),
        ] {
            let mut state = Retry::new(&config, now, 7);
            assert_eq!(state.next(now + SECOND * at, &failure), expected, "{name}");
        }
    }

    #[test]
    fn the_loop_gives_the_last_error_and_stops_when_asked() {
        let clock = Clock::simulated();
        let policy = Config { max_attempts: Some(3), ..exact() };
        let mut seen = Vec::new();
        let run = |deadline, stop, step: &mut dyn FnMut(u32) -> Outcome| {
            let clock = clock.clone();
            retry_with(
                &policy,
                &clock.clone(),
                deadline,
                move |wait| {
                    clock.advance(wait);
                    stop
                },
                step,
            )
        };
        let Outcome::Failed(failure) = run(Deadline::NEVER, false, &mut |attempt| {
            seen.push(attempt);
            Failure::refused(Reason::CONNECTION, format!("try {attempt}")).into()
        }) else {
            panic!("it cannot succeed")
        };
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(failure.reason, Reason::RETRIES_EXHAUSTED);
        assert!(failure.message.ends_with("try 2") && failure.is_retryable(), "{failure:?}");
        let reason = |outcome| match outcome {
            Outcome::Failed(failure) => failure.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(run(Deadline::NEVER, true, &mut |_| refused().into())), Reason::SHUTDOWN);
        let soon = Deadline::after(clock.now(), SECOND);
        assert_eq!(reason(run(soon, false, &mut |_| refused().into())), Reason::SHUTDOWN);
        let second = run(Deadline::NEVER, false, &mut |attempt| match attempt {
            0 => refused().into(),
            _ => Outcome::Delivered,
        });
        assert_eq!(second, Outcome::Delivered);
    }

    #[test]
    fn every_wrong_value_is_named() {
        assert!(Config::default().check().is_ok());
        for (key, config) in [
            ("randomization_factor", Config { randomization_factor: 1.1, ..exact() }),
            ("randomization_factor", Config { randomization_factor: f64::NAN, ..exact() }),
            ("multiplier", Config { multiplier: -1.0, ..exact() }),
            ("max_attempts", Config { max_attempts: Some(0), ..exact() }),
            ("max_elapsed_time", Config { max_elapsed_time: SECOND * 29, ..exact() }),
            ("max_elapsed_time", Config { max_elapsed_time: SECOND * 4, max_interval: SECOND, ..exact() }),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_jitter_and_their_limits(
            seed: u64, factor in 0.0..=1.0, multiplier in 0.0..4.0, initial_ms in 0u64..20_000, throttle_ms in 0u64..40_000,
        ) {
            let config = Config {
                randomization_factor: factor, multiplier, initial_interval: Duration::from_millis(initial_ms),
                ..Config::default()
            };
            let clock = Clock::simulated();
            let (mut state, began) = (Retry::new(&config, clock.now(), seed), clock.now());
            let mut nominal = Duration::from_millis(initial_ms);
            for step in 0..100 {
                let throttle = Duration::from_millis(if step % 3 == 0 { throttle_ms } else { 0 });
                let Decision::Wait(wait) = state.next(clock.now(), &refused().retry_after(throttle)) else { break };
                let slack = Duration::from_micros(1);
                prop_assert!(wait + slack >= nominal.mul_f64(1.0 - factor));
                prop_assert!(wait <= nominal.mul_f64(1.0 + factor).max(throttle) + slack);
                prop_assert!(wait >= throttle);
                clock.advance(wait);
                prop_assert!(clock.now() - began <= config.max_elapsed_time);
                nominal = nominal.mul_f64(multiplier).min(config.max_interval);
            }
        }

        #[test]
        fn two_senders_do_not_wait_alike(seed: u64) {
            let now = Instant::now();
            let first = Retry::new(&Config::default(), now, seed).next(now, &refused());
            let second = Retry::new(&Config::default(), now, seed.wrapping_add(1)).next(now, &refused());
            prop_assert_ne!(first, second);
        }
    }
}
