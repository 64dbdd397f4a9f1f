//! The keys of a `debug` exporter, their defaults, their limits.

use crate::{ConfigError, queue};

/// A `debug` exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How much is written of each group. Default basic.
    pub verbosity: Verbosity,
    /// Groups written in each second before some are left out. Default 2.
    pub sampling_initial: u64,
    /// After those, every so manieth group is written until the second is over. Default 1: all. 0 leaves all of them out.
    pub sampling_thereafter: u64,
    /// Whether to write as log lines of level INFO. Default true.
    pub use_internal_logger: bool,
    /// Where else to write; only with `use_internal_logger: false`. Default `stdout`; `stderr` and files may be named.
    /// Opened by whoever makes the exporter, see [`super::Output`].
    pub output_paths: Vec<String>,
    /// Off by default.
    pub sending_queue: queue::Config,
}

/// `verbosity`: how much is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// One line for each group: how much came.
    #[default]
    Basic,
    /// About one line for each item.
    Normal,
    /// Everything.
    Detailed,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            use_internal_logger: true,
            output_paths: vec!["stdout".to_owned()],
            sending_queue: queue::Config::disabled(),
        }
    }
}

impl Verbosity {
    /// The level of that name, in any letter case.
    pub fn from_name(name: &str) -> Option<Verbosity> {
        match name.to_ascii_lowercase().as_str() {
            "basic" => Some(Verbosity::Basic),
            "normal" => Some(Verbosity::Normal),
            "detailed" => Some(Verbosity::Detailed),
            _ => None,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.use_internal_logger && self.output_paths != ["stdout"] {
            return Err(ConfigError::new("output_paths", "needs use_internal_logger: false"));
        }
        if self.output_paths.is_empty() {
            return Err(ConfigError::new("output_paths", "must name at least one"));
        }
        self.sending_queue.check().map_err(|error| error.within("sending_queue"))
    }
}
