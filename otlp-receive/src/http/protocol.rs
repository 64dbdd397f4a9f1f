//! HTTP/1.1 framing without I/O: bytes in, events out (RFC 9112).
//!
//! ```text
//!         ┌──────────────── End ◀──────────────────────────┐
//!         ▼                                                 │
//!       Head ──Head event──▶ Fixed(left) ──Body events──────┤ left = 0
//!         │                                                 │
//!         └────Head event──▶ Size ──▶ Data(left) ──▶ DataEnd ─▶ Size …
//!                             └─ size 0 ─▶ Trailers ────────┘
//!       any ──Bad event──▶ Broken
//! ```
//!
//! Invariants:
//!
//! - The events do not depend on how the bytes were cut into pieces (but for where a body is cut).
//! - Input that is not consumed is given again, with more behind it. Never more than a head's or a chunk line's limit.
//! - The work is linear in the input: what has been searched for a line's end is not searched again.

use super::head::{Fault, Framing, HEAD_BYTES_MAX, Head};

/// Bytes of empty lines before a request.
const BLANK_BYTES_MAX: usize = 16;
/// Bytes of one chunk-size line with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 4096;
/// Bytes of all trailer fields of a body.
const TRAILER_BYTES_MAX: usize = 16 << 10;
/// Framing bytes of a chunked body beyond sixteen for each byte of data: a sender of empty extensions is not served.
const CHUNK_OVERHEAD_BYTES_MAX: u64 = 64 << 10;

/// What the bytes mean.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// All that can be used was; more has to come.
    More,
    /// A request begins.
    Head(Head<'a>),
    /// A piece of its body.
    Body(&'a [u8]),
    /// The request is complete.
    End,
    /// The connection is of no use any more. No event follows.
    Bad(Fault),
}

/// Where one connection is in its stream of requests.
#[derive(Debug, Default)]
pub(crate) struct Protocol {
    state: State,
    /// Of the input given again, how much has been searched.
    searched: usize,
    /// Bytes of empty lines since the last request.
    blank: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Head,
    Fixed {
        left: u64,
    },
    Size {
        overhead: u64,
    },
    Data {
        left: u64,
        overhead: u64,
    },
    DataEnd {
        overhead: u64,
    },
    Trailers {
        bytes: usize,
    },
    Broken,
}

impl Protocol {
    /// The next event, and how many bytes of `input` it used up.
    ///
    /// What it did not use up is to be given again when more came.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Event<'a>) {
        match self.step(input) {
            Ok((used, event)) => (used, event),
            Err(fault) => {
                self.state = State::Broken;
                (0, Event::Bad(fault))
            }
        }
    }

    /// Whether it stands between two requests.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.state == State::Head
    }

    /// Bytes of a body of known length that have not come yet: they may be received elsewhere and told by
    /// [`Protocol::received`].
    pub(crate) fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Fixed { left } => Some(left),
            _ => None,
        }
    }

    /// Says that `bytes` of a body of known length were received elsewhere.
    pub(crate) fn received(&mut self, bytes: u64) {
        if let State::Fixed { left } = &mut self.state {
            *left = left.saturating_sub(bytes);
        }
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Fault> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Broken => return Ok((input.len(), Event::More)),
                State::Head => {
                    let (bytes, event) = self.head(rest)?;
                    return Ok((used + bytes, event));
                }
                State::Fixed { left: 0 } => {
                    self.state = State::Head;
                    return Ok((used, Event::End));
                }
                State::Fixed { left } => {
                    let Some(piece) = piece(rest, left) else { return Ok((used, Event::More)) };
                    self.state = State::Fixed { left: left - piece.len() as u64 };
                    return Ok((used + piece.len(), Event::Body(piece)));
                }
                State::Size { overhead } => {
                    let Some(line) = self.line(rest, CHUNK_LINE_BYTES_MAX)? else { return Ok((used, Event::More)) };
                    used += line.len() + 2;
                    let overhead = overhead + line.len() as u64 + 4;
                    if overhead > CHUNK_OVERHEAD_BYTES_MAX {
                        return Err(Fault::Chunk);
                    }
                    self.state = match chunk_size(line)? {
                        0 => State::Trailers { bytes: 0 },
                        left => State::Data { left, overhead: overhead.saturating_sub(left.saturating_mul(16)) },
                    };
                }
                State::Data { left: 0, overhead } => self.state = State::DataEnd { overhead },
                State::Data { left, overhead } => {
                    let Some(piece) = piece(rest, left) else { return Ok((used, Event::More)) };
                    self.state = State::Data { left: left - piece.len() as u64, overhead };
                    return Ok((used + piece.len(), Event::Body(piece)));
                }
                State::DataEnd { overhead } => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size { overhead };
                    }
                    [] | [b'\r'] => return Ok((used, Event::More)),
                    _ => return Err(Fault::Chunk),
                },
                State::Trailers { bytes } => {
                    let Some(line) = self.line(rest, TRAILER_BYTES_MAX)? else { return Ok((used, Event::More)) };
                    used += line.len() + 2;
                    if line.is_empty() {
                        self.state = State::Head;
                        return Ok((used, Event::End));
                    }
                    let bytes = bytes + line.len() + 2;
                    if bytes > TRAILER_BYTES_MAX {
                        return Err(Fault::Chunk);
                    }
                    self.state = State::Trailers { bytes };
                }
            }
        }
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Fault> {
        // Empty lines before a request are passed over (RFC 9112, section 2.2), a few of them.
        let blank = input.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        self.blank += blank;
        if self.blank > BLANK_BYTES_MAX {
            return Err(Fault::Head);
        }
        let bytes = &input[blank..];
        let Some(first) = bytes.first() else { return Ok((blank, Event::More)) };
        if !first.is_ascii_alphabetic() {
            return Err(Fault::Head);
        }
        let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let (mut parse_to, mut garbage) = (0, false);
        for (index, &byte) in window.iter().enumerate().skip(self.searched) {
            match byte {
                b'\n' => {
                    parse_to = index + 1;
                    // The end of the head: what stands behind it belongs to the body.
                    if window[..index].ends_with(b"\n") || window[..index].ends_with(b"\n\r") {
                        break;
                    }
                }
                b'\r' | b'\t' => {}
                // A TLS hello, random bytes: no need to wait for a line's end that never comes.
                0..0x20 | 0x7f => {
                    garbage = true;
                    break;
                }
                _ => {}
            }
        }
        // Parsed at every line's end, so that a bad line is refused when it is there, however it came.
        if parse_to > 0
            && let Some((head, used)) = Head::parse(&bytes[..parse_to])?
        {
            (self.searched, self.blank) = (0, 0);
            self.state = match head.framing {
                Framing::Length(left) => State::Fixed { left },
                Framing::Chunked => State::Size { overhead: 0 },
            };
            return Ok((blank + used, Event::Head(head)));
        }
        if garbage {
            return Err(Fault::Head);
        }
        if bytes.len() >= HEAD_BYTES_MAX {
            return Err(Fault::HeadTooLarge);
        }
        self.searched = window.len();
        Ok((blank, Event::More))
    }

    /// A line without its CRLF; `None` where it has not ended yet. A line that ends with LF alone is refused: others may
    /// not see its end there.
    fn line<'a>(&mut self, input: &'a [u8], bytes_max: usize) -> Result<Option<&'a [u8]>, Fault> {
        let window = &input[..input.len().min(bytes_max)];
        let from = self.searched.min(window.len());
        match window[from..].iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                self.searched = 0;
                window[..from + at].strip_suffix(b"\r").map(Some).ok_or(Fault::Chunk)
            }
            None if input.len() >= bytes_max => Err(Fault::Chunk),
            None => {
                self.searched = window.len();
                Ok(None)
            }
        }
    }
}

fn piece(input: &[u8], left: u64) -> Option<&[u8]> {
    let bytes = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    (bytes > 0).then(|| &input[..bytes])
}

/// `1*HEXDIG`, then blanks, then nothing or an extension, which is ignored (RFC 9112, section 7.1.1).
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let blanks = line[digits..].iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    let rest = &line[digits + blanks..];
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest[0] == b';') || rest.contains(&b'\r') {
        return Err(Fault::Chunk);
    }
    let value = |byte: &u8| u64::from((*byte as char).to_digit(16).unwrap_or(0));
    Ok(line[..digits].iter().fold(0, |size, byte| size << 4 | value(byte)))
}

/// For fuzzing: the first bytes say how the rest is cut into pieces.
///
/// # Panics
///
/// Where the pieces are understood in another way than the whole.
pub fn fuzz(data: &[u8]) {
    let (cuts, stream) = data.split_at(data.len().min(8));
    let mut cut = cuts.iter().map(|&byte| usize::from(byte)).cycle();
    let whole = read_all(stream, || usize::MAX / 2);
    let pieces = read_all(stream, || cut.next().unwrap_or(1));
    assert_eq!(pieces, whole, "how the bytes are cut does not matter");
}

/// Reads a stream of requests cut into pieces as `cuts` says, and gives back what was understood.
fn read_all(stream: &[u8], mut cuts: impl FnMut() -> usize) -> Vec<String> {
    let mut protocol = Protocol::default();
    let (mut log, mut body, mut in_body) = (Vec::new(), Vec::new(), false);
    let (mut pending, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let to = (at + cuts().max(1)).min(stream.len());
        pending.extend_from_slice(&stream[at..to]);
        at = to;
        let mut start = 0;
        loop {
            let (used, event) = protocol.next(&pending[start..]);
            start += used;
            match event {
                Event::More => break,
                Event::Head(head) => {
                    in_body = true;
                    log.push(format!("{} {} {:?}", head.method, head.path, head.framing));
                }
                Event::Body(bytes) => body.extend_from_slice(bytes),
                Event::End => {
                    in_body = false;
                    log.push(format!("body {}", String::from_utf8_lossy(&std::mem::take(&mut body))));
                }
                Event::Bad(fault) => {
                    log.push(format!("{fault:?}"));
                    return log;
                }
            }
        }
        pending.drain(..start);
    }
    if in_body {
        log.push(format!("unfinished {}", body.len()));
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(stream: &str) -> Vec<String> {
        read_all(stream.as_bytes(), || usize::MAX / 2)
    }

    fn chunked(body: &str) -> Vec<String> {
        whole(&format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))[1..].to_vec()
    }

    #[test]
    fn pipelined_requests_come_apart_again_con_02() {
        let one = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let two = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
        let three = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n";
        assert_eq!(
            whole(&format!("{one}{two}\r\n{three}{one}")),
            [
                "POST /a Length(3)",
                "body abc",
                "GET /b Length(0)",
                "body ",
                "POST /c Chunked",
                "body xy",
                "POST /a Length(3)",
                "body abc"
            ]
        );
    }

    #[test]
    fn chunked_bodies_are_read_as_rfc_9112_has_them_con_03_04_11() {
        for (body, expected) in [
            ("5\r\nhello\r\n0\r\n\r\n", "body hello"),
            ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "body hello"),
            ("A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", "body 0123456789"),
            ("000a ;x\r\n0123456789\r\n00\r\nTrailer: 1\r\nAnother: 2\r\n\r\n", "body 0123456789"),
            ("0\r\n\r\n", "body "),
            ("5\nhello\r\n0\r\n\r\n", "Chunk"),
            ("5\r\nhelloX", "Chunk"),
            ("5\r\nhello\n0\r\n\r\n", "Chunk"),
            ("xyz\r\n", "Chunk"),
            ("-5\r\n", "Chunk"),
            ("0x5\r\nhello\r\n", "Chunk"),
            (" 5\r\nhello\r\n", "Chunk"),
            ("\r\n", "Chunk"),
            ("11111111111111111\r\n", "Chunk"),
            ("5\r\r\nhello\r\n", "Chunk"),
            ("0\r\nTrailer: 1\n\r\n", "Chunk"),
        ] {
            assert_eq!(chunked(body), [expected], "{body:?}");
        }
        let long = format!("1;{}\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX));
        assert_eq!(chunked(&long), ["Chunk"]);
        let many = format!("1;{}\r\na\r\n", "x".repeat(4000)).repeat(20);
        assert_eq!(chunked(&many), ["Chunk"]);
        let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
        assert_eq!(chunked(&trailers), ["Chunk"]);
    }

    #[test]
    fn what_is_not_http_is_refused_without_waiting_net_09() {
        for stream in ["\x16\x03\x01\x02\0\x01", "POST /\x01", "\u{fffd}", "123 abc", "   ", "PRI * HTTP/2.0\r\n"] {
            let log = whole(stream);
            assert!(matches!(log.as_slice(), [only] if only == "Head" || only == "Version"), "{stream:?}: {log:?}");
        }
    }

    #[test]
    fn heads_are_bounded_con_13() {
        let of = |bytes: usize| {
            let begin = "POST /a HTTP/1.1\r\nHost: a\r\nX: ";
            format!("{begin}{}\r\n\r\n", "x".repeat(bytes - begin.len() - 4))
        };
        assert_eq!(whole(&of(HEAD_BYTES_MAX)), ["POST /a Length(0)", "body "]);
        assert_eq!(whole(&of(HEAD_BYTES_MAX + 1)), ["HeadTooLarge"]);
        assert_eq!(whole(&of(2 << 20)), ["HeadTooLarge"]);
        let fields = |count| format!("POST /a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(whole(&fields(99)), ["POST /a Length(0)", "body "]);
        assert_eq!(whole(&fields(100)), ["HeadTooLarge"]);
    }

    #[test]
    fn a_body_received_elsewhere_ends_the_request() {
        let mut protocol = Protocol::default();
        let stream = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
        let (used, event) = protocol.next(stream);
        assert!(matches!(event, Event::Head(_)));
        assert_eq!(protocol.next(&stream[used..]), (3, Event::Body(b"abc")));
        assert_eq!(protocol.body_left(), Some(7));
        protocol.received(7);
        assert_eq!(protocol.next(b"POST"), (0, Event::End));
        assert!(protocol.is_between_requests());
    }

    fn request() -> impl Strategy<Value = String> {
        let body = "[a-z\r\n]{0,40}";
        prop_oneof![
            body.prop_map(|b| format!("POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{b}", b.len())),
            proptest::collection::vec("[a-z\r\n]{1,9}", 0..5).prop_map(|chunks| {
                let mut text = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
                chunks.iter().for_each(|chunk| text += &format!("{:X};e\r\n{chunk}\r\n", chunk.len()));
                text + "0\r\nT: r\r\n\r\n"
            }),
            Just("\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_in_pieces(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz(&data);
        }

        #[test]
        fn how_the_bytes_are_cut_does_not_matter_con_14(
            requests in proptest::collection::vec(request(), 1..5),
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in proptest::collection::vec(1usize..30, 1..50),
        ) {
            let mut stream = requests.concat().into_bytes();
            if let Some((index, byte)) = damage {
                let at = index.index(stream.len());
                stream[at] = byte;
            }
            let expected = read_all(&stream, || usize::MAX / 2);
            let mut cut = cuts.iter().copied().cycle();
            prop_assert_eq!(&read_all(&stream, || cut.next().unwrap_or(1)), &expected);
            prop_assert_eq!(&read_all(&stream, || 1), &expected);
        }
    }
}
