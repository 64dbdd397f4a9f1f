//! A compressed body back to what it was, within a limit.

use std::fmt;

use super::Coding;
use crate::outcome::{Code, Failure, Reason};
use crate::unit::ByteSize;

/// Why a body could not be inflated.
#[derive(Clone, Debug, PartialEq)]
pub enum DecodeError {
    /// It inflates to more than the limit. HTTP 413, not to be sent again.
    TooLarge {
        /// The limit that was given.
        limit: ByteSize,
    },
    /// It is not a complete body of that coding, or a checksum is wrong. HTTP 400, not to be sent again.
    Corrupt {
        /// The coding it should have had.
        coding: Coding,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The coding is not built into this program. HTTP 415.
    Unsupported,
    /// There was no room for what it inflates to: the answer of the `reserve` that was given.
    Refused(Failure),
}

/// Inflates `body` into a new buffer of at most `limit` bytes.
///
/// Before the buffer grows, `reserve` is called with the size in bytes it is going to have: what the receiver grows its
/// [`crate::flow::Reservation`] to. It may ask for more than turns out to be needed; the buffer's capacity is what is
/// held in the end.
///
/// # Errors
///
/// See [`DecodeError`]. Nothing of a body that fails is handed out.
///
/// # Examples
///
/// ```
/// use otlp_core::codec::{Coding, DecodeError, decode};
/// use otlp_core::ByteSize;
///
/// let body = decode(Coding::Identity, b"abc", ByteSize(3), &mut |_| Ok(()));
/// assert_eq!(body.as_deref(), Ok(&b"abc"[..]));
/// let body = decode(Coding::Identity, b"abc", ByteSize(2), &mut |_| Ok(()));
/// assert_eq!(body, Err(DecodeError::TooLarge { limit: ByteSize(2) }));
/// ```
pub fn decode(
    coding: Coding,
    body: &[u8],
    limit: ByteSize,
    reserve: &mut dyn FnMut(ByteSize) -> Result<(), Failure>,
) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    decode_into(coding, body, limit, &mut bytes, reserve)?;
    Ok(bytes)
}

/// The same into a buffer of the caller's, whose content is replaced and whose capacity is used; `reserve` is asked only
/// where it has to grow. After an error it is empty.
///
/// # Errors
///
/// See [`DecodeError`].
pub fn decode_into(
    coding: Coding,
    body: &[u8],
    limit: ByteSize,
    bytes: &mut Vec<u8>,
    reserve: &mut dyn FnMut(ByteSize) -> Result<(), Failure>,
) -> Result<(), DecodeError> {
    bytes.clear();
    let kept = bytes.capacity();
    // One byte above the limit tells a body that is too large from one that just fits.
    let max = limit.as_usize().min(isize::MAX as usize - 1);
    let mut output = Output { bytes, max, coding, reserve };
    let done = match coding {
        Coding::Identity => identity(body, &mut output),
        #[cfg(feature = "gzip")]
        Coding::Gzip => super::deflate::decode_gzip(body, &mut output),
        #[cfg(feature = "gzip")]
        Coding::Zlib | Coding::Deflate => super::deflate::decode_zlib(body, &mut output),
        #[cfg(feature = "zstd")]
        Coding::Zstd => super::zstd::decode(body, &mut output),
        #[cfg(feature = "snappy")]
        Coding::Snappy | Coding::SnappyFramed => super::snappy::decode(coding, body, &mut output),
        #[cfg(feature = "lz4")]
        Coding::Lz4 => super::lz4::decode(body, &mut output),
        #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
        _ => Err(DecodeError::Unsupported),
    };
    if done.is_err() {
        bytes.clear();
    }
    // A guess that was far too high would be held for as long as the batch lives.
    if bytes.capacity() > kept && bytes.capacity() / 2 > bytes.len() {
        bytes.shrink_to_fit();
    }
    done
}

fn identity(body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    if body.len() > output.max {
        return Err(output.too_large());
    }
    output.ensure(body.len())?;
    output.bytes.extend_from_slice(body);
    Ok(())
}

/// The buffer that a body is inflated into, and the limits on it.
pub(super) struct Output<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// The limit on its length.
    pub(super) max: usize,
    coding: Coding,
    reserve: &'a mut dyn FnMut(ByteSize) -> Result<(), Failure>,
}

#[allow(dead_code, reason = "what is used depends on the features")]
impl Output<'_> {
    /// Makes the capacity `capacity` at least, or one above the limit if that is less.
    pub(super) fn ensure(&mut self, capacity: usize) -> Result<(), DecodeError> {
        let capacity = capacity.min(self.max + 1);
        if capacity <= self.bytes.capacity() {
            return Ok(());
        }
        (self.reserve)(ByteSize::from(capacity.min(self.max))).map_err(DecodeError::Refused)?;
        self.bytes.try_reserve_exact(capacity - self.bytes.len()).map_err(|_| {
            DecodeError::Refused(Failure::refused(Reason::MEMORY_BUDGET, "no memory to decompress the body"))
        })
    }

    /// Makes the capacity `ahead`, or where that is refused `least`: the guess at what comes is not to be what a body
    /// that does fit is refused for.
    pub(super) fn ensure_ahead(&mut self, ahead: usize, least: usize) -> Result<(), DecodeError> {
        match self.ensure(ahead) {
            Err(DecodeError::Refused(_)) if least < ahead => self.ensure(least),
            done => done,
        }
    }

    /// Sees to it that there is room for at least one more byte.
    ///
    /// The capacity doubles, so that what is copied adds up to less than what is inflated; old and new buffer together
    /// never have more bytes written to than the limit.
    pub(super) fn grow(&mut self) -> Result<(), DecodeError> {
        if self.bytes.len() > self.max {
            return Err(self.too_large());
        }
        if self.bytes.len() == self.bytes.capacity() {
            let capacity = self.bytes.capacity();
            self.ensure_ahead(capacity.saturating_mul(2).max(4096), capacity + (capacity / 8).max(4096))?;
        }
        Ok(())
    }

    /// Reads to the end.
    pub(super) fn read(&mut self, reader: &mut impl std::io::Read, detail: &'static str) -> Result<(), DecodeError> {
        // `Read` wants bytes that are there already; 16 KiB of them stay in the first-level cache.
        let mut piece = [0; 16 << 10];
        loop {
            let read = reader.read(&mut piece).map_err(|_| self.corrupt(detail))?;
            if read == 0 {
                return Ok(());
            }
            if read > self.max - self.bytes.len() {
                return Err(self.too_large());
            }
            if read > self.bytes.capacity() - self.bytes.len() {
                let least = self.bytes.len() + read;
                self.ensure_ahead(self.bytes.capacity().saturating_mul(2).max(least), least)?;
            }
            self.bytes.extend_from_slice(&piece[..read]);
        }
    }

    pub(super) fn too_large(&self) -> DecodeError {
        DecodeError::TooLarge { limit: ByteSize::from(self.max) }
    }

    pub(super) fn corrupt(&self, detail: &'static str) -> DecodeError {
        DecodeError::Corrupt { coding: self.coding, detail }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::TooLarge { limit } => write!(f, "the body decompresses to more than {limit}"),
            DecodeError::Corrupt { coding, detail } => write!(f, "the body is not valid {coding}: {detail}"),
            DecodeError::Unsupported => f.write_str("the content coding is not supported"),
            DecodeError::Refused(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        let (code, reason) = match &error {
            DecodeError::TooLarge { .. } => (Code::ResourceExhausted, Reason::TOO_LARGE),
            DecodeError::Corrupt { .. } => (Code::InvalidArgument, Reason::MALFORMED),
            DecodeError::Unsupported => (Code::Unimplemented, Reason::UNSUPPORTED),
            DecodeError::Refused(failure) => return failure.clone(),
        };
        Failure::rejected(code, reason, error.to_string())
    }
}
