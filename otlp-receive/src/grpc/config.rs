//! What can be configured of OTLP over gRPC: the Collector's keys of `receivers.otlp.protocols.grpc`.

use std::time::Duration;

use otlp_core::ByteSize;

use crate::auth::Authenticator;
use crate::config::{ConfigError, Transport, bounded, bounded_or, check_endpoint, wrong};
use crate::tls;

/// OTLP over gRPC.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `host:port` to listen on. An empty host is every address of the machine. Default `localhost:4317`.
    pub endpoint: String,
    /// Which of the addresses that the host has, or a Unix socket. Default `tcp`: IPv4 before IPv6.
    pub transport: Transport,
    /// TLS. Default: plain text.
    pub tls: Option<tls::Config>,
    /// Decides who may send by this port, whichever protocol they speak. Default: everybody may.
    pub auth: Option<Authenticator>,
    /// Largest message in MiB, as it came and again after decompression. At the limit it is taken, above it answered
    /// RESOURCE_EXHAUSTED. Default 64 (OTLP/gRPC Request); zero means the default. At most 4095.
    pub max_recv_msg_size_mib: u64,
    /// Calls that may be open on one connection. Above it they are refused with REFUSED_STREAM, which every client sends
    /// again. Default 100; zero means the default.
    pub max_concurrent_streams: u32,
    /// How connections are kept, and how often they may ping.
    pub keepalive: Keepalive,
    /// Whether a call's metadata become request metadata of the batch. Default no.
    pub include_metadata: bool,
}

/// `keepalive`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keepalive {
    /// `server_parameters`: what the server does.
    pub server_parameters: ServerParameters,
    /// `enforcement_policy`: what clients may do.
    pub enforcement_policy: EnforcementPolicy,
}

/// When connections are ended or asked for a sign of life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerParameters {
    /// How long a connection may be without a call before it gets GOAWAY. Default zero: for ever.
    pub max_connection_idle: Duration,
    /// How old a connection may get before it gets GOAWAY, a tenth more or less by chance, so that those that were opened
    /// together do not leave together. Default zero: for ever.
    pub max_connection_age: Duration,
    /// How long its open calls have after that. Default zero: for ever.
    pub max_connection_age_grace: Duration,
    /// After so long without a sign of life the client is pinged. Default zero: 2 h.
    pub time: Duration,
    /// And after so long without an answer its connection is dropped. Default zero: 20 s.
    pub timeout: Duration,
}

/// How often clients may ping. The third ping too early since our last answer ends the connection (ENHANCE_YOUR_CALM,
/// `too_many_pings`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnforcementPolicy {
    /// Least time between two pings. Default zero: 5 min.
    pub min_time: Duration,
    /// Whether that also goes for connections without a call; without it the least time is 2 h there. Default no.
    pub permit_without_stream: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            endpoint: "localhost:4317".into(),
            transport: Transport::Tcp,
            tls: None,
            auth: None,
            max_recv_msg_size_mib: Config::MESSAGE_SIZE_MIB,
            max_concurrent_streams: Config::STREAMS,
            keepalive: Keepalive::default(),
            include_metadata: false,
        }
    }
}

impl Config {
    const MESSAGE_SIZE_MIB: u64 = 64;
    /// A message's length has four bytes.
    const MESSAGE_SIZE_MIB_MAX: u64 = 4095;
    const STREAMS: u32 = 100;

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
        if self.max_recv_msg_size_mib > Config::MESSAGE_SIZE_MIB_MAX {
            return wrong("max_recv_msg_size_mib", format!("is above {}", Config::MESSAGE_SIZE_MIB_MAX));
        }
        Ok(())
    }

    /// The same with the defaults in place of zeros.
    pub(crate) fn effective(&self) -> Config {
        let mut config = self.clone();
        if config.max_recv_msg_size_mib == 0 {
            config.max_recv_msg_size_mib = Config::MESSAGE_SIZE_MIB;
        }
        if config.max_concurrent_streams == 0 {
            config.max_concurrent_streams = Config::STREAMS;
        }
        let server = &mut config.keepalive.server_parameters;
        for time in
            [&mut server.max_connection_idle, &mut server.max_connection_age, &mut server.max_connection_age_grace]
        {
            *time = bounded(*time);
        }
        server.time = bounded_or(server.time, Duration::from_secs(2 * 3600));
        server.timeout = bounded_or(server.timeout, Duration::from_secs(20));
        let policy = &mut config.keepalive.enforcement_policy;
        policy.min_time = bounded_or(policy.min_time, Duration::from_secs(5 * 60));
        config
    }

    pub(crate) fn message_size_max(&self) -> ByteSize {
        ByteSize::mib(self.max_recv_msg_size_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_usable_and_takes_64_mib_on_loopback_net_08_lim_08() {
        let config = Config::default();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.endpoint, "localhost:4317");
        assert_eq!(config.message_size_max(), ByteSize::mib(64));
        let zero = Config { max_recv_msg_size_mib: 0, max_concurrent_streams: 0, ..Config::default() }.effective();
        assert_eq!((zero.max_recv_msg_size_mib, zero.max_concurrent_streams), (64, 100));
        assert_eq!(zero.keepalive.server_parameters.time, Duration::from_secs(7200));
        assert_eq!(zero.keepalive.server_parameters.max_connection_age, Duration::ZERO, "zero stays for ever");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 3] = [
            ("endpoint", |config| config.endpoint = "localhost".into()),
            ("max_recv_msg_size_mib", |config| config.max_recv_msg_size_mib = 4096),
            ("tls", |config| config.tls = Some(tls::Config::default())),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().map_err(|error| error.key), Err(key.to_owned()));
        }
    }
}
