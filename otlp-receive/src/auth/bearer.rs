//! Tokens: the Collector's keys of `bearertokenauth`, as a receiver uses them.

use std::path::PathBuf;
use std::sync::Arc;

use otlp_core::Clock;
use otlp_core::auth::{Secret, tokens};
use subtle::{Choice, ConstantTimeEq};

use super::{Denied, Watched, wrong};
use crate::config::ConfigError;

/// Which tokens are taken, and where they stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What stands before the token, with a blank between. Default `Bearer`; its case does not matter. Empty: the token
    /// stands alone.
    pub scheme: String,
    /// The header field that the token stands in. Default `Authorization`.
    pub header: String,
    /// The tokens, any of which will do. Not looked at where there is a file.
    pub tokens: Vec<Secret>,
    /// A file with a token on each line, and what comment there may be after it. Read again when it changes.
    pub filename: Option<PathBuf>,
    /// Whether the file may come later. Until then nobody is let in. Default false: one that is not there is an error.
    pub file_may_come_later: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            scheme: "Bearer".into(),
            header: "Authorization".into(),
            tokens: Vec::new(),
            filename: None,
            file_may_come_later: false,
        }
    }
}

pub(super) struct Bearer {
    /// In lower case.
    pub(super) field: String,
    scheme: String,
    challenge: Arc<str>,
    tokens: Tokens,
}

enum Tokens {
    Fixed(Vec<Secret>),
    File(Watched<Vec<Secret>>),
}

impl Bearer {
    pub(super) fn new(id: &str, config: &Config, clock: Clock) -> Result<Bearer, ConfigError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if config.header.is_empty() || !config.header.bytes().all(token) {
            return wrong("header", format!("{:?} is no header name", config.header));
        }
        if !config.scheme.bytes().all(token) {
            return wrong("scheme", format!("{:?} is no authentication scheme", config.scheme));
        }
        let tokens = match &config.filename {
            Some(path) => match Watched::new(id, path, config.file_may_come_later, clock, parse) {
                Ok(file) => Tokens::File(file),
                Err(message) => return wrong("filename", message),
            },
            // An empty token would let in whoever sends none.
            None if config.tokens.is_empty() || config.tokens.iter().any(Secret::is_empty) => {
                return wrong("token", "must be given, and none of the tokens may be empty");
            }
            None => Tokens::Fixed(config.tokens.clone()),
        };
        let challenge = if config.scheme.is_empty() { "Bearer" } else { &config.scheme };
        Ok(Bearer {
            field: config.header.to_ascii_lowercase(),
            challenge: challenge.into(),
            scheme: config.scheme.clone(),
            tokens,
        })
    }

    pub(super) fn check(&self, value: Option<&[u8]>) -> Result<(), Denied> {
        let right = value.and_then(|value| self.token(value)).is_some_and(|token| match &self.tokens {
            Tokens::Fixed(tokens) => is_among(token, tokens),
            Tokens::File(file) => {
                is_among(token, &file.current()) || file.changed().is_some_and(|tokens| is_among(token, &tokens))
            }
        });
        if right { Ok(()) } else { Err(Denied::Credentials(Arc::clone(&self.challenge))) }
    }

    fn token<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let value = value.trim_ascii();
        if self.scheme.is_empty() {
            return Some(value);
        }
        let (scheme, token) = value.split_at_checked(self.scheme.len())?;
        let apart = token.first().is_some_and(|&byte| byte == b' ');
        (apart && scheme.eq_ignore_ascii_case(self.scheme.as_bytes())).then(|| token.trim_ascii())
    }
}

/// How long it takes depends on the lengths alone, and on how many tokens there are.
fn is_among(token: &[u8], tokens: &[Secret]) -> bool {
    tokens.iter().fold(Choice::from(0), |found, known| found | known.reveal().as_bytes().ct_eq(token)).into()
}

fn parse(text: &str) -> Result<Vec<Secret>, String> {
    let tokens = tokens(text);
    if tokens.is_empty() { Err("there is no token in it".into()) } else { Ok(tokens) }
}
