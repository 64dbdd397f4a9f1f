use prost::Message;

use super::*;
use crate::component::{Health, Outlets, Refused, StartError};
use crate::testing::sinks::{BlockingExporter, CollectingExporter, CollectingFanout};
use crate::thread::catch_panic;

/// What is demanded of something that breaks the contract.
fn complaint(run: impl FnOnce()) -> String {
    catch_panic(run).expect_err("the contract is broken and nobody noticed")
}

#[test]
fn requests_are_valid_and_count_as_they_say() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    for items in [1, 3, 500] {
        let traces = ExportTraceServiceRequest::decode(request(Signal::Traces, items, 7)).unwrap();
        let spans = &traces.resource_spans[0].scope_spans[0].spans;
        assert_eq!((spans.len() as u64, spans[0].name.as_str()), (items, "item-7"));
        let logs = ExportLogsServiceRequest::decode(request(Signal::Logs, items, 7)).unwrap();
        assert_eq!(logs.resource_logs[0].scope_logs[0].log_records.len() as u64, items);
        let metrics = ExportMetricsServiceRequest::decode(request(Signal::Metrics, items, 7)).unwrap();
        let Some(Data::Gauge(gauge)) = &metrics.resource_metrics[0].scope_metrics[0].metrics[0].data else { panic!() };
        assert_eq!(gauge.data_points.len() as u64, items);
    }
}

#[test]
fn our_own_exporters_keep_the_contract() {
    for signal in Signal::ALL {
        let made = Mutex::new(Vec::new());
        exporter(
            signal,
            || {
                let exporter = CollectingExporter::new();
                made.lock().unwrap().push(exporter.clone());
                exporter
            },
            || Some(made.lock().unwrap().iter().map(CollectingExporter::items).sum()),
        );
    }
    exporter(
        Signal::Logs,
        || {
            let exporter = BlockingExporter::new();
            exporter.open();
            exporter
        },
        || None,
    );
}

#[test]
fn an_exporter_that_goes_on_after_shutdown_is_found() {
    struct Deaf;
    impl Exporter for Deaf {
        fn export(&self, _: &Group, _: Deadline) -> Outcome {
            Outcome::Delivered
        }
        fn shutdown(&self, _: Deadline) {}
        fn health(&self) -> Health {
            Health { state: HealthState::Stopped, message: String::new() }
        }
    }
    let complaint = complaint(|| exporter(Signal::Logs, || Deaf, || None));
    assert!(complaint.contains("stopped before its first export takes nothing"), "{complaint}");
}

#[test]
fn an_exporter_that_says_delivered_of_what_never_arrived_is_found() {
    let complaint = complaint(|| exporter(Signal::Logs, CollectingExporter::new, || Some(ItemCount(1))));
    assert!(complaint.contains("items it said were delivered"), "{complaint}");
}

#[test]
fn a_blocked_exporter_lets_go_by_permission_by_deadline_and_by_shutdown() {
    let exporter = BlockingExporter::new();
    let group = || Group::of(batch(Signal::Traces, 2, 0));
    let timeout = exporter.export(&group(), Deadline::after(Instant::now(), Duration::from_millis(1)));
    assert!(matches!(timeout, Outcome::Failed(failure) if failure.reason == Reason::TIMEOUT));
    std::thread::scope(|scope| {
        let released = scope.spawn(|| exporter.export(&group(), Deadline::NEVER));
        assert!(exporter.wait_for_blocked(1, PATIENCE));
        exporter.release(1);
        assert_eq!(released.join().unwrap(), Outcome::Delivered);
        let stopped = scope.spawn(|| exporter.export(&group(), Deadline::NEVER));
        assert!(exporter.wait_for_blocked(1, PATIENCE));
        exporter.shutdown(soon());
        assert!(!stopped.join().unwrap().is_delivered());
    });
    assert_eq!((exporter.items(), exporter.blocked()), (ItemCount(2), 0));
}

#[test]
fn a_script_is_followed_and_then_all_is_taken() {
    let failure = Failure::refused(Reason::UNAVAILABLE, "down");
    let exporter = CollectingExporter::answering([failure.clone().into(), Outcome::Delivered, failure.clone().into()]);
    let outcomes: Vec<bool> =
        (0..5).map(|n| exporter.export(&Group::of(batch(Signal::Logs, n + 1, n)), soon()).is_delivered()).collect();
    assert_eq!(outcomes, [false, true, false, true, true]);
    assert_eq!((exporter.items(), exporter.attempts()), (ItemCount(2 + 4 + 5), 5));
    assert_eq!(exporter.delivered()[0].body, request(Signal::Logs, 2, 1));
    let dead = CollectingExporter::failing(failure);
    assert!(!dead.export(&Group::of(batch(Signal::Logs, 1, 0)), soon()).is_delivered());
    assert!(dead.wait_for_attempts(1, PATIENCE) && !dead.wait_for_items(ItemCount(1), Duration::ZERO));
}

#[test]
fn a_fanout_settles_a_share_for_each_destination() {
    let ledger = Ledger::new("logs", Signal::Logs, ["a", "b"]);
    let fanout = CollectingFanout::new(2);
    let mut batch = batch(Signal::Logs, 3, 0);
    batch.ticket_mut().accept(&ledger, ItemCount(3));
    use crate::component::Fanout;
    let room = fanout.reserve(batch.weight()).unwrap();
    fanout.send(Group::of(batch), room);
    let page = ledger.page();
    assert_eq!(page.balance(), Ok(()));
    assert_eq!((page.destinations[0].exported, page.destinations[1].exported), (ItemCount(3), ItemCount(3)));
    assert_eq!((fanout.items(), fanout.reserved().items), (ItemCount(3), 3));
    fanout.set_full(Some(Failure::refused(Reason::QUEUE_FULL, "full")));
    assert!(fanout.reserve(fanout.reserved()).is_err());
}

/// A processor of which the faults can be switched on.
#[derive(Default)]
struct Holding {
    held: Vec<Batch>,
    forgets: bool,
    keeps: bool,
    doubles: bool,
}

impl Processor for Holding {
    fn process(&mut self, mut batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        if batch.items() == ItemCount(7) {
            let failure = Failure::refused(Reason::MEMORY_LIMIT, "seven");
            return Err(Refused { batch: Box::new(batch), failure, hold: false });
        }
        if batch.items() == ItemCount(6) {
            batch.settle(Outcome::Delivered);
            return Ok(());
        }
        if self.forgets {
            drop(batch);
            return Ok(());
        }
        if self.doubles {
            downstream.emit(Group::of(Batch::trusted(batch.signal(), batch.items(), batch.body().clone())));
        }
        let _ = downstream.hold(&mut batch, false);
        self.held.push(batch);
        if !self.keeps && self.held.len() > 10 {
            self.flush(downstream);
        }
        Ok(())
    }

    fn flush(&mut self, downstream: &mut dyn Downstream) {
        if !self.keeps {
            self.held.drain(..).for_each(|batch| downstream.emit(Group::of(batch)));
        }
    }
}

#[test]
fn a_processor_that_loses_keeps_or_doubles_is_found() {
    for (make, words) in [
        (Holding { forgets: true, ..Holding::default() }, "dropped without an outcome"),
        (Holding { keeps: true, ..Holding::default() }, "nobody has settled"),
        (Holding { doubles: true, ..Holding::default() }, "emitted"),
    ] {
        let (forgets, keeps, doubles) = (make.forgets, make.keeps, make.doubles);
        let complaint = complaint(|| {
            processor(Signal::Traces, || Holding { forgets, keeps, doubles, ..Holding::default() });
        });
        assert!(complaint.contains(words), "{complaint}");
    }
}

/// Emits what it takes at once.
struct Passing;

impl Processor for Passing {
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        downstream.emit(Group::of(batch));
        Ok(())
    }
}

#[test]
fn a_processor_that_passes_on_keeps_the_contract_and_one_that_holds_after_shutdown_does_not() {
    processor(Signal::Metrics, || Passing);
    let complaint = complaint(|| processor(Signal::Metrics, Holding::default));
    assert!(complaint.contains("after shutdown"), "{complaint}");
}

/// A receiver without a socket: its sender calls it directly.
#[derive(Default)]
struct Direct {
    inner: Arc<Mutex<Option<Outlets>>>,
    stopped: Arc<Mutex<bool>>,
    /// Answers OK whatever becomes of the batch.
    lies: bool,
    /// Takes requests after shutdown.
    deaf: bool,
}

impl Receiver for Direct {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        *self.inner.lock().unwrap() = Some(outlets);
        Ok(())
    }

    fn shutdown(&mut self, _: Deadline) {
        *self.stopped.lock().unwrap() = true;
        if !self.deaf {
            *self.inner.lock().unwrap() = None;
        }
    }

    fn health(&self) -> Health {
        let stopped = *self.stopped.lock().unwrap();
        Health { state: if stopped { HealthState::Stopped } else { HealthState::Ok }, message: String::new() }
    }
}

impl Direct {
    fn sender(&self) -> SendOne {
        let (inner, stopped, lies) = (Arc::clone(&self.inner), Arc::clone(&self.stopped), self.lies);
        Box::new(move |signal, body| {
            let Some(outlet) = inner.lock().unwrap().as_ref().and_then(|outlets| outlets.get(signal).cloned()) else {
                return false;
            };
            // The body of `request` ends each item with its mark, which is also its count here.
            let items = body.windows(5).filter(|at| *at == b"item-").count() as u64;
            let (sender, heard) = mpsc::channel();
            let ack = Ack::new(AckMode::Exported, move |outcome: Outcome| {
                let _ = sender.send(outcome.is_delivered());
            });
            let batch = Batch::trusted(signal, ItemCount(items), body).with_ack(ack);
            if let Err(refused) = outlet.try_send(batch) {
                refused.batch.settle(refused.failure.into());
            }
            loop {
                match heard.recv_timeout(Duration::from_millis(1)) {
                    Ok(delivered) => return delivered || lies,
                    Err(_) if *stopped.lock().unwrap() => return false,
                    Err(_) => {}
                }
            }
        })
    }
}

#[test]
fn a_receiver_that_keeps_the_contract_passes_and_others_are_found() {
    receiver(Signal::Logs, Direct::default, Direct::sender);
    let lies = complaint(|| receiver(Signal::Logs, || Direct { lies: true, ..Direct::default() }, Direct::sender));
    assert!(lies.contains("refuses is not answered with OK"), "{lies}");
    let deaf = complaint(|| receiver(Signal::Logs, || Direct { deaf: true, ..Direct::default() }, Direct::sender));
    assert!(deaf.contains("after shutdown nothing is a"), "{deaf}");
}
