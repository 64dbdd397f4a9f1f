//! The messages around items: who sends them, and what made them.

use std::sync::Arc;

use otlp_core::wire::writer::{delimited_len, put_delimited, put_tag, put_varint};

/// An encoded `Resource` or `InstrumentationScope`; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded(pub(crate) Arc<[u8]>);

impl Encoded {
    /// Whether both are the same bytes; the same allocation is found out at once.
    pub(crate) fn same(&self, other: &Encoded) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// A field of bytes whose tag is one byte: what of the length prefix stands before a body.
const LEN: u8 = 2;

/// Items of one signal that will leave as one request: each a field 2 of a `Scope*` message, as it lies on the wire.
#[derive(Debug, Default)]
pub(crate) struct Items {
    bytes: Vec<u8>,
    count: u64,
    /// Of the items alone.
    held: u64,
    /// Where each scope begins.
    scopes: Vec<(Encoded, usize)>,
}

impl Items {
    pub(crate) fn with_capacity(bytes: usize) -> Items {
        Items { bytes: Vec::with_capacity(bytes), count: 0, held: 0, scopes: Vec::with_capacity(1) }
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

    /// Adds an encoded item: a `Span`, a `LogRecord` or a `Metric` of that many data points.
    #[inline]
    pub(crate) fn push(&mut self, scope: &Encoded, item: &[u8], count: u64) {
        if self.scopes.last().is_none_or(|(last, _)| !last.same(scope)) {
            self.scopes.push((scope.clone(), self.bytes.len()));
        }
        put_delimited(&mut self.bytes, 2, item);
        self.count += count;
        self.held += item.len() as u64;
    }

    /// The whole `Export*ServiceRequest`: one `Resource*` message with a `Scope*` for each run of items of one scope.
    ///
    /// The numbers of the fields are the same in all three signals (OTLP, trace.proto, metrics.proto, logs.proto).
    pub(crate) fn to_request(&self, resource: &Encoded) -> Vec<u8> {
        let ends = self.scopes.iter().skip(1).map(|(_, at)| *at).chain([self.bytes.len()]);
        let parts: Vec<(&[u8], &[u8])> =
            self.scopes.iter().zip(ends).map(|((scope, from), to)| (&*scope.0, &self.bytes[*from..to])).collect();
        let header_len = |header: &[u8]| if header.is_empty() { 0 } else { delimited_len(1, header.len()) };
        let scope_len = |(scope, items): &(&[u8], &[u8])| header_len(scope) + items.len();
        let body_len =
            header_len(&resource.0) + parts.iter().map(|part| delimited_len(2, scope_len(part))).sum::<usize>();
        let mut out = Vec::with_capacity(delimited_len(1, body_len));
        put_tag(&mut out, 1, LEN);
        put_varint(&mut out, body_len as u64);
        if !resource.0.is_empty() {
            put_delimited(&mut out, 1, &resource.0);
        }
        for part in &parts {
            put_tag(&mut out, 2, LEN);
            put_varint(&mut out, scope_len(part) as u64);
            if !part.0.is_empty() {
                put_delimited(&mut out, 1, part.0);
            }
            out.extend_from_slice(part.1);
        }
        out
    }
}
