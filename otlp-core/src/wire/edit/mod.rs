//! Edits: attributes changed on the wire, without decoding.
//!
//! | file       | purpose                                                              |
//! |------------|----------------------------------------------------------------------|
//! | `list.rs`  | one list of attributes: lookups and edits, and how it is written back |
//! | `value.rs` | an owned value, kept encoded                                         |
//!
//! [`edit`] walks a request once and shows an [`Editor`] the attributes of every resource, scope and item. What the editor
//! changes is written; everything between is copied in runs, unknown fields included, and only the lengths that enclose a
//! change are written anew. Where nothing is changed nothing is copied.
//!
//! ```text
//! request ─ resource envelope ─ resource: attributes
//!                             └ scope envelope ─ scope: attributes
//!                                              └ span, log record, metric ─ … ─ data point: attributes
//! ```
//!
//! How lengths are kept right: the walk keeps the enclosing messages on a stack. The first change inside one copies what
//! precedes it, writes its tag and leaves as much room for the length as the old one took; when the walk leaves the
//! message the length is filled in, and the body is moved only where the length needs another width.
//!
//! # What is expected of the bytes
//!
//! Valid and canonical, as a [`Batch`] promises. Fields in any order, keys after values, scalars given twice and lengths
//! written with more bytes than they need are all taken. On other bytes nothing panics, and the result is as bad as the
//! input.
//!
//! # Limits
//!
//! A request and what becomes of it stay below 4 GiB, which every receiver's limits see to.

mod list;
mod value;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::batch::Batch;
use crate::signal::Signal;
use crate::wire::reader::{self, LEN};
use crate::wire::view::{
    ExponentialHistogramDataPointView, HistogramDataPointView, ItemView, LogRecordView, MetricView,
    NumberDataPointView, PointView, ResourceItemsView, ScopeItemsView, SpanView, SummaryDataPointView,
};
use crate::wire::writer::{self, Open, put_tag, put_varint};

pub use list::{AttributeList, Slot};
pub use value::Value;

/// Sees every list of attributes of a request, in order from the outside in, and changes what it wants.
///
/// A resource or a scope that is absent has an empty list; it comes into being where something is added to it.
pub trait Editor {
    /// Sees a resource. Says whether anything below it is to be seen.
    fn resource(&mut self, envelope: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        let _ = (envelope, attributes);
        true
    }

    /// Sees a scope. Says whether anything below it is to be seen.
    fn scope(&mut self, envelope: ScopeItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        let _ = (envelope, attributes);
        true
    }

    /// Sees a metric. Says whether its data points are to be seen.
    fn metric(&mut self, metric: MetricView<'_>) -> bool {
        let _ = metric;
        true
    }

    /// Sees an item. The view shows it as it was before any edit.
    fn item(&mut self, item: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        let _ = (item, attributes);
    }
}

/// Shows a request to an editor and gives back what becomes of it; `None` where nothing was changed.
///
/// # Examples
///
/// ```
/// use otlp_core::Signal;
/// use otlp_core::wire::edit::{AttributeList, Editor, Value, edit};
/// use otlp_core::wire::view::{ItemView, resources};
///
/// struct Mark(Value);
/// impl Editor for Mark {
///     fn item(&mut self, _: ItemView<'_>, attributes: &mut AttributeList<'_>) {
///         attributes.upsert("seen", &self.0);
///     }
/// }
///
/// let body = [0x0a, 9, 0x12, 7, 0x12, 5, 0x2a, 3, b'g', b'e', b't'];
/// let edited = edit(Signal::Traces, &body, &mut Mark(Value::bool(true))).unwrap();
/// let span = resources(&edited).next().unwrap().scopes().next().unwrap().spans().next().unwrap();
/// assert_eq!(span.attributes().get("seen").unwrap().to_text(), "true");
/// assert!(edit(Signal::Traces, &edited, &mut Mark(Value::bool(true))).is_none());
/// ```
pub fn edit<E: Editor + ?Sized>(signal: Signal, body: &[u8], editor: &mut E) -> Option<Bytes> {
    let mut walk = Walk {
        signal,
        editor,
        body,
        out: Output { body, out: Vec::new(), copied: 0, frames: SmallVec::new(), opened: 0 },
        resource: AttributeList::new(),
        scope: AttributeList::new(),
        item: AttributeList::new(),
    };
    walk.each_message(0..body.len(), 1, |walk, header, inner| {
        walk.enclosed(1, header, inner, Walk::resource_envelope);
    });
    walk.out.finish()
}

/// The same on a batch: its bytes and its compressed form stay where nothing was changed.
pub fn edit_batch<E: Editor + ?Sized>(batch: Batch, editor: &mut E) -> Batch {
    match edit(batch.signal(), batch.body(), editor) {
        Some(body) => batch.with_body(body),
        None => batch,
    }
}

type Range = std::ops::Range<usize>;

struct Walk<'m, 'e, E: ?Sized> {
    signal: Signal,
    editor: &'e mut E,
    body: &'m [u8],
    out: Output<'m>,
    resource: AttributeList<'m>,
    scope: AttributeList<'m>,
    item: AttributeList<'m>,
}

impl<'m, E: Editor + ?Sized> Walk<'m, '_, E> {
    fn resource_envelope(&mut self, range: Range) {
        let resource = self.find_message(range.clone(), 1);
        self.resource.reset(resource.as_ref().map_or(&[], |(_, inner)| &self.body[inner.clone()]), 1);
        let below = self.editor.resource(ResourceItemsView::new(&self.body[range.clone()]), &mut self.resource);
        if self.resource.is_edited() {
            self.out.put_early(1, range.start, resource.as_ref(), &self.resource);
        }
        if below {
            self.each_message(range.clone(), 2, |walk, header, inner| {
                walk.out.put_before(1, header, resource.as_ref(), &walk.resource);
                walk.enclosed(2, header, inner, Walk::scope_envelope);
            });
        }
        self.out.put_before(1, range.end, resource.as_ref(), &self.resource);
    }

    fn scope_envelope(&mut self, range: Range) {
        let scope = self.find_message(range.clone(), 1);
        self.scope.reset(scope.as_ref().map_or(&[], |(_, inner)| &self.body[inner.clone()]), 3);
        let below = self.editor.scope(ScopeItemsView::new(&self.body[range.clone()]), &mut self.scope);
        if self.scope.is_edited() {
            self.out.put_early(1, range.start, scope.as_ref(), &self.scope);
        }
        if below {
            self.each_message(range.clone(), 2, |walk, header, inner| {
                walk.out.put_before(1, header, scope.as_ref(), &walk.scope);
                let message = &walk.body[inner.clone()];
                match walk.signal {
                    Signal::Traces => walk.one_item(2, 9, header, inner, ItemView::Span(SpanView::new(message))),
                    Signal::Logs => {
                        walk.one_item(2, 6, header, inner, ItemView::LogRecord(LogRecordView::new(message)))
                    }
                    Signal::Metrics => {
                        if walk.editor.metric(MetricView::new(message)) {
                            walk.enclosed(2, header, inner, Walk::metric);
                        }
                    }
                }
            });
        }
        self.out.put_before(1, range.end, scope.as_ref(), &self.scope);
    }

    fn metric(&mut self, range: Range) {
        let mut position = range.start;
        while let Some((number, header, inner)) = self.next_message(&mut position, range.end) {
            let (field, point): (u32, fn(&[u8]) -> PointView<'_>) = match number {
                5 | 7 => (7, |message| PointView::Number(NumberDataPointView::new(message))),
                9 => (9, |message| PointView::Histogram(HistogramDataPointView::new(message))),
                10 => (1, |message| PointView::ExponentialHistogram(ExponentialHistogramDataPointView::new(message))),
                11 => (7, |message| PointView::Summary(SummaryDataPointView::new(message))),
                _ => continue,
            };
            self.enclosed(number, header, inner, |walk, range| {
                walk.each_message(range, 1, |walk, header, inner| {
                    let item = ItemView::Point(point(&walk.body[inner.clone()]));
                    walk.one_item(1, field, header, inner, item);
                });
            });
        }
    }

    /// Shows the item in field `number`, whose attributes are in its field `attributes`.
    #[inline]
    fn one_item(&mut self, number: u32, attributes: u32, header: usize, inner: Range, item: ItemView<'_>) {
        self.item.reset(&self.body[inner.clone()], attributes);
        self.editor.item(item, &mut self.item);
        if self.item.is_edited() {
            self.out.replace(number, header, inner.start, &self.item);
        }
    }

    /// Goes through a message that encloses others.
    fn enclosed(&mut self, field: u32, header: usize, inner: Range, go: impl FnOnce(&mut Self, Range)) {
        self.out.frames.push(Frame { field, header, inner: inner.clone(), open: None });
        go(self, inner);
        self.out.leave();
    }

    fn each_message(&mut self, range: Range, wanted: u32, mut each: impl FnMut(&mut Self, usize, Range)) {
        let mut position = range.start;
        while let Some((number, header, inner)) = self.next_message(&mut position, range.end) {
            if number == wanted {
                each(self, header, inner);
            }
        }
    }

    /// The first message in field `number`, if any: where its tag and its bytes are.
    fn find_message(&self, range: Range, number: u32) -> Option<(usize, Range)> {
        let mut position = range.start;
        std::iter::from_fn(|| self.next_message(&mut position, range.end))
            .find(|found| found.0 == number)
            .map(|(_, header, inner)| (header, inner))
    }

    /// The next length-delimited field: its number, where its tag is, and where its bytes are.
    #[inline]
    fn next_message(&self, position: &mut usize, end: usize) -> Option<(u32, usize, Range)> {
        let message = &self.body[..end];
        while *position < end {
            let header = *position;
            let (number, wire_type) = reader::tag(message, position).ok()?;
            if wire_type == LEN {
                let length = reader::delimited(message, position).ok()?.len();
                return Some((number, header, *position - length..*position));
            }
            reader::skip(message, position, number, wire_type, reader::DEPTH_MAX).ok()?;
        }
        None
    }
}

/// What has been written, and how far the input has been copied into it.
///
/// Invariants:
///
/// - `out` holds what became of `body[..copied]`, but for the lengths of the open frames.
/// - The frames before `opened` are open, those from it on lie wholly after `copied`.
struct Output<'m> {
    body: &'m [u8],
    out: Vec<u8>,
    copied: usize,
    frames: SmallVec<[Frame; 5]>,
    opened: usize,
}

/// Appends `from[start..end]`. What is short is copied as a piece of known size and cut, where there is so much: a call of
/// `memcpy` costs more than the copy, and there are a dozen for each item.
#[inline(always)]
fn put_run(out: &mut Vec<u8>, from: &[u8], start: usize, end: usize) {
    const SHORT: usize = 64;
    let len = end - start;
    if len <= SHORT
        && let Some(piece) = from.get(start..).and_then(|rest| rest.first_chunk::<SHORT>())
    {
        let end = out.len() + len;
        out.extend_from_slice(piece);
        return out.truncate(end);
    }
    out.extend_from_slice(&from[start..end]);
}

/// A message that encloses where the walk is.
struct Frame {
    field: u32,
    header: usize,
    inner: Range,
    open: Option<Open>,
}

impl Output<'_> {
    #[inline]
    fn copy_to(&mut self, position: usize) {
        put_run(&mut self.out, self.body, self.copied, position);
        self.copied = position;
    }

    /// Makes sure that every enclosing message has been begun in the output.
    #[cold]
    fn open_all(&mut self) {
        if self.out.capacity() == 0 {
            // Edits add little: room for a quarter more, so that the buffer is rarely moved.
            self.out.reserve(self.body.len() + self.body.len() / 4 + 64);
        }
        for index in self.opened..self.frames.len() {
            let (field, header, inner) =
                (self.frames[index].field, self.frames[index].header, self.frames[index].inner.clone());
            self.copy_to(header);
            self.frames[index].open = Some(writer::begin(&mut self.out, field, inner.len()));
            self.copied = inner.start;
        }
        self.opened = self.frames.len();
    }

    /// Ends the innermost message.
    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if let Some(open) = frame.open {
            self.copy_to(frame.inner.end);
            writer::end(&mut self.out, open);
            self.opened = self.frames.len();
        }
    }

    /// Writes the message of an edited list, which begins at `inner`, in the place of the field that begins at `header`.
    ///
    /// What follows its last edit is left to be copied with what comes after the message.
    #[inline]
    fn replace(&mut self, field: u32, header: usize, inner: usize, list: &AttributeList<'_>) {
        if self.opened < self.frames.len() {
            self.open_all();
        }
        self.copy_to(header);
        put_tag(&mut self.out, field, LEN);
        put_varint(&mut self.out, list.encoded_len() as u64);
        self.copied = inner;
        for (replaced, by) in list.replacements() {
            self.copy_to(inner + replaced.start);
            put_run(&mut self.out, list.scratch(), by.start, by.end);
            self.copied = inner + replaced.end;
        }
    }

    /// Writes an edited resource or scope that is absent in the input at the beginning of its envelope.
    fn put_early(&mut self, field: u32, start: usize, found: Option<&(usize, Range)>, list: &AttributeList<'_>) {
        // What was added and taken out again does not bring an empty message into being.
        if found.is_none() && list.encoded_len() > 0 {
            self.replace(field, start, start, list);
        }
    }

    /// Writes an edited resource or scope in its place, where that lies between what was copied and `position`. It was
    /// decided before the walk went on, but fields stand in any order.
    #[inline]
    fn put_before(&mut self, field: u32, position: usize, found: Option<&(usize, Range)>, list: &AttributeList<'_>) {
        if let Some((header, inner)) = found
            && list.is_edited()
            && *header < position
            && *header >= self.copied
        {
            self.replace(field, *header, inner.start, list);
        }
    }

    fn finish(mut self) -> Option<Bytes> {
        if self.copied == 0 {
            return None;
        }
        self.copy_to(self.body.len());
        Some(self.out.into())
    }
}
