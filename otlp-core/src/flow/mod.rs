//! Flow control at every boundary: nothing waits without a limit.
//!
//! | file                | purpose                                                                      |
//! |---------------------|------------------------------------------------------------------------------|
//! | `gate.rs`           | a bounded channel whose places are reserved before anything is handed over   |
//! | `space.rs`          | the room in a gate, and who waits for it                                     |
//! | `rate.rs`           | limits on items, bytes or requests a second                                  |
//! | `token_bucket.rs`   | so much a second on average, and a burst at once                             |
//! | `sliding_window.rs` | never more than so much within any stretch of time                           |
//! | `memory.rs`         | the process-wide budget in bytes                                             |
//! | `tests.rs`          | the gate: each policy, and many threads at once                              |

pub mod gate;
pub mod memory;
pub mod rate;
mod sliding_window;
mod space;
#[cfg(test)]
mod tests;
mod token_bucket;

pub use gate::{Full, GateOptions, NotTaken, NotTakenCause, Permit, Room, Weight, WhenFull, gate_with};
pub use memory::{MemoryBudget, Reservation};
pub use rate::{Limiter, RateAlgorithm, RateLimit, RateUnit};
pub use sliding_window::SlidingWindow;
pub use token_bucket::TokenBucket;
