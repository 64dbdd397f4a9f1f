//! What a session does by the clock, and when it wants to be asked.
//!
//! Invariant: after [`Session::do_due`] and a turn no deadline is in the past, or the driver would spin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::Reason;

use super::{Phase, Reading, Session, State};
use crate::admission::draining;
use crate::driver::exchange::Exchange;
use crate::http::answer::Answer;
use crate::intake::HOLD_INTERVAL;

/// A sender that closed its side may still read: so long its open requests wait for their outcome before they are
/// withdrawn.
const HALF_CLOSED_WAIT: Duration = Duration::from_millis(250);

/// How long a body that is on its way may still take once nothing new is taken. One that stalls must not use up the time
/// that what was acknowledged needs to be delivered.
const DRAINING_BODY_WAIT: Duration = Duration::from_secs(2);

impl Session {
    /// When it wants to be looked at, at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let config = &self.service.config;
        let since = |since: Option<Instant>, limit| since.map(|since| since + limit);
        match self.phase {
            Phase::Over => return None,
            Phase::Lingering { until } => return Some(until),
            Phase::Open | Phase::Closing => {}
        }
        let idle = self.is_idle().then_some(self.idle_since);
        let deadlines = [
            since(idle, config.idle_timeout),
            since(self.head_since(), config.read_header_timeout),
            since(self.body_since(), config.read_timeout),
            since(self.draining_body_since(), DRAINING_BODY_WAIT),
            since(self.blocked_since, config.write_timeout),
            since(self.gone_since(), HALF_CLOSED_WAIT),
            self.waiting().map(|waiting| waiting.by).next(),
            self.hold_next,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn do_due(&mut self, now: Instant) {
        let service = Arc::clone(&self.service);
        let config = &service.config;
        let due = |since: Option<Instant>, limit| since.is_some_and(|since| since + limit <= now);
        let (idle, blocked) = (self.is_idle().then_some(self.idle_since), self.blocked_since);
        match self.phase {
            Phase::Lingering { until } if until <= now => self.phase = Phase::Over,
            Phase::Lingering { .. } | Phase::Over => {}
            Phase::Open | Phase::Closing => {
                if due(idle, config.idle_timeout) {
                    self.phase = Phase::Over;
                } else if due(blocked, config.write_timeout) {
                    self.broken();
                } else if due(self.gone_since(), HALF_CLOSED_WAIT) {
                    self.refuse_waiting(now, true);
                    self.phase = Phase::Closing;
                } else {
                    if due(self.head_since(), config.read_header_timeout) {
                        self.head_since = None;
                        self.end_with(Answer::error(408, Reason::TIMEOUT, "the request's head took too long"), now);
                    }
                    if due(self.body_since(), config.read_timeout) {
                        let answer = Answer::error(408, Reason::TIMEOUT, "the request's body took too long");
                        self.end_body(answer);
                    } else if due(self.draining_body_since(), DRAINING_BODY_WAIT) {
                        self.end_body(Answer::failure(draining()));
                    }
                    self.refuse_waiting(now, false);
                    self.offer_held(now);
                }
            }
        }
    }

    /// Since when the sender may be gone, as long as that matters.
    fn gone_since(&self) -> Option<Instant> {
        self.half_closed.filter(|_| self.waiting().next().is_some())
    }

    /// Since when a head is incomplete, as long as it is waited for.
    fn head_since(&self) -> Option<Instant> {
        self.head_since.filter(|_| self.phase == Phase::Open)
    }

    /// Since when a body is incomplete, as long as it is waited for.
    fn body_since(&self) -> Option<Instant> {
        match self.reading {
            Reading::Body { since, .. } | Reading::Discard { since } if self.phase == Phase::Open => Some(since),
            _ => None,
        }
    }

    /// Since when nothing new is taken, as long as a body is still incomplete.
    fn draining_body_since(&self) -> Option<Instant> {
        self.draining_since.filter(|_| self.body_since().is_some())
    }

    /// Offers the batches that are held once more, in order.
    fn offer_held(&mut self, now: Instant) {
        if self.hold_next.is_none_or(|next| next > now) {
            return;
        }
        self.hold_next = None;
        for slot in &mut self.slots {
            let State::Waiting(waiting) = &mut slot.state else { continue };
            waiting.offer_again(&self.service.intake);
            if waiting.is_held() {
                self.hold_next = Some(now + HOLD_INTERVAL);
            }
        }
    }

    /// Answers a request of which the body is not waited for any longer.
    fn end_body(&mut self, answer: Answer) {
        if let Reading::Body { .. } = std::mem::replace(&mut self.reading, Reading::Nothing) {
            if let Some(slot) = self.slots.back_mut() {
                slot.close = true;
            }
            self.answer_last(answer);
        }
        self.phase = Phase::Closing;
    }
}
