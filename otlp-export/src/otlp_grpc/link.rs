//! One connection to one address, from the first packet to the last, and the calls that are open over it.
//!
//! # Threads
//!
//! The driver's alone. Nothing here waits: a turn does what can be done now.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker as TaskWaker};
use std::time::{Duration, Instant};

use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason as Reset, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use otlp_core::thread::catch_panic;
use otlp_core::{Deadline, Failure, Outcome, Reason};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::answer::{self, Head};
use super::config::{Keepalive, Place};
use super::message::{Incoming, Message, timeout_value};
use super::tunnel::Tunnel;
use super::wire::{Readiness, Wire};
use super::{Address, Plan};

/// From the first packet to a connection over which calls can go.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers are tiny, so a stream needs no more than what is the default.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// `h2` derives from it how many tiny frames it puts up with, and many answers are tiny frames.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Of an answer's headers and trailers; gRPC clients take 8 to 16 KiB.
const HEADERS_BYTES_MAX: u32 = 64 << 10;

/// A call on its way.
pub(super) struct Call {
    pub(super) message: Message,
    pub(super) deadline: Deadline,
    pub(super) answer: Answer,
    /// A header of its own.
    pub(super) credentials: Option<(HeaderName, HeaderValue)>,
    /// How often a server sent it back without having looked at it.
    pub(super) returned: u32,
}

/// Who hears the outcome of a call: once, on the driver's thread. Where that panics, it hears of that.
pub(super) struct Answer(Option<Box<dyn FnOnce(Outcome) + Send>>);

impl Answer {
    pub(super) fn new(hears: impl FnOnce(Outcome) + Send + 'static) -> Answer {
        Answer(Some(Box::new(hears)))
    }

    fn give(&mut self, outcome: Outcome) {
        // What follows an answer is not the driver's, and must not end it.
        if let Some(hears) = self.0.take()
            && let Err(panic) = catch_panic(|| hears(outcome))
        {
            log::error!("what followed an answer panicked: {panic}");
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(Failure::refused(Reason::PANIC, "the thread tx-grpc panicked").into());
    }
}

impl Call {
    pub(super) fn end(mut self, outcome: impl Into<Outcome>) {
        self.answer.give(outcome.into());
    }
}

/// What became of a call.
pub(super) enum Ended {
    Answered(Outcome),
    /// The server has not looked at it: it may go again at once, over another connection.
    Returned(String),
    /// The connection broke under it.
    Broken(String),
}

pub(super) struct Link {
    plan: Arc<Plan>,
    pub(super) socket: Arc<Socket>,
    pub(super) ready: Arc<Readiness>,
    stage: Stage,
    flights: Vec<Flight>,
    connect_by: Instant,
    /// It takes no more calls: the server is going away.
    pub(super) draining: bool,
    /// Calls begun and answered over it.
    pub(super) begun: u64,
    pub(super) answered: u64,
    heard_at: Instant,
    pinged_at: Option<Instant>,
}

type Greeting =
    Pin<Box<dyn Future<Output = Result<(SendRequest<Message>, Connection<Wire, Message>), h2::Error>> + Send>>;

enum Stage {
    /// No connection yet.
    Connecting(Wire),
    /// The proxy is asked for the way.
    Tunnelling(Wire, Tunnel),
    /// TLS shakes hands.
    Securing(Wire),
    /// Our first frames are written.
    Greeting(Greeting),
    Open {
        send: SendRequest<Message>,
        connection: Pin<Box<Connection<Wire, Message>>>,
        pings: Option<PingPong>,
    },
    /// Between two stages, and after a failure.
    Nowhere,
}

struct Flight {
    call: Call,
    stream: SendStream<Message>,
    stage: FlightStage,
    /// Since it was last looked at.
    took_data: bool,
}

enum FlightStage {
    Asked(ResponseFuture),
    Answering { head: Head, body: RecvStream, incoming: Incoming },
}

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// What the system says at once.
    pub(super) fn connect(plan: &Arc<Plan>, address: &Address, now: Instant) -> Result<Link, String> {
        let tls = match &plan.tls {
            Some(tls) => Some(tls.begin(plan.target.host())?.into()),
            None => None,
        };
        let socket = Arc::new(open(address, &plan.target.place).map_err(|error| error.to_string())?);
        let ready = Readiness::new();
        ready.expect_connection();
        let wire = Wire::new(Arc::clone(&socket), Arc::clone(&ready), tls);
        Ok(Link {
            plan: Arc::clone(plan),
            socket,
            ready,
            stage: Stage::Connecting(wire),
            flights: Vec::new(),
            connect_by: now + CONNECT_TIMEOUT,
            draining: false,
            begun: 0,
            answered: 0,
            heard_at: now,
            pinged_at: None,
        })
    }

    pub(super) fn open_calls(&self) -> usize {
        self.flights.len()
    }

    /// Whether a call can begin over it now.
    pub(super) fn takes_calls(&mut self) -> bool {
        let Stage::Open { send, .. } = &mut self.stage else { return false };
        match send.poll_ready(&mut Context::from_waker(TaskWaker::noop())) {
            Poll::Ready(Ok(())) => !self.draining && self.flights.len() < send.current_max_send_streams(),
            Poll::Ready(Err(_)) => {
                self.draining = true;
                false
            }
            Poll::Pending => false,
        }
    }

    /// Begins a call. It comes back where the connection takes no more.
    pub(super) fn begin(&mut self, call: Call, now: Instant) -> Option<Call> {
        let Stage::Open { send, .. } = &mut self.stage else { return Some(call) };
        let mut request = request(&self.plan.uri, &self.plan.headers, call.deadline.remaining(now));
        if let Some((name, value)) = &call.credentials {
            request.headers_mut().insert(name, value.clone());
        }
        let Ok((response, mut stream)) = send.send_request(request, false) else {
            self.draining = true;
            return Some(call);
        };
        // `h2` keeps the message by reference and obeys both windows. Where it does not take it, the response says so.
        let _ = stream.send_data(call.message.clone(), true);
        if self.flights.is_empty() {
            // Silence while nothing was open means nothing.
            self.heard_at = now;
        }
        if self.begun > 0 {
            self.plan.meters.reused.increment();
        }
        self.begun += 1;
        self.flights.push(Flight { call, stream, stage: FlightStage::Asked(response), took_data: false });
        None
    }

    /// Does all that can be done now. Calls that ended go to `ended`.
    ///
    /// # Errors
    ///
    /// Why the connection is no more. [`Link::take_calls`] has the calls that were still open.
    pub(super) fn turn(&mut self, now: Instant, ended: &mut Vec<(Call, Ended)>) -> Result<(), String> {
        self.ready.refill();
        let context = &mut Context::from_waker(TaskWaker::noop());
        if !self.open(now, context)? {
            return Ok(());
        }
        self.expire(now);
        loop {
            let Stage::Open { connection, .. } = &mut self.stage else { return Ok(()) };
            let closed = connection.as_mut().poll(context);
            let has_more = self.collect(context, ended);
            match closed {
                Poll::Ready(Ok(())) => {
                    self.draining = true;
                    return Err("the server closed the connection".into());
                }
                Poll::Ready(Err(error)) => {
                    self.draining |= error.is_go_away() && error.is_remote();
                    return Err(error.to_string());
                }
                Poll::Pending if !has_more => break,
                Poll::Pending => {}
            }
        }
        self.keep_alive(now, context)
    }

    /// The calls that are open, for another end. Their streams are reset.
    pub(super) fn take_calls(&mut self) -> impl Iterator<Item = Call> + use<> {
        std::mem::take(&mut self.flights).into_iter().map(|flight| flight.call)
    }

    /// When something is due here though nothing comes.
    pub(super) fn due(&self) -> Option<Instant> {
        if !matches!(self.stage, Stage::Open { .. }) {
            return Some(self.connect_by);
        }
        let deadlines = self.flights.iter().filter_map(|flight| flight.call.deadline.instant()).min();
        let keepalive = &self.plan.keepalive;
        let ping = match self.pinged_at {
            Some(pinged_at) => Some(pinged_at + keepalive.timeout),
            None => self.pings_are_due(keepalive).then(|| self.heard_at + keepalive.time),
        };
        deadlines.into_iter().chain(ping).min()
    }

    /// Ends it in the proper way, as far as that can be done now.
    pub(super) fn close(mut self) {
        self.flights.clear();
        self.ready.refill();
        if let Stage::Open { send, mut connection, .. } = self.stage {
            drop(send);
            let context = &mut Context::from_waker(TaskWaker::noop());
            // Resets, GOAWAY and the end of TLS, each after the one before.
            for _ in 0..4 {
                if connection.as_mut().poll(context).is_ready() {
                    break;
                }
            }
        }
    }

    /// Goes on until calls can go over it; true when they can.
    fn open(&mut self, now: Instant, context: &mut Context<'_>) -> Result<bool, String> {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Nowhere);
            let (stage, has_advanced) = self.advance(stage, context)?;
            self.stage = stage;
            if !has_advanced {
                break;
            }
        }
        match self.stage {
            Stage::Open { .. } => Ok(true),
            _ if now >= self.connect_by => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
            _ => Ok(false),
        }
    }

    /// One stage further, where that can be done now.
    fn advance(&self, stage: Stage, context: &mut Context<'_>) -> Result<(Stage, bool), String> {
        Ok(match stage {
            Stage::Connecting(wire) if self.ready.is_writable() => {
                match self.socket.take_error() {
                    Ok(None) => {}
                    Ok(Some(error)) | Err(error) => return Err(error.to_string()),
                }
                match &self.plan.proxy {
                    Some(proxy) => (Stage::Tunnelling(wire, Tunnel::new(proxy, &self.plan.target.authority())), true),
                    None => (Stage::Securing(wire), true),
                }
            }
            Stage::Tunnelling(wire, mut tunnel) => match tunnel.advance(&mut wire.beneath()) {
                Ok(true) => (Stage::Securing(wire), true),
                Ok(false) => (Stage::Tunnelling(wire, tunnel), false),
                Err(error) => return Err(error.to_string()),
            },
            Stage::Securing(mut wire) => match wire.shake_hands() {
                Ok(true) => match wire.alpn() {
                    // A server that does not choose is given the benefit of the doubt.
                    Some(chosen) if chosen != b"h2" => {
                        return Err(format!("the server speaks {}, not HTTP/2", String::from_utf8_lossy(chosen)));
                    }
                    _ => (Stage::Greeting(Box::pin(builder().handshake(wire))), true),
                },
                Ok(false) => (Stage::Securing(wire), false),
                Err(error) => return Err(format!("the TLS handshake failed: {error}")),
            },
            Stage::Greeting(mut greeting) => match greeting.as_mut().poll(context) {
                Poll::Ready(Ok((send, mut connection))) => {
                    self.plan.meters.opened.increment();
                    let pings = connection.ping_pong();
                    (Stage::Open { send, connection: Box::pin(connection), pings }, true)
                }
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Pending => (Stage::Greeting(greeting), false),
            },
            stage => (stage, false),
        })
    }

    /// Takes the answers that are there; true where anything was taken, so that there is something to write: windows
    /// that were given back, resets.
    fn collect(&mut self, context: &mut Context<'_>, ended: &mut Vec<(Call, Ended)>) -> bool {
        let (mut index, before, mut took_data) = (0, ended.len(), false);
        while let Some(flight) = self.flights.get_mut(index) {
            let polled = flight.poll(&self.plan.to, context);
            took_data |= std::mem::take(&mut flight.took_data);
            match polled {
                Poll::Pending => index += 1,
                Poll::Ready(end) => {
                    self.answered += u64::from(matches!(end, Ended::Answered(_)));
                    ended.push((self.flights.swap_remove(index).call, end));
                }
            }
        }
        took_data || ended.len() > before
    }

    fn expire(&mut self, now: Instant) {
        let late = |flight: &mut Flight| flight.call.deadline.passed(now);
        for mut flight in self.flights.extract_if(.., late) {
            flight.stream.send_reset(Reset::CANCEL);
            let message = format!("no answer of {} in time; raise timeout", self.plan.to);
            flight.call.end(super::timed_out(message));
        }
    }

    fn pings_are_due(&self, keepalive: &Keepalive) -> bool {
        !keepalive.time.is_zero() && (keepalive.permit_without_stream || !self.flights.is_empty())
    }

    fn keep_alive(&mut self, now: Instant, context: &mut Context<'_>) -> Result<(), String> {
        let keepalive = self.plan.keepalive;
        if self.ready.take_heard() {
            self.heard_at = now;
            self.pinged_at = None;
        }
        let wanted = self.pings_are_due(&keepalive);
        let Stage::Open { connection, pings: Some(pings), .. } = &mut self.stage else { return Ok(()) };
        // Takes a pong, so that the next ping may go out.
        let _ = pings.poll_pong(context);
        match self.pinged_at {
            Some(pinged_at) if now >= pinged_at + keepalive.timeout => {
                Err(format!("nothing came within {:?} of a ping", keepalive.timeout))
            }
            None if wanted && now >= self.heard_at + keepalive.time => {
                if pings.send_ping(Ping::opaque()).is_ok() {
                    self.pinged_at = Some(now);
                    if let Poll::Ready(closed) = connection.as_mut().poll(context) {
                        return Err(closed.err().map_or_else(String::new, |error| error.to_string()));
                    }
                } else {
                    self.heard_at = now;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Flight {
    fn poll(&mut self, to: &str, context: &mut Context<'_>) -> Poll<Ended> {
        loop {
            match &mut self.stage {
                FlightStage::Asked(response) => {
                    let (head, body) = match Pin::new(response).poll(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(error)) => return Poll::Ready(broken(to, &error)),
                        Poll::Ready(Ok(response)) => response.into_parts(),
                    };
                    let head = Head { status: head.status.as_u16(), headers: head.headers };
                    if head.is_all() {
                        let outcome = answer::outcome(to, &head, &Incoming::default(), None);
                        return Poll::Ready(Ended::Answered(outcome));
                    }
                    self.stage = FlightStage::Answering { head, body, incoming: Incoming::default() };
                }
                FlightStage::Answering { head, body, incoming } => {
                    let data = match body.poll_data(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(broken(to, &error)),
                        Poll::Ready(Some(Ok(data))) => data,
                        Poll::Ready(None) => match body.poll_trailers(context) {
                            Poll::Pending => return Poll::Pending,
                            Poll::Ready(Err(error)) => return Poll::Ready(broken(to, &error)),
                            Poll::Ready(Ok(trailers)) => {
                                let outcome = answer::outcome(to, head, incoming, trailers.as_ref());
                                return Poll::Ready(Ended::Answered(outcome));
                            }
                        },
                    };
                    // Given back at once: what an answer may hold has a limit of its own.
                    let _ = body.flow_control().release_capacity(data.len());
                    self.took_data = true;
                    if incoming.take(&data).is_err() {
                        self.stream.send_reset(Reset::CANCEL);
                        return Poll::Ready(Ended::Answered(answer::too_long(to).into()));
                    }
                }
            }
        }
    }
}

/// What a stream's failure means (gRPC, Errors; HTTP/2, section 8.7: what was refused was not looked at).
fn broken(to: &str, error: &h2::Error) -> Ended {
    let remote = error.is_remote();
    if (error.is_go_away() && remote) || error.reason() == Some(Reset::REFUSED_STREAM) {
        return Ended::Returned(error.to_string());
    }
    if !(error.is_reset() && remote) {
        // As TLS or HTTP/1.1 looks when it is read as a frame.
        let strange = !remote && error.reason() == Some(Reset::FRAME_SIZE_ERROR);
        let hint = if strange { "; what answers there may speak TLS, or no HTTP/2" } else { "" };
        return Ended::Broken(format!("{error}{hint}"));
    }
    let message = format!("error exporting items, {to} ended the call: {error}");
    let failure = match error.reason() {
        Some(Reset::CANCEL | Reset::ENHANCE_YOUR_CALM) => Failure::refused(Reason::UNAVAILABLE, message),
        // Whatever else it is would be the same the next time: INTERNAL.
        _ => Failure::rejected(otlp_core::Code::Internal, Reason::PERMANENT, message),
    };
    Ended::Answered(failure.into())
}

fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .enable_push(false)
        // Until the server said how many it takes. More would come back refused.
        .initial_max_send_streams(1);
    builder
}

fn request(uri: &Uri, headers: &HeaderMap, left: Option<Duration>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    if let Some(value) = left.and_then(|left| HeaderValue::try_from(timeout_value(left)).ok()) {
        request.headers_mut().insert("grpc-timeout", value);
    }
    request
}

/// A socket that begins to connect.
fn open(address: &Address, place: &Place) -> io::Result<Socket> {
    let (address, domain) = match (address, place) {
        (Address::Tcp(address), _) => (SockAddr::from(*address), Domain::for_address(*address)),
        (Address::Unix, Place::Unix(path)) => (path.address()?, Domain::UNIX),
        (Address::Unix, Place::Host(..)) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
        // Go's default: a peer that vanished without a word is noticed within minutes.
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(15)))?;
    }
    match socket.connect(&address) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}
