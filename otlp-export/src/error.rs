//! What is wrong with a configuration.

use std::fmt;

/// A value that a key cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, relative to what was checked: `batch::min_size`.
    pub key: String,
    /// What it must be, with the value that it is where that helps.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError { key: key.to_owned(), message: message.into() }
    }

    /// The same as seen from the section around it.
    pub fn within(mut self, section: &str) -> ConfigError {
        self.key = format!("{section}::{}", self.key);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for ConfigError {}
