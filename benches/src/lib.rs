//! Measurements of otlpd, and the tools they are made with.
//!
//! [`load`] is behind the program `otlp-load`, which measures any program that takes OTLP in and hands it on.

pub mod load;
