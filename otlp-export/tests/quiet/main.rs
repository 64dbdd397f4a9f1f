//! No telemetry about telemetry: with everything at TRACE, what the program records arrives, and nothing of what ureq,
//! rustls, h2 and we ourselves have to say about that.
//!
//! A program of its own, since loggers are the process's. What is logged goes to the client's `Logger`; spans and events
//! of tracing go to a log processor of the bridge, as an appender would hand them over. Both are asked for everything.
#![allow(clippy::unwrap_used)]

#[path = "../export/server.rs"]
#[allow(dead_code, reason = "tests/export has the rest")]
mod server;
#[path = "../export/sink.rs"]
#[allow(dead_code, reason = "tests/export has the rest")]
mod sink;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::Log;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use otlp_export::client::{Logger, Mode, OtlpClient};
use otlp_export::sdk::Bridge;
use prost::Message;
use sink::{By, Sink};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Event, Metadata, Subscriber};

const LONG: Duration = Duration::from_secs(60);

/// How many records of each kind.
const RECORDS: usize = 20;

thread_local! {
    /// The sink is another process, but for where it runs.
    static IS_SINK: Cell<bool> = const { Cell::new(false) };
}

/// Where everything goes now.
#[derive(Clone)]
struct Host {
    logger: Logger,
    provider: SdkLoggerProvider,
}

static HOST: Mutex<Option<Host>> = Mutex::new(None);

/// How often each crate had something to say.
static HEARD: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where to, outside of the lock: whoever sends in this thread logs.
fn host(target: &str) -> Option<Host> {
    if IS_SINK.get() {
        return None;
    }
    *lock(&HEARD).entry(target.split("::").next().unwrap().to_owned()).or_default() += 1;
    lock(&HOST).clone()
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(host) = host(record.target()) {
            host.logger.log(record);
        }
    }

    fn flush(&self) {}
}

struct Traces;

impl Traces {
    fn emit(&self, metadata: &Metadata<'_>, text: String) {
        let Some(host) = host(metadata.target()) else { return };
        let logger = host.provider.logger("tracing");
        let mut record = logger.create_log_record();
        record.set_body(AnyValue::from(text));
        logger.emit(record);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{value:?} ");
    }
}

impl Subscriber for Traces {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.emit(span.metadata(), span.metadata().name().to_owned());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.emit(event.metadata(), text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn current_span(&self) -> Current {
        Current::none()
    }
}

/// The bodies of all log records that have come.
fn bodies(sink: &Sink) -> Vec<String> {
    let mut found = Vec::new();
    for seen in sink.seen.try_iter() {
        let request = ExportLogsServiceRequest::decode(&seen.body[..]).unwrap();
        let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        for record in scopes.flat_map(|scope| scope.log_records) {
            match record.body.unwrap().value.unwrap() {
                Value::StringValue(text) => found.push(text),
                other => panic!("{other:?}"),
            }
        }
    }
    found.sort();
    found
}

fn heard(target: &str) -> usize {
    lock(&HEARD).get(target).copied().unwrap_or(0)
}

#[test]
fn with_everything_at_trace_what_is_recorded_arrives_and_nothing_else() {
    log::set_boxed_logger(Box::new(Lines)).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    tracing_core::dispatcher::set_global_default(tracing_core::Dispatch::new(Traces)).unwrap();
    for by in By::ALL {
        for mode in [Mode::Queued, Mode::Direct] {
            let what = format!("{by:?} {mode:?}");
            let sink = Sink::start(by, || IS_SINK.set(true));
            // So that nothing waits for long and nothing leaves in one piece.
            let settings = |builder| sink.builder(builder).mode(mode).batch_items_max(7).batch_delay(Duration::ZERO);
            let client = settings(OtlpClient::builder()).build().unwrap();
            let bridge = Bridge::new(settings(Bridge::builder())).unwrap();
            let provider = SdkLoggerProvider::builder().with_log_processor(bridge.log_processor()).build();
            let host = Host { logger: Logger::new(client.clone()), provider: provider.clone() };
            *lock(&HOST) = Some(host);
            let mut expected = Vec::new();
            for number in 0..RECORDS {
                log::trace!("line {number}");
                Traces.emit(&METADATA, format!("event {number}"));
                expected.extend([format!("line {number}"), format!("event {number}")]);
            }
            expected.sort();
            // Had anything fed on what was sent, the second would have something to send.
            for _ in 0..2 {
                client.flush(LONG).unwrap();
                provider.force_flush().unwrap();
            }
            assert_eq!(bodies(&sink), expected, "{what}");
            client.shutdown(LONG).unwrap();
            provider.shutdown_with_timeout(LONG).unwrap();
            // Connections are closed now, which is told of, too.
            let stats = [client.stats(), bridge.stats()];
            *lock(&HOST) = None;
            drop((client, bridge, provider));
            for stats in stats {
                let total = stats.total();
                let books = (total.recorded.get(), total.delivered.get(), stats.refused.get());
                assert_eq!(books, (RECORDS as u64, RECORDS as u64, 0), "{what}");
            }
            assert!(sink.seen.try_recv().is_err(), "{what}");
        }
    }
    // There was something that could have been sent.
    for target in ["ureq", "rustls", "h2"] {
        assert!(heard(target) > 10, "{target} said nothing: {:?}", lock(&HEARD));
    }
}

/// Of the host's own events.
static METADATA: Metadata<'static> = tracing_core::metadata! {
    name: "event",
    target: "shop",
    level: tracing_core::Level::TRACE,
    fields: &[],
    callsite: &CALLSITE,
    kind: tracing_core::Kind::EVENT,
};

struct Callsite;

static CALLSITE: Callsite = Callsite;

impl tracing_core::Callsite for Callsite {
    fn set_interest(&self, _: tracing_core::Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &METADATA
    }
}
