//! The views against prost: every field of every message.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue as ProtoValue, ArrayValue as ProtoArray, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
    any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1 as proto;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;

use super::*;

fn value(kind: any_value::Value) -> Option<ProtoValue> {
    Some(ProtoValue { value: Some(kind) })
}

fn pair(key: &str, kind: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: value(kind), ..Default::default() }
}

fn every_kind() -> Vec<KeyValue> {
    use any_value::Value::*;
    let list = ProtoArray { values: vec![value(IntValue(1)).unwrap(), value(StringValue("zwei".into())).unwrap()] };
    vec![
        pair("string", StringValue("grüß".into())),
        pair("bool", BoolValue(true)),
        pair("int", IntValue(-5)),
        pair("double", DoubleValue(-0.5)),
        pair("array", ArrayValue(list)),
        pair("kvlist", KvlistValue(KeyValueList { values: vec![pair("b", BoolValue(false)), pair("a", IntValue(1))] })),
        pair("bytes", BytesValue(vec![0, 255, 1])),
        KeyValue { key: "absent".into(), ..Default::default() },
        KeyValue { key: "empty".into(), value: Some(ProtoValue::default()), ..Default::default() },
    ]
}

/// Compares a view with prost's value through the text both have, and kind by kind.
fn check_value(view: &AnyValue<'_>, proto: Option<&ProtoValue>) {
    use any_value::Value::*;
    match (view, proto.and_then(|value| value.value.as_ref())) {
        (AnyValue::Empty, None | Some(StringValueStrindex(_))) => {}
        (AnyValue::String(one), Some(StringValue(two))) => assert_eq!(one, two),
        (AnyValue::Bool(one), Some(BoolValue(two))) => assert_eq!(one, two),
        (AnyValue::Int(one), Some(IntValue(two))) => assert_eq!(one, two),
        (AnyValue::Double(one), Some(DoubleValue(two))) => assert_eq!(one.to_bits(), two.to_bits()),
        (AnyValue::Bytes(one), Some(BytesValue(two))) => assert_eq!(one, two),
        (AnyValue::Array(one), Some(ArrayValue(two))) => {
            assert_eq!(one.clone().count(), two.values.len());
            one.clone().zip(&two.values).for_each(|(one, two)| check_value(&one, Some(two)));
        }
        (AnyValue::KvList(one), Some(KvlistValue(two))) => check_pairs(one.clone(), &two.values),
        (view, proto) => panic!("{view:?} is not {proto:?}"),
    }
}

fn check_pairs(view: List<'_, KeyValueView<'_>>, proto: &[KeyValue]) {
    assert_eq!(view.clone().count(), proto.len());
    for (view, proto) in view.zip(proto) {
        assert_eq!((view.key(), view.key_strindex()), (proto.key.as_str(), proto.key_strindex));
        assert_eq!(view.value_bytes().is_some(), proto.value.is_some());
        check_value(&view.value(), proto.value.as_ref());
    }
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: every_kind(),
        dropped_attributes_count: 3,
        entity_refs: vec![EntityRef {
            schema_url: "s".into(),
            r#type: "host".into(),
            id_keys: vec!["i".into(), "j".into()],
            description_keys: vec!["d".into()],
        }],
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "lib".into(),
        version: "1".into(),
        attributes: every_kind(),
        dropped_attributes_count: 4,
    })
}

fn check_envelope<'a>(body: &'a [u8]) -> ScopeItemsView<'a> {
    let envelope = resources(body).next().unwrap();
    assert_eq!(envelope.schema_url(), "resource-schema");
    let (view, proto) = (envelope.resource().unwrap(), resource().unwrap());
    check_pairs(view.attributes(), &proto.attributes);
    assert_eq!(view.dropped_attributes_count(), 3);
    let entity = view.entity_refs().next().unwrap();
    assert_eq!((entity.schema_url(), entity.entity_type()), ("s", "host"));
    assert_eq!(entity.id_keys().collect::<Vec<_>>(), ["i", "j"]);
    assert_eq!(entity.description_keys().collect::<Vec<_>>(), ["d"]);
    let items = envelope.scopes().next().unwrap();
    assert_eq!(items.schema_url(), "scope-schema");
    let view = items.scope().unwrap();
    assert_eq!((view.name(), view.version(), view.dropped_attributes_count()), ("lib", "1", 4));
    check_pairs(view.attributes(), &scope().unwrap().attributes);
    items
}

#[test]
fn every_field_of_a_span_is_read() {
    let event = span::Event {
        time_unix_nano: u64::MAX,
        name: "e".into(),
        attributes: every_kind(),
        dropped_attributes_count: 1,
    };
    let link = span::Link {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "a=b".into(),
        attributes: every_kind(),
        dropped_attributes_count: 2,
        flags: 0x301,
    };
    let proto = Span {
        trace_id: vec![3; 16],
        span_id: vec![4; 8],
        trace_state: "k=v".into(),
        parent_span_id: vec![5; 8],
        flags: u32::MAX,
        name: "näme".into(),
        kind: 77,
        start_time_unix_nano: 1,
        end_time_unix_nano: u64::MAX,
        attributes: every_kind(),
        dropped_attributes_count: 6,
        events: vec![event.clone(), span::Event::default()],
        dropped_events_count: 7,
        links: vec![link.clone(), span::Link::default()],
        dropped_links_count: 8,
        status: Some(Status { message: "bad".into(), code: 2 }),
    };
    let scope_spans =
        ScopeSpans { scope: scope(), spans: vec![proto.clone(), Span::default()], schema_url: "scope-schema".into() };
    let body = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(),
            scope_spans: vec![scope_spans],
            schema_url: "resource-schema".into(),
        }],
    }
    .encode_to_vec();
    let mut spans = check_envelope(&body).spans();
    let view = spans.next().unwrap();
    assert_eq!((view.trace_id(), view.span_id()), (&proto.trace_id[..], &proto.span_id[..]));
    assert_eq!((view.trace_state(), view.parent_span_id()), ("k=v", &proto.parent_span_id[..]));
    assert_eq!((view.flags(), view.name(), view.kind()), (u32::MAX, "näme", 77));
    assert_eq!((view.start_time_unix_nano(), view.end_time_unix_nano()), (1, u64::MAX));
    assert_eq!((view.dropped_attributes_count(), view.dropped_events_count(), view.dropped_links_count()), (6, 7, 8));
    check_pairs(view.attributes(), &proto.attributes);
    let seen = view.events().next().unwrap();
    assert_eq!((seen.time_unix_nano(), seen.name(), seen.dropped_attributes_count()), (u64::MAX, "e", 1));
    check_pairs(seen.attributes(), &event.attributes);
    let seen = view.links().next().unwrap();
    assert_eq!((seen.trace_id(), seen.span_id(), seen.trace_state()), (&[1; 16][..], &[2; 8][..], "a=b"));
    assert_eq!((seen.dropped_attributes_count(), seen.flags()), (2, 0x301));
    check_pairs(seen.attributes(), &link.attributes);
    let status = view.status().unwrap();
    assert_eq!((status.message(), status.code()), ("bad", 2));
    assert_eq!((view.events().count(), view.links().count()), (2, 2));
    let bare = spans.next().unwrap();
    assert!(bare.status().is_none() && bare.parent_span_id().is_empty() && bare.attributes().next().is_none());
}

#[test]
fn every_field_of_a_log_record_is_read() {
    let proto = LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 99,
        severity_text: "WARN".into(),
        body: value(any_value::Value::KvlistValue(KeyValueList { values: every_kind() })),
        attributes: every_kind(),
        dropped_attributes_count: 3,
        flags: 0xffff_ff01,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "evt".into(),
    };
    let body = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(),
            scope_logs: vec![ScopeLogs {
                scope: scope(),
                log_records: vec![proto.clone(), LogRecord::default()],
                schema_url: "scope-schema".into(),
            }],
            schema_url: "resource-schema".into(),
        }],
    }
    .encode_to_vec();
    let mut records = check_envelope(&body).log_records();
    let view = records.next().unwrap();
    assert_eq!((view.time_unix_nano(), view.observed_time_unix_nano()), (1, 2));
    assert_eq!((view.severity_number(), view.severity_text(), view.event_name()), (99, "WARN", "evt"));
    assert_eq!((view.dropped_attributes_count(), view.flags()), (3, 0xffff_ff01));
    assert_eq!((view.trace_id(), view.span_id()), (&[1; 16][..], &[2; 8][..]));
    check_pairs(view.attributes(), &proto.attributes);
    check_value(&view.body().unwrap(), proto.body.as_ref());
    assert!(records.next().unwrap().body().is_none());
}

fn exemplars() -> Vec<proto::Exemplar> {
    let exemplar = |value| proto::Exemplar {
        filtered_attributes: every_kind(),
        time_unix_nano: 9,
        span_id: vec![1; 8],
        trace_id: vec![2; 16],
        value,
    };
    vec![
        exemplar(Some(proto::exemplar::Value::AsInt(-1))),
        exemplar(Some(proto::exemplar::Value::AsDouble(-0.0))),
        exemplar(None),
    ]
}

fn check_exemplars(view: List<'_, ExemplarView<'_>>) {
    let values: Vec<_> = view.clone().map(|exemplar| exemplar.value()).collect();
    assert_eq!(values, [Some(Number::Int(-1)), Some(Number::Double(-0.0)), None]);
    for exemplar in view {
        assert_eq!((exemplar.time_unix_nano(), exemplar.span_id()), (9, &[1; 8][..]));
        assert_eq!(exemplar.trace_id(), [2; 16]);
        check_pairs(exemplar.filtered_attributes(), &every_kind());
    }
}

fn metrics_body() -> Vec<u8> {
    use proto::metric::Data;
    let number = |value| proto::NumberDataPoint {
        attributes: every_kind(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        exemplars: exemplars(),
        flags: 1,
        value,
    };
    let points = vec![
        number(Some(proto::number_data_point::Value::AsInt(i64::MIN))),
        number(Some(proto::number_data_point::Value::AsDouble(f64::NEG_INFINITY))),
        number(None),
    ];
    let histogram = proto::HistogramDataPoint {
        attributes: every_kind(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(0.0),
        bucket_counts: vec![1, 0, 2],
        explicit_bounds: vec![0.5, f64::INFINITY],
        exemplars: exemplars(),
        flags: 1,
        min: Some(-1.0),
        max: None,
    };
    let buckets =
        |offset| Some(proto::exponential_histogram_data_point::Buckets { offset, bucket_counts: vec![300, 0] });
    let exponential = proto::ExponentialHistogramDataPoint {
        attributes: every_kind(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: None,
        scale: -7,
        zero_count: 4,
        positive: buckets(i32::MIN),
        negative: buckets(i32::MAX),
        flags: 1,
        exemplars: exemplars(),
        min: None,
        max: Some(0.0),
        zero_threshold: 0.25,
    };
    let quantile = |quantile| proto::summary_data_point::ValueAtQuantile { quantile, value: 2.0 * quantile };
    let summary = proto::SummaryDataPoint {
        attributes: every_kind(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: 4.0,
        quantile_values: vec![quantile(0.0), quantile(0.5), quantile(1.0)],
        flags: 1,
    };
    let metric = |name: &str, data| proto::Metric {
        name: name.into(),
        description: "d".into(),
        unit: "s".into(),
        metadata: every_kind(),
        data,
    };
    let metrics = vec![
        metric("gauge", Some(Data::Gauge(proto::Gauge { data_points: points.clone() }))),
        metric(
            "sum",
            Some(Data::Sum(proto::Sum { data_points: points, aggregation_temporality: 2, is_monotonic: true })),
        ),
        metric(
            "histogram",
            Some(Data::Histogram(proto::Histogram { data_points: vec![histogram], aggregation_temporality: 1 })),
        ),
        metric(
            "exponential",
            Some(Data::ExponentialHistogram(proto::ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 1,
            })),
        ),
        metric("summary", Some(Data::Summary(proto::Summary { data_points: vec![summary] }))),
        metric("none", None),
    ];
    ExportMetricsServiceRequest {
        resource_metrics: vec![proto::ResourceMetrics {
            resource: resource(),
            scope_metrics: vec![proto::ScopeMetrics { scope: scope(), metrics, schema_url: "scope-schema".into() }],
            schema_url: "resource-schema".into(),
        }],
    }
    .encode_to_vec()
}

#[test]
fn every_field_of_every_metric_is_read() {
    let body = metrics_body();
    let mut metrics = check_envelope(&body).metrics();
    let mut next = |name: &str| {
        let metric = metrics.next().unwrap();
        assert_eq!((metric.name(), metric.description(), metric.unit()), (name, "d", "s"));
        check_pairs(metric.metadata(), &every_kind());
        for point in metric.points() {
            check_pairs(point.attributes(), &every_kind());
            assert_eq!(point.time_unix_nano(), 2);
        }
        metric
    };
    let check_numbers = |points: List<'_, NumberDataPointView<'_>>| {
        let values: Vec<_> = points.clone().map(|point| point.value()).collect();
        assert_eq!(values, [Some(Number::Int(i64::MIN)), Some(Number::Double(f64::NEG_INFINITY)), None]);
        for point in points {
            assert_eq!((point.start_time_unix_nano(), point.flags()), (1, 1));
            check_exemplars(point.exemplars());
        }
    };
    let Some(DataView::Gauge(gauge)) = next("gauge").data() else { panic!("no gauge") };
    check_numbers(gauge.data_points());
    let Some(DataView::Sum(sum)) = next("sum").data() else { panic!("no sum") };
    assert_eq!((sum.aggregation_temporality(), sum.is_monotonic()), (2, true));
    check_numbers(sum.data_points());
    let Some(DataView::Histogram(histogram)) = next("histogram").data() else { panic!("no histogram") };
    assert_eq!(histogram.aggregation_temporality(), 1);
    let point = histogram.data_points().next().unwrap();
    assert_eq!((point.start_time_unix_nano(), point.count(), point.flags()), (1, 3, 1));
    assert_eq!((point.sum(), point.min(), point.max()), (Some(0.0), Some(-1.0), None));
    assert_eq!(point.bucket_counts().collect::<Vec<_>>(), [1, 0, 2]);
    assert_eq!(point.explicit_bounds().collect::<Vec<_>>(), [0.5, f64::INFINITY]);
    check_exemplars(point.exemplars());
    let Some(DataView::ExponentialHistogram(histogram)) = next("exponential").data() else { panic!("none") };
    assert_eq!(histogram.aggregation_temporality(), 1);
    let point = histogram.data_points().next().unwrap();
    assert_eq!((point.start_time_unix_nano(), point.count(), point.flags()), (1, 3, 1));
    assert_eq!((point.sum(), point.min(), point.max()), (None, None, Some(0.0)));
    assert_eq!((point.scale(), point.zero_count(), point.zero_threshold()), (-7, 4, 0.25));
    let (positive, negative) = (point.positive().unwrap(), point.negative().unwrap());
    assert_eq!((positive.offset(), negative.offset()), (i32::MIN, i32::MAX));
    assert_eq!(positive.bucket_counts().collect::<Vec<_>>(), [300, 0]);
    check_exemplars(point.exemplars());
    let Some(DataView::Summary(summary)) = next("summary").data() else { panic!("no summary") };
    let point = summary.data_points().next().unwrap();
    assert_eq!((point.start_time_unix_nano(), point.count(), point.sum(), point.flags()), (1, 3, 4.0, 1));
    let quantiles: Vec<_> = point.quantile_values().map(|at| (at.quantile(), at.value())).collect();
    assert_eq!(quantiles, [(0.0, 0.0), (0.5, 1.0), (1.0, 2.0)]);
    assert!(next("none").data().is_none());
    let mut items = 0;
    for_each_item(Signal::Metrics, &body, |_, _, _| items += 1);
    assert_eq!(items, 9);
}

#[test]
fn the_last_of_several_values_counts_and_odd_wire_forms_are_read() {
    // name "a", unknown group 99 with a field inside, kind 1 in a varint of three bytes, name "b".
    let bytes = [0x2a, 1, b'a', 0x9b, 0x06, 0x08, 1, 0x9c, 0x06, 0x30, 0x81, 0x80, 0, 0x2a, 1, b'b'];
    let span = SpanView::new(&bytes);
    assert_eq!((span.name(), span.kind()), ("b", 1));
    // A value that is a string and then an integer is the integer.
    assert_eq!(AnyValue::new(&[0x0a, 1, b'x', 0x18, 7]), AnyValue::Int(7));
    assert_eq!(AnyValue::new(&[0x0a, 1, b'x', 0x40, 7]), AnyValue::Empty);
    // Value before key, key twice.
    let bytes = [0x12, 2, 0x10, 1, 0x0a, 1, b'x', 0x0a, 1, b'y'];
    let pair = KeyValueView::new(&bytes);
    assert_eq!((pair.key(), pair.value()), ("y", AnyValue::Bool(true)));
    // Bucket counts in two packed pieces and one unpacked value.
    let mut bytes = vec![0x32, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0x31, 2, 0, 0, 0, 0, 0, 0, 0, 0x32, 0];
    bytes.extend([0x32, 16, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    let point = HistogramDataPointView::new(&bytes);
    assert_eq!(point.bucket_counts().collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn broken_bytes_are_absent_and_never_panic() {
    let body = metrics_body();
    for length in 0..body.len() {
        for_each_item(Signal::Metrics, &body[..length], |_, _, item| drop(format!("{item:?}")));
    }
    for_each_item(Signal::Traces, &body, |_, _, item| drop(format!("{item:?}")));
}

#[test]
fn text_is_as_the_collector_writes_it() {
    let text = |kind| AnyValue::new(&value(kind).unwrap().encode_to_vec()).to_text().into_owned();
    use any_value::Value::*;
    for (double, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-7, "1.5e-7"),
        (1e-6, "0.000001"),
        (f64::NAN, "json: unsupported value: NaN"),
        (f64::INFINITY, "json: unsupported value: +Inf"),
        (f64::NEG_INFINITY, "json: unsupported value: -Inf"),
    ] {
        assert_eq!(text(DoubleValue(double)), expected);
    }
    for (bytes, expected) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe", "//4=")]
    {
        assert_eq!(text(BytesValue(bytes.to_vec())), expected);
    }
    let list = KeyValueList {
        values: vec![
            pair("b", StringValue("a\"\\\n\u{1}<\u{2028}é".into())),
            pair("a", IntValue(1)),
            pair("a", BoolValue(true)),
            KeyValue { key: "c".into(), ..Default::default() },
        ],
    };
    assert_eq!(text(KvlistValue(list)), "{\"a\":true,\"b\":\"a\\\"\\\\\\n\\u0001<\\u2028é\",\"c\":null}");
    let list = |kind| ProtoArray { values: vec![value(kind).unwrap()] };
    assert_eq!(text(ArrayValue(list(BytesValue(b"f".to_vec())))), "[\"Zg==\"]");
    assert_eq!(text(ArrayValue(list(DoubleValue(f64::NAN)))), "");
}
