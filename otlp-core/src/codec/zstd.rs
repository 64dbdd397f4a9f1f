//! zstd (RFC 8878).

use std::cell::Cell;

use zstd::zstd_safe::{
    self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective,
};

use super::decode::{DecodeError, Output};
use super::encode::total;

/// The largest window of a stream whose size is not told: 8 MiB, what RFC 8878, section 3.1.1.1.2, asks decoders to
/// support. A window is memory beside the output, so it is not taken from the sender's word.
const WINDOW_LOG_MAX: u32 = 23;

/// A size told in the header is believed up to this many times the size of the body.
const RATIO_BELIEVED: u64 = 256;

thread_local! {
    static DECOMPRESSOR: Cell<Option<Box<DCtx<'static>>>> = const { Cell::new(None) };
    static COMPRESSOR: Cell<Option<Box<CCtx<'static>>>> = const { Cell::new(None) };
}

pub(super) fn decode(body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    if body.is_empty() {
        return Err(output.corrupt("shorter than a header"));
    }
    let mut context = DECOMPRESSOR.take().unwrap_or_else(|| {
        let mut context = DCtx::create();
        // Cannot fail: the value is within the range of every build.
        let _ = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX));
        Box::new(context)
    });
    let result = decode_with(&mut context, body, output);
    let _ = context.reset(ResetDirective::SessionOnly);
    DECOMPRESSOR.set(Some(context));
    result
}

fn decode_with(context: &mut DCtx<'static>, body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    let told = zstd_safe::get_frame_content_size(body).ok().flatten();
    let believed = (body.len() as u64).saturating_mul(RATIO_BELIEVED);
    if let Some(size) = told.filter(|&size| size <= believed.min(output.max as u64))
        && zstd_safe::find_frame_compressed_size(body) == Ok(body.len())
    {
        // One frame of known size: straight into the buffer, no window beside it.
        output.ensure(size as usize)?;
        return match context.decompress(output.bytes, body) {
            Ok(_) if output.bytes.len() > output.max => Err(output.too_large()),
            Ok(_) => Ok(()),
            Err(_) => Err(output.corrupt("bad data, or a wrong checksum")),
        };
    }
    output.ensure_ahead(told.unwrap_or(u64::MAX).min(body.len() as u64 * 8) as usize, 4096)?;
    let mut input = InBuffer::around(body);
    loop {
        output.grow()?;
        let written = output.bytes.len();
        let mut buffer = OutBuffer::around_pos(output.bytes, written);
        let read = input.pos();
        let left = context.decompress_stream(&mut buffer, &mut input);
        let left = left.map_err(|_| output.corrupt("bad data, a wrong checksum, or a window above 8 MiB"))?;
        if output.bytes.len() > output.max {
            return Err(output.too_large());
        }
        if left == 0 && input.pos() == body.len() {
            return Ok(());
        }
        if input.pos() == read && output.bytes.len() == written {
            return Err(output.corrupt("cut short"));
        }
    }
}

pub(super) fn encode(level: Option<i32>, parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let level = match level {
        None | Some(..=2) => 1,
        Some(3..=5) => 3,
        Some(6..=9) => 6,
        Some(10..) => 11,
    };
    let mut context = COMPRESSOR.take().unwrap_or_default();
    context.reset(ResetDirective::SessionOnly).ok()?;
    context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    // The size goes into the header, so that the other side needs no window and no guess.
    let total = total(parts);
    context.set_pledged_src_size(Some(total as u64)).ok()?;
    // With room for the worst case a single part is compressed in one pass, without a copy into the context.
    out.reserve(zstd_safe::compress_bound(total));
    let nothing: &[u8] = &[];
    let (last, before) = parts.split_last().unwrap_or((&nothing, &[]));
    for part in before {
        let mut input = InBuffer::around(part);
        while input.pos() < part.len() {
            step(&mut context, &mut input, out, ZSTD_EndDirective::ZSTD_e_continue)?;
        }
    }
    let mut input = InBuffer::around(last);
    while step(&mut context, &mut input, out, ZSTD_EndDirective::ZSTD_e_end)? > 0 {}
    COMPRESSOR.set(Some(context));
    Some(())
}

fn step(
    context: &mut CCtx<'static>,
    input: &mut InBuffer<'_>,
    out: &mut Vec<u8>,
    end: ZSTD_EndDirective,
) -> Option<usize> {
    if out.len() == out.capacity() {
        out.reserve(4096);
    }
    let position = out.len();
    let mut buffer = OutBuffer::around_pos(out, position);
    context.compress_stream2(&mut buffer, input, end).ok()
}
