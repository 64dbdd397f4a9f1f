//! The validator against prost, and normalisation, on any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_core::testing::fuzz::wire_check(bytes));
