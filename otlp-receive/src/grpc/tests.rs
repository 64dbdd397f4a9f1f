//! Sessions, stepped by hand: no socket, no thread, a clock that stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::wire::writer::put_delimited;
use otlp_core::{ByteSize, Outcome, Signal};
use proptest::prelude::*;

use self::http2::{
    ACK, Answer, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, call, frame, hello, message,
};
use super::config::{Config, Keepalive, ServerParameters};
use super::service::Service;
use super::session::Session;
use crate::driver::exchange::Exchange;
use crate::driver::stepped::{Mode, Reader, Stepped};

#[path = "../../tests/support/http2.rs"]
#[allow(dead_code, reason = "shared")]
mod http2;

type Bench = Stepped<Session, Seen>;

/// What the server sent, by frame and by call.
#[derive(Default)]
struct Seen {
    frames: Vec<Frame>,
    answers: BTreeMap<u32, Answer>,
}

impl Reader for Seen {
    fn read(&mut self, output: &mut Vec<u8>) {
        while let Some(frame) = Frame::take(output) {
            if frame.stream != 0 {
                self.answers.entry(frame.stream).or_default().take(&frame);
            }
            self.frames.push(frame);
        }
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::with(ServerParameters::default())
    }

    fn with(server_parameters: ServerParameters) -> Bench {
        let keepalive = Keepalive { server_parameters, ..Keepalive::default() };
        let grpc = Config { keepalive, ..Config::default() };
        Stepped::around(&grpc.clone().into(), |common, env, mailbox, now| {
            let service = Arc::new(Service::new(&grpc, common, env));
            (Session::new(service, mailbox, None, now), Seen::default())
        })
    }

    /// One whose client has said hello.
    fn open() -> Bench {
        let mut bench = Bench::new();
        bench.send(&hello(&[]));
        bench
    }

    /// A call of so many spans.
    fn call(&mut self, stream: u32, count: usize) -> &mut Bench {
        self.send(&call(stream, Signal::Traces.grpc_path(), &[], &message(0, &spans(count))))
    }

    fn code(&self, stream: u32) -> Option<i32> {
        self.seen.answers.get(&stream).and_then(Answer::code)
    }

    fn count(&self, kind: u8) -> usize {
        self.seen.frames.iter().filter(|frame| frame.kind == kind).count()
    }
}

fn spans(count: usize) -> Vec<u8> {
    let mut scope = Vec::new();
    (0..count).for_each(|_| put_delimited(&mut scope, 2, &[]));
    let (mut resource, mut request) = (Vec::new(), Vec::new());
    put_delimited(&mut resource, 2, &scope);
    put_delimited(&mut request, 1, &resource);
    request
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_client_that_says_nothing_is_dropped() {
    let mut bench = Bench::new();
    bench.turn();
    assert_eq!(bench.seen.frames.len(), 1, "SETTINGS, unasked");
    bench.send(&hello(&[])[..20]).wait(Duration::from_secs(9));
    assert!(!bench.session.is_over());
    bench.wait(Duration::from_secs(1));
    assert!(bench.session.is_over());
}

#[test]
fn a_message_that_does_not_come_gives_its_memory_back() {
    let mut bench = Bench::open();
    let head = call(1, Signal::Traces.grpc_path(), &[], &[]);
    let head = &head[..head.len() - 9];
    bench.send(head).send(&frame(DATA, 0, 1, &[0, 0, 0, 100, 0, 7]));
    assert_eq!(bench.env.budget.reserved(), ByteSize(25_600));
    bench.wait(Duration::from_secs(29));
    assert_eq!(bench.code(1), None);
    bench.wait(Duration::from_secs(1));
    assert_eq!((bench.code(1), bench.env.budget.reserved()), (Some(4), ByteSize::ZERO));
    bench.call(3, 1).settle(0, Outcome::Delivered);
    assert_eq!(bench.code(3), Some(0), "the connection lives");
}

#[test]
fn what_waits_too_long_is_unavailable_and_withdrawn() {
    let mut bench = Bench::open();
    bench.call(1, 1).wait(Duration::from_secs(7));
    assert_eq!(bench.code(1), None);
    bench.wait(Duration::from_secs(1));
    assert_eq!((bench.code(1), bench.withdrawn()), (Some(14), vec![true]));
    bench.settle(0, Outcome::Delivered);
    assert_eq!(bench.code(1), Some(14));
}

#[test]
fn a_silent_client_is_pinged_and_dropped_without_an_answer() {
    let mut silent = Bench::open();
    silent.wait(119 * MINUTE);
    assert_eq!(silent.count(PING), 0);
    silent.wait(MINUTE);
    assert_eq!(silent.count(PING), 1);
    silent.wait(Duration::from_secs(20));
    assert!(silent.session.is_over());

    let mut alive = Bench::open();
    alive.wait(MINUTE);
    for pings in 1..4 {
        alive.wait(119 * MINUTE);
        assert_eq!(alive.count(PING), pings);
        let payload = alive.seen.frames.iter().rfind(|frame| frame.kind == PING).unwrap().payload.clone();
        alive.send(&frame(PING, ACK, 0, &payload)).wait(MINUTE);
        assert!(!alive.session.is_over());
    }
}

#[test]
fn a_connection_without_calls_is_told_to_go() {
    let idle = ServerParameters { max_connection_idle: MINUTE, ..ServerParameters::default() };
    let mut bench = Bench::with(idle);
    bench.send(&hello(&[])).call(1, 1).wait(5 * Duration::from_secs(1));
    bench.settle(0, Outcome::Delivered).wait(MINUTE - Duration::from_millis(1));
    assert_eq!(bench.count(GOAWAY), 0, "not a minute after its last call");
    bench.wait(Duration::from_millis(1));
    assert!(bench.count(GOAWAY) > 0 && !bench.session.is_over());
    // One that does not go is ended, and one that went before its turn came again is heard.
    bench.call(3, 1).settle(0, Outcome::Delivered);
    assert_eq!(bench.code(3), Some(0));
    bench.wait(Duration::from_secs(3));
    assert!(bench.closed && bench.session.is_over());
}

#[test]
fn an_old_connection_is_told_to_go_and_its_calls_have_a_grace() {
    let age = Duration::from_secs(100);
    let old = ServerParameters {
        max_connection_age: age,
        max_connection_age_grace: Duration::from_secs(2),
        ..Default::default()
    };
    let mut bench = Bench::with(old);
    bench.send(&hello(&[])).wait(Duration::from_secs(89));
    assert_eq!(bench.count(GOAWAY), 0);
    while bench.count(GOAWAY) == 0 {
        bench.wait(Duration::from_millis(100));
        assert!(bench.now <= bench.env.clock.now());
    }
    bench.call(1, 1).wait(Duration::from_secs(1));
    assert_eq!((bench.code(1), bench.closed), (None, false));
    bench.wait(Duration::from_secs(1));
    assert_eq!((bench.code(1), bench.withdrawn(), bench.closed), (Some(14), vec![true], true));
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let mut bench = Bench::open();
    bench.reads = false;
    bench.call(1, 1).call(3, 1).settle(0, Outcome::Delivered);
    assert!(!bench.session.output().is_empty());
    bench.wait(Duration::from_secs(29));
    assert!(!bench.session.is_over());
    bench.wait(Duration::from_secs(1));
    assert!(bench.session.is_over());
    assert_eq!(bench.withdrawn(), [true]);
    assert_eq!(bench.session.deadline(), None);
}

#[test]
fn a_panic_of_the_pipeline_costs_one_call() {
    let mut bench = Bench::open();
    bench.set_mode(Mode::Panic);
    bench.call(1, 1);
    bench.set_mode(Mode::Keep);
    bench.call(3, 1).settle(0, Outcome::Delivered);
    assert_eq!((bench.code(1), bench.code(3)), (Some(13), Some(0)));
}

#[test]
fn a_held_batch_is_offered_until_there_is_room_or_its_time_is_over() {
    let mut bench = Bench::open();
    bench.set_mode(Mode::Hold);
    bench.call(1, 1).wait(Duration::from_secs(1));
    assert_eq!(bench.code(1), None);
    bench.set_mode(Mode::Keep);
    bench.wait(Duration::from_millis(10)).settle(0, Outcome::Delivered);
    assert_eq!(bench.code(1), Some(0));
    bench.set_mode(Mode::Hold);
    bench.call(3, 1).wait(Duration::from_secs(8));
    assert_eq!(bench.code(3), Some(14));
    bench.set_mode(Mode::Refuse);
    bench.call(5, 1);
    assert_eq!(bench.code(5), Some(14));
    assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn a_connection_that_breaks_withdraws_all_that_waits() {
    for break_it in [
        Session::broken as fn(&mut Session),
        |session| session.closed_by_peer(Instant::now()),
        |session| {
            // Something that is no frame.
            session.receive(&mut vec![0xff; 64], Instant::now());
        },
    ] {
        let mut bench = Bench::open();
        bench.call(1, 1).call(3, 1);
        break_it(&mut bench.session);
        bench.turn();
        assert_eq!(bench.withdrawn(), [true, true]);
        bench.settle(0, Outcome::Delivered).wait(Duration::from_secs(2));
        assert!(bench.session.is_over());
    }
}

#[test]
fn draining_ends_idle_connections_and_answers_calls() {
    let mut idle = Bench::open();
    idle.session.drain(idle.now);
    idle.turn();
    assert!(idle.count(GOAWAY) > 0);
    let ping = idle.seen.frames.iter().find(|frame| frame.kind == PING).unwrap().payload.clone();
    idle.send(&frame(PING, ACK, 0, &ping));
    assert!(idle.closed, "it has answered: nothing is on its way");

    let mut mute = Bench::open();
    mute.session.drain(mute.now);
    mute.turn().wait(Duration::from_secs(1));
    assert!(mute.closed, "one that does not answer is not waited for");

    let mut busy = Bench::open();
    busy.call(1, 1);
    busy.session.drain(busy.now);
    busy.turn().wait(Duration::from_secs(5)).settle(0, Outcome::Delivered);
    assert_eq!(busy.code(1), Some(0));
    busy.wait(Duration::from_secs(1));
    assert!(busy.closed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_the_bytes_are_cut_does_not_matter_grpc_13(cuts in prop::collection::vec(1usize..200, 1..20)) {
        let mut bytes = hello(&[]);
        for stream in [1, 3, 5] {
            bytes.extend(call(stream, Signal::Traces.grpc_path(), &[], &message(0, &spans(stream as usize))));
        }
        bytes.extend(call(7, "/nowhere", &[], &message(0, b"")));
        bytes.extend(call(9, Signal::Traces.grpc_path(), &[], &message(0, b"\xff")));
        let mut bench = Bench::new();
        let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
        while at < bytes.len() {
            let to = (at + cuts.next().unwrap()).min(bytes.len());
            bench.send(&bytes[at..to]);
            at = to;
        }
        for _ in 0..3 {
            bench.settle(0, Outcome::Delivered);
        }
        let codes: Vec<_> = [1, 3, 5, 7, 9].map(|stream| bench.code(stream)).into();
        prop_assert_eq!(codes, [Some(0), Some(0), Some(0), Some(12), Some(3)]);
    }

    #[test]
    fn frames_of_any_kind_neither_panic_nor_stay(
        frames in prop::collection::vec((0u8..12, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40)), 1..30)
    ) {
        let mut bench = Bench::open();
        bench.call(1, 1);
        for (kind, flags, stream, payload) in frames {
            bench.send(&frame(kind, flags, stream, &payload));
        }
        bench.session.closed_by_peer(bench.now);
        prop_assert!(bench.turn().session.is_over());
        prop_assert!(bench.withdrawn().into_iter().all(|withdrawn| withdrawn));
        bench.pipeline.taken.lock().clear();
        prop_assert_eq!(bench.env.budget.reserved(), ByteSize::ZERO);
    }
}

#[test]
fn a_call_reset_after_its_answer_is_no_error() {
    let mut bench = Bench::open();
    bench.call(1, 1).settle(0, Outcome::Delivered).send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()));
    bench.call(3, 1).settle(0, Outcome::Delivered);
    assert_eq!((bench.code(1), bench.code(3)), (Some(0), Some(0)));
    assert_eq!(bench.seen.answers[&3].data.len(), 5);
    assert!(bench.seen.frames.iter().any(|frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0));
}
