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
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite};

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
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// The version that the Collector's key names: `1.2` or `1.3`.
    ///
    /// # Errors
    ///
    /// For the message: the older ones are known and not supported.
    pub fn from_config(value: &str) -> Result<Version, String> {
        match value {
            "1.2" => Ok(Version::Tls12),
            "1.3" => Ok(Version::Tls13),
            "1.0" | "1.1" => Err(format!("TLS {value} is not supported; use 1.2 or 1.3")),
            _ => Err(format!("\"{value}\" is no version of TLS; use 1.2 or 1.3")),
        }
    }
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
        let (cert, key) = ((&self.cert_file, &self.cert_pem), (&self.key_file, &self.key_pem));
        match (cert, key) {
            ((Some(_), Some(_)), _) => return wrong("tls.cert_file", "is given together with cert_pem"),
            (_, (Some(_), Some(_))) => return wrong("tls.key_file", "is given together with key_pem"),
            ((None, None), _) | (_, (None, None)) => {
                return wrong("tls", "TLS configuration must include both certificate and key for server connections");
            }
            _ => {}
        }
        if self.max_version.is_some_and(|max| max < self.min_version) {
            return wrong("tls.max_version", "is below min_version");
        }
        let suites: Vec<_> = rustls::crypto::ring::ALL_CIPHER_SUITES.iter().map(suite_name).collect();
        if let Some(name) = self.cipher_suites.iter().find(|name| !suites.contains(name)) {
            return wrong("tls.cipher_suites", format!("\"{name}\" is none of {}", suites.join(", ")));
        }
        match self.curve_preferences.iter().find(|name| group_name(name).is_none()) {
            Some(name) => wrong("tls.curve_preferences", format!("\"{name}\" is none of X25519, P256, P384")),
            None => Ok(()),
        }
    }

    fn reload_interval(&self) -> Option<Duration> {
        match (self.reload_interval, self.client_ca_file_reload) {
            (Duration::ZERO, false) => None,
            (Duration::ZERO, true) => Some(CA_RELOAD_INTERVAL),
            (interval, _) => Some(interval),
        }
    }

    /// What is in the files.
    fn read(&self) -> Result<Material, ConfigError> {
        let read = |key: &str, file: &Option<PathBuf>, pem: &Option<String>| match (file, pem) {
            (Some(path), _) => fs::read(path).map_err(|error| cannot_read(key, path, &error)),
            (None, pem) => Ok(pem.clone().unwrap_or_default().into_bytes()),
        };
        Ok(Material {
            cert: read("tls.cert_file", &self.cert_file, &self.cert_pem)?,
            key: read("tls.key_file", &self.key_file, &self.key_pem)?,
            client_ca: match &self.client_ca_file {
                Some(_) => Some(read("tls.client_ca_file", &self.client_ca_file, &None)?),
                None => None,
            },
        })
    }

    fn build(&self, material: &Material, alpn: &[&str]) -> Result<Arc<ServerConfig>, ConfigError> {
        let bad = |key: &str, message: String| ConfigError { key: key.into(), message };
        let unusable = |error: &dyn fmt::Display| bad("tls", format!("cannot be used: {error}"));
        let certs: Vec<_> = CertificateDer::pem_slice_iter(&material.cert)
            .collect::<Result<_, _>>()
            .map_err(|error| bad("tls.cert_file", format!("is not a certificate in PEM: {error}")))?;
        if certs.is_empty() {
            return Err(bad("tls.cert_file", "has no certificate in PEM".into()));
        }
        // What is wrong with it is not told: the words would be about a secret.
        let key = PrivateKeyDer::from_pem_slice(&material.key)
            .map_err(|_| bad("tls.key_file", "has no private key in PEM".into()))?;
        let provider = Arc::new(self.provider());
        let versions: Vec<_> = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| *version >= self.min_version && self.max_version.is_none_or(|max| *version <= max))
            .map(|(_, version)| version)
            .collect();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| unusable(&error))?;
        let builder = match &material.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for cert in CertificateDer::pem_slice_iter(pem) {
                    let cert = cert.map_err(|error| bad("tls.client_ca_file", format!("is not in PEM: {error}")))?;
                    roots.add(cert).map_err(|error| bad("tls.client_ca_file", format!("cannot be used: {error}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| bad("tls.client_ca_file", format!("cannot be used: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(certs, key).map_err(|error| unusable(&error))?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if !self.cipher_suites.is_empty() {
            let fixed = |suite: &SupportedCipherSuite| suite.version().version == TLS13.version;
            provider.cipher_suites.retain(|suite| fixed(suite) || self.cipher_suites.contains(&suite_name(suite)));
        }
        if !self.curve_preferences.is_empty() {
            let all = std::mem::take(&mut provider.kx_groups);
            let wanted = self.curve_preferences.iter().filter_map(|name| group_name(name));
            provider.kx_groups =
                wanted.filter_map(|name| all.iter().copied().find(|group| group.name() == name)).collect();
        }
        provider
    }
}

/// The suite's name as Go and the registry have it.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn group_name(name: &str) -> Option<rustls::NamedGroup> {
    match name {
        "X25519" => Some(rustls::NamedGroup::X25519),
        "P256" => Some(rustls::NamedGroup::secp256r1),
        "P384" => Some(rustls::NamedGroup::secp384r1),
        _ => None,
    }
}

fn cannot_read(key: &str, path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError { key: key.into(), message: format!("cannot read {}: {error}", path.display()) }
}

/// What the files hold.
#[derive(PartialEq)]
struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Begins the handshakes of one listener.
pub(crate) struct Acceptor {
    config: Config,
    alpn: Vec<&'static str>,
    /// For messages: the section.
    at: String,
    state: Mutex<State>,
}

struct State {
    current: Arc<ServerConfig>,
    material: Material,
    checked: Instant,
    trouble: Option<String>,
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
        at: String,
        now: Instant,
    ) -> Result<Acceptor, ConfigError> {
        config.check()?;
        let material = config.read()?;
        let current = config.build(&material, &alpn)?;
        let state = Mutex::new(State { current, material, checked: now, trouble: None });
        Ok(Acceptor { config: config.clone(), alpn, at, state })
    }

    /// The server's side of a new connection, with the certificates of now.
    pub(crate) fn accept(&self, now: Instant) -> Result<ServerConnection, rustls::Error> {
        let mut state = self.state.lock();
        if self.config.reload_interval().is_some_and(|interval| state.checked + interval <= now) {
            state.checked = now;
            self.reload(&mut state);
        }
        ServerConnection::new(Arc::clone(&state.current))
    }

    /// What is wrong with the files, where the old ones are still in use.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.clone()
    }

    fn reload(&self, state: &mut State) {
        let loaded = self.config.read().and_then(|material| {
            let changed = material != state.material;
            let built = if changed { Some(self.config.build(&material, &self.alpn)?) } else { None };
            Ok((material, built))
        });
        match loaded {
            Ok((material, built)) => {
                if let Some(built) = built {
                    log::info!("{}.tls: the certificates were read again", self.at);
                    (state.current, state.material) = (built, material);
                }
                state.trouble = None;
            }
            Err(error) => {
                let trouble = format!("{}.{error}; the certificates read before stay in use", self.at);
                // Once, not at every interval.
                if state.trouble.as_ref() != Some(&trouble) {
                    log::error!("{trouble}");
                }
                state.trouble = Some(trouble);
            }
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("config", &self.config).finish_non_exhaustive()
    }
}
