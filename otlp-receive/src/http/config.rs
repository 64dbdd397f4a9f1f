//! What can be configured of OTLP over HTTP: the Collector's keys of `receivers.otlp.protocols.http`, and a few of ours.

use std::time::Duration;

use otlp_core::auth::Secret;
use otlp_core::{ByteSize, Signal};

use crate::auth::Authenticator;
use crate::config::{ConfigError, Transport, bounded_or, check_endpoint, wrong};
use crate::request::Codings;
use crate::tls;

/// OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `host:port` to listen on. An empty host is every address of the machine. Default `localhost:4318`.
    pub endpoint: String,
    /// Which of the addresses that the host has, or a Unix socket. Default `tcp`: IPv4 before IPv6.
    pub transport: Transport,
    /// Where traces are posted. Default `/v1/traces`; a missing leading slash is added.
    pub traces_url_path: String,
    /// Where metrics are posted. Default `/v1/metrics`.
    pub metrics_url_path: String,
    /// Where logs are posted. Default `/v1/logs`.
    pub logs_url_path: String,
    /// TLS. Default: plain text.
    pub tls: Option<tls::Config>,
    /// Decides who may send by this port, whichever protocol they speak. Default: everybody may.
    pub auth: Option<Authenticator>,
    /// Whether pages of other origins may post here. Default: they may not.
    pub cors: Option<Cors>,
    /// Largest body in bytes, as it came and again after decompression. At the limit it is taken, above it answered 413.
    /// Default 64 MiB (OTLP/HTTP Request); zero means the default.
    pub max_request_body_size: ByteSize,
    /// Whether header fields become request metadata of the batch. Default no.
    pub include_metadata: bool,
    /// Header fields added to every answer. Their values do not show.
    pub response_headers: Vec<(String, Secret)>,
    /// Content codings that are taken; `""` stands for bodies without one. An empty list takes every body as it is and
    /// ignores Content-Encoding. Default: all we have.
    pub compression_algorithms: Vec<String>,
    /// From the end of a head to the end of its body. Beyond it: 408, and the body's memory is given back. Default 30 s;
    /// zero means the default.
    pub read_timeout: Duration,
    /// From the first byte of a head to its end. Beyond it: 408. Default 60 s; zero means the default.
    pub read_header_timeout: Duration,
    /// How long a sender may leave an answer unread before the connection is dropped. Default 30 s; zero means the default.
    pub write_timeout: Duration,
    /// How long a connection may do nothing before it is closed. Default 60 s; zero means the default.
    pub idle_timeout: Duration,
    /// Whether connections are kept after an answer. Default yes.
    pub keep_alives_enabled: bool,
}

/// Cross-origin resource sharing: what browsers are told about pages of other origins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cors {
    /// Origins that may post; each may hold `*` for any run of characters.
    pub allowed_origins: Vec<String>,
    /// Header fields that they may send beside the safe ones (Accept, Accept-Language, Content-Language, Origin); `*` for
    /// all.
    pub allowed_headers: Vec<String>,
    /// Header fields of answers that they may read.
    pub exposed_headers: Vec<String>,
    /// How long a browser may remember a preflight's answer. Zero says nothing, and it chooses.
    pub max_age: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            endpoint: "localhost:4318".into(),
            transport: Transport::Tcp,
            traces_url_path: Signal::Traces.http_path().into(),
            metrics_url_path: Signal::Metrics.http_path().into(),
            logs_url_path: Signal::Logs.http_path().into(),
            tls: None,
            auth: None,
            cors: None,
            max_request_body_size: Config::BODY_SIZE,
            include_metadata: false,
            response_headers: Vec::new(),
            compression_algorithms: Codings::NAMES.iter().map(|&name| name.to_owned()).collect(),
            read_timeout: Config::READ_TIMEOUT,
            read_header_timeout: Config::READ_HEADER_TIMEOUT,
            write_timeout: Config::WRITE_TIMEOUT,
            idle_timeout: Config::IDLE_TIMEOUT,
            keep_alives_enabled: true,
        }
    }
}

impl Config {
    const BODY_SIZE: ByteSize = ByteSize::mib(64);
    const READ_TIMEOUT: Duration = Duration::from_secs(30);
    const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(60);
    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
    pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    /// Finds what cannot be used.
    ///
    /// # Errors
    ///
    /// The first such key. Host names are not resolved here.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_endpoint(&self.endpoint, self.transport)?;
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        let paths: Vec<_> = Signal::ALL.into_iter().map(|signal| self.path(signal)).collect();
        if let Some(path) = paths.iter().find(|path| path.contains(['?', '#', ' ']) || path.as_str() == "/health") {
            return wrong("traces_url_path, metrics_url_path, logs_url_path", format!("\"{path}\" cannot be served"));
        }
        if paths[0] == paths[1] || paths[1] == paths[2] || paths[0] == paths[2] {
            return wrong("traces_url_path, metrics_url_path, logs_url_path", "two signals have the same path");
        }
        for (name, value) in &self.response_headers {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                return wrong("response_headers", format!("\"{name}\" is not a header field's name"));
            }
            if value.reveal().bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
                return wrong("response_headers", format!("the value of \"{name}\" has control characters"));
            }
        }
        if let Some(name) = self.compression_algorithms.iter().find(|name| !Codings::NAMES.contains(&name.as_str())) {
            return wrong("compression_algorithms", format!("\"{name}\" is none of {:?}", Codings::NAMES));
        }
        Ok(())
    }

    /// The path of a signal, with its leading slash.
    pub fn path(&self, signal: Signal) -> String {
        let path = match signal {
            Signal::Traces => &self.traces_url_path,
            Signal::Metrics => &self.metrics_url_path,
            Signal::Logs => &self.logs_url_path,
        };
        match path.strip_prefix('/') {
            Some(_) => path.clone(),
            None => format!("/{path}"),
        }
    }

    /// The same with the defaults in place of zeros.
    pub(crate) fn effective(&self) -> Config {
        let mut config = self.clone();
        config.read_timeout = bounded_or(self.read_timeout, Config::READ_TIMEOUT);
        config.read_header_timeout = bounded_or(self.read_header_timeout, Config::READ_HEADER_TIMEOUT);
        config.write_timeout = bounded_or(self.write_timeout, Config::WRITE_TIMEOUT);
        config.idle_timeout = bounded_or(self.idle_timeout, Config::IDLE_TIMEOUT);
        if self.max_request_body_size == ByteSize::ZERO {
            config.max_request_body_size = Config::BODY_SIZE;
        }
        if self.cors.as_ref().is_some_and(|cors| cors.allowed_origins.is_empty()) {
            log::warn!("receivers.otlp.protocols.http.cors has no allowed_origins and so no effect");
            config.cors = None;
        }
        config
    }
}

impl Cors {
    /// Whether pages of this origin may post.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|pattern| matches_wildcard(pattern.as_bytes(), origin))
    }

    /// Whether all header fields of the list may be sent.
    pub(crate) fn allows_headers(&self, list: &[u8]) -> bool {
        const SAFE: [&str; 4] = ["accept", "accept-language", "content-language", "origin"];
        list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()).all(|name| {
            let own = self.allowed_headers.iter().any(|own| own == "*" || name.eq_ignore_ascii_case(own.as_bytes()));
            own || SAFE.iter().any(|safe| name.eq_ignore_ascii_case(safe.as_bytes()))
        })
    }
}

/// `*` stands for any run of characters; everything else for itself, in any case (origins have no case).
fn matches_wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|&byte| byte == b'*');
    let (Some(first), Some(last)) = (parts.next(), pattern.rsplit(|&byte| byte == b'*').next()) else { return false };
    if first.len() == pattern.len() {
        return text.eq_ignore_ascii_case(pattern);
    }
    if text.len() < first.len() + last.len()
        || !text[..first.len()].eq_ignore_ascii_case(first)
        || !text[text.len() - last.len()..].eq_ignore_ascii_case(last)
    {
        return false;
    }
    let mut rest = &text[first.len()..text.len() - last.len()];
    let middle: Vec<_> = parts.collect();
    for part in &middle[..middle.len() - 1] {
        let found = (0..=rest.len().saturating_sub(part.len()))
            .find(|&at| rest.len() >= at + part.len() && rest[at..at + part.len()].eq_ignore_ascii_case(part));
        match found {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_usable_and_listens_on_loopback_net_08() {
        let config = Config::default();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.endpoint, "localhost:4318");
        assert_eq!(config.effective(), config);
    }

    #[test]
    fn zero_means_the_default() {
        let zero = Config {
            read_timeout: Duration::ZERO,
            read_header_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            max_request_body_size: ByteSize::ZERO,
            ..Config::default()
        };
        assert_eq!(zero.effective(), Config::default());
        let for_ever = Config { read_timeout: Duration::MAX, ..Config::default() };
        let now = std::time::Instant::now();
        assert!(now.checked_add(for_ever.effective().read_timeout).is_some());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 7] = [
            ("endpoint", |config| config.endpoint = "localhost".into()),
            ("endpoint", |config| config.endpoint = "localhost:99999".into()),
            ("traces_url_path, metrics_url_path, logs_url_path", |config| config.logs_url_path = "v1/traces".into()),
            ("traces_url_path, metrics_url_path, logs_url_path", |config| config.logs_url_path = "health".into()),
            ("response_headers", |config| config.response_headers = vec![("a b".into(), "c".into())]),
            ("response_headers", |config| config.response_headers = vec![("a".into(), "b\r\nc: d".into())]),
            ("compression_algorithms", |config| config.compression_algorithms = vec!["br".into()]),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().map_err(|error| error.key), Err(key.to_owned()));
        }
    }

    #[test]
    fn origins_match_with_wildcards_http_21() {
        for (pattern, origin, matches) in [
            ("*", "https://a.example", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "HTTPS://A.example", true),
            ("https://a.example", "https://a.example.evil", false),
            ("https://*.example", "https://a.example", true),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://.exampl", false),
            ("https://*.a.*", "https://x.a.y", true),
            ("https://*.a.*", "https://x.b.y", false),
            ("ab*ba", "aba", false),
            ("a*b*c", "abc", true),
            ("a*bb*c", "abc", false),
        ] {
            assert_eq!(matches_wildcard(pattern.as_bytes(), origin.as_bytes()), matches, "{pattern} {origin}");
        }
    }

    #[test]
    fn safe_headers_are_allowed_and_content_type_is_not() {
        let cors = Cors { allowed_headers: vec!["X-Tenant".into()], ..Cors::default() };
        assert!(cors.allows_headers(b"accept, x-tenant"));
        assert!(!cors.allows_headers(b"content-type"));
        assert!(Cors { allowed_headers: vec!["*".into()], ..Cors::default() }.allows_headers(b"content-type"));
    }
}
