//! What is refused and what is rejected, and with which words.

use std::time::Duration;

use otlp_core::codec::{Coding, encode};
use otlp_core::component::{Outlet, Outlets, Refused};
use otlp_core::flow::{MemoryBudget, RateLimit, RateUnit};
use otlp_core::status::Status;
use otlp_core::testing::generate;
use otlp_core::wire::writer::{put_delimited, put_varint, varint_len};
use otlp_core::{Batch, ByteSize, Clock, Code, Failure, Outcome, Reason, Signal};
use otlp_receive::grpc::Config;

use crate::http2::{self, Answer, END_HEADERS, END_STREAM, HEADERS, block, fields, message};
use crate::raw::Raw;
use crate::server::Server;

fn data() -> Vec<u8> {
    message(0, &generate::request(Signal::Traces, 1, 2))
}

fn small() -> Config {
    Config { max_recv_msg_size_mib: 1, ..Config::default() }
}

/// An error of gRPC: `Trailers-Only`, with a message.
fn assert_error(answer: &Answer, code: i32, what: &str) {
    assert_eq!((answer.code(), answer.field(":status")), (Some(code), Some("200")), "{what}: {answer:?}");
    assert!(answer.data.is_empty() && !answer.message().is_empty(), "{what}");
    assert_eq!(answer.field("content-type"), Some("application/grpc"), "{what}");
    if let Some(details) = answer.details() {
        let status = Status::decode(&details).unwrap();
        assert_eq!((status.code, status.message), (code, answer.message()), "the details say the same");
    }
}

#[test]
fn unknown_codings_are_unimplemented_and_name_those_taken_grpc_09() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    for coding in ["br", "deflate", "lz4", "x-snappy-framed", "gzip, gzip"] {
        let answer = client.export(Signal::Traces, &[("grpc-encoding", coding)], &message(1, b"a"));
        assert_error(&answer, 12, coding);
        assert_eq!(answer.field("grpc-accept-encoding"), Some("gzip, zstd, snappy, identity"));
    }
    assert!(server.is_empty());
}

#[test]
fn what_is_no_message_is_an_error_grpc_10_18_19_20_21_41() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    let whole = data();
    let mut corrupt = Vec::new();
    encode(Coding::Gzip, None, &[&whole[5..]], &mut corrupt).unwrap();
    let at = corrupt.len() - 6;
    corrupt[at] ^= 1;
    for (what, encoding, data, code) in [
        ("compressed without a coding", "identity", message(1, b"abc"), 13),
        ("a flag of 2", "gzip", message(2, b"abc"), 13),
        ("not protobuf", "identity", message(0, &[0xff; 30]), 3),
        ("an invalid string", "identity", message(0, &[0x0a, 0x03, 0x1a, 0x01, 0xff]), 3),
        ("too short", "identity", whole[..whole.len() - 1].to_vec(), 13),
        ("half a prefix", "identity", whole[..3].to_vec(), 13),
        ("nothing", "identity", Vec::new(), 13),
        ("two messages", "identity", whole.repeat(2), 13),
        ("corrupt gzip", "gzip", message(1, &corrupt), 3),
        ("no gzip at all", "gzip", message(1, &whole), 3),
    ] {
        let answer = client.export(Signal::Traces, &[("grpc-encoding", encoding)], &data);
        assert_error(&answer, code, what);
        if code == 3 {
            let status = Status::decode(&answer.details().unwrap()).unwrap();
            assert_eq!((status.violations.len(), status.retry_delay), (1, None), "{what}");
        }
    }
    // A call without any DATA at all.
    let stream = client.next();
    client.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields(Signal::Traces.grpc_path(), &[])));
    assert_error(&client.answer(stream), 13, "no DATA");
    assert_eq!(client.export(Signal::Traces, &[], &whole).code(), Some(0), "the connection lives");
    server.batch();
    assert!(server.is_empty(), "nothing of it was handed on");
}

#[test]
fn other_methods_and_paths_are_unimplemented_grpc_04_16_17() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    for path in [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.trace.v1.traceservice/export",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/grpc.health.v1.Health/Check",
        "/v1/traces",
        "/",
    ] {
        let stream = client.next();
        client.send(&http2::call(stream, path, &[], &data()));
        assert_error(&client.answer(stream), 12, path);
    }
    assert!(server.is_empty());
}

#[test]
fn a_signal_without_a_pipeline_is_unimplemented() {
    let (_sender, batches) = std::sync::mpsc::channel();
    let server = Server::with_outlets(Config::default(), |_| {}, Outlets::default(), batches);
    assert_error(&Raw::connect(server.grpc()).export(Signal::Traces, &[], &data()), 12, "no pipeline");
}

#[test]
fn what_is_not_grpc_gets_an_answer_of_http_grpc_23_42() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    for content_type in ["text/plain", "application/json", "application/x-protobuf", "application/grpc-web", ""] {
        let answer = client.export(Signal::Traces, &[("content-type", content_type)], &data());
        assert_eq!(answer.field(":status"), Some("415"), "{content_type}");
    }
    let answer = client.export(Signal::Traces, &[("content-type", "application/grpc+json")], &data());
    assert_error(&answer, 12, "messages of another kind");
    for method in ["GET", "PUT", "post"] {
        let answer = client.export(Signal::Traces, &[(":method", method)], &data());
        assert_eq!((answer.field(":status"), answer.field("allow")), (Some("405"), Some("POST")), "{method}");
    }
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0), "the connection lives");
}

#[test]
fn malformed_timeouts_are_an_error_grpc_27() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    for timeout in ["", "5", "S", "1s", "123456789S", "-1S", "1.5S"] {
        let answer = client.export(Signal::Traces, &[("grpc-timeout", timeout)], &data());
        assert_error(&answer, 3, timeout);
    }
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0), "the connection lives");
}

#[test]
fn messages_above_the_limit_are_exhausted_without_retry_info_lim_06_07_12() {
    let server = Server::with(small(), |_| {});
    let mut client = Raw::connect(server.grpc());
    let over = vec![0; (1 << 20) + 1];
    let mut bomb = Vec::new();
    encode(Coding::Gzip, None, &[&vec![0; 16 << 20]], &mut bomb).unwrap();
    let mut four_gib = vec![0, 0xff, 0xff, 0xff, 0xff];
    four_gib.extend_from_slice(b"few");
    for (what, encoding, data) in [
        ("too large", "identity", message(0, &over)),
        ("inflates above it", "gzip", message(1, &bomb)),
        ("announces 4 GiB", "identity", four_gib),
    ] {
        let answer = client.export(Signal::Traces, &[("grpc-encoding", encoding)], &data);
        assert_error(&answer, 8, what);
        assert_eq!(answer.details(), None, "{what}: no RetryInfo");
    }
    // At the limit it is taken, for what it is.
    let mut at = generate::request(Signal::Traces, 1, 1).to_vec();
    while at.len() + 6 < 1 << 20 {
        // An unknown field of the request, of up to 127 bytes.
        let length = ((1 << 20) - at.len() - 2).min(127);
        at.extend_from_slice(&[0x7a, length as u8]);
        at.resize(at.len() + length, b'x');
    }
    let answer = client.export(Signal::Traces, &[], &message(0, &at));
    assert_eq!((at.len() > (1 << 20) - 6, answer.code()), (true, Some(0)));
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO, "and the connection lives");
}

#[test]
fn deep_nesting_is_an_error_lim_09() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    // ArrayValue { values: AnyValue { array_value: … } }, as deep as it gets, in a log record's body.
    let (mut heads, mut len) = (Vec::new(), 0usize);
    for level in 0..40_000 {
        let mut head = vec![if level % 2 == 0 { 0x0a } else { 0x2a }];
        put_varint(&mut head, len as u64);
        len += 1 + varint_len(len as u64);
        heads.push(head);
    }
    let mut deep: Vec<u8> = heads.into_iter().rev().flatten().collect();
    for field in [5, 2, 2, 1] {
        let mut outer = Vec::new();
        put_delimited(&mut outer, field, &deep);
        deep = outer;
    }
    assert_error(&client.export(Signal::Logs, &[], &message(0, &deep)), 3, "deeper than anybody means");
    assert!(server.is_empty());
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0));
}

/// Refuses everything in one way.
struct Refuses(Failure);

impl Outlet for Refuses {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        Err(Refused { batch: Box::new(batch), failure: self.0.clone(), hold: false })
    }
}

#[test]
fn a_pipeline_that_refuses_makes_the_caller_come_again_grpc_25_46_bp_02_04() {
    let cases = [
        (Failure::refused(Reason::QUEUE_FULL, "voll \u{e9} 100%"), 14, Some(Duration::from_secs(1))),
        (
            Failure::refused(Reason::QUEUE_FULL, "full").retry_after(Duration::from_secs(3)),
            14,
            Some(Duration::from_secs(3)),
        ),
        (Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "never"), 3, None),
        (Failure::rejected(Code::PermissionDenied, Reason::PERMANENT, "not you"), 7, None),
    ];
    for (failure, code, delay) in cases {
        let (_sender, batches) = std::sync::mpsc::channel();
        let mut outlets = Outlets::default();
        outlets.set(Signal::Traces, std::sync::Arc::new(Refuses(failure.clone())));
        let server = Server::with_outlets(Config::default(), |_| {}, outlets, batches);
        let answer = Raw::connect(server.grpc()).export(Signal::Traces, &[], &data());
        assert_error(&answer, code, &failure.message);
        assert_eq!(answer.message(), &*failure.message);
        let details = answer.details().map(|details| Status::decode(&details).unwrap());
        assert_eq!(details.and_then(|status| status.retry_delay), delay);
        assert_eq!(server.metric("otelcol_receiver_refused_spans", ("transport", "grpc")), 2.0);
    }
}

#[test]
fn without_memory_calls_are_refused_at_their_first_frame() {
    let server = Server::with(Config::default(), |env| env.budget = MemoryBudget::new(ByteSize::kib(100)));
    let mut client = Raw::connect(server.grpc());
    let held = server.env.budget.reserve(ByteSize::kib(99)).unwrap();
    // Only the first frame is sent: the answer does not wait for more.
    let stream = client.begin(Signal::Traces, &[]);
    client.frame(http2::DATA, 0, stream, &[0, 0, 1, 0, 0, 7, 7]);
    let answer = client.answer(stream);
    assert_error(&answer, 14, "no memory");
    assert_eq!(answer.reset, None);
    let status = Status::decode(&answer.details().unwrap()).unwrap();
    assert_eq!(status.retry_delay, Some(Duration::from_secs(1)));
    assert_eq!(client.await_frame(http2::RST_STREAM).number(0), 0, "NO_ERROR: the rest is not wanted");
    drop(held);
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0), "the connection lives");
    // Twice as much as there ever is: no use in sending it again, and all is given back.
    let answer = client.export(Signal::Traces, &[], &message(0, &vec![0; 200 << 10]));
    assert_error(&answer, 8, "more than there is");
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn overload_ends_calls_and_not_connections_bp_02() {
    let server = Server::with(Config::default(), |env| env.budget = MemoryBudget::new(ByteSize::kib(100)));
    let mut client = Raw::connect(server.grpc());
    client.await_frame(http2::WINDOW_UPDATE);
    let message = message(0, &vec![0; 60_000]);
    for round in 0..15 {
        let streams: Vec<_> = (0..100).map(|_| client.begin(Signal::Traces, &[])).collect();
        // All of them are under way when the first is refused: nobody waits for an answer.
        for (index, piece) in message.chunks(16_384).enumerate() {
            for &stream in &streams {
                let end = u8::from((index + 1) * 16_384 >= message.len());
                client.frame(http2::DATA, end, stream, piece);
            }
        }
        let refused = streams.into_iter().filter(|&stream| client.answer(stream).code() == Some(14)).count();
        assert!(refused >= 90, "{refused} in round {round}");
        client.seen.clear();
    }
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0), "the connection lives");
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn a_configured_rate_is_exhausted_with_retry_info() {
    let rate_limit = Some(RateLimit { capacity: Some(1), ..RateLimit::per_second(RateUnit::Requests, 2) });
    let config = otlp_receive::Config { rate_limit, ..Config::default().into() };
    let clock = Clock::simulated();
    let server = Server::with(config, |env| env.clock = clock.clone());
    let mut client = Raw::connect(server.grpc());
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0));
    let answer = client.export(Signal::Traces, &[], &data());
    assert_error(&answer, 8, "rate");
    let status = Status::decode(&answer.details().unwrap()).unwrap();
    assert_eq!(status.retry_delay, Some(Duration::from_millis(500)));
}

#[test]
fn partial_success_is_ok_with_what_was_rejected_ps_05_06_lim_11() {
    let server = Server::run(Config::default(), |_| {}, false);
    let mut client = Raw::connect(server.grpc());
    let stream = client.start(Signal::Traces, &[], &data());
    let outcome = Outcome::Partial { rejected: otlp_core::ItemCount(1), message: "one".into() };
    server.batch().settle(outcome);
    let answer = client.answer(stream);
    assert_eq!((answer.code(), answer.data[0]), (Some(0), 0));
    assert_eq!(answer.data[1..5], (answer.data.len() as u32 - 5).to_be_bytes());
    let partial = otlp_core::status::decode_response(&answer.data[5..]).unwrap().unwrap();
    assert_eq!((partial.rejected.get(), &*partial.message), (1, "one"));
    // However much a destination has to say, it stays far below what clients read (4 MiB).
    let stream = client.start(Signal::Traces, &[], &data());
    let outcome = Outcome::Partial { rejected: otlp_core::ItemCount(2), message: "\u{e9}".repeat(3 << 20).into() };
    server.batch().settle(outcome);
    let answer = client.answer(stream);
    let partial = otlp_core::status::decode_response(&answer.data[5..]).unwrap().unwrap();
    assert!((1..8 << 10).contains(&partial.message.len()) && partial.message.chars().all(|ch| ch == '\u{e9}'));
    assert_eq!((answer.code(), partial.rejected.get()), (Some(0), 2));
}
