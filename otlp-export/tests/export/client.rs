//! The client against servers that do what the test says.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_core::codec::{Coding, decode};
use otlp_core::testing::generate;
use otlp_core::{ByteSize, Outcome, Reason, Signal};
use otlp_export::client::{Builder, Mode, OtlpClient, Protocol, Sent, TelemetryData, WhenFull};
use otlp_export::retry;
use prost::Message;

use crate::server::{Do, Seen, Server, answer, ok};

/// For what is not expected to take any time at all.
const LONG: Duration = Duration::from_secs(60);

fn builder(server: &Server) -> Builder {
    OtlpClient::builder().endpoint(server.url()).service("test")
}

fn quick() -> retry::Config {
    retry::Config { initial_interval: Duration::from_millis(1), ..retry::Config::default() }
}

/// An address where nobody listens.
fn dead() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

fn spans(seen: &Seen) -> Vec<String> {
    let body = ExportTraceServiceRequest::decode(&seen.body[..]).unwrap();
    let scopes = body.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

#[test]
fn each_signal_goes_where_it_belongs_in_order() {
    let server = Server::start([]);
    let client = builder(&server).header("api-key", "s").build().unwrap();
    assert_eq!(client.send_trace("a").finish(), Sent::Queued);
    client.send_log("hello").finish();
    client.send_gauge("load", 1).finish();
    client.send_trace("b").finish();
    let report = client.flush(LONG).unwrap();
    assert_eq!((report.delivered.get(), report.held.get()), (4, 0));
    let seen: Vec<_> = (0..3).map(|_| server.seen.recv_timeout(LONG).unwrap()).collect();
    let lines: Vec<_> = seen.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(lines, ["POST /v1/traces HTTP/1.1", "POST /v1/metrics HTTP/1.1", "POST /v1/logs HTTP/1.1"]);
    assert_eq!(spans(&seen[0]), ["a", "b"]);
    assert_eq!(seen[0].header("api-key"), ["s"]);
    assert_eq!(seen[0].header("content-encoding"), Vec::<&str>::new());
    // The next flush tells of what came since.
    assert_eq!(client.flush(LONG).unwrap().delivered.get(), 0);
    assert_eq!(client.shutdown(LONG).unwrap().delivered.get(), 4);
    assert_eq!(client.shutdown(Duration::ZERO).unwrap().delivered.get(), 4);
    let Sent::Settled(Outcome::Failed(failure)) = client.send_log("late").finish() else { panic!() };
    assert_eq!((failure.reason, client.stats().refused.get()), (Reason::SHUTDOWN, 1));
}

#[test]
fn ten_threads_of_a_hundred_are_a_thousand() {
    for mode in [Mode::Queued, Mode::Direct] {
        let server = Server::start([]);
        let client = builder(&server).mode(mode).build().unwrap();
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                let (client, taken) = (client.clone(), &taken);
                scope.spawn(move || {
                    for index in 0..100 {
                        let sent = match index % 3 {
                            0 => client.send_trace("t").finish(),
                            1 => client.send_log("l").finish(),
                            _ => client.send_sum("m", 1).finish(),
                        };
                        taken.fetch_add(usize::from(sent.is_success()), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1000);
        assert_eq!(client.shutdown(LONG).unwrap().delivered.get(), 1000, "{mode:?}");
    }
}

#[test]
fn full_requests_leave_at_once_and_have_as_many_items_as_allowed() {
    let server = Server::start([]);
    let client = builder(&server).batch_items_max(100).batch_delay(LONG).build().unwrap();
    for index in 0..250 {
        client.send_trace(&index.to_string()).finish();
    }
    let names = |count: usize| {
        let names = spans(&server.seen.recv_timeout(LONG).unwrap());
        assert_eq!(names.len(), count);
        names
    };
    let before_the_delay = [names(100), names(100)].concat();
    client.flush(LONG).unwrap();
    let all = [before_the_delay, names(50)].concat();
    assert_eq!(all, Vec::from_iter((0..250).map(|index| index.to_string())));
}

#[test]
fn what_waited_for_the_delay_leaves_without_being_asked() {
    let server = Server::start([]);
    let client = builder(&server).batch_delay(Duration::from_millis(1)).build().unwrap();
    client.send_trace("only").finish();
    assert_eq!(spans(&server.seen.recv_timeout(LONG).unwrap()), ["only"]);
}

#[test]
fn direct_mode_answers_with_the_outcome_and_starts_no_thread() {
    let partial = [0x0a, 0x02, 0x08, 0x02];
    let server = Server::start([
        ok(),
        Do::Write(answer(400, "", b"")),
        Do::Write(answer(200, "Content-Type: application/x-protobuf\r\n", &partial)),
        Do::Write(answer(503, "", b"")),
    ]);
    let client = builder(&server).direct().thread_name("never-begun").build().unwrap();
    assert_eq!(client.send_trace("a").finish(), Sent::Settled(Outcome::Delivered));
    let reason = |sent: Sent| sent.into_result().unwrap_err().reason;
    assert_eq!(reason(client.send_trace("b").finish()), Reason::PERMANENT);
    let batch = (0..5).map(|_| TelemetryData::trace("c").into());
    let sent = client.send_batch(batch);
    assert_eq!((sent.succeeded.get(), sent.failed.get()), (3, 2));
    assert_eq!(sent.failure.unwrap().reason, Reason::PARTIAL_SUCCESS);
    assert_eq!(reason(client.send_log("d").finish()), Reason::UNAVAILABLE);
    let lost = client.shutdown(LONG).unwrap_err();
    let dropped: BTreeMap<_, _> = lost.report().dropped.iter().map(|(reason, count)| (reason, count.get())).collect();
    let expected = [(Reason::PERMANENT, 1), (Reason::PARTIAL_SUCCESS, 2), (Reason::UNAVAILABLE, 1)];
    assert_eq!((lost.report().delivered.get(), dropped), (4, BTreeMap::from(expected)));
    let text = lost.to_string();
    let (counts, why) = text.split_once("; the last failure: ").unwrap();
    assert_eq!(counts, "4 of the items recorded are lost: partial_success 2, permanent 1, unavailable 1");
    assert!(why.contains("/v1/logs") && why.contains("503"), "{why}");
    assert_eq!(why, &*lost.last_failure().unwrap().message);
    #[cfg(target_os = "linux")]
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        assert_ne!(name.trim(), "never-begun");
    }
}

#[test]
fn a_batch_of_direct_mode_is_one_request_for_each_signal() {
    let server = Server::start([]);
    let client = builder(&server).direct().build().unwrap();
    let sent = client.send_batch([
        TelemetryData::trace("a").into(),
        TelemetryData::log("x").into(),
        TelemetryData::trace("b").into(),
    ]);
    assert_eq!((sent.succeeded.get(), sent.failed.get()), (3, 0));
    assert_eq!(spans(&server.seen.recv_timeout(LONG).unwrap()), ["a", "b"]);
    assert_eq!(server.seen.recv_timeout(LONG).unwrap().line, "POST /v1/logs HTTP/1.1");
    assert!(server.seen.try_recv().is_err());
}

#[test]
fn requests_that_are_otlp_already_leave_as_they_are() {
    let server = Server::start([]);
    let client = builder(&server).build().unwrap();
    for signal in Signal::ALL {
        let body = generate::request(signal, 3, 7);
        assert_eq!(client.send_request(signal, body.clone()).unwrap(), Sent::Queued);
        client.flush(LONG).unwrap();
        assert_eq!(server.seen.recv_timeout(LONG).unwrap().body, body);
    }
    assert!(client.send_request(Signal::Traces, &b"\xff"[..]).is_err());
    assert!(client.send_request(Signal::Traces, &b""[..]).unwrap().is_success());
    assert_eq!(client.stats().total().recorded.get(), client.stats().total().delivered.get());
}

#[test]
fn a_failure_is_tried_again_told_once_and_told_again_after_a_success() {
    let busy = || Do::Write(answer(503, "", b""));
    let server = Server::start([busy(), busy(), busy(), ok(), busy(), ok()]);
    let (told, heard) = mpsc::channel();
    let client = builder(&server)
        .retry(quick())
        .on_failure(move |failure| {
            told.send(failure.reason).unwrap();
            panic!("a host's mistake");
        })
        .build()
        .unwrap();
    client.send_trace("a").finish();
    client.flush(LONG).unwrap();
    client.send_trace("b").finish();
    client.flush(LONG).unwrap();
    assert_eq!(Vec::from_iter(heard.try_iter()), [Reason::UNAVAILABLE, Reason::UNAVAILABLE]);
    let stats = client.stats();
    assert_eq!((stats.attempts, stats.failed_attempts, stats.total().delivered.get()), (6, 4, 2));
}

#[test]
fn a_full_queue_does_what_it_was_told() {
    let full = |policy| {
        let server = Server::start([Do::Stall]);
        let client = builder(&server)
            .batch_items_max(2)
            .queue_items_max(4)
            .when_full(policy)
            .timeout(Duration::from_millis(200))
            .retry(retry::Config::disabled())
            .drop_timeout(Duration::ZERO)
            .build()
            .unwrap();
        client.send_trace("0").finish();
        client.send_trace("1").finish();
        // These two are on their way and keep their room.
        server.seen.recv_timeout(LONG).unwrap();
        client.send_trace("2").finish();
        client.send_trace("3").finish();
        (client, server)
    };
    let (client, _server) = full(WhenFull::DropNewest);
    assert!(!client.send_trace("4").finish().is_success());
    let counts = client.stats().of(Signal::Traces);
    assert_eq!((counts.recorded.get(), counts.dropped.of(Reason::QUEUE_FULL).get()), (5, 1));

    let (client, _server) = full(WhenFull::Refuse);
    assert!(!client.send_trace("4").finish().is_success());
    assert_eq!((client.stats().total().recorded.get(), client.stats().refused.get()), (4, 1));

    let (client, server) = full(WhenFull::DropOldest);
    assert!(client.send_trace("4").finish().is_success());
    client.flush(LONG).unwrap_err();
    assert_eq!(spans(&server.seen.recv_timeout(LONG).unwrap()), ["4"]);

    // The attempt that holds the room ends after its timeout.
    let (client, server) = full(WhenFull::Block);
    assert!(client.send_trace("4").finish().is_success());
    assert_eq!(spans(&server.seen.recv_timeout(LONG).unwrap()), ["2", "3"]);
}

#[test]
fn shutdown_tells_the_truth_and_keeps_its_deadline() {
    let client = OtlpClient::builder().endpoint(dead()).build().unwrap();
    for _ in 0..5000 {
        client.send_trace("lost").finish();
    }
    let lost = client.shutdown(Duration::from_millis(100)).unwrap_err();
    assert_eq!(
        (lost.report().delivered.get(), lost.report().held.get(), lost.report().dropped.total().get()),
        (0, 0, 5000)
    );
    assert_eq!(lost.report().dropped.of(Reason::SHUTDOWN).get(), 2048);
    assert_eq!(lost.report().dropped.of(Reason::QUEUE_FULL).get(), 5000 - 2048);
    assert_eq!(client.shutdown(Duration::ZERO).unwrap_err(), lost);

    let server = Server::start([Do::Stall]);
    let client = builder(&server).timeout(LONG).build().unwrap();
    client.send_trace("stuck").finish();
    let report = client.flush(Duration::from_millis(50)).unwrap();
    assert_eq!((report.delivered.get(), report.held.get()), (0, 1));
    server.seen.recv_timeout(LONG).unwrap();
    let lost = client.shutdown(Duration::from_millis(50)).unwrap_err();
    assert_eq!(lost.report().dropped.of(Reason::SHUTDOWN).get(), 1);
}

#[test]
fn dropping_the_last_clone_sends_what_is_held() {
    let server = Server::start([]);
    let client = builder(&server).drop_timeout(LONG).build().unwrap();
    let clone = client.clone();
    drop(client);
    clone.send_trace("late").finish();
    drop(clone);
    assert_eq!(spans(&server.seen.try_recv().unwrap()), ["late"]);
}

#[test]
fn codings_and_json_are_as_asked() {
    let server = Server::start([]);
    let client = builder(&server).compression(Coding::Gzip).build().unwrap();
    client.send_trace("packed").finish();
    client.shutdown(LONG).unwrap();
    let mut seen = server.seen.recv_timeout(LONG).unwrap();
    assert_eq!(seen.header("content-encoding"), ["gzip"]);
    seen.body = decode(Coding::Gzip, &seen.body, ByteSize::mib(1), &mut |_| Ok(())).unwrap();
    assert_eq!(spans(&seen), ["packed"]);

    let client = builder(&server).protocol(Protocol::HttpJson).build().unwrap();
    client.send_log("in words").finish();
    client.shutdown(LONG).unwrap();
    let seen = server.seen.recv_timeout(LONG).unwrap();
    assert_eq!(seen.header("content-type"), ["application/json"]);
    assert!(String::from_utf8(seen.body).unwrap().contains(r#""stringValue":"in words""#));
}

#[test]
fn a_disabled_client_does_nothing() {
    let look_up = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned());
    let client = OtlpClient::from_env(look_up).endpoint(dead()).build().unwrap();
    assert!(client.send_trace("x").finish().is_success());
    assert!(client.send_batch([TelemetryData::log("x").into()]).failure.is_none());
    assert_eq!(client.shutdown(Duration::ZERO).unwrap(), Default::default());
}

#[test]
fn callbacks_may_use_the_client() {
    let server = Server::start([Do::Write(answer(503, "", b""))]);
    let slot = Arc::new(std::sync::OnceLock::<OtlpClient>::new());
    let inside = Arc::clone(&slot);
    let client = builder(&server)
        .retry(quick())
        .on_failure(move |failure| {
            let client = inside.get().unwrap();
            client.send_log(&*failure.message).finish();
            let _ = client.flush(Duration::from_millis(1));
        })
        .build()
        .unwrap();
    slot.set(client.clone()).unwrap();
    client.send_trace("a").finish();
    client.flush(LONG).unwrap();
    client.flush(LONG).unwrap();
    assert_eq!(client.stats().total().delivered.get(), 2);
}

/// The names of this process's threads.
#[cfg(target_os = "linux")]
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn after_a_shutdown_that_had_the_time_the_thread_is_gone() {
    let server = Server::start([]);
    let count = |name: &str| threads().iter().filter(|known| *known == name).count();
    // The system lists a thread for a moment after it was joined.
    let gone = |name: &str| {
        let begun = Instant::now();
        while count(name) > 0 {
            assert!(begun.elapsed() < LONG, "{name} is still there");
            std::thread::yield_now();
        }
    };
    for turn in 0..20 {
        let name = format!("leaves-{turn}");
        let client = builder(&server).thread_name(&name).build().unwrap();
        client.send_trace("a").finish();
        if turn % 2 == 0 {
            client.flush(LONG).unwrap();
        }
        // It is idle, or about to be.
        client.shutdown(LONG).unwrap();
        gone(&name);
    }
    // A first that had no time, and a second that has: whatever is lost, the thread goes.
    let stalled = Server::start([Do::Stall]);
    let client = builder(&stalled).thread_name("leaves-late").build().unwrap();
    client.send_trace("a").finish();
    stalled.seen.recv_timeout(LONG).unwrap();
    assert_eq!(count("leaves-late"), 1);
    client.shutdown(Duration::ZERO).unwrap_err();
    client.shutdown(LONG).unwrap_err();
    gone("leaves-late");
    // One that is dropped is shut down.
    let client = builder(&server).thread_name("leaves-drop").drop_timeout(LONG).build().unwrap();
    client.send_trace("a").finish();
    drop(client);
    gone("leaves-drop");
}

/// What a thread has of its own is gone when it was joined, and not before: here that takes some time.
#[test]
fn a_shutdown_joins_the_thread() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(50));
            LEFT.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local!(static OWN: Slow = const { Slow });
    let server = Server::start([Do::Write(answer(503, "", b""))]);
    let client = builder(&server).retry(quick()).on_failure(|_| OWN.with(|_| {})).build().unwrap();
    client.send_trace("a").finish();
    client.flush(LONG).unwrap();
    assert_eq!(LEFT.load(Ordering::SeqCst), 0);
    client.shutdown(LONG).unwrap();
    assert_eq!(LEFT.load(Ordering::SeqCst), 1);
}

#[test]
#[cfg(all(target_os = "linux", feature = "grpc", feature = "ring"))]
fn direct_mode_has_no_thread_by_any_way_and_queued_mode_has_one() {
    use crate::sink::{By, Sink};
    for by in By::ALL {
        for mode in [Mode::Direct, Mode::Queued] {
            let sink = Sink::start(by, || {});
            let name = format!("by-{by:?}");
            let client = sink.builder(OtlpClient::builder()).mode(mode).thread_name(&name).build().unwrap();
            for turn in 0..3 {
                client.send_trace("a").finish();
                client.flush(LONG).unwrap();
                assert_eq!(sink.seen.recv_timeout(LONG).unwrap().connection, 0, "{by:?} {mode:?} {turn}");
            }
            assert_eq!(threads().contains(&name), mode == Mode::Queued, "{by:?} {mode:?}");
            assert!(!threads().contains(&"tx-grpc".to_owned()), "nor has any other test here one");
            assert_eq!(client.shutdown(LONG).unwrap().delivered.get(), 3);
            assert!(!threads().contains(&name));
        }
    }
}

#[test]
fn a_callback_may_shut_the_client_down() {
    let server = Server::start([Do::Write(answer(400, "", b""))]);
    let slot = Arc::new(std::sync::OnceLock::<OtlpClient>::new());
    let inside = Arc::clone(&slot);
    let (told, heard) = mpsc::channel();
    let client = builder(&server)
        .on_failure(move |_| drop(told.send(inside.get().unwrap().shutdown(Duration::from_millis(1)))))
        .batch_delay(Duration::ZERO)
        .build()
        .unwrap();
    slot.set(client.clone()).unwrap();
    client.send_trace("a").finish();
    heard.recv_timeout(LONG).unwrap().unwrap_err();
    client.shutdown(LONG).unwrap_err();
}
