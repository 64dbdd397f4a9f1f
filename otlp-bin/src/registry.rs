//! The one list from component names to constructors: what a configuration names becomes a [`ServiceBuilder`].
//!
//! A component is added here with one line in its role's list and one function that turns its section into its crate's
//! `Config`. What is configured and not built yet is named with its place in the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use otlp_core::component::Processor;
use otlp_core::flow::{MemoryBudget, RateAlgorithm, RateLimit, RateUnit, WhenFull};
use otlp_core::telemetry::Registry;
use otlp_core::thread::ThreadOptions;
use otlp_core::{AckMode, ByteSize, Clock, Signal};
use otlp_export::Threads;
use otlp_process::memory_limiter;

use crate::config::{ConfiguredComponent, Diagnostic, Id, Resolved, Role, Section};
use crate::service::{InletSpec, PipelineSpec, ServiceBuilder};

mod exporters;
mod extensions;
mod processors;
mod receivers;

pub use extensions::await_token_files;

/// What components are given beside their own settings.
#[derive(Clone)]
pub struct Environment {
    /// Where everything is counted.
    pub registry: Registry,
    /// The time.
    pub clock: Clock,
    /// The process-wide memory budget.
    pub budget: MemoryBudget,
    /// `service::threads`.
    pub threads: ThreadSettings,
    /// Whether the process is well: what `GET /health` on a receiver's port tells.
    pub healthy: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Default for Environment {
    /// A registry and a budget of 160 MiB of its own, the system's clock, default threads, always well.
    fn default() -> Environment {
        Environment {
            registry: Registry::new(),
            clock: Clock::system(),
            budget: MemoryBudget::new(ByteSize::mib(160)),
            threads: ThreadSettings::default(),
            healthy: Arc::new(|| true),
        }
    }
}

/// `service::threads` with the preset and the defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadSettings {
    /// Threads that own connections, for each receiver. Default 1.
    pub receive: usize,
    /// Threads of the rayon pool. Default one a core; 1 is no pool.
    pub process: usize,
    /// Stack of every thread.
    pub options: ThreadOptions,
    /// An exporter's thread ends after this long without work. Default 10 s.
    pub idle: Duration,
}

impl Default for ThreadSettings {
    fn default() -> ThreadSettings {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ThreadSettings { receive: 1, process: cores, options: ThreadOptions::default(), idle: Duration::from_secs(10) }
    }
}

impl ThreadSettings {
    /// Reads `service::threads`.
    ///
    /// | preset | receive | process |
    /// |---|---|---|
    /// | `production`, and without one | 1 | one a core |
    /// | `high_performance` | one a core | one a core |
    /// | `low_latency` | one a core | 1: nothing waits for a pool to wake up |
    /// | `development` | 1 | 1 |
    pub fn read(threads: &Section) -> ThreadSettings {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (receive, process) = match threads.str("preset") {
            "high_performance" => (cores, cores),
            "low_latency" => (cores, 1),
            "development" => (1, 1),
            _ => (1, cores),
        };
        let or = |key: &str, default: usize| match threads.u64(key) {
            0 => default,
            count => usize::try_from(count).unwrap_or(default),
        };
        ThreadSettings {
            receive: or("receive", receive).min(cores),
            process: or("process", process),
            options: ThreadOptions::stack_kib(or("stack_kib", ThreadOptions::default().stack_kib)),
            idle: threads.duration("idle"),
        }
    }
}

/// The size of the process-wide memory budget: `service::memory_budget_mib`, else what the tightest memory_limiter that a
/// pipeline uses leaves beside `idle`, what the process holds without any load; else a share of the memory.
pub fn memory_budget(tree: &Resolved, idle: ByteSize) -> ByteSize {
    let configured = tree.service.u64("memory_budget_mib");
    if configured > 0 {
        return ByteSize::mib(configured);
    }
    let total = memory_limiter::total();
    let used = |limiter: &&ConfiguredComponent| {
        limiter.component.name == "memory_limiter"
            && tree.pipelines.iter().any(|pipeline| pipeline.processors.contains(&limiter.id))
    };
    let soft = |limiter: &ConfiguredComponent| {
        processors::memory_limiter_config(&limiter.section).limits(total.unwrap_or_default()).soft
    };
    memory_limiter::default_budget(tree.processors.iter().filter(used).map(soft).min(), idle, total)
}

/// Makes everything that the pipelines use. Nothing is bound, connected or started.
///
/// # Errors
///
/// Everything that cannot be made, each with its place: settings that only a constructor can judge, and what is not built
/// yet.
pub fn build(tree: &Resolved, environment: &Environment) -> Result<ServiceBuilder, Vec<Diagnostic>> {
    let mut errors: Vec<Diagnostic> = Vec::new();
    // An exporter is made for each signal: what is wrong with it is said once.
    let mut keep = |result: Result<(), Diagnostic>| {
        if let Err(error) = result
            && !errors.contains(&error)
        {
            errors.push(error)
        }
    };
    let mut service = ServiceBuilder {
        registry: environment.registry.clone(),
        clock: environment.clock.clone(),
        threads: environment.threads.options,
        budget: Some(environment.budget.clone()),
        pool: pool(&environment.threads),
        ..ServiceBuilder::default()
    };
    service.connectors = tree.connectors.iter().map(|connector| connector.id.to_string()).collect();

    let extensions = extensions::Extensions::new(tree, &environment.clock);
    let mut exporters: HashMap<(&Id, Signal), bool> = HashMap::new();
    // All destinations number their threads together.
    let threads = Threads::new(environment.threads.options, environment.threads.idle);
    // All signals of a file exporter write to one file.
    let mut files = exporters::Files::new();
    for pipeline in &tree.pipelines {
        for id in &pipeline.exporters {
            let Some(exporter) = tree.component(Role::Exporter, id) else { continue };
            if exporters.insert((id, pipeline.signal), true).is_some() {
                continue;
            }
            keep(
                exporters::destination(exporter, pipeline.signal, environment, &threads, &extensions, &mut files).map(
                    |destination| {
                        service.destinations.insert((id.to_string(), pipeline.signal), destination);
                    },
                ),
            );
        }
    }

    let mut limiters = BTreeMap::new();
    for pipeline in &tree.pipelines {
        let mut made: Vec<(String, Box<dyn Processor>)> = Vec::new();
        for id in &pipeline.processors {
            let Some(processor) = tree.component(Role::Processor, id) else { continue };
            keep(
                processors::processor(processor, pipeline.signal, environment, &mut limiters)
                    .map(|processor| made.push((id.to_string(), processor))),
            );
        }
        let inlet = pipeline.section.sub("inlet");
        service.pipelines.push(PipelineSpec {
            id: pipeline.id.to_string(),
            signal: pipeline.signal,
            receivers: pipeline.receivers.iter().map(Id::to_string).collect(),
            processors: made,
            exporters: pipeline.exporters.iter().map(Id::to_string).collect(),
            inlet: inlet.map_or_else(InletSpec::default, |inlet| InletSpec {
                capacity: inlet.u64("capacity"),
                when_full: when_full(inlet.str("when_full")).unwrap_or_default(),
                rate: inlet.sub("rate_limit").map(|rate| rate_limit(&rate)),
            }),
            max_concurrent: usize::try_from(pipeline.section.u64("max_concurrent")).unwrap_or(usize::MAX),
        });
    }

    for receiver in &tree.receivers {
        if tree.pipelines.iter().any(|pipeline| pipeline.receivers.contains(&receiver.id)) {
            let modes = Signal::ALL.map(|signal| ack_mode(tree, &receiver.id, signal));
            keep(
                receivers::receiver(receiver, modes, environment, &extensions)
                    .map(|made| service.receivers.push((receiver.id.to_string(), made))),
            );
        }
    }
    if errors.is_empty() { Ok(service) } else { Err(errors) }
}

/// What an OK of this receiver means where it does not say so itself: `exported` when every exporter behind it waits for
/// the result or has no queue, else `queued`.
fn ack_mode(tree: &Resolved, receiver: &Id, signal: Signal) -> AckMode {
    let mut pending = vec![receiver];
    let mut seen: Vec<&Id> = Vec::new();
    while let Some(id) = pending.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        for pipeline in
            tree.pipelines.iter().filter(|pipeline| pipeline.signal == signal && pipeline.receivers.contains(id))
        {
            for exporter in &pipeline.exporters {
                match tree.component(Role::Exporter, exporter) {
                    // Its table has no queue.
                    Some(exporter) if exporter.component.name == "file" => {}
                    Some(exporter) => match exporter.section.sub("sending_queue") {
                        Some(queue) if !queue.bool("wait_for_result") => return AckMode::Queued,
                        Some(_) | None => {}
                    },
                    None => pending.push(exporter),
                }
            }
        }
    }
    AckMode::Exported
}

/// None where one thread is all that is wanted, or where the pool cannot be made: then the pipelines' own threads do it.
pub(crate) fn pool(threads: &ThreadSettings) -> Option<Arc<rayon::ThreadPool>> {
    if threads.process <= 1 {
        return None;
    }
    let prefix = threads.options.prefix;
    let name = move |index| format!("{prefix}work-{index}");
    let mut builder = rayon::ThreadPoolBuilder::new().num_threads(threads.process).thread_name(name);
    if threads.options.stack_kib > 0 {
        builder = builder.stack_size(threads.options.stack_kib << 10);
    }
    builder.build().map(Arc::new).inspect_err(|error| log::warn!("cannot start the processing pool: {error}")).ok()
}

fn when_full(name: &str) -> Option<WhenFull> {
    match name {
        "refuse" => Some(WhenFull::Refuse),
        "block" => Some(WhenFull::Block),
        "drop_newest" => Some(WhenFull::DropNewest),
        "drop_oldest" => Some(WhenFull::DropOldest),
        _ => None,
    }
}

fn rate_limit(section: &Section) -> RateLimit {
    RateLimit {
        unit: match section.str("unit") {
            "bytes" => RateUnit::Bytes,
            "requests" => RateUnit::Requests,
            _ => RateUnit::Items,
        },
        algorithm: match section.str("algorithm") {
            "sliding_window" => RateAlgorithm::SlidingWindow,
            _ => RateAlgorithm::TokenBucket,
        },
        rate: section.u64("rate"),
        capacity: Some(section.u64("capacity")).filter(|&capacity| capacity > 0),
        window: Some(section.duration("window")).filter(|_| section.given("window")),
    }
}

/// The error for a component or a key that is read and checked, but not built.
fn not_built(section: &Section, key: &str, what: &str) -> Diagnostic {
    section.error_at(key, format!("{what} is not built yet"))
}

type Made<T> = Result<T, Diagnostic>;
