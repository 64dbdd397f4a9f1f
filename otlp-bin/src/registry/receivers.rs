//! Receivers by name.

use std::sync::atomic::{AtomicUsize, Ordering};

use otlp_core::component::Receiver;
use otlp_core::{AckMode, ByteSize};
use otlp_receive::grpc::{self, EnforcementPolicy, Keepalive, ServerParameters};
use otlp_receive::http::{self, Cors};
use otlp_receive::otlp_json_file::{self, OtlpJsonFile, StartAt};
use otlp_receive::{Config, Env, OtlpReceiver, Transport, tls};

use super::extensions::Extensions;
use super::{Environment, Made, not_built, rate_limit};
use crate::config::{ConfiguredComponent, Section, supported_curves};

/// Makes a receiver; `modes` says what OK means for each signal where the configuration does not.
pub(super) fn receiver(
    component: &ConfiguredComponent,
    modes: [AckMode; 3],
    environment: &Environment,
    extensions: &Extensions<'_>,
) -> Made<Box<dyn Receiver>> {
    match component.component.name {
        "otlp" => otlp(component, modes, environment, extensions),
        "otlp_json_file" => otlp_json_file(component, modes, environment),
        other => Err(not_built(&component.section, "", &format!("the receiver {other}"))),
    }
}

fn otlp(
    component: &ConfiguredComponent,
    modes: [AckMode; 3],
    environment: &Environment,
    extensions: &Extensions<'_>,
) -> Made<Box<dyn Receiver>> {
    let section = &component.section;
    let protocols = section.sub("protocols");
    let protocol = |name: &str| protocols.as_ref().and_then(|protocols| protocols.sub(name));
    let config = Config {
        grpc: protocol("grpc").map(|section| grpc(&section, extensions)).transpose()?,
        http: protocol("http").map(|section| http(&section, extensions)).transpose()?,
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
    config.check().map_err(|error| section.error_at(&error.key.replace('.', "::"), error.message))?;
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

fn http(http: &Section, extensions: &Extensions<'_>) -> Made<http::Config> {
    refuse_unbuilt(http)?;
    Ok(http::Config {
        endpoint: http.str("endpoint").to_owned(),
        transport: transport(http)?,
        tls: http.sub("tls").map(|tls| server_tls(&tls)).transpose()?,
        auth: extensions.server(http)?,
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
        response_headers: http
            .map_str("response_headers")
            .iter()
            .map(|(name, value)| (name.clone(), otlp_core::auth::Secret::new(value.reveal())))
            .collect(),
        compression_algorithms: http.list_str("compression_algorithms").to_vec(),
        read_timeout: http.duration("read_timeout"),
        read_header_timeout: http.duration("read_header_timeout"),
        write_timeout: http.duration("write_timeout"),
        idle_timeout: http.duration("idle_timeout"),
        keep_alives_enabled: http.bool("keep_alives_enabled"),
    })
}

fn grpc(grpc: &Section, extensions: &Extensions<'_>) -> Made<grpc::Config> {
    refuse_unbuilt(grpc)?;
    let keepalive = grpc.sub("keepalive");
    let below = |name: &str| keepalive.as_ref().and_then(|keepalive| keepalive.sub(name));
    Ok(grpc::Config {
        endpoint: grpc.str("endpoint").to_owned(),
        transport: transport(grpc)?,
        tls: grpc.sub("tls").map(|tls| server_tls(&tls)).transpose()?,
        auth: extensions.server(grpc)?,
        max_recv_msg_size_mib: grpc.u64("max_recv_msg_size_mib"),
        max_concurrent_streams: grpc.u32("max_concurrent_streams"),
        keepalive: Keepalive {
            server_parameters: below("server_parameters").map_or_else(ServerParameters::default, |server| {
                ServerParameters {
                    max_connection_idle: server.duration("max_connection_idle"),
                    max_connection_age: server.duration("max_connection_age"),
                    max_connection_age_grace: server.duration("max_connection_age_grace"),
                    time: server.duration("time"),
                    timeout: server.duration("timeout"),
                }
            }),
            enforcement_policy: below("enforcement_policy").map_or_else(EnforcementPolicy::default, |policy| {
                EnforcementPolicy {
                    min_time: policy.duration("min_time"),
                    permit_without_stream: policy.bool("permit_without_stream"),
                }
            }),
        },
        include_metadata: grpc.bool("include_metadata"),
    })
}

/// What the two protocols have in common that is not built.
fn refuse_unbuilt(protocol: &Section) -> Made<()> {
    match protocol.list("middlewares").first() {
        Some(middleware) => Err(not_built(middleware, "id", "a middleware")),
        None => Ok(()),
    }
}

fn server_tls(tls: &Section) -> Made<tls::Config> {
    let config = server_tls_config(tls)?;
    // Here, and not only where it starts: here the place in the file is known.
    match config.check_files() {
        Ok(()) => Ok(config),
        Err(error) => Err(tls.error_at(error.key.trim_start_matches("tls").trim_start_matches('.'), error.message)),
    }
}

fn server_tls_config(tls: &Section) -> Made<tls::Config> {
    if tls.sub("tpm").is_some_and(|tpm| tpm.bool("enabled")) {
        return Err(not_built(tls, "tpm", "a key in a TPM"));
    }
    let text = |key: &str| Some(tls.str(key).to_owned()).filter(|text| !text.is_empty());
    let pem = |key: &str| Some(tls.secret(key).reveal().to_owned()).filter(|text| !text.is_empty());
    let version = |key: &str| match tls.str(key) {
        "" => Ok(None),
        version => tls::Version::from_config(version).map(Some).map_err(|message| tls.error_at(key, message)),
    };
    Ok(tls::Config {
        cert_file: text("cert_file").map(Into::into),
        cert_pem: pem("cert_pem"),
        key_file: text("key_file").map(Into::into),
        key_pem: pem("key_pem"),
        client_ca_file: text("client_ca_file").map(Into::into),
        client_ca_file_reload: tls.bool("client_ca_file_reload"),
        min_version: version("min_version")?.unwrap_or_default(),
        max_version: version("max_version")?,
        cipher_suites: tls.list_str("cipher_suites").to_vec(),
        curve_preferences: supported_curves(tls),
        reload_interval: tls.duration("reload_interval"),
        crypto_provider: None,
    })
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

fn transport(protocol: &Section) -> Made<Transport> {
    match protocol.str("transport") {
        "" | "tcp" => Ok(Transport::Tcp),
        "tcp4" => Ok(Transport::Tcp4),
        "tcp6" => Ok(Transport::Tcp6),
        "unix" => Ok(Transport::Unix),
        other => Err(not_built(protocol, "transport", &format!("transport {other}"))),
    }
}

/// Header names and values, to be sent.
pub(super) fn revealed(section: &Section, key: &str) -> Vec<(String, String)> {
    section.map_str(key).iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect()
}
