//! Paths, methods, content types, success.

use otlp_core::component::Outlets;
use otlp_core::testing::generate;
use otlp_core::wire::writer::put_delimited;
use otlp_core::{ItemCount, Signal};
use otlp_receive::http::{Config, Cors};

use crate::server::{Server, post, request};

const PB: &str = "Content-Type: application/x-protobuf\r\n";

#[test]
fn every_signal_is_taken_whole_net_02_http_01_02_03_06() {
    let server = Server::start();
    let mut client = server.connect();
    for signal in Signal::ALL {
        let body = generate::request(signal, 7, 20);
        let answer = client.send(&post(signal, "", &body)).answer();
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/x-protobuf")));
        assert_eq!(answer.body, b"", "partial_success is not set");
        assert!(answer.field("date").is_some());
        let batch = server.batch();
        assert_eq!((batch.signal(), batch.items(), batch.body()), (signal, ItemCount(20), &body));
        assert_eq!((batch.context().transport, &*batch.context().receiver), ("http", "otlp"));
        assert_eq!(batch.context().peer, Some(client.stream.local_addr().unwrap()));
    }
    let label = ("receiver", "otlp");
    for name in ["spans", "metric_points", "log_records"] {
        assert_eq!(server.metric(&format!("otelcol_receiver_accepted_{name}"), label), 20.0);
    }
    assert_eq!(server.metric("otlpd_receiver_requests", ("outcome", "success")), 3.0);
    assert_eq!(server.metric("otlpd_receiver_connections", label), 1.0);
}

#[test]
fn requests_without_items_succeed_and_go_nowhere_http_08_09() {
    let server = Server::start();
    let mut client = server.connect();
    let mut envelopes = Vec::new();
    put_delimited(&mut envelopes, 1, &[]);
    for body in [&[][..], &envelopes] {
        assert_eq!(client.send(&post(Signal::Traces, "", body)).answer().status, 200);
    }
    assert!(server.is_empty());
}

#[test]
fn other_paths_are_not_found_http_10_19_22_err_11() {
    let server = Server::start();
    let mut client = server.connect();
    for path in ["/", "/v1", "/v1/traces/", "/V1/TRACES", "/v1development/profiles", "/v1/traces/../logs", "*"] {
        let answer = client.send(&request("POST", path, PB, b"")).answer();
        assert_eq!((answer.status, answer.failure().code), (404, 12), "{path}");
        let json = client.send(&request("POST", path, "Content-Type: application/json\r\n", b"{}")).answer();
        assert_eq!(json.status, 404);
        assert!(json.json().contains("\"code\":12"));
    }
    assert!(server.is_empty());
}

#[test]
fn a_signal_without_a_pipeline_is_not_found() {
    let (_sender, batches) = std::sync::mpsc::channel();
    let server = Server::with_outlets(Config::default(), |_| {}, Outlets::default(), batches);
    let answer = server.connect().send(&post(Signal::Traces, "", b"")).answer();
    assert_eq!(answer.status, 404);
}

#[test]
fn other_methods_are_not_allowed_http_11_12_23() {
    let server = Server::start();
    let mut client = server.connect();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "post"] {
        client.send(&request(method, "/v1/traces", PB, b""));
        let answer = client.answer_to(method).unwrap();
        assert_eq!((answer.status, answer.field("allow")), (405, Some("POST")), "{method}");
        if method != "HEAD" {
            assert_eq!(answer.failure().code, 2);
        }
        assert!(answer.field("access-control-allow-origin").is_none());
    }
    // In sync after the HEAD.
    assert_eq!(client.send(&post(Signal::Traces, "", b"")).answer().status, 200);
}

#[test]
fn other_content_types_are_not_taken_http_13_14_err_12() {
    let server = Server::start();
    let mut client = server.connect();
    let body = generate::request(Signal::Traces, 1, 1);
    for content_type in ["text/plain", "application/xml", "application/grpc", ""] {
        let field = if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        let answer = client.send(&request("POST", "/v1/traces", &field, &body)).answer();
        assert_eq!(answer.status, 415, "{content_type}");
        answer.json();
    }
    assert!(server.is_empty());
}

#[test]
fn media_types_field_names_and_queries_are_read_as_http_has_them_http_15_16_17_18() {
    let server = Server::start();
    let mut client = server.connect();
    let body = generate::request(Signal::Traces, 1, 1);
    for field in [
        "Content-Type: application/x-protobuf; x=y\r\n",
        "cOnTeNt-TyPe:APPLICATION/X-PROTOBUF\r\n",
        "Content-Type: \t application/x-protobuf \t \r\n",
        "Content-Type: application/x-protobuf\r\nAccept: application/json\r\n",
    ] {
        let answer = client.send(&request("POST", "/v1/traces?x=1", field, &body)).answer();
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/x-protobuf")), "{field}");
        assert_eq!(answer.field("content-encoding"), None);
        server.batch();
    }
}

#[test]
fn configured_paths_replace_the_defaults_http_24() {
    let config = Config { traces_url_path: "in/spans".into(), ..Config::default() };
    let server = Server::with(config, |_| {});
    let mut client = server.connect();
    let body = generate::request(Signal::Traces, 1, 1);
    assert_eq!(client.send(&request("POST", "/in/spans", PB, &body)).answer().status, 200);
    assert_eq!(client.send(&request("POST", "/v1/traces", PB, &body)).answer().status, 404);
}

#[test]
fn a_message_of_another_signal_is_no_server_error_http_26() {
    let server = Server::start();
    for (seed, signal) in [Signal::Metrics, Signal::Logs].into_iter().enumerate() {
        let body = generate::request(signal, seed as u64, 5);
        let status = server.connect().send(&post(Signal::Traces, "", &body)).answer().status;
        assert!([200, 400].contains(&status), "{status}");
    }
    server.connect();
}

#[test]
fn metadata_comes_with_the_batch_where_it_was_asked_for() {
    let body = generate::request(Signal::Logs, 1, 1);
    for include_metadata in [false, true] {
        let server = Server::with(Config { include_metadata, ..Config::default() }, |_| {});
        server.connect().send(&post(Signal::Logs, "X-Tenant: one\r\nx-tenant: two\r\n", &body)).answer();
        let context = server.batch().context().clone();
        let expected: &[&str] = if include_metadata { &["one", "two"] } else { &[] };
        assert_eq!(context.metadata("X-TENANT").collect::<Vec<_>>(), expected);
    }
}

#[test]
fn configured_fields_stand_in_every_answer() {
    let response_headers = vec![("X-Served-By".into(), "otlpd".into())];
    let server = Server::with(Config { response_headers, ..Config::default() }, |_| {});
    let mut client = server.connect();
    for path in ["/v1/traces", "/nowhere"] {
        let answer = client.send(&request("POST", path, PB, b"")).answer();
        assert_eq!(answer.field("x-served-by"), Some("otlpd"));
    }
}

#[test]
fn browsers_of_allowed_origins_may_post_http_21() {
    let cors = Cors { allowed_origins: vec!["https://*.example".into()], ..Cors::default() };
    let server = Server::with(Config { cors: Some(cors), ..Config::default() }, |_| {});
    let mut client = server.connect();
    for (origin, expected) in [("https://a.example", Some("https://a.example")), ("https://b.test", None)] {
        let fields = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        let preflight = client.send(&request("OPTIONS", "/v1/traces", &fields, b"")).answer();
        assert_eq!((preflight.status, preflight.field("access-control-allow-origin")), (204, expected));
        let posted = client.send(&post(Signal::Traces, &format!("Origin: {origin}\r\n"), b"")).answer();
        assert_eq!((posted.status, posted.field("access-control-allow-origin")), (200, expected));
        assert_eq!(posted.field("vary"), Some("origin"));
    }
}

#[test]
fn health_is_told_without_a_body() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let well = Arc::new(AtomicBool::new(true));
    let server = Server::with(Config::default(), |env| {
        let well = Arc::clone(&well);
        env.healthy = Arc::new(move || well.load(Ordering::SeqCst));
    });
    let mut client = server.connect();
    for (state, status) in [(true, 200), (false, 503), (true, 200)] {
        well.store(state, Ordering::SeqCst);
        let answer = client.send(&request("GET", "/health", "", b"")).answer();
        assert_eq!((answer.status, answer.body.len()), (status, 0));
    }
    assert_eq!(server.metric("otlpd_receiver_requests", ("receiver", "otlp")), 0.0, "not counted as requests");
}
