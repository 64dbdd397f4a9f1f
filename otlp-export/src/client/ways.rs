//! The exporters behind a client.

use otlp_core::codec::Coding;
use otlp_core::component::{Exporter, Health};
use otlp_core::telemetry::registry::Registry;
use otlp_core::{Clock, Code, Deadline, Failure, Group, Outcome, Reason, Signal};

use super::config::{Builder, Connection, Protocol};
use super::outbox::{Way, Ways};
use crate::otlp_http::{self, Encoding, Headers, OtlpHttp};
use crate::{ConfigError, retry};

/// One exporter for each signal.
pub(crate) fn make(builder: &Builder) -> Result<Ways, ConfigError> {
    if builder.disabled {
        return Ok(Signal::ALL.map(|_| Box::new(Nowhere) as Box<dyn Way>));
    }
    let [traces, metrics, logs] = Signal::ALL.map(|signal| way(builder, signal));
    Ok([traces?, metrics?, logs?])
}

fn way(builder: &Builder, signal: Signal) -> Result<Box<dyn Way>, ConfigError> {
    let connection = builder.connection(signal);
    let endpoint = connection.endpoint.clone().or_else(|| builder.all.endpoint.clone()).unwrap_or_default();
    let made = match connection.protocol.unwrap_or_default() {
        Protocol::Grpc => grpc(builder, signal, connection),
        Protocol::HttpProtobuf => http(builder, signal, connection, Encoding::Proto),
        Protocol::HttpJson => http(builder, signal, connection, Encoding::Json),
    };
    made.map_err(|mut error| {
        // It may come from a variable that nobody has looked at for long.
        let endpoint = shown(&endpoint);
        if error.key.ends_with("endpoint") && !error.message.contains(&endpoint) {
            error.message = format!("{}, not {endpoint:?}", error.message);
        }
        error
    })
}

fn http(
    builder: &Builder,
    signal: Signal,
    connection: Connection,
    encoding: Encoding,
) -> Result<Box<dyn Way>, ConfigError> {
    let mut config = otlp_http::Config {
        endpoint: builder.all.endpoint.clone().unwrap_or_else(|| "http://localhost:4318".to_owned()),
        encoding,
        compression: connection.compression.unwrap_or(Coding::Identity),
        headers: Headers(connection.headers.clone().unwrap_or_default()),
        // The client's, which knows of shutdown.
        timeout: std::time::Duration::ZERO,
        retry_on_failure: retry::Config::disabled(),
        max_idle_conns_per_host: 4,
        #[cfg(feature = "tls")]
        tls: tls(&connection),
        ..otlp_http::Config::default()
    };
    needs_tls(&connection)?;
    if let Some(own) = connection.endpoint {
        match signal {
            Signal::Traces => config.traces_endpoint = own,
            Signal::Metrics => config.metrics_endpoint = own,
            Signal::Logs => config.logs_endpoint = own,
        }
    }
    Ok(Box::new(OtlpHttp::new("otlp_client", &config, signal, Clock::system(), &Registry::new())?))
}

#[cfg(feature = "tls")]
fn needs_tls(_: &Connection) -> Result<(), ConfigError> {
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn needs_tls(connection: &Connection) -> Result<(), ConfigError> {
    for (setting, value) in [
        ("certificate", &connection.certificate),
        ("client_certificate", &connection.client_certificate),
        ("client_key", &connection.client_key),
    ] {
        if value.is_some() {
            return Err(ConfigError::new(setting, "needs TLS: build in the feature `ring`"));
        }
    }
    Ok(())
}

/// TLS as it is set, with the files that the environment names in place of what is not.
#[cfg(feature = "tls")]
fn tls(connection: &Connection) -> crate::tls::Config {
    let mut tls = connection.tls.clone().unwrap_or_default();
    for (file, pem, named) in [
        (&mut tls.ca_file, &tls.ca_pem, &connection.certificate),
        (&mut tls.cert_file, &tls.cert_pem, &connection.client_certificate),
        (&mut tls.key_file, &tls.key_pem, &connection.client_key),
    ] {
        if file.is_none() && pem.is_none() {
            *file = named.as_ref().map(Into::into);
        }
    }
    tls
}

#[cfg(feature = "grpc")]
fn grpc(builder: &Builder, signal: Signal, connection: Connection) -> Result<Box<dyn Way>, ConfigError> {
    use otlp_core::thread::ThreadOptions;

    use crate::otlp_grpc::{Config, OtlpGrpc};

    let endpoint = connection.endpoint.clone().or_else(|| builder.all.endpoint.clone());
    let endpoint = endpoint.unwrap_or_else(|| "http://localhost:4317".to_owned());
    let mut tls = tls(&connection);
    // The scheme decides; without one the setting does (OTLP Exporter Configuration, Insecure).
    let lower = endpoint.to_ascii_lowercase();
    tls.insecure = tls.insecure || lower.starts_with("http://") || lower.starts_with("unix:");
    tls.insecure |= !lower.starts_with("https://") && connection.insecure == Some(true);
    let config = Config {
        endpoint,
        compression: connection.compression.unwrap_or(Coding::Identity),
        headers: Headers(connection.headers.clone().unwrap_or_default()),
        tls,
        timeout: std::time::Duration::ZERO,
        retry_on_failure: retry::Config::disabled(),
        ..Config::default()
    };
    let threads = ThreadOptions::default();
    let exporter = OtlpGrpc::new("otlp_client", &config, signal, threads, Clock::system(), &Registry::new())?;
    // The client has a thread, or is to have none.
    Ok(Box::new(exporter.without_thread()))
}

#[cfg(not(feature = "grpc"))]
fn grpc(_: &Builder, _: Signal, _: Connection) -> Result<Box<dyn Way>, ConfigError> {
    Err(ConfigError::new("protocol", "grpc needs the feature `grpc`; use http/protobuf without it"))
}

/// A URL without the user and password that may stand in it.
pub(crate) fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://{}", &url[..scheme], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

impl Way for OtlpHttp {
    fn resolve_ahead(&self) {
        OtlpHttp::resolve_ahead(self);
    }
}

#[cfg(feature = "grpc")]
impl Way for crate::otlp_grpc::OtlpGrpc {
    fn resolve_ahead(&self) {
        crate::otlp_grpc::OtlpGrpc::resolve_ahead(self);
    }
}

/// Stands for exporters that cannot be made in a child of fork.
struct Unusable(Failure);

pub(crate) fn unusable(error: &ConfigError) -> Ways {
    let failure = Failure::rejected(Code::Internal, Reason::UNSUPPORTED, error.to_string());
    Signal::ALL.map(|_| Box::new(Unusable(failure.clone())) as Box<dyn Way>)
}

impl Exporter for Unusable {
    fn export(&self, _: &Group, _: Deadline) -> Outcome {
        self.0.clone().into()
    }

    fn shutdown(&self, _: Deadline) {}

    fn health(&self) -> Health {
        Health::unhealthy(self.0.to_string())
    }
}

impl Way for Unusable {
    fn resolve_ahead(&self) {}
}

/// With `OTEL_SDK_DISABLED`: nothing is recorded, so nothing comes here.
struct Nowhere;

impl Exporter for Nowhere {
    fn export(&self, _: &Group, _: Deadline) -> Outcome {
        Outcome::Delivered
    }

    fn shutdown(&self, _: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

impl Way for Nowhere {
    fn resolve_ahead(&self) {}
}
