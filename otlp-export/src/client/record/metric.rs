//! Gauges, sums and histograms. Nothing is aggregated here: each is one data point.

use std::time::SystemTime;

use otlp_core::Signal;
use otlp_core::wire::writer::{begin, end, put_delimited, put_tag, put_varint};

use super::attributes::{put_attribute, put_double, put_fixed64, put_number};
use super::sealed::Destination;
use super::{Buffer, Number, Sent, TelemetryData, Value, send, unix_nanos};
use crate::client::OtlpClient;

/// A data point that is being described: [`OtlpClient::send_gauge`] and so on, or [`TelemetryData::gauge`] and so on.
///
/// Its time is that at which it was made, unless another is given. One that is dropped unfinished is not recorded.
#[derive(Debug)]
#[must_use = "a data point that is not finished is not recorded"]
pub struct Metric<D: Destination> {
    to: D,
    /// Name, unit and description.
    head: Buffer,
    /// The data point.
    point: Vec<u8>,
    shape: Shape,
    time: u64,
    start: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Gauge,
    Sum { temporality: Temporality, monotonic: bool },
    Histogram { temporality: Temporality },
}

/// What a sum or a histogram counts from: `AggregationTemporality`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// From the data point before.
    #[default]
    Delta = 1,
    /// From the start time.
    Cumulative = 2,
}

impl<D: Destination> Metric<D> {
    fn begin(to: D, name: &str, shape: Shape) -> Metric<D> {
        let mut head = Buffer::new();
        put_delimited(&mut head, 1, name.as_bytes());
        Metric { to, head, point: Vec::with_capacity(128), shape, time: unix_nanos(SystemTime::now()), start: None }
    }

    fn number(mut self, value: Number) -> Metric<D> {
        match value {
            Number::Double(value) => put_double(&mut self.point, 4, value),
            Number::Int(value) => put_fixed64(&mut self.point, 6, value as u64),
        }
        self
    }

    pub(in crate::client) fn gauge(to: D, name: &str, value: Number) -> Metric<D> {
        Metric::begin(to, name, Shape::Gauge).number(value)
    }

    pub(in crate::client) fn sum(to: D, name: &str, value: Number) -> Metric<D> {
        let shape = Shape::Sum { temporality: Temporality::Delta, monotonic: true };
        Metric::begin(to, name, shape).number(value)
    }

    pub(in crate::client) fn histogram(to: D, name: &str, bounds: &[f64], observations: &[f64]) -> Metric<D> {
        let mut metric = Metric::begin(to, name, Shape::Histogram { temporality: Temporality::Delta });
        // Bounds must go up; what is not a number is neither a bound nor an observation.
        let mut bounds: Vec<f64> = bounds.iter().copied().filter(|bound| bound.is_finite()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let mut counts = vec![0u64; bounds.len() + 1];
        let (mut sum, mut min, mut max, mut count) = (0.0, f64::INFINITY, f64::NEG_INFINITY, 0);
        for &value in observations.iter().filter(|value| !value.is_nan()) {
            counts[bounds.partition_point(|bound| *bound < value)] += 1;
            (sum, min, max, count) = (sum + value, min.min(value), max.max(value), count + 1);
        }
        let point = &mut metric.point;
        put_fixed64(point, 4, count);
        put_double(point, 5, sum);
        put_packed(point, 6, counts.iter().copied());
        put_packed(point, 7, bounds.iter().map(|bound| bound.to_bits()));
        if count > 0 {
            put_double(point, 11, min);
            put_double(point, 12, max);
        }
        metric
    }

    /// What it is measured in, as UCUM writes it: `ms`, `By`, `{request}`.
    pub fn with_unit(mut self, unit: &str) -> Metric<D> {
        put_delimited(&mut self.head, 3, unit.as_bytes());
        self
    }

    /// What it is.
    pub fn with_description(mut self, description: &str) -> Metric<D> {
        put_delimited(&mut self.head, 2, description.as_bytes());
        self
    }

    /// What a sum or a histogram counts from. Default [`Temporality::Delta`]. Means nothing for a gauge.
    pub fn with_temporality(mut self, to: Temporality) -> Metric<D> {
        match &mut self.shape {
            Shape::Sum { temporality, .. } | Shape::Histogram { temporality } => *temporality = to,
            Shape::Gauge => {}
        }
        self
    }

    /// That a sum may go down. By default it only goes up. Means nothing for others.
    pub fn with_decreases(mut self) -> Metric<D> {
        if let Shape::Sum { monotonic, .. } = &mut self.shape {
            *monotonic = false;
        }
        self
    }

    /// An attribute.
    #[inline(always)]
    pub fn with_attribute<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Metric<D> {
        put_attribute(&mut self.point, self.shape.attributes(), key, value.into());
        self
    }

    /// An attribute that is a number.
    #[inline(always)]
    pub fn with_numeric_attribute(mut self, key: &str, value: impl Into<Number>) -> Metric<D> {
        put_attribute(&mut self.point, self.shape.attributes(), key, value.into().into());
        self
    }

    /// When it was measured.
    pub fn with_time(mut self, time: SystemTime) -> Metric<D> {
        self.time = unix_nanos(time);
        self
    }

    /// What it counts from. Default not said.
    pub fn with_start_time(mut self, time: SystemTime) -> Metric<D> {
        self.start = Some(unix_nanos(time));
        self
    }

    fn finished(mut self) -> (D, Buffer) {
        if let Some(start) = self.start {
            put_fixed64(&mut self.point, 2, start);
        }
        put_fixed64(&mut self.point, 3, self.time);
        let (field, temporality, monotonic) = match self.shape {
            Shape::Gauge => (5, None, false),
            Shape::Sum { temporality, monotonic } => (7, Some(temporality), monotonic),
            Shape::Histogram { temporality } => (9, Some(temporality), false),
        };
        let bytes = &mut self.head;
        let data = begin(bytes, field, self.point.len() + 8);
        put_delimited(bytes, 1, &self.point);
        if let Some(temporality) = temporality {
            put_number(bytes, 2, temporality as u64);
        }
        if monotonic {
            put_number(bytes, 3, 1);
        }
        end(bytes, data);
        (self.to, self.head)
    }
}

impl Shape {
    /// The number of the attributes' field.
    const fn attributes(self) -> u32 {
        match self {
            Shape::Gauge | Shape::Sum { .. } => 7,
            Shape::Histogram { .. } => 9,
        }
    }
}

/// A packed list of 64-bit values; nothing where it is empty.
fn put_packed(out: &mut Vec<u8>, field: u32, values: impl ExactSizeIterator<Item = u64>) {
    if values.len() > 0 {
        put_tag(out, field, 2);
        put_varint(out, 8 * values.len() as u64);
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

impl Metric<&OtlpClient> {
    /// Records it; what is answered is as for [`Span::finish`](super::Span::finish).
    pub fn finish(self) -> Sent {
        let (client, bytes) = self.finished();
        send(client, Signal::Metrics, bytes)
    }
}

impl From<Metric<()>> for TelemetryData {
    fn from(metric: Metric<()>) -> TelemetryData {
        TelemetryData { signal: Signal::Metrics, bytes: metric.finished().1 }
    }
}
