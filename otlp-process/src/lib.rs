//! The processing stage of otlpd: chains of processors over batches.
//!
//! # In scope
//!
//! The processors, one folder each.
//!
//! # Out of scope
//!
//! This crate opens no socket and knows no destination.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod error;
pub mod memory_limiter;

pub use error::ConfigError;
