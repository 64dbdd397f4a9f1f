//! The receiver under test with an outlet that collects, and a client that writes whatever bytes it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use otlp_core::component::{Outlet, Outlets, Receiver, Refused};
use otlp_core::flow::memory::MemoryBudget;
use otlp_core::status::Status;
use otlp_core::telemetry::registry::SampleValue;
use otlp_core::testing::generate;
use otlp_core::{Batch, ByteSize, Deadline, Outcome, Signal};
use otlp_receive::{Config, Env, OtlpReceiver, Transport, http};

/// Longer than anything takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A running receiver.
pub(crate) struct Server {
    pub(crate) receiver: OtlpReceiver,
    pub(crate) env: Env,
    pub(crate) address: SocketAddr,
    batches: mpsc::Receiver<Batch>,
}

/// Hands every batch to the test, or settles it at once.
struct Collect {
    settle: bool,
    batches: Mutex<mpsc::Sender<Batch>>,
}

impl Outlet for Collect {
    fn try_send(&self, mut batch: Batch) -> Result<(), Refused> {
        if self.settle {
            let copy = Batch::trusted(batch.signal(), batch.items(), batch.body().clone())
                .with_context(Arc::clone(batch.context()));
            let copy = match batch.encoded() {
                Some(encoded) => copy.with_encoded(encoded.clone()),
                None => copy,
            };
            batch.ticket_mut().queued();
            batch.settle(Outcome::Delivered);
            batch = copy;
        }
        let _ = self.batches.lock().unwrap().send(batch);
        Ok(())
    }
}

impl Server {
    /// One that says OK to every valid request.
    pub(crate) fn start() -> Server {
        Server::with(http::Config::default(), |_| {})
    }

    pub(crate) fn with(config: impl Into<Config>, change: impl FnOnce(&mut Env)) -> Server {
        Server::run(config, change, true)
    }

    /// One whose requests wait until the test settles their batches.
    pub(crate) fn waiting(config: impl Into<Config>) -> Server {
        Server::run(config, |_| {}, false)
    }

    pub(crate) fn run(config: impl Into<Config>, change: impl FnOnce(&mut Env), settle: bool) -> Server {
        let (sender, batches) = mpsc::channel();
        let collect = Arc::new(Collect { settle, batches: Mutex::new(sender) });
        let mut outlets = Outlets::default();
        Signal::ALL.into_iter().for_each(|signal| outlets.set(signal, collect.clone()));
        Server::with_outlets(config, change, outlets, batches)
    }

    pub(crate) fn with_outlets(
        config: impl Into<Config>,
        change: impl FnOnce(&mut Env),
        outlets: Outlets,
        batches: mpsc::Receiver<Batch>,
    ) -> Server {
        let mut env = Env { budget: MemoryBudget::new(ByteSize::mib(300)), ..Env::default() };
        change(&mut env);
        let mut config: Config = config.into();
        if let Some(http) = &mut config.http {
            http.endpoint = "127.0.0.1:0".into();
        }
        if let Some(grpc) = config.grpc.as_mut().filter(|grpc| grpc.transport != Transport::Unix) {
            grpc.endpoint = "127.0.0.1:0".into();
        }
        let mut receiver = OtlpReceiver::new("otlp", config, env.clone());
        receiver.start(outlets).unwrap();
        let address = receiver.http_addr().or(receiver.grpc_addr()).unwrap();
        Server { receiver, env, address, batches }
    }

    /// Where it takes OTLP/gRPC.
    #[allow(dead_code, reason = "for the tests of gRPC")]
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.receiver.grpc_addr().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// The next batch that was handed on.
    pub(crate) fn batch(&self) -> Batch {
        self.batches.recv_timeout(LONG).expect("a batch in time")
    }

    /// What was handed on, if anything more was.
    pub(crate) fn try_batch(&self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }

    /// Whether nothing more was handed on. To be asked when all answers are there.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.try_recv().is_err()
    }

    /// An ordinary export on a connection of its own succeeds.
    pub(crate) fn assert_alive(&self) {
        let mut client = self.connect();
        client.send(&post(Signal::Logs, "", &generate::request(Signal::Logs, 1, 1)));
        assert_eq!(client.answer().status, 200);
        self.batch();
    }

    pub(crate) fn metric(&self, name: &str, label: (&str, &str)) -> f64 {
        let samples = self.env.registry.samples();
        let of = |sample: &&otlp_core::telemetry::registry::Sample| {
            sample.name == name && sample.labels.iter().any(|(key, value)| (*key, value.as_str()) == label)
        };
        samples
            .iter()
            .filter(of)
            .map(|sample| match sample.value {
                SampleValue::Number(number) => number,
                SampleValue::Histogram { count, .. } => count as f64,
            })
            .sum()
    }

    pub(crate) fn shutdown(&mut self, after: Duration) {
        self.receiver.shutdown(Deadline::after(Instant::now(), after));
    }
}

/// A client that writes bytes and reads answers.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, unread: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Client {
        self.stream.write_all(bytes).unwrap();
        self
    }

    /// The same where the server may close while we still write.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> &mut Client {
        let _ = self.stream.write_all(bytes);
        self
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("POST").expect("an answer")
    }

    /// The next answer; `None` where the connection was closed instead.
    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            match self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.fill() => {}
                None => {
                    assert!(self.unread.is_empty(), "closed inside an answer: {:?}", self.unread);
                    return None;
                }
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1")[..3].parse().unwrap();
        let field = |name: &str| field_of(&head, name).map(str::to_owned);
        let length: usize = field("content-length").map_or(0, |text| text.parse().unwrap());
        let length = if method == "HEAD" || status < 200 { 0 } else { length };
        while self.unread.len() < length {
            assert!(self.fill(), "closed inside a body");
        }
        let body = self.unread.drain(..length).collect();
        Some(Answer { status, head, body })
    }

    /// Whether the server closes, with nothing more to say.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.fill()
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(bytes) => {
                self.unread.extend_from_slice(&buffer[..bytes]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field_of(&self.head, name)
    }

    /// The `Status` of a failure, in protobuf.
    pub(crate) fn failure(&self) -> Status {
        assert_eq!(self.field("content-type"), Some("application/x-protobuf"), "{}", self.head);
        assert!(!self.body.is_empty());
        Status::decode(&self.body).unwrap()
    }

    /// The body of a failure in JSON.
    pub(crate) fn json(&self) -> &str {
        assert_eq!(self.field("content-type"), Some("application/json"), "{}", self.head);
        let text = std::str::from_utf8(&self.body).unwrap();
        assert!(text.starts_with('{') && text.ends_with('}') && text.contains("\"message\":\""), "{text}");
        text
    }
}

fn field_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A request with protobuf. `fields` are whole lines.
pub(crate) fn post(signal: Signal, fields: &str, body: &[u8]) -> Vec<u8> {
    request("POST", signal.http_path(), &format!("Content-Type: application/x-protobuf\r\n{fields}"), body)
}

pub(crate) fn request(method: &str, path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A request in chunks of that size.
pub(crate) fn chunked(signal: Signal, fields: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n{fields}\r\n",
        signal.http_path()
    )
    .into_bytes();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:X};a=\"b\"\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    bytes
}

/// Waits for something that no channel tells of.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
