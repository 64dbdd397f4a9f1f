//! TLS of a client: the Collector's keys, whom it trusts, who it is, and the renewal of both while it runs.
//!
//! # What it does
//!
//! Files are read once when an exporter is made and, where `reload_interval` says so, again before the first handshake
//! after it. A connection keeps what it began with. Files that changed and cannot be used change nothing: an error is
//! logged once, the exporter is unhealthy, and what was read before stays in use until they are mended.
//!
//! # Threads
//!
//! The files are read on the thread whose handshake comes first after the interval: a few kilobytes. The system's
//! certificates, some hundred files, are read there before the first handshake of an exporter that trusts them.
//!
//! # Specification
//!
//! RFC 8446, RFC 5246. No TLS 1.0 or 1.1, and no cipher suite without forward secrecy.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, RootCertStore, SignatureScheme, SupportedCipherSuite};

use crate::ConfigError;

/// TLS of a client: the keys of an exporter's `tls` section.
#[derive(Clone, Default, PartialEq)]
pub struct Config {
    /// No TLS, for exporters whose endpoint does not decide that. Default false. With an authority given TLS is spoken
    /// all the same, as in the Collector.
    pub insecure: bool,
    /// Takes any server for the right one. Default false.
    pub insecure_skip_verify: bool,
    /// The name that the server's certificate must be for, and that it is asked for. Default empty: the endpoint's host.
    pub server_name_override: String,
    /// Authorities that may vouch for a server, PEM. Default, here and in `ca_pem`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The same as text.
    pub ca_pem: Option<String>,
    /// Whether the system's authorities are trusted beside the ones given. Default false.
    pub include_system_ca_certs_pool: bool,
    /// Our certificate and its chain for servers that ask for one, PEM. Default none.
    pub cert_file: Option<PathBuf>,
    /// The same as text.
    pub cert_pem: Option<String>,
    /// The private key that belongs to it, PEM. Needed with a certificate.
    pub key_file: Option<PathBuf>,
    /// The same as text.
    pub key_pem: Option<String>,
    /// Oldest version that is spoken. Default 1.2.
    pub min_version: Version,
    /// Newest version that is spoken. Default 1.3.
    pub max_version: Option<Version>,
    /// Names of TLS 1.2 cipher suites that may be used. Default empty: all we have. Those of TLS 1.3 are fixed.
    pub cipher_suites: Vec<String>,
    /// Names of groups for the key exchange: `X25519`, `P256`, `P384`. Default empty: all, in this order.
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
            _ => Err(format!("{value:?} is no version of TLS; use 1.2 or 1.3")),
        }
    }
}

/// Without what is secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("insecure", &self.insecure)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("server_name_override", &self.server_name_override)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("key_pem", &self.key_pem.as_ref().map(|_| "[REDACTED]"))
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
    /// Names the key, relative to `tls`.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: String| Err(ConfigError::new(key, message));
        for (key, file, pem) in [
            ("ca_file", &self.ca_file, &self.ca_pem),
            ("cert_file", &self.cert_file, &self.cert_pem),
            ("key_file", &self.key_file, &self.key_pem),
        ] {
            if file.is_some() && pem.is_some() {
                return wrong(key, format!("is given together with {}", key.replace("_file", "_pem")));
            }
        }
        match (self.has_cert(), self.key_file.is_some() || self.key_pem.is_some()) {
            (true, false) => return wrong("cert_file", "needs a key_file or key_pem beside it".into()),
            (false, true) => return wrong("key_file", "needs a cert_file or cert_pem beside it".into()),
            _ => {}
        }
        if self.max_version.is_some_and(|max| max < self.min_version) {
            return wrong("max_version", "is below min_version".into());
        }
        let name = &self.server_name_override;
        if !name.is_empty() && ServerName::try_from(name.as_str()).is_err() {
            return wrong("server_name_override", format!("{name:?} is no host name"));
        }
        let suites: Vec<_> = rustls::crypto::ring::ALL_CIPHER_SUITES.iter().map(suite_name).collect();
        if let Some(name) = self.cipher_suites.iter().find(|name| !suites.contains(name)) {
            return wrong("cipher_suites", format!("{name:?} is none of {}", suites.join(", ")));
        }
        match self.curve_preferences.iter().find(|name| group(name).is_none()) {
            Some(name) => wrong("curve_preferences", format!("{name:?} is none of X25519, P256, P384")),
            None => Ok(()),
        }
    }

    /// Whether an exporter whose endpoint does not decide it speaks TLS.
    pub(crate) fn is_on(&self) -> bool {
        !self.insecure || self.has_ca()
    }

    fn has_ca(&self) -> bool {
        self.ca_file.is_some() || self.ca_pem.is_some()
    }

    fn has_cert(&self) -> bool {
        self.cert_file.is_some() || self.cert_pem.is_some()
    }

    /// What the files hold.
    fn read(&self) -> Result<Material, ConfigError> {
        let read = |key: &str, file: &Option<PathBuf>, pem: &Option<String>| match (file, pem) {
            (Some(path), _) => fs::read(path).map(Some).map_err(|error| cannot_read(key, path, &error)),
            (None, pem) => Ok(pem.clone().map(String::into_bytes)),
        };
        Ok(Material {
            ca: read("ca_file", &self.ca_file, &self.ca_pem)?,
            cert: read("cert_file", &self.cert_file, &self.cert_pem)?,
            key: read("key_file", &self.key_file, &self.key_pem)?,
        })
    }

    fn build(&self, material: &Material, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, ConfigError> {
        let provider = Arc::new(self.provider());
        let versions: Vec<_> = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| *version >= self.min_version && self.max_version.is_none_or(|max| *version <= max))
            .map(|(_, version)| version)
            .collect();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| ConfigError::new("cipher_suites", format!("cannot be used: {error}")))?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(self.roots(material.ca.as_deref())?)
        };
        let mut config = match (&material.cert, &material.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("cert_file", cert)?;
                // What is wrong with a key is not told: the words would be about a secret.
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| ConfigError::new("key_file", "has no private key in PEM"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| ConfigError::new("cert_file", format!("cannot be used: {error}")))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self, ca: Option<&[u8]>) -> Result<RootCertStore, ConfigError> {
        let mut roots = RootCertStore::empty();
        if ca.is_none() || self.include_system_ca_certs_pool {
            let found = rustls_native_certs::load_native_certs();
            let (taken, _) = roots.add_parsable_certificates(found.certs);
            if taken == 0 && ca.is_none() {
                let cause = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
                let message = format!("the system has no certificates to check a server's against{cause}; set ca_file");
                return Err(ConfigError::new("ca_file", message));
            }
        }
        for certificate in ca.map_or_else(|| Ok(Vec::new()), |pem| certificates("ca_file", pem))? {
            roots.add(certificate).map_err(|error| ConfigError::new("ca_file", format!("cannot be used: {error}")))?;
        }
        Ok(roots)
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if !self.cipher_suites.is_empty() {
            let fixed = |suite: &SupportedCipherSuite| suite.version().version == TLS13.version;
            provider.cipher_suites.retain(|suite| fixed(suite) || self.cipher_suites.contains(&suite_name(suite)));
        }
        if !self.curve_preferences.is_empty() {
            let all = std::mem::take(&mut provider.kx_groups);
            let wanted = self.curve_preferences.iter().filter_map(|name| group(name));
            provider.kx_groups =
                wanted.filter_map(|name| all.iter().copied().find(|group| group.name() == name)).collect();
        }
        provider
    }
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ConfigError::new(key, "has no certificate in PEM")),
        Err(error) => Err(ConfigError::new(key, format!("is not in PEM: {error}"))),
    }
}

fn cannot_read(key: &str, path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::new(key, format!("cannot read {}: {error}", path.display()))
}

/// The suite's name as Go and the registry have it.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn group(name: &str) -> Option<NamedGroup> {
    match name {
        "X25519" => Some(NamedGroup::X25519),
        "P256" => Some(NamedGroup::secp256r1),
        "P384" => Some(NamedGroup::secp384r1),
        _ => None,
    }
}

/// What the files hold.
#[derive(PartialEq)]
struct Material {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

/// Begins the handshakes of one exporter.
pub(crate) struct Client {
    config: Config,
    alpn: &'static [&'static [u8]],
    /// For messages: the exporter.
    at: String,
    state: Mutex<State>,
}

struct State {
    current: Option<(Arc<ClientConfig>, Material)>,
    checked: Instant,
    trouble: Option<String>,
}

impl Client {
    /// Reads the files that are named. `at` is the exporter's id, for messages.
    ///
    /// # Errors
    ///
    /// The key that is at fault, relative to the exporter.
    pub(crate) fn new(
        config: &Config,
        alpn: &'static [&'static [u8]],
        at: impl Into<String>,
    ) -> Result<Client, ConfigError> {
        let checked = Instant::now();
        config.check().map_err(|error| error.within("tls"))?;
        // The system's certificates are left for later: an exporter may never need them.
        let current = if config.has_ca() || config.has_cert() {
            let build = || {
                let material = config.read()?;
                Ok((config.build(&material, alpn)?, material))
            };
            Some(build().map_err(|error: ConfigError| error.within("tls"))?)
        } else {
            None
        };
        let state = Mutex::new(State { current, checked, trouble: None });
        Ok(Client { config: config.clone(), alpn, at: at.into(), state })
    }

    /// What a handshake that begins now goes by.
    ///
    /// # Errors
    ///
    /// Where there is nothing to go by: the system trusts nobody.
    pub(crate) fn current(&self) -> Result<Arc<ClientConfig>, String> {
        let mut state = self.state.lock();
        let due = !self.config.reload_interval.is_zero() && state.checked.elapsed() >= self.config.reload_interval;
        if due || state.current.is_none() {
            state.checked = Instant::now();
            self.load(&mut state);
        }
        match (&state.current, &state.trouble) {
            (Some((config, _)), _) => Ok(Arc::clone(config)),
            (None, trouble) => Err(trouble.clone().unwrap_or_default()),
        }
    }

    fn load(&self, state: &mut State) {
        let loaded = self.config.read().and_then(|material| {
            let changed = state.current.as_ref().is_none_or(|(_, known)| *known != material);
            Ok(if changed { Some((self.config.build(&material, self.alpn)?, material)) } else { None })
        });
        match loaded {
            Ok(changed) => {
                if let Some(changed) = changed
                    && state.current.replace(changed).is_some()
                {
                    log::info!("exporter {}: the certificates were read again", self.at);
                }
                state.trouble = None;
            }
            Err(error) => {
                let stays = if state.current.is_some() { "; what was read before stays in use" } else { "" };
                let trouble = format!("exporter {}: tls::{error}{stays}", self.at);
                // Once, not at every interval.
                if state.trouble.as_ref() != Some(&trouble) {
                    log::error!("{trouble}");
                }
                state.trouble = Some(trouble);
            }
        }
    }

    /// The name that a server at `host` must have a certificate for.
    ///
    /// # Errors
    ///
    /// Where it is no name that a certificate can be for.
    pub(crate) fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = match self.config.server_name_override.as_str() {
            "" => host,
            name => name,
        };
        ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name of a server"))
    }

    /// What is wrong with the files, where what was read before is still in use.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.clone()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

/// `insecure_skip_verify`: whoever has the key of the certificate that it shows, whatever that says.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
