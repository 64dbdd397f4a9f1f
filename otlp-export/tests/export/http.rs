//! `otlp_http` against a server that misbehaves on demand: the rows XH and RH of the conformance checklist.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::batch::Encoded;
use otlp_core::codec::Coding;
use otlp_core::component::{Exporter, HealthState};
use otlp_core::outcome::Retry;
use otlp_core::status::{PartialSuccess, Status, encode_response};
use otlp_core::telemetry::registry::{Registry, SampleValue};
use otlp_core::testing::verify;
use otlp_core::{AckMode, Batch, Clock, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};
use otlp_export::otlp_http::{Config, Headers, OtlpHttp};
use otlp_export::{Destination, Settings, retry};

use crate::server::{Do, Seen, Server, answer, ok};
use crate::support::{LONG, Pipeline, names, spans};

fn config(server: &Server) -> Config {
    Config { endpoint: server.url(), compression: Coding::Identity, timeout: LONG, ..Config::default() }
}

fn exporter(config: &Config) -> OtlpHttp {
    OtlpHttp::new("otlp_http", config, Signal::Traces, Clock::system(), &Registry::new()).unwrap()
}

fn group(first: u64, items: u64) -> Group {
    Group::of(Batch::trusted(Signal::Traces, ItemCount(items), spans(first, items)))
}

fn export(exporter: &OtlpHttp) -> Outcome {
    exporter.export(&group(0, 3), Deadline::NEVER)
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn inflate(coding: Coding, body: &[u8]) -> Vec<u8> {
    otlp_core::codec::decode(coding, body, otlp_core::ByteSize::mib(1), &mut |_| Ok(())).unwrap()
}

fn seen(server: &Server) -> Seen {
    server.seen.recv_timeout(LONG).unwrap()
}

#[test]
fn requests_are_as_the_specification_has_them() {
    let server = Server::start([]);
    let headers = Headers(vec![("X-Tenant".into(), "a".into()), ("content-length".into(), "7".into())]);
    for signal in Signal::ALL {
        let config =
            Config { headers: headers.clone(), endpoint: format!("{}/base/", server.url()), ..config(&server) };
        let exporter = OtlpHttp::new("x", &config, signal, Clock::system(), &Registry::new()).unwrap();
        let group = Group::of(Batch::trusted(signal, ItemCount(3), spans(0, 3)));
        assert_eq!(exporter.export(&group, Deadline::NEVER), Outcome::Delivered);
        let request = seen(&server);
        assert_eq!(request.line, format!("POST /base{} HTTP/1.1", signal.http_path()));
        assert_eq!(request.header("host"), [server.address.to_string()]);
        assert_eq!(request.header("content-type"), ["application/x-protobuf"]);
        assert_eq!(request.header("content-encoding"), [""; 0]);
        assert_eq!(request.header("content-length"), [request.body.len().to_string()]);
        assert_eq!(request.header("user-agent"), [concat!("otlpd/", env!("CARGO_PKG_VERSION"))]);
        assert_eq!(request.header("x-tenant"), ["a"]);
        assert_eq!(request.body, spans(0, 3));
    }
    let own =
        Config { traces_endpoint: format!("{}/mine?x=1", server.url()), user_agent: "me".into(), ..config(&server) };
    export(&exporter(&Config { headers: Headers(vec![("Host".into(), "other".into())]), ..own }));
    let request = seen(&server);
    assert_eq!((request.line.as_str(), request.header("host")), ("POST /mine?x=1 HTTP/1.1", vec!["other"]));
    assert_eq!(request.header("user-agent"), ["me"]);
}

#[test]
fn bodies_are_compressed_and_what_came_compressed_leaves_as_it_came() {
    let server = Server::start([]);
    for coding in Coding::ALL {
        let exporter = exporter(&Config { compression: coding, ..config(&server) });
        let mut two = group(0, 2);
        two.append(group(2, 1));
        assert_eq!(exporter.export(&two, Deadline::NEVER), Outcome::Delivered);
        let request = seen(&server);
        let encoding = request.header("content-encoding");
        let wire = if coding == Coding::Deflate { Coding::Zlib } else { coding };
        let body = if coding == Coding::Identity {
            assert!(encoding.is_empty());
            request.body.clone()
        } else {
            assert_eq!(encoding, [coding.as_str()]);
            inflate(wire, &request.body)
        };
        assert_eq!(names(&body), ["span-0", "span-1", "span-2"], "{coding}");
    }
    // Bytes that no compressor makes, so that they can only be the original.
    let original = Bytes::from_static(b"original bytes");
    let encoded = Encoded { coding: Coding::Gzip, body: original.clone() };
    let batch = || Batch::trusted(Signal::Traces, ItemCount(3), spans(0, 3)).with_encoded(encoded.clone());
    let exporter = exporter(&Config { compression: Coding::Gzip, ..config(&server) });
    exporter.export(&Group::of(batch()), Deadline::NEVER);
    assert_eq!(seen(&server).body, original);
    let mut two = Group::of(batch());
    two.push(batch());
    exporter.export(&two, Deadline::NEVER);
    assert_ne!(seen(&server).body, original);
    exporter.export(&Group::of(batch().with_body(spans(0, 3))), Deadline::NEVER);
    assert_ne!(seen(&server).body, original, "changed bytes must not leave in their old form");
}

#[test]
fn connections_are_kept_and_counted() {
    let server = Server::start([]);
    let registry = Registry::new();
    let make = |config: &Config| OtlpHttp::new("x", config, Signal::Traces, Clock::system(), &registry).unwrap();
    let kept = make(&config(&server));
    for _ in 0..5 {
        export(&kept);
        assert_eq!(seen(&server).connection, 0);
    }
    let number = |name: &str| {
        let sample = registry.samples().into_iter().find(|sample| sample.name == name).unwrap();
        let SampleValue::Number(number) = sample.value else { panic!("{sample:?}") };
        number
    };
    assert_eq!(number("otlpd_exporter_connections_opened"), 1.0);
    assert_eq!(number("otlpd_exporter_connections_reused"), 4.0);
    assert_eq!(number("otlpd_exporter_bytes"), 5.0 * spans(0, 3).len() as f64);
    let single = make(&Config { disable_keep_alives: true, ..config(&server) });
    for expected in 1..3 {
        export(&single);
        let request = seen(&server);
        assert_eq!((request.connection, request.header("connection")), (expected, vec!["close"]));
    }
    let expired = make(&Config { idle_conn_timeout: Duration::from_nanos(1), ..config(&server) });
    for expected in 3..5 {
        export(&expired);
        assert_eq!(seen(&server).connection, expected);
    }
}

#[test]
fn answers_of_every_framing_are_understood() {
    let mut partial = Vec::new();
    encode_response(Some(&PartialSuccess { rejected: ItemCount(1), message: "one".into() }), &mut partial);
    let some = Outcome::Partial { rejected: ItemCount(1), message: "one".into() };
    let chunked = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        format!("{:x}\r\n", partial.len()).into_bytes(),
        partial.clone(),
        b"\r\n0\r\n\r\n".to_vec(),
    ]
    .concat();
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let closed =
        [b"HTTP/1.0 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n".to_vec(), partial.clone()].concat();
    for (step, expected, reused) in [
        (Do::Write(answer(200, protobuf, &partial)), some.clone(), true),
        (Do::Write(chunked), some.clone(), true),
        (Do::WriteAndClose(closed), some, false),
        (Do::Write(answer(202, "", b"")), Outcome::Delivered, true),
        (Do::Write(answer(200, "Content-Type: text/plain\r\n", b"fine")), Outcome::Delivered, true),
        (Do::Write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec()), Outcome::Delivered, true),
        (Do::Write(answer(200, "Connection: close\r\n", b"")), Outcome::Delivered, false),
    ] {
        let server = Server::start([step.clone()]);
        let exporter = exporter(&config(&server));
        assert_eq!(export(&exporter), expected, "{step:?}");
        assert_eq!(export(&exporter), Outcome::Delivered);
        assert_eq!(seen(&server).connection, 0);
        assert_eq!(seen(&server).connection == 0, reused, "{step:?}");
    }
}

#[test]
fn endless_and_senseless_answers_are_bounded_and_not_tried_again() {
    let endless = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 67108864\r\n\r\n".to_vec(),
        vec![b'x'; 4 << 20],
    ]
    .concat();
    let head = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    for bytes in
        [endless, head, b"HTTP/1.1 2x0 OK\r\n\r\n".to_vec(), b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec()]
    {
        let server = Server::start([Do::Write(bytes)]);
        let exporter = exporter(&config(&server));
        let failure = failure(export(&exporter));
        assert_eq!((failure.reason, failure.retry), (Reason::BAD_ANSWER, Retry::Never), "{failure}");
        assert_eq!(export(&exporter), Outcome::Delivered);
        assert_eq!((seen(&server).connection, seen(&server).connection), (0, 1));
    }
}

/// Nobody who understood it has answered, so that a batch is not given up for it.
#[test]
fn what_speaks_another_protocol_is_no_answer() {
    let alert = b"\x15\x03\x01\x00\x02\x02\x46".to_vec();
    for bytes in [b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), alert] {
        let server = Server::start([Do::WriteAndClose(bytes)]);
        let exporter = exporter(&config(&server));
        let failure = failure(export(&exporter));
        assert_eq!(failure.reason, Reason::CONNECTION, "{failure}");
        assert!(failure.retry != Retry::Never && failure.to_string().contains("https://"), "{failure}");
        assert_eq!(export(&exporter), Outcome::Delivered);
    }
}

#[test]
fn failures_say_what_to_do() {
    let mut body = Vec::new();
    Status { code: 3, message: "no ids".into(), ..Status::default() }.encode(&mut body);
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    for (step, reason, retry, text) in [
        (
            Do::Write(answer(400, protobuf, &body)),
            Reason::PERMANENT,
            Retry::Never,
            "HTTP Status Code 400, Message=no ids",
        ),
        (Do::Write(answer(401, "", b"")), Reason::UNAUTHORIZED, Retry::Never, "401"),
        (Do::Write(answer(413, "", b"")), Reason::TOO_LARGE, Retry::Never, "413"),
        (Do::Write(answer(500, "", b"")), Reason::PERMANENT, Retry::Never, "500"),
        (
            Do::Write(answer(503, "Retry-After: 3\r\n", b"")),
            Reason::UNAVAILABLE,
            Retry::After(Duration::from_secs(3)),
            "503",
        ),
        (Do::Write(answer(429, "", b"")), Reason::UNAVAILABLE, Retry::Backoff, "429"),
        (Do::Write(answer(301, "Location: /x\r\n", b"")), Reason::PERMANENT, Retry::Never, "301"),
        (Do::Close, Reason::CONNECTION, Retry::Backoff, "without an answer"),
        (Do::WriteAndClose(b"HTTP/1.1 20".to_vec()), Reason::CONNECTION, Retry::Backoff, "within the answer"),
    ] {
        let server = Server::start([step.clone()]);
        let failure = failure(export(&exporter(&config(&server))));
        assert_eq!((failure.reason, failure.retry), (reason, retry), "{step:?}: {failure}");
        assert!(failure.message.contains(text), "{failure}");
    }
    // Nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let config = Config { endpoint: format!("http://{free}"), ..Config::default() };
    let failure = failure(export(&exporter(&config)));
    assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true));
    assert!(failure.message.contains(&format!("cannot connect to {free}")), "{failure}");
}

#[test]
fn an_answer_before_the_body_was_read_is_heard() {
    let server = Server::start([Do::Early(answer(413, "Connection: close\r\n", b""))]);
    let big = Group::of(Batch::trusted(Signal::Traces, ItemCount(100_000), spans(0, 100_000)));
    let failure = failure(exporter(&config(&server)).export(&big, Deadline::NEVER));
    // The kernel may throw the answer away with the unread body; then it is a broken connection.
    assert!([Reason::TOO_LARGE, Reason::CONNECTION].contains(&failure.reason), "{failure}");
}

#[test]
fn a_server_that_never_answers_is_given_up_at_the_timeout() {
    let server = Server::start([Do::Stall, Do::Stall]);
    let short = exporter(&Config { timeout: Duration::from_millis(30), ..config(&server) });
    let first = failure(export(&short));
    assert_eq!((first.reason, first.is_retryable()), (Reason::TIMEOUT, true), "{first}");
    let by_deadline = exporter(&Config { timeout: Duration::ZERO, ..config(&server) });
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(30));
    assert_eq!(failure(by_deadline.export(&group(0, 1), deadline)).reason, Reason::TIMEOUT);
    let passed = Deadline::at(Instant::now());
    assert_eq!(failure(by_deadline.export(&group(0, 1), passed)).reason, Reason::TIMEOUT);
}

#[test]
fn a_kept_connection_that_the_server_closed_costs_nothing() {
    // The server closes after its answer without saying so; the client finds out with the next request.
    let server = Server::start([Do::WriteAndClose(answer(200, "", b"")), ok(), Do::Close, ok()]);
    let exporter = exporter(&config(&server));
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!(export(&exporter), Outcome::Delivered);
    // Closed on receipt: sent once more over a new connection, since the old one had been kept.
    assert_eq!(export(&exporter), Outcome::Delivered);
    let connections: Vec<usize> = (0..4).map(|_| seen(&server).connection).collect();
    assert_eq!(connections, [0, 1, 1, 2]);
}

#[test]
fn redirects_keep_the_method_and_not_the_secrets() {
    let second = Server::start([]);
    let location = format!("Location: http://localhost:{}/there\r\n", second.address.port());
    let first = Server::start([
        Do::Write(answer(307, &location, b"")),
        Do::Write(answer(308, "Location: /again\r\n", b"")),
        ok(),
    ]);
    let headers = Headers(vec![("Authorization".into(), "secret".into()), ("X-A".into(), "b".into())]);
    let exporter = exporter(&Config { headers, ..config(&first) });
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!(seen(&first).header("authorization"), ["secret"]);
    let request = seen(&second);
    assert_eq!((request.line.as_str(), request.header("x-a")), ("POST /there HTTP/1.1", vec!["b"]));
    assert!(request.header("authorization").is_empty());
    assert_eq!(request.body, spans(0, 3));
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!(seen(&first).line, "POST /v1/traces HTTP/1.1");
    let again = seen(&first);
    assert_eq!((again.line.as_str(), again.header("authorization")), ("POST /again HTTP/1.1", vec!["secret"]));
    let circle = Server::start(vec![Do::Write(answer(307, "Location: /x\r\n", b"")); 20]);
    assert_eq!(failure(export(&self::exporter(&config(&circle)))).retry, Retry::Never);
}

#[test]
fn a_proxy_gets_the_whole_url() {
    let proxy = Server::start([]);
    let config = Config {
        endpoint: "http://backend.invalid:4318".into(),
        proxy_url: format!("http://user:pass@{}", proxy.address),
        ..config(&proxy)
    };
    assert_eq!(export(&exporter(&config)), Outcome::Delivered);
    let request = seen(&proxy);
    assert_eq!(request.line, "POST http://backend.invalid:4318/v1/traces HTTP/1.1");
    assert_eq!(request.header("host"), ["backend.invalid:4318"]);
    assert_eq!(request.header("proxy-authorization"), ["Basic dXNlcjpwYXNz"]);
    let config = Config { endpoint: "https://backend.invalid:4318".into(), ..config };
    let proxy = Server::start([Do::WriteAndClose(answer(403, "", b""))]);
    let config = Config { proxy_url: proxy.url(), ..config };
    let refused = failure(export(&exporter(&config)));
    assert!(refused.is_retryable(), "{refused}");
    if !refused.message.contains("no certificates") {
        assert_eq!(seen(&proxy).line, "CONNECT backend.invalid:4318 HTTP/1.1");
    }
}

#[test]
fn https_to_a_server_without_tls_is_a_broken_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Write;
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let config = Config { endpoint: format!("https://{address}"), ..Config::default() };
    let failure = failure(export(&exporter(&config)));
    assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true), "{failure}");
}

#[test]
fn shutdown_breaks_what_is_open_at_the_deadline() {
    let server = Server::start([Do::Stall]);
    let exporter = Arc::new(exporter(&config(&server)));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| export(&exporter));
        seen(&server);
        exporter.shutdown(Deadline::after(Instant::now(), Duration::from_millis(20)));
        assert_eq!(failure(waiting.join().unwrap()).reason, Reason::CONNECTION);
    });
    assert_eq!(failure(export(&exporter)).reason, Reason::SHUTDOWN);
    exporter.shutdown(Deadline::NEVER);
}

#[test]
fn a_destination_retries_halves_and_keeps_its_books_over_sockets() {
    let unavailable = || Do::Write(answer(503, "", b""));
    let too_large = || Do::Write(answer(413, "", b""));
    let server =
        Server::start([unavailable(), Do::Close, ok(), too_large(), ok(), ok(), Do::Write(answer(400, "", b"")), ok()]);
    let exporter = Arc::new(exporter(&Config { compression: Coding::Gzip, ..config(&server) }));
    let retry = retry::Config { initial_interval: Duration::ZERO, ..retry::Config::default() };
    let destination = Destination::new(Settings { retry, ..Settings::new("a", Signal::Traces, exporter) });
    let pipeline = Pipeline::new([destination]);
    for (first, delivered) in [(0, true), (10, true), (20, false), (30, true)] {
        let heard = pipeline.send(AckMode::Exported, first, 4);
        assert_eq!(heard.recv_timeout(LONG).unwrap().is_delivered(), delivered, "{first}");
    }
    pipeline.shutdown(Deadline::after(Instant::now(), LONG));
    let column = &pipeline.closed_page().destinations[0];
    assert_eq!((column.exported, column.rejected_for(Reason::PERMANENT)), (ItemCount(12), ItemCount(4)));
    let bodies: Vec<Vec<String>> = std::iter::from_fn(|| server.seen.try_recv().ok())
        .map(|request| names(&inflate(Coding::Gzip, &request.body)))
        .collect();
    let firsts: Vec<(String, usize)> = bodies.iter().map(|names| (names[0].clone(), names.len())).collect();
    let expected = [
        ("span-0", 4),
        ("span-0", 4),
        ("span-0", 4),
        ("span-10", 4),
        ("span-10", 2),
        ("span-12", 2),
        ("span-20", 4),
        ("span-30", 4),
    ];
    assert_eq!(firsts, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn configurations_are_checked_and_secrets_do_not_show() {
    let base = || Config { endpoint: "http://h".into(), ..Config::default() };
    assert_eq!(base().check(), Ok(()));
    for (key, wrong) in [
        ("endpoint", Config::default()),
        ("endpoint", Config { endpoint: "localhost:4318".into(), ..base() }),
        ("logs_endpoint", Config { logs_endpoint: "h".into(), ..base() }),
        ("proxy_url", Config { proxy_url: "socks5://h".into(), ..base() }),
        ("compression_params::level", Config { compression_level: 10, ..base() }),
        ("headers", Config { headers: Headers(vec![("a b".into(), "c".into())]), ..base() }),
        ("headers", Config { headers: Headers(vec![("a".into(), "b\r\nc".into())]), ..base() }),
        (
            "retry_on_failure::multiplier",
            Config { retry_on_failure: retry::Config { multiplier: -1.0, ..Default::default() }, ..base() },
        ),
        (
            "sending_queue::queue_size",
            Config { sending_queue: otlp_export::queue::Config { queue_size: 0, ..Default::default() }, ..base() },
        ),
    ] {
        assert_eq!(wrong.check().unwrap_err().key, key);
    }
    let queue = otlp_export::queue::Config { storage: Some("disk".into()), ..otlp_export::queue::Config::default() };
    let stored = Config { sending_queue: queue, ..base() };
    assert!(OtlpHttp::new("x", &stored, Signal::Logs, Clock::system(), &Registry::new()).is_err());
    let secret = Config { headers: Headers(vec![("api-key".into(), "hush".into())]), ..base() };
    let shown = format!("{secret:?}");
    assert!(shown.contains("[REDACTED]") && !shown.contains("hush"), "{shown}");
    let only_logs = Config { logs_endpoint: "http://h".into(), ..Config::default() };
    assert_eq!(only_logs.url(Signal::Traces).unwrap_err().key, "traces_endpoint");
    assert_eq!(only_logs.url(Signal::Logs).unwrap(), "http://h");
}

#[test]
fn the_contract_of_exporters_is_kept() {
    let server = Server::start([]);
    let total = std::cell::Cell::new(ItemCount::ZERO);
    let arrived = || {
        let spans = server.seen.try_iter().map(|request| names(&request.body).len() as u64).sum();
        total.set(total.get() + ItemCount(spans));
        Some(total.get())
    };
    verify::exporter(Signal::Traces, || exporter(&config(&server)), arrived);
}

#[test]
fn unix_sockets_are_reached_and_nothing_leads_from_http_to_one() {
    let folder = std::env::temp_dir().join(format!("otlp-export-http-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("http.sock");
    let _ = std::fs::remove_file(&path);
    let server = Server::unix(&path);
    let base = Config { compression: Coding::Identity, timeout: LONG, ..Config::default() };
    let (endpoint, own) = (format!("unix://{}", path.display()), format!("unix:{}:/own?x=y", path.display()));
    for (config, line) in [
        (Config { endpoint: endpoint.clone(), ..base.clone() }, "POST /v1/traces HTTP/1.1"),
        (Config { endpoint: format!("{endpoint}:/base"), ..base.clone() }, "POST /base/v1/traces HTTP/1.1"),
        (Config { traces_endpoint: own, ..base.clone() }, "POST /own?x=y HTTP/1.1"),
        // A proxy is for what goes over the network.
        (
            Config { endpoint: endpoint.clone(), proxy_url: "http://127.0.0.1:1".into(), ..base.clone() },
            "POST /v1/traces HTTP/1.1",
        ),
    ] {
        let exporter = exporter(&config);
        let mut connections = Vec::new();
        for _ in 0..2 {
            assert_eq!(export(&exporter), Outcome::Delivered);
            let seen = seen(&server);
            assert_eq!((seen.line.as_str(), seen.header("host")), (line, vec!["localhost"]));
            assert_eq!(names(&seen.body).len(), 3);
            connections.push(seen.connection);
        }
        assert_eq!(connections[0], connections[1], "it is kept");
        exporter.shutdown(Deadline::NEVER);
        assert_eq!(exporter.health().state, HealthState::Stopped);
    }
    let away = format!("Location: unix://{}:/v1/traces\r\n", path.display());
    let elsewhere = Server::start([Do::Write(answer(307, &away, b""))]);
    assert!(!failure(export(&exporter(&config(&elsewhere)))).is_retryable());
    assert!(server.seen.try_recv().is_err());
    std::fs::remove_dir_all(&folder).unwrap();
    let missing = Config { endpoint, ..base };
    let failure = failure(export(&exporter(&missing)));
    assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true));
    assert!(failure.message.contains("http.sock"), "{failure}");
}
