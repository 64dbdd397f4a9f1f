//! Whether the values that arrived are those that were sent: a hash of each item's decoded values.
//!
//! Bodies are decoded into typed messages and each item is hashed together with its resource, scope and metric. Attributes
//! are hashed in the order of their keys, items and envelopes are found by their numbers, so neither order nor regrouping
//! nor another encoding of the same values matters. Slow: for outside of the timed window.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use otlp_core::Signal;
use prost::Message;

use super::corpus::{Corpus, id_index, time_index};
use super::stamp::{self, Stamp};

/// The values that should arrive.
#[derive(Debug)]
pub struct Expected {
    signal: Signal,
    /// By body and index.
    hashes: Vec<Vec<Option<u64>>>,
}

impl Expected {
    /// Of all bodies of a corpus.
    pub fn of(corpus: &Corpus) -> Expected {
        let signal = corpus.plan.signal;
        let hashes = (0..corpus.len() as u64).map(|number| {
            let mut hashes = vec![None; corpus.plan.items];
            each(signal, &corpus.template(number).plain, |item| {
                if let Some(place) = item.index.and_then(|index| hashes.get_mut(index as usize)) {
                    *place = Some(item.hash);
                }
            });
            hashes
        });
        Expected { signal, hashes: hashes.collect() }
    }

    /// Compares a body that arrived: items that were compared, and those among them that are not as sent.
    pub fn compare(&self, body: &[u8]) -> (u64, u64) {
        let (mut compared, mut altered) = (0, 0);
        let readable = each(self.signal, body, |item| {
            compared += 1;
            let template = item.request.map(|request| &self.hashes[(request % self.hashes.len() as u64) as usize]);
            let expected = template.zip(item.index).and_then(|(hashes, index)| *hashes.get(index as usize)?);
            altered += u64::from(expected != Some(item.hash));
        });
        if readable { (compared, altered) } else { (compared + 1, altered + 1) }
    }
}

struct Item {
    request: Option<u64>,
    index: Option<u64>,
    hash: u64,
}

/// Calls `found` for every item; false where the body is not of that signal.
fn each(signal: Signal, body: &[u8], mut found: impl FnMut(Item)) -> bool {
    match signal {
        Signal::Traces => {
            let Ok(request) = ExportTraceServiceRequest::decode(body) else { return false };
            for outer in request.resource_spans {
                let resource = resource(outer.resource, &outer.schema_url);
                for inner in outer.scope_spans {
                    let scope = scope(inner.scope, &inner.schema_url);
                    for mut span in inner.spans {
                        sort(&mut span.attributes);
                        span.events.iter_mut().for_each(|event| sort(&mut event.attributes));
                        span.links.iter_mut().for_each(|link| sort(&mut link.attributes));
                        span.status.get_or_insert_default();
                        let index = id_index(&span.span_id);
                        found(Item { request: resource.0, index, hash: hash(&(resource.1, scope), &span) });
                    }
                }
            }
        }
        Signal::Logs => {
            let Ok(request) = ExportLogsServiceRequest::decode(body) else { return false };
            for outer in request.resource_logs {
                let resource = resource(outer.resource, &outer.schema_url);
                for inner in outer.scope_logs {
                    let scope = scope(inner.scope, &inner.schema_url);
                    for mut record in inner.log_records {
                        sort(&mut record.attributes);
                        record.body.get_or_insert_default();
                        let index = id_index(&record.span_id);
                        found(Item { request: resource.0, index, hash: hash(&(resource.1, scope), &record) });
                    }
                }
            }
        }
        Signal::Metrics => {
            let Ok(request) = ExportMetricsServiceRequest::decode(body) else { return false };
            for outer in request.resource_metrics {
                let resource = resource(outer.resource, &outer.schema_url);
                for inner in outer.scope_metrics {
                    let scope = scope(inner.scope, &inner.schema_url);
                    for metric in inner.metrics {
                        points(metric, |index, hash| {
                            let mut hasher = DefaultHasher::new();
                            (resource.1, scope, hash).hash(&mut hasher);
                            found(Item { request: resource.0, index, hash: hasher.finish() });
                        });
                    }
                }
            }
        }
    }
    true
}

fn points(mut metric: Metric, mut found: impl FnMut(Option<u64>, u64)) {
    // The metric without its points: name, unit, kind, temporality.
    macro_rules! each {
        ($data:ident, $kind:ident) => {{
            let points = std::mem::take(&mut $data.data_points);
            let around = Metric { data: Some(Data::$kind($data)), ..metric };
            let around = around.encode_to_vec();
            for mut point in points {
                sort(&mut point.attributes);
                found(time_index(point.time_unix_nano), hash(&around, &point));
            }
        }};
    }
    match metric.data.take() {
        Some(Data::Gauge(mut data)) => each!(data, Gauge),
        Some(Data::Sum(mut data)) => each!(data, Sum),
        Some(Data::Histogram(mut data)) => each!(data, Histogram),
        Some(Data::ExponentialHistogram(mut data)) => {
            for point in &mut data.data_points {
                point.positive.get_or_insert_default();
                point.negative.get_or_insert_default();
            }
            each!(data, ExponentialHistogram);
        }
        Some(Data::Summary(mut data)) => each!(data, Summary),
        None => {}
    }
}

/// The request that a resource says, and a hash of all else in it.
fn resource(resource: Option<Resource>, schema_url: &str) -> (Option<u64>, u64) {
    let mut resource = resource.unwrap_or_default();
    let mut request = None;
    resource.attributes.retain(|pair| {
        let text = match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
            Some(Value::StringValue(text)) if pair.key == stamp::KEY => text,
            _ => return true,
        };
        request = Stamp::parse(text.as_bytes()).map(|stamp| stamp.request);
        false
    });
    sort(&mut resource.attributes);
    (request, hash(&schema_url, &resource))
}

fn scope(scope: Option<InstrumentationScope>, schema_url: &str) -> u64 {
    let mut scope = scope.unwrap_or_default();
    sort(&mut scope.attributes);
    hash(&schema_url, &scope)
}

/// By key; and a value that is absent is an empty one. The Collector, whose types have no absent status, body or value, writes
/// the empty one: to OTLP it is the same.
fn sort(attributes: &mut [KeyValue]) {
    attributes.sort_by(|one, other| one.key.cmp(&other.key));
    attributes.iter_mut().for_each(|pair| {
        pair.value.get_or_insert_default();
    });
}

/// Typed messages encode canonically: equal bytes are equal values.
fn hash(around: &impl Hash, message: &impl Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    around.hash(&mut hasher);
    message.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}
