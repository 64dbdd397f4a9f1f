//! The contract of [`crate::component`], as functions that hold an implementation to it.
//!
//! Each takes a function that makes the component in a state in which it works, against a destination or a sender of the
//! test's. A component is verified before its own tests are written.
//!
//! | function        | what it demands                                                                               |
//! |-----------------|-----------------------------------------------------------------------------------------------|
//! | [`exporter`]    | shutdown at any time and twice; nothing taken after; what it says arrived has arrived, once   |
//! | [`processor`]   | every item goes on, is removed or comes back; `flush` leaves nothing; nothing kept after stop |
//! | [`receiver`]    | OK to a sender is what the pipeline took; nothing taken after shutdown; it ends in time       |
//!
//! # Panics
//!
//! All of them, with what was demanded and what was found, where the contract is broken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::sinks::{Answer, CollectingOutlet};
use crate::ack::{Ack, AckMode};
use crate::batch::{Batch, Group};
use crate::clock::Clock;
use crate::component::{Downstream, Exporter, HealthState, Processor, Receiver};
use crate::flow::gate::Room;
use crate::outcome::{Failure, Outcome, Reason};
use crate::shutdown::Deadline;
use crate::signal::Signal;
use crate::telemetry::ledger::Ledger;
use crate::unit::ItemCount;

/// How long anything may take that should be quick: far more than it does, for busy machines.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small valid request of that many items, all in one resource and scope. `mark` makes it another one.
pub fn request(signal: Signal, items: u64, mark: u64) -> Bytes {
    let mark = format!("item-{mark}");
    let item = match signal {
        // Span.name; LogRecord.severity_text.
        Signal::Traces => field(5, mark.as_bytes()),
        Signal::Logs => field(3, mark.as_bytes()),
        // NumberDataPoint.as_int.
        Signal::Metrics => [&[6 << 3 | 1][..], &42u64.to_le_bytes()].concat(),
    };
    let many = |number| field(number, &item).repeat(items as usize);
    let scope = match signal {
        Signal::Traces | Signal::Logs => many(2),
        // Metric.name, Metric.gauge.
        Signal::Metrics => field(2, &[field(1, mark.as_bytes()), field(5, &many(1))].concat()),
    };
    field(1, &field(2, &scope)).into()
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn batch(signal: Signal, items: u64, mark: u64) -> Batch {
    Batch::trusted(signal, ItemCount(items), request(signal, items, mark))
}

/// Runs something that must end.
fn in_time<R: Send + 'static>(what: &str, run: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(run()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} did not end within {PATIENCE:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(_) => panic!("{what} ended without a result"),
        },
    }
}

fn soon() -> Deadline {
    Deadline::after(Instant::now(), Duration::from_secs(5))
}

/// Holds an exporter to the contract.
///
/// `make` makes one whose exports of `signal` work; `arrived` says how many items its destination has taken since the
/// verification began, over all exporters made, or `None` where that cannot be told.
///
/// # Panics
///
/// Where the contract is broken.
pub fn exporter<E: Exporter + 'static>(signal: Signal, make: impl Fn() -> E, arrived: impl Fn() -> Option<ItemCount>) {
    let before = arrived().unwrap_or_default();
    let idle = Arc::new(make());
    stop_twice(&idle);
    let sent = books(signal, &idle, 1);
    assert_eq!(sent, ItemCount::ZERO, "an exporter that was stopped before its first export takes nothing");

    let busy = Arc::new(make());
    assert_eq!(busy.health().state, HealthState::Ok, "a new exporter is healthy");
    let mut sent = books(signal, &busy, 4);
    assert!(sent > ItemCount::ZERO, "an exporter whose destination works delivers");
    let passed = {
        let busy = Arc::clone(&busy);
        in_time("export whose deadline has passed", move || {
            let group = Group::of(batch(signal, 1, 0));
            let outcome = busy.export(&group, Deadline::at(Instant::now()));
            taken(&group, &outcome)
        })
    };
    sent += passed;
    sent += stop_under_load(signal, &busy);
    stop_twice(&busy);
    let late = books(signal, &busy, 2);
    assert_eq!(late, ItemCount::ZERO, "after shutdown nothing is accepted");
    if let Some(arrived) = arrived() {
        let arrived = arrived - before;
        assert_eq!(arrived, sent, "items that arrived, and items it said were delivered");
    }
}

fn stop_twice<E: Exporter + 'static>(exporter: &Arc<E>) {
    for time in ["shutdown", "the second shutdown"] {
        let exporter = Arc::clone(exporter);
        in_time(time, move || exporter.shutdown(soon()));
    }
    assert_ne!(exporter.health().state, HealthState::Ok, "an exporter that was stopped is not healthy");
}

fn taken(group: &Group, outcome: &Outcome) -> ItemCount {
    match outcome {
        Outcome::Delivered => group.items(),
        Outcome::Partial { rejected, .. } => group.items().saturating_sub(*rejected),
        Outcome::Failed(_) => ItemCount::ZERO,
    }
}

/// Exports groups of one and of two parts as a queue's worker does, and sees to it that the books balance.
fn books<E: Exporter + 'static>(signal: Signal, exporter: &Arc<E>, groups: u64) -> ItemCount {
    let ledger = Ledger::new("verify", signal, ["exporter"]);
    for number in 0..groups {
        let mut group = Group::new(signal);
        for part in 0..=number % 2 {
            let mut batch = batch(signal, 3 + part, number);
            let items = batch.items();
            batch.ticket_mut().accept(&ledger, items);
            group.push(batch);
        }
        let exporter = Arc::clone(exporter);
        in_time("export", move || {
            for group in group.assign(1) {
                let outcome = exporter.export(&group, soon());
                group.settle(outcome);
            }
        });
    }
    let page = ledger.page();
    assert_eq!(page.balance(), Ok(()), "the books balance");
    assert_eq!(page.held + page.destinations[0].held, ItemCount::ZERO, "nothing is held");
    page.destinations[0].exported
}

/// Shuts down while several workers export.
fn stop_under_load<E: Exporter + 'static>(signal: Signal, exporter: &Arc<E>) -> ItemCount {
    let began = Arc::new(AtomicU64::new(0));
    let exporter = Arc::clone(exporter);
    in_time("shutdown while others export", move || {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|worker| {
                    let (exporter, began) = (&exporter, &began);
                    scope.spawn(move || {
                        let mut sent = ItemCount::ZERO;
                        for number in 0..1000 {
                            let group = Group::of(batch(signal, 2, worker * 1000 + number));
                            began.fetch_add(1, Ordering::SeqCst);
                            let outcome = exporter.export(&group, soon());
                            sent += taken(&group, &outcome);
                            if !outcome.is_delivered() {
                                break;
                            }
                        }
                        sent
                    })
                })
                .collect();
            while began.load(Ordering::SeqCst) < 6 && workers.iter().any(|worker| !worker.is_finished()) {
                std::thread::yield_now();
            }
            exporter.shutdown(soon());
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)))
                .sum()
        })
    })
}

/// What becomes of the requests that a processor is given.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<RequestsState>>);

#[derive(Default)]
struct RequestsState {
    open: u64,
    lost: u64,
}

impl Requests {
    fn batch(&self, signal: Signal, items: u64, mark: u64) -> Batch {
        let requests = self.clone();
        self.state().open += 1;
        let ack = Ack::new(AckMode::Exported, move |outcome| {
            let mut state = requests.state();
            state.open -= 1;
            let lost = matches!(&outcome, Outcome::Failed(failure) if failure.reason == Reason::LOST);
            state.lost += u64::from(lost);
        });
        batch(signal, items, mark).with_ack(ack)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, RequestsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, when: &str) {
        let state = self.state();
        assert_eq!(state.lost, 0, "{when}: batches dropped without an outcome");
        assert_eq!(state.open, 0, "{when}: batches that nobody has settled, emitted or given back");
    }
}

/// Settles what is emitted at once.
struct Settling {
    clock: Clock,
    emitted: ItemCount,
    ledger: Arc<Ledger>,
}

impl Downstream for Settling {
    fn emit(&mut self, group: Group) {
        assert!(!group.is_empty() && group.items() > ItemCount::ZERO, "an empty group is never emitted");
        let counted: ItemCount = group.parts().iter().map(Batch::items).sum();
        assert_eq!(counted, group.items(), "a group's items are those of its parts");
        self.emitted += group.items();
        group.settle(Outcome::Delivered);
    }

    fn hold(&mut self, batch: &mut Batch, _: bool) -> Result<Room, Failure> {
        let items = batch.items();
        batch.ticket_mut().accept(&self.ledger, items);
        Ok(Room::default())
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }
}

/// Holds a processor to the contract: what it was given is emitted, removed or comes back, by the last `flush`.
///
/// `make` makes one. It is run on a clock that moves only between calls.
///
/// # Panics
///
/// Where the contract is broken.
pub fn processor<P: Processor>(signal: Signal, make: impl Fn() -> P) {
    let clock = Clock::simulated();
    let ledger = Ledger::new("verify", signal, ["downstream"]);
    let mut downstream = Settling { clock: clock.clone(), emitted: ItemCount::ZERO, ledger };
    let requests = Requests::default();

    let mut idle = make();
    idle.flush(&mut downstream);
    idle.shutdown(soon());
    idle.shutdown(soon());
    drop(idle);
    assert_eq!(downstream.emitted, ItemCount::ZERO, "a processor that was given nothing emits nothing");

    let mut busy = make();
    assert_eq!(busy.health().state, HealthState::Ok, "a new processor is healthy");
    let mut offered = ItemCount::ZERO;
    for number in 0..50 {
        let items = number % 7 + 1;
        offered += ItemCount(items);
        offered -= process(&mut busy, requests.batch(signal, items, number), &mut downstream);
        assert!(downstream.emitted <= offered, "emitted {} of {offered} items", downstream.emitted);
        if number % 10 == 9 {
            clock.advance(Duration::from_secs(1));
        }
        if let Some(due) = busy.tick(&mut downstream) {
            assert!(number % 10 != 9 || due > clock.now(), "after a tick, what it wants to do next lies ahead");
        }
    }
    busy.flush(&mut downstream);
    requests.check("after flush");
    let emitted = downstream.emitted;
    assert!(emitted <= offered, "emitted {emitted} of {offered} items");
    busy.flush(&mut downstream);
    busy.tick(&mut downstream);
    busy.shutdown(soon());
    busy.shutdown(soon());
    assert_eq!(downstream.emitted, emitted, "after flush nothing is left");
    process(&mut busy, requests.batch(signal, 1, 0), &mut downstream);
    requests.check("after shutdown");
    drop(busy);
}

/// Runs one batch through, and says how many items came back.
fn process<P: Processor>(processor: &mut P, batch: Batch, downstream: &mut Settling) -> ItemCount {
    let items = batch.items();
    let refused = match processor.transform() {
        Some(transform) => match transform.apply(batch) {
            Ok(Some(batch)) => {
                assert!(batch.items() > ItemCount::ZERO, "a batch without items is settled, not given back");
                downstream.emit(Group::of(batch));
                return ItemCount::ZERO;
            }
            Ok(None) => return ItemCount::ZERO,
            Err(refused) => refused,
        },
        None => match processor.process(batch, downstream) {
            Ok(()) => return ItemCount::ZERO,
            Err(refused) => refused,
        },
    };
    assert_eq!(refused.batch.items(), items, "a batch that is refused comes back whole");
    refused.batch.settle(Outcome::Failed(refused.failure));
    items
}

/// Sends one request to a started receiver, and says whether the sender was told that it is taken. Waits for the answer.
pub type SendOne = Box<dyn Fn(Signal, Bytes) -> bool + Send + Sync>;

/// Holds a receiver to the contract.
///
/// `make` makes one that can be started, again and again; `connect` gives a sender to one that was started, whose every
/// call is one request and which answers false, too, where it cannot connect.
///
/// # Panics
///
/// Where the contract is broken.
pub fn receiver<R: Receiver + 'static>(signal: Signal, make: impl Fn() -> R, connect: impl Fn(&R) -> SendOne) {
    let idle = stop_receiver("shutdown before start", make());
    drop(stop_receiver("a second shutdown before start", idle));

    let outlet = CollectingOutlet::new();
    let mut receiver = make();
    if let Err(error) = receiver.start(outlet.outlets()) {
        panic!("a receiver that can be started starts: {error}");
    }
    assert_eq!(receiver.health().state, HealthState::Ok, "a started receiver is healthy");
    let send = Arc::new(connect(&receiver));
    let one = |items: u64| {
        let send = Arc::clone(&send);
        in_time("a request", move || send(signal, request(signal, items, items)))
    };

    for items in 1..=5 {
        assert!(one(items), "what the pipeline takes and delivers is answered with OK");
    }
    let taken = outlet.taken();
    assert_eq!(taken.iter().map(|seen| seen.items.get()).collect::<Vec<_>>(), [1, 2, 3, 4, 5], "each once, in order");
    for (seen, items) in taken.iter().zip(1..) {
        assert_eq!(seen.body, request(signal, items, items), "the bytes of a request pass unchanged");
    }

    outlet.answer_from_now(Answer::Refuse(Failure::refused(Reason::QUEUE_FULL, "full")));
    assert!(!one(6), "what the pipeline refuses is not answered with OK");
    outlet.answer_from_now(Answer::Settle(Failure::refused(Reason::UNAVAILABLE, "down").into()));
    assert!(!one(7), "what is taken but not delivered is not answered with OK");
    outlet.answer_from_now(Answer::Settle(Outcome::Delivered));
    assert!(one(8), "after a refusal the next request is taken");

    outlet.answer_from_now(Answer::Hold);
    let parked = {
        let send = Arc::clone(&send);
        std::thread::spawn(move || send(signal, request(signal, 9, 9)))
    };
    assert!(outlet.wait_for_held(1, PATIENCE), "a request reaches the pipeline while its sender waits");
    let receiver = stop_receiver("shutdown with a request open", receiver);
    let told = in_time("the open request's answer", move || parked.join().unwrap_or(true));
    assert!(!told, "a request that nobody settled is not answered with OK");
    outlet.settle_held(&Outcome::Delivered);

    assert_ne!(receiver.health().state, HealthState::Ok, "a receiver that was stopped is not healthy");
    outlet.answer_from_now(Answer::Settle(Outcome::Delivered));
    let calls = outlet.calls();
    assert!(!one(10), "after shutdown nothing is answered with OK");
    assert_eq!(outlet.calls(), calls, "after shutdown nothing is accepted");
    drop(stop_receiver("the second shutdown", receiver));
}

fn stop_receiver<R: Receiver + 'static>(what: &str, mut receiver: R) -> R {
    in_time(what, move || {
        receiver.shutdown(Deadline::after(Instant::now(), Duration::from_millis(200)));
        receiver
    })
}

#[cfg(test)]
mod tests;
