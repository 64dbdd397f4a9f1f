//! Any bytes as JSON: refused with a place, or canonical protobuf that survives another round.
#![no_main]

use otlp_core::Signal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for signal in Signal::ALL {
        otlp_core::json::verify::document(signal, bytes);
    }
});
