//! The receiver's threads: each waits in one call for its connections, its inbox and its timers.
//!
//! | file            | purpose                                                                     |
//! |-----------------|-----------------------------------------------------------------------------|
//! | `poll.rs`       | waiting until a socket is ready; being woken                                |
//! | `inbox.rs`      | what comes from other threads                                               |
//! | `timers.rs`     | when connections want to be looked at again                                 |
//! | `connection.rs` | a socket and its session                                                    |
//! | `accept.rs`     | the listener, and what it does when the process has no descriptors left     |
//!
//! A turn: wait; read from what is ready; take the inbox; do what is due; then flush every connection that was touched,
//! once, so that all answers of a turn leave in one write.

pub(crate) mod accept;
mod connection;
pub(crate) mod inbox;
pub(crate) mod poll;
mod timers;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use otlp_core::{Clock, Deadline};
use parking_lot::Mutex;

use self::accept::Acceptor;
use self::connection::Connection;
use self::inbox::{Inbox, Mailbox, Message};
use self::poll::{Poller, Ready};
use self::timers::Timers;
use crate::Env;
use crate::http::service::Service;
use crate::receiver::RESTART;

/// The key under which the listener is registered.
const LISTENER: u64 = u64::MAX - 1;
/// The read buffer that all connections of a driver use in turn.
const BUFFER_BYTES: usize = 64 << 10;

/// The part of a driver that other threads see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Arc<Inbox>,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn new() -> io::Result<Shared> {
        Ok(Shared { inbox: Arc::new(Inbox::new(poll::waker()?)), trouble: Mutex::new(None) })
    }

    /// Asks the driver to answer what is open until the deadline, and to end.
    pub(crate) fn drain(&self, deadline: Deadline) {
        self.inbox.post(Message::Drain(deadline));
    }

    /// What is wrong with it, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }
}

/// One thread's connections.
pub(crate) struct Driver {
    index: usize,
    shared: Arc<Shared>,
    service: Arc<Service>,
    clock: Clock,
    acceptor: Option<Acceptor>,
    drain: Option<Deadline>,
    /// Of the last life, so that a key of before a restart means no connection of after it.
    generation: u64,
}

/// What a driver has while it runs; lost when it ends by a panic.
struct Turn<'a> {
    driver: &'a mut Driver,
    poller: poll::System,
    connections: Slab,
    timers: Timers,
    touched: Vec<u64>,
    buffer: Vec<u8>,
    now: Instant,
    draining: bool,
}

impl Driver {
    /// `peers` are all drivers of the receiver, this one among them; the one that gets the listener deals out connections.
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        peers: Vec<Arc<Shared>>,
        service: Arc<Service>,
        listener: Option<TcpListener>,
        env: &Env,
    ) -> Driver {
        let acceptor = listener.map(|listener| Acceptor::new(listener, peers, service.config.max_connections));
        Driver { index, shared, service, clock: env.clock.clone(), acceptor, drain: None, generation: 0 }
    }

    /// Runs until it is drained. A panic costs this driver's connections; then it starts again, after a pause.
    pub(crate) fn supervise(mut self) {
        let mut pause = RESTART.0;
        loop {
            let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
            let trouble = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("rx-{} cannot wait for its sockets: {error}", self.index),
                Err(_) => format!("rx-{} ended by a panic", self.index),
            };
            log::error!("{trouble}; its connections are lost, it starts again in {pause:?}");
            self.shared.set_trouble(Some(trouble));
            std::thread::sleep(pause);
            pause = (pause * 2).min(RESTART.1);
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut poller = poll::new()?;
        poller.add_waker(self.shared.inbox.waker())?;
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.register(&mut poller, LISTENER)?;
        }
        self.generation += 1 << 32;
        let connections = Slab::new(self.generation);
        let now = self.clock.now();
        let mut turn = Turn {
            poller,
            connections,
            timers: Timers::default(),
            touched: Vec::new(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            now,
            draining: false,
            driver: self,
        };
        let result = turn.run();
        let (generation, open) = (turn.connections.generation, turn.connections.len());
        turn.driver.service.metrics.connections.sub(open as u64);
        turn.driver.generation = generation;
        result
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // After a panic: what `run` would have done.
        if std::thread::panicking() {
            self.driver.service.metrics.connections.sub(self.connections.len() as u64);
            self.driver.generation = self.connections.generation;
        }
    }
}

impl Turn<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            ready.clear();
            if self.driver.shared.inbox.sleep() {
                let timeout = self.next().map(|at| at.saturating_duration_since(self.driver.clock.now()));
                self.poller.wait(timeout, &mut ready)?;
                self.driver.shared.inbox.awake();
            }
            self.now = self.driver.clock.now();
            for &event in &ready {
                self.ready(event);
            }
            while let Some(message) = self.driver.shared.inbox.take() {
                self.message(message);
            }
            self.on_time();
            self.flush();
            if self.draining && self.finish() {
                return Ok(());
            }
        }
    }

    /// When it has to wake at the latest.
    fn next(&self) -> Option<Instant> {
        let drain = self.driver.drain.and_then(Deadline::instant).filter(|_| self.draining);
        let resume = self.driver.acceptor.as_ref().and_then(Acceptor::resume_at);
        [self.timers.next(), drain, resume].into_iter().flatten().min()
    }

    fn ready(&mut self, ready: Ready) {
        if ready.key == LISTENER {
            return self.accept();
        }
        if let Some(connection) = self.connections.get(ready.key) {
            connection.ready(ready, &mut self.buffer, self.now);
            self.touch(ready.key);
        }
    }

    fn accept(&mut self) {
        let Some(acceptor) = &mut self.driver.acceptor else { return };
        let (index, open) = (self.driver.index, self.driver.service.metrics.connections.get());
        let own = acceptor.accept(&mut self.poller, LISTENER, index, open, self.now, &self.driver.shared);
        for (stream, peer) in own {
            self.add(stream, peer);
        }
    }

    fn add(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.draining {
            return;
        }
        let service = Arc::clone(&self.driver.service);
        let key = self.connections.next_key();
        let mailbox = Mailbox::new(Arc::clone(&self.driver.shared.inbox), key);
        // A socket that fails here was closed by its peer already.
        let Ok(connection) = Connection::new(stream, peer, &service, mailbox, self.now) else { return };
        if let Err(error) = self.poller.add(connection.fd(), key, connection.interest) {
            log::warn!("cannot watch the connection of {peer}: {error}");
            return;
        }
        self.connections.insert(connection);
        service.metrics.connections.add(1);
        service.metrics.connections_opened.increment();
        // Its first request has mostly arrived already.
        if let Some(connection) = self.connections.get(key) {
            connection.read(&mut self.buffer, self.now);
        }
        self.touch(key);
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Connection(stream, peer) => self.add(stream, peer),
            Message::Answered { connection: key, request, outcome } => {
                if let Some(connection) = self.connections.get(key) {
                    connection.answered(request, outcome, self.now);
                    self.touch(key);
                }
            }
            Message::Drain(deadline) => {
                let deadline = self.driver.drain.map_or(deadline, |before| before.min(deadline));
                self.driver.drain = Some(deadline);
            }
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
        if let Some(acceptor) = &mut self.driver.acceptor {
            acceptor.resume(&mut self.poller, LISTENER, self.now, &self.driver.shared);
        }
        if self.driver.drain.is_some() && !self.draining {
            self.begin_drain();
        }
    }

    fn begin_drain(&mut self) {
        self.draining = true;
        if let Some(acceptor) = self.driver.acceptor.take() {
            acceptor.close(&mut self.poller, LISTENER);
        }
        for key in self.connections.keys() {
            if let Some(connection) = self.connections.get(key) {
                connection.drain(&mut self.buffer, self.now);
                self.touch(key);
            }
        }
    }

    /// Whether all is answered, or the deadline came: then what is open is answered "come again".
    fn finish(&mut self) -> bool {
        if self.connections.len() > 0 && self.driver.drain.is_some_and(|deadline| deadline.passed(self.now)) {
            for key in self.connections.keys() {
                let clock = self.driver.clock.clone();
                if let Some(connection) = self.connections.get(key) {
                    connection.give_up(self.now, || clock.wall());
                    connection.flush(self.now, || clock.wall());
                }
                self.remove(key);
            }
        }
        self.connections.len() == 0
    }

    fn touch(&mut self, key: u64) {
        if let Some(connection) = self.connections.get(key) {
            if !std::mem::replace(&mut connection.touched, true) {
                self.touched.push(key);
            }
        }
    }

    fn flush(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            let clock = &self.driver.clock;
            let Some(connection) = self.connections.get(key) else { continue };
            connection.touched = false;
            let mut open = connection.flush(self.now, || clock.wall());
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
            self.driver.service.metrics.connections.sub(1);
        }
    }
}

/// Connections by a key that is never used twice: the upper half counts, the lower half is the place.
struct Slab {
    entries: Vec<Option<(u64, Connection)>>,
    free: Vec<usize>,
    generation: u64,
    len: usize,
}

impl Slab {
    fn new(generation: u64) -> Slab {
        Slab { entries: Vec::new(), free: Vec::new(), generation, len: 0 }
    }

    fn len(&self) -> usize {
        self.len
    }

    /// The key that the next connection will have.
    fn next_key(&self) -> u64 {
        self.generation | self.free.last().copied().unwrap_or(self.entries.len()) as u64
    }

    fn insert(&mut self, connection: Connection) {
        let key = self.next_key();
        let place = self.free.pop().unwrap_or(self.entries.len());
        if place == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[place] = Some((key, connection));
        self.generation += 1 << 32;
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
