//! Records → the pipeline, each until it is taken.
//!
//! Invariants:
//!
//! - A record is behind us only when the pipeline took it, or nobody can ever take it, which is counted.
//! - While anything waits to be offered again nothing more is read, and never more than [`OPEN_MAX`] are on their way.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use otlp_core::component::Outlets;
use otlp_core::thread::catch_panic;
use otlp_core::{Ack, Batch, ByteSize, Code, Context, Failure, ItemCount, Outcome, Reason, Retry, Signal, Stop};
use parking_lot::Mutex;

use super::config::Config;
use super::decode;
use super::metrics::Metrics;
use super::tail::{Found, Tails};
use super::{Env, Status};

/// Requests that are with the pipeline and not settled.
const OPEN_MAX: usize = 64;

/// Waits between two offers of the same request: doubling.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Records that nobody can take are logged that often at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A request's number and what became of it.
type Settled = (u64, Outcome);

/// A request as it stood in a file.
struct Record {
    bytes: Vec<u8>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Line,
    /// A line without its end, which may be torn.
    Rest,
    /// It stood behind its length.
    Frame,
}

/// A request that is with the pipeline or waits to be.
#[derive(Clone)]
struct Request {
    number: u64,
    signal: Signal,
    items: ItemCount,
    body: bytes::Bytes,
    /// How often it came back.
    refusals: u32,
}

pub(super) struct Intake {
    env: Env,
    config: Config,
    outlets: Outlets,
    context: Arc<Context>,
    metrics: Arc<Metrics>,
    status: Arc<Mutex<Status>>,
    tails: Tails,
    /// What was read and found no memory.
    held: Option<Record>,
    waiting: VecDeque<Request>,
    /// When the first of those is offered again.
    due: Option<Instant>,
    open: HashMap<u64, Request>,
    outcomes: (Sender<Settled>, Receiver<Settled>),
    next_number: u64,
    next_look: Option<Instant>,
    bad: Bad,
}

/// Records that were passed over since that was logged last.
#[derive(Default)]
struct Bad {
    count: u64,
    logged: Option<Instant>,
}

impl Intake {
    pub(super) fn new(
        id: &str,
        config: &Config,
        outlets: Outlets,
        env: &Env,
        metrics: Arc<Metrics>,
        status: Arc<Mutex<Status>>,
    ) -> Intake {
        Intake {
            env: env.clone(),
            config: config.clone(),
            outlets,
            context: Arc::new(Context { receiver: id.into(), transport: "file", ..Context::default() }),
            metrics,
            status,
            tails: Tails::new(config),
            held: None,
            waiting: VecDeque::new(),
            due: None,
            open: HashMap::new(),
            outcomes: unbounded(),
            next_number: 0,
            next_look: None,
            bad: Bad::default(),
        }
    }

    /// Until stop is asked.
    pub(super) fn run(&mut self, stop: &Stop) {
        while !stop.asked() {
            let now = Instant::now();
            while let Ok((number, outcome)) = self.outcomes.1.try_recv() {
                self.settled(number, outcome, now);
            }
            if self.next_look.is_none_or(|look| now >= look) {
                self.tails.look();
                self.next_look = Some(now + self.config.poll_interval);
            }
            if self.due.is_none_or(|due| now >= due) && self.step(now) {
                continue;
            }
            let wake = self.due.into_iter().chain(self.next_look).min().unwrap_or(now);
            crossbeam_channel::select! {
                recv(stop.channel()) -> _ => {}
                recv(self.outcomes.1) -> outcome => if let Ok((number, outcome)) = outcome {
                    self.settled(number, outcome, Instant::now());
                },
                default(wake.saturating_duration_since(Instant::now())) => {}
            }
        }
        if self.bad.count > 0 {
            let count = std::mem::take(&mut self.bad.count);
            log::error!("receiver {}: requests passed over that were not logged: {count}", self.context.receiver);
        }
    }

    /// Does the next thing that there is to do; false where there is none now.
    fn step(&mut self, now: Instant) -> bool {
        self.due = None;
        if let Some(request) = self.waiting.pop_front() {
            self.offer(request, now);
            return true;
        }
        if self.open.len() >= OPEN_MAX {
            return false;
        }
        if let Some(record) = self.held.take() {
            self.take(record, now);
            return true;
        }
        let Some((path, found)) = self.tails.next() else { return false };
        match found {
            Ok(Found::Line(line)) if line.trim_ascii().is_empty() => {}
            Ok(Found::Line(bytes)) => self.take_from(&path, Record { bytes, form: Form::Line }, now),
            Ok(Found::Rest(bytes)) => self.take_from(&path, Record { bytes, form: Form::Rest }, now),
            Ok(Found::Frame(bytes)) => self.take_from(&path, Record { bytes, form: Form::Frame }, now),
            Ok(Found::TooLong) => {
                let message = format!("a request is longer than {}; set max_log_size", self.config.line_bytes_max);
                self.bad(&path, Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message), now);
            }
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                let mut status = self.status.lock();
                if status.trouble.as_ref() != Some(&message) {
                    log::error!("{message}");
                    status.trouble = Some(message);
                }
                return true;
            }
        }
        let mut status = self.status.lock();
        if status.trouble.is_some() {
            status.trouble = None;
        }
        true
    }

    fn take_from(&mut self, path: &Path, record: Record, now: Instant) {
        self.status.lock().path = path.to_owned();
        self.take(record, now);
    }

    /// Decodes a record and offers it.
    fn take(&mut self, record: Record, now: Instant) {
        let path = self.status.lock().path.clone();
        let batch = match self.batch(&record) {
            // Not where it is larger than all the memory there is: waiting would hold up those behind it for ever.
            Err(failure) if failure.is_retryable() => return self.keep(record, failure, now),
            batch => batch,
        };
        if record.form == Form::Rest {
            match &batch {
                Ok(_) => self.tails.rest_taken(),
                // Torn: what is missing may come, or be cut off by whoever writes it.
                Err(_) => return,
            }
        }
        self.metrics.bytes.add(record.bytes.len() as u64);
        match batch {
            Ok(Some(batch)) if self.outlets.get(batch.signal()).is_some() => {
                let number = self.next_number;
                self.next_number += 1;
                let body = batch.body().clone();
                let request = Request { number, signal: batch.signal(), items: batch.items(), body, refusals: 0 };
                self.send(request, batch, now);
            }
            // No items, or of a signal that no pipeline takes from here.
            Ok(_) => {}
            Err(failure) => self.bad(&path, failure, now),
        }
    }

    /// What is in a record, with the memory it takes.
    fn batch(&self, record: &Record) -> Result<Option<Batch>, Failure> {
        let (bytes, max) = (&record.bytes[..], self.config.line_bytes_max);
        // The bytes in protobuf are about half as many as in JSON; what they really take is reserved when they are known.
        let mut memory = self.env.budget.reserve(ByteSize::from(bytes.len()))?;
        let decoded = catch_panic(|| match record.form {
            Form::Line | Form::Rest => decode::line(bytes, max),
            Form::Frame => {
                let wanted = |signal| self.outlets.get(signal).is_some();
                decode::frame(bytes, max, wanted, &mut |inflated| {
                    memory.grow_to(ByteSize(inflated.get().saturating_add(bytes.len() as u64)))
                })
            }
        });
        let decoded = decoded.unwrap_or_else(|panic| Err(Failure::rejected(Code::Internal, Reason::PANIC, panic)))?;
        let Some(batch) = decoded else { return Ok(None) };
        memory.grow_to(batch.size())?;
        memory.shrink_to(batch.size());
        Ok(Some(batch.with_memory(memory)))
    }

    fn keep(&mut self, record: Record, failure: Failure, now: Instant) {
        log::debug!("a request of {} bytes waits: {failure}", record.bytes.len());
        self.held = Some(record);
        self.due = Some(now + BACKOFF_MAX.min(BACKOFF_MIN * 4));
    }

    /// Offers what came back before.
    fn offer(&mut self, request: Request, now: Instant) {
        match self.env.budget.reserve(ByteSize::from(request.body.len())) {
            Ok(memory) => {
                let batch = Batch::trusted(request.signal, request.items, request.body.clone()).with_memory(memory);
                self.send(request, batch, now);
            }
            Err(failure) => self.wait(request, &failure, now),
        }
    }

    fn send(&mut self, request: Request, batch: Batch, now: Instant) {
        let Some(outlet) = self.outlets.get(request.signal) else { return };
        let (signal, items, number) = (request.signal, request.items, request.number);
        let (outcomes, metrics) = (self.outcomes.0.clone(), Arc::clone(&self.metrics));
        let ack = Ack::new(self.env.ack_mode[signal.index()], move |outcome| {
            metrics.settled(signal, items, &outcome);
            // Fails where the receiver has stopped: then nobody offers it again.
            let _ = outcomes.send((number, outcome));
        });
        let batch = batch.with_ack(ack).with_context(Arc::clone(&self.context));
        self.open.insert(number, request);
        // A refused batch comes back with the share in its answer, which is settled here and heard as any other.
        match catch_panic(|| outlet.try_send(batch)) {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => refused.batch.settle(Outcome::Failed(refused.failure)),
            // Its share settled itself.
            Err(panic) => log::error!("receiver {}: the pipeline panicked: {panic}", self.context.receiver),
        }
        while let Ok((number, outcome)) = self.outcomes.1.try_recv() {
            self.settled(number, outcome, now);
        }
    }

    fn settled(&mut self, number: u64, outcome: Outcome, now: Instant) {
        let Some(request) = self.open.remove(&number) else { return };
        match outcome {
            Outcome::Failed(failure) if failure.is_retryable() => self.wait(request, &failure, now),
            Outcome::Failed(failure) => {
                log::error!(
                    "receiver {}: {} {} were rejected: {failure}",
                    self.context.receiver,
                    request.items,
                    request.signal.items_name()
                );
            }
            Outcome::Delivered | Outcome::Partial { .. } => {}
        }
    }

    fn wait(&mut self, mut request: Request, failure: &Failure, now: Instant) {
        let backoff = BACKOFF_MIN.saturating_mul(1 << request.refusals.min(10)).min(BACKOFF_MAX);
        let wait = match failure.retry {
            Retry::After(delay) => delay.max(backoff),
            _ => backoff,
        };
        request.refusals = request.refusals.saturating_add(1);
        // In the order of the file, as far as that is known.
        let place = self.waiting.partition_point(|other| other.number < request.number);
        self.waiting.insert(place, request);
        let due = now + wait;
        self.due = Some(self.due.map_or(due, |other| other.max(due)));
    }

    /// Counts a record that nobody can ever take.
    fn bad(&mut self, path: &Path, failure: Failure, now: Instant) {
        self.metrics.bad(failure.reason);
        self.bad.count += 1;
        if self.bad.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_EVERY) {
            let (count, path) = (std::mem::take(&mut self.bad.count), path.display());
            log::error!(
                "receiver {}: requests passed over: {count}, the last in {path}: {failure}",
                self.context.receiver
            );
            self.bad.logged = Some(now);
        }
    }
}
