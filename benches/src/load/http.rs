//! OTLP/HTTP: one kept-alive connection that sends bodies, and the framing that both ends share.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use otlp_core::Signal;
use otlp_core::codec::Coding;
use otlp_core::wire::reader::{Value, fields};

use super::Answer;

/// The largest head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A connection to the receiver under test.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: Reader,
    head: Vec<u8>,
}

impl Connection {
    /// Connects; a read or a write that takes longer than `timeout` fails.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open(address: SocketAddr, signal: Signal, coding: Coding, timeout: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut head = format!(
            "POST {} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: otlp-load\r\nContent-Type: application/x-protobuf\r\n",
            signal.http_path()
        );
        if coding != Coding::Identity {
            head.push_str(&format!("Content-Encoding: {coding}\r\n"));
        }
        head.push_str("Content-Length: ");
        Ok(Connection { stream, reader: Reader::default(), head: head.into_bytes() })
    }

    /// Sends a body in one vectored write, then waits for the answer.
    ///
    /// # Errors
    ///
    /// The system's; an answer that is not HTTP. The connection is of no use then, and the request may have been taken.
    pub fn send(&mut self, pieces: &[&[u8]]) -> io::Result<Answer> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let prefix = self.head.len();
        write!(self.head, "{len}\r\n\r\n")?;
        let mut slices = [IoSlice::new(&[]); 8];
        for (slice, piece) in slices.iter_mut().zip(std::iter::once(&&self.head[..]).chain(pieces)) {
            *slice = IoSlice::new(piece);
        }
        let written = write_all(&mut self.stream, &mut slices[..=pieces.len()]);
        self.head.truncate(prefix);
        written?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let Some(head) = self.reader.response(&mut self.stream)? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut body = Vec::new();
        self.reader.body(&mut self.stream, head.length, &mut body)?;
        Ok(match head.status {
            200..300 => Answer::Accepted { rejected: rejected(&body) },
            429 | 502..=504 => Answer::Refused,
            status => Answer::Rejected(status),
        })
    }
}

/// `partial_success.rejected_*` of a response.
pub(super) fn rejected(body: &[u8]) -> u64 {
    let find = |bytes, number| fields(bytes).map_while(Result::ok).find(|field: &_| field.number == number);
    match find(body, 1).map(|field| field.value) {
        Some(Value::Len(partial)) => match find(partial, 1).map(|field| field.value) {
            Some(Value::Varint(rejected)) => rejected,
            _ => 0,
        },
        _ => 0,
    }
}

fn write_all(stream: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut slices, written),
        }
    }
    Ok(())
}

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// `Content-Length`; none at all is 0.
    Known(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What is used of a request's head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// By its path; `None` for another.
    pub signal: Option<Signal>,
    /// `Content-Encoding`; `None` for an unknown one.
    pub coding: Option<Coding>,
    /// How long the body is.
    pub length: Length,
}

/// What is used of a response's head.
#[derive(Clone, Debug)]
struct ResponseHead {
    status: u16,
    length: Length,
}

/// Reads messages one after the other; keeps what was read too far.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    start: usize,
}

impl Reader {
    /// Reads the next request's head; `None` where the connection ends before one.
    ///
    /// # Errors
    ///
    /// The system's; a head that is not HTTP/1.1 or too long.
    pub fn request(&mut self, stream: &mut TcpStream) -> io::Result<Option<RequestHead>> {
        self.head(stream, |bytes| {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            let httparse::Status::Complete(len) = request.parse(bytes).map_err(io::Error::other)? else {
                return Ok(None);
            };
            let path = request.path.unwrap_or_default();
            let coding = find(request.headers, "content-encoding").unwrap_or_default();
            let head = RequestHead {
                signal: Signal::ALL.into_iter().find(|signal| path == signal.http_path()),
                coding: Coding::from_header(coding),
                length: length(request.headers)?,
            };
            Ok(Some((len, head)))
        })
    }

    fn response(&mut self, stream: &mut TcpStream) -> io::Result<Option<ResponseHead>> {
        self.head(stream, |bytes| {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(len) = response.parse(bytes).map_err(io::Error::other)? else {
                return Ok(None);
            };
            let head = ResponseHead { status: response.code.unwrap_or(0), length: length(response.headers)? };
            Ok(Some((len, head)))
        })
    }

    fn head<T>(
        &mut self,
        stream: &mut TcpStream,
        parse: impl Fn(&[u8]) -> io::Result<Option<(usize, T)>>,
    ) -> io::Result<Option<T>> {
        loop {
            if self.start < self.buffer.len()
                && let Some((len, head)) = parse(&self.buffer[self.start..])?
            {
                self.start += len;
                return Ok(Some(head));
            }
            if self.buffer.len() - self.start > HEAD_BYTES_MAX {
                return Err(io::Error::other("the head of a message is too long"));
            }
            if !self.fill(stream)? {
                return if self.start == self.buffer.len() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads a body in place of what `body` holds.
    ///
    /// # Errors
    ///
    /// The system's; one that ends early or is badly chunked.
    pub fn body(&mut self, stream: &mut TcpStream, length: Length, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        match length {
            Length::Known(len) => self.take(stream, len, body),
            Length::Chunked => loop {
                let size = httparse::parse_chunk_size(&self.buffer[self.start..])
                    .map_err(|_| io::Error::other("a chunk's size cannot be read"))?;
                match size {
                    httparse::Status::Complete((len, size)) => {
                        self.start += len;
                        self.take(stream, size as usize, body)?;
                        let mut end = Vec::new();
                        self.take(stream, 2, &mut end)?;
                        if size == 0 {
                            return Ok(());
                        }
                    }
                    httparse::Status::Partial if self.fill(stream)? => {}
                    httparse::Status::Partial => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            },
        }
    }

    /// Appends `len` bytes: what is there, and the rest read straight into its place.
    fn take(&mut self, stream: &mut TcpStream, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let here = len.min(self.buffer.len() - self.start);
        out.extend_from_slice(&self.buffer[self.start..self.start + here]);
        self.start += here;
        let left = (len - here) as u64;
        if left > 0 && stream.take(left).read_to_end(out)? < left as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// One read; false at the end of the stream.
    fn fill(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        const READ_BYTES: usize = 16 << 10;
        self.buffer.drain(..self.start);
        self.start = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = stream.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        read.map(|read| read > 0)
    }
}

fn find<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

fn length(headers: &[httparse::Header<'_>]) -> io::Result<Length> {
    if find(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(Length::Chunked);
    }
    match find(headers, "content-length") {
        None => Ok(Length::Known(0)),
        Some(value) => value.trim().parse().map(Length::Known).map_err(io::Error::other),
    }
}
