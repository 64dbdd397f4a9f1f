//! Who may send.

use otlp_core::auth::{Secret, base64};
use otlp_core::testing::generate;
use otlp_core::{ByteSize, Clock, Signal};
use otlp_receive::Authenticator;
use otlp_receive::auth::{basic, bearer};
use otlp_receive::http::{Config, Cors};

use crate::server::{Server, post, request};

fn bearer() -> Option<Authenticator> {
    let config = bearer::Config { tokens: vec!["token".into()], ..bearer::Config::default() };
    Some(Authenticator::bearer("bearertokenauth", &config, Clock::system()).unwrap())
}

#[test]
fn without_a_token_nothing_is_read_and_nothing_reserved() {
    let server = Server::with(Config { auth: bearer(), ..Config::default() }, |_| {});
    let body = generate::request(Signal::Traces, 1, 2);
    for fields in
        ["", "authorization: Bearer wrong\r\n", "authorization: Bearer token\r\nAuthorization: Bearer token\r\n"]
    {
        // The answer comes before the body does.
        let mut client = server.connect();
        let whole = post(Signal::Traces, fields, &body);
        let answer = client.send(&whole[..whole.len() - body.len()]).answer();
        assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some("Bearer")), "{fields:?}");
        assert_eq!(answer.field("content-type"), Some("application/x-protobuf"));
        let status = answer.failure();
        assert_eq!((status.code, status.message.as_str()), (16, "the credentials are missing or wrong"));
        assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
        // The connection goes on.
        client.send(&body);
        assert_eq!(client.send(&post(Signal::Traces, "AUTHORIZATION: bearer token\r\n", &body)).answer().status, 200);
        assert_eq!(server.batch().body()[..], body[..]);
    }
    let answer =
        server.connect().send(&request("POST", "/v1/logs", "content-type: application/json\r\n", b"{}")).answer();
    assert_eq!((answer.status, answer.field("content-type")), (401, Some("application/json")));
    assert!(answer.json().contains("\"code\":16"), "{}", answer.json());
    assert_eq!(server.metric("otlpd_receiver_failures", ("reason", "unauthorized")), 4.0);
    assert!(server.is_empty());
}

#[test]
fn health_and_preflights_carry_no_credentials() {
    let cors = Cors { allowed_origins: vec!["http://a".into()], ..Cors::default() };
    let server = Server::with(Config { auth: bearer(), cors: Some(cors), ..Config::default() }, |_| {});
    let mut client = server.connect();
    assert_eq!(client.send(&request("GET", "/health", "", b"")).answer().status, 200);
    let fields = "origin: http://a\r\naccess-control-request-method: POST\r\n";
    assert_eq!(client.send(&request("OPTIONS", "/v1/traces", fields, b"")).answer().status, 204);
    assert_eq!(client.send(&request("GET", "/v1/traces", "", b"")).answer().status, 401);
}

#[test]
fn the_name_of_the_user_goes_with_the_batch() {
    let config = basic::Config { inline: Secret::new("ann:secret"), file: None };
    let auth = Authenticator::basic("basicauth", &config, Clock::system()).unwrap();
    for include_metadata in [false, true] {
        let server = Server::with(Config { auth: Some(auth.clone()), include_metadata, ..Config::default() }, |_| {});
        let body = generate::request(Signal::Traces, 1, 2);
        let mut client = server.connect();
        let credentials = |text: &[u8]| format!("authorization: Basic {}\r\n", base64(text));
        let answer = client.send(&post(Signal::Traces, &credentials(b"ann:wrong"), &body)).answer();
        assert_eq!(answer.field("www-authenticate"), Some("Basic realm=\"otlpd\", charset=\"UTF-8\""));
        assert_eq!(client.send(&post(Signal::Traces, &credentials(b"ann:secret"), &body)).answer().status, 200);
        let batch = server.batch();
        assert_eq!(batch.context().auth("username"), Some("ann"));
        assert_eq!(batch.context().metadata("authorization").count(), usize::from(include_metadata));
        assert_eq!((batch.context().transport, &*batch.context().receiver), ("http", "otlp"));
    }
}
