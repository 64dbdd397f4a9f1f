//! The wiring of otlpd: configuration, registry and pipeline, as a library.
//!
//! What only the program needs (command line, logger, signals, admin endpoints) stands behind the default feature
//! `program`.

pub mod config;
