use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use otlp_core::component::{Exporter, Health};
use otlp_core::{Group, Outcome};

use super::*;
use crate::client::config::LIMITS;
use crate::client::envelope::Encoded;

const LONG: Duration = Duration::from_secs(60);

/// Takes everything, and counts it.
struct Counts(Arc<AtomicU64>);

impl Exporter for Counts {
    fn export(&self, group: &Group, _: Deadline) -> Outcome {
        self.0.fetch_add(group.items().get(), Ordering::SeqCst);
        Outcome::Delivered
    }

    fn shutdown(&self, _: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

impl Way for Counts {
    fn resolve_ahead(&self) {}
}

fn outbox(stack_kib: usize) -> (Outbox, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let plan = Plan {
        mode: Mode::Queued,
        thread_name: "tested".to_owned(),
        stack_kib,
        limits: [Limits { delay: LONG, ..LIMITS }; 3],
        queue_bytes_max: 1 << 20,
        when_full: WhenFull::DropNewest,
        block_timeout: LONG,
        timeouts: [LONG; 3],
        export_timeouts: [None; 3],
        retry: retry::Config::disabled(),
        on_failure: None,
        may_log: false,
    };
    (Outbox::new(plan, Signal::ALL.map(|_| Box::new(Counts(Arc::clone(&taken))) as Box<dyn Way>)), taken)
}

fn record(outbox: &Outbox, count: usize) {
    let origin = Origin { resource: Encoded::default(), scope: Encoded::default() };
    (0..count).for_each(|_| assert_eq!(outbox.send_item(Signal::Traces, &origin, b"", 1), Sent::Queued));
}

fn within(deadline: Duration) -> Deadline {
    Deadline::after(Instant::now(), deadline)
}

#[test]
fn where_the_system_has_no_thread_whoever_flushes_sends() {
    // More than any address space has.
    let (outbox, taken) = outbox(1 << 50);
    record(&outbox, 3);
    assert_eq!(outbox.flush(within(LONG)).unwrap().delivered.get(), 3);
    record(&outbox, 2);
    assert_eq!(outbox.shutdown(within(LONG)).unwrap().delivered.get(), 5);
    assert_eq!(taken.load(Ordering::SeqCst), 5);
}

#[test]
fn where_the_thread_never_begins_whoever_flushes_sends_and_no_other_is_tried() {
    let (outbox, taken) = outbox(0);
    // As it is in a child of fork.
    let never = Instant::now() - LONG;
    outbox.0.state.lock().worker = Worker::Beginning(never);
    record(&outbox, 3);
    assert_eq!(outbox.flush(within(LONG)).unwrap().delivered.get(), 3);
    record(&outbox, 600);
    {
        let state = outbox.0.state.lock();
        assert!(state.threadless && state.thread.is_none() && state.worker == Worker::None);
    }
    assert_eq!(outbox.shutdown(within(LONG)).unwrap().delivered.get(), 603);
    assert_eq!(taken.load(Ordering::SeqCst), 603);
}

#[test]
fn a_thread_that_begins_late_takes_over() {
    let (outbox, taken) = outbox(0);
    outbox.0.state.lock().worker = Worker::Beginning(Instant::now() - LONG);
    record(&outbox, 3);
    outbox.flush(within(LONG)).unwrap();
    let (shared, (done, ended)) = (Arc::clone(&outbox.0), channel());
    std::thread::spawn(move || {
        shared.work();
        let _ = done.send(());
    });
    // A full batch leaves without anybody who flushes.
    record(&outbox, 512);
    let begun = Instant::now();
    while taken.load(Ordering::SeqCst) < 515 {
        assert!(begun.elapsed() < LONG);
        std::thread::yield_now();
    }
    assert!(!outbox.0.state.lock().threadless);
    outbox.shutdown(within(LONG)).unwrap();
    ended.recv_timeout(LONG).unwrap();
}

#[test]
fn time_that_is_too_short_for_a_stand_in_is_kept() {
    let (outbox, taken) = outbox(0);
    outbox.0.state.lock().worker = Worker::Beginning(Instant::now() + LONG);
    record(&outbox, 3);
    let lost = outbox.shutdown(within(Duration::from_millis(1))).unwrap_err();
    assert_eq!((lost.report().dropped.of(Reason::SHUTDOWN).get(), taken.load(Ordering::SeqCst)), (3, 0));
}
