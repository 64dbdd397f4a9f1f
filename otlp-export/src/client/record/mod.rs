//! What is recorded: spans, log records and data points, written as OTLP while they are described.
//!
//! | file            | purpose                                                                  |
//! |-----------------|--------------------------------------------------------------------------|
//! | `attributes.rs` | keys and values                                                          |
//! | `id.rs`         | trace and span ids                                                       |
//! | `span.rs`       | spans                                                                    |
//! | `log.rs`        | log records                                                              |
//! | `metric.rs`     | gauges, sums and histograms of one data point each                       |
//!
//! # Threads
//!
//! None. Each thread keeps one buffer of at most 16 KiB, so that describing an item allocates nothing.

pub(crate) mod attributes;
pub(crate) mod id;
mod log;
mod metric;
mod span;

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::time::{SystemTime, UNIX_EPOCH};

use otlp_core::Signal;

use super::OtlpClient;
use super::outbox::Sent;
pub use attributes::{Number, Value};
pub use id::{SpanContext, SpanId, TraceId};
pub use log::{Log, Severity};
pub use metric::{Metric, Temporality};
pub use span::{Kind, Span};

/// One item that is complete: a span, a log record or a data point.
///
/// Made by [`TelemetryData::trace`] and so on, or from a [`Span`], [`Log`] or [`Metric`] by `into()`.
#[derive(Debug)]
pub struct TelemetryData {
    pub(crate) signal: Signal,
    pub(crate) bytes: Buffer,
}

impl TelemetryData {
    /// Begins a span, of a trace of its own unless it is given a parent. It begins now.
    pub fn trace(name: &str) -> Span<()> {
        Span::begin((), name)
    }

    /// Begins a log record.
    pub fn log<'a>(body: impl Into<Value<'a>>) -> Log<()> {
        Log::begin((), body.into())
    }

    /// Begins a gauge: a value as it is now.
    pub fn gauge(name: &str, value: impl Into<Number>) -> Metric<()> {
        Metric::gauge((), name, value.into())
    }

    /// Begins a sum: by how much something grew, unless [`Metric::with_temporality`] says otherwise.
    pub fn sum(name: &str, value: impl Into<Number>) -> Metric<()> {
        Metric::sum((), name, value.into())
    }

    /// Begins a histogram of these observations: how many lie at or below each bound and above the one before.
    pub fn histogram(name: &str, bounds: &[f64], observations: &[f64]) -> Metric<()> {
        Metric::histogram((), name, bounds, observations)
    }

    /// Its signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }
}

/// Where a finished item goes: to a client, or nowhere yet.
mod sealed {
    pub trait Destination {}
    impl Destination for () {}
    impl Destination for &super::OtlpClient {}
}

/// Hands an item to its client.
#[inline]
fn send(client: &OtlpClient, signal: Signal, bytes: Buffer) -> Sent {
    client.send_bytes(signal, &bytes)
}

/// A buffer that goes back to its thread.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

/// What is kept.
const KEPT_BYTES_MAX: usize = 16 << 10;

thread_local! {
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Buffer {
    #[inline]
    pub(crate) fn new() -> Buffer {
        // At the end of a thread its storage may be gone already.
        let mut bytes = KEPT.try_with(Cell::take).unwrap_or_default();
        if bytes.capacity() == 0 {
            bytes.reserve(512);
        }
        Buffer(bytes)
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() <= KEPT_BYTES_MAX {
            bytes.clear();
            let _ = KEPT.try_with(|kept| kept.set(bytes));
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;
    #[inline]
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// As OTLP has it: nanoseconds since 1970, in UTC. What lies before or too far behind is the nearest that can be said.
#[inline]
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    let nanos = |since: std::time::Duration| {
        since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos()))
    };
    time.duration_since(UNIX_EPOCH).map_or(0, nanos)
}
