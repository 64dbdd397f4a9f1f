//! The sink's end of a connection that speaks OTLP/gRPC: takes calls, answers them when the sink says so.
//!
//! Windows are wide, so that they hold up nobody; frames have the size that nearly all servers leave them at.

use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use otlp_core::Signal;
use otlp_core::codec::Coding;

use super::wire::Wire;
use super::{Flag, PREFIX_LEN, path};
use crate::load::sink::{Shared, Verdict};
use crate::load::tally::Arrival;

const STREAM_WINDOW_BYTES: u32 = 64 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
const STREAMS_MAX: u32 = 1000;
const UNAVAILABLE: &str = "14";
const INVALID_ARGUMENT: &str = "3";

/// Serves until the other side ends the connection.
pub(in crate::load) fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let wire = Wire::new(stream)?;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    let mut greeting = Box::pin(builder.handshake::<_, Bytes>(wire.clone()));
    let context = &mut Context::from_waker(Waker::noop());
    let mut connection = loop {
        match greeting.as_mut().poll(context) {
            Poll::Ready(connection) => break connection.map_err(io::Error::other)?,
            Poll::Pending => wire.wait(None)?,
        }
    };
    let mut calls = Calls::default();
    loop {
        let mut has_moved = false;
        loop {
            match connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    calls.begin(request, respond);
                    has_moved = true;
                }
                Poll::Ready(Some(Err(error))) => return Err(io::Error::other(error)),
                Poll::Ready(None) => return Ok(()),
                Poll::Pending => break,
            }
        }
        has_moved |= calls.take(shared);
        has_moved |= calls.answer(Instant::now());
        if has_moved {
            continue;
        }
        if shared.is_away() && calls.open == 0 {
            return Ok(());
        }
        wire.wait(calls.answers.iter().map(|answer| answer.at).min())?;
    }
}

/// The calls of a connection.
#[derive(Default)]
struct Calls {
    places: Vec<Place>,
    open: usize,
    answers: Vec<Due>,
    arrival: Arrival,
    inflated: Vec<u8>,
}

struct Place {
    flag: Flag,
    call: Option<Call>,
    message: Vec<u8>,
}

struct Call {
    signal: Option<Signal>,
    coding: Option<Coding>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

/// An answer that is to be given.
struct Due {
    at: Instant,
    respond: SendResponse<Bytes>,
    status: &'static str,
}

impl Calls {
    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, body) = request.into_parts();
        let coding = head.headers.get("grpc-encoding").map_or("identity", |value| value.to_str().unwrap_or("?"));
        let signal = Signal::ALL.into_iter().find(|&signal| path(signal) == head.uri.path());
        let call = Call { signal, coding: Coding::from_header(coding), body, respond };
        let free = self.places.iter().position(|place| place.call.is_none()).unwrap_or(self.places.len());
        if free == self.places.len() {
            self.places.push(Place { flag: Flag::new(), call: None, message: Vec::new() });
        }
        let place = &mut self.places[free];
        place.flag.set();
        place.message.clear();
        place.call = Some(call);
        self.open += 1;
    }

    /// Takes what came of messages; true where anything did.
    fn take(&mut self, shared: &Shared) -> bool {
        let mut has_moved = false;
        for place in &mut self.places {
            if !place.flag.take() {
                continue;
            }
            let Some(call) = &mut place.call else { continue };
            let context = &mut Context::from_waker(&place.flag.waker);
            loop {
                match call.body.poll_data(context) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(data))) => {
                        let _ = call.body.flow_control().release_capacity(data.len());
                        place.message.extend_from_slice(&data);
                        has_moved = true;
                    }
                    // Reset by the other side: nothing to answer.
                    Poll::Ready(Some(Err(_))) => {
                        place.call = None;
                        self.open -= 1;
                        has_moved = true;
                        break;
                    }
                    Poll::Ready(None) => {
                        if let Some(call) = place.call.take() {
                            let message = place.message.get(PREFIX_LEN..).unwrap_or_default();
                            let coding =
                                if place.message.first() == Some(&1) { call.coding } else { Some(Coding::Identity) };
                            let head = call.signal.zip(coding);
                            let verdict = shared.judge(head, message, &mut self.inflated, &mut self.arrival);
                            let (at, status) = match verdict {
                                Verdict::Taken { answer_at } => (answer_at, "0"),
                                Verdict::Refused { answer_at } => (answer_at, UNAVAILABLE),
                                Verdict::Unreadable => (Instant::now(), INVALID_ARGUMENT),
                            };
                            self.answers.push(Due { at, respond: call.respond, status });
                            self.open -= 1;
                        }
                        has_moved = true;
                        break;
                    }
                }
            }
        }
        has_moved
    }

    /// Gives the answers that are due; true where there was one.
    fn answer(&mut self, now: Instant) -> bool {
        let before = self.answers.len();
        for due in self.answers.extract_if(.., |due| due.at <= now + Duration::from_micros(1)) {
            // Where the caller is gone there is nobody to tell.
            let _ = respond(due);
        }
        self.answers.len() < before
    }
}

fn respond(mut due: Due) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    let status = HeaderValue::from_static(due.status);
    if due.status != "0" {
        response.headers_mut().insert("grpc-status", status);
        due.respond.send_response(response, true)?;
        return Ok(());
    }
    let mut stream = due.respond.send_response(response, false)?;
    stream.send_data(Bytes::from_static(&[0; PREFIX_LEN]), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status);
    stream.send_trailers(trailers)
}
