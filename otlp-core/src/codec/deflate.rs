//! gzip (RFC 1952), zlib (RFC 1950) and raw deflate (RFC 1951).
//!
//! libdeflate inflates two and a half times as fast as the next, but only in one shot: the size of the output has to be
//! known, and it does not say how much of the input it used. So a gzip body goes through it where its last four bytes,
//! the size of what is inflated, turn out to be right and nothing looks like a second member; everything else, bodies of
//! several members above all, goes through zlib-rs from the start, which stops where a member ends. Bytes behind the
//! only member are taken for a member and fail, but for the odd ones that happen to end in the right size: those are
//! ignored, as RFC 1952 has it.
//!
//! Compressing stands in `deflate_encode.rs`.

use std::cell::Cell;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::{DecompressionError, Decompressor};

use super::decode::{DecodeError, Output};

/// Deflate cannot shrink anything more than this: 258 bytes take two bits at the least.
const RATIO_MAX: usize = 1032;

thread_local! {
    static DECOMPRESSOR: Cell<Option<Box<Decompressor>>> = const { Cell::new(None) };
    static STREAM: Cell<Option<Box<Decompress>>> = const { Cell::new(None) };
}

pub(super) fn decode_gzip(body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    if decode_one_member(body, output)? {
        return Ok(());
    }
    output.bytes.clear();
    with_stream(|stream| decode_members(stream, body, output))
}

/// In one shot; false where that does not work although the body may be fine.
fn decode_one_member(body: &[u8], output: &mut Output<'_>) -> Result<bool, DecodeError> {
    let Some(&trailer) = body.last_chunk::<4>() else {
        return Err(output.corrupt("shorter than a header"));
    };
    let size = u32::from_le_bytes(trailer) as usize;
    if size > output.max || size / RATIO_MAX > body.len() || has_magic_inside(body) {
        return Ok(false);
    }
    output.ensure(size)?;
    output.bytes.resize(size, 0);
    let mut decompressor = DECOMPRESSOR.take().unwrap_or_else(|| Box::new(Decompressor::new()));
    let result = decompressor.gzip_decompress(body, output.bytes);
    DECOMPRESSOR.set(Some(decompressor));
    match result {
        Ok(inflated) => Ok(inflated == size),
        Err(DecompressionError::InsufficientSpace) => Ok(false),
        Err(DecompressionError::BadData) => Err(output.corrupt("bad data, or a wrong checksum")),
    }
}

/// Whether a second member may begin anywhere. One body of 40 kB in 3000 has these bytes by chance.
///
/// The first two bytes are looked for without an early exit, which compiles to vector instructions: 2 µs for those 40 kB,
/// which take 80 to inflate. A search that stops at each 0x1f takes 16.
fn has_magic_inside(body: &[u8]) -> bool {
    const PIECE: usize = 4096;
    let rest = body.get(1..).unwrap_or_default();
    (0..rest.len()).step_by(PIECE - 3).any(|start| {
        let piece = &rest[start..rest.len().min(start + PIECE)];
        piece.windows(2).fold(false, |any, at| any | ((at[0] == 0x1f) & (at[1] == 0x8b)))
            && piece.windows(4).any(|at| matches!(at, [0x1f, 0x8b, 8, ..0x20]))
    })
}

fn decode_members(stream: &mut Decompress, body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    let mut rest = body;
    loop {
        let header = gzip_header_length(rest).ok_or_else(|| output.corrupt("no gzip header"))?;
        let start = output.bytes.len();
        stream.reset(false);
        rest = inflate(stream, &rest[header..], output)?;
        let (trailer, next) = rest.split_first_chunk::<8>().ok_or_else(|| output.corrupt("cut short"))?;
        let member = &output.bytes[start..];
        let mut expected = [0; 8];
        expected[..4].copy_from_slice(&libdeflater::crc32(member).to_le_bytes());
        expected[4..].copy_from_slice(&(member.len() as u32).to_le_bytes());
        if *trailer != expected {
            return Err(output.corrupt("wrong checksum"));
        }
        if next.is_empty() {
            return Ok(());
        }
        rest = next;
    }
}

/// RFC 1952, section 2.3. flate2 reads headers too, but makes its state anew for each member: that would make a body of
/// millions of empty members cost seconds.
fn gzip_header_length(body: &[u8]) -> Option<usize> {
    const FIXED: usize = 10;
    let &[0x1f, 0x8b, 8, flags, ..] = body.get(..FIXED)? else { return None };
    if flags & 0xe0 != 0 {
        return None;
    }
    let mut length = FIXED;
    if flags & 4 != 0 {
        let extra: [u8; 2] = body.get(length..length + 2)?.try_into().ok()?;
        length += 2 + usize::from(u16::from_le_bytes(extra));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            length += body.get(length..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        length += 2;
    }
    (length <= body.len()).then_some(length)
}

pub(super) fn decode_zlib(body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    // A raw stream never looks like this: its first byte would be that of a stored block with padding that is not zero.
    let wrapped = match body {
        [method, flags, ..] => {
            method & 15 == 8 && method >> 4 <= 7 && (usize::from(*method) << 8 | usize::from(*flags)) % 31 == 0
        }
        _ => return Err(output.corrupt("shorter than a header")),
    };
    output.ensure_ahead(body.len().saturating_mul(4), 4096)?;
    with_stream(|stream| {
        stream.reset(wrapped);
        match inflate(stream, body, output)? {
            [] => Ok(()),
            _ => Err(output.corrupt("bytes after the end")),
        }
    })
}

fn with_stream<R>(run: impl FnOnce(&mut Decompress) -> R) -> R {
    // Taken out, not borrowed: `reserve` may run anything.
    let mut stream = STREAM.take().unwrap_or_else(|| Box::new(Decompress::new(false)));
    let result = run(&mut stream);
    STREAM.set(Some(stream));
    result
}

/// Inflates one stream and returns what follows it.
fn inflate<'b>(stream: &mut Decompress, body: &'b [u8], output: &mut Output<'_>) -> Result<&'b [u8], DecodeError> {
    let mut rest = body;
    loop {
        output.grow()?;
        let (read, written) = (stream.total_in(), output.bytes.len());
        let status = stream.decompress_vec(rest, output.bytes, FlushDecompress::None);
        let status = status.map_err(|_| output.corrupt("bad data, or a wrong checksum"))?;
        let read = (stream.total_in() - read) as usize;
        rest = &rest[read..];
        if output.bytes.len() > output.max {
            return Err(output.too_large());
        }
        if status == Status::StreamEnd {
            return Ok(rest);
        }
        if read == 0 && output.bytes.len() == written {
            return Err(output.corrupt("cut short"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_header_is_found_wherever_it_begins() {
        for length in [4, 5, 4095, 4096, 4097, 4100, 9000] {
            let mut body = vec![0x1f; length];
            assert!(!has_magic_inside(&body));
            for at in (1..=length - 4).filter(|at| *at < 10 || at % 4093 < 8 || *at > length - 10) {
                body[at..at + 4].copy_from_slice(&[0x1f, 0x8b, 8, 0]);
                assert!(has_magic_inside(&body), "{at} of {length}");
                body[at + 3] = 0x20;
                assert!(!has_magic_inside(&body), "{at} of {length}");
                body[at..at + 4].fill(0x1f);
            }
        }
        assert!(!has_magic_inside(&[0x1f, 0x8b, 8, 0]), "the first one is not a second");
    }
}
