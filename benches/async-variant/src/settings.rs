//! The part of the Collector's configuration that is understood here: what `benches/configs` uses.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use otlp_bin::config::{Resolved, Role, Section};
use otlp_core::codec::Coding;
use otlp_core::{ByteSize, Signal};
use otlp_process::memory_limiter;

use crate::Problem;
use crate::limiter::MemoryLimit;

/// All of it.
pub struct Settings {
    pub http: Option<String>,
    pub grpc: Option<String>,
    pub memory_limit: Option<MemoryLimit>,
    pub pipelines: Vec<PipelineSettings>,
}

/// One pipeline with its one exporter.
pub struct PipelineSettings {
    pub id: String,
    pub signal: Signal,
    pub edits: Vec<Edit>,
    pub batch: Option<BatchSettings>,
    pub exporter: ExporterSettings,
}

/// An attributes or resource processor.
pub struct Edit {
    pub id: String,
    pub of_resource: bool,
    pub actions: Vec<Section>,
}

/// A batch processor.
#[derive(Clone, Copy)]
pub struct BatchSettings {
    pub send_batch_size: usize,
    pub timeout: Duration,
}

/// An otlp_http or otlp_grpc exporter.
#[derive(Clone)]
pub struct ExporterSettings {
    pub grpc: bool,
    pub url: String,
    pub compression: Coding,
    pub timeout: Duration,
    pub queue_size: usize,
    pub consumers: usize,
    /// The sender hears what the backend said.
    pub wait_for_result: bool,
    pub retry: Option<Retry>,
}

#[derive(Clone, Copy)]
pub struct Retry {
    pub initial: Duration,
    pub max: Duration,
    pub elapsed: Duration,
}

impl Settings {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What is configured and not built here.
    pub fn read(tree: &Resolved) -> Result<Settings, Problem> {
        let [receiver] = &tree.receivers[..] else { return Err("exactly one receiver is built here".into()) };
        if receiver.component.name != "otlp" {
            return Err(format!("the receiver {} is not built here", receiver.id).into());
        }
        let protocols = receiver.section.sub("protocols").ok_or("no protocols")?;
        let endpoint = |name: &str| protocols.sub(name).map(|of| of.str("endpoint").to_owned());
        let mut settings =
            Settings { http: endpoint("http"), grpc: endpoint("grpc"), memory_limit: None, pipelines: Vec::new() };
        for pipeline in &tree.pipelines {
            let mut edits = Vec::new();
            let mut batch = None;
            for id in &pipeline.processors {
                let processor = tree.component(Role::Processor, id).ok_or("no such processor")?;
                let section = &processor.section;
                match processor.component.name {
                    "memory_limiter" => settings.memory_limit = Some(memory_limit(section)),
                    "batch" if section.u64("send_batch_max_size") == 0 => {
                        batch = Some(BatchSettings {
                            send_batch_size: section.usize("send_batch_size"),
                            timeout: section.duration("timeout"),
                        });
                    }
                    "batch" => return Err("send_batch_max_size is not built here".into()),
                    // The order of edits and batch makes no difference to what leaves.
                    "attributes" if section.sub("include").is_none() && section.sub("exclude").is_none() => {
                        let actions = section.list("actions").to_vec();
                        edits.push(Edit { id: id.to_string(), of_resource: false, actions });
                    }
                    "resource" => {
                        let actions = section.list("attributes").to_vec();
                        edits.push(Edit { id: id.to_string(), of_resource: true, actions });
                    }
                    _ => return Err(format!("the processor {id} is not built here").into()),
                }
            }
            let [exporter] = &pipeline.exporters[..] else {
                return Err("exactly one exporter a pipeline is built here".into());
            };
            let exporter = tree.component(Role::Exporter, exporter).ok_or("connectors are not built here")?;
            let exporter = match exporter.component.name {
                "otlp_http" => ExporterSettings::read(&exporter.section, pipeline.signal, false)?,
                "otlp_grpc" => ExporterSettings::read(&exporter.section, pipeline.signal, true)?,
                other => return Err(format!("the exporter {other} is not built here").into()),
            };
            if settings.pipelines.iter().any(|other: &PipelineSettings| other.signal == pipeline.signal) {
                return Err("one pipeline a signal is built here".into());
            }
            let id = pipeline.id.to_string();
            settings.pipelines.push(PipelineSettings { id, signal: pipeline.signal, edits, batch, exporter });
        }
        Ok(settings)
    }
}

impl ExporterSettings {
    fn read(section: &Section, signal: Signal, grpc: bool) -> Result<ExporterSettings, Problem> {
        let endpoint = section.str("endpoint").trim_end_matches('/');
        let url = match grpc {
            true if endpoint.starts_with("http://") => endpoint.to_owned(),
            true => format!("http://{endpoint}"),
            false => format!("{endpoint}/v1/{signal}"),
        };
        if !url.starts_with("http://") {
            return Err("TLS is not built here".into());
        }
        let compression = Coding::from_config(section.str("compression")).unwrap_or(Coding::Identity);
        if !matches!(compression, Coding::Identity | Coding::Gzip | Coding::Zstd) {
            return Err(format!("the compression {compression} is not built here").into());
        }
        let queue = section.sub("sending_queue");
        let retry = section.sub("retry_on_failure").filter(|retry| retry.bool("enabled")).map(|retry| Retry {
            initial: retry.duration("initial_interval"),
            max: retry.duration("max_interval"),
            elapsed: retry.duration("max_elapsed_time"),
        });
        Ok(ExporterSettings {
            grpc,
            url,
            compression,
            timeout: section.duration("timeout"),
            queue_size: queue.as_ref().map_or(1, |queue| queue.usize("queue_size")).max(1),
            consumers: queue.as_ref().map_or(1024, |queue| queue.usize("num_consumers")).max(1),
            wait_for_result: queue.as_ref().is_none_or(|queue| queue.bool("wait_for_result")),
            retry,
        })
    }
}

fn memory_limit(section: &Section) -> MemoryLimit {
    let config = memory_limiter::Config {
        check_interval: section.duration("check_interval"),
        limit_mib: section.u32("limit_mib"),
        spike_limit_mib: section.u32("spike_limit_mib"),
        limit_percentage: section.u32("limit_percentage"),
        spike_limit_percentage: section.u32("spike_limit_percentage"),
        ..memory_limiter::Config::default()
    };
    let total = memory_limiter::total().unwrap_or(ByteSize::mib(512));
    MemoryLimit { soft: config.limits(total).soft, check_interval: config.check_interval.max(Duration::from_millis(1)) }
}

/// Binds and listens.
///
/// # Errors
///
/// Where that cannot be done.
pub fn listen(endpoint: &str) -> Result<tokio::net::TcpListener, Problem> {
    let address: SocketAddr = endpoint.to_socket_addrs()?.next().ok_or("the endpoint has no address")?;
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(tokio::net::TcpListener::from_std(socket.into())?)
}
