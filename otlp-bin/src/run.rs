//! The program from its configuration to its exit code.
//!
//! # Threads
//!
//! Starts everything on the caller's thread, which then sleeps until it is asked to stop.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log::LevelFilter;
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::{Registry, register_budget, register_gate, register_ledger};
use otlp_core::{ByteSize, Clock, Deadline};
use parking_lot::Mutex;

use crate::admin::health::{self, Phase, Readiness};
use crate::admin::server::Server;
use crate::admin::{process, prometheus};
use crate::config::{ConfiguredComponent, Diagnostic, Id, Resolved, Role, Section};
use crate::logging;
use crate::registry::{self, Environment, ThreadSettings};
use crate::service::{Service, Summary};
use crate::signals::Signals;

/// Why the program did not run.
#[derive(Debug)]
pub enum RunError {
    /// The configuration asks for what cannot be: exit code 2.
    Configuration(Vec<Diagnostic>),
    /// The system refuses something: exit code 1.
    System(String),
}

/// Runs until SIGTERM or SIGINT, drains for at most `drain_timeout`, and says what became of every item.
///
/// # Errors
///
/// Where it could not be started. Nothing runs then.
pub fn run(tree: &Resolved, warnings: &[Diagnostic], drain_timeout: Duration) -> Result<Summary, RunError> {
    let telemetry = tree.service.sub("telemetry");
    let logs = telemetry.as_ref().and_then(|telemetry| telemetry.sub("logs"));
    logging::install(&logs.as_ref().map_or_else(logging::Config::default, log_config)).map_err(system)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    // Before anything starts, so that no signal in between is lost.
    let signals = Signals::watch().map_err(system)?;

    let clock = Clock::system();
    let registry = Registry::new();
    let idle = ByteSize(process::resident_bytes().unwrap_or(8 << 20));
    let budget = budget(&tree.service, registry::memory_budget(tree, idle), &clock);
    let readiness = Readiness::default();
    let environment = Environment {
        registry: registry.clone(),
        clock: clock.clone(),
        budget: budget.clone(),
        threads: tree.service.sub("threads").as_ref().map_or_else(ThreadSettings::default, ThreadSettings::read),
        healthy: Arc::new({
            let readiness = readiness.clone();
            move || readiness.is_ready()
        }),
    };
    let builder = registry::build(tree, &environment).map_err(RunError::Configuration)?;
    let service: Arc<OnceLock<Mutex<Service>>> = Arc::default();
    let admin = start_admin(tree, &readiness, &registry, &service)?;
    let started = builder.start().map_err(|failure| RunError::System(failure.to_string()))?;
    expose(&registry, &budget, &started);
    let service = service.get_or_init(|| Mutex::new(started));
    readiness.set(Phase::Ready);
    log::info!("Everything is ready. Begin running and processing data.");

    // Only a watcher that is gone closes the channel, and then nobody can ask any more.
    let _ = signals.stop().recv();
    log::info!("Starting shutdown...");
    readiness.set(Phase::Stopping);
    let summary = service.lock().shutdown(Deadline::after(clock.now(), drain_timeout));
    drop(admin);
    log::info!("Shutdown complete.");
    Ok(summary)
}

fn system(error: io::Error) -> RunError {
    RunError::System(error.to_string())
}

fn log_config(logs: &Section) -> logging::Config {
    logging::Config {
        level: match logs.str("level").to_ascii_lowercase().as_str() {
            "debug" => LevelFilter::Debug,
            "warn" | "warning" => LevelFilter::Warn,
            "error" | "dpanic" | "panic" | "fatal" => LevelFilter::Error,
            _ => LevelFilter::Info,
        },
        encoding: if logs.str("encoding") == "json" { logging::Encoding::Json } else { logging::Encoding::Console },
        output_paths: logs.list_str("output_paths").to_vec(),
    }
}

fn budget(service: &Section, limit: ByteSize, clock: &Clock) -> MemoryBudget {
    match u8::try_from(service.u64("memory_host_limit_percentage")).unwrap_or(100) {
        0 => MemoryBudget::new(limit),
        percentage => MemoryBudget::with_host_limit(limit, percentage, clock.clone(), process::host_memory),
    }
}

/// The endpoints around the pipelines; they listen before the receivers do, so that whoever waits for them sees the start.
fn start_admin(
    tree: &Resolved,
    readiness: &Readiness,
    registry: &Registry,
    service: &Arc<OnceLock<Mutex<Service>>>,
) -> Result<Vec<Server>, RunError> {
    let mut servers = Vec::new();
    process::register(registry);
    for id in &used_extensions(&tree.service) {
        let Some(extension) = tree.component(Role::Extension, id) else { continue };
        servers.push(health_check(extension, readiness, service)?);
    }
    if let Some(config) = metrics_reader(&tree.service)? {
        let endpoint = format!("{}:{}", bracketed(&config.host), config.port);
        let handler = prometheus::handler(config, registry.clone(), resource());
        let server = Server::start("metrics", &endpoint, handler).map_err(|error| {
            RunError::System(format!(
                "cannot listen on {endpoint}: {error}; set service::telemetry::metrics::readers, or level: none"
            ))
        })?;
        log::info!("Serving metrics on http://{}/metrics", server.local_addr());
        servers.push(server);
    }
    Ok(servers)
}

fn used_extensions(service: &Section) -> Vec<Id> {
    service.ids("extensions").iter().map(|(id, _)| id.clone()).collect()
}

fn health_check(
    extension: &ConfiguredComponent,
    readiness: &Readiness,
    service: &Arc<OnceLock<Mutex<Service>>>,
) -> Result<Server, RunError> {
    let section = &extension.section;
    for key in ["tls", "auth"] {
        if section.sub(key).is_some() {
            return Err(RunError::Configuration(vec![
                section.error_at(key, format!("{key} of health_check is not built yet")),
            ]));
        }
    }
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
        let service = Arc::clone(service);
        // While the service is being stopped it is locked, and then nobody needs to know.
        move || {
            service.get().and_then(|service| service.try_lock().map(|service| service.unhealthy())).unwrap_or_default()
        }
    };
    let server =
        Server::start("health", &endpoint, health::handler(config, readiness.clone(), unhealthy)).map_err(|error| {
            RunError::System(format!("cannot listen on {endpoint}: {error}; set {}::endpoint", section.path()))
        })?;
    log::info!("Starting health_check extension {} on {}", extension.id, server.local_addr());
    Ok(server)
}

/// The one pull reader of `service::telemetry::metrics`; none where the level is `none`.
fn metrics_reader(service: &Section) -> Result<Option<prometheus::Config>, RunError> {
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
        return Err(RunError::Configuration(vec![metrics.error_at("readers", message)]));
    }
    let Some(reader) = readers.first() else { return Ok(None) };
    let Ok(port) = u16::try_from(reader.u64("port")) else {
        return Err(RunError::Configuration(vec![reader.error_at("port", "expected 0 to 65535")]));
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

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn resource() -> Vec<(String, String)> {
    [("service.name", "otlpd"), ("service.version", env!("CARGO_PKG_VERSION"))]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The books, the inlets and the budget, for whoever scrapes. Destinations show their queues themselves.
fn expose(registry: &Registry, budget: &MemoryBudget, service: &Service) {
    register_budget(registry, budget);
    for ledger in service.ledgers() {
        register_ledger(registry, Arc::clone(ledger));
    }
    for (pipeline, inlet) in service.inlets() {
        let inlet = Arc::clone(inlet);
        register_gate(registry, format!("inlet {pipeline}"), move || inlet.state());
    }
}
