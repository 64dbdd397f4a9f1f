//! TLS, as far as servers and clients do the same: the keys that both have, PEM, versions, and the renewal of what was read.
//!
//! # What it does
//!
//! [`Terms`] are the keys of a `tls` section that mean the same on both sides; [`Renewed`] keeps what was made of the
//! files and decides when they are looked at again. New files that cannot be used change nothing: an error is logged
//! once, [`Renewed::trouble`] says it, and what was made of the old ones stays in use until they are mended.
//!
//! # Place
//!
//! Here so that receivers and exporters cannot come to differ. Nothing here opens a file: whoever uses it says how files
//! are read, and what the time is. Nor is a provider of cryptography installed: [`Provider`] says whose is used.
//!
//! # Threads
//!
//! Files are read on the thread that asks for the current state first after the interval: a few kilobytes.
//!
//! # Specification
//!
//! RFC 8446, RFC 5246. No TLS 1.0 or 1.1, and no cipher suite without forward secrecy. RFC 7468 (PEM).

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};

mod direct;

pub use direct::{DirectClient, DirectServer};

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

/// What cannot be used. Never holds anything of a private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The key, below the `tls` section.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl Error {
    /// An error of that key.
    pub fn new(key: &'static str, message: impl Into<String>) -> Error {
        Error { key, message: message.into() }
    }

    /// What is wrong with a certificate and its key.
    pub fn of_identity(error: &rustls::Error) -> Error {
        Error::new(
            "cert_file",
            match error {
                rustls::Error::InconsistentKeys(_) => "is not the certificate of the key in key_file".to_owned(),
                error => format!("cannot be used: {error}"),
            },
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Error {}

/// How a file is read: [`std::fs::read`], outside of tests.
pub type ReadFile = fn(&Path) -> io::Result<Vec<u8>>;

/// The cryptography that a host brings: rustls's, or what has the same shape.
///
/// What is not given is the process's own ([`CryptoProvider::install_default`]), else ring, where the feature `ring` has it
/// built in. Nothing is installed. Two are equal when they are one.
#[derive(Clone)]
pub struct Provider(Arc<CryptoProvider>);

impl From<Arc<CryptoProvider>> for Provider {
    fn from(provider: Arc<CryptoProvider>) -> Provider {
        Provider(provider)
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Provider) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// It says nothing of itself.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl Provider {
    /// The one to use where `given` was; none where there is none.
    pub fn or_default(given: Option<&Provider>) -> Option<Provider> {
        let installed = || CryptoProvider::get_default().cloned().map(Provider);
        given.cloned().or_else(installed).or_else(Provider::built_in)
    }

    #[cfg(feature = "ring")]
    fn built_in() -> Option<Provider> {
        Some(Provider(Arc::new(rustls::crypto::ring::default_provider())))
    }

    #[cfg(not(feature = "ring"))]
    fn built_in() -> Option<Provider> {
        None
    }
}

/// PEM that stands in a file or in the configuration.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// The key of the file; that of the text is the same with `_pem` for `_file`.
    pub key: &'static str,
    /// The file.
    pub file: Option<&'a Path>,
    /// The text.
    pub text: Option<&'a str>,
}

impl Pem<'_> {
    /// Whether there is any.
    pub fn is_given(&self) -> bool {
        self.file.is_some() || self.text.is_some()
    }

    /// The bytes, if there are any.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read.
    pub fn read(&self, read: ReadFile) -> Result<Option<Vec<u8>>, Error> {
        match (self.file, self.text) {
            (Some(path), _) => match read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(Error::new(self.key, format!("cannot read {}: {error}", path.display()))),
            },
            (None, text) => Ok(text.map(|text| text.as_bytes().to_vec())),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.file.is_some() && self.text.is_some() {
            let message = format!("is given together with {}", self.key.replace("_file", "_pem"));
            return Err(Error::new(self.key, message));
        }
        Ok(())
    }
}

/// What both sides can say in a `tls` section.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Who vouches for the other side: `ca_file` of a client, `client_ca_file` of a server.
    pub authority: Pem<'a>,
    /// Our certificate and its chain.
    pub cert: Pem<'a>,
    /// The private key that belongs to it.
    pub key: Pem<'a>,
    /// Oldest version that is spoken.
    pub min_version: Version,
    /// Newest version that is spoken; 1.3 where there is none.
    pub max_version: Option<Version>,
    /// Names of TLS 1.2 cipher suites that may be used; empty: all we have. Those of TLS 1.3 are fixed.
    pub cipher_suites: &'a [String],
    /// Names of groups for the key exchange, best first: `X25519`, `P256`, `P384`; empty: all, in this order.
    pub curve_preferences: &'a [String],
    /// Whose cryptography is used: see [`Provider`].
    pub provider: Option<&'a Provider>,
}

/// What the files hold.
#[derive(Clone, PartialEq)]
pub struct Material {
    /// Of [`Terms::authority`].
    pub authority: Option<Vec<u8>>,
    /// Of [`Terms::cert`].
    pub cert: Option<Vec<u8>>,
    /// Of [`Terms::key`].
    pub key: Option<Vec<u8>>,
}

impl Terms<'_> {
    /// Finds what cannot be used, without reading files.
    ///
    /// # Errors
    ///
    /// The first such key.
    pub fn check(&self) -> Result<(), Error> {
        for pem in [self.authority, self.cert, self.key] {
            pem.check()?;
        }
        match (self.cert.is_given(), self.key.is_given()) {
            (true, false) => return Err(Error::new("cert_file", "needs a key_file or key_pem beside it")),
            (false, true) => return Err(Error::new("key_file", "needs a cert_file or cert_pem beside it")),
            _ => {}
        }
        if self.max_version.is_some_and(|max| max < self.min_version) {
            return Err(Error::new("max_version", "is below min_version"));
        }
        if self.cipher_suites.is_empty() && self.curve_preferences.is_empty() {
            return Ok(());
        }
        let Some(Provider(provider)) = Provider::or_default(self.provider) else { return Err(no_provider()) };
        let suites: Vec<_> = provider.cipher_suites.iter().map(suite_name).collect();
        if let Some(name) = self.cipher_suites.iter().find(|name| !suites.contains(name)) {
            return Err(Error::new("cipher_suites", format!("{name:?} is none of {}", suites.join(", "))));
        }
        let has = |wanted: NamedGroup| provider.kx_groups.iter().any(|group| group.name() == wanted);
        let groups: Vec<_> =
            ["X25519", "P256", "P384"].into_iter().filter(|name| group(name).is_some_and(has)).collect();
        match self.curve_preferences.iter().find(|name| !groups.contains(&name.as_str())) {
            Some(name) => Err(Error::new("curve_preferences", format!("{name:?} is none of {}", groups.join(", ")))),
            None => Ok(()),
        }
    }

    /// What the files hold now.
    ///
    /// # Errors
    ///
    /// The key whose file cannot be read.
    pub fn read(&self, read: ReadFile) -> Result<Material, Error> {
        Ok(Material { authority: self.authority.read(read)?, cert: self.cert.read(read)?, key: self.key.read(read)? })
    }

    /// The versions that are spoken.
    pub fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| *version >= self.min_version && self.max_version.is_none_or(|max| *version <= max))
            .map(|(_, version)| version)
            .collect()
    }

    /// Whose cryptography is used, with the suites and groups that are wanted.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn provider(&self) -> Result<CryptoProvider, Error> {
        let Some(Provider(provider)) = Provider::or_default(self.provider) else { return Err(no_provider()) };
        let mut provider = CryptoProvider::clone(&provider);
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
        Ok(provider)
    }

    /// Our certificate with its chain and key, where we have one.
    ///
    /// # Errors
    ///
    /// The key whose PEM is none. Of a private key nothing more is told: the words would be about a secret.
    #[allow(clippy::type_complexity)]
    pub fn identity(
        &self,
        material: &Material,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Error> {
        let (Some(cert), Some(key)) = (&material.cert, &material.key) else { return Ok(None) };
        let chain = certificates(self.cert.key, cert)?;
        let made = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            let encrypted = key.windows(9).any(|word| word == b"ENCRYPTED");
            let message =
                if encrypted { "is encrypted; decrypt it with openssl pkey" } else { "has no private key in PEM" };
            Error::new(self.key.key, message)
        });
        Ok(Some((chain, made?)))
    }

    /// Adds the authorities of `material` to `roots`, and gives their certificates.
    ///
    /// # Errors
    ///
    /// Where one is no certificate, or none that can vouch for others.
    pub fn add_authorities(
        &self,
        material: &Material,
        roots: &mut RootCertStore,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let Some(pem) = &material.authority else { return Ok(Vec::new()) };
        let found = certificates(self.authority.key, pem)?;
        for certificate in &found {
            let added = roots.add(certificate.clone());
            added.map_err(|error| Error::new(self.authority.key, format!("cannot be used: {error}")))?;
        }
        Ok(found)
    }
}

fn no_provider() -> Error {
    Error::new("crypto_provider", "is needed: pass one, install one for the process, or build in the feature `ring`")
}

/// At least one certificate.
fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::new(key, "has no certificate in PEM")),
        Err(error) => Err(Error::new(key, format!("is not in PEM: {error}"))),
    }
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

/// What was made of the files, made anew when they change.
///
/// # Threads
///
/// Any number may ask; one reads files while the others wait for it.
pub struct Renewed<T> {
    /// What messages begin with, as far as the key: `receivers.otlp.protocols.grpc.tls.`.
    at: String,
    interval: Option<Duration>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Option<(T, Material)>,
    checked: Instant,
    trouble: Option<String>,
}

impl<T: Clone> Renewed<T> {
    /// Begins with what was made of the files at `now`, or with nothing yet. `interval` is how often they are looked at
    /// again; none: never. `at` is what comes before the key in messages.
    pub fn new(
        at: impl Into<String>,
        interval: Option<Duration>,
        current: Option<(T, Material)>,
        now: Instant,
    ) -> Renewed<T> {
        Renewed { at: at.into(), interval, state: Mutex::new(State { current, checked: now, trouble: None }) }
    }

    /// What is to be used from `now` on. Where the files are due they are read by `read`, and where they hold something
    /// else than before `make` makes it.
    ///
    /// # Errors
    ///
    /// Where there is nothing to use: nothing could be made so far.
    pub fn current(
        &self,
        now: Instant,
        read: impl FnOnce() -> Result<Material, Error>,
        make: impl FnOnce(&Material) -> Result<T, Error>,
    ) -> Result<T, String> {
        let mut state = self.lock();
        let is_due = self.interval.is_some_and(|interval| now.saturating_duration_since(state.checked) >= interval);
        if is_due || state.current.is_none() {
            state.checked = now;
            let loaded = read().and_then(|material| {
                let is_new = state.current.as_ref().is_none_or(|(_, known)| *known != material);
                Ok(if is_new { Some((make(&material)?, material)) } else { None })
            });
            self.loaded(&mut state, loaded);
        }
        match (&state.current, &state.trouble) {
            (Some((current, _)), _) => Ok(current.clone()),
            (None, trouble) => Err(trouble.clone().unwrap_or_default()),
        }
    }

    fn loaded(&self, state: &mut State<T>, loaded: Result<Option<(T, Material)>, Error>) {
        match loaded {
            Ok(changed) => {
                if let Some(changed) = changed
                    && state.current.replace(changed).is_some()
                {
                    log::info!("{}: the certificates were read again", self.at.trim_end_matches(['.', ':']));
                }
                state.trouble = None;
            }
            Err(error) => {
                let stays = if state.current.is_some() { "; the certificates read before stay in use" } else { "" };
                let trouble = format!("{}{error}{stays}", self.at);
                // Once, not at every interval.
                if state.trouble.as_ref() != Some(&trouble) {
                    log::error!("{trouble}");
                }
                state.trouble = Some(trouble);
            }
        }
    }
}

impl<T> Renewed<T> {
    /// What is wrong with the files, where what was made of the old ones is still in use.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// A panic of whoever made something leaves what was there before.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without what is secret.
impl<T> fmt::Debug for Renewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("at", &self.at).field("interval", &self.interval).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "ring"))]
mod tests {
    use super::*;

    // Only read as PEM, not as what it holds.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    const NONE: Pem<'_> = Pem { key: "x_file", file: None, text: None };

    fn terms() -> Terms<'static> {
        Terms {
            authority: Pem { key: "ca_file", ..NONE },
            cert: Pem { key: "cert_file", ..NONE },
            key: Pem { key: "key_file", ..NONE },
            min_version: Version::Tls12,
            max_version: None,
            cipher_suites: &[],
            curve_preferences: &[],
            provider: None,
        }
    }

    fn given(key: &'static str) -> Pem<'static> {
        Pem { key, file: Some(Path::new("there.pem")), text: None }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(terms().check(), Ok(()));
        let unknown = ["P521".to_owned()];
        for (terms, key) in [
            (Terms { authority: Pem { text: Some("x"), ..given("ca_file") }, ..terms() }, "ca_file"),
            (Terms { cert: given("cert_file"), ..terms() }, "cert_file"),
            (Terms { key: given("key_file"), ..terms() }, "key_file"),
            (Terms { min_version: Version::Tls13, max_version: Some(Version::Tls12), ..terms() }, "max_version"),
            (Terms { cipher_suites: &unknown, ..terms() }, "cipher_suites"),
            (Terms { curve_preferences: &unknown, ..terms() }, "curve_preferences"),
        ] {
            assert_eq!(terms.check().unwrap_err().key, key);
        }
        for (value, expected) in
            [("1.2", Some(Version::Tls12)), ("1.3", Some(Version::Tls13)), ("1.1", None), ("", None)]
        {
            assert_eq!(Version::from_config(value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn suites_groups_and_versions_are_those_that_are_wanted() {
        let (suites, groups) =
            (["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()], ["P384".to_owned(), "X25519".into()]);
        let chosen = Terms { cipher_suites: &suites, curve_preferences: &groups, ..terms() };
        assert_eq!(chosen.check(), Ok(()));
        let provider = chosen.provider().unwrap();
        let old: Vec<_> =
            provider.cipher_suites.iter().filter(|suite| suite.version().version != TLS13.version).collect();
        assert_eq!(old.into_iter().map(suite_name).collect::<Vec<_>>(), suites);
        assert!(provider.cipher_suites.len() > 1, "those of 1.3 stay");
        let names: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, [NamedGroup::secp384r1, NamedGroup::X25519]);
        for (min, max, count) in
            [(Version::Tls12, None, 2), (Version::Tls13, None, 1), (Version::Tls12, Some(Version::Tls12), 1)]
        {
            assert_eq!(Terms { min_version: min, max_version: max, ..terms() }.versions().len(), count);
        }
    }

    #[test]
    fn files_are_read_as_they_are_and_bad_ones_are_named_without_their_content() {
        let both = Terms { cert: given("cert_file"), key: given("key_file"), ..terms() };
        assert_eq!(both.read(|_| Err(io::ErrorKind::NotFound.into())).err().unwrap().key, "cert_file");
        let material = both.read(|path| Ok(path.to_str().unwrap().into())).unwrap();
        assert_eq!(material.cert.as_deref(), Some(&b"there.pem"[..]));
        assert_eq!(both.identity(&material).unwrap_err(), Error::new("cert_file", "has no certificate in PEM"));
        let whole = Material { cert: Some(CERTIFICATE.into()), key: Some(ENCRYPTED.into()), ..material };
        assert_eq!(both.identity(&whole).unwrap_err().message, "is encrypted; decrypt it with openssl pkey");
        let whole = Material { key: Some(CERTIFICATE.into()), ..whole };
        assert_eq!(both.identity(&whole).unwrap_err(), Error::new("key_file", "has no private key in PEM"));
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let authority = Terms { authority: Pem { key: "client_ca_file", file: None, text: Some(broken) }, ..terms() };
        let material = authority.read(|_| unreachable!("it is no file")).unwrap();
        assert!(authority.identity(&material).unwrap().is_none());
        assert_eq!(
            authority.add_authorities(&material, &mut RootCertStore::empty()).unwrap_err().key,
            "client_ca_file"
        );
    }

    #[test]
    fn files_are_looked_at_after_the_interval_and_what_they_were_stays_in_use() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let holds = |text: &str| Material { authority: Some(text.into()), cert: None, key: None };
        let read = |text: &'static str| move || Ok(holds(text));
        let make = |material: &Material| Ok(String::from_utf8(material.authority.clone().unwrap()).unwrap());
        let refuse = |_: &Material| -> Result<String, Error> { Err(Error::new("ca_file", "is bad")) };
        let unread = || -> Result<Material, Error> { panic!("not due") };
        let kept = Renewed::new("tls::", Some(Duration::from_secs(10)), Some(("a".to_owned(), holds("a"))), start);
        assert_eq!(kept.current(at(9), unread, make).unwrap(), "a");
        assert_eq!(kept.current(at(10), read("b"), make).unwrap(), "b");
        assert_eq!(kept.current(at(19), unread, make).unwrap(), "b", "the interval begins anew");
        assert_eq!(kept.current(at(20), read("c"), refuse).unwrap(), "b");
        assert_eq!(kept.trouble().unwrap(), "tls::ca_file: is bad; the certificates read before stay in use");
        assert_eq!(kept.current(at(30), || Err(Error::new("ca_file", "is gone")), make).unwrap(), "b");
        assert!(kept.trouble().unwrap().contains("is gone"));
        // The same as what is in use: nothing is made, and nothing is wrong any more.
        assert_eq!(kept.current(at(40), read("b"), refuse).unwrap(), "b");
        assert_eq!(kept.trouble(), None);
    }

    #[test]
    fn without_an_interval_files_are_read_once_and_until_that_succeeds() {
        let now = Instant::now();
        let late = Renewed::new("exporter x: tls::", None, None, now);
        let material = || Ok(Material { authority: None, cert: None, key: None });
        let error = late.current(now, || Err(Error::new("ca_file", "is gone")), |_| Ok(1)).unwrap_err();
        assert_eq!(error, "exporter x: tls::ca_file: is gone");
        assert_eq!(late.current(now, material, |_| Ok(2)), Ok(2));
        let day = now + Duration::from_secs(86_400);
        assert_eq!(late.current(day, || panic!("read again"), |_| Ok(3)), Ok(2));
        assert_eq!(late.trouble(), None);
        assert!(!format!("{late:?}").is_empty());
    }
}
