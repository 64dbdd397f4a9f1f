//! LZ4 frames.
//!
//! The decoder takes the end of the input for the end of a frame, so a body cut short between two blocks would pass as
//! whole. The frames are therefore walked first, by their block sizes, and each must have its end mark.

use std::io::Write;

use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};

use super::decode::{DecodeError, Output};

const MAGIC: &[u8; 4] = &[0x04, 0x22, 0x4d, 0x18];

/// More frames in one body are not decoded: each needs buffers of its own, which a million empty ones would make dear.
const FRAMES_MAX: usize = 1024;

pub(super) fn decode(body: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    let mut rest = body;
    for _ in 0..FRAMES_MAX {
        let length = frame_length(rest).ok_or_else(|| output.corrupt("no frame, or one that is cut short"))?;
        let (frame, next) = rest.split_at(length);
        output.read(&mut FrameDecoder::new(frame), "bad data, or a wrong checksum")?;
        if next.is_empty() {
            return Ok(());
        }
        rest = next;
    }
    Err(output.corrupt("more than 1024 frames"))
}

/// The length of the frame that `body` begins with (LZ4 Frame Format 1.6.4): magic, FLG, BD, content size 8 if FLG bit
/// 3, dictionary id 4 if bit 0, header checksum 1, then blocks: size 4 with the highest bit for "not compressed", data,
/// checksum 4 if bit 4; a size of zero ends them, and a checksum 4 follows if bit 2.
fn frame_length(body: &[u8]) -> Option<usize> {
    let rest = body.strip_prefix(MAGIC)?;
    let flags = *rest.first()?;
    let bit = |bit: u8, length: usize| if flags >> bit & 1 == 1 { length } else { 0 };
    let mut length = 4 + 2 + bit(3, 8) + bit(0, 4) + 1;
    loop {
        let size = u32::from_le_bytes(body.get(length..length.checked_add(4)?)?.try_into().ok()?);
        length += 4;
        if size == 0 {
            length += bit(2, 4);
            return (length <= body.len()).then_some(length);
        }
        length = length.checked_add((size & 0x7fff_ffff) as usize + bit(4, 4))?;
    }
}

pub(super) fn encode(parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let info = FrameInfo::new().content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    for part in parts {
        encoder.write_all(part).ok()?;
    }
    encoder.finish().ok().map(drop)
}
