//! Helpers for tests, ours and yours: generators, sinks, faults and contract verifiers.

pub mod fuzz;
pub mod generate;
pub mod mutate;
pub mod random;
pub mod sinks;
pub mod verify;
