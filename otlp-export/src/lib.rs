//! Exporting: telemetry from inside a service, and groups of batches in, outcomes out.
//!
//! # Link it
//!
//! A service that wants to send telemetry takes [`client::OtlpClient`] and nothing else: 12 crates, no runtime, no C
//! compiler.
//!
//! ```toml
//! otlp-export = { version = "0.1", default-features = false, features = ["client"] }
//! ```
//!
//! ```
//! use std::time::Duration;
//!
//! use otlp_export::client::{OtlpClient, Severity};
//!
//! # fn work() -> Result<u32, String> { Ok(3) }
//! # let sink = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let endpoint = format!("http://{}", sink.local_addr().unwrap());
//! # std::thread::spawn(move || for stream in sink.incoming() {
//! #     use std::io::{Read, Write};
//! #     let mut stream = stream.unwrap();
//! #     std::thread::spawn(move || while stream.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {
//! #         let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
//! #     });
//! # });
//! // OTEL_EXPORTER_OTLP_ENDPOINT and the other standard variables; what is set here goes before.
//! let client = OtlpClient::from_env(|name| std::env::var(name).ok()).service("shop").endpoint(endpoint).build()?;
//!
//! // A span begins here and ends with `finish`, which copies it into a queue and never waits.
//! let span = client.send_trace("checkout").with_attribute("customer", "4711");
//! let context = span.context();
//! match work() {
//!     Ok(items) => drop(span.with_numeric_attribute("items", items).finish()),
//!     Err(error) => drop(span.with_error(error).finish()),
//! }
//! client.send_log("checked out").with_severity(Severity::Info).with_span(context).finish();
//! client.send_histogram("checkout.items", &[1.0, 5.0, 25.0], &[3.0]).with_unit("{item}").finish();
//!
//! // At the end: send what waits, for two seconds at most, and say what was lost.
//! match client.shutdown(Duration::from_secs(2)) {
//!     Ok(report) => assert_eq!(report.delivered.get(), 3),
//!     Err(lost) => eprintln!("{lost}"),
//! }
//! # Ok::<(), otlp_export::ConfigError>(())
//! ```
//!
//! To get the destination's answer in the calling thread, without any other thread, say
//! [`direct()`](client::Builder::direct) before `build()`. `examples/` has a server on plain threads, a command-line tool and
//! a rayon job; [`client`] has the rest.
//!
//! # The OpenTelemetry SDK
//!
//! A program that has the OpenTelemetry SDK keeps its instruments and providers; the feature `sdk` takes the place of
//! `opentelemetry-otlp` and of the SDK's batch processors: one thread for spans and log records, no runtime, no executor,
//! and a shutdown that is `Err` where anything was lost.
//!
//! ```
//! use opentelemetry::trace::{Tracer, TracerProvider};
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use otlp_export::sdk::Bridge;
//!
//! # let sink = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let endpoint = format!("http://{}", sink.local_addr()?);
//! # std::thread::spawn(move || for stream in sink.incoming() {
//! #     use std::io::{Read, Write};
//! #     let mut stream = stream.unwrap();
//! #     std::thread::spawn(move || while stream.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {
//! #         let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
//! #     });
//! # });
//! let bridge = Bridge::new(Bridge::from_env(|name| std::env::var(name).ok()).endpoint(endpoint))?;
//! let tracers = SdkTracerProvider::builder().with_span_processor(bridge.span_processor()).build();
//! tracers.tracer("shop").in_span("order", |_| ());
//! tracers.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/replace_opentelemetry_otlp.rs` has what changes in a program, line by line; the module `sdk` has the rest.
//! A program that logs by the macros of the crate `log` sends that by [`client::Logger`], with or without the SDK.
//!
//! # Features
//!
//! All but `sdk` on by default, all additive: `client`; `sdk`, which brings what the SDK brings; `pipeline` (destinations
//! with queues and workers, the exporters `file` and `debug`); `http` and `grpc` for the exporters and the client alike;
//! `ring` for https and for TLS of gRPC, which needs a C compiler; `gzip`, `zstd`, `snappy` and `lz4` to compress.
//!
//! `tls` is `ring` without any cryptography, and without a C compiler: for a host that has a provider of rustls of its own
//! (aws-lc, one in pure Rust, a certified one). It installs that for the process, or passes it:
//! [`Builder::crypto_provider`](client::Builder::crypto_provider), [`tls::Config::crypto_provider`]. What is passed goes
//! before what is installed, and that before `ring`; this crate installs nothing. Without any, an https endpoint is
//! refused by `build()`. `grpc` brings `tls`, not `ring`.
//!
//! ci/client-size counts what the client is built of: 12 crates, 14 with `gzip`, 28 with `tls`, 31 with `ring`.
//!
//! # Files
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
//! | `sdk/`           | the bridge behind the OpenTelemetry SDK                                        |
//! | `otlp_http/`     | OTLP over HTTP/1.1                                                             |
//! | `otlp_grpc/`     | OTLP over gRPC                                                                 |
//! | `tls.rs`         | TLS of both, with certificates that are renewed                                |
//! | `auth.rs`        | credentials that go with every request                                         |
//! | `headers.rs`     | headers that a configuration adds                                              |
//! | `open.rs`        | what an exporter has open, waited for when it stops                            |
//! | `resolve.rs`     | names to addresses, remembered for a while                                     |
//! | `unix.rs`        | names of Unix sockets                                                          |
//! | `lock.rs`        | locks that a panic does not spoil                                              |
//! | `quiet.rs`       | whether a thread is on the export path                                         |
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
//! nothing for a while. `tx-grpc`, one for each `otlp_grpc` exporter that was called, unless it is to do without one; `tx-http`, one for each `otlp_http`
//! exporter that no other thread hosts, while anything is on its way; `otlp-client`, one for each client and
//! each bridge in queued mode that records. Nothing else, and no thread for a request.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "http")]
pub mod auth;
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
#[cfg(feature = "client")]
mod quiet;
#[cfg(feature = "http")]
mod resolve;
pub mod retry;
#[cfg(feature = "sdk")]
pub mod sdk;
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

#[cfg(feature = "grpc")]
#[doc(hidden)]
pub mod fuzzing {
    //! What fuzz targets call.
    pub use crate::otlp_grpc::answer::fuzz as grpc_answer;
}
