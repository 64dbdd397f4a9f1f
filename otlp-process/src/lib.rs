//! The processing stage of otlpd: chains of processors over batches.
//!
//! # In scope
//!
//! The [`chain`], which runs processors one after another and works without threads, and the processors themselves, one
//! folder each.
//!
//! # Out of scope
//!
//! This crate opens no socket and knows no destination: what leaves a chain goes to a
//! [`Downstream`](otlp_core::component::Downstream).
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod chain;
