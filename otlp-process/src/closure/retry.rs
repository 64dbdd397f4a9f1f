//! A step that may fail for a while, tried again by a policy.
//!
//! # What it does
//!
//! Runs the step on each batch. Where it gives the batch back with a failure that may pass, the policy says how long to
//! wait, and the batch is held until then; the others go on meanwhile, so they may overtake it.
//!
//! # Place in the pipeline
//!
//! Around a step that asks somebody else: a look-up by which spans are enriched, a check by another service. Exporters have
//! a retry of their own (`retry_on_failure`), with a queue.
//!
//! # Threads
//!
//! On the pipeline's own thread: a step that takes long holds up the pipeline. Waiting holds up nobody.
//!
//! # Limits
//!
//! At most [`WAITING_BATCHES_MAX`] batches wait; what is held counts against the destinations' queues. With more, and where
//! there is no room, the batch is refused with the step's own failure.
//!
//! # On failure
//!
//! What the policy gives up is refused where nobody has accepted it yet, else dropped and counted as `retries_exhausted`.
//! A failure that is [`Retry::Never`](otlp_core::Retry::Never) is not tried again.
//!
//! # On shutdown
//!
//! `flush` tries once more, and what fails then is refused or dropped.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use otlp_core::component::{Downstream, Processor, Refused};
use otlp_core::flow::gate::Room;
use otlp_core::{Batch, Deadline, Failure, Group, Reason};

/// Batches that wait to be tried again.
pub const WAITING_BATCHES_MAX: usize = 1000;

/// The shortest wait: a policy that says 0 must not keep the thread from anything else.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// See [`retry`](fn@retry).
pub struct Retry<P, S> {
    policy: P,
    step: S,
    waiting: VecDeque<Waiting>,
    stopped: bool,
}

struct Waiting {
    batch: Batch,
    room: Room,
    failed: u32,
    due: Instant,
}

/// A processor that runs `step` on every batch, and again by `policy` where it fails.
///
/// `step` is as [`Transform::apply`](otlp_core::component::Transform::apply): it gives the batch on, removes all of it, or
/// gives it back with a failure. `policy` gets the number of attempts that failed, at least 1, and the last failure, and
/// says how long to wait; `None` gives up. [`retries`] is the plain one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use otlp_core::component::Refused;
/// use otlp_core::{Batch, Failure, Reason};
/// use otlp_process::closure::{retries, retry};
///
/// # fn enrich(batch: &Batch) -> Result<Batch, String> { Ok(batch.share()) }
/// let step = |batch: Batch| match enrich(&batch) {
///     Ok(enriched) => Ok(Some(batch.with_body(enriched.body().clone()))),
///     Err(error) => {
///         let failure = Failure::refused(Reason::UNAVAILABLE, error);
///         Err(Refused { batch: Box::new(batch), failure, hold: false })
///     }
/// };
/// let patient = retry(retries(3, Duration::from_millis(100)), step);
/// # let _ = patient;
/// ```
pub fn retry<P, S>(policy: P, step: S) -> Retry<P, S>
where
    P: FnMut(u32, &Failure) -> Option<Duration> + Send,
    S: FnMut(Batch) -> Result<Option<Batch>, Refused> + Send,
{
    Retry { policy, step, waiting: VecDeque::new(), stopped: false }
}

/// So many retries after the first attempt, that far apart.
pub fn retries(count: u32, interval: Duration) -> impl Fn(u32, &Failure) -> Option<Duration> + Send + Sync + Clone {
    move |failed, _: &Failure| (failed <= count).then_some(interval)
}

impl<P, S> Retry<P, S>
where
    P: FnMut(u32, &Failure) -> Option<Duration> + Send,
    S: FnMut(Batch) -> Result<Option<Batch>, Refused> + Send,
{
    /// How long to wait after an attempt that failed; `None` where that was the last.
    fn wait(&mut self, failed: u32, failure: &Failure) -> Option<Duration> {
        if !failure.is_retryable() {
            return None;
        }
        (self.policy)(failed, failure).map(|wait| wait.max(WAIT_MIN))
    }

    /// Tries again what is due, or all of it a last time; what fails then waits on or ends.
    fn again(&mut self, downstream: &mut dyn Downstream, last: bool) {
        let now = downstream.now();
        for _ in 0..self.waiting.len() {
            // Out of the queue before the step is called: one that panics costs this batch alone.
            let Some(waiting) = self.waiting.pop_front() else { break };
            if !last && waiting.due > now {
                self.waiting.push_back(waiting);
                continue;
            }
            let Waiting { batch, room, failed, .. } = waiting;
            match (self.step)(batch) {
                Ok(Some(batch)) => {
                    let mut group = Group::of(batch);
                    group.join_room(room);
                    downstream.emit(group);
                }
                // Accepted before, so its ticket told the books.
                Ok(None) => {}
                Err(Refused { batch, failure, .. }) => {
                    let failed = failed + 1;
                    match self.wait(failed, &failure).filter(|_| !last) {
                        Some(wait) => self.waiting.push_back(Waiting { batch: *batch, room, failed, due: now + wait }),
                        None => {
                            let failure = given_up(failure, failed, last);
                            downstream.refuse(Refused { batch, failure, hold: false });
                        }
                    }
                }
            }
        }
    }
}

fn given_up(failure: Failure, failed: u32, last: bool) -> Failure {
    let (reason, why) = match (failure.is_retryable(), last) {
        (false, _) => return failure,
        (true, true) => (Reason::SHUTDOWN, "not tried again because of shutdown".to_owned()),
        (true, false) => (Reason::RETRIES_EXHAUSTED, format!("no more retries left after {failed} attempts")),
    };
    Failure { reason, message: format!("{why}: {}", failure.message).into(), ..failure }
}

impl<P, S> Processor for Retry<P, S>
where
    P: FnMut(u32, &Failure) -> Option<Duration> + Send,
    S: FnMut(Batch) -> Result<Option<Batch>, Refused> + Send,
{
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        if self.stopped {
            let failure = Failure::refused(Reason::SHUTDOWN, "the step has stopped");
            return Err(Refused { batch: Box::new(batch), failure, hold: false });
        }
        let offered = batch.ticket().offered();
        let mut refused = match (self.step)(batch) {
            Ok(Some(batch)) => {
                downstream.emit(Group::of(batch));
                return Ok(());
            }
            Ok(None) => {
                downstream.removed(offered);
                return Ok(());
            }
            Err(refused) => refused,
        };
        let Some(wait) = self.wait(1, &refused.failure).filter(|_| self.waiting.len() < WAITING_BATCHES_MAX) else {
            return Err(refused);
        };
        let Ok(room) = downstream.hold(&mut refused.batch, false) else { return Err(refused) };
        let due = downstream.now() + wait;
        self.waiting.push_back(Waiting { batch: *refused.batch, room, failed: 1, due });
        Ok(())
    }

    fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        self.again(downstream, false);
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    fn flush(&mut self, downstream: &mut dyn Downstream) {
        self.again(downstream, true);
    }

    fn shutdown(&mut self, _: Deadline) {
        self.stopped = true;
    }
}

impl<P, S> fmt::Debug for Retry<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
