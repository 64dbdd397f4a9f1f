//! Helpers for tests, ours and yours: generators, sinks, faults and contract verifiers.

pub mod sinks;
pub mod verify;
