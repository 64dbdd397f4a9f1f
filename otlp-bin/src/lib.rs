//! The wiring of otlpd, as a library: configuration, registry and service.
//!
//! | file          | purpose                                                                  |
//! |---------------|--------------------------------------------------------------------------|
//! | `config/`     | the Collector's YAML, decoded and checked                                |
//! | `registry.rs` | from component names to constructors                                     |
//! | `service.rs`  | receivers, pipelines and destinations joined, started and stopped        |
//! | `admin/`      | health and metrics endpoints (feature `program`)                         |
//! | `logging.rs`  | the program's own log (feature `program`)                                |
//! | `signals.rs`  | what the operating system asks (feature `program`)                       |
//! | `generate.rs` | `otlpd generate` (feature `program`)                                     |
//! | `run.rs`      | the program from its start to its exit code (feature `program`)          |
//!
//! What only the program needs stands behind the default feature `program`. Without it nothing here installs a logger, an
//! allocator or signal handlers, and nothing is global.
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
