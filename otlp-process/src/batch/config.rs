//! The limits of the batch processor, with the Collector's keys and defaults.

use std::time::Duration;

use otlp_core::ByteSize;

use crate::error::ConfigError;

/// Limits of the batch processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A group leaves once it holds this many items (spans, data points or log records).
    ///
    /// Default 8192. 0: whatever comes leaves at once.
    pub send_batch_size: u32,
    /// A group leaves at the latest this long after its first batch came.
    ///
    /// Default 200 ms. 0: whatever comes leaves at once, and only `send_batch_max_size` has a meaning.
    pub timeout: Duration,
    /// No group holds more items than this: larger batches are split.
    ///
    /// Default 0: no limit. Otherwise at least `send_batch_size`.
    pub send_batch_max_size: u32,
    /// Request metadata by which batches are kept apart: those with different values never leave together.
    ///
    /// Default none. Letter case does not matter; a key given twice is an error.
    pub metadata_keys: Vec<String>,
    /// Distinct combinations of values of `metadata_keys` since the start. What comes with one more is rejected.
    ///
    /// Default 1000. 0: no limit.
    pub metadata_cardinality_limit: u32,
}

/// A group leaves before it would hold more bytes than this, whatever its items: what is joined here must not be larger
/// than what a Collector takes in its default configuration, 20 MiB. A single batch that is larger leaves alone.
pub const GROUP_BYTES_MAX: ByteSize = ByteSize::mib(16);

impl Default for Config {
    fn default() -> Config {
        Config {
            send_batch_size: 8192,
            timeout: Duration::from_millis(200),
            send_batch_max_size: 0,
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 1000,
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
        if self.send_batch_max_size > 0 && self.send_batch_max_size < self.send_batch_size {
            return Err(ConfigError::new(
                "send_batch_max_size",
                format!(
                    "{} is less than send_batch_size, {}; must be 0 or at least that",
                    self.send_batch_max_size, self.send_batch_size
                ),
            ));
        }
        for (index, key) in self.metadata_keys.iter().enumerate() {
            if self.metadata_keys[..index].iter().any(|other| other.eq_ignore_ascii_case(key)) {
                return Err(ConfigError::new(
                    "metadata_keys",
                    format!("{key:?} is given twice (letter case is ignored)"),
                ));
            }
        }
        Ok(())
    }
}
