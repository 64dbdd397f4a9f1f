//! Pipelines joined into one service: receivers before them, destinations behind them, connectors between.
//!
//! # What it does
//!
//! Starts from the exporters backwards, so that whoever receives has somewhere to put it, and stops from the receivers
//! forwards, so that what was accepted drains.
//!
//! # Threads
//!
//! Those of the components. Stopping takes one more for each receiver and each destination while it lasts: they drain
//! side by side, and a dead one does not use up the others' time.
//!
//! # On shutdown
//!
//! Receivers stop and answer what is open, for at most half of the time; stages drain in the order of the flow;
//! destinations send until the deadline.
//! What is left then is dropped and counted. [`Summary`] says what became of every item.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use otlp_core::component::{Health, HealthState, Outlet, Outlets, Processor, Receiver, StartError};
use otlp_core::flow::gate::{Capacity, GateOptions};
use otlp_core::flow::{MemoryBudget, RateLimit, WhenFull};
use otlp_core::telemetry::ledger::{Ledger, Page};
use otlp_core::telemetry::{Registry, register_budget, register_gate, register_ledger};
use otlp_core::thread::ThreadOptions;
use otlp_core::{Clock, Deadline, ItemCount, Signal};
use otlp_export::{Destination, Destinations};
use otlp_process::Chain;
use otlp_process::chain::Passage;
use otlp_process::inlet::{INLET_BATCHES, PipelineOutlet, Tee};
use otlp_process::stage::{POOL_WORK_MIN, Stage, StageOptions};
use parking_lot::Mutex;

/// How long it may take to stop what was started before something could not be: nothing has come in yet.
const START_FAILED_DEADLINE: Duration = Duration::from_secs(5);

/// One pipeline before it is started.
pub struct PipelineSpec {
    /// `signal` or `signal/name`.
    pub id: String,
    /// What it carries.
    pub signal: Signal,
    /// Ids of receivers and connectors before it.
    pub receivers: Vec<String>,
    /// What is done with every batch, in order, each with its id.
    pub processors: Vec<(String, Box<dyn Processor>)>,
    /// Ids of exporters and connectors behind it.
    pub exporters: Vec<String>,
    /// The gate before it.
    pub inlet: InletSpec,
    /// Batches in processing at once; 0 is as many as the pool has threads.
    pub max_concurrent: usize,
}

/// The gate before a pipeline.
#[derive(Clone, Debug)]
pub struct InletSpec {
    /// Batches it holds. Default 1000.
    pub capacity: u64,
    /// What happens beyond. Default: refuse.
    pub when_full: WhenFull,
    /// How much it lets through in a time. Default: no limit.
    pub rate: Option<RateLimit>,
}

impl Default for InletSpec {
    fn default() -> InletSpec {
        InletSpec { capacity: INLET_BATCHES, when_full: WhenFull::Refuse, rate: None }
    }
}

/// What a service is made of, before it runs.
#[derive(Default)]
pub struct ServiceBuilder {
    /// By id, in the order in which they are started and stopped.
    pub receivers: Vec<(String, Box<dyn Receiver>)>,
    /// Ids of connectors.
    pub connectors: BTreeSet<String>,
    /// Exporters by id and signal.
    pub destinations: BTreeMap<(String, Signal), Arc<Destination>>,
    /// The pipelines.
    pub pipelines: Vec<PipelineSpec>,
    /// Where it is counted.
    pub registry: Registry,
    /// The time.
    pub clock: Clock,
    /// What bodies are taken from, to be shown in the registry beside the books; none shows nothing.
    pub budget: Option<MemoryBudget>,
    /// How the processing threads are made.
    pub threads: ThreadOptions,
    /// The pool for whole batches when several wait; none is none.
    pub pool: Option<Arc<rayon::ThreadPool>>,
}

/// A running service. Stops when dropped, and takes an hour at most, where it was not stopped before.
pub struct Service {
    receivers: Vec<(String, Box<dyn Receiver>)>,
    pipelines: Vec<Running>,
    destinations: Vec<Arc<Destination>>,
    clock: Clock,
    prefix: &'static str,
    stopped: bool,
}

struct Running {
    ledger: Arc<Ledger>,
    outlet: Arc<PipelineOutlet>,
    stage: Stage,
    connectors: Vec<Arc<Destination>>,
}

/// What became of every item, for each pipeline and destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary(pub Vec<Row>);

/// What became of every item of one pipeline at one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The pipeline's id.
    pub pipeline: String,
    /// The destination's id.
    pub destination: String,
    /// Taken in.
    pub accepted: ItemCount,
    /// Taken out by processors, as configured.
    pub removed: ItemCount,
    /// Confirmed by the destination.
    pub exported: ItemCount,
    /// Not taken by the destination, for good.
    pub rejected: ItemCount,
    /// Accepted and not delivered.
    pub dropped: ItemCount,
    /// Of those rejected and dropped, what its sender had heard OK for.
    pub lost: ItemCount,
    /// Still held.
    pub held: ItemCount,
}

/// A service that could not be started. What had been started was stopped again.
#[derive(Debug)]
pub struct StartFailure {
    /// The component's kind and id: `receiver otlp`.
    pub component: String,
    /// Why.
    pub error: StartError,
}

impl ServiceBuilder {
    /// Starts everything, from exporters backwards.
    ///
    /// # Errors
    ///
    /// Where a component cannot start, or a pipeline names something that is not there.
    pub fn start(self) -> Result<Service, StartFailure> {
        let ServiceBuilder { receivers, connectors, destinations, pipelines, registry, clock, budget, threads, pool } =
            self;
        let mut outlets: Vec<(Vec<String>, Signal, Arc<PipelineOutlet>)> = Vec::new();
        let mut inlets = Vec::new();
        for spec in &pipelines {
            let ledger = Ledger::new(&spec.id, spec.signal, spec.exporters.iter().cloned());
            let capacity = Capacity { requests: Some(spec.inlet.capacity), ..Capacity::default() };
            let options = GateOptions {
                capacity,
                rate: spec.inlet.rate.clone(),
                when_full: spec.inlet.when_full,
                clock: clock.clone(),
            };
            let (outlet, inlet) = PipelineOutlet::new(options, Arc::clone(&ledger));
            outlets.push((spec.receivers.clone(), spec.signal, Arc::new(outlet)));
            inlets.push((ledger, inlet));
        }
        let outlet_of = |id: &str, signal: Signal| -> Option<Arc<dyn Outlet>> {
            let fed =
                outlets.iter().filter(|(before, of, _)| *of == signal && before.iter().any(|before| before == id));
            join(fed.map(|(_, _, outlet)| Arc::clone(outlet)).collect())
        };

        let mut service = Service {
            receivers: Vec::new(),
            pipelines: Vec::new(),
            destinations: destinations.values().cloned().collect(),
            clock: clock.clone(),
            prefix: threads.prefix,
            stopped: false,
        };
        let order = flow_order(&pipelines, &connectors);
        let mut specs: Vec<Option<(PipelineSpec, _)>> = pipelines.into_iter().zip(inlets).map(Some).collect();
        for (number, index) in order.into_iter().enumerate() {
            let Some((spec, (ledger, inlet))) = specs[index].take() else { continue };
            let failure = |message: String| StartFailure {
                component: format!("pipeline {}", spec.id),
                error: StartError { message, source: None },
            };
            let mut behind = Vec::new();
            let mut joined = Vec::new();
            for id in &spec.exporters {
                if let Some(destination) = destinations.get(&(id.clone(), spec.signal)) {
                    behind.push(Arc::clone(destination));
                } else if let Some(outlet) = outlet_of(id, spec.signal).filter(|_| connectors.contains(id)) {
                    let destination = Destination::connector(id, spec.signal, outlet, clock.clone(), registry.clone());
                    joined.push(Arc::clone(&destination));
                    behind.push(destination);
                } else {
                    return Err(failure(format!(
                        "references exporter \"{id}\", which is not there for {}",
                        spec.signal
                    )));
                }
            }
            let counted = |(id, processor): (String, _)| (Passage::new(&registry, &id, spec.signal), processor);
            let stage = Stage::start(StageOptions {
                name: format!("proc-{number}"),
                ledger: Arc::clone(&ledger),
                chain: Chain::counted(spec.processors.into_iter().map(counted).collect()),
                fanout: Arc::new(Destinations::new(behind)),
                inlet,
                pool: pool.clone(),
                max_concurrent: spec.max_concurrent,
                pool_work_min: POOL_WORK_MIN,
                registry: registry.clone(),
                clock: clock.clone(),
                thread: threads,
            })
            .map_err(|error| StartFailure { component: format!("pipeline {}", spec.id), error })?;
            log::debug!("thread proc-{number} processes pipeline {}", spec.id);
            let outlet = Arc::clone(&outlets[index].2);
            if let Some(express) = stage.express() {
                outlet.attach(express);
            }
            service.pipelines.push(Running { ledger, outlet, stage, connectors: joined });
        }

        for (id, mut receiver) in receivers {
            let mut own = Outlets::default();
            for signal in Signal::ALL {
                if let Some(outlet) = outlet_of(&id, signal) {
                    own.set(signal, outlet);
                }
            }
            if let Err(error) = receiver.start(own) {
                service.shutdown(Deadline::after(clock.now(), START_FAILED_DEADLINE));
                return Err(StartFailure { component: format!("receiver {id}"), error });
            }
            service.receivers.push((id, receiver));
        }
        service.expose(&registry, budget.as_ref());
        Ok(service)
    }
}

/// Pipelines in the order of the flow: one that feeds another by a connector comes first. Cycles have been refused by
/// whoever read the configuration; what is left of one here keeps its given order.
fn flow_order(pipelines: &[PipelineSpec], connectors: &BTreeSet<String>) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let feeds = |from: &PipelineSpec, to: &PipelineSpec| {
        from.signal == to.signal && from.exporters.iter().any(|id| connectors.contains(id) && to.receivers.contains(id))
    };
    while order.len() < pipelines.len() {
        let waiting: Vec<usize> = (0..pipelines.len()).filter(|index| !order.contains(index)).collect();
        let free = waiting
            .iter()
            .copied()
            .find(|&index| waiting.iter().all(|&other| other == index || !feeds(&pipelines[other], &pipelines[index])));
        order.push(free.unwrap_or(waiting[0]));
    }
    order
}

/// One outlet for several.
fn join(mut outlets: Vec<Arc<PipelineOutlet>>) -> Option<Arc<dyn Outlet>> {
    match outlets.len() {
        0 => None,
        1 => outlets.pop().map(|outlet| outlet as Arc<dyn Outlet>),
        _ => Some(Arc::new(Tee::new(outlets))),
    }
}

impl Service {
    /// The books, the inlets and the budget, for whoever scrapes. Destinations show their queues themselves.
    fn expose(&self, registry: &Registry, budget: Option<&MemoryBudget>) {
        if let Some(budget) = budget {
            register_budget(registry, budget);
        }
        for Running { ledger, outlet, .. } in &self.pipelines {
            register_ledger(registry, Arc::clone(ledger));
            let inlet = Arc::clone(outlet);
            register_gate(registry, format!("inlet {}", ledger.pipeline()), move || inlet.state());
        }
    }

    /// The books of every pipeline, in the order of the flow.
    pub fn ledgers(&self) -> impl Iterator<Item = &Arc<Ledger>> {
        self.pipelines.iter().map(|running| &running.ledger)
    }

    /// The gates before the pipelines, by pipeline.
    pub fn inlets(&self) -> impl Iterator<Item = (&str, &Arc<PipelineOutlet>)> {
        self.pipelines.iter().map(|running| (running.ledger.pipeline(), &running.outlet))
    }

    /// The destinations.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.destinations.iter()
    }

    /// Every component that does not work now, and why.
    pub fn unhealthy(&self) -> Vec<String> {
        let receivers = self.receivers.iter().map(|(id, receiver)| (format!("receiver {id}"), receiver.health()));
        let pipelines = self.pipelines.iter().flat_map(|running| {
            let id = format!("pipeline {}", running.ledger.pipeline());
            [(id.clone(), running.stage.health()), (id, running.outlet.health())]
        });
        let destinations = self
            .destinations
            .iter()
            .map(|destination| (format!("exporter {}", destination.id()), destination.health()));
        receivers
            .chain(pipelines)
            .chain(destinations)
            .filter(|(_, health)| !matches!(health.state, HealthState::Ok))
            .map(
                |(id, Health { message, .. })| {
                    if message.starts_with(&id) { message } else { format!("{id}: {message}") }
                },
            )
            .collect()
    }

    /// Stops everything, from receivers forwards, and says what became of every item. Safe twice.
    pub fn shutdown(&mut self, deadline: Deadline) -> Summary {
        self.stopped = true;
        self.stop_receivers(deadline);
        for running in &mut self.pipelines {
            running.stage.shutdown(deadline);
            for connector in &running.connectors {
                connector.shutdown(deadline);
            }
        }
        let prefix = self.prefix;
        std::thread::scope(|scope| {
            for (number, destination) in self.destinations.iter().enumerate() {
                let spawned = std::thread::Builder::new()
                    .name(format!("{prefix}stop-{number}"))
                    .spawn_scoped(scope, || destination.shutdown(deadline));
                if let Err(error) = spawned {
                    log::warn!("cannot start a thread to stop exporter {}: {error}", destination.id());
                    destination.shutdown(deadline);
                }
            }
        });
        self.summary()
    }

    /// Stops them side by side, so that none takes requests while another waits for its senders. They get half of the
    /// time: a sender that stalls in the middle of a request must not use up what is needed to hand on what was promised.
    fn stop_receivers(&mut self, deadline: Deadline) {
        let now = self.clock.now();
        let by = deadline.remaining(now).map_or(deadline, |left| Deadline::after(now, left / 2));
        let prefix = self.prefix;
        // Behind locks, so that one whose thread cannot be made is still at hand.
        let receivers: Vec<_> = self.receivers.iter_mut().map(|(_, receiver)| Mutex::new(receiver)).collect();
        std::thread::scope(|scope| {
            for (number, receiver) in receivers.iter().enumerate() {
                let spawned = std::thread::Builder::new()
                    .name(format!("{prefix}stop-{number}"))
                    .spawn_scoped(scope, || receiver.lock().shutdown(by));
                if spawned.is_err() {
                    receiver.lock().shutdown(by);
                }
            }
        });
    }

    /// What has become of every item so far.
    pub fn summary(&self) -> Summary {
        let rows = self.ledgers().flat_map(|ledger| {
            let Page { accepted, removed, held, destinations, .. } = ledger.page();
            destinations.into_iter().zip(ledger.destinations()).map(move |(column, destination)| Row {
                pipeline: ledger.pipeline().to_owned(),
                destination: destination.clone(),
                accepted,
                removed,
                exported: column.exported,
                rejected: column.rejected_total(),
                dropped: column.dropped_total(),
                lost: column.lost,
                held: held + column.held,
            })
        });
        Summary(rows.collect())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.stopped {
            self.shutdown(Deadline::after(self.clock.now(), Duration::from_secs(3600)));
        }
    }
}

impl Summary {
    /// Whether anything is lost that a sender had heard OK for, or still held when it should not be.
    pub fn has_loss(&self) -> bool {
        self.0.iter().any(|row| row.lost != ItemCount::ZERO || row.held != ItemCount::ZERO)
    }

    /// Whether every row balances: what was accepted is what was removed, exported, rejected, dropped and is held.
    pub fn balances(&self) -> bool {
        self.0.iter().all(|row| row.accepted == row.removed + row.exported + row.rejected + row.dropped + row.held)
    }

    /// The row of a pipeline and a destination.
    pub fn row(&self, pipeline: &str, destination: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.pipeline == pipeline && row.destination == destination)
    }

    /// One line for each pipeline and destination.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.0.iter().try_for_each(|row| writeln!(out, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { pipeline, destination, accepted, removed, exported, rejected, dropped, held, .. } = self;
        write!(
            f,
            "{pipeline} -> {destination}: accepted {accepted}, removed {removed}, exported {exported}, rejected {rejected}, dropped {dropped}, held {held}"
        )
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {}: {}", self.component, self.error)
    }
}

impl std::error::Error for StartFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.summary().0).finish()
    }
}
