//! Zero-copy views: OTLP messages read where they lie.
//!
//! | file         | purpose                                                                     |
//! |--------------|-----------------------------------------------------------------------------|
//! | `field.rs`   | how one field of a message is found and read; the macro that declares views  |
//! | `value.rs`   | attributes and values of every kind                                         |
//! | `text.rs`    | a value as text, as the Collector writes it                                 |
//! | `common.rs`  | resource, scope, and the envelopes around items, the same for every signal   |
//! | `traces.rs`  | span, event, link, status                                                   |
//! | `logs.rs`    | log record                                                                  |
//! | `metrics.rs` | metric, data points of every kind, exemplar, buckets                        |
//!
//! A view is a borrowed slice with a type. Nothing is decoded until it is asked for, and each accessor walks the fields of
//! its message once, so asking for everything costs as much as a small decoder, and asking for one thing costs little.
//!
//! # What is expected of the bytes
//!
//! That they were validated and are in canonical shape, as a [`Batch`](crate::Batch) promises. A scalar given twice reads
//! as its last value, fields stand in any order, unknown fields are passed over. On bytes that are not valid a view never
//! panics: what cannot be read is absent.
//!
//! # Examples
//!
//! ```
//! use otlp_core::wire::view;
//!
//! // One resource without attributes, one scope, one span named "get".
//! let body = [0x0a, 9, 0x12, 7, 0x12, 5, 0x2a, 3, b'g', b'e', b't'];
//! for resource in view::resources(&body) {
//!     for scope in resource.scopes() {
//!         for span in scope.spans() {
//!             assert_eq!(span.name(), "get");
//!             assert!(span.attributes().next().is_none());
//!         }
//!     }
//! }
//! ```

mod common;
mod field;
mod logs;
mod metrics;
mod text;
mod traces;
mod value;

#[cfg(test)]
mod tests;

pub use common::{EntityRefView, ResourceItemsView, ResourceView, ScopeItemsView, ScopeView, resources};
pub use field::{Doubles, Fixed64s, List, Strings, Varints};
pub use logs::LogRecordView;
pub use metrics::{
    BucketsView, DataView, ExemplarView, ExponentialHistogramDataPointView, ExponentialHistogramView, GaugeView,
    HistogramDataPointView, HistogramView, MetricView, Number, NumberDataPointView, PointView, Points, QuantileView,
    SumView, SummaryDataPointView, SummaryView,
};
pub use traces::{EventView, LinkView, SpanView, StatusView};
pub use value::{AnyValue, KeyValueView};

use crate::signal::Signal;

/// One item of any signal.
#[derive(Clone, Copy, Debug)]
pub enum ItemView<'a> {
    /// A span.
    Span(SpanView<'a>),
    /// A log record.
    LogRecord(LogRecordView<'a>),
    /// A data point. Its metric is known where it is walked to.
    Point(PointView<'a>),
}

impl<'a> ItemView<'a> {
    /// Its attributes, in order.
    pub fn attributes(&self) -> List<'a, KeyValueView<'a>> {
        match self {
            ItemView::Span(span) => span.attributes(),
            ItemView::LogRecord(record) => record.attributes(),
            ItemView::Point(point) => point.attributes(),
        }
    }
}

/// Calls `each` with every item of a request and what encloses it, in order.
pub fn for_each_item<'a>(
    signal: Signal,
    body: &'a [u8],
    mut each: impl FnMut(ResourceItemsView<'a>, ScopeItemsView<'a>, ItemView<'a>),
) {
    for resource in resources(body) {
        for scope in resource.scopes() {
            match signal {
                Signal::Traces => scope.spans().for_each(|span| each(resource, scope, ItemView::Span(span))),
                Signal::Logs => {
                    scope.log_records().for_each(|record| each(resource, scope, ItemView::LogRecord(record)));
                }
                Signal::Metrics => {
                    let points = scope.metrics().flat_map(|metric| metric.points());
                    points.for_each(|point| each(resource, scope, ItemView::Point(point)));
                }
            }
        }
    }
}
