//! Metrics in the Prometheus text format, under the names that the Collector's reader gives them.

use std::sync::Arc;

use otlp_core::telemetry::Registry;
use otlp_core::telemetry::names::Kind;
use otlp_core::telemetry::registry::{Sample, SampleValue};
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::server::{Answer, Handler};

/// What begins so is shown from the level `normal` on.
const NORMAL: &str = "otelcol_processor_batch_";

/// The settings of a pull reader; the keys are the Collector's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Leaves out the labels of the instrumentation scope. We have no scopes: accepted and without effect.
    pub without_scope_info: bool,
    /// Leaves the unit off the names.
    pub without_units: bool,
    /// Leaves `_total` off the names of counters.
    pub without_type_suffix: bool,
    /// `level: basic`: leaves out what the Collector shows from `normal` on, which is the default. `detailed` shows no more
    /// than `normal` here.
    pub basic: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: "localhost".into(),
            port: 8888,
            without_scope_info: true,
            without_units: true,
            without_type_suffix: true,
            basic: false,
        }
    }
}

/// Answers `GET /metrics`.
pub fn handler(config: Config, registry: Registry, resource: Vec<(String, String)>) -> Handler {
    Arc::new(move |path| {
        (path == "/metrics").then(|| match render(&config, &registry.samples(), &resource) {
            Ok(body) => Answer { status: 200, content_type: prometheus::TEXT_FORMAT, body },
            Err(error) => Answer { status: 503, content_type: "text/plain; charset=utf-8", body: format!("{error}\n") },
        })
    })
}

/// All samples as text, one family for each name, and `target_info` with the resource's attributes.
///
/// # Errors
///
/// Where a name or label is none that the format can hold: a defect of the name table.
pub fn render(config: &Config, samples: &[Sample], resource: &[(String, String)]) -> prometheus::Result<String> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for sample in samples.iter().filter(|sample| !config.basic || !sample.name.starts_with(NORMAL)) {
        let name = family_name(config, sample);
        let metric = metric_of(sample);
        match families.last_mut() {
            Some(last) if last.name() == name => last.mut_metric().push(metric),
            _ => {
                let mut family = MetricFamily::default();
                family.set_name(name);
                family.set_help(sample.entry.help.to_owned());
                family.set_field_type(match sample.entry.kind {
                    Kind::Counter => MetricType::COUNTER,
                    Kind::Gauge => MetricType::GAUGE,
                    Kind::Histogram => MetricType::HISTOGRAM,
                });
                family.set_metric(vec![metric]);
                families.push(family);
            }
        }
    }
    let mut info = MetricFamily::default();
    info.set_name("target_info".to_owned());
    info.set_help("Target metadata".to_owned());
    info.set_field_type(MetricType::GAUGE);
    let mut metric =
        Metric::from_label(resource.iter().map(|(name, value)| label(&underscored(name), value)).collect());
    let mut one = Gauge::default();
    one.set_value(1.0);
    metric.set_gauge(one);
    info.set_metric(vec![metric]);
    families.push(info);
    TextEncoder::new().encode_to_string(&families)
}

fn metric_of(sample: &Sample) -> Metric {
    let mut metric =
        Metric::from_label(sample.labels.iter().map(|(name, value)| label(&underscored(name), value)).collect());
    match &sample.value {
        SampleValue::Number(value) if sample.entry.kind == Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(*value);
            metric.set_counter(counter);
        }
        SampleValue::Number(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
        }
        SampleValue::Histogram { buckets, count, sum } => {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(*count);
            histogram.set_sample_sum(*sum);
            histogram.set_bucket(
                buckets
                    .iter()
                    .map(|(bound, count)| {
                        let mut bucket = Bucket::default();
                        bucket.set_upper_bound(*bound);
                        bucket.set_cumulative_count(*count);
                        bucket
                    })
                    .collect(),
            );
            metric.set_histogram(histogram);
        }
    }
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// The classic format knows letters, digits and underscores.
fn underscored(name: &str) -> String {
    name.chars().map(|ch| if ch.is_ascii_alphanumeric() || ch == '_' { ch } else { '_' }).collect()
}

fn family_name(config: &Config, sample: &Sample) -> String {
    let mut name = underscored(&sample.name);
    if !config.without_units {
        let unit = match sample.entry.unit {
            "s" => "seconds",
            "By" => "bytes",
            _ => "",
        };
        if !unit.is_empty() && !name.ends_with(unit) {
            name = format!("{name}_{unit}");
        }
    }
    if !config.without_type_suffix && sample.entry.kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::Signal;
    use otlp_core::telemetry::names;

    #[test]
    fn names_are_those_of_the_collectors_default_reader() {
        let registry = Registry::new();
        registry.counter(names::EXPORTER_SENT, Some(Signal::Traces), vec![("exporter", "otlp_http/a".into())]).add(3);
        registry.read(names::PROCESS_UPTIME, None, Vec::new(), || 1.5);
        registry
            .histogram(names::EXPORTER_DURATION, None, Vec::new(), otlp_core::telemetry::registry::DURATION_BOUNDS)
            .record(0.001);
        let resource = vec![("service.name".to_owned(), "otlpd".to_owned())];
        let text = render(&Config::default(), &registry.samples(), &resource).unwrap();
        for line in [
            "# TYPE otelcol_exporter_sent_spans counter",
            "otelcol_exporter_sent_spans{exporter=\"otlp_http/a\"} 3",
            "otelcol_process_uptime 1.5",
            "otlpd_exporter_duration_bucket{le=\"0.001\"} 1",
            "otlpd_exporter_duration_bucket{le=\"+Inf\"} 1",
            "target_info{service_name=\"otlpd\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        registry.counter(names::BATCH_SIZE_TRIGGER, None, vec![("processor", "batch".into())]).increment();
        let shown = |basic| {
            render(&Config { basic, ..Config::default() }, &registry.samples(), &resource).unwrap().contains("batch")
        };
        assert!(shown(false) && !shown(true));
        let full = Config { without_units: false, without_type_suffix: false, ..Config::default() };
        let text = render(&full, &registry.samples(), &resource).unwrap();
        for name in ["otelcol_exporter_sent_spans_total{", "otelcol_process_uptime_seconds_total 1.5"] {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
    }
}
