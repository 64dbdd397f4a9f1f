//! Where code may be called from.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid_nohang};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;

use crate::{Job, LONG};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Plain,
    Drop,
    PanicHook,
    ThreadEnd,
    SignalThread,
    ForkedChild,
    CurrentThreadRuntime,
    OneWorkerRuntime,
    ManyThreads,
}

impl Place {
    pub(crate) const ALL: [Place; 9] = [
        Place::Plain,
        Place::Drop,
        Place::PanicHook,
        Place::ThreadEnd,
        Place::SignalThread,
        Place::ForkedChild,
        Place::CurrentThreadRuntime,
        Place::OneWorkerRuntime,
        Place::ManyThreads,
    ];
}

type Answer = Result<(), String>;

thread_local! {
    /// For the panic hook.
    static JOB: Cell<Option<Job>> = const { Cell::new(None) };
    static RESULT: Cell<Option<Answer>> = const { Cell::new(None) };
    /// Runs when the thread's storage is taken down.
    static AT_END: RefCell<Option<AtDrop>> = const { RefCell::new(None) };
}

struct AtDrop(Option<Job>, Option<Sender<Answer>>);

impl Drop for AtDrop {
    fn drop(&mut self) {
        let result = self.0.take().map(|job| job());
        if let (Some(sender), Some(result)) = (self.1.take(), result) {
            let _ = sender.send(result);
        }
    }
}

/// A panic hook that does what its thread has left for it; other panics are told as ever.
pub(crate) fn install_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match JOB.try_with(Cell::take) {
        Ok(Some(job)) => RESULT.set(Some(job())),
        _ => default(info),
    }));
}

pub(crate) fn at_thread_end(job: Job) {
    AT_END.set(Some(AtDrop(Some(job), None)));
}

pub(crate) fn enter(place: Place, make: &dyn Fn() -> Job) -> Answer {
    let job = make();
    match place {
        Place::Plain => job(),
        Place::Drop => {
            let (sender, receiver) = channel();
            drop(AtDrop(Some(job), Some(sender)));
            receiver.recv_timeout(LONG).unwrap()
        }
        Place::PanicHook => {
            JOB.set(Some(job));
            let caught = std::panic::catch_unwind(|| panic!("on purpose"));
            assert!(caught.is_err());
            RESULT.take().unwrap()
        }
        Place::ThreadEnd => {
            let (sender, receiver) = channel();
            std::thread::spawn(move || AT_END.set(Some(AtDrop(Some(job), Some(sender)))));
            receiver.recv_timeout(LONG).map_err(|_| "the end of a thread hangs".to_owned())?
        }
        Place::SignalThread => on_signal(job),
        Place::ForkedChild => {
            others_have_begun();
            in_child(job)
        }
        Place::CurrentThreadRuntime => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { job() })
        }
        Place::OneWorkerRuntime => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
            runtime.block_on(async { tokio::spawn(async { job() }).await.unwrap() })
        }
        Place::ManyThreads => {
            let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(make())).chain([std::thread::spawn(job)]).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap())
        }
    }
}

/// Runs it in a thread that waits for signals.
fn on_signal(job: Job) -> Answer {
    static JOBS: Mutex<Vec<(Job, Sender<Answer>)>> = Mutex::new(Vec::new());
    static THREAD: OnceLock<()> = OnceLock::new();
    THREAD.get_or_init(|| {
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                let jobs = std::mem::take(&mut *JOBS.lock().unwrap());
                jobs.into_iter().for_each(|(job, sender)| drop(sender.send(job())));
            }
        });
    });
    let (sender, receiver) = channel();
    JOBS.lock().unwrap().push((job, sender));
    signal_hook::low_level::raise(SIGUSR1).unwrap();
    receiver.recv_timeout(LONG).map_err(|_| "the signal's thread hangs".to_owned())?
}

/// Waits until no other thread runs, where the system tells, for a while at most.
///
/// std has a lock that each thread takes as it begins and as it ends. If one holds it when the fork comes, no thread of the
/// child ever begins, whoever wants one: not ours to mend, and nothing that these tests are for.
fn others_have_begun() {
    let ours = std::fs::read_link("/proc/thread-self").ok();
    let ours = ours.as_deref().and_then(std::path::Path::file_name);
    let runs = |task: std::io::Result<std::fs::DirEntry>| {
        let Ok(task) = task else { return false };
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        Some(&*task.file_name()) != ours && !stat.rsplit(')').next().unwrap_or_default().starts_with(" S")
    };
    let begun = Instant::now();
    while std::fs::read_dir("/proc/self/task").is_ok_and(|mut tasks| tasks.any(runs)) && begun.elapsed() < LONG / 10 {
        std::thread::yield_now();
    }
}

/// Runs it in a child of fork, which ends with it; kills one that does not end.
pub(crate) fn in_child(job: impl FnOnce() -> Answer) -> Answer {
    match fork().unwrap() {
        Fork::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let code = match result {
                Ok(Ok(())) => 0,
                Ok(Err(message)) => {
                    eprintln!("in a child: {message}");
                    1
                }
                Err(_) => 2,
            };
            // Not `std::process::exit`: what it takes down is behind a lock of std's that every thread takes as it begins and
            // ends, one of the parent's perhaps when the fork came.
            signal_hook::low_level::exit(code);
        }
        Fork::Parent(child) => {
            let begun = Instant::now();
            loop {
                match waitpid_nohang(child).unwrap() {
                    Some(0) => return Ok(()),
                    Some(status) => return Err(format!("the child ended with {status}")),
                    // There is no way to wait for a child with a limit: it is asked again.
                    None if begun.elapsed() < LONG => std::thread::sleep(Duration::from_millis(1)),
                    None => {
                        let child = rustix::process::Pid::from_raw(child).unwrap();
                        let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
                        return Err("the child hangs".to_owned());
                    }
                }
            }
        }
    }
}
