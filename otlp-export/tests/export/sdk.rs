//! The bridge behind the OpenTelemetry SDK, from outside: what arrives, what a shutdown says, and when.

use std::net::TcpListener;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider};
use otlp_core::flow::gate::WhenFull;
use otlp_core::{Reason, Signal};
use otlp_export::client::Builder;
use otlp_export::retry;
use otlp_export::sdk::{Bridge, LogExporter, MetricExporter, SpanExporter};
use prost::Message;

use crate::server::{Do, Seen, Server, answer, ok};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn settings(server: &Server) -> Builder {
    Bridge::builder().endpoint(server.url()).batch_delay(LONG)
}

fn tracers(bridge: &Bridge, service: &'static str) -> SdkTracerProvider {
    let resource = Resource::builder_empty().with_service_name(service).build();
    SdkTracerProvider::builder().with_resource(resource).with_span_processor(bridge.span_processor()).build()
}

fn loggers(bridge: &Bridge) -> SdkLoggerProvider {
    SdkLoggerProvider::builder().with_log_processor(bridge.log_processor()).build()
}

fn record_spans(tracers: &SdkTracerProvider, count: usize) {
    let tracer = tracers.tracer("lib");
    (0..count).for_each(|number| tracer.in_span(format!("span-{number}"), |_| ()));
}

fn record_log(loggers: &SdkLoggerProvider, target: &'static str, body: &'static str) {
    let logger = loggers.logger("lib");
    let mut record = logger.create_log_record();
    record.set_target(target);
    record.set_body(AnyValue::from(body));
    logger.emit(record);
}

fn traces(seen: &Seen) -> ExportTraceServiceRequest {
    assert!(seen.line.starts_with("POST /v1/traces "), "{}", seen.line);
    ExportTraceServiceRequest::decode(&seen.body[..]).unwrap()
}

fn spans(seen: &Seen) -> Vec<Span> {
    let scopes = traces(seen).resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn service(resource: &Option<ProtoResource>) -> String {
    let attributes = &resource.as_ref().unwrap().attributes;
    let found = attributes.iter().find(|pair| pair.key == "service.name").unwrap();
    match found.value.clone().unwrap().value.unwrap() {
        Value::StringValue(name) => name,
        other => panic!("{other:?}"),
    }
}

fn answers(count: usize, status: u16) -> impl Iterator<Item = Do> {
    (0..count).map(move |_| Do::Write(answer(status, "", b"")))
}

fn quick() -> retry::Config {
    let interval = Duration::from_millis(1);
    retry::Config { initial_interval: interval, max_interval: interval, ..retry::Config::default() }
}

#[test]
fn a_full_batch_leaves_at_once_and_the_rest_at_shutdown() {
    let server = Server::start([]);
    let bridge = Bridge::new(settings(&server).batch_items_max(8)).unwrap();
    let tracers = tracers(&bridge, "shop");
    record_spans(&tracers, 19);
    let full: Vec<usize> = (0..2).map(|_| spans(&server.seen.recv_timeout(LONG).unwrap()).len()).collect();
    assert_eq!(full, [8, 8]);
    tracers.shutdown_with_timeout(LONG).unwrap();
    let last = server.seen.try_recv().unwrap();
    assert_eq!((spans(&last).len(), service(&traces(&last).resource_spans[0].resource)), (3, "shop".to_owned()));
    assert_eq!(bridge.stats().of(Signal::Traces).delivered.get(), 19);
}

#[test]
fn a_batch_leaves_when_it_is_old() {
    let server = Server::start([]);
    let bridge = Bridge::new(settings(&server).batch_delay(Duration::from_millis(20))).unwrap();
    let loggers = loggers(&bridge);
    record_log(&loggers, "shop::orders", "paid");
    let seen = server.seen.recv_timeout(LONG).unwrap();
    let body = ExportLogsServiceRequest::decode(&seen.body[..]).unwrap();
    let scope = &body.resource_logs[0].scope_logs[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "shop::orders");
    assert_eq!(scope.log_records[0].body.clone().unwrap().value, Some(Value::StringValue("paid".to_owned())));
}

#[test]
fn providers_of_several_resources_share_a_thread_and_keep_their_resources() {
    let server = Server::start([]);
    let bridge = Bridge::new(settings(&server)).unwrap();
    let (shop, bank) = (tracers(&bridge, "shop"), tracers(&bridge, "bank"));
    for provider in [&shop, &bank, &shop] {
        record_spans(provider, 2);
    }
    shop.shutdown_with_timeout(LONG).unwrap();
    // It is still open, and so is the thread.
    record_spans(&bank, 1);
    bank.shutdown_with_timeout(LONG).unwrap();
    let seen: Vec<_> = server.seen.try_iter().collect();
    let found: Vec<_> =
        seen.iter().map(|seen| (service(&traces(seen).resource_spans[0].resource), spans(seen).len())).collect();
    let expected = [("shop", 2), ("bank", 2), ("shop", 2), ("bank", 1)];
    assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn simple_processors_send_before_the_span_has_ended_and_have_no_thread() {
    let server = Server::start([]);
    let bridge = Bridge::new(settings(&server).direct()).unwrap();
    let (tracers, loggers) = (tracers(&bridge, "shop"), loggers(&bridge));
    for _ in 0..3 {
        record_spans(&tracers, 1);
        assert_eq!(spans(&server.seen.try_recv().unwrap()).len(), 1);
        record_log(&loggers, "t", "b");
        assert!(server.seen.try_recv().unwrap().line.contains("/v1/logs"));
    }
    tracers.shutdown().unwrap();
    loggers.shutdown().unwrap();
}

#[test]
fn what_is_not_sampled_is_not_sent() {
    let server = Server::start([]);
    let bridge = Bridge::new(settings(&server)).unwrap();
    let processor = bridge.span_processor();
    let tracers = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).with_span_processor(processor).build();
    record_spans(&tracers, 3);
    tracers.shutdown().unwrap();
    assert_eq!(bridge.stats().total().recorded.get(), 0);
}

#[test]
fn a_shutdown_and_a_flush_tell_of_every_loss_and_of_no_other_signals() {
    // Rejected for good.
    let server = Server::start(answers(1, 400));
    let bridge = Bridge::new(settings(&server)).unwrap();
    let (tracers, loggers) = (tracers(&bridge, "shop"), loggers(&bridge));
    record_spans(&tracers, 3);
    let error = tracers.force_flush().unwrap_err().to_string();
    assert!(error.contains("3 of the items recorded are lost"), "{error}");
    record_spans(&tracers, 2);
    tracers.force_flush().expect("what was lost before was told of before");
    record_log(&loggers, "t", "b");
    loggers.shutdown_with_timeout(LONG).expect("no log record was lost");
    // In the provider's words, around ours.
    let error = tracers.shutdown_with_timeout(LONG).unwrap_err().to_string();
    assert!(error.contains("3 of the items recorded are lost: permanent 3"), "{error}");
    let total = bridge.stats().total();
    assert_eq!((total.recorded.get(), total.delivered.get(), total.dropped.total().get()), (6, 3, 3));
}

#[test]
fn a_full_queue_drops_the_newest_the_oldest_or_waits() {
    for (policy, kept) in [
        (WhenFull::DropNewest, 4..8),
        (WhenFull::DropOldest, 8..12),
        (WhenFull::Refuse, 4..8),
        (WhenFull::Block, 0..12),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let builder = Bridge::builder().endpoint(url).batch_items_max(4).queue_items_max(8).when_full(policy);
        let bridge = Bridge::new(builder.batch_delay(LONG).block_timeout(LONG).retry(quick())).unwrap();
        let tracers = tracers(&bridge, "shop");
        record_spans(&tracers, 4);
        // They are on their way, and hold their room until somebody reads from a later connection.
        let (first, _) = listener.accept().unwrap();
        let recorder = std::thread::spawn({
            let tracers = tracers.clone();
            move || {
                let tracer = tracers.tracer("lib");
                (4..12).for_each(|number| tracer.in_span(format!("span-{number}"), |_| ()));
            }
        });
        if policy != WhenFull::Block {
            recorder.join().unwrap();
            assert_eq!(bridge.stats().total().dropped.of(Reason::QUEUE_FULL).get(), 4, "{policy:?}");
            drop(first);
            let server = Server::listen(listener, []);
            tracers.shutdown_with_timeout(LONG).unwrap_err();
            let names: Vec<_> = server.seen.try_iter().flat_map(|seen| spans(&seen)).map(|span| span.name).collect();
            let expected: Vec<_> = (0..4).chain(kept).map(|number| format!("span-{number}")).collect();
            assert_eq!(names, expected, "{policy:?}");
        } else {
            drop(first);
            let server = Server::listen(listener, []);
            recorder.join().unwrap();
            tracers.shutdown_with_timeout(LONG).unwrap();
            let names: Vec<_> = server.seen.try_iter().flat_map(|seen| spans(&seen)).map(|span| span.name).collect();
            assert_eq!(names, kept.map(|number| format!("span-{number}")).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_batch_is_given_up_after_its_export_timeout() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let variables = |name: &str| (name == "OTEL_BSP_EXPORT_TIMEOUT").then(|| "50".to_owned());
    let builder = Bridge::from_env(variables).endpoint(format!("http://{dead}")).retry(quick());
    let bridge = Bridge::new(builder.batch_delay(Duration::ZERO)).unwrap();
    let tracers = tracers(&bridge, "shop");
    record_spans(&tracers, 1);
    let begun = Instant::now();
    while bridge.stats().total().dropped.total().get() == 0 {
        assert!(begun.elapsed() < LONG, "{:?}", bridge.stats());
        std::thread::yield_now();
    }
    assert!(bridge.stats().attempts > 1);
    tracers.shutdown().unwrap_err();
}

/// Calls it with an endpoint of each kind, and whether it is a good one; fails where it hangs.
fn with_every_endpoint(run: impl Fn(Builder, bool) + Clone + Send + 'static) {
    let healthy = Server::start([]);
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow_url = format!("http://{}", slow.local_addr().unwrap());
    for (url, is_good) in [(healthy.url(), true), (slow_url, false), (format!("http://{dead}"), false)] {
        for direct in [false, true] {
            let patience = if is_good { LONG } else { SHORT };
            let builder = Bridge::builder().endpoint(url.clone()).timeout(patience).drop_timeout(patience);
            let builder = if direct { builder.direct() } else { builder };
            let (done, ended) = std::sync::mpsc::channel::<()>();
            let run = run.clone();
            let thread = std::thread::spawn(move || {
                run(builder, is_good);
                drop(done);
            });
            assert_eq!(ended.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "{url} direct {direct} hangs");
            thread.join().unwrap();
        }
    }
}

fn everything(builder: Builder, is_good: bool) {
    let patience = if is_good { LONG } else { SHORT };
    let bridge = Bridge::new(builder.clone()).unwrap();
    let (tracers, loggers) = (tracers(&bridge, "shop"), loggers(&bridge));
    let exporter = MetricExporter::new(builder).unwrap();
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter).build()).build();
    record_spans(&tracers, 2);
    record_log(&loggers, "t", "b");
    meters.meter("lib").u64_counter("c").build().add(1, &[]);
    let results = [
        meters.shutdown_with_timeout(LONG),
        loggers.shutdown_with_timeout(patience),
        tracers.shutdown_with_timeout(patience),
    ];
    for result in results {
        assert_eq!(result.is_ok(), is_good, "{result:?}");
    }
    let total = bridge.stats().total();
    assert_eq!(
        (total.held.get(), total.recorded, is_good),
        (0, total.delivered + total.dropped.total(), total.dropped.total().get() == 0)
    );
}

#[test]
fn a_shutdown_is_true_and_in_time_whatever_the_endpoint() {
    with_every_endpoint(everything);
}

#[test]
fn a_runtime_is_no_obstacle() {
    with_every_endpoint(|builder, is_good| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { everything(builder, is_good) });
    });
}

#[test]
fn dropping_providers_without_a_shutdown_sends_what_they_hold() {
    let server = Server::start([]);
    let bridge = Bridge::new(settings(&server)).unwrap();
    let tracers = tracers(&bridge, "shop");
    record_spans(&tracers, 5);
    drop(tracers);
    assert_eq!(spans(&server.seen.try_recv().unwrap()).len(), 5);
    assert_eq!(bridge.stats().total().delivered.get(), 5);
}

#[test]
fn exporters_serve_the_sdks_own_processors_and_try_again() {
    let server = Server::start(answers(2, 503).chain([ok()]));
    let exporter = SpanExporter::new(settings(&server).retry(quick())).unwrap();
    let tracers = SdkTracerProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name("shop").build())
        .with_span_processor(BatchSpanProcessor::builder(exporter).build())
        .build();
    record_spans(&tracers, 7);
    tracers.force_flush().unwrap();
    let seen: Vec<_> = server.seen.try_iter().collect();
    assert_eq!(seen.iter().map(|seen| spans(seen).len()).collect::<Vec<_>>(), [7, 7, 7]);
    assert_eq!(service(&traces(&seen[2]).resource_spans[0].resource), "shop");
    tracers.shutdown().unwrap();

    let server = Server::start(answers(1, 400));
    let exporter = LogExporter::new(settings(&server)).unwrap();
    let loggers = SdkLoggerProvider::builder().with_batch_exporter(exporter).build();
    record_log(&loggers, "t", "b");
    loggers.force_flush().unwrap_err();
    // The SDK's processor does not pass on what the exporter's shutdown says.
    let _ = loggers.shutdown();
}

#[test]
fn metrics_arrive_with_the_temporality_that_was_asked_for() {
    for (preference, temporality, wire) in [
        ("Delta", Temporality::Delta, 1),
        ("cumulative", Temporality::Cumulative, 2),
        ("no", Temporality::Cumulative, 2),
    ] {
        let server = Server::start([]);
        let exporter = MetricExporter::new(settings(&server)).unwrap().with_temporality_from_env(|name| {
            (name == "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").then(|| preference.to_owned())
        });
        use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
        assert_eq!(exporter.temporality(), temporality);
        let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter).build()).build();
        meters.meter("lib").u64_counter("orders").build().add(3, &[]);
        meters.shutdown().unwrap();
        let body = ExportMetricsServiceRequest::decode(&server.seen.try_recv().unwrap().body[..]).unwrap();
        let metric = body.resource_metrics[0].scope_metrics[0].metrics[0].clone();
        let Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Sum(sum)) = metric.data else {
            panic!("a sum")
        };
        assert_eq!((metric.name.as_str(), sum.aggregation_temporality, sum.is_monotonic), ("orders", wire, true));
    }
}

#[test]
fn a_disabled_sdk_does_nothing() {
    let disabled = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned());
    let bridge = Bridge::new(Bridge::from_env(disabled).endpoint("http://127.0.0.1:1")).unwrap();
    let tracers = tracers(&bridge, "shop");
    record_spans(&tracers, 3);
    tracers.shutdown().unwrap();
    assert_eq!(bridge.stats().total().recorded.get(), 0);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let named = |builder: Builder| Bridge::new(builder).unwrap_err().to_string();
    assert!(named(Bridge::builder().batch_items_max(0)).contains("batch_items_max"));
    assert!(named(Bridge::builder().endpoint("nowhere")).contains("endpoint"));
    let error = SpanExporter::new(Bridge::builder().timeout(Duration::ZERO)).unwrap_err();
    assert!(error.to_string().contains("timeout"));
}
