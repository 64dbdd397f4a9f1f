//! Why a processor's configuration cannot be used.

use std::fmt;

/// A setting that cannot be used; stops the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, below the processor's own section: `actions[2].pattern`.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl ConfigError {
    /// An error at a setting.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for ConfigError {}
