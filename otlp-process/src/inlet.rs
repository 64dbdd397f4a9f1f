//! The gate before a pipeline: where receivers and connectors hand batches over.
//!
//! # Threads
//!
//! Outlets are called from any thread and never block. Where nothing waits in the gate the caller may find itself in the
//! chain, see [`Express`].
//!
//! # Limits
//!
//! The gate holds at most its capacity, 1000 batches by default ([`INLET_BATCHES`]), and lets through what its rate
//! allows. What happens when it is full is [`WhenFull`]: `Refuse` and `Block` give the batch
//! back, the latter with the request to hold it and try again; `DropNewest` and `DropOldest` accept it, count what they
//! drop, and tell its sender OK.
//!
//! # On failure
//!
//! Once the pipeline's thread has ended, everything is refused with [`Reason::SHUTDOWN`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use otlp_core::component::{Guest, Health, Outlet, Refused};
use otlp_core::flow::WhenFull;
use otlp_core::flow::gate::{
    Admitted, GateInlet, GateOptions, GateOutlet, GateState, NotTaken, NotTakenCause, Permit, gate_with,
};
use otlp_core::flow::rate::Limiter;
use otlp_core::telemetry::ledger::Ledger;
use otlp_core::{Ack, Batch, Clock, Code, Failure, Reason, Ticket};

use crate::stage::Express;

/// Batches that wait before a pipeline where nothing else is configured.
pub const INLET_BATCHES: u64 = 1000;

/// A gate that drops says so at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The sending side of a pipeline's gate.
pub struct PipelineOutlet {
    outlet: GateOutlet<Batch>,
    ledger: Arc<Ledger>,
    drops: Arc<Drops>,
    express: OnceLock<Arc<Express>>,
}

/// When the gate last dropped and when it last said so, in milliseconds from `start` and one more; 0 is never.
struct Drops {
    clock: Clock,
    start: Instant,
    dropped_ms: AtomicU64,
    warned_ms: AtomicU64,
}

impl PipelineOutlet {
    /// A gate, and its receiving side for the [`crate::Stage`].
    pub fn new(options: GateOptions, ledger: Arc<Ledger>) -> (PipelineOutlet, GateInlet<Batch>) {
        let clock = options.clock.clone();
        let (dropped_ms, warned_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        let drops = Arc::new(Drops { start: clock.now(), clock, dropped_ms, warned_ms });
        let (outlet, inlet) = gate_with(options, {
            let (ledger, drops) = (Arc::clone(&ledger), Arc::clone(&drops));
            move |batch: Batch| {
                let items = batch.items();
                let mut ticket = batch.into_ticket();
                ticket.accept(&ledger, items);
                ticket.shed(Reason::QUEUE_FULL);
                drops.note(&ledger);
            }
        });
        (PipelineOutlet { outlet, ledger, drops, express: OnceLock::new() }, inlet)
    }

    /// Lets those who hand over take what they bring through the chain themselves, where nothing waits before it. Once.
    pub fn attach(&self, express: Arc<Express>) {
        let _ = self.express.set(express);
    }

    /// Takes a batch the short way; it comes back where that is not open.
    fn express(&self, batch: Batch) -> Option<Batch> {
        match self.express.get() {
            // What is limited to a rate goes by the gate, which has the limit.
            Some(express) if self.outlet.is_empty() && self.outlet.limiter().is_none() => express.process(batch),
            _ => Some(batch),
        }
    }

    /// How the gate fares.
    pub fn state(&self) -> GateState {
        self.outlet.state()
    }

    /// The gate itself.
    pub fn gate(&self) -> &GateOutlet<Batch> {
        &self.outlet
    }

    /// Unhealthy for a minute after it dropped anything.
    pub fn health(&self) -> Health {
        if self.drops.lately() {
            Health::unhealthy(format!("the inlet of pipeline {} was full and drops data", self.ledger.pipeline()))
        } else {
            Health::ok()
        }
    }

    /// Reserves a place; `None` where the gate is full and is told to drop.
    fn reserve(&self, batch: &Batch) -> Result<Option<Permit>, NotTakenCause> {
        match self.outlet.try_reserve(batch.weight()) {
            Ok(permit) => Ok(Some(permit)),
            Err(full) if full.never => Err(NotTakenCause::TooLarge),
            Err(_) => match self.outlet.when_full() {
                WhenFull::Refuse | WhenFull::Block => Err(NotTakenCause::Full),
                WhenFull::DropNewest | WhenFull::DropOldest => Ok(None),
            },
        }
    }

    fn ask_rate(&self, batch: &Batch) -> Result<(), NotTakenCause> {
        let Some(limiter) = self.outlet.limiter() else { return Ok(()) };
        limiter.try_take(batch.weight()).map_err(|retry_after| NotTakenCause::RateLimited { retry_after })
    }

    /// Gives a batch back. One that is to be held comes again, so only the others are counted.
    fn refused(&self, batch: Batch, cause: NotTakenCause) -> Refused {
        let failure = match cause {
            NotTakenCause::Full => Failure::refused(Reason::QUEUE_FULL, "the pipeline's inlet is full"),
            NotTakenCause::TooLarge => {
                let message = "the request is larger than the pipeline's inlet";
                Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message)
            }
            NotTakenCause::RateLimited { retry_after } => Limiter::failure(retry_after),
            NotTakenCause::Closed => Failure::refused(Reason::SHUTDOWN, "the pipeline has stopped"),
        };
        let hold = cause == NotTakenCause::Full && self.outlet.when_full() == WhenFull::Block;
        if !hold {
            Ticket::new(batch.items(), Ack::nobody()).refuse(&self.ledger, failure.clone());
        }
        Refused { batch: Box::new(batch), failure, hold }
    }
}

impl Outlet for PipelineOutlet {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        let Some(batch) = self.express(batch) else { return Ok(()) };
        let weight = batch.weight();
        self.outlet.offer(batch, weight).map_err(|NotTaken { item, cause }| self.refused(item, cause))
    }

    fn guests(&self) -> Vec<Arc<dyn Guest>> {
        self.express.get().map_or_else(Vec::new, |express| express.guests())
    }
}

impl Drops {
    fn now_ms(&self) -> u64 {
        self.clock.now().saturating_duration_since(self.start).as_millis() as u64 + 1
    }

    fn lately(&self) -> bool {
        let dropped_ms = self.dropped_ms.load(Ordering::Relaxed);
        dropped_ms > 0 && self.now_ms() < dropped_ms + WARNING_INTERVAL.as_millis() as u64
    }

    fn note(&self, ledger: &Ledger) {
        let now_ms = self.now_ms();
        self.dropped_ms.store(now_ms, Ordering::Relaxed);
        let warned_ms = self.warned_ms.load(Ordering::Relaxed);
        if (warned_ms == 0 || now_ms >= warned_ms + WARNING_INTERVAL.as_millis() as u64)
            && self.warned_ms.compare_exchange(warned_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            log::error!("the inlet of pipeline {} is full and drops data, as configured", ledger.pipeline());
        }
    }
}

/// One batch for several pipelines, admitted by all of them or by none: the sender hears when all have an outcome.
///
/// Each pipeline gets a share of the same bytes; nothing is copied. Where one pipeline's rate refuses, what the others'
/// rates let through already is used up.
pub struct Tee(Vec<Arc<PipelineOutlet>>);

impl Tee {
    /// An outlet into all of these pipelines.
    pub fn new(outlets: Vec<Arc<PipelineOutlet>>) -> Tee {
        Tee(outlets)
    }
}

impl Outlet for Tee {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        let mut permits = Vec::with_capacity(self.0.len());
        for outlet in &self.0 {
            match outlet.reserve(&batch) {
                Ok(permit) => permits.push(permit),
                Err(cause) => return Err(outlet.refused(batch, cause)),
            }
        }
        for outlet in &self.0 {
            if let Err(cause) = outlet.ask_rate(&batch) {
                return Err(outlet.refused(batch, cause));
            }
        }
        // All shares are made before any is handed over: the request cannot be answered while one is missing.
        let mut shares: Vec<Batch> = (1..self.0.len()).map(|_| batch.share()).collect();
        shares.push(batch);
        for ((outlet, permit), share) in self.0.iter().zip(permits).zip(shares) {
            let sent = match permit {
                Some(permit) => match outlet.express(share) {
                    None => Ok(()),
                    Some(share) => outlet
                        .outlet
                        .send(share, permit)
                        .map_err(|Admitted { item, .. }| outlet.refused(item, NotTakenCause::Closed)),
                },
                None => outlet.try_send(share),
            };
            if let Err(refused) = sent {
                // That pipeline has ended; the others have theirs. The share's outcome reaches the sender.
                refused.batch.settle(refused.failure.into());
            }
        }
        Ok(())
    }

    fn guests(&self) -> Vec<Arc<dyn Guest>> {
        self.0.iter().flat_map(|outlet| outlet.guests()).collect()
    }
}

impl fmt::Debug for PipelineOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineOutlet")
            .field("pipeline", &self.ledger.pipeline())
            .field("gate", &self.outlet.state())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use otlp_core::flow::gate::Capacity;
    use otlp_core::flow::rate::{RateLimit, RateUnit};
    use otlp_core::{AckMode, ItemCount, Outcome, Signal};

    const TWO: Capacity = Capacity { requests: Some(2), items: Some(100), bytes: None };

    fn batch(items: u64) -> Batch {
        Batch::trusted(Signal::Logs, ItemCount(items), Bytes::from_static(b"x"))
    }

    fn outlet(when_full: WhenFull) -> (PipelineOutlet, GateInlet<Batch>, Arc<Ledger>) {
        let ledger = Ledger::new("logs", Signal::Logs, ["a", "b"]);
        let options = GateOptions { capacity: TWO, when_full, clock: Clock::simulated(), rate: None };
        let (outlet, inlet) = PipelineOutlet::new(options, Arc::clone(&ledger));
        (outlet, inlet, ledger)
    }

    #[test]
    fn a_full_gate_does_as_it_is_told() {
        for (when_full, hold, waiting, refused, dropped) in [
            (WhenFull::Refuse, Some(false), &[1, 2][..], 4, 0),
            (WhenFull::Block, Some(true), &[1, 2], 0, 0),
            (WhenFull::DropNewest, None, &[1, 2], 0, 4),
            (WhenFull::DropOldest, None, &[2, 4], 0, 1),
        ] {
            let (outlet, inlet, ledger) = outlet(when_full);
            outlet.try_send(batch(1)).unwrap();
            outlet.try_send(batch(2)).unwrap();
            assert_eq!(outlet.health(), Health::ok());
            let (sender, heard) = crossbeam_channel::unbounded();
            let third = batch(4).with_ack(Ack::new(AckMode::Exported, move |outcome| drop(sender.send(outcome))));
            match (outlet.try_send(third), hold) {
                (Ok(()), None) => {}
                (Err(refused), Some(hold)) => {
                    assert_eq!((refused.hold, refused.failure.reason), (hold, Reason::QUEUE_FULL), "{when_full:?}");
                    assert_eq!(refused.batch.items(), ItemCount(4), "the batch comes back");
                }
                (result, _) => panic!("{when_full:?}: {result:?}"),
            }
            let found: Vec<u64> =
                std::iter::from_fn(|| inlet.try_recv().ok()).map(|admitted| admitted.item.items().get()).collect();
            assert_eq!(found, waiting, "{when_full:?}");
            let page = ledger.page();
            assert_eq!(page.refused.get(&Reason::QUEUE_FULL).copied().unwrap_or_default(), ItemCount(refused));
            assert_eq!(page.destinations[1].dropped_for(Reason::QUEUE_FULL), ItemCount(dropped), "{when_full:?}");
            assert_eq!(page.balance(), Ok(()));
            assert_eq!(outlet.health() != Health::ok(), dropped > 0);
            // Dropped as configured: the sender is not held up by it.
            assert_eq!(heard.try_recv() == Ok(Outcome::Delivered), when_full == WhenFull::DropNewest);
        }
    }

    #[test]
    fn a_batch_larger_than_the_gate_is_rejected_whatever_the_policy() {
        for when_full in [WhenFull::Refuse, WhenFull::Block, WhenFull::DropNewest, WhenFull::DropOldest] {
            let (outlet, _inlet, _) = outlet(when_full);
            let refused = outlet.try_send(batch(101)).unwrap_err();
            assert_eq!((refused.failure.reason, refused.failure.is_retryable()), (Reason::TOO_LARGE, false));
            assert!(!refused.hold);
        }
    }

    #[test]
    fn a_stopped_pipeline_gives_the_batch_back() {
        let (outlet, inlet, ledger) = outlet(WhenFull::Refuse);
        drop(inlet);
        let refused = outlet.try_send(batch(3)).unwrap_err();
        assert_eq!((refused.failure.reason, refused.batch.items()), (Reason::SHUTDOWN, ItemCount(3)));
        assert_eq!(ledger.page().refused[&Reason::SHUTDOWN], ItemCount(3));
        assert_eq!(outlet.state().held.requests, 0);
    }

    #[test]
    fn several_pipelines_get_a_batch_all_or_none() {
        let (one, one_inlet, _) = outlet(WhenFull::Refuse);
        let (two, two_inlet, two_ledger) = outlet(WhenFull::Refuse);
        let (one, two) = (Arc::new(one), Arc::new(two));
        let tee = Tee::new(vec![Arc::clone(&one), Arc::clone(&two)]);
        let (sender, heard) = crossbeam_channel::unbounded();
        tee.try_send(batch(1).with_ack(Ack::new(AckMode::Exported, move |outcome| drop(sender.send(outcome)))))
            .unwrap();
        one_inlet.try_recv().unwrap().item.settle(Outcome::Delivered);
        assert!(heard.try_recv().is_err(), "the other pipeline has not said yet");
        let failure = Failure::refused(Reason::UNAVAILABLE, "not now");
        two_inlet.try_recv().unwrap().item.settle(failure.clone().into());
        assert_eq!(heard.try_recv(), Ok(Outcome::Failed(failure)));
        two.try_send(batch(1)).unwrap();
        two.try_send(batch(1)).unwrap();
        let refused = tee.try_send(batch(7)).unwrap_err();
        assert_eq!(refused.batch.items(), ItemCount(7));
        assert_eq!((one_inlet.len(), one.state().held.requests), (0, 0), "no place is kept");
        assert_eq!(two_ledger.page().refused[&Reason::QUEUE_FULL], ItemCount(7));
    }

    #[test]
    fn a_rate_refuses_and_says_when_to_come_back() {
        let clock = Clock::simulated();
        let ledger = Ledger::new("logs", Signal::Logs, ["a"]);
        let rate = RateLimit { capacity: Some(10), ..RateLimit::per_second(RateUnit::Items, 10) };
        let options = GateOptions {
            capacity: Capacity { requests: Some(100), ..Capacity::default() },
            rate: Some(rate),
            when_full: WhenFull::Refuse,
            clock: clock.clone(),
        };
        let (outlet, inlet) = PipelineOutlet::new(options, Arc::clone(&ledger));
        let outlet = Arc::new(outlet);
        let tee = Tee::new(vec![Arc::clone(&outlet)]);
        outlet.try_send(batch(10)).unwrap();
        for outlet in [&*outlet as &dyn Outlet, &tee] {
            let refused = outlet.try_send(batch(5)).unwrap_err();
            assert_eq!((refused.failure.reason, refused.failure.code), (Reason::RATE_LIMIT, Code::ResourceExhausted));
            assert_eq!(refused.failure.retry, otlp_core::Retry::After(Duration::from_millis(500)));
        }
        clock.advance(Duration::from_millis(500));
        tee.try_send(batch(5)).unwrap();
        assert_eq!((inlet.len(), outlet.state().held.items), (2, 15));
        assert_eq!(ledger.page().refused[&Reason::RATE_LIMIT], ItemCount(10));
    }
}
