use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use otlp_core::ItemCount;
use otlp_core::wire::{Limits, validate};

use crate::support::{Typed, cases, sample};

/// Items, and how many of them have invalid ids.
fn count(typed: &Typed) -> (u64, u64) {
    let bad = |id: &[u8], len: usize| id.len() != len || id.iter().all(|byte| *byte == 0);
    let (mut items, mut invalid) = (0, 0);
    match typed {
        Typed::Traces(request) => {
            for span in request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans) {
                items += 1;
                invalid += u64::from(bad(&span.trace_id, 16) || bad(&span.span_id, 8));
            }
        }
        Typed::Logs(request) => {
            for log in request.resource_logs.iter().flat_map(|r| &r.scope_logs).flat_map(|s| &s.log_records) {
                items += 1;
                let bad = |id: &[u8], len| !id.is_empty() && bad(id, len);
                invalid += u64::from(bad(&log.trace_id, 16) || bad(&log.span_id, 8));
            }
        }
        Typed::Metrics(request) => {
            for metric in request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics) {
                items += match &metric.data {
                    None => 0,
                    Some(Data::Gauge(data)) => data.data_points.len(),
                    Some(Data::Sum(data)) => data.data_points.len(),
                    Some(Data::Histogram(data)) => data.data_points.len(),
                    Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
                    Some(Data::Summary(data)) => data.data_points.len(),
                } as u64;
            }
        }
    }
    (items, invalid)
}

#[test]
fn the_validator_accepts_exactly_what_prost_accepts() {
    let (mut accepted, mut refused) = (0, 0);
    for case in 0..cases(100_000) {
        let (signal, body) = sample(case, !case.is_multiple_of(8));
        let typed = Typed::decode(signal, &body);
        let checked = validate(signal, &body, &Limits::default());
        match (&typed, &checked) {
            (Ok(typed), Ok(checked)) => {
                accepted += 1;
                // A oneof given twice loses a member, which may be one with points: only canonical counts are final.
                if checked.canonical {
                    let (items, invalid) = count(typed);
                    assert_eq!(checked.items, ItemCount(items), "case {case}, {signal}");
                    assert_eq!(checked.invalid_ids, ItemCount(invalid), "case {case}, {signal}");
                }
            }
            (Err(_), Err(malformed)) => {
                refused += 1;
                assert!(malformed.offset <= body.len(), "case {case}, {signal}: {malformed}");
            }
            _ => panic!("case {case}, {signal}: prost {:?}, otlp-core {checked:?}", typed.map(drop)),
        }
    }
    assert!(accepted * 10 > refused && refused * 10 > accepted, "{accepted} accepted, {refused} refused");
}
