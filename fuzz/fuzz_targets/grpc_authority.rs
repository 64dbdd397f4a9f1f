//! Frames and header blocks of HTTP/2 on their way to h2 over a Unix socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| otlp_receive::fuzzing::grpc_authority(bytes));
