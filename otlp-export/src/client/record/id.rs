//! Trace and span ids.
//!
//! Random as far as ids need to be, which is not to meet: 64 bits of state for each thread, seeded by the system, through
//! a mixing function, and seeded anew in a child of fork. Not for secrets.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::client::fork::Mark;

/// The id of a trace: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// What a span's children, its log records, and other processes need to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
}

impl SpanContext {
    /// The `traceparent` header that carries it to another process (W3C Trace Context, sampled).
    pub fn to_traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    /// What a `traceparent` header says; `None` where it is none.
    pub fn from_traceparent(header: &str) -> Option<SpanContext> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        // A later version may have more parts, this one has not.
        let known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
        if !known || flags.len() != 2 || ![version, trace, span, flags].into_iter().all(is_hex) {
            return None;
        }
        let (trace_id, span_id) = (TraceId(hex(trace)?), SpanId(hex(span)?));
        (trace_id.0 != [0; 16] && span_id.0 != [0; 8]).then_some(SpanContext { trace_id, span_id })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

thread_local! {
    static STATE: Cell<Option<State>> = const { Cell::new(None) };
}

struct State {
    seeded_by: Mark,
    counter: u64,
}

impl State {
    #[cold]
    fn seed() -> State {
        // The hasher's keys are the system's, but a child of fork has its parent's: so the ids of process and thread and
        // the time go in.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let counter = RandomState::new().hash_one((std::process::id(), now, std::thread::current().id()));
        State { seeded_by: Mark::new(), counter }
    }

    /// SplitMix64: each state gives another number, of which one is 0 and not used.
    #[inline]
    fn next(&mut self) -> u64 {
        loop {
            self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut value = (self.counter ^ (self.counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value ^= value >> 31;
            if value != 0 {
                return value;
            }
        }
    }
}

impl SpanContext {
    /// Ids of a new span in a new trace.
    #[inline]
    pub(crate) fn random() -> SpanContext {
        let mut state = STATE.take().filter(|state| state.seeded_by.is_ours()).unwrap_or_else(State::seed);
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&state.next().to_le_bytes());
        trace_id[8..].copy_from_slice(&state.next().to_le_bytes());
        let span_id = state.next().to_le_bytes();
        STATE.set(Some(state));
        SpanContext { trace_id: TraceId(trace_id), span_id: SpanId(span_id) }
    }
}

macro_rules! shown_in_hex {
    ($($type:ident),*) => {
        $(
            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
                }
            }

            impl fmt::Debug for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(self, f)
                }
            }
        )*
    };
}

shown_in_hex!(TraceId, SpanId);
