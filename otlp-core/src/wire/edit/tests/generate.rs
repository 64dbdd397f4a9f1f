//! Small random requests, and the same requests in odd but legal wire forms.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{self as metrics, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span};
use prost::Message;

use crate::signal::Signal;
use crate::wire::reader::{self, LEN};
use crate::wire::writer::{put_tag, put_varint};

/// SplitMix64: small, seeded, good enough.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

pub(super) const KEYS: [&str; 8] = ["", "a", "b", "ключ", "http.request.method", "host", "k.with.a.longer.name", "zz"];

/// Mostly short; now and then just around where a length takes another byte.
fn text(random: &mut Random) -> String {
    let len = match random.below(100) {
        0..70 => random.below(12),
        70..94 => 100 + random.below(40),
        94..98 => 126 + random.below(4),
        _ => 16_300 + random.below(120),
    };
    let unit = if random.chance(10) { "ü" } else { "x" };
    let mut text = unit.repeat(len / unit.len());
    text.truncate(len);
    text
}

pub(super) fn value(random: &mut Random, depth: u32) -> AnyValue {
    use any_value::Value::*;
    let value = match random.below(if depth == 0 { 7 } else { 9 }) {
        0..3 => StringValue(text(random)),
        3 => BoolValue(random.chance(50)),
        4 => IntValue(random.next() as i64 >> random.below(64)),
        5 => DoubleValue(random.below(1000) as f64 / 8.0 - 3.0),
        6 if random.chance(30) => return AnyValue { value: None },
        6 => BytesValue(text(random).into_bytes()),
        7 => {
            let values = (0..random.below(3)).map(|_| value_below(random, depth)).collect();
            ArrayValue(self::ArrayValue { values })
        }
        _ => KvlistValue(KeyValueList { values: (0..random.below(3)).map(|_| pair(random, depth - 1)).collect() }),
    };
    AnyValue { value: Some(value) }
}

fn value_below(random: &mut Random, depth: u32) -> AnyValue {
    value(random, depth - 1)
}

fn pair(random: &mut Random, depth: u32) -> KeyValue {
    let value = (!random.chance(4)).then(|| value(random, depth));
    KeyValue { key: random.pick(&KEYS).into(), value, key_strindex: i32::from(random.chance(3)) }
}

fn pairs(random: &mut Random) -> Vec<KeyValue> {
    let count = if random.chance(25) { 0 } else { random.below(6) };
    (0..count).map(|_| pair(random, 2)).collect()
}

fn few<T>(random: &mut Random, make: impl Fn(&mut Random) -> T) -> Vec<T> {
    (0..random.below(3)).map(|_| make(random)).collect()
}

fn resource(random: &mut Random) -> Option<Resource> {
    (!random.chance(20)).then(|| Resource {
        attributes: pairs(random),
        dropped_attributes_count: random.below(2) as u32,
        entity_refs: Vec::new(),
    })
}

fn scope(random: &mut Random) -> Option<InstrumentationScope> {
    (!random.chance(30)).then(|| InstrumentationScope {
        name: text(random),
        version: "1".into(),
        attributes: pairs(random),
        dropped_attributes_count: random.below(2) as u32,
    })
}

fn span(random: &mut Random) -> Span {
    let event =
        |random: &mut Random| span::Event { name: text(random), attributes: pairs(random), ..Default::default() };
    Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: text(random),
        kind: random.below(6) as i32,
        start_time_unix_nano: random.next(),
        attributes: pairs(random),
        events: few(random, event),
        flags: 1,
        ..Default::default()
    }
}

fn log_record(random: &mut Random) -> LogRecord {
    LogRecord {
        time_unix_nano: random.next(),
        body: random.chance(80).then(|| value(random, 2)),
        attributes: pairs(random),
        event_name: text(random),
        ..Default::default()
    }
}

fn number_point(random: &mut Random) -> metrics::NumberDataPoint {
    let exemplar = |random: &mut Random| metrics::Exemplar { filtered_attributes: pairs(random), ..Default::default() };
    metrics::NumberDataPoint {
        attributes: pairs(random),
        exemplars: few(random, exemplar),
        value: Some(metrics::number_data_point::Value::AsInt(random.next() as i64)),
        ..Default::default()
    }
}

fn metric(random: &mut Random) -> metrics::Metric {
    let data = match random.below(6) {
        0 => Data::Gauge(metrics::Gauge { data_points: few(random, number_point) }),
        1 => Data::Sum(metrics::Sum {
            data_points: few(random, number_point),
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        2 => Data::Histogram(metrics::Histogram {
            data_points: few(random, |random| metrics::HistogramDataPoint {
                attributes: pairs(random),
                bucket_counts: vec![1, 2, 3],
                explicit_bounds: vec![1.0, 2.0],
                ..Default::default()
            }),
            aggregation_temporality: 1,
        }),
        3 => Data::ExponentialHistogram(metrics::ExponentialHistogram {
            data_points: few(random, |random| metrics::ExponentialHistogramDataPoint {
                attributes: pairs(random),
                scale: -2,
                positive: Some(metrics::exponential_histogram_data_point::Buckets {
                    offset: -1,
                    bucket_counts: vec![1, 300],
                }),
                ..Default::default()
            }),
            aggregation_temporality: 1,
        }),
        4 => Data::Summary(metrics::Summary {
            data_points: few(random, |random| metrics::SummaryDataPoint {
                attributes: pairs(random),
                count: 3,
                ..Default::default()
            }),
        }),
        _ => return metrics::Metric { name: text(random), ..Default::default() },
    };
    metrics::Metric { name: text(random), metadata: pairs(random), data: Some(data), ..Default::default() }
}

/// A request of any signal, as prost writes it.
pub(super) fn request(random: &mut Random, signal: Signal) -> Vec<u8> {
    match signal {
        Signal::Traces => {
            let scopes = |random: &mut Random| ScopeSpans {
                scope: scope(random),
                spans: few(random, span),
                schema_url: text(random),
            };
            let resource_spans = few(random, |random| (resource(random), few(random, scopes), text(random)));
            let envelope = |(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url };
            ExportTraceServiceRequest { resource_spans: resource_spans.into_iter().map(envelope).collect() }
                .encode_to_vec()
        }
        Signal::Logs => {
            let scopes = |random: &mut Random| ScopeLogs {
                scope: scope(random),
                log_records: few(random, log_record),
                schema_url: text(random),
            };
            let resource_logs = few(random, |random| (resource(random), few(random, scopes), text(random)));
            let envelope = |(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url };
            ExportLogsServiceRequest { resource_logs: resource_logs.into_iter().map(envelope).collect() }
                .encode_to_vec()
        }
        Signal::Metrics => {
            let scopes = |random: &mut Random| metrics::ScopeMetrics {
                scope: scope(random),
                metrics: few(random, metric),
                schema_url: text(random),
            };
            let resource_metrics = few(random, |random| (resource(random), few(random, scopes), text(random)));
            let envelope = |(resource, scope_metrics, schema_url)| metrics::ResourceMetrics {
                resource,
                scope_metrics,
                schema_url,
            };
            ExportMetricsServiceRequest { resource_metrics: resource_metrics.into_iter().map(envelope).collect() }
                .encode_to_vec()
        }
    }
}

/// What a length-delimited field holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Request,
    ResourceEnvelope,
    ScopeEnvelope,
    Resource,
    Scope,
    Item,
    Metric,
    Data(u32),
    Pair,
    Any,
    Values,
    Leaf,
}

fn child(signal: Signal, kind: Kind, field: u32) -> Kind {
    use Kind::*;
    match (kind, field, signal) {
        (Request, 1, _) => ResourceEnvelope,
        (ResourceEnvelope, 1, _) => Resource,
        (ResourceEnvelope, 2, _) => ScopeEnvelope,
        (ScopeEnvelope, 1, _) => Scope,
        (ScopeEnvelope, 2, Signal::Metrics) => Metric,
        (ScopeEnvelope, 2, _) => Item,
        (Resource, 1, _) | (Scope, 3, _) => Pair,
        (Item, 9, Signal::Traces) | (Item, 6, Signal::Logs) => Pair,
        (Metric, 5 | 7 | 9 | 10 | 11, _) => Data(field),
        // Points are walked by their own kind's number for attributes.
        (Data(5 | 7 | 11), 1, _) => Data(100 + 7),
        (Data(9), 1, _) => Data(100 + 9),
        (Data(10), 1, _) => Data(100 + 1),
        (Data(point), attributes, _) if point == 100 + attributes => Pair,
        (Pair, 2, _) | (Values, 1, _) => Any,
        (Any, 5, _) => Values,
        _ => Leaf,
    }
}

/// The payload of every unknown field that is put in.
pub(super) const UNKNOWN: &[u8] = b"<unknown>";

/// Appends a varint in up to ten bytes, more than it needs.
fn put_long_varint(random: &mut Random, out: &mut Vec<u8>, value: u64) {
    put_varint(out, value);
    if random.chance(20) && out.len() > 1 {
        let room = 2.min(10 - crate::wire::writer::varint_len(value));
        for _ in 0..room {
            *out.last_mut().unwrap() |= 0x80;
            out.push(0);
        }
    }
}

fn put_unknown(random: &mut Random, out: &mut Vec<u8>) {
    match random.below(3) {
        0 => {
            put_tag(out, 1000, LEN);
            put_varint(out, UNKNOWN.len() as u64);
            out.extend_from_slice(UNKNOWN);
        }
        1 => {
            put_tag(out, 77, 3);
            put_tag(out, 1, LEN);
            put_varint(out, UNKNOWN.len() as u64);
            out.extend_from_slice(UNKNOWN);
            put_tag(out, 77, 4);
        }
        _ => {
            put_tag(out, 90, 1);
            out.extend_from_slice(&random.next().to_le_bytes());
        }
    }
}

/// The same request in another order of fields, with unknown fields and groups at every level, keys after values and
/// given twice, and lengths longer than they need to be. Decodes to the same.
pub(super) fn odd(random: &mut Random, signal: Signal, request: &[u8]) -> Vec<u8> {
    odd_message(random, signal, Kind::Request, request)
}

fn odd_message(random: &mut Random, signal: Signal, kind: Kind, message: &[u8]) -> Vec<u8> {
    let mut queues: Vec<(u32, std::collections::VecDeque<Vec<u8>>)> = Vec::new();
    for field in reader::fields(message).map(Result::unwrap) {
        let mut written = Vec::new();
        match field.value {
            reader::Value::Len(bytes) => {
                let child = child(signal, kind, field.number);
                let inner =
                    if child == Kind::Leaf { bytes.to_vec() } else { odd_message(random, signal, child, bytes) };
                if kind == Kind::Pair && field.number == 1 && random.chance(10) {
                    written.extend_from_slice(b"\x0a\x05other");
                }
                put_tag(&mut written, field.number, LEN);
                put_long_varint(random, &mut written, inner.len() as u64);
                written.extend_from_slice(&inner);
            }
            _ => written.extend_from_slice(&message[field.start..field.end]),
        }
        match queues.iter_mut().find(|(number, _)| *number == field.number) {
            Some((_, queue)) => queue.push_back(written),
            None => queues.push((field.number, [written].into())),
        }
    }
    let mut out = Vec::new();
    let shuffle = random.chance(60);
    while !queues.is_empty() {
        if random.chance(6) {
            put_unknown(random, &mut out);
        }
        let at = if shuffle { random.below(queues.len()) } else { 0 };
        out.extend(queues[at].1.pop_front().unwrap());
        if queues[at].1.is_empty() {
            queues.remove(at);
        }
    }
    if random.chance(6) {
        put_unknown(random, &mut out);
    }
    out
}
