//! The server at the other end: takes OTLP/HTTP, answers at once, counts every item.
//!
//! # Threads
//!
//! `sink` accepts; `sink-N` owns one connection for life. All end with the process or, after [`Sink::stop`], with their
//! connection.
//!
//! # Overload
//!
//! [`Limits`] make it a backend that answers late, or takes only so many items a second.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use otlp_core::ByteSize;
use otlp_core::codec::{Coding, decode_into};

use super::http::Reader;
use super::tally::{Arrival, Tally};
use super::{Anchor, Latencies, latencies};

/// The largest body that is taken, inflated.
const BODY_BYTES_MAX: ByteSize = ByteSize(1 << 30);

/// What is kept of bodies to compare their values.
const KEPT_BYTES_MAX: usize = 64 << 20;

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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
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
        });
        let of_acceptor = Arc::clone(&shared);
        thread::Builder::new().name("sink".into()).spawn(move || accept(&listener, &of_acceptor))?;
        Ok(Sink { address, shared })
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
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, most likely: no use in asking again at once.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        // A thread that cannot be had drops the connection, which the process under test reports.
        let _ = thread::Builder::new().name(format!("sink-{number}")).stack_size(256 << 10).spawn(move || {
            // Connections end in whatever way the other side chooses; what is missing is seen in the tally.
            let _ = serve(stream, &shared);
        });
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut arrival) = (Reader::default(), Arrival::default());
    let (mut body, mut inflated) = (Vec::new(), Vec::new());
    while let Some(head) = reader.request(&mut stream)? {
        reader.body(&mut stream, head.length, &mut body)?;
        let at = Instant::now();
        let (Some(signal), Some(coding)) = (head.signal, head.coding) else {
            shared.tally.strangers.fetch_add(1, Ordering::Relaxed);
            stream.write_all(BAD)?;
            continue;
        };
        if !shared.limits.delay.is_zero() {
            thread::sleep(shared.limits.delay);
        }
        // Answered first where nothing depends on what is inside, so that counting is not in the sender's latency.
        let answered = shared.limits.take_rate.is_none();
        if answered {
            stream.write_all(OK)?;
        }
        let encoded_len = body.len();
        let plain = match coding {
            Coding::Identity => &mut body,
            _ => {
                inflated.clear();
                if decode_into(coding, &body, BODY_BYTES_MAX, &mut inflated, &mut |_| Ok(())).is_err() {
                    shared.tally.strangers.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                &mut inflated
            }
        };
        arrival.read(signal, plain);
        if !answered {
            if !shared.take(arrival.items.len()) {
                shared.tally.turned_away.fetch_add(1, Ordering::Relaxed);
                stream.write_all(BUSY)?;
                continue;
            }
            stream.write_all(OK)?;
        }
        shared.arrived(&arrival, at, encoded_len);
        shared.keep(plain);
    }
    Ok(())
}

impl Shared {
    /// Waits until so many items are within the rate; false where they are to be refused instead.
    fn take(&self, items: usize) -> bool {
        let Some(rate) = self.limits.take_rate else { return true };
        let cost = Duration::try_from_secs_f64(items as f64 / rate).unwrap_or(Duration::MAX);
        let now = Instant::now();
        let mut paid_until = lock(&self.paid_until);
        if self.limits.refuse && *paid_until > now {
            return false;
        }
        let until = (*paid_until).max(now) + cost;
        *paid_until = until;
        drop(paid_until);
        if !self.limits.refuse {
            thread::sleep(until.saturating_duration_since(now));
        }
        true
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

    /// Keeps a body that is to be compared, and leaves an empty one.
    fn keep(&self, body: &mut Vec<u8>) {
        let number = self.tally.bodies.load(Ordering::Relaxed);
        if !self.keep_all.load(Ordering::Relaxed) && !number.is_multiple_of(KEPT_EVERY) {
            return;
        }
        let mut kept = lock(&self.kept);
        if kept.bytes + body.len() <= KEPT_BYTES_MAX {
            kept.bytes += body.len();
            kept.bodies.push(std::mem::take(body));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
