//! The messages around items: who sends them, and what made them.

use std::cell::Cell;
use std::sync::Arc;

use otlp_core::wire::writer::{delimited_len, put_delimited, put_tag, put_varint};

/// What a `Resource*` or a `Scope*` message says besides the items in it; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded(Arc<[u8]>);

/// Where items come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) resource: Encoded,
    pub(crate) scope: Encoded,
}

impl Encoded {
    /// With an encoded `Resource` or `InstrumentationScope`; nothing is written of what is empty.
    pub(crate) fn new(message: &[u8], schema_url: &str) -> Encoded {
        let mut out = Vec::with_capacity(message.len() + schema_url.len() + 8);
        for (field, bytes) in [(1, message), (3, schema_url.as_bytes())] {
            if !bytes.is_empty() {
                put_delimited(&mut out, field, bytes);
            }
        }
        Encoded(out.into())
    }

    /// The same, taken from what this thread remembers where it is there: items of few scopes follow each other.
    pub(crate) fn remembered(message: &[u8], schema_url: &str) -> Encoded {
        // At the end of a thread its storage may be gone already.
        let mut known = KNOWN.try_with(Cell::take).unwrap_or_default();
        let found = known.iter().find(|(bytes, url, _)| **bytes == *message && **url == *schema_url);
        let encoded = match found {
            Some((_, _, encoded)) => encoded.clone(),
            None => {
                let encoded = Encoded::new(message, schema_url);
                if known.len() >= KNOWN_MAX {
                    known.clear();
                }
                known.push((message.into(), schema_url.into(), encoded.clone()));
                encoded
            }
        };
        let _ = KNOWN.try_with(|cell| cell.set(known));
        encoded
    }

    /// Whether both are the same bytes; the same allocation is found out at once.
    pub(crate) fn same(&self, other: &Encoded) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// What a thread remembers.
const KNOWN_MAX: usize = 16;

/// A message, a schema URL, and both as they are sent.
type Known = (Box<[u8]>, Box<str>, Encoded);

thread_local! {
    static KNOWN: Cell<Vec<Known>> = const { Cell::new(Vec::new()) };
}

/// A field of bytes whose tag is one byte: what of the length prefix stands before a body.
const LEN: u8 = 2;

/// Items of one signal and one resource that will leave as one request: each a field 2 of a `Scope*` message, as it lies
/// on the wire.
#[derive(Debug, Default)]
pub(crate) struct Items {
    /// That of the first item.
    resource: Encoded,
    bytes: Vec<u8>,
    count: u64,
    /// Of the items alone.
    held: u64,
    /// Where each scope begins.
    scopes: Vec<(Encoded, usize)>,
}

impl Items {
    pub(crate) fn with_capacity(bytes: usize) -> Items {
        Items { bytes: Vec::with_capacity(bytes), scopes: Vec::with_capacity(1), ..Items::default() }
    }

    /// The same buffer without items.
    pub(crate) fn cleared(mut self) -> Items {
        self.bytes.clear();
        self.scopes.clear();
        Items { count: 0, held: 0, ..self }
    }

    /// What the buffer takes, used or not.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the items without what is around each.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether an item of that resource may be among them.
    #[inline]
    pub(crate) fn can_be_of(&self, resource: &Encoded) -> bool {
        self.scopes.is_empty() || self.resource.same(resource)
    }

    /// Adds an encoded item: a `Span`, a `LogRecord` or a `Metric` of that many data points. All are of one resource.
    #[inline]
    pub(crate) fn push(&mut self, origin: &Origin, item: &[u8], count: u64) {
        debug_assert!(self.can_be_of(&origin.resource));
        if self.scopes.last().is_none_or(|(last, _)| !last.same(&origin.scope)) {
            if self.scopes.is_empty() {
                self.resource = origin.resource.clone();
            }
            self.scopes.push((origin.scope.clone(), self.bytes.len()));
        }
        put_delimited(&mut self.bytes, 2, item);
        self.count += count;
        self.held += item.len() as u64;
    }

    /// The whole `Export*ServiceRequest`: one `Resource*` message with a `Scope*` for each run of items of one scope.
    ///
    /// The numbers of the fields are the same in all three signals (OTLP, trace.proto, metrics.proto, logs.proto).
    pub(crate) fn to_request(&self) -> Vec<u8> {
        let ends = self.scopes.iter().skip(1).map(|(_, at)| *at).chain([self.bytes.len()]);
        let parts: Vec<(&[u8], &[u8])> =
            self.scopes.iter().zip(ends).map(|((scope, from), to)| (&*scope.0, &self.bytes[*from..to])).collect();
        let scope_len = |(scope, items): &(&[u8], &[u8])| scope.len() + items.len();
        let body_len =
            self.resource.0.len() + parts.iter().map(|part| delimited_len(2, scope_len(part))).sum::<usize>();
        let mut out = Vec::with_capacity(delimited_len(1, body_len));
        put_tag(&mut out, 1, LEN);
        put_varint(&mut out, body_len as u64);
        out.extend_from_slice(&self.resource.0);
        for part in &parts {
            put_tag(&mut out, 2, LEN);
            put_varint(&mut out, scope_len(part) as u64);
            out.extend_from_slice(part.0);
            out.extend_from_slice(part.1);
        }
        out
    }
}
