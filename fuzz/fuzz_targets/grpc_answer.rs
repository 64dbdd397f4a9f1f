//! Framing of the answers that an exporter reads, and what they mean.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_export::fuzzing::grpc_answer(bytes));
