//! The configuration loader: any text, alone and within a good configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_bin::config::fuzz::yaml(bytes));
