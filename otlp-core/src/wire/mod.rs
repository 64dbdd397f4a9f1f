//! OTLP bytes, read and rewritten in place of decoding.
//!
//! | file         | purpose                                                              |
//! |--------------|----------------------------------------------------------------------|
//! | `reader.rs`  | varints, tags, length-delimited fields, skipping                     |
//! | `writer.rs`  | the same in the other direction, with lengths that are patched       |
//! | `view/`      | zero-copy views of every message                                     |
//! | `edit/`      | attributes changed in place                                          |

pub mod edit;
pub mod reader;
pub mod view;
pub mod writer;
