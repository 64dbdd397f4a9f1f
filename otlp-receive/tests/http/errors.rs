//! Bad data, and what a sender is told about it; refusals.

use std::sync::{Arc, Mutex, mpsc};

use otlp_core::component::{Outlet, Outlets, Refused};
use otlp_core::flow::{MemoryBudget, RateLimit, RateUnit};
use otlp_core::testing::generate;
use otlp_core::testing::random::Random;
use otlp_core::wire::writer::{put_delimited, put_varint, varint_len};
use otlp_core::{Batch, ByteSize, Clock, Code, Failure, Outcome, Reason, Signal};
use otlp_receive::http::Config;

use crate::server::{Server, eventually, post};

#[test]
fn bytes_that_are_no_request_are_bad_data_err_01_03_05_06_15_18() {
    let server = Server::start();
    let mut client = server.connect();
    for signal in Signal::ALL {
        let json = br#"{"resourceSpans":[]}"#;
        let mut random = Random::new(5);
        let noise: Vec<u8> = (0..500).map(|_| random.below(256) as u8 | 0x80).collect();
        for body in [&b"\xff\xff\xff"[..], json, b"\x0a\x05abc", &noise] {
            let answer = client.send(&post(signal, "", body)).answer();
            assert_eq!((answer.status, answer.field("connection")), (400, None), "{signal}");
            let status = answer.failure();
            assert_eq!(status.code, 3);
            assert!(!status.message.is_empty() && status.violations.len() == 1);
        }
        assert_eq!(client.send(&post(signal, "", &generate::request(signal, 1, 2))).answer().status, 200);
        server.batch();
    }
    assert!(server.is_empty());
    assert_eq!(server.metric("otlpd_receiver_failures", ("reason", "malformed")), 12.0);
}

#[test]
fn impossible_and_truncated_protobuf_is_bad_data_err_07_08_09_14() {
    let server = Server::start();
    let mut client = server.connect();
    let good = generate::request(Signal::Traces, 4, 10);
    let cut_short = &good[..good.len() - 1];
    let with = |bytes: &[u8]| [&good[..], bytes].concat();
    let span = |name: &[u8]| {
        let mut out = Vec::new();
        put_delimited(&mut out, 5, name);
        for field in [2, 2, 1] {
            let mut outer = Vec::new();
            put_delimited(&mut outer, field, &out);
            out = outer;
        }
        out
    };
    for (what, body) in [
        ("wire type 6", with(&[0x0e])),
        ("wire type 7", with(&[0x0f])),
        ("stray end of a group", with(&[0x0c])),
        ("field number 0", with(&[0x02, 0x00])),
        ("cut short", cut_short.to_vec()),
        ("a name that is not UTF-8", with(&span(b"\xff\xfe"))),
    ] {
        let answer = client.send(&post(Signal::Traces, "", &body)).answer();
        assert_eq!((answer.status, answer.failure().code), (400, 3), "{what}");
    }
    assert!(server.is_empty(), "nothing of a bad request is handed on");
}

#[test]
fn deep_nesting_is_refused_lim_09() {
    let server = Server::start();
    // ArrayValue { values: AnyValue { array_value: … } }, as deep as it gets, in a log record's body.
    let (mut heads, mut len) = (Vec::new(), 0usize);
    for level in 0..40_000 {
        let mut head = vec![if level % 2 == 0 { 0x0a } else { 0x2a }];
        put_varint(&mut head, len as u64);
        len += 1 + varint_len(len as u64);
        heads.push(head);
    }
    let mut out: Vec<u8> = heads.into_iter().rev().flatten().collect();
    for field in [5, 2, 2, 1] {
        let mut outer = Vec::new();
        put_delimited(&mut outer, field, &out);
        out = outer;
    }
    let answer = server.connect().send(&post(Signal::Logs, "", &out)).answer();
    assert_eq!(answer.status, 400);
    server.assert_alive();
}

#[test]
fn ids_of_any_length_pass_and_are_counted_ps_01() {
    let server = Server::start();
    let mut out = Vec::new();
    put_delimited(&mut out, 1, &[7; 15]);
    put_delimited(&mut out, 2, &[7; 8]);
    for field in [2, 2, 1] {
        let mut outer = Vec::new();
        put_delimited(&mut outer, field, &out);
        out = outer;
    }
    let answer = server.connect().send(&post(Signal::Traces, "", &out)).answer();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(server.batch().body(), &out);
    assert_eq!(server.metric("otlpd_receiver_invalid_ids", ("receiver", "otlp")), 1.0);
}

struct Says(Mutex<Failure>);

impl Outlet for Says {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        Err(Refused { batch: Box::new(batch), failure: self.0.lock().unwrap().clone(), hold: false })
    }
}

#[test]
fn what_the_pipeline_says_is_what_the_sender_hears_err_16_bp_01_03() {
    let says = Arc::new(Says(Mutex::new(Failure::refused(Reason::QUEUE_FULL, "sending queue is full"))));
    let mut outlets = Outlets::default();
    outlets.set(Signal::Traces, says.clone());
    let (_sender, batches) = mpsc::channel();
    let server = Server::with_outlets(Config::default(), |_| {}, outlets, batches);
    let mut client = server.connect();
    let body = generate::request(Signal::Traces, 1, 3);
    let refused = Failure::refused(Reason::QUEUE_FULL, "sending queue is full");
    for (failure, status, retry_after) in [
        (refused.clone(), 503, Some("1")),
        (refused.retry_after(std::time::Duration::from_millis(2500)), 503, Some("3")),
        (Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "no"), 400, None),
        (Failure::rejected(Code::Unauthenticated, Reason::UNAUTHORIZED, "no"), 401, None),
        (Failure::rejected(Code::PermissionDenied, Reason::UNAUTHORIZED, "no"), 403, None),
        (Failure::rejected(Code::Internal, Reason::PERMANENT, "no"), 500, None),
    ] {
        *says.0.lock().unwrap() = failure.clone();
        let answer = client.send(&post(Signal::Traces, "", &body)).answer();
        assert_eq!((answer.status, answer.field("retry-after")), (status, retry_after), "{failure:?}");
        assert_eq!(answer.failure().code, failure.code.number());
        assert_eq!(answer.failure().retry_delay.is_some(), retry_after.is_some());
    }
    assert_eq!(server.metric("otelcol_receiver_refused_spans", ("transport", "http")), 18.0);
    assert_eq!(server.metric("otelcol_receiver_accepted_spans", ("transport", "http")), 0.0);
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn partial_success_reaches_the_sender_ps_05_06() {
    let server = Server::waiting(Config::default());
    let mut client = server.connect();
    for (rejected, message) in [(2, "two were bad"), (0, "a warning")] {
        client.send(&post(Signal::Traces, "", &generate::request(Signal::Traces, 1, 3)));
        server.batch().settle(Outcome::Partial { rejected: otlp_core::ItemCount(rejected), message: message.into() });
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        let partial = otlp_core::status::decode_response(&answer.body).unwrap().unwrap();
        assert_eq!((partial.rejected.get(), partial.message.as_str()), (rejected, message));
    }
}

#[test]
fn no_memory_is_answered_503_and_passes() {
    let server = Server::with(Config::default(), |env| env.budget = MemoryBudget::new(ByteSize::kib(100)));
    let mut client = server.connect();
    let held = server.env.budget.reserve(ByteSize::kib(100)).unwrap();
    let request = post(Signal::Traces, "", &generate::request(Signal::Traces, 1, 3));
    let answer = client.send(&request).answer();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(answer.failure().code, 14);
    assert_eq!(server.metric("otlpd_receiver_failures", ("reason", "memory_budget")), 1.0);
    drop(held);
    assert_eq!(client.send(&request).answer().status, 200);
}

#[test]
fn memory_stays_reserved_until_the_batch_is_gone() {
    let server = Server::waiting(Config::default());
    let mut client = server.connect();
    let body = generate::request(Signal::Traces, 1, 3);
    client.send(&post(Signal::Traces, "", &body));
    let batch = server.batch();
    assert_eq!(server.env.budget.reserved(), ByteSize::from(body.len()));
    batch.settle(Outcome::Delivered);
    assert_eq!(client.answer().status, 200);
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn a_configured_rate_is_answered_429_before_the_body_is_read() {
    let rate_limit = Some(RateLimit { capacity: Some(2), ..RateLimit::per_second(RateUnit::Requests, 1) });
    let clock = Clock::simulated();
    let server =
        Server::with(otlp_receive::Config { rate_limit, ..Config::default().into() }, |env| env.clock = clock.clone());
    let mut client = server.connect();
    let request = post(Signal::Traces, "", &generate::request(Signal::Traces, 1, 3));
    let answers: Vec<_> = (0..4).map(|_| client.send(&request).answer()).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 429, 429]);
    assert_eq!((answers[2].field("retry-after"), answers[2].failure().code), (Some("1"), 8));
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(client.send(&request).answer().status, 200);
}
