mod express;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex as StdMutex};

use bytes::Bytes;
use crossbeam_channel::unbounded;
use otlp_core::component::{Downstream, HealthState, Outlet, Processor, Refused, Transform};
use otlp_core::flow::gate::{Capacity, GateOptions, GateOutlet, Place, Room, Weight, gate};
use otlp_core::testing::generate;
use otlp_core::wire::{Retained, retain, walk};
use otlp_core::{Ack, AckMode, Group, ItemCount, Outcome, Signal};
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchProcessor, Config};
use crate::chain::Passage;
use crate::inlet::PipelineOutlet;

const GENEROUS: Duration = Duration::from_secs(60);

/// What the first byte of a batch makes the chain do.
const PANICS: u8 = 255;
const REFUSED: u8 = 254;
const REMOVED: u8 = 253;
const PANICS_IN_TAIL: u8 = 252;
/// Every second item of it is removed.
const HALVED: u8 = 251;
const REMOVED_ITEM: u8 = 250;

/// One byte an item; the id is in all of them, but for every second of what is to be halved.
fn batch(id: u8, items: usize) -> Batch {
    let byte = |item| if id == HALVED && item % 2 == 1 { REMOVED_ITEM } else { id };
    Batch::trusted(Signal::Traces, ItemCount::from(items), (0..items).map(byte).collect::<Vec<u8>>().into())
}

fn split(batch: &mut Batch, items: ItemCount) -> Option<Batch> {
    let at = items.get() as usize;
    let (first, rest) = (batch.body().slice(..at), batch.body().slice(at..));
    Some(batch.split_off(items, first, rest))
}

/// A transform that does what the first byte says.
struct Obedient;

impl Transform for Obedient {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        match batch.body()[0] {
            PANICS => panic!("a poison batch, on purpose"),
            REFUSED => {
                let failure = Failure::refused(Reason::MEMORY_LIMIT, "no");
                Err(Refused { batch: Box::new(batch), failure, hold: false })
            }
            REMOVED => {
                batch.settle(Outcome::Delivered);
                Ok(None)
            }
            _ => Ok(Some(batch)),
        }
    }
}

/// A transform that removes items.
struct Remover;

impl Transform for Remover {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let body: Bytes = batch.body().iter().copied().filter(|&item| item != REMOVED_ITEM).collect();
        let kept = ItemCount::from(body.len());
        let removed = batch.items() - kept;
        Ok(batch.retained(Retained { body, kept, removed }))
    }
}

struct Stateless<T>(Arc<T>);

impl<T: Transform + 'static> Processor for Stateless<T> {
    fn transform(&self) -> Option<Arc<dyn Transform>> {
        Some(Arc::clone(&self.0) as Arc<dyn Transform>)
    }

    fn process(&mut self, _: Batch, _: &mut dyn Downstream) -> Result<(), Refused> {
        unreachable!("its transform is run instead")
    }
}

/// A stateful processor that passes on what it gets, but for what makes it panic.
struct Touchy;

impl Processor for Touchy {
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        assert_ne!(batch.body()[0], PANICS_IN_TAIL, "a poison batch, on purpose");
        downstream.emit(Group::of(batch));
        Ok(())
    }
}

/// Destinations that are queues and nothing else.
struct Queues {
    outlets: Vec<GateOutlet<Group>>,
    inlets: Vec<GateInlet<Group>>,
}

impl Queues {
    fn new(destinations: usize, capacity: Capacity) -> Arc<Queues> {
        let (outlets, inlets) = (0..destinations).map(|_| gate(capacity)).unzip();
        Arc::new(Queues { outlets, inlets })
    }

    /// Exports what waits at a destination and says what it was.
    fn export(&self, destination: usize, outcome: &Outcome) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.inlets[destination].try_recv().ok())
            .map(|admitted| {
                let mut group = admitted.item;
                group.remove_withdrawn();
                let body = group.joined().to_vec();
                group.settle(outcome.clone());
                body
            })
            .collect()
    }
}

impl Fanout for Queues {
    fn reserve(&self, weight: Weight) -> Result<Room, Failure> {
        let permit = |outlet: &GateOutlet<Group>| outlet.try_reserve(weight).map(Place::Permit);
        match self.outlets.iter().map(permit).collect() {
            Ok(permits) => Ok(Room { permits }),
            Err(_) => Err(Failure::refused(Reason::QUEUE_FULL, "sending queue is full")),
        }
    }

    fn send(&self, group: Group, room: Room) {
        let groups = group.assign(self.outlets.len());
        for ((outlet, mut group), place) in self.outlets.iter().zip(groups).zip(room.permits) {
            let Place::Permit(permit) = place else { panic!("no permit") };
            group.queued();
            outlet.send(group, permit).unwrap();
        }
    }
}

fn ledger() -> Arc<Ledger> {
    Ledger::new("traces", Signal::Traces, ["a", "b"])
}

fn obedient() -> Box<dyn Processor> {
    Box::new(Stateless(Arc::new(Obedient)))
}

fn batching(config: Config) -> Box<dyn Processor> {
    Box::new(BatchProcessor::with_split("batch", config, split, &Registry::new()).unwrap())
}

fn delivered() -> Outcome {
    Outcome::Delivered
}

/// A batch whose sender waits, and what they hear.
fn awaited(batch: Batch, mode: AckMode) -> (Batch, Receiver<Outcome>) {
    let (sender, heard) = unbounded();
    (batch.with_ack(Ack::new(mode, move |outcome| drop(sender.send(outcome)))), heard)
}

#[derive(Clone, Debug)]
enum Step {
    Offer { id: u8, items: usize, mode: AckMode },
    Withdraw,
    Advance { ms: u64 },
    Export { destination: usize, fails: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![Just(AckMode::Queued), Just(AckMode::Stored), Just(AckMode::Exported)];
    let id = prop_oneof![8 => 0u8..100, 1 => REMOVED..=PANICS, 1 => Just(PANICS_IN_TAIL), 2 => Just(HALVED)];
    let step = prop_oneof![
        8 => (id, 1usize..12, mode).prop_map(|(id, items, mode)| Step::Offer { id, items, mode }),
        1 => Just(Step::Withdraw),
        3 => (0u64..150).prop_map(|ms| Step::Advance { ms }),
        3 => (0usize..2, prop::bool::weighted(0.2))
            .prop_map(|(destination, fails)| Step::Export { destination, fails }),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256)
    ))]

    /// The whole stage but its thread, stepped: the books balance after every step, every sender hears exactly once,
    /// who heard OK under `exported` has the data at both destinations, and order is kept.
    #[test]
    fn nothing_is_lost_whatever_happens(
        steps in steps(),
        size in 0u32..20,
        bounded_size in any::<bool>(),
        capacity in 5u64..60,
        batches in any::<bool>(),
        obedient_late in any::<bool>(),
        remover_at in 0usize..4,
    ) {
        let (ledger, clock) = (ledger(), Clock::simulated());
        let queues = Queues::new(2, Capacity { requests: Some(1000), items: Some(capacity), bytes: None });
        let config = Config {
            send_batch_size: size,
            send_batch_max_size: if bounded_size { size } else { 0 },
            ..Config::default()
        };
        let mut chain = vec![obedient()];
        chain.insert(usize::from(!obedient_late), Box::new(Touchy) as Box<dyn Processor>);
        if batches {
            chain.push(batching(config));
        }
        chain.insert(remover_at.min(chain.len()), Box::new(Stateless(Arc::new(Remover))));
        let fanout = Arc::clone(&queues) as Arc<dyn Fanout>;
        let mut processing =
            Processing::new(Chain::new(chain), Arc::clone(&ledger), fanout, &Registry::new(), clock.clone());
        let mut waiting: VecDeque<(u8, usize, AckMode, Receiver<Outcome>)> = VecDeque::new();
        let mut withdrawals = Vec::new();
        let mut sent = [Vec::new(), Vec::new()];
        let mut offered = 0;
        for step in steps {
            match step {
                Step::Offer { id, items, mode } => {
                    let id = if id < 100 { offered % 100 } else { id };
                    offered += u8::from(offered < u8::MAX);
                    let (batch, heard) = awaited(batch(id, items), mode);
                    withdrawals.push(batch.ticket().ack().withdrawal());
                    processing.process(batch);
                    waiting.push_back((id, items, mode, heard));
                }
                Step::Withdraw => {
                    if let Some(withdrawal) = withdrawals.pop() {
                        withdrawal.withdraw();
                        waiting.pop_back();
                    }
                }
                Step::Advance { ms } => clock.advance(Duration::from_millis(ms)),
                Step::Export { destination, fails } => {
                    let outcome = match fails {
                        true => Failure::refused(Reason::RETRIES_EXHAUSTED, "dead").into(),
                        false => delivered(),
                    };
                    sent[destination].extend(queues.export(destination, &outcome));
                }
            }
            let next = processing.tick(false);
            prop_assert!(next.is_none_or(|next| next > clock.now()));
            prop_assert_eq!(ledger.page().balance(), Ok(()));
        }
        processing.flush();
        prop_assert_eq!(ledger.page().held, ItemCount::ZERO);
        for (destination, sent) in sent.iter_mut().enumerate() {
            sent.extend(queues.export(destination, &delivered()));
        }
        let page = ledger.page();
        prop_assert_eq!(page.balance(), Ok(()));
        for column in &page.destinations {
            prop_assert_eq!(column.held, ItemCount::ZERO);
            prop_assert_eq!(column.dropped_for(Reason::LOST), ItemCount::ZERO);
        }
        let mut halved = 0;
        for (id, items, mode, heard) in waiting {
            let outcome = heard.try_recv();
            prop_assert!(outcome.is_ok(), "the sender of {} heard nothing", id);
            prop_assert!(heard.try_recv().is_err());
            match (id, outcome.unwrap()) {
                (PANICS | PANICS_IN_TAIL, Outcome::Failed(failure)) => {
                    prop_assert_eq!((failure.reason, failure.is_retryable()), (Reason::PANIC, false));
                }
                (REFUSED, Outcome::Failed(failure)) => prop_assert_eq!(failure.reason, Reason::MEMORY_LIMIT),
                (REMOVED, outcome) => prop_assert_eq!(outcome, delivered()),
                (HALVED, Outcome::Delivered) => halved += items.div_ceil(2),
                (id, Outcome::Delivered) => {
                    prop_assert!(id < 100);
                    for sent in &sent {
                        let found = sent.concat().iter().filter(|&&byte| byte == id).count();
                        prop_assert_eq!(found, items, "{:?} promised batch {}", mode, id);
                    }
                }
                (_, Outcome::Failed(failure)) => prop_assert!(
                    [Reason::QUEUE_FULL, Reason::RETRIES_EXHAUSTED].contains(&failure.reason),
                    "{:?}", failure
                ),
                (id, outcome) => prop_assert!(false, "{}: {:?}", id, outcome),
            }
        }
        for sent in &sent {
            let mut sent = sent.concat();
            prop_assert!(!sent.contains(&REMOVED_ITEM));
            prop_assert!(sent.iter().filter(|&&byte| byte == HALVED).count() >= halved);
            sent.retain(|&byte| byte < 100);
            prop_assert!(offered >= 100 || sent.is_sorted(), "order is kept: {:?}", sent);
        }
    }
}

/// Keeps a thread busy until as many are as are expected, or long enough, and remembers how many there were.
#[derive(Default)]
struct Crowd {
    expected: usize,
    now: StdMutex<usize>,
    came: Condvar,
    most: AtomicUsize,
}

impl Transform for Crowd {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let mut now = self.now.lock().unwrap();
        *now += 1;
        self.most.fetch_max(*now, Ordering::SeqCst);
        self.came.notify_all();
        while *now < self.expected && self.most.load(Ordering::SeqCst) < self.expected {
            let (guard, timeout) = self.came.wait_timeout(now, GENEROUS).unwrap();
            now = guard;
            assert!(!timeout.timed_out(), "nobody else came");
        }
        *now -= 1;
        Ok(Some(batch))
    }
}

struct Running {
    stage: Stage,
    outlet: PipelineOutlet,
    queues: Arc<Queues>,
    ledger: Arc<Ledger>,
}

/// A running stage; `before` waits in its inlet when it starts.
fn running(chain: Vec<Box<dyn Processor>>, threads: usize, max_concurrent: usize, before: Vec<Batch>) -> Running {
    let (ledger, clock) = (ledger(), Clock::system());
    let capacity = Capacity { requests: Some(1000), ..Capacity::default() };
    let (outlet, inlet) = PipelineOutlet::new(GateOptions { capacity, ..GateOptions::default() }, Arc::clone(&ledger));
    for batch in before {
        outlet.try_send(batch).unwrap();
    }
    let queues = Queues::new(2, Capacity::default());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let stage = Stage::start(StageOptions {
        name: "proc-0".into(),
        ledger: Arc::clone(&ledger),
        chain: Chain::new(chain),
        fanout: Arc::clone(&queues) as Arc<dyn Fanout>,
        inlet,
        pool: Some(Arc::new(pool)),
        max_concurrent,
        pool_work_min: Duration::ZERO,
        registry: Registry::new(),
        clock,
        thread: ThreadOptions::default(),
    })
    .unwrap();
    Running { stage, outlet, queues, ledger }
}

impl Running {
    fn stop(&mut self) -> bool {
        self.stage.shutdown(Deadline::after(Instant::now(), GENEROUS))
    }
}

#[test]
fn several_batches_are_processed_at_once_but_no_more_than_configured() {
    for (threads, max_concurrent, expected) in [(4, 2, 2), (2, 0, 2), (4, 1, 1), (3, 8, 3)] {
        let crowd = Arc::new(Crowd { expected, ..Crowd::default() });
        let before = (0..32).map(|id| batch(id, 1)).collect();
        let mut running = running(vec![Box::new(Stateless(Arc::clone(&crowd)))], threads, max_concurrent, before);
        assert!(running.stop());
        assert_eq!(crowd.most.load(Ordering::SeqCst), expected, "{threads} threads, at most {max_concurrent}");
        let sent = running.queues.export(0, &delivered()).concat();
        assert_eq!(sent, (0..32).collect::<Vec<u8>>(), "results leave in arrival order");
        assert_eq!(running.outlet.state().held, Weight::default());
    }
}

#[test]
fn a_poison_batch_costs_itself_and_no_other() {
    for chain in [vec![obedient()], vec![obedient(), Box::new(Touchy) as Box<dyn Processor>]] {
        let tail = chain.len() == 2;
        let mut running = running(chain, 2, 0, Vec::new());
        let mut poisoned = Vec::new();
        for id in 0..100 {
            running.outlet.try_send(batch(id, 2)).unwrap();
            if id % 10 == 0 {
                let poison = if tail { PANICS_IN_TAIL } else { PANICS };
                let (batch, heard) = awaited(batch(poison, 3), AckMode::Exported);
                running.outlet.try_send(batch).unwrap();
                poisoned.push(heard);
            }
        }
        for heard in poisoned {
            let Ok(Outcome::Failed(failure)) = heard.recv_timeout(GENEROUS) else { panic!("not rejected") };
            assert_eq!((failure.reason, failure.is_retryable()), (Reason::PANIC, false));
        }
        assert_eq!(running.stage.health().state, HealthState::Ok);
        assert!(running.stop());
        let page = running.ledger.page();
        assert_eq!(page.accepted, ItemCount(200));
        assert_eq!(page.refused[&Reason::PANIC], ItemCount(30));
        assert_eq!(page.balance(), Ok(()));
        assert_eq!(running.queues.export(1, &delivered()).concat().len(), 200);
    }
}

#[test]
fn what_is_in_the_inlet_and_in_the_processors_leaves_at_the_stop() {
    let never = Config { timeout: Duration::from_secs(3600), ..Config::default() };
    let before: Vec<Batch> = (0..100).map(|id| batch(id, 5)).collect();
    let mut running = running(vec![obedient(), batching(never)], 2, 0, before);
    assert!(running.stop());
    assert!(running.stop(), "stopping twice is harmless");
    let sent = running.queues.export(0, &delivered()).concat();
    assert_eq!(sent.len(), 500);
    assert!(sent.is_sorted());
    running.queues.export(1, &delivered());
    let page = running.ledger.page();
    assert_eq!((page.accepted, page.destinations[1].exported), (ItemCount(500), ItemCount(500)));
    assert_eq!(page.balance(), Ok(()));
    let refused = running.outlet.try_send(batch(0, 1)).unwrap_err();
    assert_eq!(refused.failure.reason, Reason::SHUTDOWN);
}

#[test]
fn after_the_deadline_what_was_not_begun_is_refused() {
    let crowd = Arc::new(Crowd { expected: 2, ..Crowd::default() });
    // One thread, so that the second never comes until the test stands in for it.
    let capacity = Capacity { requests: Some(1000), ..Capacity::default() };
    let (outlet, inlet) = PipelineOutlet::new(GateOptions { capacity, ..GateOptions::default() }, ledger());
    let ledger = ledger();
    let queues = Queues::new(2, Capacity::default());
    let mut stage = Stage::start(StageOptions {
        name: "proc-0".into(),
        ledger: Arc::clone(&ledger),
        chain: Chain::new(vec![Box::new(Stateless(Arc::clone(&crowd)))]),
        fanout: Arc::clone(&queues) as Arc<dyn Fanout>,
        inlet,
        pool: None,
        max_concurrent: 0,
        pool_work_min: POOL_WORK_MIN,
        registry: Registry::new(),
        clock: Clock::system(),
        thread: ThreadOptions::default(),
    })
    .unwrap();
    let (first, first_heard) = awaited(batch(1, 1), AckMode::Queued);
    outlet.try_send(first).unwrap();
    let mut now = crowd.now.lock().unwrap();
    while *now == 0 {
        now = crowd.came.wait_timeout(now, GENEROUS).unwrap().0;
    }
    drop(now);
    let rest: Vec<_> = (0..20)
        .map(|id| {
            let (batch, heard) = awaited(batch(id, 1), AckMode::Queued);
            outlet.try_send(batch).unwrap();
            heard
        })
        .collect();
    assert!(!stage.shutdown(Deadline::at(Instant::now())), "it is held up");
    crowd.apply(batch(0, 1)).unwrap();
    assert_eq!(first_heard.recv_timeout(GENEROUS), Ok(delivered()));
    for heard in rest {
        match heard.recv_timeout(GENEROUS) {
            // In the round with the first, or before the stop was seen.
            Ok(Outcome::Delivered) => {}
            Ok(Outcome::Failed(failure)) => assert_eq!(failure.reason, Reason::SHUTDOWN),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ledger.page().balance(), Ok(()));
}

#[test]
fn who_waits_for_the_export_is_not_kept_waiting_for_the_timeout() {
    let never = Config { timeout: Duration::from_secs(3600), ..Config::default() };
    let running = running(vec![batching(never)], 1, 0, Vec::new());
    let export = || {
        let deadline = Instant::now() + GENEROUS;
        let take =
            |destination: usize| running.queues.inlets[destination].recv_deadline(Deadline::at(deadline)).unwrap();
        [take(0).item, take(1).item]
    };
    let (first, first_heard) = awaited(batch(0, 1), AckMode::Exported);
    running.outlet.try_send(first).unwrap();
    // Nothing else is open, so it leaves at once.
    let on_its_way = export();
    // These wait until the first has been settled, and then leave together.
    let (second, second_heard) = awaited(batch(1, 1), AckMode::Exported);
    let (third, _) = awaited(batch(2, 1), AckMode::Exported);
    running.outlet.try_send(second).unwrap();
    running.outlet.try_send(third).unwrap();
    let deadline = Instant::now() + GENEROUS;
    while running.ledger.page().held != ItemCount(2) {
        assert!(Instant::now() < deadline, "not held");
        std::thread::yield_now();
    }
    assert!(running.queues.inlets[0].is_empty());
    for group in on_its_way {
        group.settle(delivered());
    }
    assert_eq!(first_heard.recv_timeout(GENEROUS), Ok(delivered()));
    for group in export() {
        assert_eq!(&group.joined()[..], [1, 2]);
        group.settle(delivered());
    }
    assert_eq!(second_heard.recv_timeout(GENEROUS), Ok(delivered()));
}

#[test]
fn a_request_taken_back_before_it_was_begun_is_not_sent() {
    let (ledger, queues) = (ledger(), Queues::new(2, Capacity::default()));
    let fanout = Arc::clone(&queues) as Arc<dyn Fanout>;
    let mut processing =
        Processing::new(Chain::new(vec![]), Arc::clone(&ledger), fanout, &Registry::new(), Clock::simulated());
    let (batch, _) = awaited(batch(0, 4), AckMode::Exported);
    batch.ticket().ack().withdrawal().withdraw();
    processing.process(batch);
    assert!(queues.inlets[0].is_empty());
    assert_eq!(ledger.page().refused[&Reason::WITHDRAWN], ItemCount(4));
}

/// Keeps the items for whose number in their batch it is so, and removes the others.
struct Keep(fn(usize) -> bool);

impl Transform for Keep {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let mut number = 0;
        let left = retain(batch.signal(), batch.body(), |_| {
            number += 1;
            self.0(number - 1)
        });
        Ok(batch.retained(left))
    }
}

fn keep(which: fn(usize) -> bool) -> Box<dyn Processor> {
    Box::new(Stateless(Arc::new(Keep(which))))
}

/// A real request.
fn spans(items: u64) -> Batch {
    let body = generate::request(Signal::Traces, 7, items as usize);
    Batch::trusted(Signal::Traces, ItemCount(items), body)
}

fn stepped(chain: Chain) -> (Processing, Arc<Ledger>, Arc<Queues>) {
    let (ledger, queues) = (ledger(), Queues::new(2, Capacity::default()));
    let fanout = Arc::clone(&queues) as Arc<dyn Fanout>;
    let processing = Processing::new(chain, Arc::clone(&ledger), fanout, &Registry::new(), Clock::simulated());
    (processing, ledger, queues)
}

fn spans_in(body: &[u8]) -> usize {
    let mut items = 0;
    walk(Signal::Traces, body, |_| items += 1);
    items
}

#[test]
fn what_processors_remove_is_booked_wherever_they_stand() {
    let first_half: fn(usize) -> bool = |number| number < 5;
    let every_other: fn(usize) -> bool = |number| number % 2 == 0;
    let none: fn(usize) -> bool = |_| false;
    let touchy = || Box::new(Touchy) as Box<dyn Processor>;
    let wire = || Box::new(BatchProcessor::new("batch", Config::default(), &Registry::new()).unwrap());
    let chains = [
        ("nothing removed", vec![keep(|_| true)], 10),
        ("some, by two in a row", vec![keep(first_half), keep(every_other)], 3),
        ("some, and then the rest", vec![keep(first_half), keep(none)], 0),
        ("behind one that remembers", vec![touchy(), keep(first_half), touchy(), keep(every_other)], 3),
        ("before and behind it, and then the rest", vec![keep(first_half), touchy(), keep(none)], 0),
        ("after it was accepted", vec![keep(first_half), wire(), keep(every_other)], 3),
        ("the rest, after it was accepted", vec![keep(first_half), wire(), keep(none)], 0),
    ];
    for (name, chain, left) in chains {
        let (mut processing, ledger, queues) = stepped(Chain::new(chain));
        let (batch, heard) = awaited(spans(10), AckMode::Exported);
        processing.process(batch);
        processing.flush();
        let page = ledger.page();
        assert_eq!((page.accepted, page.removed), (ItemCount(10), ItemCount(10 - left)), "{name}");
        assert_eq!(page.balance(), Ok(()), "{name}");
        for destination in 0..2 {
            let sent: usize = queues.export(destination, &delivered()).iter().map(|body| spans_in(body)).sum();
            assert_eq!(sent as u64, left, "{name}");
        }
        assert_eq!(heard.try_recv(), Ok(delivered()), "{name}");
        let page = ledger.page();
        assert_eq!((page.held, page.destinations[0].exported), (ItemCount::ZERO, ItemCount(left)), "{name}");
        assert_eq!(page.balance(), Ok(()), "{name}");
    }
}

#[test]
fn what_was_offered_is_refused_whole_whoever_refuses_it() {
    let touchy = || Box::new(Touchy) as Box<dyn Processor>;
    for (chain, capacity) in [
        (vec![obedient()], 100),
        (vec![touchy(), obedient()], 100),
        (vec![Box::new(Stateless(Arc::new(Remover))), touchy(), touchy(), obedient()], 100),
        // The queues have no room for what is left.
        (vec![Box::new(Stateless(Arc::new(Remover))) as Box<dyn Processor>], 3),
        (vec![touchy(), Box::new(Stateless(Arc::new(Remover)))], 3),
    ] {
        let (ledger, registry) = (ledger(), Registry::new());
        let queues = Queues::new(2, Capacity { items: Some(capacity), ..Capacity::default() });
        let fanout = Arc::clone(&queues) as Arc<dyn Fanout>;
        let mut processing =
            Processing::new(Chain::new(chain), Arc::clone(&ledger), fanout, &registry, Clock::simulated());
        let reason = if capacity == 3 { Reason::QUEUE_FULL } else { Reason::MEMORY_LIMIT };
        // The first says what is to be done with it.
        let mut body = vec![if capacity == 3 { HALVED } else { REFUSED }; 5];
        body.extend([REMOVED_ITEM; 4]);
        let (batch, heard) = awaited(Batch::trusted(Signal::Traces, ItemCount(9), body.into()), AckMode::Queued);
        processing.process(batch);
        let Ok(Outcome::Failed(failure)) = heard.try_recv() else { panic!("not refused") };
        assert_eq!((failure.reason, failure.is_retryable()), (reason, true));
        let page = ledger.page();
        assert_eq!((page.accepted, page.refused[&reason]), (ItemCount::ZERO, ItemCount(9)));
        let failures = registry.samples().into_iter().find(|sample| sample.name == "otlpd_pipeline_failures");
        assert_eq!(failures.and_then(|sample| sample.as_number()), Some(1.0));
    }
}

#[test]
fn a_panic_behind_a_processor_that_joins_costs_one_of_those_joined() {
    let wire = || batching(Config { timeout: Duration::from_secs(3600), ..Config::default() });
    let touchy = || Box::new(Touchy) as Box<dyn Processor>;
    for (chain, poison, accepted) in [
        (vec![wire(), obedient()], PANICS, true),
        (vec![wire(), touchy()], PANICS_IN_TAIL, true),
        (vec![touchy(), obedient()], PANICS, false),
    ] {
        let (mut processing, ledger, queues) = stepped(Chain::new(chain));
        for id in [1, poison, 2] {
            processing.process(batch(id, 3));
        }
        processing.flush();
        let sent = queues.export(0, &delivered());
        assert_eq!(sent.concat(), [1, 1, 1, 2, 2, 2]);
        let page = ledger.page();
        assert_eq!((page.balance(), page.held), (Ok(()), ItemCount::ZERO));
        let lost =
            if accepted { page.destinations[0].dropped_for(Reason::PANIC) } else { page.refused[&Reason::PANIC] };
        assert_eq!((lost, page.accepted), (ItemCount(3), ItemCount(if accepted { 9 } else { 6 })));
    }
}

#[test]
fn items_are_counted_before_and_behind_every_processor() {
    let registry = Registry::new();
    let resource = |key: &str| {
        let action = crate::attributes::Action { key: key.into(), action: "delete".into(), ..Default::default() };
        let resource = crate::resource::Resource::new(crate::resource::Config { attributes: vec![action] }).unwrap();
        Box::new(crate::chain::Stateless::new(resource)) as Box<dyn Processor>
    };
    let processors = vec![
        ("resource/1", resource("a")),
        ("resource/2", resource("b")),
        ("filter/1", keep(|number| number > 0)),
        ("batch", Box::new(BatchProcessor::new("batch", Config::default(), &registry).unwrap())),
        ("resource/3", resource("c")),
        ("filter/2", keep(|number| number > 1)),
    ];
    let counted = |(id, processor)| (Passage::new(&registry, id, Signal::Traces), processor);
    let chain = Chain::counted(processors.into_iter().map(counted).collect());
    assert_eq!(format!("{:?}", chain.prefix()), "Prefix(2 transforms)", "neighbours are still one pass");
    let (mut processing, _, queues) = stepped(chain);
    let count = |direction: &str| -> Vec<u64> {
        let name = format!("otelcol_processor_{direction}_items");
        let samples = registry.samples().into_iter().filter(|sample| sample.name == name);
        samples
            .inspect(|sample| assert_eq!(sample.labels[1], ("otel.signal", "traces".to_owned())))
            .map(|sample| sample.as_number().unwrap() as u64)
            .collect()
    };
    processing.process(spans(10));
    processing.process(spans(1));
    // In the order of their names: batch, filter/1, filter/2, resource/1, resource/2, resource/3.
    assert_eq!(count("incoming"), [9, 11, 0, 11, 11, 0]);
    assert_eq!(count("outgoing"), [0, 9, 0, 11, 11, 0]);
    processing.flush();
    assert_eq!(count("incoming"), [9, 11, 9, 11, 11, 9]);
    assert_eq!(count("outgoing"), [9, 9, 7, 11, 11, 9]);
    assert_eq!(queues.export(0, &delivered()).iter().map(|body| spans_in(body)).sum::<usize>(), 7);
}
