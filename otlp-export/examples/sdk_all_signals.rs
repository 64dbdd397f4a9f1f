//! Everything the OpenTelemetry SDK records, once each, sent by the bridge to where the standard variables say.
//!
//! The interoperability tests read back what it sends, with sinks that nobody here wrote.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{
    Link, Span, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_export::sdk::{Bridge, MetricExporter};

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Bridge::from_env(|name| std::env::var(name).ok());
    let bridge = Bridge::new(settings.clone())?;
    let exporter = MetricExporter::new(settings)?.with_temporality_from_env(|name| std::env::var(name).ok());
    let resource = Resource::builder().with_service_name("everything").build();
    let scope = InstrumentationScope::builder("example")
        .with_version("1.0")
        .with_schema_url("https://opentelemetry.io/schemas/1.40.0")
        .with_attributes([KeyValue::new("part", "bridge")])
        .build();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);

    let processor = bridge.span_processor();
    let tracers = SdkTracerProvider::builder().with_resource(resource.clone()).with_span_processor(processor).build();
    let tracer = tracers.tracer_with_scope(scope.clone());
    let linked = SpanContext::new(7.into(), 9.into(), TraceFlags::SAMPLED, true, "vendor=1".parse()?);
    let builder = tracer.span_builder("parent").with_kind(SpanKind::Server).with_start_time(at(1_700_000_000));
    let parent = Context::new().with_span(builder.start_with_context(&tracer, &Context::new()));
    let builder = tracer.span_builder("child").with_links(vec![Link::new(linked, vec![KeyValue::new("l", true)], 0)]);
    let mut child = builder.start_with_context(&tracer, &parent);
    child.set_attributes([
        KeyValue::new("text", "grün"),
        KeyValue::new("flag", true),
        KeyValue::new("whole", -42),
        KeyValue::new("half", 0.5),
        KeyValue::new("list", Value::Array(Array::I64(vec![1, -2]))),
    ]);
    child.add_event_with_timestamp("happened", at(1_700_000_001), vec![KeyValue::new("n", 1)]);
    child.set_status(Status::error("it failed"));
    let context = child.span_context().clone();
    child.end();
    parent.span().end_with_timestamp(at(1_700_000_002));

    let processor = bridge.log_processor();
    let loggers = SdkLoggerProvider::builder().with_resource(resource.clone()).with_log_processor(processor).build();
    let logger = loggers.logger_with_scope(scope.clone());
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Error2);
    record.set_severity_text("ERROR2");
    record.set_timestamp(at(1_700_000_003));
    record.set_event_name("failed");
    record.set_trace_context(context.trace_id(), context.span_id(), Some(context.trace_flags()));
    record.add_attribute("code", 7);
    let inner = AnyValue::ListAny(Box::new(vec![AnyValue::Int(1), AnyValue::Bytes(Box::new(vec![0, 255]))]));
    record.set_body(AnyValue::Map(Box::new(HashMap::from([("inner".into(), inner)]))));
    logger.emit(record);

    let reader = PeriodicReader::builder(exporter).build();
    let meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
    let meter = meters.meter_with_scope(scope);
    let labels = [KeyValue::new("cpu", "0")];
    meter.f64_gauge("gauge").with_unit("1").with_description("a gauge").build().record(0.25, &labels);
    meter.u64_counter("sum").build().add(3, &labels);
    let histogram = meter.f64_histogram("histogram").with_boundaries(vec![1.0, 10.0]).build();
    [0.5, 5.0, 5.0, 50.0].into_iter().for_each(|value| histogram.record(value, &labels));

    meters.shutdown_with_timeout(Duration::from_secs(20))?;
    loggers.shutdown_with_timeout(Duration::from_secs(20))?;
    tracers.shutdown_with_timeout(Duration::from_secs(20))?;
    println!("{} items delivered", bridge.stats().total().delivered);
    Ok(())
}
