//! The wiring of otlpd, as a library: whole pipelines inside a program of your own.
//!
//! # Put one together
//!
//! [`Pipeline::builder`] takes receivers, processors and exporters, ours or yours, and starts them on threads of their own:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use otlp_bin::Pipeline;
//! use otlp_core::Deadline;
//! use otlp_core::wire::edit::Value;
//! use otlp_export::file;
//! use otlp_process::batch;
//! use otlp_receive::{Config, http};
//!
//! let path = std::env::temp_dir().join(format!("otlpd-front-{}.jsonl", std::process::id()));
//! let http = http::Config { endpoint: "127.0.0.1:0".into(), ..http::Config::default() };
//! let mut pipeline = Pipeline::builder("own")
//!     .otlp("otlp", Config { grpc: None, http: Some(http), ..Config::default() })
//!     .filter("named", |item| !item.name().is_empty())
//!     .map("team", |item| item.attributes().upsert("team", &Value::string("storage")))
//!     .batch("batch", batch::Config::default())
//!     .file("file", file::Config::new(&path))
//!     .start()?;
//! println!("send OTLP to http://{}", pipeline.http_addr("otlp").unwrap());
//!
//! // … and at the end: what became of every item.
//! let summary = pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_secs(10)));
//! assert!(summary.balances() && !summary.has_loss());
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Components of your own go in by [`receiver`](pipeline::Builder::receiver), [`processor`](pipeline::Builder::processor)
//! and [`exporter`](pipeline::Builder::exporter); the package's `examples/` have one of each, and the pipeline of a
//! generator, a filter, permits, batches and retries. Your own code sends by [`Pipeline::outlet`].
//!
//! # Or let a configuration say it
//!
//! The Collector's, with its names, keys and defaults:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use otlp_bin::config::{self, Sources};
//! use otlp_bin::{Pipeline, registry};
//! use otlp_core::Deadline;
//!
//! let yaml = "
//! receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}
//! processors: {batch: {}}
//! exporters: {debug: {}}
//! service: {pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [debug]}}}";
//! let loaded = config::load(&Sources::new(vec![format!("yaml:{yaml}")], Vec::new())).map_err(|errors| errors.to_string())?;
//! let service = registry::build(&loaded.tree, &registry::Environment::default())
//!     .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
//! let mut pipeline = Pipeline::start(service)?;
//! let summary = pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_secs(10)));
//! assert!(!summary.has_loss());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it leaves alone
//!
//! Linked with `default-features = false` nothing here installs a logger, an allocator, signal handlers or a TLS provider,
//! and pipelines share nothing but what you give to several of them: a memory budget, a registry, a rayon pool.
//!
//! # The files
//!
//! | file          | purpose                                                                  |
//! |---------------|--------------------------------------------------------------------------|
//! | `pipeline.rs` | [`Pipeline`] and its builder                                             |
//! | `config/`     | the Collector's YAML, decoded and checked                                |
//! | `registry.rs` | from component names to constructors                                     |
//! | `service.rs`  | receivers, pipelines and destinations joined, started and stopped        |
//! | `admin/`      | health and metrics endpoints (feature `program`)                         |
//! | `cli.rs`      | the program's command line (feature `program`)                           |
//! | `logging.rs`  | the program's own log (feature `program`)                                |
//! | `signals.rs`  | what the operating system asks (feature `program`)                       |
//! | `generate.rs` | `otlpd generate` (feature `program`)                                     |
//!
//! What only the program needs stands behind the default feature `program`; `main.rs` puts it together.
#![warn(missing_docs)]

pub mod config;
pub mod pipeline;
pub mod registry;
pub mod service;

#[cfg(feature = "program")]
pub mod admin;
#[cfg(feature = "program")]
pub mod cli;
#[cfg(feature = "program")]
pub mod generate;
#[cfg(feature = "program")]
pub mod logging;
#[cfg(feature = "program")]
pub mod signals;

pub use pipeline::Pipeline;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
