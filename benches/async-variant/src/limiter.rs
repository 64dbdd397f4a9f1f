//! memory_limiter: above the soft limit everything is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otlp_core::ByteSize;
use otlp_process::memory_limiter;

/// When resident memory is too much, and how often it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimit {
    pub soft: ByteSize,
    pub check_interval: Duration,
}

/// Starts looking; the flag says whether to refuse.
pub fn start(limit: MemoryLimit) -> Arc<AtomicBool> {
    let refusing = Arc::new(AtomicBool::new(false));
    let flag = Arc::downgrade(&refusing);
    let mut resident = memory_limiter::resident();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(limit.check_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let Some(flag) = flag.upgrade() else { return };
            let over = resident().is_some_and(|resident| resident >= limit.soft);
            flag.store(over, Ordering::Relaxed);
        }
    });
    refusing
}
