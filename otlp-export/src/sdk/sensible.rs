//! What can be set but is hardly meant.

use std::ops::RangeInclusive;
use std::time::Duration;

use otlp_core::Signal;

use crate::ConfigError;
use crate::client::Builder;

const DELAY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const EXPORT_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
const QUEUE_ITEMS_MAX: u64 = 65_536;
const BATCH_ITEMS_MAX: u64 = 8192;

/// One for each setting of a processor that lies outside.
pub(super) fn warnings(builder: &Builder) -> Vec<ConfigError> {
    let mut found = Vec::new();
    let mut warn = |signal: Signal, setting: &str, message: String| {
        found.push(ConfigError::new(&format!("{signal}.{setting}"), message));
    };
    for signal in [Signal::Traces, Signal::Logs] {
        let limits = builder.limits[signal.index()];
        if !DELAY.contains(&limits.delay) {
            let message = format!("is {:?}; sensible is {:?} to {:?}", limits.delay, DELAY.start(), DELAY.end());
            warn(signal, "batch_delay", message);
        }
        if limits.queue_items_max > QUEUE_ITEMS_MAX {
            let message = format!("is {}; sensible is {QUEUE_ITEMS_MAX} at most", limits.queue_items_max);
            warn(signal, "queue_items_max", message);
        }
        if limits.batch_items_max > BATCH_ITEMS_MAX {
            let message = format!("is {}; sensible is {BATCH_ITEMS_MAX} at most", limits.batch_items_max);
            warn(signal, "batch_items_max", message);
        }
        let timeout = builder.export_timeouts[signal.index()];
        if let Some(timeout) = timeout.filter(|timeout| !EXPORT_TIMEOUT.contains(timeout)) {
            let (from, to) = (EXPORT_TIMEOUT.start(), EXPORT_TIMEOUT.end());
            warn(signal, "export_timeout", format!("is {timeout:?}; sensible is {from:?} to {to:?}"));
        }
    }
    found
}
