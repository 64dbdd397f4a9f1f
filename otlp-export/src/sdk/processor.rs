//! The processors: what the SDK hands over is written as OTLP by the thread that made it.

use std::time::Duration;

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLogRecord;
use opentelemetry_sdk::trace::{Span, SpanData};

use super::bridge::Tap;
use super::encode;
use crate::client::record::Buffer;

/// Sends spans: [`Bridge::span_processor`](super::Bridge::span_processor).
///
/// `force_flush` waits for 5 s at most and is `Err` where spans were lost since the last; `shutdown` is where any were,
/// ever.
#[derive(Debug)]
pub struct SpanProcessor(pub(super) Tap);

/// Sends log records: [`Bridge::log_processor`](super::Bridge::log_processor).
///
/// A record's target becomes the name of its instrumentation scope. `force_flush` waits for 5 s at most and is `Err` where
/// log records were lost since the last; `shutdown` is where any were, ever.
#[derive(Debug)]
pub struct LogProcessor(pub(super) Tap);

impl opentelemetry_sdk::trace::SpanProcessor for SpanProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Only what is sampled is exported (Tracing SDK, Built-in span processors).
        if !self.0.is_open() || !span.span_context.is_sampled() {
            return;
        }
        let scope = encode::scope(&span.instrumentation_scope, span.instrumentation_scope.name());
        let mut bytes = Buffer::new();
        encode::span::put(&mut bytes, &span);
        self.0.send(scope, &bytes);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

impl opentelemetry_sdk::logs::LogProcessor for LogProcessor {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if !self.0.is_open() {
            return;
        }
        let scope = encode::scope(scope, record.target().map_or(scope.name(), |target| target));
        let mut bytes = Buffer::new();
        encode::log::put(&mut bytes, record);
        self.0.send(scope, &bytes);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
