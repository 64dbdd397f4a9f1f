//! `otlpd generate`: sends seeded telemetry at a given rate, to try a receiver or a pipeline.
//!
//! # Threads
//!
//! The caller's only. The next request is due by the schedule, not by when the last one ended, so a slow receiver is caught
//! up with and the rate that was asked for is the rate that is offered, as far as one connection can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use otlp_core::component::Exporter;
use otlp_core::testing::generate;
use otlp_core::{Batch, Deadline, Group, ItemCount, Outcome, Signal, Stop};

/// What to send.
#[derive(Clone, Debug)]
pub struct Options {
    /// The signals, taken in turn.
    pub signals: Vec<Signal>,
    /// Items a second; 0 is as fast as they are taken.
    pub rate: f64,
    /// How many items; none is no limit.
    pub count: Option<u64>,
    /// For how long; none is no limit.
    pub duration: Option<Duration>,
    /// Items in a request. At least 1.
    pub items_per_request: u64,
    /// The same seed sends the same data.
    pub seed: u64,
    /// Where the timestamps begin; all of them lie in the minute after it.
    pub begin_unix_nano: u64,
    /// How long one request may take.
    pub timeout: Duration,
}

/// What became of it, in items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Confirmed.
    pub sent: ItemCount,
    /// Not confirmed.
    pub failed: ItemCount,
    /// What the receiver said to the first that failed.
    pub first_failure: Option<String>,
}

/// Told after each request.
pub trait Progress {
    /// The state of things.
    fn update(&mut self, summary: &Summary);
}

/// Sends until the count, the duration or `stop`.
pub fn run(exporter: &Arc<dyn Exporter>, options: &Options, stop: &Stop, progress: &mut dyn Progress) -> Summary {
    let mut summary = Summary::default();
    let began = Instant::now();
    let mut offered = 0u64;
    for request in 0u64.. {
        let left = options.count.map_or(u64::MAX, |count| count - offered);
        let over = options.duration.is_some_and(|duration| began.elapsed() >= duration);
        if left == 0 || over || stop.asked() {
            break;
        }
        if options.rate > 0.0 {
            let due = Duration::try_from_secs_f64(offered as f64 / options.rate).unwrap_or(Duration::MAX);
            let wait = due.saturating_sub(began.elapsed());
            let until_end = options.duration.map_or(Duration::MAX, |duration| duration.saturating_sub(began.elapsed()));
            if !wait.is_zero() && (stop.wait(wait.min(until_end)) || wait > until_end) {
                break;
            }
        }
        let items = options.items_per_request.max(1).min(left);
        let signal = options.signals[(request % options.signals.len() as u64) as usize];
        let body =
            generate::request_at(signal, options.seed.wrapping_add(request), items as usize, options.begin_unix_nano);
        let batch = Batch::trusted(signal, ItemCount(items), body);
        offered += items;
        send(exporter, batch, options.timeout, &mut summary);
        progress.update(&summary);
    }
    summary
}

fn send(exporter: &Arc<dyn Exporter>, batch: Batch, timeout: Duration, summary: &mut Summary) {
    let group = Group::of(batch);
    let items = group.items();
    let outcome = exporter.export(&group, Deadline::after(Instant::now(), timeout));
    let (failed, message) = match &outcome {
        Outcome::Delivered => (ItemCount::ZERO, None),
        Outcome::Partial { rejected, message } => (ItemCount(rejected.get().min(items.get())), Some(message)),
        Outcome::Failed(failure) => (items, Some(&failure.message)),
    };
    summary.sent += items - failed;
    summary.failed += failed;
    if failed != ItemCount::ZERO && summary.first_failure.is_none() {
        summary.first_failure = message.map(ToString::to_string);
    }
    group.settle(outcome);
}

/// Progress by count, by time, or, without an end, by what was sent so far.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    duration: Option<Duration>,
}

impl Bar {
    /// A bar on standard error, where that is a terminal.
    pub fn new(options: &Options) -> Bar {
        let name = options.signals.first().map_or("items", |signal| signal.items_name());
        let (length, template) = match (options.count, options.duration) {
            (Some(count), _) => (
                Some(count),
                format!("{{wide_bar}} {{human_pos}}/{{human_len}} {name}, {{per_sec}}, {{eta}} left {{msg}}"),
            ),
            (None, Some(duration)) => {
                (Some(duration.as_millis() as u64), format!("{{wide_bar}} {{elapsed}} of {duration:?} {{msg}}"))
            }
            (None, None) => (None, format!("{{spinner}} {{human_pos}} {name}, {{per_sec}}, {{elapsed}} {{msg}}")),
        };
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Bar { bar, duration: options.count.is_none().then_some(options.duration).flatten() }
    }
}

impl Progress for Bar {
    fn update(&mut self, summary: &Summary) {
        match self.duration {
            Some(_) => self.bar.set_position(self.bar.elapsed().as_millis() as u64),
            None => self.bar.set_position((summary.sent + summary.failed).get()),
        }
        if let Some(failure) = &summary.first_failure {
            self.bar.set_message(format!("({} failed: {failure})", summary.failed));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
