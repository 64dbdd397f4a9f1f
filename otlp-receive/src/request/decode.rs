//! The seam to the validator: one function, until it is merged.

use bytes::Bytes;
use otlp_core::wire::reader::{Read, Value, fields};
use otlp_core::{Batch, Code, Failure, ItemCount, Reason, Signal};

/// Checks the bytes and counts their items; also how many of them have an invalid id.
pub(super) fn check(signal: Signal, body: Bytes) -> Result<(Batch, ItemCount), Failure> {
    let path: &[&[u32]] = match signal {
        Signal::Traces | Signal::Logs => &[&[1], &[2], &[2]],
        Signal::Metrics => &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]],
    };
    let items = count(&body, path)
        .map_err(|fault| Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, format!("not OTLP: {fault}")))?;
    Ok((Batch::trusted(signal, ItemCount(items), body), ItemCount::ZERO))
}

/// Counts the messages at the end of a path of field numbers.
fn count(bytes: &[u8], path: &[&[u32]]) -> Read<u64> {
    let Some((numbers, path)) = path.split_first() else { return Ok(1) };
    let mut items = 0;
    for field in fields(bytes) {
        let field = field?;
        if let Value::Len(inner) = field.value {
            if numbers.contains(&field.number) {
                items += count(inner, path)?;
            }
        }
    }
    Ok(items)
}
