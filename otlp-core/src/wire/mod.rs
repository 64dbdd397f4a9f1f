//! OTLP bytes, read and rewritten in place of decoding.
//!
//! | file           | purpose                                                              |
//! |----------------|----------------------------------------------------------------------|
//! | `reader.rs`    | varints, tags, length-delimited fields, skipping                     |
//! | `writer.rs`    | the same in the other direction, with lengths that are patched       |
//! | `utf8.rs`      | whether text is UTF-8, cheap for ASCII                               |
//! | `schema.rs`    | the messages and fields of OTLP as a table                           |
//! | `validate.rs`  | the one complete check, and what canonical shape means               |
//! | `normalize.rs` | odd but legal shapes put into canonical shape                        |
//! | `check.rs`     | from bytes to a batch; typed messages in and out                     |
//! | `index.rs`     | the items of a body, walked or indexed                               |
//! | `view/`        | zero-copy views of every message                                     |
//! | `edit/`        | attributes inserted, changed and deleted, many in one pass           |
//! | `rebuild.rs`   | requests made of the items of another: under the next two            |
//! | `retain.rs`    | items taken out                                                      |
//! | `split.rs`     | batches and groups made smaller, by items and by bytes               |
//! | `view/`        | zero-copy views of every message                                     |
//! | `edit/`        | attributes changed in place                                          |

pub mod check;
pub mod edit;
pub mod index;
pub mod normalize;
pub mod reader;
mod rebuild;
pub mod retain;
pub mod schema;
pub mod split;
pub mod utf8;
pub mod validate;
pub mod view;
pub mod writer;

pub use check::Findings;
pub use index::{Index, ItemRef, try_walk, walk};
pub use normalize::normalize;
pub use retain::{Retained, retain};
pub use split::{PartLimit, split, split_first, split_group};
pub use validate::{Checked, Limits, Malformed, validate};
