//! OTLP/gRPC over real sockets, with a client of our own that sends whatever frames it is told; the names end in the
//! rows of the conformance list that they show.

#[path = "../support/http2.rs"]
#[allow(dead_code, reason = "shared")]
mod http2;
#[path = "../http/server.rs"]
#[allow(dead_code, reason = "shared")]
mod server;

mod auth;
mod calls;
mod connections;
mod errors;
mod frames;
mod lifecycle;
mod raw;
mod tls;
