//! The vocabulary of otlpd: OTLP batches as validated bytes, and what happens to them.
//!
//! The unit that flows is a [`Batch`]: one [`Signal`], its OTLP protobuf bytes, its item count and its context. A
//! receiver validates a request once, completely; every stage after that trusts the bytes, reads them through
//! zero-copy views and rewrites them in place of decoding.
//!
//! # In scope
//!
//! Wire form and codecs, the ledger, flow control, acknowledgement, and the traits that components implement.
//!
//! # Out of scope
//!
//! This crate opens no socket, starts no thread of its own, reads no file and installs nothing global.
//!
//! # Features
//!
//! All off by default, all additive: `types` (prost, opentelemetry-proto), `gzip`, `zstd`, `snappy`, `lz4`, `testing`.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ack;
pub mod batch;
pub mod clock;
pub mod codec;
pub mod component;
pub mod flow;
pub mod json;
pub mod outcome;
pub mod shutdown;
pub mod signal;
pub mod status;
pub mod telemetry;
pub mod thread;
pub mod unit;
pub mod wire;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use ack::{Ack, AckMode, Ticket};
pub use batch::{Batch, Context, Group};
pub use clock::Clock;
pub use outcome::{Code, Failure, Outcome, Reason, Retry};
pub use shutdown::{Deadline, Stop, Stopper};
pub use signal::Signal;
pub use unit::{ByteSize, ItemCount};
