//! What we tell about ourselves.
//!
//! | file          | purpose                                                            |
//! |---------------|--------------------------------------------------------------------|
//! | `ledger.rs`   | the books: where every accepted item is, for each destination      |
//! | `names.rs`    | the table of all metric names; `names.txt` is what was agreed on   |
//! | `registry.rs` | counters, gauges and histograms                                    |
//! | `extremes.rs` | the smallest and the largest value of the last minute              |
//! | `expose.rs`   | what gates, pools, budgets and the books show of themselves        |
//!
//! Rendering, for Prometheus or anything else, is the program's: it takes [`Registry::samples`].

pub mod expose;
mod extremes;
pub mod ledger;
pub mod names;
pub mod registry;

pub use expose::{register_budget, register_gate, register_ledger, register_thread};
pub use registry::Registry;
