//! Credentials of `otlp_http` on the wire.

use std::path::PathBuf;

use otlp_core::codec::Coding;
use otlp_core::component::Exporter;
use otlp_core::telemetry::registry::Registry;
use otlp_core::{Batch, Clock, Deadline, Group, ItemCount, Outcome, Reason, Signal};
use otlp_export::auth::{Authenticator, Bearer};
use otlp_export::otlp_http::{Config, Headers, OtlpHttp};

use crate::server::{Do, Server, answer, ok};
use crate::support::{LONG, spans};

fn token_file(name: &str, token: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("otlp-export-{}-{name}", std::process::id()));
    std::fs::write(&path, token).unwrap();
    path
}

fn exporter(server: &Server, bearer: &Bearer) -> OtlpHttp {
    // Its clock stands still: what is read again is read because of the answer.
    let auth = Authenticator::bearer("bearertokenauth", bearer, Clock::simulated()).unwrap();
    let config = Config {
        endpoint: server.url(),
        compression: Coding::Identity,
        timeout: LONG,
        headers: Headers(vec![("authorization".into(), "configured".into())]),
        auth: Some(auth),
        ..Config::default()
    };
    OtlpHttp::new("otlp_http", &config, Signal::Traces, Clock::system(), &Registry::new()).unwrap()
}

fn export(exporter: &OtlpHttp) -> Outcome {
    exporter.export(&Group::of(Batch::trusted(Signal::Traces, ItemCount(3), spans(0, 3))), Deadline::NEVER)
}

#[test]
fn after_a_401_the_token_is_read_again_and_the_request_sent_once_more() {
    let refuse = || Do::Write(answer(401, "WWW-Authenticate: Bearer\r\n", b""));
    let server = Server::start([ok(), refuse(), ok(), refuse(), refuse(), refuse(), ok()]);
    let file = token_file("renewed", "one");
    let exporter = exporter(&server, &Bearer { filename: Some(file.clone()), ..Bearer::default() });
    let heard = || {
        let seen = server.seen.recv_timeout(LONG).unwrap();
        assert!(!seen.body.is_empty());
        seen.header("authorization").join(", ")
    };
    assert_eq!((export(&exporter), heard()), (Outcome::Delivered, "Bearer one".to_owned()));
    std::fs::write(&file, "two").unwrap();
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!((heard(), heard()), ("Bearer one".to_owned(), "Bearer two".to_owned()));
    // The same token is not tried again, and another one once.
    let failed = |outcome| matches!(outcome, Outcome::Failed(failure) if failure.reason == Reason::UNAUTHORIZED);
    assert!(failed(export(&exporter)));
    assert_eq!(heard(), "Bearer two");
    std::fs::write(&file, "three").unwrap();
    assert!(failed(export(&exporter)));
    assert_eq!((heard(), heard()), ("Bearer two".to_owned(), "Bearer three".to_owned()));
    assert_eq!((export(&exporter), heard()), (Outcome::Delivered, "Bearer three".to_owned()));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn credentials_do_not_follow_to_another_host() {
    let other = Server::start([]);
    // The same address by another name.
    let location = format!("Location: http://localhost:{}/x\r\n", other.address.port());
    let server = Server::start([Do::Write(answer(307, &location, b""))]);
    let bearer =
        Bearer { header: "X-Api-Key".into(), scheme: String::new(), token: "hush".into(), ..Bearer::default() };
    assert_eq!(export(&exporter(&server, &bearer)), Outcome::Delivered);
    assert_eq!(server.seen.recv_timeout(LONG).unwrap().header("x-api-key"), ["hush"]);
    let followed = other.seen.recv_timeout(LONG).unwrap();
    assert!(followed.header("x-api-key").is_empty() && followed.header("authorization").is_empty(), "{followed:?}");
}
