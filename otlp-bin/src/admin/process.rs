//! The process's own figures, under the Collector's names.

use std::sync::Mutex;
use std::time::Instant;

use otlp_core::ByteSize;
use otlp_core::flow::memory::HostMemory;
use otlp_core::telemetry::{Registry, names};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Registers uptime, CPU time and resident memory. They are read when the metrics are, and never else.
pub fn register(registry: &Registry) {
    let started = Instant::now();
    registry.read(names::PROCESS_UPTIME, None, Vec::new(), move || started.elapsed().as_secs_f64());
    registry.read(names::PROCESS_MEMORY_RSS, None, Vec::new(), || own(|process| process.memory() as f64));
    registry.read(names::PROCESS_CPU_SECONDS, None, Vec::new(), || {
        own(|process| process.accumulated_cpu_time() as f64 / 1e3)
    });
}

/// Bytes of memory that this process holds now; `None` where the platform does not tell.
pub fn resident_bytes() -> Option<u64> {
    let resident = own(|process| process.memory() as f64);
    (resident > 0.0).then_some(resident as u64)
}

/// How much of the host's memory is in use, or of the control group's where that has a limit; `None` where the platform
/// does not tell.
pub fn host_memory() -> Option<HostMemory> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let host = HostMemory { used: ByteSize(system.used_memory()), total: ByteSize(system.total_memory()) };
    let group =
        system.cgroup_limits().filter(|limits| limits.total_memory > 0 && limits.total_memory < host.total.get());
    Some(group.map_or(host, |limits| HostMemory {
        used: ByteSize(limits.total_memory.saturating_sub(limits.free_memory)),
        total: ByteSize(limits.total_memory),
    }))
}

fn own(read: impl Fn(&sysinfo::Process) -> f64) -> f64 {
    static SYSTEM: Mutex<Option<System>> = Mutex::new(None);
    let mut system = SYSTEM.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if system.is_none() {
        *system = System::new().ok();
    }
    let Some(system) = system.as_mut() else { return 0.0 };
    let pid = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        false,
        ProcessRefreshKind::nothing().with_memory().with_cpu(),
    );
    system.process(pid).map_or(0.0, read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::telemetry::registry::SampleValue;

    #[test]
    fn the_process_is_seen() {
        let registry = Registry::new();
        register(&registry);
        let samples = registry.samples();
        assert_eq!(samples.len(), 3);
        let rss = samples.iter().find(|sample| sample.name == "otelcol_process_memory_rss").unwrap();
        let SampleValue::Number(bytes) = rss.value else { panic!("a number") };
        assert!(bytes > 1e6, "{bytes}");
    }
}
