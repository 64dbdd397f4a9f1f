//! Messages of prost, decoded from every request and encoded into every request.

use bytes::{Buf, BufMut};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data as Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use otlp_bin::config::{self, Resolved};
use otlp_core::Signal;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::Problem;
use crate::engine::Engine;
use crate::settings::{Edit, PipelineSettings};

/// The attributes and resource processors on messages.
pub struct Objects(Vec<Processor>);

/// A request as messages.
#[derive(Debug, PartialEq)]
pub enum Request {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

struct Processor {
    of_resource: bool,
    actions: Vec<Action>,
}

struct Action {
    key: String,
    work: Work,
}

enum Work {
    Set { source: Source, insert: bool, update: bool },
    Delete,
    Hash,
}

enum Source {
    Value(AnyValue),
    Attribute(String),
}

impl Engine for Objects {
    type Data = Request;

    fn new(_: &Resolved, settings: &PipelineSettings) -> Result<Objects, Problem> {
        settings.edits.iter().map(Processor::new).collect::<Result<_, _>>().map(Objects)
    }

    fn decode(signal: Signal, body: impl Buf) -> Result<Request, String> {
        match signal {
            Signal::Traces => Message::decode(body).map(Request::Traces),
            Signal::Metrics => Message::decode(body).map(Request::Metrics),
            Signal::Logs => Message::decode(body).map(Request::Logs),
        }
        .map_err(|error| error.to_string())
    }

    fn process(&self, mut data: Request) -> Request {
        self.0.iter().for_each(|processor| processor.apply(&mut data));
        data
    }

    fn items(data: &Request) -> usize {
        match data {
            Request::Traces(request) => {
                request.resource_spans.iter().flat_map(|of| &of.scope_spans).map(|scope| scope.spans.len()).sum()
            }
            Request::Logs(request) => {
                request.resource_logs.iter().flat_map(|of| &of.scope_logs).map(|scope| scope.log_records.len()).sum()
            }
            Request::Metrics(request) => {
                let scopes = request.resource_metrics.iter().flat_map(|of| &of.scope_metrics);
                let points = |metric: &_| match metric {
                    Metric::Gauge(of) => of.data_points.len(),
                    Metric::Sum(of) => of.data_points.len(),
                    Metric::Histogram(of) => of.data_points.len(),
                    Metric::ExponentialHistogram(of) => of.data_points.len(),
                    Metric::Summary(of) => of.data_points.len(),
                };
                scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref()).map(points).sum()
            }
        }
    }

    fn append(data: &mut Request, other: Request) {
        match (data, other) {
            (Request::Traces(all), Request::Traces(more)) => all.resource_spans.extend(more.resource_spans),
            (Request::Metrics(all), Request::Metrics(more)) => all.resource_metrics.extend(more.resource_metrics),
            (Request::Logs(all), Request::Logs(more)) => all.resource_logs.extend(more.resource_logs),
            _ => unreachable!("a pipeline has one signal"),
        }
    }

    fn encoded_len(data: &Request) -> usize {
        match data {
            Request::Traces(request) => request.encoded_len(),
            Request::Metrics(request) => request.encoded_len(),
            Request::Logs(request) => request.encoded_len(),
        }
    }

    fn write(data: &Request, to: &mut impl BufMut) {
        match data {
            Request::Traces(request) => request.encode_raw(to),
            Request::Metrics(request) => request.encode_raw(to),
            Request::Logs(request) => request.encode_raw(to),
        }
    }
}

impl Processor {
    fn new(edit: &Edit) -> Result<Processor, Problem> {
        let action = |section: &config::Section| -> Result<Action, Problem> {
            let unknown = |what: &str| Err(format!("{}: {what} is not built here", section.path()).into());
            for key in ["pattern", "from_context", "converted_type"] {
                if !section.str(key).is_empty() {
                    return unknown(key);
                }
            }
            let source = || -> Result<Source, Problem> {
                Ok(match section.str("from_attribute") {
                    "" => Source::Value(value(&section.value("value").value)?),
                    name => Source::Attribute(name.to_owned()),
                })
            };
            let work = match section.str("action") {
                "insert" => Work::Set { source: source()?, insert: true, update: false },
                "update" => Work::Set { source: source()?, insert: false, update: true },
                "upsert" => Work::Set { source: source()?, insert: true, update: true },
                "delete" => Work::Delete,
                "hash" => Work::Hash,
                other => return unknown(other),
            };
            Ok(Action { key: section.str("key").to_owned(), work })
        };
        let actions = edit.actions.iter().map(action).collect::<Result<_, _>>()?;
        Ok(Processor { of_resource: edit.of_resource, actions })
    }

    fn apply(&self, data: &mut Request) {
        let edit = |attributes: &mut Vec<KeyValue>| self.actions.iter().for_each(|action| action.apply(attributes));
        let resource = |resource: &mut Option<Resource>| edit(&mut resource.get_or_insert_default().attributes);
        match data {
            Request::Traces(request) => {
                for of in &mut request.resource_spans {
                    if self.of_resource {
                        resource(&mut of.resource);
                        continue;
                    }
                    of.scope_spans
                        .iter_mut()
                        .flat_map(|scope| &mut scope.spans)
                        .for_each(|span| edit(&mut span.attributes));
                }
            }
            Request::Logs(request) => {
                for of in &mut request.resource_logs {
                    if self.of_resource {
                        resource(&mut of.resource);
                        continue;
                    }
                    let records = of.scope_logs.iter_mut().flat_map(|scope| &mut scope.log_records);
                    records.for_each(|record| edit(&mut record.attributes));
                }
            }
            Request::Metrics(request) => {
                for of in &mut request.resource_metrics {
                    if self.of_resource {
                        resource(&mut of.resource);
                        continue;
                    }
                    for metric in of.scope_metrics.iter_mut().flat_map(|scope| &mut scope.metrics) {
                        match &mut metric.data {
                            Some(Metric::Gauge(of)) => of.data_points.iter_mut().for_each(|p| edit(&mut p.attributes)),
                            Some(Metric::Sum(of)) => of.data_points.iter_mut().for_each(|p| edit(&mut p.attributes)),
                            Some(Metric::Histogram(of)) => {
                                of.data_points.iter_mut().for_each(|p| edit(&mut p.attributes))
                            }
                            Some(Metric::ExponentialHistogram(of)) => {
                                of.data_points.iter_mut().for_each(|p| edit(&mut p.attributes));
                            }
                            Some(Metric::Summary(of)) => {
                                of.data_points.iter_mut().for_each(|p| edit(&mut p.attributes))
                            }
                            None => {}
                        }
                    }
                }
            }
        }
    }
}

impl Action {
    fn apply(&self, attributes: &mut Vec<KeyValue>) {
        let at = attributes.iter().position(|attribute| attribute.key == self.key);
        match &self.work {
            Work::Delete => {
                if let Some(at) = at {
                    attributes.remove(at);
                }
            }
            Work::Hash => {
                if let Some(at) = at {
                    hash(&mut attributes[at].value);
                }
            }
            Work::Set { source, insert, update } => {
                let wanted = if at.is_some() { *update } else { *insert };
                let value = match source {
                    _ if !wanted => return,
                    Source::Value(value) => Some(value.clone()),
                    Source::Attribute(name) => match attributes.iter().find(|attribute| attribute.key == *name) {
                        Some(attribute) => attribute.value.clone(),
                        None => return,
                    },
                };
                match at {
                    Some(at) => attributes[at].value = value,
                    None => attributes.push(KeyValue { key: self.key.clone(), value, ..KeyValue::default() }),
                }
            }
        }
    }
}

fn hash(value: &mut Option<AnyValue>) {
    let Some(AnyValue { value: Some(value) }) = value else { return };
    let digest = match value {
        Value::StringValue(text) if !text.is_empty() => Sha256::digest(text.as_bytes()),
        Value::BoolValue(value) => Sha256::digest([u8::from(*value)]),
        Value::IntValue(value) => Sha256::digest(value.to_le_bytes()),
        Value::DoubleValue(value) => Sha256::digest(value.to_bits().to_le_bytes()),
        _ => return,
    };
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hex = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)]));
    *value = Value::StringValue(hex.collect());
}

fn value(value: &config::Value) -> Result<AnyValue, Problem> {
    Ok(AnyValue {
        value: Some(match value {
            config::Value::Str(text) => Value::StringValue(text.clone()),
            config::Value::Bool(value) => Value::BoolValue(*value),
            config::Value::Int(value) => Value::IntValue(i64::try_from(*value)?),
            config::Value::Float(value) => Value::DoubleValue(*value),
            other => return Err(format!("a value {other:?} is not built here").into()),
        }),
    })
}
