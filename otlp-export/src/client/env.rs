//! The standard environment variables. No environment is read here: the caller passes a look-up.
//!
//! # Specification
//!
//! OpenTelemetry, OTLP Exporter Configuration and Environment Variable Specification. A variable that is empty is not
//! set. A signal's own variable goes before the general one. What cannot be read is passed over and remembered
//! ([`Builder::ignored`]); endpoints and headers are checked by `build()`.

use std::str::FromStr;
use std::time::Duration;

use otlp_core::Signal;
use otlp_core::codec::Coding;

use super::config::{Builder, Connection, Protocol};
use crate::ConfigError;
use crate::otlp_http::percent_decode;

struct Reader<'a> {
    look_up: &'a dyn Fn(&str) -> Option<String>,
    ignored: Vec<ConfigError>,
}

/// A builder with what the variables say.
pub(crate) fn read(look_up: &dyn Fn(&str) -> Option<String>) -> Builder {
    read_onto(Builder::default(), look_up)
}

/// The same with defaults of its own. `EXPORT_TIMEOUT` is read where they have one.
pub(crate) fn read_onto(mut builder: Builder, look_up: &dyn Fn(&str) -> Option<String>) -> Builder {
    let mut reader = Reader { look_up, ignored: Vec::new() };
    builder.all = reader.connection("");
    for signal in Signal::ALL {
        builder.own[signal.index()] = reader.connection(&format!("{}_", signal.as_str().to_ascii_uppercase()));
    }
    if let Some(pairs) = reader.get("OTEL_RESOURCE_ATTRIBUTES") {
        match pairs_of(&pairs) {
            Some(pairs) => builder.resource = pairs,
            // All of it, as the specification has it (Resource SDK, Specifying resource information).
            None => reader.ignore("OTEL_RESOURCE_ATTRIBUTES", "must be key=value pairs with commas between"),
        }
    }
    if let Some(name) = reader.get("OTEL_SERVICE_NAME") {
        builder = builder.service(name);
    }
    builder.disabled = reader.boolean("OTEL_SDK_DISABLED") == Some(true);
    for (prefix, signal) in [("OTEL_BSP", Signal::Traces), ("OTEL_BLRP", Signal::Logs)] {
        let limits = &mut builder.limits[signal.index()];
        if let Some(delay) = reader.number(&format!("{prefix}_SCHEDULE_DELAY")) {
            limits.delay = Duration::from_millis(delay);
        }
        if let Some(items) = reader.positive(&format!("{prefix}_MAX_QUEUE_SIZE")) {
            limits.queue_items_max = items;
        }
        match reader.positive(&format!("{prefix}_MAX_EXPORT_BATCH_SIZE")) {
            Some(items) if items > limits.queue_items_max => {
                reader.ignore(&format!("{prefix}_MAX_EXPORT_BATCH_SIZE"), "must be at most MAX_QUEUE_SIZE");
            }
            Some(items) => limits.batch_items_max = items,
            None => {}
        }
        limits.batch_items_max = limits.batch_items_max.min(limits.queue_items_max);
        if let Some(timeout) = &mut builder.export_timeouts[signal.index()]
            && let Some(millis) = reader.positive(&format!("{prefix}_EXPORT_TIMEOUT"))
        {
            *timeout = Duration::from_millis(millis);
        }
    }
    builder.ignored = reader.ignored;
    builder
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.look_up)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn ignore(&mut self, name: &str, message: impl Into<String>) {
        self.ignored.push(ConfigError::new(name, message));
    }

    fn parsed<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.get(name)?;
        let value = parse(&text);
        if value.is_none() {
            // Headers are secret.
            let given = if name.ends_with("HEADERS") { String::new() } else { format!(", not {text:?}") };
            self.ignore(name, format!("must be {expected}{given}"));
        }
        value
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        self.parsed(name, "a number of milliseconds or items", |text| u64::from_str(text).ok())
    }

    fn positive(&mut self, name: &str) -> Option<u64> {
        self.parsed(name, "a positive number", |text| u64::from_str(text).ok().filter(|number| *number > 0))
    }

    fn boolean(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, "true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    fn connection(&mut self, signal: &str) -> Connection {
        let name = |key: &str| format!("OTEL_EXPORTER_OTLP_{signal}{key}");
        let protocols = "grpc, http/protobuf or http/json";
        Connection {
            endpoint: self.get(&name("ENDPOINT")),
            protocol: self.parsed(&name("PROTOCOL"), protocols, Protocol::from_name),
            headers: self.parsed(&name("HEADERS"), "key=value pairs with commas between", pairs_of),
            compression: self.parsed(&name("COMPRESSION"), "gzip or none", Coding::from_config),
            timeout: self.positive(&name("TIMEOUT")).map(Duration::from_millis),
            insecure: self.boolean(&name("INSECURE")),
            #[cfg(feature = "tls")]
            tls: None,
            certificate: self.get(&name("CERTIFICATE")),
            client_certificate: self.get(&name("CLIENT_CERTIFICATE")),
            client_key: self.get(&name("CLIENT_KEY")),
        }
    }
}

/// W3C Baggage without properties: keys and values, percent-encoded.
fn pairs_of(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = percent_decode(key.trim());
            (!key.is_empty()).then(|| (key, percent_decode(value.trim())))
        })
        .collect()
}
