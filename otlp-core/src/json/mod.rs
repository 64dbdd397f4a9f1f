//! OTLP/JSON, straight to protobuf bytes and back, without a tree of objects in between.
//!
//! | file         | purpose                                                                    |
//! |--------------|----------------------------------------------------------------------------|
//! | `answer.rs`  | `Export*ServiceResponse` and `Status` in JSON                               |
//! | `binary.rs`  | hex and base64                                                              |
//! | `decode.rs`  | from JSON to protobuf                                                       |
//! | `encode.rs`  | from protobuf to JSON                                                       |
//! | `error.rs`   | what was expected, and where                                                |
//! | `number.rs`  | integers and doubles as text                                                |
//! | `scan.rs`    | strings, literals, skipping                                                 |
//! | `schema.rs`  | the table of fields that both directions share                              |
//! | `verify.rs`  | properties that hold for any bytes, for tests and fuzzing                   |
//!
//! # What it does
//!
//! [`decode`] gives bytes that [`wire::validate`](crate::wire::validate) accepts and calls canonical; [`encode`] takes
//! such bytes. No value changes on the way, in either direction: integers of 64 bits are exact, doubles keep their bits, −0
//! included, absent stays apart from empty wherever protobuf tells them apart. Only what JSON cannot carry is lost: the
//! payload of a NaN, and unknown fields.
//!
//! # What is accepted
//!
//! More than is written, where it costs nothing: 64-bit integers as numbers, 32-bit integers as strings, integers with an
//! exponent or a fraction of zeros, doubles as strings, ids in any case, base64 of either alphabet with or without
//! padding, `null` for any field (as if absent), keys in any order, a byte order mark, lone surrogates (U+FFFD).
//! Unknown keys are passed over at any depth; `snake_case` is unknown, as the specification has it.
//!
//! # On failure
//!
//! A [`JsonError`] names the path, the byte and what was expected. Where the specification leaves a choice between refusing
//! and guessing, the request is refused: the same known key twice in an object, two members of a oneof, `null` as an
//! element of a list, enum names, ids of another length, base64 with stray bits.
//!
//! # Threads
//!
//! On the caller's thread. Recursion is bounded by [`Limits::depth_max`].
//!
//! # Limits
//!
//! See [`Limits`]. A list of numbers grows by up to four times on its way to protobuf, other values by less; most shrink.
//! Time is linear in the size, with a small factor that no nesting makes large.
//!
//! # Specification
//!
//! OTLP, OTLP/HTTP, JSON Protobuf Encoding; ProtoJSON; RFC 8259.

mod answer;
mod binary;
mod decode;
mod encode;
mod error;
mod number;
mod scan;
mod schema;
#[cfg(any(test, feature = "testing"))]
pub mod verify;

pub use answer::{decode_response, encode_response};
pub use decode::{Limits, decode};
pub use encode::encode;
pub use error::{Expected, JsonError};

#[cfg(test)]
mod tests;
