//! One group on its way to a destination: attempts, waits, halving, settling.
//!
//! The same in a worker's thread and in the thread of a caller that has no queue.
//!
//! # On failure
//!
//! - What may be tried again is, by `retry_on_failure`; then it is dropped and counted.
//! - What the destination will never take is rejected and counted. The next group goes on.
//! - What is too large for it is halved, and each half goes once more, [`HALVINGS_MAX`] times over. A single item that is
//!   too large is rejected. The same bytes never go twice.
//! - A panic in an exporter costs the group it was called with.
//!
//! # On shutdown
//!
//! What waits to be tried again is tried at once, and goes on until the deadline by the same schedule begun anew: what
//! was acknowledged is owed. What cannot be tried before the deadline is dropped, and counted as that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use otlp_core::component::{Exporter, Health};
use otlp_core::flow::rate::Limiter;
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, DURATION_BOUNDS, Gauge, Histogram, Registry};
use otlp_core::thread::catch_panic;
use otlp_core::wire::{PartLimit, split_group};
use otlp_core::{Clock, Code, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal, Stop};
use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};

use crate::retry::{self, Decision, Retry};

/// How many times over a request that is too large is halved.
const HALVINGS_MAX: u32 = 6;

/// A line about the same trouble is written at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// When a destination is stopping, and by when it has to be done.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) stop: Stop,
    deadline: Mutex<Deadline>,
}

impl Closing {
    pub(crate) fn new(stop: Stop) -> Closing {
        Closing { stop, deadline: Mutex::new(Deadline::NEVER) }
    }

    /// To be set before stop is asked.
    pub(crate) fn set_deadline(&self, deadline: Deadline) {
        *self.deadline.lock() = deadline;
    }

    /// By when all has to be done; never, as long as stop is not asked.
    pub(crate) fn deadline(&self) -> Deadline {
        if self.stop.asked() { *self.deadline.lock() } else { Deadline::NEVER }
    }
}

/// What it takes to bring a group to a destination.
pub(crate) struct Delivery {
    id: String,
    signal: Signal,
    exporter: Arc<dyn Exporter>,
    retry: retry::Config,
    timeout: Option<Duration>,
    limiter: Option<Limiter>,
    closing: Arc<Closing>,
    clock: Clock,
    meters: Meters,
    registry: Registry,
    trouble: Trouble,
    partial: LogGate,
    halved: LogGate,
}

/// A group on its way: what is left to be sent, and what the next attempt has to know.
#[derive(Debug)]
pub(crate) struct Journey {
    /// The next one last, each with how often it was halved.
    todo: SmallVec<[(Group, u32); 1]>,
    /// Of the next one, once it was begun.
    turn: Option<Turn>,
}

impl Journey {
    /// What was not sent of it.
    pub(crate) fn into_groups(self) -> impl Iterator<Item = Group> {
        self.todo.into_iter().rev().map(|(group, _)| group)
    }
}

/// The attempts at one request.
#[derive(Debug)]
struct Turn {
    retry: Retry,
    /// Stop was asked when the schedule was begun.
    stopping: bool,
    /// Why the last attempt failed.
    failure: Option<Failure>,
}

/// What came of a call.
enum Step {
    Wait(Duration),
    Done(Outcome),
}

/// Whether an attempt may be made.
enum Ready {
    Now,
    Later(Duration),
    /// It ends without.
    Never(Outcome),
}

struct Meters {
    sent: Counter,
    in_flight: Gauge,
    requests: Counter,
    duration: Histogram,
}

impl Delivery {
    pub(crate) fn new(settings: &crate::Settings, exporter: Arc<dyn Exporter>, closing: Arc<Closing>) -> Delivery {
        let registry = settings.registry.clone();
        let (id, signal) = (settings.id.clone(), settings.signal);
        let label = || vec![("exporter", id.clone())];
        let typed = || vec![("exporter", id.clone()), ("data_type", signal.to_string())];
        let meters = Meters {
            sent: registry.counter(names::EXPORTER_SENT, Some(signal), label()),
            in_flight: registry.gauge(names::EXPORTER_IN_FLIGHT, None, typed()),
            requests: registry.counter(names::EXPORTER_REQUESTS, None, typed()),
            duration: registry.histogram(names::EXPORTER_DURATION, None, typed(), DURATION_BOUNDS),
        };
        Delivery {
            id,
            signal,
            exporter,
            retry: settings.retry.clone(),
            timeout: settings.timeout.filter(|timeout| !timeout.is_zero()),
            limiter: settings.rate_limit.clone().map(|limit| Limiter::new(limit, settings.clock.clone())),
            closing,
            clock: settings.clock.clone(),
            meters,
            registry,
            trouble: Trouble::default(),
            partial: LogGate::default(),
            halved: LogGate::default(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Brings a group to its end, whatever that is. Blocks.
    pub(crate) fn deliver(&self, group: Group) {
        if let Some(journey) = self.begin(group) {
            self.go_on(journey, Duration::ZERO);
        }
    }

    /// Brings one that was begun to its end, after a pause. Blocks.
    pub(crate) fn go_on(&self, mut journey: Journey, pause: Duration) {
        let mut next = Some(pause);
        while let Some(pause) = next {
            // Stop asked ends one wait, so that what it finds waiting is tried at once, and not the next.
            match &journey.turn {
                _ if pause.is_zero() => {}
                Some(turn) if turn.stopping => std::thread::sleep(pause),
                _ => drop(self.closing.stop.wait(pause)),
            }
            next = self.advance(&mut journey);
        }
    }

    /// Begins the next attempt where it is due and need not be waited for. `after` is called once, here or on the thread
    /// that hears the answer: with what a worker has to go on with after a pause, or nothing at the end.
    pub(crate) fn launch(
        delivery: &Arc<Delivery>,
        mut journey: Journey,
        after: impl FnOnce(Option<(Journey, Duration)>) + Send + 'static,
    ) {
        let Some((group, halvings)) = journey.todo.pop() else { return after(None) };
        match delivery.prepare(&group, &mut journey.turn) {
            Ready::Now => {
                let (began, deadline) = delivery.attempt_begins();
                let own = Arc::clone(delivery);
                let landed = move |group, outcome| after(own.landed(journey, group, halvings, began, outcome));
                if let Err(back) = delivery.exporter.begin(group, deadline, Box::new(landed)) {
                    let (group, landed) = *back;
                    landed(group, None);
                }
            }
            Ready::Later(pause) => {
                journey.todo.push((group, halvings));
                after(Some((journey, pause)));
            }
            Ready::Never(outcome) => after(delivery.over(journey, group, halvings, outcome)),
        }
    }

    /// What becomes of a journey whose attempt was begun by [`Delivery::launch`].
    fn landed(
        &self,
        mut journey: Journey,
        group: Group,
        halvings: u32,
        began: Instant,
        outcome: Option<Outcome>,
    ) -> Option<(Journey, Duration)> {
        let step = match (outcome, &mut journey.turn) {
            (Some(outcome), Some(turn)) => {
                self.meters.requests.increment();
                self.attempt_ends(began, &outcome);
                self.judge(turn, outcome)
            }
            // It was not sent.
            _ => Step::Wait(Duration::ZERO),
        };
        match step {
            Step::Done(outcome) => self.over(journey, group, halvings, outcome),
            Step::Wait(pause) => {
                journey.todo.push((group, halvings));
                Some((journey, pause))
            }
        }
    }

    /// Ends a request of a journey; what else there is of the journey is a worker's.
    fn over(&self, mut journey: Journey, group: Group, halvings: u32, outcome: Outcome) -> Option<(Journey, Duration)> {
        journey.turn = None;
        self.end(&mut journey, group, halvings, outcome);
        if !journey.todo.is_empty() {
            return Some((journey, Duration::ZERO));
        }
        self.meters.in_flight.sub(1);
        None
    }

    /// Begins with a group; `None` where that is its end already.
    pub(crate) fn begin(&self, mut group: Group) -> Option<Journey> {
        group.remove_withdrawn();
        if group.items().get() == 0 {
            // OTLP, Empty Telemetry Envelopes: a request without items is not worth sending.
            group.settle(Outcome::Delivered);
            return None;
        }
        self.meters.in_flight.add(1);
        Some(Journey { todo: smallvec![(group, 0)], turn: None })
    }

    /// Makes the attempts that are due, and says how long to wait until the next; `None` at the end. Never waits itself.
    /// Once stop is asked it may be called sooner.
    pub(crate) fn advance(&self, journey: &mut Journey) -> Option<Duration> {
        while let Some((group, halvings)) = journey.todo.pop() {
            match self.try_once(&group, &mut journey.turn) {
                Step::Wait(pause) => {
                    journey.todo.push((group, halvings));
                    return Some(pause);
                }
                Step::Done(outcome) => {
                    journey.turn = None;
                    self.end(journey, group, halvings, outcome);
                }
            }
        }
        self.meters.in_flight.sub(1);
        None
    }

    fn end(&self, journey: &mut Journey, group: Group, halvings: u32, outcome: Outcome) {
        let too_large = matches!(&outcome, Outcome::Failed(failure) if failure.reason == Reason::TOO_LARGE);
        if !too_large || halvings >= HALVINGS_MAX {
            return self.settle(group, outcome);
        }
        // A single item stays whole and is rejected.
        let half = group.items().get().div_ceil(2);
        let halves = split_group(group, PartLimit::items(ItemCount(half)));
        if let [only] = halves.as_slice() {
            debug_assert!(only.items() <= ItemCount(1), "what holds several items can be halved");
            return halves.into_iter().for_each(|group| self.settle(group, outcome.clone()));
        }
        self.halved.log(self.clock.now(), || {
            log::warn!("exporter {}: too large for the destination, sent again in two halves", self.id);
        });
        journey.todo.extend(halves.into_iter().rev().map(|half| (half, halvings + 1)));
    }

    /// Makes an attempt, unless it is too early or too late for one.
    fn try_once(&self, group: &Group, turn: &mut Option<Turn>) -> Step {
        match self.prepare(group, turn) {
            Ready::Later(pause) => return Step::Wait(pause),
            Ready::Never(outcome) => return Step::Done(outcome),
            Ready::Now => {}
        }
        let outcome = self.attempt(group);
        match turn {
            Some(turn) => self.judge(turn, outcome),
            None => Step::Done(outcome),
        }
    }

    /// Whether it is too early or too late for an attempt.
    fn prepare(&self, group: &Group, turn: &mut Option<Turn>) -> Ready {
        let (now, stopping) = (self.clock.now(), self.closing.stop.asked());
        let fresh = || Retry::new(&self.retry, now, retry::seed());
        let first = turn.is_none();
        let turn = turn.get_or_insert_with(|| Turn { retry: fresh(), stopping, failure: None });
        if first || stopping && !turn.stopping {
            if self.closing.deadline().passed(now) {
                let late = || Failure::refused(Reason::SHUTDOWN, "not sent before the deadline of the shutdown");
                return Ready::Never(turn.failure.take().map_or_else(late, retry::stopped).into());
            }
            if !first {
                *turn = Turn { retry: fresh(), stopping, failure: turn.failure.take() };
            }
        }
        if let Some(wait) = self.rate_wait(group) {
            if self.closing.deadline().remaining(now).is_some_and(|left| left <= wait) {
                let late = "the rate limit let it wait until the shutdown";
                return Ready::Never(Failure::refused(Reason::SHUTDOWN, late).into());
            }
            return Ready::Later(wait);
        }
        Ready::Now
    }

    /// What follows from an attempt's outcome.
    fn judge(&self, turn: &mut Turn, outcome: Outcome) -> Step {
        let failure = match outcome {
            Outcome::Failed(failure) => failure,
            taken => return Step::Done(taken),
        };
        let now = self.clock.now();
        let pause = match turn.retry.next(now, &failure) {
            Decision::GiveUp(why) => return Step::Done(why.outcome(failure, turn.retry.attempts()).into()),
            Decision::Wait(pause) => pause,
        };
        self.trouble.log(now, || {
            log::info!(
                "Exporting failed. Will retry the request after interval. exporter={} interval={:.3}s error={}",
                self.id,
                pause.as_secs_f64(),
                failure.message
            );
        });
        if turn.stopping && self.closing.deadline().remaining(now).is_some_and(|left| left <= pause) {
            return Step::Done(retry::stopped(failure).into());
        }
        turn.failure = Some(failure);
        Step::Wait(pause)
    }

    /// How long the configured rate holds a group back; retries count like first attempts.
    fn rate_wait(&self, group: &Group) -> Option<Duration> {
        self.limiter.as_ref()?.try_take(group.weight()).err()
    }

    /// One attempt.
    fn attempt(&self, group: &Group) -> Outcome {
        let (began, deadline) = self.attempt_begins();
        self.meters.requests.increment();
        let outcome = catch_panic(|| self.exporter.export(group, deadline)).unwrap_or_else(|panic| {
            let message = format!("exporter {} panicked: {panic}", self.id);
            log::error!("{message}; {} {} are lost", group.items(), self.signal.items_name());
            Failure::rejected(Code::Internal, Reason::PANIC, message).into()
        });
        self.attempt_ends(began, &outcome);
        outcome
    }

    /// Now, and by when an attempt that begins now has to end.
    fn attempt_begins(&self) -> (Instant, Deadline) {
        let began = self.clock.now();
        let deadline = self.timeout.map_or(Deadline::NEVER, |timeout| Deadline::after(began, timeout));
        (began, deadline.min(self.closing.deadline()))
    }

    fn attempt_ends(&self, began: Instant, outcome: &Outcome) {
        self.meters.duration.record_duration(self.clock.now().saturating_duration_since(began));
        match outcome {
            Outcome::Failed(failure) => {
                let labels = vec![
                    ("exporter", self.id.clone()),
                    ("data_type", self.signal.to_string()),
                    ("reason", failure.reason.to_string()),
                ];
                self.registry.counter(names::EXPORTER_FAILURES, None, labels).increment();
                self.trouble.begin(failure);
            }
            Outcome::Delivered | Outcome::Partial { .. } => self.trouble.end(&self.id),
        }
    }

    fn settle(&self, group: Group, outcome: Outcome) {
        let items = group.items().get();
        match &outcome {
            Outcome::Delivered => self.meters.sent.add(items),
            Outcome::Partial { rejected, message } => {
                let rejected = rejected.get().min(items);
                self.meters.sent.add(items - rejected);
                if rejected > 0 {
                    self.send_failed().add(rejected);
                }
                self.partial.log(self.clock.now(), || {
                    log::warn!(
                        "Partial success response. exporter={} dropped_{}={rejected} message={message}",
                        self.id,
                        self.signal.metric_suffix()
                    );
                });
            }
            Outcome::Failed(failure) => {
                self.send_failed().add(items);
                self.trouble.log_lost(self.clock.now(), || {
                    log::error!(
                        "Exporting failed. Dropping data. exporter={} reason={} dropped_items={items} error={}",
                        self.id,
                        failure.reason,
                        failure.message
                    );
                });
            }
        }
        group.settle(outcome);
    }

    /// Made on the first failure, as the Collector does it: a series that is there says that something failed.
    fn send_failed(&self) -> Counter {
        let label = vec![("exporter", self.id.clone())];
        self.registry.counter(names::EXPORTER_SEND_FAILED, Some(self.signal), label)
    }

    /// How the destination fares: the exporter's own word, unless the last attempt failed.
    pub(crate) fn health(&self) -> Health {
        self.trouble.health(&self.id).unwrap_or_else(|| self.exporter.health())
    }

    pub(crate) fn exporter(&self) -> &Arc<dyn Exporter> {
        &self.exporter
    }
}

/// What is wrong with a destination, from the first failed attempt to the next that succeeds.
#[derive(Default)]
struct Trouble {
    present: AtomicBool,
    message: Mutex<String>,
    retried: LogGate,
    lost: LogGate,
}

impl Trouble {
    fn begin(&self, failure: &Failure) {
        // What the destination refuses for ever is the data's fault, not the destination's.
        if failure.is_retryable() || failure.reason == Reason::UNAUTHORIZED {
            failure.message.as_ref().clone_into(&mut self.message.lock());
            self.present.store(true, Ordering::Release);
        }
    }

    fn end(&self, id: &str) {
        if self.present.load(Ordering::Acquire) && self.present.swap(false, Ordering::AcqRel) {
            log::info!("exporter {id} works again");
        }
    }

    fn log(&self, now: Instant, line: impl FnOnce()) {
        self.retried.log(now, line);
    }

    fn log_lost(&self, now: Instant, line: impl FnOnce()) {
        self.lost.log(now, line);
    }

    fn health(&self, id: &str) -> Option<Health> {
        let failing = self.present.load(Ordering::Acquire);
        failing.then(|| Health::unhealthy(format!("exporter {id}: {}", self.message.lock())))
    }
}

/// Lets a line through once in a while, so that a dead destination does not fill the disk.
#[derive(Default)]
pub(crate) struct LogGate(Mutex<Option<(Instant, u64)>>);

impl LogGate {
    pub(crate) fn log(&self, now: Instant, line: impl FnOnce()) {
        self.log_every(now, LOG_INTERVAL, line);
    }

    pub(crate) fn log_every(&self, now: Instant, interval: Duration, line: impl FnOnce()) {
        let kept = {
            let mut last = self.0.lock();
            match &mut *last {
                Some((at, kept)) if now.saturating_duration_since(*at) < interval => {
                    *kept += 1;
                    return;
                }
                last => last.replace((now, 0)).map_or(0, |(_, kept)| kept),
            }
        };
        if kept > 0 {
            log::info!("{kept} lines like the next one were left out");
        }
        line();
    }
}
