//! The keys of an `otlp_http` exporter, their defaults, their limits.

use std::fmt;
use std::time::Duration;

use otlp_core::Signal;
use otlp_core::auth::without_userinfo;
use otlp_core::codec::Coding;

use super::url::Url;
use crate::auth::Authenticator;
use crate::headers::Headers;
#[cfg(feature = "pipeline")]
use crate::queue;
#[cfg(feature = "tls")]
use crate::tls;
use crate::{ConfigError, retry};

/// An `otlp_http` exporter.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// Base URL: `/v1/traces` and so on are appended, with one slash between. Default empty; one endpoint is needed.
    /// `unix:///path` sends over a Unix socket, without TLS; `unix-abstract:name` over one without a file (Linux). What is
    /// to be asked for there stands after another colon: `unix:///path/of/socket:/path/of/request`.
    pub endpoint: String,
    /// The whole URL for traces, used as it is. Default empty: made of `endpoint`.
    pub traces_endpoint: String,
    /// The whole URL for metrics. Default empty: made of `endpoint`.
    pub metrics_endpoint: String,
    /// The whole URL for logs. Default empty: made of `endpoint`.
    pub logs_endpoint: String,
    /// How requests are encoded. Default protobuf.
    pub encoding: Encoding,
    /// For one attempt, from the connection to the last byte of the answer. Default 30 s; 0 sets no limit.
    pub timeout: Duration,
    /// How bodies are compressed. Default gzip. What came in that coding and was not changed leaves as it came.
    pub compression: Coding,
    /// How hard. Default 0, the coding's own default; see [`otlp_core::codec::encode`]. Others than gzip, zlib, deflate
    /// and zstd have none.
    pub compression_level: i32,
    /// For https. `insecure` means nothing here: the URL decides.
    #[cfg(feature = "tls")]
    pub tls: tls::Config,
    /// Sent with every request. `Host` sets the request's host. Values are secret.
    pub headers: Headers,
    /// Makes the credentials of every request. Default: none. They go before a header of the same name, and do not follow
    /// a redirect to another host.
    pub auth: Option<Authenticator>,
    /// The proxy for every request. Default empty: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, as Go reads them.
    pub proxy_url: String,
    /// Connections kept open when nothing is sent. Default 0, which is 100: as many as there can be with the default
    /// number of consumers. The Collector keeps 2, so that after every burst of 10 it closes 8.
    pub max_idle_conns_per_host: usize,
    /// How long a connection may be kept unused. Default 90 s; 0 sets no limit.
    pub idle_conn_timeout: Duration,
    /// A new connection for each request. Default false.
    pub disable_keep_alives: bool,
    /// Default empty: `otlpd/` and the version.
    pub user_agent: String,
    /// What waits to be sent.
    #[cfg(feature = "pipeline")]
    pub sending_queue: queue::Config,
    /// How failures are tried again.
    pub retry_on_failure: retry::Config,
}

/// `encoding`: how requests are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf.
    #[default]
    Proto,
    /// OTLP/JSON. What came as protobuf is written anew, so a compressed body that came is of no use.
    Json,
}

impl Encoding {
    /// The name in `Content-Type`.
    pub const fn media_type(self) -> &'static str {
        match self {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// Without what is secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown
            .field("endpoint", &without_userinfo(&self.endpoint))
            .field("traces_endpoint", &without_userinfo(&self.traces_endpoint))
            .field("metrics_endpoint", &without_userinfo(&self.metrics_endpoint))
            .field("logs_endpoint", &without_userinfo(&self.logs_endpoint))
            .field("encoding", &self.encoding)
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("headers", &self.headers)
            .field("auth", &self.auth)
            .field("proxy_url", &without_userinfo(&self.proxy_url))
            .field("retry_on_failure", &self.retry_on_failure);
        #[cfg(feature = "tls")]
        shown.field("tls", &self.tls);
        #[cfg(feature = "pipeline")]
        shown.field("sending_queue", &self.sending_queue);
        shown.finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            metrics_endpoint: String::new(),
            logs_endpoint: String::new(),
            encoding: Encoding::Proto,
            timeout: Duration::from_secs(30),
            compression: Coding::Gzip,
            compression_level: 0,
            #[cfg(feature = "tls")]
            tls: tls::Config::default(),
            headers: Headers::default(),
            auth: None,
            proxy_url: String::new(),
            max_idle_conns_per_host: 0,
            idle_conn_timeout: Duration::from_secs(90),
            disable_keep_alives: false,
            user_agent: String::new(),
            #[cfg(feature = "pipeline")]
            sending_queue: queue::Config::default(),
            retry_on_failure: retry::Config::default(),
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
        let endpoints = [
            ("endpoint", &self.endpoint),
            ("traces_endpoint", &self.traces_endpoint),
            ("metrics_endpoint", &self.metrics_endpoint),
            ("logs_endpoint", &self.logs_endpoint),
        ];
        if endpoints.iter().all(|(_, endpoint)| endpoint.is_empty()) {
            return Err(ConfigError::new("endpoint", "at least one endpoint must be specified"));
        }
        for (key, endpoint) in endpoints {
            if !endpoint.is_empty() {
                Url::endpoint(endpoint).map_err(|error| ConfigError::new(key, error.to_string()))?;
            }
        }
        if !self.proxy_url.is_empty() {
            Url::parse(&self.proxy_url).map_err(|error| ConfigError::new("proxy_url", error.to_string()))?;
        }
        if !self.compression.has_level(self.compression_level) {
            return Err(ConfigError::new(
                "compression_params::level",
                format!("{} has no level {}", self.compression, self.compression_level),
            ));
        }
        self.headers.check()?;
        #[cfg(feature = "tls")]
        self.tls.check().map_err(|error| error.within("tls"))?;
        #[cfg(feature = "pipeline")]
        self.sending_queue.check().map_err(|error| error.within("sending_queue"))?;
        self.retry_on_failure.check().map_err(|error| error.within("retry_on_failure"))
    }

    /// The key of something that is asked for and not built yet.
    #[cfg(feature = "pipeline")]
    pub fn unbuilt(&self) -> Option<&'static str> {
        self.sending_queue.unbuilt()
    }

    /// The URL for a signal.
    ///
    /// # Errors
    ///
    /// Where there is no endpoint for it, or none that is a URL.
    pub fn url(&self, signal: Signal) -> Result<String, ConfigError> {
        let (key, own) = match signal {
            Signal::Traces => ("traces_endpoint", &self.traces_endpoint),
            Signal::Metrics => ("metrics_endpoint", &self.metrics_endpoint),
            Signal::Logs => ("logs_endpoint", &self.logs_endpoint),
        };
        match (own.is_empty(), self.endpoint.is_empty()) {
            (false, _) => Ok(own.clone()),
            (true, false) => Ok(Url::append(&self.endpoint, signal.http_path())),
            (true, true) => Err(ConfigError::new(key, format!("no endpoint for {signal}; set {key} or endpoint"))),
        }
    }
}
