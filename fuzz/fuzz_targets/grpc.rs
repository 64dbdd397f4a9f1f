//! Framing of a stream of gRPC requests: how it is cut does not matter.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_receive::fuzzing::grpc(bytes));
