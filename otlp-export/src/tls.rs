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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::tls::{Error, Material, Pem, Renewed, Terms};
pub use otlp_core::tls::{Provider, Version};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::ConfigError;

/// Either side of a connection; ours, but for tests.
#[cfg(feature = "grpc")]
pub(crate) type Connection = rustls::Connection;

#[cfg(test)]
pub(crate) mod authority;

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
    /// The host's cryptography. Default none: the process's own, else ring, where the feature `ring` has it built in.
    pub crypto_provider: Option<Provider>,
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
        self.terms().check().map_err(config_error)?;
        let name = &self.server_name_override;
        if !name.is_empty() && ServerName::try_from(name.as_str()).is_err() {
            return Err(ConfigError::new("server_name_override", format!("{name:?} is no host name")));
        }
        Ok(())
    }

    fn terms(&self) -> Terms<'_> {
        fn pem<'a>(key: &'static str, file: &'a Option<PathBuf>, text: &'a Option<String>) -> Pem<'a> {
            Pem { key, file: file.as_deref(), text: text.as_deref() }
        }
        Terms {
            authority: pem("ca_file", &self.ca_file, &self.ca_pem),
            cert: pem("cert_file", &self.cert_file, &self.cert_pem),
            key: pem("key_file", &self.key_file, &self.key_pem),
            min_version: self.min_version,
            max_version: self.max_version,
            cipher_suites: &self.cipher_suites,
            curve_preferences: &self.curve_preferences,
            provider: self.crypto_provider.as_ref(),
        }
    }

    /// Whether an exporter whose endpoint does not decide it speaks TLS.
    #[cfg(feature = "grpc")]
    pub(crate) fn is_on(&self) -> bool {
        !self.insecure || self.terms().authority.is_given()
    }

    /// Whether there is any cryptography for an endpoint that needs it.
    ///
    /// # Errors
    ///
    /// Names the endpoint's key, and what to do.
    pub(crate) fn check_provider(&self, endpoint: impl fmt::Display) -> Result<(), ConfigError> {
        match Provider::or_default(self.crypto_provider.as_ref()) {
            Some(_) => Ok(()),
            None => Err(ConfigError::new(
                "endpoint",
                format!("{endpoint} needs cryptography: build in the feature `ring`, or pass a crypto_provider"),
            )),
        }
    }

    fn read(&self) -> Result<Material, Error> {
        self.terms().read(|path| std::fs::read(path))
    }

    fn build(&self, material: &Material, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
        let terms = self.terms();
        let provider = Arc::new(terms.provider()?);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&terms.versions())
            .map_err(|error| Error::new("cipher_suites", format!("cannot be used: {error}")))?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            let (roots, authorities) = self.roots(material)?;
            let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let inner = inner.map_err(|error| Error::new("ca_file", format!("cannot be used: {error}")))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(otlp_core::tls::DirectServer { inner, authorities }))
        };
        let mut config = match terms.identity(material)? {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| Error::of_identity(&error))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Whom we trust, and which of them are our own.
    fn roots(&self, material: &Material) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Error> {
        let (mut roots, has_own) = (RootCertStore::empty(), material.authority.is_some());
        if !has_own || self.include_system_ca_certs_pool {
            let found = rustls_native_certs::load_native_certs();
            let (taken, _) = roots.add_parsable_certificates(found.certs);
            if taken == 0 && !has_own {
                let cause = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
                let message = format!("the system has no certificates to check a server's against{cause}; set ca_file");
                return Err(Error::new("ca_file", message));
            }
        }
        let own = self.terms().add_authorities(material, &mut roots)?;
        Ok((roots, own))
    }
}

/// What is wrong with a connection, with what to do where it is likely one thing.
pub(crate) fn explained(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, InvalidMessage};
    let unknown = "nobody who is trusted vouches for the server's certificate; name who does in ca_file";
    match error {
        // The latter is an authority of the same name with another key.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            unknown.into()
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(cause))
            if cause.0.to_string().starts_with("CaUsed") =>
        {
            unknown.into()
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            format!("{error}; server_name_override says which name the server has")
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("what answers there does not speak TLS ({error})")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a certificate of ours; set cert_file and key_file".into()
        }
        error => error.to_string(),
    }
}

fn config_error(error: Error) -> ConfigError {
    ConfigError::new(error.key, error.message)
}

/// Begins the handshakes of one exporter.
#[derive(Debug)]
pub(crate) struct Client {
    config: Config,
    alpn: &'static [&'static [u8]],
    client: Renewed<Arc<ClientConfig>>,
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
        at: impl fmt::Display,
    ) -> Result<Client, ConfigError> {
        let now = Instant::now();
        config.check().map_err(|error| error.within("tls"))?;
        // The system's certificates are left for later: an exporter may never need them.
        let terms = config.terms();
        let current = if terms.authority.is_given() || terms.cert.is_given() {
            let build = || {
                let material = config.read()?;
                Ok((config.build(&material, alpn)?, material))
            };
            Some(build().map_err(|error| config_error(error).within("tls"))?)
        } else {
            None
        };
        let interval = Some(config.reload_interval).filter(|interval| !interval.is_zero());
        let client = Renewed::new(format!("exporter {at}: tls::"), interval, current, now);
        Ok(Client { config: config.clone(), alpn, client })
    }

    /// What a handshake that begins now goes by.
    ///
    /// # Errors
    ///
    /// Where there is nothing to go by: the system trusts nobody.
    fn current(&self) -> Result<Arc<ClientConfig>, String> {
        let make = |material: &Material| self.config.build(material, self.alpn);
        self.client.current(Instant::now(), || self.config.read(), make)
    }

    /// Our side of a connection to the server at `host`.
    ///
    /// # Errors
    ///
    /// As of [`Client::current`], and where the host is no name that a certificate can be for.
    pub(crate) fn begin(&self, host: &str) -> Result<ClientConnection, String> {
        ClientConnection::new(self.current()?, self.server_name(host)?).map_err(|error| error.to_string())
    }

    /// The name that a server at `host` must have a certificate for.
    ///
    /// # Errors
    ///
    /// Where it is no name that a certificate can be for.
    fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = match self.config.server_name_override.as_str() {
            "" => host,
            name => name,
        };
        ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name of a server"))
    }

    /// What is wrong with the files, where what was read before is still in use.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.client.trouble()
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
