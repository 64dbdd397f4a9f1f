//! One value for each process: what a child of `fork` must not share with its parent.
//!
//! After `fork` only the thread that called it lives on in the child. A lock that another thread held stays held for
//! ever, and a worker that the parent had is not there. So before any lock is touched the process's id is compared with
//! that of the process which made the value; a child makes one of its own and leaves the parent's alone.
//!
//! Asking for the id is a system call, twice what the rest of recording a span takes, so on Unix a counter is compared in
//! its place that the C library raises in every child (`pthread_atfork`, by the crate `forkguard`). Where it is not one,
//! and before everything but recording, the id itself is compared.
//!
//! # Limits
//!
//! A child made by the bare system call, past the C library, is not noticed by recording alone.
//! Two processes that follow each other within one fork chain and have the same id (the number space went around once in
//! between) cannot be told apart.

use std::fmt;
use std::sync::{Arc, OnceLock};

#[cfg(unix)]
use forkguard::atfork::Guard;

/// Tells the process that made it from its children.
#[derive(Clone)]
pub(crate) struct Mark {
    process: u32,
    #[cfg(unix)]
    guard: Option<Guard>,
}

impl Mark {
    /// Of this process.
    pub(crate) fn new() -> Mark {
        Mark {
            process: std::process::id(),
            #[cfg(unix)]
            guard: Guard::try_new().ok(),
        }
    }

    /// Whether the calling process made it. One load.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        #[cfg(unix)]
        if let Some(guard) = &self.guard {
            return !guard.clone().detected_fork();
        }
        self.process == std::process::id()
    }
}

/// A value that every process makes for itself on first use.
pub(crate) struct PerProcess<T> {
    first: Arc<Link<T>>,
    make: Box<dyn Fn() -> T + Send + Sync>,
}

struct Link<T> {
    mark: Mark,
    value: T,
    /// The child's, where this process is a child of the one that made this link.
    next: OnceLock<Arc<Link<T>>>,
}

impl<T> PerProcess<T> {
    /// With the value of this process, and how a child makes its own.
    pub(crate) fn new(value: T, make: impl Fn() -> T + Send + Sync + 'static) -> PerProcess<T> {
        PerProcess { first: Arc::new(Link::new(value)), make: Box::new(make) }
    }

    /// This process's value, made now where this is the first use in a child.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        if self.first.mark.is_ours() { &self.first.value } else { self.find() }
    }

    #[cold]
    fn find(&self) -> &T {
        let process = std::process::id();
        let mut link = &self.first;
        while link.mark.process != process {
            link = match link.next.get() {
                Some(next) => next,
                None => {
                    // Made outside of the cell, which then is set in no time: a fork in between finds it set or not.
                    // Where two threads of a child come here at once, the value of one is not used.
                    let _ = link.next.set(Arc::new(Link::new((self.make)())));
                    continue;
                }
            };
        }
        &link.value
    }

    /// This process's value, by the process's id: for everything that is not done a million times a second.
    pub(crate) fn get_surely(&self) -> &T {
        self.existing().unwrap_or_else(|| self.find())
    }

    /// This process's value, if it has made one.
    pub(crate) fn existing(&self) -> Option<&T> {
        let process = std::process::id();
        let mut link = Some(&self.first);
        while let Some(at) = link {
            if at.mark.process == process {
                return Some(&at.value);
            }
            link = at.next.get();
        }
        None
    }
}

impl<T> Link<T> {
    fn new(value: T) -> Link<T> {
        Link { mark: Mark::new(), value, next: OnceLock::new() }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.first.mark.process != std::process::id() {
            // What a parent made may hold locks that nobody releases here: left alone, until the process ends.
            std::mem::forget(Arc::clone(&self.first));
        }
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerProcess")
    }
}
