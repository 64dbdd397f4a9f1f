//! Metric, data points of every kind, exemplar, buckets.

use super::KeyValueView;
use super::field::{Doubles, Fixed64s, List, Varints, view, zigzag};
use crate::wire::reader::{self, Value};

view! {
    /// A metric: a name and data points of one kind.
    MetricView {
        /// The name.
        name: &'a str = 1,
        /// For a person.
        description: &'a str = 2,
        /// The unit, as UCUM writes it.
        unit: &'a str = 3,
        /// Attributes of the metric itself, in order.
        metadata: List<'a, KeyValueView<'a>> = 12,
    }
}

/// What kind of data a metric has.
#[derive(Clone, Copy, Debug)]
pub enum DataView<'a> {
    /// Values at a moment.
    Gauge(GaugeView<'a>),
    /// Sums over a time.
    Sum(SumView<'a>),
    /// Distributions over explicit bounds.
    Histogram(HistogramView<'a>),
    /// Distributions over exponential bounds.
    ExponentialHistogram(ExponentialHistogramView<'a>),
    /// Quantiles computed by the source.
    Summary(SummaryView<'a>),
}

impl<'a> MetricView<'a> {
    /// The data, if there is any. Where several kinds are set the last one counts.
    pub fn data(&self) -> Option<DataView<'a>> {
        let mut found = None;
        for field in reader::fields(self.0) {
            let Ok(field) = field else { break };
            let Value::Len(bytes) = field.value else { continue };
            found = match field.number {
                5 => Some(DataView::Gauge(GaugeView(bytes))),
                7 => Some(DataView::Sum(SumView(bytes))),
                9 => Some(DataView::Histogram(HistogramView(bytes))),
                10 => Some(DataView::ExponentialHistogram(ExponentialHistogramView(bytes))),
                11 => Some(DataView::Summary(SummaryView(bytes))),
                _ => found,
            };
        }
        found
    }

    /// The data points of whatever kind, in order.
    pub fn points(&self) -> Points<'a> {
        match self.data() {
            None => Points::None,
            Some(DataView::Gauge(data)) => Points::Number(data.data_points()),
            Some(DataView::Sum(data)) => Points::Number(data.data_points()),
            Some(DataView::Histogram(data)) => Points::Histogram(data.data_points()),
            Some(DataView::ExponentialHistogram(data)) => Points::ExponentialHistogram(data.data_points()),
            Some(DataView::Summary(data)) => Points::Summary(data.data_points()),
        }
    }
}

/// The data points of one metric, in order.
#[derive(Clone, Debug)]
pub enum Points<'a> {
    /// No data.
    None,
    /// Of a gauge or a sum.
    Number(List<'a, NumberDataPointView<'a>>),
    /// Of a histogram.
    Histogram(List<'a, HistogramDataPointView<'a>>),
    /// Of an exponential histogram.
    ExponentialHistogram(List<'a, ExponentialHistogramDataPointView<'a>>),
    /// Of a summary.
    Summary(List<'a, SummaryDataPointView<'a>>),
}

impl<'a> Iterator for Points<'a> {
    type Item = PointView<'a>;

    fn next(&mut self) -> Option<PointView<'a>> {
        match self {
            Points::None => None,
            Points::Number(points) => points.next().map(PointView::Number),
            Points::Histogram(points) => points.next().map(PointView::Histogram),
            Points::ExponentialHistogram(points) => points.next().map(PointView::ExponentialHistogram),
            Points::Summary(points) => points.next().map(PointView::Summary),
        }
    }
}

/// A data point of any kind.
#[derive(Clone, Copy, Debug)]
pub enum PointView<'a> {
    /// Of a gauge or a sum.
    Number(NumberDataPointView<'a>),
    /// Of a histogram.
    Histogram(HistogramDataPointView<'a>),
    /// Of an exponential histogram.
    ExponentialHistogram(ExponentialHistogramDataPointView<'a>),
    /// Of a summary.
    Summary(SummaryDataPointView<'a>),
}

impl<'a> PointView<'a> {
    /// Its attributes, in order.
    pub fn attributes(&self) -> List<'a, KeyValueView<'a>> {
        match self {
            PointView::Number(point) => point.attributes(),
            PointView::Histogram(point) => point.attributes(),
            PointView::ExponentialHistogram(point) => point.attributes(),
            PointView::Summary(point) => point.attributes(),
        }
    }

    /// When it was taken, in nanoseconds since 1970.
    pub fn time_unix_nano(&self) -> u64 {
        match self {
            PointView::Number(point) => point.time_unix_nano(),
            PointView::Histogram(point) => point.time_unix_nano(),
            PointView::ExponentialHistogram(point) => point.time_unix_nano(),
            PointView::Summary(point) => point.time_unix_nano(),
        }
    }
}

view! {
    /// `Gauge`
    GaugeView {
        /// Points, in order.
        data_points: List<'a, NumberDataPointView<'a>> = 1,
    }
}

view! {
    /// `Sum`
    SumView {
        /// Points, in order.
        data_points: List<'a, NumberDataPointView<'a>> = 1,
        /// 0 unspecified, 1 delta, 2 cumulative.
        aggregation_temporality: i32 = 2,
        /// Whether it only grows.
        is_monotonic: bool = 3,
    }
}

view! {
    /// `Histogram`
    HistogramView {
        /// Points, in order.
        data_points: List<'a, HistogramDataPointView<'a>> = 1,
        /// 0 unspecified, 1 delta, 2 cumulative.
        aggregation_temporality: i32 = 2,
    }
}

view! {
    /// `ExponentialHistogram`
    ExponentialHistogramView {
        /// Points, in order.
        data_points: List<'a, ExponentialHistogramDataPointView<'a>> = 1,
        /// 0 unspecified, 1 delta, 2 cumulative.
        aggregation_temporality: i32 = 2,
    }
}

view! {
    /// `Summary`
    SummaryView {
        /// Points, in order.
        data_points: List<'a, SummaryDataPointView<'a>> = 1,
    }
}

/// A number that keeps what it was sent as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `as_int`
    Int(i64),
    /// `as_double`
    Double(f64),
}

/// The number of a point or an exemplar; where both kinds are set the last one counts.
fn number(message: &[u8], double: u32) -> Option<Number> {
    let mut found = None;
    for field in reader::fields(message) {
        let Ok(field) = field else { break };
        match (field.number, field.value) {
            (6, Value::Fixed64(bits)) => found = Some(Number::Int(bits as i64)),
            (other, Value::Fixed64(bits)) if other == double => found = Some(Number::Double(f64::from_bits(bits))),
            _ => {}
        }
    }
    found
}

view! {
    /// A point of a gauge or a sum.
    NumberDataPointView {
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 7,
        /// Nanoseconds since 1970; 0 where there is no start.
        start_time_unix_nano: u64 = 2,
        /// Nanoseconds since 1970.
        time_unix_nano: u64 = 3,
        /// Exemplars, in order.
        exemplars: List<'a, ExemplarView<'a>> = 5,
        /// Bit 0: no value was recorded.
        flags: u32 = 8,
    }
}

impl NumberDataPointView<'_> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<Number> {
        number(self.0, 4)
    }
}

view! {
    /// A point of a histogram.
    HistogramDataPointView {
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 9,
        /// Nanoseconds since 1970; 0 where there is no start.
        start_time_unix_nano: u64 = 2,
        /// Nanoseconds since 1970.
        time_unix_nano: u64 = 3,
        /// How many values.
        count: u64 = 4,
        /// Their sum, where it means something.
        sum: Option<f64> = 5,
        /// Values in each bucket: one more than there are bounds, or none.
        bucket_counts: Fixed64s<'a> = 6,
        /// Upper bounds of all buckets but the last.
        explicit_bounds: Doubles<'a> = 7,
        /// Exemplars, in order.
        exemplars: List<'a, ExemplarView<'a>> = 8,
        /// Bit 0: no value was recorded.
        flags: u32 = 10,
        /// The least value.
        min: Option<f64> = 11,
        /// The greatest value.
        max: Option<f64> = 12,
    }
}

view! {
    /// A point of an exponential histogram.
    ExponentialHistogramDataPointView {
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 1,
        /// Nanoseconds since 1970; 0 where there is no start.
        start_time_unix_nano: u64 = 2,
        /// Nanoseconds since 1970.
        time_unix_nano: u64 = 3,
        /// How many values.
        count: u64 = 4,
        /// Their sum, where it means something.
        sum: Option<f64> = 5,
        /// Values within `zero_threshold` of zero.
        zero_count: u64 = 7,
        /// Buckets of the values above zero.
        positive: Option<BucketsView<'a>> = 8,
        /// Buckets of the values below zero.
        negative: Option<BucketsView<'a>> = 9,
        /// Bit 0: no value was recorded.
        flags: u32 = 10,
        /// Exemplars, in order.
        exemplars: List<'a, ExemplarView<'a>> = 11,
        /// The least value.
        min: Option<f64> = 12,
        /// The greatest value.
        max: Option<f64> = 13,
        /// Half the width of the bucket around zero.
        zero_threshold: f64 = 14,
    }
}

impl ExponentialHistogramDataPointView<'_> {
    /// Bounds are powers of `2^(2^-scale)`.
    pub fn scale(&self) -> i32 {
        zigzag(self.0, 6)
    }
}

view! {
    /// Buckets of an exponential histogram.
    BucketsView {
        /// Values in each bucket.
        bucket_counts: Varints<'a> = 2,
    }
}

impl BucketsView<'_> {
    /// The index of the first bucket.
    pub fn offset(&self) -> i32 {
        zigzag(self.0, 1)
    }
}

view! {
    /// A point of a summary.
    SummaryDataPointView {
        /// Attributes, in order.
        attributes: List<'a, KeyValueView<'a>> = 7,
        /// Nanoseconds since 1970; 0 where there is no start.
        start_time_unix_nano: u64 = 2,
        /// Nanoseconds since 1970.
        time_unix_nano: u64 = 3,
        /// How many values.
        count: u64 = 4,
        /// Their sum.
        sum: f64 = 5,
        /// Quantiles, in order.
        quantile_values: List<'a, QuantileView<'a>> = 6,
        /// Bit 0: no value was recorded.
        flags: u32 = 8,
    }
}

view! {
    /// `ValueAtQuantile`
    QuantileView {
        /// 0 (the least value) to 1 (the greatest).
        quantile: f64 = 1,
        /// The value there.
        value: f64 = 2,
    }
}

view! {
    /// A value that was recorded, and in which span.
    ExemplarView {
        /// Attributes that the point does not have, in order.
        filtered_attributes: List<'a, KeyValueView<'a>> = 7,
        /// Nanoseconds since 1970.
        time_unix_nano: u64 = 2,
        /// The span, 8 bytes, if there was one.
        span_id: &'a [u8] = 4,
        /// The trace, 16 bytes, if there was one.
        trace_id: &'a [u8] = 5,
    }
}

impl ExemplarView<'_> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<Number> {
        number(self.0, 3)
    }
}
