//! A sender of OTLP/HTTP over a connection that is kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::PATIENCE;

/// A connection to a receiver.
pub(crate) struct Sender {
    reader: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Header lines, lower-case.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Sender {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Sender {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Sender { reader: BufReader::new(stream) }
    }

    /// Sends a request and reads its answer; none where the connection ended without one.
    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Option<Reply> {
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {}\r\n\r\n", body.len());
        let stream = self.reader.get_mut();
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        self.reply()
    }

    /// Sends traces as protobuf.
    pub(crate) fn traces(&mut self, request: &ExportTraceServiceRequest) -> Option<Reply> {
        self.post("/v1/traces", "content-type: application/x-protobuf\r\n", &request.encode_to_vec())
    }

    /// Asks for a path.
    pub(crate) fn get(&mut self, path: &str) -> Option<Reply> {
        self.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
        self.reply()
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Reads one answer.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_ascii_lowercase();
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        reply.body = vec![0; length];
        self.reader.read_exact(&mut reply.body).ok()?;
        Some(reply)
    }
}

/// A request of `count` spans with the ids from `first` on.
pub(crate) fn traces(first: u64, count: u64) -> ExportTraceServiceRequest {
    let text = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    let attribute =
        |key: &str, value: &str| KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() };
    let span = |id: u64| Span {
        trace_id: (u128::from(id) << 64 | 1).to_be_bytes().to_vec(),
        span_id: (id + 1).to_be_bytes().to_vec(),
        name: format!("operation {}", id % 7),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000 + id,
        end_time_unix_nano: 1_700_000_000_000_001_000 + id,
        attributes: vec![attribute("http.request.method", "GET"), attribute("secret", "s3cret")],
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![attribute("service.name", "test")], ..Resource::default() }),
            scope_spans: vec![ScopeSpans {
                spans: (first..first + count).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// The ids given by [`traces`].
pub(crate) fn span_ids(request: &ExportTraceServiceRequest) -> Vec<u64> {
    request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .map(|span| u64::from_be_bytes(span.span_id[..].try_into().unwrap()).wrapping_sub(1))
        .collect()
}
