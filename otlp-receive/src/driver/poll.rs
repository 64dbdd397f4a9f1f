//! Waiting until a socket is ready, and being woken by another thread. Nothing else in the crate asks the system for that.
//!
//! Linux: epoll, level-triggered, and an eventfd that is edge-triggered and so never has to be read. Elsewhere: `poll(2)`
//! and a pipe. The `polling` crate, which would use kqueue there, can only be called from unsafe code.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;

/// The key under which the waker is registered. It is not reported.
const WAKER: u64 = u64::MAX;

/// What to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// A source that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) key: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Both directions are closed, or the connection is broken. Reported whatever was asked for.
    pub(crate) broken: bool,
}

/// The system's way to wait for many sources at once. Level-triggered: what is ready is reported until it is not.
pub(crate) trait Poller {
    /// Begins to watch a source.
    fn add(&mut self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()>;

    /// Changes what is watched for.
    fn modify(&mut self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()>;

    /// Ends watching; before the source is closed.
    fn remove(&mut self, source: BorrowedFd<'_>, key: u64);

    /// Watches for wake-ups.
    fn add_waker(&mut self, waker: &Waker) -> io::Result<()>;

    /// Waits until something is ready, a waker is used, or the time is over. `None` waits without limit. May return early
    /// with nothing.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;
}

#[cfg(target_os = "linux")]
pub(crate) use epoll::{Epoll as System, waker};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{Poll as System, waker};

/// The poller of this system.
pub(crate) fn new() -> io::Result<System> {
    System::new()
}

/// Ends a poller's wait from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    write: Arc<OwnedFd>,
    /// Of a pipe: where it is read. An eventfd has one end.
    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "for the portable poller"))]
    read: Option<Arc<OwnedFd>>,
}

impl Waker {
    /// Wakes. A full pipe is a wake-up that has not been read yet: nothing to do.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.write, &1u64.to_ne_bytes());
    }
}

fn timespec(timeout: Duration) -> Timespec {
    // Where the system waits in whole milliseconds, rustix rounds up: the last one is not spent spinning.
    Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
}

#[cfg(target_os = "linux")]
mod epoll {
    use super::{Interest, Poller, Ready, WAKER, Waker, timespec};
    use rustix::buffer::spare_capacity;
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
    use rustix::event::{EventfdFlags, eventfd};
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::sync::Arc;
    use std::time::Duration;

    /// Events taken at once.
    const EVENTS: usize = 256;

    pub(crate) struct Epoll {
        epoll: OwnedFd,
        events: Vec<epoll::Event>,
    }

    pub(crate) fn waker() -> io::Result<Waker> {
        let write = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Waker { write, read: None })
    }

    impl Epoll {
        pub(crate) fn new() -> io::Result<Epoll> {
            Ok(Epoll { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
        }
    }

    fn flags(interest: Interest) -> EventFlags {
        let mut flags = EventFlags::empty();
        if interest.read {
            flags |= EventFlags::IN | EventFlags::RDHUP;
        }
        if interest.write {
            flags |= EventFlags::OUT;
        }
        flags
    }

    impl Poller for Epoll {
        fn add(&mut self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
            Ok(epoll::add(&self.epoll, source, EventData::new_u64(key), flags(interest))?)
        }

        fn modify(&mut self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
            Ok(epoll::modify(&self.epoll, source, EventData::new_u64(key), flags(interest))?)
        }

        fn remove(&mut self, source: BorrowedFd<'_>, _key: u64) {
            let _ = epoll::delete(&self.epoll, source);
        }

        fn add_waker(&mut self, waker: &Waker) -> io::Result<()> {
            Ok(epoll::add(&self.epoll, &waker.write, EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET)?)
        }

        fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
            ready.clear();
            self.events.clear();
            let timeout = timeout.map(timespec);
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &self.events {
                let (flags, key) = (event.flags, event.data.u64());
                if key != WAKER {
                    ready.push(Ready {
                        key,
                        readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                        writable: flags.intersects(EventFlags::OUT),
                        broken: flags.intersects(EventFlags::HUP | EventFlags::ERR),
                    });
                }
            }
            Ok(())
        }
    }
}

#[cfg(any(not(target_os = "linux"), test))]
mod portable {
    use super::{Interest, Poller, Ready, WAKER, Waker, timespec};
    use rustix::event::{PollFd, PollFlags, poll};
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::sync::Arc;
    use std::time::Duration;

    /// `poll(2)` over duplicates of the descriptors: a borrowed one could be closed under it.
    #[derive(Debug, Default)]
    pub(crate) struct Poll {
        sources: Vec<(Arc<OwnedFd>, u64, Interest)>,
    }

    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "Linux has eventfd"))]
    pub(crate) fn waker() -> io::Result<Waker> {
        let (read, write) = rustix::pipe::pipe()?;
        for end in [&read, &write] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Waker { write: Arc::new(write), read: Some(Arc::new(read)) })
    }

    impl Poll {
        pub(crate) fn new() -> io::Result<Poll> {
            Ok(Poll::default())
        }
    }

    impl Poller for Poll {
        fn add(&mut self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
            self.sources.push((Arc::new(source.try_clone_to_owned()?), key, interest));
            Ok(())
        }

        fn modify(&mut self, _source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
            self.sources.iter_mut().filter(|(_, own, _)| *own == key).for_each(|source| source.2 = interest);
            Ok(())
        }

        fn remove(&mut self, _source: BorrowedFd<'_>, key: u64) {
            self.sources.retain(|(_, own, _)| *own != key);
        }

        fn add_waker(&mut self, waker: &Waker) -> io::Result<()> {
            let source = waker.read.clone().ok_or(io::ErrorKind::InvalidInput)?;
            self.sources.push((source, WAKER, Interest { read: true, write: false }));
            Ok(())
        }

        fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
            ready.clear();
            let mut polled: Vec<_> = self
                .sources
                .iter()
                .map(|(source, _, interest)| {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::IN, interest.read);
                    flags.set(PollFlags::OUT, interest.write);
                    PollFd::new(source, flags)
                })
                .collect();
            match poll(&mut polled, timeout.map(timespec).as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (polled, (source, key, _)) in polled.iter().zip(&self.sources) {
                let flags = polled.revents();
                if *key == WAKER {
                    if flags.intersects(PollFlags::IN) {
                        let _ = rustix::io::read(source, &mut [0u8; 4096]);
                    }
                } else if !flags.is_empty() {
                    ready.push(Ready {
                        key: *key,
                        readable: flags.intersects(PollFlags::IN),
                        writable: flags.intersects(PollFlags::OUT),
                        broken: flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
                    });
                }
            }
            Ok(())
        }
    }
}

/// The descriptor of a socket, in the form that pollers take.
pub(crate) fn fd(source: &impl AsFd) -> BorrowedFd<'_> {
    source.as_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn check(mut poller: impl Poller, waker: Waker) {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (read, both) = (Interest { read: true, write: false }, Interest { read: true, write: true });
        let mut ready = Vec::new();
        let mut wait = |poller: &mut dyn Poller, timeout| {
            poller.wait(Some(timeout), &mut ready).unwrap();
            ready.clone()
        };
        let long = Duration::from_secs(20);
        poller.add(fd(&near), 7, read).unwrap();
        poller.add_waker(&waker).unwrap();
        assert_eq!(wait(&mut poller, Duration::ZERO), []);
        far.write_all(b"ab").unwrap();
        let readable = Ready { key: 7, readable: true, writable: false, broken: false };
        assert_eq!(wait(&mut poller, long), [readable]);
        near.read_exact(&mut [0]).unwrap();
        assert_eq!(wait(&mut poller, long), [readable], "level-triggered");
        poller.modify(fd(&near), 7, both).unwrap();
        assert_eq!(wait(&mut poller, long), [Ready { writable: true, ..readable }]);
        poller.modify(fd(&near), 7, Interest::default()).unwrap();
        assert_eq!(wait(&mut poller, Duration::ZERO), []);
        drop(far);
        assert!(wait(&mut poller, long).iter().any(|ready| ready.broken));
        poller.remove(fd(&near), 7);
        waker.wake();
        let begun = std::time::Instant::now();
        assert_eq!(wait(&mut poller, long), [], "woken with nothing ready");
        assert!(begun.elapsed() < long);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn epoll_reports_what_was_asked_for() {
        check(epoll::Epoll::new().unwrap(), epoll::waker().unwrap());
    }

    #[test]
    fn poll_reports_what_was_asked_for() {
        check(portable::Poll::new().unwrap(), portable::waker().unwrap());
    }
}
