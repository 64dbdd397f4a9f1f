//! One HTTP/2 connection without its socket: bytes and outcomes in, bytes out.
//!
//! Invariants:
//!
//! - `h2` is polled after everything that may have given it something to do, by the end of the turn, until it has nothing
//!   more to do.
//! - A call that was answered before its outcome was known, or whose caller gave it up, has been withdrawn.
//! - What is held for a client that does not read is bounded: [`OUTPUT_BYTES_MAX`], and what `h2` holds for
//!   `max_concurrent_streams` answers.

use std::cell::RefCell;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason as H2Reason, RecvStream};
use http::Request;
use otlp_core::{Code, Context, Failure, Outcome, Reason, Retry};

use super::answer::Answer;
use super::authority::Mender;
use super::calls::{Call, Calls, Read, Receiving, State};
use super::meter::Meter;
use super::pipe::{End, Pipe};
use super::service::{Head, Service};
use crate::admission::draining;
use crate::auth::Authenticator;
use crate::config::bounded;
use crate::driver::exchange::{Exchange, Wall};
use crate::driver::inbox::Mailbox;
use crate::intake::{HOLD_INTERVAL, Waiting, no_outcome};
use crate::metrics::{Ending, Tally};

/// How much of a call's message may be on its way: 21 MB/s at a round trip of 50 ms.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same of all calls of a connection. It is also what `h2` measures small DATA frames by: the least that is safe for
/// many small calls is some MiB.
const CONNECTION_WINDOW: u32 = 8 << 20;
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Calls that were refused before all of their message had come, and that `h2` remembers for a second. What still comes
/// of one that it has forgotten it takes for an error of the client's, and after 1024 of them, for as long as the
/// connection lives, it ends that: under load it must not forget.
const RESET_STREAMS_MAX: usize = 4096;
/// Bytes that may wait for the client to read.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Bytes that may wait for `h2` to take them; it takes none while it cannot write.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// How long the preface may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the head of a call to the end of its message.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave bytes unread before the connection is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection without a call that was told to go may take to go.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a closed connection waits for the client to have read its GOAWAY: closing at once would throw it away where
/// bytes of the client's are unread.
const LINGER: Duration = Duration::from_secs(1);
/// And how much of that it throws away: a flood does not go on because it was told to end.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// The state of one connection.
pub(crate) struct Session {
    service: Arc<Service>,
    /// That of the port that it came by, whatever the port is for.
    auth: Option<Authenticator>,
    mailbox: Mailbox,
    context: Arc<Context>,
    http2: Http2,
    pings: Option<PingPong>,
    pipe: Rc<RefCell<Pipe>>,
    calls: Calls,
    /// Calls that something happened to, while they are gone through.
    ready: Vec<usize>,
    /// Calls that were handed on in this turn; most of them have their outcome before it ends.
    handed_on: Vec<usize>,
    output: Vec<u8>,
    /// A call was answered since all of it was written last. The rest is small and nobody waits for it: windows that
    /// open again while a large message comes, for one.
    answered: bool,
    phase: Phase,
    meter: Meter,
    /// Of a Unix socket.
    mender: Option<Mender>,
    /// `h2` may have something to do that was not there when it was polled last. What it could wake for is only done on
    /// this thread and through this session, so no waker is needed to know.
    dirty: bool,
    tally: Tally,
    times: Times,
}

enum Http2 {
    Beginning(Box<Handshake<End, Bytes>>),
    Open(Box<Connection<End, Bytes>>),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Open,
    /// What is due is written; nothing is read any more.
    Closing,
    /// All is written, our side is closed; what still comes is thrown away.
    Lingering {
        until: Instant,
        bytes: usize,
    },
    Over,
}

/// Since when, and until when.
struct Times {
    begun: Instant,
    /// The last sign of life.
    heard: Instant,
    /// Our ping has no answer yet.
    pinged: Option<Instant>,
    /// There is no call.
    idle: Instant,
    /// The client does not read.
    blocked: Option<Instant>,
    /// When the connection is old.
    old: Option<Instant>,
    /// It was told to go; for its age if that is so.
    leaving: Option<(Instant, bool)>,
    /// When what is held is offered again.
    hold: Option<Instant>,
}

impl Session {
    pub(crate) fn new(service: Arc<Service>, mailbox: Mailbox, peer: Option<SocketAddr>, now: Instant) -> Session {
        let (config, pipe) = (&service.config, Rc::new(RefCell::new(Pipe::default())));
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(config.max_concurrent_streams)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .handshake(End(Rc::clone(&pipe)));
        let age = config.keepalive.server_parameters.max_connection_age;
        Session {
            auth: service.config.auth.clone(),
            context: service.intake.context(peer),
            meter: Meter::new(config.keepalive.enforcement_policy.clone()),
            mender: peer.is_none().then(Mender::new),
            mailbox,
            http2: Http2::Beginning(Box::new(handshake)),
            pings: None,
            pipe,
            calls: Calls::new(),
            ready: Vec::new(),
            handed_on: Vec::new(),
            output: Vec::new(),
            answered: false,
            phase: Phase::Open,
            dirty: true,
            tally: Tally::default(),
            times: Times {
                begun: now,
                heard: now,
                pinged: None,
                idle: now,
                blocked: None,
                old: (!age.is_zero()).then(|| now + spread(age)),
                leaving: None,
                hold: None,
            },
            service,
        }
    }

    /// The same, come by a port that has this authenticator.
    pub(crate) fn with_auth(mut self, auth: Option<Authenticator>) -> Session {
        self.auth = auth;
        self
    }

    /// Lets `h2` and the calls do what they can. What the calls did is sent when this is called again, at the latest at
    /// the end of the turn: together with what comes from other threads until then.
    fn drive(&mut self, now: Instant) {
        self.pipe.borrow_mut().room = OUTPUT_BYTES_MAX.saturating_sub(self.output.len());
        self.dirty = false;
        if self.poll_connection(now).is_pending() {
            let mut ready = std::mem::take(&mut self.ready);
            self.calls.take_ready(&mut ready);
            for index in ready.drain(..) {
                self.pump(index, now);
                self.dirty = true;
            }
            self.ready = ready;
        }
        let output = &mut self.pipe.borrow_mut().output;
        match self.output.is_empty() {
            true => std::mem::swap(&mut self.output, output),
            false => self.output.append(output),
        }
    }

    /// Reads and writes frames, and begins the calls that came. Ready when the connection is over.
    fn poll_connection(&mut self, now: Instant) -> Poll<()> {
        let mut context = TaskContext::from_waker(Waker::noop());
        if let Http2::Beginning(handshake) = &mut self.http2 {
            match Pin::new(&mut **handshake).poll(&mut context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(mut connection)) => {
                    self.pings = connection.ping_pong();
                    self.http2 = Http2::Open(Box::new(connection));
                }
                Poll::Ready(Err(error)) => return self.ended(Some(&error)),
            }
        }
        // A call is answered, where it can be, before `h2` is polled for the next: then that writes the whole answer at
        // once. Of many together it writes all heads, then all messages, then all trailers, and goes through its memory
        // three times.
        loop {
            let Http2::Open(connection) = &mut self.http2 else { return Poll::Ready(()) };
            match connection.poll_accept(&mut context) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond, now),
                Poll::Ready(Some(Err(error))) => return self.ended(Some(&error)),
                Poll::Ready(None) => return self.ended(None),
                Poll::Pending => break,
            }
        }
        if let Some(pings) = &mut self.pings {
            let _ = pings.poll_pong(&mut context);
        }
        Poll::Pending
    }

    /// The connection is over. What it had to say last is in the pipe.
    fn ended(&mut self, error: Option<&h2::Error>) -> Poll<()> {
        if let Some(error) = error {
            log::debug!("the connection of {:?} ends, HTTP/2: {error}", self.context.peer);
        }
        self.abandon();
        self.http2 = Http2::Over;
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
        }
        Poll::Ready(())
    }

    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, now: Instant) {
        match self.service.route(&request, &self.context, self.auth.as_ref()) {
            Ok(Head { plan, timeout }) => {
                let until = timeout.map(|timeout| now + bounded(timeout));
                let state = State::Receiving(Receiving::new(plan));
                let stream = Some(request.into_body());
                let index = self.calls.insert(Call { respond, stream, since: now, until, state });
                self.pump(index, now);
            }
            Err(answer) => {
                let _ = answer.send(&mut respond);
                self.ended_call(&answer, now, now);
            }
        }
    }

    /// Goes on with a call that something happened to.
    fn pump(&mut self, index: usize, now: Instant) {
        let Some((call, waker)) = self.calls.get(index) else { return };
        let mut context = TaskContext::from_waker(waker);
        let read = match &call.state {
            State::Receiving(_) => call.read(&self.service, &mut context),
            State::Waiting(_) if call.respond.poll_reset(&mut context).is_ready() => Read::GivenUp,
            State::Waiting(_) => Read::More,
        };
        match read {
            Read::More => {}
            Read::GivenUp => {
                if let Some(Call { state: State::Waiting(waiting), .. }) = self.remove(index, now) {
                    waiting.abandon(&self.service.intake);
                }
            }
            Read::Answered(answer) => self.finish(index, &answer, now),
            Read::Complete(plan, body) => {
                let number = self.calls.number(index);
                match self.service.intake.take(body, plan, &self.context, &self.mailbox, number, now) {
                    Ok(Some(waiting)) => {
                        if let Some(outcome) = self.mailbox.answer(number) {
                            settled(&waiting, &outcome, &mut self.tally, &self.service);
                            return self.finish(index, &Answer::outcome(outcome), now);
                        }
                        if waiting.is_held() {
                            self.times.hold.get_or_insert(now + HOLD_INTERVAL);
                        }
                        if let Some((call, _)) = self.calls.get(index) {
                            call.state = State::Waiting(waiting);
                        }
                        self.handed_on.push(index);
                    }
                    Ok(None) => self.finish(index, &Answer::success(), now),
                    Err(failure) => self.finish(index, &Answer::failure(failure), now),
                }
            }
        }
    }

    /// From here on the calls that were handed on are woken when their caller gives them up; it may have done so.
    fn watch(&mut self, now: Instant) {
        while let Some(index) = self.handed_on.pop() {
            // Most have their answer. The place of one may be another's by now, which is looked at for nothing.
            if let Some((call, _)) = self.calls.get(index) {
                if let State::Waiting(_) = call.state {
                    call.release();
                    self.dirty = true;
                }
                self.pump(index, now);
            }
        }
    }

    /// Answers an open call, and withdraws what waits.
    fn refuse(&mut self, index: usize, answer: &Answer, now: Instant) {
        let Some(mut call) = self.remove(index, now) else { return };
        let _ = answer.send(&mut call.respond);
        self.ended_call(answer, call.since, now);
        if let State::Waiting(waiting) = call.state {
            waiting.refuse(&self.service.intake);
        }
    }

    /// Answers an open call that nothing waits for any more.
    fn finish(&mut self, index: usize, answer: &Answer, now: Instant) {
        let Some((call, _)) = self.calls.get(index) else { return };
        let since = call.since;
        // A call that was given up in the meantime has no use for it.
        let _ = answer.send(&mut call.respond);
        self.calls.end(index);
        self.ended_call(answer, since, now);
    }

    /// Notes that a call was answered.
    fn ended_call(&mut self, answer: &Answer, since: Instant, now: Instant) {
        if self.calls.open() == 0 {
            self.times.idle = now;
        }
        self.dirty = true;
        self.answered = true;
        self.meter.answered();
        let took = now.saturating_duration_since(since);
        match answer.ending() {
            Ending::Success => self.tally.succeeded(took),
            ending => self.service.intake.metrics.ended(ending, answer.reason, took),
        }
    }

    fn remove(&mut self, index: usize, now: Instant) -> Option<Call> {
        let call = self.calls.remove(index);
        self.dirty = true;
        if self.calls.open() == 0 {
            self.times.idle = now;
        }
        call
    }

    /// Tells the client to go: no new calls, and the open ones are answered (RFC 9113, section 6.8).
    fn leave(&mut self, now: Instant, old: bool) {
        match &mut self.http2 {
            Http2::Open(connection) if self.times.leaving.is_none() => {
                connection.graceful_shutdown();
                self.times.leaving = Some((now, old));
                self.drive(now);
            }
            Http2::Open(_) => {}
            Http2::Beginning(_) | Http2::Over => self.close(),
        }
    }

    /// Ends now; what is to be written still is.
    fn close(&mut self) {
        self.abandon();
        self.http2 = Http2::Over;
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
        }
    }

    /// Answers all open calls and says GOAWAY.
    fn end(&mut self, answer: &Answer, now: Instant) {
        for index in self.calls.places() {
            self.refuse(index, answer, now);
        }
        // First the answers: an abrupt end would leave them out.
        self.drive(now);
        if let Http2::Open(connection) = &mut self.http2 {
            connection.abrupt_shutdown(H2Reason::NO_ERROR);
            self.drive(now);
        }
        self.close();
    }

    /// The client pings without end.
    fn too_many_pings(&mut self) {
        // `h2` says GOAWAY without words, and clients look for these to ping less. Where it is in the middle of a frame
        // the client does not read, and hears nothing.
        if self.pipe.borrow().room > 0 {
            let debug = b"too_many_pings";
            self.output.extend_from_slice(&[0, 0, 8 + debug.len() as u8, 7, 0, 0, 0, 0, 0]);
            self.output.extend_from_slice(&self.meter.last_stream.to_be_bytes());
            self.output.extend_from_slice(&u32::from(H2Reason::ENHANCE_YOUR_CALM).to_be_bytes());
            self.output.extend_from_slice(debug);
        }
        log::debug!("the connection of {:?} ends: too many pings", self.context.peer);
        self.close();
    }

    /// Withdraws all that waits: nobody is there to be told.
    fn abandon(&mut self) {
        for index in self.calls.places() {
            if let Some(Call { state: State::Waiting(waiting), .. }) = self.calls.remove(index) {
                waiting.abandon(&self.service.intake);
            }
        }
    }

    /// When its next keepalive is due: a ping, or the end of waiting for its answer.
    fn keepalive(&self) -> Option<Instant> {
        let server = &self.service.config.keepalive.server_parameters;
        match self.times.pinged {
            Some(pinged) => Some(pinged + server.timeout),
            None => Some(self.times.heard + server.time),
        }
    }

    /// When it is told to go for having no call.
    fn idle(&self) -> Option<Instant> {
        let idle = self.service.config.keepalive.server_parameters.max_connection_idle;
        let waits = !idle.is_zero() && self.calls.open() == 0 && self.times.leaving.is_none();
        waits.then(|| self.times.idle + idle)
    }

    /// When one that was told to go is ended.
    fn left(&self) -> Option<Instant> {
        let (since, old) = self.times.leaving?;
        let grace = self.service.config.keepalive.server_parameters.max_connection_age_grace;
        match self.calls.open() {
            0 => Some(since.max(self.times.idle) + LEAVE_TIMEOUT),
            _ if old && !grace.is_zero() => Some(since + grace),
            _ => None,
        }
    }

    fn beginning(&self) -> Option<Instant> {
        matches!(self.http2, Http2::Beginning(_)).then(|| self.times.begun + HANDSHAKE_TIMEOUT)
    }

    fn offer_held(&mut self, now: Instant) {
        if self.times.hold.is_none_or(|next| next > now) {
            return;
        }
        self.times.hold = None;
        for call in self.calls.iter_mut() {
            if let State::Waiting(waiting) = &mut call.state {
                waiting.offer_again(&self.service.intake);
                if waiting.is_held() {
                    self.times.hold = Some(now + HOLD_INTERVAL);
                }
            }
        }
    }

    /// Answers the calls that waited too long.
    fn refuse_late(&mut self, now: Instant) {
        for index in self.calls.places() {
            let Some((call, _)) = self.calls.get(index) else { continue };
            if call.due() > now {
                continue;
            }
            let failure = match (&call.state, call.until.is_some_and(|until| until <= now)) {
                (_, true) => deadline_exceeded("the call's deadline passed before its outcome was known"),
                (State::Receiving(_), false) => deadline_exceeded("the call's message took too long"),
                (State::Waiting(_), false) => no_outcome(),
            };
            self.refuse(index, &Answer::failure(failure), now);
        }
    }
}

impl Call {
    /// When it is answered at the latest.
    fn due(&self) -> Instant {
        let due = match &self.state {
            State::Receiving(_) => self.since + READ_TIMEOUT,
            State::Waiting(waiting) => waiting.by,
        };
        self.until.map_or(due, |until| until.min(due))
    }
}

impl Exchange for Session {
    fn receive(&mut self, bytes: &mut Vec<u8>, now: Instant) {
        self.times.heard = now;
        self.times.pinged = None;
        if let Phase::Lingering { bytes: thrown, .. } = &mut self.phase {
            *thrown += bytes.len();
            if *thrown > LINGER_BYTES_MAX {
                self.phase = Phase::Over;
            }
        }
        if self.phase != Phase::Open {
            return;
        }
        if let Some(mender) = &mut self.mender {
            mender.mend(bytes);
        }
        if !self.meter.observe(bytes, self.calls.open() > 0, now) {
            return self.too_many_pings();
        }
        let fresh = self.pipe.borrow().left() == 0;
        {
            let mut pipe = self.pipe.borrow_mut();
            if fresh {
                // Lent for the turn: nothing is copied that `h2` takes at once.
                std::mem::swap(&mut pipe.input, bytes);
                pipe.taken = 0;
            } else {
                pipe.input.extend_from_slice(bytes);
            }
        }
        self.drive(now);
        if fresh {
            let mut pipe = self.pipe.borrow_mut();
            let left = pipe.input[pipe.taken..].to_vec();
            *bytes = std::mem::replace(&mut pipe.input, left);
            pipe.taken = 0;
        }
    }

    fn closed_by_peer(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Lingering { .. }) {
            self.phase = Phase::Over;
            return;
        }
        // HTTP/2 has no half-closed connections: nobody is there to be told.
        self.pipe.borrow_mut().ended = true;
        self.drive(now);
        self.broken();
    }

    fn broken(&mut self) {
        self.close();
        self.phase = Phase::Over;
    }

    fn answered(&mut self, request: u64, outcome: Outcome, now: Instant) {
        let Some(index) = self.calls.find(request) else { return };
        if let Some((Call { state: State::Waiting(waiting), .. }, _)) = self.calls.get(index) {
            settled(waiting, &outcome, &mut self.tally, &self.service);
            self.finish(index, &Answer::outcome(outcome), now);
        }
    }

    fn advance(&mut self, now: Instant, _: Wall<'_>) {
        self.watch(now);
        let waits = self.pipe.borrow().left() > 0 && self.output.len() < OUTPUT_BYTES_MAX;
        self.dirty |= waits || matches!(self.http2, Http2::Beginning(_));
        while self.dirty {
            self.drive(now);
            self.watch(now);
        }
        self.tally.flush(&self.service.intake.metrics);
    }

    fn output(&self) -> &[u8] {
        &self.output
    }

    fn has_answers(&self) -> bool {
        self.answered && !self.output.is_empty()
    }

    fn written(&mut self, bytes: usize, now: Instant) {
        if bytes == self.output.len() {
            self.answered = false;
            self.times.blocked = None;
            self.output.clear();
            // Connections that wait for their next call have the memory that waiting takes.
            if self.output.capacity() > 4 << 10 {
                self.output = Vec::new();
            }
        } else {
            self.output.drain(..bytes);
            if bytes > 0 || self.times.blocked.is_none() {
                self.times.blocked = Some(now);
            }
        }
        // It may have stopped for want of room.
        if bytes > 0 && self.pipe.borrow().room == 0 {
            self.dirty = true;
        }
    }

    fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Open => self.output.len() < OUTPUT_BYTES_MAX && self.pipe.borrow().left() < INPUT_BYTES_MAX,
            Phase::Closing | Phase::Over => false,
            Phase::Lingering { .. } => true,
        }
    }

    fn closes(&mut self, now: Instant) -> bool {
        if self.phase != Phase::Closing || !self.output.is_empty() {
            return false;
        }
        self.phase =
            if self.pipe.borrow().ended { Phase::Over } else { Phase::Lingering { until: now + LINGER, bytes: 0 } };
        self.phase != Phase::Over
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn drain(&mut self, now: Instant) {
        self.leave(now, false);
    }

    fn give_up(&mut self, now: Instant, _: Wall<'_>) {
        self.end(&Answer::failure(draining()), now);
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Over => return None,
            Phase::Lingering { until, .. } => return Some(until),
            Phase::Open | Phase::Closing => {}
        }
        let calls = self.calls.iter().map(Call::due).min();
        let old = self.times.old.filter(|_| self.times.leaving.is_none());
        let blocked = self.times.blocked.map(|blocked| blocked + WRITE_TIMEOUT);
        let hold = self.times.hold;
        [self.beginning(), calls, hold, blocked, self.idle(), old, self.left(), self.keepalive()]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_time(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.phase {
            Phase::Lingering { until, .. } if until <= now => self.phase = Phase::Over,
            Phase::Lingering { .. } | Phase::Over => return,
            Phase::Open | Phase::Closing => {}
        }
        if due(self.beginning()) || due(self.times.blocked.map(|blocked| blocked + WRITE_TIMEOUT)) {
            return self.broken();
        }
        self.refuse_late(now);
        self.offer_held(now);
        if due(self.keepalive()) {
            if self.times.pinged.is_some() {
                return self.broken();
            }
            // Where an answer to the last one is missing there is none to be sent, and the connection ends by that.
            let sent = self.pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
            self.times.pinged = Some(now).filter(|_| sent.is_some());
            self.times.heard = now;
        }
        if due(self.left()) {
            self.end(&Answer::failure(draining()), now);
        } else if due(self.times.old) && self.times.leaving.is_none() {
            self.leave(now, true);
        } else if due(self.idle()) {
            self.leave(now, false);
        }
        self.drive(now);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
        self.tally.flush(&self.service.intake.metrics);
    }
}

/// Counts an outcome.
fn settled(waiting: &Waiting, outcome: &Outcome, tally: &mut Tally, service: &Service) {
    match outcome {
        Outcome::Delivered => tally.accepted(waiting.signal, waiting.items),
        _ => waiting.settled(&service.intake, outcome),
    }
}

/// Retryable, and the caller knows better than we when.
fn deadline_exceeded(message: &'static str) -> Failure {
    Failure { code: Code::DeadlineExceeded, retry: Retry::Backoff, ..Failure::refused(Reason::TIMEOUT, message) }
}

/// A tenth more or less, by chance.
fn spread(age: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 201;
    age / 1000 * (900 + chance as u32)
}
