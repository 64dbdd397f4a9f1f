//! OTLP over HTTP/1.1.
//!
//! | file          | purpose                                                                        |
//! |---------------|--------------------------------------------------------------------------------|
//! | `config.rs`   | the Collector's keys with their defaults, and a few of ours                    |
//! | `head.rs`     | one request head: what it says, and what makes it ambiguous                     |
//! | `protocol.rs` | the framing of a stream of requests: bytes in, events out; no socket           |
//! | `session.rs`  | one connection: requests and outcomes in, answers out in order; no socket       |
//! | `session/`    | `time.rs`: what a session does by the clock                                    |
//! | `service.rs`  | what all connections share: routes, CORS, codings, draining                    |
//! | `answer.rs`   | what a sender is told, and how that is written                                 |
//! | `tests.rs`    | sessions, stepped by hand with a clock that stands still                       |
//!
//! # Place in the pipeline
//!
//! First. A request becomes one batch, which is offered to the pipelines of its signal.
//!
//! # Threads
//!
//! A session belongs to one driver's thread. Outcomes come from any thread through the driver's inbox. Nothing blocks.
//!
//! # Limits
//!
//! Heads 64 KiB and 100 fields; bodies `max_request_body_size` as they came and after decompression; 64 requests open on
//! one connection; memory for bodies from the process-wide budget. At a bound a sender is refused, never kept waiting.
//!
//! # On failure
//!
//! Every answer 4xx or 5xx has a `google.rpc.Status` in the request's encoding. What the sender may repeat is 503, or 429
//! for a configured rate, with Retry-After. What it has to mend is never 5xx.
//!
//! # On shutdown
//!
//! Connections without a request close at once. Open requests are answered, with `connection: close`; at the deadline
//! they are withdrawn and answered 503.
//!
//! # Specification
//!
//! OTLP 1.x, OTLP/HTTP and JSON Protobuf Encoding; RFC 9110; RFC 9112.

mod answer;
mod config;
pub(crate) mod head;
pub(crate) mod protocol;
pub(crate) mod service;
pub(crate) mod session;
#[cfg(test)]
mod tests;

pub use config::{Config, Cors};
