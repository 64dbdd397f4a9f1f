//! The room in a gate: what is held of its capacity, and who waits for it.
//!
//! Invariants:
//!
//! - What is held never exceeds the capacity.
//! - Whoever waits is served in the order of coming: nobody overtakes, so a large batch is not starved by small ones.
//! - Giving back wakes nobody, and makes no system call, where nobody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::gate::{Capacity, Full, GateState, Weight};
use crate::shutdown::Deadline;

pub(super) struct Space {
    capacity: Capacity,
    /// Set under the lock of `state`, so that whoever waits does not miss it; read without.
    closed: AtomicBool,
    state: Mutex<State>,
    /// Woken when room was given back, when the first in the queue left it, and when the gate closes.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: Weight,
    waiting: VecDeque<Waiter>,
    next: u64,
    blocked: Duration,
    refused: u64,
    rate_limited: u64,
    dropped: u64,
}

struct Waiter {
    id: u64,
    since: Instant,
}

impl Space {
    pub(super) fn new(capacity: Capacity) -> Space {
        Space { capacity, closed: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, weight: Weight) -> bool {
        self.capacity.fits(state.held.plus(weight))
    }

    /// Takes room if there is some now, and counts a refusal otherwise if asked to.
    pub(super) fn try_take(&self, weight: Weight, counted: bool) -> Result<(), Full> {
        let mut state = self.lock();
        let never = self.is_closed() || !self.capacity.fits(weight);
        if !never && state.waiting.is_empty() && self.fits(&state, weight) {
            state.held = state.held.plus(weight);
            return Ok(());
        }
        state.refused += u64::from(counted);
        Err(Full { never })
    }

    pub(super) fn take_deadline(&self, weight: Weight, deadline: Deadline) -> Result<(), Full> {
        let mut state = self.lock();
        if !self.capacity.fits(weight) || self.is_closed() {
            state.refused += 1;
            return Err(Full { never: true });
        }
        if state.waiting.is_empty() && self.fits(&state, weight) {
            state.held = state.held.plus(weight);
            return Ok(());
        }
        let since = Instant::now();
        let id = state.next;
        state.next += 1;
        state.waiting.push_back(Waiter { id, since });
        let mut now = since;
        let result = loop {
            let first = state.waiting.front().is_some_and(|waiter| waiter.id == id);
            if self.is_closed() {
                break Err(Full { never: true });
            }
            if first && self.fits(&state, weight) {
                state.held = state.held.plus(weight);
                break Ok(());
            }
            if deadline.passed(now) {
                break Err(Full { never: false });
            }
            let wait = deadline.remaining(now).unwrap_or(Duration::from_secs(3600));
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            now = Instant::now();
        };
        state.waiting.retain(|waiter| waiter.id != id);
        state.blocked += now - since;
        state.refused += u64::from(result.is_err());
        let others = !state.waiting.is_empty();
        drop(state);
        if others {
            self.changed.notify_all();
        }
        result
    }

    /// Waits for `duration`, or until the gate closes; counted as blocked.
    pub(super) fn pause(&self, duration: Duration) {
        let since = Instant::now();
        let mut state = self.lock();
        while !self.is_closed() {
            let left = duration.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.blocked += since.elapsed();
    }

    pub(super) fn give_back(&self, weight: Weight) {
        let mut state = self.lock();
        state.held = state.held.minus(weight);
        let others = !state.waiting.is_empty();
        drop(state);
        if others {
            self.changed.notify_all();
        }
    }

    pub(super) fn close(&self) {
        let state = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn count_rate_limited(&self) {
        self.lock().rate_limited += 1;
    }

    pub(super) fn count_refused(&self) {
        self.lock().refused += 1;
    }

    pub(super) fn count_dropped(&self) {
        self.lock().dropped += 1;
    }

    pub(super) fn state(&self) -> GateState {
        let state = self.lock();
        let now = Instant::now();
        let waiting: Duration = state.waiting.iter().map(|waiter| now.saturating_duration_since(waiter.since)).sum();
        GateState {
            capacity: self.capacity,
            held: state.held,
            waiting: state.waiting.len(),
            blocked: state.blocked + waiting,
            refused: state.refused,
            rate_limited: state.rate_limited,
            dropped: state.dropped,
        }
    }
}
