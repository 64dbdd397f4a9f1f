//! The process-wide memory budget: bytes that bodies may take, reserved before they are read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::outcome::{Failure, Reason};
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
}

/// Bytes taken from a budget, given back when this is dropped.
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: ByteSize) -> MemoryBudget {
        MemoryBudget(Arc::new(Inner { limit, reserved: AtomicU64::new(0), refusals: AtomicU64::new(0) }))
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
    /// Where there is no room: a refusal, to be answered with "send again later".
    pub fn reserve(&self, bytes: ByteSize) -> Result<Reservation, Failure> {
        self.take(bytes.get())?;
        Ok(Reservation { budget: self.clone(), bytes: bytes.get() })
    }

    fn take(&self, bytes: u64) -> Result<(), Failure> {
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

impl Reservation {
    /// Bytes it stands for.
    pub fn bytes(&self) -> ByteSize {
        ByteSize(self.bytes)
    }

    /// Makes it stand for at least `bytes`.
    ///
    /// # Errors
    ///
    /// Where there is no room; what was reserved before stays.
    pub fn grow_to(&mut self, bytes: ByteSize) -> Result<(), Failure> {
        if bytes.get() > self.bytes {
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
}
