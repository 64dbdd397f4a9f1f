//! Sends on a schedule, whatever the answers do.
//!
//! Request n is due at `begin + n / rate`, taken by whichever connection is free first, and timed from then, so that a
//! receiver that stalls is charged for every request it held up. What is still due when the time is over is not sent, and
//! counted. Without a rate every connection sends its next request when it has its answer: that finds the most a receiver
//! can take, and its latencies mean nothing.
//!
//! # Threads
//!
//! `load-N`, one a connection; with OTLP/gRPC it has many requests open at once (`grpc/sender.rs`).

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::corpus::{Corpus, Template};
use super::grpc;
use super::http::Connection;
use super::stamp::Stamp;
use super::tally::{Fate, Tally};
use super::{Anchor, Answer, Latencies, Problem, Protocol, doing, latencies};

/// How to send.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Connections.
    pub connections: usize,
    /// Requests that a connection has open at once; with HTTP/1.1 always one.
    pub streams: usize,
    /// Items a second; `None` is as fast as they are taken.
    pub rate: Option<f64>,
    /// From when to when requests are due, and from when on they are timed.
    pub schedule: Schedule,
    /// How long a connection waits for an answer.
    pub timeout: Duration,
}

/// When.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first request is due.
    pub begin: Instant,
    /// The first that is timed.
    pub timed_from: Instant,
    /// None is due from then on.
    pub end: Instant,
}

impl Schedule {
    /// How many requests are due in the timed window, one every `interval_s` from the beginning on.
    pub fn due_in_window(&self, interval_s: f64) -> u64 {
        let before = |instant: Instant| {
            let after_s = instant.saturating_duration_since(self.begin).as_secs_f64();
            (after_s / interval_s).ceil() as u64
        };
        before(self.end).saturating_sub(before(self.timed_from))
    }
}

/// A sender that runs.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) corpus: Arc<Corpus>,
    pub(super) tally: Arc<Tally>,
    pub(super) anchor: Anchor,
    interval: Option<f64>,
    next: AtomicU64,
    stop: AtomicBool,
    /// Threads that are done stay until then, or their CPU time could not be read any more.
    leave: AtomicBool,
    timed: Mutex<Timed>,
}

/// What was timed.
#[derive(Clone, Debug)]
pub struct Timed {
    /// From a request's due time to its answer, the good ones.
    pub answers: Latencies,
    /// From a request's due time to the instant at which its connection was free to send it: the generator's own delay,
    /// or all connections being busy.
    pub held_up: Latencies,
    /// From a request's due time to its sending, where a connection had nothing to do but to wait for that time: the
    /// generator's own delay, which the system under test is charged with.
    pub late: Latencies,
    /// Requests that were due in time and not sent any more.
    pub unsent: u64,
    /// The first thing that went wrong with a connection.
    pub first_failure: Option<String>,
}

impl Timed {
    pub(super) fn new() -> Timed {
        Timed { answers: latencies(), held_up: latencies(), late: latencies(), unsent: 0, first_failure: None }
    }

    /// Keeps the first thing that went wrong.
    pub(super) fn failed(&mut self, what: String) {
        self.first_failure.get_or_insert(what);
    }
}

impl Shared {
    /// The next request that is nobody's yet, and when it is due.
    pub(super) fn next(&self, first: u64) -> (u64, Instant) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = match self.interval {
            None => Instant::now(),
            Some(interval) => {
                let after = Duration::try_from_secs_f64((number - first) as f64 * interval);
                self.options.schedule.begin + after.unwrap_or(Duration::from_secs(1 << 32))
            }
        };
        (number, due)
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Sender {
    /// Starts to send; the first request is number `first`.
    ///
    /// # Errors
    ///
    /// Where threads cannot be started.
    pub fn start(
        options: Options,
        corpus: Arc<Corpus>,
        tally: Arc<Tally>,
        anchor: Anchor,
        first: u64,
    ) -> Result<Sender, Problem> {
        let interval = options.rate.map(|rate| corpus.plan.items as f64 / rate);
        let connections = options.connections.max(1);
        let shared = Arc::new(Shared {
            options,
            corpus,
            tally,
            anchor,
            interval,
            next: AtomicU64::new(first),
            stop: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            timed: Mutex::new(Timed::new()),
        });
        let threads = (0..connections).map(|number| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("load-{number}")).stack_size(256 << 10);
            builder.spawn(move || run(&shared, first)).map_err(doing("cannot start a thread"))
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Sender { shared, threads })
    }

    /// Ends before its time.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answer; returns what was timed and the number of the next request.
    pub fn join(self) -> (Timed, u64) {
        self.shared.leave.store(true, Ordering::Release);
        for thread in self.threads {
            thread.thread().unpark();
            // A thread that panicked has said so; its requests are missing from the books, which then do not balance.
            let _ = thread.join();
        }
        (lock(&self.shared.timed).clone(), self.shared.next.load(Ordering::Relaxed))
    }
}

/// One connection's thread.
fn run(shared: &Shared, first: u64) {
    // Threads may be woken 50 microseconds late otherwise, to save wake-ups.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let timed = match shared.options.protocol {
        Protocol::Http => Loop::new(shared, first).run(),
        Protocol::Grpc => grpc::sender::Loop::new(shared, first).run(),
    };
    let mut all = lock(&shared.timed);
    // The bounds are the same everywhere, so adding cannot fail.
    let _ = all.answers.add(&timed.answers);
    let _ = all.held_up.add(&timed.held_up);
    let _ = all.late.add(&timed.late);
    all.unsent += timed.unsent;
    if all.first_failure.is_none() {
        all.first_failure = timed.first_failure;
    }
    drop(all);
    while !shared.leave.load(Ordering::Acquire) {
        thread::park();
    }
}

/// One connection's, with OTLP/HTTP.
struct Loop<'a> {
    shared: &'a Shared,
    first: u64,
    connection: Option<Connection>,
    timed: Timed,
}

impl<'a> Loop<'a> {
    fn new(shared: &'a Shared, first: u64) -> Loop<'a> {
        Loop { shared, first, connection: None, timed: Timed::new() }
    }

    fn run(mut self) -> Timed {
        let Schedule { begin, timed_from, end } = self.shared.options.schedule;
        wait_until(begin);
        loop {
            let (number, due) = self.shared.next(self.first);
            if due >= end || self.shared.stopped() {
                return self.timed;
            }
            let waits = due > Instant::now();
            wait_until(due);
            let free = Instant::now();
            if free >= end {
                self.timed.unsent += 1;
                continue;
            }
            let fate = self.send(number, due);
            self.shared.tally.answered(number, fate);
            if due >= timed_from {
                let held_up_ns = (free - due).as_nanos() as u64;
                self.timed.held_up.saturating_record(held_up_ns);
                if waits {
                    self.timed.late.saturating_record(held_up_ns);
                }
                if matches!(fate, Fate::Accepted | Fate::Partial) {
                    self.timed.answers.saturating_record(due.elapsed().as_nanos() as u64);
                }
            }
        }
    }

    fn send(&mut self, number: u64, due: Instant) -> Fate {
        let (shared, options) = (self.shared, &self.shared.options);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let plan = &shared.corpus.plan;
                match Connection::open(options.address, plan.signal, plan.coding, options.timeout) {
                    Ok(connection) => connection,
                    Err(error) => {
                        self.timed.failed(format!("cannot connect: {error}"));
                        // Nothing was sent. A dead receiver is not to be asked in a tight loop.
                        thread::sleep(Duration::from_millis(10));
                        return Fate::Refused;
                    }
                }
            }
        };
        let stamp = Stamp { request: number, due_unix_nano: shared.anchor.unix_nano(due) };
        let template = shared.corpus.template(number);
        match template.with_pieces(&stamp, |pieces| connection.send(pieces)) {
            Ok(answer) => {
                self.connection = Some(connection);
                if let Answer::Rejected(status) = answer {
                    self.timed.failed(format!("answered {status}"));
                }
                fate(answer)
            }
            Err(error) => {
                self.timed.failed(format!("request {number}: {error}"));
                Fate::Unknown
            }
        }
    }
}

/// Sends every body of the corpus once more, one after the other, from request number `first` on; what is refused is sent
/// again, under its next number.
///
/// # Errors
///
/// Where a body is not accepted within the timeout.
pub fn send_each_once(
    options: &Options,
    corpus: &Corpus,
    tally: &Tally,
    anchor: &Anchor,
    first: u64,
) -> Result<(), Problem> {
    let count = corpus.len() as u64;
    // Numbers go up by the corpus' length where the same body is sent again.
    let first = first.next_multiple_of(count);
    let deadline = Instant::now() + options.timeout;
    let mut line = Line::open(options, corpus)?;
    for place in 0..count {
        let mut number = first + place;
        loop {
            let stamp = Stamp { request: number, due_unix_nano: anchor.unix_nano(Instant::now()) };
            let sent = line.send(corpus.template(number), &stamp, options.timeout);
            let fate = fate(sent.map_err(doing("cannot send every body once"))?);
            tally.answered(number, fate);
            match fate {
                Fate::Accepted => break,
                Fate::Refused if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                _ => return Err(Problem(format!("cannot send every body once: {fate:?}"))),
            }
            number += count;
        }
    }
    Ok(())
}

/// A connection with one request at a time, whatever it speaks.
enum Line {
    Http(Connection),
    Grpc(Box<grpc::client::Link>),
}

impl Line {
    fn open(options: &Options, corpus: &Corpus) -> Result<Line, Problem> {
        let (address, timeout, plan) = (options.address, options.timeout, &corpus.plan);
        Ok(match options.protocol {
            Protocol::Http => {
                let opened = Connection::open(address, plan.signal, plan.coding, timeout);
                Line::Http(opened.map_err(doing("cannot connect"))?)
            }
            Protocol::Grpc => {
                Line::Grpc(Box::new(grpc::client::Link::open(address, plan.signal, plan.coding, timeout)?))
            }
        })
    }

    fn send(&mut self, template: &Template, stamp: &Stamp, timeout: Duration) -> std::io::Result<Answer> {
        match self {
            Line::Http(connection) => template.with_pieces(stamp, |pieces| connection.send(pieces)),
            Line::Grpc(link) => link.call(template, stamp, timeout),
        }
    }
}

pub(super) fn fate(answer: Answer) -> Fate {
    match answer {
        Answer::Accepted { rejected: 0 } => Fate::Accepted,
        Answer::Accepted { .. } => Fate::Partial,
        Answer::Refused => Fate::Refused,
        Answer::Rejected(_) => Fate::Rejected,
    }
}

pub(super) fn wait_until(instant: Instant) {
    let wait = instant.saturating_duration_since(Instant::now());
    if !wait.is_zero() {
        thread::sleep(wait);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
