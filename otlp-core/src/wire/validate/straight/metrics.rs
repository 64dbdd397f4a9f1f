//! Metrics. The item is the data point.

use crate::wire::reader::{Fault, Read, delimited, varint};

use super::attributes::attributes;
use super::{Found, ONEOF, Once, down, known, known_to, other, take, text};

#[inline(always)]
pub(super) fn metric(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    const KNOWN: u32 = known(&[1, 2, 3, 5, 7, 9, 10, 11, 12]);
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            tag @ (0x0a | 0x12 | 0x1a) => {
                once.see((tag >> 3) as u32);
                text(bytes, &mut at)?;
            }
            0x2a => {
                once.see(ONEOF);
                points(found, delimited(bytes, &mut at)?, down(depth)?, 1, number_point)?;
            }
            0x3a => {
                once.see(ONEOF);
                points(found, delimited(bytes, &mut at)?, down(depth)?, 3, number_point)?;
            }
            0x4a => {
                once.see(ONEOF);
                points(found, delimited(bytes, &mut at)?, down(depth)?, 2, histogram_point)?;
            }
            0x52 => {
                once.see(ONEOF);
                points(found, delimited(bytes, &mut at)?, down(depth)?, 2, exponential_point)?;
            }
            0x5a => {
                once.see(ONEOF);
                points(found, delimited(bytes, &mut at)?, down(depth)?, 1, summary_point)?;
            }
            0x62 => attributes(found, bytes, &mut at, 0x62, depth)?,
            tag => at = other(bytes, at, tag, KNOWN, depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

/// The data of a metric: points, then temporality and monotonicity up to field `last`.
#[inline(always)]
fn points(
    found: &mut Found,
    bytes: &[u8],
    depth: u32,
    last: u32,
    point: impl Fn(&mut Found, &[u8], u32) -> Read<()>,
) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => {
                found.items += 1;
                point(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            tag @ (0x10 | 0x18) if (tag >> 3) as u32 <= last => {
                once.see((tag >> 3) as u32);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(last), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn number_point(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    const KNOWN: u32 = known_to(8) & !(1 << 1);
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x3a => attributes(found, bytes, &mut at, 0x3a, depth)?,
            tag @ (0x11 | 0x19) => {
                once.see((tag >> 3) as u32);
                take(bytes, &mut at, 8)?;
            }
            0x21 | 0x31 => {
                once.see(ONEOF);
                take(bytes, &mut at, 8)?;
            }
            0x2a => exemplar(found, delimited(bytes, &mut at)?, down(depth)?)?,
            0x40 => {
                once.see(8);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, KNOWN, depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn histogram_point(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    const KNOWN: u32 = known_to(12) & !(1 << 1);
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x4a => attributes(found, bytes, &mut at, 0x4a, depth)?,
            tag @ (0x11 | 0x19 | 0x21 | 0x29 | 0x59 | 0x61) => {
                once.see((tag >> 3) as u32);
                take(bytes, &mut at, 8)?;
            }
            tag @ (0x32 | 0x3a) => {
                once.see((tag >> 3) as u32);
                packed_fixed64(delimited(bytes, &mut at)?)?;
            }
            0x31 | 0x39 => {
                found.odd = true;
                take(bytes, &mut at, 8)?;
            }
            0x42 => exemplar(found, delimited(bytes, &mut at)?, down(depth)?)?,
            0x50 => {
                once.see(10);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, KNOWN, depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn exponential_point(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => attributes(found, bytes, &mut at, 0x0a, depth)?,
            tag @ (0x11 | 0x19 | 0x21 | 0x29 | 0x39 | 0x61 | 0x69 | 0x71) => {
                once.see((tag >> 3) as u32);
                take(bytes, &mut at, 8)?;
            }
            tag @ (0x30 | 0x50) => {
                once.see((tag >> 3) as u32);
                varint(bytes, &mut at)?;
            }
            tag @ (0x42 | 0x4a) => {
                once.see((tag >> 3) as u32);
                buckets(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x5a => exemplar(found, delimited(bytes, &mut at)?, down(depth)?)?,
            tag => at = other(bytes, at, tag, known_to(14), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

fn buckets(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x12 => {
                once.see(2);
                packed_varints(delimited(bytes, &mut at)?)?;
            }
            0x08 => {
                once.see(1);
                varint(bytes, &mut at)?;
            }
            0x10 => {
                found.odd = true;
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(2), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn summary_point(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    const KNOWN: u32 = known_to(8) & !(1 << 1);
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x3a => attributes(found, bytes, &mut at, 0x3a, depth)?,
            tag @ (0x11 | 0x19 | 0x21 | 0x29) => {
                once.see((tag >> 3) as u32);
                take(bytes, &mut at, 8)?;
            }
            0x32 => value_at_quantile(found, delimited(bytes, &mut at)?, down(depth)?)?,
            0x40 => {
                once.see(8);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, KNOWN, depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

fn value_at_quantile(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            tag @ (0x09 | 0x11) => {
                once.see((tag >> 3) as u32);
                take(bytes, &mut at, 8)?;
            }
            tag => at = other(bytes, at, tag, known_to(2), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn exemplar(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    const KNOWN: u32 = known_to(7) & !(1 << 1);
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x11 => {
                once.see(2);
                take(bytes, &mut at, 8)?;
            }
            0x19 | 0x31 => {
                once.see(ONEOF);
                take(bytes, &mut at, 8)?;
            }
            tag @ (0x22 | 0x2a) => {
                once.see((tag >> 3) as u32);
                delimited(bytes, &mut at)?;
            }
            0x3a => attributes(found, bytes, &mut at, 0x3a, depth)?,
            tag => at = other(bytes, at, tag, KNOWN, depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

/// A packed list of varints: eight bytes at a time, as long as none in it is longer than four bytes.
///
/// Without four continuation bytes in a row in any word no varint has more than six of them, across two words, so none
/// is too long; and if the last byte ends one, all end.
#[inline(always)]
fn packed_varints(list: &[u8]) -> Read<()> {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let four_in_a_row = |word: [u8; 8]| {
        let high = u64::from_le_bytes(word) & HIGH;
        high & high >> 8 & high >> 16 & high >> 24
    };
    let (words, tail) = list.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let long = words.iter().fold(four_in_a_row(last), |long, word| long | four_in_a_row(*word));
    if long == 0 && list.last().is_none_or(|last| *last < 0x80) { Ok(()) } else { packed_varints_slow(list) }
}

#[inline(never)]
fn packed_varints_slow(list: &[u8]) -> Read<()> {
    let mut at = 0;
    while at < list.len() {
        varint(list, &mut at)?;
    }
    Ok(())
}

#[inline(always)]
fn packed_fixed64(list: &[u8]) -> Read<()> {
    if list.len().is_multiple_of(8) { Ok(()) } else { Err(Fault::Truncated) }
}
