//! An item with what it stands in, as a closure sees it.

use std::time::Duration;

use otlp_core::wire::ItemRef;
use otlp_core::wire::schema::Message;
use otlp_core::wire::view::{
    AnyValue, ExponentialHistogramDataPointView, HistogramDataPointView, ItemView, LogRecordView, MetricView,
    NumberDataPointView, PointView, ResourceView, ScopeView, SpanView, SummaryDataPointView,
};

/// A span, log record or data point, with its resource, its scope and its metric.
///
/// Nothing is read before it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    view: ItemView<'a>,
    resource: &'a [u8],
    scope: &'a [u8],
    metric: &'a [u8],
}

impl<'a> Item<'a> {
    /// The item that was walked to.
    pub fn of(item: &ItemRef<'a>) -> Item<'a> {
        let bytes = item.bytes;
        let view = match item.kind {
            Message::LogRecord => ItemView::LogRecord(LogRecordView::new(bytes)),
            Message::NumberDataPoint => ItemView::Point(PointView::Number(NumberDataPointView::new(bytes))),
            Message::HistogramDataPoint => ItemView::Point(PointView::Histogram(HistogramDataPointView::new(bytes))),
            Message::ExponentialHistogramDataPoint => {
                ItemView::Point(PointView::ExponentialHistogram(ExponentialHistogramDataPointView::new(bytes)))
            }
            Message::SummaryDataPoint => ItemView::Point(PointView::Summary(SummaryDataPointView::new(bytes))),
            // What is walked to is an item; only a span is left.
            _ => ItemView::Span(SpanView::new(bytes)),
        };
        Item { view, resource: item.resource, scope: item.scope, metric: item.metric }
    }

    /// The item itself.
    pub fn view(&self) -> ItemView<'a> {
        self.view
    }

    /// The span, where it is one.
    pub fn span(&self) -> Option<SpanView<'a>> {
        match self.view {
            ItemView::Span(span) => Some(span),
            _ => None,
        }
    }

    /// The log record, where it is one.
    pub fn log_record(&self) -> Option<LogRecordView<'a>> {
        match self.view {
            ItemView::LogRecord(record) => Some(record),
            _ => None,
        }
    }

    /// The data point, where it is one.
    pub fn point(&self) -> Option<PointView<'a>> {
        match self.view {
            ItemView::Point(point) => Some(point),
            _ => None,
        }
    }

    /// The metric that a data point belongs to.
    pub fn metric(&self) -> Option<MetricView<'a>> {
        self.point().map(|_| MetricView::new(self.metric))
    }

    /// What produced it; without attributes where the sender did not say.
    pub fn resource(&self) -> ResourceView<'a> {
        ResourceView::new(self.resource)
    }

    /// What recorded it; without a name where the sender did not say.
    pub fn scope(&self) -> ScopeView<'a> {
        ScopeView::new(self.scope)
    }

    /// A span's name, a data point's metric's, or the name of the event that a log record is.
    pub fn name(&self) -> &'a str {
        match self.view {
            ItemView::Span(span) => span.name(),
            ItemView::LogRecord(record) => record.event_name(),
            ItemView::Point(_) => MetricView::new(self.metric).name(),
        }
    }

    /// The value of its first attribute of that name.
    pub fn attribute(&self, key: &str) -> Option<AnyValue<'a>> {
        self.view.attributes().get(key)
    }

    /// How long a span took; nothing where its end does not lie after its start, and for other items.
    pub fn duration(&self) -> Duration {
        let nanos = |span: SpanView<'_>| span.end_time_unix_nano().saturating_sub(span.start_time_unix_nano());
        Duration::from_nanos(self.span().map_or(0, nanos))
    }
}
