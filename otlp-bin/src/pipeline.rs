//! A whole pipeline inside a program of your own: receivers, chain, exporters, threads and books.
//!
//! # What it does
//!
//! [`Pipeline::builder`] puts one together from components, ours and your own; [`Pipeline::start`] starts what a
//! configuration asked for (`registry::build`), which is how `otlpd` itself runs. Either way it is a value like any other:
//! several may run side by side, and the process has nothing of them but their threads.
//!
//! # Place in the pipeline
//!
//! It is one. What comes before it are your receivers, or your own code by [`Pipeline::outlet`]; what comes after it are
//! exporters, or another pipeline by [`Builder::connector`].
//!
//! # Threads
//!
//! `rx-N` of the `otlp` receivers, `proc-N` for each signal (and each gate), `tx-N` of the exporters' queues, each with the
//! prefix you give; a rayon pool only where you give one or ask for one. Nothing is installed in the process: the
//! allocator, the logger, signal handlers and the TLS provider are yours. The last stands in the `tls` of a receiver or an
//! exporter (`crypto_provider`), or is what you have installed; where there is neither, ring is used.
//!
//! # Limits
//!
//! Each gate and queue has its own. Receivers of ours take their memory from one budget, 160 MiB unless you give another.
//!
//! # On failure
//!
//! What cannot be started is named, and what had been started is stopped again. After that nothing fails as a whole: see
//! [`Pipeline::unhealthy`] and [`Pipeline::summary`].
//!
//! # On shutdown
//!
//! As [`Service::shutdown`]: receivers first, then stages in the order of the flow, then exporters until the deadline. The
//! summary says what became of every item. Dropping it does the same, with [`Builder::drop_timeout`] to do it in, and logs
//! what was lost: an error, since nobody else can hear of it then.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use otlp_core::component::{Exporter, Health, Outlet, Outlets, Processor, Receiver, StartError};
use otlp_core::flow::{MemoryBudget, WhenFull};
use otlp_core::telemetry::Registry;
use otlp_core::{AckMode, ByteSize, Clock, Deadline, Signal};
use otlp_export::{Destination, Settings, Threads, file, otlp_grpc, otlp_http};
use otlp_process::merge::{self, Merged};
use otlp_process::{batch, closure};
use otlp_receive::{Config as OtlpConfig, Env, OtlpReceiver};
use parking_lot::Mutex;

use crate::registry::{self, ThreadSettings};
use crate::service::{InletSpec, PipelineSpec, Service, ServiceBuilder, StartFailure, Summary};

/// What receivers of ours may hold in memory where nothing else is said.
const BUDGET: ByteSize = ByteSize::mib(160);

/// The inlet behind lanes where nothing else is said: small, since what waits in it has had its turn.
const INLET_BEHIND_LANES: InletSpec = InletSpec { capacity: 16, when_full: WhenFull::Block, rate: None };

/// How long dropping may take where nothing else is said.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// What components are given beside their own settings.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The component's id in this pipeline.
    pub id: &'a str,
    /// The pipeline's own metrics.
    pub registry: &'a Registry,
    /// The time.
    pub clock: &'a Clock,
    /// What bodies are taken from.
    pub budget: &'a MemoryBudget,
    /// How threads are made, and how many.
    pub threads: &'a ThreadSettings,
    /// How the threads of exporters are made; numbers them together.
    pub sending: &'a Threads,
    /// What OK means to a sender, for each signal by its index.
    pub acknowledge: [AckMode; 3],
}

impl Parts<'_> {
    /// The settings of a destination that sends by this exporter, all others as they are by default.
    pub fn settings(&self, signal: Signal, exporter: impl Exporter + 'static) -> Settings {
        Settings {
            clock: self.clock.clone(),
            registry: self.registry.clone(),
            threads: self.sending.clone(),
            ..Settings::new(self.id, signal, Arc::new(exporter))
        }
    }

    /// What an `otlp` receiver is given.
    pub fn receiver_env(&self) -> Env {
        Env {
            budget: self.budget.clone(),
            registry: self.registry.clone(),
            clock: self.clock.clone(),
            threads: self.threads.receive,
            thread_options: self.threads.options,
            ack_mode: self.acknowledge,
            ..Env::default()
        }
    }
}

type Made<T> = Result<T, String>;
/// With their ids, in order.
type Processors = Vec<(String, Box<dyn Processor>)>;
type MakeReceiver = Box<dyn FnOnce(&Parts<'_>) -> Made<Box<dyn Receiver>>>;
type MakeProcessor = Box<dyn FnMut(&Parts<'_>, Signal) -> Made<Box<dyn Processor>>>;
type MakeExporter = Box<dyn FnMut(&Parts<'_>, Signal) -> Made<Settings>>;

enum Link {
    Processor(String, MakeProcessor),
    Gate(InletSpec),
}

enum Exit {
    Exporter(MakeExporter),
    Connector(Arc<dyn Outlet>),
}

/// A pipeline before it is started. Made by [`Pipeline::builder`].
///
/// Components are given as functions that make them, since they are made once the rest is known: a receiver once,
/// processors and exporters once for each signal. What follows [`Builder::gate`] runs on a thread of its own.
#[must_use = "a pipeline does nothing before it is started"]
pub struct Builder {
    name: String,
    signals: Vec<Signal>,
    receivers: Vec<(String, MakeReceiver)>,
    /// The `otlp` receivers among them, to be asked for their addresses.
    otlp: BTreeMap<String, Arc<Mutex<OtlpReceiver>>>,
    links: Vec<Link>,
    exits: Vec<(String, Exit)>,
    inlet: Option<InletSpec>,
    max_concurrent: usize,
    interleave: Option<merge::Options>,
    acknowledge: Option<AckMode>,
    budget: Option<MemoryBudget>,
    registry: Registry,
    clock: Clock,
    threads: ThreadSettings,
    pool: Option<Arc<rayon::ThreadPool>>,
    drop_timeout: Duration,
}

/// A running pipeline.
///
/// # Examples
///
/// From your own code, through a filter, to a file:
///
/// ```
/// use std::time::{Duration, Instant};
/// use otlp_bin::Pipeline;
/// use otlp_core::{Batch, Deadline, Signal, wire::Limits};
/// use otlp_export::file;
///
/// let path = std::env::temp_dir().join(format!("otlpd-doc-{}.jsonl", std::process::id()));
/// let mut pipeline = Pipeline::builder("own")
///     .signals([Signal::Traces])
///     .filter("named", |item| !item.name().is_empty())
///     .file("file", file::Config::new(&path))
///     .start()?;
///
/// // One span named "get".
/// let body: &[u8] = &[0x0a, 9, 0x12, 7, 0x12, 5, 0x2a, 3, b'g', b'e', b't'];
/// let (batch, _) = Batch::check(Signal::Traces, body.into(), &Limits::default())?;
/// pipeline.outlet(Signal::Traces).unwrap().try_send(batch).unwrap();
///
/// let summary = pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_secs(10)));
/// assert!(summary.balances() && !summary.has_loss());
/// assert_eq!(summary.row("traces/own", "file").unwrap().exported.get(), 1);
/// assert!(std::fs::read_to_string(&path)?.contains("\"get\""));
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipeline {
    service: Service,
    name: String,
    otlp: BTreeMap<String, Arc<Mutex<OtlpReceiver>>>,
    clock: Clock,
    drop_timeout: Duration,
    stopped: bool,
}

impl Pipeline {
    /// Begins to put one together. The name is part of what it is called in its books: `traces/name` and so on.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            signals: Signal::ALL.to_vec(),
            receivers: Vec::new(),
            otlp: BTreeMap::new(),
            links: Vec::new(),
            exits: Vec::new(),
            inlet: None,
            max_concurrent: 0,
            interleave: None,
            acknowledge: None,
            budget: None,
            registry: Registry::new(),
            clock: Clock::system(),
            threads: ThreadSettings { process: 1, ..ThreadSettings::default() },
            pool: None,
            drop_timeout: DROP_TIMEOUT,
        }
    }

    /// Starts what was put together elsewhere: by the registry from a configuration.
    ///
    /// # Errors
    ///
    /// As [`ServiceBuilder::start`].
    pub fn start(service: ServiceBuilder) -> Result<Pipeline, StartFailure> {
        Pipeline::named(service, String::new(), BTreeMap::new(), DROP_TIMEOUT)
    }

    fn named(
        service: ServiceBuilder,
        name: String,
        otlp: BTreeMap<String, Arc<Mutex<OtlpReceiver>>>,
        drop_timeout: Duration,
    ) -> Result<Pipeline, StartFailure> {
        let clock = service.clock.clone();
        Ok(Pipeline { service: service.start()?, name, otlp, clock, drop_timeout, stopped: false })
    }

    /// Where your own code hands batches over, where one was built for that signal. Never blocks; see
    /// [`InletSpec::when_full`].
    pub fn outlet(&self, signal: Signal) -> Option<Arc<dyn Outlet>> {
        let id = part_id(signal, &self.name, 0);
        let found = self.service.inlets().find(|(pipeline, _)| *pipeline == id);
        found.map(|(_, outlet)| Arc::clone(outlet) as Arc<dyn Outlet>)
    }

    /// Where the `otlp` receiver of that id takes OTLP/HTTP: for port 0.
    pub fn http_addr(&self, receiver: &str) -> Option<SocketAddr> {
        self.otlp.get(receiver)?.lock().http_addr()
    }

    /// Where the `otlp` receiver of that id takes OTLP/gRPC: for port 0.
    pub fn grpc_addr(&self, receiver: &str) -> Option<SocketAddr> {
        self.otlp.get(receiver)?.lock().grpc_addr()
    }

    /// What has become of every item so far.
    pub fn summary(&self) -> Summary {
        self.service.summary()
    }

    /// Every component that does not work now, and why.
    pub fn unhealthy(&self) -> Vec<String> {
        self.service.unhealthy()
    }

    /// Its parts: books, gates and destinations.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Stops it and says what became of every item. Returns by the deadline; safe twice.
    pub fn shutdown(&mut self, deadline: Deadline) -> Summary {
        self.stopped = true;
        self.service.shutdown(deadline)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        let summary = self.shutdown(Deadline::after(self.clock.now(), self.drop_timeout));
        if summary.has_loss() {
            log::error!("a pipeline was dropped and lost data: {summary:?}");
        }
    }
}

impl Builder {
    /// The signals it carries, one at least. Default: all of them. Each has its own thread and books.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Builder {
        self.signals = signals.into_iter().collect();
        self.signals.sort_by_key(|signal| signal.index());
        self.signals.dedup();
        self
    }

    /// A receiver of any kind.
    pub fn receiver<R: Receiver + 'static>(
        mut self,
        id: impl Into<String>,
        make: impl FnOnce(&Parts<'_>) -> R + 'static,
    ) -> Builder {
        self.receivers.push((id.into(), Box::new(|parts| Ok(Box::new(make(parts))))));
        self
    }

    /// Our receiver of OTLP over HTTP and gRPC. With port 0 [`Pipeline::http_addr`] tells which it got.
    pub fn otlp(mut self, id: impl Into<String>, config: OtlpConfig) -> Builder {
        let id = id.into();
        let make = {
            let id = id.clone();
            move |parts: &Parts<'_>| OtlpReceiver::new(id, config, parts.receiver_env())
        };
        // Made when it is started; until then there is one that nobody starts.
        let slot = Arc::new(Mutex::new(OtlpReceiver::new(id.clone(), OtlpConfig::default(), Env::default())));
        self.otlp.insert(id.clone(), Arc::clone(&slot));
        self.receiver(id, move |parts| {
            *slot.lock() = make(parts);
            Shared(slot)
        })
    }

    /// A processor of any kind, behind those given before.
    pub fn processor<P: Processor + 'static>(
        self,
        id: impl Into<String>,
        mut make: impl FnMut(&Parts<'_>, Signal) -> P + 'static,
    ) -> Builder {
        self.try_processor(id, move |parts, signal| Ok::<_, StartError>(make(parts, signal)))
    }

    /// The same where making it may fail: its settings may be wrong.
    pub fn try_processor<P: Processor + 'static, E: fmt::Display>(
        mut self,
        id: impl Into<String>,
        mut make: impl FnMut(&Parts<'_>, Signal) -> Result<P, E> + 'static,
    ) -> Builder {
        let make = move |parts: &Parts<'_>, signal| match make(parts, signal) {
            Ok(processor) => Ok(Box::new(processor) as Box<dyn Processor>),
            Err(error) => Err(error.to_string()),
        };
        self.links.push(Link::Processor(id.into(), Box::new(make)));
        self
    }

    /// Keeps the items for which `keep` says so; see [`closure::filter`].
    pub fn filter(
        self,
        id: impl Into<String>,
        keep: impl Fn(closure::Item<'_>) -> bool + Send + Sync + 'static,
    ) -> Builder {
        let filter = closure::filter(keep);
        self.processor(id, move |_, _| filter.clone())
    }

    /// Changes every item; see [`closure::map`].
    pub fn map(
        self,
        id: impl Into<String>,
        change: impl Fn(&mut closure::ItemMut<'_, '_>) + Send + Sync + 'static,
    ) -> Builder {
        let map = closure::map(change);
        self.processor(id, move |_, _| map.clone())
    }

    /// Lets small batches leave together; see [`batch`](mod@otlp_process::batch).
    pub fn batch(self, id: impl Into<String>, config: batch::Config) -> Builder {
        self.try_processor(id, move |parts, _| batch::BatchProcessor::new(parts.id, config.clone(), parts.registry))
    }

    /// A gate before what comes next, which runs on a thread of its own: so many batches are behind it at once, and what
    /// happens to one more is its policy. With [`WhenFull::Block`] what is before it
    /// waits for a permit.
    pub fn gate(mut self, gate: InletSpec) -> Builder {
        self.links.push(Link::Gate(gate));
        self
    }

    /// An exporter of any kind, with its queue, retries and the rest: start from [`Parts::settings`].
    pub fn exporter(
        self,
        id: impl Into<String>,
        mut make: impl FnMut(&Parts<'_>, Signal) -> Settings + 'static,
    ) -> Builder {
        self.try_exporter(id, move |parts, signal| Ok::<_, StartError>(make(parts, signal)))
    }

    /// The same where making it may fail: its settings may be wrong.
    pub fn try_exporter<E: fmt::Display>(
        mut self,
        id: impl Into<String>,
        mut make: impl FnMut(&Parts<'_>, Signal) -> Result<Settings, E> + 'static,
    ) -> Builder {
        let make = move |parts: &Parts<'_>, signal| make(parts, signal).map_err(|error| error.to_string());
        self.exits.push((id.into(), Exit::Exporter(Box::new(make))));
        self
    }

    /// Exports OTLP over HTTP, with the queue and the retries of its configuration.
    pub fn otlp_http(self, id: impl Into<String>, config: otlp_http::Config) -> Builder {
        self.try_exporter(id, move |parts, signal| {
            let (clock, registry) = (parts.clock.clone(), parts.registry);
            let exporter = otlp_http::OtlpHttp::new(parts.id, &config, signal, clock, registry)?;
            Ok::<_, otlp_export::ConfigError>(Settings {
                queue: config.sending_queue.clone(),
                retry: config.retry_on_failure.clone(),
                timeout: Some(config.timeout),
                ..parts.settings(signal, exporter)
            })
        })
    }

    /// Exports OTLP over gRPC, with the queue and the retries of its configuration.
    pub fn otlp_grpc(self, id: impl Into<String>, config: otlp_grpc::Config) -> Builder {
        self.try_exporter(id, move |parts, signal| {
            let (threads, clock, registry) = (parts.threads.options, parts.clock.clone(), parts.registry);
            let exporter = otlp_grpc::OtlpGrpc::new(parts.id, &config, signal, threads, clock, registry)?;
            Ok::<_, otlp_export::ConfigError>(Settings {
                queue: config.sending_queue.clone(),
                retry: config.retry_on_failure.clone(),
                timeout: Some(config.timeout),
                ..parts.settings(signal, exporter)
            })
        })
    }

    /// Writes to a file, all signals to the same one. Whoever hands over waits for the write.
    pub fn file(self, id: impl Into<String>, config: file::Config) -> Builder {
        let mut first: Option<file::FileExporter> = None;
        self.try_exporter(id, move |parts, signal| {
            let exporter = match &first {
                Some(first) => first.share(),
                None => {
                    let clock = parts.clock.clone();
                    let made = file::FileExporter::new(parts.id, &config, clock, parts.registry)?;
                    let share = made.share();
                    first = Some(share);
                    made
                }
            };
            Ok::<_, otlp_export::ConfigError>(Settings {
                queue: otlp_export::queue::Config::disabled(),
                retry: otlp_export::retry::Config::disabled(),
                ..parts.settings(signal, exporter)
            })
        })
    }

    /// Hands what comes out to another outlet: that of another pipeline, or a
    /// [`partition`](fn@otlp_process::closure::partition) before two. What the sender was promised is inherited.
    pub fn connector(mut self, id: impl Into<String>, outlet: Arc<dyn Outlet>) -> Builder {
        self.exits.push((id.into(), Exit::Connector(outlet)));
        self
    }

    /// The gate before the first processor: batches that wait, what happens beyond, how much passes in a time.
    pub fn inlet(mut self, inlet: InletSpec) -> Builder {
        self.inlet = Some(inlet);
        self
    }

    /// Batches in processing at once. Default 0: as many as the pool has threads.
    pub fn max_concurrent(mut self, batches: usize) -> Builder {
        self.max_concurrent = batches;
        self
    }

    /// Gives each receiver a lane, and lets the lanes take turns; see [`merge`](mod@otlp_process::merge). Default: whoever
    /// comes first is first. Unless you say otherwise the inlet behind the lanes holds 16 batches and blocks, so that what
    /// there is no room for waits in, and is refused by, its own lane.
    pub fn interleave(mut self, options: merge::Options) -> Builder {
        self.interleave = Some(options);
        self
    }

    /// What OK means to a sender. Default: `exported` where every exporter waits for the result or has no queue, else
    /// `queued`. The `acknowledge` of an `otlp` receiver's configuration goes before.
    pub fn acknowledge(mut self, mode: AckMode) -> Builder {
        self.acknowledge = Some(mode);
        self
    }

    /// What received bodies are taken from. Default 160 MiB of its own; a clone of another's is shared with it.
    pub fn memory_budget(mut self, budget: MemoryBudget) -> Builder {
        self.budget = Some(budget);
        self
    }

    /// Where it is counted. Default: a registry of its own.
    pub fn registry(mut self, registry: Registry) -> Builder {
        self.registry = registry;
        self
    }

    /// What the time is. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Builder {
        self.clock = clock;
        self
    }

    /// Threads: how many receive and process, their stack, the prefix of their names. Default: one receives for each
    /// `otlp` receiver, and no pool processes.
    pub fn threads(mut self, threads: ThreadSettings) -> Builder {
        self.threads = threads;
        self
    }

    /// The rayon pool of your own for whole batches where several wait. Default: none, or one of its own where
    /// [`ThreadSettings::process`] is more than 1.
    pub fn pool(mut self, pool: Arc<rayon::ThreadPool>) -> Builder {
        self.pool = Some(pool);
        self
    }

    /// How long dropping the pipeline may take where it was not shut down before. Default 5 s.
    pub fn drop_timeout(mut self, timeout: Duration) -> Builder {
        self.drop_timeout = timeout;
        self
    }

    /// Makes the components and starts them, from the exporters backwards.
    ///
    /// # Errors
    ///
    /// Names the component that cannot be made or started.
    pub fn start(mut self) -> Result<Pipeline, StartFailure> {
        let (name, otlp) = (std::mem::take(&mut self.name), std::mem::take(&mut self.otlp));
        let drop_timeout = self.drop_timeout;
        Pipeline::named(self.build(&name)?, name, otlp, drop_timeout)
    }

    /// What the service is made of: one spec for each signal and each part between gates.
    fn build(self, name: &str) -> Result<ServiceBuilder, StartFailure> {
        let budget = self.budget.unwrap_or_else(|| MemoryBudget::new(BUDGET));
        let sending = Threads::new(self.threads.options, self.threads.idle);
        let mut parts = Parts {
            id: "",
            registry: &self.registry,
            clock: &self.clock,
            budget: &budget,
            threads: &self.threads,
            sending: &sending,
            acknowledge: [AckMode::Queued; 3],
        };
        if self.signals.is_empty() {
            return Err(failure("pipeline", name, "it carries no signal".to_owned()));
        }
        if self.exits.is_empty() {
            return Err(failure("pipeline", name, "it has no exporter and no connector".to_owned()));
        }
        let mut service = ServiceBuilder {
            registry: self.registry.clone(),
            clock: self.clock.clone(),
            threads: self.threads.options,
            budget: Some(budget.clone()),
            pool: self.pool.or_else(|| registry::pool(&self.threads)),
            ..ServiceBuilder::default()
        };

        let exits: Vec<String> = self.exits.iter().map(|(id, _)| id.clone()).collect();
        // Where the sender may be answered once the data is exported, without ever waiting for a queue to empty.
        let mut waits_for_all = true;
        for (id, mut exit) in self.exits {
            for &signal in &self.signals {
                let destination = match &mut exit {
                    Exit::Exporter(make) => {
                        let settings = make(&Parts { id: &id, ..parts }, signal)
                            .map_err(|message| failure("exporter", &id, message))?;
                        waits_for_all &= !settings.queue.enabled || settings.queue.wait_for_result;
                        Destination::new(settings)
                    }
                    Exit::Connector(outlet) => {
                        waits_for_all = false;
                        let (clock, registry) = (self.clock.clone(), self.registry.clone());
                        Destination::connector(id.clone(), signal, Arc::clone(outlet), clock, registry)
                    }
                };
                if service.destinations.insert((id.clone(), signal), destination).is_some() {
                    return Err(failure("exporter", &id, "there are two of that id".to_owned()));
                }
            }
        }
        let default = if waits_for_all { AckMode::Exported } else { AckMode::Queued };
        parts.acknowledge = [self.acknowledge.unwrap_or(default); 3];

        let mut chains: Vec<(InletSpec, Vec<Processors>)> = Vec::new();
        let empty = || self.signals.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        let inlet = self.inlet.unwrap_or_else(|| match self.interleave {
            Some(_) => INLET_BEHIND_LANES,
            None => InletSpec::default(),
        });
        chains.push((inlet, empty()));
        for link in self.links {
            match link {
                Link::Gate(inlet) => chains.push((inlet, empty())),
                Link::Processor(id, mut make) => {
                    for (index, &signal) in self.signals.iter().enumerate() {
                        let made = make(&Parts { id: &id, ..parts }, signal)
                            .map_err(|message| failure("processor", &id, message))?;
                        if let Some((_, chains)) = chains.last_mut() {
                            chains[index].push((id.clone(), made));
                        }
                    }
                }
            }
        }

        let mut receivers: Vec<(String, Box<dyn Receiver>)> = Vec::new();
        for (id, make) in self.receivers {
            if receivers.iter().any(|(other, _)| *other == id) {
                return Err(failure("receiver", &id, "there are two of that id".to_owned()));
            }
            let made = make(&Parts { id: &id, ..parts }).map_err(|message| failure("receiver", &id, message))?;
            receivers.push((id, made));
        }
        if let Some(options) = self.interleave {
            let options = merge::Options { thread: self.threads.options, ..options };
            receivers = vec![("merge".to_owned(), Box::new(Merged::new(receivers, options)))];
        }

        let last = chains.len() - 1;
        for (number, (inlet, processors)) in chains.into_iter().enumerate() {
            if number > 0 {
                service.connectors.insert(gate_id(number));
            }
            for (&signal, processors) in self.signals.iter().zip(processors) {
                service.pipelines.push(PipelineSpec {
                    id: part_id(signal, name, number),
                    signal,
                    receivers: match number {
                        0 => receivers.iter().map(|(id, _)| id.clone()).collect(),
                        _ => vec![gate_id(number)],
                    },
                    processors,
                    exporters: if number == last { exits.clone() } else { vec![gate_id(number + 1)] },
                    inlet: inlet.clone(),
                    max_concurrent: self.max_concurrent,
                });
            }
        }
        service.receivers = receivers;
        Ok(service)
    }
}

/// The connector before the part of that number.
fn gate_id(number: usize) -> String {
    format!("gate-{number}")
}

/// The books of one signal: `traces/name`, and behind gates `traces/name:1` and so on.
fn part_id(signal: Signal, name: &str, number: usize) -> String {
    match number {
        0 => format!("{signal}/{name}"),
        _ => format!("{signal}/{name}:{number}"),
    }
}

fn failure(role: &str, id: &str, message: String) -> StartFailure {
    StartFailure { component: format!("{role} {id}"), error: StartError { message, source: None } }
}

/// An `otlp` receiver that can be asked for its addresses while it runs.
struct Shared(Arc<Mutex<OtlpReceiver>>);

impl Receiver for Shared {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        self.0.lock().start(outlets)
    }

    fn shutdown(&mut self, deadline: Deadline) {
        self.0.lock().shutdown(deadline);
    }

    fn health(&self) -> Health {
        self.0.lock().health()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("signals", &self.signals).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name).field("service", &self.service).finish_non_exhaustive()
    }
}
