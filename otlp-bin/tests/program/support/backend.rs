//! A backend that answers as it is told and keeps what it took.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::{PATIENCE, span_ids};

/// What a backend answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200, and the items are kept.
    Ok,
    /// Another status, with more header lines.
    Status(u16, &'static str),
    /// Nothing: the connection is closed.
    Close,
    /// Nothing for as long as the gate is shut; then 200.
    Stall(Arc<Gate>),
}

/// Holds answers back until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Lets everything through, from now on.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }
}

type Script = Box<dyn Fn(u64, &[u8]) -> Answer + Send + Sync>;

/// A listening backend; one thread a connection.
pub(crate) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    requests: AtomicU64,
    closed: AtomicBool,
    spans: Mutex<HashMap<u64, u32>>,
    bodies: Mutex<Vec<Vec<u8>>>,
    heads: Mutex<Vec<String>>,
}

impl Backend {
    /// One that takes everything.
    pub(crate) fn healthy() -> Backend {
        Backend::scripted(|_, _| Answer::Ok)
    }

    /// One that asks `script` with the request's number, from 0, and its uncompressed body.
    pub(crate) fn scripted(script: impl Fn(u64, &[u8]) -> Answer + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            spans: Mutex::default(),
            bodies: Mutex::default(),
            heads: Mutex::default(),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if shared.closed.load(Ordering::Acquire) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || serve(client, &shared));
                }
            }
        });
        Backend { address, shared }
    }

    /// An address on which nobody listens.
    pub(crate) fn dead_url() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it was sent so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// How many spans it took so far, duplicates included.
    pub(crate) fn spans(&self) -> u64 {
        self.shared.spans.lock().unwrap().values().map(|&times| u64::from(times)).sum()
    }

    /// How often it took each span.
    pub(crate) fn times(&self) -> HashMap<u64, u32> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// The bodies it took, uncompressed.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.shared.bodies.lock().unwrap().clone()
    }

    /// The request heads it was sent.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut client = client;
    while let Some((head, body)) = read_request(&mut reader) {
        shared.heads.lock().unwrap().push(head);
        let number = shared.requests.fetch_add(1, Ordering::AcqRel);
        let answer = (shared.script)(number, &body);
        let (status, more) = match answer {
            Answer::Close => return,
            Answer::Ok => (200, ""),
            Answer::Stall(gate) => {
                gate.pass();
                (200, "")
            }
            Answer::Status(status, more) => (status, more),
        };
        if status == 200 {
            let mut spans = shared.spans.lock().unwrap();
            for id in span_ids(&ExportTraceServiceRequest::decode(&body[..]).unwrap_or_default()) {
                *spans.entry(id).or_default() += 1;
            }
            shared.bodies.lock().unwrap().push(body);
        }
        let head =
            format!("HTTP/1.1 {status} -\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n{more}\r\n");
        if client.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

/// One request with a Content-Length; none at the end of the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let header = |name: &str| {
        head.lines().find_map(|line| {
            line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        })
    };
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    if header("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut plain).ok()?;
        body = plain;
    }
    Some((head, body))
}
