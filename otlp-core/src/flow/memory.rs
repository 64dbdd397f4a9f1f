//! The process-wide memory budget: bytes that bodies may take, reserved before they are read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::outcome::{Code, Failure, Reason};
use crate::unit::ByteSize;

/// A hard ceiling in bytes, shared by everything that holds bodies. Clones share it.
///
/// # Threads
///
/// Lock-free; never blocks. At the limit it refuses.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Inner>);

struct Inner {
    limit: ByteSize,
    reserved: AtomicU64,
    refusals: AtomicU64,
    host: Option<Host>,
}

/// The limit on what the host, or the cgroup, has in use altogether.
struct Host {
    percentage: u64,
    read: Box<dyn Fn() -> Option<HostMemory> + Send + Sync>,
    clock: Clock,
    start: Instant,
    /// When to read next, in nanoseconds after the start.
    due_ns: AtomicU64,
    above: AtomicBool,
}

/// What a host, or a cgroup, has of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// In use, without what could be freed at once.
    pub used: ByteSize,
    /// All of it.
    pub total: ByteSize,
}

/// How long what was read of the host's memory is believed. Reading a file in /proc takes tens of microseconds, so it is
/// not done for each request.
const HOST_READ_INTERVAL: Duration = Duration::from_millis(250);

/// Bytes taken from a budget, given back when this is dropped.
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: ByteSize) -> MemoryBudget {
        MemoryBudget(Arc::new(Inner { limit, reserved: AtomicU64::new(0), refusals: AtomicU64::new(0), host: None }))
    }

    /// A budget of `limit` bytes that also refuses while the host has more than `percentage` percent of its memory in
    /// use: `service::memory_host_limit_percentage`.
    ///
    /// `read` is called at most four times a second, on a thread that reserves; what it said last holds until then. `None`
    /// is that it cannot be read: then only the budget counts.
    pub fn with_host_limit(
        limit: ByteSize,
        percentage: u8,
        clock: Clock,
        read: impl Fn() -> Option<HostMemory> + Send + Sync + 'static,
    ) -> MemoryBudget {
        let host = Host {
            percentage: u64::from(percentage),
            read: Box::new(read),
            start: clock.now(),
            clock,
            due_ns: AtomicU64::new(0),
            above: AtomicBool::new(false),
        };
        MemoryBudget(Arc::new(Inner {
            limit,
            reserved: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            host: Some(host),
        }))
    }

    /// The ceiling.
    pub fn limit(&self) -> ByteSize {
        self.0.limit
    }

    /// Bytes reserved now.
    pub fn reserved(&self) -> ByteSize {
        ByteSize(self.0.reserved.load(Ordering::Relaxed))
    }

    /// How many reservations were refused so far.
    pub fn refusals(&self) -> u64 {
        self.0.refusals.load(Ordering::Relaxed)
    }

    /// Takes `bytes` from the budget.
    ///
    /// # Errors
    ///
    /// Where there is no room: a refusal, to be answered with "send again later". More than the whole budget is a
    /// rejection: there will never be room.
    pub fn reserve(&self, bytes: ByteSize) -> Result<Reservation, Failure> {
        self.check_size(bytes)?;
        self.take(bytes.get())?;
        Ok(Reservation { budget: self.clone(), bytes: bytes.get() })
    }

    fn check_size(&self, bytes: ByteSize) -> Result<(), Failure> {
        if bytes > self.0.limit {
            self.0.refusals.fetch_add(1, Ordering::Relaxed);
            let message = format!("larger than the whole memory budget of {}", self.0.limit);
            return Err(Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message));
        }
        Ok(())
    }

    fn take(&self, bytes: u64) -> Result<(), Failure> {
        if bytes > 0 && self.0.host.as_ref().is_some_and(Host::is_above) {
            self.0.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(Failure::refused(Reason::MEMORY_BUDGET, "the host is short of memory"));
        }
        let limit = self.0.limit.get();
        let taken = self.0.reserved.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |reserved| {
            reserved.checked_add(bytes).filter(|&total| total <= limit)
        });
        match taken {
            Ok(_) => Ok(()),
            Err(_) => {
                self.0.refusals.fetch_add(1, Ordering::Relaxed);
                Err(Failure::refused(Reason::MEMORY_BUDGET, "no room in the memory budget"))
            }
        }
    }
}

impl Host {
    fn is_above(&self) -> bool {
        let now_ns = self.clock.now().saturating_duration_since(self.start).as_nanos() as u64;
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        if now_ns >= due_ns {
            let next_ns = now_ns + HOST_READ_INTERVAL.as_nanos() as u64;
            // One thread reads, the others go by what is known.
            if self.due_ns.compare_exchange(due_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let above = (self.read)().is_some_and(|memory| {
                    u128::from(memory.used.get()) * 100 > u128::from(memory.total.get()) * u128::from(self.percentage)
                });
                self.above.store(above, Ordering::Relaxed);
            }
        }
        self.above.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Bytes it stands for.
    pub fn bytes(&self) -> ByteSize {
        ByteSize(self.bytes)
    }

    /// Makes it stand for at least `bytes`.
    ///
    /// # Errors
    ///
    /// As [`MemoryBudget::reserve`]; what was reserved before stays.
    pub fn grow_to(&mut self, bytes: ByteSize) -> Result<(), Failure> {
        if bytes.get() > self.bytes {
            self.budget.check_size(bytes)?;
            self.budget.take(bytes.get() - self.bytes)?;
            self.bytes = bytes.get();
        }
        Ok(())
    }

    /// Gives back what is above `bytes`.
    pub fn shrink_to(&mut self, bytes: ByteSize) {
        if bytes.get() < self.bytes {
            self.budget.0.reserved.fetch_sub(self.bytes - bytes.get(), Ordering::AcqRel);
            self.bytes = bytes.get();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(ByteSize::ZERO);
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBudget({} of {})", self.reserved(), self.limit())
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({})", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_everything_comes_back() {
        let budget = MemoryBudget::new(ByteSize(100));
        let mut first = budget.reserve(ByteSize(60)).unwrap();
        assert!(budget.reserve(ByteSize(41)).is_err());
        first.grow_to(ByteSize(100)).unwrap();
        assert!(first.grow_to(ByteSize(101)).is_err());
        assert_eq!(budget.reserved(), ByteSize(100));
        first.shrink_to(ByteSize(10));
        let second = budget.reserve(ByteSize(90)).unwrap();
        drop((first, second));
        assert_eq!(budget.reserved(), ByteSize::ZERO);
        assert_eq!(budget.refusals(), 2);
        assert!(budget.reserve(ByteSize(u64::MAX)).is_err());
    }

    #[test]
    fn what_is_larger_than_the_whole_budget_is_not_to_be_sent_again() {
        let budget = MemoryBudget::new(ByteSize(100));
        let mut held = budget.reserve(ByteSize(60)).unwrap();
        for (failure, retryable) in [
            (budget.reserve(ByteSize(100)).unwrap_err(), true),
            (budget.reserve(ByteSize(101)).unwrap_err(), false),
            (held.grow_to(ByteSize(101)).unwrap_err(), false),
        ] {
            let failure = failure.retry_after(std::time::Duration::from_secs(1));
            assert_eq!(failure.is_retryable(), retryable, "{}", failure.message);
            assert_eq!(failure.reason, if retryable { Reason::MEMORY_BUDGET } else { Reason::TOO_LARGE });
        }
        assert_eq!((held.bytes(), budget.reserved(), budget.refusals()), (ByteSize(60), ByteSize(60), 3));
    }

    #[test]
    fn a_host_above_its_limit_refuses_until_it_is_read_again() {
        let clock = Clock::simulated();
        let used = Arc::new(AtomicU64::new(800));
        let reads = Arc::new(AtomicU64::new(0));
        let budget = MemoryBudget::with_host_limit(ByteSize(100), 80, clock.clone(), {
            let (used, reads) = (Arc::clone(&used), Arc::clone(&reads));
            move || {
                reads.fetch_add(1, Ordering::Relaxed);
                Some(HostMemory { used: ByteSize(used.load(Ordering::Relaxed)), total: ByteSize(1000) })
            }
        });
        let mut first = budget.reserve(ByteSize(10)).unwrap();
        used.store(801, Ordering::Relaxed);
        first.grow_to(ByteSize(20)).unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        clock.advance(HOST_READ_INTERVAL);
        assert_eq!(first.grow_to(ByteSize(30)).unwrap_err().reason, Reason::MEMORY_BUDGET);
        assert!(budget.reserve(ByteSize(1)).is_err() && budget.reserve(ByteSize::ZERO).is_ok());
        assert_eq!((first.bytes(), budget.refusals()), (ByteSize(20), 2));
        used.store(1, Ordering::Relaxed);
        clock.advance(HOST_READ_INTERVAL);
        assert!(budget.reserve(ByteSize(80)).is_ok());
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn many_threads_never_exceed_the_limit_and_give_all_of_it_back() {
        const LIMIT: u64 = 1000;
        let budget = MemoryBudget::new(ByteSize(LIMIT));
        // What the threads know they hold: taken up after a reservation, put down before it is given back.
        let held = AtomicU64::new(0);
        let refused = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 1..=8u64 {
                let (budget, held, refused) = (&budget, &held, &refused);
                scope.spawn(move || {
                    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let mut own = Vec::new();
                    for _ in 0..5000 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let bytes = state >> 33 & 0xff;
                        match state >> 60 {
                            0..8 => match budget.reserve(ByteSize(bytes)) {
                                Ok(reservation) => {
                                    let sum = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                                    assert!(sum <= LIMIT, "{sum} held");
                                    own.push(reservation);
                                }
                                Err(_) => {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                }
                            },
                            8..12 => {
                                if let Some(last) = own.last_mut() {
                                    let before = last.bytes().get();
                                    match last.grow_to(ByteSize(bytes)) {
                                        Ok(()) => {
                                            let more = last.bytes().get() - before;
                                            let sum = held.fetch_add(more, Ordering::SeqCst) + more;
                                            assert!(sum <= LIMIT, "{sum} held");
                                        }
                                        Err(_) => {
                                            refused.fetch_add(1, Ordering::Relaxed);
                                        }
                                    }
                                }
                            }
                            _ => {
                                if let Some(last) = own.pop() {
                                    held.fetch_sub(last.bytes().get(), Ordering::SeqCst);
                                }
                            }
                        }
                    }
                    for last in &own {
                        held.fetch_sub(last.bytes().get(), Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((budget.reserved(), held.into_inner()), (ByteSize::ZERO, 0));
        assert_eq!(budget.refusals(), refused.into_inner());
        assert!(budget.refusals() > 0);
    }
}
