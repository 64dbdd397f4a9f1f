//! A receiver that receives nothing: it makes spans at a given rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use otlp_core::component::{Health, HealthState, Outlet, Outlets, Receiver, Refused, StartError};
use otlp_core::shutdown::{self, Stop, Stopper};
use otlp_core::thread::{Thread, ThreadOptions};
use otlp_core::wire::reader::FIXED64;
use otlp_core::wire::writer::{put_delimited, put_tag};
use otlp_core::{Batch, Deadline, ItemCount, Signal};

/// Spans in one batch.
const BATCH_SPANS: u64 = 10;

/// How long to wait before a batch that the pipeline asks to hold is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(1);

/// Makes spans at a given rate until it has made as many as it was asked for.
///
/// # Threads
///
/// One. It keeps to its schedule: where the pipeline held it up it catches up afterwards.
pub struct Generator {
    spans_per_second: f64,
    spans: u64,
    progress: Progress,
    running: Option<(Stopper, Thread)>,
    state: HealthState,
}

/// How far a generator is. Clones tell of the same one.
#[derive(Clone)]
pub struct Progress {
    refused: Arc<AtomicU64>,
    done: (shutdown::Stop, Arc<std::sync::Mutex<Option<Stopper>>>),
}

impl Progress {
    /// Spans that the pipeline did not take.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until all spans have been handed over, or the generator was stopped.
    pub fn wait(&self) {
        // Nothing is ever sent on this channel: it closes.
        let _ = self.done.0.channel().recv();
    }

    fn finish(&self) {
        drop(self.done.1.lock().map(|mut stopper| stopper.take()));
    }
}

impl Generator {
    pub fn new(spans_per_second: f64, spans: u64) -> (Generator, Progress) {
        let (stopper, stop) = shutdown::stop();
        let done = (stop, Arc::new(std::sync::Mutex::new(Some(stopper))));
        let progress = Progress { refused: Arc::default(), done };
        let state = HealthState::Starting;
        (Generator { spans_per_second, spans, progress: progress.clone(), running: None, state }, progress)
    }
}

impl Receiver for Generator {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        let Some(outlet) = outlets.get(Signal::Traces).cloned() else {
            let message = "a generator makes traces, and no pipeline takes them".to_owned();
            return Err(StartError { message, source: None });
        };
        let (stopper, stop) = shutdown::stop();
        let (rate, spans, progress) = (self.spans_per_second, self.spans, self.progress.clone());
        let thread = Thread::spawn("generator", ThreadOptions::default(), move || {
            generate(&*outlet, &stop, rate, spans, &progress);
            progress.finish();
        });
        let thread = thread.map_err(|error| StartError {
            message: format!("cannot start the thread of a generator: {error}"),
            source: Some(error),
        })?;
        self.running = Some((stopper, thread));
        self.state = HealthState::Ok;
        Ok(())
    }

    fn shutdown(&mut self, _: Deadline) {
        // Asks the thread to stop, and joins it: it waits for nothing that takes long.
        self.running = None;
        self.progress.finish();
        self.state = HealthState::Stopped;
    }

    fn health(&self) -> Health {
        Health { state: self.state, message: String::new() }
    }
}

fn generate(outlet: &dyn Outlet, stop: &Stop, rate: f64, spans: u64, progress: &Progress) {
    let began = Instant::now();
    let mut made = 0;
    while made < spans {
        let due = Duration::from_secs_f64(made as f64 / rate);
        if stop.wait(due.saturating_sub(began.elapsed())) {
            return;
        }
        let count = BATCH_SPANS.min(spans - made);
        let mut batch = batch(made, count);
        made += count;
        // What a gate asks to hold is offered again; what it refuses is counted by us, since it never was accepted.
        while let Err(Refused { batch: back, hold, .. }) = outlet.try_send(batch) {
            if !hold || stop.wait(OFFER_AGAIN) {
                progress.refused.fetch_add(count, Ordering::Relaxed);
                break;
            }
            batch = *back;
        }
    }
}

/// How long span `number` took.
pub fn duration(number: u64) -> Duration {
    Duration::from_millis(number * 7 % 10)
}

/// One request: a resource, a scope, spans that ended just now.
fn batch(first: u64, count: u64) -> Batch {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut scope = Vec::new();
    for number in first..first + count {
        let mut span = Vec::new();
        put_delimited(&mut span, 1, &u128::from(number + 1).to_be_bytes()); // trace_id
        put_delimited(&mut span, 2, &(number + 1).to_be_bytes()); // span_id
        put_delimited(&mut span, 5, format!("operation {number}").as_bytes()); // name
        for (field, time) in [(7, now.saturating_sub(duration(number))), (8, now)] {
            put_tag(&mut span, field, FIXED64);
            span.extend_from_slice(&(time.as_nanos() as u64).to_le_bytes());
        }
        put_delimited(&mut scope, 2, &span);
    }
    let (mut resource, mut request) = (Vec::new(), Vec::new());
    put_delimited(&mut resource, 2, &scope);
    put_delimited(&mut request, 1, &resource);
    // We wrote it ourselves, so it need not be validated; nobody waits for an answer.
    Batch::trusted(Signal::Traces, ItemCount(count), request.into())
}
