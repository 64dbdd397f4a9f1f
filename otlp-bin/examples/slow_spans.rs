//! Slow spans only: a generator, a filter of at least 5 ms, 100 permits, batches of 100 or every 5 s, an export with three
//! retries 100 ms apart; and at the end the books, which balance.
//!
//! `cargo run --example slow_spans [spans a second] [spans]`

#![allow(unreachable_pub, reason = "the components could as well stand in a library")]

#[path = "components/generator.rs"]
#[allow(dead_code, reason = "shared with the example `custom`")]
mod generator;
#[path = "components/sink.rs"]
#[allow(dead_code, reason = "shared with the example `custom`")]
mod sink;
#[path = "components/stamp.rs"]
#[allow(dead_code, reason = "shared with the example `custom`")]
mod stamp;

use std::error::Error;
use std::time::{Duration, Instant};

use generator::Generator;
use otlp_bin::Pipeline;
use otlp_bin::service::{InletSpec, Summary};
use otlp_core::flow::WhenFull;
use otlp_core::{Deadline, ItemCount, Signal};
use otlp_export::{Settings, retry};
use otlp_process::batch;
use sink::Sink;

/// What is slow.
const SLOW: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let spans_per_second = args.next().map_or(Ok(1_000.0), |arg| arg.parse())?;
    let spans = args.next().map_or(Ok(5_000), |arg| arg.parse())?;
    for row in run(spans_per_second, spans)?.0 {
        println!("{row}");
    }
    Ok(())
}

/// Makes so many spans and takes them through the pipeline.
pub fn run(spans_per_second: f64, spans: u64) -> Result<Summary, Box<dyn Error>> {
    let (generator, progress) = Generator::new(spans_per_second, spans);
    // Fails every third call, so that something is to be retried.
    let sink = Sink::failing_every(3);

    let mut pipeline = Pipeline::builder("slow")
        .signals([Signal::Traces])
        .receiver("generator", move |_| generator)
        .filter("slow", |item| item.duration() >= SLOW)
        .gate(InletSpec { capacity: 100, when_full: WhenFull::Block, rate: None })
        .batch(
            "batch",
            batch::Config {
                send_batch_size: 100,
                send_batch_max_size: 100,
                timeout: Duration::from_secs(5),
                ..batch::Config::default()
            },
        )
        .exporter("sink", {
            let sink = sink.clone();
            move |with, signal| Settings {
                retry: retry::Config::fixed(3, Duration::from_millis(100)),
                ..with.settings(signal, sink.clone())
            }
        })
        .start()?;
    progress.wait();
    let summary = pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_secs(30)));

    // The books: what was made was accepted or refused, what is fast was removed, the rest arrived, each once.
    let slow = ItemCount((0..spans).filter(|&number| generator::duration(number) >= SLOW).count() as u64);
    assert!(summary.balances() && !summary.has_loss(), "{summary:?}");
    let before = summary.row("traces/slow", "gate-1").ok_or("books before the gate")?;
    let behind = summary.row("traces/slow:1", "sink").ok_or("books behind the gate")?;
    assert_eq!(before.accepted + ItemCount(progress.refused()), ItemCount(spans));
    if progress.refused() == 0 {
        assert_eq!((before.removed, before.exported), (ItemCount(spans) - slow, slow));
    }
    assert_eq!((behind.accepted, behind.exported), (before.exported, before.exported));
    assert_eq!(sink.spans().len() as u64, behind.exported.get());
    assert!(sink.spans().iter().all(|span| span.duration >= SLOW && span.name.starts_with("operation ")));
    Ok(summary)
}
