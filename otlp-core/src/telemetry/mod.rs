//! What we tell about ourselves.
//!
//! | file          | purpose                                                          |
//! |---------------|------------------------------------------------------------------|
//! | `ledger.rs`   | the books: where every accepted item is, for each destination    |
//! | `names.rs`    | the table of all metric names                                    |
//! | `registry.rs` | counters, gauges and histograms                                  |

pub mod ledger;
pub mod names;
pub mod registry;

pub use registry::Registry;
