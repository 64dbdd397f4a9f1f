//! The calls of a connection that have no answer yet, and which of them something happened to.
//!
//! A call has a place, which is used again, and a number, which is not: an outcome that comes late meets no other call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use otlp_core::codec::Coding;
use otlp_core::{Code, Reason};
use parking_lot::Mutex;

use super::answer::Answer;
use super::protocol::{Event, Fault, Framing};
use super::service::Service;
use crate::admission::Body;
use crate::intake::{Plan, Waiting};

/// A call that has no answer yet.
pub(super) struct Call {
    pub(super) respond: SendResponse<Bytes>,
    /// Its message; of a call that waits, until its window is given back.
    pub(super) stream: Option<RecvStream>,
    pub(super) since: Instant,
    /// How long its caller waits.
    pub(super) until: Option<Instant>,
    pub(super) state: State,
}

pub(super) enum State {
    Receiving(Receiving),
    Waiting(Waiting),
}

/// The message of a call that is coming in.
pub(super) struct Receiving {
    framing: Framing,
    plan: Plan,
    /// Once the message has begun.
    body: Option<Body>,
}

/// What reading came to.
pub(super) enum Read {
    /// More is to come.
    More,
    /// The caller gave it up, or the connection broke.
    GivenUp,
    /// All of it is there.
    Complete(Plan, Body),
    /// It has its answer already.
    Answered(Answer),
}

/// The calls of one connection.
pub(super) struct Calls {
    places: Vec<Place>,
    free: Vec<usize>,
    open: usize,
    begun: u64,
    ready: Arc<Mutex<Vec<usize>>>,
}

struct Place {
    number: u64,
    call: Option<Call>,
    ready: Arc<Ready>,
    waker: Waker,
}

/// What `h2` wakes: notes the place, once.
struct Ready {
    place: usize,
    noted: AtomicBool,
    list: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.noted.swap(true, Ordering::AcqRel) {
            self.list.lock().push(self.place);
        }
    }
}

impl Calls {
    pub(super) fn new() -> Calls {
        Calls { places: Vec::new(), free: Vec::new(), open: 0, begun: 0, ready: Arc::default() }
    }

    /// Gives a call a place, and says which.
    pub(super) fn insert(&mut self, call: Call) -> usize {
        let index = self.free.pop().unwrap_or(self.places.len());
        if index == self.places.len() {
            let ready = Arc::new(Ready { place: index, noted: AtomicBool::new(false), list: Arc::clone(&self.ready) });
            let waker = Waker::from(Arc::clone(&ready));
            self.places.push(Place { number: 0, call: None, ready, waker });
        }
        self.begun += 1;
        self.open += 1;
        let place = &mut self.places[index];
        (place.number, place.call) = (self.begun << 32 | index as u64, Some(call));
        index
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// The number by which its outcome finds it.
    pub(super) fn number(&self, index: usize) -> u64 {
        self.places.get(index).map_or(0, |place| place.number)
    }

    /// The place of the call with that number, if it is still open.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let index = number as u32 as usize;
        self.places.get(index).is_some_and(|place| place.number == number && place.call.is_some()).then_some(index)
    }

    /// The places of all open calls.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|&index| self.places[index].call.is_some()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.places.iter().filter_map(|place| place.call.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.places.iter_mut().filter_map(|place| place.call.as_mut())
    }

    /// Ends a call.
    pub(super) fn remove(&mut self, index: usize) -> Option<Call> {
        let call = self.places.get_mut(index)?.call.take()?;
        self.free.push(index);
        self.open -= 1;
        Some(call)
    }

    /// Ends a call, as [`Calls::remove`], where it stands.
    pub(super) fn end(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index).filter(|place| place.call.is_some()) {
            place.call = None;
            self.free.push(index);
            self.open -= 1;
        }
    }

    /// A call, and what wakes it.
    pub(super) fn get(&mut self, index: usize) -> Option<(&mut Call, &Waker)> {
        let place = self.places.get_mut(index)?;
        Some((place.call.as_mut()?, &place.waker))
    }

    /// Adds the places that something happened to since this was called last.
    pub(super) fn take_ready(&mut self, places: &mut Vec<usize>) {
        let mut ready = self.ready.lock();
        for &index in ready.iter() {
            self.places[index].ready.noted.store(false, Ordering::Release);
        }
        places.append(&mut ready);
    }
}

impl Call {
    /// Reads what is there of its message.
    pub(super) fn read(&mut self, service: &Service, context: &mut Context<'_>) -> Read {
        let (State::Receiving(receiving), Some(stream)) = (&mut self.state, &mut self.stream) else {
            return Read::More;
        };
        loop {
            match stream.poll_data(context) {
                Poll::Pending => return Read::More,
                Poll::Ready(None) => return receiving.end(),
                Poll::Ready(Some(Err(_))) => return Read::GivenUp,
                Poll::Ready(Some(Ok(data))) => {
                    if let Err(answer) = receiving.push(service, &data) {
                        return Read::Answered(answer);
                    }
                    if stream.is_end_stream() {
                        return receiving.end();
                    }
                    // The window is given back at once: the bytes are in the budget now, not in `h2`.
                    let _ = stream.flow_control().release_capacity(data.len());
                }
            }
        }
    }

    /// Gives back the rest of its window. Of one that is answered in the turn in which it was read `h2` does that by
    /// itself, with the rest that it has to do at the end.
    pub(super) fn release(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let window = stream.flow_control();
            let _ = window.release_capacity(window.used_capacity());
        }
    }
}

impl Receiving {
    pub(super) fn new(plan: Plan) -> Receiving {
        Receiving { framing: Framing::default(), plan, body: None }
    }

    fn push(&mut self, service: &Service, mut data: &[u8]) -> Result<(), Answer> {
        loop {
            let (used, event) = self.framing.next(data);
            data = &data[used..];
            match event {
                Event::More => return Ok(()),
                Event::Begin { compressed, length } => {
                    match (compressed, self.plan.coding) {
                        (true, Coding::Identity) => {
                            let message = "the message is compressed, and grpc-encoding does not say how";
                            return Err(Answer::rejection(Code::Internal, Reason::MALFORMED, message));
                        }
                        (true, _) => {}
                        (false, _) => self.plan.coding = Coding::Identity,
                    }
                    let body = service.intake.admission.begin(Some(length.into())).map_err(Answer::failure)?;
                    self.body = Some(body);
                }
                Event::Piece(piece) => {
                    if let Some(body) = &mut self.body {
                        body.push(piece).map_err(Answer::failure)?;
                    }
                }
                Event::Bad(fault) => return Err(bad(fault)),
            }
        }
    }

    fn end(&mut self) -> Read {
        match (self.framing.end(), self.body.take()) {
            (Err(fault), _) => Read::Answered(bad(fault)),
            (Ok(()), Some(body)) => Read::Complete(self.plan.clone(), body),
            (Ok(()), None) => Read::Answered(bad(Fault::Missing)),
        }
    }
}

fn bad(fault: Fault) -> Answer {
    Answer::rejection(Code::Internal, Reason::MALFORMED, fault.message())
}
