//! Resources there and absent, and the fused pass.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use otlp_core::wire::edit::Value;
use otlp_core::{ItemCount, Signal};
use prost::Message;

use super::*;
use crate::attributes::{self, Attribute, Attributes, Match, MatchType};
use crate::chain::{Chain, Prefix, Stateless};

fn set(kind: &str, key: &str, value: &str) -> Action {
    Action { key: key.into(), action: kind.into(), value: Some(Value::string(value)), ..Action::default() }
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn logs(resources: Vec<Option<Vec<KeyValue>>>) -> Batch {
    let envelope = |attributes: Option<Vec<KeyValue>>| ResourceLogs {
        resource: attributes.map(|attributes| ProtoResource { attributes, ..Default::default() }),
        scope_logs: vec![ScopeLogs { log_records: vec![LogRecord::default()], ..Default::default() }],
        ..Default::default()
    };
    let request = ExportLogsServiceRequest { resource_logs: resources.into_iter().map(envelope).collect() };
    Batch::trusted(Signal::Logs, ItemCount(1), request.encode_to_vec().into())
}

fn decode(body: &Bytes) -> Vec<ResourceLogs> {
    ExportLogsServiceRequest::decode(body.clone()).unwrap().resource_logs
}

fn attributes_of(batch: &Batch) -> Vec<Option<Vec<KeyValue>>> {
    decode(batch.body()).into_iter().map(|envelope| envelope.resource.map(|resource| resource.attributes)).collect()
}

fn resource(attributes: Vec<Action>) -> Resource {
    Resource::new(Config { attributes }).unwrap()
}

#[test]
fn a_resource_comes_into_being_only_where_something_is_added() {
    let batch = logs(vec![None, Some(Vec::new()), Some(vec![pair("env", "old")])]);
    let upsert = resource(vec![set("upsert", "env", "new")]);
    let all = vec![Some(vec![pair("env", "new")]); 3];
    assert_eq!(attributes_of(&upsert.apply(batch.share()).unwrap().unwrap()), all);
    let update = resource(vec![set("update", "env", "new")]);
    let last = vec![None, Some(Vec::new()), Some(vec![pair("env", "new")])];
    assert_eq!(attributes_of(&update.apply(batch.share()).unwrap().unwrap()), last);
    let both = resource(vec![
        set("insert", "env", "x"),
        Action { key: "env".into(), action: "delete".into(), ..Action::default() },
    ]);
    let gone = vec![None, Some(Vec::new()), Some(Vec::new())];
    assert_eq!(attributes_of(&both.apply(batch).unwrap().unwrap()), gone);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    assert_eq!(Resource::new(Config::default()).unwrap_err().key, "attributes");
    let config = Config { attributes: vec![set("insert", "", "x")] };
    assert_eq!(config.check().unwrap_err().key, "attributes[0].key");
}

fn tag(key: &str, if_resource: &str) -> Attributes {
    let resources = vec![Attribute { key: "env".into(), value: Some(Value::string(if_resource)) }];
    let include = Match { match_type: Some(MatchType::Strict), resources, ..Match::default() };
    let config = attributes::Config { actions: vec![set("upsert", key, "x")], include: Some(include), exclude: None };
    Attributes::new(config, Signal::Logs).unwrap()
}

/// The items are tagged by what the resource was at the step's own turn, not by what it became.
#[test]
fn a_fused_pass_gives_what_one_after_another_gives() {
    let steps: Vec<Arc<dyn Transform>> = vec![
        Arc::new(tag("saw.old", "old")),
        Arc::new(resource(vec![set("upsert", "env", "new")])),
        Arc::new(tag("saw.new", "new")),
        Arc::new(tag("still.saw.old", "old")),
        Arc::new(resource(vec![set("upsert", "env", "newest")])),
    ];
    let batch = logs(vec![Some(vec![pair("env", "old")]), None]);
    let one_by_one = steps.iter().fold(batch.share(), |batch, step| step.apply(batch).unwrap().unwrap());
    let prefix = Prefix::new(steps.clone());
    assert_eq!(format!("{prefix:?}"), "Prefix(1 transforms)");
    let fused = prefix.apply(batch.share()).unwrap().unwrap();
    assert_eq!(decode(fused.body()), decode(one_by_one.body()));
    let keys = |at: usize| {
        let record = &decode(fused.body())[at].scope_logs[0].log_records[0];
        record.attributes.iter().map(|pair| pair.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(0), ["saw.old", "saw.new"]);
    assert_eq!(keys(1), ["saw.new"]);
    let processors = vec![
        Box::new(Stateless::new(tag("a", "old"))) as Box<dyn otlp_core::component::Processor>,
        Box::new(Stateless::new(resource(
            vec![set("delete", "env", "")]
                .into_iter()
                .map(|mut action| {
                    action.value = None;
                    action
                })
                .collect(),
        ))),
    ];
    let mut chain = Chain::new(processors);
    assert!(!chain.has_tail());
    let groups = chain.process(batch).unwrap();
    assert_eq!(attributes_of(&groups[0].parts()[0]), [Some(Vec::new()), None]);
}
