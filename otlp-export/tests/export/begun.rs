//! Exporters that need not be waited for: who sends, what a worker gets to do, and whether the books say so.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use otlp_core::codec::Coding;
use otlp_core::component::{Exporter, Fanout, Health, Landed};
use otlp_core::telemetry::registry::Registry;
use otlp_core::{AckMode, Clock, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};
use otlp_export::otlp_http::{Config, OtlpHttp};
use otlp_export::{Destination, Settings, queue, retry};

use crate::server::{Do, Server, answer, ok};
use crate::support::{LONG, Pipeline, names};

/// Hands what was begun to the test; what has to be waited for is delivered at once, and remembered.
struct Ahead {
    begun: Mutex<Sender<Begun>>,
    exported: Mutex<Vec<String>>,
    /// Still open, for `shutdown` to end it.
    open: Mutex<Vec<Begun>>,
    keeps: AtomicBool,
    /// Whether everything lands within `begin`.
    at_once: bool,
}

struct Begun {
    group: Group,
    landed: Landed,
}

impl Begun {
    fn land(self, outcome: Option<Outcome>) {
        (self.landed)(self.group, outcome);
    }

    fn names(&self) -> Vec<String> {
        names(&self.group.joined())
    }
}

impl Exporter for Ahead {
    fn export(&self, group: &Group, _: Deadline) -> Outcome {
        self.exported.lock().unwrap().extend(names(&group.joined()));
        Outcome::Delivered
    }

    fn begins(&self) -> bool {
        true
    }

    fn begin(&self, group: Group, _: Deadline, landed: Landed) -> Result<(), Box<(Group, Landed)>> {
        let begun = Begun { group, landed };
        if self.at_once {
            begun.land(Some(Outcome::Delivered));
        } else if self.keeps.load(Ordering::SeqCst) {
            self.open.lock().unwrap().push(begun);
        } else {
            self.begun.lock().unwrap().send(begun).unwrap();
        }
        Ok(())
    }

    fn shutdown(&self, _: Deadline) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        open.into_iter().for_each(|begun| begun.land(Some(unavailable().into())));
    }

    fn health(&self) -> Health {
        Health::ok()
    }
}

fn ahead(at_once: bool) -> (Arc<Ahead>, Receiver<Begun>) {
    let (sender, begun) = channel();
    let ahead = Ahead {
        begun: Mutex::new(sender),
        exported: Mutex::default(),
        open: Mutex::default(),
        keeps: AtomicBool::new(false),
        at_once,
    };
    (Arc::new(ahead), begun)
}

fn unavailable() -> Failure {
    Failure::refused(Reason::UNAVAILABLE, "busy")
}

fn destination(exporter: Arc<dyn Exporter>, consumers: usize, queue_size: u64) -> Arc<Destination> {
    let queue = queue::Config { queue_size, num_consumers: consumers, ..queue::Config::default() };
    let retry = retry::Config { initial_interval: Duration::from_millis(1), ..retry::Config::default() };
    Destination::new(Settings { queue, retry, ..Settings::new("a", Signal::Traces, exporter) })
}

fn soon() -> Deadline {
    Deadline::after(Instant::now(), LONG)
}

#[test]
fn as_many_as_may_be_on_their_way_are_begun_in_order_and_by_no_thread() {
    let (exporter, begun) = ahead(false);
    let to = destination(exporter, 2, 100);
    let pipeline = Pipeline::new([Arc::clone(&to)]);
    let heard: Vec<_> = (0..5).map(|number| pipeline.send(AckMode::Exported, number, 1)).collect();
    let mut under_way: Vec<Begun> = begun.try_iter().collect();
    assert_eq!(under_way.iter().flat_map(Begun::names).collect::<Vec<_>>(), ["span-0", "span-1"]);
    assert_eq!(to.gate().unwrap().held.requests, 5);
    let mut order = Vec::new();
    while !under_way.is_empty() {
        let next = under_way.remove(0);
        order.extend(next.names());
        next.land(Some(Outcome::Delivered));
        under_way.extend(begun.try_iter());
        assert!(under_way.len() <= 2);
        assert_eq!(to.workers(), 0);
    }
    assert_eq!(order, (0..5).map(|number| format!("span-{number}")).collect::<Vec<_>>());
    assert!(heard.iter().all(|heard| heard.try_recv() == Ok(Outcome::Delivered)));
    assert_eq!(to.gate().unwrap().held.requests, 0);
    pipeline.shutdown(soon());
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(5));
}

#[test]
fn what_failed_or_was_not_sent_becomes_a_workers() {
    let (exporter, begun) = ahead(false);
    let pipeline = Pipeline::new([destination(Arc::clone(&exporter) as _, 10, 100)]);
    for (number, outcome) in [Some(unavailable().into()), None].into_iter().enumerate() {
        let heard = pipeline.send(AckMode::Exported, number as u64, 1);
        begun.try_recv().unwrap().land(outcome);
        assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered));
    }
    assert_eq!(*exporter.exported.lock().unwrap(), ["span-0", "span-1"]);
    let never = Failure::rejected(otlp_core::Code::InvalidArgument, Reason::PERMANENT, "never");
    let heard = pipeline.send(AckMode::Exported, 2, 3);
    begun.try_recv().unwrap().land(Some(never.clone().into()));
    assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Failed(never)));
    let large = Failure::rejected(otlp_core::Code::ResourceExhausted, Reason::TOO_LARGE, "too large");
    let heard = pipeline.send(AckMode::Exported, 5, 2);
    begun.try_recv().unwrap().land(Some(large.into()));
    assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered), "in two halves");
    pipeline.shutdown(soon());
    let page = pipeline.closed_page();
    assert_eq!((page.destinations[0].exported, page.destinations[0].rejected_total()), (ItemCount(4), ItemCount(3)));
}

#[test]
fn what_is_dropped_without_a_word_is_counted_and_its_slot_is_free() {
    let (exporter, begun) = ahead(false);
    let pipeline = Pipeline::new([destination(exporter, 1, 100)]);
    let heard = pipeline.send(AckMode::Exported, 0, 1);
    let next = pipeline.send(AckMode::Exported, 1, 1);
    drop(begun.try_recv().unwrap());
    assert!(matches!(heard.try_recv(), Ok(Outcome::Failed(failure)) if failure.reason == Reason::LOST));
    begun.try_recv().unwrap().land(Some(Outcome::Delivered));
    assert_eq!(next.try_recv(), Ok(Outcome::Delivered));
    pipeline.shutdown(soon());
    pipeline.closed_page();
}

#[test]
fn a_thousand_that_end_at_once_do_not_end_within_each_other() {
    let (exporter, _begun) = ahead(true);
    let pipeline = Pipeline::new([destination(exporter, 1, 100_000)]);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let pipeline = &pipeline;
            scope.spawn(move || {
                (0..2500).for_each(|number| drop(pipeline.send(AckMode::Queued, thread * 10_000 + number, 1)));
            });
        }
    });
    pipeline.shutdown(soon());
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(10_000));
}

#[test]
fn stopping_waits_for_what_is_under_way_and_for_what_waits() {
    let (exporter, begun) = ahead(false);
    let pipeline = Pipeline::new([destination(exporter, 1, 100)]);
    (0..3).for_each(|number| drop(pipeline.send(AckMode::Queued, number, 1)));
    std::thread::scope(|scope| {
        scope.spawn(|| pipeline.shutdown(soon()));
        for _ in 0..3 {
            begun.recv_timeout(LONG).unwrap().land(Some(Outcome::Delivered));
        }
    });
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(3));
}

#[test]
fn what_is_still_under_way_at_the_deadline_is_dropped_and_counted() {
    let (exporter, _begun) = ahead(false);
    exporter.keeps.store(true, Ordering::SeqCst);
    let pipeline = Pipeline::new([destination(exporter, 2, 100)]);
    (0..5).for_each(|number| drop(pipeline.send(AckMode::Queued, number, 1)));
    pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_millis(20)));
    assert_eq!(pipeline.closed_page().destinations[0].dropped_total(), ItemCount(5));
}

#[test]
fn the_books_balance_whatever_lands_where_and_the_limit_holds() {
    const THREADS: u64 = 3;
    const EACH: u64 = 300;
    let (exporter, begun) = ahead(false);
    let pipeline = Pipeline::new([destination(Arc::clone(&exporter) as _, 4, 10_000)]);
    let (most, delivered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pipeline, delivered) = (&pipeline, &delivered);
            scope.spawn(move || {
                let heard: Vec<_> =
                    (0..EACH).map(|number| pipeline.send(AckMode::Exported, thread * EACH + number, 1)).collect();
                for heard in heard {
                    assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered));
                    delivered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut waiting: Vec<Begun> = Vec::new();
        let mut turn = 0;
        while delivered.load(Ordering::SeqCst) < (THREADS * EACH) as usize {
            waiting.extend(begun.recv_timeout(Duration::from_millis(1)));
            waiting.extend(begun.try_iter());
            most.fetch_max(waiting.len(), Ordering::SeqCst);
            turn += 1;
            if !waiting.is_empty() {
                let next = waiting.swap_remove(turn % waiting.len());
                next.land(match turn % 7 {
                    0 => Some(unavailable().into()),
                    1 => None,
                    _ => Some(Outcome::Delivered),
                });
            }
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 4);
    pipeline.shutdown(soon());
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(THREADS * EACH));
}

/// `otlp_http` behind a destination, and how often a connection was used again without a thread.
fn over_http(server: &Server, timeout: Duration) -> (Pipeline, Arc<Destination>, Arc<OtlpHttp>) {
    let config = Config { endpoint: server.url(), compression: Coding::Identity, timeout, ..Config::default() };
    let exporter = OtlpHttp::new("x", &config, Signal::Traces, Clock::system(), &Registry::new()).unwrap();
    let exporter = Arc::new(exporter);
    let to = destination(Arc::clone(&exporter) as _, 4, 100);
    (Pipeline::new([Arc::clone(&to)]), to, exporter)
}

/// Sends and waits for the answer.
fn send(pipeline: &Pipeline, number: u64, items: u64) -> Outcome {
    pipeline.send(AckMode::Exported, number, items).recv_timeout(LONG).unwrap()
}

#[test]
fn a_connection_that_a_worker_made_is_used_on_without_it() {
    // The last of them comes in pieces over a socket's buffer several times over.
    let server = Server::start([]);
    let (pipeline, ..) = over_http(&server, LONG);
    for (number, items) in [1, 3, 10, 400_000].into_iter().enumerate() {
        assert_eq!(send(&pipeline, number as u64, items), Outcome::Delivered);
        let seen = server.seen.recv_timeout(LONG).unwrap();
        assert_eq!((seen.connection, names(&seen.body).len() as u64), (0, items));
        assert_eq!(seen.header("content-type"), ["application/x-protobuf"]);
        assert_eq!(seen.line, "POST /v1/traces HTTP/1.1");
    }
    pipeline.shutdown(soon());
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(400_014));
}

#[test]
fn answers_by_table_without_a_thread() {
    let later = answer(503, "", b"");
    for (step, outcome, requests) in [
        (Do::Write(later.clone()), Some(Outcome::Delivered), 2),
        (Do::WriteAndClose(later), Some(Outcome::Delivered), 2),
        (Do::Close, Some(Outcome::Delivered), 2),
        (Do::Write(answer(400, "", b"")), None, 1),
        (Do::Write(b"HTTP/1.1 2x0 OK\r\n\r\n".to_vec()), None, 1),
        (Do::Write(b"SSH-2.0\r\n\r\n".to_vec()), Some(Outcome::Delivered), 2),
        (Do::WriteAndClose(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Some(Outcome::Delivered), 2),
        (Do::Write(answer(307, "Location: /elsewhere\r\n", b"")), Some(Outcome::Delivered), 2),
        (Do::WriteAndClose(answer(200, "Connection: close\r\n", b"")), Some(Outcome::Delivered), 1),
        (
            Do::Write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
            Some(Outcome::Delivered),
            1,
        ),
    ] {
        let server = Server::start([ok(), step.clone(), ok(), ok()]);
        let (pipeline, ..) = over_http(&server, LONG);
        assert_eq!(send(&pipeline, 0, 1), Outcome::Delivered);
        let found = send(&pipeline, 1, 1);
        match &outcome {
            Some(outcome) => assert_eq!(&found, outcome, "{step:?}"),
            None => {
                assert!(matches!(&found, Outcome::Failed(failure) if !failure.is_retryable()), "{step:?} {found:?}")
            }
        }
        assert_eq!(send(&pipeline, 2, 1), Outcome::Delivered, "after {step:?}");
        pipeline.shutdown(soon());
        pipeline.closed_page();
        assert_eq!(server.seen.try_iter().count(), 2 + requests, "{step:?}");
    }
}

#[test]
fn a_server_that_never_answers_is_left_at_the_timeout() {
    let server = Server::start([ok(), Do::Stall, ok()]);
    let (pipeline, ..) = over_http(&server, Duration::from_millis(50));
    assert_eq!(send(&pipeline, 0, 1), Outcome::Delivered);
    assert_eq!(send(&pipeline, 1, 1), Outcome::Delivered, "tried again");
    let connections: Vec<_> = server.seen.try_iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 3);
    assert!(connections[2] != connections[1], "{connections:?}");
    pipeline.shutdown(soon());
    pipeline.closed_page();
}

#[test]
fn a_lane_with_a_host_has_no_thread_of_its_own_and_one_without_has() {
    let server = Server::start([]);
    let (pipeline, ..) = over_http(&server, LONG);
    assert_eq!(send(&pipeline, 0, 1), Outcome::Delivered);
    let guests = pipeline.destinations.guests();
    let [guest] = guests.as_slice() else { panic!("one destination, one guest") };
    assert!(guest.adopt());
    assert!(!guest.adopt(), "another host");
    let heard = pipeline.send(AckMode::Exported, 1, 1);
    let until = Instant::now() + LONG;
    while heard.try_recv().is_err() {
        assert!(Instant::now() < until);
        guest.turn();
        std::thread::yield_now();
    }
    assert!(guest.due().is_some_and(|due| due <= Instant::now() + LONG));
    // It goes while something is under way: a thread of the lane's own takes over.
    let heard = pipeline.send(AckMode::Exported, 2, 1);
    guest.release();
    assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered));
    pipeline.shutdown(soon());
    assert!(!guest.adopt(), "it is closed");
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(3));
}

#[test]
fn what_flies_when_the_exporter_stops_is_told() {
    let server = Server::start([ok(), Do::Stall]);
    let (pipeline, ..) = over_http(&server, LONG);
    assert_eq!(send(&pipeline, 0, 1), Outcome::Delivered);
    let heard = pipeline.send(AckMode::Exported, 1, 1);
    server.seen.recv_timeout(LONG).unwrap();
    server.seen.recv_timeout(LONG).unwrap();
    pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_millis(20)));
    assert!(matches!(heard.recv_timeout(LONG), Ok(Outcome::Failed(failure)) if failure.is_retryable()));
    assert_eq!(pipeline.closed_page().destinations[0].dropped_total(), ItemCount(1));
}
