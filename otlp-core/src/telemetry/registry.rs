//! Counters, gauges and histograms, and the one place where they are found again.
//!
//! Handles are cheap to clone and to update: one atomic addition, and for a histogram a look at the clock and a lock that
//! is held for two comparisons. Only making one takes the registry's lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::extremes::Extremes;
use super::names::Name;
use crate::clock::Clock;
use crate::signal::Signal;

/// Label names and values, in the order in which they are shown.
pub type Labels = Vec<(&'static str, String)>;

/// All metrics of one process or of one embedded pipeline. Clones share them.
#[derive(Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    clock: Clock,
    series: Mutex<Series>,
    collectors: Mutex<BTreeMap<String, Collector>>,
}

type Collector = Arc<dyn Fn(&mut Vec<Sample>) + Send + Sync>;

type Series = BTreeMap<(String, Labels), (Name, Metric)>;

#[derive(Clone)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Read(Arc<dyn Fn() -> f64 + Send + Sync>),
    Histogram(Histogram),
}

/// A number that only goes up.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

/// A number that goes up and down.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// A distribution in buckets.
#[derive(Clone)]
pub struct Histogram(Arc<HistogramInner>);

struct HistogramInner {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    sum_bits: AtomicU64,
    clock: Clock,
    extremes: Mutex<Extremes>,
}

/// Bounds for durations in seconds: 50 µs to 10 s.
pub const DURATION_BOUNDS: &[f64] = &[
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0, 10.0,
];

/// Bounds for items in a batch: the Collector's.
pub const ITEM_BOUNDS: &[f64] = &[
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0, 8000.0,
    9000.0, 10_000.0, 20_000.0, 30_000.0, 50_000.0, 100_000.0,
];

/// One series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name with the signal filled in.
    pub name: String,
    /// Its entry in the table.
    pub entry: Name,
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: SampleValue,
}

/// A series' value.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram: bounds with the count at or below each, the count of all, their sum.
    Histogram {
        /// Upper bound and cumulative count.
        buckets: Vec<(f64, u64)>,
        /// Count of all.
        count: u64,
        /// Sum of all.
        sum: f64,
    },
}

impl Registry {
    /// An empty one.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// An empty one that takes the last minute of its histograms from that clock.
    pub fn with_clock(clock: Clock) -> Registry {
        Registry(Arc::new(Inner { clock, ..Inner::default() }))
    }

    /// The counter of that name and those labels: the same one each time.
    pub fn counter(&self, name: Name, signal: Option<Signal>, labels: Labels) -> Counter {
        match self.entry(name, signal, labels, || Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter,
            _ => Counter::default(),
        }
    }

    /// The gauge of that name and those labels: the same one each time.
    pub fn gauge(&self, name: Name, signal: Option<Signal>, labels: Labels) -> Gauge {
        match self.entry(name, signal, labels, || Metric::Gauge(Gauge::default())) {
            Metric::Gauge(gauge) => gauge,
            _ => Gauge::default(),
        }
    }

    /// A counter or gauge that is read when the metrics are. A later one of the same name and labels replaces it.
    pub fn read(
        &self,
        name: Name,
        signal: Option<Signal>,
        labels: Labels,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let full = full_name(name, signal);
        self.lock().insert((full, labels), (name, Metric::Read(Arc::new(read))));
    }

    /// The histogram of that name and those labels: the same one each time.
    pub fn histogram(&self, name: Name, signal: Option<Signal>, labels: Labels, bounds: &'static [f64]) -> Histogram {
        let make = || Histogram::new(bounds, self.0.clock.clone());
        match self.entry(name, signal, labels, || Metric::Histogram(make())) {
            Metric::Histogram(histogram) => histogram,
            _ => make(),
        }
    }

    /// Series that are made when the metrics are read, for labels that are not known before and for several that have to
    /// come from one look. A later one of the same key replaces it.
    ///
    /// # Threads
    ///
    /// Runs on the thread that reads, under no lock of the registry's.
    pub fn collector(&self, key: impl Into<String>, collect: impl Fn(&mut Vec<Sample>) + Send + Sync + 'static) {
        self.collectors().insert(key.into(), Arc::new(collect));
    }

    /// All series as they are now, ordered by name and labels. A histogram whose name has
    /// [extremes](Name::extremes) is followed by them, but where nothing was recorded for a minute.
    pub fn samples(&self) -> Vec<Sample> {
        let series: Vec<_> = self.lock().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let collectors: Vec<Collector> = self.collectors().values().cloned().collect();
        let mut samples = Vec::with_capacity(series.len() + 64);
        for ((name, labels), (entry, metric)) in series {
            let value = match metric {
                Metric::Counter(counter) => SampleValue::Number(counter.get() as f64),
                Metric::Gauge(gauge) => SampleValue::Number(gauge.get() as f64),
                Metric::Read(read) => SampleValue::Number(read()),
                Metric::Histogram(histogram) => {
                    if let (Some(names), Some(values)) = (entry.extremes(), histogram.last_minute()) {
                        samples.push(Sample::number(names.0, None, labels.clone(), values.0));
                        samples.push(Sample::number(names.1, None, labels.clone(), values.1));
                    }
                    histogram.value()
                }
            };
            samples.push(Sample { name, entry, labels, value });
        }
        for collect in collectors {
            collect(&mut samples);
        }
        samples.sort_by(|one, two| (&one.name, &one.labels).cmp(&(&two.name, &two.labels)));
        samples
    }

    fn entry(&self, name: Name, signal: Option<Signal>, labels: Labels, make: impl FnOnce() -> Metric) -> Metric {
        let full = full_name(name, signal);
        self.lock().entry((full, labels)).or_insert_with(|| (name, make())).1.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Series> {
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collectors(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Collector>> {
        self.0.collectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    /// One of a counter or gauge.
    pub fn number(entry: Name, signal: Option<Signal>, labels: Labels, value: f64) -> Sample {
        Sample { name: full_name(entry, signal), entry, labels, value: SampleValue::Number(value) }
    }

    /// The value of a counter or gauge.
    pub fn as_number(&self) -> Option<f64> {
        match self.value {
            SampleValue::Number(value) => Some(value),
            SampleValue::Histogram { .. } => None,
        }
    }
}

impl fmt::Display for Sample {
    /// For logs and tests: `name{label="value"} 1`, a histogram by its count and sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (index, (name, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if index == 0 { '{' } else { ',' })?;
        }
        f.write_str(if self.labels.is_empty() { " " } else { "} " })?;
        match &self.value {
            SampleValue::Number(value) => value.fmt(f),
            SampleValue::Histogram { count, sum, .. } => write!(f, "{count} values of {sum} altogether"),
        }
    }
}

fn full_name(name: Name, signal: Option<Signal>) -> String {
    match signal {
        Some(signal) => name.name.replace("{signal}", signal.metric_suffix()),
        None => name.name.to_owned(),
    }
}

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Sets.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Subtracts.
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    fn new(bounds: &'static [f64], clock: Clock) -> Histogram {
        Histogram(Arc::new(HistogramInner {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_bits: AtomicU64::new(0f64.to_bits()),
            extremes: Mutex::new(Extremes::new(clock.now())),
            clock,
        }))
    }

    /// Records a value.
    pub fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    /// Records a value that was there `count` times; once is enough to be in the extremes.
    pub fn record_many(&self, value: f64, count: u64) {
        let inner = &*self.0;
        let index = inner.bounds.partition_point(|&bound| bound < value);
        inner.counts[index].fetch_add(count, Ordering::Relaxed);
        let sum = value * count as f64;
        let _ = inner
            .sum_bits
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + sum).to_bits()));
        self.extremes().record(inner.clock.now(), value);
    }

    /// The smallest and the largest value of the last minute, if there was any.
    pub fn last_minute(&self) -> Option<(f64, f64)> {
        self.extremes().get(self.0.clock.now())
    }

    fn extremes(&self) -> std::sync::MutexGuard<'_, Extremes> {
        self.0.extremes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a duration in seconds.
    pub fn record_duration(&self, duration: Duration) {
        self.record(duration.as_secs_f64());
    }

    fn value(&self) -> SampleValue {
        let mut count = 0;
        let counts: Vec<u64> = self.0.counts.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
        let buckets = self.0.bounds.iter().zip(&counts).map(|(&bound, &slot)| {
            count += slot;
            (bound, count)
        });
        let buckets: Vec<_> = buckets.collect();
        SampleValue::Histogram {
            buckets,
            count: counts.iter().sum(),
            sum: f64::from_bits(self.0.sum_bits.load(Ordering::Relaxed)),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} series)", self.lock().len())
    }
}

macro_rules! debug_as_name {
    ($($type:ident),*) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($type))
            }
        })*
    };
}

debug_as_name!(Counter, Gauge, Histogram);

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn series_are_found_again_and_shown_in_order() {
        let registry = Registry::new();
        let labels = |receiver: &str| vec![("receiver", receiver.to_owned())];
        registry.counter(names::RECEIVER_ACCEPTED, Some(Signal::Logs), labels("otlp")).add(3);
        registry.counter(names::RECEIVER_ACCEPTED, Some(Signal::Logs), labels("otlp")).increment();
        registry.counter(names::RECEIVER_ACCEPTED, Some(Signal::Traces), labels("otlp")).add(1);
        registry.gauge(names::RECEIVER_CONNECTIONS, None, labels("otlp")).set(2);
        registry.read(names::PROCESS_UPTIME, None, Labels::new(), || 1.5);
        registry.collector("one", |samples| {
            samples.push(Sample::number(names::MEMORY_BUDGET_REFUSED, None, Labels::new(), 8.0))
        });
        registry.collector("one", |samples| {
            samples.push(Sample::number(names::MEMORY_BUDGET_REFUSED, None, Labels::new(), 9.0))
        });
        let rows: Vec<String> = registry.samples().iter().map(Sample::to_string).collect();
        assert_eq!(
            rows,
            [
                "otelcol_process_uptime 1.5",
                r#"otelcol_receiver_accepted_log_records{receiver="otlp"} 4"#,
                r#"otelcol_receiver_accepted_spans{receiver="otlp"} 1"#,
                "otlpd_memory_budget_refused 9",
                r#"otlpd_receiver_connections{receiver="otlp"} 2"#,
            ]
        );
    }

    #[test]
    fn a_histogram_counts_at_its_bounds_and_tells_the_extremes_of_a_minute() {
        let clock = Clock::simulated();
        let registry = Registry::with_clock(clock.clone());
        let histogram = registry.histogram(names::RECEIVER_DURATION, None, Labels::new(), &[1.0, 2.0]);
        for value in [1.0, 1.5, 2.0, 2.5] {
            histogram.record(value);
        }
        let value = SampleValue::Histogram { buckets: vec![(1.0, 1), (2.0, 3)], count: 4, sum: 7.0 };
        let samples = registry.samples();
        assert_eq!(samples[0].value, value);
        assert_eq!((samples[1].name.as_str(), samples[1].as_number()), ("otlpd_receiver_duration_max", Some(2.5)));
        assert_eq!((samples[2].name.as_str(), samples[2].as_number()), ("otlpd_receiver_duration_min", Some(1.0)));
        clock.advance(Duration::from_secs(71));
        assert_eq!(registry.samples().len(), 1, "the minute is over, the counts stay");
        assert_eq!(registry.samples()[0].value, value);
    }
}
