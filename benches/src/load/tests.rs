//! The sender against the sink, in one process, over the loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use otlp_core::Signal;
use otlp_core::codec::Coding;
use otlp_core::wire::retain;

use super::corpus::{Corpus, FieldOrder, Plan};
use super::http::{Connection, Reader};
use super::report::Report;
use super::run::{LISTEN_VARIABLE, SINK_VARIABLE, Settings, run};
use super::sender::{Options, Schedule, Sender, send_each_once};
use super::sink::{Limits, Sink};
use super::stamp::Stamp;
use super::tally::{Fate, Tally};
use super::values::Expected;
use super::{Anchor, Answer, Protocol};

const LONG: Duration = Duration::from_secs(30);

fn plan(signal: Signal, coding: Coding) -> Plan {
    Plan { signal, items: 20, coding, level: None, seed: 1, field_order: FieldOrder::Ascending, bodies: Some(4) }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn options(address: SocketAddr, rate: Option<f64>, length: Duration) -> Options {
    let begin = Instant::now();
    let schedule = Schedule { begin, timed_from: begin, end: begin + length };
    Options { address, protocol: Protocol::Http, connections: 3, streams: 1, rate, schedule, timeout: LONG }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn all_that_is_sent_arrives_once_as_it_was() {
    for (protocol, signal, coding) in [
        (Protocol::Http, Signal::Traces, Coding::Identity),
        (Protocol::Http, Signal::Metrics, Coding::Gzip),
        (Protocol::Http, Signal::Logs, Coding::Zstd),
        (Protocol::Http, Signal::Metrics, Coding::Identity),
        (Protocol::Grpc, Signal::Traces, Coding::Gzip),
        (Protocol::Grpc, Signal::Metrics, Coding::Identity),
        (Protocol::Grpc, Signal::Logs, Coding::Zstd),
    ] {
        let corpus = Arc::new(Corpus::new(plan(signal, coding)).unwrap());
        let (tally, anchor) = (Arc::new(Tally::new(20)), Anchor::now());
        let sink = Sink::start(loopback(), Arc::clone(&tally), anchor, Limits::default()).unwrap();
        sink.time_between(0, u64::MAX);
        // 20 requests a second of a second.
        let options = options(sink.address(), Some(4000.0), Duration::from_millis(100));
        let options = Options { protocol, streams: 5, ..options };
        let sender = Sender::start(options.clone(), Arc::clone(&corpus), Arc::clone(&tally), anchor, 0).unwrap();
        let (timed, next) = sender.join();
        assert_eq!(timed.first_failure, None);
        sink.keep_all();
        send_each_once(&options, &corpus, &tally, &anchor, next).unwrap();
        let sent = tally.offered.load(Ordering::Relaxed);
        assert_eq!(sent + timed.unsent * 20, 20 * 20 + 4 * 20, "{signal} {coding}");
        wait_for("all arrives", || tally.arrived.load(Ordering::Relaxed) >= sent);
        let books = tally.books();
        assert!(books.balance(), "{books}");
        assert_eq!((books.accepted, books.delivered), (sent, sent));
        assert_eq!(sink.latencies().len(), sent / 20);
        // The sink keeps a body after it has counted it.
        let expected = Expected::of(&corpus);
        let (mut compared, mut altered) = (0, 0);
        wait_for("all bodies are kept", || {
            for body in sink.take_kept() {
                let (of_body, altered_of_body) = expected.compare(&body);
                compared += of_body;
                altered += altered_of_body;
            }
            compared >= 4 * 20
        });
        assert_eq!(altered, 0, "{signal} {coding}");
    }
}

/// Sends bodies as they are and returns the books once all their items arrived; each counts as one accepted request.
fn after_sending(bodies: &[Vec<u8>], items: u64) -> (super::tally::Books, Vec<Vec<u8>>) {
    let tally = Arc::new(Tally::new(20));
    let sink = Sink::start(loopback(), Arc::clone(&tally), Anchor::now(), Limits::default()).unwrap();
    sink.keep_all();
    let mut connection = Connection::open(sink.address(), Signal::Traces, Coding::Identity, LONG).unwrap();
    for body in bodies {
        assert_eq!(connection.send(&[&body[..5], &body[5..]]).unwrap(), Answer::Accepted { rejected: 0 });
    }
    tally.answered(0, Fate::Accepted);
    tally.answered(1, Fate::Accepted);
    wait_for("all arrives", || tally.arrived.load(Ordering::Relaxed) >= items);
    // The sink keeps a body after it has counted it.
    let mut kept = Vec::new();
    wait_for("all bodies are kept", || {
        kept.extend(sink.take_kept());
        kept.len() == bodies.len()
    });
    (tally.books(), kept)
}

#[test]
fn a_lost_a_doubled_and_an_altered_item_are_caught() {
    let corpus = Corpus::new(plan(Signal::Traces, Coding::Identity)).unwrap();
    let body = |request| corpus.template(request).body(&Stamp { request, due_unix_nano: 0 });
    let altered = |bodies: &[Vec<u8>]| {
        let expected = Expected::of(&corpus);
        bodies.iter().map(|body| expected.compare(body)).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    };
    let (books, kept) = after_sending(&[body(0), body(1)], 40);
    assert!(books.balance(), "{books}");
    assert_eq!(altered(&kept), (40, 0));

    let without_one = |number: usize| {
        let mut place = 0;
        let left = retain(Signal::Traces, &body(1).into(), |_| {
            place += 1;
            place != number
        });
        left.body.to_vec()
    };
    let (books, kept) = after_sending(&[body(0), without_one(7)], 39);
    assert_eq!((books.lost, books.doubled, books.delivered), (1, 0, 39));
    assert_eq!(altered(&kept), (39, 0));

    // The same item once more, in another request: the first one joined with all but 19 of another.
    let again = {
        let mut place = 0;
        retain(Signal::Traces, &body(1).into(), |_| {
            place += 1;
            place == 3
        })
    };
    let (books, _) = after_sending(&[[body(0), again.body.to_vec()].concat(), body(1)], 41);
    assert_eq!((books.lost, books.doubled, books.delivered), (0, 1, 40));

    // One letter of an attribute of one span; then one of the resource, which all spans share.
    let changed = |what: &[u8], to: u8| {
        let mut bytes = body(1);
        let at = bytes.windows(what.len()).position(|window| window == what).unwrap();
        bytes[at] = to;
        bytes
    };
    let (books, kept) = after_sending(&[body(0), changed(b"server.address", b'S')], 40);
    assert!(books.balance(), "{books}");
    assert_eq!(altered(&kept), (40, 1));
    let (_, kept) = after_sending(&[body(0), changed(b"service.namespace", b'S')], 40);
    assert_eq!(altered(&kept), (40, 20));
    assert_eq!(altered(&[b"no protobuf".to_vec()]), (1, 1));
}

#[test]
fn a_sink_that_takes_less_refuses_the_rest_and_counts_what_it_took() {
    let corpus = Arc::new(Corpus::new(plan(Signal::Logs, Coding::Identity)).unwrap());
    let (tally, anchor) = (Arc::new(Tally::new(20)), Anchor::now());
    let limits = Limits { take_rate: Some(0.001), refuse: true, ..Limits::default() };
    let sink = Sink::start(loopback(), Arc::clone(&tally), anchor, limits).unwrap();
    let options = options(sink.address(), Some(4000.0), Duration::from_millis(300));
    let sender = Sender::start(options, corpus, Arc::clone(&tally), anchor, 0).unwrap();
    let (timed, _) = sender.join();
    let sent = tally.offered.load(Ordering::Relaxed);
    wait_for("the one is counted", || tally.arrived.load(Ordering::Relaxed) == 20);
    let books = tally.books();
    assert!(books.balance() && sent >= 40, "{books}");
    assert_eq!((books.accepted, books.not_accepted["refused"]), (20, sent - 20));
    assert_eq!(tally.turned_away.load(Ordering::Relaxed), sent / 20 - 1);
    assert_eq!(timed.answers.len(), 1, "what is refused is no latency");
}

#[test]
fn a_sink_refuses_calls_and_answers_late_over_grpc_too() {
    let corpus = Arc::new(Corpus::new(plan(Signal::Logs, Coding::Identity)).unwrap());
    let (tally, anchor) = (Arc::new(Tally::new(20)), Anchor::now());
    let limits = Limits { take_rate: Some(0.001), refuse: true, delay: Duration::from_millis(5) };
    let sink = Sink::start(loopback(), Arc::clone(&tally), anchor, limits).unwrap();
    let options = options(sink.address(), Some(4000.0), Duration::from_millis(100));
    let options = Options { protocol: Protocol::Grpc, connections: 1, streams: 50, ..options };
    let sender = Sender::start(options, corpus, Arc::clone(&tally), anchor, 0).unwrap();
    let (timed, _) = sender.join();
    let sent = tally.offered.load(Ordering::Relaxed);
    let books = tally.books();
    assert!(books.balance() && sent >= 40, "{books}");
    assert_eq!((books.accepted, books.not_accepted["refused"]), (20, sent - 20));
    assert!(timed.answers.len() == 1 && timed.answers.min() >= 4_900_000);
}

#[test]
fn a_sink_that_went_away_comes_back_at_the_same_place() {
    let tally = Arc::new(Tally::new(20));
    let mut sink = Sink::start(loopback(), Arc::clone(&tally), Anchor::now(), Limits::default()).unwrap();
    let corpus = Corpus::new(plan(Signal::Traces, Coding::Identity)).unwrap();
    let body = |request| corpus.template(request).body(&Stamp { request, due_unix_nano: 0 });
    let address = sink.address();
    let open = || Connection::open(address, Signal::Traces, Coding::Identity, LONG);
    let mut before = open().unwrap();
    assert_eq!(before.send(&[&body(0)]).unwrap(), Answer::Accepted { rejected: 0 });
    sink.go_away();
    assert!(before.send(&[&body(1)]).is_err() || before.send(&[&body(2)]).is_err());
    assert!(open().is_err());
    sink.come_back().unwrap();
    let mut after = open().unwrap();
    assert_eq!(after.send(&[&body(3)]).unwrap(), Answer::Accepted { rejected: 0 });
}

#[test]
fn a_receiver_that_stalls_is_charged_from_when_requests_were_due() {
    let corpus = Arc::new(Corpus::new(plan(Signal::Logs, Coding::Identity)).unwrap());
    let (tally, anchor) = (Arc::new(Tally::new(20)), Anchor::now());
    let limits = Limits { delay: Duration::from_millis(40), ..Limits::default() };
    let sink = Sink::start(loopback(), Arc::clone(&tally), anchor, limits).unwrap();
    // A request every 5 ms, answered after 40, on one connection: the second is 35 ms late, the third 70.
    let options = Options { connections: 1, ..options(sink.address(), Some(4000.0), Duration::from_millis(100)) };
    let sender = Sender::start(options, corpus, Arc::clone(&tally), anchor, 0).unwrap();
    let (timed, _) = sender.join();
    let sent = tally.offered.load(Ordering::Relaxed) / 20;
    assert!(sent + timed.unsent <= 20 && sent <= 3, "{sent} sent, {} not", timed.unsent);
    assert!(timed.unsent >= 1);
    assert!(sent < 1 || timed.answers.min() >= 39_000_000);
    assert!(sent < 2 || timed.answers.max() >= 70_000_000);
}

#[test]
fn answers_are_what_the_status_and_the_partial_success_say() {
    let cases: [(&str, Answer); 6] = [
        ("200 OK\r\nContent-Length: 0\r\n\r\n", Answer::Accepted { rejected: 0 }),
        ("200 OK\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x07", Answer::Accepted { rejected: 7 }),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\x0a\x02\r\n2\r\n\x08\x07\r\n0\r\n\r\n",
            Answer::Accepted { rejected: 7 },
        ),
        ("503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", Answer::Refused),
        ("429 Slow\r\nContent-Length: 0\r\n\r\n", Answer::Refused),
        ("400 Bad\r\nContent-Length: 3\r\n\r\nbad", Answer::Rejected(400)),
    ];
    let listener = TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        for (answer, _) in cases {
            let mut seen = Vec::new();
            while !seen.ends_with(b"body") {
                let mut one = [0];
                stream.read_exact(&mut one).unwrap();
                seen.push(one[0]);
            }
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
        }
    });
    let mut connection = Connection::open(address, Signal::Logs, Coding::Identity, LONG).unwrap();
    for (answer, expected) in cases {
        assert_eq!(connection.send(&[b"bo", b"dy"]).unwrap(), expected, "{answer}");
    }
    server.join().unwrap();
}

#[test]
fn the_window_has_the_requests_that_are_due_in_it() {
    let begin = Instant::now();
    let at = |ms| begin + Duration::from_millis(ms);
    let schedule = Schedule { begin, timed_from: at(1000), end: at(3000) };
    assert_eq!(schedule.due_in_window(0.01), 200);
    assert_eq!(Schedule { timed_from: at(1001), ..schedule }.due_in_window(0.01), 199);
    assert_eq!(Schedule { timed_from: begin, end: at(5), ..schedule }.due_in_window(0.01), 1);
}

/// Measures one of the fake systems below, which is this very program told to run nothing but that.
fn measured(fake: &str, compare: bool) -> Report {
    let settings = Settings {
        name: fake.into(),
        target: None,
        program: std::env::current_exe().unwrap(),
        arguments: ["--exact", &format!("load::tests::{fake}"), "--ignored", "--nocapture"].map(String::from).into(),
        listen: None,
        sink: loopback(),
        cpu: None,
        own_cpus: Vec::new(),
        plan: plan(Signal::Logs, Coding::Identity),
        protocol: Protocol::Http,
        connections: 2,
        streams: 1,
        idle_connections: 0,
        outage: None,
        rate: Some(4000.0),
        idle: Duration::ZERO,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(300),
        timeout: Duration::from_secs(1),
        limits: Limits::default(),
        unseen: false,
        compare,
    };
    run(&settings, &mut |_| {}).unwrap()
}

#[test]
fn a_system_that_hands_everything_on_passes() {
    let report = measured("fake_that_hands_on", true);
    assert_eq!(report.failures, [""; 0]);
    assert_eq!((report.books.lost, report.books.delivered), (0, report.books.accepted));
    assert!(report.books.accepted >= 80 && report.values.unwrap().compared >= 80);
}

#[test]
fn a_system_that_loses_one_request_of_what_it_accepted_fails() {
    let report = measured("fake_that_loses_the_third", false);
    assert_eq!(report.books.lost, 20);
    assert!(report.failures[0].starts_with("delivered is not what was accepted: "), "{:?}", report.failures);
}

#[test]
fn a_system_that_sends_one_request_twice_fails() {
    let report = measured("fake_that_doubles_the_third", false);
    assert_eq!((report.books.lost, report.books.doubled), (0, 20));
    assert!(report.failures[0].contains("20 DOUBLED"), "{:?}", report.failures);
}

#[test]
fn a_system_that_hands_on_what_it_refused_fails() {
    let report = measured("fake_that_refuses_the_third_and_hands_it_on", false);
    assert_eq!((report.books.lost, report.books.delivered_unasked), (0, 20));
    assert!(report.failures[0].contains("delivered though not accepted"), "{:?}", report.failures);
}

#[test]
fn a_system_that_changes_a_value_fails() {
    let report = measured("fake_that_alters_every_body", true);
    assert!(report.books.balance());
    assert!(report.failures[0].contains("have other values than were sent"), "{:?}", report.failures);
}

/// What a fake system does with a body: how often it sends it on, and its answer. May change the body.
type Deed = fn(u64, &mut Vec<u8>) -> (usize, &'static str);

const TAKEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
#[ignore = "the program under test of other tests"]
fn fake_that_hands_on() {
    fake(|_, _| (1, TAKEN));
}

#[test]
#[ignore = "the program under test of other tests"]
fn fake_that_loses_the_third() {
    fake(|number, _| (usize::from(number != 2), TAKEN));
}

#[test]
#[ignore = "the program under test of other tests"]
fn fake_that_doubles_the_third() {
    fake(|number, _| (1 + usize::from(number == 2), TAKEN));
}

#[test]
#[ignore = "the program under test of other tests"]
fn fake_that_refuses_the_third_and_hands_it_on() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    fake(|number, _| (1, if number == 2 { BUSY } else { TAKEN }));
}

#[test]
#[ignore = "the program under test of other tests"]
fn fake_that_alters_every_body() {
    fake(|_, body| {
        // A letter of an attribute of the resource, which all records share.
        let at = body.windows(17).position(|window| window == b"service.namespace");
        body[at.expect("every body has one")] = b'S';
        (1, TAKEN)
    });
}

/// A system under test: OTLP/HTTP in, OTLP/HTTP out, until SIGTERM. Does nothing where nobody measures it.
fn fake(deed: Deed) {
    use std::io::Write as _;
    let (Ok(listen), Ok(sink)) = (std::env::var(LISTEN_VARIABLE), std::env::var(SINK_VARIABLE)) else { return };
    let sink: SocketAddr = sink.strip_prefix("http://").unwrap().parse().unwrap();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM]).unwrap();
    let listener = TcpListener::bind(listen).unwrap();
    let requests = std::sync::atomic::AtomicU64::new(0);
    let serve = move |mut stream: TcpStream| -> std::io::Result<()> {
        let mut out = Connection::open(sink, Signal::Logs, Coding::Identity, LONG)?;
        let (mut reader, mut body) = (Reader::default(), Vec::new());
        while let Some(head) = reader.request(&mut stream)? {
            reader.body(&mut stream, head.length, &mut body)?;
            let (times, answer) = deed(requests.fetch_add(1, Ordering::Relaxed), &mut body);
            for _ in 0..times {
                assert_eq!(out.send(&[&body])?, Answer::Accepted { rejected: 0 });
            }
            stream.write_all(answer.as_bytes())?;
        }
        Ok(())
    };
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    signals.forever().next();
}
