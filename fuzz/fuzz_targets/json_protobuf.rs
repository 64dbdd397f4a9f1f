//! Any bytes as protobuf: their JSON reads back with every known value as it was.
#![no_main]

use otlp_core::Signal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for signal in Signal::ALL {
        otlp_core::json::verify::protobuf(signal, bytes);
    }
});
