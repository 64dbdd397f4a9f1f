use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use otlp_core::testing::random::Random;
use otlp_core::wire::{Index, Limits, PartLimit, normalize, retain, split, split_group, validate, walk};
use otlp_core::{Batch, ByteSize, Group, ItemCount, Signal};
use prost::Message;

use crate::normalize::Unknown;
use crate::support::{Typed, cases, sample};

/// Calls `each` with what is around every item, and with the item, encoded.
fn flatten(typed: &Typed) -> Vec<[Vec<u8>; 4]> {
    let mut items = Vec::new();
    macro_rules! envelopes {
        ($request:ident . $resources:ident . $scopes:ident, |$scope:ident, $around:ident| $each:expr) => {
            for resource in &$request.$resources {
                for $scope in &resource.$scopes {
                    let mut of_resource = resource.clone();
                    of_resource.$scopes.clear();
                    let mut of_scope = $scope.clone();
                    empty(&mut of_scope);
                    let $around = [of_resource.encode_to_vec(), of_scope.encode_to_vec()];
                    $each
                }
            }
        };
    }
    trait Empty {
        fn empty(&mut self);
    }
    impl Empty for opentelemetry_proto::tonic::trace::v1::ScopeSpans {
        fn empty(&mut self) {
            self.spans.clear();
        }
    }
    impl Empty for opentelemetry_proto::tonic::logs::v1::ScopeLogs {
        fn empty(&mut self) {
            self.log_records.clear();
        }
    }
    impl Empty for opentelemetry_proto::tonic::metrics::v1::ScopeMetrics {
        fn empty(&mut self) {
            self.metrics.clear();
        }
    }
    fn empty(scope: &mut impl Empty) {
        scope.empty();
    }
    match typed {
        Typed::Traces(request) => envelopes!(request.resource_spans.scope_spans, |scope, around| {
            for span in &scope.spans {
                items.push([around[0].clone(), around[1].clone(), Vec::new(), span.encode_to_vec()]);
            }
        }),
        Typed::Logs(request) => envelopes!(request.resource_logs.scope_logs, |scope, around| {
            for log in &scope.log_records {
                items.push([around[0].clone(), around[1].clone(), Vec::new(), log.encode_to_vec()]);
            }
        }),
        Typed::Metrics(request) => envelopes!(request.resource_metrics.scope_metrics, |scope, around| {
            for metric in &scope.metrics {
                let mut head = metric.clone();
                let mut points = Vec::new();
                retain_points(&mut head, &mut |encoded| {
                    points.push(encoded);
                    false
                });
                for point in points {
                    items.push([around[0].clone(), around[1].clone(), head.encode_to_vec(), point]);
                }
            }
        }),
    }
    items
}

/// Keeps the points for which `keep` says so, given each encoded; how many there were.
fn retain_points(metric: &mut Metric, keep: &mut impl FnMut(Vec<u8>) -> bool) -> (usize, usize) {
    macro_rules! points {
        ($data:ident) => {{
            let had = $data.data_points.len();
            $data.data_points.retain(|point| keep(point.encode_to_vec()));
            (had, $data.data_points.len())
        }};
    }
    match &mut metric.data {
        None => (0, 0),
        Some(Data::Gauge(data)) => points!(data),
        Some(Data::Sum(data)) => points!(data),
        Some(Data::Histogram(data)) => points!(data),
        Some(Data::ExponentialHistogram(data)) => points!(data),
        Some(Data::Summary(data)) => points!(data),
    }
}

/// Decode, remove, encode. An envelope goes when all that it held was removed, not when it was empty before.
fn retain_typed(typed: &mut Typed, mut keep: impl FnMut() -> bool) {
    /// Keeps what `visit` leaves something of, given (had, has).
    fn prune<T>(list: &mut Vec<T>, mut visit: impl FnMut(&mut T) -> (usize, usize)) -> (usize, usize) {
        let had = list.len();
        list.retain_mut(|inner| {
            let (had, has) = visit(inner);
            had == 0 || has > 0
        });
        (had, list.len())
    }
    match typed {
        Typed::Traces(ExportTraceServiceRequest { resource_spans }) => prune(resource_spans, |resource| {
            prune(&mut resource.scope_spans, |scope| {
                let had = scope.spans.len();
                scope.spans.retain(|_| keep());
                (had, scope.spans.len())
            })
        }),
        Typed::Logs(ExportLogsServiceRequest { resource_logs }) => prune(resource_logs, |resource| {
            prune(&mut resource.scope_logs, |scope| {
                let had = scope.log_records.len();
                scope.log_records.retain(|_| keep());
                (had, scope.log_records.len())
            })
        }),
        Typed::Metrics(ExportMetricsServiceRequest { resource_metrics }) => prune(resource_metrics, |resource| {
            prune(&mut resource.scope_metrics, |scope| {
                prune(&mut scope.metrics, |metric| retain_points(metric, &mut |_| keep()))
            })
        }),
    };
}

fn unknown(signal: Signal, body: &[u8]) -> Vec<(Vec<u32>, Vec<u8>)> {
    Unknown::of(otlp_core::wire::schema::Message::request(signal), body).found
}

/// A request in canonical shape, with its items.
fn canonical(case: u64) -> Option<(Signal, bytes::Bytes, ItemCount)> {
    let (signal, body) = sample(case, case.is_multiple_of(8));
    let checked = validate(signal, &body, &Limits::default()).ok()?;
    let body = normalize(signal, &body);
    let items = validate(signal, &body, &Limits::default()).expect("normalized").items;
    // A member of a oneof that lost took its points with it.
    assert!(items <= checked.items, "case {case}");
    Some((signal, body, items))
}

#[test]
fn walking_finds_what_decoding_finds() {
    for case in 0..cases(50_000) {
        let Some((signal, body, items)) = canonical(case) else { continue };
        let typed = Typed::decode(signal, &body).expect("validated");
        let mut expected = flatten(&typed).into_iter();
        let mut found = Vec::new();
        let index = Index::of(signal, &body);
        walk(signal, &body, |item| {
            assert_eq!(index.get(&body, found.len()).as_ref(), Some(item), "case {case}, {signal}");
            found.push(item.clone());
        });
        assert_eq!((found.len() as u64, index.len()), (items.get(), found.len()), "case {case}, {signal}");
        for item in found {
            let item_again = match signal {
                Signal::Traces => again::<opentelemetry_proto::tonic::trace::v1::Span>(item.bytes),
                Signal::Logs => again::<opentelemetry_proto::tonic::logs::v1::LogRecord>(item.bytes),
                Signal::Metrics => match item.kind {
                    otlp_core::wire::schema::Message::NumberDataPoint => {
                        again::<opentelemetry_proto::tonic::metrics::v1::NumberDataPoint>(item.bytes)
                    }
                    otlp_core::wire::schema::Message::HistogramDataPoint => {
                        again::<opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint>(item.bytes)
                    }
                    otlp_core::wire::schema::Message::ExponentialHistogramDataPoint => {
                        again::<opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint>(item.bytes)
                    }
                    _ => again::<opentelemetry_proto::tonic::metrics::v1::SummaryDataPoint>(item.bytes),
                },
            };
            let Some(expected) = expected.next() else { panic!("case {case}, {signal}: an item too many") };
            assert!(expected[3] == item_again, "case {case}, {signal}");
            assert!(
                around(signal, &expected)
                    == [again::<Resource>(item.resource), again::<InstrumentationScope>(item.scope)],
                "case {case}, {signal}"
            );
        }
        assert_eq!(expected.len(), 0, "case {case}, {signal}");
    }
}

/// Resource and scope of an item that [`flatten`] gave, encoded; empty where there is none.
fn around(signal: Signal, item: &[Vec<u8>; 4]) -> [Vec<u8>; 2] {
    fn of<M: Message>(message: Option<M>) -> Vec<u8> {
        message.map_or_else(Vec::new, |message| message.encode_to_vec())
    }
    macro_rules! around {
        ($resource:ty, $scope:ty) => {
            [
                of(<$resource>::decode(&item[0][..]).expect("just encoded").resource),
                of(<$scope>::decode(&item[1][..]).expect("just encoded").scope),
            ]
        };
    }
    use opentelemetry_proto::tonic::{logs, metrics, trace};
    match signal {
        Signal::Traces => around!(trace::v1::ResourceSpans, trace::v1::ScopeSpans),
        Signal::Logs => around!(logs::v1::ResourceLogs, logs::v1::ScopeLogs),
        Signal::Metrics => around!(metrics::v1::ResourceMetrics, metrics::v1::ScopeMetrics),
    }
}

fn again<M: Message + Default>(bytes: &[u8]) -> Vec<u8> {
    M::decode(bytes).expect("validated").encode_to_vec()
}

#[test]
fn retaining_equals_decode_remove_encode() {
    let mut changed = 0;
    for case in 0..cases(50_000) {
        let Some((signal, body, items)) = canonical(case) else { continue };
        let percent = [0, 30, 70, 95, 100][(case % 5) as usize];
        let mut random = Random::new(case);
        let verdicts: Vec<bool> = (0..items.get()).map(|_| random.below(100) < percent).collect();
        let mut asked = verdicts.iter();
        let left = retain(signal, &body, |_| *asked.next().expect("asked once an item"));
        assert_eq!(asked.len(), 0);
        let kept = verdicts.iter().filter(|keep| **keep).count() as u64;
        assert_eq!((left.kept, left.removed), (ItemCount(kept), ItemCount(items.get() - kept)), "case {case}");
        if kept == items.get() {
            assert_eq!(left.body.as_ptr(), body.as_ptr());
            continue;
        }
        if kept == 0 {
            assert!(left.body.is_empty());
            continue;
        }
        changed += 1;
        let mut typed = Typed::decode(signal, &body).expect("validated");
        let mut asked = verdicts.iter();
        retain_typed(&mut typed, || *asked.next().expect("as many items"));
        let checked = validate(signal, &left.body, &Limits::default()).unwrap_or_else(|e| panic!("case {case}: {e}"));
        assert!(checked.canonical && checked.items == left.kept, "case {case}, {signal}");
        let found = Typed::decode(signal, &left.body).expect("validated").encode();
        assert!(found == typed.encode(), "case {case}, {signal}");
        // What prost does not see: nothing unknown is made up, and with the items that stay theirs stay.
        let [before, after] = [&body, &left.body].map(|body| unknown(signal, body));
        assert!(after.iter().all(|field| before.contains(field)), "case {case}, {signal}");
        let fields = |body: &bytes::Bytes| {
            let mut fields = Vec::new();
            walk(signal, body, |item| fields.push(body.slice(item.field.clone())));
            fields
        };
        let expected = fields(&body).into_iter().zip(&verdicts).filter(|(_, keep)| **keep).map(|(field, _)| field);
        assert!(expected.eq(fields(&left.body)), "case {case}, {signal}");
    }
    assert!(changed > 100);
}

#[test]
fn splitting_keeps_every_item_with_what_is_around_it() {
    let mut divided = 0;
    for case in 0..cases(50_000) {
        let Some((signal, body, items)) = canonical(case) else { continue };
        if items == ItemCount::ZERO {
            continue;
        }
        let mut random = Random::new(case);
        let batch = || Batch::trusted(signal, items, body.clone());
        let limit = match case % 3 {
            0 => PartLimit::items(ItemCount(1 + random.below(items.get()))),
            1 => PartLimit::bytes(ByteSize(1 + random.below(body.len() as u64))),
            _ => PartLimit {
                items: ItemCount(1 + random.below(items.get())),
                bytes: ByteSize(random.below(body.len() as u64)),
            },
        };
        let parts = if case.is_multiple_of(2) {
            split(batch(), limit)
        } else {
            let mut group = Group::of(batch());
            group.push(batch());
            let groups = split_group(group, limit);
            for group in &groups {
                assert!(group.items() <= limit.items || group.items() == ItemCount(1), "case {case}, {signal}");
            }
            groups.into_iter().flat_map(Group::into_parts).collect()
        };
        divided += usize::from(parts.len() > 1);
        let mut found = Vec::new();
        for part in &parts {
            let checked =
                validate(signal, part.body(), &Limits::default()).unwrap_or_else(|e| panic!("case {case}: {e}"));
            assert!(checked.canonical && checked.items == part.items(), "case {case}, {signal}");
            assert!(part.items() <= limit.items.max(ItemCount(1)), "case {case}, {signal}");
            found.extend(flatten(&Typed::decode(signal, part.body()).expect("validated")));
        }
        let before = unknown(signal, &body);
        let after: Vec<_> = parts.iter().flat_map(|part| unknown(signal, part.body())).collect();
        assert!(after.iter().all(|field| before.contains(field)), "case {case}, {signal}");
        assert!(before.iter().all(|field| after.contains(field)), "case {case}, {signal}");
        let whole = flatten(&Typed::decode(signal, &body).expect("validated"));
        let expected: Vec<_> = whole.iter().cycle().take(whole.len() * (1 + (case % 2) as usize)).collect();
        assert!(found.iter().eq(expected), "case {case}, {signal}");
    }
    assert!(divided > 100);
}
