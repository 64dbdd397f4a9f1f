//! The limits of the memory_limiter, with the Collector's keys and defaults.

use std::time::Duration;

use otlp_core::ByteSize;

use crate::error::ConfigError;

/// Limits of the memory_limiter.
///
/// The Collector's keys for forcing its garbage collector are decoded and checked, and have no meaning here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often memory is measured. No default: must be above zero; 1 s is a good value.
    pub check_interval: Duration,
    /// The hard limit in MiB. Default 0: `limit_percentage` counts.
    pub limit_mib: u32,
    /// How far the soft limit lies below the hard one, in MiB. Default 0: a fifth of the hard limit.
    pub spike_limit_mib: u32,
    /// The hard limit as a percentage of the cgroup's memory, or of the host's. Default 0; at most 100.
    pub limit_percentage: u32,
    /// How far the soft limit lies below the hard one, as a percentage of the same. Default 0: a fifth of the hard limit.
    pub spike_limit_percentage: u32,
    /// No meaning. Default 10 s.
    pub min_gc_interval_when_soft_limited: Duration,
    /// No meaning. Default 0.
    pub min_gc_interval_when_hard_limited: Duration,
    /// No meaning. Default 30 s.
    pub max_gc_interval_when_soft_limited: Duration,
    /// No meaning. Default 30 s.
    pub max_gc_interval_when_hard_limited: Duration,
}

/// The limits in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What should never be reached.
    pub hard: ByteSize,
    /// At this much resident memory or more everything is refused.
    pub soft: ByteSize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            check_interval: Duration::ZERO,
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 0,
            spike_limit_percentage: 0,
            min_gc_interval_when_soft_limited: Duration::from_secs(10),
            min_gc_interval_when_hard_limited: Duration::ZERO,
            max_gc_interval_when_soft_limited: Duration::from_secs(30),
            max_gc_interval_when_hard_limited: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// Names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, message: &str| Err(ConfigError::new(key, message));
        if self.check_interval.is_zero() {
            return wrong("check_interval", "must be greater than zero");
        }
        if self.limit_mib == 0 && self.limit_percentage == 0 {
            return wrong("limit_mib", "limit_mib or limit_percentage must be greater than zero");
        }
        for (key, value) in
            [("limit_percentage", self.limit_percentage), ("spike_limit_percentage", self.spike_limit_percentage)]
        {
            if value > 100 {
                return Err(ConfigError::new(key, format!("{value} is more than 100")));
            }
        }
        if self.limit_mib > 0 && self.spike_limit_mib >= self.limit_mib {
            return wrong("spike_limit_mib", "must be smaller than limit_mib");
        }
        if self.limit_percentage > 0 && self.spike_limit_percentage >= self.limit_percentage {
            return wrong("spike_limit_percentage", "must be smaller than limit_percentage");
        }
        if self.min_gc_interval_when_soft_limited < self.min_gc_interval_when_hard_limited {
            return wrong("min_gc_interval_when_soft_limited", "must be at least min_gc_interval_when_hard_limited");
        }
        for (key, max, min) in [
            (
                "max_gc_interval_when_soft_limited",
                self.max_gc_interval_when_soft_limited,
                self.min_gc_interval_when_soft_limited,
            ),
            (
                "max_gc_interval_when_hard_limited",
                self.max_gc_interval_when_hard_limited,
                self.min_gc_interval_when_hard_limited,
            ),
        ] {
            if !max.is_zero() && max < min {
                return wrong(key, "must be 0 or at least the min_gc_interval of the same limit");
            }
        }
        Ok(())
    }

    /// The limits in bytes, on a machine or in a cgroup with `total` memory.
    pub fn limits(&self, total: ByteSize) -> Limits {
        let percent = |percentage: u32| total.get() / 100 * u64::from(percentage);
        let (hard, spike) = if self.limit_mib > 0 {
            (ByteSize::mib(self.limit_mib.into()).get(), ByteSize::mib(self.spike_limit_mib.into()).get())
        } else {
            (percent(self.limit_percentage), percent(self.spike_limit_percentage))
        };
        let spike = if spike == 0 { hard / 5 } else { spike };
        Limits { hard: ByteSize(hard), soft: ByteSize(hard.saturating_sub(spike)) }
    }
}
