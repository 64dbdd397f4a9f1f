//! The keys of an `otlp_grpc` exporter, their defaults, their limits.

use std::fmt;
use std::time::Duration;

use http::uri::Authority;
use otlp_core::auth::without_userinfo;
use otlp_core::codec::Coding;

use super::Headers;
use crate::auth::Authenticator;
use crate::otlp_http::Url;
#[cfg(feature = "pipeline")]
use crate::queue;
use crate::unix::SocketName;
use crate::{ConfigError, retry, tls};

/// An `otlp_grpc` exporter.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// `host:port`, with `http://`, `https://` or `dns:///` before it, or a Unix socket: `unix:///path`, `unix:path`,
    /// `unix-abstract:name` (Linux). Needed. `http://` does not turn TLS off; `https://` turns it on, whatever `tls` says.
    ///
    /// Calls go through the proxy that `grpc_proxy`, else `HTTPS_PROXY` names in the environment, by CONNECT, unless
    /// `NO_PROXY` says otherwise, the host is this one, or it is a Unix socket.
    pub endpoint: String,
    /// How messages are compressed: gzip, zstd, snappy or not at all. Default gzip. What came in that coding and was not
    /// changed leaves as it came.
    pub compression: Coding,
    /// On by default.
    pub tls: tls::Config,
    /// Pings that find out about connections that are dead.
    pub keepalive: Keepalive,
    /// Sent with every call. Values are secret; of names that end in `-bin` they are sent in base64.
    pub headers: Headers,
    /// Makes the credentials of every call. Default: none. They go before a header of the same name.
    pub auth: Option<Authenticator>,
    /// Default empty: `otlpd/` and the version.
    pub user_agent: String,
    /// Which of several addresses a call goes to. Default `round_robin`.
    pub balancer_name: Balancer,
    /// The `:authority` of every call. Default empty: `tls::server_name_override`, else host and port of the endpoint.
    pub authority: String,
    /// Whether a call waits for a connection until its deadline, in place of failing at once (and being tried again by
    /// `retry_on_failure`) while none can be had. Default false.
    pub wait_for_ready: bool,
    /// For one attempt. Default 5 s; 0 sets no limit.
    pub timeout: Duration,
    /// What waits to be sent. As many calls as it has consumers are open at once; 16 where there is no queue.
    #[cfg(feature = "pipeline")]
    pub sending_queue: queue::Config,
    /// How failures are tried again.
    pub retry_on_failure: retry::Config,
}

/// `keepalive`: pings over a connection on which nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// A ping goes out once nothing came for this long. Default 30 s; the Collector sends none unless the key is given.
    /// 0 turns it off.
    pub time: Duration,
    /// A connection on which nothing came for this long after a ping is closed. Default 20 s.
    pub timeout: Duration,
    /// Whether also while no call is open. Default false.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { time: Duration::from_secs(30), timeout: Duration::from_secs(20), permit_without_stream: false }
    }
}

/// `balancer_name`: which of several addresses a call goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// One after another, of those to which there is a connection.
    #[default]
    RoundRobin,
    /// The first that takes a connection, until that breaks.
    PickFirst,
}

impl Balancer {
    /// The balancer of that name; nothing is `round_robin`.
    pub fn from_name(name: &str) -> Option<Balancer> {
        match name {
            "" | "round_robin" => Some(Balancer::RoundRobin),
            "pick_first" => Some(Balancer::PickFirst),
            _ => None,
        }
    }
}

/// Without what is secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown
            .field("endpoint", &without_userinfo(&self.endpoint))
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .field("keepalive", &self.keepalive)
            .field("headers", &self.headers)
            .field("auth", &self.auth)
            .field("balancer_name", &self.balancer_name)
            .field("authority", &self.authority)
            .field("wait_for_ready", &self.wait_for_ready)
            .field("timeout", &self.timeout)
            .field("retry_on_failure", &self.retry_on_failure);
        #[cfg(feature = "pipeline")]
        shown.field("sending_queue", &self.sending_queue);
        shown.finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            endpoint: String::new(),
            compression: Coding::Gzip,
            tls: tls::Config::default(),
            keepalive: Keepalive::default(),
            headers: Headers::default(),
            auth: None,
            user_agent: String::new(),
            balancer_name: Balancer::default(),
            authority: String::new(),
            wait_for_ready: false,
            timeout: Duration::from_secs(5),
            #[cfg(feature = "pipeline")]
            sending_queue: queue::Config::default(),
            retry_on_failure: retry::Config::default(),
        }
    }
}

impl Config {
    /// Checks the values. Reads no files.
    ///
    /// # Errors
    ///
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let target = self.target()?;
        if !matches!(self.compression, Coding::Identity | Coding::Gzip | Coding::Zstd | Coding::Snappy) {
            let message = format!("gRPC has no {}; use gzip, zstd, snappy or none", self.compression);
            return Err(ConfigError::new("compression", message));
        }
        self.headers.check()?;
        if self.user_agent.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return Err(ConfigError::new("user_agent", "must be printable ASCII"));
        }
        if !self.authority.is_empty() && self.authority.parse::<Authority>().is_err() {
            return Err(ConfigError::new("authority", "must be a host, with or without a port"));
        }
        self.tls.check().map_err(|error| error.within("tls"))?;
        // As every gRPC client has it. Nobody listens in on a Unix socket.
        if self.auth.is_some() && !self.is_tls(&target) && matches!(target.place, Place::Host(..)) {
            let message =
                "with auth the credentials would go out in plain text; write insecure: false, or leave auth out";
            return Err(ConfigError::new("insecure", message).within("tls"));
        }
        #[cfg(feature = "pipeline")]
        self.sending_queue.check().map_err(|error| error.within("sending_queue"))?;
        self.retry_on_failure.check().map_err(|error| error.within("retry_on_failure"))
    }

    /// The key of something that is asked for and not built yet.
    #[cfg(feature = "pipeline")]
    pub fn unbuilt(&self) -> Option<&'static str> {
        self.sending_queue.unbuilt()
    }

    pub(super) fn target(&self) -> Result<Target, ConfigError> {
        Target::parse(&self.endpoint).map_err(|message| ConfigError::new("endpoint", message))
    }

    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self, target: &Target) -> bool {
        target.https || self.tls.is_on()
    }

    /// The `:authority` of every call.
    pub(super) fn authority(&self, target: &Target) -> String {
        let chosen = [&self.authority, &self.tls.server_name_override].into_iter().find(|name| !name.is_empty());
        chosen.cloned().unwrap_or_else(|| target.authority())
    }

    /// How many calls are open at once.
    pub(super) fn in_flight_max(&self) -> usize {
        #[cfg(feature = "pipeline")]
        if self.sending_queue.enabled {
            return self.sending_queue.num_consumers.max(1);
        }
        16
    }
}

/// What an endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    pub(super) place: Place,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An IPv6 address is without its brackets.
    Host(String, u16),
    Unix(SocketName),
}

impl Target {
    fn parse(text: &str) -> Result<Target, String> {
        if text.is_empty() {
            return Err("must be given: host:port".into());
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err("must not contain spaces or control characters".into());
        }
        if let Some(name) = SocketName::parse(text) {
            return name.map(|name| Target { https: false, place: Place::Unix(name) });
        }
        let prefix = ["http://", "https://", "dns:///", "dns://"].into_iter().find(|prefix| text.starts_with(prefix));
        let address = prefix.map_or(text, |prefix| &text[prefix.len()..]);
        let address = address.strip_suffix('/').unwrap_or(address);
        if prefix == Some("dns://") && address.contains('/') {
            return Err("a name server of its own is not supported; write dns:///host:port".into());
        }
        let expected = || format!("expected host:port, got {text:?}");
        let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(expected)?,
            None if host.contains(':') => return Err(expected()),
            // As Go takes it: this host.
            None if host.is_empty() => "localhost",
            None => host,
        };
        if host.contains(['/', '[', ']', '@']) {
            return Err(expected());
        }
        let port = port.parse().ok().filter(|&port| port != 0);
        let port = port.ok_or_else(|| format!("expected a port from 1 to 65535 in {text:?}"))?;
        Ok(Target { https: prefix == Some("https://"), place: Place::Host(host.to_owned(), port) })
    }

    /// As it stands in `:authority`.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Host(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".into(),
        }
    }

    /// What it would be as a URL, for the choice of a proxy: https, TLS or not, as other gRPC clients do.
    pub(super) fn url(&self) -> Option<Url> {
        match &self.place {
            Place::Host(..) => Url::parse(&format!("https://{}/", self.authority())).ok(),
            Place::Unix(_) => None,
        }
    }

    /// The host that a certificate must be for.
    pub(super) fn host(&self) -> &str {
        match &self.place {
            Place::Host(host, _) => host,
            Place::Unix(_) => "localhost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_by_table() {
        for (text, https, authority) in [
            ("localhost:4317", false, "localhost:4317"),
            ("http://h:1", false, "h:1"),
            ("https://h:1", true, "h:1"),
            ("https://h:1/", true, "h:1"),
            ("dns:///h:1", false, "h:1"),
            ("dns://h:1", false, "h:1"),
            ("[::1]:4317", false, "[::1]:4317"),
            (":4317", false, "localhost:4317"),
            ("unix:///run/otlp.sock", false, "localhost"),
            ("unix:otlp.sock", false, "localhost"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.https, target.authority().as_str()), (https, authority), "{text}");
        }
        let socket = Target::parse("unix:///run/otlp.sock").unwrap();
        assert_eq!(socket.place, Place::Unix(SocketName::Path("/run/otlp.sock".into())));
        for text in [
            "",
            "h",
            "h:",
            "h:x",
            "h:0",
            "h:65536",
            "a:b:1",
            "http://h/v1:1",
            "unix://",
            "unix:",
            "unix://a",
            "h :1",
            "dns://1.1.1.1/h:1",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tls_is_on_unless_it_is_turned_off_and_https_turns_it_on() {
        let insecure = tls::Config { insecure: true, ..tls::Config::default() };
        let with_ca = tls::Config { ca_file: Some("ca.pem".into()), ..insecure.clone() };
        for (endpoint, tls, is_tls) in [
            ("h:1", tls::Config::default(), true),
            ("http://h:1", tls::Config::default(), true),
            ("http://h:1", insecure.clone(), false),
            ("h:1", insecure.clone(), false),
            ("https://h:1", insecure, true),
            ("h:1", with_ca, true),
        ] {
            let config = Config { endpoint: endpoint.into(), tls, ..Config::default() };
            assert_eq!(config.is_tls(&config.target().unwrap()), is_tls, "{config:?}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let base = || Config { endpoint: "h:1".into(), ..Config::default() };
        assert_eq!(base().check(), Ok(()));
        let headers = |name: &str, value: &str| Headers(vec![(name.into(), value.into())]);
        let tls = |tls| Config { tls, ..base() };
        for (wrong, key) in [
            (Config::default(), "endpoint"),
            (Config { compression: Coding::Zlib, ..base() }, "compression"),
            (Config { headers: headers("a b", "c"), ..base() }, "headers"),
            (Config { headers: headers("a", "b\nc"), ..base() }, "headers"),
            (Config { user_agent: "a\nb".into(), ..base() }, "user_agent"),
            (Config { authority: "a b".into(), ..base() }, "authority"),
            (tls(tls::Config { cert_file: Some("c".into()), ..Default::default() }), "tls::cert_file"),
            (tls(tls::Config { key_pem: Some("c".into()), ..Default::default() }), "tls::key_file"),
            (
                tls(tls::Config { ca_file: Some("c".into()), ca_pem: Some("d".into()), ..Default::default() }),
                "tls::ca_file",
            ),
            (
                tls(tls::Config {
                    min_version: tls::Version::Tls13,
                    max_version: Some(tls::Version::Tls12),
                    ..Default::default()
                }),
                "tls::max_version",
            ),
            (tls(tls::Config { cipher_suites: vec!["TLS_X".into()], ..Default::default() }), "tls::cipher_suites"),
            (
                tls(tls::Config { curve_preferences: vec!["P521".into()], ..Default::default() }),
                "tls::curve_preferences",
            ),
            (
                tls(tls::Config { server_name_override: "a b".into(), ..Default::default() }),
                "tls::server_name_override",
            ),
        ] {
            assert_eq!(wrong.check().unwrap_err().key, key);
        }
        for (value, fits) in [("1.2", true), ("1.3", true), ("1.0", false), ("", false)] {
            assert_eq!(tls::Version::from_config(value).is_ok(), fits, "{value}");
        }
        let secret = Config {
            headers: headers("api-key", "hush"),
            tls: tls::Config { key_pem: Some("hush".into()), ..tls::Config::default() },
            ..base()
        };
        assert!(!format!("{secret:?}").contains("hush"));
    }
}
