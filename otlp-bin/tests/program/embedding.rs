//! Pipelines in a host's own process, side by side and joined.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use otlp_bin::Pipeline;
use otlp_bin::registry::ThreadSettings;
use otlp_bin::service::InletSpec;
use otlp_core::component::{Health, Outlet, Outlets, Receiver, StartError};
use otlp_core::flow::{MemoryBudget, WhenFull};
use otlp_core::telemetry::{Registry, names};
use otlp_core::testing::generate;
use otlp_core::testing::sinks::{BlockingExporter, CollectingExporter};
use otlp_core::thread::ThreadOptions;
use otlp_core::{Ack, AckMode, Batch, ByteSize, Deadline, ItemCount, Outcome, Signal};
use otlp_export::{Settings, queue, retry};
use otlp_process::batch;
use otlp_process::closure::{Aggregated, Window, aggregate, partition};
use otlp_process::merge;
use parking_lot::Mutex;

const PATIENCE: Duration = Duration::from_secs(60);

fn soon() -> Deadline {
    Deadline::after(Instant::now(), PATIENCE)
}

#[test]
fn a_pipeline_that_could_do_nothing_does_not_start() {
    for (builder, why) in [
        (Pipeline::builder("own"), "no exporter"),
        (to_sink("own", &CollectingExporter::default()).signals([]), "no signal"),
    ] {
        let error = builder.start().err().unwrap().to_string();
        assert!(error.starts_with("cannot start pipeline own: ") && error.contains(why), "{error}");
    }
}

fn to_sink(name: &str, sink: &CollectingExporter) -> otlp_bin::pipeline::Builder {
    let sink = sink.clone();
    Pipeline::builder(name).signals([Signal::Traces]).exporter("sink", move |with, signal| Settings {
        retry: retry::Config::disabled(),
        ..with.settings(signal, sink.clone())
    })
}

fn asked(batch: Batch, mode: AckMode) -> (Batch, std::sync::mpsc::Receiver<Outcome>) {
    let (sender, heard) = channel();
    (batch.with_ack(Ack::new(mode, move |outcome| drop(sender.send(outcome)))), heard)
}

#[test]
fn a_pipeline_is_parted_into_two_others_and_all_books_balance() {
    let (even, odd) = (CollectingExporter::new(), CollectingExporter::new());
    let mut evens = to_sink("even", &even).start().unwrap();
    let mut odds = to_sink("odd", &odd).start().unwrap();
    let parted = partition(
        |item| item.span().is_some_and(|span| span.start_time_unix_nano().is_multiple_of(2)),
        evens.outlet(Signal::Traces).unwrap(),
        odds.outlet(Signal::Traces).unwrap(),
    );
    let mut source =
        Pipeline::builder("source").signals([Signal::Traces]).connector("parted", Arc::new(parted)).start().unwrap();
    let outlet = source.outlet(Signal::Traces).unwrap();
    assert!(source.outlet(Signal::Logs).is_none());
    let mut heard = Vec::new();
    for seed in 0..20 {
        let (batch, answer) = asked(generate::batch(Signal::Traces, seed, 10), AckMode::Exported);
        outlet.try_send(batch).unwrap();
        heard.push(answer);
    }
    for answer in heard {
        assert_eq!(answer.recv_timeout(PATIENCE), Ok(Outcome::Delivered));
    }
    let summaries = [source.shutdown(soon()), evens.shutdown(soon()), odds.shutdown(soon())];
    assert!(summaries.iter().all(|summary| summary.balances() && !summary.has_loss()), "{summaries:?}");
    assert_eq!(even.items() + odd.items(), ItemCount(200));
    assert!(even.items() > ItemCount::ZERO && odd.items() > ItemCount::ZERO);
    assert_eq!(summaries[1].row("traces/even", "sink").unwrap().exported, even.items());
    assert_eq!(summaries[0].row("traces/source", "parted").unwrap().exported, ItemCount(200));
}

#[test]
fn pipelines_stand_side_by_side_with_threads_and_metrics_of_their_own() {
    let pool = Arc::new(rayon_pool());
    let sinks = [CollectingExporter::new(), CollectingExporter::new()];
    let registries = [Registry::new(), Registry::new()];
    let budget = MemoryBudget::new(ByteSize::mib(8));
    let start = |number: usize, prefix: &'static str| {
        to_sink("same", &sinks[number])
            .registry(registries[number].clone())
            .memory_budget(budget.clone())
            .pool(Arc::clone(&pool))
            .max_concurrent(2)
            .threads(ThreadSettings { options: ThreadOptions { stack_kib: 512, prefix }, ..ThreadSettings::default() })
            .start()
            .unwrap()
    };
    let mut pipelines = [start(0, "one-"), start(1, "two-")];
    pipelines[0].outlet(Signal::Traces).unwrap().try_send(generate::batch(Signal::Traces, 1, 3)).unwrap();
    assert!(sinks[0].wait_for_items(ItemCount(3), PATIENCE));
    #[cfg(target_os = "linux")]
    for name in ["one-proc-0", "two-proc-0", "host-0"] {
        // A thread names itself once it runs.
        let deadline = soon();
        while !thread_names().iter().any(|other| other == name) {
            assert!(!deadline.passed(Instant::now()), "{name} is not among {:?}", thread_names());
            std::thread::yield_now();
        }
    }
    assert_eq!(pipelines.each_ref().map(Pipeline::unhealthy), [Vec::<String>::new(), Vec::new()]);
    let exported =
        pipelines.each_mut().map(|pipeline| pipeline.shutdown(soon()).row("traces/same", "sink").unwrap().exported);
    assert_eq!(exported, [ItemCount(3), ItemCount::ZERO]);
    let requests = registries.each_ref().map(|registry| {
        let samples = registry.samples();
        let sample = samples.iter().find(|sample| sample.name == names::PIPELINE_REQUESTS.name);
        sample.and_then(|sample| sample.as_number())
    });
    assert_eq!(requests, [Some(1.0), Some(0.0)]);
}

fn rayon_pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(2).thread_name(|index| format!("host-{index}")).build().unwrap()
}

#[cfg(target_os = "linux")]
fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim().into())
        .collect()
}

/// A receiver that a test sends by.
#[derive(Clone, Default)]
struct Hand(Arc<Mutex<Outlets>>);

impl Hand {
    fn outlet(&self) -> Arc<dyn Outlet> {
        Arc::clone(self.0.lock().get(Signal::Traces).unwrap())
    }
}

impl Receiver for Hand {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        *self.0.lock() = outlets;
        Ok(())
    }

    fn shutdown(&mut self, _: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

#[test]
fn receivers_take_turns_before_a_pipeline_that_is_asked_to_interleave() {
    let (sink, hands) = (CollectingExporter::new(), [Hand::default(), Hand::default()]);
    let [one, two] = hands.clone();
    let mut pipeline = to_sink("merged", &sink)
        .receiver("one", move |_| one)
        .receiver("two", move |_| two)
        .interleave(merge::Options::default())
        .start()
        .unwrap();
    for seed in 0..30 {
        hands[seed as usize % 2].outlet().try_send(generate::batch(Signal::Traces, seed, 2)).unwrap();
    }
    let summary = pipeline.shutdown(soon());
    assert!(summary.balances() && !summary.has_loss());
    assert_eq!(sink.items(), ItemCount(60), "what waits in the lanes is handed on at the stop");
    hands[0].outlet().try_send(generate::batch(Signal::Traces, 1, 2)).unwrap_err();
}

#[test]
fn a_receiver_that_floods_does_not_keep_another_from_its_turn() {
    let (slow, hands) = (BlockingExporter::new(), [Hand::default(), Hand::default()]);
    let [flood, trickle] = hands.clone();
    let mut pipeline = Pipeline::builder("flooded")
        .signals([Signal::Traces])
        .receiver("flood", move |_| flood)
        .receiver("trickle", move |_| trickle)
        .interleave(merge::Options { turn_items: 1, ..merge::Options::default() })
        .exporter("slow", {
            let slow = slow.clone();
            move |with, signal| Settings {
                queue: queue::Config::disabled(),
                retry: retry::Config::disabled(),
                ..with.settings(signal, slow.clone())
            }
        })
        .start()
        .unwrap();
    // One is being exported, 16 wait in the inlet, one in the thread that merges; the rest in the lane, which refuses.
    let refused =
        (0..1_000).filter(|&seed| hands[0].outlet().try_send(generate::batch(Signal::Traces, seed, 1)).is_err());
    assert!(refused.count() > 800);
    hands[1].outlet().try_send(generate::batch(Signal::Traces, 1, 7)).unwrap();
    slow.open();
    let summary = pipeline.shutdown(soon());
    assert!(summary.balances() && !summary.has_loss());
    let place = slow.delivered().iter().position(|seen| seen.items == ItemCount(7)).unwrap();
    assert!(place < 40, "the trickle came after {place} batches of the flood");
    assert!(slow.delivered().len() > 100);
}

#[test]
fn a_summary_of_a_window_is_acknowledged_to_everybody_whose_items_it_sums_up() {
    let sink = CollectingExporter::new();
    let mut pipeline = to_sink("windows", &sink)
        .processor("windows", |_, _| {
            aggregate(25, |window: Window<'_>| {
                Aggregated::Replace(generate::batch(window.signal(), window.items().get(), 1))
            })
        })
        .start()
        .unwrap();
    let outlet = pipeline.outlet(Signal::Traces).unwrap();
    let heard: Vec<_> = (0..10)
        .map(|seed| {
            let (batch, heard) = asked(generate::batch(Signal::Traces, seed, 5), AckMode::Exported);
            outlet.try_send(batch).unwrap();
            heard
        })
        .collect();
    for answer in heard {
        assert_eq!(answer.recv_timeout(PATIENCE), Ok(Outcome::Delivered));
    }
    let summary = pipeline.shutdown(soon());
    let row = summary.row("traces/windows", "sink").unwrap();
    assert!(summary.balances(), "{row}");
    assert_eq!((row.accepted, row.removed, row.exported), (ItemCount(52), ItemCount(50), ItemCount(2)));
}

#[test]
fn what_cannot_be_made_is_named() {
    let sink = CollectingExporter::new();
    let config = batch::Config { send_batch_size: 10, send_batch_max_size: 5, ..batch::Config::default() };
    let hand = |_: &otlp_bin::pipeline::Parts<'_>| Hand::default();
    let failures = [
        to_sink("hands", &sink).receiver("hand", hand).receiver("hand", hand).start().unwrap_err(),
        Pipeline::builder("empty").start().unwrap_err(),
        to_sink("batch", &sink).batch("batch", config).start().unwrap_err(),
        to_sink("two", &sink)
            .exporter("sink", |with, signal| with.settings(signal, CollectingExporter::new()))
            .start()
            .unwrap_err(),
        to_sink("port", &sink)
            .otlp(
                "otlp",
                otlp_receive::Config {
                    http: Some(otlp_receive::http::Config { endpoint: "nowhere".into(), ..Default::default() }),
                    grpc: None,
                    ..otlp_receive::Config::default()
                },
            )
            .start()
            .unwrap_err(),
    ];
    let components: Vec<_> = failures.iter().map(|failure| failure.component.as_str()).collect();
    assert_eq!(components, ["receiver hand", "pipeline empty", "processor batch", "exporter sink", "receiver otlp"]);
    assert!(failures[2].to_string().contains("send_batch_max_size"), "{}", failures[2]);
}

#[test]
fn a_gate_that_blocks_holds_back_what_is_before_it_and_loses_nothing() {
    let sink = CollectingExporter::new();
    let mut pipeline = Pipeline::builder("gated")
        .signals([Signal::Traces])
        .inlet(InletSpec { capacity: 1_000, when_full: WhenFull::Refuse, rate: None })
        .gate(InletSpec { capacity: 1, when_full: WhenFull::Block, rate: None })
        .exporter("sink", {
            let sink = sink.clone();
            move |with, signal| Settings {
                queue: queue::Config::disabled(),
                retry: retry::Config::disabled(),
                ..with.settings(signal, sink.clone())
            }
        })
        .start()
        .unwrap();
    let outlet = pipeline.outlet(Signal::Traces).unwrap();
    for seed in 0..100 {
        outlet.try_send(generate::batch(Signal::Traces, seed, 1)).unwrap();
    }
    let summary = pipeline.shutdown(soon());
    assert!(summary.balances() && !summary.has_loss());
    assert_eq!(sink.items(), ItemCount(100));
    let rows: Vec<_> = summary.0.iter().map(|row| (row.pipeline.as_str(), row.exported)).collect();
    assert_eq!(rows, [("traces/gated", ItemCount(100)), ("traces/gated:1", ItemCount(100))]);
}

#[test]
fn a_pipeline_that_is_dropped_ends_although_its_destination_does_not_answer() {
    let dead =
        CollectingExporter::failing(otlp_core::Failure::refused(otlp_core::Reason::CONNECTION, "nobody listens"));
    let pipeline = Pipeline::builder("dropped")
        .signals([Signal::Traces])
        .exporter("dead", {
            let dead = dead.clone();
            move |with, signal| Settings {
                retry: retry::Config::fixed(u32::MAX, Duration::from_millis(10)),
                ..with.settings(signal, dead.clone())
            }
        })
        .drop_timeout(Duration::from_millis(50))
        .start()
        .unwrap();
    let (batch, heard) = asked(generate::batch(Signal::Traces, 1, 5), AckMode::Exported);
    pipeline.outlet(Signal::Traces).unwrap().try_send(batch).unwrap();
    assert!(dead.wait_for_attempts(2, PATIENCE));
    drop(pipeline);
    let Ok(Outcome::Failed(failure)) = heard.try_recv() else { panic!("its sender has been told") };
    assert!(failure.is_retryable(), "{failure}");
}
