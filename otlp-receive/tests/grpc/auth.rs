//! Who may send.

use otlp_core::auth::{Secret, base64};
use otlp_core::testing::generate;
use otlp_core::{ByteSize, Clock, Signal};
use otlp_receive::Authenticator;
use otlp_receive::auth::{basic, bearer};
use otlp_receive::grpc::Config;
use otlp_receive::http;

use crate::http2::message;
use crate::raw::Raw;
use crate::server::{Client, Server, post};

#[test]
fn a_call_without_the_token_is_unauthenticated_and_its_message_is_not_read() {
    let config = bearer::Config { tokens: vec!["token".into()], ..bearer::Config::default() };
    let auth = Authenticator::bearer("bearertokenauth", &config, Clock::system()).unwrap();
    let server = Server::with(Config { auth: Some(auth), ..Config::default() }, |_| {});
    let mut client = Raw::connect(server.grpc());
    let data = message(0, &generate::request(Signal::Traces, 1, 2));
    let cases: [&[(&str, &str)]; 3] = [&[], &[("authorization", "Bearer wrong")], &[("authorization", "token")]];
    for fields in cases {
        let answer = client.export(Signal::Traces, fields, &data);
        assert_eq!((answer.code(), answer.field(":status")), (Some(16), Some("200")), "{fields:?}: {answer:?}");
        assert_eq!(answer.message(), "the credentials are missing or wrong");
        assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
    }
    let answer = client.export(Signal::Traces, &[("authorization", "bearer token")], &data);
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    server.batch();
    assert_eq!(server.metric("otlpd_receiver_failures", ("reason", "unauthorized")), 3.0);
    assert!(server.is_empty());
}

#[test]
fn the_name_of_the_user_goes_with_the_batch() {
    let config = basic::Config { inline: Secret::new("ann:secret"), file: None };
    let auth = Authenticator::basic("basicauth", &config, Clock::system()).unwrap();
    let server = Server::with(Config { auth: Some(auth), ..Config::default() }, |_| {});
    let mut client = Raw::connect(server.grpc());
    let credentials = format!("Basic {}", base64(b"ann:secret"));
    let data = message(0, &generate::request(Signal::Logs, 1, 2));
    let answer = client.export(Signal::Logs, &[("authorization", &credentials)], &data);
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    let batch = server.batch();
    assert_eq!((batch.context().auth("username"), batch.context().transport), (Some("ann"), "grpc"));
    assert!(batch.context().metadata.is_empty());
}

#[test]
fn the_other_protocol_is_no_way_around_a_ports_authenticator() {
    let config = bearer::Config { tokens: vec!["token".into()], ..bearer::Config::default() };
    let auth = Authenticator::bearer("bearertokenauth", &config, Clock::system()).unwrap();
    let body = generate::request(Signal::Traces, 1, 2);
    for (closed, open) in [(Some(auth.clone()), None), (None, Some(auth))] {
        let protocols = otlp_receive::Config {
            http: Some(http::Config { auth: open.clone(), endpoint: "127.0.0.1:0".into(), ..http::Config::default() }),
            ..otlp_receive::Config::from(Config { auth: closed.clone(), ..Config::default() })
        };
        let server = Server::with(protocols, |_| {});
        let (grpc, http) = (server.grpc(), server.receiver.http_addr().unwrap());
        for (address, auth) in [(grpc, &closed), (http, &open)] {
            let fields: [&[(&str, &str)]; 2] = [&[], &[("authorization", "Bearer token")]];
            for (fields, let_in) in fields.into_iter().zip([auth.is_none(), true]) {
                let code = Raw::connect(address).export(Signal::Traces, fields, &message(0, &body)).code();
                assert_eq!(code, Some(if let_in { 0 } else { 16 }), "gRPC, {fields:?}");
                let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let status = Client::connect(address).send(&post(Signal::Traces, &fields, &body)).answer().status;
                assert_eq!(status, if let_in { 200 } else { 401 }, "HTTP, {fields:?}");
            }
        }
    }
}
