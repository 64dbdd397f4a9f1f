//! Things that are used again rather than made anew, buffers above all.
//!
//! A buffer of some hundred kilobytes that one thread fills and another frees costs up to ten times what copying into it
//! does, and one that has been used has its pages already.
//!
//! # Threads
//!
//! Taken and given back on any thread, under a lock that is held for one push or pop. Last in, first out: what was used
//! last is still in the cache.
//!
//! # Limits
//!
//! At most `idle_max` lie idle, buffers only up to `kept_bytes_max` each. Taking never waits: an empty pool makes.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::unit::ByteSize;

/// A pool. Clones share it.
pub struct Pool<T>(Arc<Inner<T>>);

struct Inner<T> {
    idle: Mutex<Vec<T>>,
    idle_max: usize,
    make: Box<dyn Fn() -> T + Send + Sync>,
    reset: Box<dyn Fn(&mut T) -> bool + Send + Sync>,
    hits: AtomicU64,
    misses: AtomicU64,
    discarded: AtomicU64,
}

/// Something on loan from a pool, to which it returns when this is dropped.
pub struct Pooled<T> {
    /// There until `drop` or `detach` takes it out, which are the last to see it.
    value: Option<T>,
    pool: Arc<Inner<T>>,
}

/// A pool of buffers.
pub type BufferPool = Pool<Vec<u8>>;

/// A buffer on loan: a `Vec<u8>` in all respects, empty at first.
pub type PooledBuf = Pooled<Vec<u8>>;

/// How a pool fares, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// How many lie idle.
    pub idle: usize,
    /// How many may.
    pub idle_max: usize,
    /// Loans that came out of the pool.
    pub hits: u64,
    /// Loans that had to be made.
    pub misses: u64,
    /// What came back and was not kept: the pool was full, or `reset` did not want it.
    pub discarded: u64,
}

impl<T> Pool<T> {
    /// An empty pool that keeps at most `idle_max`.
    ///
    /// `reset` is run on what comes back, on the thread that gives it, and says whether it is worth keeping.
    pub fn new(
        idle_max: usize,
        make: impl Fn() -> T + Send + Sync + 'static,
        reset: impl Fn(&mut T) -> bool + Send + Sync + 'static,
    ) -> Pool<T> {
        Pool(Arc::new(Inner {
            idle: Mutex::new(Vec::new()),
            idle_max,
            make: Box::new(make),
            reset: Box::new(reset),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
        }))
    }

    /// Lends one, made if none lies idle.
    pub fn take(&self) -> Pooled<T> {
        let idle = self.0.idle().pop();
        let counter = if idle.is_some() { &self.0.hits } else { &self.0.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        let value = idle.unwrap_or_else(|| (self.0.make)());
        Pooled { value: Some(value), pool: Arc::clone(&self.0) }
    }

    /// Lets go of all that lies idle, for when memory is short or nothing happens.
    pub fn clear(&self) {
        let idle = std::mem::take(&mut *self.0.idle());
        drop(idle);
    }

    /// How it fares.
    pub fn state(&self) -> PoolState {
        PoolState {
            idle: self.0.idle().len(),
            idle_max: self.0.idle_max,
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            discarded: self.0.discarded.load(Ordering::Relaxed),
        }
    }
}

impl BufferPool {
    /// A pool of at most `idle_max` buffers of at most `kept_bytes_max` each, made with `capacity`.
    pub fn buffers(idle_max: usize, capacity: ByteSize, kept_bytes_max: ByteSize) -> BufferPool {
        let kept = kept_bytes_max.as_usize();
        let capacity = capacity.as_usize();
        Pool::new(
            idle_max,
            move || Vec::with_capacity(capacity),
            move |buffer: &mut Vec<u8>| {
                buffer.clear();
                buffer.capacity() > 0 && buffer.capacity() <= kept
            },
        )
    }
}

impl<T> Inner<T> {
    fn idle(&self) -> MutexGuard<'_, Vec<T>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, mut value: T) {
        if (self.reset)(&mut value) {
            let mut idle = self.idle();
            if idle.len() < self.idle_max {
                idle.push(value);
                return;
            }
        }
        // The value is dropped after the lock.
        self.discarded.fetch_add(1, Ordering::Relaxed);
    }
}

impl<T> Pooled<T> {
    /// Keeps it for good: it does not return to the pool.
    pub fn detach(mut self) -> T {
        match self.value.take() {
            Some(value) => value,
            None => unreachable!("taken out by drop and detach only"),
        }
    }
}

impl PooledBuf {
    /// The bytes in it, shared and without a copy. The buffer returns to its pool when the last of them is gone.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("taken out by drop and detach only"),
        }
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("taken out by drop and detach only"),
        }
    }
}

impl AsRef<[u8]> for PooledBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.pool.give_back(value);
        }
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Pool<T> {
        Pool(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({:?})", self.state())
    }
}

impl<T: fmt::Debug> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_when_the_last_of_its_bytes_is_gone() {
        let pool = BufferPool::buffers(2, ByteSize::kib(1), ByteSize::kib(4));
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"some bytes");
        let address = buffer.as_ptr();
        let bytes = buffer.into_bytes();
        let part = bytes.slice(5..);
        assert_eq!(bytes.as_ptr(), address);
        drop(bytes);
        assert_eq!((&part[..], pool.state().idle), (&b"bytes"[..], 0));
        drop(part);
        let again = pool.take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 1024));
        assert_eq!(pool.state(), PoolState { idle: 0, idle_max: 2, hits: 1, misses: 1, discarded: 0 });
    }

    #[test]
    fn no_more_and_nothing_larger_than_allowed_is_kept() {
        let pool = BufferPool::buffers(2, ByteSize(16), ByteSize(64));
        let loans: Vec<_> = (0..3).map(|_| pool.take()).collect();
        drop(loans);
        assert_eq!((pool.state().idle, pool.state().discarded), (2, 1));
        pool.take().reserve(65);
        assert_eq!((pool.state().idle, pool.state().discarded), (1, 2));
        assert_eq!(pool.take().detach().capacity(), 16);
        assert_eq!((pool.state().idle, pool.state().discarded), (0, 2));
        drop(pool.take());
        pool.clear();
        assert_eq!(pool.state().idle, 0);
    }

    #[test]
    fn every_loan_is_counted_once_by_many_threads() {
        let pool = Pool::new(3, || 0u64, |_| true);
        let sum = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        *pool.take() += 1;
                    }
                });
            }
        });
        let state = pool.state();
        assert_eq!(state.hits + state.misses, 8 * 500);
        // What was made lies idle or was discarded.
        assert_eq!(state.misses, state.idle as u64 + state.discarded);
        while pool.state().idle > 0 {
            sum.fetch_add(pool.take().detach(), Ordering::Relaxed);
        }
        assert!(sum.into_inner() <= 8 * 500);
    }
}
