//! Exporting: groups of batches in, outcomes out.
//!
//! | file             | purpose                                                                        |
//! |------------------|--------------------------------------------------------------------------------|
//! | `fanout.rs`      | the destinations of one pipeline, admitted all or nothing                      |
//! | `destination.rs` | one exporter with its queue, its workers and its account                       |
//! | `queue/`         | the sending queue and the batches it makes                                     |
//! | `worker.rs`      | threads that take from a queue, started on demand                              |
//! | `steps.rs`       | the same without threads, step by step                                         |
//! | `delivery.rs`    | one group on its way: attempts, halving, settling                              |
//! | `retry.rs`       | when to try again and when to give up                                          |
//! | `connector.rs`   | a destination that is the next pipeline                                        |
//! | `client/`        | the client for services, [`client::OtlpClient`]                                |
//! | `otlp_http/`     | OTLP over HTTP/1.1                                                             |
//! | `otlp_grpc/`     | OTLP over gRPC                                                                 |
//! | `tls.rs`         | TLS of both, with certificates that are renewed                                |
//! | `headers.rs`     | headers that a configuration adds                                              |
//! | `open.rs`        | what an exporter has open, waited for when it stops                            |
//! | `resolve.rs`     | names to addresses, remembered for a while                                     |
//! | `unix.rs`        | names of Unix sockets                                                          |
//! | `lock.rs`        | locks that a panic does not spoil                                              |
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
//! nothing for a while. `tx-grpc`, one for each `otlp_grpc` exporter that was called; `tx-http`, one for each `otlp_http`
//! exporter that no other thread hosts, while anything is on its way. Nothing else, and no thread for a request.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "pipeline")]
mod connector;
#[cfg(feature = "pipeline")]
pub mod debug;
#[cfg(feature = "pipeline")]
mod delivery;
#[cfg(feature = "pipeline")]
pub mod destination;
mod error;
#[cfg(feature = "pipeline")]
pub mod fanout;
#[cfg(feature = "pipeline")]
pub mod file;
#[cfg(feature = "http")]
mod headers;
#[cfg(feature = "http")]
mod lock;
#[cfg(feature = "http")]
mod open;
#[cfg(feature = "grpc")]
pub mod otlp_grpc;
#[cfg(feature = "http")]
pub mod otlp_http;
#[cfg(feature = "pipeline")]
pub mod queue;
#[cfg(feature = "http")]
mod resolve;
pub mod retry;
#[cfg(feature = "pipeline")]
mod steps;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "http")]
mod unix;
#[cfg(feature = "pipeline")]
mod worker;

#[cfg(feature = "pipeline")]
pub use destination::{Destination, Settings};
pub use error::ConfigError;
#[cfg(feature = "pipeline")]
pub use fanout::Destinations;
#[cfg(feature = "pipeline")]
pub use steps::Steps;
#[cfg(feature = "pipeline")]
pub use worker::Threads;
