//! Our own kept-alive connections over plain TCP, or a Unix socket.
//!
//! One vectored write for head and body, the answer by httparse. ureq copies the body, sends the head apart and costs
//! three times the CPU on the path that every request of a gateway takes.
//!
//! # Limits
//!
//! An answer's head is at most 64 KiB and 64 lines; of its body 64 KiB are kept. What goes on is read to its end where
//! that is not far, else the connection is closed.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::lock::Mutex;
use otlp_core::{Deadline, Reason};
use socket2::{Domain, Socket, Type};

use super::answer::Answer;
use super::read::{AnswerReader, Progress};
use super::transport::{Broken, Keeping, Pending, Request, Transport, slices};
use super::url::Url;
use crate::unix::SocketName;

/// A connection unused for longer than this is asked whether it is still open before it is used: a system call or
/// three, against a request that has to be sent twice.
const TRUSTED: Duration = Duration::from_millis(500);

/// Socket timeouts that differ by less than this are not set again.
const TIMEOUT_SLACK: Duration = Duration::from_millis(100);

/// Plain HTTP/1.1, straight or through a proxy.
pub(crate) struct Plain {
    keeping: Keeping,
    /// The proxy and what authorizes us there.
    proxy: Option<(Url, Option<String>)>,
    idle: Mutex<Idle>,
    in_use: Mutex<Vec<Weak<TcpStream>>>,
}

#[derive(Default)]
struct Idle {
    closed: bool,
    connections: VecDeque<(Instant, Connection)>,
}

struct Connection {
    to: Peer,
    stream: Arc<TcpStream>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// Where a connection goes.
#[derive(PartialEq)]
enum Peer {
    Host(String, u16),
    Socket(SocketName),
}

impl Peer {
    fn of(url: &Url) -> Peer {
        match &url.socket {
            Some(name) => Peer::Socket(name.clone()),
            None => Peer::Host(url.host.clone(), url.port),
        }
    }
}

impl Plain {
    pub(crate) fn new(keeping: Keeping, proxy: Option<Url>) -> Plain {
        let proxy = proxy.map(|url| {
            let basic = url.basic();
            (url, basic)
        });
        Plain { keeping, proxy, idle: Mutex::default(), in_use: Mutex::default() }
    }

    fn peer<'a>(&'a self, url: &'a Url) -> &'a Url {
        self.proxy.as_ref().map_or(url, |(proxy, _)| proxy)
    }

    /// The newest of those that are open to that peer; those kept for too long are closed.
    fn reuse(&self, peer: &Url) -> Option<Connection> {
        let (now, peer) = (Instant::now(), Peer::of(peer));
        loop {
            let (since, connection) = {
                let mut idle = self.idle.lock();
                if let Some(limit) = self.keeping.idle_timeout {
                    idle.connections.retain(|(since, _)| now.saturating_duration_since(*since) < limit);
                }
                let index = idle.connections.iter().rposition(|(_, connection)| connection.to == peer)?;
                idle.connections.remove(index)?
            };
            if now.saturating_duration_since(since) < TRUSTED || connection.is_open() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.closed || self.keeping.idle_max == 0 {
            return;
        }
        if idle.connections.len() >= self.keeping.idle_max {
            idle.connections.pop_front();
        }
        idle.connections.push_back((Instant::now(), connection));
    }

    fn connect(&self, peer: &Url, deadline: Deadline) -> Result<Connection, Broken> {
        if let Some(name) = &peer.socket {
            let stream = connect_socket(name, deadline);
            let stream = stream.map_err(|error| Broken::io(&format!("cannot connect to {name}"), &error))?;
            return self.connected(stream, peer);
        }
        let doing = || format!("cannot connect to {}:{}", peer.host, peer.port);
        let addresses =
            self.keeping.names.resolve(&peer.host, peer.port).map_err(|error| Broken::io(&doing(), &error))?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for (index, address) in addresses.iter().enumerate() {
            match connect_one(address, deadline, addresses.len() - index) {
                Ok(stream) => return self.connected(stream, peer),
                Err(error) => last = error,
            }
        }
        Err(Broken::io(&doing(), &last))
    }

    /// Takes a connection into use.
    fn connected(&self, stream: TcpStream, peer: &Url) -> Result<Connection, Broken> {
        let stream = Arc::new(stream);
        let mut in_use = self.in_use.lock();
        in_use.retain(|known| known.strong_count() > 0);
        in_use.push(Arc::downgrade(&stream));
        drop(in_use);
        if self.idle.lock().closed {
            return Err(Broken::new(Reason::SHUTDOWN, "the exporter is stopped"));
        }
        self.keeping.opened.increment();
        Ok(Connection { to: Peer::of(peer), stream, read_timeout: None, write_timeout: None })
    }

    /// An idle connection, straight to that server, to be used by somebody else from here on.
    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    pub(crate) fn give_away(&self, url: &Url) -> Option<Arc<TcpStream>> {
        self.reuse(url).map(|connection| connection.stream)
    }

    fn head(&self, request: &Request<'_>) -> Vec<u8> {
        let mut head = self.head_start(request.url, request.headers);
        let length: usize = request.body.iter().map(|part| part.len()).sum();
        let _ = write!(head, "{length}\r\n\r\n");
        head
    }

    /// The head of every request, up to the length of its body.
    pub(crate) fn head_start(&self, url: &Url, headers: &[(String, String)]) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        // To a proxy the whole URL goes (RFC 9112, section 3.2.2).
        let target = if self.proxy.is_some() { url.to_string() } else { url.path.clone() };
        let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = host.map_or_else(|| url.authority(), |(_, value)| value.clone());
        let _ = write!(head, "POST {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some((_, Some(basic))) = &self.proxy {
            let _ = write!(head, "Proxy-Authorization: {basic}\r\n");
        }
        if self.keeping.idle_max == 0 {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        head.extend_from_slice(b"Content-Length: ");
        head
    }
}

fn connect_one(address: &SocketAddr, deadline: Deadline, left: usize) -> io::Result<TcpStream> {
    let stream = match deadline.remaining(Instant::now()) {
        None => TcpStream::connect(address)?,
        Some(remaining) if remaining.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
        // The first addresses must not eat the time of the last.
        Some(remaining) => TcpStream::connect_timeout(address, remaining / left.max(1) as u32)?,
    };
    stream.set_nodelay(true)?;
    // Go's default: a peer that vanished without a word is noticed within minutes.
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(15));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// A socket whose backlog is full waits, as it does for TCP: as long as it may write.
///
/// What comes back is a descriptor to be read, written and shut down, whatever it is connected to: one type for both.
fn connect_socket(name: &SocketName, deadline: Deadline) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(timeout(deadline)?)?;
    socket.connect(&name.address()?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

impl Transport for Plain {
    fn send<'a>(
        &'a self,
        request: &Request<'_>,
        fresh: bool,
        deadline: Deadline,
    ) -> Result<Box<dyn Pending + 'a>, Broken> {
        let peer = self.peer(request.url);
        let (mut connection, reused) = match self.reuse(peer).filter(|_| !fresh) {
            Some(connection) => (connection, true),
            None => (self.connect(peer, deadline)?, false),
        };
        if reused {
            self.keeping.reused.increment();
        }
        let head = self.head(request);
        let mut parts = Vec::with_capacity(request.body.len() + 1);
        parts.push(&head[..]);
        parts.extend_from_slice(request.body);
        // A server may answer before it has read everything, 413 say, and close: then the write fails and the answer is
        // there all the same.
        let unsent = connection.write_all(&parts, deadline).err();
        Ok(Box::new(Sent { transport: self, connection, reused, unsent }))
    }

    fn close(&self) {
        let idle = {
            let mut idle = self.idle.lock();
            idle.closed = true;
            std::mem::take(&mut idle.connections)
        };
        drop(idle);
        for stream in self.in_use.lock().drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

struct Sent<'a> {
    transport: &'a Plain,
    connection: Connection,
    reused: bool,
    unsent: Option<io::Error>,
}

impl Pending for Sent<'_> {
    fn answer(self: Box<Self>, deadline: Deadline) -> Result<Answer, Broken> {
        let Sent { transport, mut connection, reused, unsent } = *self;
        let mut reader = AnswerReader::default();
        let mut buffer = [0u8; 8 << 10];
        loop {
            let read = connection.read(&mut buffer, deadline);
            let began = reader.has_begun();
            let progress = match read {
                Ok(0) => reader.end(),
                Ok(count) => reader.take(&buffer[..count]),
                Err(error) => {
                    let cause = unsent.as_ref().filter(|_| !began).unwrap_or(&error);
                    let doing =
                        if unsent.is_some() && !began { "cannot send the request" } else { "cannot read the answer" };
                    let timed_out = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
                    return Err(Broken { stale: reused && !began && !timed_out, ..Broken::io(doing, cause) });
                }
            };
            match progress {
                Progress::More => {}
                Progress::Done { keep } => {
                    if keep && unsent.is_none() {
                        transport.keep(connection);
                    }
                    return Ok(reader.into_answer());
                }
                Progress::Cut if !began => {
                    let message = match &unsent {
                        Some(error) => format!("cannot send the request: {error}"),
                        None => "the connection was closed without an answer".to_owned(),
                    };
                    return Err(Broken { stale: reused, ..Broken::new(Reason::CONNECTION, message) });
                }
                Progress::Cut => {
                    return Err(Broken::new(Reason::CONNECTION, "the connection was closed within the answer"));
                }
                Progress::Bad(what) => return Err(Broken::new(Reason::BAD_ANSWER, what)),
                Progress::Foreign => return Err(Broken::foreign()),
            }
        }
    }
}

impl Connection {
    fn write_all(&mut self, parts: &[&[u8]], deadline: Deadline) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut written = 0;
        while written < total {
            let timeout = timeout(deadline)?;
            if differs(timeout, self.write_timeout) {
                self.stream.set_write_timeout(timeout)?;
                self.write_timeout = timeout;
            }
            match (&*self.stream).write_vectored(&slices(parts, written)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        loop {
            let timeout = timeout(deadline)?;
            if differs(timeout, self.read_timeout) {
                self.stream.set_read_timeout(timeout)?;
                self.read_timeout = timeout;
            }
            match (&*self.stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Whether nothing has come, neither the end nor bytes nobody asked for.
    fn is_open(&self) -> bool {
        let peek = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0u8; 1]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        matches!(peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// What is left of a deadline as a socket's timeout, which must not be zero.
fn timeout(deadline: Deadline) -> io::Result<Option<Duration>> {
    match deadline.remaining(Instant::now()) {
        Some(left) if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn differs(wanted: Option<Duration>, set: Option<Duration>) -> bool {
    match (wanted, set) {
        (Some(wanted), Some(set)) => wanted.abs_diff(set) >= TIMEOUT_SLACK || wanted < TIMEOUT_SLACK,
        (wanted, set) => wanted.is_some() != set.is_some(),
    }
}
