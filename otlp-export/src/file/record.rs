//! A request as it stands in a file, and where the whole ones end.
//!
//! ```text
//! JSON, not compressed     a JSON object without a line break   0x0a
//! proto, or compressed     length in bytes, 4, big endian       that many bytes
//! ```
//!
//! The first byte tells the two apart: a line begins with `{`, and no length does, because that would be 1.9 GiB.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use otlp_core::codec::{self, Coding};
use otlp_core::{Code, Failure, Group, Reason, Signal, json};

use super::{Config, Format};

/// A length that begins with the byte of a `{` is none.
const FRAME_BYTES_MAX: usize = (b'{' as usize) << 24;

/// How the file tells where a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Lines,
    Lengths,
}

impl Framing {
    pub(super) fn of(config: &Config) -> Framing {
        match (config.format, config.compression) {
            (Format::Json, Coding::Identity) => Framing::Lines,
            _ => Framing::Lengths,
        }
    }
}

/// The group as it is written: one request, whatever its parts.
pub(super) fn encode(config: &Config, group: &Group) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::new();
    match config.format {
        Format::Json => json::encode(group.signal(), &group.joined(), &mut plain),
        // The empty length stands before it.
        Format::Proto if config.compression == Coding::Identity => {
            plain.reserve(4 + group.size().as_usize());
            plain.extend_from_slice(&[0; 4]);
            group.parts().iter().for_each(|batch| plain.extend_from_slice(batch.body()));
            return set_length(plain);
        }
        Format::Proto => {}
    }
    if Framing::of(config) == Framing::Lines {
        plain.push(b'\n');
        return Ok(plain);
    }
    let parts: Vec<&[u8]> = match config.format {
        Format::Json => vec![&plain],
        Format::Proto => group.parts().iter().map(|batch| &batch.body()[..]).collect(),
    };
    let mut out = vec![0; 4];
    codec::encode(config.compression, Some(config.compression_level), &parts, &mut out)
        .map_err(|error| Failure::rejected(Code::Internal, Reason::UNSUPPORTED, error.to_string()))?;
    set_length(out)
}

/// Fills in the length, for which the first four bytes are.
fn set_length(mut frame: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let length = frame.len() - 4;
    if length >= FRAME_BYTES_MAX {
        let message = format!("a request of {length} bytes is larger than a file of this format can hold");
        return Err(Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message));
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Where the last whole request ends. What follows was cut off by a crash.
    pub(super) len: u64,
    /// That request is a line that lacks its end.
    pub(super) unended: bool,
}

/// What a file of `len` bytes holds.
///
/// # Errors
///
/// Where it cannot be read, or is a file of another kind, of which nothing may be cut off.
pub(super) fn whole(framing: Framing, file: &mut (impl Read + Seek), len: u64) -> io::Result<Whole> {
    if len == 0 {
        return Ok(Whole { len: 0, unended: false });
    }
    let mut first = [0];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut first)?;
    if (first[0] == b'{') != (framing == Framing::Lines) {
        let message = match framing {
            Framing::Lines => "it holds something else than lines of JSON",
            Framing::Lengths => "it holds lines of JSON, not requests with their lengths",
        };
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    match framing {
        Framing::Lines => {
            let end = last_line_end(file, len)?;
            // Where only the line end was cut off, by a crash or by whoever made the file by hand, nothing is missing.
            let unended = end < len && is_document(file, end, len)?;
            Ok(Whole { len: if unended { len } else { end }, unended })
        }
        Framing::Lengths => Ok(Whole { len: last_frame_end(file, len)?, unended: false }),
    }
}

/// Whether what stands between the two is a whole JSON object: a part of one never is.
fn is_document(file: &mut (impl Read + Seek), begin: u64, end: u64) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::Start(end - 1))?;
    file.read_exact(&mut last)?;
    if last[0] != b'}' {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(begin))?;
    let mut line = Vec::new();
    file.take(end - begin).read_to_end(&mut line)?;
    let limits = json::Limits { any_id_length: true, protobuf_bytes_max: usize::MAX, ..json::Limits::default() };
    // As any signal: what is of another is passed over as unknown, and is JSON all the same.
    Ok(Signal::ALL.into_iter().any(|signal| json::decode(signal, &line, &limits).is_ok()))
}

/// Backwards from the end: a file may be large, a torn line is short.
fn last_line_end(file: &mut (impl Read + Seek), len: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut buffer = Vec::new();
    let mut end = len;
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(begin))?;
        buffer.resize((end - begin) as usize, 0);
        file.read_exact(&mut buffer)?;
        if let Some(at) = buffer.iter().rposition(|&byte| byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn last_frame_end(file: &mut (impl Read + Seek), len: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut file = BufReader::new(file);
    let mut end = 0;
    while len - end >= 4 {
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        let length = u64::from(u32::from_be_bytes(length));
        if len - end - 4 < length {
            break;
        }
        // A u32 is in range.
        file.seek_relative(length as i64)?;
        end += 4 + length;
    }
    Ok(end)
}
