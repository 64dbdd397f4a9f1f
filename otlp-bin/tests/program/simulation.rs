//! Processors, queues, retries and books together on a simulated clock, stepped on one thread from a seed: backends that
//! are down, ask to wait, take too little at once, take a part, refuse for ever or panic. Nothing is lost, nothing comes
//! twice, every sender hears, and the books balance after every step.
//!
//! A failing seed is repeated with `OTLPD_SEED=N cargo test -p otlp-bin --test program simulation`; `OTLPD_CASES=N` runs
//! more of them.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use otlp_core::ack::Withdrawal;
use otlp_core::component::{Exporter, Health, Processor, Refused, Transform};
use otlp_core::flow::WhenFull;
use otlp_core::telemetry::Registry;
use otlp_core::telemetry::ledger::{Column, Ledger};
use otlp_core::testing::random::Random;
use otlp_core::wire::retain;
use otlp_core::{Ack, AckMode, Batch, Clock, Code, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};
use otlp_export::{Destination, Destinations, Settings, Steps, Threads, queue, retry};
use otlp_process::Chain;
use otlp_process::batch::{BatchProcessor, Config as BatchConfig};
use otlp_process::chain::Stateless;
use otlp_process::stage::Processing;
use prost::Message;

/// Records whose number is a multiple of this are removed by a processor.
const REMOVED: u64 = 7;

fn is_kept(number: u64) -> bool {
    !number.is_multiple_of(REMOVED)
}

/// Records by number.
fn logs(first: u64, items: u64) -> Batch {
    let record = |number| LogRecord { time_unix_nano: number, ..LogRecord::default() };
    let log_records = (first..first + items).map(record).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] };
    Batch::trusted(Signal::Logs, ItemCount(items), request.encode_to_vec().into())
}

fn numbers(body: &[u8]) -> Vec<u64> {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    scopes.flat_map(|scope| scope.log_records).map(|record| record.time_unix_nano).collect()
}

struct Remover;

impl Transform for Remover {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let mut numbers = numbers(batch.body()).into_iter();
        let left = retain(batch.signal(), batch.body(), |_| is_kept(numbers.next().unwrap()));
        Ok(batch.retained(left))
    }
}

/// How a backend answers.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fine,
    Down,
    /// 503 or 429 with Retry-After.
    Busy(Duration),
    /// 413 for more than so many at once.
    Narrow(usize),
    /// Partial success: this many are not taken.
    Picky(usize),
    /// 400 for everything.
    Sour,
    Panics,
}

/// A backend, and what it has to say about those who call it.
struct Backend {
    clock: Clock,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    random: Random,
    weather: Weather,
    arrived: Vec<u64>,
    /// By the numbers in a request: when it may come again.
    not_before: HashMap<Vec<u64>, Instant>,
    too_large: HashSet<Vec<u64>>,
    log: String,
}

impl Backend {
    fn new(clock: &Clock, seed: u64) -> Arc<Backend> {
        let state = State {
            random: Random::new(seed),
            weather: Weather::Fine,
            arrived: Vec::new(),
            not_before: HashMap::new(),
            too_large: HashSet::new(),
            log: String::new(),
        };
        Arc::new(Backend { clock: clock.clone(), began: clock.now(), state: Mutex::new(state) })
    }

    fn answer(&self, sent: Vec<u64>) -> Outcome {
        let state = &mut *self.state.lock().unwrap();
        let now = self.clock.now();
        writeln!(state.log, "{:?} {:?} {sent:?}", now - self.began, state.weather).unwrap();
        assert!(!sent.is_empty(), "a request without items is not worth sending");
        assert!(state.not_before.get(&sent).is_none_or(|&at| at <= now), "came again before Retry-After was over");
        assert!(!state.too_large.contains(&sent), "what was too large came again");
        self.clock.advance(Duration::from_millis(state.random.below(40)));
        match state.weather {
            Weather::Down => Failure::refused(Reason::CONNECTION, "nobody listens").into(),
            Weather::Busy(delay) => {
                state.not_before.insert(sent, self.clock.now() + delay);
                Failure::refused(Reason::UNAVAILABLE, "busy").retry_after(delay).into()
            }
            Weather::Narrow(most) if sent.len() > most => {
                state.too_large.insert(sent);
                Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, "too large").into()
            }
            Weather::Picky(not_taken) => {
                let rejected = not_taken.min(sent.len());
                state.arrived.extend(&sent[rejected..]);
                Outcome::Partial { rejected: ItemCount::from(rejected), message: "not those".into() }
            }
            Weather::Sour => Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "never").into(),
            Weather::Fine | Weather::Narrow(_) | Weather::Panics => {
                state.arrived.extend(sent);
                Outcome::Delivered
            }
        }
    }

    fn set(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }
}

struct Sends(Arc<Backend>);

impl Exporter for Sends {
    fn export(&self, group: &Group, _: Deadline) -> Outcome {
        let panics = matches!(self.0.state.lock().unwrap().weather, Weather::Panics);
        assert!(!panics, "on purpose");
        self.0.answer(numbers(&group.joined()))
    }

    fn shutdown(&self, _: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

/// Somebody who sent a batch.
struct Sender {
    first: u64,
    items: u64,
    mode: AckMode,
    heard: Receiver<Outcome>,
    withdrawal: Withdrawal,
}

struct World {
    random: Random,
    clock: Clock,
    ledger: Arc<Ledger>,
    processing: Processing,
    destinations: Vec<(Arc<Destination>, Steps, Arc<Backend>)>,
    consumers: usize,
    senders: Vec<Sender>,
    next_number: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let clock = Clock::simulated();
        let registry = Registry::with_clock(clock.clone());
        let ledger = Ledger::new("logs", Signal::Logs, ["a", "b"]);
        let destinations: Vec<_> = ["a", "b"]
            .map(|id| {
                let backend = Backend::new(&clock, random.bits());
                let settings = settings(id, &mut random, &clock, &registry, &backend);
                (Destination::new(settings), Steps::default(), backend)
            })
            .into();
        let mut chain: Vec<Box<dyn Processor>> = vec![Box::new(Stateless::new(Remover))];
        if !random.once_in(3) {
            let size = 1 + random.below(20) as u32;
            let config = BatchConfig {
                send_batch_size: size,
                send_batch_max_size: if random.once_in(2) { size } else { 0 },
                timeout: Duration::from_millis(1 + random.below(2000)),
                ..BatchConfig::default()
            };
            let batch = Box::new(BatchProcessor::new("batch", config, &registry).unwrap());
            chain.insert(random.index(2), batch);
        }
        let fanout = Arc::new(Destinations::new(destinations.iter().map(|(destination, ..)| Arc::clone(destination))));
        let processing = Processing::new(Chain::new(chain), Arc::clone(&ledger), fanout, &registry, clock.clone());
        let consumers = 1 + random.index(3);
        World { random, clock, ledger, processing, destinations, consumers, senders: Vec::new(), next_number: 1 }
    }

    fn act(&mut self) {
        match self.random.index(12) {
            0..5 => self.offer(),
            5 if !self.senders.is_empty() => {
                let sender = self.senders.swap_remove(self.random.index(self.senders.len()));
                sender.withdrawal.withdraw();
                assert!(sender.heard.iter().count() <= 1, "after a withdrawal nothing more is heard");
            }
            6..8 => {
                let weather = match self.random.index(8) {
                    0..2 => Weather::Fine,
                    2 => Weather::Down,
                    3 => Weather::Busy(Duration::from_millis(self.random.below(12_000))),
                    4 => Weather::Narrow(self.random.index(8)),
                    5 => Weather::Picky(self.random.index(5)),
                    6 => Weather::Sour,
                    _ => Weather::Panics,
                };
                self.destinations[self.random.index(2)].2.set(weather);
            }
            _ => self.clock.advance(Duration::from_millis(self.random.below(4_000))),
        }
    }

    fn offer(&mut self) {
        let mode = [AckMode::Queued, AckMode::Stored, AckMode::Exported][self.random.index(3)];
        let (first, items) = (self.next_number, 1 + self.random.below(12));
        self.next_number += items;
        let (sender, heard) = channel();
        let batch = logs(first, items).with_ack(Ack::new(mode, move |outcome| drop(sender.send(outcome))));
        let withdrawal = batch.ticket().ack().withdrawal();
        self.senders.push(Sender { first, items, mode, heard, withdrawal });
        self.processing.process(batch);
    }

    /// Everything that is due now; when the next is.
    fn step(&mut self) -> Option<Instant> {
        let mut next = self.processing.tick(false);
        for (destination, steps, _) in &mut self.destinations {
            let own = destination.step(steps, self.consumers);
            next = next.into_iter().chain(own).min();
        }
        let page = self.ledger.page();
        assert_eq!(page.balance(), Ok(()));
        let refused: ItemCount = page.refused.values().copied().sum();
        assert_eq!(page.accepted + refused, ItemCount(self.next_number - 1), "every item was accepted or refused");
        next
    }

    fn is_empty(&self) -> bool {
        let page = self.ledger.page();
        page.held == ItemCount::ZERO && page.destinations.iter().all(|column| column.held == ItemCount::ZERO)
    }

    /// Better times: everything that is held has to get somewhere.
    fn finish(&mut self) {
        self.destinations.iter().for_each(|(.., backend)| backend.set(Weather::Fine));
        self.processing.flush();
        for _ in 0..1_000 {
            let next = self.step();
            if self.is_empty() {
                return;
            }
            let next = next.expect("something is held and nothing will happen");
            self.clock.advance(next.saturating_duration_since(self.clock.now()));
        }
        panic!("no progress");
    }

    fn check(&self) {
        let page = self.ledger.page();
        let removable = ItemCount::from((1..self.next_number).filter(|&number| !is_kept(number)).count());
        assert!(page.removed == removable || page.removed < removable && !page.refused.is_empty());
        for ((_, _, backend), column) in self.destinations.iter().zip(&page.destinations) {
            let arrived = &backend.state.lock().unwrap().arrived;
            let distinct: HashSet<u64> = arrived.iter().copied().collect();
            assert_eq!(distinct.len(), arrived.len(), "something came twice");
            assert_eq!(column.exported, ItemCount::from(arrived.len()));
            assert!(distinct.iter().copied().all(is_kept));
            check_reasons(column);
        }
        for sender in &self.senders {
            let outcome = sender.heard.try_recv().expect("every sender hears");
            assert!(sender.heard.try_recv().is_err(), "once");
            if sender.mode == AckMode::Queued || outcome != Outcome::Delivered {
                continue;
            }
            for (.., backend) in &self.destinations {
                let arrived = &backend.state.lock().unwrap().arrived;
                let mut promised = (sender.first..sender.first + sender.items).filter(|&number| is_kept(number));
                assert!(promised.all(|number| arrived.contains(&number)), "{:?} was promised", sender.mode);
            }
        }
    }
}

fn check_reasons(column: &Column) {
    for reason in column.dropped.keys() {
        let known = [Reason::QUEUE_FULL, Reason::RETRIES_EXHAUSTED, Reason::WITHDRAWN];
        assert!(known.contains(reason), "dropped: {reason}");
    }
    for reason in column.rejected.keys() {
        let known = [Reason::PARTIAL_SUCCESS, Reason::TOO_LARGE, Reason::PERMANENT, Reason::PANIC];
        assert!(known.contains(reason), "rejected: {reason}");
    }
}

fn settings(id: &str, random: &mut Random, clock: &Clock, registry: &Registry, backend: &Arc<Backend>) -> Settings {
    let min_size = random.below(15);
    let batch = random.once_in(2).then(|| queue::Batch {
        flush_timeout: Duration::from_millis(1 + random.below(3_000)),
        min_size,
        max_size: if random.once_in(2) { min_size + random.below(5) } else { 0 },
        ..queue::Batch::default()
    });
    let sizer = [queue::Sizer::Requests, queue::Sizer::Items, queue::Sizer::Bytes][random.index(3)];
    let queue_size = match sizer {
        queue::Sizer::Requests => 1 + random.below(30),
        queue::Sizer::Items => 15 + random.below(200),
        queue::Sizer::Bytes => 200 + random.below(4_000),
    };
    let queue = queue::Config { queue_size, sizer, batch, ..queue::Config::default() };
    queue.check().unwrap();
    let retry = retry::Config {
        initial_interval: Duration::from_millis(500),
        // The jitter is not seeded.
        randomization_factor: 0.0,
        max_interval: Duration::from_secs(8),
        max_elapsed_time: Duration::from_secs(30),
        ..retry::Config::default()
    };
    Settings {
        queue,
        retry,
        when_full: [None, Some(WhenFull::Refuse), Some(WhenFull::DropOldest), Some(WhenFull::DropNewest)]
            [random.index(4)],
        clock: clock.clone(),
        registry: registry.clone(),
        threads: Threads::none(),
        ..Settings::new(id, Signal::Logs, Arc::new(Sends(Arc::clone(backend))))
    }
}

/// What happened, in words.
fn run(seed: u64) -> String {
    let mut world = World::new(seed);
    for _ in 0..100 {
        world.act();
        world.step();
    }
    world.finish();
    world.check();
    let mut log = format!("{:?}\n", world.ledger.page());
    for (destination, _, backend) in &world.destinations {
        log += &backend.state.lock().unwrap().log;
        destination.shutdown(Deadline::at(world.clock.now()));
    }
    log
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_is_lost_on_a_simulated_clock_whatever_the_backends_do() {
    let seeds = match number_from("OTLPD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("OTLPD_CASES").unwrap_or(300),
    };
    let (mut exported, mut troubles) = (0, HashSet::new());
    for seed in seeds.clone() {
        // Shown when the test fails.
        println!("OTLPD_SEED={seed}");
        let log = run(seed);
        exported += log.matches(" Fine [").count();
        troubles
            .extend(["Down", "Busy", "Narrow", "Picky", "Sour"].into_iter().filter(|trouble| log.contains(trouble)));
    }
    assert!(exported > 0);
    assert!(seeds.count() < 100 || troubles.len() == 5, "only {troubles:?}");
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed));
    }
}
