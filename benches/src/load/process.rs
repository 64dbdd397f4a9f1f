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

/// A process that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// From its start until it listened.
    pub started_in: Duration,
}

/// What /proc said about a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// CPU seconds in user mode, of all its threads.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// Times that one of its present threads went to sleep and so had to be woken.
    pub wakeups: u64,
    /// Resident now.
    pub resident_kib: u64,
    /// Resident at most.
    pub peak_kib: u64,
    /// Threads.
    pub threads: usize,
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
    let mut sample = Sample {
        user_s,
        system_s,
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

/// CPU seconds of this process' threads whose names begin so.
pub fn own_cpu_s(prefix: &str) -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    of.filter(|stat| stat.split_once('(').is_some_and(|(_, rest)| rest.starts_with(prefix)))
        .filter_map(|stat| cpu_times(&stat))
        .map(|(user, system)| user + system)
        .sum()
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_can_be_sampled() {
        let own = sample(std::process::id()).unwrap();
        assert!(own.threads >= 1 && own.resident_kib > 100 && own.peak_kib >= own.resident_kib);
        assert!(sample(u32::MAX >> 1).is_err());
    }
}
