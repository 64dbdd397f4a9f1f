//! The processing stage of otlpd: chains of processors over batches, on one thread a pipeline and a rayon pool.
//!
//! # A chain in your own thread
//!
//! Processors are put behind one another, and a batch goes through them where you call: no thread, no channel.
//!
//! ```
//! use std::time::Duration;
//! use otlp_core::wire::edit::Value;
//! use otlp_core::wire::{Limits, view};
//! use otlp_core::{Batch, Signal};
//! use otlp_process::Chain;
//! use otlp_process::closure::{filter, map};
//!
//! let mut chain = Chain::new(vec![
//!     Box::new(filter(|item| !item.name().starts_with("health"))),
//!     Box::new(map(|item| item.attributes().upsert("team", &Value::string("storage")))),
//! ]);
//!
//! // A resource, a scope, and two spans named "get" and "health".
//! let body: &[u8] = b"\x0a\x13\x12\x11\x12\x05\x2a\x03get\x12\x08\x2a\x06health";
//! let (batch, _) = Batch::check(Signal::Traces, body.into(), &Limits::default())?;
//! let groups = chain.process(batch)?;
//! assert_eq!(groups.len(), 1);
//!
//! let left = groups[0].joined();
//! let spans = view::resources(&left).flat_map(|resource| resource.scopes()).flat_map(|scope| scope.spans());
//! let teams: Vec<_> = spans.map(|span| (span.name(), span.attributes().get("team").unwrap().to_text())).collect();
//! assert_eq!(teams, [("get", "storage".into())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Closures, and the Collector's processors
//!
//! [`closure`] has `filter`, `map`, `partition`, `aggregate` and `retry`, over views of the bytes. [`batch`](mod@batch),
//! [`attributes`], [`resource`] and [`memory_limiter`] have the Collector's names, keys and defaults.
//!
//! To write one of your own, implement [`Processor`](otlp_core::component::Processor); where it needs no memory of other
//! batches, a [`Transform`](otlp_core::component::Transform), which runs on several at once ([`chain::Stateless`]).
//!
//! # A chain with a thread of its own
//!
//! [`Stage`] drains an [`inlet`] on a thread, takes whole batches to a rayon pool of yours when enough of them wait, keeps
//! the books, and turns a panic into one rejected batch. [`merge`] lets several receivers take turns before it. The crate
//! `otlp-bin` puts all of that together as a `Pipeline`.
//!
//! # In scope
//!
//! The [`chain`], which runs processors one after another and works without threads, the [`stage`], which gives it a
//! thread, the [`inlet`] before it, and the processors themselves, one folder each.
//!
//! # Out of scope
//!
//! This crate opens no socket and knows no destination: what leaves a chain goes to a
//! [`Downstream`](otlp_core::component::Downstream), what leaves a stage to a
//! [`Fanout`](otlp_core::component::Fanout).
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attributes;
pub mod batch;
pub mod chain;
pub mod closure;
pub mod error;
pub mod inlet;
pub mod memory_limiter;
pub mod merge;
pub mod pass;
pub mod pattern;
pub mod resource;
pub mod stage;

pub use chain::Chain;
pub use error::ConfigError;
pub use stage::Stage;
