//! The processing stage of a pipeline: one thread that takes batches through the chain.
//!
//! | file            | purpose                                                               |
//! |-----------------|-----------------------------------------------------------------------|
//! | `mod.rs`        | the thread, and the pool it shares with other pipelines               |
//! | `processing.rs` | what becomes of a batch; no thread, no channel that is waited for     |
//! | `express.rs`    | the same in the thread that hands a batch over, where nothing waits   |
//! | `tests.rs`      | both: stepped from a seed, and with real threads                      |
//!
//! # What it does
//!
//! Drains the inlet. What waits is taken in rounds. A round of one is processed on this thread, and so is a round that
//! is less work than handing it over: 11–14 µs for an idle pool, and an unpinned pool gains nothing below some
//! milliseconds. Larger rounds go over the rayon pool, whole batches at a time. The stateful processors, the books and
//! the destinations' queues follow on this thread, in arrival order.
//!
//! Where nothing is in the inlet, the chain is not busy and takes no longer than waking a thread would, a batch does not
//! come here at all: whoever hands it over takes it through the chain, see [`Express`].
//!
//! # Place in the pipeline
//!
//! Between the inlet and the fan-out to the destinations' queues.
//!
//! # Threads
//!
//! One a pipeline, named by its owner; blocked in one `select!` while nothing is to be done, with no timer but what the
//! processors asked for. The pool is the caller's.
//!
//! # Limits
//!
//! `max_concurrent` batches are being processed at once; a round has at most eight times as many. They keep their place
//! in the inlet until they have left.
//!
//! # On failure
//!
//! A panic costs one batch: it is rejected and counted, and the next goes on. A thread that ends all the same is begun
//! again after a while, see [`Supervised`]; the stage is unhealthy meanwhile.
//!
//! # On shutdown
//!
//! What is in the inlet is processed, what the processors hold leaves. At the deadline what is left is refused.

mod express;
mod processing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, never, select};
use otlp_core::component::{Fanout, Health, HealthState, StartError};
use otlp_core::flow::gate::{Admitted, GateInlet};
use otlp_core::telemetry::Registry;
use otlp_core::telemetry::ledger::Ledger;
use otlp_core::thread::{RestartBackoff, Supervised, ThreadOptions};
use otlp_core::{Batch, Clock, Deadline, Failure, Reason, Stop};
use parking_lot::Mutex;
use rayon::prelude::*;

pub use express::{EXPRESS_WORK_MAX, EXPRESS_WORK_MAX_ALONE, Express};
pub use processing::Processing;

use crate::chain::Chain;

/// Below this much work, going by what was measured lately, a round stays on the pipeline's own thread.
pub const POOL_WORK_MIN: Duration = Duration::from_millis(1);

/// A round has at most this many batches for each that may be processed at once: enough to keep the pool's threads busy
/// to the end of it, and not so many that the first waits long for the last.
const ROUND_FACTOR: usize = 8;

/// What a stage is made of.
pub struct StageOptions {
    /// The thread's name: `proc-N`.
    pub name: String,
    /// The pipeline's books.
    pub ledger: Arc<Ledger>,
    /// Its processors.
    pub chain: Chain,
    /// Its destinations.
    pub fanout: Arc<dyn Fanout>,
    /// Where its batches come from.
    pub inlet: GateInlet<Batch>,
    /// The pool for whole batches when several wait. Without one everything is done on the pipeline's own thread.
    pub pool: Option<Arc<rayon::ThreadPool>>,
    /// Batches that may be in processing at once. 0: as many as the pool has threads.
    pub max_concurrent: usize,
    /// See [`POOL_WORK_MIN`].
    pub pool_work_min: Duration,
    /// Where it is counted.
    pub registry: Registry,
    /// The time.
    pub clock: Clock,
    /// How its thread is made.
    pub thread: ThreadOptions,
}

/// The processing stage of one pipeline: its thread.
///
/// # Threads
///
/// One, joined by [`Stage::shutdown`].
pub struct Stage {
    pipeline: String,
    worker: Arc<Mutex<Worker>>,
    processing: Arc<Mutex<Processing>>,
    deadline: Arc<Mutex<Deadline>>,
    done: Receiver<()>,
    thread: Option<Supervised>,
    express: Option<Arc<Express>>,
}

/// What the thread works with. It outlives a panic of the thread: what is in the inlet is there for the next.
struct Worker {
    inlet: Option<GateInlet<Batch>>,
    processing: Arc<Mutex<Processing>>,
    pool: Option<Arc<rayon::ThreadPool>>,
    max_concurrent: usize,
    pool_work_min: Duration,
    deadline: Arc<Mutex<Deadline>>,
    round: Vec<Admitted<Batch>>,
}

impl Stage {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Where the system has no room for another thread.
    pub fn start(options: StageOptions) -> Result<Stage, StartError> {
        let StageOptions { name, ledger, chain, fanout, inlet, pool, max_concurrent, registry, clock, .. } = options;
        let pipeline = ledger.pipeline().to_owned();
        let threads = pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        let max_concurrent = if max_concurrent == 0 { threads } else { max_concurrent };
        let processing = Arc::new(Mutex::new(Processing::new(chain, ledger, Arc::clone(&fanout), &registry, clock)));
        let work_max = if threads > 1 { EXPRESS_WORK_MAX } else { EXPRESS_WORK_MAX_ALONE };
        let express = Express::new(&processing, fanout, work_max);
        let (ended, done) = bounded::<()>(0);
        let deadline = Arc::new(Mutex::new(Deadline::NEVER));
        let worker = Arc::new(Mutex::new(Worker {
            inlet: Some(inlet),
            processing: Arc::clone(&processing),
            pool,
            max_concurrent,
            pool_work_min: options.pool_work_min,
            deadline: Arc::clone(&deadline),
            round: Vec::new(),
        }));
        let thread = Supervised::spawn(name, options.thread, RestartBackoff::default(), {
            let worker = Arc::clone(&worker);
            move || {
                // Goes with the thread, whatever ends it: the channel closes, and whoever waits for it hears.
                let _ = &ended;
                let worker = Arc::clone(&worker);
                move |stop: &Stop| worker.lock().run(stop)
            }
        })
        .map_err(|error| StartError {
            message: format!("cannot start the processing thread of pipeline {pipeline}: {error}"),
            source: Some(error),
        })?;
        Ok(Stage { pipeline, worker, processing, deadline, done, thread: Some(thread), express })
    }

    /// The way past the thread, for [`crate::inlet::PipelineOutlet::attach`]; `None` where handing on may wait.
    pub fn express(&self) -> Option<Arc<Express>> {
        self.express.clone()
    }

    /// How it and its processors fare.
    pub fn health(&self) -> Health {
        match self.thread.as_ref().map(Supervised::health) {
            Some(health) if health.state == HealthState::Ok => {}
            Some(health) => return health,
            None => return Health { state: HealthState::Stopped, message: String::new() },
        }
        // Held while a round is processed; waiting for the end of one is what a busy pipeline costs whoever asks.
        match self.processing.try_lock_for(Duration::from_millis(100)) {
            Some(processing) => processing.health(),
            None => Health::ok(),
        }
    }

    /// Processes what is in the inlet, lets go of what the processors hold, and joins the thread. Receivers have stopped
    /// before. True when all of that was done by the deadline; a thread that is still held up then, by a destination that
    /// blocks, is left behind, and what it has stays counted as held.
    pub fn shutdown(&mut self, deadline: Deadline) -> bool {
        *self.deadline.lock() = deadline;
        let Some(mut thread) = self.thread.take() else { return true };
        thread.stop();
        let ended = match deadline.instant() {
            Some(instant) => self.done.recv_deadline(instant) != Err(RecvTimeoutError::Timeout),
            None => self.done.recv().is_err(),
        };
        if ended {
            drop(thread);
            // Done already, unless the thread was told to stop while it waited to be begun again.
            self.worker.lock().drain();
            return true;
        }
        log::error!("the processing thread of pipeline {} did not end by the deadline", self.pipeline);
        // Joining it could take for ever: it ends by itself once the destinations let go of it.
        std::mem::forget(thread);
        false
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown(Deadline::NEVER);
    }
}

impl Worker {
    fn run(&mut self, stop: &Stop) {
        let woken = self.processing.lock().woken().clone();
        let mut next = self.turn();
        while self.wait(stop, next, &woken) {
            next = self.turn();
        }
        self.drain();
    }

    /// Waits for whatever is next; false when nothing will come any more. A batch that came is in the round.
    fn wait(&mut self, stop: &Stop, next: Option<Instant>, woken: &Receiver<()>) -> bool {
        let Some(inlet) = self.inlet.as_ref().filter(|_| !stop.asked()) else { return false };
        if let Ok(admitted) = inlet.try_recv() {
            self.round.push(admitted);
            return true;
        }
        let timer = next.map_or_else(never, crossbeam_channel::at);
        select! {
            recv(inlet.channel()) -> admitted => match admitted {
                Ok(admitted) => self.round.push(admitted),
                Err(_) => return false,
            },
            recv(woken) -> _ => {}
            recv(timer) -> _ => {}
            recv(stop.channel()) -> _ => return false,
        }
        true
    }

    /// Processes the round, with all that waits beside what is in it, and what is due.
    fn turn(&mut self) -> Option<Instant> {
        while self.round.len() < self.max_concurrent * ROUND_FACTOR
            && let Some(admitted) = self.try_recv()
        {
            self.round.push(admitted);
        }
        let processing = Arc::clone(&self.processing);
        let mut processing = processing.lock();
        match self.pool_for_round(&processing) {
            Some(pool) => self.round_over_pool(&pool, &mut processing),
            None => {
                for Admitted { item, permit } in self.round.drain(..) {
                    processing.process(item);
                    drop(permit);
                }
            }
        }
        let next = processing.tick(self.is_waiting());
        processing.set_waits_until(next);
        next
    }

    fn try_recv(&self) -> Option<Admitted<Batch>> {
        self.inlet.as_ref()?.try_recv().ok()
    }

    fn is_waiting(&self) -> bool {
        self.inlet.as_ref().is_some_and(|inlet| !inlet.is_empty())
    }

    fn pool_for_round(&self, processing: &Processing) -> Option<Arc<rayon::ThreadPool>> {
        if self.round.len() < 2 || self.max_concurrent < 2 {
            return None;
        }
        let bytes = self.round.iter().map(|admitted| admitted.item.size().get()).sum();
        self.pool.clone().filter(|_| processing.estimate(bytes) >= self.pool_work_min)
    }

    fn round_over_pool(&mut self, pool: &rayon::ThreadPool, processing: &mut Processing) {
        let work = processing.work();
        let round = std::mem::take(&mut self.round);
        // No piece of the round is smaller than this, so there are no more than `max_concurrent` pieces.
        let piece_min = match self.max_concurrent < pool.current_num_threads() {
            true => round.len().div_ceil(self.max_concurrent),
            false => 1,
        };
        // The law: a transform works on one batch and remembers nothing, so what becomes of a batch depends on no other,
        // and counts add up in any order. OTLP promises no order between requests; results are nevertheless collected
        // in arrival order, so that the stateful processors see the same sequence as without the pool. Nothing in here
        // waits for a channel, a socket or a lock, and panics are caught for each batch.
        let worked: Vec<_> = pool.install(|| {
            round
                .into_par_iter()
                .with_min_len(piece_min)
                .map(|Admitted { item, permit }| (work.run(item), permit))
                .collect()
        });
        for (worked, permit) in worked {
            processing.finish(worked);
            drop(permit);
        }
    }

    /// Processes what is left in the inlet, or refuses it when it is too late for that, and closes it. Once.
    fn drain(&mut self) {
        while self.inlet.is_some() && !self.deadline.lock().passed(Instant::now()) {
            self.turn();
            if !self.is_waiting() {
                break;
            }
        }
        let rest = self.round.drain(..).chain(std::iter::from_fn(|| self.inlet.as_ref()?.try_recv().ok()));
        let mut processing = self.processing.lock();
        for Admitted { item, permit } in rest {
            processing.refuse(item, Failure::refused(Reason::SHUTDOWN, "the pipeline is stopping"));
            drop(permit);
        }
        processing.close();
        if self.inlet.take().is_some() {
            processing.flush();
            processing.shutdown(*self.deadline.lock());
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("pipeline", &self.pipeline).field("thread", &self.thread).finish_non_exhaustive()
    }
}
