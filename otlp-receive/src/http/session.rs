//! One HTTP/1.1 connection without its socket: bytes and outcomes in, bytes out.
//!
//! Invariants:
//!
//! - Answers leave in the order of the requests, whatever the order of their outcomes (RFC 9112, section 9.3.2).
//! - A request that was answered before its outcome was known, or whose sender went away, has been withdrawn.
//! - What is held for a sender that does not read, or does not wait, is bounded: [`OPEN_REQUESTS_MAX`] requests, and no
//!   more is parsed while [`OUTPUT_BYTES_MAX`] wait to be written.
//! - After an answer with `connection: close` nothing is parsed any more.

mod time;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::{Context, Failure, Outcome, Reason};

use super::answer::{Answer, Frame};
use super::head::{Fault, Framing, Head};
use super::protocol::{Event, Protocol};
use super::service::Service;
use crate::admission::{Body, draining};
use crate::auth::Authenticator;
use crate::driver::exchange::{Exchange, Wall};
use crate::driver::inbox::Mailbox;
use crate::intake::{HOLD_INTERVAL, Plan, Waiting, no_outcome};
use crate::metrics::Ending;
use crate::request::Encoding;

/// Requests of one connection that may wait for their answers.
const OPEN_REQUESTS_MAX: usize = 64;
/// Bytes of answers that may wait for the sender to read.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// What is left of a body that was refused is read and thrown away up to this size; beyond it the connection is closed.
const DISCARD_BYTES_MAX: u64 = 1 << 20;
/// A body of which so much is missing is read straight into its buffer.
const DIRECT_BYTES_MIN: u64 = 16 << 10;
/// How long a closed connection waits for the sender to have read its answer. Closing at once would throw it away where
/// bytes of the sender's are unread (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// The state of one connection.
pub(crate) struct Session {
    service: Arc<Service>,
    /// That of the port that it came by, whatever the port is for.
    auth: Option<Authenticator>,
    mailbox: Mailbox,
    context: Arc<Context>,
    protocol: Protocol,
    /// The last body was one that is better read straight into its buffer.
    large: bool,
    /// Received, not parsed: a piece of a head, or what waits for room.
    pending: Vec<u8>,
    reading: Reading,
    /// Requests that have not been answered, in order.
    slots: VecDeque<Slot>,
    /// The number of the first of them.
    first: u64,
    output: Vec<u8>,
    phase: Phase,
    /// Since when a head is incomplete.
    head_since: Option<Instant>,
    /// Since when nothing happens.
    idle_since: Instant,
    /// Since when the sender does not read.
    blocked_since: Option<Instant>,
    /// Whether every answer that is no success ends the connection.
    ends_with_errors: bool,
    /// Since when the sender sends no more.
    half_closed: Option<Instant>,
    /// Since when nothing new is taken.
    draining_since: Option<Instant>,
    hold_next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Open,
    /// The answers that are due are written; nothing is read any more.
    Closing,
    /// All is written, our side is closed; what still comes is thrown away.
    Lingering {
        until: Instant,
    },
    Over,
}

enum Reading {
    /// Between requests.
    Nothing,
    /// The body of the last slot's request.
    Body { body: Body, plan: Plan, since: Instant, promise: bool },
    /// The rest of a body whose request has its answer.
    Discard { since: Instant },
}

struct Slot {
    state: State,
    encoding: Encoding,
    close: bool,
    head_only: bool,
    origin: Option<Box<[u8]>>,
    since: Instant,
}

enum State {
    Receiving,
    Waiting(Waiting),
    Answered(Answer),
}

impl Session {
    pub(crate) fn new(service: Arc<Service>, mailbox: Mailbox, peer: Option<SocketAddr>, now: Instant) -> Session {
        let context = service.intake.context(peer);
        Session {
            auth: service.config.auth.clone(),
            service,
            mailbox,
            context,
            protocol: Protocol::default(),
            large: false,
            pending: Vec::new(),
            reading: Reading::Nothing,
            slots: VecDeque::new(),
            first: 0,
            output: Vec::new(),
            phase: Phase::Open,
            head_since: None,
            idle_since: now,
            blocked_since: None,
            ends_with_errors: false,
            half_closed: None,
            draining_since: None,
            hold_next: None,
        }
    }

    /// The same, come by a port that has this authenticator.
    pub(crate) fn with_auth(mut self, auth: Option<Authenticator>) -> Session {
        self.auth = auth;
        self
    }

    /// The same, where every answer that is no success ends the connection.
    pub(crate) fn ends_with_errors(mut self) -> Session {
        self.ends_with_errors = true;
        self
    }
}

impl Exchange for Session {
    fn receive(&mut self, bytes: &mut Vec<u8>, now: Instant) {
        self.idle_since = now;
        if self.phase != Phase::Open {
            return;
        }
        if self.pending.is_empty() {
            let used = self.parse(bytes, now);
            if self.phase == Phase::Open {
                self.pending.extend_from_slice(&bytes[used..]);
            }
        } else {
            self.pending.extend_from_slice(bytes);
            self.parse_pending(now);
        }
    }

    fn direct(&mut self) -> Option<&mut Vec<u8>> {
        let left = self.protocol.body_left()?;
        match &mut self.reading {
            Reading::Body { body, .. } if left >= DIRECT_BYTES_MIN && self.pending.is_empty() => Some(body.buffer()),
            _ => None,
        }
    }

    fn expects_large(&self) -> bool {
        self.large && self.pending.is_empty() && self.protocol.is_between_requests()
    }

    fn received(&mut self, bytes: usize, now: Instant) {
        self.idle_since = now;
        let left = self.protocol.body_left().unwrap_or(0);
        let Reading::Body { body, .. } = &mut self.reading else { return };
        // A buffer may have room for more than the body, and then it took bytes of the next request.
        let over = (bytes as u64).saturating_sub(left) as usize;
        let next = body.buffer_end(over);
        let pushed = body.pushed();
        self.protocol.received((bytes - over) as u64);
        if let Err(failure) = pushed {
            self.refuse_body(failure, now);
        }
        if self.phase == Phase::Open {
            let used = self.parse(&next, now);
            self.pending.extend_from_slice(&next[used.min(next.len())..]);
        }
    }

    fn closed_by_peer(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Lingering { .. }) {
            self.phase = Phase::Over;
            return;
        }
        self.half_closed.get_or_insert(now);
        self.pending = Vec::new();
        self.head_since = None;
        // What is incomplete never will be complete: nothing of it is handed on.
        if let Reading::Body { .. } = self.reading {
            self.slots.pop_back();
        }
        self.reading = Reading::Nothing;
        if self.phase == Phase::Open && self.slots.is_empty() {
            self.phase = Phase::Closing;
        }
    }

    fn broken(&mut self) {
        self.abandon();
        self.phase = Phase::Over;
    }

    fn answered(&mut self, request: u64, outcome: Outcome, now: Instant) {
        let Some(index) = request.checked_sub(self.first).map(|index| index as usize) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let State::Waiting(waiting) = &slot.state else { return };
        waiting.settled(&self.service.intake, &outcome);
        slot.state = State::Answered(Answer::outcome(waiting.signal, outcome));
        self.idle_since = now;
    }

    fn advance(&mut self, now: Instant, wall: Wall<'_>) {
        loop {
            self.write_answers(now, wall);
            if self.pending.is_empty() || !self.may_parse() || self.phase != Phase::Open {
                break;
            }
            let before = self.pending.len();
            self.parse_pending(now);
            if self.pending.len() == before {
                break;
            }
        }
    }

    fn output(&self) -> &[u8] {
        &self.output
    }

    fn written(&mut self, bytes: usize, now: Instant) {
        self.output.drain(..bytes);
        if self.output.is_empty() {
            self.blocked_since = None;
            if self.output.capacity() > 16 << 10 {
                self.output = Vec::new();
            }
        } else if bytes > 0 || self.blocked_since.is_none() {
            self.blocked_since = Some(now);
        }
    }

    fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Open => self.half_closed.is_none() && self.may_parse(),
            // Only to learn that the sender went away.
            Phase::Closing => self.half_closed.is_none() && !self.slots.is_empty(),
            Phase::Lingering { .. } => true,
            Phase::Over => false,
        }
    }

    fn closes(&mut self, now: Instant) -> bool {
        if self.phase != Phase::Closing || !self.output.is_empty() || !self.slots.is_empty() {
            return false;
        }
        self.pending = Vec::new();
        self.phase = if self.half_closed.is_some() { Phase::Over } else { Phase::Lingering { until: now + LINGER } };
        self.phase != Phase::Over
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn drain(&mut self, now: Instant) {
        self.draining_since.get_or_insert(now);
        if self.phase == Phase::Open && self.slots.is_empty() && self.protocol.is_between_requests() {
            // Nobody waits for an answer; a head of which a part came is no request yet.
            self.phase = if self.output.is_empty() { Phase::Over } else { Phase::Closing };
        }
    }

    fn give_up(&mut self, now: Instant, wall: Wall<'_>) {
        if matches!(self.reading, Reading::Body { .. }) {
            self.reading = Reading::Nothing;
        }
        for index in 0..self.slots.len() {
            if !matches!(self.slots[index].state, State::Answered(_)) {
                self.refuse_slot(index, draining());
            }
        }
        if let Some(last) = self.slots.back_mut() {
            last.close = true;
        }
        self.write_answers(now, wall);
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_deadline()
    }

    fn on_time(&mut self, now: Instant) {
        self.do_due(now);
    }
}

impl Session {
    fn is_between_requests(&self) -> bool {
        self.protocol.is_between_requests() && self.head_since.is_none() && self.pending.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty() && self.is_between_requests()
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.slots.iter().filter_map(|slot| match &slot.state {
            State::Waiting(waiting) => Some(waiting),
            _ => None,
        })
    }

    fn may_parse(&self) -> bool {
        let in_body = !self.protocol.is_between_requests();
        self.output.len() < OUTPUT_BYTES_MAX && (in_body || self.slots.len() < OPEN_REQUESTS_MAX)
    }

    fn parse_pending(&mut self, now: Instant) {
        let mut pending = std::mem::take(&mut self.pending);
        let used = self.parse(&pending, now);
        if self.phase == Phase::Open && used < pending.len() {
            pending.drain(..used);
            self.pending = pending;
        }
    }

    /// Parses as far as it may, and says how far that was.
    fn parse(&mut self, input: &[u8], now: Instant) -> usize {
        let mut at = 0;
        while self.phase == Phase::Open && self.may_parse() {
            let (used, event) = self.protocol.next(&input[at..]);
            at += used;
            match event {
                Event::More => break,
                Event::Head(head) => self.begin(&head, now),
                Event::Body(piece) => self.body(piece, now),
                Event::End => self.end(now),
                Event::Bad(fault) => self.bad(fault, now),
            }
        }
        if self.phase == Phase::Open && self.protocol.is_between_requests() && self.may_parse() && at < input.len() {
            self.head_since.get_or_insert(now);
        }
        at
    }

    fn begin(&mut self, head: &Head<'_>, now: Instant) {
        let service = Arc::clone(&self.service);
        self.slots.push_back(Slot {
            state: State::Receiving,
            encoding: head.content_type.and_then(Encoding::of).unwrap_or(Encoding::Json),
            close: !head.keep_alive || !service.config.keep_alives_enabled || service.intake.is_draining(),
            head_only: head.method == "HEAD",
            origin: service.allowed_origin(head),
            since: self.head_since.take().unwrap_or(now),
        });
        let announced = match head.framing {
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked => None,
        };
        let admitted = service.route(head, &self.context, self.auth.as_ref()).and_then(|plan| {
            let body = service.intake.admission.begin(announced).map_err(Answer::failure)?;
            Ok((plan, body))
        });
        match admitted {
            Ok((plan, body)) => {
                let promise = head.expect_continue && announced != Some(0);
                self.reading = Reading::Body { body, plan, since: now, promise };
            }
            Err(answer) => {
                // A sender that waits to be told to go on does not send the body now; it may send it or not.
                self.discard(head.expect_continue && announced != Some(0), now);
                self.answer_last(answer);
            }
        }
    }

    fn body(&mut self, piece: &[u8], now: Instant) {
        if let Reading::Body { body, promise, .. } = &mut self.reading {
            *promise = false;
            if let Err(failure) = body.push(piece) {
                self.refuse_body(failure, now);
            }
        }
    }

    fn end(&mut self, now: Instant) {
        match std::mem::replace(&mut self.reading, Reading::Nothing) {
            Reading::Body { body, plan, .. } => {
                self.large = body.len() as u64 >= DIRECT_BYTES_MIN * 2;
                if self.slots.back().is_some_and(|slot| slot.close) {
                    self.phase = Phase::Closing;
                }
                self.hand_on(body, plan, now);
            }
            Reading::Nothing | Reading::Discard { .. } => {}
        }
    }

    fn hand_on(&mut self, body: Body, plan: Plan, now: Instant) {
        let service = Arc::clone(&self.service);
        let request = self.first + self.slots.len() as u64 - 1;
        match service.intake.take(body, plan, &self.context, &self.mailbox, request, now) {
            Ok(Some(waiting)) => {
                if waiting.is_held() {
                    self.hold_next.get_or_insert(now + HOLD_INTERVAL);
                }
                if let Some(slot) = self.slots.back_mut() {
                    slot.state = State::Waiting(waiting);
                }
            }
            Ok(None) => self.answer_last(Answer::success()),
            Err(failure) => self.answer_last(Answer::failure(failure)),
        }
    }

    /// Refuses what has waited too long, or all that waits.
    fn refuse_waiting(&mut self, now: Instant, all: bool) {
        for index in 0..self.slots.len() {
            if matches!(&self.slots[index].state, State::Waiting(waiting) if all || waiting.by <= now) {
                self.refuse_slot(index, no_outcome());
            }
        }
    }

    fn refuse_slot(&mut self, index: usize, failure: Failure) {
        let state = State::Answered(Answer::failure(failure));
        if let State::Waiting(waiting) = std::mem::replace(&mut self.slots[index].state, state) {
            waiting.refuse(&self.service.intake);
        }
    }

    /// Refuses the request whose body is being received.
    fn refuse_body(&mut self, failure: Failure, now: Instant) {
        self.discard(false, now);
        self.answer_last(Answer::failure(failure));
    }

    /// Gives up the body that is being received, and the connection with it where too much is still to come.
    fn discard(&mut self, close: bool, now: Instant) {
        self.reading = Reading::Discard { since: now };
        let left = self.protocol.body_left();
        let close = close || left.is_none_or(|left| left > DISCARD_BYTES_MAX);
        if let Some(slot) = self.slots.back_mut() {
            slot.close |= close;
        }
        if self.slots.back().is_some_and(|slot| slot.close) {
            self.phase = Phase::Closing;
            self.reading = Reading::Nothing;
        }
    }

    fn bad(&mut self, fault: Fault, now: Instant) {
        let answer = Answer::error(fault.status(), Reason::MALFORMED, fault.message());
        match std::mem::replace(&mut self.reading, Reading::Nothing) {
            Reading::Body { .. } => {
                if let Some(slot) = self.slots.back_mut() {
                    slot.close = true;
                }
                self.answer_last(answer);
                self.phase = Phase::Closing;
            }
            // Its answer has been given; the connection ends with it or after it.
            Reading::Discard { .. } => self.phase = Phase::Closing,
            Reading::Nothing => self.end_with(answer, now),
        }
    }

    /// Answers something that is no request, and ends.
    fn end_with(&mut self, answer: Answer, now: Instant) {
        self.slots.push_back(Slot {
            state: State::Answered(answer),
            encoding: Encoding::Json,
            close: true,
            head_only: false,
            origin: None,
            since: self.head_since.take().unwrap_or(now),
        });
        self.pending = Vec::new();
        self.phase = Phase::Closing;
    }

    fn answer_last(&mut self, answer: Answer) {
        if let Some(slot) = self.slots.back_mut() {
            slot.state = State::Answered(answer);
        }
    }

    fn write_answers(&mut self, now: Instant, wall: Wall<'_>) {
        let mut date = None;
        while let Some(Slot { state: State::Answered(answer), encoding, close, head_only, origin, since }) =
            self.slots.front()
        {
            let date = date.get_or_insert_with(|| self.service.date(wall()));
            let lost = self.ends_with_errors && answer.ending() == Ending::Failure;
            let close = *close
                || lost
                || (self.half_closed.is_none() && self.service.intake.is_draining() && self.slots.len() == 1);
            let frame = Frame { encoding: *encoding, close, head_only: *head_only, origin: origin.as_deref(), date };
            answer.write(&mut self.output, &frame, &self.service.common);
            if answer.is_export() {
                let took = now.saturating_duration_since(*since);
                self.service.intake.metrics.ended(answer.ending(), answer.reason, took);
            }
            self.slots.pop_front();
            self.first += 1;
            if close {
                self.phase = Phase::Closing;
                self.reading = Reading::Nothing;
            }
        }
        let ends = self.half_closed.is_some() || (self.service.intake.is_draining() && self.is_between_requests());
        if ends && self.slots.is_empty() && self.phase == Phase::Open {
            self.phase = Phase::Closing;
        }
        // `100 Continue` belongs to the request whose turn it is to be answered (RFC 9110, section 10.1.1).
        if let Reading::Body { promise: promise @ true, .. } = &mut self.reading
            && self.slots.len() == 1
        {
            *promise = false;
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Withdraws all that waits: nobody is there to be told.
    fn abandon(&mut self) {
        for slot in self.slots.drain(..) {
            if let State::Waiting(waiting) = slot.state {
                waiting.abandon(&self.service.intake);
            }
        }
        self.reading = Reading::Nothing;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
    }
}
