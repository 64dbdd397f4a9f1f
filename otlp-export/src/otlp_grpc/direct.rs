//! Calls in the caller's thread: each takes a driver that nobody uses, or makes one, and does its work.
//!
//! Invariants:
//!
//! - A driver belongs to one call at a time, so that no caller waits for another.
//! - Every driver that is in use can be closed by another thread; after [`Direct::close`] none is used or kept.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use otlp_core::{Deadline, Failure, Outcome, Reason};
use parking_lot::Mutex;

use super::driver::{Driver, Shared, stopped};
use super::link::{Answer, Call};
use super::message::Message;
use super::{Address, Plan};

/// Drivers, and with them connections, kept when nobody calls.
const IDLE_MAX: usize = 4;

#[derive(Default)]
pub(super) struct Direct(Mutex<State>);

#[derive(Default)]
struct State {
    idle: Vec<Driver>,
    used: Vec<Arc<Shared>>,
    closed: bool,
}

impl Direct {
    /// Calls, and returns with what became of it. Where a connection that was kept turns out to be gone, once more over a
    /// new one: OTLP may arrive twice.
    pub(super) fn call(
        &self,
        plan: &Arc<Plan>,
        message: &Message,
        credentials: Option<(HeaderName, HeaderValue)>,
        deadline: Deadline,
        addresses: &[Address],
    ) -> Result<Outcome, Failure> {
        loop {
            let (driver, was_kept) = self.take(plan)?;
            let (answer, answered) = crossbeam_channel::bounded(1);
            let answer = Answer::new(move |outcome| drop(answer.send(outcome)));
            let (message, credentials) = (message.clone(), credentials.clone());
            let call = Call { message, deadline, answer, credentials, returned: 0 };
            driver.shared().submit(call, addresses.to_vec());
            let driver = self.drive(driver, || !answered.is_empty());
            let outcome = answered
                .try_recv()
                .map_err(|_| Failure::refused(Reason::PANIC, "the call ended without an outcome"))?;
            let failed = |why| matches!(&outcome, Outcome::Failed(failure) if failure.reason == why);
            match driver {
                // Where nothing came in time the connection may be dead without a word: the next call has a new one.
                Some(driver) if failed(Reason::TIMEOUT) => driver.close(),
                Some(driver) => self.keep(driver),
                None => {}
            }
            if !was_kept || !failed(Reason::CONNECTION) {
                return Ok(outcome);
            }
        }
    }

    /// A driver for one call, and whether it had been used before.
    fn take(&self, plan: &Arc<Plan>) -> Result<(Driver, bool), Failure> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(stopped());
        }
        let kept = state.idle.pop();
        let was_kept = kept.is_some();
        let mut driver = match kept {
            Some(driver) => driver,
            None => {
                let failed = |error| Failure::refused(Reason::IO, format!("no socket: {error}"));
                let shared = Shared::new().map_err(failed)?;
                Driver::new(Arc::clone(plan), Arc::new(shared))
            }
        };
        state.used.push(Arc::clone(driver.shared()));
        drop(state);
        if was_kept {
            driver.catch_up();
        }
        Ok((driver, was_kept))
    }

    /// Does a driver's work until `done`. It does not come back where another thread has closed it.
    fn drive(&self, mut driver: Driver, done: impl Fn() -> bool) -> Option<Driver> {
        let _leaves = Leaves { direct: self, shared: Arc::clone(driver.shared()) };
        if driver.run_until(done) {
            return Some(driver);
        }
        driver.close();
        None
    }

    /// For the next call, where it has a connection and there is room.
    fn keep(&self, driver: Driver) {
        let mut state = self.0.lock();
        if driver.has_connection() && !state.closed && state.idle.len() < IDLE_MAX {
            state.idle.push(driver);
        } else {
            drop(state);
            driver.close();
        }
    }

    /// Ends the calls that are open, and closes all connections.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        state.used.iter().for_each(|shared| shared.close());
        drop(state);
        idle.into_iter().for_each(Driver::close);
    }
}

/// Strikes a driver off the list of those in use, also where a panic takes it.
struct Leaves<'a> {
    direct: &'a Direct,
    shared: Arc<Shared>,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.direct.0.lock().used.retain(|used| !Arc::ptr_eq(used, &self.shared));
    }
}
