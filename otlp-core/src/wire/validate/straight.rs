//! One function for each message, with every tag written out: the form that runs on every request.
//!
//! A table costs three times as much: the branch predictor learns the shape of each message only where each has its own
//! code. Positions are handed to rare cases by value, not by reference: they stay in registers then, where each field does
//! not wait for the one before to reach memory.
//!
//! In every function `depth` says how many more levels may open below the message, as prost counts them: at zero not
//! even an unknown scalar is taken.

mod attributes;
mod metrics;

use crate::signal::Signal;
use crate::unit::ItemCount;
use crate::wire::reader::{
    FIELD_MAX, FIXED32, FIXED64, Fault, GROUP_END, GROUP_START, LEN, Read, VARINT, delimited, tag, varint,
};
use crate::wire::utf8::{is_ascii, is_utf8};

use super::{Checked, is_valid_id};
use attributes::{any_value, attributes};

/// The same verdict as [`super::table::validate`]; the fault without a place.
pub(super) fn validate(signal: Signal, bytes: &[u8], depth: u32) -> Read<Checked> {
    let mut found = Found::default();
    match signal {
        Signal::Traces => request(&mut found, bytes, depth, span)?,
        Signal::Metrics => request(&mut found, bytes, depth, metrics::metric)?,
        Signal::Logs => request(&mut found, bytes, depth, log_record)?,
    }
    Ok(Checked {
        items: ItemCount(found.items),
        canonical: !found.odd,
        invalid_ids: ItemCount(found.invalid_ids),
        string_indexes: found.string_indexes,
        legacy: found.legacy,
    })
}

#[derive(Default)]
struct Found {
    items: u64,
    invalid_ids: u64,
    string_indexes: u64,
    odd: bool,
    legacy: bool,
}

/// Which singular fields of a message were seen, by bit, and which of them twice. Bit 0 stands for the oneof.
#[derive(Default)]
struct Once {
    seen: u32,
    twice: u32,
}

const ONEOF: u32 = 0;

impl Once {
    #[inline(always)]
    fn see(&mut self, field: u32) {
        let bit = 1 << field;
        self.twice |= self.seen & bit;
        self.seen |= bit;
    }

    #[inline(always)]
    fn tell(&self, found: &mut Found) {
        found.odd |= self.twice != 0;
    }
}

#[inline(always)]
fn down(depth: u32) -> Read<u32> {
    depth.checked_sub(1).ok_or(Fault::Depth)
}

#[inline(always)]
fn take(bytes: &[u8], at: &mut usize, count: usize) -> Read<()> {
    if bytes.len() - *at < count {
        return Err(Fault::Truncated);
    }
    *at += count;
    Ok(())
}

#[inline(always)]
fn text(bytes: &[u8], at: &mut usize) -> Read<()> {
    if is_utf8(delimited(bytes, at)?) { Ok(()) } else { Err(Fault::Utf8) }
}

/// Moves past a field that none of the message's own tags matched: known with a wrong wire type, or unknown.
#[inline(never)]
fn other(bytes: &[u8], mut at: usize, tag: u64, known: u32, depth: u32) -> Read<usize> {
    let field = tag >> 3;
    if field == 0 || field > FIELD_MAX {
        return Err(Fault::Tag);
    }
    if field < 32 && known >> field & 1 == 1 {
        return Err(Fault::WireType);
    }
    unknown(bytes, &mut at, field as u32, (tag & 7) as u8, depth)?;
    Ok(at)
}

/// The value of an unknown field. Prost wants room below even for scalars; so does this.
pub(super) fn unknown(bytes: &[u8], at: &mut usize, field: u32, wire_type: u8, depth: u32) -> Read<()> {
    let below = down(depth)?;
    match wire_type {
        VARINT => varint(bytes, at).map(drop),
        FIXED64 => take(bytes, at, 8),
        LEN => delimited(bytes, at).map(drop),
        FIXED32 => take(bytes, at, 4),
        GROUP_START => loop {
            match tag(bytes, at)? {
                (inner, GROUP_END) if inner == field => return Ok(()),
                (_, GROUP_END) => return Err(Fault::Group),
                (inner, wire_type) => unknown(bytes, at, inner, wire_type, below)?,
            }
        },
        GROUP_END => Err(Fault::Group),
        _ => Err(Fault::WireType),
    }
}

const fn known(fields: &[u32]) -> u32 {
    let mut mask = 0;
    let mut index = 0;
    while index < fields.len() {
        mask |= 1 << fields[index];
        index += 1;
    }
    mask
}

/// Fields 1 to `last`.
const fn known_to(last: u32) -> u32 {
    (2 << last) - 2
}

// The envelope, the same for all signals.

#[inline(always)]
fn request(
    found: &mut Found,
    bytes: &[u8],
    depth: u32,
    item: impl Fn(&mut Found, &[u8], u32) -> Read<()> + Copy,
) -> Read<()> {
    let mut at = 0;
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => resource_items(found, delimited(bytes, &mut at)?, down(depth)?, item)?,
            tag => at = other(bytes, at, tag, known_to(1), depth)?,
        }
    }
    Ok(())
}

#[inline(always)]
fn resource_items(
    found: &mut Found,
    bytes: &[u8],
    depth: u32,
    item: impl Fn(&mut Found, &[u8], u32) -> Read<()> + Copy,
) -> Read<()> {
    const LEGACY: u64 = 1000 << 3 | LEN as u64;
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x12 => {
                scope_items(found, delimited(bytes, &mut at)?, down(depth)?, item)?;
            }
            0x0a => {
                once.see(1);
                resource(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x1a => {
                once.see(3);
                text(bytes, &mut at)?;
            }
            tag => {
                found.legacy |= tag == LEGACY;
                at = other(bytes, at, tag, known_to(3), depth)?;
            }
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(always)]
fn scope_items(
    found: &mut Found,
    bytes: &[u8],
    depth: u32,
    item: impl Fn(&mut Found, &[u8], u32) -> Read<()> + Copy,
) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x12 => {
                item(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x0a => {
                once.see(1);
                scope(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x1a => {
                once.see(3);
                text(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(3), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn resource(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => attributes(found, bytes, &mut at, 0x0a, depth)?,
            0x10 => {
                once.see(2);
                varint(bytes, &mut at)?;
            }
            0x1a => entity_ref(found, delimited(bytes, &mut at)?, down(depth)?)?,
            tag => at = other(bytes, at, tag, known_to(3), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

fn entity_ref(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            tag @ (0x0a | 0x12) => {
                once.see((tag >> 3) as u32);
                text(bytes, &mut at)?;
            }
            0x1a | 0x22 => text(bytes, &mut at)?,
            tag => at = other(bytes, at, tag, known_to(4), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn scope(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            tag @ (0x0a | 0x12) => {
                once.see((tag >> 3) as u32);
                text(bytes, &mut at)?;
            }
            0x1a => attributes(found, bytes, &mut at, 0x1a, depth)?,
            0x20 => {
                once.see(4);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(4), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

// Spans.

#[inline(always)]
fn span(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    found.items += 1;
    let (mut at, mut once) = (0, Once::default());
    let (mut trace_id, mut span_id) = (false, false);
    // The ids in front, as every encoder writes them: 0a 10 trace 12 08 span [22 08 parent].
    if let Some(ids) = bytes.first_chunk::<38>()
        && [ids[0], ids[1], ids[18], ids[19]] == [0x0a, 16, 0x12, 8]
    {
        trace_id = is_valid_id::<16>(&ids[2..18]);
        span_id = is_valid_id::<8>(&ids[20..28]);
        once.seen = 1 << 1 | 1 << 2;
        at = 28;
        if ids[28] == 0x22 && ids[29] == 8 {
            once.seen |= 1 << 4;
            at = 38;
        }
        // Then name, kind and times: 2a name 30 kind 39 start 41 end.
        if let Some([0x2a, length @ ..0x80, rest @ ..]) = bytes.get(at..)
            && let Some((name, rest)) = rest.split_at_checked(*length as usize)
            && let Some(tail) = rest.first_chunk::<20>()
            && [tail[0], tail[2], tail[11]] == [0x30, 0x39, 0x41]
            && tail[1] < 0x80
            && is_ascii(name)
        {
            once.seen |= 0b1_1110_0000;
            at += 2 + name.len() + tail.len();
        }
    }
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x0a => {
                once.see(1);
                trace_id = is_valid_id::<16>(delimited(bytes, &mut at)?);
            }
            0x12 => {
                once.see(2);
                span_id = is_valid_id::<8>(delimited(bytes, &mut at)?);
            }
            0x22 => {
                once.see(4);
                delimited(bytes, &mut at)?;
            }
            tag @ (0x1a | 0x2a) => {
                once.see((tag >> 3) as u32);
                text(bytes, &mut at)?;
            }
            tag @ (0x30 | 0x50 | 0x60 | 0x70) => {
                once.see((tag >> 3) as u32);
                varint(bytes, &mut at)?;
            }
            0x41 => {
                if let Some(tail) = usual_tail(&bytes[at..]) {
                    (trace_id, span_id) = (tail.trace_id, tail.span_id);
                    once.twice |= once.seen & tail.fields;
                    once.seen |= tail.fields;
                    break;
                }
                once.see(8);
                take(bytes, &mut at, 8)?;
            }
            0x39 => {
                once.see(7);
                take(bytes, &mut at, 8)?;
            }
            0x4a => attributes(found, bytes, &mut at, 0x4a, depth)?,
            0x5a => event(found, delimited(bytes, &mut at)?, down(depth)?)?,
            0x6a => link(found, delimited(bytes, &mut at)?, down(depth)?)?,
            0x7a => {
                once.see(15);
                status(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x85 => {
                once.see(16);
                take(bytes, &mut at, 4)?;
            }
            tag => at = other(bytes, at, tag, known_to(16), depth)?,
        }
    }
    once.tell(found);
    found.invalid_ids += u64::from(!(trace_id && span_id));
    Ok(())
}

/// What a span ends with.
struct Tail {
    trace_id: bool,
    span_id: bool,
    fields: u32,
}

/// The end of a span from the Collector, from behind the tag of its end time: end, 39 start, 30 kind, 2a name, [85 01 flags],
/// 22 { 08 parent | 00 }, 12 08 span, 0a 10 trace.
#[inline(always)]
fn usual_tail(bytes: &[u8]) -> Option<Tail> {
    let (times, rest) = bytes.split_first_chunk::<21>()?;
    let (name, rest) = rest.split_at_checked(times[20] as usize)?;
    if [times[8], times[17], times[19]] != [0x39, 0x30, 0x2a] || times[18] >= 0x80 || times[20] >= 0x80 {
        return None;
    }
    let mut fields = 0b1_1111_0110;
    let rest = match rest {
        [0x85, 1, _, _, _, _, rest @ ..] => {
            fields |= 1 << 16;
            rest
        }
        rest => rest,
    };
    let rest = match rest {
        [0x22, 8, rest @ ..] => rest.get(8..)?,
        [0x22, 0, rest @ ..] => rest,
        _ => return None,
    };
    let ids = <&[u8; 28]>::try_from(rest).ok()?;
    if [ids[0], ids[1], ids[10], ids[11]] != [0x12, 8, 0x0a, 16] || !is_ascii(name) {
        return None;
    }
    Some(Tail { trace_id: is_valid_id::<16>(&ids[12..]), span_id: is_valid_id::<8>(&ids[2..10]), fields })
}

#[inline(never)]
fn event(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x09 => {
                once.see(1);
                take(bytes, &mut at, 8)?;
            }
            0x12 => {
                once.see(2);
                text(bytes, &mut at)?;
            }
            0x1a => attributes(found, bytes, &mut at, 0x1a, depth)?,
            0x20 => {
                once.see(4);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known_to(4), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

#[inline(never)]
fn link(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            tag @ (0x0a | 0x12) => {
                once.see((tag >> 3) as u32);
                delimited(bytes, &mut at)?;
            }
            0x1a => {
                once.see(3);
                text(bytes, &mut at)?;
            }
            0x22 => attributes(found, bytes, &mut at, 0x22, depth)?,
            0x28 => {
                once.see(5);
                varint(bytes, &mut at)?;
            }
            0x35 => {
                once.see(6);
                take(bytes, &mut at, 4)?;
            }
            tag => at = other(bytes, at, tag, known_to(6), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

fn status(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    let (mut at, mut once) = (0, Once::default());
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x12 => {
                once.see(2);
                text(bytes, &mut at)?;
            }
            0x18 => {
                once.see(3);
                varint(bytes, &mut at)?;
            }
            tag => at = other(bytes, at, tag, known(&[2, 3]), depth)?,
        }
    }
    once.tell(found);
    Ok(())
}

// Log records.

#[inline(always)]
fn log_record(found: &mut Found, bytes: &[u8], depth: u32) -> Read<()> {
    const KNOWN: u32 = known_to(12) & !(1 << 4);
    found.items += 1;
    let (mut at, mut once) = (0, Once::default());
    let (mut trace_id, mut span_id) = (true, true);
    while at < bytes.len() {
        match varint(bytes, &mut at)? {
            0x32 => attributes(found, bytes, &mut at, 0x32, depth)?,
            tag @ (0x09 | 0x59) => {
                once.see((tag >> 3) as u32);
                take(bytes, &mut at, 8)?;
            }
            tag @ (0x10 | 0x38) => {
                once.see((tag >> 3) as u32);
                varint(bytes, &mut at)?;
            }
            tag @ (0x1a | 0x62) => {
                once.see((tag >> 3) as u32);
                text(bytes, &mut at)?;
            }
            0x2a => {
                once.see(5);
                any_value(found, delimited(bytes, &mut at)?, down(depth)?)?;
            }
            0x45 => {
                once.see(8);
                take(bytes, &mut at, 4)?;
            }
            0x4a => {
                once.see(9);
                let id = delimited(bytes, &mut at)?;
                trace_id = id.is_empty() || is_valid_id::<16>(id);
            }
            0x52 => {
                once.see(10);
                let id = delimited(bytes, &mut at)?;
                span_id = id.is_empty() || is_valid_id::<8>(id);
            }
            tag => at = other(bytes, at, tag, KNOWN, depth)?,
        }
    }
    once.tell(found);
    found.invalid_ids += u64::from(!(trace_id && span_id));
    Ok(())
}
