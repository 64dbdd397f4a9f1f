//! A non-blocking socket as `h2` reads and writes it, and waiting for it.
//!
//! Invariants:
//!
//! - A flag is cleared only after the system said "not now", or after a short read.
//! - What is waited for is what the flags deny: a peer that does not read, while `h2` does not read because it cannot
//!   write, must not keep this thread awake.

use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of a connection; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Wire(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    readable: Cell<bool>,
    writable: Cell<bool>,
}

impl Wire {
    /// Makes the stream non-blocking.
    pub(super) fn new(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Wire(Rc::new(Inner { stream, readable: Cell::new(true), writable: Cell::new(true) })))
    }

    /// Waits until it would do what it denied, or the deadline passed.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        let inner = &*self.0;
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !inner.readable.get());
        wanted.set(PollFlags::OUT, !inner.writable.get());
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left.min(Duration::from_secs(3600))).unwrap_or_default());
        let mut fds = [PollFd::new(&inner.stream, wanted)];
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let came = fds[0].revents();
        let over = came.intersects(PollFlags::ERR | PollFlags::HUP);
        if over || came.contains(PollFlags::IN) {
            inner.readable.set(true);
        }
        if over || came.contains(PollFlags::OUT) {
            inner.writable.set(true);
        }
        Ok(())
    }
}

/// "Not now" in the words of tokio; clears the flag.
fn polled<T>(result: io::Result<T>, flag: &Cell<bool>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            flag.set(false);
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &*self.0;
        if !inner.readable.get() {
            return Poll::Pending;
        }
        let room = buffer.initialize_unfilled();
        let most = room.len();
        let read = (&inner.stream).read(room);
        if let Ok(count @ 1..) = read
            && count < most
        {
            inner.readable.set(false);
        }
        polled(read.map(|count| buffer.advance(count)), &inner.readable)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &*self.0;
        if !inner.writable.get() {
            return Poll::Pending;
        }
        polled((&inner.stream).write_vectored(parts), &inner.writable)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.stream.shutdown(std::net::Shutdown::Write))
    }
}
