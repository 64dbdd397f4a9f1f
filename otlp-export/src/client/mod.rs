//! `OtlpClient`: telemetry from inside a service that has no runtime, by OTLP.
//!
//! | file          | purpose                                                                    |
//! |---------------|----------------------------------------------------------------------------|
//! | `config.rs`   | the settings                                                               |
//! | `env.rs`      | the standard environment variables                                         |
//! | `record/`     | spans, log records and data points, written as OTLP                        |
//! | `envelope.rs` | the messages around them                                                   |
//! | `queue.rs`    | what waits; no clock, no lock                                              |
//! | `outbox/`     | the queue, the thread, and what became of everything                       |
//! | `stats.rs`    | the account                                                                |
//! | `fork.rs`     | one value for each process                                                 |
//! | `ways.rs`     | the exporters behind it                                                    |
//! | `logger.rs`   | a `log::Log` that sends                                                    |
//!
//! # What it does
//!
//! Records spans, log records and data points and sends them to a collector. Two modes: *queued*, where recording copies
//! a few hundred bytes and one named thread sends, and *direct*, where there is no thread and the caller gets the
//! destination's answer.
//!
//! ```
//! use std::time::Duration;
//!
//! use otlp_export::client::{OtlpClient, Severity};
//!
//! # let sink = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let endpoint = format!("http://{}", sink.local_addr().unwrap());
//! # std::thread::spawn(move || for stream in sink.incoming() {
//! #     use std::io::{Read, Write};
//! #     let mut stream = stream.unwrap();
//! #     std::thread::spawn(move || while stream.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {
//! #         let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
//! #     });
//! # });
//! let client = OtlpClient::builder().endpoint(endpoint).service("shop").build()?;
//!
//! let order = client.send_trace("order").with_attribute("customer", "4711").with_numeric_attribute("items", 3);
//! let pay = client.send_trace("pay").with_parent(order.context());
//! pay.finish();
//! client.send_log("paid").with_severity(Severity::Info).with_span(order.context()).finish();
//! client.send_sum("orders", 1).finish();
//! order.finish();
//!
//! let report = client.shutdown(Duration::from_secs(5)).expect("nothing was lost");
//! assert_eq!(report.delivered.get(), 4);
//! # Ok::<(), otlp_export::ConfigError>(())
//! ```
//!
//! # Threads
//!
//! Queued: one, `otlp-client` by default, begun by the first record. Direct: none. With gRPC, too. A client may be used from any thread, inside `Drop`, in a panic hook, at the end of a
//! thread, inside an async runtime and in a child of fork, which has a client of its own from its first use on and does
//! not send what its parent had recorded. Not from a signal handler: it locks and allocates.
//!
//! Where no thread can be had, `flush` and `shutdown` send in their caller's: the system has none left, or, in a child of
//! fork, std's lock for beginning and ending threads was held by another thread of the parent's, which nobody releases.
//! A flush that ends by its deadline there gives up what it was sending.
//!
//! # Limits
//!
//! [`Builder::queue_items_max`] of each signal and [`Builder::queue_bytes_max`] together; at the bound
//! [`Builder::when_full`] decides. `flush` and `shutdown` return by their deadline, whatever the destination does. In
//! direct mode a call ends within its `timeout`, and before that the host's name is resolved, for which the system has no
//! deadline.
//!
//! # On failure
//!
//! Tried again by [`Builder::retry`]; what is given up is counted by reason. The first failure reaches
//! [`Builder::on_failure`] and one log line, in a child of fork the callback alone, since the logger's lock may be held
//! there for ever. The client logs nothing else, but for variables that [`Builder::build`] passes over.
//!
//! # On shutdown
//!
//! [`OtlpClient::shutdown`] sends what is held until its deadline, and when it has returned the thread is gone. Where there
//! was no time for that, it may outlive it by what the system takes to resolve a name or to give up a connection; a second
//! call may wait for it.
//!
//! # Specification
//!
//! OTLP; OpenTelemetry, OTLP Exporter Configuration, and Batching processor for the defaults.

pub(crate) mod config;
pub(crate) mod env;
pub(crate) mod envelope;
pub(crate) mod fork;
mod logger;
pub(crate) mod outbox;
mod queue;
pub(crate) mod record;
mod stats;
#[cfg(test)]
mod tests;
mod ways;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::wire::validate::{Limits, Malformed};
use otlp_core::{Batch, Code, Deadline, Failure, ItemCount, Outcome, Reason, Signal};

pub use config::{Builder, Protocol};
use envelope::Origin;
use fork::PerProcess;
pub use logger::Logger;
pub use otlp_core::flow::gate::WhenFull;
use outbox::Outbox;
pub use outbox::{Mode, Sent};
pub use record::{
    Kind, Log, Metric, Number, Severity, Span, SpanContext, SpanId, TelemetryData, Temporality, TraceId, Value,
};
pub use stats::{Counts, Losses, Lost, Report, Stats};

/// Sends telemetry from inside a service. Cheap to clone: all clones are one client.
///
/// Dropping the last clone without [`OtlpClient::shutdown`] waits for what is held, for [`Builder::drop_timeout`] at
/// most.
#[derive(Clone)]
pub struct OtlpClient(Arc<Inner>);

struct Inner {
    outbox: PerProcess<Outbox>,
    origin: Origin,
    disabled: bool,
    drop_timeout: Duration,
}

/// What became of a list of items: [`OtlpClient::send_batch`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BatchSent {
    /// Taken: by the queue in queued mode, by the destination in direct mode.
    pub succeeded: ItemCount,
    /// Not taken.
    pub failed: ItemCount,
    /// Why the first of those was not.
    pub failure: Option<Failure>,
}

impl OtlpClient {
    /// Settings, all at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Settings as the standard variables have them, which are read through `look_up`: the environment's is
    /// `|name| std::env::var(name).ok()`. What is set on the builder afterwards goes before.
    ///
    /// Read are `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SDK_DISABLED`, `OTEL_EXPORTER_OTLP_` followed by
    /// `ENDPOINT`, `PROTOCOL`, `HEADERS`, `COMPRESSION`, `TIMEOUT`, `INSECURE`, `CERTIFICATE`, `CLIENT_CERTIFICATE` and
    /// `CLIENT_KEY`, also with `TRACES_`, `METRICS_` or `LOGS_` between, and `OTEL_BSP_` for spans and `OTEL_BLRP_` for log
    /// records followed by `SCHEDULE_DELAY`, `MAX_QUEUE_SIZE` and `MAX_EXPORT_BATCH_SIZE`. `EXPORT_TIMEOUT` is not: how
    /// long a batch is tried is what [`Builder::retry`] says. What cannot be read is passed over with a warning:
    /// [`Builder::ignored`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use otlp_export::client::OtlpClient;
    /// let client = OtlpClient::from_env(|name| std::env::var(name).ok()).service("shop").build()?;
    /// # Ok::<(), otlp_export::ConfigError>(())
    /// ```
    pub fn from_env(look_up: impl Fn(&str) -> Option<String>) -> Builder {
        env::read(&look_up)
    }

    /// Begins a span, of a trace of its own unless it is given a parent. It begins now.
    #[inline]
    pub fn send_trace(&self, name: &str) -> Span<&OtlpClient> {
        Span::begin(self, name)
    }

    /// Begins a log record.
    pub fn send_log<'a>(&self, body: impl Into<Value<'a>>) -> Log<&OtlpClient> {
        Log::begin(self, body.into())
    }

    /// Begins a gauge: a value as it is now.
    pub fn send_gauge(&self, name: &str, value: impl Into<Number>) -> Metric<&OtlpClient> {
        Metric::gauge(self, name, value.into())
    }

    /// Begins a sum: by how much something grew, unless [`Metric::with_temporality`] says otherwise.
    pub fn send_sum(&self, name: &str, value: impl Into<Number>) -> Metric<&OtlpClient> {
        Metric::sum(self, name, value.into())
    }

    /// Begins a histogram of these observations: how many lie at or below each bound and above the one before.
    pub fn send_histogram(&self, name: &str, bounds: &[f64], observations: &[f64]) -> Metric<&OtlpClient> {
        Metric::histogram(self, name, bounds, observations)
    }

    /// Records one item.
    pub fn send(&self, item: impl Into<TelemetryData>) -> Sent {
        let item = item.into();
        self.send_bytes(item.signal, &item.bytes)
    }

    /// Records several items, of any signals. In direct mode those of a signal leave together, up to 512 in a request.
    ///
    /// # Examples
    ///
    /// ```
    /// # use otlp_export::client::{OtlpClient, TelemetryData};
    /// # let client = OtlpClient::builder().endpoint("http://127.0.0.1:1").drop_timeout(Default::default()).build()?;
    /// let sent = client.send_batch([
    ///     TelemetryData::trace("job").into(),
    ///     TelemetryData::gauge("load", 0.7).with_attribute("cpu", "0").into(),
    /// ]);
    /// assert_eq!(sent.succeeded.get(), 2);
    /// # Ok::<(), otlp_export::ConfigError>(())
    /// ```
    pub fn send_batch(&self, items: impl IntoIterator<Item = TelemetryData>) -> BatchSent {
        let mut result = BatchSent::default();
        if self.0.disabled {
            result.succeeded = ItemCount(items.into_iter().count() as u64);
            return result;
        }
        let outbox = self.0.outbox.get();
        if outbox.mode() == Mode::Queued {
            for item in items {
                let sent = outbox.send_item(item.signal, &self.0.origin, &item.bytes, 1);
                result.add(1, sent);
            }
            return result;
        }
        let mut open: [envelope::Items; 3] = Default::default();
        let mut leave = |signal: Signal, items: envelope::Items| {
            let count = items.count();
            if count > 0 {
                result.add(count, outbox.send_items(signal, items));
            }
        };
        for item in items {
            let gathered = &mut open[item.signal.index()];
            if gathered.count() >= config::LIMITS.batch_items_max || gathered.bytes() + item.bytes.len() > 3 << 20 {
                leave(item.signal, std::mem::take(gathered));
            }
            gathered.push(&self.0.origin, &item.bytes, 1);
        }
        for (signal, items) in Signal::ALL.into_iter().zip(open) {
            leave(signal, items);
        }
        result
    }

    /// Records a whole `Export*ServiceRequest` of that signal, protobuf and not compressed: from another SDK, or a file.
    /// It is checked, once, and leaves as it is.
    ///
    /// # Errors
    ///
    /// Where the bytes are no such request.
    pub fn send_request(&self, signal: Signal, body: impl Into<Bytes>) -> Result<Sent, Malformed> {
        let (batch, _) = Batch::check(signal, body.into(), &Limits::default())?;
        let (items, body) = (batch.items().get(), batch.body().clone());
        batch.settle(Outcome::Delivered);
        if items == 0 || self.0.disabled {
            return Ok(Sent::Settled(Outcome::Delivered));
        }
        Ok(self.0.outbox.get().send_request(signal, items, body))
    }

    #[inline]
    fn send_bytes(&self, signal: Signal, item: &[u8]) -> Sent {
        if self.0.disabled {
            return Sent::Settled(Outcome::Delivered);
        }
        self.0.outbox.get().send_item(signal, &self.0.origin, item, 1)
    }

    /// Sends everything that was recorded before the call and waits for it, for `within` at most.
    ///
    /// The report says what was settled since the last flush and what is held now; where time was too short, that is more
    /// than nothing, and goes on.
    ///
    /// # Errors
    ///
    /// Where anything was lost since the last flush.
    pub fn flush(&self, within: Duration) -> Result<Report, Lost> {
        self.0.outbox.get_surely().flush(Deadline::after(Instant::now(), within))
    }

    /// Takes nothing more, sends what is held, and waits for that and for the end of the thread, for `within` at most; what
    /// is left then is dropped and counted. The report is that of the client's whole life. May be called again, and answers the same.
    ///
    /// # Errors
    ///
    /// Where anything was lost, ever.
    pub fn shutdown(&self, within: Duration) -> Result<Report, Lost> {
        self.0.outbox.get_surely().shutdown(Deadline::after(Instant::now(), within))
    }

    /// What became of everything recorded, as it is now.
    pub fn stats(&self) -> Stats {
        self.0.outbox.get_surely().stats()
    }
}

impl BatchSent {
    fn add(&mut self, count: u64, sent: Sent) {
        let failed = match &sent {
            Sent::Settled(Outcome::Failed(_)) => count,
            Sent::Settled(Outcome::Partial { rejected, .. }) => rejected.get().min(count),
            Sent::Queued | Sent::Settled(Outcome::Delivered) => 0,
        };
        self.succeeded += ItemCount(count - failed);
        self.failed += ItemCount(failed);
        if failed > 0 && self.failure.is_none() {
            self.failure = Some(match sent.into_result() {
                Err(failure) => failure,
                Ok(()) => Failure::rejected(Code::InvalidArgument, Reason::PARTIAL_SUCCESS, "some were rejected"),
            });
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // In a child of fork that has never used it there is nothing to be done, and no lock that may be touched.
        if let Some(outbox) = self.outbox.existing() {
            let _ = outbox.shutdown(Deadline::after(Instant::now(), self.drop_timeout));
        }
    }
}

impl fmt::Debug for OtlpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtlpClient")
    }
}
