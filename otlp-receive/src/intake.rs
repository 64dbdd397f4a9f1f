//! From a complete body to a batch that waits for its outcome: what a request goes through whatever brought it.
//!
//! Invariants:
//!
//! - A request that was handed on is counted once: as accepted or as refused, in items.
//! - Without items a request is a success, and nothing is handed on (OTLP, Empty Telemetry Envelopes).
//! - A panic costs one request: every other request of the thread goes on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use otlp_core::ack::Withdrawal;
use otlp_core::codec::Coding;
use otlp_core::component::Outlets;
use otlp_core::flow::Limiter;
use otlp_core::thread::catch_panic;
use otlp_core::wire::Findings;
use otlp_core::{Ack, AckMode, Batch, ByteSize, Code, Context, Failure, ItemCount, Outcome, Reason, Signal};

use crate::Env;
use crate::admission::{Admission, Body, RETRY_AFTER};
use crate::config::{Config, bounded};
use crate::driver::inbox::Mailbox;
use crate::metrics::Metrics;
use crate::request::{Decoded, Encoding, decode};

/// How often a batch is offered again to a pipeline that holds up its senders.
pub(crate) const HOLD_INTERVAL: Duration = Duration::from_millis(10);

/// The shared part of a receiver's protocols.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) receiver: Arc<str>,
    pub(crate) outlets: Outlets,
    ack_mode: [AckMode; 3],
    acknowledge_timeout: Duration,
    limiter: Option<Limiter>,
    draining: Arc<AtomicBool>,
    /// Whether an odd shape has been told of: once is enough.
    told: Arc<AtomicBool>,
}

/// Takes the requests of one protocol of a receiver.
pub(crate) struct Intake {
    pub(crate) admission: Admission,
    pub(crate) metrics: Metrics,
    transport: &'static str,
    common: Common,
}

/// What is known of a request before its body came.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) signal: Signal,
    pub(crate) encoding: Encoding,
    pub(crate) coding: Coding,
    /// Its own context where metadata was asked for.
    pub(crate) context: Option<Arc<Context>>,
}

/// A request that was handed on, or waits to be.
pub(crate) struct Waiting {
    pub(crate) signal: Signal,
    pub(crate) items: ItemCount,
    withdrawal: Withdrawal,
    /// When it has to have its outcome.
    pub(crate) by: Instant,
    /// The pipeline holds up its senders: the batch is offered again and again.
    held: Option<Box<Batch>>,
}

impl Common {
    pub(crate) fn new(id: &str, config: &Config, outlets: Outlets, env: &Env) -> Common {
        Common {
            receiver: id.into(),
            outlets,
            ack_mode: Signal::ALL.map(|signal| config.acknowledge.unwrap_or(env.ack_mode[signal.index()])),
            acknowledge_timeout: bounded(config.acknowledge_timeout),
            limiter: config.rate_limit.clone().map(|rate| Limiter::new(rate, env.clock.clone())),
            draining: Arc::default(),
            told: Arc::default(),
        }
    }

    /// From here on requests are refused.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Intake {
    pub(crate) fn new(common: &Common, transport: &'static str, size_max: ByteSize, env: &Env) -> Intake {
        Intake {
            admission: Admission::new(env.budget.clone(), size_max, common.limiter.clone()),
            metrics: Metrics::new(&env.registry, &common.receiver, transport),
            transport,
            common: common.clone(),
        }
    }

    /// Whether a signal has somewhere to go.
    pub(crate) fn serves(&self, signal: Signal) -> bool {
        self.common.outlets.get(signal).is_some()
    }

    /// The context of a connection's batches.
    pub(crate) fn context(&self, peer: Option<SocketAddr>) -> Arc<Context> {
        let receiver = Arc::clone(&self.common.receiver);
        Arc::new(Context { receiver, transport: self.transport, peer, metadata: Vec::new(), auth: Vec::new() })
    }

    #[cfg(test)]
    pub(crate) fn drain(&self) {
        self.common.drain();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.common.draining.load(Ordering::Acquire)
    }

    /// Inflates, checks and hands on what came. `None`: there was nothing in it, which is a success.
    ///
    /// The outcome goes to `mailbox` under the number `request`, from any thread, even before this returns.
    ///
    /// # Errors
    ///
    /// What the sender has to be told at once.
    pub(crate) fn take(
        &self,
        body: Body,
        plan: Plan,
        context: &Arc<Context>,
        mailbox: &Mailbox,
        request: u64,
        now: Instant,
    ) -> Result<Option<Waiting>, Failure> {
        self.metrics.bytes.add(body.len() as u64);
        let (signal, size_max) = (plan.signal, self.admission.body_size_max());
        let made = catch_panic(|| {
            let context = plan.context.clone().unwrap_or_else(|| Arc::clone(context));
            decode(&plan, body, context, size_max)
        });
        let Decoded { batch, findings } = made.unwrap_or_else(|panic| {
            log::error!("decoding a request of {signal} panicked, it is rejected: {panic}");
            Err(Failure::rejected(Code::Internal, Reason::PANIC, "internal error"))
        })?;
        if findings != Findings::default() {
            self.found(&findings, context.peer);
        }
        let items = batch.items();
        if items == ItemCount::ZERO {
            return Ok(None);
        }
        if let Err(failure) = self.admission.take_batch(items, batch.size()) {
            self.metrics.refused(signal, items);
            return Err(failure);
        }
        let mailbox = mailbox.clone();
        let mode = self.common.ack_mode[signal.index()];
        let ack = Ack::new(mode, move |outcome| mailbox.answered(request, outcome));
        let withdrawal = ack.withdrawal();
        let held = self.offer(batch.with_ack(ack));
        Ok(Some(Waiting { signal, items, withdrawal, by: now + self.common.acknowledge_timeout, held }))
    }

    /// Offers a batch to its pipeline. It comes back where the pipeline holds up its senders; in every other case its
    /// acknowledgement says what became of it.
    fn offer(&self, batch: Batch) -> Option<Box<Batch>> {
        let signal = batch.signal();
        // Without an outlet there is no route; and a batch that is dropped answers "lost" by itself, as one does whose
        // outlet panics.
        let outlet = self.common.outlets.get(signal)?;
        match catch_panic(|| outlet.try_send(batch)) {
            Ok(Ok(())) => None,
            Ok(Err(refused)) if refused.hold => Some(refused.batch),
            Ok(Err(refused)) => {
                refused.batch.settle(Outcome::Failed(refused.failure));
                None
            }
            Err(panic) => {
                log::error!("handing {signal} to their pipeline panicked, the batch is refused: {panic}");
                None
            }
        }
    }

    /// Counts, and once tells of, what was odd about a request that was taken.
    fn found(&self, findings: &Findings, peer: Option<SocketAddr>) {
        self.metrics.invalid_ids.add(findings.invalid_ids.get());
        if (findings.legacy || findings.string_indexes > 0) && !self.common.told.swap(true, Ordering::Relaxed) {
            let receiver = &self.common.receiver;
            let what = if findings.legacy {
                "OTLP of before release 0.15, which was converted"
            } else {
                "attributes that refer to a string table, which read as absent"
            };
            log::warn!("receiver {receiver} got {what}; first from {peer:?}, others are not told of");
        }
    }
}

impl Waiting {
    /// Whether the pipeline has not taken it yet.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Offers a batch that is held once more.
    pub(crate) fn offer_again(&mut self, intake: &Intake) {
        if let Some(batch) = self.held.take() {
            self.held = intake.offer(*batch);
        }
    }

    /// Counts its outcome.
    pub(crate) fn settled(&self, intake: &Intake, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(_) => intake.metrics.refused(self.signal, self.items),
            Outcome::Delivered => intake.metrics.accepted(self.signal, self.items),
            Outcome::Partial { rejected, .. } => {
                intake.metrics.accepted(self.signal, self.items.saturating_sub(*rejected));
                intake.metrics.refused(self.signal, *rejected);
            }
        }
    }

    /// Withdraws it: the sender is told to send it again.
    pub(crate) fn refuse(self, intake: &Intake) {
        self.withdrawal.withdraw();
        intake.metrics.refused(self.signal, self.items);
    }

    /// Withdraws it: the sender is gone.
    pub(crate) fn abandon(self, intake: &Intake) {
        self.withdrawal.withdraw();
        intake.metrics.withdrawn(self.signal, self.items);
    }
}

/// What a sender is told whose request had no outcome in time.
pub(crate) fn no_outcome() -> Failure {
    Failure::refused(Reason::TIMEOUT, "no outcome within the acknowledge timeout").retry_after(RETRY_AFTER)
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("receiver", &self.common.receiver).finish_non_exhaustive()
    }
}
