//! The process under test: started on a core of its own, observed through /proc, stopped. Linux only.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Problem, doing};

/// The unit of CPU times in /proc, which is this on every Linux (USER_HZ).
const TICKS_A_SECOND: f64 = 100.0;

/// What two readings in ticks may differ by from the nanoseconds between them: user and system time are each cut off, twice.
const TICKS_ERROR_S: f64 = 0.03;

/// A process that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// From its start until it listened.
    pub started_in: Duration,
}

/// What /proc said about a process.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// CPU time of all its threads.
    pub cpu: CpuTime,
    /// Times that one of its present threads went to sleep and so had to be woken.
    pub wakeups: u64,
    /// Resident now.
    pub resident_kib: u64,
    /// Resident at most.
    pub peak_kib: u64,
    /// Threads.
    pub threads: usize,
}

/// CPU time at one instant: to the tick, of all threads that ever were, and to the nanosecond, of those that are.
#[derive(Clone, Debug, Default)]
pub struct CpuTime {
    /// Seconds in user mode.
    pub user_s: f64,
    /// Seconds in the kernel.
    pub system_s: f64,
    /// Thread and nanoseconds; a thread on a CPU now lacks what it used since the kernel's last tick (4 ms at most).
    threads_ns: Vec<(u32, u64)>,
}

impl CpuTime {
    /// Seconds since `before`: from the nanoseconds where they are of all threads, else from the ticks.
    pub fn since(&self, before: &CpuTime) -> f64 {
        let ticks_s = self.user_s + self.system_s - before.user_s - before.system_s;
        let at = |threads: &[(u32, u64)], id| threads.iter().find(|thread| thread.0 == id).map(|thread| thread.1);
        let has_ended = before.threads_ns.iter().any(|&(id, _)| at(&self.threads_ns, id).is_none());
        let since = |&(id, ns): &(u32, u64)| ns.saturating_sub(at(&before.threads_ns, id).unwrap_or(0));
        let exact_s = self.threads_ns.iter().map(since).sum::<u64>() as f64 / 1e9;
        // A thread that began and ended in between is in the ticks alone.
        if has_ended || (exact_s - ticks_s).abs() > TICKS_ERROR_S { ticks_s } else { exact_s }
    }

    /// Seconds since `before` in user mode and in the kernel; the split is the kernel's, which samples it.
    pub fn split_since(&self, before: &CpuTime) -> (f64, f64) {
        let (user_s, system_s) = (self.user_s - before.user_s, self.system_s - before.system_s);
        let whole = user_s + system_s;
        let part = if whole > 0.0 { user_s / whole } else { 0.0 };
        let total = self.since(before);
        (total * part, total * (1.0 - part))
    }
}

impl Process {
    /// Starts a program on `cpu` and waits until something listens on `address`. Its standard output is thrown away.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, ends, or does not listen within the timeout.
    pub fn start(
        mut command: Command,
        cpu: Option<usize>,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<Process, Problem> {
        let began = Instant::now();
        // A child inherits the affinity of the thread that starts it, all its threads that of their process.
        let child = on_cpus(cpu.as_slice(), || command.stdin(Stdio::null()).stdout(Stdio::null()).spawn())?;
        let mut process =
            Process { child: child.map_err(doing("cannot start the program"))?, started_in: Duration::ZERO };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.ended() {
                return Err(Problem(format!("the program ended before it listened on {address}: {status}")));
            }
            if began.elapsed() > timeout {
                return Err(Problem(format!("the program does not listen on {address} after {timeout:?}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
        process.started_in = began.elapsed();
        Ok(process)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to stop (SIGTERM) and waits; kills it after the timeout.
    ///
    /// # Errors
    ///
    /// Where it ends other than with success, or had to be killed.
    pub fn stop(mut self, timeout: Duration) -> Result<(), Problem> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::TERM).map_err(doing("cannot stop the program"))?;
        }
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            match self.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Problem(format!("the program ended with {status}"))),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
        Err(Problem(format!("the program did not stop within {timeout:?}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of a measurement may run on; both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What /proc says about a process now.
///
/// # Errors
///
/// Where it is gone.
pub fn sample(process: u32) -> Result<Sample, Problem> {
    let directory = Path::new("/proc").join(process.to_string());
    let read = |name: &str| {
        fs::read_to_string(directory.join(name)).map_err(doing(format_args!("cannot read /proc/{process}/{name}")))
    };
    let (user_s, system_s) = cpu_times(&read("stat")?)
        .ok_or_else(|| Problem(format!("/proc/{process}/stat is not as proc_pid_stat(5) has it")))?;
    let status = read("status")?;
    let threads_ns = threads_ns(&directory, "");
    let mut sample = Sample {
        cpu: CpuTime { user_s, system_s, threads_ns },
        resident_kib: status_field(&status, "VmRSS:"),
        peak_kib: status_field(&status, "VmHWM:"),
        ..Sample::default()
    };
    for task in fs::read_dir(directory.join("task")).into_iter().flatten().flatten() {
        // A thread may end while this is read.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        sample.wakeups += status_field(&status, "voluntary_ctxt_switches:");
        sample.threads += 1;
    }
    Ok(sample)
}

/// CPU time of this process' threads whose names begin so, which must not end between two readings.
pub fn own_cpu(prefix: &str) -> CpuTime {
    let threads_ns = threads_ns(Path::new("/proc/self"), prefix);
    let user_s = threads_ns.iter().map(|thread| thread.1).sum::<u64>() as f64 / 1e9;
    CpuTime { user_s, system_s: 0.0, threads_ns }
}

/// Threads of a process and their nanoseconds on a CPU (`schedstat`), those whose names begin so.
fn threads_ns(process: &Path, prefix: &str) -> Vec<(u32, u64)> {
    let tasks = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    // A thread may end while this is read.
    let read = |path: &Path| {
        if !prefix.is_empty() && !fs::read_to_string(path.join("comm")).ok()?.starts_with(prefix) {
            return None;
        }
        let ns = fs::read_to_string(path.join("schedstat")).ok()?.split_ascii_whitespace().next()?.parse().ok()?;
        Some((path.file_name()?.to_str()?.parse().ok()?, ns))
    };
    tasks.filter_map(|task| read(&task.path())).collect()
}

/// What all cores together have done since the system started, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineTime {
    /// Worked, for whomever.
    pub busy_s: f64,
    /// Wanted to work and were not let by the hypervisor.
    pub stolen_s: f64,
}

/// Reads `/proc/stat`; zero where there is none.
pub fn machine_time() -> MachineTime {
    machine_time_of(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// The line of all cores (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal.
fn machine_time_of(stat: &str) -> MachineTime {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<f64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let at = |place: usize| ticks.get(place).copied().unwrap_or(0.0) / TICKS_A_SECOND;
    MachineTime { busy_s: at(0) + at(1) + at(2) + at(5) + at(6), stolen_s: at(7) }
}

/// Forgets the peak of a process' resident memory, so that `peak_kib` is that from now on.
pub fn reset_peak(process: u32) {
    // Needs no more than the right to signal it; without it the peak is that since its start.
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// Puts the calling thread, and those it starts from now on, on these CPUs; none is no change.
///
/// # Errors
///
/// Where the system has no such CPUs.
pub fn pin(cpus: &[usize]) -> Result<(), Problem> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).map_err(doing(format_args!("cannot run on CPU {cpus:?}")))
}

fn on_cpus<R>(cpus: &[usize], run: impl FnOnce() -> R) -> Result<R, Problem> {
    let before = sched_getaffinity(None).map_err(doing("cannot read the CPU affinity"))?;
    pin(cpus)?;
    let result = run();
    sched_setaffinity(None, &before).map_err(doing("cannot restore the CPU affinity"))?;
    Ok(result)
}

/// User and system time of a `stat` (proc_pid_stat(5), fields 14 and 15). The name before them may hold anything.
fn cpu_times(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_A_SECOND);
    Some((next()?, next()?))
}

fn status_field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 3 4 20 0 1 0 5 1 1";
        assert_eq!(cpu_times(stat), Some((2.5, 0.5)));
        assert_eq!(cpu_times("7 (a"), None);
    }

    #[test]
    fn nanoseconds_are_believed_where_no_thread_is_missing() {
        let time = |user_s, threads: &[(u32, u64)]| CpuTime { user_s, system_s: 1.0, threads_ns: threads.to_vec() };
        let before = time(2.0, &[(1, 1_900_000_000), (2, 1_100_000_000)]);
        // 3 ms and 4 ms, of which the ticks know one hundredth of a second.
        let after = time(2.01, &[(1, 1_903_000_000), (2, 1_104_000_000)]);
        assert!((after.since(&before) - 0.007).abs() < 1e-9);
        // The second thread ended, or another came and went: only the ticks know of it.
        assert!((time(2.5, &[(1, 1_903_000_000)]).since(&before) - 0.5).abs() < 1e-9);
        assert!((time(2.5, &[(1, 1_903_000_000), (2, 1_104_000_000)]).since(&before) - 0.5).abs() < 1e-9);
        // A new thread is counted from its beginning.
        let after = time(2.05, &[(1, 1_903_000_000), (2, 1_104_000_000), (3, 40_000_000)]);
        assert!((after.since(&before) - 0.047).abs() < 1e-9);
        let (user_s, system_s) = after.split_since(&before);
        assert!((user_s - 0.047).abs() < 1e-9 && system_s.abs() < 1e-9);
    }

    #[test]
    fn the_machine_works_or_is_stolen_from() {
        let stat = "cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let time = machine_time_of(stat);
        assert!((time.busy_s - 1.63).abs() < 1e-9 && (time.stolen_s - 0.08).abs() < 1e-9);
        assert_eq!(machine_time_of(""), MachineTime::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_can_be_sampled() {
        let own = sample(std::process::id()).unwrap();
        assert!(own.threads >= 1 && own.resident_kib > 100 && own.peak_kib >= own.resident_kib);
        assert!(sample(u32::MAX >> 1).is_err());
    }
}
