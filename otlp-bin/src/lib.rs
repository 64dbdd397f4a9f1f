//! otlpd as a library: pipelines from a configuration, and the endpoints around them.
#![warn(missing_docs)]

pub mod admin;
