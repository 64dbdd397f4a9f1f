//! Fairness by a naive model, and the thread.

use std::collections::VecDeque;

use otlp_core::component::{Health, HealthState, Outlets, Receiver};
use otlp_core::testing::sinks::{Answer, CollectingOutlet};
use otlp_core::testing::{generate, verify};
use otlp_core::{Ack, AckMode, ItemCount, Outcome, Signal};
use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn lanes_take_turns_by_items_and_not_by_batches() {
    let mut lanes = Lanes::new(3, 100, 10);
    for number in 0..30 {
        lanes.push(0, 10, ('a', number)).unwrap();
        lanes.push(2, 5, ('c', number)).unwrap();
    }
    lanes.push(1, 25, ('b', 0)).unwrap();
    let order: String = std::iter::from_fn(|| lanes.pop()).map(|(lane, _)| lane).take(12).collect();
    // `b` has to save up for its large batch; `c` sends two for each of `a`.
    assert_eq!(order, "accaccabccac");
    let mut rest: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
    assert_eq!(rest.len(), 61 - 12);
    rest.retain(|(lane, _)| *lane == 'c');
    assert!(rest.is_sorted());
}

#[test]
fn a_full_lane_gives_back_and_a_lane_of_no_one_is_passed_over() {
    let mut lanes = Lanes::new(2, 2, 1);
    assert_eq!((lanes.push(1, 1, 'x'), lanes.push(1, 1, 'y'), lanes.push(1, 1, 'z')), (Ok(()), Ok(()), Err('z')));
    assert_eq!((lanes.pop(), lanes.pop(), lanes.pop()), (Some('x'), Some('y'), None));
    assert!(lanes.is_empty());
}

proptest! {
    /// Whatever is pushed comes out once, in order within its lane; while all lanes wait, none gets ahead of another by
    /// more than a quantum and the largest batch.
    #[test]
    fn nobody_gets_ahead(
        costs in prop::collection::vec(prop::collection::vec(1u64..60, 1..40), 1..6),
        quantum in 1u64..40,
    ) {
        let mut lanes = Lanes::new(costs.len(), 100, quantum);
        let mut waiting: Vec<VecDeque<(u64, usize)>> = Vec::new();
        for (lane, costs) in costs.iter().enumerate() {
            waiting.push(costs.iter().copied().zip(0..).collect());
            for (number, &cost) in costs.iter().enumerate() {
                lanes.push(lane, cost, (lane, number)).unwrap();
            }
        }
        let largest = costs.iter().flatten().copied().max().unwrap();
        let mut handed = vec![0u64; costs.len()];
        while let Some((lane, number)) = lanes.pop() {
            let (cost, expected) = waiting[lane].pop_front().unwrap();
            prop_assert_eq!(number, expected);
            handed[lane] += cost;
            if waiting.iter().all(|lane| !lane.is_empty()) {
                let (low, high) = (handed.iter().min().unwrap(), handed.iter().max().unwrap());
                prop_assert!(high - low <= quantum + largest + quantum, "{:?}", handed);
            }
        }
        prop_assert!(waiting.iter().all(VecDeque::is_empty));
    }
}

fn refusal(outlet: &CollectingOutlet) -> Failure {
    let failure = Failure::refused(Reason::QUEUE_FULL, "full");
    outlet.answer_from_now(Answer::Refuse(failure.clone()));
    failure
}

#[test]
fn a_flood_does_not_keep_others_waiting() {
    // Full: what comes first is held by the thread, the rest waits in the lanes.
    let outlet = CollectingOutlet::answering([], Answer::Full);
    let merge = Merge::start(Arc::new(outlet.clone()), 2, Options { turn_items: 1, ..Options::default() }).unwrap();
    let (flood, trickle) = (merge.lane(0).unwrap(), merge.lane(1).unwrap());
    assert!(merge.lane(2).is_none());
    flood.try_send(generate::batch(Signal::Logs, 0, 1)).unwrap();
    while outlet.calls() == 0 {
        std::thread::yield_now();
    }
    for seed in 1..50 {
        flood.try_send(generate::batch(Signal::Logs, seed, 1)).unwrap();
    }
    trickle.try_send(generate::batch(Signal::Logs, 100, 2)).unwrap();
    outlet.answer_from_now(Answer::Settle(Outcome::Delivered));
    assert!(outlet.wait_for_items(ItemCount(52), PATIENCE));
    let place = outlet.taken().iter().position(|seen| seen.items == ItemCount(2)).unwrap();
    assert!(place <= 4, "the trickle came after {place} batches of the flood");
}

#[test]
fn what_is_refused_is_told_to_its_sender() {
    let outlet = CollectingOutlet::new();
    let failure = refusal(&outlet);
    let mut merge = Merge::start(Arc::new(outlet), 1, Options::default()).unwrap();
    let (sender, heard) = std::sync::mpsc::channel();
    let ack = Ack::new(AckMode::Exported, move |outcome| sender.send(outcome).unwrap());
    let lane = merge.lane(0).unwrap();
    lane.try_send(generate::batch(Signal::Traces, 1, 3).with_ack(ack)).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Outcome::Failed(failure)));
    merge.shutdown(Deadline::NEVER);
    merge.shutdown(Deadline::NEVER);
    let refused = lane.try_send(generate::batch(Signal::Traces, 1, 3)).unwrap_err();
    assert_eq!((refused.failure.reason, refused.batch.items()), (Reason::SHUTDOWN, ItemCount(3)));
}

#[test]
fn a_full_lane_refuses_or_asks_to_hold_and_the_deadline_ends_the_wait() {
    for block in [false, true] {
        let outlet = CollectingOutlet::answering([], Answer::Full);
        let options = Options { lane_batches_max: 1, block, ..Options::default() };
        let mut merge = Merge::start(Arc::new(outlet.clone()), 2, options).unwrap();
        let lane = merge.lane(1).unwrap();
        let (sender, heard) = std::sync::mpsc::channel();
        let batch = |seed| {
            let sender = sender.clone();
            let ack = Ack::new(AckMode::Exported, move |outcome| sender.send(outcome).unwrap());
            generate::batch(Signal::Metrics, seed, 1).with_ack(ack)
        };
        lane.try_send(batch(1)).unwrap();
        while outlet.calls() == 0 {
            std::thread::yield_now();
        }
        lane.try_send(batch(2)).unwrap();
        let refused = lane.try_send(batch(3)).unwrap_err();
        assert_eq!((refused.failure.reason, refused.hold), (Reason::QUEUE_FULL, block));
        refused.batch.settle(Outcome::Delivered);
        merge.shutdown(Deadline::at(Instant::now()));
        drop((lane, sender));
        let outcomes: Vec<Outcome> = heard.iter().collect();
        assert_eq!(outcomes, [Outcome::Delivered, stopped().into(), stopped().into()]);
        assert_eq!(outlet.items(), ItemCount::ZERO);
    }
}

/// A receiver that hands on what a test gives it.
#[derive(Clone, Default)]
struct Hand(Arc<Mutex<(Outlets, Option<HealthState>)>>);

impl Hand {
    /// One request: whether the sender heard OK.
    fn send(&self, signal: Signal, body: bytes::Bytes) -> bool {
        let (sender, heard) = std::sync::mpsc::channel();
        let items = otlp_core::wire::Index::of(signal, &body).len() as u64;
        let ack = Ack::new(AckMode::Exported, move |outcome| drop(sender.send(outcome)));
        let batch = Batch::trusted(signal, ItemCount(items), body).with_ack(ack);
        let Some(outlet) = self.0.lock().0.get(signal).cloned() else { return false };
        if let Err(refused) = outlet.try_send(batch) {
            refused.batch.settle(refused.failure.into());
        }
        loop {
            match heard.recv_timeout(Duration::from_millis(5)) {
                Ok(outcome) => return outcome.is_delivered(),
                // Stopped before anybody decided.
                Err(_) if self.0.lock().1 == Some(HealthState::Stopped) => return false,
                Err(_) => {}
            }
        }
    }
}

impl Receiver for Hand {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        *self.0.lock() = (outlets, Some(HealthState::Ok));
        Ok(())
    }

    fn shutdown(&mut self, _: Deadline) {
        *self.0.lock() = (Outlets::default(), Some(HealthState::Stopped));
    }

    fn health(&self) -> Health {
        let state = self.0.lock().1.unwrap_or(HealthState::Starting);
        Health { state, message: String::new() }
    }
}

#[test]
fn merged_receivers_keep_the_contract_of_a_receiver() {
    for signal in Signal::ALL {
        let hands = Mutex::new(Hand::default());
        let make = || {
            let (one, two) = (Hand::default(), Hand::default());
            *hands.lock() = two.clone();
            let receivers: Vec<(String, Box<dyn Receiver>)> =
                vec![("one".into(), Box::new(one)), ("two".into(), Box::new(two))];
            Merged::new(receivers, Options::default())
        };
        verify::receiver(signal, make, |_| {
            let hand = hands.lock().clone();
            Box::new(move |signal, body| hand.send(signal, body))
        });
    }
}

#[test]
fn where_one_cannot_start_none_goes_on() {
    struct Broken;
    impl Receiver for Broken {
        fn start(&mut self, _: Outlets) -> Result<(), StartError> {
            Err(StartError { message: "the address is in use".into(), source: None })
        }

        fn shutdown(&mut self, _: Deadline) {}

        fn health(&self) -> Health {
            Health { state: HealthState::Stopped, message: String::new() }
        }
    }
    let hand = Hand::default();
    let receivers: Vec<(String, Box<dyn Receiver>)> =
        vec![("fine".into(), Box::new(hand.clone())), ("bad".into(), Box::new(Broken))];
    let mut merged = Merged::new(receivers, Options::default());
    let error = merged.start(CollectingOutlet::new().outlets()).unwrap_err();
    assert_eq!(error.message, "receiver bad: the address is in use");
    assert_eq!(hand.health().state, HealthState::Stopped);
    assert_eq!(merged.health().state, HealthState::Stopped);
}
