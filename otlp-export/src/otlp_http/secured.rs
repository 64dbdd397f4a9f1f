//! TLS as the exporter uses it: whom it trusts, who it is, files that change, and nothing in plain text.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use otlp_core::component::{Exporter, HealthState};
use otlp_core::testing::verify;
use otlp_core::{Batch, Clock, Deadline, Group, ItemCount, Outcome, Reason, Signal};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Config, OtlpHttp, Registry};
use crate::tls;
use crate::tls::authority::{Authority, BOTH, Identity, alone, among_those_of_the_system, file};

const LONG: Duration = Duration::from_secs(60);

/// Answers every request with what it was told to, over TLS.
struct Server {
    address: SocketAddr,
    /// Over which connection a request came, from 0.
    seen: Receiver<usize>,
    /// Whether connections end with their next answer.
    closes: Arc<AtomicBool>,
}

impl Server {
    fn start(config: Arc<ServerConfig>, answer: &'static str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        let closes = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&closes);
        // Threads end with their connections, or with the test's process.
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = StreamOwned::new(connection, socket.unwrap());
                let (sender, closing) = (sender.clone(), Arc::clone(&closing));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    while request(&mut stream).is_some() {
                        let closes = closing.load(Ordering::SeqCst);
                        let connection = if closes { "Connection: close\r\n" } else { "" };
                        let _ = sender.send(number);
                        let text = format!("{answer}{connection}Content-Length: 0\r\n\r\n");
                        if stream.write_all(text.as_bytes()).is_err() || closes {
                            stream.conn.send_close_notify();
                            let _ = stream.flush();
                            break;
                        }
                    }
                });
            }
        });
        Server { address, seen, closes }
    }

    fn seen(&self) -> usize {
        self.seen.recv_timeout(LONG).unwrap()
    }
}

/// Reads one request to its end.
fn request(stream: &mut impl Read) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).ok()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n";

fn exporter(address: SocketAddr, tls: tls::Config) -> OtlpHttp {
    let endpoint = format!("https://localhost:{}", address.port());
    let config = Config { endpoint, tls, timeout: LONG, ..Config::default() };
    OtlpHttp::new("otlp_http", &config, Signal::Traces, Clock::system(), &Registry::new()).unwrap()
}

fn trusting(authority: &Authority) -> tls::Config {
    tls::Config { ca_pem: Some(authority.pem.clone()), ..tls::Config::default() }
}

fn export(exporter: &OtlpHttp) -> Outcome {
    let group = Group::of(Batch::trusted(Signal::Traces, ItemCount(3), verify::request(Signal::Traces, 3, 0)));
    exporter.export(&group, Deadline::NEVER)
}

#[test]
fn a_server_is_believed_by_its_authority_and_its_name_in_versions_and_suites_that_are_wanted() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let start = |name: &str, versions| Server::start(ours.issue(name).server(None, versions, &[]), OK);
    let (server, elsewhere) = (start("localhost", BOTH), start("elsewhere", BOTH));
    let (old, new) = (start("localhost", &BOTH[..1]), start("localhost", &BOTH[1..]));
    let skip = tls::Config { insecure_skip_verify: true, ..tls::Config::default() };
    let named = tls::Config { server_name_override: "elsewhere".into(), ..trusting(&ours) };
    let modern = tls::Config { min_version: tls::Version::Tls13, ..trusting(&ours) };
    let max_version = Some(tls::Version::Tls12);
    let one_suite = tls::Config {
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()],
        curve_preferences: vec!["P256".into()],
        max_version,
        ..trusting(&ours)
    };
    let of_rsa = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()];
    for (what, to, tls, taken) in [
        ("authority", &server, trusting(&ours), true),
        (
            "from a file",
            &server,
            tls::Config { ca_file: Some(file("http-own-ca.pem", &ours.pem)), ..Default::default() },
            true,
        ),
        ("another authority", &server, trusting(&theirs), false),
        ("another name", &elsewhere, trusting(&ours), false),
        ("its name", &elsewhere, named.clone(), true),
        ("not its name", &server, named, false),
        ("anybody", &server, skip.clone(), true),
        ("anybody by any name", &elsewhere, skip, true),
        ("1.3 of both", &server, modern.clone(), true),
        ("1.3 of one that has it alone", &new, modern.clone(), true),
        ("1.3 of one that has it not", &old, modern, false),
        ("1.2 of one that has it alone", &old, trusting(&ours), true),
        ("1.2 of one that has it not", &new, tls::Config { max_version, ..trusting(&ours) }, false),
        ("one suite", &server, one_suite.clone(), true),
        ("a suite of other certificates", &server, tls::Config { cipher_suites: of_rsa, ..one_suite }, false),
    ] {
        let outcome = export(&exporter(to.address, tls));
        assert_eq!(outcome.is_delivered(), taken, "{what}: {outcome:?}");
        assert_eq!(to.seen.try_recv().is_ok(), taken, "{what}");
        let said = format!("{outcome:?}");
        match what {
            "another authority" => assert!(said.contains("name who does in ca_file"), "{said}"),
            "another name" => assert!(said.contains("server_name_override says which"), "{said}"),
            _ => {}
        }
    }
}

#[test]
fn the_systems_authorities_are_trusted_where_there_are_none_and_beside_others_where_that_is_asked_for() {
    let test = "otlp_http::secured::the_systems_authorities_are_trusted_where_there_are_none_and_beside_others_where_that_is_asked_for";
    let start = |authority: &Authority| Server::start(authority.issue("localhost").server(None, BOTH, &[]), OK).address;
    let Some(address) = among_those_of_the_system(test, start) else { return };
    let other = trusting(&Authority::new());
    for (tls, taken) in [
        (tls::Config::default(), true),
        (other.clone(), false),
        (tls::Config { include_system_ca_certs_pool: true, ..other }, true),
    ] {
        let outcome = export(&exporter(address, tls));
        assert_eq!(outcome.is_delivered(), taken, "{outcome:?}");
    }
}

#[test]
fn a_certificate_that_is_its_own_authority_is_believed_where_it_is_named() {
    let (ours, theirs) = (alone("localhost", 3000), alone("localhost", 3000));
    let trusting = |identity: &Identity| tls::Config { ca_pem: Some(identity.cert.clone()), ..tls::Config::default() };
    for (shown, tls, taken) in [
        (&ours, trusting(&ours), true),
        (&ours, tls::Config { max_version: Some(tls::Version::Tls12), ..trusting(&ours) }, true),
        (&ours, trusting(&theirs), false),
        (&ours, tls::Config { server_name_override: "elsewhere".into(), ..trusting(&ours) }, false),
        (&alone("elsewhere", 3000), trusting(&alone("elsewhere", 3000)), false),
    ] {
        let server = Server::start(shown.server(None, BOTH, &[]), OK);
        assert_eq!(export(&exporter(server.address, tls)).is_delivered(), taken);
    }
    let old = alone("localhost", 2000);
    let server = Server::start(old.server(None, BOTH, &[]), OK);
    assert!(!export(&exporter(server.address, trusting(&old))).is_delivered(), "its time is over");
}

#[test]
fn a_server_that_asks_who_we_are_hears_it() {
    let authority = Authority::new();
    let server = Server::start(authority.issue("localhost").server(Some(&authority), BOTH, &[]), OK);
    let (ours, strangers) = (authority.issue("client"), Authority::new().issue("client"));
    let with = |identity: &Identity| tls::Config {
        cert_pem: Some(identity.cert.clone()),
        key_pem: Some(identity.key.clone()),
        ..trusting(&authority)
    };
    assert_eq!(export(&exporter(server.address, with(&ours))), Outcome::Delivered);
    server.seen();
    for tls in [trusting(&authority), with(&strangers)] {
        let Outcome::Failed(failure) = export(&exporter(server.address, tls)) else { panic!("it was taken") };
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true), "{failure}");
        assert!(server.seen.try_recv().is_err());
    }
}

#[test]
fn certificates_that_change_are_read_again_without_a_connection_less_and_bad_ones_are_not_used() {
    let (old, new) = (Authority::new(), Authority::new());
    let one = Server::start(old.issue("localhost").server(Some(&old), BOTH, &[]), OK);
    let two = Server::start(new.issue("localhost").server(Some(&new), BOTH, &[]), OK);
    let write = |authority: &Authority, ca: &str| {
        let identity = authority.issue("client");
        let ca = file("http-ca.pem", ca);
        (Some(ca), Some(file("http-cert.pem", &identity.cert)), Some(file("http-key.pem", &identity.key)))
    };
    let (ca_file, cert_file, key_file) = write(&old, &old.pem);
    let reload_interval = Duration::from_nanos(1);
    let exporter =
        exporter(one.address, tls::Config { ca_file, cert_file, key_file, reload_interval, ..tls::Config::default() });
    let now_at =
        |server: &Server| exporter.keeping.names.remember("localhost", one.address.port(), vec![server.address]);
    now_at(&one);
    assert_eq!((export(&exporter), one.seen()), (Outcome::Delivered, 0));
    // What is open stays open, whatever the files say by now.
    write(&new, &new.pem);
    assert_eq!((export(&exporter), one.seen()), (Outcome::Delivered, 0));
    one.closes.store(true, Ordering::SeqCst);
    assert_eq!((export(&exporter), one.seen()), (Outcome::Delivered, 0));
    // The next handshake is with the new ones: with the old ones neither side would believe the other.
    now_at(&two);
    two.closes.store(true, Ordering::SeqCst);
    assert_eq!((export(&exporter), two.seen()), (Outcome::Delivered, 0));
    assert_eq!(exporter.health().state, HealthState::Ok);
    // Half of what is there is written.
    write(&old, "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n");
    assert_eq!((export(&exporter), two.seen()), (Outcome::Delivered, 1), "those read before stay in use");
    let health = exporter.health();
    assert_eq!(health.state, HealthState::Unhealthy);
    assert!(health.message.contains("exporter otlp_http: tls::ca_file"), "{}", health.message);
    assert!(health.message.contains("stay in use") && !health.message.contains("PRIVATE"), "{}", health.message);
    write(&new, &new.pem);
    assert_eq!((export(&exporter), two.seen()), (Outcome::Delivered, 2));
    assert_eq!(exporter.health().state, HealthState::Ok);
}

#[test]
fn a_handshake_that_does_not_end_ends_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let exporter = exporter(silent.local_addr().unwrap(), trusting(&Authority::new()));
    let group = Group::of(Batch::trusted(Signal::Traces, ItemCount(3), verify::request(Signal::Traces, 3, 0)));
    for _ in 0..2 {
        let deadline = Deadline::after(std::time::Instant::now(), Duration::from_millis(50));
        let Outcome::Failed(failure) = exporter.export(&group, deadline) else { panic!("it was taken") };
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::TIMEOUT, true), "{failure}");
    }
}

#[test]
fn https_never_goes_out_in_plain_text() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, first_bytes) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes): (TcpStream, _) = (stream.unwrap(), vec![0; 3]);
            let read = stream.read_exact(&mut bytes).map(|()| bytes);
            sender.send(read.unwrap_or_default()).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let insecure = tls::Config { insecure: true, insecure_skip_verify: true, ..tls::Config::default() };
    let Outcome::Failed(failure) = export(&exporter(address, insecure.clone())) else { panic!("it was taken") };
    assert!(failure.is_retryable(), "{failure}");
    assert_eq!(first_bytes.recv_timeout(LONG).unwrap()[..2], [22, 3], "a handshake of TLS");
    // Nor because a server says that it should.
    let location: &'static str = format!("HTTP/1.1 307 X\r\nLocation: http://{address}/v1/traces\r\n").leak();
    let server = Server::start(Authority::new().issue("localhost").server(None, BOTH, &[]), location);
    let Outcome::Failed(failure) = export(&exporter(server.address, insecure)) else { panic!("it was taken") };
    assert!(!failure.is_retryable(), "{failure}");
    server.seen();
    assert!(first_bytes.try_recv().is_err());
}
