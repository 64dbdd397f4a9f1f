//! What becomes of a batch in the processing stage: the part without a thread, which tests step.
//!
//! Invariants:
//!
//! - A batch is refused, or accepted into the books and handed on. A refused one was never accepted.
//! - Room in every destination's queue is had before a batch is accepted.
//! - A panic costs the batch that was being processed, and no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use otlp_core::component::{Downstream, Fanout, Health, Refused};
use otlp_core::flow::gate::{Room, Weight};
use otlp_core::telemetry::ledger::Ledger;
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, DURATION_BOUNDS, Histogram, Registry};
use otlp_core::thread::catch_panic;
use otlp_core::{Ack, Batch, Clock, Code, Deadline, Failure, Group, ItemCount, Outcome, Reason, Ticket};

use crate::chain::{Chain, Prefix};

/// A chain between its inlet and its destinations, without a thread.
pub struct Processing {
    chain: Chain,
    prefix: Arc<Prefix>,
    way: Way,
    /// Time that the prefix takes, as it was measured lately.
    ns_per_kib: f64,
    /// The same of the rest.
    rest_ns_per_kib: f64,
    /// When a batch was done with last.
    finished: Option<Instant>,
    /// Whether batches may come in by the short way.
    open: bool,
    /// When the pipeline's thread looks for what is due.
    waits_until: Option<Instant>,
}

/// The prefix and what measuring it takes: what the pool's threads work with.
#[derive(Clone)]
pub(crate) struct Work {
    prefix: Arc<Prefix>,
    pipeline: Arc<str>,
    clock: Clock,
}

/// What the prefix made of a batch.
pub(crate) struct Worked {
    result: Applied,
    bytes: u64,
    took: Duration,
}

enum Applied {
    Left(Batch),
    Removed(ItemCount),
    Refused(Box<Refused>),
    Panicked(ItemCount),
}

/// The way out: what the chain sees as its downstream.
struct Way {
    ledger: Arc<Ledger>,
    fanout: Arc<dyn Fanout>,
    clock: Clock,
    metrics: Metrics,
    /// Batches wait to be processed.
    waiting: bool,
    /// The batch in the tail's hands has been accepted or settled.
    taken: bool,
    wake: Sender<()>,
    woken: Receiver<()>,
}

struct Metrics {
    registry: Registry,
    pipeline: Arc<str>,
    requests: Counter,
    bytes: Counter,
    duration: Histogram,
}

impl Processing {
    /// Puts a chain between the books and the destinations of a pipeline.
    pub fn new(
        chain: Chain,
        ledger: Arc<Ledger>,
        fanout: Arc<dyn Fanout>,
        registry: &Registry,
        clock: Clock,
    ) -> Processing {
        let pipeline: Arc<str> = ledger.pipeline().into();
        let labels = || vec![("pipeline", pipeline.to_string())];
        let metrics = Metrics {
            requests: registry.counter(names::PIPELINE_REQUESTS, None, labels()),
            bytes: registry.counter(names::PIPELINE_BYTES, None, labels()),
            duration: registry.histogram(names::PIPELINE_DURATION, None, labels(), DURATION_BOUNDS),
            registry: registry.clone(),
            pipeline: pipeline.clone(),
        };
        let (wake, woken) = bounded(1);
        let way = Way { ledger, fanout, clock, metrics, waiting: false, taken: false, wake, woken };
        Processing {
            prefix: chain.prefix(),
            chain,
            way,
            ns_per_kib: 0.0,
            rest_ns_per_kib: 0.0,
            finished: None,
            open: true,
            waits_until: None,
        }
    }

    /// Takes one batch through the chain in the caller's thread: into the destinations' queues, into a processor that
    /// holds it, or back to its sender. Whatever becomes of it is in the books when this returns.
    pub fn process(&mut self, batch: Batch) {
        let worked = self.work().run(batch);
        self.finish(worked);
    }

    /// Lets the processors do what is due and says when that has to be done again at the latest. `waiting` says whether
    /// batches wait to be processed.
    pub fn tick(&mut self, waiting: bool) -> Option<Instant> {
        if !self.chain.has_tail() {
            return None;
        }
        self.way.waiting = waiting;
        // Whoever panicked will be asked again soon: others may hold what is due.
        let again = self.way.clock.now() + Duration::from_secs(1);
        self.guarded("ticking", |chain, way| chain.tick(way)).unwrap_or(Some(again))
    }

    /// Lets go of all that the processors hold.
    pub fn flush(&mut self) {
        self.guarded("flushing", |chain, way| chain.flush(way));
    }

    /// Ends the processors, after a last [`Processing::flush`].
    pub fn shutdown(&mut self, deadline: Deadline) {
        self.guarded("stopping", |chain, _| chain.shutdown(deadline));
    }

    /// Refuses a batch that was not begun.
    pub fn refuse(&mut self, batch: Batch, failure: Failure) {
        self.way.refuse(Refused { batch: Box::new(batch), failure, hold: false });
    }

    /// How the worst of the processors fares.
    pub fn health(&self) -> Health {
        self.chain.health()
    }

    /// Yields when [`Processing::tick`] should be called although nothing is due: everything that had left has been
    /// settled, and somebody waits for what is held.
    pub fn woken(&self) -> &Receiver<()> {
        &self.way.woken
    }

    pub(crate) fn work(&self) -> Work {
        Work {
            prefix: Arc::clone(&self.prefix),
            pipeline: Arc::clone(&self.way.metrics.pipeline),
            clock: self.way.clock.clone(),
        }
    }

    /// How long the prefix will take for that many bytes on one thread, going by what was measured lately.
    pub(crate) fn estimate(&self, bytes: u64) -> Duration {
        Duration::from_nanos((self.ns_per_kib * bytes as f64 / 1024.0) as u64)
    }

    /// As [`Processing::estimate`] for one batch and its whole way.
    pub(crate) fn estimate_all(&self, bytes: u64) -> Duration {
        // A small one costs no less than what it was measured as.
        Duration::from_nanos(((self.ns_per_kib + self.rest_ns_per_kib) * bytes.max(1024) as f64 / 1024.0) as u64)
    }

    /// Whether the chain has done nothing for four times as long as this work takes: it is busy for a fifth of the time at
    /// most.
    pub(crate) fn is_quiet(&self, work: Duration) -> bool {
        self.finished.is_none_or(|at| self.way.clock.now().saturating_duration_since(at) >= work * 4)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Nothing comes in by the short way any more.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    pub(crate) fn waits_until(&self) -> Option<Instant> {
        self.waits_until
    }

    pub(crate) fn set_waits_until(&mut self, until: Option<Instant>) {
        self.waits_until = until;
    }

    pub(crate) fn wake(&self) -> &Sender<()> {
        &self.way.wake
    }

    /// The rest of the way, in arrival order, on one thread at a time.
    pub(crate) fn finish(&mut self, worked: Worked) {
        let (began, bytes) = (self.way.clock.now(), worked.bytes);
        self.finish_untimed(worked);
        let now = self.way.clock.now();
        self.finished = Some(now);
        let took = now.saturating_duration_since(began);
        self.rest_ns_per_kib += (took.as_nanos() as f64 * 1024.0 / bytes.max(1024) as f64 - self.rest_ns_per_kib) / 8.0;
    }

    fn finish_untimed(&mut self, worked: Worked) {
        let Worked { result, bytes, took } = worked;
        self.way.metrics.requests.increment();
        self.way.metrics.bytes.add(bytes);
        self.way.metrics.duration.record_duration(took);
        // A moving average over about eight batches: follows a change of load, not a single preemption.
        self.ns_per_kib += (took.as_nanos() as f64 * 1024.0 / bytes.max(1024) as f64 - self.ns_per_kib) / 8.0;
        match result {
            Applied::Left(batch) if self.chain.has_tail() => self.tail(batch),
            Applied::Left(batch) => {
                let offered = batch.ticket().offered();
                self.way.taken = false;
                if self.guarded("handing on a batch", |_, way| way.emit(Group::of(batch))).is_none() {
                    self.panicked(offered);
                }
            }
            Applied::Removed(items) => self.way.removed(items),
            Applied::Refused(refused) => self.way.refuse(*refused),
            Applied::Panicked(items) => {
                self.way.taken = false;
                self.panicked(items);
            }
        }
    }

    fn tail(&mut self, batch: Batch) {
        let offered = batch.ticket().offered();
        self.way.taken = false;
        match self.guarded("processing a batch", |chain, way| chain.process_tail(batch, way)) {
            Some(Ok(())) => {}
            Some(Err(refused)) => self.way.refuse(refused),
            None => self.panicked(offered),
        }
    }

    /// Counts a batch that a panic dropped; its sender has been told when that happened, see [`Ticket`].
    fn panicked(&mut self, items: ItemCount) {
        if !self.way.taken {
            Ticket::new(items, Ack::nobody()).refuse(&self.way.ledger, panic_failure());
        }
        self.way.metrics.failed(Reason::PANIC);
    }

    fn guarded<T>(&mut self, doing: &str, run: impl FnOnce(&mut Chain, &mut Way) -> T) -> Option<T> {
        let (chain, way) = (&mut self.chain, &mut self.way);
        // A processor that panicked halfway may be left in any state of its own, but what it held has a ticket each:
        // nothing can be lost without being counted, and that is all that is relied on.
        catch_panic(|| run(chain, way))
            .inspect_err(|message| log_panic(self.way.ledger.pipeline(), doing, message))
            .ok()
    }
}

impl Work {
    /// Takes a batch through the prefix, on any thread.
    pub(crate) fn run(&self, batch: Batch) -> Worked {
        let (offered, bytes) = (batch.ticket().offered(), batch.size().get());
        if batch.ticket().ack().is_withdrawn() {
            let failure = Failure::refused(Reason::WITHDRAWN, "the sender sends it again");
            let refused = Refused { batch: Box::new(batch), failure, hold: false };
            return Worked { result: Applied::Refused(Box::new(refused)), bytes, took: Duration::ZERO };
        }
        if self.prefix.is_empty() {
            return Worked { result: Applied::Left(batch), bytes, took: Duration::ZERO };
        }
        let began = self.clock.now();
        let result = match catch_panic(|| self.prefix.apply(batch)) {
            Ok(Ok(Some(batch))) => Applied::Left(batch),
            Ok(Ok(None)) => Applied::Removed(offered),
            Ok(Err(refused)) => Applied::Refused(Box::new(refused)),
            Err(message) => {
                log_panic(&self.pipeline, "processing a batch", &message);
                Applied::Panicked(offered)
            }
        };
        Worked { result, bytes, took: self.clock.now().saturating_duration_since(began) }
    }
}

impl Way {
    fn accept(&mut self, batch: &mut Batch) {
        let items = batch.items();
        if !batch.ticket().is_accepted() {
            batch.ticket_mut().accept(&self.ledger, items);
        }
    }
}

impl Downstream for Way {
    fn emit(&mut self, group: Group) {
        let mut group = group;
        if group.is_empty() {
            return;
        }
        let room = match group.take_room() {
            Some(room) => Ok(room),
            None => self.fanout.reserve(group.weight()),
        };
        match room {
            Ok(room) => {
                for batch in group.parts_mut() {
                    self.accept(batch);
                }
                self.taken = true;
                self.fanout.send(group, room);
            }
            Err(failure) => {
                self.taken = true;
                for batch in group.into_parts() {
                    self.refuse(Refused { batch: Box::new(batch), failure: failure.clone(), hold: false });
                }
            }
        }
    }

    fn hold(&mut self, batch: &mut Batch, joins: bool) -> Result<Room, Failure> {
        self.hold_split(batch, u64::from(!joins))
    }

    fn hold_split(&mut self, batch: &mut Batch, begins: u64) -> Result<Room, Failure> {
        // Never waits: the processor that asks may itself hold what would have to leave to make room.
        let room = self.fanout.try_reserve(Weight { requests: begins, ..batch.weight() })?;
        self.accept(batch);
        batch.ticket_mut().queued();
        self.taken = true;
        Ok(room)
    }

    fn refuse(&mut self, refused: Refused) {
        self.taken = true;
        self.metrics.failed(refused.failure.reason);
        refused.batch.into_ticket().refuse(&self.ledger, refused.failure);
    }

    fn panicked(&mut self, offered: ItemCount, message: &str) {
        self.taken = true;
        log_panic(self.ledger.pipeline(), "processing what another let go", message);
        if offered > ItemCount::ZERO {
            Ticket::new(offered, Ack::nobody()).refuse(&self.ledger, panic_failure());
        }
        self.metrics.failed(Reason::PANIC);
    }

    fn removed(&mut self, offered: ItemCount) {
        self.taken = true;
        let mut ticket = Ticket::new(offered, Ack::nobody());
        ticket.accept(&self.ledger, ItemCount::ZERO);
        ticket.settle(Outcome::Delivered);
    }

    fn is_idle(&self) -> bool {
        !self.waiting && self.ledger.is_idle_or_wake(&self.wake)
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }
}

impl Metrics {
    fn failed(&self, reason: Reason) {
        let labels = vec![("pipeline", self.pipeline.to_string()), ("reason", reason.as_str().to_owned())];
        self.registry.counter(names::PIPELINE_FAILURES, None, labels).increment();
    }
}

fn panic_failure() -> Failure {
    Failure::rejected(Code::Internal, Reason::PANIC, "a component of the pipeline failed on this request")
}

/// ERROR: the batch is gone, and there is a defect to be mended.
fn log_panic(pipeline: &str, doing: &str, message: &str) {
    log::error!("a processor panicked while {doing}: {message} pipeline={pipeline}");
}

impl std::fmt::Debug for Processing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processing")
            .field("chain", &self.chain)
            .field("ledger", &self.way.ledger)
            .finish_non_exhaustive()
    }
}
