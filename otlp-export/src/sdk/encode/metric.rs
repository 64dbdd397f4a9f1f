//! Metrics (OTLP, metrics.proto).

use std::time::SystemTime;

use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, Exemplar, ExponentialBucket, ExponentialHistogramDataPoint, HistogramDataPoint, Metric,
    MetricData,
};
use otlp_core::wire::writer::{begin, end, put_delimited, put_varint, put_varint_field};

use super::{put_attributes, put_text};
use crate::client::record::attributes::{put_double, put_fixed64};
use crate::client::record::unix_nanos;

/// What a data point is expected to take.
const EXPECTED_LEN: usize = 200;

/// Appends the fields of a `Metric`; returns how many data points it has.
pub(in crate::sdk) fn put(out: &mut Vec<u8>, metric: &Metric) -> u64 {
    put_text(out, 1, metric.name());
    put_text(out, 2, metric.description());
    put_text(out, 3, metric.unit());
    match metric.data() {
        AggregatedMetrics::F64(data) => put_data(out, data),
        AggregatedMetrics::U64(data) => put_data(out, data),
        AggregatedMetrics::I64(data) => put_data(out, data),
    }
}

/// What the SDK measures in.
trait Measured: Copy {
    /// Histograms have doubles alone.
    fn double(self) -> f64;
    /// As a double or as an sfixed64, under their fields.
    fn put(self, out: &mut Vec<u8>, as_double: u32, as_int: u32);
}

impl Measured for f64 {
    fn double(self) -> f64 {
        self
    }

    fn put(self, out: &mut Vec<u8>, as_double: u32, _: u32) {
        put_double(out, as_double, self);
    }
}

impl Measured for i64 {
    fn double(self) -> f64 {
        self as f64
    }

    fn put(self, out: &mut Vec<u8>, _: u32, as_int: u32) {
        put_fixed64(out, as_int, self as u64);
    }
}

impl Measured for u64 {
    fn double(self) -> f64 {
        self as f64
    }

    fn put(self, out: &mut Vec<u8>, as_double: u32, as_int: u32) {
        i64::try_from(self).unwrap_or(i64::MAX).put(out, as_double, as_int);
    }
}

/// When a series began and when it was read.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    time: u64,
}

impl Times {
    fn new(start: Option<SystemTime>, time: SystemTime) -> Times {
        Times { start: start.map_or(0, unix_nanos), time: unix_nanos(time) }
    }

    fn put(self, out: &mut Vec<u8>) {
        if self.start != 0 {
            put_fixed64(out, 2, self.start);
        }
        put_fixed64(out, 3, self.time);
    }
}

fn put_data<T: Measured>(out: &mut Vec<u8>, data: &MetricData<T>) -> u64 {
    let mut count = 0;
    // Each data point is a field 1, whatever the kind.
    let mut point = |out: &mut Vec<u8>, put: &dyn Fn(&mut Vec<u8>)| {
        let open = begin(out, 1, EXPECTED_LEN);
        put(out);
        end(out, open);
        count += 1;
    };
    let expected = EXPECTED_LEN * 10;
    let open = match data {
        MetricData::Gauge(gauge) => {
            let open = begin(out, 5, expected);
            let times = Times::new(gauge.start_time(), gauge.time());
            for data in gauge.data_points() {
                point(out, &|out| {
                    times.put(out);
                    data.value().put(out, 4, 6);
                    put_exemplars(out, 5, data.exemplars());
                    put_attributes(out, 7, data.attributes());
                });
            }
            open
        }
        MetricData::Sum(sum) => {
            let open = begin(out, 7, expected);
            let times = Times::new(Some(sum.start_time()), sum.time());
            for data in sum.data_points() {
                point(out, &|out| {
                    times.put(out);
                    data.value().put(out, 4, 6);
                    put_exemplars(out, 5, data.exemplars());
                    put_attributes(out, 7, data.attributes());
                });
            }
            put_varint_field(out, 2, temporality(sum.temporality()));
            put_varint_field(out, 3, sum.is_monotonic().into());
            open
        }
        MetricData::Histogram(histogram) => {
            let open = begin(out, 9, expected);
            let times = Times::new(Some(histogram.start_time()), histogram.time());
            for data in histogram.data_points() {
                point(out, &|out| put_histogram_point(out, data, times));
            }
            put_varint_field(out, 2, temporality(histogram.temporality()));
            open
        }
        MetricData::ExponentialHistogram(histogram) => {
            let open = begin(out, 10, expected);
            let times = Times::new(Some(histogram.start_time()), histogram.time());
            for data in histogram.data_points() {
                point(out, &|out| put_exponential_point(out, data, times));
            }
            put_varint_field(out, 2, temporality(histogram.temporality()));
            open
        }
    };
    end(out, open);
    count
}

fn temporality(temporality: Temporality) -> u64 {
    match temporality {
        Temporality::Delta => 1,
        // What the SDK calls low memory is cumulative for some and delta for others, and never said of data.
        _ => 2,
    }
}

fn put_histogram_point<T: Measured>(out: &mut Vec<u8>, data: &HistogramDataPoint<T>, times: Times) {
    times.put(out);
    put_fixed64(out, 4, data.count());
    put_double(out, 5, data.sum().double());
    put_packed_fixed64(out, 6, data.bucket_counts());
    put_packed_fixed64(out, 7, data.bounds().map(f64::to_bits));
    put_exemplars(out, 8, data.exemplars());
    put_attributes(out, 9, data.attributes());
    for (field, value) in [(11, data.min()), (12, data.max())] {
        if let Some(value) = value {
            put_double(out, field, value.double());
        }
    }
}

fn put_exponential_point<T: Measured>(out: &mut Vec<u8>, data: &ExponentialHistogramDataPoint<T>, times: Times) {
    put_attributes(out, 1, data.attributes());
    times.put(out);
    put_fixed64(out, 4, data.count() as u64);
    put_double(out, 5, data.sum().double());
    put_varint_field(out, 6, zigzag(data.scale().into()));
    put_fixed64(out, 7, data.zero_count());
    put_buckets(out, 8, data.positive_bucket());
    put_buckets(out, 9, data.negative_bucket());
    put_exemplars(out, 11, data.exemplars());
    for (field, value) in [(12, data.min()), (13, data.max())] {
        if let Some(value) = value {
            put_double(out, field, value.double());
        }
    }
    if data.zero_threshold() != 0.0 {
        put_double(out, 14, data.zero_threshold());
    }
}

fn put_buckets(out: &mut Vec<u8>, field: u32, bucket: &ExponentialBucket) {
    let open = begin(out, field, EXPECTED_LEN);
    put_varint_field(out, 1, zigzag(bucket.offset()));
    let mut counts = bucket.counts().peekable();
    if counts.peek().is_some() {
        let packed = begin(out, 2, EXPECTED_LEN);
        counts.for_each(|count| put_varint(out, count));
        end(out, packed);
    }
    end(out, open);
}

/// As sint32 lies on the wire.
fn zigzag(value: i32) -> u64 {
    ((value << 1) ^ (value >> 31)) as u32 as u64
}

fn put_packed_fixed64(out: &mut Vec<u8>, field: u32, values: impl Iterator<Item = u64>) {
    let mut values = values.peekable();
    if values.peek().is_some() {
        let packed = begin(out, field, EXPECTED_LEN);
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        end(out, packed);
    }
}

fn put_exemplars<'a, T: Measured + 'a>(
    out: &mut Vec<u8>,
    field: u32,
    exemplars: impl Iterator<Item = &'a Exemplar<T>>,
) {
    for exemplar in exemplars {
        let open = begin(out, field, EXPECTED_LEN);
        put_fixed64(out, 2, unix_nanos(exemplar.time()));
        exemplar.value.put(out, 3, 6);
        // Not in a span that was sampled: all zero, which OTLP has as nothing.
        for (field, id) in [(4, &exemplar.span_id()[..]), (5, &exemplar.trace_id()[..])] {
            if id.iter().any(|byte| *byte != 0) {
                put_delimited(out, field, id);
            }
        }
        put_attributes(out, 7, exemplar.filtered_attributes());
        end(out, open);
    }
}
