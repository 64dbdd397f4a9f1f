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
//! # Receive
//!
//! What comes is handed to an [`Outlet`](otlp_core::component::Outlet) of yours, on the receiver's thread. Its
//! acknowledgement, settled there or later and elsewhere, is the answer that the sender gets:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::sync::{Arc, Mutex};
//! use std::time::{Duration, Instant};
//! use otlp_core::component::{Outlet, Outlets, Receiver, Refused};
//! use otlp_core::{Batch, Deadline, Outcome, Signal};
//! use otlp_receive::{Config, Env, OtlpReceiver, http};
//!
//! #[derive(Default)]
//! struct Keep(Mutex<Vec<bytes::Bytes>>);
//!
//! impl Outlet for Keep {
//!     fn try_send(&self, batch: Batch) -> Result<(), Refused> {
//!         self.0.lock().unwrap().push(batch.body().clone());
//!         batch.settle(Outcome::Delivered);
//!         Ok(())
//!     }
//! }
//!
//! let kept = Arc::new(Keep::default());
//! let mut outlets = Outlets::default();
//! outlets.set(Signal::Traces, kept.clone());
//!
//! // HTTP alone, on a free port.
//! let http = http::Config { endpoint: "127.0.0.1:0".into(), ..http::Config::default() };
//! let config = Config { grpc: None, http: Some(http), ..Config::default() };
//! let mut receiver = OtlpReceiver::new("otlp", config, Env::default());
//! receiver.start(outlets)?;
//!
//! // A sender: one span named "get".
//! let mut sender = TcpStream::connect(receiver.http_addr().unwrap())?;
//! let body = [0x0a, 9, 0x12, 7, 0x12, 5, 0x2a, 3, b'g', b'e', b't'];
//! write!(sender, "POST /v1/traces HTTP/1.1\r\nHost: here\r\nConnection: close\r\n")?;
//! write!(sender, "Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n", body.len())?;
//! sender.write_all(&body)?;
//! let mut answer = Vec::new();
//! sender.read_to_end(&mut answer)?;
//! assert!(answer.starts_with(b"HTTP/1.1 200 "));
//! assert_eq!(kept.0.lock().unwrap().as_slice(), [&body[..]]);
//!
//! receiver.shutdown(Deadline::after(Instant::now(), Duration::from_secs(5)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An outlet that gives the batch back (`Refused`) tells the sender why, and with `hold` makes it wait for room; [`Env`]
//! says how much memory bodies may take, and how many threads there are. A whole pipeline behind a receiver is
//! `otlp_bin::Pipeline`.
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
pub mod auth;
mod config;
mod driver;
pub mod grpc;
pub mod http;
mod intake;
pub mod listen;
mod metrics;
pub mod otlp_json_file;
mod receiver;
mod request;
pub mod tls;

pub use auth::Authenticator;
pub use config::{Config, ConfigError, Transport};
pub use receiver::{Env, OtlpReceiver};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(hidden)]
pub mod fuzzing {
    //! What fuzz targets call.
    pub use crate::grpc::authority::fuzz as grpc_authority;
    pub use crate::grpc::protocol::fuzz as grpc;
    pub use crate::http::protocol::fuzz as http;
}
