//! Whether this thread is on the export path: what is logged there is not sent, or it would make what it tells of.
//!
//! # Threads
//!
//! A mark for each thread, which lasts as long as its guard.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Lasts while the thread exports.
#[derive(Debug)]
#[must_use = "the mark goes with it"]
pub(crate) struct Quiet(());

/// Marks this thread.
pub(crate) fn enter() -> Quiet {
    let _ = DEPTH.try_with(|depth| depth.set(depth.get() + 1));
    Quiet(())
}

/// Whether this thread is marked. At its end, when its storage is gone, it counts as not.
#[inline]
pub(crate) fn is_quiet() -> bool {
    DEPTH.try_with(Cell::get).is_ok_and(|depth| depth > 0)
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}
