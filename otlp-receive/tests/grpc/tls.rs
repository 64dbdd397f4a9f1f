//! TLS on both ports: ALPN, versions, client certificates, renewal, and peers that speak something else.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use otlp_core::component::{HealthState, Outlets, Receiver};
use otlp_core::testing::generate;
use otlp_core::{Clock, Signal};
use otlp_receive::tls::{Config as Tls, Version};
use otlp_receive::{Config, Env, OtlpReceiver, grpc, http};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http2::{hello, message};
use crate::raw::Raw;
use crate::server::{LONG, Server, eventually, post};

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// An authority and a directory for what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
    pem: String,
    dir: PathBuf,
}

/// What a client shows.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// What a client shows of somebody's.
type Show = fn(&Authority) -> Option<Shown>;

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Authority {
    fn new() -> Authority {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("otlp-receive-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Authority { pem: cert.pem(), cert: cert.der().clone(), issuer: Issuer::new(params, key), dir }
    }

    /// Signs a certificate for `name` and writes both files.
    fn write(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(self.dir.join("cert.pem"), cert.pem()).unwrap();
        fs::write(self.dir.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.dir.join("ca.pem"), &self.pem).unwrap();
    }

    fn shown(&self) -> Shown {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["client".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        Shown { chain: vec![cert.der().clone()], key: key.serialize_der() }
    }

    fn config(&self) -> Tls {
        self.write("localhost");
        let (cert_file, key_file) = (Some(self.dir.join("cert.pem")), Some(self.dir.join("key.pem")));
        Tls { cert_file, key_file, ..Tls::default() }
    }

    /// A handshake with whoever listens there.
    fn connect(
        &self,
        address: SocketAddr,
        alpn: &[&str],
        version: &'static rustls::SupportedProtocolVersion,
        shown: Option<Shown>,
    ) -> std::io::Result<TlsStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(Shown { chain, key }) => {
                builder.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key))).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    fn grpc(&self, address: SocketAddr) -> Raw {
        Raw::over(Box::new(self.connect(address, &["h2"], &rustls::version::TLS13, None).unwrap()), &[])
    }
}

fn data() -> Vec<u8> {
    message(0, &generate::request(Signal::Traces, 1, 2))
}

fn both(tls: &Tls) -> Config {
    Config {
        grpc: Some(grpc::Config { tls: Some(tls.clone()), ..grpc::Config::default() }),
        http: Some(http::Config { tls: Some(tls.clone()), ..http::Config::default() }),
        ..Config::default()
    }
}

fn exports(client: &mut Raw) -> bool {
    client.export(Signal::Traces, &[], &data()).code() == Some(0)
}

/// The answer to a request over HTTP/1.1.
fn http_status(mut stream: TlsStream) -> String {
    stream.write_all(&post(Signal::Traces, "", &data()[5..])).unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn both_protocols_on_either_port_whatever_the_client_asks_for() {
    let authority = Authority::new();
    let server = Server::with(both(&authority.config()), |_| {});
    for address in [server.grpc(), server.receiver.http_addr().unwrap()] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let connect = |alpn: &[&str]| authority.connect(address, alpn, version, None).unwrap();
            let preferred = connect(&["h2", "http/1.1"]).conn.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(preferred.as_deref() == Some(b"h2"), address == server.grpc(), "what the port is for");
            for alpn in [&["h2"][..], &[]] {
                let stream = connect(alpn);
                assert_eq!(stream.conn.alpn_protocol(), alpn.first().map(|_| &b"h2"[..]));
                assert!(exports(&mut Raw::over(Box::new(stream), &[])), "{alpn:?}");
                assert_eq!(server.batch().context().transport, "grpc");
            }
            for alpn in [&["http/1.1"][..], &[]] {
                assert_eq!(http_status(connect(alpn)), "HTTP/1.1 200 OK", "{alpn:?}");
                assert_eq!(server.batch().context().transport, "http");
            }
        }
    }
}

#[test]
fn large_messages_pass_through_tls() {
    let authority = Authority::new();
    let server = Server::with(both(&authority.config()), |_| {});
    let body = generate::request(Signal::Logs, 1, 2000);
    let body = body.repeat((4 << 20) / body.len());
    let mut client = authority.grpc(server.grpc());
    assert_eq!(client.export(Signal::Logs, &[], &message(0, &body)).code(), Some(0));
    assert!(server.batch().body()[..] == body[..]);
    let mut stream = authority.connect(server.grpc(), &["http/1.1"], &rustls::version::TLS13, None).unwrap();
    stream.write_all(&post(Signal::Logs, "", &body)).unwrap();
    assert!(server.batch().body()[..] == body[..]);
}

#[test]
fn clients_must_show_a_certificate_where_that_is_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut tls = authority.config();
    tls.client_ca_file = Some(authority.dir.join("ca.pem"));
    let server = Server::with(both(&tls), |_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let works = |shown| {
            let Ok(stream) = authority.connect(server.grpc(), &["h2"], version, shown) else { return false };
            let mut client = Raw::over_or_closed(Box::new(stream));
            // With TLS 1.3 the client learns of the refusal by its first read.
            client.try_send(&crate::http2::call(1, Signal::Traces.grpc_path(), &[], &data()));
            client.answer_or_close(1).is_some_and(|answer| answer.code() == Some(0))
        };
        assert!(works(Some(authority.shown())));
        assert!(!works(None), "none");
        assert!(!works(Some(stranger.shown())), "one of another authority");
    }
    server.batch();
    server.batch();
    assert!(server.is_empty());
}

#[test]
fn versions_are_kept_to() {
    let authority = Authority::new();
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (min_version, max_version, taken, refused) in
        [(Version::Tls13, None, tls13, tls12), (Version::Tls12, Some(Version::Tls12), tls12, tls13)]
    {
        let tls = Tls { min_version, max_version, ..authority.config() };
        let server = Server::with(both(&tls), |_| {});
        for address in [server.grpc(), server.receiver.http_addr().unwrap()] {
            assert!(authority.connect(address, &["h2", "http/1.1"], taken, None).is_ok());
            assert!(authority.connect(address, &["h2", "http/1.1"], refused, None).is_err());
        }
    }
}

#[test]
fn certificates_are_renewed_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let tls = Tls { reload_interval: Duration::from_secs(10), ..authority.config() };
    let clock = Clock::simulated();
    let server = Server::with(both(&tls), |env| env.clock = clock.clone());
    let shown = || {
        let stream = authority.connect(server.grpc(), &["h2"], &rustls::version::TLS13, None);
        stream.map(|stream| stream.conn.peer_certificates().unwrap()[0].to_vec())
    };
    let mut open = authority.grpc(server.grpc());
    assert!(exports(&mut open));
    let first = shown().unwrap();
    authority.write("localhost");
    assert_eq!(shown().unwrap(), first, "not before the interval");
    clock.advance(Duration::from_secs(10));
    let second = shown().unwrap();
    assert_ne!(second, first);
    assert!(exports(&mut open), "connections stay");
    // Half written, and a key that is of another certificate.
    let cert = fs::read(authority.dir.join("cert.pem")).unwrap();
    for bad in [&cert[..cert.len() / 2], b"", &cert] {
        if bad == cert {
            fs::write(authority.dir.join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        }
        fs::write(authority.dir.join("cert.pem"), bad).unwrap();
        clock.advance(Duration::from_secs(10));
        assert_eq!(shown().unwrap(), second, "the old one stays");
        let health = server.receiver.health();
        assert_eq!(health.state, HealthState::Unhealthy);
        assert!(health.message.starts_with("receivers.otlp.protocols.grpc.tls"), "{}", health.message);
        assert!(health.message.contains("stay in use") && !health.message.contains("PRIVATE"), "{}", health.message);
    }
    fs::remove_file(authority.dir.join("cert.pem")).unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(shown().unwrap(), second);
    authority.write("localhost");
    clock.advance(Duration::from_secs(10));
    assert_ne!(shown().unwrap(), second, "it goes on when they are mended");
    assert_eq!(server.receiver.health().state, HealthState::Ok);
}

#[test]
fn a_clients_certificate_that_is_its_own_authority_is_believed_where_it_is_named() {
    let authority = Authority::new();
    let alone = || {
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        (cert.pem(), move || Shown { chain: vec![cert.der().clone()], key: key.serialize_der() })
    };
    let ((pem, ours), (_, theirs)) = (alone(), alone());
    let path = authority.dir.join("alone.pem");
    fs::write(&path, pem).unwrap();
    let server = Server::with(both(&Tls { client_ca_file: Some(path), ..authority.config() }), |_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let works = |shown| {
            let Ok(stream) = authority.connect(server.grpc(), &["h2"], version, Some(shown)) else { return false };
            let mut client = Raw::over_or_closed(Box::new(stream));
            client.try_send(&crate::http2::call(1, Signal::Traces.grpc_path(), &[], &data()));
            client.answer_or_close(1).is_some_and(|answer| answer.code() == Some(0))
        };
        assert!(works(ours()) && !works(theirs()) && !works(authority.shown()));
    }
}

/// Whose certificates are asked for changes while it runs, on either port, by either key.
#[test]
fn the_authority_of_clients_is_renewed_and_a_bad_one_changes_nothing() {
    for by_its_own_key in [false, true] {
        let (authority, next) = (Authority::new(), Authority::new());
        let path = authority.dir.join("clients.pem");
        fs::write(&path, &authority.pem).unwrap();
        let (client_ca_file, interval) = (Some(path.clone()), Duration::from_secs(10));
        let tls = match by_its_own_key {
            true => Tls { client_ca_file, client_ca_file_reload: true, ..authority.config() },
            false => Tls { client_ca_file, reload_interval: interval, ..authority.config() },
        };
        let clock = Clock::simulated();
        let server = Server::with(both(&tls), |env| env.clock = clock.clone());
        let (grpc, http) = (server.grpc(), server.receiver.http_addr().unwrap());
        let connect = |address, alpn, shown| authority.connect(address, &[alpn], &rustls::version::TLS13, shown);
        let works = |shown: Show, whose: &Authority| {
            let called = connect(grpc, "h2", shown(whose)).is_ok_and(|stream| {
                let mut client = Raw::over_or_closed(Box::new(stream));
                client.try_send(&crate::http2::call(1, Signal::Traces.grpc_path(), &[], &data()));
                client.answer_or_close(1).is_some_and(|answer| answer.code() == Some(0))
            });
            let posted = connect(http, "http/1.1", shown(whose)).is_ok_and(|mut stream| {
                // With TLS 1.3 the client learns of the refusal by its first read.
                let _ = stream.write_all(&post(Signal::Traces, "", &data()[5..]));
                let mut answer = [0; 15];
                stream.read_exact(&mut answer).is_ok_and(|()| &answer == b"HTTP/1.1 200 OK")
            });
            assert_eq!(called, posted, "both ports do the same");
            called
        };
        let (with, without): (Show, Show) = (|whose| Some(whose.shown()), |_| None);
        let mut open = Raw::over(Box::new(connect(grpc, "h2", Some(authority.shown())).unwrap()), &[]);
        assert!(exports(&mut open) && works(with, &authority) && !works(with, &next) && !works(without, &next));
        fs::write(&path, &next.pem).unwrap();
        assert!(works(with, &authority) && !works(with, &next), "not before the interval");
        clock.advance(interval);
        assert!(works(with, &next) && !works(with, &authority) && !works(without, &next));
        assert!(exports(&mut open), "connections stay");
        for bad in ["", "no PEM", &next.pem[..next.pem.len() / 2]] {
            fs::write(&path, bad).unwrap();
            clock.advance(interval);
            assert!(
                works(with, &next) && !works(with, &authority) && !works(without, &next),
                "{bad:?} changes nothing"
            );
            let health = server.receiver.health();
            assert_eq!(health.state, HealthState::Unhealthy);
            assert!(health.message.contains("tls.client_ca_file") && health.message.contains("stay in use"));
        }
        fs::write(&path, &authority.pem).unwrap();
        clock.advance(interval);
        assert!(works(with, &authority) && !works(with, &next), "it goes on when it is mended");
        assert_eq!(server.receiver.health().state, HealthState::Ok);
        assert!(exports(&mut open));
    }
}

#[test]
fn what_is_no_tls_ends_and_nothing_is_taken_in_plain_text() {
    let authority = Authority::new();
    let server = Server::with(both(&authority.config()), |_| {});
    let ports = [server.grpc(), server.receiver.http_addr().unwrap()];
    let sent = [hello(&[]), post(Signal::Traces, "", &data()[5..]), vec![0xff; 100]];
    for (port, bytes) in ports.iter().flat_map(|port| sent.iter().map(move |bytes| (port, bytes))) {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 16, "an alert at most: {answer:?}");
    }
    assert!(server.is_empty());
    assert!(exports(&mut authority.grpc(server.grpc())));
}

#[test]
fn handshakes_that_do_not_end_are_ended() {
    let authority = Authority::new();
    let clock = Clock::simulated();
    let server = Server::with(both(&authority.config()), |env| env.clock = clock.clone());
    let mut stream = TcpStream::connect(server.grpc()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&[0x16, 3, 1]).unwrap();
    eventually("it is open", || server.metric("otlpd_receiver_connections", ("transport", "grpc")) == 1.0);
    clock.advance(Duration::from_secs(10));
    // Something else wakes the driver: it waits by the clock of the machine.
    let _other = TcpStream::connect(server.grpc()).unwrap();
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
}

#[test]
fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let authority = Authority::new();
    let good = authority.config();
    let missing = Some(authority.dir.join("missing.pem"));
    let other = Authority::new();
    let swapped = (good.key_file.clone(), good.cert_file.clone());
    let cases = [
        (Tls { cert_file: missing.clone(), ..good.clone() }, "tls.cert_file: cannot read "),
        (Tls { key_file: missing.clone(), ..good.clone() }, "tls.key_file: cannot read "),
        (Tls { client_ca_file: missing, ..good.clone() }, "tls.client_ca_file: cannot read "),
        (Tls { client_ca_file: good.key_file.clone(), ..good.clone() }, "tls.client_ca_file: "),
        (Tls { cert_file: swapped.0, key_file: swapped.1, ..good.clone() }, "tls.cert_file: has no certificate"),
        (Tls { key_file: other.config().key_file, ..good.clone() }, "tls.cert_file: is not the certificate of the key"),
        (Tls { key_file: None, ..good.clone() }, "tls: TLS configuration must include both certificate and key"),
        (Tls { cert_pem: Some("a".into()), ..good.clone() }, "tls.cert_file: is given together with cert_pem"),
        (Tls { cipher_suites: vec!["TLS_RSA_WITH_RC4_128_SHA".into()], ..good.clone() }, "tls.cipher_suites: "),
        (Tls { curve_preferences: vec!["P521".into()], ..good.clone() }, "tls.curve_preferences: \"P521\""),
        (
            Tls { min_version: Version::Tls13, max_version: Some(Version::Tls12), ..good.clone() },
            "tls.max_version: is below min_version",
        ),
    ];
    for (tls, expected) in cases {
        let mut receiver = OtlpReceiver::new("otlp", both(&tls), Env::default());
        let error = receiver.start(Outlets::default()).unwrap_err();
        assert_eq!(tls.check_files().unwrap_err().to_string(), error.message["receivers.otlp.protocols.grpc.".len()..]);
        let expected = format!("receivers.otlp.protocols.grpc.{expected}");
        assert!(error.message.starts_with(&expected), "{}", error.message);
        assert!(!format!("{tls:?}{}", error.message).contains("PRIVATE KEY"));
    }
}

#[test]
fn keys_and_certificates_may_stand_in_the_configuration() {
    let authority = Authority::new();
    let files = authority.config();
    let read = |file: &Option<PathBuf>| Some(fs::read_to_string(file.as_ref().unwrap()).unwrap());
    let tls = Tls {
        cert_pem: read(&files.cert_file),
        key_pem: read(&files.key_file),
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()],
        curve_preferences: vec!["P256".into()],
        ..Tls::default()
    };
    assert!(!format!("{tls:?}").contains("PRIVATE KEY"));
    let server = Server::with(both(&tls), |_| {});
    assert!(exports(&mut authority.grpc(server.grpc())));
    let stream = authority.connect(server.grpc(), &["h2"], &rustls::version::TLS12, None).unwrap();
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(format!("{suite:?}"), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
}

/// ring's, and counts the key exchanges that it takes part in.
#[derive(Debug)]
struct Counting(AtomicU32);

impl rustls::crypto::SupportedKxGroup for Counting {
    fn start(&self) -> Result<Box<dyn rustls::crypto::ActiveKeyExchange>, rustls::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        rustls::crypto::ring::kx_group::X25519.start()
    }

    fn name(&self) -> rustls::NamedGroup {
        rustls::NamedGroup::X25519
    }
}

#[test]
fn the_cryptography_is_the_hosts_where_it_passes_its_own() {
    let authority = Authority::new();
    let group: &'static Counting = Box::leak(Box::new(Counting(AtomicU32::new(0))));
    let provider = rustls::crypto::CryptoProvider { kx_groups: vec![group], ..default_provider() };
    let crypto_provider = Some(Arc::new(provider).into());
    let server = Server::with(both(&Tls { crypto_provider, ..authority.config() }), |_| {});
    for (count, address) in [server.grpc(), server.receiver.http_addr().unwrap()].into_iter().enumerate() {
        assert!(exports(&mut authority.grpc(address)));
        assert_eq!(group.0.load(Ordering::SeqCst) as usize, count + 1);
    }
}
