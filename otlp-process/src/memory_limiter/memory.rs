//! How much memory the process holds and how much it may: the only part that asks the system.

use otlp_core::ByteSize;
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads the process's resident memory; `None` where the system does not say.
pub type ReadResident = Box<dyn FnMut() -> Option<ByteSize> + Send>;

/// A reader of this process's resident memory. One reading costs a few system calls.
pub fn resident() -> ReadResident {
    let mut system = System::new().ok();
    let pid = Pid::from_u32(std::process::id());
    Box::new(move || {
        let system = system.as_mut()?;
        let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
        system.process(pid).map(|process| ByteSize(process.memory()))
    })
}

/// The memory there is for this process: what its cgroup allows, else the host's. `None` where the system does not say.
pub fn total() -> Option<ByteSize> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let host = system.total_memory();
    let pid = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        true,
        ProcessRefreshKind::nothing().without_tasks(),
    );
    let own = system.process(pid).and_then(|process| process.cgroup_limits());
    let cgroup = own.or_else(|| system.cgroup_limits()).map(|limits| limits.total_memory);
    cgroup.into_iter().chain([host]).filter(|&bytes| bytes > 0).min().map(ByteSize)
}

/// The memory budget where none is configured: what the tightest memory_limiter leaves, its soft limit less what the
/// process holds `idle`, but no less than half of it; without one a quarter of all memory, at least 160 MiB.
pub fn default_budget(tightest_soft: Option<ByteSize>, idle: ByteSize, total: Option<ByteSize>) -> ByteSize {
    match tightest_soft {
        Some(soft) => soft.saturating_sub(idle).max(ByteSize(soft.get() / 2)),
        None => ByteSize(total.map_or(0, |total| total.get() / 4)).max(ByteSize::mib(160)),
    }
}
