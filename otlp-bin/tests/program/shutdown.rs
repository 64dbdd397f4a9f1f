//! A stop loses nothing that can be delivered, and ends in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::delivery::config;
use crate::support::{Answer, Backend, Gate, Program, Sender, Stopped, traces, wait_until};

/// Senders that send until they are refused or cut off, and how many spans they were told are taken.
fn stop_under_load(backends: &[String], processors: bool, drain: &str) -> (u64, Stopped) {
    let exporters: Vec<_> = (0..backends.len()).map(|index| format!("otlp_http/{index}")).collect();
    let configured: Vec<_> = exporters
        .iter()
        .zip(backends)
        .map(|(id, url)| format!("{id}: {{endpoint: '{url}', sending_queue: {{queue_size: 100000}}, retry_on_failure: {{initial_interval: 50ms}}}}"))
        .collect();
    let list = if processors { "memory_limiter, batch" } else { "" };
    let config = config(
        "memory_limiter: {check_interval: 1s, limit_mib: 2000}, batch: {timeout: 100ms, send_batch_size: 200}",
        &configured.join(", "),
        list,
        &exporters.join(", "),
    );
    let mut program = Program::start_with(&config, &["--drain-timeout", drain]);
    let address = program.address();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let senders: Vec<_> = (0..4u64)
        .map(|sender| {
            let acknowledged = Arc::clone(&acknowledged);
            std::thread::spawn(move || {
                let mut connection = Sender::connect(address);
                for request in 0..1_000_000 {
                    match connection.traces(&traces((sender << 32) + request * 5, 5)) {
                        Some(reply) if reply.status == 200 => acknowledged.fetch_add(5, Ordering::Relaxed),
                        _ => return,
                    };
                }
            })
        })
        .collect();
    wait_until("load", || acknowledged.load(Ordering::Relaxed) > 1000);
    program.signal(Signal::TERM);
    let stopped = program.wait();
    for sender in senders {
        sender.join().unwrap();
    }
    (acknowledged.load(Ordering::Relaxed), stopped)
}

#[test]
fn sigterm_under_load_loses_nothing_and_exits_zero() {
    let rounds = std::env::var("OTLPD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    for round in 0..rounds {
        let (one, two) = (Backend::healthy(), Backend::healthy());
        let (acknowledged, stopped) = stop_under_load(&[one.url(), two.url()], round % 2 == 0, "30s");
        assert_eq!(stopped.code, Some(0), "round {round}: {}", stopped.log);
        for backend in [&one, &two] {
            let times = backend.times();
            // An answer may be lost with its connection, so more may arrive than was acknowledged, but never less.
            assert!(times.len() as u64 >= acknowledged, "round {round}: {} of {acknowledged}", times.len());
            assert!(times.values().all(|&times| times == 1), "round {round}: each once");
        }
        assert_eq!(stopped.books.get("traces -> otlp_http/0", "exported"), one.spans());
    }
}

#[test]
fn sigterm_with_a_dead_destination_ends_by_the_deadline_and_says_what_was_dropped() {
    let live = Backend::healthy();
    let (acknowledged, stopped) = stop_under_load(&[live.url(), Backend::dead_url()], true, "500ms");
    assert_eq!(stopped.code, Some(1), "{}", stopped.log);
    assert!(live.times().len() as u64 >= acknowledged);
    let dropped = stopped.books.get("traces -> otlp_http/1", "dropped");
    assert!(dropped >= acknowledged, "{dropped} of {acknowledged}");
    assert_eq!(stopped.books.get("traces -> otlp_http/0", "dropped"), 0);
}

#[test]
fn a_destination_that_never_answers_cannot_hold_up_the_stop() {
    let backend = Backend::scripted(|_, _| Answer::Stall(Arc::default()));
    let (_, stopped) = stop_under_load(&[backend.url()], false, "300ms");
    assert_eq!(stopped.code, Some(1), "{}", stopped.log);
}

#[test]
fn idle_connections_do_not_hold_up_the_stop() {
    let backend = Backend::healthy();
    let mut program =
        Program::start(&config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http"));
    let address = program.address();
    let mut idle: Vec<_> = (0..50).map(|_| Sender::connect(address)).collect();
    idle[0].write(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n");
    let asked = Instant::now();
    assert_eq!(program.stop().code, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(20), "the drain timeout of 30 s is not waited for");
    assert_eq!(idle[1].reply(), None);
}

/// A sender that stalls in the middle of its request gets no OK; those that got one are owed the time that is left.
#[test]
fn half_a_request_does_not_use_up_the_time_for_what_was_acknowledged() {
    let gate = Arc::<Gate>::default();
    let backend = Backend::scripted({
        let gate = Arc::clone(&gate);
        move |_, _| Answer::Stall(Arc::clone(&gate))
    });
    let text = config(
        "batch: {timeout: 600s}",
        &format!("otlp_http: {{endpoint: '{}'}}", backend.url()),
        "batch",
        "otlp_http",
    );
    let mut program = Program::start_with(&text, &["--drain-timeout", "6s"]);
    let address = program.address();
    let mut stalled = Sender::connect(address);
    stalled.write(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n");
    stalled.write(b"content-length: 1000\r\n\r\nhalf");
    assert_eq!(Sender::connect(address).traces(&traces(0, 5)).unwrap().status, 200);
    program.signal(Signal::TERM);
    // What the batch processor holds is sent once the receivers have ended; the answer takes its time.
    wait_until("the batch", || backend.requests() == 1);
    std::thread::sleep(Duration::from_millis(700));
    gate.open();
    let stopped = program.wait();
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    assert_eq!(backend.spans(), 5);
    assert_eq!(stalled.reply().map(|reply| reply.status), Some(503));
}

#[test]
fn a_second_signal_stops_at_once() {
    let config = config("", &format!("otlp_http: {{endpoint: '{}'}}", Backend::dead_url()), "", "otlp_http");
    let mut program = Program::start_with(&config, &["--drain-timeout", "600s"]);
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 5)).unwrap().status, 200);
    program.signal(Signal::TERM);
    program.wait_for("Received signal from OS: SIGTERM");
    program.signal(Signal::INT);
    assert_eq!(program.wait().code, Some(1));
}

#[test]
fn sighup_changes_nothing_and_says_so() {
    let backend = Backend::healthy();
    let mut program =
        Program::start(&config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http"));
    program.signal(Signal::HUP);
    program.wait_for("not built yet");
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 5)).unwrap().status, 200);
    assert_eq!(program.stop().code, Some(0));
    assert_eq!(backend.spans(), 5);
}

#[test]
fn the_same_port_can_be_bound_again_at_once() {
    let backend = Backend::healthy();
    let text = config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http");
    let mut program = Program::start(&text);
    let address = program.address();
    let mut sender = Sender::connect(address);
    assert_eq!(sender.traces(&traces(0, 5)).unwrap().status, 200);
    assert_eq!(program.stop().code, Some(0));
    let mut program = Program::start(&text.replace("127.0.0.1:0", &address.to_string()));
    assert_eq!(program.address(), address);
    assert_eq!(program.stop().code, Some(0));
}
