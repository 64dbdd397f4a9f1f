//! What the debug exporter writes.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use otlp_core::component::Exporter;
use otlp_core::outcome::Retry;
use otlp_core::{Batch, Clock, Deadline, Group, ItemCount, Outcome, Reason, Signal};
use otlp_export::debug::{Config, Debug, Output, Verbosity};
use parking_lot::Mutex;
use prost::Message;

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, of: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value(of)), ..KeyValue::default() }
}

fn resource() -> Option<Resource> {
    let attributes = vec![attribute("service.name", Value::StringValue("shop".into()))];
    Some(Resource { attributes, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "lib".into(), version: "1.2".into(), ..InstrumentationScope::default() })
}

fn traces() -> Vec<u8> {
    let event = span::Event {
        time_unix_nano: 1_581_452_772_000_000_123,
        name: "retry".into(),
        attributes: vec![attribute("n", Value::IntValue(2))],
        dropped_attributes_count: 1,
    };
    let link = span::Link { trace_id: vec![3; 16], span_id: vec![4; 8], ..span::Link::default() };
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "get".into(),
        kind: 3,
        start_time_unix_nano: 1_581_452_772_000_000_321,
        end_time_unix_nano: 1_581_452_773_000_000_789,
        attributes: vec![
            attribute("ok", Value::BoolValue(true)),
            attribute("load", Value::DoubleValue(1.5)),
            attribute("list", Value::ArrayValue(ArrayValue { values: vec![value(Value::IntValue(1))] })),
        ],
        events: vec![event],
        links: vec![link],
        status: Some(Status { code: 2, message: "late".into() }),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { scope: scope(), spans: vec![span], schema_url: "s2".into() }];
    let resource_spans = vec![ResourceSpans { resource: resource(), scope_spans, schema_url: "s1".into() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn logs() -> Vec<u8> {
    let record = LogRecord {
        time_unix_nano: 1_581_452_773_000_000_789,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(value(Value::StringValue("hello".into()))),
        attributes: vec![attribute("app", Value::StringValue("a".into()))],
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        flags: 1,
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { scope: None, log_records: vec![record], schema_url: String::new() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, schema_url: String::new() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn metrics() -> Vec<u8> {
    use metrics::metric::Data;
    let number = metrics::NumberDataPoint {
        attributes: vec![attribute("host", Value::StringValue("h".into()))],
        time_unix_nano: 1_000_000_000,
        value: Some(metrics::number_data_point::Value::AsInt(7)),
        ..Default::default()
    };
    let histogram = metrics::HistogramDataPoint {
        count: 3,
        sum: Some(4.5),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![1.0],
        ..Default::default()
    };
    let exponential = metrics::ExponentialHistogramDataPoint {
        count: 3,
        zero_count: 1,
        positive: Some(metrics::exponential_histogram_data_point::Buckets { offset: 1, bucket_counts: vec![2] }),
        ..Default::default()
    };
    let summary = metrics::SummaryDataPoint {
        count: 2,
        sum: 3.0,
        quantile_values: vec![metrics::summary_data_point::ValueAtQuantile { quantile: 0.5, value: 1.5 }],
        ..Default::default()
    };
    let metric = |name: &str, data| metrics::Metric { name: name.into(), data: Some(data), ..Default::default() };
    let metrics = vec![
        metric(
            "hits",
            Data::Sum(metrics::Sum { data_points: vec![number], aggregation_temporality: 2, is_monotonic: true }),
        ),
        metric(
            "sizes",
            Data::Histogram(metrics::Histogram { data_points: vec![histogram], aggregation_temporality: 1 }),
        ),
        metric(
            "exp",
            Data::ExponentialHistogram(metrics::ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 1,
            }),
        ),
        metric("old", Data::Summary(metrics::Summary { data_points: vec![summary] })),
    ];
    let scope_metrics = vec![metrics::ScopeMetrics { scope: scope(), metrics, schema_url: String::new() }];
    let resource_metrics = vec![metrics::ResourceMetrics { resource: None, scope_metrics, schema_url: String::new() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn written(verbosity: Verbosity, signal: Signal, items: u64, body: Vec<u8>) -> String {
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let config = Config { verbosity, ..Config::default() };
    let exporter = Debug::new("debug", &config, Output::Writer(buffer.clone()), Clock::system());
    let group = Group::of(Batch::trusted(signal, ItemCount(items), body.into()));
    assert_eq!(exporter.export(&group, Deadline::NEVER), Outcome::Delivered);
    let bytes = buffer.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn basic_is_one_line() {
    for (signal, items, body, counts) in [
        (Signal::Traces, 1, traces(), r#""otelcol.signal": "traces", "resource spans": 1, "spans": 1}"#),
        (Signal::Logs, 1, logs(), r#""otelcol.signal": "logs", "resource logs": 1, "log records": 1}"#),
        (
            Signal::Metrics,
            4,
            metrics(),
            r#""otelcol.signal": "metrics", "resource metrics": 1, "metrics": 4, "data points": 4}"#,
        ),
    ] {
        let name = ["Traces", "Metrics", "Logs"][signal.index()];
        let expected = format!(
            "{name} {{\"otelcol.component.id\": \"debug\", \"otelcol.component.kind\": \"exporter\", {counts}\n"
        );
        assert_eq!(written(Verbosity::Basic, signal, items, body), expected);
    }
}

fn without_summary(text: &str) -> &str {
    text.split_once('\n').unwrap().1
}

#[test]
fn normal_is_a_line_for_each_item() {
    assert_eq!(
        without_summary(&written(Verbosity::Normal, Signal::Traces, 1, traces())),
        "ResourceSpans #0 [s1] service.name=shop\n\
         ScopeSpans #0 lib@1.2 [s2]\n\
         get 01010101010101010101010101010101 0202020202020202 ok=true load=1.5 list=[1]\n"
    );
    assert_eq!(
        without_summary(&written(Verbosity::Normal, Signal::Logs, 1, logs())),
        "ResourceLog #0 service.name=shop\nScopeLogs #0 \nhello app=a\n"
    );
    assert_eq!(
        without_summary(&written(Verbosity::Normal, Signal::Metrics, 4, metrics())),
        "ResourceMetrics #0\nScopeMetrics #0 lib@1.2\nhits{host=h} 7\n\
         sizes{} count=3 sum=4.5 le1=1 le+Inf=2\nexp{} count=3\nold{} count=2 sum=3 q0.5=1.5\n"
    );
}

#[test]
fn detailed_shows_everything() {
    assert_eq!(
        without_summary(&written(Verbosity::Detailed, Signal::Traces, 1, traces())),
        "\
ResourceSpans #0
Resource SchemaURL: s1
Resource attributes:
     -> service.name: Str(shop)
ScopeSpans #0
ScopeSpans SchemaURL: s2
InstrumentationScope lib 1.2
Span #0
    Trace ID       : 01010101010101010101010101010101
    Parent ID      : \n    ID             : 0202020202020202
    Name           : get
    Kind           : Client
    Start time     : 2020-02-11 20:26:12.000000321 +0000 UTC
    End time       : 2020-02-11 20:26:13.000000789 +0000 UTC
    Status code    : Error
    Status message : late
Attributes:
     -> ok: Bool(true)
     -> load: Double(1.5)
     -> list: Slice([1])
Events:
SpanEvent #0
     -> Name: retry
     -> Timestamp: 2020-02-11 20:26:12.000000123 +0000 UTC
     -> DroppedAttributesCount: 1
     -> Attributes::
          -> n: Int(2)
Links:
SpanLink #0
     -> Trace ID: 03030303030303030303030303030303
     -> ID: 0404040404040404
     -> TraceState: \n     -> DroppedAttributesCount: 0
"
    );
    assert_eq!(
        without_summary(&written(Verbosity::Detailed, Signal::Logs, 1, logs())),
        "\
ResourceLog #0
Resource SchemaURL: \nResource attributes:
     -> service.name: Str(shop)
ScopeLogs #0
ScopeLogs SchemaURL: \nInstrumentationScope  \nLogRecord #0
ObservedTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 2020-02-11 20:26:13.000000789 +0000 UTC
SeverityText: INFO
SeverityNumber: Info(9)
Body: Str(hello)
Attributes:
     -> app: Str(a)
Trace ID: 01010101010101010101010101010101
Span ID: 0202020202020202
Flags: 1
"
    );
    let text = written(Verbosity::Detailed, Signal::Metrics, 4, metrics());
    for block in [
        "Metric #0\nDescriptor:\n     -> Name: hits\n     -> Description: \n     -> Unit: \n     -> DataType: Sum\n     \
         -> IsMonotonic: true\n     -> AggregationTemporality: Cumulative\nNumberDataPoints #0\n\
         Data point attributes:\n     -> host: Str(h)\nStartTimestamp: 1970-01-01 00:00:00 +0000 UTC\n\
         Timestamp: 1970-01-01 00:00:01 +0000 UTC\nValue: 7\n",
        "Count: 3\nSum: 4.500000\nExplicitBounds #0: 1.000000\nBuckets #0, Count: 1\nBuckets #1, Count: 2\n",
        "Bucket [0.000000, 0.000000], Count: 1\nBucket (2.000000, 4.000000], Count: 2\n",
        "SummaryDataPoints #0\n",
        "QuantileValue #0: Quantile 0.500000, Value 1.500000\n",
    ] {
        assert!(text.contains(block), "{block}\nnot in\n{text}");
    }
}

#[test]
fn a_writer_that_fails_rejects_and_does_not_wait() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let output = Output::Writer(Arc::new(Mutex::new(Broken)));
    let exporter = Debug::new("debug", &Config::default(), output, Clock::system());
    let group = Group::of(Batch::trusted(Signal::Logs, ItemCount(1), logs().into()));
    let Outcome::Failed(failure) = exporter.export(&group, Deadline::NEVER) else { panic!("it cannot be written") };
    assert_eq!((failure.reason, failure.retry), (Reason::IO, Retry::Never));
    assert!(Config { output_paths: vec!["file".into()], ..Config::default() }.check().is_err());
    assert_eq!(Config::default().check(), Ok(()));
}
