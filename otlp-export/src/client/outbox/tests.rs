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

fn plan(stack_kib: usize) -> Plan {
    Plan {
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
    }
}

fn outbox(stack_kib: usize) -> (Outbox, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    (Outbox::new(plan(stack_kib), Signal::ALL.map(|_| Box::new(Counts(Arc::clone(&taken))) as Box<dyn Way>)), taken)
}

fn record(outbox: &Outbox, count: usize) {
    let origin = Origin { resource: Encoded::default(), scope: Encoded::default() };
    (0..count).for_each(|_| assert_eq!(outbox.send_item(Signal::Traces, &origin, b"", 1), Sent::Queued));
}

fn within(deadline: Duration) -> Deadline {
    Deadline::after(Instant::now(), deadline)
}

/// Takes its time to resolve, and tells what was left of the time to send after that.
struct Slow(std::sync::mpsc::Sender<bool>, Mutex<Option<Instant>>);

impl Exporter for Slow {
    fn export(&self, _: &Group, deadline: Deadline) -> Outcome {
        let resolved = self.1.lock().expect("it was resolved first");
        let _ = self.0.send(deadline.instant().is_some_and(|by| by >= resolved + LONG));
        Outcome::Delivered
    }

    fn shutdown(&self, _: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

impl Way for Slow {
    fn resolve_ahead(&self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {
            std::thread::yield_now();
        }
        *self.1.lock() = Some(Instant::now());
    }
}

#[test]
fn in_direct_mode_the_name_is_resolved_before_time_begins_to_count() {
    let (sender, has_all_its_time) = channel();
    let plan = Plan { mode: Mode::Direct, ..plan(0) };
    let slow = || Box::new(Slow(sender.clone(), Mutex::new(None))) as Box<dyn Way>;
    let outbox = Outbox::new(plan, Signal::ALL.map(|_| slow()));
    let origin = Origin { resource: Encoded::default(), scope: Encoded::default() };
    assert_eq!(outbox.send_item(Signal::Logs, &origin, b"", 1), Sent::Settled(Outcome::Delivered));
    assert!(has_all_its_time.try_recv().unwrap());
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
