//! Exporting: groups of batches in, outcomes out.
//!
//! | file             | purpose                                                                        |
//! |------------------|--------------------------------------------------------------------------------|
//! | `fanout.rs`      | the destinations of one pipeline, admitted all or nothing                      |
//! | `destination.rs` | one exporter with its queue, its workers and its account                       |
//! | `queue/`         | the sending queue and the batches it makes                                     |
//! | `worker.rs`      | threads that take from a queue, started on demand                              |
//! | `delivery.rs`    | one group on its way: attempts, halving, settling                              |
//! | `retry.rs`       | when to try again and when to give up                                          |
//! | `connector.rs`   | a destination that is the next pipeline                                        |
//! | `otlp_http/`     | OTLP over HTTP/1.1                                                             |
//! | `debug/`         | telemetry in words, for a person                                               |
//! | `file/`          | telemetry into a file, to be read back                                         |
//!
//! # In scope
//!
//! Everything between a pipeline's last processor and the destination's answer. Every exporter can be called without any
//! thread of ours: `exporter.export(&group, deadline)`.
//!
//! # Out of scope
//!
//! No receiving, no processing, no configuration files: the `Config` structs are filled by whoever reads those.
//!
//! # Threads
//!
//! `tx-N`, at most `num_consumers` for each destination, started when there is something to send and ended when there was
//! nothing for a while. Nothing else, and no thread for a request.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod connector;
pub mod debug;
mod delivery;
pub mod destination;
mod error;
pub mod fanout;
pub mod file;
pub mod otlp_http;
pub mod queue;
pub mod retry;
mod worker;

pub use destination::{Destination, Settings};
pub use error::ConfigError;
pub use fanout::Destinations;
pub use worker::Threads;
