//! Refusing while the process holds too much memory.
//!
//! | file         | purpose                                                     |
//! |--------------|-------------------------------------------------------------|
//! | `config.rs`  | the limits and their defaults                               |
//! | `limiter.rs` | decides when to refuse and when to take data again          |
//! | `memory.rs`  | how much memory there is and how much is held               |
//! | `tests.rs`   | those decisions, and what senders hear                      |
//!
//! # What it does
//!
//! Measures the process's resident memory at most once in a `check_interval`. At the soft limit or above, every batch is
//! refused until a later measurement is below it. It is the second line: the memory budget, which is exact, refuses
//! before a body is read.
//!
//! The Collector measures its heap, we the resident memory: that is what the machine runs out of.
//!
//! # Place in the pipeline
//!
//! First, so that nothing is done for what will be refused.
//!
//! # Threads
//!
//! On any thread, on several batches at once. It has none of its own and needs no timer: memory is measured when a batch
//! comes, or somebody asks for its health, and the last measurement is older than the interval. So refusing ends with
//! the first batch after memory has gone down, and an idle process is not woken to measure itself.
//!
//! # Limits
//!
//! Holds nothing.
//!
//! # On failure
//!
//! Where memory cannot be measured nothing changes until it can, and the log says so once.
//!
//! # On shutdown
//!
//! Nothing to do.
//!
//! # Specification
//!
//! The Collector's memory_limiter, but for what is measured.

mod config;
mod limiter;
mod memory;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use otlp_core::component::{Downstream, Health, Processor, Refused, Transform};
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Registry};
use otlp_core::{Batch, ByteSize, Clock, Failure, Group, Reason, Signal};
use parking_lot::Mutex;

pub use config::{Config, Limits};
use limiter::{Change, Limiter};
pub use memory::{ReadResident, default_budget, resident, total};

use crate::error::ConfigError;

/// The memory_limiter processor. Clones share one check of the memory: one for each id, in whatever pipelines it stands.
#[derive(Clone, Debug)]
pub struct MemoryLimiter(Arc<Shared>);

struct Shared {
    id: String,
    limits: Limits,
    check_interval: Duration,
    clock: Clock,
    start: Instant,
    /// When the next measurement is due, in nanoseconds from `start`: read for every batch, so not behind the lock.
    next_ns: AtomicU64,
    refusing: AtomicBool,
    measuring: Mutex<Measuring>,
    accepted: [Counter; 3],
    refused: [Counter; 3],
}

struct Measuring {
    limiter: Limiter,
    read: ReadResident,
    blind: bool,
}

impl MemoryLimiter {
    /// A limiter with the id under which it is counted, on a machine with `total` memory.
    ///
    /// # Errors
    ///
    /// As [`Config::check`].
    pub fn new(
        id: &str,
        config: &Config,
        total: ByteSize,
        read: ReadResident,
        clock: Clock,
        registry: &Registry,
    ) -> Result<MemoryLimiter, ConfigError> {
        config.check()?;
        let limits = config.limits(total);
        let counters =
            |name| Signal::ALL.map(|signal| registry.counter(name, Some(signal), vec![("processor", id.to_owned())]));
        log::info!(
            "Memory limiter configured processor={id} limit_mib={} spike_limit_mib={} check_interval={:?}",
            limits.hard.get() >> 20,
            (limits.hard.get() - limits.soft.get()) >> 20,
            config.check_interval,
        );
        Ok(MemoryLimiter(Arc::new(Shared {
            id: id.to_owned(),
            limits,
            check_interval: config.check_interval,
            start: clock.now(),
            clock,
            next_ns: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            measuring: Mutex::new(Measuring {
                limiter: Limiter::new(limits.soft, config.check_interval),
                read,
                blind: false,
            }),
            accepted: counters(names::MEMORY_LIMITER_ACCEPTED),
            refused: counters(names::MEMORY_LIMITER_REFUSED),
        })))
    }

    /// Its limits in bytes.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Whether it refuses what comes now.
    pub fn is_refusing(&self) -> bool {
        self.0.is_refusing()
    }
}

impl Shared {
    /// Whether to refuse, by a measurement no older than the interval.
    fn is_refusing(&self) -> bool {
        let now = self.clock.now();
        let elapsed_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        if elapsed_ns >= self.next_ns.load(Ordering::Acquire)
            && let Some(mut measuring) = self.measuring.try_lock()
        {
            // Whoever finds the lock taken goes by the last measurement: the next is under way.
            self.measure(now, elapsed_ns, &mut measuring);
        }
        self.refusing.load(Ordering::Acquire)
    }

    fn measure(&self, now: Instant, elapsed_ns: u64, measuring: &mut Measuring) {
        if !measuring.limiter.is_due(now) {
            return;
        }
        let resident = (measuring.read)();
        match (resident.is_none(), measuring.blind) {
            (true, false) => log::warn!("memory_limiter cannot measure the process's memory processor={}", self.id),
            (false, true) => log::info!("memory_limiter measures the process's memory again processor={}", self.id),
            _ => {}
        }
        measuring.blind = resident.is_none();
        let mib = resident.map_or(0, |bytes| bytes.get() >> 20);
        match measuring.limiter.observe(now, resident) {
            Some(Change::Refuse) => {
                self.refusing.store(true, Ordering::Release);
                log::warn!("Memory usage is above soft limit. Refusing data. processor={} cur_mem_mib={mib}", self.id);
            }
            Some(Change::Resume) => {
                self.refusing.store(false, Ordering::Release);
                log::info!(
                    "Memory usage back within limits. Resuming normal operation. processor={} cur_mem_mib={mib}",
                    self.id
                );
            }
            None => {}
        }
        self.next_ns.store(elapsed_ns.saturating_add(self.check_interval.as_nanos() as u64), Ordering::Release);
    }
}

impl Transform for Shared {
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let (signal, items) = (batch.signal().index(), batch.items().get());
        if self.is_refusing() {
            self.refused[signal].add(items);
            let failure = Failure::refused(Reason::MEMORY_LIMIT, "data refused due to high memory usage")
                .retry_after(self.check_interval);
            return Err(Refused { batch: Box::new(batch), failure, hold: false });
        }
        self.accepted[signal].add(items);
        Ok(Some(batch))
    }
}

impl Processor for MemoryLimiter {
    fn transform(&self) -> Option<Arc<dyn Transform>> {
        Some(Arc::clone(&self.0) as Arc<dyn Transform>)
    }

    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        if let Some(batch) = self.0.apply(batch)? {
            downstream.emit(Group::of(batch));
        }
        Ok(())
    }

    fn health(&self) -> Health {
        if self.0.is_refusing() {
            Health::unhealthy(format!("memory usage is above the soft limit of {}", self.0.limits.soft))
        } else {
            Health::ok()
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLimiter")
            .field("id", &self.id)
            .field("limits", &self.limits)
            .field("refusing", &self.refusing)
            .finish_non_exhaustive()
    }
}
