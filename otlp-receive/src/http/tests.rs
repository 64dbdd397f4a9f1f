//! Sessions, stepped by hand: no socket, no thread, a clock that stands still.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use otlp_core::flow::{RateLimit, RateUnit};
use otlp_core::telemetry::registry::SampleValue;
use otlp_core::wire::writer::put_delimited;
use otlp_core::{ByteSize, Failure, Outcome, Reason};
use proptest::prelude::*;

use super::config::Config;
use super::service::Service;
use super::session::Session;
use crate::driver::exchange::Exchange;
use crate::driver::stepped::{Mode, Reader, Stepped};

type Bench = Stepped<Session, Seen>;

/// All that was written stays to be looked at.
struct Seen {
    service: Arc<Service>,
}

impl Reader for Seen {
    fn read(&mut self, _: &mut Vec<u8>) {}
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Config::default().into())
    }

    fn with(config: crate::Config) -> Bench {
        Stepped::around(&config, |common, env, mailbox, now| {
            let service = Arc::new(Service::new(config.http.as_ref().unwrap(), common, env));
            (Session::new(service.clone(), mailbox, None, now), Seen { service })
        })
    }

    /// The statuses answered so far.
    fn statuses(&self) -> Vec<u16> {
        let mut statuses = Vec::new();
        let mut rest = &self.output[..];
        while !rest.is_empty() {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
            let head = std::str::from_utf8(&rest[..end]).unwrap().to_ascii_lowercase();
            let status = head.strip_prefix("http/1.1 ").expect("an answer")[..3].parse().unwrap();
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |text| text.split("\r\n").next().unwrap().parse().unwrap());
            statuses.push(status);
            rest = &rest[end + length..];
        }
        statuses
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    fn metric(&self, name: &str) -> f64 {
        let samples = self.env.registry.samples();
        let found = samples.iter().filter(|sample| sample.name == name).map(|sample| match &sample.value {
            SampleValue::Number(number) => *number,
            SampleValue::Histogram { count, .. } => *count as f64,
        });
        found.sum()
    }
}

/// A request of that many spans.
fn spans(count: usize) -> Vec<u8> {
    let nest = |inner: &[u8], field| {
        let mut out = Vec::new();
        put_delimited(&mut out, field, inner);
        out
    };
    let all: Vec<u8> = (0..count).flat_map(|_| nest(&nest(b"name", 5), 2)).collect();
    nest(&nest(&all, 2), 1)
}

fn post(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

#[test]
fn a_request_is_answered_once_its_outcome_is_known() {
    let mut bench = Bench::new();
    bench.send(&post("", &spans(3)));
    assert_eq!((bench.taken(), bench.statuses()), (1, vec![]));
    assert_eq!(bench.pipeline.taken.lock()[0].items().get(), 3);
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [200]);
    assert_eq!(bench.metric("otelcol_receiver_accepted_spans"), 3.0);
    assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
    assert!(bench.session.wants_read() && !bench.closed);
}

#[test]
fn answers_keep_the_order_of_the_requests_con_02() {
    let mut bench = Bench::new();
    let bad = post("", b"\xff\xff");
    bench.send(&[post("", &spans(1)), post("", &spans(2)), bad, post("", &spans(3))].concat());
    assert_eq!((bench.taken(), bench.statuses()), (3, vec![]));
    bench.settle(2, Outcome::Delivered);
    bench.settle(1, Outcome::Failed(Failure::refused(Reason::QUEUE_FULL, "full")));
    assert!(bench.statuses().is_empty(), "the first is not known");
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [200, 503, 400, 200]);
    assert_eq!(bench.metric("otelcol_receiver_refused_spans"), 2.0);
    assert_eq!(bench.metric("otelcol_receiver_accepted_spans"), 4.0);
}

#[test]
fn a_request_without_items_is_a_success_and_goes_nowhere_http_08_09() {
    let mut bench = Bench::new();
    let empty_envelopes = spans(0);
    bench.send(&post("", b"")).send(&post("", &empty_envelopes));
    assert_eq!((bench.statuses(), bench.taken()), (vec![200, 200], 0));
}

#[test]
fn what_is_refused_says_when_to_come_again() {
    let mut bench = Bench::new();
    bench.set_mode(Mode::Refuse);
    bench.send(&post("", &spans(2)));
    assert_eq!(bench.statuses(), [503]);
    assert!(bench.text().contains("retry-after: 1\r\n"), "{}", bench.text());
    assert_eq!(bench.metric("otelcol_receiver_refused_spans"), 2.0);
    assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
    bench.set_mode(Mode::Keep);
    bench.send(&post("", &spans(2))).settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [503, 200], "the connection lives");
}

#[test]
fn a_panic_of_the_pipeline_costs_one_batch() {
    let mut bench = Bench::new();
    bench.set_mode(Mode::Panic);
    bench.send(&post("", &spans(1)));
    bench.set_mode(Mode::Keep);
    bench.send(&post("", &spans(1))).settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [500, 200]);
}

#[test]
fn a_held_batch_is_offered_until_there_is_room_or_its_time_is_over() {
    let mut bench = Bench::new();
    bench.set_mode(Mode::Hold);
    bench.send(&post("", &spans(1))).wait(Duration::from_secs(3));
    assert_eq!((bench.statuses(), bench.taken()), (vec![], 0));
    bench.set_mode(Mode::Keep);
    bench.wait(Duration::from_millis(20));
    assert_eq!(bench.taken(), 1);
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [200]);
    bench.set_mode(Mode::Hold);
    bench.send(&post("", &spans(1))).wait(Duration::from_millis(7999));
    assert_eq!(bench.statuses(), [200]);
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.statuses(), [200, 503]);
    assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn a_request_without_an_outcome_in_time_is_refused_and_withdrawn() {
    let mut bench = Bench::new();
    bench.send(&post("", &spans(1))).wait(Duration::from_millis(7999));
    assert_eq!((bench.statuses(), bench.withdrawn()), (vec![], vec![false]));
    bench.wait(Duration::from_millis(1));
    assert_eq!((bench.statuses(), bench.withdrawn()), (vec![503], vec![true]));
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [503], "what comes later is told nobody");
}

#[test]
fn a_sender_that_goes_away_withdraws_its_requests_con_15() {
    let mut bench = Bench::new();
    bench.send(&post("", &spans(1)));
    bench.session.broken();
    assert_eq!(bench.withdrawn(), [true]);
    assert!(bench.session.is_over());

    let mut bench = Bench::new();
    bench.send(&post("", &spans(1)));
    let half = post("", &spans(2));
    bench.send(&half[..half.len() - 1]);
    bench.session.closed_by_peer(bench.now);
    bench.turn();
    assert!(!bench.session.wants_read());
    bench.wait(Duration::from_secs(1));
    assert_eq!((bench.withdrawn(), bench.statuses()), (vec![true], vec![503]));
    assert!(bench.session.is_over());
    assert_eq!(bench.taken(), 1, "nothing of the half request was handed on");
}

#[test]
fn a_sender_that_only_closed_its_side_hears_its_answer() {
    let mut bench = Bench::new();
    bench.send(&post("", &spans(1)));
    bench.session.closed_by_peer(bench.now);
    bench.turn().settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [200]);
    assert!(bench.session.is_over());
}

#[test]
fn slow_heads_and_bodies_end_by_their_timeouts_con_17() {
    let mut bench = Bench::new();
    bench.send(b"POST /v1/tr").wait(Duration::from_millis(59_999));
    assert!(bench.statuses().is_empty());
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.statuses(), [408]);
    assert!(bench.closed);

    let mut bench = Bench::new();
    let request = post("", &vec![0; 100_000]);
    bench.send(&request[..50_000]);
    assert!(bench.env.budget.reserved() >= ByteSize(49_000));
    bench.wait(Duration::from_millis(29_999));
    assert!(bench.statuses().is_empty());
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.statuses(), [408]);
    assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
    assert!(bench.closed);
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let mut bench = Bench::new();
    bench.wait(Duration::from_secs(59));
    bench.send(&post("", b"")).wait(Duration::from_secs(59));
    assert!(!bench.session.is_over());
    bench.wait(Duration::from_secs(1));
    assert!(bench.session.is_over());
}

#[test]
fn a_sender_that_does_not_read_is_not_read_from_and_then_dropped() {
    let mut bench = Bench::new();
    bench.reads = false;
    let bad = post("", b"\xff").repeat(10);
    for _ in 0..300 {
        if !bench.session.wants_read() {
            break;
        }
        bench.send(&bad);
    }
    assert!(!bench.session.wants_read());
    assert!(bench.session.output().len() < 300 << 10);
    bench.wait(Duration::from_secs(29));
    assert!(!bench.session.is_over());
    bench.wait(Duration::from_secs(1));
    assert!(bench.session.is_over());
}

#[test]
fn at_most_sixty_four_requests_are_open_on_one_connection() {
    let mut bench = Bench::new();
    bench.send(&post("", &spans(1)).repeat(100));
    assert_eq!(bench.taken(), 64);
    assert!(!bench.session.wants_read());
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.taken(), 64, "one more was taken");
    while bench.taken() > 0 {
        bench.settle(0, Outcome::Delivered);
    }
    assert_eq!(bench.statuses(), vec![200; 100]);
    assert!(bench.session.wants_read());
}

#[test]
fn bodies_at_the_limit_are_taken_and_above_it_answered_413_lim_01_03() {
    let limit = ByteSize(2000);
    let config = Config { max_request_body_size: limit, ..Config::default() };
    let sized = |bytes: usize| {
        let mut body = spans(1);
        let padding = vec![0; bytes - body.len() - 4];
        put_delimited(&mut body, 99, &padding);
        assert_eq!(body.len(), bytes);
        body
    };
    let chunked = |body: &[u8]| {
        let mut request = "POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n\
                           Transfer-Encoding: chunked\r\n\r\n"
            .to_owned()
            .into_bytes();
        for chunk in body.chunks(700) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    for (bytes, status) in [(2000, 200), (2001, 413)] {
        for request in [post("", &sized(bytes)), chunked(&sized(bytes))] {
            let mut bench = Bench::with(config.clone().into());
            bench.send(&request);
            if status == 200 {
                bench.settle(0, Outcome::Delivered);
            }
            assert_eq!(bench.statuses(), [status], "{bytes}");
            assert!(bench.text().contains("content-type: application/x-protobuf"));
        }
    }
    let mut bench = Bench::with(config.into());
    bench.send(&post("", &sized(3000))).send(&post("", &spans(1))).settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [413, 200], "a small rest is read and thrown away");
    bench.send(&post("", &vec![0; 3 << 20])[..500]);
    assert_eq!(bench.statuses(), [413, 200, 413]);
    assert!(bench.closed, "a large rest ends the connection");
}

#[test]
fn a_full_budget_refuses_before_the_body_is_read() {
    let mut bench = Bench::new();
    let _all = bench.env.budget.reserve(ByteSize(8 << 20)).unwrap();
    let request = post("", &spans(1));
    bench.send(&request[..request.len() - 5]);
    assert_eq!(bench.statuses(), [503]);
    bench.send(&request[request.len() - 5..]);
    assert_eq!((bench.statuses(), bench.taken()), (vec![503], 0));
    assert!(!bench.closed);
}

#[test]
fn continue_is_said_when_the_body_is_wanted_con_05() {
    let mut bench = Bench::new();
    let request = post("Expect: 100-continue\r\n", &spans(1));
    let head = request.len() - spans(1).len();
    bench.send(&request[..head]);
    assert_eq!(bench.statuses(), [100]);
    bench.send(&request[head..]).settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [100, 200]);
    // Not when it is there already, and not before an earlier request has its answer.
    bench.send(&request).send(&request[..head]);
    assert_eq!(bench.statuses(), [100, 200]);
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [100, 200, 200, 100]);

    let mut refused = Bench::new();
    refused.send(&String::from_utf8_lossy(&request[..head]).replace("/v1/traces", "/nowhere").into_bytes());
    assert_eq!(refused.statuses(), [404]);
    assert!(refused.closed, "nobody knows whether the body comes");
}

#[test]
fn draining_finishes_what_was_begun_and_closes_the_rest() {
    let mut idle = Bench::new();
    idle.seen.service.intake.drain();
    idle.session.drain(idle.now);
    assert!(idle.turn().session.is_over());

    let mut half_a_head = Bench::new();
    half_a_head.send(b"POST /v1/traces HT");
    half_a_head.seen.service.intake.drain();
    half_a_head.session.drain(half_a_head.now);
    assert!(half_a_head.turn().session.is_over());

    let mut open = Bench::new();
    open.send(&post("", &spans(1)));
    let request = post("", &spans(1));
    open.send(&request[..request.len() - 3]);
    open.seen.service.intake.drain();
    open.session.drain(open.now);
    open.turn().settle(0, Outcome::Delivered);
    assert_eq!((open.statuses(), open.closed), (vec![200], false));
    open.send(&request[request.len() - 3..]).settle(0, Outcome::Delivered);
    assert_eq!((open.statuses(), open.closed), (vec![200, 200], true));
    assert_eq!(open.text().matches("connection: close").count(), 1);

    // A body that stalls is not waited for to the end of the drain: others need the time (LIFE-03).
    let mut stalled = Bench::new();
    stalled.send(&request[..request.len() - 3]);
    stalled.seen.service.intake.drain();
    stalled.session.drain(stalled.now);
    stalled.turn().wait(Duration::from_millis(1900));
    assert_eq!((stalled.statuses(), stalled.closed), (vec![], false));
    stalled.wait(Duration::from_millis(200));
    assert_eq!((stalled.statuses(), stalled.closed, stalled.taken()), (vec![503], true, 0));

    let mut late = Bench::new();
    late.seen.service.intake.drain();
    late.send(&post("", &spans(1)));
    assert_eq!((late.statuses(), late.closed, late.taken()), (vec![503], true, 0));
}

#[test]
fn giving_up_refuses_and_withdraws_all_that_is_open() {
    let mut bench = Bench::new();
    bench.send(&post("", &spans(1)).repeat(2));
    bench.session.give_up(bench.now, &|| SystemTime::UNIX_EPOCH);
    bench.turn();
    assert_eq!((bench.statuses(), bench.withdrawn()), (vec![503, 503], vec![true, true]));
    assert!(bench.closed);
}

#[test]
fn a_rate_is_answered_429() {
    let rate = RateLimit::per_second(RateUnit::Items, 10);
    let config = crate::Config { rate_limit: Some(rate), ..Config::default().into() };
    let mut bench = Bench::with(config);
    bench.send(&post("", &spans(10))).settle(0, Outcome::Delivered).send(&post("", &spans(5)));
    assert_eq!(bench.statuses(), [200, 429]);
    assert!(bench.text().contains("retry-after: 1\r\n"));
    bench.wait(Duration::from_millis(500)).send(&post("", &spans(5))).settle(0, Outcome::Delivered);
    assert_eq!(bench.statuses(), [200, 429, 200]);
}

#[test]
fn a_body_read_directly_may_run_into_the_next_request() {
    let mut bench = Bench::new();
    let body = spans(20_000);
    let request = post("", &body);
    let next = post("", &spans(1));
    bench.send(&request[..1000]);
    let mut rest = [&request[1000..], &next].concat();
    while let Some(buffer) = bench.session.direct() {
        // An allocator may give more room than was asked for.
        let bytes = rest.len().min(23_000);
        buffer.reserve(bytes);
        buffer.extend(rest.drain(..bytes));
        bench.session.received(bytes, bench.now);
    }
    bench.turn();
    assert!(rest.is_empty(), "the last piece held the end of the body and all of the next request");
    assert_eq!(bench.taken(), 2);
    assert_eq!(bench.pipeline.taken.lock()[0].body(), &body);
}

#[test]
fn cors_answers_preflights_and_names_the_origin_http_20_21() {
    let preflight = |origin: &str, headers: &str| {
        format!(
            "OPTIONS /v1/traces HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: {headers}\r\n\r\n"
        )
    };
    let mut without = Bench::new();
    without.send(preflight("https://a.example", "content-type").as_bytes());
    assert_eq!(without.statuses(), [405]);
    assert!(!without.text().contains("access-control"));

    let cors = super::Cors {
        allowed_origins: vec!["https://*.example".into()],
        allowed_headers: vec!["Content-Type".into()],
        exposed_headers: vec!["X-Y".into()],
        max_age: Duration::from_secs(600),
    };
    let config = Config { cors: Some(cors), ..Config::default() };
    let mut allowed = Bench::with(config.clone().into());
    allowed.send(preflight("https://a.example", "content-type").as_bytes());
    for field in [
        "HTTP/1.1 204 ",
        "access-control-allow-origin: https://a.example\r\n",
        "access-control-allow-methods: POST\r\n",
        "access-control-allow-headers: content-type\r\n",
        "access-control-max-age: 600\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-expose-headers: X-Y\r\n",
        "vary: origin\r\n",
    ] {
        assert!(allowed.text().contains(field), "{field} in {}", allowed.text());
    }
    for (origin, headers) in [("https://evil.test", "content-type"), ("https://a.example", "x-other")] {
        let mut foreign = Bench::with(config.clone().into());
        foreign.send(preflight(origin, headers).as_bytes());
        assert_eq!(foreign.statuses(), [204]);
        assert!(!foreign.text().contains("access-control-allow"), "{}", foreign.text());
    }
    let mut posted = Bench::with(config.into());
    posted.send(&post("Origin: https://b.example\r\n", b""));
    assert!(posted.text().contains("access-control-allow-origin: https://b.example\r\n"), "{}", posted.text());
}

proptest! {
    /// Whatever comes, however it is cut, and in whatever order outcomes arrive: as many answers as requests, in order,
    /// and all memory given back.
    #[test]
    fn every_request_has_one_answer(
        kinds in proptest::collection::vec(0u8..4, 1..20),
        cuts in proptest::collection::vec(1usize..400, 1..20),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 20),
    ) {
        let mut bench = Bench::new();
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for kind in &kinds {
            let (request, status) = match kind {
                0 => (post("", &spans(2)), 200),
                1 => (post("", b"\xff"), 400),
                2 => (post("Content-Encoding: br\r\n", &spans(1)), 415),
                _ => (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 200),
            };
            stream.extend(request);
            expected.push(status);
        }
        let mut cut = cuts.iter().copied().cycle();
        while !stream.is_empty() {
            let bytes = cut.next().unwrap_or(1).min(stream.len());
            let piece: Vec<u8> = stream.drain(..bytes).collect();
            bench.send(&piece);
        }
        for index in order {
            let open = bench.taken();
            if open > 0 {
                bench.settle(index.index(open), Outcome::Delivered);
            }
        }
        prop_assert_eq!(bench.statuses(), expected);
        prop_assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
    }
}

#[test]
fn a_session_that_waits_for_nothing_has_no_deadline_in_the_past() {
    // A deadline that has passed and stays would make the driver spin.
    let at_rest = |bench: &mut Bench, what: &str| {
        bench.session.on_time(bench.now);
        bench.turn();
        assert!(bench.session.deadline().is_none_or(|at| at > bench.now), "{what}");
    };
    for mode in [Mode::Keep, Mode::Hold] {
        for reads in [true, false] {
            let mut bench = Bench::new();
            bench.set_mode(mode);
            bench.reads = reads;
            let request = post("", &spans(1));
            bench.send(&[&request[..], &request[..20]].concat());
            for step in 0..200 {
                bench.wait(Duration::from_millis(500));
                at_rest(&mut bench, &format!("{mode:?} {reads} {step}"));
            }
            assert!(bench.session.is_over());

            let mut gone = Bench::new();
            gone.set_mode(mode);
            gone.reads = reads;
            gone.send(&request);
            gone.session.closed_by_peer(gone.now);
            gone.turn();
            for step in 0..200 {
                gone.wait(Duration::from_millis(500));
                at_rest(&mut gone, &format!("gone {mode:?} {reads} {step}"));
            }
            assert!(gone.session.is_over());

            let mut draining = Bench::new();
            draining.set_mode(mode);
            draining.reads = reads;
            draining.send(&[&request[..], &request[..20]].concat());
            draining.seen.service.intake.drain();
            draining.session.drain(draining.now);
            draining.turn();
            for step in 0..200 {
                draining.wait(Duration::from_millis(500));
                at_rest(&mut draining, &format!("draining {mode:?} {reads} {step}"));
            }
            assert!(draining.session.is_over());
        }
    }
}
