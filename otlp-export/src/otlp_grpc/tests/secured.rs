//! TLS: whom we trust, who we are, by what name, and certificates that change.

use std::time::Duration;

use otlp_core::component::{Exporter, HealthState};
use otlp_core::{Clock, Outcome, Reason, Signal};

use super::server::{Options, Server};
use super::{Config, LONG, OtlpGrpc, Registry, ThreadOptions, export, exporter, failure, seen};
use crate::tls;
use crate::tls::authority::{Authority, BOTH, Identity, among_those_of_the_system, file};

/// A server that shows `identity`, asks for a certificate of `clients` where that is given, and speaks `versions`.
fn server(
    identity: &Identity,
    clients: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Server {
    let config = identity.server(clients, versions, &[b"h2"]);
    Server::with(Options { tls: Some(config), ..Options::default() }, [])
}

fn config(server: &Server, tls: tls::Config) -> Config {
    Config { endpoint: format!("localhost:{}", server.address.port()), tls, timeout: LONG, ..Config::default() }
}

fn trusting(authority: &Authority) -> tls::Config {
    tls::Config { ca_pem: Some(authority.pem.clone()), ..tls::Config::default() }
}

#[test]
fn a_server_is_believed_by_its_authority_and_its_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server(&ours.issue("localhost"), None, BOTH);
    let delivered = |tls: tls::Config| {
        let outcome = export(&exporter(&config(&server, tls)));
        match &outcome {
            Outcome::Delivered => assert_eq!(seen(&server).head.uri.scheme_str(), Some("https")),
            _ => {
                let failure = failure(outcome.clone());
                assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true), "{failure}");
                assert!(server.seen.try_recv().is_err(), "nothing was sent");
                let remedy = ["name who does in ca_file", "server_name_override says which"];
                assert!(remedy.iter().any(|remedy| failure.message.contains(remedy)), "{failure}");
            }
        }
        outcome.is_delivered()
    };
    let both = format!("{}{}", theirs.pem, ours.pem);
    let skip = tls::Config { insecure_skip_verify: true, ..tls::Config::default() };
    let named =
        |authority: &Authority, name: &str| tls::Config { server_name_override: name.into(), ..trusting(authority) };
    for (what, tls, expected) in [
        ("authority", trusting(&ours), true),
        ("one of two", tls::Config { ca_pem: Some(both), ..tls::Config::default() }, true),
        ("insecure with an authority", tls::Config { insecure: true, ..trusting(&ours) }, true),
        ("from a file", tls::Config { ca_file: Some(file("ca.pem", &ours.pem)), ..tls::Config::default() }, true),
        ("another authority", trusting(&theirs), false),
        ("another name", named(&ours, "elsewhere"), false),
        ("its name", named(&ours, "localhost"), true),
        ("anybody", skip.clone(), true),
        ("anybody by any name", tls::Config { server_name_override: "elsewhere".into(), ..skip }, true),
        ("too old for us", tls::Config { min_version: tls::Version::Tls13, ..trusting(&ours) }, true),
        (
            "one suite",
            tls::Config {
                cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()],
                max_version: Some(tls::Version::Tls12),
                curve_preferences: vec!["P256".into()],
                ..trusting(&ours)
            },
            true,
        ),
    ] {
        assert_eq!(delivered(tls), expected, "{what}");
    }
}

#[test]
fn the_name_in_place_of_the_endpoints_is_also_the_authority() {
    let authority = Authority::new();
    let server = server(&authority.issue("elsewhere"), None, BOTH);
    let tls = tls::Config { server_name_override: "elsewhere".into(), ..trusting(&authority) };
    assert_eq!(export(&exporter(&config(&server, tls.clone()))), Outcome::Delivered);
    assert_eq!(seen(&server).head.uri.authority().unwrap().as_str(), "elsewhere");
    let chosen = Config { authority: "tenant:1".into(), ..config(&server, tls) };
    assert_eq!(export(&exporter(&chosen)), Outcome::Delivered);
    assert_eq!(seen(&server).head.uri.authority().unwrap().as_str(), "tenant:1");
}

#[test]
fn the_systems_authorities_are_trusted_where_there_are_none_and_beside_others_where_that_is_asked_for() {
    let test = "otlp_grpc::tests::secured::the_systems_authorities_are_trusted_where_there_are_none_and_beside_others_where_that_is_asked_for";
    let mut running = None;
    let Some(address) = among_those_of_the_system(test, |authority| {
        running.insert(server(&authority.issue("localhost"), None, BOTH)).address
    }) else {
        return;
    };
    let other = trusting(&Authority::new());
    for (tls, taken) in [
        (tls::Config::default(), true),
        (other.clone(), false),
        (tls::Config { include_system_ca_certs_pool: true, ..other }, true),
    ] {
        let endpoint = format!("localhost:{}", address.port());
        let outcome = export(&exporter(&Config { endpoint, tls, timeout: LONG, ..Config::default() }));
        assert_eq!(outcome.is_delivered(), taken, "{outcome:?}");
    }
}

#[test]
fn versions_are_kept_to() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    for (speaks, min, max, expected) in [
        (BOTH, tls::Version::Tls12, None, true),
        (&BOTH[..1], tls::Version::Tls12, None, true),
        (&BOTH[..1], tls::Version::Tls13, None, false),
        (&BOTH[1..], tls::Version::Tls13, None, true),
        (&BOTH[1..], tls::Version::Tls12, Some(tls::Version::Tls12), false),
    ] {
        let server = server(&identity, None, speaks);
        let tls = tls::Config { min_version: min, max_version: max, ..trusting(&authority) };
        let outcome = export(&exporter(&config(&server, tls)));
        assert_eq!(outcome.is_delivered(), expected, "{min:?} {max:?}");
    }
}

#[test]
fn a_server_that_asks_who_we_are_hears_it() {
    let authority = Authority::new();
    let server = server(&authority.issue("localhost"), Some(&authority), BOTH);
    let (ours, strangers) = (authority.issue("client"), Authority::new().issue("client"));
    let with = |identity: &Identity| tls::Config {
        cert_pem: Some(identity.cert.clone()),
        key_pem: Some(identity.key.clone()),
        ..trusting(&authority)
    };
    assert_eq!(export(&exporter(&config(&server, with(&ours)))), Outcome::Delivered);
    for tls in [trusting(&authority), with(&strangers)] {
        let shows_none = tls.cert_pem.is_none();
        let failure = failure(export(&exporter(&config(&server, tls))));
        // Where the system has not thrown away the alert because we were still writing.
        if shows_none && failure.message.contains("certificate") {
            assert!(failure.message.contains("set cert_file and key_file"), "{failure}");
        }
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true), "{failure}");
    }
}

#[test]
fn through_a_proxy_the_handshake_is_with_the_server() {
    let authority = Authority::new();
    let server = server(&authority.issue("collector.invalid"), None, BOTH);
    let (address, asked) = super::proxy(server.address, "HTTP/1.1 200 OK\r\n\r\n");
    let config = Config { endpoint: "collector.invalid:4317".into(), ..config(&server, trusting(&authority)) };
    let environment = [("HTTPS_PROXY", format!("http://{address}"))];
    let exporter = super::exporter_in(&config, Signal::Traces, &Registry::new(), &environment).unwrap();
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!(seen(&server).head.uri.scheme_str(), Some("https"));
    assert!(asked.recv_timeout(LONG).unwrap().starts_with("CONNECT collector.invalid:4317 "));
}

#[test]
fn what_asks_for_tls_never_goes_out_in_plain_text() {
    let plain = Server::start([]);
    let insecure = tls::Config { insecure: true, ..tls::Config::default() };
    let port = plain.address.port();
    let authority = Authority::new();
    for (endpoint, tls) in [
        (format!("https://127.0.0.1:{port}"), tls::Config { insecure_skip_verify: true, ..insecure.clone() }),
        (format!("http://127.0.0.1:{port}"), trusting(&authority)),
        (format!("127.0.0.1:{port}"), tls::Config { insecure: true, ..trusting(&authority) }),
    ] {
        let config = Config { endpoint, tls, timeout: Duration::from_millis(300), ..Config::default() };
        let failure = failure(export(&exporter(&config)));
        assert!(failure.is_retryable(), "{failure}");
        assert!(failure.message.contains("what answers there does not speak TLS"), "{failure}");
        assert!(plain.seen.try_recv().is_err());
    }
    let config = Config { endpoint: format!("http://127.0.0.1:{port}"), tls: insecure, ..Config::default() };
    assert_eq!(export(&exporter(&config)), Outcome::Delivered);
    // And the other way round.
    let secured = server(&authority.issue("localhost"), None, BOTH);
    let failure = failure(export(&exporter(&Config { endpoint: secured.address.to_string(), ..config })));
    assert!(failure.is_retryable() && failure.message.contains("may speak TLS"), "{failure}");
}

#[test]
fn a_handshake_that_does_not_end_ends_at_the_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("localhost:{}", silent.local_addr().unwrap().port());
    let tls = trusting(&Authority::new());
    let exporter = exporter(&Config { endpoint, tls, timeout: Duration::from_millis(50), ..Config::default() });
    for _ in 0..2 {
        let failure = failure(export(&exporter));
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::TIMEOUT, true), "{failure}");
    }
}

#[test]
fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (one, two) = (authority.issue("client"), other.issue("client"));
    let server = Server::start([]);
    let own = |cert: &str, key: &str| tls::Config {
        cert_pem: Some(cert.into()),
        key_pem: Some(key.into()),
        ..trusting(&authority)
    };
    for (tls, key) in [
        (tls::Config { ca_file: Some("/nonexistent/ca.pem".into()), ..Default::default() }, "tls::ca_file"),
        (tls::Config { ca_pem: Some("no PEM".into()), ..Default::default() }, "tls::ca_file"),
        (own("", &one.key), "tls::cert_file"),
        (own(&one.cert, "hush"), "tls::key_file"),
        (own(&one.cert, &two.key), "tls::cert_file"),
    ] {
        let config = config(&server, tls);
        let made =
            OtlpGrpc::new("x", &config, Signal::Logs, ThreadOptions::default(), Clock::system(), &Registry::new());
        let error = made.unwrap_err();
        assert_eq!(error.key, key, "{error}");
        assert!(!error.to_string().contains("hush"));
    }
}

#[test]
fn certificates_that_change_are_read_again_and_bad_ones_are_not_used() {
    let (old, new) = (Authority::new(), Authority::new());
    let one = server(&old.issue("localhost"), Some(&old), BOTH);
    let two = server(&new.issue("localhost"), Some(&new), BOTH);
    let write = |authority: &Authority, pem: Option<&str>| {
        let identity = authority.issue("client");
        file("reload-ca.pem", pem.unwrap_or(&authority.pem));
        file("reload-cert.pem", &identity.cert);
        file("reload-key.pem", &identity.key);
    };
    write(&old, None);
    let path = |name: &str| Some(file("reload-folder", "").with_file_name(name));
    let tls = tls::Config {
        ca_file: path("reload-ca.pem"),
        cert_file: path("reload-cert.pem"),
        key_file: path("reload-key.pem"),
        reload_interval: Duration::from_nanos(1),
        ..tls::Config::default()
    };
    let exporter = exporter(&Config { endpoint: "several:1".into(), ..config(&one, tls) });
    exporter.plan.names.remember("several", 1, vec![one.address]);
    // The certificate is for localhost.
    assert!(!export(&exporter).is_delivered());
    let named = |server: &Server, tls: &tls::Config| {
        super::exporter(&config(server, tls::Config { server_name_override: "localhost".into(), ..tls.clone() }))
    };
    let tls = tls::Config {
        ca_file: path("reload-ca.pem"),
        cert_file: path("reload-cert.pem"),
        key_file: path("reload-key.pem"),
        reload_interval: Duration::from_nanos(1),
        ..tls::Config::default()
    };
    let exporter = named(&one, &tls);
    assert_eq!(export(&exporter), Outcome::Delivered);
    let connection = seen(&one).connection;
    // What is open stays open, whatever the files say by now.
    write(&new, None);
    assert_eq!((export(&exporter), seen(&one).connection), (Outcome::Delivered, connection));
    write(&old, None);
    // Half of what is there is written: the old ones stay in use, and it shows.
    write(&new, Some("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"));
    exporter.plan.names.remember("localhost", one.address.port(), vec![two.address]);
    assert!(!export(&exporter).is_delivered(), "the old authority does not know the new server");
    assert_eq!(exporter.health().state, HealthState::Unhealthy);
    assert!(exporter.health().message.contains("ca_file"), "{:?}", exporter.health());
    exporter.plan.names.remember("localhost", one.address.port(), vec![one.address]);
    super::insist(&exporter);
    // All of it is there.
    write(&new, None);
    exporter.plan.names.remember("localhost", one.address.port(), vec![two.address]);
    super::insist(&exporter);
    assert_eq!(exporter.health().state, HealthState::Ok);
    assert!(two.seen.try_iter().count() > 0);
}
