//! Inflating within a limit, in every coding, and compressing again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_core::testing::fuzz::codec(bytes));
