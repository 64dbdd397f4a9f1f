//! What gRPC adds to HTTP/2: messages in DATA, timeouts, status messages in header fields. No `h2` and no I/O.
//!
//! A call's DATA is, however it is cut into frames (PROTOCOL-HTTP2, Length-Prefixed-Message):
//!
//! ```text
//! | flag: 1 byte | length: 4 bytes, big-endian | message: length bytes |   once, then END_STREAM
//! ```

use std::time::Duration;

/// The message of one unary call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Framing {
    prefix: [u8; 5],
    /// Bytes of the prefix that came.
    have: usize,
    /// Bytes of the message that are missing.
    left: u32,
}

/// What is next in a call's DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// Nothing more in what came.
    More,
    /// The message begins.
    Begin {
        /// Whether it is compressed, with the coding of `grpc-encoding`.
        compressed: bool,
        /// Its length in bytes, as announced.
        length: u32,
    },
    /// A piece of the message.
    Piece(&'a [u8]),
    /// It cannot be one message.
    Bad(Fault),
}

/// Why DATA is not one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The flag is neither 0 nor 1.
    Flag,
    /// More than one message.
    Several,
    /// It ended before the message did.
    Short,
    /// It ended before a message began.
    Missing,
}

impl Fault {
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Fault::Flag => "the message's compressed flag is neither 0 nor 1",
            Fault::Several => "a unary call has one message, there are more",
            Fault::Short => "the call ended before the announced end of its message",
            Fault::Missing => "the call ended without a message",
        }
    }
}

impl Framing {
    /// Takes the next piece of DATA: says how many bytes were used, and what they are. To be called until
    /// [`Event::More`].
    pub(crate) fn next<'a>(&mut self, data: &'a [u8]) -> (usize, Event<'a>) {
        if data.is_empty() {
            return (0, Event::More);
        }
        if self.have < self.prefix.len() {
            let take = data.len().min(self.prefix.len() - self.have);
            self.prefix[self.have..self.have + take].copy_from_slice(&data[..take]);
            self.have += take;
            let [flag, length @ ..] = self.prefix;
            return match (self.have < self.prefix.len(), flag) {
                (_, 2..) => (take, Event::Bad(Fault::Flag)),
                (true, _) => (take, Event::More),
                (false, _) => {
                    self.left = u32::from_be_bytes(length);
                    (take, Event::Begin { compressed: flag == 1, length: self.left })
                }
            };
        }
        let take = data.len().min(self.left as usize);
        if take == 0 {
            return (0, Event::Bad(Fault::Several));
        }
        self.left -= take as u32;
        (take, Event::Piece(&data[..take]))
    }

    /// Says that there is no more DATA.
    ///
    /// # Errors
    ///
    /// Where that is too early.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        match (self.have, self.left) {
            (5, 0) => Ok(()),
            (0, _) => Err(Fault::Missing),
            _ => Err(Fault::Short),
        }
    }
}

/// The value of `grpc-timeout`: at most 8 digits and a unit. `None` where it is something else.
pub(crate) fn timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// A status message as `grpc-message` has it: printable ASCII, the rest percent-encoded.
pub(crate) fn percent_encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// Base64 without padding, as fields whose names end in `-bin` have it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    out
}

/// For fuzzing: the first bytes say how the rest is cut into frames.
///
/// # Panics
///
/// Where the pieces are understood in another way than the whole, or a message that was not all there was taken.
pub fn fuzz(data: &[u8]) {
    let (cuts, stream) = data.split_at(data.len().min(4));
    let mut cut = cuts.iter().map(|&byte| usize::from(byte)).cycle();
    let whole = read_all(stream, || usize::MAX);
    let pieces = read_all(stream, || cut.next().unwrap_or(1));
    assert_eq!(pieces, whole, "how the bytes are cut does not matter");
    if let (_, Ok(message)) = &whole {
        assert_eq!(message.as_slice(), &stream[5..]);
    }
    if let Some(timeout) = timeout(stream) {
        assert!(timeout <= Duration::from_secs(99_999_999 * 3600));
    }
    let encoded = percent_encode(&String::from_utf8_lossy(stream));
    assert!(encoded.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
}

type ReadAll = (Option<(bool, u32)>, Result<Vec<u8>, Fault>);

fn read_all(stream: &[u8], mut cuts: impl FnMut() -> usize) -> ReadAll {
    let (mut framing, mut begin, mut message, mut at) = (Framing::default(), None, Vec::new(), 0);
    while at < stream.len() {
        let to = at.saturating_add(cuts().max(1)).min(stream.len());
        let mut piece = &stream[at..to];
        at = to;
        loop {
            let (used, event) = framing.next(piece);
            piece = &piece[used..];
            match event {
                Event::More => break,
                Event::Begin { compressed, length } => begin = Some((compressed, length)),
                Event::Piece(bytes) => message.extend_from_slice(bytes),
                Event::Bad(fault) => return (begin, Err(fault)),
            }
        }
    }
    (begin, framing.end().map(|()| message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flag];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    #[test]
    fn a_message_may_be_cut_anywhere_grpc_13() {
        let stream = framed(1, 6, b"abcdef");
        for size in 1..=stream.len() {
            let (begin, message) = read_all(&stream, || size);
            assert_eq!((begin, message), (Some((true, 6)), Ok(b"abcdef".to_vec())), "frames of {size}");
        }
        assert_eq!(read_all(&framed(0, 0, b""), || 1), (Some((false, 0)), Ok(Vec::new())));
    }

    #[test]
    fn what_is_not_one_message_is_told_grpc_19_20_21() {
        for (stream, fault) in [
            (Vec::new(), Fault::Missing),
            (vec![0], Fault::Short),
            (vec![0, 0, 0, 0], Fault::Short),
            (framed(0, 3, b"ab"), Fault::Short),
            (framed(0, 2, b"abc"), Fault::Several),
            ([framed(0, 0, b""), framed(0, 0, b"")].concat(), Fault::Several),
            (framed(2, 1, b"a"), Fault::Flag),
            (vec![255], Fault::Flag),
        ] {
            for size in [1, 2, 100] {
                assert_eq!(read_all(&stream, || size).1, Err(fault), "{stream:?}");
            }
        }
    }

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit_grpc_26_27() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
            ("1 S", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn messages_are_printable_ascii_grpc_25() {
        assert_eq!(percent_encode("a b~"), "a b~");
        assert_eq!(percent_encode("100 %\n\u{e9}\u{7f}"), "100 %25%0A%C3%A9%7F");
    }

    #[test]
    fn base64_has_no_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(data in prop::collection::vec(any::<u8>(), 0..64), flag in 0u8..3, lie in -2i32..3) {
            fuzz(&data);
            let message = data.get(4..).unwrap_or_default();
            let length = (message.len() as i32 + lie).max(0) as u32;
            fuzz(&[&[3, 1, 2, 4][..], &framed(flag, length, message)].concat());
        }
    }
}
