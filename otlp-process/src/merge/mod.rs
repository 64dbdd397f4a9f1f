//! Several receivers into one pipeline, in fair turns.
//!
//! | file        | purpose                                                    |
//! |-------------|------------------------------------------------------------|
//! | `mod.rs`    | the lanes' outlets and the thread behind them              |
//! | `lanes.rs`  | whose turn it is; no thread, no clock                      |
//! | `merged.rs` | receivers that are one receiver, with a lane each          |
//! | `tests.rs`  | fairness by a naive model, the thread, the contract        |
//!
//! # What it does
//!
//! Receivers may share a pipeline's inlet as it is: whoever comes first is first, and one that floods takes all places. Here
//! each has a lane of its own, and the lanes take turns, each with as many items as the others, however large its
//! batches are. What a lane has no room for is refused to its own receiver.
//!
//! # Place in the pipeline
//!
//! Between receivers and a pipeline's inlet. Best before an inlet that is small and blocks: what waits in an inlet has
//! had its turn already.
//!
//! # Threads
//!
//! One, which waits for a batch, and for the pipeline where that asks to be waited for. Outlets never block.
//!
//! # Limits
//!
//! [`Options::lane_batches_max`] batches wait in each lane; their memory stays reserved.
//!
//! # On failure
//!
//! What the pipeline refuses is answered so to its sender, as a failure of the acknowledgement.
//!
//! # On shutdown
//!
//! Lanes refuse; what waits is handed on until the deadline, and what is left is refused.

mod lanes;
mod merged;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::component::{Outlet, Refused, StartError};
use otlp_core::thread::{Thread, ThreadOptions, catch_panic};
use otlp_core::{Batch, Deadline, Failure, Reason};
use parking_lot::{Condvar, Mutex};

use lanes::Lanes;
pub use merged::Merged;

/// How long to wait before a batch that is to be held is offered again: short against a network, and long enough to cost
/// nothing.
const OFFER_AGAIN: Duration = Duration::from_millis(1);

/// What a merge is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its thread's name. Default `merge`.
    pub name: String,
    /// Batches that wait in each lane. Default 100; at least 1.
    pub lane_batches_max: usize,
    /// Whether a full lane asks its receiver to hold the batch and try again, in place of refusing it. Default false.
    pub block: bool,
    /// Items that a lane hands on in one turn, about: a whole batch at least. Default 512.
    pub turn_items: u64,
    /// How its thread is made.
    pub thread: ThreadOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: "merge".to_owned(),
            lane_batches_max: 100,
            block: false,
            turn_items: 512,
            thread: ThreadOptions::default(),
        }
    }
}

/// Lanes that take turns before one outlet.
///
/// # Threads
///
/// One, joined by [`Merge::shutdown`], or on drop once it has handed on what waits.
pub struct Merge {
    shared: Arc<Shared>,
    lanes: usize,
    thread: Option<Thread>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    block: bool,
}

struct State {
    lanes: Lanes<Batch>,
    /// Lanes refuse; the thread ends once they are empty, or at this deadline.
    closed: Option<Deadline>,
}

struct Lane {
    shared: Arc<Shared>,
    number: usize,
}

impl Merge {
    /// So many lanes before an outlet.
    ///
    /// # Errors
    ///
    /// Where the system has no room for another thread.
    pub fn start(outlet: Arc<dyn Outlet>, lanes: usize, options: Options) -> Result<Merge, StartError> {
        let state = State { lanes: Lanes::new(lanes, options.lane_batches_max, options.turn_items), closed: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), block: options.block });
        let thread = Thread::spawn(options.name, options.thread, {
            let shared = Arc::clone(&shared);
            move || shared.run(&*outlet)
        })
        .map_err(|error| StartError {
            message: format!("cannot start the thread that merges receivers: {error}"),
            source: Some(error),
        })?;
        Ok(Merge { shared, lanes, thread: Some(thread) })
    }

    /// The outlet of a lane, from 0; `None` where there is no such lane.
    pub fn lane(&self, number: usize) -> Option<Arc<dyn Outlet>> {
        let lane = || Arc::new(Lane { shared: Arc::clone(&self.shared), number }) as Arc<dyn Outlet>;
        (number < self.lanes).then(lane)
    }

    /// Closes the lanes, hands on what waits until the deadline, refuses the rest, and joins the thread. Safe twice.
    pub fn shutdown(&mut self, deadline: Deadline) {
        self.shared.state.lock().closed.get_or_insert(deadline);
        self.shared.changed.notify_all();
        self.thread = None;
    }
}

impl Drop for Merge {
    fn drop(&mut self) {
        self.shutdown(Deadline::NEVER);
    }
}

impl Shared {
    fn run(&self, outlet: &dyn Outlet) {
        while let Some(batch) = self.next() {
            self.hand_on(batch, outlet);
        }
    }

    /// Waits for the next batch; `None` once the lanes are closed and nothing waits.
    fn next(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if let Some(batch) = state.lanes.pop() {
                return Some(batch);
            }
            if state.closed.is_some() {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn hand_on(&self, batch: Batch, outlet: &dyn Outlet) {
        let mut batch = batch;
        loop {
            if self.is_late() {
                return batch.settle(stopped().into());
            }
            let refused = match catch_panic(|| outlet.try_send(batch)) {
                Ok(Ok(())) => return,
                Ok(Err(refused)) => refused,
                // The batch is gone, and its sender has been told so as it unwound.
                Err(message) => return log::error!("an outlet panicked behind a merge: {message}"),
            };
            if !refused.hold {
                return refused.batch.settle(refused.failure.into());
            }
            batch = *refused.batch;
            if batch.ticket().ack().is_withdrawn() {
                let failure = Failure::refused(Reason::WITHDRAWN, "the sender sends it again");
                return batch.settle(failure.into());
            }
            self.changed.wait_for(&mut self.state.lock(), OFFER_AGAIN);
        }
    }

    fn is_late(&self) -> bool {
        self.state.lock().closed.is_some_and(|deadline| deadline.passed(Instant::now()))
    }
}

fn stopped() -> Failure {
    Failure::refused(Reason::SHUTDOWN, "the pipeline is stopping")
}

impl Outlet for Lane {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        let mut state = self.shared.state.lock();
        if state.closed.is_some() {
            return Err(Refused { batch: Box::new(batch), failure: stopped(), hold: false });
        }
        let was_empty = state.lanes.is_empty();
        match state.lanes.push(self.number, batch.items().get(), batch) {
            Ok(()) if was_empty => {
                drop(state);
                self.shared.changed.notify_all();
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(batch) => {
                let failure = Failure::refused(Reason::QUEUE_FULL, "the receiver's lane is full");
                Err(Refused { batch: Box::new(batch), failure, hold: self.shared.block })
            }
        }
    }
}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Merge({} lanes)", self.lanes)
    }
}
