//! gzip and zstd bodies in which a few bytes stay uncompressed, so that they can be written over.
//!
//! One member and one frame each, as any compressor could have written them: decoders that size their buffer by the trailer
//! or the header find the truth there. With gzip the checksum has to follow: it is combined from three parts (RFC 1952, 2.2).

use std::fmt;
use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::stamp;

/// The end of a gzip body.
pub struct Trailer {
    before: Crc,
    after: Crc,
}

impl fmt::Debug for Trailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trailer").finish_non_exhaustive()
    }
}

impl Trailer {
    /// Its bytes: checksum and length.
    pub fn len(&self) -> usize {
        8
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The checksum of the body with that stamp.
    pub fn checksum(&self, text: &[u8; stamp::LEN]) -> [u8; 4] {
        let mut middle = Crc::new();
        middle.update(text);
        let mut whole = Crc::new();
        for part in [&self.before, &middle, &self.after] {
            whole.combine(part);
        }
        whole.sum().to_le_bytes()
    }
}

/// Compresses `plain` but for the stamp at `at`; returns where that stands then.
pub fn gzip(plain: &[u8], at: usize, level: u32) -> (Vec<u8>, usize, Trailer) {
    let (before, after) = (&plain[..at], &plain[at + stamp::LEN..]);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    deflate(before, level, FlushCompress::Sync, &mut out);
    // A stored block (RFC 1951, 3.2.4): the flush before it ended on a byte.
    let len = stamp::LEN as u16;
    out.push(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(!len).to_le_bytes());
    let stamp_at = out.len();
    out.extend_from_slice(&plain[at..at + stamp::LEN]);
    deflate(after, level, FlushCompress::Finish, &mut out);
    let crc = |bytes: &[u8]| {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc
    };
    out.extend_from_slice(&crc(plain).sum().to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    (out, stamp_at, Trailer { before: crc(before), after: crc(after) })
}

fn deflate(bytes: &[u8], level: u32, flush: FlushCompress, out: &mut Vec<u8>) {
    let mut compress = Compress::new(Compression::new(level), false);
    loop {
        out.reserve(bytes.len() / 2 + 1024);
        let read = compress.total_in() as usize;
        let status = compress.compress_vec(&bytes[read..], out, flush);
        let all_in = compress.total_in() as usize == bytes.len();
        match (flush, status) {
            (FlushCompress::Finish, Ok(Status::StreamEnd)) => return,
            (FlushCompress::Sync, _) if all_in && out.capacity() > out.len() => return,
            _ => {}
        }
    }
}

/// Compresses `plain` but for everything up to the end of the stamp at `at`; returns where that stands then.
///
/// # Errors
///
/// What the compressor says.
pub fn zstd(plain: &[u8], at: usize, level: i32) -> io::Result<(Vec<u8>, usize)> {
    let (raw, rest) = plain.split_at(at + stamp::LEN);
    let frame = zstd::bulk::compress(rest, level)?;
    let blocks = frame_blocks(&frame).ok_or_else(|| io::Error::other("the frame is not as expected"))?;
    // RFC 8878, 3.1.1: magic number; single segment, content size of four bytes, no checksum.
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    // A raw block that is not the last (3.1.1.2).
    out.extend_from_slice(&((raw.len() as u32) << 3).to_le_bytes()[..3]);
    let stamp_at = out.len() + at;
    out.extend_from_slice(raw);
    // What follows refers to nothing before it, so it decodes behind another block as it does alone.
    out.extend_from_slice(blocks);
    Ok((out, stamp_at))
}

/// The blocks of a frame without checksum.
fn frame_blocks(frame: &[u8]) -> Option<&[u8]> {
    let descriptor = *frame.get(4)?;
    if descriptor & 4 != 0 {
        return None;
    }
    let single = usize::from(descriptor >> 5 & 1);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = [single, 2, 4, 8][usize::from(descriptor >> 6)];
    frame.get(5 + (1 - single) + dictionary + content_size..)
}
