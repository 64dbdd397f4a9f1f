//! The receiver's threads: each waits in one call for its connections, its inbox and its timers.
//!
//! | file            | purpose                                                                     |
//! |-----------------|-----------------------------------------------------------------------------|
//! | `poll.rs`       | waiting until a socket is ready; being woken                                |
//! | `inbox.rs`      | what comes from other threads                                               |
//! | `timers.rs`     | when connections want to be looked at again                                 |
//! | `exchange.rs`   | what is asked of a protocol                                                 |
//! | `connection.rs` | a socket and its protocol                                                   |
//! | `tls.rs`        | TLS between them                                                            |
//! | `accept.rs`     | a listener, and  what it does when the process has no descriptors left     |
//!
//! A turn: wait; read from what is ready, guests' sockets included; take the inbox; do what is due; then flush every connection that was touched,
//! once, so that all answers of a turn leave in one write.

pub(crate) mod accept;
mod connection;
pub(crate) mod exchange;
pub(crate) mod inbox;
pub(crate) mod poll;
#[cfg(test)]
pub(crate) mod stepped;
mod timers;
mod tls;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};

use otlp_core::component::Guest;
use otlp_core::{Clock, Deadline};
use parking_lot::Mutex;

use self::accept::Acceptor;
use self::connection::{Buffers, Connection};
use self::exchange::Exchange;
use self::inbox::{Inbox, Mailbox, Message};
use self::poll::{Interest, Poller, Ready};
use self::timers::Timers;
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::{grpc, http, tls as certificates};

/// The key under which the first listener is registered; the others are below.
const LISTENER: u64 = u64::MAX - 1;
/// The key under which the first guest is registered; the others are below, and connections far below those.
const GUEST: u64 = u64::MAX - (1 << 16);
/// The read buffer that all connections of a driver use in turn.
const BUFFER_BYTES: usize = 64 << 10;
/// The same for a head before a large body: most heads fit, and little of the body comes with it.
const HEAD_BYTES: usize = 1 << 10;

/// The part of a driver that other threads see, and that outlives a panic.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Arc<Inbox>,
    /// Counts connections in its upper half, so that no key is used twice.
    generation: AtomicU64,
    drain: Mutex<Option<Deadline>>,
    trouble: Mutex<Option<String>>,
}

/// What a port is for. Both protocols are understood on either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

/// A port that is listened on.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) kind: Kind,
    pub(crate) tls: Option<certificates::Acceptor>,
}

/// What the connections of a receiver may speak.
#[derive(Debug)]
pub(crate) struct Protocols {
    pub(crate) grpc: Option<Arc<grpc::service::Service>>,
    pub(crate) http: Option<Arc<http::service::Service>>,
    pub(crate) connections_max: usize,
}

/// What a driver's life is made of, again after a panic.
pub(crate) struct Driver {
    /// Its number among `peers`.
    pub(crate) index: usize,
    /// All drivers of the receiver.
    pub(crate) peers: Vec<Arc<Shared>>,
    pub(crate) ports: Arc<[Port]>,
    /// In one driver only, in the order of the ports: it deals out connections to all.
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) protocols: Arc<Protocols>,
    /// In one driver only: what it looks after beside its connections.
    pub(crate) guests: Vec<Arc<dyn Guest>>,
    pub(crate) clock: Clock,
}

/// A driver's life: what is lost, with its connections, when it ends by a panic.
struct Life {
    index: usize,
    shared: Arc<Shared>,
    ports: Arc<[Port]>,
    protocols: Arc<Protocols>,
    clock: Clock,
    /// Those that have no other host, by the order of their keys.
    guests: Vec<Hosted>,
    /// In the order of the ports.
    acceptors: Vec<Acceptor>,
    poller: poll::System,
    connections: Slab,
    timers: Timers,
    touched: Vec<u64>,
    buffers: Buffers,
    now: Instant,
    /// Once it is stopping: the deadline.
    draining: Option<Deadline>,
}

/// A guest of this driver's, until this is dropped.
struct Hosted(Arc<dyn Guest>);

impl Drop for Hosted {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Shared {
    pub(crate) fn new() -> io::Result<Shared> {
        Ok(Shared {
            inbox: Arc::new(Inbox::new(poll::waker()?)),
            generation: AtomicU64::new(0),
            drain: Mutex::new(None),
            trouble: Mutex::new(None),
        })
    }

    /// Asks the driver to answer what is open until the deadline, and to end.
    pub(crate) fn drain(&self, deadline: Deadline) {
        *self.drain.lock() = Some(deadline);
        self.inbox.post(Message::Drain);
    }

    /// What is wrong with it, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }
}

impl Protocols {
    /// Whether the first bytes of a connection decide.
    fn has_both(&self) -> bool {
        self.grpc.is_some() && self.http.is_some()
    }

    /// How long a connection may say nothing at all.
    fn undecided_timeout(&self) -> Duration {
        self.http.as_ref().map_or(http::Config::IDLE_TIMEOUT, |http| http.config.idle_timeout)
    }

    /// What is measured of a port's connections.
    fn metrics(&self, kind: Kind) -> Option<&Metrics> {
        match kind {
            Kind::Grpc => self.grpc.as_ref().map(|grpc| &grpc.intake.metrics),
            Kind::Http => self.http.as_ref().map(|http| &http.intake.metrics),
        }
    }

    /// Connections that are open.
    fn open(&self) -> u64 {
        [Kind::Grpc, Kind::Http]
            .into_iter()
            .filter_map(|kind| self.metrics(kind))
            .map(|own| own.connections.get())
            .sum()
    }

    /// Begins to speak: HTTP/2 or HTTP/1.1 as the client does, where we may, else what we may.
    fn exchange(
        &self,
        http2: bool,
        kind: Kind,
        mailbox: Mailbox,
        peer: Option<SocketAddr>,
        now: Instant,
    ) -> Option<(Kind, Box<dyn Exchange>)> {
        // Who may send is decided by the port: the other protocol is no way around it.
        let auth = match kind {
            Kind::Grpc => self.grpc.as_ref().and_then(|grpc| grpc.config.auth.clone()),
            Kind::Http => self.http.as_ref().and_then(|http| http.config.auth.clone()),
        };
        match (&self.grpc, &self.http) {
            (Some(grpc), http) if http2 || http.is_none() => {
                let session = grpc::session::Session::new(Arc::clone(grpc), mailbox, peer, now).with_auth(auth);
                Some((Kind::Grpc, Box::new(session)))
            }
            (_, Some(http)) => {
                let session = http::session::Session::new(Arc::clone(http), mailbox, peer, now).with_auth(auth);
                // NET-07: what is lost on the other protocol's port goes away with its answer.
                let session = if kind == Kind::Grpc { session.ends_with_errors() } else { session };
                Some((Kind::Http, Box::new(session)))
            }
            (_, None) => None,
        }
    }
}

impl Driver {
    /// Runs until it is drained.
    ///
    /// # Panics
    ///
    /// Where the system does not let it wait for its sockets: then its supervisor begins another life after a pause.
    pub(crate) fn live(self) {
        let index = self.index;
        if let Err(error) = Life::begin(self).and_then(|mut life| life.run()) {
            panic!("rx-{index} cannot wait for its sockets: {error}");
        }
    }
}

impl Life {
    fn begin(driver: Driver) -> io::Result<Life> {
        let Driver { index, peers, ports, listeners, protocols, guests, clock } = driver;
        let shared = Arc::clone(&peers[index]);
        let mut poller = poll::new()?;
        poller.add_waker(shared.inbox.waker())?;
        let limit = protocols.connections_max;
        let mut acceptors = Vec::new();
        for (port, listener) in listeners.into_iter().enumerate() {
            let mut acceptor = Acceptor::new(listener, port, peers.clone(), limit);
            acceptor.register(&mut poller, LISTENER - port as u64)?;
            acceptors.push(acceptor);
        }
        let mut hosted = Vec::new();
        for guest in guests.into_iter().filter(|guest| guest.adopt()).map(Hosted) {
            let key = GUEST - hosted.len() as u64;
            poller.add(guest.0.source(), key, Interest { read: true, write: false })?;
            hosted.push(guest);
        }
        Ok(Life {
            index,
            guests: hosted,
            acceptors,
            poller,
            connections: Slab::default(),
            timers: Timers::default(),
            touched: Vec::new(),
            buffers: Buffers {
                socket: Vec::with_capacity(BUFFER_BYTES),
                head: Vec::with_capacity(HEAD_BYTES),
                plain: Vec::new(),
            },
            now: clock.now(),
            draining: None,
            shared,
            ports,
            protocols,
            clock,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        self.shared.inbox.adopt();
        // A deadline may have been set in the life before.
        self.check_drain();
        loop {
            ready.clear();
            if self.shared.inbox.sleep() {
                let timeout = self.next().map(|at| at.saturating_duration_since(self.clock.now()));
                self.poller.wait(timeout, &mut ready)?;
                self.shared.inbox.awake();
            }
            self.now = self.clock.now();
            for &event in &ready {
                self.ready(event);
            }
            while let Some(message) = self.shared.inbox.take() {
                self.message(message);
            }
            self.on_time();
            self.flush();
            if self.finish() {
                return Ok(());
            }
        }
    }

    /// When it has to wake at the latest.
    fn next(&self) -> Option<Instant> {
        let drain = self.draining.and_then(Deadline::instant);
        let resume = self.acceptors.iter().filter_map(Acceptor::resume_at).min();
        let guests = self.guests.iter().filter_map(|guest| guest.0.due()).min();
        [self.timers.next(), drain, resume, guests].into_iter().flatten().min()
    }

    fn ready(&mut self, ready: Ready) {
        let port = (LISTENER - ready.key.min(LISTENER)) as usize;
        if port < self.ports.len() {
            return self.accept(port);
        }
        if let Some(guest) = self.guests.get(GUEST.wrapping_sub(ready.key) as usize) {
            return guest.0.turn();
        }
        if let Some(connection) = self.connections.get(ready.key) {
            connection.ready(ready, &mut self.buffers, self.now);
            self.touch(ready.key);
        }
    }

    fn accept(&mut self, port: usize) {
        let Some(acceptor) = self.acceptors.get_mut(port) else { return };
        let (open, key) = (self.protocols.open(), LISTENER - port as u64);
        let own = acceptor.accept(&mut self.poller, key, self.index, open, self.now, &self.shared);
        for (stream, peer) in own {
            self.add(stream, peer, port);
        }
    }

    fn add(&mut self, stream: TcpStream, peer: Option<SocketAddr>, port: usize) {
        let Some(Port { kind, tls }) = self.ports.get(port).filter(|_| self.draining.is_none()) else { return };
        let key = self.connections.next_key(&self.shared.generation);
        let mailbox = Mailbox::new(Arc::clone(&self.shared.inbox), key);
        // A socket that fails here was closed by its peer already.
        let made = Connection::new((stream, peer), *kind, tls.as_ref(), &self.protocols, mailbox, self.now);
        let Ok(mut connection) = made else { return };
        if let Err(error) = self.poller.add(connection.fd(), key, connection.interest) {
            log::warn!("cannot watch the connection of {peer:?}: {error}");
            return;
        }
        connection.count();
        self.connections.insert(key, connection);
        // Its first request has mostly arrived already.
        if let Some(connection) = self.connections.get(key) {
            connection.read(&mut self.buffers, self.now);
        }
        self.touch(key);
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Connection { stream, peer, port } => self.add(stream, peer, port),
            Message::Answered { connection: key, request, outcome } => {
                if let Some(connection) = self.connections.get(key) {
                    connection.answered(request, outcome, self.now);
                    self.touch(key);
                }
            }
            Message::Drain => self.check_drain(),
        }
    }

    fn on_time(&mut self) {
        while let Some((at, key)) = self.timers.take(self.now) {
            let Some(connection) = self.connections.get(key) else { continue };
            if Timers::came_up(&mut connection.entry, at) {
                connection.on_time(self.now);
                self.touch(key);
            }
        }
        for guest in self.guests.iter().filter(|guest| guest.0.due().is_some_and(|due| due <= self.now)) {
            guest.0.turn();
        }
        for (port, acceptor) in self.acceptors.iter_mut().enumerate() {
            acceptor.resume(&mut self.poller, LISTENER - port as u64, self.now, &self.shared);
        }
    }

    fn check_drain(&mut self) {
        let asked = *self.shared.drain.lock();
        if self.draining.is_some() || asked.is_none() {
            return;
        }
        self.draining = asked;
        for (port, acceptor) in self.acceptors.drain(..).enumerate() {
            acceptor.close(&mut self.poller, LISTENER - port as u64);
        }
        for key in self.connections.keys() {
            if let Some(connection) = self.connections.get(key) {
                connection.drain(&mut self.buffers, self.now);
                self.touch(key);
            }
        }
    }

    /// Whether it is stopping and all is answered, or the deadline came: then what is open is answered "come again".
    fn finish(&mut self) -> bool {
        let Some(deadline) = self.draining else { return false };
        if self.connections.len > 0 && deadline.passed(self.now) {
            for key in self.connections.keys() {
                if let Some(connection) = self.connections.get(key) {
                    connection.give_up(self.now, &|| self.clock.wall());
                    connection.flush(self.now, &|| self.clock.wall());
                }
                self.remove(key);
            }
        }
        self.connections.len == 0
    }

    fn touch(&mut self, key: u64) {
        if let Some(connection) = self.connections.get(key)
            && !std::mem::replace(&mut connection.touched, true)
        {
            self.touched.push(key);
        }
    }

    fn flush(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            let Some(connection) = self.connections.get(key) else { continue };
            connection.touched = false;
            let mut open = connection.flush(self.now, &|| self.clock.wall());
            let wanted = connection.wanted();
            if open && wanted != connection.interest {
                connection.interest = wanted;
                open = self.poller.modify(connection.fd(), key, wanted).is_ok();
            }
            if open {
                let deadline = connection.deadline();
                self.timers.set(key, &mut connection.entry, deadline);
            } else {
                self.remove(key);
            }
        }
        self.touched = touched;
    }

    fn remove(&mut self, key: u64) {
        if let Some(connection) = self.connections.remove(key) {
            self.poller.remove(connection.fd(), key);
        }
    }
}

/// Connections by a key that is never used twice: the upper half counts, the lower half is the place.
#[derive(Default)]
struct Slab {
    entries: Vec<Option<(u64, Connection)>>,
    free: Vec<usize>,
    len: usize,
}

impl Slab {
    /// A key for the next connection.
    fn next_key(&self, generation: &AtomicU64) -> u64 {
        let place = self.free.last().copied().unwrap_or(self.entries.len());
        generation.fetch_add(1 << 32, Ordering::Relaxed) | place as u64
    }

    fn insert(&mut self, key: u64, connection: Connection) {
        let place = self.free.pop().unwrap_or(self.entries.len());
        debug_assert_eq!(place, key as u32 as usize, "the key is that of the next place");
        if place == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[place] = Some((key, connection));
        self.len += 1;
    }

    fn get(&mut self, key: u64) -> Option<&mut Connection> {
        match self.entries.get_mut(key as u32 as usize) {
            Some(Some((own, connection))) if *own == key => Some(connection),
            _ => None,
        }
    }

    fn remove(&mut self, key: u64) -> Option<Connection> {
        let place = key as u32 as usize;
        let entry = self.entries.get_mut(place)?.take_if(|(own, _)| *own == key)?;
        self.free.push(place);
        self.len -= 1;
        Some(entry.1)
    }

    fn keys(&self) -> Vec<u64> {
        self.entries.iter().flatten().map(|(key, _)| *key).collect()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver(rx-{})", self.index)
    }
}
