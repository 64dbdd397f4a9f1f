//! OTLP bytes, read and rewritten in place of decoding.
//!
//! | file         | purpose                                                              |
//! |--------------|----------------------------------------------------------------------|
//! | `check.rs`   | from bytes to a batch; typed messages in and out                      |
//! | `normalize.rs` | odd but legal shapes put into canonical shape                      |
//! | `reader.rs`  | varints, tags, length-delimited fields, skipping                     |
//! | `schema.rs`  | the messages and fields of OTLP as a table                            |
//! | `utf8.rs`    | whether text is UTF-8, cheap for ASCII                               |
//! | `validate.rs` | the one complete check, and what canonical shape means              |
//! | `writer.rs`  | the same in the other direction, with lengths that are patched       |

pub mod check;
pub mod normalize;
pub mod reader;
pub mod schema;
pub mod utf8;
pub mod validate;
pub mod writer;

pub use check::Findings;
pub use normalize::normalize;
pub use validate::{Checked, Limits, Malformed, validate};
