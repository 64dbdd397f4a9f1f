//! Helpers for tests, ours and yours: generators, sinks, faults and contract verifiers.
