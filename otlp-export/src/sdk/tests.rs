//! What is written against what opentelemetry-proto makes of the same, and the settings by table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, SdkLogRecord, SdkLoggerProvider};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanEvents, SpanLinks};
use otlp_core::wire::validate::Limits;
use otlp_core::{Batch, Outcome, Signal};
use proptest::prelude::*;
use prost::Message;

use super::{Bridge, encode};
use crate::client::envelope::{Encoded, Items, Origin};

/// One for all, since each has an order of its own.
fn resource() -> &'static Resource {
    static RESOURCE: LazyLock<Resource> = LazyLock::new(made_resource);
    &RESOURCE
}

fn made_resource() -> Resource {
    let attributes = [KeyValue::new("service.name", "shop"), KeyValue::new("replicas", 3)];
    Resource::builder_empty().with_schema_url(attributes, "https://opentelemetry.io/schemas/1.40.0").build()
}

fn scope(name: &'static str) -> InstrumentationScope {
    InstrumentationScope::builder(name)
        .with_version("1.2")
        .with_schema_url("https://opentelemetry.io/schemas/1.41.0")
        .with_attributes([KeyValue::new("library", true)])
        .build()
}

/// The request that items make, checked as every receiver checks it.
fn request(signal: Signal, resource: Encoded, items: impl IntoIterator<Item = (Encoded, Vec<u8>, u64)>) -> Vec<u8> {
    let mut gathered = Items::default();
    for (scope, item, count) in items {
        gathered.push(&Origin { resource: resource.clone(), scope }, &item, count);
    }
    let body = gathered.to_request();
    let (batch, findings) = Batch::check(signal, body.clone().into(), &Limits::default()).unwrap();
    assert_eq!((batch.items().get(), findings.normalized), (gathered.count(), false));
    batch.settle(Outcome::Delivered);
    body
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        (-10i64..200).prop_map(Value::I64),
        (-1e300..1e300).prop_map(Value::F64),
        ".{0,80}".prop_map(|text: String| Value::String(text.into())),
        prop::collection::vec(any::<bool>(), 0..3).prop_map(|items| Value::Array(Array::Bool(items))),
        prop::collection::vec(any::<i64>(), 0..30).prop_map(|items| Value::Array(Array::I64(items))),
        prop::collection::vec(-1.0..1.0, 0..3).prop_map(|items| Value::Array(Array::F64(items))),
        prop::collection::vec(".{0,9}", 0..3)
            .prop_map(|items| Value::Array(Array::String(items.into_iter().map(StringValue::from).collect()))),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (".{0,60}", value()).prop_map(|(key, value): (String, Value)| KeyValue::new(key, value));
    prop::collection::vec(pair, 0..5)
}

fn time() -> impl Strategy<Value = SystemTime> {
    (0u64..1 << 62).prop_map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn context() -> impl Strategy<Value = SpanContext> {
    let state = prop_oneof![Just(""), Just("vendor=1"), Just("a=1,b=2")];
    (any::<u128>(), any::<u64>(), any::<bool>(), any::<bool>(), state).prop_map(
        |(trace, span, sampled, remote, state)| {
            let flags = TraceFlags::default().with_sampled(sampled);
            let state: TraceState = state.parse().unwrap_or_default();
            SpanContext::new(TraceId::from(trace.max(1)), SpanId::from(span.max(1)), flags, remote, state)
        },
    )
}

prop_compose! {
    fn event()(name in ".{0,20}", at in time(), attributes in attributes(), dropped in 0u32..3) -> Event {
        Event::new(name, at, attributes, dropped)
    }
}

prop_compose! {
    fn link()(context in context(), attributes in attributes(), dropped in 0u32..3) -> Link {
        Link::new(context, attributes, dropped)
    }
}

prop_compose! {
    fn span()(
        span_context in context(),
        parent in prop_oneof![Just(0), any::<u64>()],
        parent_span_is_remote in any::<bool>(),
        kind in 0usize..5,
        name in ".{0,20}",
        (start_time, end_time) in (time(), time()),
        attributes in attributes(),
        events in prop::collection::vec(event(), 0..3),
        links in prop::collection::vec(link(), 0..3),
        dropped in (0u32..3, 0u32..3, 0u32..3),
        status in prop_oneof![Just(Status::Unset), Just(Status::Ok), ".{0,20}".prop_map(Status::error)],
        scope_name in prop_oneof![Just("a"), Just("b")],
    ) -> SpanData {
        let mut span_events = SpanEvents::default();
        (span_events.events, span_events.dropped_count) = (events, dropped.0);
        let mut span_links = SpanLinks::default();
        (span_links.links, span_links.dropped_count) = (links, dropped.1);
        SpanData {
            span_context,
            parent_span_id: SpanId::from(parent),
            parent_span_is_remote,
            span_kind: [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer]
                [kind].clone(),
            name: Cow::Owned(name),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: dropped.2,
            events: span_events,
            links: span_links,
            status,
            instrumentation_scope: scope(scope_name),
        }
    }
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AnyValue::Boolean),
        any::<i64>().prop_map(AnyValue::Int),
        (-1e300..1e300).prop_map(AnyValue::Double),
        ".{0,80}".prop_map(|text: String| AnyValue::String(text.into())),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| AnyValue::Bytes(Box::new(bytes))),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| AnyValue::ListAny(Box::new(items))),
            // One key: the order of a map is not that of the same map again.
            (".{0,9}", inner).prop_map(|(key, value): (String, AnyValue)| {
                AnyValue::Map(Box::new(HashMap::from([(key.into(), value)])))
            }),
        ]
    })
}

/// Keeps what a logger emits.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<(SdkLogRecord, InstrumentationScope)>>>);

impl opentelemetry_sdk::logs::LogProcessor for Kept {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.lock().unwrap().push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A log record as the SDK makes it.
fn log_record(describe: impl FnOnce(&mut SdkLogRecord)) -> (SdkLogRecord, InstrumentationScope) {
    let kept = Kept::default();
    let provider = SdkLoggerProvider::builder().with_log_processor(kept.clone()).build();
    let logger = provider.logger_with_scope(scope("lib"));
    let mut record = logger.create_log_record();
    describe(&mut record);
    logger.emit(record);
    kept.0.lock().unwrap().pop().unwrap()
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(1000), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn spans_are_written_as_opentelemetry_proto_has_them(span in span()) {
        let name = span.instrumentation_scope.name().to_owned();
        let mut item = Vec::new();
        encode::span::put(&mut item, &span);
        let items = [(encode::scope(&span.instrumentation_scope, &name), item, 1)];
        let body = request(Signal::Traces, encode::resource(resource()), items);
        let mut found = ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans;
        // Written out by one, left out by the other; the same to whoever reads it.
        found[0].scope_spans[0].spans[0].status.get_or_insert_default();
        let expected = ResourceAttributesWithSchema::from(resource());
        prop_assert_eq!(found, group_spans_by_resource_and_scope(vec![span], &expected));
    }

    #[test]
    fn log_records_are_written_as_opentelemetry_proto_has_them(
        (body, attribute) in (prop::option::of(any_value()), any_value()),
        (time, observed) in (prop::option::of(time()), time()),
        target in prop::option::of(".{1,20}"),
        severity in any::<bool>(),
        context in prop::option::of(context()),
    ) {
        let (record, scope) = log_record(|record| {
            record.set_observed_timestamp(observed);
            record.add_attribute("key", attribute);
            if let Some(time) = time { record.set_timestamp(time); }
            if let Some(body) = body { record.set_body(body); }
            if let Some(target) = target { record.set_target(target); }
            if severity {
                record.set_severity_number(Severity::Warn3);
                record.set_severity_text("WARNING");
                record.set_event_name("full");
            }
            if let Some(context) = context {
                record.set_trace_context(context.trace_id(), context.span_id(), Some(context.trace_flags()));
            }
        });
        let name = record.target().map_or(scope.name(), |target| target);
        let mut item = Vec::new();
        encode::log::put(&mut item, &record);
        let items = [(encode::scope(&scope, name), item, 1)];
        let body = request(Signal::Logs, encode::resource(resource()), items);
        let found = ExportLogsServiceRequest::decode(&body[..]).unwrap().resource_logs;
        let expected = ResourceAttributesWithSchema::from(resource());
        let batch = [(&record, &scope)];
        prop_assert_eq!(found, group_logs_by_resource_and_scope(&LogBatch::new(&batch), &expected));
    }
}

#[test]
fn a_value_that_is_too_deep_ends_where_receivers_would_refuse_it() {
    let mut deep = AnyValue::Int(1);
    for _ in 0..5000 {
        deep = AnyValue::ListAny(Box::new(vec![deep]));
    }
    let (record, _) = log_record(|record| record.set_body(deep.clone()));
    let mut item = Vec::new();
    encode::log::put(&mut item, &record);
    let read = opentelemetry_proto::tonic::logs::v1::LogRecord::decode(&item[..]);
    let mut body = read.expect("whatever takes a hundred levels can read it").body;
    let mut depth = 0;
    while let Some(any_value::Value::ArrayValue(array)) = body.and_then(|body| body.value) {
        depth += 1;
        body = array.values.into_iter().next();
    }
    assert_eq!(depth, 30);
    // Taken apart without the stack of a test's thread, which dropping it at once would need.
    while let AnyValue::ListAny(mut items) = deep {
        deep = items.pop().unwrap();
    }
}

/// Encodes each collection both ways.
#[derive(Clone, Default)]
struct Both(Arc<Mutex<Vec<Collected>>>, Temporality);

type Collected = (Vec<u8>, ExportMetricsServiceRequest);

impl PushMetricExporter for Both {
    fn export(&self, metrics: &ResourceMetrics) -> impl Future<Output = OTelSdkResult> + Send {
        let mut items = Vec::new();
        for scope in metrics.scope_metrics() {
            for metric in scope.metrics() {
                let mut item = Vec::new();
                let count = encode::metric::put(&mut item, metric);
                items.push((encode::scope(scope.scope(), scope.scope().name()), item, count));
            }
        }
        let body = request(Signal::Metrics, encode::resource(metrics.resource()), items);
        self.0.lock().unwrap().push((body, metrics.into()));
        std::future::ready(Ok(()))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        self.1
    }
}

#[test]
fn metrics_of_every_kind_are_written_as_opentelemetry_proto_has_them() {
    for temporality in [Temporality::Cumulative, Temporality::Delta, Temporality::LowMemory] {
        let both = Both(Arc::default(), temporality);
        let exponential = |instrument: &Instrument| {
            let stream = Stream::builder().with_aggregation(Aggregation::Base2ExponentialHistogram {
                max_size: 160,
                max_scale: 20,
                record_min_max: instrument.name() != "exponential.u64",
            });
            instrument.name().starts_with("exponential").then(|| stream.build().unwrap())
        };
        let provider = SdkMeterProvider::builder()
            .with_resource(resource().clone())
            .with_view(exponential)
            .with_reader(PeriodicReader::builder(both.clone()).with_interval(Duration::from_secs(3600)).build())
            .build();
        let meter = provider.meter_with_scope(scope("lib"));
        let labels = [KeyValue::new("currency", "EUR"), KeyValue::new("codes", Value::Array(vec![1, 2].into()))];
        let counter = meter.u64_counter("counter").with_unit("{order}").with_description("orders").build();
        counter.add(3, &labels);
        counter.add(1, &[]);
        meter.f64_counter("counter.f64").build().add(0.5, &labels);
        meter.i64_up_down_counter("up.down").build().add(-7, &labels);
        meter.f64_up_down_counter("up.down.f64").build().add(-0.25, &[]);
        meter.i64_gauge("gauge").build().record(-300, &labels);
        meter.u64_gauge("gauge.u64").build().record(300, &labels);
        meter.f64_gauge("gauge.f64").build().record(1.5, &labels);
        let _observed = meter.i64_observable_gauge("observed").with_callback(|it| it.observe(7, &[])).build();
        for value in [0, 3, 70, 9000, 1 << 40] {
            meter.u64_histogram("histogram").build().record(value, &labels);
            meter.u64_histogram("exponential.u64").build().record(value, &labels);
        }
        for value in [-3.0, 0.0, 1e-9, 0.7, 1e9] {
            meter.f64_histogram("histogram.f64").with_boundaries(vec![0.0, 0.5]).build().record(value, &labels);
            meter.f64_histogram("exponential.f64").build().record(value, &labels);
        }
        meter.f64_histogram("histogram.total").with_boundaries(vec![]).build().record(1.0, &[]);
        provider.force_flush().unwrap();
        let (body, expected) = both.0.lock().unwrap().remove(0);
        let found = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
        assert_runs_are_equal(&found, &expected);
        let kinds = expected.resource_metrics[0].scope_metrics[0].metrics.iter().map(|metric| &metric.data);
        let exponential = kinds.filter(|data| matches!(data, Some(Data::ExponentialHistogram(_)))).count();
        assert_eq!((expected.resource_metrics[0].scope_metrics[0].metrics.len(), exponential), (13, 2));
    }
}

fn assert_runs_are_equal(found: &ExportMetricsServiceRequest, expected: &ExportMetricsServiceRequest) {
    let metrics = |request: &ExportMetricsServiceRequest| request.resource_metrics[0].scope_metrics[0].metrics.clone();
    for (found, expected) in metrics(found).iter().zip(metrics(expected)) {
        assert_eq!(*found, expected);
    }
    assert_eq!(found, expected);
}

#[test]
fn numbers_beyond_what_otlp_has_are_the_largest_it_has() {
    let both = Both::default();
    let reader = PeriodicReader::builder(both.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    provider.meter("lib").u64_counter("counter").build().add(u64::MAX, &[]);
    provider.force_flush().unwrap();
    let (body, _) = both.0.lock().unwrap().remove(0);
    let found = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
    let Some(Data::Sum(sum)) = &found.resource_metrics[0].scope_metrics[0].metrics[0].data else { panic!("a sum") };
    let value = opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(i64::MAX);
    assert_eq!(sum.data_points[0].value, Some(value));
}

#[test]
fn defaults_and_variables_are_the_specifications() {
    let settings = |variables: &[(&str, &str)]| {
        let builder = Bridge::from_env(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        let of = |signal: Signal| {
            let (limits, timeout) = (builder.limits[signal.index()], builder.export_timeouts[signal.index()]);
            (limits.queue_items_max, limits.batch_items_max, limits.delay.as_millis(), timeout.unwrap().as_millis())
        };
        let result = (of(Signal::Traces), of(Signal::Logs));
        let warnings = Bridge::new(builder).unwrap().warnings().len();
        (result.0, result.1, warnings)
    };
    let (spans, logs) = ((2048, 512, 5000, 30_000), (2048, 512, 1000, 30_000));
    let table = [
        (vec![], spans, logs, 0),
        (vec![("OTEL_BSP_SCHEDULE_DELAY", "200")], (2048, 512, 200, 30_000), logs, 0),
        (vec![("OTEL_BLRP_SCHEDULE_DELAY", "70000")], spans, (2048, 512, 70_000, 30_000), 1),
        (vec![("OTEL_BSP_SCHEDULE_DELAY", "1")], (2048, 512, 1, 30_000), logs, 1),
        (vec![("OTEL_BSP_SCHEDULE_DELAY", "-1")], spans, logs, 1),
        (vec![("OTEL_BSP_MAX_QUEUE_SIZE", "100")], (100, 100, 5000, 30_000), logs, 0),
        (vec![("OTEL_BSP_MAX_QUEUE_SIZE", "100000")], (100_000, 512, 5000, 30_000), logs, 1),
        (vec![("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096")], spans, logs, 1),
        (vec![("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10")], spans, (2048, 10, 1000, 30_000), 0),
        (vec![("OTEL_BSP_EXPORT_TIMEOUT", "2000")], (2048, 512, 5000, 2000), logs, 0),
        (vec![("OTEL_BLRP_EXPORT_TIMEOUT", "5")], spans, (2048, 512, 1000, 5), 1),
        (vec![("OTEL_BLRP_EXPORT_TIMEOUT", "0")], spans, logs, 1),
    ];
    for (variables, spans, logs, warnings) in table {
        assert_eq!(settings(&variables), (spans, logs, warnings), "{variables:?}");
    }
}

#[test]
fn what_is_recorded_on_the_export_path_is_not_taken() {
    let builder = Bridge::builder().endpoint("http://127.0.0.1:1").drop_timeout(Duration::ZERO);
    let bridge = Bridge::new(builder).unwrap();
    let tracers = SdkTracerProvider::builder().with_span_processor(bridge.span_processor()).build();
    let loggers = SdkLoggerProvider::builder().with_log_processor(bridge.log_processor()).build();
    let record = || {
        tracers.tracer("lib").in_span("span", |_| ());
        let logger = loggers.logger("lib");
        logger.emit(logger.create_log_record());
        bridge.stats().total().recorded.get()
    };
    assert_eq!(record(), 2);
    let quiet = crate::quiet::enter();
    assert_eq!(record(), 2);
    drop(quiet);
    assert_eq!(record(), 4);
    assert!(tracers.shutdown_with_timeout(Duration::ZERO).is_err());
    assert!(loggers.shutdown_with_timeout(Duration::ZERO).is_err());
    assert_eq!(bridge.stats().total().dropped.total().get(), 4);
}
