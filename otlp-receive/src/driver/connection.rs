//! A socket and its session: reads what may be read, writes what is to be written.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use otlp_core::Outcome;
use rustix::buffer::spare_capacity;

use super::inbox::Mailbox;
use super::poll::{Interest, Ready, fd};
use super::timers::Entry;
use crate::http::service::Service;
use crate::http::session::Session;

/// What one connection may read before the others have their turn.
const READ_BYTES_PER_TURN: usize = 512 << 10;

/// One connection of a driver.
pub(super) struct Connection {
    stream: TcpStream,
    session: Session,
    /// What the poller watches for.
    pub(super) interest: Interest,
    pub(super) entry: Entry,
    /// Whether it is in the driver's list of connections to be flushed at the end of the turn.
    pub(super) touched: bool,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        service: &Arc<Service>,
        mailbox: Mailbox,
        now: Instant,
    ) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(std::time::Duration::from_secs(60));
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let session = Session::new(Arc::clone(service), mailbox, Some(peer), now);
        let interest = Interest { read: true, write: false };
        Ok(Connection { stream, session, interest, entry: Entry::default(), touched: false })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        fd(&self.stream)
    }

    /// The socket is ready.
    pub(super) fn ready(&mut self, ready: Ready, buffer: &mut Vec<u8>, now: Instant) {
        if ready.readable || ready.broken {
            self.read(buffer, now);
        }
        // A broken connection is reported again and again; where reading did not find it out, it must end here.
        if ready.broken && !self.session.is_over() && !self.session.wants_read() {
            self.session.broken();
        }
    }

    /// Reads until the socket is empty, the budget is used up or the session wants no more.
    ///
    /// A read that fills less than its buffer has emptied the socket: no second one that finds nothing. What comes in the
    /// meantime is reported again, since the poller is level-triggered.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, now: Instant) {
        let mut budget = READ_BYTES_PER_TURN;
        while self.session.wants_read() && budget > 0 {
            let (read, room) = match self.session.direct() {
                Some(body) => {
                    let room = body.capacity() - body.len();
                    let read = rustix::io::read(&self.stream, spare_capacity(body));
                    if let Ok(bytes @ 1..) = read {
                        self.session.received(bytes, now);
                    }
                    (read, room)
                }
                None => {
                    buffer.clear();
                    let read = rustix::io::read(&self.stream, spare_capacity(buffer));
                    if let Ok(1..) = read {
                        self.session.receive(buffer, now);
                    }
                    (read, buffer.capacity())
                }
            };
            match read.map_err(io::Error::from) {
                Ok(0) => return self.session.closed_by_peer(now),
                Ok(bytes) if bytes < room => return,
                Ok(bytes) => budget = budget.saturating_sub(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.session.broken(),
            }
        }
    }

    /// What became of a request.
    pub(super) fn answered(&mut self, request: u64, outcome: Outcome, now: Instant) {
        self.session.answered(request, outcome, now);
    }

    /// Its deadline came.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.session.on_time(now);
    }

    /// Stops taking requests; answers the one that is there already.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>, now: Instant) {
        self.read(buffer, now);
        self.session.drain();
    }

    /// Answers all that is open with "come again" and ends.
    pub(super) fn give_up(&mut self, now: Instant, wall: impl Fn() -> SystemTime) {
        self.session.give_up(now, wall);
    }

    /// Writes what is due, all of a turn's answers at once. False when the connection is over.
    pub(super) fn flush(&mut self, now: Instant, wall: impl Fn() -> SystemTime) -> bool {
        self.session.advance(now, &wall);
        while !self.session.output().is_empty() && !self.session.is_over() {
            match (&self.stream).write(self.session.output()) {
                Ok(bytes) => {
                    let all = bytes == self.session.output().len();
                    self.session.written(bytes, now);
                    if !all {
                        break;
                    }
                    self.session.advance(now, &wall);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.session.written(0, now);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.session.broken(),
            }
        }
        if self.session.closes(now) {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        !self.session.is_over()
    }

    /// What the poller is to watch for now.
    pub(super) fn wanted(&self) -> Interest {
        Interest { read: self.session.wants_read(), write: !self.session.output().is_empty() }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }
}
