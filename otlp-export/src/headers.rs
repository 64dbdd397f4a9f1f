//! Headers that a configuration adds to every request.

use std::fmt;

use crate::ConfigError;

/// Header names and values. The values do not show in its `Debug` form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Checks names and values.
    ///
    /// # Errors
    ///
    /// Names the header; never its value.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in &self.0 {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(ConfigError::new("headers", format!("{name:?} is no header name")));
            }
            if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(ConfigError::new("headers", format!("the value of {name} contains a line break")));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name, "[REDACTED]"))).finish()
    }
}
