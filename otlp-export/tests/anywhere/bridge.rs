//! The bridge behind the OpenTelemetry SDK, from the same places.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks, SpanProcessor as _};
use otlp_export::client::Mode;
use otlp_export::sdk::{Bridge, SpanProcessor};

use crate::places::{self, Place};
use crate::{Action, Endpoint, Job, LONG, SHORT};

/// Every place times every action, as a name and what is run for it.
pub(crate) fn cells(urls: &[(Endpoint, String)]) -> Vec<(String, Job)> {
    let mut cells = Vec::new();
    for place in Place::ALL {
        for action in [Action::Record, Action::Flush, Action::Shutdown, Action::Drop] {
            for mode in [Mode::Queued, Mode::Direct] {
                for (endpoint, url) in urls.iter().cloned() {
                    let name = format!("bridge {place:?} {action:?} {endpoint:?} {mode:?}");
                    let run = move || {
                        let processor = Arc::new(processor(&url, endpoint, mode));
                        // Something is on its way already, from a thread of its own.
                        processor.on_end(span("before"));
                        places::enter(place, &move || job(Arc::clone(&processor), action, endpoint))
                    };
                    cells.push((name, Box::new(run) as Job));
                }
            }
        }
    }
    cells
}

fn patience(endpoint: Endpoint) -> Duration {
    if endpoint == Endpoint::Healthy { LONG } else { SHORT }
}

fn processor(url: &str, endpoint: Endpoint, mode: Mode) -> SpanProcessor {
    let builder = Bridge::builder().endpoint(url).mode(mode).batch_delay(Duration::from_secs(5));
    let patience = patience(endpoint);
    Bridge::new(builder.timeout(patience).drop_timeout(patience)).unwrap().span_processor()
}

/// What the SDK hands over, made without its providers.
fn span(name: &'static str) -> SpanData {
    let ids = (TraceId::from(1), SpanId::from(2));
    SpanData {
        span_context: SpanContext::new(ids.0, ids.1, TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: SystemTime::now(),
        end_time: SystemTime::now(),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("lib").build(),
    }
}

fn job(processor: Arc<SpanProcessor>, action: Action, endpoint: Endpoint) -> Job {
    let healthy = endpoint == Endpoint::Healthy;
    Box::new(move || {
        processor.on_end(span("here"));
        match action {
            Action::Flush if healthy => processor.force_flush().map_err(|error| error.to_string()),
            // Where nobody answers it waits for longer than there is time for here.
            Action::Shutdown | Action::Flush => match processor.shutdown_with_timeout(patience(endpoint)) {
                result if result.is_ok() == healthy => Ok(()),
                result => Err(format!("{result:?}")),
            },
            _ => {
                drop(processor);
                Ok(())
            }
        }
    })
}
