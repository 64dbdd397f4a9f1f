//! The rows of the JSON mapping by name, against opentelemetry-proto types; and properties over generated requests.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::*;
use crate::signal::Signal;
use crate::testing::generate;
use crate::testing::random::Random;
use crate::wire;

mod population;
mod properties;
mod rows;

/// Decodes a document, checks that it comes out canonical and valid and survives a round, and gives the protobuf.
fn protobuf(signal: Signal, json: &str) -> Result<Vec<u8>, JsonError> {
    verify::document(signal, json.as_bytes());
    decode(signal, json.as_bytes(), &Limits::default())
}

fn traces(json: &str) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*protobuf(Signal::Traces, json).unwrap()).unwrap()
}

fn metrics(json: &str) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest::decode(&*protobuf(Signal::Metrics, json).unwrap()).unwrap()
}

fn logs(json: &str) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(&*protobuf(Signal::Logs, json).unwrap()).unwrap()
}

fn span_json(fields: &str) -> String {
    format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{{fields}}}]}}]}}]}}")
}

fn log_json(fields: &str) -> String {
    format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{{fields}}}]}}]}}]}}")
}

fn metric_json(fields: &str) -> String {
    format!("{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{{fields}}}]}}]}}]}}")
}

fn span(fields: &str) -> Span {
    traces(&span_json(fields)).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn log(fields: &str) -> LogRecord {
    logs(&log_json(fields)).resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0)
}

fn metric(fields: &str) -> Metric {
    metrics(&metric_json(fields)).resource_metrics.remove(0).scope_metrics.remove(0).metrics.remove(0)
}

/// The body of a log: the value in JSON, as a typed one.
fn value(json: &str) -> Option<AnyValue> {
    log(&format!("\"body\":{json}")).body
}

fn kind(json: &str) -> Option<Value> {
    value(json).unwrap().value
}

/// The value of a number data point.
fn point(fields: &str) -> Option<number_data_point::Value> {
    let Some(metric::Data::Gauge(gauge)) = metric(&format!("\"gauge\":{{\"dataPoints\":[{{{fields}}}]}}")).data else {
        panic!("not a gauge")
    };
    gauge.data_points[0].value
}

fn histogram(fields: &str) -> opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint {
    let Some(metric::Data::Histogram(data)) = metric(&format!("\"histogram\":{{\"dataPoints\":[{{{fields}}}]}}")).data
    else {
        panic!("not a histogram")
    };
    data.data_points[0].clone()
}

/// The error of a span with these fields: what was expected, and the path below the span.
fn span_error(fields: &str) -> (Expected, String) {
    error(Signal::Traces, &span_json(fields), "resourceSpans[0].scopeSpans[0].spans[0]")
}

fn log_error(fields: &str) -> (Expected, String) {
    error(Signal::Logs, &log_json(fields), "resourceLogs[0].scopeLogs[0].logRecords[0]")
}

fn metric_error(fields: &str) -> (Expected, String) {
    error(Signal::Metrics, &metric_json(fields), "resourceMetrics[0].scopeMetrics[0].metrics[0]")
}

fn error(signal: Signal, json: &str, prefix: &str) -> (Expected, String) {
    let error = protobuf(signal, json).unwrap_err();
    assert!(error.to_string().contains(&error.path) && error.to_string().contains(": expected "), "{error}");
    let path = error.path.strip_prefix(prefix).unwrap_or_else(|| panic!("{error} is not in {prefix}"));
    (error.expected, path.trim_start_matches('.').to_owned())
}

fn encoded(signal: Signal, protobuf: &[u8]) -> String {
    let mut out = Vec::new();
    encode(signal, protobuf, &mut out);
    String::from_utf8(out).unwrap()
}
