//! Destinations, fan-out and the exporters from outside, over real threads and real sockets on the loopback.
#![allow(clippy::unwrap_used)]

mod auth;
mod begun;
#[cfg(feature = "client")]
mod client;
mod debug;
mod destinations;
#[cfg(feature = "client")]
mod examples;
mod http;
#[cfg(all(feature = "client", feature = "grpc", feature = "ring"))]
mod provider;
#[cfg(feature = "sdk")]
mod sdk;
mod server;
#[cfg(all(feature = "client", feature = "grpc", feature = "ring"))]
#[allow(dead_code, reason = "tests/quiet has it, too")]
mod sink;
mod support;
