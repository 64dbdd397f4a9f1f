//! Load: an open-loop generator, a sink that counts, and the measuring of what stands between them.
//!
//! | file          | purpose                                                                          |
//! |---------------|----------------------------------------------------------------------------------|
//! | `stamp.rs`    | the number and the due time that every request carries                           |
//! | `corpus.rs`   | seeded bodies, encoded and compressed before the clock starts                    |
//! | `compress.rs` | gzip and zstd in which the stamp can still be written                            |
//! | `http.rs`     | OTLP/HTTP: one kept-alive connection that sends bodies                           |
//! | `grpc/`       | OTLP/gRPC: both ends of a connection                                             |
//! | `sender.rs`   | sends on a schedule and times from the instant at which each request was due     |
//! | `sink.rs`     | the server at the other end                                                      |
//! | `tally.rs`    | which items arrived how often, against which requests were answered how          |
//! | `values.rs`   | whether the decoded values that arrived are those that were sent                 |
//! | `process.rs`  | the process under test: started, pinned, observed through /proc                  |
//! | `run.rs`      | all of that together, once                                                       |
//! | `report.rs`   | the figures, as text and as JSON, and tables of several runs                     |
//!
//! # Identity of an item
//!
//! Each request carries its number in one resource attribute ([`stamp`]), each item of a body its index in an id or a time
//! ([`corpus`]). The pair survives joining, splitting, compressing and editing, so the sink knows of every single item
//! whether it was lost or doubled, in whatever requests it arrives.
//!
//! # Threads
//!
//! One a connection at both ends (`load-N`, `sink-N`), blocking: the least CPU for the handful of connections that a
//! measurement takes. The caller's thread waits and prints.
//!
//! # Protocols
//!
//! OTLP/HTTP and OTLP/gRPC, chosen at the sending end; the sink takes both on one port and sees by the first bytes which it is.
//! What is specific to one is how a body is sent and an [`Answer`] read, and the framing before the sink's judgement.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub mod compress;
pub mod corpus;
pub mod grpc;
pub mod http;
pub mod process;
pub mod report;
pub mod run;
pub mod sender;
pub mod sink;
pub mod stamp;
pub mod tally;
pub mod values;

#[cfg(test)]
mod tests;

/// Latencies in nanoseconds, up to two minutes, to three digits.
pub type Latencies = hdrhistogram::Histogram<u64>;

/// An empty histogram.
pub fn latencies() -> Latencies {
    Latencies::new_with_bounds(1_000, 120_000_000_000, 3).expect("the bounds are constant and good")
}

/// What a sender speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP with protobuf bodies, over HTTP/1.1.
    #[default]
    Http,
    /// OTLP/gRPC.
    Grpc,
}

impl Protocol {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
        }
    }
}

/// What the receiver said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Taken, but for as many items.
    Accepted {
        /// `rejected_*` of the partial success.
        rejected: u64,
    },
    /// Not taken; to be sent again later (429, 502, 503, 504).
    Refused,
    /// Not taken; never to be sent again. Carries the HTTP status, or the code of gRPC.
    Rejected(u16),
}

/// Why there is no measurement.
#[derive(Debug)]
pub struct Problem(pub String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

/// `map_err` with what was being done: `.map_err(doing("cannot connect to 127.0.0.1:4318"))`.
pub fn doing<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Problem {
    move |error| Problem(format!("{what}: {error}"))
}

/// A steady clock that reads in nanoseconds since the epoch, so that two processes on one host agree.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    instant: Instant,
    unix_nano: u64,
}

impl Anchor {
    /// Now.
    pub fn now() -> Anchor {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Anchor { instant: Instant::now(), unix_nano: since.as_nanos() as u64 }
    }

    /// What an instant reads; before the anchor it is the anchor's.
    pub fn unix_nano(&self, instant: Instant) -> u64 {
        self.unix_nano + instant.saturating_duration_since(self.instant).as_nanos() as u64
    }
}
