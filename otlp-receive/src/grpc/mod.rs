//! OTLP over gRPC.
//!
//! | file          | purpose                                                                        |
//! |---------------|--------------------------------------------------------------------------------|
//! | `config.rs`   | the Collector's keys with their defaults                                       |
//! | `protocol.rs` | gRPC itself: messages in DATA, timeouts, percent-encoding; pure                |
//! | `meter.rs`    | counts the frames that come, to find senders that ping too much                |
//! | `authority.rs`| `:authority` over Unix sockets, as `h2` takes it; pure                         |
//! | `pipe.rs`     | the two ends of bytes that `h2` reads and writes; no socket                    |
//! | `session.rs`  | one HTTP/2 connection: bytes and outcomes in, bytes out; no socket             |
//! | `calls.rs`    | the calls of a connection that have no answer yet                              |
//! | `service.rs`  | what all connections share: routes, codings, draining                          |
//! | `answer.rs`   | what a caller is told, and how that is written                                 |
//! | `tests.rs`    | sessions, stepped by hand with a clock that stands still                       |
//!
//! # Place in the pipeline
//!
//! First. A call becomes one batch, which is offered to the pipelines of its signal.
//!
//! # Threads
//!
//! A session belongs to one driver's thread. `h2` is polled by hand there and nothing is ever spawned: what would wake
//! a call puts its number in a list, what would wake the connection is known to the session anyway. Outcomes come from
//! any thread through the driver's inbox. Nothing blocks.
//!
//! # Limits
//!
//! Headers 64 KiB; messages `max_recv_msg_size_mib` as they came and after decompression; `max_concurrent_streams` calls
//! open on one connection; windows of 1 MiB a call and 8 MiB a connection; memory for messages from the process-wide
//! budget, asked for at their first frame. At a bound a caller is refused at once: a call that was half admitted would
//! keep window that the others need.
//!
//! Resets, CONTINUATION frames and empty DATA frames without end are cut off by `h2`, pings by
//! `keepalive::enforcement_policy`; what a peer makes us write and does not read is bounded, and ends its connection.
//!
//! # On failure
//!
//! What the caller may repeat is UNAVAILABLE, or RESOURCE_EXHAUSTED for a configured rate, with RetryInfo. What is too
//! large is RESOURCE_EXHAUSTED without it. Every answer is one of this connection: an error of HTTP/2 ends that alone.
//!
//! # On shutdown
//!
//! GOAWAY at once; open calls are answered; at the deadline they are withdrawn and answered UNAVAILABLE.
//!
//! # Specification
//!
//! OTLP 1.x, OTLP/gRPC; gRPC over HTTP/2 (PROTOCOL-HTTP2); RFC 9113; RFC 7541. Server push, CONNECT and OTLP/HTTP over
//! HTTP/2 are not served.

mod answer;
pub(crate) mod authority;
mod calls;
mod config;
mod meter;
mod pipe;
pub(crate) mod protocol;
pub(crate) mod service;
pub(crate) mod session;
#[cfg(test)]
mod tests;

pub use config::{Config, EnforcementPolicy, Keepalive, ServerParameters};
