//! A pipeline of components of one's own: [`Generator`] makes spans at a given rate, [`Stamp`] numbers
//! the batches, [`Sink`] keeps what it gets.
//!
//! `cargo run --example custom`, or outside of the workspace: `cargo run` in the folder `outside`.

#![allow(unreachable_pub, reason = "the components could as well stand in a library")]

#[path = "components/generator.rs"]
mod generator;
#[path = "components/sink.rs"]
mod sink;
#[path = "components/stamp.rs"]
mod stamp;

use std::error::Error;
use std::time::{Duration, Instant};

use generator::Generator;
use otlp_bin::Pipeline;
use otlp_bin::service::Summary;
use otlp_core::{Deadline, Signal};
use otlp_export::{Settings, retry};
use sink::Sink;
use stamp::Stamp;

fn main() -> Result<(), Box<dyn Error>> {
    let summary = run(1_000.0, 500)?;
    for row in &summary.0 {
        println!("{row}");
    }
    Ok(())
}

/// Sends so many spans through the pipeline, and says what became of them.
pub fn run(spans_per_second: f64, spans: u64) -> Result<Summary, Box<dyn Error>> {
    let (generator, progress) = Generator::new(spans_per_second, spans);
    let sink = Sink::failing_every(4);
    let mut pipeline = Pipeline::builder("custom")
        .signals([Signal::Traces])
        .receiver("generator", move |_| generator)
        .processor("stamp", |_, _| Stamp::default())
        .exporter("sink", {
            let sink = sink.clone();
            move |with, signal| Settings {
                retry: retry::Config::fixed(3, Duration::from_millis(10)),
                ..with.settings(signal, sink.clone())
            }
        })
        .start()?;
    progress.wait();
    let summary = pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_secs(30)));

    let row = summary.row("traces/custom", "sink").ok_or("the pipeline has books")?;
    assert!(summary.balances() && !summary.has_loss(), "{row}");
    assert_eq!(row.accepted.get() + progress.refused(), spans);
    let seen = sink.spans();
    assert_eq!(seen.len() as u64, row.exported.get());
    assert!(seen.iter().all(|span| span.batch_number.is_some()), "every span was stamped");
    assert!(seen.iter().all(|span| span.name.starts_with("operation ") && span.duration < Duration::from_secs(1)));
    assert!(sink.calls() > 3, "some call failed, and was made again");
    Ok(summary)
}
