//! Starts the program, plays backends and senders, and reads the books.

mod backend;
mod books;
mod program;
mod sender;

pub(crate) use backend::{Answer, Backend, Gate};
pub(crate) use books::Books;
pub(crate) use program::{Program, Stopped};
pub(crate) use sender::{Reply, Sender, span_ids, traces};

use std::time::{Duration, Instant};

/// For conditions that hold at once on an idle machine and in a while on a busy one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds. Fails the test when it does not in [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
