//! A small HTTP/1.1 server for endpoints that are asked a few times a minute.
//!
//! # Threads
//!
//! One per endpoint, blocked in `accept`: an idle endpoint wakes nobody up. Requests are answered one after another.
//!
//! # Limits
//!
//! A request head of 8 KiB, and two seconds for a client to send it and to take the answer; then its connection is
//! closed. One answer a connection.
//!
//! # On failure
//!
//! A client's error ends its connection. Running out of descriptors is logged once a minute and slept on.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use otlp_core::thread::{Thread, ThreadOptions};
use otlp_receive::Transport;
use otlp_receive::listen::{Listener, Place, listen};

const HEAD_BYTES_MAX: usize = 8 << 10;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// An answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: String,
}

/// Answers a request for a path; `None` is a 404. Called on the server's thread.
pub type Handler = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// A listening endpoint. Stops when dropped.
#[derive(Debug)]
pub struct Server {
    place: Place,
    stopping: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Server {
    /// Listens on `endpoint` (`host:port`, or a path for a Unix socket) and answers with `handler`.
    ///
    /// # Errors
    ///
    /// Where the address cannot be listened on.
    pub fn start(thread_name: &str, endpoint: &str, transport: Transport, handler: Handler) -> io::Result<Server> {
        let (listener, place) = listen(endpoint, transport)?;
        listener.set_nonblocking(false)?;
        let stopping = Arc::new(AtomicBool::new(false));
        // Small stack: the handlers format text and no more.
        let options = ThreadOptions::stack_kib(256);
        let thread = Thread::spawn(thread_name, options, {
            let stopping = Arc::clone(&stopping);
            move || serve(&listener, &stopping, &handler)
        })?;
        Ok(Server { place, stopping, thread: Some(thread) })
    }

    /// What it listens on.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The thread blocks in `accept`; a connection from ourselves is the portable way to wake it.
        match &self.place {
            Place::Tcp(address) => {
                let mut own = *address;
                if own.ip().is_unspecified() {
                    own.set_ip(match own {
                        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                    });
                }
                let _ = TcpStream::connect_timeout(&own, CLIENT_TIMEOUT);
            }
            Place::Unix(path) => {
                let _ = UnixStream::connect(path);
            }
        }
        self.thread = None;
    }
}

fn serve(listener: &Listener, stopping: &AtomicBool, handler: &Handler) {
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((client, peer)) => {
                // A client's error is the client's.
                let _ = answer(client, peer.is_some(), handler);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
                    log::warn!("cannot accept connections: {error}");
                    warned = Some(Instant::now());
                }
                std::thread::sleep(ACCEPT_BACKOFF);
            }
        }
    }
}

fn answer(mut client: TcpStream, is_tcp: bool, handler: &Handler) -> io::Result<()> {
    if is_tcp {
        client.set_nodelay(true)?;
    }
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let Some(head) = read_head(&mut client)? else { return Ok(()) };
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(&head);
    let answer = match (parsed, request.method, request.path) {
        (Ok(httparse::Status::Complete(_)), Some("GET" | "HEAD"), Some(target)) => {
            let path = target.split(['?', '#']).next().unwrap_or(target);
            handler(path).unwrap_or_else(|| plain(404, "not found\n"))
        }
        (Ok(httparse::Status::Complete(_)), _, _) => plain(405, "only GET and HEAD\n"),
        _ => plain(400, "not an HTTP request\n"),
    };
    let body = if request.method == Some("HEAD") { "" } else { answer.body.as_str() };
    let allow = if answer.status == 405 { "allow: GET, HEAD\r\n" } else { "" };
    let text = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{allow}connection: close\r\n\r\n{body}",
        answer.status,
        phrase(answer.status),
        answer.content_type,
        answer.body.len(),
    );
    client.write_all(text.as_bytes())?;
    client.shutdown(std::net::Shutdown::Write)
}

/// Reads up to the end of the head; `None` where the client sends too much, too slowly, or leaves.
fn read_head(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let end = Instant::now() + CLIENT_TIMEOUT;
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut chunk)? {
            0 => return Ok(None),
            read => head.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(Some(head))
}

fn plain(status: u16, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &Server, request: &str) -> String {
        let mut client = TcpStream::connect(server.place().socket_addr().unwrap()).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn answers_get_and_head_and_refuses_the_rest() {
        let handler: Handler = Arc::new(|path| (path == "/x").then(|| plain(200, "hello\n")));
        let server = Server::start("test", "127.0.0.1:0", Transport::Tcp, handler).unwrap();
        assert!(ask(&server, "GET /x?y=1 HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nhello\n"));
        let head = ask(&server, "HEAD /x HTTP/1.1\r\n\r\n");
        assert!(head.contains("content-length: 6\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(&server, "GET /y HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(&server, "POST /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask(&server, "\u{1}\r\n\r\n").starts_with("HTTP/1.1 400 "));
        drop(TcpStream::connect(server.place().socket_addr().unwrap()).unwrap());
        assert!(ask(&server, "GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn stops_when_dropped_and_frees_the_port() {
        let server = Server::start("test", "127.0.0.1:0", Transport::Tcp, Arc::new(|_| None)).unwrap();
        let address = server.place().socket_addr().unwrap();
        drop(server);
        assert!(std::net::TcpListener::bind(address).is_ok());
    }
}
