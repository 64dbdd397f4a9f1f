//! Where the items of a request are: walked without an allocation, or kept in an [`Index`].
//!
//! Walking reads tags and lengths only and costs about 10 ns an item, so nothing is indexed that is read once.
//!
//! # Place in the pipeline
//!
//! Under everything that looks at items: views, [`retain`](mod@super::retain), [`split`](mod@super::split).
//!
//! # Limits
//!
//! For bodies in [canonical shape](mod@super::validate). Others never panic; a walk ends at the first fault. A resource or scope
//! that does not come first, as in what the Collector sends, is looked for before its items are: 4 ns more an item.

use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

use crate::batch::Batch;
use crate::signal::Signal;

use super::reader::{Fault, LEN, delimited, skip, tag};
use super::schema::Message;

/// One item and what it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRef<'a> {
    /// What it is: a span, a log record, or one of the four kinds of data point.
    pub kind: Message,
    /// Its message.
    pub bytes: &'a [u8],
    /// Where in the body its field stands, tag and length included.
    pub field: Range<usize>,
    /// The message of its resource; empty where there is none.
    pub resource: &'a [u8],
    /// The message of its scope; empty where there is none.
    pub scope: &'a [u8],
    /// The metric that a data point belongs to, all its points included; empty for other signals.
    pub metric: &'a [u8],
    /// Its `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`, all scopes included: for the schema URL.
    pub resource_items: &'a [u8],
    /// Its `ScopeSpans`, `ScopeMetrics` or `ScopeLogs`, all items included: for the schema URL.
    pub scope_items: &'a [u8],
    /// Number of its `ResourceSpans` (and so on) in the body, from 0.
    pub resource_index: u32,
    /// Number of its `ScopeSpans` (and so on) in the body, from 0.
    pub scope_index: u32,
    /// Number of its metric in the body, from 0; stays 0 for other signals.
    pub metric_index: u32,
}

/// Calls `each` for every item, in the order of the bytes.
pub fn walk<'a>(signal: Signal, body: &'a [u8], mut each: impl FnMut(&ItemRef<'a>)) {
    let _: ControlFlow<Infallible> = try_walk(signal, body, |item| {
        each(item);
        ControlFlow::Continue(())
    });
}

/// Calls `each` for every item, in the order of the bytes, until it says stop.
pub fn try_walk<'a, B>(
    signal: Signal,
    body: &'a [u8],
    each: impl FnMut(&ItemRef<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let nothing = &body[..0];
    let item = ItemRef {
        kind: Message::Span,
        bytes: nothing,
        field: 0..0,
        resource: nothing,
        scope: nothing,
        metric: nothing,
        resource_items: nothing,
        scope_items: nothing,
        resource_index: 0,
        scope_index: 0,
        metric_index: 0,
    };
    match (Walk { body, signal, item, each }).request() {
        Err(End::Stop(with)) => ControlFlow::Break(with),
        Ok(()) | Err(End::Fault) => ControlFlow::Continue(()),
    }
}

/// What a message of the envelope has its items, or the messages around them, in.
///
/// The one place that knows the way from a request to its items.
pub(super) fn child(of: Message, number: u32) -> Option<Message> {
    use Message::*;
    Some(match (of, number) {
        (TraceRequest, 1) => ResourceSpans,
        (MetricsRequest, 1) => ResourceMetrics,
        (LogsRequest, 1) => ResourceLogs,
        (ResourceSpans, 2) => ScopeSpans,
        (ResourceMetrics, 2) => ScopeMetrics,
        (ResourceLogs, 2) => ScopeLogs,
        (ScopeSpans, 2) => Span,
        (ScopeLogs, 2) => LogRecord,
        (ScopeMetrics, 2) => Metric,
        (Metric, 5) => Gauge,
        (Metric, 7) => Sum,
        (Metric, 9) => Histogram,
        (Metric, 10) => ExponentialHistogram,
        (Metric, 11) => Summary,
        (Gauge | Sum, 1) => NumberDataPoint,
        (Histogram, 1) => HistogramDataPoint,
        (ExponentialHistogram, 1) => ExponentialHistogramDataPoint,
        (Summary, 1) => SummaryDataPoint,
        _ => return None,
    })
}

enum End<B> {
    Fault,
    Stop(B),
}

impl<B> From<Fault> for End<B> {
    fn from(_: Fault) -> End<B> {
        End::Fault
    }
}

struct Walk<'a, F> {
    body: &'a [u8],
    signal: Signal,
    item: ItemRef<'a>,
    each: F,
}

/// Reads one field of the message that ends where `bytes` end: its number and, for a length-delimited one, its content.
#[inline(always)]
fn field<'a>(bytes: &'a [u8], at: &mut usize) -> Result<(u32, Option<&'a [u8]>), Fault> {
    let (number, wire_type) = tag(bytes, at)?;
    if wire_type == LEN {
        return Ok((number, Some(delimited(bytes, at)?)));
    }
    skip(bytes, at, number, wire_type, super::reader::DEPTH_MAX)?;
    Ok((number, None))
}

/// The first message in field 1 from `at` on: the resource of these scopes, the scope of these items; empty where there is
/// none.
#[inline]
fn head(bytes: &[u8], mut at: usize) -> Result<&[u8], Fault> {
    let none = &bytes[at..at];
    while at < bytes.len() {
        if let (1, Some(head)) = field(bytes, &mut at)? {
            return Ok(head);
        }
    }
    Ok(none)
}

// Positions are those in the body: each level gets the body cut off at its own end.
impl<'a, B, F: FnMut(&ItemRef<'a>) -> ControlFlow<B>> Walk<'a, F> {
    fn request(&mut self) -> Result<(), End<B>> {
        let (bytes, mut at, mut index) = (self.body, 0, 0);
        let mut scopes = 0;
        while at < bytes.len() {
            if let (1, Some(inner)) = field(bytes, &mut at)? {
                self.item.resource_items = inner;
                self.item.resource_index = index;
                index += 1;
                self.resource_items(&bytes[..at], at - inner.len(), &mut scopes)?;
            }
        }
        Ok(())
    }

    fn resource_items(&mut self, bytes: &'a [u8], mut at: usize, scopes: &mut u32) -> Result<(), End<B>> {
        self.item.resource = head(bytes, at)?;
        while at < bytes.len() {
            if let (2, Some(inner)) = field(bytes, &mut at)? {
                self.item.scope_items = inner;
                self.item.scope_index = *scopes;
                *scopes += 1;
                self.scope_items(&bytes[..at], at - inner.len())?;
            }
        }
        Ok(())
    }

    fn scope_items(&mut self, bytes: &'a [u8], mut at: usize) -> Result<(), End<B>> {
        self.item.scope = head(bytes, at)?;
        while at < bytes.len() {
            let start = at;
            if let (2, Some(inner)) = field(bytes, &mut at)? {
                match self.signal {
                    Signal::Traces => self.found(Message::Span, inner, start..at)?,
                    Signal::Logs => self.found(Message::LogRecord, inner, start..at)?,
                    Signal::Metrics => {
                        self.item.metric = inner;
                        self.metric(&bytes[..at], at - inner.len())?;
                        self.item.metric_index += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn metric(&mut self, bytes: &'a [u8], mut at: usize) -> Result<(), End<B>> {
        while at < bytes.len() {
            if let (number, Some(inner)) = field(bytes, &mut at)?
                && let Some(point) = child(Message::Metric, number).and_then(|data| child(data, 1))
            {
                self.points(point, &bytes[..at], at - inner.len())?;
            }
        }
        Ok(())
    }

    fn points(&mut self, kind: Message, bytes: &'a [u8], mut at: usize) -> Result<(), End<B>> {
        while at < bytes.len() {
            let start = at;
            if let (1, Some(inner)) = field(bytes, &mut at)? {
                self.found(kind, inner, start..at)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn found(&mut self, kind: Message, bytes: &'a [u8], field: Range<usize>) -> Result<(), End<B>> {
        self.item.kind = kind;
        self.item.bytes = bytes;
        self.item.field = field;
        match (self.each)(&self.item) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(with) => Err(End::Stop(with)),
        }
    }
}

impl Batch {
    /// Calls `each` for every item, in the order of the bytes.
    pub fn walk<'a>(&'a self, each: impl FnMut(&ItemRef<'a>)) {
        walk(self.signal(), self.body(), each);
    }
}

/// Positions of all items of one body, for code that comes back to them in another order.
///
/// 12 bytes an item. It borrows nothing: the body is given again to read, and must be the same.
#[derive(Clone, Debug, Default)]
pub struct Index {
    items: Vec<Place>,
    around: Vec<Around>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    end: u32,
    field_len: u32,
    around: u32,
}

/// What the items of one scope, or of one metric, have in common.
#[derive(Clone, Debug)]
struct Around {
    kind: Message,
    ranges: [Range<u32>; 5],
    indexes: [u32; 3],
}

impl Index {
    /// The index of a body; under 4 GiB, as every batch is.
    pub fn of(signal: Signal, body: &[u8]) -> Index {
        let mut index = Index::default();
        index.rebuild(signal, body);
        index
    }

    /// The same for another body, in the memory that is there.
    pub fn rebuild(&mut self, signal: Signal, body: &[u8]) {
        let Index { items, around } = self;
        items.clear();
        around.clear();
        // Safe Rust has no offset of a slice in another but by address.
        let range = |part: &[u8]| {
            let start = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize) as u32;
            start..start + part.len() as u32
        };
        walk(signal, body, |item| {
            let indexes = [item.resource_index, item.scope_index, item.metric_index];
            if around.last().is_none_or(|last| last.indexes != indexes || last.kind != item.kind) {
                let parts = [item.resource, item.scope, item.metric, item.resource_items, item.scope_items];
                around.push(Around { kind: item.kind, ranges: parts.map(range), indexes });
            }
            items.push(Place {
                end: item.field.end as u32,
                field_len: item.field.len() as u32,
                around: around.len() as u32 - 1,
            });
        });
    }

    /// Its number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item of that number, in the body that was indexed. `None` beyond the last, or for another, shorter body.
    pub fn get<'a>(&self, body: &'a [u8], number: usize) -> Option<ItemRef<'a>> {
        let place = self.items.get(number)?;
        let around = &self.around[place.around as usize];
        let end = place.end as usize;
        let field = end - place.field_len as usize..end;
        let mut at = field.start;
        let (_, bytes) = self::field(body.get(..end)?, &mut at).ok()?;
        let [resource, scope, metric, resource_items, scope_items] = around.ranges.clone();
        let part = |range: Range<u32>| body.get(range.start as usize..range.end as usize);
        Some(ItemRef {
            kind: around.kind,
            bytes: bytes?,
            field,
            resource: part(resource)?,
            scope: part(scope)?,
            metric: part(metric)?,
            resource_items: part(resource_items)?,
            scope_items: part(scope_items)?,
            resource_index: around.indexes[0],
            scope_index: around.indexes[1],
            metric_index: around.indexes[2],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::generate;

    #[test]
    fn a_walk_and_an_index_find_the_same_items() {
        for signal in Signal::ALL {
            let one = generate::request(signal, 2, 50);
            let turned = generate::in_collector_order(signal, &one);
            let body = [&one[..], &turned].concat();
            let index = Index::of(signal, &body);
            let mut number = 0;
            walk(signal, &body, |item| {
                assert_eq!(index.get(&body, number).as_ref(), Some(item));
                assert_eq!(item.resource_index, (number / 50) as u32);
                assert!(body[item.field.clone()].ends_with(item.bytes));
                assert!(!item.resource.is_empty() && !item.scope.is_empty());
                assert_eq!(item.metric.is_empty(), signal != Signal::Metrics);
                number += 1;
            });
            assert_eq!((number, index.len()), (100, 100));
            assert_eq!(index.get(&body, 100), None);
        }
    }

    #[test]
    fn a_walk_stops_when_told_and_at_faults() {
        let body = generate::request(Signal::Traces, 2, 50);
        let mut seen = 0;
        let stopped = try_walk(Signal::Traces, &body, |_| {
            seen += 1;
            if seen == 7 { ControlFlow::Break("seven") } else { ControlFlow::Continue(()) }
        });
        assert_eq!((stopped, seen), (ControlFlow::Break("seven"), 7));
        let mut seen = 0;
        walk(Signal::Traces, &body[..body.len() - 1], |_| seen += 1);
        assert_eq!(seen, 0, "the only resource is cut short");
    }
}
