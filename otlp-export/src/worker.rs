//! Who sends: the threads `tx-N`, started when something waits for them and ended when nothing did for a while; or,
//! where an exporter need not be waited for, whoever hands over.
//!
//! # Two ways
//!
//! An exporter that can only be waited for is called by workers, which take from the queue. One that
//! [begins](otlp_core::component::Exporter::begins) is called by the thread that hands over, if a slot is free and nothing waits before,
//! and by the one that hears an answer, for what waits next: no thread is woken on the way out. Workers then only do what
//! has to be waited for: the first request of a connection, and what failed, with its pauses.
//!
//! Invariants:
//!
//! - Never more than `limit` on their way at once, whoever sends them.
//! - Where something waits and fewer than `limit` run, there is one that is free for it, or one is started.
//! - Where something waits and a slot is free, somebody is about to take it: whoever frees a slot looks for what waits
//!   afterwards, and whoever leaves something looks for a slot afterwards.
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

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use otlp_core::flow::gate::{Admitted, Permit};
use otlp_core::thread::{Thread, ThreadOptions};
use otlp_core::{Clock, Deadline, Group, Stop};
use parking_lot::{Condvar, Mutex};

use crate::delivery::{Delivery, Journey};
use crate::queue::{Entry, Next, Places, Queue};

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
    /// Whether whoever hands over begins to send.
    begins: bool,
    /// What workers have to do where they do not take from the queue. Bounded by the slots.
    work: (Sender<Work>, Receiver<Work>),
    pool: Mutex<Pool>,
    ended: Condvar,
}

#[derive(Default)]
struct Pool {
    running: usize,
    free: usize,
    handles: Vec<Thread>,
    /// Slots that are taken: what is on its way.
    taken: usize,
    /// Somebody takes from the queue into slots that are free, and looks once more where `again` is set.
    dispatching: bool,
    again: bool,
}

/// Something on its way that has to be waited for.
struct Work {
    journey: Journey,
    pause: Duration,
    places: Places,
    slot: Slot,
}

/// The right to have one group on its way; free again when dropped.
struct Slot {
    shared: Arc<Shared>,
    /// Nobody is to look for what waits when it is free again.
    quiet: bool,
}

impl Workers {
    pub(crate) fn new(
        queue: Arc<Queue>,
        delivery: Arc<Delivery>,
        stop: Stop,
        limit: usize,
        threads: Threads,
    ) -> Workers {
        let begins = limit > 0 && !queue.joins() && delivery.exporter().begins();
        let (pool, ended, work) = (Mutex::default(), Condvar::new(), unbounded());
        Workers { shared: Arc::new(Shared { queue, delivery, stop, limit, threads, begins, work, pool, ended }) }
    }

    /// Takes a group into the place that was reserved for it, and sees to it that it is sent.
    ///
    /// # Errors
    ///
    /// It comes back where the queue is closed.
    pub(crate) fn hand_over(&self, group: Group, permit: Permit) -> Result<(), Box<Group>> {
        let shared = &self.shared;
        if shared.begins
            && shared.queue.waiting() == 0
            && let Some(slot) = Slot::take(shared)
        {
            slot.launch(Entry { group, places: Places::One(permit) });
            return Ok(());
        }
        shared.queue.push(group, permit)?;
        if shared.begins {
            Shared::dispatch(shared);
        } else {
            Shared::ensure(shared, &mut shared.pool.lock());
        }
        Ok(())
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.shared.pool.lock().running
    }

    /// Waits until all is sent and all have ended, after stop was asked; false where that is not so by the deadline.
    pub(crate) fn finish(&self, clock: &Clock, deadline: Deadline) -> bool {
        if self.shared.begins {
            Shared::dispatch(&self.shared);
        }
        let mut pool = self.shared.pool.lock();
        if !self.shared.begins {
            Shared::ensure(&self.shared, &mut pool);
        }
        while pool.running + pool.taken > 0 {
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

    /// Takes what no worker came to.
    pub(crate) fn take_left(&self) -> Vec<Group> {
        self.shared.work.1.try_iter().flat_map(|work| work.journey.into_groups()).collect()
    }
}

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Slot> {
        let mut pool = shared.pool.lock();
        (pool.taken < shared.limit).then(|| {
            pool.taken += 1;
            Slot { shared: Arc::clone(shared), quiet: false }
        })
    }

    /// Begins to send. What has to be waited for becomes a worker's.
    fn launch(self, entry: Entry) {
        let Entry { group, places } = entry;
        let shared = Arc::clone(&self.shared);
        let Some(journey) = shared.delivery.begin(group) else { return };
        Delivery::launch(&shared.delivery, journey, move |rest| match rest {
            Some((journey, pause)) => Shared::employ(Work { journey, pause, places, slot: self }),
            // The place before the slot: whoever looks for room next is to find it.
            None => drop((places, self)),
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.pool.lock().taken -= 1;
        if !self.quiet && shared.queue.waiting() > 0 {
            Shared::dispatch(shared);
        }
        if shared.stop.asked() {
            // Under the lock, so that whoever is about to wait for it does not miss it.
            let _pool = shared.pool.lock();
            shared.ended.notify_all();
        }
    }
}

impl Shared {
    /// Takes what waits into the slots that are free. One thread at a time, so that a group that ends at once does not
    /// begin the next from within.
    fn dispatch(shared: &Arc<Shared>) {
        {
            let mut pool = shared.pool.lock();
            pool.again = true;
            if std::mem::replace(&mut pool.dispatching, true) {
                return;
            }
        }
        loop {
            {
                let mut pool = shared.pool.lock();
                if !std::mem::take(&mut pool.again) {
                    pool.dispatching = false;
                    return;
                }
            }
            while let Some(mut slot) = Slot::take(shared) {
                let Some(Admitted { item: group, permit }) = shared.queue.take_oldest() else {
                    slot.quiet = true;
                    break;
                };
                slot.launch(Entry { group, places: Places::One(permit) });
            }
        }
    }

    /// Gives work to a worker that is free, or to a new one.
    fn employ(work: Work) {
        let shared = Arc::clone(&work.slot.shared);
        let mut pool = shared.pool.lock();
        // Both ends are in `shared`, so the channel is never closed.
        let _ = shared.work.0.send(work);
        if shared.work.0.len() > pool.free {
            Shared::start(&shared, &mut pool);
        }
    }

    fn ensure(shared: &Arc<Shared>, pool: &mut Pool) {
        if pool.running >= shared.limit || shared.queue.waiting() <= pool.free {
            return;
        }
        Shared::start(shared, pool);
    }

    fn start(shared: &Arc<Shared>, pool: &mut Pool) {
        pool.handles.retain(|thread| !thread.is_finished());
        let name = format!("tx-{}", shared.threads.started.fetch_add(1, Ordering::Relaxed));
        let run = {
            let shared = Arc::clone(shared);
            move || if shared.begins { Shared::work(&shared) } else { Shared::run(&shared) }
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
                    let Entry { group, places } = entry;
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

    /// A worker's life where it does only what has to be waited for.
    fn work(shared: &Arc<Shared>) {
        let mut place = Worker { shared, free: true };
        loop {
            let work = shared.work.1.try_recv().ok().or_else(|| {
                select! {
                    recv(shared.work.1) -> work => work.ok(),
                    recv(shared.stop.channel()) -> _ => shared.work.1.try_recv().ok(),
                    default(shared.threads.idle) => None,
                }
            });
            if let Some(Work { journey, pause, places, slot }) = work {
                place.set_free(false);
                shared.delivery.go_on(journey, pause);
                // Free before the slot is, so that the next finds this thread and not a new one.
                place.set_free(true);
                drop((places, slot));
                continue;
            }
            let mut pool = shared.pool.lock();
            // Work is sent under this lock.
            if shared.work.1.is_empty() {
                place.leave(&mut pool);
                return;
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
            if !self.shared.begins {
                Shared::ensure(self.shared, &mut pool);
            }
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
            match self.shared.begins {
                false => Shared::ensure(self.shared, &mut pool),
                true if self.shared.work.0.len() > pool.free => Shared::start(self.shared, &mut pool),
                true => {}
            }
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.shared.pool.lock();
        write!(f, "Workers({} of {}, {} free)", pool.running, self.shared.limit, pool.free)
    }
}
