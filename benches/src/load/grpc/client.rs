//! One connection to a receiver of OTLP/gRPC, with many calls at once.
//!
//! # Threads
//!
//! The caller's. [`Link::turn`] does what can be done now, [`Link::wait`] waits for the socket.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use otlp_core::Signal;
use otlp_core::codec::Coding;

use super::wire::Wire;
use super::{Flag, PREFIX_LEN, path, prefix};
use crate::load::corpus::Template;
use crate::load::http::rejected;
use crate::load::stamp::Stamp;
use crate::load::{Answer, Problem, doing};

/// A message on its way, in pieces.
#[derive(Debug)]
struct Message(VecDeque<Bytes>);

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(piece) = self.0.front_mut() else { return };
            let here = count.min(piece.len());
            piece.advance(here);
            count -= here;
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
    }
}

/// A connection over which calls can begin.
pub struct Link {
    wire: Wire,
    send: SendRequest<Message>,
    connection: Pin<Box<Connection<Wire, Message>>>,
    request: Request<()>,
    is_compressed: bool,
    places: Vec<Place>,
    open: usize,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Where one call after the other is.
struct Place {
    flag: Flag,
    call: Option<Call>,
}

struct Call {
    number: u64,
    due: Instant,
    begun: Instant,
    stage: Stage,
    /// Dropping it would reset the stream.
    _stream: SendStream<Message>,
}

enum Stage {
    Asked(ResponseFuture),
    Answering { headers: HeaderMap, status: u16, body: RecvStream, message: Vec<u8> },
}

/// A call that ended.
#[derive(Debug)]
pub struct Ended {
    /// The request's number.
    pub number: u64,
    /// When it was due.
    pub due: Instant,
    /// What it was told, or what went wrong with this call alone.
    pub answer: Result<Answer, String>,
}

impl Link {
    /// Connects, and greets.
    ///
    /// # Errors
    ///
    /// The system's, HTTP/2's, or that this took longer than the timeout.
    pub fn open(address: SocketAddr, signal: Signal, coding: Coding, timeout: Duration) -> Result<Link, Problem> {
        let deadline = Instant::now() + timeout;
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(doing("cannot connect"))?;
        let wire = Wire::new(stream).map_err(doing("cannot connect"))?;
        let builder = h2::client::Builder::new();
        let mut greeting = Box::pin(builder.handshake::<_, Message>(wire.clone()));
        let context = &mut Context::from_waker(Waker::noop());
        let (send, connection) = loop {
            match greeting.as_mut().poll(context) {
                Poll::Ready(greeted) => break greeted.map_err(doing("cannot speak HTTP/2"))?,
                Poll::Pending if Instant::now() > deadline => return Err(Problem("no HTTP/2 in time".into())),
                Poll::Pending => wire.wait(Some(deadline)).map_err(doing("cannot wait"))?,
            }
        };
        let uri = format!("http://{address}{}", path(signal));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri.parse::<Uri>().map_err(doing("not an address"))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("otlp-load"));
        let is_compressed = coding != Coding::Identity;
        if is_compressed {
            let coding = HeaderValue::from_str(coding.as_str()).map_err(doing("not a header"))?;
            headers.insert("grpc-encoding", coding);
        }
        Ok(Link { wire, send, connection: Box::pin(connection), request, is_compressed, places: Vec::new(), open: 0 })
    }

    /// Calls that are open.
    pub fn open_calls(&self) -> usize {
        self.open
    }

    /// When the oldest open call began.
    pub fn oldest(&self) -> Option<Instant> {
        self.places.iter().filter_map(|place| place.call.as_ref()).map(|call| call.begun).min()
    }

    /// Whether the server lets another call begin.
    ///
    /// # Errors
    ///
    /// That it lets none begin any more.
    pub fn takes_calls(&mut self) -> io::Result<bool> {
        match self.send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(self.open < self.send.current_max_send_streams()),
            Poll::Ready(Err(error)) => Err(io::Error::other(error)),
            Poll::Pending => Ok(false),
        }
    }

    /// Begins a call; it leaves with the next turn.
    ///
    /// # Errors
    ///
    /// Where the connection takes no more: nothing was sent.
    pub fn begin(&mut self, number: u64, due: Instant, template: &Template, stamp: &Stamp) -> io::Result<()> {
        let before = prefix(self.is_compressed, template.encoded_len());
        let message = Message(template.pieces(&before, stamp));
        let sent = self.send.send_request(self.request.clone(), false);
        let (response, mut stream) = sent.map_err(io::Error::other)?;
        // Held until the windows let it go. Where it is not taken the response says so.
        let _ = stream.send_data(message, true);
        let call = Call { number, due, begun: Instant::now(), stage: Stage::Asked(response), _stream: stream };
        let free = self.places.iter().position(|place| place.call.is_none()).unwrap_or(self.places.len());
        if free == self.places.len() {
            self.places.push(Place { flag: Flag::new(), call: None });
        }
        let place = &mut self.places[free];
        place.flag.set();
        place.call = Some(call);
        self.open += 1;
        Ok(())
    }

    /// Does what can be done now, and hands over the calls that ended.
    ///
    /// # Errors
    ///
    /// Why the connection is no more.
    pub fn turn(&mut self, ended: &mut Vec<Ended>) -> io::Result<()> {
        loop {
            let closed = self.connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let mut has_moved = false;
            for place in &mut self.places {
                if !place.flag.take() {
                    continue;
                }
                let Some(call) = &mut place.call else { continue };
                let (polled, took_data) = call.poll(&mut Context::from_waker(&place.flag.waker));
                has_moved |= took_data;
                if let Poll::Ready(answer) = polled {
                    ended.push(Ended { number: call.number, due: call.due, answer });
                    place.call = None;
                    self.open -= 1;
                    has_moved = true;
                }
            }
            match closed {
                Poll::Ready(Ok(())) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Err(error)) => return Err(io::Error::other(error)),
                // A window may have been given back, a place at the server become free.
                Poll::Pending if has_moved => {}
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Waits until there is something to do, or the deadline.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        self.wire.wait(deadline)
    }

    /// The numbers of all calls that are open; they have no answer.
    pub fn into_open(self) -> impl Iterator<Item = u64> {
        self.places.into_iter().filter_map(|place| place.call).map(|call| call.number)
    }

    /// One call, from its beginning to its answer.
    ///
    /// # Errors
    ///
    /// What went wrong, or that there was no answer in time.
    pub fn call(&mut self, template: &Template, stamp: &Stamp, timeout: Duration) -> io::Result<Answer> {
        let deadline = Instant::now() + timeout;
        let mut ended = Vec::new();
        while !self.takes_calls()? && Instant::now() < deadline {
            self.turn(&mut ended)?;
            self.wait(Some(deadline))?;
        }
        self.begin(stamp.request, Instant::now(), template, stamp)?;
        loop {
            self.turn(&mut ended)?;
            if let Some(ended) = ended.pop() {
                return ended.answer.map_err(io::Error::other);
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.wait(Some(deadline))?;
        }
    }
}

impl Call {
    /// Its end, if it has come, and whether data was taken.
    fn poll(&mut self, context: &mut Context<'_>) -> (Poll<Result<Answer, String>>, bool) {
        let mut took_data = false;
        let ended = loop {
            match &mut self.stage {
                Stage::Asked(response) => match Pin::new(response).poll(context) {
                    Poll::Pending => break Poll::Pending,
                    Poll::Ready(Err(error)) => break Poll::Ready(Err(error.to_string())),
                    Poll::Ready(Ok(response)) => {
                        let (head, body) = response.into_parts();
                        let status = head.status.as_u16();
                        self.stage = Stage::Answering { headers: head.headers, status, body, message: Vec::new() };
                    }
                },
                Stage::Answering { headers, status, body, message } => match body.poll_data(context) {
                    Poll::Pending => break Poll::Pending,
                    Poll::Ready(Some(Err(error))) => break Poll::Ready(Err(error.to_string())),
                    Poll::Ready(Some(Ok(data))) => {
                        // What an answer holds is a few bytes.
                        let _ = body.flow_control().release_capacity(data.len());
                        message.extend_from_slice(&data);
                        took_data = true;
                    }
                    Poll::Ready(None) => match body.poll_trailers(context) {
                        Poll::Pending => break Poll::Pending,
                        Poll::Ready(Err(error)) => break Poll::Ready(Err(error.to_string())),
                        Poll::Ready(Ok(trailers)) => {
                            break Poll::Ready(answer(*status, headers, trailers.as_ref(), message));
                        }
                    },
                },
            }
        };
        (ended, took_data)
    }
}

/// What an answer means (OTLP 1.x, OTLP/gRPC Response: which codes are to be sent again).
fn answer(http: u16, headers: &HeaderMap, trailers: Option<&HeaderMap>, message: &[u8]) -> Result<Answer, String> {
    if http != 200 {
        return Ok(Answer::Rejected(http));
    }
    let status = trailers.and_then(|trailers| trailers.get("grpc-status")).or_else(|| headers.get("grpc-status"));
    match status.and_then(|status| status.to_str().ok()?.parse().ok()) {
        Some(0) => Ok(Answer::Accepted { rejected: rejected(message.get(PREFIX_LEN..).unwrap_or_default()) }),
        Some(1 | 4 | 8 | 10 | 11 | 14 | 15) => Ok(Answer::Refused),
        Some(code) => Ok(Answer::Rejected(code)),
        None => Err("an answer without grpc-status".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_otlp_says() {
        let with = |code: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static(code));
            headers
        };
        let none = HeaderMap::new();
        let partial = b"\0\0\0\0\x04\x0a\x02\x08\x07";
        for (http, head, trailers, message, expected) in [
            (200, &none, Some(with("0")), &b"\0\0\0\0\0"[..], Ok(Answer::Accepted { rejected: 0 })),
            (200, &none, Some(with("0")), &partial[..], Ok(Answer::Accepted { rejected: 7 })),
            (200, &with("14"), None, b"", Ok(Answer::Refused)),
            (200, &with("8"), None, b"", Ok(Answer::Refused)),
            (200, &none, Some(with("3")), b"", Ok(Answer::Rejected(3))),
            (404, &none, None, b"", Ok(Answer::Rejected(404))),
            (200, &none, None, b"", Err("an answer without grpc-status".to_owned())),
        ] {
            assert_eq!(answer(http, head, trailers.as_ref(), message), expected, "{http} {trailers:?}");
        }
    }

    #[test]
    fn a_message_is_read_across_its_pieces() {
        let mut message = Message([&b"ab"[..], b"cde", b"f"].map(Bytes::from_static).into());
        assert_eq!(message.remaining(), 6);
        message.advance(3);
        assert_eq!((message.chunk(), message.remaining()), (&b"de"[..], 3));
        message.advance(3);
        assert_eq!((message.chunk(), message.remaining()), (&b""[..], 0));
    }
}
