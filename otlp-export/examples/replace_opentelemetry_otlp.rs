//! A program that has the OpenTelemetry SDK and exported by `opentelemetry-otlp`: what changes, line by line.
//!
//! Instruments, tracers, loggers and resource stay as they were. What begins with `-` was there, what begins with `+` takes
//! its place:
//!
//! ```text
//!   # Cargo.toml
//!   opentelemetry = "0.33"
//!   opentelemetry_sdk = "0.33"
//! - opentelemetry-otlp = { version = "0.33", features = ["http-proto", "reqwest-blocking-client", "logs", "metrics"] }
//! + otlp-export = { version = "0.1", default-features = false, features = ["sdk"] }
//! ```
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --features sdk --example replace_opentelemetry_otlp
//! ```
#![allow(clippy::print_stderr, reason = "a program for a terminal")]

use std::error::Error;
use std::process::ExitCode;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
// - use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
// +
use otlp_export::sdk::{Bridge, MetricExporter};

/// What a program keeps until its end.
pub(crate) struct Providers {
    pub(crate) tracers: SdkTracerProvider,
    pub(crate) loggers: SdkLoggerProvider,
    pub(crate) meters: SdkMeterProvider,
}

/// Providers that export as the standard variables say.
pub(crate) fn providers(look_up: impl Fn(&str) -> Option<String>) -> Result<Providers, Box<dyn Error>> {
    let resource = Resource::builder().with_service_name("shop").build();

    // The variables are read through a look-up, so that a test or a configuration file can have its own; the same ones
    // as before, OTEL_BSP_… and OTEL_BLRP_… among them.
    // +
    let settings = Bridge::from_env(look_up);
    // One thread for spans and log records, in place of one for each and the client's own.
    // +
    let bridge = Bridge::new(settings.clone())?;

    // - let exporter = SpanExporter::builder().with_http().build()?;
    let tracers = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        // - .with_batch_exporter(exporter)
        // +
        .with_span_processor(bridge.span_processor())
        .build();

    // - let exporter = LogExporter::builder().with_http().build()?;
    let loggers = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        // - .with_batch_exporter(exporter)
        // +
        .with_log_processor(bridge.log_processor())
        .build();

    // The reader's thread, which the SDK has anyway, sends.
    // - let exporter = MetricExporter::builder().with_http().build()?;
    // +
    let exporter = MetricExporter::new(settings)?;
    let meters = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(PeriodicReader::builder(exporter).build())
        .build();
    Ok(Providers { tracers, loggers, meters })
}

/// What the program does; not a line of it changes.
pub(crate) fn work(providers: &Providers) {
    let tracer = providers.tracers.tracer("shop");
    let logger = providers.loggers.logger("shop");
    let orders = providers.meters.meter("shop").u64_counter("orders").with_unit("{order}").build();
    tracer.in_span("order", |context: Context| {
        context.span().set_attribute(KeyValue::new("customer", "4711"));
        tracer.in_span("pay", |_| ());
        let mut record = logger.create_log_record();
        record.set_severity_number(Severity::Info);
        record.set_body(AnyValue::from("paid"));
        logger.emit(record);
        orders.add(1, &[KeyValue::new("currency", "EUR")]);
    });
}

/// Ends it.
pub(crate) fn shutdown(providers: &Providers) -> bool {
    // As before, but it means what it says: Ok only where everything was delivered, and within 5 s in any case.
    let results = [providers.tracers.shutdown(), providers.loggers.shutdown(), providers.meters.shutdown()];
    results.iter().filter_map(|result| result.as_ref().err()).for_each(|error| eprintln!("shop: {error}"));
    results.iter().all(Result::is_ok)
}

#[allow(dead_code, reason = "the test calls the parts")]
fn main() -> Result<ExitCode, Box<dyn Error>> {
    // - #[tokio::main] may go: nothing here needs a runtime, and nothing minds one.
    let providers = providers(|name| std::env::var(name).ok())?;
    work(&providers);
    Ok(if shutdown(&providers) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
