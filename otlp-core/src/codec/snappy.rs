//! Snappy, block and framed.

use std::cell::Cell;
use std::io::Write;

use snap::raw::{Decoder, Encoder};

use super::Coding;
use super::decode::{DecodeError, Output};
use super::encode::{joined, total};

/// How a framed stream begins. No block begins so: it would be one of 255 bytes whose first element copies from before
/// its start.
const STREAM_IDENTIFIER: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";

/// A block cannot shrink anything more than this: 64 bytes take three.
const RATIO_MAX: usize = 22;

thread_local! {
    static ENCODER: Cell<Option<Box<Kept>>> = const { Cell::new(None) };
}

struct Kept {
    encoder: Encoder,
    scratch: Vec<u8>,
}

pub(super) fn decode(coding: Coding, body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    if body.is_empty() && coding == Coding::SnappyFramed {
        // A stream has no end mark, and some encoders write nothing at all for an empty body.
        return Ok(());
    }
    if body.starts_with(STREAM_IDENTIFIER) {
        return output.read(&mut snap::read::FrameDecoder::new(body), "bad data, or a wrong checksum");
    }
    let size = snap::raw::decompress_len(body).map_err(|_| output.corrupt("no size"))?;
    if body.is_empty() || size / RATIO_MAX > body.len() {
        return Err(output.corrupt("shorter than what it says it holds can be"));
    }
    if size > output.max {
        return Err(output.too_large());
    }
    output.ensure(size)?;
    output.bytes.resize(size, 0);
    match Decoder::new().decompress(body, output.bytes) {
        Ok(inflated) if inflated == size => Ok(()),
        _ => Err(output.corrupt("bad data")),
    }
}

pub(super) fn encode_block(parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let bound = snap::raw::max_compress_len(total(parts));
    if bound == 0 {
        return None;
    }
    let mut kept = ENCODER.take().unwrap_or_else(|| Box::new(Kept { encoder: Encoder::new(), scratch: Vec::new() }));
    let Kept { encoder, scratch } = &mut *kept;
    let start = out.len();
    out.resize(start + bound, 0);
    let length = joined(parts, scratch, |body| encoder.compress(body, &mut out[start..]));
    ENCODER.set(Some(kept));
    out.truncate(start + length.ok()?);
    Some(())
}

pub(super) fn encode_framed(parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    // The encoder writes its header with the first bytes, so an empty body would come out as none.
    if total(parts) == 0 {
        out.extend_from_slice(STREAM_IDENTIFIER);
        return Some(());
    }
    let mut encoder = snap::write::FrameEncoder::new(out);
    for part in parts {
        encoder.write_all(part).ok()?;
    }
    encoder.into_inner().ok().map(drop)
}
