//! The deciding parts: the queue against a naive one, encoding against prost, variables by table.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use otlp_core::codec::Coding;
use otlp_core::{Batch, Signal, wire};
use proptest::prelude::*;
use prost::Message;

use super::config::{Builder, Protocol};
use super::envelope::{Encoded, Items, Origin};
use super::queue::{Limits, Push, Queue};
use super::record::attributes;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(queue_items_max: u64, batch_items_max: u64) -> [Limits; 3] {
    [Limits { queue_items_max, batch_items_max, delay: 5 * SECOND }; 3]
}

/// The request that one item makes, checked as every receiver checks it.
fn request(item: impl Into<TelemetryData>) -> Vec<u8> {
    let item = item.into();
    let mut items = Items::default();
    let resource = Encoded::new(&attributes::resource([("service.name", "shop")].into_iter()), "");
    let scope = Encoded::new(&attributes::scope("lib", "1.2"), "");
    items.push(&Origin { resource, scope }, &item.bytes, 1);
    let body = items.to_request();
    let limits = wire::validate::Limits::default();
    let (batch, findings) = Batch::check(item.signal, body.clone().into(), &limits).unwrap();
    assert_eq!((batch.items().get(), findings.normalized, findings.invalid_ids.get()), (1, false, 0));
    batch.settle(Outcome::Delivered);
    body
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_span_reads_back_as_it_was_described() {
    let parent = SpanContext { trace_id: TraceId([7; 16]), span_id: SpanId([8; 8]) };
    let span = TelemetryData::trace("order")
        .with_parent(parent)
        .with_kind(Kind::Server)
        .with_attribute("text", "é")
        .with_attribute("yes", true)
        .with_attribute("no", false)
        .with_attribute("bytes", &[1u8, 2][..])
        .with_numeric_attribute("int", -3)
        .with_numeric_attribute("zero", 0)
        .with_numeric_attribute("double", 0.5)
        .with_start_time(at(1))
        .with_end_time(at(3))
        .with_event_at("paid", at(2), &[("by", Value::Text("card"))])
        .with_link(parent)
        .with_error("no funds");
    let context = span.context();
    let body = ExportTraceServiceRequest::decode(&request(span)[..]).unwrap();
    let resource = &body.resource_spans[0];
    assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
    let scope = resource.scope_spans[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("lib", "1.2"));
    let span = &resource.scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.kind), ("order", 2));
    assert_eq!((&span.trace_id[..], &span.parent_span_id[..]), (&[7; 16][..], &[8; 8][..]));
    assert_eq!((&span.span_id[..], context.trace_id), (&context.span_id.0[..], parent.trace_id));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_000_000_000, 3_000_000_000));
    let values: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), attribute.value.clone().unwrap().value.unwrap()))
        .collect();
    let expected = [
        ("text", Any::StringValue("é".into())),
        ("yes", Any::BoolValue(true)),
        ("no", Any::BoolValue(false)),
        ("bytes", Any::BytesValue(vec![1, 2])),
        ("int", Any::IntValue(-3)),
        ("zero", Any::IntValue(0)),
        ("double", Any::DoubleValue(0.5)),
    ];
    assert_eq!(values, expected);
    assert_eq!((span.events[0].name.as_str(), span.events[0].time_unix_nano), ("paid", 2_000_000_000));
    assert_eq!(span.events[0].attributes[0].key, "by");
    assert_eq!(span.links[0].span_id, [8; 8]);
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "no funds"));
}

#[test]
fn attributes_of_every_length_read_back() {
    for length in (0..140).chain([16_382, 16_383, 16_384]) {
        let text = "x".repeat(length);
        let span = TelemetryData::trace(&text)
            .with_attribute(&text, "v")
            .with_attribute("k", &text)
            .with_attribute(&text, &text)
            .with_numeric_attribute(&text, length as i64)
            .with_numeric_attribute(&text, -(length as f64))
            .with_attribute(&text, true);
        let body = ExportTraceServiceRequest::decode(&request(span)[..]).unwrap();
        let span = &body.resource_spans[0].scope_spans[0].spans[0];
        let found: Vec<_> = span
            .attributes
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.clone().unwrap().value.unwrap()))
            .collect();
        let expected = [
            (text.as_str(), Any::StringValue("v".into())),
            ("k", Any::StringValue(text.clone())),
            (&text, Any::StringValue(text.clone())),
            (&text, Any::IntValue(length as i64)),
            (&text, Any::DoubleValue(-(length as f64))),
            (&text, Any::BoolValue(true)),
        ];
        assert_eq!(found, expected, "{length}");
    }
}

#[test]
fn a_log_record_reads_back_as_it_was_described() {
    let span = SpanContext { trace_id: TraceId([7; 16]), span_id: SpanId([8; 8]) };
    let log = TelemetryData::log("paid")
        .with_severity(Severity::Warn)
        .with_span(span)
        .with_time(at(9))
        .with_numeric_attribute("cents", 1250);
    let body = ExportLogsServiceRequest::decode(&request(log)[..]).unwrap();
    let log = &body.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((log.severity_number, log.severity_text.as_str()), (13, "WARN"));
    assert_eq!(log.body.clone().unwrap().value.unwrap(), Any::StringValue("paid".into()));
    assert_eq!((log.time_unix_nano, &log.trace_id[..], &log.span_id[..]), (9_000_000_000, &[7; 16][..], &[8; 8][..]));
    assert!(log.observed_time_unix_nano > 1_600_000_000_000_000_000);
    assert_eq!(log.attributes[0].value.clone().unwrap().value.unwrap(), Any::IntValue(1250));
}

#[test]
fn metrics_read_back_as_they_were_described() {
    let read = |item: Metric<()>| {
        let body = ExportMetricsServiceRequest::decode(&request(item)[..]).unwrap();
        let metric = body.resource_metrics[0].scope_metrics[0].metrics[0].clone();
        (metric.name, metric.unit, metric.data.unwrap())
    };
    let gauge = TelemetryData::gauge("load", 0.25).with_unit("1").with_attribute("cpu", "0").with_time(at(5));
    let (name, unit, metric::Data::Gauge(gauge)) = read(gauge) else { panic!("no gauge") };
    assert_eq!((name.as_str(), unit.as_str()), ("load", "1"));
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.25)));
    assert_eq!((gauge.data_points[0].time_unix_nano, gauge.data_points[0].attributes.len()), (5_000_000_000, 1));
    let (_, _, metric::Data::Sum(sum)) = read(TelemetryData::sum("orders", -2).with_start_time(at(4))) else {
        panic!("no sum")
    };
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(-2)));
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (1, true));
    assert_eq!(sum.data_points[0].start_time_unix_nano, 4_000_000_000);
    let level = TelemetryData::sum("level", 5).with_decreases().with_temporality(Temporality::Cumulative);
    let (_, _, metric::Data::Sum(sum)) = read(level) else { panic!("no sum") };
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, false));
    let histogram = TelemetryData::histogram("ms", &[10.0, 1.0, f64::NAN], &[0.5, 1.0, 5.0, 99.0, f64::NAN])
        .with_attribute("route", "/");
    let (_, _, metric::Data::Histogram(histogram)) = read(histogram) else { panic!("no histogram") };
    let point = &histogram.data_points[0];
    assert_eq!((&point.explicit_bounds[..], &point.bucket_counts[..]), (&[1.0, 10.0][..], &[2, 1, 1][..]));
    assert_eq!((point.count, point.sum, point.min, point.max), (4, Some(105.5), Some(0.5), Some(99.0)));
    assert_eq!((point.attributes.len(), histogram.aggregation_temporality), (1, 1));
}

#[test]
fn items_of_several_scopes_stand_in_their_own() {
    let scopes = ["a", "b", "a"]
        .map(|name| Origin { scope: Encoded::new(&attributes::scope(name, ""), ""), ..Origin::default() });
    let mut items = Items::default();
    for (scope, count) in scopes.iter().zip([2, 1, 1]) {
        for _ in 0..count {
            items.push(scope, &TelemetryData::from(TelemetryData::log("x")).bytes, 1);
        }
    }
    let body = ExportLogsServiceRequest::decode(&items.to_request()[..]).unwrap();
    let found: Vec<_> = body.resource_logs[0]
        .scope_logs
        .iter()
        .map(|scope| (scope.scope.as_ref().unwrap().name.as_str(), scope.log_records.len()))
        .collect();
    assert_eq!(found, [("a", 2), ("b", 1), ("a", 1)]);
}

#[test]
fn ids_do_not_meet() {
    let mut seen = std::collections::HashSet::new();
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(|| Vec::from_iter((0..10_000).map(|_| SpanContext::random().span_id))))
        .collect();
    for id in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
        assert!(seen.insert(id));
    }
}

#[test]
fn traceparents_by_table() {
    let context = SpanContext { trace_id: TraceId([0xab; 16]), span_id: SpanId([1; 8]) };
    let header = context.to_traceparent();
    assert_eq!(header, format!("00-{}-{}-01", "ab".repeat(16), "01".repeat(8)));
    let later = format!("01-{}-{}-01-more", "ab".repeat(16), "01".repeat(8));
    for good in [header.as_str(), &later] {
        assert_eq!(SpanContext::from_traceparent(good), Some(context), "{good}");
    }
    for bad in [
        "",
        "00",
        &header[1..],
        &header.to_uppercase(),
        &format!("{header}-x"),
        &format!("00-{}-{}-01", "0".repeat(32), "01".repeat(8)),
        &format!("00-{}-{}-01", "ab".repeat(16), "0".repeat(16)),
        &header.replace("00-", "ff-"),
        &format!("00-{}-{}-01", "é".repeat(16), "01".repeat(8)),
    ] {
        assert_eq!(SpanContext::from_traceparent(bad), None, "{bad}");
    }
}

/// A queue as simple as it can be: items by signal, with when they came.
#[derive(Default)]
struct Naive {
    open: [Vec<Instant>; 3],
    sealed: VecDeque<(Signal, u64)>,
    held: [u64; 3],
}

proptest! {
    #[test]
    fn the_queue_equals_a_naive_one(actions in proptest::collection::vec((0u8..5, 0usize..3, 1u64..4), 1..200)) {
        let (queue_max, batch_max) = (10, 4);
        let mut queue = Queue::new(limits(queue_max, batch_max), 1 << 20);
        let mut naive = Naive::default();
        let mut out = Vec::new();
        let mut now = Instant::now();
        let origin = Origin::default();
        for (action, index, amount) in actions {
            let signal = Signal::ALL[index];
            let has_room = |naive: &Naive, count| naive.held[index] == 0 || naive.held[index] + count <= queue_max;
            match action {
                0 | 1 => {
                    let taken = queue.push_item(signal, &origin, b"x", 1, || now) != Push::Full;
                    prop_assert_eq!(taken, has_room(&naive, 1));
                    if taken {
                        naive.held[index] += 1;
                        naive.open[index].push(now);
                        if naive.open[index].len() as u64 == batch_max {
                            naive.open[index].clear();
                            naive.sealed.push_back((signal, batch_max));
                        }
                    }
                }
                2 => {
                    let taken = queue.push_request(signal, amount, Bytes::from_static(b"xyz")) != Push::Full;
                    prop_assert_eq!(taken, has_room(&naive, amount));
                    if taken {
                        naive.held[index] += amount;
                        naive.sealed.push_back((signal, amount));
                    }
                }
                3 => now += SECOND * amount as u32,
                _ => {
                    for (index, open) in naive.open.iter_mut().enumerate() {
                        if open.first().is_some_and(|since| now - *since >= 5 * SECOND) {
                            naive.sealed.push_back((Signal::ALL[index], open.len() as u64));
                            open.clear();
                        }
                    }
                    let next = queue.next(now).map(|parcel| (parcel.signal, parcel.items, parcel.room()));
                    prop_assert_eq!(next.map(|(signal, items, _)| (signal, items)), naive.sealed.pop_front());
                    out.extend(next.map(|(.., room)| room));
                    if amount > 1 && !out.is_empty() {
                        let room = out.remove(0);
                        queue.release(&room);
                        naive.held[room.signal.index()] -= room.items;
                    }
                }
            }
            let due = naive.open.iter().filter_map(|open| open.first()).min().map(|since| *since + 5 * SECOND);
            prop_assert_eq!(queue.due(), due);
            prop_assert_eq!(Signal::ALL.map(|signal| queue.held_items(signal)), naive.held);
        }
    }
}

#[test]
fn bytes_are_bounded_but_one_large_item_passes() {
    let mut queue = Queue::new(limits(100, 10), 10);
    let (origin, now) = (Origin::default(), Instant::now());
    let push = |queue: &mut Queue, bytes: &[u8]| queue.push_item(Signal::Logs, &origin, bytes, 1, || now);
    assert_ne!(push(&mut queue, &[0; 20]), Push::Full);
    assert_eq!(push(&mut queue, &[0; 1]), Push::Full);
    queue.seal_all();
    let room = queue.next(now).unwrap().room();
    assert_eq!(push(&mut queue, &[0; 1]), Push::Full, "its room is not given back yet");
    queue.release(&room);
    assert_ne!(push(&mut queue, &[0; 10]), Push::Full);
    assert_eq!(push(&mut queue, &[0; 1]), Push::Full);
    let oldest = queue.take_oldest(Signal::Logs).unwrap().room();
    queue.release(&oldest);
    assert_ne!(push(&mut queue, &[0; 10]), Push::Full);
    assert!(queue.take_oldest(Signal::Traces).is_none());
}

fn from(variables: &[(&str, &str)]) -> Builder {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    OtlpClient::from_env(|name| variables.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn variables_by_table() {
    let builder = from(&[
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other, deployment.environment=prod%20eu"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs/x"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%3Db,x=1"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x=2"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "7"),
        ("OTEL_SDK_DISABLED", " TRUE "),
    ]);
    let pairs = |pairs: &[(&str, &str)]| Vec::from_iter(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    assert_eq!(builder.resource, pairs(&[("deployment.environment", "prod eu"), ("service.name", "shop")]));
    let [traces, metrics, logs] = Signal::ALL.map(|signal| builder.connection(signal));
    assert_eq!((&traces.endpoint, logs.endpoint.as_deref()), (&None, Some("http://logs/x")));
    assert_eq!(builder.all.endpoint.as_deref(), Some("http://all:4318"));
    assert_eq!(traces.headers, Some(pairs(&[("api-key", "a=b"), ("x", "1")])));
    assert_eq!(metrics.headers, Some(pairs(&[("x", "2")])));
    let millis = |connection: &super::config::Connection| connection.timeout.unwrap().as_millis();
    assert_eq!([&traces, &metrics, &logs].map(millis), [2000, 1500, 1500]);
    assert_eq!((traces.compression, logs.compression), (Some(Coding::Gzip), Some(Coding::Identity)));
    assert_eq!((traces.protocol, metrics.protocol), (None, Some(Protocol::HttpJson)));
    let [spans, points, records] = builder.limits;
    assert_eq!((spans.delay, spans.queue_items_max, spans.batch_items_max), (Duration::from_millis(100), 10, 10));
    assert_eq!((points.delay, points.queue_items_max, points.batch_items_max), (5 * SECOND, 2048, 512));
    assert_eq!((records.delay, records.queue_items_max, records.batch_items_max), (5 * SECOND, 2048, 7));
    assert!(builder.disabled && builder.ignored().is_empty());
    // What is set afterwards goes before.
    assert_eq!(builder.service("mine").resource[1].1, "mine");
}

#[test]
fn variables_that_cannot_be_read_are_passed_over_by_name() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "udp"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "rar"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,=c"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999"),
        ("OTEL_SDK_DISABLED", "1"),
    ] {
        let builder = from(&[(name, value)]);
        assert_eq!(builder.ignored().iter().map(|error| error.key.as_str()).collect::<Vec<_>>(), [name]);
        let is_shown = !["HEADERS", "ATTRIBUTES", "BATCH_SIZE"].iter().any(|end| name.ends_with(end));
        assert_eq!(builder.ignored()[0].message.contains(&format!("not {value:?}")), is_shown, "{name}");
        builder.build().unwrap();
        assert!(from(&[(name, " ")]).ignored().is_empty(), "empty is not set");
    }
}

#[test]
fn defaults_are_the_specifications() {
    let super::queue::Limits { queue_items_max, batch_items_max, delay } = super::config::LIMITS;
    assert_eq!((queue_items_max, batch_items_max, delay), (2048, 512, 5 * SECOND));
    assert_eq!(super::config::TIMEOUT, 10 * SECOND);
    let builder = OtlpClient::builder();
    for signal in Signal::ALL {
        let limits = builder.limits[signal.index()];
        assert_eq!((limits.queue_items_max, limits.batch_items_max, limits.delay), (2048, 512, delay));
        assert_eq!((builder.connection(signal).timeout, builder.mode), (None, super::Mode::Queued));
    }
}

#[test]
fn wrong_settings_are_named_at_build() {
    let builder = OtlpClient::builder;
    for (setting, builder) in [
        ("endpoint", builder().endpoint("localhost:4318")),
        ("endpoint", builder().signal_endpoint(Signal::Logs, "ftp://h")),
        ("headers", builder().header("bad name", "x")),
        ("timeout", builder().timeout(Duration::ZERO)),
        ("batch_items_max", builder().batch_items_max(0)),
        ("queue_items_max", builder().queue_items_max(511)),
        ("queue_bytes_max", builder().queue_bytes_max(100)),
        ("batch_delay", builder().batch_delay(4000 * SECOND)),
        ("stack_kib", builder().stack_kib(1)),
        ("thread_name", builder().thread_name("")),
        ("retry", builder().retry(crate::retry::Config { multiplier: -1.0, ..Default::default() })),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.key.contains(setting), "{setting}: {error}");
    }
    let error = builder().endpoint("localhost:4318").build().unwrap_err();
    assert_eq!(error.message, "must begin with http:// or https://, not \"localhost:4318\"");
    let secret = builder().header("authorization", "s3cr3t").endpoint("http://u:s3cr3t@h:0");
    assert!(!format!("{secret:?}").contains("s3cr3t"));
    assert!(!secret.build().unwrap_err().to_string().contains("s3cr3t"));
}
