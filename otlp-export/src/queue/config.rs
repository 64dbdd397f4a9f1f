//! `sending_queue`: the keys, their defaults, their limits.

use std::time::Duration;

use otlp_core::ByteSize;
use otlp_core::flow::gate::{Capacity, Weight};

use crate::ConfigError;

/// `sending_queue`: what waits for a destination, and how many send to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether there is a queue. Without one, whoever hands over a group exports it in its own thread. Default true.
    pub enabled: bool,
    /// How many requests are sent at once at most. Default 10; at least 1.
    pub num_consumers: usize,
    /// What the queue holds, what is being sent included, in units of `sizer`. Default 1000; at least 1. Beyond it the
    /// destination's policy decides: refuse, block, or drop.
    pub queue_size: u64,
    /// The unit of `queue_size`. Default requests.
    pub sizer: Sizer,
    /// What it holds at most in memory, in bytes of OTLP protobuf, uncompressed, whatever `sizer` says: a thousand requests
    /// may be a thousand times 64 MiB. Default 32 MiB; `None` is no limit. Something larger than this alone is held when
    /// nothing else is. Key of ours: `memory_mib`, whose default is no limit where `queue_size` is given.
    pub memory_max: Option<ByteSize>,
    /// Whether to wait for room in place of refusing. Default false.
    pub block_on_overflow: bool,
    /// Whether senders hear OK only when the destination confirmed. Default false. It is the receiver that obeys this:
    /// it decides the [`otlp_core::AckMode`] of what it takes in.
    pub wait_for_result: bool,
    /// The id of a storage extension for a queue on disk. Not built yet: see [`Config::unbuilt`].
    pub storage: Option<String>,
    /// Joins what waits into larger requests. Default `None`: one request for each group.
    pub batch: Option<Batch>,
}

/// `sending_queue::batch`: joining what waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Send what there is once the oldest of it has waited this long. Default 200 ms; more than 0.
    pub flush_timeout: Duration,
    /// Send once there is this much. Default 8192; at most `queue_size` where both have the same unit.
    pub min_size: u64,
    /// Never send more than this at once: larger requests are cut. Default 0, which is no limit; else at least `min_size`.
    /// A single item larger than this leaves alone.
    pub max_size: u64,
    /// The unit of both. Default items; requests cannot be.
    pub sizer: Sizer,
    /// Metadata keys of the senders' requests: what differs in them is not joined. Default none.
    pub partition_metadata_keys: Vec<String>,
}

/// A unit of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sizer {
    /// Groups as they were handed over.
    #[default]
    Requests,
    /// Spans, data points or log records.
    Items,
    /// Bytes of OTLP protobuf, uncompressed.
    Bytes,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            memory_max: Some(Config::MEMORY_MAX),
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
            batch: None,
        }
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            flush_timeout: Duration::from_millis(200),
            min_size: 8192,
            max_size: 0,
            sizer: Sizer::Items,
            partition_metadata_keys: Vec::new(),
        }
    }
}

impl Config {
    /// The default of [`Config::memory_max`].
    pub const MEMORY_MAX: ByteSize = ByteSize::mib(32);

    /// No queue.
    pub fn disabled() -> Config {
        Config { enabled: false, ..Config::default() }
    }

    /// Checks the values; of a queue that is not enabled nothing is checked.
    ///
    /// # Errors
    ///
    /// Names the key, relative to `sending_queue`.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.enabled {
            return Ok(());
        }
        if self.num_consumers == 0 {
            return Err(ConfigError::new("num_consumers", "must be positive"));
        }
        if self.queue_size == 0 {
            return Err(ConfigError::new("queue_size", "must be positive"));
        }
        if self.storage.is_some() && self.wait_for_result {
            return Err(ConfigError::new("wait_for_result", "cannot be true with storage"));
        }
        let Some(batch) = &self.batch else { return Ok(()) };
        batch.check().map_err(|error| error.within("batch"))?;
        if batch.sizer == self.sizer && batch.min_size > self.queue_size {
            return Err(ConfigError::new("batch::min_size", "must be less than or equal to queue_size"));
        }
        Ok(())
    }

    /// The key of something that is asked for and not built yet.
    pub fn unbuilt(&self) -> Option<&'static str> {
        (self.enabled && self.storage.is_some()).then_some("sending_queue::storage")
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let mut capacity = Capacity::default();
        *match self.sizer {
            Sizer::Requests => &mut capacity.requests,
            Sizer::Items => &mut capacity.items,
            Sizer::Bytes => &mut capacity.bytes,
        } = Some(self.queue_size);
        if self.sizer != Sizer::Bytes {
            capacity.bytes = self.memory_max.map(ByteSize::get);
        }
        capacity
    }
}

impl Batch {
    fn check(&self) -> Result<(), ConfigError> {
        if self.flush_timeout.is_zero() {
            return Err(ConfigError::new("flush_timeout", "must be positive"));
        }
        if self.sizer == Sizer::Requests {
            return Err(ConfigError::new("sizer", "must be items or bytes"));
        }
        if self.max_size != 0 && self.max_size < self.min_size {
            return Err(ConfigError::new("max_size", "must be greater than or equal to min_size"));
        }
        let mut keys: Vec<String> = self.partition_metadata_keys.iter().map(|key| key.to_lowercase()).collect();
        keys.sort();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::new("partition::metadata_keys", "names a key twice"));
        }
        Ok(())
    }
}

impl Sizer {
    /// The size of something in this unit.
    pub fn of(self, weight: Weight) -> u64 {
        match self {
            Sizer::Requests => weight.requests,
            Sizer::Items => weight.items,
            Sizer::Bytes => weight.bytes,
        }
    }
}
