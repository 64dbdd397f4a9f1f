//! Every example runs, against what it asserts itself.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "each example is a program of its own, with a main"
)]

#[path = "../../examples/custom.rs"]
mod custom;
#[path = "../../examples/components/sink.rs"]
mod sink;
#[path = "../../examples/slow_spans.rs"]
mod slow_spans;
#[path = "../../examples/components/stamp.rs"]
mod stamp;
#[path = "../../examples/test_harness.rs"]
mod test_harness;

use otlp_core::Signal;
use otlp_core::testing::verify;

#[test]
fn components_of_ones_own_make_a_pipeline() {
    let summary = custom::run(50_000.0, 1_005).unwrap();
    assert_eq!(summary.0.len(), 1);
}

#[test]
fn slow_spans_are_filtered_batched_and_exported_with_retries() {
    let summary = slow_spans::run(50_000.0, 2_005).unwrap();
    assert_eq!(summary.0.len(), 2);
}

#[test]
fn a_test_may_have_a_collector_of_its_own() {
    let lines = test_harness::run().unwrap();
    assert_eq!(lines.len(), 1);
}

#[test]
fn components_of_ones_own_keep_the_contract() {
    verify::processor(Signal::Traces, stamp::Stamp::default);
    verify::exporter(Signal::Traces, sink::Sink::default, || None);
}
