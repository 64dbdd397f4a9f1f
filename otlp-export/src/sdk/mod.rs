//! Behind the OpenTelemetry SDK: a program keeps its providers and instruments, and OTLP leaves it by one OS thread.
//!
//! | file           | purpose                                                                    |
//! |----------------|----------------------------------------------------------------------------|
//! | `bridge.rs`    | what processors share, [`Bridge`]                                          |
//! | `processor.rs` | [`SpanProcessor`] and [`LogProcessor`], batching or simple                 |
//! | `exporter.rs`  | [`SpanExporter`], [`LogExporter`] and [`MetricExporter`]                   |
//! | `encode/`      | the SDK's types, written as OTLP                                           |
//! | `sensible.rs`  | settings that are hardly meant                                             |
//!
//! # What it does
//!
//! Takes the place of `opentelemetry-otlp` and of the SDK's batch processors. A span is written as OTLP by the thread that
//! ends it, into the same queue as the log records; the thread behind it sends both.
//!
//! ```
//! use opentelemetry::KeyValue;
//! use opentelemetry::metrics::MeterProvider;
//! use opentelemetry::trace::{Tracer, TracerProvider};
//! use opentelemetry_sdk::Resource;
//! use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use otlp_export::sdk::{Bridge, MetricExporter};
//!
//! # let sink = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let endpoint = format!("http://{}", sink.local_addr()?);
//! # std::thread::spawn(move || for stream in sink.incoming() {
//! #     use std::io::{Read, Write};
//! #     let mut stream = stream.unwrap();
//! #     std::thread::spawn(move || while stream.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {
//! #         let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
//! #     });
//! # });
//! // OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_BSP_SCHEDULE_DELAY and so on; what is set here goes before.
//! let settings = Bridge::from_env(|name| std::env::var(name).ok()).endpoint(endpoint);
//! let bridge = Bridge::new(settings.clone())?;
//! let resource = Resource::builder().with_service_name("shop").build();
//! let tracers = SdkTracerProvider::builder()
//!     .with_resource(resource.clone())
//!     .with_span_processor(bridge.span_processor())
//!     .build();
//! let meters = SdkMeterProvider::builder()
//!     .with_resource(resource)
//!     .with_reader(PeriodicReader::builder(MetricExporter::new(settings)?).build())
//!     .build();
//!
//! tracers.tracer("checkout").in_span("order", |_| ());
//! meters.meter("checkout").u64_counter("orders").build().add(1, &[KeyValue::new("currency", "EUR")]);
//!
//! // `Err` where anything was lost.
//! tracers.shutdown()?;
//! meters.shutdown()?;
//! assert_eq!(bridge.stats().total().delivered.get(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/replace_opentelemetry_otlp.rs` has what changes in a program, line by line.
//!
//! # Threads
//!
//! `otlp-client`, one for each [`Bridge`], begun by the first span or log record that ends. The exporters have none, and
//! neither has a bridge whose builder was [direct](crate::client::Builder::direct). No executor is entered or blocked on: the futures that the SDK's
//! traits ask for are ready when they are returned, so everything may be called inside of any runtime.
//!
//! # Limits
//!
//! Those of [`Builder`](crate::client::Builder), 2048 spans and 2048 log records by default; at the bound
//! [`Builder::when_full`](crate::client::Builder::when_full) drops the newest, drops the oldest, or waits.
//!
//! # On failure
//!
//! Tried again for 30 s by default, then counted as dropped: [`Bridge::stats`]. What the export path itself would record,
//! spans, log records, lines of any crate, is not taken: no telemetry about telemetry. One line is logged, at the first
//! failure.
//!
//! # On shutdown
//!
//! A provider's shutdown returns by its deadline and is `Err` where anything of its signal was lost, ever, or is still
//! held. The last processor of a bridge that is shut down stops the thread.
//!
//! # Specification
//!
//! OpenTelemetry, Tracing SDK and Logs SDK, Batching processor and Simple processor; Metrics SDK, Push Metric Exporter;
//! Environment Variable Specification.

mod bridge;
mod encode;
mod exporter;
mod processor;
mod sensible;
#[cfg(test)]
mod tests;

pub use bridge::Bridge;
pub use exporter::{LogExporter, MetricExporter, SpanExporter};
pub use processor::{LogProcessor, SpanProcessor};
