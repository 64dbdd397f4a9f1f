//! The one complete check of a request: after it, every stage trusts the bytes.
//!
//! | file                     | purpose                                                             |
//! |--------------------------|---------------------------------------------------------------------|
//! | `straight.rs`            | one function for each message: what runs on every request           |
//! | `straight/attributes.rs` | those of attributes and values                                      |
//! | `straight/metrics.rs`    | those of metrics and their points                                   |
//! | `table.rs`               | the same from the schema table: finds where a fault is; cross-check |
//!
//! # What it does
//!
//! Accepts exactly what a prost decode of the `Export*ServiceRequest` accepts: lengths, varints, field numbers, wire
//! types of known fields, UTF-8 of every string, groups that end as they began, nesting. Beyond that it counts items
//! and finds out whether the shape is canonical.
//!
//! # Canonical shape
//!
//! What views, edits and every other reader of a [`Batch`](crate::Batch) may rely on, on top of validity:
//!
//! 1. Every singular field, of whatever kind, stands at most once in its message: the first one found is the value.
//! 2. Of a oneof (`AnyValue`, `Metric.data`, the value of a number point or exemplar) at most one member is there, once.
//! 3. `bucket_counts` and `explicit_bounds` are packed, in one field at most.
//!
//! Not promised: the order of fields, that tags and lengths are as short as they can be, that unknown fields
//! and groups are absent, that attribute keys are unique, that enums are in range, that ids are valid.
//!
//! Fields stand in either order all the time: an SDK writes a message from its first field to its last, the Collector from
//! the last to the first, so that a value stands before its key and a resource behind all of its items. To rewrite what
//! comes from a Collector cost twenty times what validating it does.
//!
//! # Limits
//!
//! 4 GiB for a body, so that offsets fit in 32 bits; [`Limits::depth_max`] for nesting. Needs no memory unless it finds
//! a fault.
//!
//! # On failure
//!
//! [`Malformed`] says what is wrong, at which byte and in which field. It quotes nothing of the data.
//!
//! # Specification
//!
//! OTLP, Failures, Bad Data: the request is refused as a whole. An invalid id (OTLP trace.proto, `trace_id`) is not
//! malformed: it passes and is counted.

mod straight;
mod table;

use std::fmt;

use crate::signal::Signal;
use crate::unit::ItemCount;

use super::reader::{DEPTH_MAX, Fault};

/// What a request may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep messages and groups may nest below the request.
    ///
    /// Default 100, as prost's. Range 0 to 100; above that it is taken as 100. Deeper is malformed. The deepest message
    /// that OTLP itself defines without nested values is at 8.
    pub depth_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth_max: DEPTH_MAX }
    }
}

/// What the validator found in a request that is well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Spans, data points or log records.
    pub items: ItemCount,
    /// Whether it is in canonical shape already; otherwise it has to go through
    /// [`normalize`](super::normalize::normalize) before anything reads it.
    pub canonical: bool,
    /// Items with an id that the specification calls invalid. They pass unchanged.
    ///
    /// A span's trace and span id must be 16 and 8 bytes and not all zero. Those of a log record may be empty as well.
    /// Data points have none.
    pub invalid_ids: ItemCount,
    /// Keys and values given as an index into a string table that only the profiles signal has. They pass and read as
    /// absent.
    pub string_indexes: u64,
    /// Whether a resource has data in field 1000, where releases before OTLP 0.15 put what is now its scopes.
    pub legacy: bool,
}

/// Why a request cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub fault: Fault,
    /// At which byte of the body: the offending byte of a string, the first byte of the field otherwise.
    pub offset: usize,
    /// In which field, as `resource_spans[0].scope_spans[2].spans[5].name`. Empty for the request itself.
    pub path: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Malformed { fault, offset, path } = self;
        match path.as_str() {
            "" => write!(f, "cannot decode the request at byte {offset}: {fault}"),
            path => write!(f, "cannot decode the request at byte {offset}, in {path}: {fault}"),
        }
    }
}

impl std::error::Error for Malformed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// Checks the body of a request completely, in one pass.
///
/// # Errors
///
/// [`Malformed`] exactly where a prost decode of the request would fail, and for bodies of 4 GiB or more.
///
/// # Examples
///
/// ```
/// use otlp_core::Signal;
/// use otlp_core::wire::validate::{Limits, validate};
///
/// let nothing = validate(Signal::Traces, b"", &Limits::default()).unwrap();
/// assert_eq!(nothing.items.get(), 0);
/// let cut_short = validate(Signal::Traces, b"\x0a\x05", &Limits::default()).unwrap_err();
/// assert_eq!(
///     cut_short.to_string(),
///     "cannot decode the request at byte 0, in resource_spans[0]: the message ends inside a field"
/// );
/// ```
pub fn validate(signal: Signal, bytes: &[u8], limits: &Limits) -> Result<Checked, Malformed> {
    if bytes.len() as u64 > u64::from(u32::MAX) {
        return Err(Malformed { fault: Fault::TooLong, offset: 0, path: String::new() });
    }
    let depth = limits.depth_max.min(DEPTH_MAX);
    // The fast pass knows that something is wrong, not where: a request that is refused can afford a second look.
    straight::validate(signal, bytes, depth).or_else(|_| table::validate(signal, bytes, depth))
}

/// Counts as a span's id of `N` bytes: that long, and not all zero.
#[inline(always)]
fn is_valid_id<const N: usize>(id: &[u8]) -> bool {
    id.first_chunk::<N>().is_some_and(|id| *id != [0; N]) && id.len() == N
}

#[cfg(test)]
mod tests;
