//! Named threads with one owner, joined when it lets go of them, and threads that are begun again after a panic.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::component::{Health, HealthState};
use crate::shutdown::{Stop, Stopper, stop};

/// A thread that is joined on drop. Whoever owns it has asked it to stop before, by closing its channel or by a
/// [`crate::Stop`].
pub struct Thread {
    name: String,
    handle: Option<JoinHandle<()>>,
}

/// How threads are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadOptions {
    /// Stack size in KiB. Default 2048; 0 is the platform's default.
    pub stack_kib: usize,
    /// Put before every name, so that a process with several pipelines can tell whose thread it is. Default empty.
    pub prefix: &'static str,
}

impl Default for ThreadOptions {
    fn default() -> ThreadOptions {
        ThreadOptions::stack_kib(2048)
    }
}

impl ThreadOptions {
    /// The defaults with another stack size.
    pub const fn stack_kib(stack_kib: usize) -> ThreadOptions {
        ThreadOptions { stack_kib, prefix: "" }
    }
}

impl Thread {
    /// Starts a thread. Linux keeps 15 bytes of the name, the prefix included.
    ///
    /// # Errors
    ///
    /// Where the system has no room for another thread.
    pub fn spawn(
        name: impl Into<String>,
        options: ThreadOptions,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Thread> {
        let mut name = name.into();
        name.insert_str(0, options.prefix);
        let mut builder = std::thread::Builder::new().name(name.clone());
        if options.stack_kib > 0 {
            builder = builder.stack_size(options.stack_kib << 10);
        }
        Ok(Thread { name, handle: Some(builder.spawn(run)?) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end; false when it ended by a panic.
    pub fn join(mut self) -> bool {
        self.join_now()
    }

    fn join_now(&mut self) -> bool {
        match self.handle.take().map(JoinHandle::join) {
            Some(Err(_)) => {
                log::error!("thread {} ended by a panic", self.name);
                false
            }
            Some(Ok(())) | None => true,
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.join_now();
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({})", self.name)
    }
}

/// Runs something and turns a panic into its message, so that it costs one batch and not the thread.
///
/// What `run` was changing when it panicked may be half done: it must not be used afterwards, or be fine in any state.
///
/// # Errors
///
/// The panic's message.
pub fn catch_panic<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| panic_message(&*payload))
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}

/// How long a thread that panicked is left alone before it is begun again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBackoff {
    /// After the first panic. Default 100 ms. Doubles with each one after.
    pub initial: Duration,
    /// At most this long. Default 10 s.
    pub max: Duration,
    /// After having run for that long, the next panic counts as the first again. Default 60 s.
    pub reset_after: Duration,
}

impl Default for RestartBackoff {
    fn default() -> RestartBackoff {
        RestartBackoff {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
            reset_after: Duration::from_secs(60),
        }
    }
}

impl RestartBackoff {
    /// The wait after that many panics in a row.
    fn after(&self, panics: u32) -> Duration {
        let factor = 1u32.checked_shl(panics.saturating_sub(1)).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

/// A thread that is begun again when it panics.
///
/// # Life cycle
///
/// The factory makes a body on the thread and the body runs. When it returns, the thread ends. When it panics, it is
/// dropped with all that it had, the panic is logged, and after a while the factory makes another. Nothing of a body that
/// panicked is used again, so what outlives it, its inlet above all, belongs to the factory.
///
/// Dropping this asks the body to stop and waits for it.
pub struct Supervised {
    // Joined on drop, after `drop` has asked it to stop.
    thread: Thread,
    stopper: Stopper,
    state: Arc<Mutex<SupervisedState>>,
}

#[derive(Debug)]
struct SupervisedState {
    health: Health,
    restarts: u64,
}

impl Supervised {
    /// Starts a thread. `make` makes its body, at the start and after each panic; the body watches the [`Stop`].
    ///
    /// # Errors
    ///
    /// Where the system has no room for another thread.
    pub fn spawn<B: FnOnce(&Stop)>(
        name: impl Into<String>,
        options: ThreadOptions,
        backoff: RestartBackoff,
        make: impl FnMut() -> B + Send + 'static,
    ) -> io::Result<Supervised> {
        let name = name.into();
        let (stopper, stop) = stop();
        let state = Arc::new(Mutex::new(SupervisedState { health: Health::ok(), restarts: 0 }));
        let supervisor = Supervisor { name: name.clone(), backoff, stop, state: Arc::clone(&state) };
        let thread = Thread::spawn(name, options, move || supervisor.run(make))?;
        Ok(Supervised { thread, stopper, state })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.thread.name()
    }

    /// Asks the body to stop; returns at once.
    pub fn stop(&mut self) {
        self.stopper.stop();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// How it fares: unhealthy between a panic and the next begin, with the panic's message; stopped when the body has
    /// returned.
    pub fn health(&self) -> Health {
        lock(&self.state).health.clone()
    }

    /// How often it was begun again.
    pub fn restarts(&self) -> u64 {
        lock(&self.state).restarts
    }

    /// A function that says how it fares and how often it was begun again, for whoever watches over several.
    pub fn watch(&self) -> impl Fn() -> (Health, u64) + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || {
            let state = lock(&state);
            (state.health.clone(), state.restarts)
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(state: &Mutex<SupervisedState>) -> MutexGuard<'_, SupervisedState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Supervisor {
    name: String,
    backoff: RestartBackoff,
    stop: Stop,
    state: Arc<Mutex<SupervisedState>>,
}

impl Supervisor {
    fn run<B: FnOnce(&Stop)>(self, mut make: impl FnMut() -> B) {
        let mut panics = 0;
        loop {
            let began = Instant::now();
            let Err(message) = catch_panic(|| make()(&self.stop)) else { break };
            if began.elapsed() >= self.backoff.reset_after {
                panics = 0;
            }
            panics += 1;
            let wait = self.backoff.after(panics);
            log::error!("thread {} panicked: {message}; it is begun again in {wait:?}", self.name);
            lock(&self.state).health = Health::unhealthy(format!("thread {} panicked: {message}", self.name));
            if self.stop.wait(wait) {
                break;
            }
            let mut state = lock(&self.state);
            state.health = Health::ok();
            state.restarts += 1;
        }
        lock(&self.state).health = Health { state: HealthState::Stopped, message: String::new() };
    }
}

impl fmt::Debug for Supervised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervised({}, {:?})", self.name(), lock(&self.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: RestartBackoff =
        RestartBackoff { initial: Duration::from_millis(1), max: Duration::from_millis(4), reset_after: Duration::MAX };

    /// A panic that prints nothing: it does not go through the hook.
    fn panic_quietly(message: &'static str) -> ! {
        std::panic::resume_unwind(Box::new(message))
    }

    #[test]
    fn a_body_that_panics_is_made_again_until_it_works() {
        let (sender, receiver) = mpsc::channel();
        let mut made = 0;
        let mut thread = Supervised::spawn("phoenix", ThreadOptions::default(), SOON, move || {
            made += 1;
            let (sender, made) = (sender.clone(), made);
            move |stop: &Stop| {
                if made <= 5 {
                    panic_quietly("not yet");
                }
                sender.send(made).unwrap();
                stop.wait(Duration::from_secs(600));
            }
        })
        .unwrap();
        assert_eq!(receiver.recv(), Ok(6));
        assert_eq!((thread.health(), thread.restarts(), thread.is_finished()), (Health::ok(), 5, false));
        let watch = thread.watch();
        thread.stop();
        drop(thread);
        assert_eq!((watch().0.state, watch().1), (HealthState::Stopped, 5));
    }

    #[test]
    fn it_is_unhealthy_between_a_panic_and_the_next_begin_and_can_be_stopped_then() {
        let long = RestartBackoff { initial: Duration::from_secs(600), max: Duration::from_secs(600), ..SOON };
        let thread = Supervised::spawn("unlucky", ThreadOptions::default(), long, || {
            |_: &Stop| std::panic::resume_unwind(Box::new(String::from("a broken thing")))
        })
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while thread.health().state == HealthState::Ok {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(thread.health(), Health::unhealthy("thread unlucky panicked: a broken thing"));
        let watch = thread.watch();
        drop(thread);
        assert_eq!((watch().0.state, watch().1), (HealthState::Stopped, 0));
    }

    #[test]
    fn a_factory_that_panics_is_called_again() {
        let mut calls = 0;
        let (sender, receiver) = mpsc::channel();
        let thread = Supervised::spawn("factory", ThreadOptions::default(), SOON, move || {
            calls += 1;
            if calls < 3 {
                panic_quietly("no body");
            }
            let sender = sender.clone();
            move |_: &Stop| sender.send(()).unwrap()
        })
        .unwrap();
        receiver.recv().unwrap();
        // The body returned: that ends the thread, and with it the factory that held the sender.
        assert!(receiver.recv().is_err());
        assert_eq!(thread.restarts(), 2);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = RestartBackoff::default();
        let waits: Vec<u128> = [1, 2, 3, 7, 8, 31, 32, 33, u32::MAX].map(|n| backoff.after(n).as_millis()).to_vec();
        assert_eq!(waits, [100, 200, 400, 6400, 10_000, 10_000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch_panic(|| 1), Ok(1));
        assert_eq!(catch_panic(|| panic_quietly("why")), Err::<(), _>("why".to_owned()));
        assert_eq!(catch_panic(|| std::panic::resume_unwind(Box::new(7))), Err::<(), _>("no message".to_owned()));
    }
}
