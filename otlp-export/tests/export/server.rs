//! A server that reads HTTP requests and does with each what the test's script says.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    /// Write these bytes.
    Write(Vec<u8>),
    /// Write these bytes and close.
    WriteAndClose(Vec<u8>),
    /// Close without a word.
    Close,
    /// Never answer.
    Stall,
    /// Answer as soon as the head is there and close without reading the body.
    Early(Vec<u8>),
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// All values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Receiver<Seen>,
}

pub(crate) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn ok() -> Do {
    Do::Write(answer(200, "Content-Type: application/x-protobuf\r\n", b""))
}

impl Server {
    /// Follows the script, one step for each request, then answers 200 to everything.
    pub(crate) fn start(script: impl IntoIterator<Item = Do>) -> Server {
        Server::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn listen(listener: TcpListener, script: impl IntoIterator<Item = Do>) -> Server {
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let (sender, seen) = channel();
        // Both kinds of thread end with the test's process; nothing waits for them.
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (script, sender) = (Arc::clone(&script), sender.clone());
                std::thread::spawn(move || serve(stream.unwrap(), connection, &script, &sender));
            }
        });
        Server { address, seen }
    }

    /// Behind a Unix socket: answers 200 to everything.
    pub(crate) fn unix(path: &std::path::Path) -> Server {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream.unwrap(), connection, &Mutex::default(), &sender));
            }
        });
        Server { address: ([127, 0, 0, 1], 0).into(), seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub(crate) fn serve(
    mut stream: impl Read + Write,
    connection: usize,
    script: &Mutex<VecDeque<Do>>,
    sender: &Sender<Seen>,
) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            read_some(&mut stream, &mut bytes)?;
        };
        let head = String::from_utf8(bytes.drain(..head_end).collect()).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let step = script.lock().unwrap().pop_front().unwrap_or_else(ok);
        if let Do::Early(answer) = &step {
            stream.write_all(answer).unwrap();
            let _ = sender.send(Seen { connection, line, headers, body: Vec::new() });
            return Some(());
        }
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        while bytes.len() < length {
            read_some(&mut stream, &mut bytes)?;
        }
        let body = bytes.drain(..length).collect();
        let _ = sender.send(Seen { connection, line, headers, body });
        match step {
            Do::Write(answer) => stream.write_all(&answer).ok()?,
            Do::WriteAndClose(answer) => return stream.write_all(&answer).ok(),
            Do::Close => return Some(()),
            Do::Stall => std::thread::park(),
            Do::Early(_) => unreachable!("handled before the body"),
        }
    }
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 8192];
    let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
    bytes.extend_from_slice(&buffer[..count]);
    Some(())
}
