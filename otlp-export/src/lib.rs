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
//! | `otlp_http/`     | OTLP over HTTP/1.1                                                             |
//! | `otlp_grpc/`     | OTLP over gRPC                                                                 |
//! | `tls.rs`         | TLS of both, with certificates that are renewed                                |
//! | `headers.rs`     | headers that a configuration adds                                              |
//! | `open.rs`        | what an exporter has open, waited for when it stops                            |
//! | `resolve.rs`     | names to addresses, remembered for a while                                     |
//! | `unix.rs`        | names of Unix sockets                                                          |
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

mod connector;
pub mod debug;
mod delivery;
pub mod destination;
mod error;
pub mod fanout;
pub mod file;
mod headers;
mod open;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod queue;
mod resolve;
pub mod retry;
mod steps;
pub mod tls;
mod unix;
mod worker;

pub use destination::{Destination, Settings};
pub use error::ConfigError;
pub use fanout::Destinations;
pub use steps::Steps;
pub use worker::Threads;
