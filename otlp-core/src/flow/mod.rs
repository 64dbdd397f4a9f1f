//! Flow control at every boundary: nothing waits without a limit.
//!
//! | file        | purpose                                                                      |
//! |-------------|------------------------------------------------------------------------------|
//! | `gate.rs`   | a bounded channel whose places are reserved before anything is handed over   |
//! | `memory.rs` | the process-wide budget in bytes                                             |

pub mod gate;
pub mod memory;

pub use gate::{Full, Permit, Room, Weight, WhenFull};
pub use memory::{MemoryBudget, Reservation};
