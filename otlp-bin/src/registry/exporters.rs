//! Exporters by name, each as a destination with its queue, retry schedule and account.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;

use otlp_core::codec::Coding;
use otlp_core::component::Exporter;
use otlp_core::flow::WhenFull;
use otlp_core::{ByteSize, Clock, Signal};
use otlp_export::debug::{self, Debug, Output, Verbosity};
use otlp_export::file::{self, FileExporter, Format, Rotation};
use otlp_export::otlp_grpc::{self, Balancer, Keepalive, OtlpGrpc};
use otlp_export::otlp_http::{self, Encoding, Headers, OtlpHttp};
use otlp_export::queue::{self, Sizer};
use otlp_export::tls::{self, Version};
use otlp_export::{Destination, Settings, Threads, retry};
use parking_lot::Mutex;

use super::extensions::Extensions;
use super::receivers::revealed;
use super::{Environment, Made, not_built, rate_limit, when_full};
use crate::config::{ConfiguredComponent, Section, supported_curves};

/// The open file exporters by id.
pub(super) type Files = HashMap<String, FileExporter>;

/// Makes the destination of one signal.
pub(super) fn destination(
    component: &ConfiguredComponent,
    signal: Signal,
    environment: &Environment,
    threads: &Threads,
    extensions: &Extensions<'_>,
    files: &mut Files,
) -> Made<Arc<Destination>> {
    let section = &component.section;
    let id = component.id.to_string();
    let (exporter, retry, timeout): (Arc<dyn Exporter>, _, _) = match component.component.name {
        "otlp_http" => {
            let config = otlp_http_config(section, extensions)?;
            let retry = config.retry_on_failure.clone();
            let exporter = OtlpHttp::new(&id, &config, signal, environment.clock.clone(), &environment.registry)
                .map_err(|error| section.error_at(&error.key, error.message))?;
            (Arc::new(exporter), retry, Some(section.duration("timeout")))
        }
        "otlp_grpc" => {
            let config = otlp_grpc_config(section, extensions)?;
            let retry = config.retry_on_failure.clone();
            let (clock, options) = (environment.clock.clone(), threads.options);
            let exporter = OtlpGrpc::new(&id, &config, signal, options, clock, &environment.registry)
                .map_err(|error| section.error_at(&error.key, error.message))?;
            (Arc::new(exporter), retry, Some(section.duration("timeout")))
        }
        "debug" => (Arc::new(debug_exporter(&id, section, &environment.clock)?), retry::Config::disabled(), None),
        "file" => (Arc::new(file_exporter(&id, section, environment, files)?), retry::Config::disabled(), None),
        other => return Err(not_built(section, "", &format!("the exporter {other}"))),
    };
    let queue = match component.component.name {
        // Its table has no queue: whoever sends waits for the write.
        "file" => queue::Config::disabled(),
        _ => sending_queue(section)?,
    };
    Ok(Destination::new(Settings {
        queue,
        retry,
        timeout,
        when_full: policy(section),
        rate_limit: section.sub("rate_limit").map(|rate| rate_limit(&rate)),
        clock: environment.clock.clone(),
        registry: environment.registry.clone(),
        threads: threads.clone(),
        ..Settings::new(id, signal, exporter)
    }))
}

fn policy(section: &Section) -> Option<WhenFull> {
    when_full(section.str("when_full"))
}

/// The settings of an `otlp_http` exporter.
pub(super) fn otlp_http_config(section: &Section, extensions: &Extensions<'_>) -> Made<otlp_http::Config> {
    if section.sub("cookies").is_some() {
        return Err(not_built(section, "cookies", "cookies of otlp_http"));
    }
    if let Some(middleware) = section.list("middlewares").first() {
        return Err(not_built(middleware, "id", "a middleware"));
    }
    let config = otlp_http::Config {
        endpoint: section.str("endpoint").to_owned(),
        traces_endpoint: section.str("traces_endpoint").to_owned(),
        metrics_endpoint: section.str("metrics_endpoint").to_owned(),
        logs_endpoint: section.str("logs_endpoint").to_owned(),
        encoding: if section.str("encoding") == "json" { Encoding::Json } else { Encoding::Proto },
        timeout: section.duration("timeout"),
        compression: Coding::from_config(section.str("compression")).unwrap_or(Coding::Identity),
        compression_level: section
            .sub("compression_params")
            .map_or(0, |params| i32::try_from(params.i64("level")).unwrap_or(i32::MAX)),
        tls: tls_config(section)?,
        headers: Headers(revealed(section, "headers")),
        auth: extensions.client(section)?,
        proxy_url: section.str("proxy_url").to_owned(),
        max_idle_conns_per_host: usize::try_from(section.u64("max_idle_conns_per_host")).unwrap_or(usize::MAX),
        idle_conn_timeout: section.duration("idle_conn_timeout"),
        disable_keep_alives: section.bool("disable_keep_alives"),
        user_agent: String::new(),
        sending_queue: sending_queue(section)?,
        retry_on_failure: retry_on_failure(section),
    };
    config.check().map_err(|error| section.error_at(&error.key, error.message))?;
    match config.unbuilt() {
        Some(key) => Err(not_built(section, key, key)),
        None => Ok(config),
    }
}

/// The settings of an `otlp_grpc` exporter.
pub(super) fn otlp_grpc_config(section: &Section, extensions: &Extensions<'_>) -> Made<otlp_grpc::Config> {
    if let Some(middleware) = section.list("middlewares").first() {
        return Err(not_built(middleware, "id", "a middleware"));
    }
    let config = otlp_grpc::Config {
        endpoint: section.str("endpoint").to_owned(),
        compression: Coding::from_config(section.str("compression")).unwrap_or(Coding::Identity),
        tls: tls_config(section)?,
        keepalive: section.sub("keepalive").map_or_else(Keepalive::default, |keepalive| Keepalive {
            time: keepalive.duration("time"),
            timeout: keepalive.duration("timeout"),
            permit_without_stream: keepalive.bool("permit_without_stream"),
        }),
        headers: Headers(revealed(section, "headers")),
        auth: extensions.client(section)?,
        user_agent: section.str("user_agent").to_owned(),
        balancer_name: Balancer::from_name(section.str("balancer_name")).unwrap_or_default(),
        authority: section.str("authority").to_owned(),
        wait_for_ready: section.bool("wait_for_ready"),
        timeout: section.duration("timeout"),
        sending_queue: sending_queue(section)?,
        retry_on_failure: retry_on_failure(section),
    };
    config.check().map_err(|error| section.error_at(&error.key, error.message))?;
    match config.unbuilt() {
        Some(key) => Err(not_built(section, key, key)),
        None => Ok(config),
    }
}

/// The `tls` section of an exporter.
fn tls_config(exporter: &Section) -> Made<tls::Config> {
    let Some(section) = exporter.sub("tls") else { return Ok(tls::Config::default()) };
    if section.sub("tpm").is_some_and(|tpm| tpm.bool("enabled")) {
        return Err(not_built(&section, "tpm", "a key in a TPM"));
    }
    let text = |key: &str| Some(section.str(key).to_owned()).filter(|text| !text.is_empty());
    let secret = |key: &str| Some(section.secret(key).reveal().to_owned()).filter(|text| !text.is_empty());
    let version = |key: &str| text(key).map(|value| Version::from_config(&value)).transpose();
    let version = |key: &str| version(key).map_err(|message| section.error_at(key, message));
    Ok(tls::Config {
        insecure: section.bool("insecure"),
        insecure_skip_verify: section.bool("insecure_skip_verify"),
        server_name_override: section.str("server_name_override").to_owned(),
        ca_file: text("ca_file").map(PathBuf::from),
        ca_pem: secret("ca_pem"),
        include_system_ca_certs_pool: section.bool("include_system_ca_certs_pool"),
        cert_file: text("cert_file").map(PathBuf::from),
        cert_pem: secret("cert_pem"),
        key_file: text("key_file").map(PathBuf::from),
        key_pem: secret("key_pem"),
        min_version: version("min_version")?.unwrap_or_default(),
        max_version: version("max_version")?,
        cipher_suites: section.list_str("cipher_suites").to_vec(),
        curve_preferences: supported_curves(&section),
        reload_interval: section.duration("reload_interval"),
        crypto_provider: None,
    })
}

fn debug_exporter(id: &str, section: &Section, clock: &Clock) -> Made<Debug> {
    let config = debug::Config {
        verbosity: Verbosity::from_name(section.str("verbosity")).unwrap_or_default(),
        sampling_initial: section.u64("sampling_initial"),
        sampling_thereafter: section.u64("sampling_thereafter"),
        use_internal_logger: section.bool("use_internal_logger"),
        output_paths: if section.given("output_paths") {
            section.list_str("output_paths").to_vec()
        } else {
            vec!["stdout".into()]
        },
        ..debug::Config::default()
    };
    config.check().map_err(|error| section.error_at(&error.key, error.message))?;
    let output = if config.use_internal_logger { Output::Logger } else { writer(section, &config.output_paths)? };
    Ok(Debug::new(id, &config, output, clock.clone()))
}

/// A share in the file of that exporter, which the first of its signals opens.
fn file_exporter(id: &str, section: &Section, environment: &Environment, files: &mut Files) -> Made<FileExporter> {
    if let Some(open) = files.get(id) {
        return Ok(open.share());
    }
    if section.id("encoding").is_some() {
        return Err(not_built(section, "encoding", "encoding of file"));
    }
    if section.sub("group_by").is_some_and(|group| group.bool("enabled")) {
        return Err(not_built(section, "group_by", "group_by of file"));
    }
    let rotation = section.sub("rotation");
    if let Some(rotation) = rotation.as_ref().filter(|rotation| rotation.bool("localtime")) {
        return Err(not_built(rotation, "localtime", "localtime of rotation"));
    }
    let config = file::Config {
        format: if section.str("format") == "proto" { Format::Proto } else { Format::Json },
        append: section.bool("append"),
        compression: Coding::from_config(section.str("compression")).unwrap_or(Coding::Identity),
        compression_level: section
            .sub("compression_params")
            .map_or(0, |params| i32::try_from(params.i64("level")).unwrap_or(i32::MAX)),
        flush_interval: section.duration("flush_interval"),
        rotation: rotation.map(|rotation| Rotation {
            max_megabytes: rotation.u64("max_megabytes"),
            max_days: rotation.u64("max_days"),
            max_backups: rotation.usize("max_backups"),
        }),
        create_directory: section.bool("create_directory"),
        directory_permissions: u32::from_str_radix(section.str("directory_permissions"), 8).unwrap_or(0o755),
        ..file::Config::new(section.str("path"))
    };
    let exporter = FileExporter::new(id, &config, environment.clock.clone(), &environment.registry)
        .map_err(|error| section.error_at(&error.key, error.message))?;
    let share = exporter.share();
    files.insert(id.to_owned(), exporter);
    Ok(share)
}

fn writer(section: &Section, paths: &[String]) -> Made<Output> {
    let [path] = paths else { return Err(not_built(section, "output_paths", "more than one output path")) };
    Ok(match path.as_str() {
        "stdout" => Output::stdout(),
        "stderr" => Output::Writer(Arc::new(Mutex::new(std::io::stderr()))),
        path => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file =
                file.map_err(|error| section.error_at("output_paths", format!("cannot open {path}: {error}")))?;
            Output::Writer(Arc::new(Mutex::new(file)))
        }
    })
}

/// The `sending_queue` section of an exporter; none is no queue.
fn sending_queue(exporter: &Section) -> Made<queue::Config> {
    let Some(section) = exporter.sub("sending_queue") else { return Ok(queue::Config::disabled()) };
    let sizer = |name: &str| match name {
        "items" => Sizer::Items,
        "bytes" => Sizer::Bytes,
        _ => Sizer::Requests,
    };
    let config = queue::Config {
        enabled: true,
        num_consumers: usize::try_from(section.u64("num_consumers")).unwrap_or(usize::MAX),
        queue_size: section.u64("queue_size"),
        sizer: sizer(section.str("sizer")),
        memory_max: match (section.given("memory_mib"), section.u64("memory_mib")) {
            (true, 0) => None,
            (true, mib) => Some(ByteSize(mib.saturating_mul(1 << 20))),
            // Who says how long the queue is to be means it.
            (false, _) => Some(queue::Config::MEMORY_MAX).filter(|_| !section.given("queue_size")),
        },
        block_on_overflow: section.bool("block_on_overflow"),
        wait_for_result: section.bool("wait_for_result"),
        storage: section.id("storage").map(ToString::to_string),
        batch: section.sub("batch").map(|batch| queue::Batch {
            flush_timeout: batch.duration("flush_timeout"),
            min_size: batch.u64("min_size"),
            max_size: batch.u64("max_size"),
            sizer: if batch.given("sizer") || !section.given("sizer") {
                sizer(batch.str("sizer"))
            } else {
                sizer(section.str("sizer"))
            },
            partition_metadata_keys: batch
                .sub("partition")
                .map_or_else(Vec::new, |partition| partition.list_str("metadata_keys").to_vec()),
        }),
    };
    config.check().map_err(|error| section.error_at(&error.key, error.message))?;
    match config.unbuilt() {
        Some(key) => Err(not_built(&section, key, key)),
        None => Ok(config),
    }
}

/// The `retry_on_failure` section of an exporter; none is the default.
fn retry_on_failure(exporter: &Section) -> retry::Config {
    let Some(section) = exporter.sub("retry_on_failure") else { return retry::Config::default() };
    retry::Config {
        enabled: section.bool("enabled"),
        initial_interval: section.duration("initial_interval"),
        randomization_factor: section.f64("randomization_factor"),
        multiplier: section.f64("multiplier"),
        max_interval: section.duration("max_interval"),
        max_elapsed_time: section.duration("max_elapsed_time"),
        max_attempts: u32::try_from(section.u64("max_attempts")).ok().filter(|&attempts| attempts > 0),
    }
}
