//! TLS of a listener: the Collector's keys, certificates from files, and their renewal while it runs.
//!
//! # What it does
//!
//! Certificates are read once at the start and, where `reload_interval` says so, again at the first handshake after it.
//! A connection keeps what it began with. New files that cannot be used change nothing: an error is logged, the receiver
//! is unhealthy, and the old ones stay in use until the files are mended.
//!
//! # Threads
//!
//! The files are read on the driver's thread whose handshake comes first after the interval: a few kilobytes.
//!
//! # Specification
//!
//! RFC 8446, RFC 5246, RFC 7301 (ALPN: `h2`, `http/1.1`). No TLS 1.0 or 1.1, and no cipher suite without forward secrecy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::tls::{Error, Material, Pem, Renewed, Terms};
pub use otlp_core::tls::{Provider, Version};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::config::{ConfigError, wrong};

/// How often a client CA is looked at where only `client_ca_file_reload` asks for it.
const CA_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// TLS of a server: the Collector's keys of `protocols.grpc.tls` and `protocols.http.tls`.
#[derive(Clone, Default, PartialEq)]
pub struct Config {
    /// The certificate and its chain, PEM. Needed, here or in `cert_pem`.
    pub cert_file: Option<PathBuf>,
    /// The same as text.
    pub cert_pem: Option<String>,
    /// The certificate's private key, PEM. Needed, here or in `key_pem`.
    pub key_file: Option<PathBuf>,
    /// The same as text.
    pub key_pem: Option<String>,
    /// Authorities whose certificates clients must show, PEM. Default: clients show none.
    pub client_ca_file: Option<PathBuf>,
    /// Whether `client_ca_file` is read again when it changes, also without a `reload_interval`. Default no.
    pub client_ca_file_reload: bool,
    /// Oldest version that is spoken. Default 1.2.
    pub min_version: Version,
    /// Newest version that is spoken. Default 1.3.
    pub max_version: Option<Version>,
    /// Names of TLS 1.2 cipher suites that may be used. Default: all we have. Those of TLS 1.3 are fixed.
    pub cipher_suites: Vec<String>,
    /// Names of groups for the key exchange: `X25519`, `P256`, `P384`. Default: all, in this order.
    pub curve_preferences: Vec<String>,
    /// How often the files are read again. Default zero: never.
    pub reload_interval: Duration,
    /// The host's cryptography. Default none: the process's own, else ring.
    pub crypto_provider: Option<Provider>,
}

/// Secrets are left out.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("key_pem", &self.key_pem.as_ref().map(|_| "[REDACTED]"))
            .field("client_ca_file", &self.client_ca_file)
            .field("min_version", &self.min_version)
            .field("max_version", &self.max_version)
            .field("reload_interval", &self.reload_interval)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Finds what cannot be used, without reading files.
    ///
    /// # Errors
    ///
    /// The first such key, below the protocol's section.
    pub fn check(&self) -> Result<(), ConfigError> {
        let terms = self.terms();
        if !terms.cert.is_given() || !terms.key.is_given() {
            return wrong("tls", "TLS configuration must include both certificate and key for server connections");
        }
        terms.check().map_err(below)
    }

    /// Finds what cannot be used of what the files hold now, too.
    ///
    /// # Errors
    ///
    /// The first such key, below the protocol's section.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        self.check()?;
        let material = self.terms().read(read).map_err(below)?;
        self.build(&material, &[]).map(drop).map_err(below)
    }

    fn terms(&self) -> Terms<'_> {
        fn pem<'a>(key: &'static str, file: &'a Option<PathBuf>, text: &'a Option<String>) -> Pem<'a> {
            Pem { key, file: file.as_deref(), text: text.as_deref() }
        }
        Terms {
            authority: pem("client_ca_file", &self.client_ca_file, &None),
            cert: pem("cert_file", &self.cert_file, &self.cert_pem),
            key: pem("key_file", &self.key_file, &self.key_pem),
            min_version: self.min_version,
            max_version: self.max_version,
            cipher_suites: &self.cipher_suites,
            curve_preferences: &self.curve_preferences,
            provider: self.crypto_provider.as_ref(),
        }
    }

    fn reload_interval(&self) -> Option<Duration> {
        match (self.reload_interval, self.client_ca_file_reload) {
            (Duration::ZERO, false) => None,
            (Duration::ZERO, true) => Some(CA_RELOAD_INTERVAL),
            (interval, _) => Some(interval),
        }
    }

    fn build(&self, material: &Material, alpn: &[&str]) -> Result<Arc<ServerConfig>, Error> {
        fn unusable(key: &'static str) -> impl FnOnce(&dyn fmt::Display) -> Error {
            move |error| Error::new(key, format!("cannot be used: {error}"))
        }
        let terms = self.terms();
        let (chain, key) = terms.identity(material)?.ok_or_else(|| Error::new("cert_file", "is missing"))?;
        let provider = Arc::new(terms.provider()?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&terms.versions())
            .map_err(|error| unusable("cipher_suites")(&error))?;
        let builder = if terms.authority.is_given() {
            let mut roots = RootCertStore::empty();
            let authorities = terms.add_authorities(material, &mut roots)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let inner = verifier.map_err(|error| unusable("client_ca_file")(&error))?;
            builder.with_client_cert_verifier(Arc::new(otlp_core::tls::DirectClient { inner, authorities }))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| Error::of_identity(&error))?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// As seen from the protocol's section.
fn below(error: Error) -> ConfigError {
    ConfigError { key: format!("tls.{}", error.key), message: error.message }
}

/// Begins the handshakes of one listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    config: Config,
    alpn: Vec<&'static str>,
    server: Renewed<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Reads the files. `at` is the section for messages, as in `receivers.otlp.protocols.grpc`.
    ///
    /// # Errors
    ///
    /// The key that is at fault.
    pub(crate) fn new(
        config: &Config,
        alpn: Vec<&'static str>,
        at: &str,
        now: Instant,
    ) -> Result<Acceptor, ConfigError> {
        config.check()?;
        let material = config.terms().read(read).map_err(below)?;
        let current = config.build(&material, &alpn).map_err(below)?;
        let server = Renewed::new(format!("{at}.tls."), config.reload_interval(), Some((current, material)), now);
        Ok(Acceptor { config: config.clone(), alpn, server })
    }

    /// The server's side of a new connection, with the certificates of now.
    pub(crate) fn accept(&self, now: Instant) -> Result<ServerConnection, rustls::Error> {
        let make = |material: &Material| self.config.build(material, &self.alpn);
        let config = self.server.current(now, || self.config.terms().read(read), make);
        ServerConnection::new(config.map_err(rustls::Error::General)?)
    }

    /// What is wrong with the files, where the old ones are still in use.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.server.trouble()
    }
}
