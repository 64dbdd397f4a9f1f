//! OTLP bytes, read and rewritten in place of decoding.
//!
//! | file         | purpose                                                              |
//! |--------------|----------------------------------------------------------------------|
//! | `reader.rs`  | varints, tags, length-delimited fields, skipping                     |
//! | `schema.rs`  | the messages and fields of OTLP as a table                            |
//! | `utf8.rs`    | whether text is UTF-8, cheap for ASCII                               |
//! | `validate.rs` | the one complete check, and what canonical shape means              |
//! | `writer.rs`  | the same in the other direction, with lengths that are patched       |

pub mod reader;
pub mod schema;
pub mod utf8;
pub mod validate;
pub mod writer;
