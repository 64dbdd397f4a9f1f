//! A `log::Log` that sends.
//!
//! # Threads
//!
//! Whichever logs. In direct mode that is the one which sends.
//!
//! # On failure
//!
//! As for everything that is recorded: counted.
//!
//! # Specification
//!
//! OpenTelemetry, Logs Data Model, Appendix B for the severities; semantic conventions, Source code attributes.

use std::time::{Duration, SystemTime};

use log::kv::{Key, VisitSource};
use log::{Level, LevelFilter, Metadata, Record};
use otlp_core::Signal;
use otlp_core::wire::writer::put_delimited;

use super::envelope::{Encoded, Origin};
use super::record::attributes::{put_attribute, put_fixed64, put_number, put_value, scope};
use super::record::{Buffer, unix_nanos};
use super::{OtlpClient, Severity, Value};
use crate::quiet;

/// How long [`log::Log::flush`] waits at most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends what is logged by the macros of the crate `log`, as OTLP log records.
///
/// A record's target becomes the name of its instrumentation scope, as the OpenTelemetry SDK has it; file and line become
/// `code.file.path` and `code.line.number`, and key-values attributes. What is logged while telemetry is sent, by whichever crate, and what this
/// crate logs is passed over: it would make what it tells of. [`log::Log::flush`] waits for 5 s at most.
///
/// Nothing is installed: that is the program's to do, beside whatever else it logs to.
///
/// # Examples
///
/// ```
/// use otlp_export::client::{Logger, OtlpClient};
///
/// # let endpoint = "http://127.0.0.1:1";
/// let client = OtlpClient::builder().endpoint(endpoint).service("shop").build()?;
/// log::set_boxed_logger(Box::new(Logger::new(client.clone()))).expect("there is no other");
/// log::set_max_level(log::LevelFilter::Info);
///
/// log::info!("the shop is open");
/// assert_eq!(client.stats().total().recorded.get(), 1);
/// # let _ = client.shutdown(Default::default());
/// # Ok::<(), otlp_export::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Logger {
    client: OtlpClient,
    max_level: LevelFilter,
}

impl Logger {
    /// Sends through that client, all levels.
    pub fn new(client: OtlpClient) -> Logger {
        Logger { client, max_level: LevelFilter::Trace }
    }

    /// Sends nothing below that level.
    pub fn with_max_level(mut self, level: LevelFilter) -> Logger {
        self.max_level = level;
        self
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.max_level && !is_ours(metadata.target()) && !quiet::is_quiet()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || self.client.0.disabled {
            return;
        }
        // Before the buffers: what formats itself may log, too.
        let formatted;
        let text = match record.args().as_str() {
            Some(text) => text,
            None => {
                formatted = record.args().to_string();
                &formatted
            }
        };
        let mut name = Buffer::new();
        name.extend_from_slice(&scope(record.target(), ""));
        let scope = Encoded::remembered(&name, "");
        drop(name);
        let origin = Origin { resource: self.client.0.origin.resource.clone(), scope };
        let mut out = Buffer::new();
        put(&mut out, record, text);
        self.client.0.outbox.get().send_item(Signal::Logs, &origin, &out, 1);
    }

    fn flush(&self) {
        // On the thread that sends, nobody could.
        if !quiet::is_quiet() {
            let _ = self.client.flush(FLUSH_TIMEOUT);
        }
    }
}

/// Appends the fields of a `LogRecord`.
fn put(out: &mut Vec<u8>, record: &Record<'_>, text: &str) {
    let now = unix_nanos(SystemTime::now());
    let severity = severity(record.level());
    put_fixed64(out, 1, now);
    put_number(out, 2, severity as u64);
    put_delimited(out, 3, severity.as_str().as_bytes());
    put_value(out, 5, Value::Text(text));
    if let Some(file) = record.file() {
        put_attribute(out, 6, "code.file.path", Value::Text(file));
    }
    if let Some(line) = record.line() {
        put_attribute(out, 6, "code.line.number", Value::Int(line.into()));
    }
    let _ = record.key_values().visit(&mut Pairs(out));
    put_fixed64(out, 11, now);
}

/// Appends key-values as attributes.
struct Pairs<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: log::kv::Value<'kvs>) -> Result<(), log::kv::Error> {
        let text;
        let value = if let Some(value) = value.to_bool() {
            Value::Bool(value)
        } else if let Some(value) = value.to_i64() {
            Value::Int(value)
        } else if let Some(value) = value.to_borrowed_str() {
            Value::Text(value)
        } else if let Some(value) = value.to_f64() {
            Value::Double(value)
        } else {
            text = value.to_string();
            Value::Text(&text)
        };
        put_attribute(self.0, 6, key.as_str(), value);
        Ok(())
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::Error,
        Level::Warn => Severity::Warn,
        Level::Info => Severity::Info,
        Level::Debug => Severity::Debug,
        Level::Trace => Severity::Trace,
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("otlp_export").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use log::Log as _;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message;

    use super::*;

    /// A client that sends nothing.
    fn client() -> OtlpClient {
        OtlpClient::builder().endpoint("http://127.0.0.1:1").drop_timeout(Duration::ZERO).build().unwrap()
    }

    #[test]
    fn a_record_reads_back_as_it_was_logged() {
        let table = [
            (Level::Trace, 1, "TRACE"),
            (Level::Debug, 5, "DEBUG"),
            (Level::Info, 9, "INFO"),
            (Level::Warn, 13, "WARN"),
            (Level::Error, 17, "ERROR"),
        ];
        let whole = u64::MAX;
        let pairs: [(&str, log::kv::Value<'_>); 6] = [
            ("yes", true.into()),
            ("int", (-3).into()),
            ("double", 0.5.into()),
            ("text", "t".into()),
            ("whole", whole.into()),
            ("debug", log::kv::Value::from_debug(&Some(1))),
        ];
        for (level, number, text) in table {
            let mut out = Vec::new();
            let args = format_args!("paid {}", number);
            let record = Record::builder().level(level).file(Some("a.rs")).line(Some(7)).key_values(&pairs).build();
            put(&mut out, &record, &args.to_string());
            let read = LogRecord::decode(&out[..]).unwrap();
            assert_eq!((read.severity_number, read.severity_text.as_str()), (number, text));
            assert_eq!(read.body.unwrap().value, Some(Any::StringValue(format!("paid {number}"))));
            assert!(read.time_unix_nano > 0 && read.time_unix_nano == read.observed_time_unix_nano);
            let attributes: BTreeMap<_, _> =
                read.attributes.into_iter().map(|pair| (pair.key, pair.value.unwrap().value.unwrap())).collect();
            let text = |text: &str| Any::StringValue(text.to_owned());
            let expected = [
                ("code.file.path", text("a.rs")),
                ("code.line.number", Any::IntValue(7)),
                ("debug", text("Some(1)")),
                ("double", Any::DoubleValue(0.5)),
                ("int", Any::IntValue(-3)),
                ("text", text("t")),
                ("whole", text(&whole.to_string())),
                ("yes", Any::BoolValue(true)),
            ];
            assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value)).into());
        }
    }

    #[test]
    fn what_the_export_path_logs_and_what_is_below_the_level_is_passed_over() {
        let client = client();
        let logger = Logger::new(client.clone()).with_max_level(LevelFilter::Info);
        let log = |target: &str, level| logger.log(&Record::builder().target(target).level(level).build());
        let recorded = || client.stats().total().recorded.get();
        log("shop", Level::Info);
        log("otlp_exports", Level::Warn);
        assert_eq!(recorded(), 2);
        log("shop", Level::Debug);
        log("otlp_export", Level::Error);
        log("otlp_export::client::outbox", Level::Error);
        assert_eq!(recorded(), 2);
        let quiet = quiet::enter();
        log("rustls::conn", Level::Error);
        logger.flush();
        drop(quiet);
        assert_eq!(recorded(), 2);
        log("rustls::conn", Level::Error);
        assert_eq!(recorded(), 3);
    }
}
