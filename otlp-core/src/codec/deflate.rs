//! gzip (RFC 1952), zlib (RFC 1950) and raw deflate (RFC 1951).
//!
//! libdeflate inflates two and a half times as fast as the next, but only in one shot: the size of the output has to be
//! known, and it does not say how much of the input it used. So a gzip body goes through it where its last four bytes,
//! the size of what is inflated, turn out to be right and nothing looks like a second member; everything else, bodies of
//! several members above all, goes through zlib-rs from the start, which stops where a member ends. Bytes behind the
//! only member are taken for a member and fail, but for the odd ones that happen to end in the right size: those are
//! ignored, as RFC 1952 has it.
//!
//! Compressing, zlib-rs takes the bodies of a group one after the other but spends some 50 µs on resetting its tables, so
//! small bodies go through libdeflate as well.

use std::cell::Cell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};

use super::decode::{DecodeError, Output};
use super::encode::{joined, total};

/// Deflate cannot shrink anything more than this: 258 bytes take two bits at the least.
const RATIO_MAX: usize = 1032;

/// Up to this much libdeflate compresses for less, above it zlib-rs does.
const ONE_SHOT_BYTES_MAX: usize = 128 << 10;

thread_local! {
    static DECOMPRESSOR: Cell<Option<Box<Decompressor>>> = const { Cell::new(None) };
    static STREAM: Cell<Option<Box<Decompress>>> = const { Cell::new(None) };
    static COMPRESSOR: Cell<Option<Box<OneShot>>> = const { Cell::new(None) };
    static DEFLATE: Cell<Option<Box<(Wrapping, u32, Compress)>>> = const { Cell::new(None) };
}

struct OneShot {
    level: u32,
    compressor: Compressor,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wrapping {
    Gzip,
    Zlib,
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
fn has_magic_inside(body: &[u8]) -> bool {
    // No early exit and no branches, so that it is compiled to vector instructions.
    let rest = body.get(1..).unwrap_or_default();
    let found = |at: &[u8]| (at[0] == 0x1f) & (at[1] == 0x8b) & (at[2] == 8) & (at[3] < 0x20);
    rest.chunks(4096 - 3).enumerate().any(|(index, _)| {
        let start = index * (4096 - 3);
        let piece = &rest[start..rest.len().min(start + 4096)];
        piece.windows(4).fold(false, |any, at| any | found(at))
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
    output.ensure(body.len().saturating_mul(4))?;
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

/// Appends the parts compressed. `level` is one that [`super::Coding::has_level`] allows.
pub(super) fn encode(wrapping: Wrapping, level: Option<i32>, parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let level = match level {
        // -1 is the library's own default; -2, Huffman codes only, is what neither library offers: the fastest it is.
        Some(-1) => 6,
        Some(level @ 1..=9) => level as u32,
        _ => 1,
    };
    if total(parts) <= ONE_SHOT_BYTES_MAX {
        encode_one_shot(wrapping, level, parts, out)
    } else {
        encode_stream(wrapping, level, parts, out)
    }
}

fn encode_one_shot(wrapping: Wrapping, level: u32, parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut kept = match COMPRESSOR.take() {
        Some(kept) if kept.level == level => kept,
        _ => {
            let compressor = Compressor::new(CompressionLvl::new(level as i32).ok()?);
            Box::new(OneShot { level, compressor, scratch: Vec::new() })
        }
    };
    let OneShot { compressor, scratch, .. } = &mut *kept;
    let start = out.len();
    let length = joined(parts, scratch, |body| match wrapping {
        Wrapping::Gzip => {
            out.resize(start + compressor.gzip_compress_bound(body.len()), 0);
            compressor.gzip_compress(body, &mut out[start..])
        }
        Wrapping::Zlib => {
            out.resize(start + compressor.zlib_compress_bound(body.len()), 0);
            compressor.zlib_compress(body, &mut out[start..])
        }
    });
    COMPRESSOR.set(Some(kept));
    out.truncate(start + length.ok()?);
    Some(())
}

fn encode_stream(wrapping: Wrapping, level: u32, parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut kept = match DEFLATE.take() {
        Some(kept) if (kept.0, kept.1) == (wrapping, level) => kept,
        _ => {
            let compress = match wrapping {
                Wrapping::Gzip => Compress::new_gzip(Compression::new(level), 15),
                Wrapping::Zlib => Compress::new(Compression::new(level), true),
            };
            Box::new((wrapping, level, compress))
        }
    };
    let compress = &mut kept.2;
    compress.reset();
    out.reserve(total(parts) / 4 + 256);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let read = compress.total_in();
            compress.compress_vec(rest, out, FlushCompress::None).ok()?;
            rest = &rest[(compress.total_in() - read) as usize..];
            if out.len() == out.capacity() {
                out.reserve(out.capacity() / 2);
            }
        }
    }
    while compress.compress_vec(&[], out, FlushCompress::Finish).ok()? != Status::StreamEnd {
        out.reserve(out.capacity() / 2);
    }
    DEFLATE.set(Some(kept));
    Some(())
}
