//! What can be configured of a receiver: the Collector's keys of `receivers.otlp`, and a few of ours.

use std::fmt;
use std::time::Duration;

use otlp_core::AckMode;
use otlp_core::flow::RateLimit;

use crate::{grpc, http};

/// The `otlp` receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// OTLP/gRPC. Default: on, with its defaults. `None` does not listen, and does not understand HTTP/2 either.
    pub grpc: Option<grpc::Config>,
    /// OTLP/HTTP. Default: on, with its defaults. `None` does not listen, and does not understand HTTP/1.1 either.
    pub http: Option<http::Config>,
    /// What OK means. Default: as the pipelines can promise.
    pub acknowledge: Option<AckMode>,
    /// How long a request may wait for its outcome before it is answered 503 or UNAVAILABLE and withdrawn. Default 8 s,
    /// below the 10 s after which SDKs give up; at least 1 ms.
    pub acknowledge_timeout: Duration,
    /// How much may come in a second, by both protocols together. Beyond it: 429, RESOURCE_EXHAUSTED with RetryInfo.
    /// Default: no limit.
    pub rate_limit: Option<RateLimit>,
    /// Connections that may be open at once. At the limit new ones wait in the system's backlog. Default 16 384.
    pub max_connections: usize,
}

/// What kind of address to listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// IPv4 or IPv6.
    #[default]
    Tcp,
    /// IPv4 only.
    Tcp4,
    /// IPv6 only.
    Tcp6,
    /// A Unix socket. The endpoint is the path of its file, or `@name` for one without a file (Linux). The file is made
    /// with what the umask leaves of mode 777, as the Collector does: who may write to it may send. A file that a dead
    /// process left is replaced, and the file is removed when the receiver stops.
    Unix,
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, below the section whose `check` found it: `endpoint` of [`http::Config::check`] is
    /// `protocols.http.endpoint` of [`Config::check`].
    pub key: String,
    /// What is wrong with its value.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Default for Config {
    fn default() -> Config {
        Config {
            grpc: Some(grpc::Config::default()),
            http: Some(http::Config::default()),
            acknowledge: None,
            acknowledge_timeout: Duration::from_secs(8),
            rate_limit: None,
            max_connections: 16_384,
        }
    }
}

/// OTLP/HTTP alone.
impl From<http::Config> for Config {
    fn from(http: http::Config) -> Config {
        Config { grpc: None, http: Some(http), ..Config::default() }
    }
}

/// OTLP/gRPC alone.
impl From<grpc::Config> for Config {
    fn from(grpc: grpc::Config) -> Config {
        Config { grpc: Some(grpc), http: None, ..Config::default() }
    }
}

impl Config {
    /// Finds what cannot be used.
    ///
    /// # Errors
    ///
    /// The first such key, below `receivers.<id>`. Host names are not resolved here, and files are not read.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.grpc.is_none() && self.http.is_none() {
            return wrong("protocols", "must specify at least one protocol when using the OTLP receiver");
        }
        if self.acknowledge_timeout < Duration::from_millis(1) {
            return wrong("acknowledge_timeout", "is below 1 ms");
        }
        if self.max_connections == 0 {
            return wrong("max_connections", "is 0");
        }
        if let Some(rate) = &self.rate_limit {
            rate.check().or_else(|error| wrong("rate_limit", error.to_string()))?;
        }
        let below = |section: &str, mut error: ConfigError| {
            error.key.insert_str(0, section);
            error
        };
        self.grpc.as_ref().map_or(Ok(()), grpc::Config::check).map_err(|error| below("protocols.grpc.", error))?;
        self.http.as_ref().map_or(Ok(()), http::Config::check).map_err(|error| below("protocols.http.", error))
    }
}

/// Far more than anybody waits, and still a time that the clock can say.
pub(crate) fn bounded(time: Duration) -> Duration {
    time.min(Duration::from_secs(365 * 86_400))
}

/// The same, with a default in place of zero.
pub(crate) fn bounded_or(time: Duration, default: Duration) -> Duration {
    if time.is_zero() { default } else { bounded(time) }
}

/// Finds out whether `endpoint` is host:port, or what a Unix socket can be named.
pub(crate) fn check_endpoint(endpoint: &str, transport: Transport) -> Result<(), ConfigError> {
    if transport == Transport::Unix {
        return match endpoint {
            "" | "@" => wrong("endpoint", "is empty; with transport: unix it is a path"),
            name if name.contains('\0') => wrong("endpoint", "has a zero byte"),
            name if name.starts_with('@') && !cfg!(target_os = "linux") => {
                wrong("endpoint", "begins with @, which only Linux has")
            }
            name if name.starts_with("unix:") => {
                wrong("endpoint", format!("{name:?}: with transport: unix it is the path alone, or @ and a name"))
            }
            // As the system's address has room for, with its end.
            name if name.len() > 107 => {
                wrong("endpoint", "is longer than 107 bytes, which no Unix socket's path can be")
            }
            _ => Ok(()),
        };
    }
    if endpoint.starts_with("unix:") || endpoint.contains('/') {
        let message =
            format!("{endpoint:?} is not host:port; for a Unix socket write transport: unix, and the path alone");
        return wrong("endpoint", message);
    }
    match endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>().is_ok()) {
        Some(true) => Ok(()),
        _ => wrong("endpoint", format!("\"{endpoint}\" is not host:port with a port up to 65535")),
    }
}

pub(crate) fn wrong(key: impl Into<String>, message: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError { key: key.into(), message: message.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::flow::RateUnit;

    #[test]
    fn the_default_is_usable() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 6] = [
            ("protocols", |config| (config.http, config.grpc) = (None, None)),
            ("acknowledge_timeout", |config| config.acknowledge_timeout = Duration::ZERO),
            ("max_connections", |config| config.max_connections = 0),
            ("rate_limit", |config| config.rate_limit = Some(RateLimit::per_second(RateUnit::Items, 0))),
            ("protocols.http.endpoint", |config| config.http.as_mut().unwrap().endpoint = "localhost".into()),
            ("protocols.grpc.endpoint", |config| config.grpc.as_mut().unwrap().endpoint = "localhost:x".into()),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().map_err(|error| error.key), Err(key.to_owned()));
        }
    }
}
