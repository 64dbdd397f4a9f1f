//! OTLP/gRPC: HTTP/2 by `h2`, polled by hand on a thread of its own for each connection.
//!
//! | file        | purpose                                                                  |
//! |-------------|--------------------------------------------------------------------------|
//! | `wire.rs`   | a non-blocking socket as `h2` reads and writes it, and waiting for it     |
//! | `client.rs` | one connection with many calls at once                                   |
//! | `sender.rs` | sends over it on a schedule                                              |
//! | `server.rs` | the sink's end of a connection                                           |
//!
//! Calls are unary (OTLP 1.x, OTLP/gRPC). What is sent is a message's five bytes of prefix and the body; see
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

pub mod client;
pub(super) mod sender;
pub(super) mod server;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use otlp_core::Signal;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// The path of a signal's `Export`.
pub fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

fn prefix(is_compressed: bool, len: usize) -> [u8; PREFIX_LEN] {
    let mut prefix = [u8::from(is_compressed); PREFIX_LEN];
    // A message of 4 GiB is nobody's.
    prefix[1..].copy_from_slice(&(len as u32).to_be_bytes());
    prefix
}

/// Set when `h2` has something for the call it was polled with: so that of many open calls only those are polled.
#[derive(Debug)]
struct Flag {
    set: Arc<Set>,
    waker: Waker,
}

#[derive(Debug)]
struct Set(AtomicBool);

impl Wake for Set {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    /// One that is set.
    fn new() -> Flag {
        let set = Arc::new(Set(AtomicBool::new(true)));
        Flag { waker: Waker::from(Arc::clone(&set)), set }
    }

    fn set(&self) {
        self.set.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.set.0.load(Ordering::Relaxed) && self.set.0.swap(false, Ordering::Relaxed)
    }
}
