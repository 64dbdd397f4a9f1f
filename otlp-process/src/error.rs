//! What is wrong with a processor's configuration.

use std::fmt;

/// A key of a processor's configuration has a value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key below the processor's id, as in the configuration file.
    pub key: &'static str,
    /// What is wrong with it: lower case, no full stop.
    pub message: String,
}

impl ConfigError {
    /// An error at `key`.
    pub fn new(key: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError { key, message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for ConfigError {}
