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
#[cfg(feature = "sdk")]
mod sdk;
mod server;
mod support;
