//! Every field of every message once, written by hand in JSON and as types: what a round trip alone cannot prove, that
//! both directions use the right names.

use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Status};

use super::*;

/// Both directions: the document decodes to the request, and the request encodes to the document, without white space.
fn check<R: prost::Message + Default + PartialEq + std::fmt::Debug>(signal: Signal, json: &str, request: &R) {
    let compact: String = json.lines().map(str::trim).collect();
    assert_eq!(R::decode(&*protobuf(signal, json).unwrap()).unwrap(), *request);
    assert_eq!(encoded(signal, &request.encode_to_vec()), compact);
}

fn text(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.into())) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![text("a", "b")],
        dropped_attributes_count: 1,
        entity_refs: vec![EntityRef {
            schema_url: "s".into(),
            r#type: "t".into(),
            id_keys: vec!["i".into(), String::new()],
            description_keys: vec!["d".into()],
        }],
    })
}

const RESOURCE: &str = r#"{"attributes":[{"key":"a","value":{"stringValue":"b"}}],"droppedAttributesCount":1,"entityRefs":[{"schemaUrl":"s","type":"t","idKeys":["i",""],"descriptionKeys":["d"]}]}"#;

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "n".into(),
        version: "v".into(),
        attributes: vec![text("c", "d")],
        dropped_attributes_count: 2,
    })
}

const SCOPE: &str =
    r#"{"name":"n","version":"v","attributes":[{"key":"c","value":{"stringValue":"d"}}],"droppedAttributesCount":2}"#;

#[test]
fn json_08_every_field_of_traces() {
    let json = r#"{"resourceSpans":[{
        "resource":RESOURCE,
        "scopeSpans":[{
        "scope":SCOPE,
        "spans":[{
        "traceId":"000102030405060708090a0b0c0d0e0f",
        "spanId":"0001020304050607",
        "traceState":"k=v",
        "parentSpanId":"0706050403020100",
        "name":"GET",
        "kind":3,
        "startTimeUnixNano":"18446744073709551615",
        "endTimeUnixNano":"1",
        "attributes":[
        {"key":"s","value":{"stringValue":"\"\\\n\u0001é"}},
        {"key":"b","value":{"boolValue":false}},
        {"key":"i","value":{"intValue":"-9223372036854775808"}},
        {"key":"d","value":{"doubleValue":0.5}},
        {"key":"a","value":{"arrayValue":{"values":[{},{"stringValue":""}]}}},
        {"key":"m","value":{"kvlistValue":{"values":[{"key":"x"}]}}},
        {"key":"y","value":{"bytesValue":"+/8="}},
        {"value":{"stringValueStrindex":-1},"keyStrindex":7}],
        "droppedAttributesCount":3,
        "events":[{"timeUnixNano":"4","name":"e","attributes":[{"key":"f","value":{"stringValue":"g"}}],"droppedAttributesCount":5}],
        "droppedEventsCount":6,
        "links":[{"traceId":"0f","spanId":"07","traceState":"l","attributes":[{"key":"h","value":{"stringValue":"i"}}],"droppedAttributesCount":7,"flags":8}],
        "droppedLinksCount":9,
        "status":{"message":"m","code":2},
        "flags":4294967295
        }],
        "schemaUrl":"u"
        }],
        "schemaUrl":"w"
        }]}"#
        .replace("RESOURCE", RESOURCE)
        .replace("SCOPE", SCOPE)
        .replace("\"0f\"", &format!("\"{}\"", "0f".repeat(16)))
        .replace("\"07\"", &format!("\"{}\"", "07".repeat(8)));
    let any = |value| Some(AnyValue { value: Some(value) });
    let attribute = |key: &str, value| KeyValue { key: key.into(), value: any(value), ..Default::default() };
    let id: Vec<u8> = (0..16).collect();
    let span = Span {
        trace_id: id.clone(),
        span_id: id[..8].to_vec(),
        trace_state: "k=v".into(),
        parent_span_id: id[..8].iter().rev().copied().collect(),
        name: "GET".into(),
        kind: 3,
        start_time_unix_nano: u64::MAX,
        end_time_unix_nano: 1,
        attributes: vec![
            text("s", "\"\\\n\u{1}é"),
            attribute("b", Value::BoolValue(false)),
            attribute("i", Value::IntValue(i64::MIN)),
            attribute("d", Value::DoubleValue(0.5)),
            attribute(
                "a",
                Value::ArrayValue(ArrayValue {
                    values: vec![AnyValue { value: None }, any(Value::StringValue(String::new())).unwrap()],
                }),
            ),
            attribute(
                "m",
                Value::KvlistValue(KeyValueList { values: vec![KeyValue { key: "x".into(), ..Default::default() }] }),
            ),
            attribute("y", Value::BytesValue(vec![0xfb, 0xff])),
            KeyValue { key: String::new(), value: any(Value::StringValueStrindex(-1)), key_strindex: 7 },
        ],
        dropped_attributes_count: 3,
        events: vec![Event {
            time_unix_nano: 4,
            name: "e".into(),
            attributes: vec![text("f", "g")],
            dropped_attributes_count: 5,
        }],
        dropped_events_count: 6,
        links: vec![Link {
            trace_id: vec![15; 16],
            span_id: vec![7; 8],
            trace_state: "l".into(),
            attributes: vec![text("h", "i")],
            dropped_attributes_count: 7,
            flags: 8,
        }],
        dropped_links_count: 9,
        status: Some(Status { message: "m".into(), code: 2 }),
        flags: u32::MAX,
    };
    let scope_spans = vec![ScopeSpans { scope: scope(), spans: vec![span], schema_url: "u".into() }];
    let resource_spans = vec![ResourceSpans { resource: resource(), scope_spans, schema_url: "w".into() }];
    check(Signal::Traces, &json, &ExportTraceServiceRequest { resource_spans });
}

#[test]
fn json_08_every_field_of_logs() {
    let json = r#"{"resourceLogs":[{
        "resource":RESOURCE,
        "scopeLogs":[{
        "scope":SCOPE,
        "logRecords":[{
        "timeUnixNano":"1",
        "severityNumber":9,
        "severityText":"INFO",
        "body":{"stringValue":"text"},
        "attributes":[{"key":"a","value":{"stringValue":"b"}}],
        "droppedAttributesCount":2,
        "flags":3,
        "traceId":"ffffffffffffffffffffffffffffffff",
        "spanId":"fefefefefefefefe",
        "observedTimeUnixNano":"4",
        "eventName":"e"
        }],
        "schemaUrl":"u"
        }],
        "schemaUrl":"w"
        }]}"#
        .replace("RESOURCE", RESOURCE)
        .replace("SCOPE", SCOPE);
    let log = LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 4,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(AnyValue { value: Some(Value::StringValue("text".into())) }),
        attributes: vec![text("a", "b")],
        dropped_attributes_count: 2,
        flags: 3,
        trace_id: vec![0xff; 16],
        span_id: vec![0xfe; 8],
        event_name: "e".into(),
    };
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records: vec![log], schema_url: "u".into() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, schema_url: "w".into() }];
    check(Signal::Logs, &json, &ExportLogsServiceRequest { resource_logs });
}

#[test]
fn json_08_every_field_of_metrics() {
    let json = r#"{"resourceMetrics":[{
        "resource":RESOURCE,
        "scopeMetrics":[{
        "scope":SCOPE,
        "metrics":[
        {"name":"g","description":"d","unit":"1",
        "gauge":{"dataPoints":[
        {"startTimeUnixNano":"1","timeUnixNano":"2","asDouble":-0.0,
        "exemplars":[
        {"timeUnixNano":"3","asDouble":1.25,"spanId":"0101010101010101","traceId":"02020202020202020202020202020202","filteredAttributes":[{"key":"f","value":{"stringValue":"g"}}]},
        {"asInt":"-1"}],
        "attributes":[{"key":"a","value":{"stringValue":"b"}}],"flags":1},
        {"asInt":"0"}]},
        "metadata":[{"key":"m","value":{"stringValue":"n"}}]},
        {"name":"s","sum":{"dataPoints":[{}],"aggregationTemporality":2,"isMonotonic":true}},
        {"name":"h","histogram":{"dataPoints":[
        {"startTimeUnixNano":"1","timeUnixNano":"2","count":"3","sum":0,"bucketCounts":["1","18446744073709551615"],"explicitBounds":["-Infinity",0.1],
        "exemplars":[{"asInt":"5"}],"attributes":[{"key":"a","value":{"stringValue":"b"}}],"flags":1,"min":0,"max":"NaN"}],
        "aggregationTemporality":1}},
        {"name":"e","exponentialHistogram":{"dataPoints":[
        {"attributes":[{"key":"a","value":{"stringValue":"b"}}],"startTimeUnixNano":"1","timeUnixNano":"2","count":"3","sum":1e300,"scale":-2,"zeroCount":"4",
        "positive":{"offset":-1,"bucketCounts":["0","5"]},"negative":{},"flags":1,"exemplars":[{"asDouble":0}],"min":-1.5,"max":2,"zeroThreshold":1e-10}],
        "aggregationTemporality":1}},
        {"name":"q","summary":{"dataPoints":[
        {"startTimeUnixNano":"1","timeUnixNano":"2","count":"3","sum":4.5,"quantileValues":[{"quantile":0.99,"value":7},{}],
        "attributes":[{"key":"a","value":{"stringValue":"b"}}],"flags":1}]}}
        ],
        "schemaUrl":"u"
        }],
        "schemaUrl":"w"
        }]}"#
        .replace("RESOURCE", RESOURCE)
        .replace("SCOPE", SCOPE);
    let attributes = vec![text("a", "b")];
    let gauge = Gauge {
        data_points: vec![
            NumberDataPoint {
                attributes: attributes.clone(),
                start_time_unix_nano: 1,
                time_unix_nano: 2,
                exemplars: vec![
                    Exemplar {
                        filtered_attributes: vec![text("f", "g")],
                        time_unix_nano: 3,
                        span_id: vec![1; 8],
                        trace_id: vec![2; 16],
                        value: Some(exemplar::Value::AsDouble(1.25)),
                    },
                    Exemplar { value: Some(exemplar::Value::AsInt(-1)), ..Default::default() },
                ],
                flags: 1,
                value: Some(number_data_point::Value::AsDouble(-0.0)),
            },
            NumberDataPoint { value: Some(number_data_point::Value::AsInt(0)), ..Default::default() },
        ],
    };
    let sum = Sum { data_points: vec![NumberDataPoint::default()], aggregation_temporality: 2, is_monotonic: true };
    let histogram = HistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(0.0),
        bucket_counts: vec![1, u64::MAX],
        explicit_bounds: vec![f64::NEG_INFINITY, 0.1],
        exemplars: vec![Exemplar { value: Some(exemplar::Value::AsInt(5)), ..Default::default() }],
        flags: 1,
        min: Some(0.0),
        max: Some(f64::NAN),
    };
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(1e300),
        scale: -2,
        zero_count: 4,
        positive: Some(Buckets { offset: -1, bucket_counts: vec![0, 5] }),
        negative: Some(Buckets::default()),
        flags: 1,
        exemplars: vec![Exemplar { value: Some(exemplar::Value::AsDouble(0.0)), ..Default::default() }],
        min: Some(-1.5),
        max: Some(2.0),
        zero_threshold: 1e-10,
    };
    let summary = SummaryDataPoint {
        attributes,
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: 4.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 7.0 }, ValueAtQuantile::default()],
        flags: 1,
    };
    let named = |name: &str, data| Metric { name: name.into(), data: Some(data), ..Default::default() };
    let metrics = vec![
        Metric {
            description: "d".into(),
            unit: "1".into(),
            metadata: vec![text("m", "n")],
            ..named("g", metric::Data::Gauge(gauge))
        },
        named("s", metric::Data::Sum(sum)),
        named("h", metric::Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 1 })),
        named(
            "e",
            metric::Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 1,
            }),
        ),
        named("q", metric::Data::Summary(Summary { data_points: vec![summary] })),
    ];
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, schema_url: "u".into() }];
    let resource_metrics = vec![ResourceMetrics { resource: resource(), scope_metrics, schema_url: "w".into() }];
    let request = ExportMetricsServiceRequest { resource_metrics };
    // A NaN is not equal to itself: compared by bytes here.
    let decoded = ExportMetricsServiceRequest::decode(&*protobuf(Signal::Metrics, &json).unwrap()).unwrap();
    assert_eq!(decoded.encode_to_vec(), request.encode_to_vec());
    let compact: String = json.lines().map(str::trim).collect();
    assert_eq!(encoded(Signal::Metrics, &request.encode_to_vec()), compact);
}

#[test]
fn xj_01_02_defaults_are_left_out_and_nothing_else() {
    let request = ExportLogsServiceRequest {
        resource_logs: vec![
            ResourceLogs {
                resource: Some(Resource::default()),
                scope_logs: vec![ScopeLogs { log_records: vec![LogRecord::default()], ..Default::default() }],
                ..Default::default()
            },
            ResourceLogs::default(),
        ],
    };
    let json = r#"{"resourceLogs":[{"resource":{},"scopeLogs":[{"logRecords":[{}]}]},{}]}"#;
    check(Signal::Logs, json, &request);
    assert_eq!(encoded(Signal::Logs, b""), "{}");
}

#[test]
fn lists_that_do_not_stand_together_are_gathered() {
    // Two attributes with the name between them, unpacked and packed numbers mixed, an unknown field.
    let mut first = Span { attributes: vec![text("a", "b")], name: "n".into(), ..Default::default() }.encode_to_vec();
    first.extend_from_slice(&Span { attributes: vec![text("c", "d")], kind: 2, ..Default::default() }.encode_to_vec());
    first.extend_from_slice(&[0xfa, 0x07, 1, b'x']);
    let mut request = Vec::new();
    for field in [2, 2, 1] {
        let mut outer = Vec::new();
        crate::wire::writer::put_delimited(&mut outer, field, if request.is_empty() { &first } else { &request });
        request = outer;
    }
    assert_eq!(
        encoded(Signal::Traces, &request),
        span_json(
            r#""name":"n","kind":2,"attributes":[{"key":"a","value":{"stringValue":"b"}},{"key":"c","value":{"stringValue":"d"}}]"#
        )
    );
    verify::protobuf(Signal::Traces, &request);
}
