//! What an exporter has open, so that stopping it can wait for that.

use std::time::Duration;

use otlp_core::{Clock, Deadline};
use parking_lot::{Condvar, Mutex};

/// Counts the calls of `export` that have not returned.
#[derive(Default)]
pub(crate) struct Open {
    count: Mutex<usize>,
    ended: Condvar,
}

/// One of them; it ends when this is dropped.
pub(crate) struct Call<'a>(&'a Open);

impl Open {
    /// Begins one.
    pub(crate) fn begin(&self) -> Call<'_> {
        *self.count.lock() += 1;
        Call(self)
    }

    /// Waits until none is open, or for the deadline.
    pub(crate) fn wait(&self, clock: &Clock, deadline: Deadline) {
        let mut count = self.count.lock();
        while *count > 0 {
            match deadline.remaining(clock.now()) {
                Some(Duration::ZERO) => break,
                Some(left) => drop(self.ended.wait_for(&mut count, left)),
                None => self.ended.wait(&mut count),
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.ended.notify_all();
    }
}
