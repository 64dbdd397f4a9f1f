//! The client called from everywhere: never a hang, never a panic.
//!
//! A program of its own, without the harness: it forks, sets a panic hook, a logger and a signal's action, and ends with a
//! client that is used while the main thread's storage is taken down.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "sdk")]
mod bridge;
mod places;
#[path = "../export/server.rs"]
#[allow(dead_code)]
mod server;

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_export::client::{Logger, Mode, OtlpClient, Protocol};
use prost::Message;

use places::Place;
use server::Server;

/// What is waited for in any case, before something counts as a hang.
const LONG: Duration = Duration::from_secs(30);

/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(40);

type Job = Box<dyn FnOnce() -> Result<(), String> + Send>;

#[derive(Clone, Copy, Debug)]
enum Action {
    Build,
    Record,
    Flush,
    Shutdown,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Endpoint {
    /// Nobody listens.
    Dead,
    /// It takes connections and never answers.
    Slow,
    Healthy,
}

/// Every line that was logged.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        if let Some(logger) = SENDING.get() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(Vec::new()));

/// Sends what is logged, from when it is set.
static SENDING: OnceLock<Logger> = OnceLock::new();

fn main() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    places::install_hook();
    every_place_times_every_action();
    a_child_of_fork_sends_its_own_and_nothing_of_its_parents();
    forks_while_others_record_do_not_hang();
    only_the_first_failure_is_logged();
    println!("test result: ok. 4 passed; 0 failed");
    at_exit();
}

/// Ends the program where what is done does not end; returns what it gave.
fn within<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(run()));
    match receiver.recv_timeout(2 * LONG) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => fail(&format!("{what} hangs")),
        Err(RecvTimeoutError::Disconnected) => fail(&format!("{what} panicked")),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}

fn every_place_times_every_action() {
    let healthy = Server::start([]);
    // Connections end up in the backlog, and stay there.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = [
        (Endpoint::Dead, format!("http://{dead}")),
        (Endpoint::Slow, format!("http://{}", slow.local_addr().unwrap())),
        (Endpoint::Healthy, healthy.url()),
    ];
    let mut cells = Vec::new();
    #[cfg(feature = "sdk")]
    let mut jobs = bridge::cells(&urls);
    #[cfg(not(feature = "sdk"))]
    let mut jobs = Vec::new();
    for place in Place::ALL {
        for action in [Action::Build, Action::Record, Action::Flush, Action::Shutdown, Action::Drop] {
            for (endpoint, url) in urls.clone() {
                cells.push((place, action, endpoint, url, Mode::Queued));
                let (endpoint, url) = urls[cells.len() % 3].clone();
                cells.push((place, action, endpoint, url, Mode::Direct));
            }
            // Over gRPC, too. Nobody here answers it.
            for (endpoint, url) in urls[..2].iter().cloned() {
                for mode in [Mode::Queued, Mode::Direct] {
                    cells.push((place, action, endpoint, format!("grpc-{url}"), mode));
                }
            }
        }
    }
    jobs.extend(cells.into_iter().map(|(place, action, endpoint, url, mode)| {
        let name = format!("{place:?} {action:?} {endpoint:?} {mode:?} {url}");
        let run = move || {
            let client = client(&url, endpoint, mode);
            // Something is on its way already, from a thread of its own.
            client.send_log("before").finish();
            let make = move || job(client.clone(), action, endpoint, url.clone(), mode);
            places::enter(place, &make)
        };
        (name, Box::new(run) as Job)
    }));
    // Alone, once the others are done: see `places::others_have_begun`.
    let (forking, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|(name, _)| name.contains("ForkedChild"));
    run_all(jobs, 16);
    run_all(forking, 1);
}

/// Runs them on that many threads.
fn run_all(jobs: Vec<(String, Job)>, threads: usize) {
    let count = jobs.len();
    let jobs = Arc::new(Mutex::new(jobs));
    let (sender, results) = channel();
    for _ in 0..threads {
        let (jobs, sender) = (Arc::clone(&jobs), sender.clone());
        std::thread::spawn(move || {
            while let Some((name, run)) = { jobs.lock().unwrap().pop() } {
                let result = within(&name, run);
                sender.send((name, result)).unwrap();
            }
        });
    }
    for _ in 0..count {
        let (name, result) = results.recv_timeout(4 * LONG).unwrap();
        if let Err(message) = result {
            fail(&format!("{name}: {message}"));
        }
    }
}

fn client(url: &str, endpoint: Endpoint, mode: Mode) -> OtlpClient {
    let patience = if endpoint == Endpoint::Healthy { LONG } else { SHORT };
    let builder = OtlpClient::builder().mode(mode).timeout(patience).drop_timeout(patience);
    let builder = match url.strip_prefix("grpc-") {
        Some(url) => builder.endpoint(url).protocol(Protocol::Grpc),
        None => builder.endpoint(url),
    };
    builder.build().unwrap()
}

fn job(client: OtlpClient, action: Action, endpoint: Endpoint, url: String, mode: Mode) -> Job {
    let healthy = endpoint == Endpoint::Healthy;
    let patience = if healthy { LONG } else { SHORT };
    Box::new(move || {
        let check = |right: bool, what: &dyn std::fmt::Debug| if right { Ok(()) } else { Err(format!("{what:?}")) };
        match action {
            Action::Build => {
                drop(self::client(&url, endpoint, mode));
                Ok(())
            }
            Action::Record => {
                let sent = client.send_trace("here").with_attribute("k", "v").finish();
                check(sent.is_success() == (healthy || mode == Mode::Queued), &sent)?;
                client.send_sum("there", 1).finish();
                Ok(())
            }
            Action::Flush => {
                client.send_trace("here").finish();
                let report = client.flush(patience);
                // What other threads recorded meanwhile may be held.
                let held = report.as_ref().map_or(0, |report| report.held.get());
                // A loss is told to one of those who flush at the same time.
                let lost = client.stats().total().dropped.total().get();
                check(if healthy { report.is_ok() } else { report.is_err() || held > 0 || lost > 0 }, &report)
            }
            Action::Shutdown => {
                client.send_trace("here").finish();
                let report = client.shutdown(patience);
                check(report.is_ok() == healthy, &report)?;
                check(client.stats().total().held.get() == 0, &client.stats())
            }
            Action::Drop => {
                client.send_log("here").finish();
                drop(client);
                Ok(())
            }
        }
    })
}

/// The spans that came, name and id, once there are `count`.
fn spans(server: &Server, count: usize) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while found.len() < count {
        let seen = server.seen.recv_timeout(LONG).unwrap();
        let body = ExportTraceServiceRequest::decode(&seen.body[..]).unwrap();
        let scopes = body.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        found.extend(scopes.flat_map(|scope| scope.spans).map(|span| (span.name, span.span_id)));
    }
    assert!(server.seen.try_recv().is_err());
    found
}

fn a_child_of_fork_sends_its_own_and_nothing_of_its_parents() {
    let server = Server::start([]);
    let client = OtlpClient::builder().endpoint(server.url()).batch_delay(LONG).build().unwrap();
    let record = |name: &str, count| (0..count).for_each(|_| drop(client.send_trace(name).finish()));
    record("parent", 10);
    for _ in 0..2 {
        places::in_child(|| {
            assert_eq!(client.stats().total().recorded.get(), 0);
            (0..5).for_each(|_| drop(client.send_trace("child").finish()));
            match client.shutdown(LONG) {
                Ok(report) if report.delivered.get() == 5 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap();
    }
    record("parent", 10);
    assert_eq!(client.shutdown(LONG).unwrap().delivered.get(), 20);
    let spans = spans(&server, 30);
    assert_eq!(spans.iter().filter(|(name, _)| name == "child").count(), 10);
    assert_eq!(spans.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(), 30, "an id was given twice");
}

fn forks_while_others_record_do_not_hang() {
    let server = Server::start([]);
    let client = OtlpClient::builder().endpoint(server.url()).batch_items_max(8).build().unwrap();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (client, ended) = (client.clone(), Arc::clone(&ended));
            std::thread::spawn(move || {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    client.send_trace("parent").finish();
                    client.stats();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        places::in_child(|| {
            client.send_trace("child").finish();
            client.shutdown(LONG).map(drop).map_err(|lost| lost.to_string())
        })
        .unwrap();
    }
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let _ = client.shutdown(LONG);
    let total = client.stats().total();
    assert_eq!(total.recorded, total.delivered + total.dropped.total());
}

fn only_the_first_failure_is_logged() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let quick = otlp_export::retry::Config {
        initial_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(1),
        ..Default::default()
    };
    let client =
        OtlpClient::builder().endpoint(format!("http://{dead}")).thread_name("once").retry(quick).build().unwrap();
    // All of it is sent by the client that it may tell of.
    SENDING.set(Logger::new(client.clone())).unwrap();
    log::trace!("the host's");
    // So that it leaves now.
    let _ = client.flush(Duration::ZERO);
    let begun = Instant::now();
    while client.stats().failed_attempts < 10 && begun.elapsed() < LONG {
        std::thread::yield_now();
    }
    assert_eq!(client.stats().total().recorded.get(), 1, "the export path's own was sent");
    let _ = client.shutdown(Duration::ZERO);
    let lines = LINES.0.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.starts_with("WARN once: ")).count(), 1, "{lines:?}");
    // Whatever was done above, by any client, nothing else was ever logged.
    let expected = |line: &str| line.contains("telemetry cannot be exported") || line == "TRACE the host's";
    let others: Vec<_> = lines.iter().filter(|line| !expected(line)).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// Uses a client while the storage of the main thread is taken down, which is as late as it can be.
fn at_exit() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = client(&format!("http://{dead}"), Endpoint::Dead, Mode::Queued);
    std::thread::spawn(|| {
        std::thread::park_timeout(LONG);
        fail("hangs at exit");
    });
    places::at_thread_end(Box::new(move || {
        client.send_trace("last").finish();
        let _ = client.shutdown(SHORT);
        Ok(())
    }));
}
