//! An answer, read from bytes as they come. No socket.
//!
//! RFC 9112: interim answers are passed over; the body's length is that of its chunks, or announced, or ends with the
//! connection.

use super::answer::{Answer, BODY_BYTES_MAX};

/// As many bytes of a head are taken.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// As many lines of a head.
const HEADERS_MAX: usize = 64;

/// So much of a body beyond what is kept is read, so that the connection can be used again.
const DRAIN_BYTES_MAX: u64 = 256 << 10;

/// How far an answer has come.
#[derive(Debug, PartialEq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    More,
    /// It is complete, or as much of it as will be read. `keep`: the connection may be used again.
    Done { keep: bool },
    /// The connection ended too early.
    Cut,
    /// It makes no sense as HTTP/1.1.
    Bad(&'static str),
    /// What talks there does not speak HTTP/1.1: not the server that was meant, which may be back later.
    Foreign,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerReader {
    /// The head as far as it has come, or what is left of a chunk's frame.
    pending: Vec<u8>,
    state: State,
    answer: Answer,
    keep: bool,
    /// Body bytes seen, kept or not.
    seen: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Head,
    /// So many bytes are to come.
    Length(u64),
    UntilClosed,
    ChunkSize,
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    Done,
}

impl AnswerReader {
    /// Whether any byte of it has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.state != State::Head || !self.pending.is_empty() || self.answer.status != 0
    }

    /// What was read.
    pub(crate) fn into_answer(self) -> Answer {
        self.answer
    }

    /// The connection has ended.
    pub(crate) fn end(&mut self) -> Progress {
        match self.state {
            State::UntilClosed => Progress::Done { keep: false },
            _ => Progress::Cut,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Progress {
        loop {
            match self.state {
                State::Head => {
                    let had = self.pending.len();
                    self.pending.extend_from_slice(bytes);
                    match self.head() {
                        Ok(None) if self.pending.len() > HEAD_BYTES_MAX => {
                            return Progress::Bad("the head of the answer is too large");
                        }
                        Ok(None) => return Progress::More,
                        Ok(Some(length)) => {
                            // The head did not end before these bytes.
                            bytes = &bytes[length.saturating_sub(had).min(bytes.len())..];
                            self.pending.clear();
                        }
                        Err(unread) => return unread,
                    }
                }
                State::Done => {
                    // More than was announced: nobody can tell what it belongs to.
                    return Progress::Done { keep: self.keep && bytes.is_empty() };
                }
                _ if bytes.is_empty() => return Progress::More,
                State::UntilClosed => {
                    self.body(bytes);
                    bytes = &[];
                }
                State::Length(left) => {
                    let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.body(&bytes[..count]);
                    bytes = &bytes[count..];
                    let left = left - count as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                }
                State::Chunk(left) => {
                    let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.body(&bytes[..count]);
                    bytes = &bytes[count..];
                    let left = left - count as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => match self.line(&mut bytes) {
                    Ok(true) => {}
                    Ok(false) => return Progress::More,
                    Err(what) => return Progress::Bad(what),
                },
            }
            if self.seen > BODY_BYTES_MAX as u64 + DRAIN_BYTES_MAX {
                return Progress::Done { keep: false };
            }
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        let room = BODY_BYTES_MAX - self.answer.body.len();
        self.answer.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.answer.truncated |= bytes.len() > room;
    }

    /// Takes one line of a chunk's frame; false where it has not come whole.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<bool, &'static str> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.pending.extend_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
        if self.pending.len() > 4096 {
            return Err("a line of a chunk's frame is too long");
        }
        if end.is_none() {
            return Ok(false);
        }
        let line = std::mem::take(&mut self.pending);
        let line = line.trim_ascii();
        self.state = match self.state {
            State::ChunkSize => match chunk_size(line).ok_or("a chunk has no size")? {
                0 => State::Trailer,
                size => State::Chunk(size),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err("a chunk is longer than its size"),
            _ if line.is_empty() => State::Done,
            state => {
                self.seen += line.len() as u64;
                state
            }
        };
        Ok(true)
    }

    /// Reads the head if it is whole, and gives its length, what interim answers took included.
    fn head(&mut self) -> Result<Option<usize>, Progress> {
        let mut interim = 0;
        let pending = std::mem::take(&mut self.pending);
        let found = loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = httparse::Response::new(&mut headers);
            let length = match parsed.parse(&pending[interim..]) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) => break Ok(None),
                Err(httparse::Error::Version) => break Err(Progress::Foreign),
                Err(_) => break Err(Progress::Bad("the head of the answer is not HTTP/1.1")),
            };
            if !(100..200).contains(&parsed.code.unwrap_or(0)) {
                break self.final_head(&parsed).map(|()| Some(interim + length)).map_err(Progress::Bad);
            }
            // 100 Continue, 103 Early Hints: the real one follows, perhaps in these bytes.
            interim += length;
        };
        if found == Ok(None) {
            self.pending = pending[interim..].to_vec();
        }
        found
    }

    fn final_head(&mut self, parsed: &httparse::Response<'_, '_>) -> Result<(), &'static str> {
        let status = parsed.code.unwrap_or(0);
        self.keep = parsed.version == Some(1);
        let mut answer = Answer { status, ..Answer::default() };
        let (mut content_length, mut chunked, mut other_coding) = (None, false, false);
        for header in parsed.headers.iter() {
            let value = String::from_utf8_lossy(header.value);
            let value = value.trim();
            match header.name.to_ascii_lowercase().as_str() {
                "content-type" => answer.content_type = Some(value.to_owned()),
                "retry-after" => answer.retry_after = Some(value.to_owned()),
                "location" => answer.location = Some(value.to_owned()),
                "connection" => {
                    let has = |word: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word));
                    self.keep = (self.keep || has("keep-alive")) && !has("close");
                }
                "content-length" => {
                    let length: u64 = value.parse().map_err(|_| "the answer's Content-Length is no number")?;
                    if content_length.is_some_and(|known| known != length) {
                        return Err("the answer has two lengths");
                    }
                    content_length = Some(length);
                }
                "transfer-encoding" => {
                    chunked = value.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"));
                    other_coding = !chunked || value.contains(',');
                }
                _ => {}
            }
        }
        if other_coding {
            return Err("the answer has a transfer coding that nobody asked for");
        }
        self.state = match (status, chunked, content_length) {
            (204 | 304, _, _) => State::Done,
            (_, true, _) => State::ChunkSize,
            (_, false, Some(0)) => State::Done,
            (_, false, Some(length)) => State::Length(length),
            (_, false, None) => State::UntilClosed,
        };
        self.answer = answer;
        Ok(())
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads in pieces of `step` bytes, then the end of the connection.
    fn read(bytes: &[u8], step: usize) -> (Progress, Answer) {
        let mut reader = AnswerReader::default();
        for piece in bytes.chunks(step) {
            match reader.take(piece) {
                Progress::More => {}
                progress => return (progress, reader.into_answer()),
            }
        }
        (reader.end(), reader.into_answer())
    }

    #[test]
    fn answers_by_table_in_pieces_of_every_size() {
        const DONE: Progress = Progress::Done { keep: true };
        const CLOSED: Progress = Progress::Done { keep: false };
        for (text, progress, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", DONE, 200, "hi"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", DONE, 200, ""),
            ("HTTP/1.1 204 No Content\r\n\r\n", DONE, 204, ""),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", CLOSED, 200, "hi"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", CLOSED, 200, "hi"),
            ("HTTP/1.1 200 OK\r\n\r\nhi", CLOSED, 200, "hi"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", DONE, 503, ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n3\r\n ho\r\n0\r\nA: b\r\n\r\n",
                DONE,
                200,
                "hi ho",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", Progress::Cut, 200, "hi"),
            ("HTTP/1.1 200 OK\r\nConte", Progress::Cut, 0, ""),
            ("", Progress::Cut, 0, ""),
            ("SSH-2.0-x\r\n", Progress::Foreign, 0, ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                Progress::Bad("a chunk has no size"),
                200,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                Progress::Bad("the answer's Content-Length is no number"),
                0,
                "",
            ),
        ] {
            for step in 1..=text.len().max(1) {
                let (found, answer) = read(text.as_bytes(), step);
                assert_eq!(
                    (&found, answer.status, &answer.body[..]),
                    (&progress, status, body.as_bytes()),
                    "{text:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn endless_answers_are_bounded() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n".to_vec();
        let mut reader = AnswerReader::default();
        assert_eq!(reader.take(&head), Progress::More);
        let mut taken = 0;
        while reader.take(&[b'x'; 8192]) == Progress::More {
            taken += 8192;
        }
        assert!(taken <= 400 << 10, "{taken}");
        let answer = reader.into_answer();
        assert_eq!((answer.body.len(), answer.truncated), (BODY_BYTES_MAX, true));
        let mut reader = AnswerReader::default();
        let mut line = 0;
        while reader.take(b"HTTP/1.1 200 OK\r\nA: b\r\n").eq(&Progress::More) {
            line += 1;
            assert!(line < 10_000, "an endless head");
        }
        let (progress, answer) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there", 100);
        assert_eq!((progress, &answer.body[..]), (Progress::Done { keep: false }, &b"hi"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, step in 1usize..50, framed: bool) {
            let head: &[u8] = if framed { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"HTTP/1.1 " };
            read(&[head, &bytes].concat(), step);
        }
    }
}
