//! The server at the other end: takes OTLP/HTTP and OTLP/gRPC on one port, answers at once, counts every item.
//!
//! # Threads
//!
//! `sink` accepts; `sink-N` owns one connection for life. All end with the process or, after [`Sink::stop`], with their
//! connection.
//!
//! # Overload
//!
//! [`Limits`] make it a backend that answers late, or takes only so many items a second; [`Sink::go_away`] one that is down.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use otlp_core::codec::{Coding, decode_into};
use otlp_core::{ByteSize, Signal};

use super::grpc;
use super::http::Reader;
use super::tally::{Arrival, Tally};
use super::{Anchor, Latencies, latencies};

/// The largest body that is taken, inflated.
const BODY_BYTES_MAX: ByteSize = ByteSize(1 << 30);

/// What is kept of bodies to compare their values.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// What an answer that never comes waits for.
const NEVER: Duration = Duration::from_secs(3600);

/// One body in so many is kept while the clock runs.
const KEPT_EVERY: u64 = 64;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

/// How a sink that is not up to it behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Every answer comes that much later.
    pub delay: Duration,
    /// Items a second; `None` is no limit.
    pub take_rate: Option<f64>,
    /// Beyond `take_rate` answers 503 with `Retry-After: 1`, in place of answering late.
    pub refuse: bool,
}

/// A sink that runs.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    tally: Arc<Tally>,
    anchor: Anchor,
    limits: Limits,
    /// When the items taken so far are paid for at `take_rate`.
    paid_until: Mutex<Instant>,
    /// Requests due from the first to before the second are timed.
    window: [AtomicU64; 2],
    late: Mutex<Latencies>,
    keep_all: AtomicBool,
    kept: Mutex<Kept>,
    stopped: AtomicBool,
    /// Nobody listens, and connections end with the request that they are in.
    away: AtomicBool,
    accepted: AtomicU64,
    streams: Mutex<Vec<(u64, TcpStream)>>,
}

#[derive(Debug, Default)]
struct Kept {
    bodies: Vec<Vec<u8>>,
    bytes: usize,
}

impl Sink {
    /// Listens and starts to serve.
    ///
    /// # Errors
    ///
    /// Where the address cannot be listened on.
    pub fn start(address: SocketAddr, tally: Arc<Tally>, anchor: Anchor, limits: Limits) -> io::Result<Sink> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            tally,
            anchor,
            limits,
            paid_until: Mutex::new(Instant::now()),
            window: [AtomicU64::new(0), AtomicU64::new(0)],
            late: Mutex::new(latencies()),
            keep_all: AtomicBool::new(false),
            kept: Mutex::default(),
            stopped: AtomicBool::new(false),
            away: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            streams: Mutex::default(),
        });
        let mut sink = Sink { address, shared, acceptor: None };
        sink.listen(listener)?;
        Ok(sink)
    }

    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let acceptor = thread::Builder::new().name("sink".into()).spawn(move || accept(&listener, &shared))?;
        self.acceptor = Some(acceptor);
        Ok(())
    }

    /// Stops to listen and ends all connections: those who connect are refused by the system.
    pub fn go_away(&mut self) {
        self.shared.away.store(true, Ordering::Relaxed);
        for (_, stream) in lock(&self.shared.streams).iter() {
            // Of a connection that has ended there is nothing to end.
            let _ = stream.shutdown(Shutdown::Read);
        }
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }

    /// Listens again.
    ///
    /// # Errors
    ///
    /// Where the address was taken meanwhile.
    pub fn come_back(&mut self) -> io::Result<()> {
        self.shared.away.store(false, Ordering::Relaxed);
        self.listen(TcpListener::bind(self.address)?)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Times requests due from `from` to before `to`, in nanoseconds since the epoch.
    pub fn time_between(&self, from: u64, to: u64) {
        self.shared.window[0].store(from, Ordering::Relaxed);
        self.shared.window[1].store(to, Ordering::Relaxed);
    }

    /// From now on keeps every body, up to 64 MiB; until then one in 64.
    pub fn keep_all(&self) {
        self.shared.keep_all.store(true, Ordering::Relaxed);
    }

    /// The bodies that were kept, inflated.
    pub fn take_kept(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.shared.kept).bodies)
    }

    /// From a request's due time to its arrival.
    pub fn latencies(&self) -> Latencies {
        lock(&self.shared.late).clone()
    }

    /// Takes no more connections; those that are there end when the other side ends them.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which then sees it.
        drop(TcpStream::connect(self.address));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, most likely: no use in asking again at once.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if shared.stopped.load(Ordering::Relaxed) || shared.is_away() {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        if let Ok(clone) = stream.try_clone() {
            lock(&shared.streams).push((number, clone));
        }
        let of_connection = Arc::clone(shared);
        // A thread that cannot be had drops the connection, which the process under test reports.
        let _ = thread::Builder::new().name(format!("sink-{number}")).stack_size(256 << 10).spawn(move || {
            // Connections end in whatever way the other side chooses; what is missing is seen in the tally.
            let _ = serve(stream, &of_connection);
            lock(&of_connection.streams).retain(|&(other, _)| other != number);
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // No request of HTTP/1.1 begins as the preface of HTTP/2 does (RFC 9113, 3.4).
    let mut first = [0; 3];
    let mut seen = 0;
    while seen < first.len() {
        let more = stream.peek(&mut first)?;
        if more == seen {
            return Ok(());
        }
        seen = more;
    }
    if &first == b"PRI" { grpc::server::serve(stream, shared) } else { serve_http(stream, shared) }
}

fn serve_http(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut arrival) = (Reader::default(), Arrival::default());
    let (mut body, mut inflated) = (Vec::new(), Vec::new());
    while !shared.is_away() {
        let Some(head) = reader.request(&mut stream)? else { break };
        reader.body(&mut stream, head.length, &mut body)?;
        let head = head.signal.zip(head.coding);
        if shared.limits.answers_at_once() && head.is_some() {
            // Answered first where nothing depends on what is inside, so that counting is not in the sender's latency.
            let at = Instant::now();
            stream.write_all(OK)?;
            shared.count(at, head, &body, &mut inflated, &mut arrival);
            continue;
        }
        match shared.judge(head, &body, &mut inflated, &mut arrival) {
            Verdict::Taken { answer_at } => {
                thread::sleep(answer_at.saturating_duration_since(Instant::now()));
                stream.write_all(OK)?;
            }
            Verdict::Refused { answer_at } => {
                thread::sleep(answer_at.saturating_duration_since(Instant::now()));
                stream.write_all(BUSY)?;
            }
            Verdict::Unreadable => stream.write_all(BAD)?,
        }
    }
    Ok(())
}

/// What is to be answered, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken { answer_at: Instant },
    Refused { answer_at: Instant },
    Unreadable,
}

impl Limits {
    fn answers_at_once(&self) -> bool {
        self.delay.is_zero() && self.take_rate.is_none()
    }
}

impl Shared {
    /// Whether connections are to end: see [`Sink::go_away`].
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Decides about a body that has come, and counts what is taken.
    pub(super) fn judge(
        &self,
        head: Option<(Signal, Coding)>,
        body: &[u8],
        inflated: &mut Vec<u8>,
        arrival: &mut Arrival,
    ) -> Verdict {
        let now = Instant::now();
        let Some(plain) = self.read(head, body, inflated, arrival) else { return Verdict::Unreadable };
        let late = now + self.limits.delay;
        let Some(answer_at) = self.pay(arrival.items.len(), now) else {
            self.tally.turned_away.fetch_add(1, Ordering::Relaxed);
            return Verdict::Refused { answer_at: late };
        };
        self.arrived(arrival, now, body.len());
        self.keep(plain);
        Verdict::Taken { answer_at: answer_at.max(late) }
    }

    /// Counts a body that was taken whatever it holds.
    fn count(
        &self,
        at: Instant,
        head: Option<(Signal, Coding)>,
        body: &[u8],
        inflated: &mut Vec<u8>,
        arrival: &mut Arrival,
    ) {
        if let Some(plain) = self.read(head, body, inflated, arrival) {
            self.arrived(arrival, at, body.len());
            self.keep(plain);
        }
    }

    /// Inflates a body and reads what is in it; one that cannot be read is a stranger.
    fn read<'a>(
        &self,
        head: Option<(Signal, Coding)>,
        body: &'a [u8],
        inflated: &'a mut Vec<u8>,
        arrival: &mut Arrival,
    ) -> Option<&'a [u8]> {
        let stranger = || {
            self.tally.strangers.fetch_add(1, Ordering::Relaxed);
            None
        };
        let Some((signal, coding)) = head else { return stranger() };
        match coding {
            Coding::Identity => {
                arrival.read(signal, body);
                return Some(body);
            }
            _ => {
                inflated.clear();
                if decode_into(coding, body, BODY_BYTES_MAX, inflated, &mut |_| Ok(())).is_err() {
                    return stranger();
                }
            }
        }
        arrival.read(signal, inflated);
        Some(inflated)
    }

    /// When so many items are within the rate; `None` where they are to be refused instead.
    fn pay(&self, items: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.limits.take_rate else { return Some(now) };
        let cost = Duration::try_from_secs_f64(items as f64 / rate).unwrap_or(NEVER);
        let mut paid_until = lock(&self.paid_until);
        if self.limits.refuse {
            if *paid_until > now {
                return None;
            }
            *paid_until = now + cost.min(NEVER);
            return Some(now);
        }
        *paid_until = (*paid_until).max(now) + cost.min(NEVER);
        Some(*paid_until)
    }

    fn arrived(&self, arrival: &Arrival, at: Instant, encoded_len: usize) {
        let [from, to] = [&self.window[0], &self.window[1]].map(|end| end.load(Ordering::Relaxed));
        let now = self.anchor.unix_nano(at);
        if arrival.stamps.iter().any(|stamp| (from..to).contains(&stamp.due_unix_nano)) {
            let mut late = lock(&self.late);
            for stamp in arrival.stamps.iter().filter(|stamp| (from..to).contains(&stamp.due_unix_nano)) {
                late.saturating_record(now.saturating_sub(stamp.due_unix_nano));
            }
        }
        self.tally.arrived(arrival, encoded_len);
    }

    /// Keeps a body that is to be compared.
    fn keep(&self, body: &[u8]) {
        let number = self.tally.bodies.load(Ordering::Relaxed);
        if !self.keep_all.load(Ordering::Relaxed) && !number.is_multiple_of(KEPT_EVERY) {
            return;
        }
        let mut kept = lock(&self.kept);
        if kept.bytes + body.len() <= KEPT_BYTES_MAX {
            kept.bytes += body.len();
            kept.bodies.push(body.to_vec());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
