//! A socket, perhaps TLS, and a protocol: reads what may be read, writes what is to be written.
//!
//! Which protocol it is shows in the first bytes: those of HTTP/2 begin with its preface (RFC 9113, section 3.4), or TLS
//! has agreed on it. What is not HTTP/2 is left to HTTP/1.1 to answer.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::Outcome;
use rustix::buffer::spare_capacity;

use super::exchange::{Exchange, Wall};
use super::inbox::Mailbox;
use super::poll::{Interest, Ready, fd};
use super::timers::Entry;
use super::tls::Tls;
use super::{Kind, Protocols};
use crate::tls::Acceptor;

/// What one connection may read before the others have their turn.
const READ_BYTES_PER_TURN: usize = 512 << 10;
/// How long a TLS handshake may take, or the first bytes that show which protocol it is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The buffers of a driver that all its connections use in turn.
pub(super) struct Buffers {
    pub(super) socket: Vec<u8>,
    /// For the head of a request whose body is to be read straight into its own buffer.
    pub(super) head: Vec<u8>,
    /// What TLS made of it.
    pub(super) plain: Vec<u8>,
}

/// One connection of a driver.
pub(super) struct Connection {
    stream: TcpStream,
    /// None behind a Unix socket.
    peer: Option<SocketAddr>,
    /// What it speaks; what its port is for until that is known.
    kind: Kind,
    /// Whether it is in the books: as open, and as opened once it is known what it speaks.
    is_counted: bool,
    tls: Option<Box<Tls>>,
    protocols: Arc<Protocols>,
    mailbox: Mailbox,
    /// Once it is known.
    exchange: Option<Box<dyn Exchange>>,
    /// Before it is known.
    undecided: Undecided,
    /// What the poller watches for.
    pub(super) interest: Interest,
    pub(super) entry: Entry,
    /// Whether it is in the driver's list of connections to be flushed at the end of the turn.
    pub(super) touched: bool,
}

/// A connection whose protocol is not known yet.
struct Undecided {
    seen: Vec<u8>,
    until: Instant,
    over: bool,
}

impl Connection {
    pub(super) fn new(
        (stream, peer): (TcpStream, Option<SocketAddr>),
        kind: Kind,
        tls: Option<&Acceptor>,
        protocols: &Arc<Protocols>,
        mailbox: Mailbox,
        now: Instant,
    ) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        if peer.is_some() {
            stream.set_nodelay(true)?;
            let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
            socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        }
        let tls = match tls {
            Some(acceptor) => Some(Box::new(Tls::new(acceptor.accept(now).map_err(io::Error::other)?))),
            None => None,
        };
        let until = now + if tls.is_some() { HANDSHAKE_TIMEOUT } else { protocols.undecided_timeout() };
        let mut connection = Connection {
            stream,
            peer,
            kind,
            is_counted: false,
            tls,
            protocols: Arc::clone(protocols),
            mailbox,
            exchange: None,
            undecided: Undecided { seen: Vec::new(), until, over: false },
            interest: Interest { read: true, write: false },
            entry: Entry::default(),
            touched: false,
        };
        if connection.tls.is_none() && !protocols.has_both() {
            connection.decide(true, now);
        }
        Ok(connection)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        fd(&self.stream)
    }

    /// Takes it into the books, until it is dropped.
    pub(super) fn count(&mut self) {
        self.is_counted = true;
        if let Some(metrics) = self.protocols.metrics(self.kind) {
            metrics.connections.add(1);
            if self.exchange.is_some() {
                metrics.connections_opened.increment();
            }
        }
    }

    fn uncount(&self) {
        if let Some(metrics) = self.protocols.metrics(self.kind).filter(|_| self.is_counted) {
            metrics.connections.sub(1);
        }
    }

    /// The socket is ready.
    pub(super) fn ready(&mut self, ready: Ready, buffers: &mut Buffers, now: Instant) {
        if ready.readable || ready.broken {
            self.read(buffers, now);
        }
        // A broken connection is reported again and again; where reading did not find it out, it must end here.
        if ready.broken && !self.is_over() && !self.wants_read() {
            self.broken();
        }
    }

    /// Reads until the socket is empty, the budget is used up, there are answers or the protocol wants no more.
    ///
    /// A read that fills less than its buffer has emptied the socket: no second one that finds nothing. What comes in the
    /// meantime is reported again, since the poller is level-triggered.
    pub(super) fn read(&mut self, buffers: &mut Buffers, now: Instant) {
        let mut budget = READ_BYTES_PER_TURN;
        while self.wants_read() && budget > 0 {
            let large = self.tls.is_none() && self.exchange.as_ref().is_some_and(|exchange| exchange.expects_large());
            let direct = match &mut self.exchange {
                Some(exchange) if self.tls.is_none() => exchange.direct(),
                _ => None,
            };
            let (read, room) = match direct {
                Some(body) => {
                    let room = body.capacity() - body.len();
                    let read = rustix::io::read(&self.stream, spare_capacity(body));
                    if let (Ok(bytes @ 1..), Some(exchange)) = (read, &mut self.exchange) {
                        exchange.received(bytes, now);
                        if exchange.direct().is_none() {
                            // A whole body: whoever sent it waits for its answer, most likely.
                            return;
                        }
                    }
                    (read, room)
                }
                None if large => {
                    buffers.head.clear();
                    let read = rustix::io::read(&self.stream, spare_capacity(&mut buffers.head));
                    let room = buffers.head.capacity();
                    if let (Ok(1..), Some(exchange)) = (read, &mut self.exchange) {
                        exchange.receive(&mut buffers.head, now);
                    }
                    (read, room)
                }
                None => {
                    buffers.socket.clear();
                    let read = rustix::io::read(&self.stream, spare_capacity(&mut buffers.socket));
                    // The protocol may put another buffer in its place.
                    let room = buffers.socket.capacity();
                    if let Ok(1..) = read {
                        self.received(buffers, now);
                    }
                    (read, room)
                }
            };
            match read.map_err(io::Error::from) {
                Ok(0) => return self.closed_by_peer(now),
                // Where there are answers already, the sender goes on with them while the rest is read.
                Ok(bytes) if bytes < room || self.has_answers() => return,
                Ok(bytes) => budget = budget.saturating_sub(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.broken(),
            }
        }
    }

    /// Takes what was read into the socket's buffer.
    fn received(&mut self, buffers: &mut Buffers, now: Instant) {
        let Some(tls) = &mut self.tls else { return self.receive(&mut buffers.socket, now) };
        buffers.plain.clear();
        let result = tls.receive(&buffers.socket, &mut buffers.plain);
        if self.exchange.is_none() && !tls.is_handshaking() {
            match tls.alpn() {
                Some(protocol) => {
                    let http2 = protocol == b"h2";
                    self.decide(http2, now);
                }
                None if !self.protocols.has_both() => self.decide(true, now),
                None => {}
            }
        }
        if !buffers.plain.is_empty() {
            self.receive(&mut buffers.plain, now);
        }
        if let Err(error) = result {
            log::debug!("the connection of {:?} ends, TLS: {error}", self.peer);
            // The alert says why.
            if let Some(tls) = &mut self.tls {
                let _ = tls.flush(&self.stream);
            }
            self.broken();
        }
    }

    /// Takes plain text.
    fn receive(&mut self, bytes: &mut Vec<u8>, now: Instant) {
        if let Some(exchange) = &mut self.exchange {
            return exchange.receive(bytes, now);
        }
        let Undecided { seen, until, .. } = &mut self.undecided;
        if seen.is_empty() {
            *until = now + HANDSHAKE_TIMEOUT;
        } else {
            seen.append(bytes);
            std::mem::swap(seen, bytes);
        }
        let length = bytes.len().min(PREFACE.len());
        match bytes[..length] == PREFACE[..length] {
            true if length < PREFACE.len() => *seen = bytes.clone(),
            http2 => {
                self.decide(http2, now);
                if let Some(exchange) = &mut self.exchange {
                    exchange.receive(bytes, now);
                }
            }
        }
    }

    /// Goes on with the protocol that it is, or the only one there is.
    fn decide(&mut self, http2: bool, now: Instant) {
        let exchange = self.protocols.exchange(http2, self.kind, self.mailbox.clone(), self.peer, now);
        self.undecided.over = exchange.is_none();
        self.undecided.seen = Vec::new();
        let Some((spoken, exchange)) = exchange else { return };
        self.exchange = Some(exchange);
        self.uncount();
        self.kind = spoken;
        if self.is_counted {
            self.count();
        }
    }

    fn closed_by_peer(&mut self, now: Instant) {
        match &mut self.exchange {
            Some(exchange) => exchange.closed_by_peer(now),
            None => self.undecided.over = true,
        }
    }

    fn broken(&mut self) {
        match &mut self.exchange {
            Some(exchange) => exchange.broken(),
            None => self.undecided.over = true,
        }
    }

    fn is_over(&self) -> bool {
        self.exchange.as_ref().map_or(self.undecided.over, |exchange| exchange.is_over())
    }

    fn wants_read(&self) -> bool {
        self.exchange.as_ref().map_or(!self.undecided.over, |exchange| exchange.wants_read())
    }

    fn has_answers(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.has_answers())
    }

    /// What became of a request.
    pub(super) fn answered(&mut self, request: u64, outcome: Outcome, now: Instant) {
        if let Some(exchange) = &mut self.exchange {
            exchange.answered(request, outcome, now);
        }
    }

    /// Its deadline came.
    pub(super) fn on_time(&mut self, now: Instant) {
        match &mut self.exchange {
            Some(exchange) => exchange.on_time(now),
            None => self.undecided.over |= self.undecided.until <= now,
        }
    }

    /// Stops taking requests; answers the one that is there already.
    pub(super) fn drain(&mut self, buffers: &mut Buffers, now: Instant) {
        self.read(buffers, now);
        match &mut self.exchange {
            Some(exchange) => exchange.drain(now),
            None => self.undecided.over = true,
        }
    }

    /// Answers all that is open with "come again" and ends.
    pub(super) fn give_up(&mut self, now: Instant, wall: Wall<'_>) {
        if let Some(exchange) = &mut self.exchange {
            exchange.give_up(now, wall);
        }
    }

    /// Writes what is due, all of a turn's answers at once. False when the connection is over.
    pub(super) fn flush(&mut self, now: Instant, wall: Wall<'_>) -> bool {
        let written = match (&mut self.tls, &mut self.exchange) {
            (None, None) => Ok(()),
            (None, Some(exchange)) => flush_plain(&self.stream, &mut **exchange, now, wall),
            (Some(tls), None) => tls.flush(&self.stream).map(|_| ()),
            (Some(tls), Some(exchange)) => flush_tls(&self.stream, tls, &mut **exchange, now, wall),
        };
        if written.is_err() {
            self.broken();
        }
        if self.exchange.as_mut().is_some_and(|exchange| exchange.closes(now)) {
            if let Some(tls) = &mut self.tls {
                tls.close(&self.stream);
            }
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        !self.is_over()
    }

    /// What the poller is to watch for now.
    pub(super) fn wanted(&self) -> Interest {
        let encrypted = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let output = self.exchange.as_ref().is_some_and(|exchange| !exchange.output().is_empty());
        Interest { read: self.wants_read(), write: encrypted || output }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.exchange.as_ref().map_or(Some(self.undecided.until), |exchange| exchange.deadline())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.uncount();
        // One that never said what it speaks is its port's.
        let metrics = self.protocols.metrics(self.kind).filter(|_| self.is_counted && self.exchange.is_none());
        if let Some(metrics) = metrics {
            metrics.connections_opened.increment();
        }
    }
}

fn flush_plain(mut stream: &TcpStream, exchange: &mut dyn Exchange, now: Instant, wall: Wall<'_>) -> io::Result<()> {
    exchange.advance(now, wall);
    while !exchange.output().is_empty() && !exchange.is_over() {
        match stream.write(exchange.output()) {
            Ok(bytes) => {
                let all = bytes == exchange.output().len();
                exchange.written(bytes, now);
                if !all {
                    break;
                }
                exchange.advance(now, wall);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                exchange.written(0, now);
                break;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is encrypted counts as written when it has left: until then the sender is one that does not read.
fn flush_tls(
    stream: &TcpStream,
    tls: &mut Tls,
    exchange: &mut dyn Exchange,
    now: Instant,
    wall: Wall<'_>,
) -> io::Result<()> {
    loop {
        if !tls.flush(stream)? {
            if tls.pending > 0 {
                exchange.written(0, now);
            }
            return Ok(());
        }
        if tls.pending > 0 {
            exchange.written(std::mem::take(&mut tls.pending), now);
        }
        exchange.advance(now, wall);
        if exchange.output().is_empty() || exchange.is_over() {
            return Ok(());
        }
        tls.encrypt(exchange.output());
        if tls.pending == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
}
