//! What flows through a chain, what is held, and what is refused.

use std::collections::VecDeque;
use std::sync::mpsc;

use bytes::Bytes;
use otlp_core::component::HealthState;
use otlp_core::telemetry::ledger::Ledger;
use otlp_core::{Ack, AckMode, ItemCount, Outcome, Reason, Signal};

use super::*;

/// Appends a byte to a batch; refuses one that ends with its taboo.
struct Append {
    byte: u8,
    taboo: u8,
}

impl Transform for Append {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let last = batch.body().last().copied();
        if last == Some(self.taboo) {
            let failure = Failure::refused(Reason::MEMORY_LIMIT, "taboo");
            return Err(Refused { batch: Box::new(batch), failure, hold: false });
        }
        if last == Some(b'-') {
            batch.settle(Outcome::Delivered);
            return Ok(None);
        }
        let mut body = batch.body().to_vec();
        body.push(self.byte);
        Ok(Some(batch.with_body(body.into())))
    }
}

fn append(byte: u8) -> Box<dyn Processor> {
    Box::new(Stateless::new(Append { byte, taboo: b'!' }))
}

/// Holds batches back until the next tick and lets them go as one group.
#[derive(Default)]
struct Holder {
    held: Option<Group>,
    health: Option<Health>,
}

impl Processor for Holder {
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        let mut batch = batch;
        match downstream.hold(&mut batch, self.held.is_some()) {
            Err(failure) => Err(Refused { batch: Box::new(batch), failure, hold: false }),
            Ok(room) => {
                let group = self.held.get_or_insert_with(|| Group::new(batch.signal()));
                group.push(batch);
                group.join_room(room);
                Ok(())
            }
        }
    }

    fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        self.flush(downstream);
        Some(downstream.now())
    }

    fn flush(&mut self, downstream: &mut dyn Downstream) {
        if let Some(group) = self.held.take() {
            downstream.emit(group);
        }
    }

    fn health(&self) -> Health {
        self.health.clone().unwrap_or_else(Health::ok)
    }
}

/// A pipeline's end: accepts into books, counts how often it was asked for room.
struct End {
    ledger: Arc<Ledger>,
    asked: usize,
    full: bool,
    out: VecDeque<Group>,
    now: Instant,
}

impl End {
    fn new() -> End {
        let ledger = Ledger::new("logs", Signal::Logs, ["only"]);
        End { ledger, asked: 0, full: false, out: VecDeque::new(), now: Instant::now() }
    }

    /// The bodies of the next group that came out, and whether it had its room with it.
    fn next(&mut self) -> (Vec<Bytes>, bool) {
        let mut group = self.out.pop_front().expect("a group");
        let had_room = group.take_room().is_some();
        let bodies = group.parts().iter().map(|batch| batch.body().clone()).collect();
        group.settle(Outcome::Delivered);
        (bodies, had_room)
    }
}

impl Downstream for End {
    fn emit(&mut self, group: Group) {
        self.out.push_back(group);
    }

    fn hold(&mut self, batch: &mut Batch, _: bool) -> Result<Room, Failure> {
        self.asked += 1;
        if self.full {
            return Err(Failure::refused(Reason::QUEUE_FULL, "full"));
        }
        let items = batch.items();
        batch.ticket_mut().accept(&self.ledger, items);
        Ok(Room::default())
    }

    fn now(&self) -> Instant {
        self.now
    }
}

fn batch(body: &'static str) -> Batch {
    Batch::trusted(Signal::Logs, ItemCount(2), Bytes::from_static(body.as_bytes()))
}

#[test]
fn a_prefix_runs_in_order_and_gives_back_what_it_refuses() {
    let chain = Chain::new(vec![append(b'1'), append(b'2')]);
    assert!(!chain.has_tail());
    let prefix = chain.prefix();
    assert_eq!(prefix.apply(batch("x")).unwrap().unwrap().body(), "x12");
    assert!(prefix.apply(batch("-")).unwrap().is_none());
    let refused = prefix.apply(batch("x!")).unwrap_err();
    assert_eq!((refused.batch.body(), refused.failure.reason), (&Bytes::from("x!"), Reason::MEMORY_LIMIT));
}

#[test]
fn what_a_processor_lets_go_flows_through_those_behind_it() {
    let holder = || Box::new(Holder::default()) as Box<dyn Processor>;
    let mut chain = Chain::new(vec![append(b'1'), holder(), append(b'2'), append(b'3'), holder(), append(b'4')]);
    assert!(chain.has_tail());
    let mut end = End::new();
    for body in ["a", "b"] {
        let left = chain.prefix().apply(batch(body)).unwrap().unwrap();
        chain.process_tail(left, &mut end).unwrap();
    }
    assert_eq!((end.out.len(), end.asked), (0, 2));
    // One tick goes through the chain from front to back, so it empties both.
    assert_eq!(chain.tick(&mut end), Some(end.now));
    assert_eq!(end.next(), (vec![Bytes::from("a1234"), Bytes::from("b1234")], true));
    // The second holder took what had its places reserved already; only the second part had to ask again.
    assert_eq!(end.asked, 3);
    chain.process_tail(batch("c"), &mut end).unwrap();
    chain.flush(&mut end);
    assert_eq!(end.next(), (vec![Bytes::from("c234")], true));
    chain.flush(&mut end);
    assert!(end.out.is_empty());
    assert_eq!(end.ledger.page().balance(), Ok(()));
}

#[test]
fn what_the_first_processor_of_the_tail_refuses_comes_back() {
    let mut chain = Chain::new(vec![Box::new(Holder::default()), append(b'1')]);
    let mut end = End { full: true, ..End::new() };
    let refused = chain.process_tail(batch("a"), &mut end).unwrap_err();
    assert_eq!((refused.batch.body(), refused.failure.reason), (&Bytes::from("a"), Reason::QUEUE_FULL));
    assert!(!refused.batch.ticket().is_accepted());
}

#[test]
fn what_is_refused_further_down_is_counted_and_its_sender_told() {
    let mut chain = Chain::new(vec![Box::new(Holder::default()), append(b'1')]);
    let mut end = End::new();
    let (sender, heard) = mpsc::channel();
    let ack = Ack::new(AckMode::Exported, move |outcome| sender.send(outcome).unwrap());
    chain.process_tail(batch("a!").with_ack(ack), &mut end).unwrap();
    chain.process_tail(batch("-"), &mut end).unwrap();
    chain.process_tail(batch("b"), &mut end).unwrap();
    chain.flush(&mut end);
    assert_eq!(end.next().0, ["b1"]);
    let Outcome::Failed(failure) = heard.try_recv().unwrap() else { panic!("delivered") };
    assert_eq!(failure.reason, Reason::MEMORY_LIMIT);
    let page = end.ledger.page();
    assert_eq!(page.balance(), Ok(()));
    assert_eq!((page.accepted, page.held), (ItemCount(6), ItemCount(0)));
    assert_eq!(page.destinations[0].dropped_for(Reason::MEMORY_LIMIT), ItemCount(2));
}

#[test]
fn a_chain_works_without_threads() {
    let mut chain = Chain::new(vec![append(b'1'), Box::new(Holder::default()), append(b'2')]);
    assert!(chain.process(batch("a")).unwrap().is_empty());
    assert!(chain.process(batch("!")).is_err());
    let mut end = End::new();
    chain.flush(&mut end);
    assert_eq!(end.next().0, ["a12"]);
    chain.shutdown(Deadline::NEVER);
    let mut empty = Chain::new(Vec::new());
    assert_eq!(empty.process(batch("a")).unwrap()[0].parts()[0].body(), "a");
    assert!(empty.prefix().is_empty());
}

#[test]
fn the_worst_health_is_the_chains() {
    let ill = |state| Holder { health: Some(Health { state, message: "m".into() }), ..Holder::default() };
    let chain = Chain::new(vec![
        append(b'1'),
        Box::new(ill(HealthState::Unhealthy)),
        Box::new(ill(HealthState::Failed)),
        Box::new(Holder::default()),
    ]);
    assert_eq!(chain.health().state, HealthState::Failed);
    assert_eq!(Chain::new(vec![append(b'1')]).health(), Health::ok());
}

#[test]
fn chains_move_between_threads_and_prefixes_are_shared() {
    fn moves<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    moves::<Chain>();
    is_shared::<Arc<Prefix>>();
}
