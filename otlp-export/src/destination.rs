//! A destination: one exporter of one signal with its queue, its workers and its account.
//!
//! # What it does
//!
//! Takes groups, either into its sending queue or in the caller's thread, and brings each to an end. Every pipeline that
//! lists the exporter shares it; each has its own books.
//!
//! # Threads
//!
//! Those of its queue, see [`crate::Threads`]. Without a queue there are none: whoever hands over a group exports it.
//!
//! # Limits
//!
//! `queue_size`, and `memory_mib`; at the bound its `when_full` decides.
//!
//! # On failure
//!
//! A destination that fails slows nobody else: it has its own queue, its own schedule and its own workers.
//!
//! # On shutdown
//!
//! Nothing is taken any more. What is held is sent until the deadline; what is left then is dropped and counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use otlp_core::component::{Exporter, Guest, Health, Outlet};
use otlp_core::flow::WhenFull;
use otlp_core::flow::gate::{GateState, Place, Weight};
use otlp_core::flow::rate::RateLimit;
use otlp_core::telemetry::expose::register_gate;
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::Registry;
use otlp_core::{Clock, Deadline, Failure, Group, ItemCount, Reason, Signal, Stop, Stopper, shutdown};
use parking_lot::Mutex;

use crate::connector::Connector;
use crate::delivery::{Closing, Delivery, LogGate};
use crate::queue::{self, Queue};
use crate::retry;
use crate::worker::{Threads, Workers};

/// How long a worker may take to notice that the deadline has passed and its connection was closed.
const GRACE: Duration = Duration::from_millis(500);

/// How often one that waits for room looks whether it is to stop.
const BLOCK_CHECK: Duration = Duration::from_millis(250);

/// How often a destination that drops says so.
const DROP_WARNING: Duration = Duration::from_secs(60);

/// What a destination is made of.
#[derive(Clone)]
pub struct Settings {
    /// The exporter's id, as in the configuration.
    pub id: String,
    /// The signal it gets.
    pub signal: Signal,
    /// What sends.
    pub exporter: Arc<dyn Exporter>,
    /// `sending_queue`.
    pub queue: queue::Config,
    /// `retry_on_failure`.
    pub retry: retry::Config,
    /// For one attempt. `None` and 0 set no limit.
    pub timeout: Option<Duration>,
    /// `when_full`. Default, with `None`: `block` where `block_on_overflow` is set, else as [`crate::Destinations`] says.
    pub when_full: Option<WhenFull>,
    /// `rate_limit`: attempts wait for it. Default none.
    pub rate_limit: Option<RateLimit>,
    /// What the time is.
    pub clock: Clock,
    /// Where its metrics are found.
    pub registry: Registry,
    /// How its threads are made.
    pub threads: Threads,
}

impl Settings {
    /// All defaults.
    pub fn new(id: impl Into<String>, signal: Signal, exporter: Arc<dyn Exporter>) -> Settings {
        Settings {
            id: id.into(),
            signal,
            exporter,
            queue: queue::Config::default(),
            retry: retry::Config::default(),
            timeout: None,
            when_full: None,
            rate_limit: None,
            clock: Clock::system(),
            registry: Registry::new(),
            threads: Threads::default(),
        }
    }
}

/// Where groups go. See the module's documentation.
///
/// # Threads
///
/// May be used from any thread. Dropping it stops it at once: what it holds is dropped and counted.
pub struct Destination {
    id: String,
    signal: Signal,
    way: Way,
    when_full: Option<WhenFull>,
    clock: Clock,
    registry: Registry,
    closing: Arc<Closing>,
    stopper: Mutex<Stopper>,
    overflow: Overflow,
}

pub(crate) enum Way {
    Queue { queue: Arc<Queue>, workers: Workers, delivery: Arc<Delivery> },
    Direct(Arc<Delivery>),
    Pipeline(Connector),
}

/// What is dropped because the queue is full.
#[derive(Default)]
struct Overflow {
    full: AtomicBool,
    dropped: AtomicU64,
    warning: LogGate,
    refusal: LogGate,
}

impl Destination {
    /// A destination that sends by an exporter. Starts no thread yet and waits for no peer.
    pub fn new(settings: Settings) -> Arc<Destination> {
        let (stopper, stop) = shutdown::stop();
        let closing = Arc::new(Closing::new(stop.clone()));
        let delivery = Arc::new(Delivery::new(&settings, Arc::clone(&settings.exporter), Arc::clone(&closing)));
        let way = if settings.queue.enabled {
            let queue = Arc::new(Queue::new(&settings.queue, settings.clock.clone()));
            register_gauges(&settings, &queue);
            let limit = settings.threads.limit(settings.queue.num_consumers);
            let workers =
                Workers::new(Arc::clone(&queue), Arc::clone(&delivery), stop, limit, settings.threads.clone());
            Way::Queue { queue, workers, delivery }
        } else {
            Way::Direct(delivery)
        };
        let when_full = settings.when_full.or(settings.queue.block_on_overflow.then_some(WhenFull::Block));
        Arc::new(Destination {
            id: settings.id,
            signal: settings.signal,
            way,
            when_full,
            clock: settings.clock,
            registry: settings.registry,
            closing,
            stopper: Mutex::new(stopper),
            overflow: Overflow::default(),
        })
    }

    /// A destination that is another pipeline: what is handed over goes into its inlet, and is settled here with what
    /// becomes of it there. The acknowledgement that the sender was promised is inherited.
    pub fn connector(
        id: impl Into<String>,
        signal: Signal,
        outlet: Arc<dyn Outlet>,
        clock: Clock,
        registry: Registry,
    ) -> Arc<Destination> {
        let id = id.into();
        let (stopper, stop) = shutdown::stop();
        let closing = Arc::new(Closing::new(stop));
        Arc::new(Destination {
            way: Way::Pipeline(Connector::new(id.clone(), outlet, Arc::clone(&closing))),
            id,
            signal,
            when_full: None,
            clock,
            registry,
            closing,
            stopper: Mutex::new(stopper),
            overflow: Overflow::default(),
        })
    }

    /// The exporter's or connector's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The signal it takes.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// What it holds and how that gate fares; `None` without a queue.
    pub fn gate(&self) -> Option<GateState> {
        match &self.way {
            Way::Queue { queue, .. } => Some(queue.state()),
            Way::Direct(_) | Way::Pipeline(_) => None,
        }
    }

    /// How many threads work for it now.
    pub fn workers(&self) -> usize {
        match &self.way {
            Way::Queue { workers, .. } => workers.running(),
            Way::Direct(_) | Way::Pipeline(_) => 0,
        }
    }

    /// How it fares: unhealthy where its queue overflows, or where the last attempt to send failed.
    pub fn health(&self) -> Health {
        if self.overflow.full.load(Ordering::Relaxed) {
            let dropped = self.overflow.dropped.load(Ordering::Relaxed);
            return Health::unhealthy(match dropped {
                0 => format!("exporter {}: sending queue is full", self.id),
                _ => format!(
                    "exporter {}: sending queue is full; {dropped} {} dropped so far",
                    self.id,
                    self.signal.items_name()
                ),
            });
        }
        match &self.way {
            Way::Queue { delivery, .. } => delivery.health(),
            Way::Direct(delivery) => delivery.health(),
            Way::Pipeline(_) => Health::ok(),
        }
    }

    /// Stops taking, sends what is held until the deadline, drops and counts the rest, and joins its threads. Safe
    /// twice.
    ///
    /// An exporter that hangs beyond the deadline is left behind with its thread; what it holds stays in the books as
    /// held.
    pub fn shutdown(&self, deadline: Deadline) {
        self.closing.set_deadline(deadline);
        self.stopper.lock().stop();
        let Way::Queue { queue, workers, delivery } = &self.way else {
            if let Way::Direct(delivery) = &self.way {
                delivery.exporter().shutdown(deadline);
            }
            return;
        };
        let done = workers.finish(&self.clock, deadline);
        delivery.exporter().shutdown(deadline);
        if !done && !workers.finish(&self.clock, Deadline::after(self.clock.now(), GRACE)) {
            log::error!("exporter {}: {} threads do not end and are left behind", self.id, workers.running());
            workers.abandon();
        }
        for left in workers.take_left().into_iter().chain(queue.take_left()) {
            let failure = Failure::refused(Reason::SHUTDOWN, "not sent before the deadline of the shutdown");
            left.settle(failure.into());
        }
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.closing.stop
    }

    /// Its policy at a full queue, if one was configured.
    pub(crate) fn when_full(&self) -> Option<WhenFull> {
        self.when_full
    }

    /// Reserves a place by a policy, without waiting. `Err` refuses.
    pub(crate) fn try_place(&self, weight: Weight, when_full: WhenFull) -> Result<Place, Failure> {
        if self.closing.stop.asked() {
            return Err(Failure::refused(Reason::SHUTDOWN, format!("exporter {} is shutting down", self.id)));
        }
        let Way::Queue { queue, .. } = &self.way else { return Ok(Place::Direct) };
        loop {
            let full = match queue.try_reserve(weight) {
                Ok(permit) => {
                    self.overflow.full.store(false, Ordering::Relaxed);
                    return Ok(Place::Permit(permit));
                }
                Err(full) => full,
            };
            match when_full {
                // Nothing has failed yet: whoever blocks waits next.
                WhenFull::Block if !full.never => {
                    return Err(Failure::refused(Reason::QUEUE_FULL, "sending queue is full"));
                }
                WhenFull::Refuse | WhenFull::Block => return Err(self.refuse(weight, full.never)),
                WhenFull::DropOldest if !full.never => match queue.take_oldest() {
                    Some(oldest) => self.drop_group(oldest.item),
                    // All that it holds is being sent already.
                    None => return Ok(Place::Dropped),
                },
                WhenFull::DropOldest | WhenFull::DropNewest => return Ok(Place::Dropped),
            }
        }
    }

    /// Waits a while for a place; an error that is not final says that there was none yet.
    pub(crate) fn wait_for_place(&self, weight: Weight) -> Option<Place> {
        let Way::Queue { queue, .. } = &self.way else { return Some(Place::Direct) };
        let until = Deadline::after(std::time::Instant::now(), BLOCK_CHECK);
        queue.reserve_deadline(weight, until).ok().map(Place::Permit)
    }

    /// Whether something of that weight could be admitted if it held nothing.
    pub(crate) fn can_hold(&self, weight: Weight) -> bool {
        match &self.way {
            Way::Queue { queue, .. } => queue.can_hold(weight),
            Way::Direct(_) | Way::Pipeline(_) => true,
        }
    }

    /// Whether handing over is no more than putting something into a queue.
    pub(crate) fn has_queue(&self) -> bool {
        matches!(self.way, Way::Queue { .. })
    }

    /// What waits for the exporter's answers, where that is no thread of the destination's.
    pub(crate) fn guest(&self) -> Option<Arc<dyn Guest>> {
        match &self.way {
            Way::Queue { delivery, .. } => delivery.exporter().guest(),
            Way::Direct(_) | Way::Pipeline(_) => None,
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.closing.stop.asked()
    }

    fn refuse(&self, weight: Weight, never: bool) -> Failure {
        self.overflow.full.store(true, Ordering::Relaxed);
        self.enqueue_failed(weight.items);
        self.overflow.refusal.log_every(self.clock.now(), DROP_WARNING, || {
            log::warn!(
                "Exporting failed. Rejecting data. exporter={} error=sending queue is full rejected_items={}",
                self.id,
                weight.items
            );
        });
        if never {
            let message = format!("larger than the whole sending queue of exporter {}", self.id);
            return Failure::rejected(otlp_core::Code::ResourceExhausted, Reason::TOO_LARGE, message);
        }
        Failure::refused(Reason::QUEUE_FULL, "sending queue is full")
    }

    /// Hands over a group into the place that was reserved for it.
    pub(crate) fn hand_over(&self, mut group: Group, place: Place) {
        match (place, &self.way) {
            (Place::Dropped, _) => self.drop_group(group),
            (Place::Permit(permit), Way::Queue { workers, .. }) => {
                group.queued();
                if let Err(group) = workers.hand_over(group, permit) {
                    self.drop_group(*group);
                }
            }
            (_, Way::Queue { delivery, .. }) => delivery.deliver(group),
            (_, Way::Direct(delivery)) => delivery.deliver(group),
            (_, Way::Pipeline(connector)) => connector.pass_on(group),
        }
    }

    /// Drops a group because there is no room. The sender was promised no more than a place in a queue and hears OK;
    /// one that was promised the export is told to send again.
    fn drop_group(&self, mut group: Group) {
        let items = group.items();
        self.overflow.full.store(true, Ordering::Relaxed);
        self.overflow.dropped.fetch_add(items.get(), Ordering::Relaxed);
        self.enqueue_failed(items.get());
        self.overflow.warning.log_every(self.clock.now(), DROP_WARNING, || {
            let dropped = ItemCount(self.overflow.dropped.load(Ordering::Relaxed));
            log::warn!(
                "exporter {}: sending queue is full; {dropped} {} dropped so far, for this destination alone",
                self.id,
                self.signal.items_name()
            );
        });
        group.queued();
        group.settle(Failure::refused(Reason::QUEUE_FULL, "sending queue is full").into());
    }

    fn enqueue_failed(&self, items: u64) {
        let label = vec![("exporter", self.id.clone())];
        self.registry.counter(names::EXPORTER_ENQUEUE_FAILED, Some(self.signal), label).add(items);
    }
}

fn register_gauges(settings: &Settings, queue: &Arc<Queue>) {
    let gate = format!("{}/{}", settings.id, settings.signal);
    register_gate(&settings.registry, gate, queue.watch());
    let labels = || vec![("exporter", settings.id.clone()), ("data_type", settings.signal.to_string())];
    for (name, pick) in [
        (names::EXPORTER_QUEUE_SIZE, (|(size, _)| size) as fn((u64, u64)) -> u64),
        (names::EXPORTER_QUEUE_CAPACITY, |(_, capacity)| capacity),
    ] {
        // Weak, so that the registry does not keep a queue that is gone.
        let queue = Arc::downgrade(queue);
        settings
            .registry
            .read(name, None, labels(), move || queue.upgrade().map_or(0.0, |queue| pick(queue.size()) as f64));
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.shutdown(Deadline::at(self.clock.now()));
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("id", &self.id)
            .field("signal", &self.signal)
            .field("queue", &self.queue)
            .field("retry", &self.retry)
            .field("timeout", &self.timeout)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({}, {}, {:?})", self.id, self.signal, self.gate())
    }
}
