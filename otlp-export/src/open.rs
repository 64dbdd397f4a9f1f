//! What an exporter has open, so that stopping it can wait for that.

#[cfg(any(feature = "grpc", feature = "pipeline"))]
use std::sync::Arc;
use std::sync::Condvar;
use std::time::Duration;

use otlp_core::{Clock, Deadline};

use crate::lock::{Mutex, wait};

/// Counts the calls of `export` that have not returned.
#[derive(Default)]
pub(crate) struct Open {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    count: usize,
    closed: bool,
}

/// One of them; it ends when this is dropped.
pub(crate) struct Call<'a>(&'a Open);

/// As [`Call`].
#[cfg(any(feature = "grpc", feature = "pipeline"))]
pub(crate) struct OwnedCall(Arc<Open>);

impl Open {
    /// Begins one; not after [`Open::close`].
    pub(crate) fn begin(&self) -> Option<Call<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.count += 1;
        Some(Call(self))
    }

    #[cfg(any(feature = "grpc", feature = "pipeline"))]
    /// Begins one that ends on another thread; not after [`Open::close`].
    pub(crate) fn begin_owned(open: &Arc<Open>) -> Option<OwnedCall> {
        let mut state = open.state.lock();
        if state.closed {
            return None;
        }
        state.count += 1;
        Some(OwnedCall(Arc::clone(open)))
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.count -= 1;
        // Nobody waits before that; and std's condition asks the system whether anybody does, once a request.
        let awaited = state.closed;
        drop(state);
        if awaited {
            self.ended.notify_all();
        }
    }

    /// Whether [`Open::close`] has returned, or is waiting.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Lets none begin any more, and waits until none is open, or for the deadline.
    pub(crate) fn close(&self, clock: &Clock, deadline: Deadline) {
        let mut state = self.state.lock();
        state.closed = true;
        while state.count > 0 {
            match deadline.remaining(clock.now()) {
                Some(Duration::ZERO) => break,
                left => state = wait(&self.ended, state, left),
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(any(feature = "grpc", feature = "pipeline"))]
impl Drop for OwnedCall {
    fn drop(&mut self) {
        self.0.end();
    }
}
