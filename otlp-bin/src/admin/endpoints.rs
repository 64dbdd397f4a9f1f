//! The endpoints that a configuration asks for: `health_check` extensions, and the metrics reader.
//!
//! # Threads
//!
//! One for each, in accept.

use std::fmt;
use std::sync::{Arc, OnceLock};

use otlp_core::telemetry::Registry;
use otlp_receive::Transport;
use otlp_receive::listen::Place;
use parking_lot::Mutex;

use super::health::{self, Readiness};
use super::server::Server;
use super::{process, prometheus};
use crate::Pipeline;
use crate::config::{ConfiguredComponent, Diagnostic, Id, Resolved, Role, Section};

/// The pipeline, once it runs: what the endpoints are asked about.
pub type Running = Arc<OnceLock<Mutex<Pipeline>>>;

/// Why the endpoints, or what they tell about, could not be started.
#[derive(Debug)]
pub enum Error {
    /// The configuration asks for what cannot be.
    Configuration(Vec<Diagnostic>),
    /// The system refuses something.
    System(String),
}

/// Starts the endpoints around the pipelines. To be called before the pipelines are started, so that whoever waits for them
/// sees the start.
///
/// # Errors
///
/// Where the configuration asks for what is not built, or an address cannot be listened on.
pub fn start(
    tree: &Resolved,
    readiness: &Readiness,
    registry: &Registry,
    running: &Running,
) -> Result<Vec<Server>, Error> {
    let mut servers = Vec::new();
    process::register(registry);
    for id in &used_extensions(&tree.service) {
        let Some(extension) = tree.component(Role::Extension, id) else { continue };
        // Authenticators belong to the components that name them.
        if extension.component.name == "health_check" {
            servers.push(health_check(extension, readiness, running)?);
        }
    }
    if let Some(config) = metrics_reader(&tree.service)? {
        let endpoint = format!("{}:{}", bracketed(&config.host), config.port);
        let handler = prometheus::handler(config, registry.clone(), resource());
        let server = Server::start("metrics", &endpoint, Transport::Tcp, handler).map_err(|error| {
            Error::System(format!(
                "cannot listen on {endpoint}: {error}; set service::telemetry::metrics::readers, or level: none"
            ))
        })?;
        log::info!("Serving metrics on http://{}/metrics", server.place());
        warn_of_every_address("service::telemetry::metrics::readers", &endpoint, server.place());
        servers.push(server);
    }
    Ok(servers)
}

fn used_extensions(service: &Section) -> Vec<Id> {
    service.ids("extensions").iter().map(|(id, _)| id.clone()).collect()
}

fn health_check(extension: &ConfiguredComponent, readiness: &Readiness, running: &Running) -> Result<Server, Error> {
    let section = &extension.section;
    for key in ["tls", "auth"] {
        if section.sub(key).is_some() {
            return Err(Error::Configuration(vec![
                section.error_at(key, format!("{key} of health_check is not built yet")),
            ]));
        }
    }
    let transport = match section.str("transport") {
        "" | "tcp" => Transport::Tcp,
        "tcp4" => Transport::Tcp4,
        "tcp6" => Transport::Tcp6,
        // One without a file could not be woken to end.
        "unix" if !section.str("endpoint").starts_with('@') => Transport::Unix,
        other => {
            let message = format!("transport {other} of health_check is not built for this endpoint");
            return Err(Error::Configuration(vec![section.error_at("transport", message)]));
        }
    };
    let body = section.sub("response_body");
    let text = |key: &str| body.as_ref().map(|body| body.str(key).to_owned()).filter(|text| !text.is_empty());
    let config = health::Config {
        endpoint: section.str("endpoint").to_owned(),
        path: section.str("path").to_owned(),
        healthy: text("healthy"),
        unhealthy: text("unhealthy"),
    };
    let endpoint = config.endpoint.clone();
    let unhealthy = {
        let running = Arc::clone(running);
        // While the pipeline is being stopped it is locked, and then nobody needs to know.
        move || {
            let asked = running.get().and_then(|pipeline| pipeline.try_lock().map(|pipeline| pipeline.unhealthy()));
            asked.unwrap_or_default()
        }
    };
    let server = Server::start("health", &endpoint, transport, health::handler(config, readiness.clone(), unhealthy))
        .map_err(|error| {
        Error::System(format!("cannot listen on {endpoint}: {error}; set {}::endpoint", section.path()))
    })?;
    log::info!("Starting health_check extension {} on {}", extension.id, server.place());
    warn_of_every_address(&format!("{}::endpoint", section.path()), &endpoint, server.place());
    Ok(server)
}

/// The one pull reader of `service::telemetry::metrics`; none where the level is `none`.
fn metrics_reader(service: &Section) -> Result<Option<prometheus::Config>, Error> {
    let Some(metrics) = service.sub("telemetry").and_then(|telemetry| telemetry.sub("metrics")) else {
        return Ok(Some(prometheus::Config::default()));
    };
    if metrics.str("level") == "none" {
        return Ok(None);
    }
    let basic = metrics.str("level") == "basic";
    if !metrics.given("readers") {
        return Ok(Some(prometheus::Config { basic, ..prometheus::Config::default() }));
    }
    let readers: Vec<Section> = metrics
        .list("readers")
        .iter()
        .filter_map(|reader| reader.sub("pull"))
        .filter_map(|pull| pull.sub("exporter"))
        .filter_map(|exporter| exporter.sub("prometheus").or_else(|| exporter.sub("prometheus/development")))
        .collect();
    if readers.len() > 1 {
        let message = "more than one pull reader is not built yet";
        return Err(Error::Configuration(vec![metrics.error_at("readers", message)]));
    }
    let Some(reader) = readers.first() else { return Ok(None) };
    let Ok(port) = u16::try_from(reader.u64("port")) else {
        return Err(Error::Configuration(vec![reader.error_at("port", "expected 0 to 65535")]));
    };
    Ok(Some(prometheus::Config {
        host: reader.str("host").to_owned(),
        port,
        without_scope_info: reader.bool("without_scope_info"),
        without_units: reader.bool("without_units"),
        without_type_suffix: reader.bool("without_type_suffix"),
        basic,
    }))
}

/// As a receiver says it, of what can only be asked.
fn warn_of_every_address(key: &str, endpoint: &str, place: &Place) {
    if place.is_every_address() {
        log::warn!(
            "{key}: {endpoint:?} listens on every address of the machine, without TLS and without authentication: whoever \
             reaches it may ask; name one address"
        );
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn resource() -> Vec<(String, String)> {
    [("service.name", "otlpd"), ("service.version", env!("CARGO_PKG_VERSION"))]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Configuration(errors) => errors.iter().enumerate().try_for_each(|(number, error)| match number {
                0 => write!(f, "{error}"),
                _ => write!(f, "\n{error}"),
            }),
            Error::System(message) => write!(f, "error: {message}"),
        }
    }
}

impl std::error::Error for Error {}
