//! The vocabulary of otlpd: OTLP batches as validated bytes, and what happens to them.
//!
//! The unit that flows is a [`Batch`]: one [`Signal`], its OTLP protobuf bytes, its item count and its context. A
//! receiver validates a request once, completely; every stage after that trusts the bytes, reads them through
//! zero-copy views and rewrites them in place of decoding.
//!
//! # From bytes to an answer
//!
//! A request arrives as bytes. It is checked, and from then on it is a batch:
//!
//! ```
//! use otlp_core::wire::Limits;
//! use otlp_core::{Ack, AckMode, Batch, Outcome, Signal};
//!
//! // A resource, a scope, and two spans named "get" and "put".
//! let body: &[u8] = b"\x0a\x12\x12\x10\x12\x05\x2a\x03get\x12\x07\x2a\x03put\x30\x02";
//! let (batch, findings) = Batch::check(Signal::Traces, body.into(), &Limits::default())?;
//! assert_eq!((batch.items().get(), findings.invalid_ids.get()), (2, 2));
//!
//! // Whoever sent it waits for an outcome; every part of the batch has a share in it.
//! let (sender, heard) = std::sync::mpsc::channel();
//! let batch = batch.with_ack(Ack::new(AckMode::Exported, move |outcome| drop(sender.send(outcome))));
//!
//! // Read by views, which decode nothing that is not asked for.
//! use otlp_core::wire::view::resources;
//! let scopes = resources(batch.body()).flat_map(|resource| resource.scopes());
//! let names: Vec<&str> = scopes.flat_map(|scope| scope.spans()).map(|span| span.name()).collect();
//! assert_eq!(names, ["get", "put"]);
//!
//! // Filtered on the wire: what is removed is told to the books, and the rest keeps its bytes.
//! use otlp_core::wire::{retain, view::SpanView};
//! let left = retain(batch.signal(), batch.body(), |item| SpanView::new(item.bytes).name() == "put");
//! let batch = batch.retained(left).expect("one span is left");
//!
//! // Edited in one pass: only the lengths around a change are written anew.
//! use otlp_core::wire::edit::{AttributeList, Editor, Value, edit_batch};
//! use otlp_core::wire::view::ItemView;
//! struct Mark(Value);
//! impl Editor for Mark {
//!     fn item(&mut self, _: ItemView<'_>, attributes: &mut AttributeList<'_>) {
//!         attributes.upsert("seen", &self.0);
//!     }
//! }
//! let batch = edit_batch(batch, &mut Mark(Value::bool(true)));
//! assert_eq!(batch.items().get(), 1);
//!
//! // Settled, and the sender hears.
//! batch.settle(Outcome::Delivered);
//! assert_eq!(heard.recv()?, Outcome::Delivered);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to go from here
//!
//! - [`wire`]: the bytes: checked, read, edited, filtered, split; [`json`]: OTLP/JSON to the same bytes and back;
//!   [`codec`]: compression within bounds.
//! - [`component`]: the traits to implement for a receiver, a processor or an exporter of your own, and what is promised
//!   on both sides; `testing::verify` (feature `testing`) holds yours to it.
//! - [`flow`]: gates, rate limits, the memory budget; each with a declared behaviour at its bound.
//! - [`ack`] and [`telemetry`]: who is told what, and the books, which balance at every moment.
//! - [`shutdown`], [`thread`] and [`clock`]: deadlines, named threads with one owner, time that tests can move.
//!
//! //! # In scope
//!
//! Wire form and codecs, the ledger, flow control, acknowledgement, and the traits that components implement.
//!
//! # Out of scope
//!
//! This crate opens no socket, starts no thread of its own, reads no file and installs nothing global.
//!
//! # Features
//!
//! All off by default, all additive: `types` (prost, opentelemetry-proto), `gzip`, `gzip-encode`, `zstd`, `snappy`,
//! `lz4`, `tls` (rustls), `testing`.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ack;
pub mod auth;
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
#[cfg(feature = "tls")]
pub mod tls;
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
