//! Connections that are waited for together: requests that whoever hands over writes himself, and their answers.
//!
//! # What it does
//!
//! Writes a request over a connection that is open and idle, as far as the socket takes it, and goes on when the answer
//! comes: no thread waits for a single request. Connections are not made here: they come from [`super::plain`], which a
//! worker has waited for, and stay.
//!
//! Invariants:
//!
//! - Whoever begins never waits, neither for a socket nor for a lock that is held while anybody waits.
//! - What was begun lands once: with an answer, or with the reason why there is none.
//! - While anything flies there is a driver: the host, or a thread of the lane's own.
//! - A connection is idle, or one request is under way over it; one that is closed is in no list any more.
//!
//! # Threads
//!
//! `tx-http`, where no host looks after the lane; started when something flies and ended when nothing did for a while.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use otlp_core::component::Guest;
use otlp_core::thread::{Thread, ThreadOptions, catch_panic};
use otlp_core::{Deadline, Group, Reason};
use parking_lot::Mutex;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use smallvec::SmallVec;

use super::answer::Answer;
use super::read::{AnswerReader, Progress};
use super::transport::{Broken, slices};

/// The key of the descriptor that wakes the driver.
const WAKER: u64 = u64::MAX;

/// Answers taken in one turn, before the host sees to its own again.
const EVENTS: usize = 64;

/// A thread of the lane's own ends when nothing flew for this long.
const IDLE: Duration = Duration::from_secs(10);

/// A connection unused for longer than this is asked whether it is still open before it is used.
const TRUSTED: Duration = Duration::from_millis(500);

/// Hears what became of a request.
pub(super) type Landed = Box<dyn FnOnce(Group, Result<Answer, Broken>) + Send>;

/// A request on its way.
pub(super) struct Flight {
    /// Head and body.
    parts: SmallVec<[Bytes; 2]>,
    written: usize,
    reader: AnswerReader,
    deadline: Deadline,
    group: Group,
    landed: Landed,
    /// Why the rest cannot be written; the answer may be there all the same.
    unsent: Option<io::Error>,
}

/// The connections to one server.
pub(super) struct Lane {
    inner: Arc<Inner>,
}

/// The lane as its host sees it.
struct Hosted(Arc<Inner>);

struct Inner {
    epoll: OwnedFd,
    waker: OwnedFd,
    idle_max: usize,
    idle_timeout: Option<Duration>,
    /// What times are counted from.
    base: Instant,
    /// No flight has to end before this, in nanoseconds from `base`.
    earliest_ns: AtomicU64,
    flying: AtomicUsize,
    /// Threads that call [`Inner::turn`].
    drivers: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    hosted: bool,
    thread: Option<Thread>,
    entries: Vec<Option<Arc<Entry>>>,
    vacant: Vec<usize>,
    /// Idle since, the newest last.
    idle: VecDeque<(Instant, Arc<Entry>)>,
    /// Over which a request was begun last.
    latest: Option<Arc<Entry>>,
    used: u64,
}

struct Entry {
    /// Its place below, a number that is not used twice above.
    key: u64,
    stream: Arc<TcpStream>,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    flight: Option<Box<Flight>>,
    /// In no list any more.
    dead: bool,
}

/// What has to be told once no lock is held.
struct Landing {
    flight: Box<Flight>,
    result: Result<Answer, Broken>,
}

impl Flight {
    pub(super) fn new(parts: SmallVec<[Bytes; 2]>, group: Group, deadline: Deadline, landed: Landed) -> Box<Flight> {
        let reader = AnswerReader::default();
        Box::new(Flight { parts, written: 0, reader, deadline, group, landed, unsent: None })
    }

    /// Says that it was not sent, or not whole.
    pub(super) fn not_sent(self: Box<Self>) {
        let broken = Broken { stale: true, ..Broken::new(Reason::CONNECTION, "no connection is open") };
        let Flight { group, landed, .. } = *self;
        landed(group, Err(broken));
    }

    /// Writes as much as the socket takes; false where more is to be written later.
    fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        let parts: SmallVec<[&[u8]; 4]> = self.parts.iter().map(|part| &part[..]).collect();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        while self.written < total {
            let slices = slices(&parts, self.written);
            // At most what one call takes.
            let slices = &slices[..slices.len().min(1024)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn is_written(&self) -> bool {
        self.unsent.is_some() || self.written == self.parts.iter().map(Bytes::len).sum::<usize>()
    }

    /// Reads what is there; the answer once it is complete, and whether the connection may be used again.
    fn read(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> Option<(Result<(), Broken>, bool)> {
        loop {
            let began = self.reader.has_begun();
            let (progress, all) = match recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => (self.reader.end(), false),
                Ok((_, count)) => (self.reader.take(&buffer[..count]), count < buffer.len()),
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    let error = error.into();
                    let cause = self.unsent.as_ref().filter(|_| !began).unwrap_or(&error);
                    return Some((Err(Broken { stale: !began, ..Broken::io("cannot read the answer", cause) }), false));
                }
            };
            let broken = |reason, message: &str| Broken::new(reason, message);
            let result = match progress {
                Progress::More if all => return None,
                Progress::More => continue,
                Progress::Done { keep } => return Some((Ok(()), keep && self.is_written() && self.unsent.is_none())),
                Progress::Cut if !began => {
                    let broken = broken(Reason::CONNECTION, "the connection was closed without an answer");
                    Broken { stale: true, ..broken }
                }
                Progress::Cut => broken(Reason::CONNECTION, "the connection was closed within the answer"),
                Progress::Bad(what) => broken(Reason::BAD_ANSWER, what),
                Progress::Foreign => Broken::foreign(),
            };
            return Some((Err(result), false));
        }
    }

    fn land(mut self: Box<Self>, result: Result<(), Broken>) -> Landing {
        let reader = std::mem::take(&mut self.reader);
        Landing { flight: self, result: result.map(|()| reader.into_answer()) }
    }
}

impl Landing {
    fn tell(self) {
        let Flight { group, landed, .. } = *self.flight;
        if let Err(panic) = catch_panic(|| landed(group, self.result)) {
            log::error!("what followed an answer panicked: {panic}");
        }
    }
}

impl Lane {
    /// A lane without connections; starts no thread yet.
    pub(super) fn new(idle_max: usize, idle_timeout: Option<Duration>) -> io::Result<Lane> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered, so that it never has to be read.
        epoll::add(&epoll, &waker, EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET)?;
        let inner = Inner {
            epoll,
            waker,
            idle_max,
            idle_timeout,
            base: Instant::now(),
            earliest_ns: AtomicU64::new(u64::MAX),
            flying: AtomicUsize::new(0),
            drivers: AtomicUsize::new(0),
            state: Mutex::default(),
        };
        Ok(Lane { inner: Arc::new(inner) })
    }

    /// Begins a request over a connection that is idle here, or one that `other` has.
    ///
    /// # Errors
    ///
    /// It comes back where there is none. Part of it may have been written to one that turned out to be closed.
    pub(super) fn begin(
        &self,
        flight: Box<Flight>,
        other: impl FnOnce() -> Option<Arc<TcpStream>>,
    ) -> Result<(), Box<Flight>> {
        match self.inner.idle().or_else(|| self.inner.add(other()?)) {
            Some(entry) => Inner::begin(&self.inner, &entry, flight),
            None => Err(flight),
        }
    }

    pub(super) fn guest(&self) -> Arc<dyn Guest> {
        Arc::new(Hosted(Arc::clone(&self.inner)))
    }

    /// Ends all that flies and closes the connections. Nothing can be begun any more.
    pub(super) fn close(&self) {
        let (entries, thread) = {
            let mut state = self.inner.state.lock();
            state.closed = true;
            state.idle.clear();
            state.latest = None;
            (std::mem::take(&mut state.entries), state.thread.take())
        };
        let mut landings = Vec::new();
        for entry in entries.into_iter().flatten() {
            if let Some(flight) = self.inner.end(&entry, |_| true) {
                landings.push(flight.land(Err(Broken::new(Reason::CONNECTION, "stopped before the answer came"))));
            }
            self.inner.remove(&entry);
        }
        landings.into_iter().for_each(Landing::tell);
        self.inner.wake();
        // It may be that thread that lets go of the exporter last.
        if let Some(thread) = thread
            && std::thread::current().name() == Some(thread.name())
        {
            std::mem::forget(thread);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// The newest of those that are idle.
    fn idle(&self) -> Option<Arc<Entry>> {
        let now = Instant::now();
        loop {
            let mut over = Vec::new();
            let found = {
                let mut state = self.state.lock();
                while let Some((since, _)) = state.idle.front()
                    && self.idle_timeout.is_some_and(|limit| now.saturating_duration_since(*since) >= limit)
                {
                    over.extend(state.idle.pop_front());
                }
                state.idle.pop_back()
            };
            over.into_iter().for_each(|(_, entry)| self.remove(&entry));
            let (since, entry) = found?;
            if now.saturating_duration_since(since) < TRUSTED || entry.is_quiet() {
                return Some(entry);
            }
            self.remove(&entry);
        }
    }

    /// Takes in a connection.
    fn add(&self, stream: Arc<TcpStream>) -> Option<Arc<Entry>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let place = state.vacant.pop().unwrap_or(state.entries.len());
        state.used += 1;
        let key = (state.used << 32) | place as u64;
        let entry = Arc::new(Entry { key, stream, slot: Mutex::default() });
        if place == state.entries.len() {
            state.entries.push(None);
        }
        state.entries[place] = Some(Arc::clone(&entry));
        let added = epoll::add(&self.epoll, &entry.stream, EventData::new_u64(key), EventFlags::IN | EventFlags::RDHUP);
        drop(state);
        if let Err(error) = added {
            log::warn!("cannot watch a connection: {error}");
            self.remove(&entry);
            return None;
        }
        Some(entry)
    }

    fn begin(inner: &Arc<Inner>, entry: &Arc<Entry>, mut flight: Box<Flight>) -> Result<(), Box<Flight>> {
        let deadline = flight.deadline;
        {
            let mut slot = entry.slot.lock();
            if slot.dead {
                return Err(flight);
            }
            match flight.write(&entry.stream) {
                Ok(true) => {}
                Ok(false) => inner.watch(entry, EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT),
                Err(_) => {
                    // A server that closed the connection while it was idle, most likely. One that read a part of the
                    // request before has not got a whole one.
                    drop(slot);
                    inner.remove(entry);
                    flight.written = 0;
                    return Err(flight);
                }
            }
            inner.flying.fetch_add(1, Ordering::SeqCst);
            slot.flight = Some(flight);
        }
        inner.state.lock().latest = Some(Arc::clone(entry));
        if let Some(instant) = deadline.instant() {
            let ns = inner.ns(instant);
            if ns < inner.earliest_ns.fetch_min(ns, Ordering::SeqCst) {
                inner.wake();
            }
        }
        Inner::ensure_driver(inner);
        Ok(())
    }

    fn ns(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX - 1)
    }

    /// No flight has to end before this.
    fn due(&self) -> Option<Instant> {
        match self.earliest_ns.load(Ordering::SeqCst) {
            u64::MAX => None,
            ns => Some(self.base + Duration::from_nanos(ns)),
        }
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }

    fn watch(&self, entry: &Entry, flags: EventFlags) {
        let _ = epoll::modify(&self.epoll, &entry.stream, EventData::new_u64(entry.key), flags);
    }

    fn ensure_driver(inner: &Arc<Inner>) {
        if inner.drivers.load(Ordering::SeqCst) > 0 {
            return;
        }
        let mut state = inner.state.lock();
        if inner.drivers.load(Ordering::SeqCst) > 0 || state.closed {
            return;
        }
        let own = Arc::clone(inner);
        match Thread::spawn("tx-http", ThreadOptions::default(), move || Inner::drive(&own)) {
            Ok(thread) => {
                inner.drivers.fetch_add(1, Ordering::SeqCst);
                // The one before has ended, or is about to.
                if let Some(before) = state.thread.replace(thread).filter(|before| !before.is_finished()) {
                    std::mem::forget(before);
                }
            }
            Err(error) => log::error!("cannot start a thread that waits for answers: {error}"),
        }
    }

    /// The life of a thread of the lane's own.
    fn drive(inner: &Arc<Inner>) {
        loop {
            let now = Instant::now();
            let due = inner.due().map(|due| due.saturating_duration_since(now));
            let events = inner.turn_for(Some(due.unwrap_or(IDLE).min(IDLE)));
            let state = inner.state.lock();
            let idle = events == 0 && due.is_none_or(|due| due >= IDLE) && inner.flying.load(Ordering::SeqCst) == 0;
            if state.closed || state.hosted || idle {
                break;
            }
        }
        inner.drivers.fetch_sub(1, Ordering::SeqCst);
        // Whoever begins counts first and looks for a driver then: one of us sees the other.
        if inner.flying.load(Ordering::SeqCst) > 0 {
            Inner::ensure_driver(inner);
        }
    }

    fn turn_for(&self, timeout: Option<Duration>) -> usize {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let timeout = timeout.map(|time| Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, timeout.as_ref()) else { return 0 };
        let mut buffer = [0u8; 4 << 10];
        let mut landings: SmallVec<[Landing; 8]> = SmallVec::new();
        for event in &*events {
            let key = event.data.u64();
            if key == WAKER {
                continue;
            }
            let entry = self.state.lock().entries.get(key as u32 as usize).cloned().flatten();
            if let Some(entry) = entry.filter(|entry| entry.key == key) {
                landings.extend(self.ready(&entry, event.flags, &mut buffer));
            }
        }
        let now = Instant::now();
        if self.earliest_ns.load(Ordering::SeqCst) <= self.ns(now) {
            self.sweep(now, &mut landings);
        }
        let count = landings.len().max(events.len());
        landings.into_iter().for_each(Landing::tell);
        count
    }

    /// Takes the answer to the only request that is under way, if it is there, without asking which connection is ready: the
    /// host has just been told that one is. Says whether it did.
    fn land_alone(&self) -> bool {
        if self.flying.load(Ordering::SeqCst) != 1 {
            return false;
        }
        let Some(entry) = self.state.lock().latest.take() else { return false };
        // A connection without a request is for `turn_for` to look at.
        if entry.slot.lock().flight.is_none() {
            return false;
        }
        let landing = self.ready(&entry, EventFlags::IN, &mut [0u8; 4 << 10]);
        let landed = landing.is_some();
        landing.into_iter().for_each(Landing::tell);
        landed
    }

    /// A connection is ready.
    fn ready(&self, entry: &Arc<Entry>, flags: EventFlags, buffer: &mut [u8]) -> Option<Landing> {
        let mut slot = entry.slot.lock();
        let Some(flight) = &mut slot.flight else {
            drop(slot);
            // The server closed it, or said something that nobody asked for.
            if !entry.is_quiet() {
                self.remove(entry);
            }
            return None;
        };
        if !flight.is_written() && flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            match flight.write(&entry.stream) {
                Ok(false) => {}
                Ok(true) => self.watch(entry, EventFlags::IN | EventFlags::RDHUP),
                // It may have answered before it had read everything, 413 say, and closed.
                Err(error) => {
                    flight.unsent = Some(error);
                    self.watch(entry, EventFlags::IN | EventFlags::RDHUP);
                }
            }
        }
        let (result, keep) = flight.read(&entry.stream, buffer)?;
        let flight = slot.flight.take()?;
        drop(slot);
        self.flying.fetch_sub(1, Ordering::SeqCst);
        if !keep || !self.keep(entry) {
            self.remove(entry);
        }
        Some(flight.land(result))
    }

    /// Puts a connection among those that are idle, unless there are enough.
    fn keep(&self, entry: &Arc<Entry>) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.idle.len() >= self.idle_max {
            return false;
        }
        state.idle.push_back((Instant::now(), Arc::clone(entry)));
        true
    }

    /// Ends what took too long.
    fn sweep(&self, now: Instant, landings: &mut SmallVec<[Landing; 8]>) {
        // What begins from here on puts its own time in place; what began before is found below.
        self.earliest_ns.store(u64::MAX, Ordering::SeqCst);
        let entries: Vec<Arc<Entry>> = self.state.lock().entries.iter().flatten().cloned().collect();
        for entry in entries {
            let late = self.end(&entry, |flight| flight.deadline.passed(now));
            landings.extend(
                late.map(|flight| {
                    flight.land(Err(Broken::io("cannot read the answer", &io::ErrorKind::TimedOut.into())))
                }),
            );
            let next = entry.slot.lock().flight.as_ref().and_then(|flight| flight.deadline.instant());
            if let Some(next) = next {
                self.earliest_ns.fetch_min(self.ns(next), Ordering::SeqCst);
            }
        }
    }

    /// Closes a connection and gives back what is under way over it, if it is to end.
    fn end(&self, entry: &Arc<Entry>, ends: impl FnOnce(&Flight) -> bool) -> Option<Box<Flight>> {
        let flight = {
            let mut slot = entry.slot.lock();
            slot.flight.take_if(|flight| ends(flight))?
        };
        self.flying.fetch_sub(1, Ordering::SeqCst);
        self.remove(entry);
        Some(flight)
    }

    /// Closes a connection over which nothing is under way.
    fn remove(&self, entry: &Arc<Entry>) {
        if std::mem::replace(&mut entry.slot.lock().dead, true) {
            return;
        }
        let _ = epoll::delete(&self.epoll, &entry.stream);
        let _ = entry.stream.shutdown(Shutdown::Both);
        let mut state = self.state.lock();
        state.idle.retain(|(_, idle)| idle.key != entry.key);
        let place = entry.key as u32 as usize;
        if state.entries.get(place).and_then(Option::as_ref).is_some_and(|own| own.key == entry.key) {
            state.entries[place] = None;
            state.vacant.push(place);
        }
    }
}

impl Entry {
    /// Whether nothing has come, neither the end nor bytes nobody asked for.
    fn is_quiet(&self) -> bool {
        recv(&self.stream, &mut [0u8; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK) == Err(Errno::AGAIN)
    }
}

impl Guest for Hosted {
    fn source(&self) -> BorrowedFd<'_> {
        self.0.epoll.as_fd()
    }

    fn turn(&self) {
        // What else is ready, or overdue, brings the host here again at once.
        if !self.0.land_alone() {
            self.0.turn_for(Some(Duration::ZERO));
        }
    }

    fn due(&self) -> Option<Instant> {
        self.0.due()
    }

    fn adopt(&self) -> bool {
        let mut state = self.0.state.lock();
        if state.hosted || state.closed {
            return false;
        }
        state.hosted = true;
        self.0.drivers.fetch_add(1, Ordering::SeqCst);
        // A thread of our own ends.
        self.0.wake();
        true
    }

    fn release(&self) {
        self.0.state.lock().hosted = false;
        self.0.drivers.fetch_sub(1, Ordering::SeqCst);
        if self.0.flying.load(Ordering::SeqCst) > 0 {
            Inner::ensure_driver(&self.0);
        }
    }
}
