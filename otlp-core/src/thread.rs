//! Named threads with one owner, joined when it lets go of them.

use std::fmt;
use std::io;
use std::thread::JoinHandle;

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
}

impl Default for ThreadOptions {
    fn default() -> ThreadOptions {
        ThreadOptions { stack_kib: 2048 }
    }
}

impl Thread {
    /// Starts a thread. Linux keeps 15 bytes of the name.
    ///
    /// # Errors
    ///
    /// Where the system has no room for another thread.
    pub fn spawn(
        name: impl Into<String>,
        options: ThreadOptions,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Thread> {
        let name = name.into();
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
