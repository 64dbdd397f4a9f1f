//! The threads that send: `tx-N`, started when something waits for them and ended when nothing did for a while.
//!
//! Invariants:
//!
//! - Never more than `limit` at once.
//! - Where something waits and fewer than `limit` run, there is one that is free for it, or one is started.
//! - A worker that ends by a panic is counted out like any other; what it held was settled when it unwound.
//!
//! # Threads
//!
//! Workers are started by whoever hands over, and by workers that leave something behind. They are joined by
//! [`Workers::finish`] and on drop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otlp_core::thread::{Thread, ThreadOptions};
use otlp_core::{Clock, Deadline, Stop};
use parking_lot::{Condvar, Mutex};

use crate::delivery::Delivery;
use crate::queue::{Next, Queue};

/// How worker threads are made. Clones number them together.
#[derive(Clone, Debug)]
pub struct Threads {
    /// Stack and the like.
    pub options: ThreadOptions,
    /// A worker ends once there was nothing to send for this long. `service::threads.idle`, default 10 s.
    pub idle: Duration,
    started: Arc<AtomicUsize>,
    none: bool,
}

impl Default for Threads {
    fn default() -> Threads {
        Threads::new(ThreadOptions::default(), Duration::from_secs(10))
    }
}

impl Threads {
    /// The same for every destination that gets a clone.
    pub fn new(options: ThreadOptions, idle: Duration) -> Threads {
        Threads { options, idle, started: Arc::default(), none: false }
    }

    /// No threads: whoever owns the destination does their work, see [`crate::Destination::step`].
    pub fn none() -> Threads {
        Threads { none: true, ..Threads::default() }
    }

    /// How many of them a destination may have that is to have `wanted`.
    pub(crate) fn limit(&self, wanted: usize) -> usize {
        if self.none { 0 } else { wanted.max(1) }
    }
}

/// The workers of one queue.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Queue>,
    delivery: Arc<Delivery>,
    stop: Stop,
    limit: usize,
    threads: Threads,
    pool: Mutex<Pool>,
    ended: Condvar,
}

#[derive(Default)]
struct Pool {
    running: usize,
    free: usize,
    handles: Vec<Thread>,
}

impl Workers {
    pub(crate) fn new(
        queue: Arc<Queue>,
        delivery: Arc<Delivery>,
        stop: Stop,
        limit: usize,
        threads: Threads,
    ) -> Workers {
        let (pool, ended) = (Mutex::default(), Condvar::new());
        Workers { shared: Arc::new(Shared { queue, delivery, stop, limit, threads, pool, ended }) }
    }

    /// Sees to it that there is somebody for what was just pushed.
    pub(crate) fn wake(&self) {
        Shared::ensure(&self.shared, &mut self.shared.pool.lock());
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.shared.pool.lock().running
    }

    /// Waits until all have ended, after stop was asked; false where some have not by the deadline.
    pub(crate) fn finish(&self, clock: &Clock, deadline: Deadline) -> bool {
        let mut pool = self.shared.pool.lock();
        Shared::ensure(&self.shared, &mut pool);
        while pool.running > 0 {
            match deadline.remaining(clock.now()) {
                Some(Duration::ZERO) => return false,
                Some(left) => drop(self.shared.ended.wait_for(&mut pool, left)),
                None => self.shared.ended.wait(&mut pool),
            }
        }
        let handles = std::mem::take(&mut pool.handles);
        drop(pool);
        // They have counted themselves out: joining takes no longer than their last return.
        drop(handles);
        true
    }

    /// Gives up on those that do not end: a thread that hangs in somebody's exporter must not hang us.
    pub(crate) fn abandon(&self) {
        std::mem::take(&mut self.shared.pool.lock().handles).into_iter().for_each(std::mem::forget);
    }
}

impl Shared {
    fn ensure(shared: &Arc<Shared>, pool: &mut Pool) {
        if pool.running >= shared.limit || shared.queue.waiting() <= pool.free {
            return;
        }
        pool.handles.retain(|thread| !thread.is_finished());
        let name = format!("tx-{}", shared.threads.started.fetch_add(1, Ordering::Relaxed));
        let run = {
            let shared = Arc::clone(shared);
            move || Shared::run(&shared)
        };
        match Thread::spawn(name, shared.threads.options, run) {
            Ok(thread) => {
                pool.running += 1;
                pool.free += 1;
                pool.handles.push(thread);
            }
            // Those that run will get to it; the next hand-over tries again.
            Err(error) => log::error!("cannot start a thread for exporter {}: {error}", shared.delivery.id()),
        }
    }

    fn run(shared: &Arc<Shared>) {
        let mut place = Worker { shared, free: true };
        loop {
            match shared.queue.next(&shared.stop, shared.threads.idle) {
                Next::Entry(entry) => {
                    place.set_free(false);
                    let crate::queue::Entry { group, places } = entry;
                    shared.delivery.deliver(group);
                    drop(places);
                    place.set_free(true);
                }
                Next::Closed => return,
                Next::Idle => {
                    let mut pool = shared.pool.lock();
                    // Pushing comes before waking, and waking takes this lock: what came meanwhile is seen here.
                    if shared.queue.waiting() == 0 || pool.free > 1 {
                        place.leave(&mut pool);
                        return;
                    }
                }
            }
        }
    }
}

/// A worker's entry in the pool, taken out however it ends.
struct Worker<'a> {
    shared: &'a Arc<Shared>,
    free: bool,
}

impl Worker<'_> {
    fn set_free(&mut self, free: bool) {
        let mut pool = self.shared.pool.lock();
        self.free = free;
        if free {
            pool.free += 1;
        } else {
            pool.free -= 1;
            Shared::ensure(self.shared, &mut pool);
        }
    }

    fn leave(self, pool: &mut Pool) {
        pool.running -= 1;
        pool.free -= usize::from(self.free);
        self.shared.ended.notify_all();
        std::mem::forget(self);
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let mut pool = self.shared.pool.lock();
        pool.running -= 1;
        pool.free -= usize::from(self.free);
        self.shared.ended.notify_all();
        if std::thread::panicking() {
            log::error!("a worker of exporter {} ended by a panic", self.shared.delivery.id());
            Shared::ensure(self.shared, &mut pool);
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.shared.pool.lock();
        write!(f, "Workers({} of {}, {} free)", pool.running, self.shared.limit, pool.free)
    }
}
