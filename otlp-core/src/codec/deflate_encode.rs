//! gzip and zlib written, by zlib-rs: no C compiler is needed for this half.
//!
//! zlib-rs, not libdeflate: it takes the bodies of a group one after the other, and at level 1 it needs less CPU
//! than libdeflate at any size, for a body a tenth larger.

use std::cell::Cell;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::encode::total;

thread_local! {
    static DEFLATE: Cell<Option<Box<(Wrapping, u32, Compress)>>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wrapping {
    Gzip,
    Zlib,
}

/// Appends the parts compressed. `level` is one that [`super::Coding::has_level`] allows.
pub(super) fn encode(wrapping: Wrapping, level: Option<i32>, parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let level = match level {
        // -1 is the library's own default; -2, Huffman codes only, is what neither library offers: the fastest it is.
        Some(-1) => 6,
        Some(level @ 1..=9) => level as u32,
        _ => 1,
    };
    let mut kept = match DEFLATE.try_with(Cell::take).ok().flatten() {
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
    let nothing: &[u8] = &[];
    let (last, before) = parts.split_last().unwrap_or((&nothing, &[]));
    for part in before {
        let mut rest = *part;
        while !rest.is_empty() {
            rest = step(compress, rest, out, FlushCompress::None)?.0;
        }
    }
    let mut rest = *last;
    loop {
        let (left, status) = step(compress, rest, out, FlushCompress::Finish)?;
        if status == Status::StreamEnd {
            break;
        }
        rest = left;
    }
    // At the end of a thread its storage may be gone already.
    let _ = DEFLATE.try_with(|slot| slot.set(Some(kept)));
    Some(())
}

/// Compresses into the room there is, and makes more where it is used up; returns what is left of the input.
fn step<'p>(
    compress: &mut Compress,
    part: &'p [u8],
    out: &mut Vec<u8>,
    flush: FlushCompress,
) -> Option<(&'p [u8], Status)> {
    let read = compress.total_in();
    let status = compress.compress_vec(part, out, flush).ok()?;
    if out.len() == out.capacity() {
        out.reserve(out.capacity() / 2 + 64);
    }
    Some((&part[(compress.total_in() - read) as usize..], status))
}
