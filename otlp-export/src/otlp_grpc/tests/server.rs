//! A gRPC server that does with each call what the test's script says: `h2` polled by hand on one thread for each
//! connection, over the same wire as the client.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use socket2::Socket;

use crate::otlp_grpc::wire::{Readiness, Wire, wait};

/// What to do with a call.
#[derive(Clone, Debug)]
pub(super) enum Do {
    Reply(Reply),
    /// Never answer.
    Stall,
    Reset(Reason),
    /// Close the connection without a word.
    Close,
    /// Answer, and say goodbye to the connection.
    ReplyAndGoAway(Reply),
    /// Answer without reading what is asked.
    Early(Reply),
}

#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// With its prefix; none where the answer is headers only.
    pub(super) message: Option<Vec<u8>>,
    pub(super) trailers: Vec<(&'static str, String)>,
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

pub(super) fn ok(message: &[u8]) -> Do {
    Do::Reply(success(message))
}

pub(super) fn success(message: &[u8]) -> Reply {
    let headers = vec![("content-type", "application/grpc".to_owned())];
    Reply { status: 200, headers, message: Some(framed(message)), trailers: vec![("grpc-status", "0".to_owned())] }
}

/// Trailers-Only.
pub(super) fn status(code: i32, more: &[(&'static str, &str)]) -> Reply {
    let mut headers = vec![("content-type", "application/grpc".to_owned()), ("grpc-status", code.to_string())];
    headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Reply { status: 200, headers, message: None, trailers: vec![] }
}

/// A call as it came.
#[derive(Debug)]
pub(super) struct Seen {
    /// Which connection it came over, from 0.
    pub(super) connection: usize,
    pub(super) head: http::request::Parts,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The one message of the body, decompressed by `grpc-encoding`.
    pub(super) fn message(&self) -> Vec<u8> {
        let (prefix, message) = self.body.split_at(5);
        assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
        match (prefix[0], self.header("grpc-encoding")) {
            (0, None) => message.to_vec(),
            (1, Some(coding)) => {
                let coding = otlp_core::codec::Coding::from_header(coding).unwrap();
                otlp_core::codec::decode(coding, message, otlp_core::ByteSize::mib(64), &mut |_| Ok(())).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Options {
    pub(super) window: Option<u32>,
    pub(super) streams_max: Option<u32>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Ping each client once; the answers go to [`Server::pongs`].
    pub(super) ping: bool,
    /// Who takes the first connections, in place of the script.
    pub(super) raw: Vec<fn(TcpStream)>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Receiver<Seen>,
    pub(super) pongs: Receiver<()>,
}

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<VecDeque<Do>>>,
    seen: Sender<Seen>,
    pongs: Sender<()>,
}

impl Server {
    /// Follows the script, one step for each call, then answers OK to everything.
    pub(super) fn start(script: impl IntoIterator<Item = Do>) -> Server {
        Server::with(Options::default(), script)
    }

    pub(super) fn with(options: Options, script: impl IntoIterator<Item = Do>) -> Server {
        Server::listen(TcpListener::bind("127.0.0.1:0").unwrap(), options, script)
    }

    pub(super) fn listen(listener: TcpListener, options: Options, script: impl IntoIterator<Item = Do>) -> Server {
        let address = listener.local_addr().unwrap();
        let (seen, pongs) = (channel(), channel());
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let shared = Shared { script, seen: seen.0, pongs: pongs.0 };
        // Threads end with their connections, or with the test's process.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (options, shared, stream) = (options.clone(), shared.clone(), stream.unwrap());
                std::thread::spawn(move || match options.raw.get(number) {
                    Some(raw) => raw(stream),
                    None => drop(serve(Socket::from(stream), number, &options, &shared)),
                });
            }
        });
        Server { address, seen: seen.1, pongs: pongs.1 }
    }

    #[cfg(unix)]
    pub(super) fn listen_unix(path: &std::path::Path) -> Server {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let (seen, pongs) = (channel(), channel());
        let shared = Shared { script: Arc::default(), seen: seen.0, pongs: pongs.0 };
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (shared, stream) = (shared.clone(), stream.unwrap());
                std::thread::spawn(move || serve(Socket::from(stream), number, &Options::default(), &shared));
            }
        });
        Server { address: ([127, 0, 0, 1], 0).into(), seen: seen.1, pongs: pongs.1 }
    }
}

struct Exchange {
    head: Option<http::request::Parts>,
    incoming: h2::RecvStream,
    body: Vec<u8>,
    respond: SendResponse<Bytes>,
}

fn serve(socket: Socket, number: usize, options: &Options, shared: &Shared) -> Option<()> {
    socket.set_nonblocking(true).unwrap();
    let (socket, ready) = (Arc::new(socket), Readiness::new());
    let sockets = [(Arc::clone(&socket), Arc::clone(&ready))];
    let tls = options.tls.clone();
    let tls = tls.map(|config| rustls::Connection::Server(rustls::ServerConnection::new(config).unwrap()));
    let mut wire = Wire::new(socket, Arc::clone(&ready), tls);
    while !wire.shake_hands().ok()? {
        wait(None, &sockets, None).unwrap();
        ready.refill();
    }
    let context = &mut Context::from_waker(Waker::noop());
    let mut builder = h2::server::Builder::new();
    if let Some(window) = options.window {
        builder.initial_window_size(window);
    }
    if let Some(most) = options.streams_max {
        builder.max_concurrent_streams(most);
    }
    let mut handshake = pin!(builder.handshake::<_, Bytes>(wire));
    let mut connection = loop {
        match handshake.as_mut().poll(context) {
            Poll::Ready(connection) => break connection.ok()?,
            Poll::Pending => wait(None, &sockets, None).unwrap(),
        }
        ready.refill();
    };
    let mut pings = connection.ping_pong().unwrap();
    if options.ping {
        pings.send_ping(h2::Ping::opaque()).unwrap();
    }
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut stalled = Vec::new();
    loop {
        let mut progress = false;
        while let Poll::Ready(accepted) = connection.poll_accept(context) {
            let (request, respond) = accepted?.ok()?;
            let (head, incoming) = request.into_parts();
            let early = matches!(shared.script.lock().unwrap().front(), Some(Do::Early(_)));
            let mut exchange = Exchange { head: Some(head), incoming, body: Vec::new(), respond };
            if early {
                let Some(Do::Early(reply)) = shared.script.lock().unwrap().pop_front() else { panic!() };
                send(&mut exchange.respond, &reply)?;
                // Which resets the stream with NO_ERROR, after the answer.
                drop(exchange);
            } else {
                exchanges.push(exchange);
            }
            progress = true;
        }
        if options.ping && matches!(pings.poll_pong(context), Poll::Ready(Ok(_))) {
            let _ = shared.pongs.send(());
        }
        let mut index = 0;
        while index < exchanges.len() {
            let exchange = &mut exchanges[index];
            match exchange.incoming.poll_data(context) {
                Poll::Pending => index += 1,
                Poll::Ready(Some(data)) => {
                    let Ok(data) = data else {
                        exchanges.swap_remove(index);
                        continue;
                    };
                    exchange.body.extend_from_slice(&data);
                    exchange.incoming.flow_control().release_capacity(data.len()).unwrap();
                    progress = true;
                }
                Poll::Ready(None) => {
                    progress = true;
                    let mut exchange = exchanges.swap_remove(index);
                    let (head, body) = (exchange.head.take().unwrap(), std::mem::take(&mut exchange.body));
                    let _ = shared.seen.send(Seen { connection: number, head, body });
                    let step = shared.script.lock().unwrap().pop_front().unwrap_or_else(|| ok(b""));
                    match step {
                        Do::Reply(reply) => send(&mut exchange.respond, &reply)?,
                        Do::Stall => stalled.push(exchange),
                        Do::Reset(reason) => exchange.respond.send_reset(reason),
                        Do::Close => return None,
                        Do::ReplyAndGoAway(reply) => {
                            send(&mut exchange.respond, &reply)?;
                            connection.graceful_shutdown();
                        }
                        Do::Early(_) => panic!("it came with others"),
                    }
                }
            }
        }
        if !progress {
            wait(None, &sockets, None).unwrap();
            ready.refill();
        }
    }
}

fn fields(fields: &[(&'static str, String)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, String)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    fields.iter().map(field).collect()
}

fn send(respond: &mut SendResponse<Bytes>, reply: &Reply) -> Option<()> {
    let mut response = Response::new(());
    *response.status_mut() = reply.status.try_into().unwrap();
    *response.headers_mut() = fields(&reply.headers);
    let mut stream = respond.send_response(response, reply.message.is_none()).ok()?;
    if let Some(message) = &reply.message {
        stream.send_data(Bytes::copy_from_slice(message), reply.trailers.is_empty()).ok()?;
        if !reply.trailers.is_empty() {
            stream.send_trailers(fields(&reply.trailers)).ok()?;
        }
    }
    Some(())
}

/// Reads the preface and frames until a HEADERS frame has come.
pub(super) fn read_headers(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 24]).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).unwrap();
        if head[3] == 1 {
            return;
        }
    }
}

pub(super) fn write_frame(stream: &mut TcpStream, kind: u8, flags: u8, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    let frame = [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat();
    stream.write_all(&frame).unwrap();
}
