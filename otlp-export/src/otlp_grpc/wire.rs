//! A non-blocking socket, plain or under TLS, as `h2` reads and writes it; waiting for sockets; being woken.
//!
//! `h2` wants the traits of tokio, of which nothing else is built: no runtime, no socket, no timer. "Not now" is answered
//! by `Pending` and no waker is kept: flags say what the socket would do, the driver sets them when the system says that
//! it is ready, and polls everything again.
//!
//! Invariants:
//!
//! - A flag is cleared only after the system said "not now", or after a short read: it reports what comes later.
//! - What the driver waits for is what the flags deny. So a peer that does not read, while `h2` does not read because it
//!   cannot write, costs nothing: the socket stays readable and nobody asks.
//! - TLS has shaken hands before `h2` sees the socket: `h2` does not read while it has something to flush, and TLS cannot
//!   flush anything before it has read.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::Connection;

/// Read from one connection in one turn: then its calls' deadlines are looked at, and other connections have theirs.
const TURN_BYTES_MAX: usize = 512 << 10;

/// What a socket would do, and did; shared by the driver and the end that `h2` has.
///
/// Atomic so that a driver may go from thread to thread; only one at a time looks.
#[derive(Debug)]
pub(super) struct Readiness {
    readable: Flag,
    writable: Flag,
    budget: AtomicUsize,
    heard: Flag,
}

#[derive(Debug)]
struct Flag(AtomicBool);

impl Flag {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Readiness {
    pub(super) fn new() -> Arc<Readiness> {
        Arc::new(Readiness {
            readable: Flag(AtomicBool::new(true)),
            writable: Flag(AtomicBool::new(true)),
            budget: AtomicUsize::new(TURN_BYTES_MAX),
            heard: Flag(AtomicBool::new(false)),
        })
    }

    /// Begins a turn.
    pub(super) fn refill(&self) {
        self.budget.store(TURN_BYTES_MAX, Ordering::Relaxed);
    }

    /// Whether the turn's budget ended it and there may be more to read.
    pub(super) fn has_more(&self) -> bool {
        self.budget.load(Ordering::Relaxed) == 0 && self.readable.get()
    }

    /// Whether anything came since the last time.
    pub(super) fn take_heard(&self) -> bool {
        let heard = self.heard.get();
        self.heard.set(false);
        heard
    }

    /// A socket that is still connecting can be written to once that has ended.
    pub(super) fn expect_connection(&self) {
        self.writable.set(false);
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.get()
    }
}

/// The bare socket with its flags. `WouldBlock` stands for "not now".
pub(super) struct Raw<'a>(&'a Socket, &'a Readiness);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Raw(socket, ready) = *self;
        let budget = ready.budget.load(Ordering::Relaxed);
        let most = buffer.len().min(budget);
        if !ready.readable.get() || most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            match (&*socket).read(&mut buffer[..most]) {
                Ok(count) => {
                    // The end is reported again; a short read means that there is nothing more for now.
                    if count > 0 && count < most {
                        ready.readable.set(false);
                    }
                    ready.budget.store(budget - count, Ordering::Relaxed);
                    ready.heard.set(true);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        ready.readable.set(false);
                    }
                    return Err(error);
                }
            }
        }
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Raw(socket, ready) = *self;
        if !ready.writable.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            match (&*socket).write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.writable.set(false);
                    return Err(error);
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of a connection that `h2` has.
pub(super) struct Wire {
    socket: Arc<Socket>,
    ready: Arc<Readiness>,
    tls: Option<Box<Connection>>,
}

impl Wire {
    pub(super) fn new(socket: Arc<Socket>, ready: Arc<Readiness>, tls: Option<Connection>) -> Wire {
        Wire { socket, ready, tls: tls.map(Box::new) }
    }

    /// Goes on shaking hands; true when that is done, or there is nothing to do.
    pub(super) fn shake_hands(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        let mut raw = Raw(&self.socket, &self.ready);
        loop {
            if !flush(tls, &mut raw)? {
                return Ok(false);
            }
            if !tls.is_handshaking() {
                return Ok(true);
            }
            match tls.read_tls(&mut raw) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => take_packets(tls, &mut raw)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// What TLS is to go over, for what comes before it.
    pub(super) fn beneath(&self) -> Raw<'_> {
        Raw(&self.socket, &self.ready)
    }

    /// The protocol that both sides chose.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|tls| tls.alpn_protocol())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut raw = Raw(&self.socket, &self.ready);
        let Some(tls) = &mut self.tls else { return raw.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                // Many end without saying so; frames have lengths of their own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            match tls.read_tls(&mut raw) {
                Ok(_) => take_packets(tls, &mut raw)?,
                Err(error) => {
                    // TLS may have something to say of its own: a new key, an alert.
                    flush(tls, &mut raw)?;
                    return Err(error);
                }
            }
        }
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut raw = Raw(&self.socket, &self.ready);
        let Some(tls) = &mut self.tls else { return raw.write_vectored(parts) };
        let written = tls.writer().write_vectored(parts)?;
        if written > 0 || parts.iter().all(|part| part.is_empty()) {
            return Ok(written);
        }
        // Its buffer is full.
        if flush(tls, &mut raw)? { tls.writer().write_vectored(parts) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

/// Writes what TLS has to write; true when all of it is out.
fn flush(tls: &mut Connection, raw: &mut Raw<'_>) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(raw) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn take_packets(tls: &mut Connection, raw: &mut Raw<'_>) -> io::Result<()> {
    match tls.process_new_packets() {
        Ok(_) => Ok(()),
        Err(error) => {
            // The alert, where it fits.
            let _ = flush(tls, raw);
            Err(io::Error::new(io::ErrorKind::InvalidData, crate::tls::explained(&error)))
        }
    }
}

/// "Not now" in the words of tokio.
fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.get_mut().read(buffer.initialize_unfilled());
        polled(read.map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        polled(self.get_mut().write(&[IoSlice::new(bytes)]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        polled(self.get_mut().write(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let Some(tls) = &mut wire.tls else { return Poll::Ready(Ok(())) };
        match flush(tls, &mut Raw(&wire.socket, &wire.ready)) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        match self.as_mut().poll_flush(context) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        match self.socket.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// Ends a driver's wait from another thread.
#[derive(Debug)]
pub(super) struct Waker {
    write: UnixStream,
    read: UnixStream,
    /// Whether a wake-up is on its way that the driver has not seen: one is enough.
    pending: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        let (write, read) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok(Waker { write, read, pending: AtomicBool::new(false) })
    }

    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _ = (&self.write).write(&[1]);
        }
    }

    /// To be called before what the wake-up is about is looked at.
    fn clear(&self) {
        let _ = (&self.read).read(&mut [0; 16]);
        self.pending.store(false, Ordering::Release);
    }
}

/// Waits until one of the sockets does what its flags deny, the waker is used, or the time is over.
///
/// `poll(2)`, not epoll: there are a handful of sockets, and what is waited for changes from turn to turn, which would
/// be another system call each.
pub(super) fn wait(
    waker: Option<&Waker>,
    sockets: &[(Arc<Socket>, Arc<Readiness>)],
    timeout: Option<Duration>,
) -> io::Result<()> {
    let mut polled: Vec<_> = sockets
        .iter()
        .map(|(socket, ready)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !ready.readable.get());
            flags.set(PollFlags::OUT, !ready.writable.get());
            PollFd::new(socket, flags)
        })
        .collect();
    if let Some(waker) = waker {
        polled.push(PollFd::new(&waker.read, PollFlags::IN));
    }
    // Rounded up to the millisecond by the system's call: the last one is not spent spinning.
    let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    for (polled, (_, ready)) in polled.iter().zip(sockets) {
        let flags = polled.revents();
        let broken = flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        if broken || flags.contains(PollFlags::IN) {
            ready.readable.set(true);
        }
        if broken || flags.contains(PollFlags::OUT) {
            ready.writable.set(true);
        }
    }
    let woken = polled.last().is_some_and(|polled| !polled.revents().is_empty());
    if let Some(waker) = waker.filter(|_| woken) {
        waker.clear();
    }
    Ok(())
}
