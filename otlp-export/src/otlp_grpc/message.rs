//! What gRPC adds to HTTP/2, as far as a client writes and reads it. No socket and no `h2`.
//!
//! A message is, in DATA frames cut as HTTP/2 likes (PROTOCOL-HTTP2, Length-Prefixed-Message):
//!
//! ```text
//! 1 byte   0, or 1 where the message is compressed as `grpc-encoding` says
//! 4 bytes  length of the message, big-endian
//! …        the message
//! ```

use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

const PREFIX_BYTES: usize = 5;

/// As much of an answer's message is taken (OTLP/gRPC Response; row XG-11).
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// One message on its way out, its parts as they lie: nothing is copied. Cloning is free, too.
#[derive(Clone, Debug)]
pub(super) struct Message {
    prefix: [u8; PREFIX_BYTES],
    /// How much of the prefix is gone.
    prefix_at: usize,
    parts: SmallVec<[Bytes; 2]>,
    /// The first part of which something is left.
    part_at: usize,
    left: usize,
}

impl Message {
    /// A message made of `parts`, less than 4 GiB.
    pub(super) fn new(compressed: bool, parts: SmallVec<[Bytes; 2]>) -> Message {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let mut prefix = [0; PREFIX_BYTES];
        prefix[0] = u8::from(compressed);
        prefix[1..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        let part_at = parts.iter().take_while(|part| part.is_empty()).count();
        Message { prefix, prefix_at: 0, parts, part_at, left: PREFIX_BYTES + length }
    }
}

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        if self.prefix_at < PREFIX_BYTES {
            return &self.prefix[self.prefix_at..];
        }
        self.parts.get(self.part_at).map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let prefix = Some(&self.prefix[self.prefix_at..]).filter(|prefix| !prefix.is_empty());
        let parts = self.parts.get(self.part_at..).unwrap_or_default();
        let chunks = prefix.into_iter().chain(parts.iter().map(|part| &part[..]).filter(|part| !part.is_empty()));
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "cannot advance past the end");
        self.left -= count;
        let of_prefix = count.min(PREFIX_BYTES - self.prefix_at);
        self.prefix_at += of_prefix;
        count -= of_prefix;
        while let Some(part) = self.parts.get_mut(self.part_at) {
            let of_part = count.min(part.len());
            part.advance(of_part);
            count -= of_part;
            if !part.is_empty() {
                break;
            }
            self.part_at += 1;
        }
    }
}

/// The one message of an answer, put together from DATA.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
}

/// An answer that goes on after [`ANSWER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Incoming {
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), TooLong> {
        if self.bytes.len() + data.len() > PREFIX_BYTES + ANSWER_BYTES_MAX {
            return Err(TooLong);
        }
        self.bytes.extend_from_slice(data);
        match self.bytes.get(1..PREFIX_BYTES) {
            Some(&[a, b, c, d]) if u32::from_be_bytes([a, b, c, d]) as usize > ANSWER_BYTES_MAX => Err(TooLong),
            _ => Ok(()),
        }
    }

    /// Whether it is compressed, and the message. Nothing where there was none.
    ///
    /// # Errors
    ///
    /// Where it is cut off, or goes on after its end.
    pub(super) fn message(&self) -> Result<Option<(bool, &[u8])>, &'static str> {
        match self.bytes.as_slice() {
            [] => Ok(None),
            &[flag @ (0 | 1), a, b, c, d, ref message @ ..] => {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                match message.len().cmp(&length) {
                    std::cmp::Ordering::Equal => Ok(Some((flag == 1, message))),
                    std::cmp::Ordering::Less => Err("the message is cut off"),
                    std::cmp::Ordering::Greater => Err("there is more than one message"),
                }
            }
            [0 | 1, ..] => Err("the message is cut off"),
            _ => Err("the message has an unknown flag"),
        }
    }
}

/// The value of `grpc-timeout`: at most eight digits and a unit (PROTOCOL-HTTP2, Timeout). Rounded up, so that a server
/// does not give up before we do.
pub(super) fn timeout_value(left: Duration) -> String {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let nanos = left.as_nanos();
    let fitting = UNITS.into_iter().map(|(unit, letter)| (nanos.div_ceil(unit), letter));
    let (count, letter) = fitting.into_iter().find(|(count, _)| *count < 100_000_000).unwrap_or((99_999_999, 'H'));
    format!("{count}{letter}")
}

/// RFC 4648, section 4, with or without padding, as gRPC has its binary headers.
pub(super) fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.chunks(4) {
        let mut word = 0u32;
        for &byte in chunk {
            let sextet = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(sextet);
        }
        word <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp_http::base64;
    use proptest::prelude::*;

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        for (left, value) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_000), "100000u"),
            (Duration::from_secs(5), "5000000u"),
            (Duration::from_nanos(5_000_000_001), "5000001u"),
            (Duration::from_secs(300), "300000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_value(left), value);
        }
    }

    #[test]
    fn answers_by_table() {
        let message = |bytes: &[u8]| {
            let mut incoming = Incoming::default();
            incoming.take(bytes).unwrap();
            incoming.message().map(|message| message.map(|(compressed, bytes)| (compressed, bytes.to_vec())))
        };
        assert_eq!(message(b""), Ok(None));
        assert_eq!(message(b"\0\0\0\0\0"), Ok(Some((false, vec![]))));
        assert_eq!(message(b"\x01\0\0\0\x02ab"), Ok(Some((true, b"ab".to_vec()))));
        for wrong in [&b"\0"[..], b"\0\0\0\0\x01", b"\0\0\0\0\0a", b"\x02\0\0\0\0", b"<"] {
            assert!(message(wrong).is_err(), "{wrong:?}");
        }
        let most = (ANSWER_BYTES_MAX as u32).to_be_bytes();
        let more = (ANSWER_BYTES_MAX as u32 + 1).to_be_bytes();
        assert_eq!(Incoming::default().take(&[&[0][..], &most].concat()), Ok(()));
        assert_eq!(Incoming::default().take(&[&[0][..], &more].concat()), Err(TooLong));
        let mut lying = Incoming::default();
        lying.take(b"\0\0\0\0\x01").unwrap();
        assert_eq!(lying.take(&vec![0; ANSWER_BYTES_MAX + 1]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn a_message_is_its_prefix_and_its_parts(
            parts: Vec<Vec<u8>>, compressed: bool, steps in proptest::collection::vec(1usize..9, 0..64)
        ) {
            let body = parts.concat();
            let length = (body.len() as u32).to_be_bytes();
            let whole = [&[u8::from(compressed)][..], &length, &body].concat();
            let mut message = Message::new(compressed, parts.into_iter().map(Bytes::from).collect());
            let copy = message.clone();
            let (mut read, mut steps) = (Vec::new(), steps.into_iter().cycle());
            while message.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = message.chunks_vectored(&mut slices);
                prop_assert_eq!(&slices[0][..], message.chunk());
                let vectored: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                let step = steps.next().unwrap_or(usize::MAX).min(vectored.len());
                prop_assert!(step > 0);
                read.extend_from_slice(&vectored[..step]);
                message.advance(step);
                prop_assert_eq!(message.remaining(), whole.len() - read.len());
            }
            prop_assert_eq!(&read, &whole);
            prop_assert_eq!(message.chunk(), b"");
            let mut copy = copy;
            prop_assert_eq!(copy.copy_to_bytes(whole.len()), whole);
        }

        #[test]
        fn base64_comes_back(bytes: Vec<u8>) {
            let text = base64(&bytes);
            prop_assert_eq!(base64_decode(text.as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(base64_decode(text.trim_end_matches('=').as_bytes()), Some(bytes));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            base64_decode(&text);
        }
    }
}
