//! The processing stage of otlpd: chains of processors over batches, on one thread a pipeline and a rayon pool.
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
