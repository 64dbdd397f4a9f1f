//! OTLP receivers: sockets in, [`otlp_core::Batch`]es out, on a few threads that each wait in one epoll call.
//!
//! | file           | purpose                                                                          |
//! |----------------|----------------------------------------------------------------------------------|
//! | `receiver.rs`  | [`OtlpReceiver`]: binds, starts the threads, stops them                          |
//! | `config.rs`    | [`Config`]: what can be configured of it                                         |
//! | `listen.rs`    | sockets that listen                                                              |
//! | `tls.rs`       | TLS: its keys, certificates from files and their renewal                         |
//! | `admission.rs` | refused before anything is read or decoded; the memory that bodies take          |
//! | `request.rs`   | headers and a complete body → a batch; shared by every transport                 |
//! | `intake.rs`    | a complete body → a batch that waits for its outcome; shared by every transport  |
//! | `metrics.rs`   | what a receiver tells about itself                                               |
//! | `driver/`      | the threads: waiting, accepting, reading, writing, timers, the inbox             |
//! | `http/`        | OTLP/HTTP: framing, sessions, answers; no sockets                                |
//! | `grpc/`        | OTLP/gRPC: framing, sessions, answers; no sockets                                |
//! | `otlp_json_file/` | files of OTLP/JSON, read back line by line; no sockets                        |
//!
//! # In scope
//!
//! Bytes from a socket to a validated batch, and the answer back, whenever and from whichever thread it comes.
//!
//! # Out of scope
//!
//! This crate knows no exporter and no processor, decodes nothing into objects, and spawns no thread per connection or
//! request: a half-received request and one that waits for its acknowledgement hold no thread.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod admission;
mod config;
mod driver;
pub mod grpc;
pub mod http;
mod intake;
mod listen;
mod metrics;
pub mod otlp_json_file;
mod receiver;
mod request;
pub mod tls;

pub use config::{Config, ConfigError, Transport};
pub use receiver::{Env, OtlpReceiver};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(hidden)]
pub mod fuzzing {
    //! What fuzz targets call.
    pub use crate::grpc::protocol::fuzz as grpc;
    pub use crate::http::protocol::fuzz as http;
}
