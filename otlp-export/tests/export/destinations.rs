//! Queues, workers, fan-out, shutdown: what becomes of groups, and whether the books say so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use otlp_core::component::{HealthState, Outlet, Refused};
use otlp_core::flow::WhenFull;
use otlp_core::telemetry::registry::{Registry, SampleValue};
use otlp_core::thread::ThreadOptions;
use otlp_core::{AckMode, Batch, Clock, Code, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};
use otlp_export::{Destination, Settings, Threads, queue, retry};

use proptest::prelude::*;

use crate::support::{Asking, By, LONG, Pipeline, names};

fn settings(id: &str, exporter: Arc<dyn otlp_core::component::Exporter>) -> Settings {
    let retry = retry::Config { initial_interval: Duration::from_millis(1), ..retry::Config::default() };
    Settings { retry, ..Settings::new(id, Signal::Traces, exporter) }
}

fn with_queue(queue_size: u64, consumers: usize) -> queue::Config {
    queue::Config { queue_size, num_consumers: consumers, ..queue::Config::default() }
}

fn soon() -> Deadline {
    Deadline::after(Instant::now(), LONG)
}

fn unavailable() -> Failure {
    Failure::refused(Reason::UNAVAILABLE, "busy")
}

fn rejected() -> Failure {
    Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "never")
}

fn value(registry: &Registry, name: &str) -> Option<f64> {
    registry.samples().into_iter().find(|sample| sample.name == name).map(|sample| match sample.value {
        SampleValue::Number(number) => number,
        SampleValue::Histogram { count, .. } => count as f64,
    })
}

#[test]
fn what_is_sent_is_exported_once_and_told_as_promised() {
    for (mode, queue) in [
        (AckMode::Queued, with_queue(10, 2)),
        (AckMode::Exported, with_queue(10, 2)),
        (AckMode::Exported, queue::Config::disabled()),
    ] {
        let (exporter, calls) = Asking::new();
        let enabled = queue.enabled;
        let pipeline = Pipeline::new([Destination::new(Settings { queue, ..settings("a", exporter) })]);
        let pipeline = &pipeline;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || pipeline.send(mode, 0, 3));
            let call = calls.recv_timeout(LONG).unwrap();
            assert_eq!(call.names, ["span-0", "span-1", "span-2"]);
            if enabled {
                let heard = sent.join().unwrap();
                assert_eq!(heard.try_recv().is_ok(), mode == AckMode::Queued);
                call.answer(Outcome::Delivered);
                if mode == AckMode::Exported {
                    assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered));
                }
            } else {
                call.answer(Outcome::Delivered);
                assert_eq!(sent.join().unwrap().try_recv(), Ok(Outcome::Delivered));
            }
        });
        pipeline.shutdown(soon());
        assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(3));
        assert!(calls.try_recv().is_err(), "sent twice");
    }
}

#[test]
fn failures_are_tried_again_or_counted() {
    let partial = Outcome::Partial { rejected: ItemCount(2), message: "two".into() };
    let exhausted = retry::Config { max_attempts: Some(3), initial_interval: Duration::ZERO, ..Default::default() };
    for (name, answers, retry, exported, reason) in [
        ("retried", vec![unavailable().into(), unavailable().into(), Outcome::Delivered], Default::default(), 5, None),
        ("rejected", vec![rejected().into()], Default::default(), 0, Some((Reason::PERMANENT, true, 5))),
        ("partial", vec![partial], retry::Config::default(), 3, Some((Reason::PARTIAL_SUCCESS, true, 2))),
        ("given up", vec![unavailable().into(); 3], exhausted, 0, Some((Reason::RETRIES_EXHAUSTED, false, 5))),
        ("once", vec![unavailable().into()], retry::Config::disabled(), 0, Some((Reason::UNAVAILABLE, false, 5))),
    ] {
        let retry = retry::Config { initial_interval: Duration::ZERO, ..retry };
        let count = answers.len();
        let answers = Mutex::new(answers.into_iter());
        let exporter = Arc::new(By(move |_: &Group, _| answers.lock().unwrap().next().expect("asked once too often")));
        let registry = Registry::new();
        let settings = Settings { retry, registry: registry.clone(), ..settings("a", exporter) };
        let pipeline = Pipeline::new([Destination::new(settings)]);
        let heard = pipeline.send(AckMode::Exported, 0, 5);
        let outcome = heard.recv_timeout(LONG).unwrap();
        assert_eq!(outcome.is_delivered(), exported > 0, "{name}");
        pipeline.shutdown(soon());
        let column = &pipeline.closed_page().destinations[0];
        assert_eq!(column.exported, ItemCount(exported), "{name}");
        if let Some((reason, rejected, items)) = reason {
            let found = if rejected { column.rejected_for(reason) } else { column.dropped_for(reason) };
            assert_eq!(found, ItemCount(items), "{name}: {column:?}");
        }
        assert_eq!(value(&registry, "otelcol_exporter_sent_spans"), Some(exported as f64), "{name}");
        assert_eq!(
            value(&registry, "otelcol_exporter_send_failed_spans"),
            reason.map(|(_, _, items)| items as f64),
            "{name}"
        );
        assert_eq!(value(&registry, "otlpd_exporter_requests"), Some(count as f64), "{name}");
        assert_eq!(value(&registry, "otelcol_exporter_in_flight_requests"), Some(0.0), "{name}");
        assert_eq!(value(&registry, "otelcol_exporter_queue_capacity"), Some(1000.0), "{name}");
        assert_eq!(value(&registry, "otelcol_exporter_queue_size"), Some(0.0), "{name}");
    }
}

#[test]
fn a_panic_costs_one_group() {
    let exporter = Arc::new(By(|group: &Group, _| match names(&group.joined())[0].as_str() {
        "span-0" => panic!("on purpose"),
        _ => Outcome::Delivered,
    }));
    let pipeline = Pipeline::new([Destination::new(Settings { queue: with_queue(10, 1), ..settings("a", exporter) })]);
    let poisoned = pipeline.send(AckMode::Exported, 0, 2);
    let sound = pipeline.send(AckMode::Exported, 2, 3);
    let Outcome::Failed(failure) = poisoned.recv_timeout(LONG).unwrap() else { panic!("it panicked") };
    assert_eq!((failure.reason, failure.is_retryable()), (Reason::PANIC, false));
    assert_eq!(sound.recv_timeout(LONG), Ok(Outcome::Delivered));
    pipeline.shutdown(soon());
    let column = &pipeline.closed_page().destinations[0];
    assert_eq!((column.exported, column.rejected_for(Reason::PANIC)), (ItemCount(3), ItemCount(2)));
}

#[test]
fn one_destination_that_is_full_refuses_and_takes_again_once_there_is_room() {
    let (exporter, calls) = Asking::new();
    let destination = Destination::new(Settings { queue: with_queue(2, 1), ..settings("a", exporter) });
    let pipeline = Pipeline::new([Arc::clone(&destination)]);
    pipeline.send(AckMode::Queued, 0, 1);
    let first = calls.recv_timeout(LONG).unwrap();
    pipeline.send(AckMode::Queued, 1, 1);
    // One is being sent, one waits: the place of the first is not free before it is settled.
    let heard = pipeline.send(AckMode::Queued, 2, 1);
    let Ok(Outcome::Failed(failure)) = heard.try_recv() else { panic!("there is no room") };
    assert_eq!((failure.reason, failure.is_retryable()), (Reason::QUEUE_FULL, true));
    assert_eq!(destination.health().state, HealthState::Unhealthy);
    first.answer(Outcome::Delivered);
    let second = calls.recv_timeout(LONG).unwrap();
    assert_eq!(pipeline.send(AckMode::Queued, 3, 1).try_recv(), Ok(Outcome::Delivered));
    assert_eq!(destination.health().state, HealthState::Ok);
    second.answer(Outcome::Delivered);
    calls.recv_timeout(LONG).unwrap().answer(Outcome::Delivered);
    pipeline.shutdown(soon());
    let page = pipeline.closed_page();
    assert_eq!((page.accepted, page.refused[&Reason::QUEUE_FULL]), (ItemCount(3), ItemCount(1)));
}

#[test]
fn a_dead_destination_past_its_capacity_holds_up_nobody() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let live = Destination::new(settings(
        "live",
        Arc::new(By({
            let seen = Arc::clone(&seen);
            move |group: &Group, _| {
                seen.lock().unwrap().extend(names(&group.joined()));
                Outcome::Delivered
            }
        })),
    ));
    // Longer than `max_elapsed_time` would be given up; this one waits for ever.
    let dead_retry = retry::Config { max_elapsed_time: Duration::ZERO, ..retry::Config::default() };
    let dead = Destination::new(Settings {
        retry: dead_retry,
        queue: with_queue(3, 1),
        ..settings("dead", Arc::new(By(|_: &Group, _| unavailable().retry_after(LONG * 100).into())))
    });
    let pipeline = Pipeline::new([Arc::clone(&dead), live]);
    for number in 0..20 {
        assert_eq!(pipeline.send(AckMode::Queued, number, 1).recv_timeout(LONG), Ok(Outcome::Delivered));
    }
    assert_eq!(dead.health().state, HealthState::Unhealthy);
    pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_millis(200)));
    let page = pipeline.closed_page();
    let (dead, live) = (&page.destinations[0], &page.destinations[1]);
    assert_eq!(live.exported, ItemCount(20));
    assert_eq!(dead.dropped_for(Reason::QUEUE_FULL), ItemCount(17));
    assert_eq!(dead.dropped_for(Reason::SHUTDOWN), ItemCount(3));
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20, "each exactly once");
}

#[test]
fn when_one_refuses_no_queue_takes_anything() {
    let (blocked, calls) = Asking::new();
    let refusing = Destination::new(Settings {
        queue: with_queue(1, 1),
        when_full: Some(WhenFull::Refuse),
        ..settings("refusing", blocked)
    });
    let counted = Arc::new(AtomicU64::new(0));
    let other = |id: &str, when_full| {
        let counted = Arc::clone(&counted);
        let exporter = Arc::new(By(move |group: &Group, _| {
            counted.fetch_add(group.items().get(), Ordering::Relaxed);
            Outcome::Delivered
        }));
        Destination::new(Settings { when_full, queue: with_queue(100, 1), ..settings(id, exporter) })
    };
    let pipeline = Pipeline::new([other("first", None), refusing, other("last", Some(WhenFull::DropOldest))]);
    assert_eq!(pipeline.send(AckMode::Queued, 0, 1).try_recv(), Ok(Outcome::Delivered));
    let call = calls.recv_timeout(LONG).unwrap();
    for _ in 0..5 {
        assert!(matches!(pipeline.send(AckMode::Queued, 1, 1).try_recv(), Ok(Outcome::Failed(_))));
    }
    call.answer(Outcome::Delivered);
    pipeline.shutdown(soon());
    let page = pipeline.closed_page();
    assert_eq!((page.accepted, page.refused[&Reason::QUEUE_FULL]), (ItemCount(1), ItemCount(5)));
    assert!(page.destinations.iter().all(|column| column.exported == ItemCount(1)));
    assert_eq!(counted.load(Ordering::Relaxed), 2);
}

#[test]
fn the_oldest_that_waits_is_dropped_where_that_is_the_policy() {
    let (exporter, calls) = Asking::new();
    let destination = Destination::new(Settings {
        queue: with_queue(3, 1),
        when_full: Some(WhenFull::DropOldest),
        ..settings("a", exporter)
    });
    let pipeline = Pipeline::new([destination]);
    pipeline.send(AckMode::Queued, 0, 1);
    let first = calls.recv_timeout(LONG).unwrap();
    for number in 1..6 {
        assert_eq!(pipeline.send(AckMode::Queued, number, 1).try_recv(), Ok(Outcome::Delivered));
    }
    first.answer(Outcome::Delivered);
    for expected in ["span-4", "span-5"] {
        let call = calls.recv_timeout(LONG).unwrap();
        assert_eq!(call.names, [expected]);
        call.answer(Outcome::Delivered);
    }
    pipeline.shutdown(soon());
    let column = &pipeline.closed_page().destinations[0];
    assert_eq!((column.exported, column.dropped_for(Reason::QUEUE_FULL)), (ItemCount(3), ItemCount(3)));
}

#[test]
fn blocking_waits_for_room_and_two_pipelines_do_not_wait_for_each_other() {
    let (first, first_calls) = Asking::new();
    let (second, second_calls) = Asking::new();
    let blocking = |id, exporter| {
        let queue = queue::Config { block_on_overflow: true, ..with_queue(1, 1) };
        Destination::new(Settings { queue, ..settings(id, exporter) })
    };
    let (a, b) = (blocking("a", first), blocking("b", second));
    let pipelines = [Pipeline::new([Arc::clone(&a), Arc::clone(&b)]), Pipeline::new([b, a])];
    std::thread::scope(|scope| {
        for pipeline in &pipelines {
            scope.spawn(move || {
                for number in 0..10 {
                    let heard = pipeline.send(AckMode::Exported, number, 1);
                    assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered));
                }
            });
        }
        for calls in [first_calls, second_calls] {
            scope.spawn(move || {
                for _ in 0..20 {
                    calls.recv_timeout(LONG).unwrap().answer(Outcome::Delivered);
                }
            });
        }
    });
    for pipeline in &pipelines {
        pipeline.shutdown(soon());
        let page = pipeline.closed_page();
        assert!(page.refused.is_empty());
        assert!(page.destinations.iter().all(|column| column.exported == ItemCount(10)));
    }
}

#[test]
fn larger_than_the_whole_queue_is_refused_for_good() {
    let (exporter, _calls) = Asking::new();
    let queue = queue::Config { sizer: queue::Sizer::Items, ..with_queue(10, 1) };
    for when_full in [WhenFull::Refuse, WhenFull::Block] {
        let settings = Settings { queue: queue.clone(), when_full: Some(when_full), ..settings("a", exporter.clone()) };
        let pipeline = Pipeline::new([Destination::new(settings)]);
        let Ok(Outcome::Failed(failure)) = pipeline.send(AckMode::Queued, 0, 11).try_recv() else {
            panic!("it can never fit")
        };
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::TOO_LARGE, false));
        pipeline.closed_page();
    }
}

#[test]
fn a_withdrawn_group_is_not_begun_and_one_that_was_begun_counts_as_maybe_duplicated() {
    let (exporter, calls) = Asking::new();
    let pipeline = Pipeline::new([Destination::new(Settings { queue: with_queue(9, 1), ..settings("a", exporter) })]);
    let batch = |first| Batch::trusted(Signal::Traces, ItemCount(1), crate::support::spans(first, 1));
    let (begun_heard, begun) = pipeline.send_batch(AckMode::Exported, batch(0));
    let call = calls.recv_timeout(LONG).unwrap();
    let (_, waiting) = pipeline.send_batch(AckMode::Exported, batch(1));
    begun.withdraw();
    waiting.withdraw();
    // The failure is retried although the sender is gone: it was begun, and may have arrived.
    call.answer(unavailable());
    let again = calls.recv_timeout(LONG).unwrap();
    assert_eq!(again.names, ["span-0"]);
    again.answer(Outcome::Delivered);
    pipeline.shutdown(soon());
    assert!(calls.try_recv().is_err() && begun_heard.try_recv().is_err());
    let column = &pipeline.closed_page().destinations[0];
    assert_eq!((column.exported, column.maybe_duplicated), (ItemCount(1), ItemCount(1)));
    assert_eq!(column.dropped_for(Reason::WITHDRAWN), ItemCount(1));
    assert_eq!(column.lost_total(), ItemCount::ZERO);
}

#[test]
fn too_large_is_halved_and_a_single_item_is_rejected() {
    for (limit, items, expected_sizes) in
        [(3, 8, vec![8, 4, 2, 2, 4, 2, 2]), (8, 8, vec![8]), (0, 2, vec![2, 1, 1]), (1, 3, vec![3, 2, 1, 1, 1])]
    {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let exporter = Arc::new(By({
            let sizes = Arc::clone(&sizes);
            move |group: &Group, _| {
                let names = names(&group.joined());
                assert_eq!(names.len() as u64, group.items().get());
                sizes.lock().unwrap().push(names.len() as u64);
                if names.len() as u64 > limit {
                    Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, "413").into()
                } else {
                    Outcome::Delivered
                }
            }
        }));
        let pipeline = Pipeline::new([Destination::new(settings("a", exporter))]);
        let heard = pipeline.send(AckMode::Exported, 0, items);
        let outcome = heard.recv_timeout(LONG).unwrap();
        assert_eq!(outcome.is_delivered(), limit > 0);
        pipeline.shutdown(soon());
        assert_eq!(*sizes.lock().unwrap(), expected_sizes);
        let column = &pipeline.closed_page().destinations[0];
        let rejected = if limit == 0 { items } else { 0 };
        assert_eq!(column.rejected_for(Reason::TOO_LARGE), ItemCount(rejected));
        assert_eq!(column.exported, ItemCount(items - rejected));
    }
}

#[test]
fn halving_ends_after_six_times() {
    let calls = Arc::new(AtomicU64::new(0));
    let exporter = Arc::new(By({
        let calls = Arc::clone(&calls);
        move |_: &Group, _| {
            calls.fetch_add(1, Ordering::Relaxed);
            Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, "413").into()
        }
    }));
    let pipeline = Pipeline::new([Destination::new(settings("a", exporter))]);
    pipeline.send(AckMode::Exported, 0, 1024).recv_timeout(LONG).unwrap();
    pipeline.shutdown(soon());
    assert_eq!(calls.load(Ordering::Relaxed), 127, "1 + 2 + 4 + 8 + 16 + 32 + 64");
    assert_eq!(pipeline.closed_page().destinations[0].rejected_for(Reason::TOO_LARGE), ItemCount(1024));
}

#[test]
fn shutdown_sends_what_is_queued_and_what_waits_to_be_tried_again() {
    let tried = Arc::new(Mutex::new(std::collections::BTreeMap::<String, u32>::new()));
    let stopping = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (began, begun) = std::sync::mpsc::channel();
    let began = Mutex::new(began);
    let exporter = Arc::new(By({
        let (tried, stopping) = (Arc::clone(&tried), Arc::clone(&stopping));
        move |group: &Group, _| {
            *tried.lock().unwrap().entry(names(&group.joined())[0].clone()).or_default() += 1;
            if stopping.load(Ordering::Relaxed) {
                return Outcome::Delivered;
            }
            let _ = began.lock().unwrap().send(());
            unavailable().into()
        }
    }));
    let retry = retry::Config { initial_interval: LONG, max_interval: LONG, ..retry::Config::default() };
    let settings = Settings { retry, queue: with_queue(100, 2), ..settings("a", exporter) };
    let pipeline = Pipeline::new([Destination::new(settings)]);
    for number in 0..20 {
        pipeline.send(AckMode::Queued, number, 1);
    }
    begun.recv_timeout(LONG).unwrap();
    begun.recv_timeout(LONG).unwrap();
    stopping.store(true, Ordering::Relaxed);
    pipeline.shutdown(soon());
    let page = pipeline.closed_page();
    assert_eq!(page.destinations[0].exported, ItemCount(20));
    assert_eq!(tried.lock().unwrap().values().sum::<u32>(), 22);
    // After it nothing is taken, and a second time changes nothing.
    let Ok(Outcome::Failed(failure)) = pipeline.send(AckMode::Queued, 99, 1).try_recv() else { panic!("taken") };
    assert_eq!(failure.reason, Reason::SHUTDOWN);
    pipeline.shutdown(soon());
    pipeline.closed_page();
}

#[test]
fn shutdown_ends_by_its_deadline_and_counts_what_is_left() {
    let exporter = Arc::new(By(|_: &Group, deadline: Deadline| {
        // A peer that never answers: the attempt lasts until its deadline.
        let left = deadline.remaining(Instant::now()).unwrap_or(LONG);
        std::thread::sleep(left);
        Failure::refused(Reason::TIMEOUT, "no answer").into()
    }));
    let timeout = Some(Duration::from_millis(50));
    let settings = Settings { timeout, queue: with_queue(100, 3), ..settings("a", exporter) };
    let pipeline = Pipeline::new([Destination::new(settings)]);
    for number in 0..50 {
        pipeline.send(AckMode::Queued, number, 2);
    }
    pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_millis(100)));
    let column = &pipeline.closed_page().destinations[0];
    assert_eq!((column.exported, column.lost_total()), (ItemCount::ZERO, ItemCount(100)));
    assert!(column.dropped_for(Reason::SHUTDOWN) > ItemCount::ZERO);
}

#[test]
fn an_exporter_that_hangs_does_not_hang_us() {
    let (exporter, calls) = Asking::new();
    let pipeline = Pipeline::new([Destination::new(Settings { queue: with_queue(9, 1), ..settings("a", exporter) })]);
    pipeline.send(AckMode::Queued, 0, 1);
    let call = calls.recv_timeout(LONG).unwrap();
    pipeline.send(AckMode::Queued, 1, 1);
    pipeline.shutdown(Deadline::at(Instant::now()));
    let page = pipeline.ledger.page();
    assert_eq!(page.balance(), Ok(()));
    assert_eq!(page.destinations[0].held, ItemCount(1), "what hangs is held and said to be");
    assert_eq!(page.destinations[0].dropped_for(Reason::SHUTDOWN), ItemCount(1));
    call.answer(Outcome::Delivered);
}

#[test]
fn workers_start_on_demand_and_end_when_idle() {
    let (exporter, calls) = Asking::new();
    let threads = Threads::new(ThreadOptions::default(), Duration::from_millis(5));
    let destination = Destination::new(Settings { threads, queue: with_queue(100, 3), ..settings("a", exporter) });
    let pipeline = Pipeline::new([Arc::clone(&destination)]);
    assert_eq!(destination.workers(), 0);
    for number in 0..5 {
        pipeline.send(AckMode::Queued, number, 1);
    }
    let open: Vec<_> = (0..3).map(|_| calls.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(destination.workers(), 3);
    assert!(calls.try_recv().is_err());
    open.into_iter().for_each(|call| call.answer(Outcome::Delivered));
    for _ in 0..2 {
        calls.recv_timeout(LONG).unwrap().answer(Outcome::Delivered);
    }
    let until = Instant::now() + LONG;
    while destination.workers() > 0 {
        assert!(Instant::now() < until, "idle workers stay");
        std::thread::yield_now();
    }
    pipeline.send(AckMode::Queued, 9, 1);
    calls.recv_timeout(LONG).unwrap().answer(Outcome::Delivered);
    pipeline.shutdown(soon());
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(6));
}

#[test]
fn the_queue_joins_what_waits() {
    let (exporter, calls) = Asking::new();
    let batch = queue::Batch { min_size: 4, max_size: 6, flush_timeout: LONG, ..queue::Batch::default() };
    let queue = queue::Config { batch: Some(batch), ..with_queue(100, 2) };
    let pipeline = Pipeline::new([Destination::new(Settings { queue, ..settings("a", exporter) })]);
    let heard: Vec<_> = (0..5).map(|number| pipeline.send(AckMode::Exported, number, 1)).collect();
    let call = calls.recv_timeout(LONG).unwrap();
    assert_eq!(call.names, ["span-0", "span-1", "span-2", "span-3"]);
    call.answer(Outcome::Partial { rejected: ItemCount(1), message: "one".into() });
    for heard in &heard[..4] {
        assert!(heard.recv_timeout(LONG).unwrap().is_delivered());
    }
    let pipeline = &pipeline;
    std::thread::scope(|scope| {
        scope.spawn(move || pipeline.shutdown(soon()));
        let last = calls.recv_timeout(LONG).unwrap();
        assert_eq!(last.names, ["span-4"], "released at the end");
        last.answer(Outcome::Delivered);
    });
    let column = &pipeline.closed_page().destinations[0];
    assert_eq!((column.exported, column.rejected_for(Reason::PARTIAL_SUCCESS)), (ItemCount(4), ItemCount(1)));
}

/// The inlet of a next pipeline: hands over to its destinations, or refuses the first few times.
struct Next {
    pipeline: Pipeline,
    refusals: AtomicU64,
    hold: bool,
}

impl Outlet for Next {
    fn try_send(&self, mut batch: Batch) -> Result<(), Refused> {
        use otlp_core::component::Fanout;
        if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Refused { batch: Box::new(batch), failure: unavailable(), hold: self.hold });
        }
        let room = self.pipeline.destinations.reserve(batch.weight()).unwrap();
        let items = batch.items();
        batch.ticket_mut().accept(&self.pipeline.ledger, items);
        self.pipeline.destinations.send(Group::of(batch), room);
        Ok(())
    }
}

#[test]
fn a_connector_settles_by_what_becomes_of_it_in_the_next_pipeline() {
    for (mode, refusals, hold, answer, delivered) in [
        (AckMode::Queued, 0, false, Outcome::Delivered, true),
        (AckMode::Exported, 0, false, Outcome::Delivered, true),
        (AckMode::Exported, 3, true, Outcome::Delivered, true),
        (AckMode::Exported, 0, false, rejected().into(), false),
        (AckMode::Queued, 1, false, Outcome::Delivered, false),
    ] {
        let (exporter, calls) = Asking::new();
        let next = Arc::new(Next {
            pipeline: Pipeline::new([Destination::new(settings("a", exporter))]),
            refusals: AtomicU64::new(refusals),
            hold,
        });
        let connector =
            Destination::connector("forward", Signal::Traces, next.clone(), Clock::system(), Registry::new());
        let first = Pipeline::new([connector]);
        let heard = first.send(mode, 0, 4);
        let refused = refusals > 0 && !hold;
        if !refused {
            if mode == AckMode::Queued {
                assert_eq!(heard.recv_timeout(LONG), Ok(Outcome::Delivered), "as soon as it is queued there");
            } else {
                assert!(heard.try_recv().is_err());
            }
            calls.recv_timeout(LONG).unwrap().answer(answer);
        }
        if mode == AckMode::Exported || refused {
            assert_eq!(heard.recv_timeout(LONG).unwrap().is_delivered(), delivered);
        }
        first.shutdown(soon());
        next.pipeline.shutdown(soon());
        let column = &first.closed_page().destinations[0];
        assert_eq!(column.exported, ItemCount(if delivered { 4 } else { 0 }));
        assert_eq!(column.lost_total() + column.rejected_total(), ItemCount(if delivered { 0 } else { 4 }));
        assert_eq!(next.pipeline.closed_page().accepted, ItemCount(if refused { 0 } else { 4 }));
    }
}

#[test]
fn attempts_wait_for_the_configured_rate() {
    use otlp_core::flow::{RateLimit, RateUnit};
    let at = Arc::new(Mutex::new(Vec::new()));
    let exporter = Arc::new(By({
        let at = Arc::clone(&at);
        move |_: &Group, _| {
            at.lock().unwrap().push(Instant::now());
            Outcome::Delivered
        }
    }));
    let limit = RateLimit { capacity: Some(1), ..RateLimit::per_second(RateUnit::Requests, 200) };
    let began = Instant::now();
    let settings = Settings { rate_limit: Some(limit), queue: with_queue(99, 4), ..settings("a", exporter) };
    let pipeline = Pipeline::new([Destination::new(settings)]);
    for number in 0..10 {
        pipeline.send(AckMode::Queued, number, 1);
    }
    pipeline.shutdown(soon());
    assert_eq!(pipeline.closed_page().destinations[0].exported, ItemCount(10));
    let at = at.lock().unwrap();
    // A lower bound only: a slow machine makes them later, never earlier.
    assert!(*at.iter().max().unwrap() - began >= Duration::from_millis(44), "ten at 200 a second, one at once");
}

/// What a destination does with one attempt, by a seed and the group's first span.
fn whim(seed: u64, group: &Group, attempts: &AtomicU64) -> Outcome {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (seed, names(&group.joined()), attempts.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
    match hasher.finish() % 16 {
        // Without the panic hook, whose first backtrace takes longer than a stopping destination waits.
        0 => std::panic::resume_unwind(Box::new("a whim")),
        1 => Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, "413").into(),
        2 => rejected().into(),
        3 => Outcome::Partial { rejected: ItemCount(1), message: "one".into() },
        4..=7 => unavailable().into(),
        _ => Outcome::Delivered,
    }
}

fn cases() -> u32 {
    std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

/// Queue size, consumers, policy (5: no queue), size of batches.
type Shape = (u64, usize, usize, Option<u64>);

fn whimsical(seed: u64, index: usize, shape: &Shape, attempts: &Arc<AtomicU64>) -> Arc<Destination> {
    let &(queue_size, consumers, policy, batch) = shape;
    let attempts = Arc::clone(attempts);
    let exporter = Arc::new(By(move |group: &Group, _| whim(seed ^ index as u64, group, &attempts)));
    let policies =
        [None, Some(WhenFull::Refuse), Some(WhenFull::Block), Some(WhenFull::DropNewest), Some(WhenFull::DropOldest)];
    let batch = batch.map(|size| queue::Batch {
        min_size: size,
        max_size: size * 2,
        flush_timeout: Duration::from_millis(1),
        ..queue::Batch::default()
    });
    let queue = queue::Config { enabled: policy < 5, batch, ..with_queue(queue_size, consumers) };
    let retry = retry::Config { initial_interval: Duration::ZERO, max_attempts: Some(3), ..Default::default() };
    let when_full = policies.get(policy).copied().flatten();
    Destination::new(Settings { queue, retry, when_full, ..settings(&format!("d{index}"), exporter) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_whatever_destinations_do(
        seed: u64,
        shapes in prop::collection::vec((1u64..12, 1usize..4, 0usize..6, prop::option::of(1u64..20)), 1..4),
        exported: bool,
        hasty: bool,
    ) {
        let attempts = Arc::new(AtomicU64::new(0));
        let shapes = shapes.iter().enumerate();
        let pipeline = Pipeline::new(shapes.map(|(index, shape)| whimsical(seed, index, shape, &attempts)));
        let mode = if exported { AckMode::Exported } else { AckMode::Queued };
        let (pipeline, sent) = (&pipeline, &AtomicU64::new(0));
        let send = move |sender: u64| {
            let mut waiting = Vec::new();
            for number in 0..12u64 {
                let items = 1 + (seed >> (number % 8)) % 7;
                sent.fetch_add(items, Ordering::Relaxed);
                let body = crate::support::spans(sender * 1000 + number * 10, items);
                let batch = Batch::trusted(Signal::Traces, ItemCount(items), body);
                let (heard, withdrawal) = pipeline.send_batch(mode, batch);
                if number % 5 == 4 { withdrawal.withdraw() } else { waiting.push(heard) }
            }
            waiting
        };
        let heard: Vec<_> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..3).map(|sender| scope.spawn(move || send(sender))).collect();
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        pipeline.shutdown(if hasty { Deadline::at(Instant::now()) } else { soon() });
        // On a busy machine a worker may be left behind in its attempt; it settles all the same, later.
        let until = Instant::now() + LONG;
        while pipeline.ledger.page().destinations.iter().any(|column| column.held > ItemCount::ZERO) {
            assert!(hasty && Instant::now() < until, "something is held after the shutdown");
            std::thread::yield_now();
        }
        let page = pipeline.closed_page();
        let refused: ItemCount = page.refused.values().copied().sum();
        prop_assert_eq!((page.accepted + refused).get(), sent.load(Ordering::Relaxed));
        for heard in heard {
            prop_assert!(heard.recv_timeout(LONG).is_ok(), "a sender waits for ever");
            prop_assert!(heard.recv_timeout(LONG).is_err(), "a sender hears twice");
        }
        let dropped = |reason| page.destinations.iter().map(|column| column.dropped_for(reason)).sum::<ItemCount>();
        prop_assert!(hasty || dropped(Reason::SHUTDOWN) == ItemCount::ZERO);
        prop_assert_eq!(dropped(Reason::LOST), ItemCount::ZERO);
    }
}

#[test]
fn health_follows_the_last_attempt() {
    let (exporter, calls) = Asking::new();
    let destination = Destination::new(settings("a", exporter));
    let pipeline = Pipeline::new([Arc::clone(&destination)]);
    assert_eq!(destination.health().state, HealthState::Ok);
    pipeline.send(AckMode::Queued, 0, 1);
    calls.recv_timeout(LONG).unwrap().answer(unavailable());
    let again = calls.recv_timeout(LONG).unwrap();
    let health = destination.health();
    assert_eq!((health.state, health.message.as_str()), (HealthState::Unhealthy, "exporter a: busy"));
    again.answer(Outcome::Delivered);
    // What the destination will never take is the data's fault.
    pipeline.send(AckMode::Queued, 1, 1);
    calls.recv_timeout(LONG).unwrap().answer(rejected());
    pipeline.shutdown(soon());
    assert_eq!(destination.health().state, HealthState::Ok);
    pipeline.closed_page();
}
