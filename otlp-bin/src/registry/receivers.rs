//! Receivers by name.

use std::sync::atomic::{AtomicUsize, Ordering};

use otlp_core::component::Receiver;
use otlp_core::{AckMode, ByteSize};
use otlp_receive::http::{Config, Cors, Transport};
use otlp_receive::otlp_json_file::{self, OtlpJsonFile, StartAt};
use otlp_receive::{Env, OtlpReceiver};

use super::{Environment, Made, not_built, rate_limit};
use crate::config::{ConfiguredComponent, Section};

/// Makes a receiver; `modes` says what OK means for each signal where the configuration does not.
pub(super) fn receiver(
    component: &ConfiguredComponent,
    modes: [AckMode; 3],
    environment: &Environment,
) -> Made<Box<dyn Receiver>> {
    let make = match component.component.name {
        "otlp" => otlp,
        "otlp_json_file" => otlp_json_file,
        other => return Err(not_built(&component.section, "", &format!("the receiver {other}"))),
    };
    make(component, modes, environment)
}

fn otlp(component: &ConfiguredComponent, modes: [AckMode; 3], environment: &Environment) -> Made<Box<dyn Receiver>> {
    let section = &component.section;
    let Some(protocols) = section.sub("protocols") else {
        return Err(section.error_at("protocols", "must specify at least one protocol when using the OTLP receiver"));
    };
    if protocols.sub("grpc").is_some() {
        return Err(not_built(&protocols, "grpc", "OTLP/gRPC"));
    }
    let Some(http) = protocols.sub("http") else {
        return Err(section.error_at("protocols", "must specify at least one protocol when using the OTLP receiver"));
    };
    for key in ["tls", "auth"] {
        if http.sub(key).is_some() {
            return Err(not_built(&http, key, &format!("{key} of a receiver")));
        }
    }
    if let Some(middleware) = http.list("middlewares").first() {
        return Err(not_built(middleware, "id", "a middleware"));
    }
    let config = Config {
        endpoint: http.str("endpoint").to_owned(),
        transport: transport(&http)?,
        traces_url_path: http.str("traces_url_path").to_owned(),
        metrics_url_path: http.str("metrics_url_path").to_owned(),
        logs_url_path: http.str("logs_url_path").to_owned(),
        cors: http.sub("cors").map(|cors| Cors {
            allowed_origins: cors.list_str("allowed_origins").to_vec(),
            allowed_headers: cors.list_str("allowed_headers").to_vec(),
            exposed_headers: cors.list_str("exposed_headers").to_vec(),
            max_age: std::time::Duration::from_secs(cors.u64("max_age")),
        }),
        max_request_body_size: ByteSize(http.bytes("max_request_body_size")),
        include_metadata: http.bool("include_metadata"),
        response_headers: revealed(&http, "response_headers"),
        compression_algorithms: http.list_str("compression_algorithms").to_vec(),
        read_timeout: http.duration("read_timeout"),
        read_header_timeout: http.duration("read_header_timeout"),
        write_timeout: http.duration("write_timeout"),
        idle_timeout: http.duration("idle_timeout"),
        keep_alives_enabled: http.bool("keep_alives_enabled"),
        acknowledge: match section.str("acknowledge") {
            "" => None,
            "queued" => Some(AckMode::Queued),
            "exported" => Some(AckMode::Exported),
            // Disk queues are what would store it.
            _ => return Err(not_built(section, "acknowledge", "acknowledge: stored")),
        },
        acknowledge_timeout: section.duration("acknowledge_timeout"),
        rate_limit: section.sub("rate_limit").map(|rate| rate_limit(&rate)),
        ..Config::default()
    };
    config.check().map_err(|error| http.error_at(error.key, error.message))?;
    let env = Env {
        budget: environment.budget.clone(),
        registry: environment.registry.clone(),
        clock: environment.clock.clone(),
        threads: environment.threads.receive,
        thread_options: environment.threads.options,
        ack_mode: modes,
        healthy: environment.healthy.clone(),
    };
    Ok(Box::new(OtlpReceiver::new(component.id.to_string(), config, env)))
}

fn otlp_json_file(
    component: &ConfiguredComponent,
    ack_mode: [AckMode; 3],
    environment: &Environment,
) -> Made<Box<dyn Receiver>> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let section = &component.section;
    if section.id("storage").is_some() {
        return Err(not_built(section, "storage", "storage of otlp_json_file"));
    }
    if section.bool("delete_after_read") {
        return Err(not_built(section, "delete_after_read", "delete_after_read"));
    }
    let config = otlp_json_file::Config {
        include: section.list_str("include").to_vec(),
        exclude: section.list_str("exclude").to_vec(),
        start_at: if section.str("start_at") == "beginning" { StartAt::Beginning } else { StartAt::End },
        poll_interval: section.duration("poll_interval"),
        replay_file: section.bool("replay_file"),
        line_bytes_max: ByteSize(section.bytes("max_log_size")),
        open_files_max: section.usize("max_concurrent_files"),
    };
    config.check().map_err(|invalid| section.error_at(invalid.key, invalid.message))?;
    let env = otlp_json_file::Env {
        budget: environment.budget.clone(),
        registry: environment.registry.clone(),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        thread_options: environment.threads.options,
        ack_mode,
    };
    Ok(Box::new(OtlpJsonFile::new(component.id.to_string(), config, env)))
}

fn transport(http: &Section) -> Made<Transport> {
    match http.str("transport") {
        "" | "tcp" => Ok(Transport::Tcp),
        "tcp4" => Ok(Transport::Tcp4),
        "tcp6" => Ok(Transport::Tcp6),
        other => Err(not_built(http, "transport", &format!("transport {other}"))),
    }
}

/// Header names and values, to be sent.
pub(super) fn revealed(section: &Section, key: &str) -> Vec<(String, String)> {
    section.map_str(key).iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect()
}
