//! Cryptography that gets no further than the first thing that a handshake asks of it, which it counts.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use otlp_export::client::{Builder, OtlpClient};
use otlp_export::tls;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock};
use rustls::crypto::{
    ActiveKeyExchange, CipherSuiteCommon, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SupportedKxGroup,
    WebPkiSupportedAlgorithms, hash, hmac,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{CipherSuite, ConnectionTrafficSecrets, Error, NamedGroup, SupportedCipherSuite, Tls13CipherSuite};

const LONG: Duration = Duration::from_secs(60);

static ASKED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn run(refusal: &str) {
    assert!(refusal.contains("crypto_provider"), "{refusal}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("https://{}", listener.local_addr().expect("it is bound"));
    let builder = || {
        let tls = tls::Config { insecure_skip_verify: true, ..tls::Config::default() };
        OtlpClient::builder().endpoint(&endpoint).direct().timeout(LONG).tls(tls)
    };

    uses_it(builder().crypto_provider(Arc::new(provider())), 1);
    provider().install_default().expect("there is no other");
    uses_it(builder(), 2);
    println!("the host's cryptography is used, where it is passed and where it is installed");
}

/// The handshake asks for a key exchange, and there the host's cryptography ends it.
fn uses_it(builder: Builder, times: u64) {
    let client = builder.build().expect("there is cryptography");
    let failure = client.send_trace("a").finish().into_result().expect_err("it cannot do anything");
    assert!(failure.message.contains("as far as it goes"), "{failure}");
    assert_eq!(ASKED.load(Ordering::SeqCst), times);
}

fn provider() -> CryptoProvider {
    static SUITE: Tls13CipherSuite = Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
            hash_provider: &Shape,
            confidentiality_limit: u64::MAX,
        },
        hkdf_provider: &Shape,
        aead_alg: &Shape,
        quic: None,
    };
    CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(&SUITE)],
        kx_groups: vec![&Shape],
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: &[], mapping: &[] },
        secure_random: &Shape,
        key_provider: &Shape,
    }
}

/// Has the shape of cryptography.
#[derive(Debug)]
struct Shape;

const NOT_REACHED: &str = "no handshake gets as far as this";

impl SupportedKxGroup for Shape {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        Err(Error::General("as far as it goes".into()))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl SecureRandom for Shape {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        bytes.fill(7);
        Ok(())
    }
}

impl KeyProvider for Shape {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        unreachable!("{NOT_REACHED}")
    }
}

impl hash::Hash for Shape {
    fn start(&self) -> Box<dyn hash::Context> {
        unreachable!("{NOT_REACHED}")
    }

    fn hash(&self, _: &[u8]) -> hash::Output {
        unreachable!("{NOT_REACHED}")
    }

    fn output_len(&self) -> usize {
        32
    }

    fn algorithm(&self) -> hash::HashAlgorithm {
        hash::HashAlgorithm::SHA256
    }
}

impl Hkdf for Shape {
    fn extract_from_zero_ikm(&self, _: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        unreachable!("{NOT_REACHED}")
    }

    fn extract_from_secret(&self, _: Option<&[u8]>, _: &[u8]) -> Box<dyn HkdfExpander> {
        unreachable!("{NOT_REACHED}")
    }

    fn expander_for_okm(&self, _: &OkmBlock) -> Box<dyn HkdfExpander> {
        unreachable!("{NOT_REACHED}")
    }

    fn hmac_sign(&self, _: &OkmBlock, _: &[u8]) -> hmac::Tag {
        unreachable!("{NOT_REACHED}")
    }
}

impl Tls13AeadAlgorithm for Shape {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        unreachable!("{NOT_REACHED}")
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        unreachable!("{NOT_REACHED}")
    }

    fn key_len(&self) -> usize {
        16
    }

    fn extract_keys(&self, _: AeadKey, _: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}
