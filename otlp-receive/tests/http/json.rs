//! OTLP/JSON: taken as protobuf is, answered in JSON.

use otlp_core::codec::Coding;
use otlp_core::testing::generate;
use otlp_core::{Signal, codec, json};

use crate::server::{Server, post, request};

const JSON: &str = "Content-Type: application/json\r\n";

fn document(signal: Signal, body: &[u8]) -> Vec<u8> {
    let mut document = Vec::new();
    json::encode(signal, body, &mut document);
    document
}

#[test]
fn json_and_protobuf_come_over_one_connection_net_03_http_04_05_07() {
    let server = Server::start();
    let mut client = server.connect();
    for signal in Signal::ALL {
        let body = generate::request(signal, 3, 12);
        assert_eq!(client.send(&post(signal, "", &body)).answer().body, b"");
        let sent = server.batch();
        let fields = "Content-Type: Application/JSON; charset=utf-8\r\nAccept: application/x-protobuf\r\n";
        let answer = client.send(&request("POST", signal.http_path(), fields, &document(signal, &body))).answer();
        assert_eq!(
            (answer.status, answer.field("content-type"), &answer.body[..]),
            (200, Some("application/json"), &b"{}"[..])
        );
        let batch = server.batch();
        assert_eq!((batch.signal(), batch.items(), batch.body()), (signal, sent.items(), sent.body()));
        assert!(batch.encoded().is_none());
    }
}

#[test]
fn compressed_json_is_inflated_and_not_kept_enc_02() {
    let server = Server::start();
    let mut client = server.connect();
    let body = generate::request(Signal::Logs, 3, 12);
    let mut gzip = Vec::new();
    codec::encode(Coding::Gzip, None, &[&document(Signal::Logs, &body)], &mut gzip).unwrap();
    let fields = format!("{JSON}Content-Encoding: gzip\r\n");
    let answer = client.send(&request("POST", "/v1/logs", &fields, &gzip)).answer();
    assert_eq!(
        (answer.status, answer.field("content-type"), &answer.body[..]),
        (200, Some("application/json"), &b"{}"[..])
    );
    let batch = server.batch();
    assert_eq!(batch.body(), &body);
    assert!(batch.encoded().is_none(), "what comes compressed is another encoding");
    let answer = client.send(&request("POST", "/v1/logs", &fields, &gzip[..gzip.len() - 9])).answer();
    assert_eq!(answer.status, 400, "ERR-04");
    assert!(answer.json().starts_with("{\"code\":3,\"message\":"), "{}", answer.json());
    assert!(server.is_empty());
}

#[test]
fn bad_json_is_told_where_it_is_wrong_err_02_04_10_13_15() {
    let server = Server::start();
    let mut client = server.connect();
    let protobuf = generate::request(Signal::Traces, 1, 1);
    for (body, told) in [
        (&b"{\"resourceSpans\":["[..], "resourceSpans"),
        (b"", ""),
        (b"[]", ""),
        (b"{} x", ""),
        (b"{\"resourceSpans\":\"x\"}", "resourceSpans"),
        (
            b"{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"name\":{}}]}]}]}",
            "resourceSpans[0].scopeSpans[0].spans[0].name",
        ),
        (
            b"{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"xyz\"}]}]}]}",
            "traceId: expected 32 hex digits",
        ),
        (&protobuf, ""),
    ] {
        let answer = client.send(&request("POST", "/v1/traces", JSON, body)).answer();
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(body));
        let status = otlp_core::status::Status::from_json(answer.json().as_bytes()).unwrap();
        assert_eq!((status.code, status.violations.len()), (3, 1));
        assert!(status.message.contains(told), "{told} is not in {}", status.message);
        assert_eq!(
            client.send(&request("POST", "/v1/traces", JSON, b"{}")).answer().status,
            200,
            "the connection lives"
        );
    }
    assert!(server.is_empty());
}

#[test]
fn nested_json_is_bounded_lim_10() {
    let server = Server::start();
    let mut client = server.connect();
    for (open, close) in [("{\"x\":", "}"), ("[", "]")] {
        let body = format!("{{\"unknown\":{}1{}}}", open.repeat(20_000), close.repeat(20_000));
        let answer = client.send(&request("POST", "/v1/traces", JSON, body.as_bytes())).answer();
        assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
        answer.json();
    }
    assert_eq!(client.send(&request("POST", "/v1/traces", JSON, b"{}")).answer().status, 200);
}
