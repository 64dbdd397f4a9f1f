//! Every view of a request, on bytes that were validated and on bytes that were not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_core::testing::fuzz::wire_views(bytes));
