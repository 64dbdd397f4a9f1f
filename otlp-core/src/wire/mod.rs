//! OTLP bytes, read and rewritten in place of decoding.
//!
//! | file         | purpose                                                              |
//! |--------------|----------------------------------------------------------------------|
//! | `reader.rs`  | varints, tags, length-delimited fields, skipping                     |
//! | `schema.rs`  | the messages and fields of OTLP as a table                            |
//! | `writer.rs`  | the same in the other direction, with lengths that are patched       |

pub mod reader;
pub mod schema;
pub mod writer;
