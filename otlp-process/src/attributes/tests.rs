//! Every action against a naive map; matching; settings that cannot be used.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue as ProtoValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Kind,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_core::ItemCount;
use otlp_core::wire::edit::Value;
use otlp_core::wire::view::{AnyValue, ItemView, KeyValueView, for_each_item};
use proptest::prelude::*;
use prost::Message;

use super::*;

fn action(kind: &str, key: &str) -> Action {
    Action { action: kind.into(), key: key.into(), ..Action::default() }
}

fn with_value(kind: &str, key: &str, value: Value) -> Action {
    Action { value: Some(value), ..action(kind, key) }
}

fn kind(kind: Kind) -> ProtoValue {
    ProtoValue { value: Some(kind) }
}

fn text(text: &str) -> ProtoValue {
    kind(Kind::StringValue(text.into()))
}

fn pair(key: &str, value: ProtoValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), ..Default::default() }
}

fn encoded(value: &ProtoValue) -> Value {
    fn of(view: &AnyValue<'_>) -> Value {
        match view {
            AnyValue::Empty => Value::default(),
            AnyValue::String(value) => Value::string(value),
            AnyValue::Bool(value) => Value::bool(*value),
            AnyValue::Int(value) => Value::int(*value),
            AnyValue::Double(value) => Value::double(*value),
            AnyValue::Bytes(value) => Value::bytes(value),
            AnyValue::Array(values) => Value::array(values.clone().map(|value| of(&value))),
            AnyValue::KvList(pairs) => Value::kvlist(pairs.clone().map(|pair| (pair.key(), of(&pair.value())))),
        }
    }
    of(&AnyValue::new(&value.encode_to_vec()))
}

/// A request with one span of the given attributes.
fn spans(resource: Vec<KeyValue>, spans: Vec<Span>) -> Bytes {
    let scope = Some(InstrumentationScope { name: "lib".into(), version: "1.2".into(), ..Default::default() });
    let scope_spans = vec![ScopeSpans { scope, spans, ..Default::default() }];
    let resource = Some(Resource { attributes: resource, ..Default::default() });
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }] }
        .encode_to_vec()
        .into()
}

fn apply(config: Config, signal: Signal, body: Bytes, context: Context) -> Batch {
    let attributes = Attributes::new(config, signal).unwrap();
    let batch = Batch::trusted(signal, ItemCount(1), body).with_context(Arc::new(context));
    attributes.apply(batch).unwrap().unwrap()
}

/// What actions make of one span's attributes, with a context that has some metadata and a peer.
fn run(actions: Vec<Action>, attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let context = Context {
        metadata: vec![
            ("x-tenant".into(), "one".into()),
            ("other".into(), "o".into()),
            ("X-Tenant".into(), "two".into()),
        ],
        auth: vec![("username".into(), "ann".into())],
        peer: Some("[::ffff:192.0.2.7]:4711".parse().unwrap()),
        ..Context::default()
    };
    let body = spans(Vec::new(), vec![Span { attributes, ..Default::default() }]);
    let batch = apply(Config { actions, ..Config::default() }, Signal::Traces, body, context);
    let mut request = ExportTraceServiceRequest::decode(batch.body().clone()).unwrap();
    request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0).attributes
}

/// The actions once more, on a list of pairs, as plainly as they can be written.
mod model {
    use super::*;

    fn find(list: &[KeyValue], key: &str) -> Option<usize> {
        list.iter().position(|pair| pair.key == key)
    }

    fn put(list: &mut Vec<KeyValue>, key: &str, value: ProtoValue) {
        match find(list, key) {
            Some(at) => list[at].value = Some(value),
            None => list.push(pair(key, value)),
        }
    }

    fn source(action: &Action, list: &[KeyValue]) -> Option<ProtoValue> {
        let proto = |value: &Value| ProtoValue::decode(value.as_bytes()).unwrap();
        let found = if let Some(value) = &action.value {
            Some(proto(value))
        } else if !action.from_attribute.is_empty() {
            find(list, &action.from_attribute).map(|at| list[at].value.clone().unwrap_or_default())
        } else {
            match action.from_context.as_str() {
                "metadata.x-tenant" | "X-TENANT" => Some(text("one;two")),
                "auth.username" => Some(text("ann")),
                "client.address" => Some(text("192.0.2.7")),
                _ => None,
            }
        };
        found.or_else(|| action.default_value.as_ref().map(proto))
    }

    fn hash(pair: &mut KeyValue) {
        let bytes = match pair.value.as_ref().and_then(|value| value.value.clone()) {
            Some(Kind::StringValue(text)) => text.into_bytes(),
            Some(Kind::BoolValue(value)) => vec![u8::from(value)],
            Some(Kind::IntValue(value)) => value.to_le_bytes().to_vec(),
            Some(Kind::DoubleValue(value)) => value.to_le_bytes().to_vec(),
            _ => Vec::new(),
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let digest = if bytes.is_empty() { String::new() } else { hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes)) };
        pair.value = Some(text(&digest));
    }

    pub(super) fn run(action: &Action, list: &mut Vec<KeyValue>) {
        let at = find(list, &action.key);
        let regex = (!action.pattern.is_empty()).then(|| regex::Regex::new(&action.pattern).unwrap());
        match action.action.to_lowercase().as_str() {
            "insert" if at.is_some() => {}
            "update" if at.is_none() => {}
            // An attribute set from itself stays as it is.
            "update" | "upsert" if at.is_some() && action.from_attribute == action.key => {}
            "insert" | "update" | "upsert" => {
                if let Some(value) = source(action, list) {
                    put(list, &action.key, value);
                }
            }
            "delete" => {
                if let (Some(at), false) = (at, action.key.is_empty()) {
                    list.remove(at);
                }
                list.retain(|pair| !regex.as_ref().is_some_and(|regex| regex.is_match(&pair.key)));
            }
            "hash" => {
                if let (Some(at), false) = (at, action.key.is_empty()) {
                    hash(&mut list[at]);
                }
                let matches = |pair: &&mut KeyValue| regex.as_ref().is_some_and(|regex| regex.is_match(&pair.key));
                list.iter_mut().filter(matches).for_each(hash);
            }
            "extract" => {
                let Some(Kind::StringValue(value)) =
                    at.and_then(|at| list[at].value.clone()).and_then(|value| value.value)
                else {
                    return;
                };
                let regex = regex.unwrap();
                if let Some(found) = regex.captures(&value) {
                    for name in regex.capture_names().flatten() {
                        put(list, name, text(found.name(name).map_or("", |group| group.as_str())));
                    }
                }
            }
            "convert" => {
                let Some(at) = at else { return };
                let old = list[at].value.clone().unwrap_or_default();
                let new = match (action.converted_type.as_str(), old.value.clone()) {
                    ("string", Some(Kind::StringValue(_))) => None,
                    ("string", _) => Some(text(&AnyValue::new(&old.encode_to_vec()).to_text())),
                    ("int", Some(Kind::BoolValue(value))) => Some(kind(Kind::IntValue(i64::from(value)))),
                    ("int", Some(Kind::DoubleValue(value))) => Some(kind(Kind::IntValue(value as i64))),
                    ("int", Some(Kind::StringValue(value))) => value.parse().ok().map(Kind::IntValue).map(kind),
                    ("double", Some(Kind::BoolValue(value))) => {
                        Some(kind(Kind::DoubleValue(f64::from(i32::from(value)))))
                    }
                    ("double", Some(Kind::IntValue(value))) => Some(kind(Kind::DoubleValue(value as f64))),
                    ("double", Some(Kind::StringValue(value))) => value.parse().ok().map(Kind::DoubleValue).map(kind),
                    _ => None,
                };
                if let Some(new) = new {
                    list[at].value = Some(new);
                }
            }
            other => panic!("{other}"),
        }
    }
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof!["a", "b", "user.id", "user.mail", "ключ"].prop_map(String::from)
}

fn any_value() -> impl Strategy<Value = ProtoValue> {
    prop_oneof![
        4 => prop_oneof!["", "[a-z]{1,9}", "-?[0-9]{1,4}", "[0-9]{1,3}\\.[0-9]", "[a-z]{2}:[0-9]{2}"].prop_map(|value: String| text(&value)),
        1 => any::<bool>().prop_map(|value| kind(Kind::BoolValue(value))),
        1 => any::<i64>().prop_map(|value| kind(Kind::IntValue(value))),
        1 => (-1e9..1e9).prop_map(|value| kind(Kind::DoubleValue(value))),
        1 => proptest::collection::vec(any::<u8>(), 0..9).prop_map(|value| kind(Kind::BytesValue(value))),
        1 => Just(ProtoValue::default()),
        1 => "[a-z]{0,3}".prop_map(|value| kind(Kind::ArrayValue(ArrayValue { values: vec![text(&value)] }))),
    ]
}

fn any_pair() -> impl Strategy<Value = KeyValue> {
    (any_key(), proptest::option::weighted(0.95, any_value())).prop_map(|(key, value)| KeyValue {
        key,
        value,
        ..Default::default()
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    let value = || any_value().prop_map(|value| encoded(&value));
    let context = prop_oneof![
        Just("metadata.x-tenant"),
        Just("X-TENANT"),
        Just("metadata.missing"),
        Just("auth.username"),
        Just("auth.subject"),
        Just("client.address"),
    ];
    let source = prop_oneof![
        value().prop_map(|value| Action { value: Some(value), ..Action::default() }),
        any_key().prop_map(|key| Action { from_attribute: key, ..Action::default() }),
        context.prop_map(|path| Action { from_context: path.into(), ..Action::default() }),
    ];
    let name = prop_oneof![Just("insert"), Just("Update"), Just("UPSERT")];
    let sets = (name, any_key(), source, proptest::option::weighted(0.3, value()))
        .prop_map(|(name, key, source, default_value)| Action { action: name.into(), key, default_value, ..source });
    let key = prop_oneof![any_key(), Just(String::new())];
    let pattern = prop_oneof![Just(""), Just("user"), Just("^a$"), Just("[.]id$"), Just("[^a-z.]")];
    let by_pattern = (prop_oneof![Just("delete"), Just("hash")], key, pattern)
        .prop_filter("needs one", |(_, key, pattern)| !key.is_empty() || !pattern.is_empty())
        .prop_map(|(name, key, pattern)| Action { pattern: pattern.into(), ..action(name, &key) });
    let groups =
        prop_oneof![Just("^(?P<a>[a-z]+):(?P<b>[0-9]+)$"), Just("(?P<user>x)?(?P<rest>[a-z]+)"), Just("^(?P<b>.*)$"),];
    let extracts =
        (any_key(), groups).prop_map(|(key, groups)| Action { pattern: groups.into(), ..action("extract", &key) });
    let target = prop_oneof![Just("int"), Just("double"), Just("string")];
    let converts = (any_key(), target)
        .prop_map(|(key, target)| Action { converted_type: target.into(), ..action("convert", &key) });
    prop_oneof![3 => sets, 2 => by_pattern, 1 => extracts, 1 => converts]
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn actions_do_what_a_naive_map_does(
        actions in proptest::collection::vec(any_action(), 1..5),
        attributes in proptest::collection::vec(any_pair(), 0..7),
    ) {
        let mut expected = attributes.clone();
        actions.iter().for_each(|action| model::run(action, &mut expected));
        prop_assert_eq!(run(actions, attributes), expected);
    }
}

#[test]
fn hashes_are_those_of_the_collector() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let one = "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";
    for (value, expected) in [
        (text("abc"), abc),
        (text(""), ""),
        (kind(Kind::BoolValue(true)), one),
        (kind(Kind::BytesValue(b"abc".to_vec())), ""),
        (ProtoValue::default(), ""),
    ] {
        assert_eq!(run(vec![action("hash", "k")], vec![pair("k", value)]), [pair("k", text(expected))]);
    }
}

#[test]
fn conversions_keep_what_they_cannot_convert() {
    let int = |value| kind(Kind::IntValue(value));
    let double = |value| kind(Kind::DoubleValue(value));
    for (from, target, to) in [
        (text("42"), "int", int(42)),
        (text("-9223372036854775808"), "int", int(i64::MIN)),
        (text("9223372036854775808"), "int", text("9223372036854775808")),
        (text("4.2"), "int", text("4.2")),
        (double(-4.9), "int", int(-4)),
        (kind(Kind::BoolValue(true)), "int", int(1)),
        (text("4.5e3"), "double", double(4500.0)),
        (text("1e999"), "double", text("1e999")),
        (text("inf"), "double", double(f64::INFINITY)),
        (int(7), "double", double(7.0)),
        (int(7), "string", text("7")),
        (double(1e21), "string", text("1e+21")),
        (kind(Kind::BoolValue(false)), "string", text("false")),
        (kind(Kind::BytesValue(b"f".to_vec())), "string", text("Zg==")),
        (kind(Kind::BytesValue(b"f".to_vec())), "int", kind(Kind::BytesValue(b"f".to_vec()))),
    ] {
        let convert = Action { converted_type: target.into(), ..action("convert", "k") };
        assert_eq!(run(vec![convert], vec![pair("k", from)]), [pair("k", to)]);
    }
}

#[test]
fn data_points_of_every_kind_and_log_records_are_items() {
    use metrics::metric::Data;
    let attributes = || vec![pair("k", text("v"))];
    let metric =
        |data| metrics::Metric { name: "m".into(), metadata: attributes(), data: Some(data), ..Default::default() };
    let number = || vec![metrics::NumberDataPoint { attributes: attributes(), ..Default::default() }];
    let all = vec![
        metric(Data::Gauge(metrics::Gauge { data_points: number() })),
        metric(Data::Sum(metrics::Sum { data_points: number(), ..Default::default() })),
        metric(Data::Histogram(metrics::Histogram {
            data_points: vec![metrics::HistogramDataPoint { attributes: attributes(), ..Default::default() }],
            ..Default::default()
        })),
        metric(Data::ExponentialHistogram(metrics::ExponentialHistogram {
            data_points: vec![metrics::ExponentialHistogramDataPoint {
                attributes: attributes(),
                ..Default::default()
            }],
            ..Default::default()
        })),
        metric(Data::Summary(metrics::Summary {
            data_points: vec![metrics::SummaryDataPoint { attributes: attributes(), ..Default::default() }],
        })),
    ];
    let scope_metrics = vec![metrics::ScopeMetrics { metrics: all, ..Default::default() }];
    let resource_metrics = vec![metrics::ResourceMetrics { scope_metrics, ..Default::default() }];
    let points = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let log_records = vec![LogRecord { attributes: attributes(), ..Default::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
    let logs = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    for (signal, body, items) in [(Signal::Metrics, points, 5), (Signal::Logs, logs, 1)] {
        let config = Config { actions: vec![action("delete", "k")], ..Config::default() };
        let batch = apply(config, signal, body.into(), Context::default());
        let mut seen = 0;
        for_each_item(signal, batch.body(), |_, _, item: ItemView<'_>| {
            assert_eq!(item.attributes().count(), 0);
            seen += 1;
        });
        assert_eq!(seen, items);
        if signal == Signal::Metrics {
            let request = ExportMetricsServiceRequest::decode(batch.body().clone()).unwrap();
            let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
            assert!(metrics.iter().all(|metric| metric.metadata.len() == 1));
        }
    }
}

fn strict(change: impl FnOnce(&mut Match)) -> Match {
    let mut of = Match { match_type: Some(MatchType::Strict), ..Match::default() };
    change(&mut of);
    of
}

fn regexp(change: impl FnOnce(&mut Match)) -> Match {
    Match { match_type: Some(MatchType::Regexp), ..strict(change) }
}

fn attribute(key: &str, value: Option<Value>) -> Attribute {
    Attribute { key: key.into(), value }
}

/// Whether each of three spans was touched.
fn touched(include: Option<Match>, exclude: Option<Match>) -> String {
    let span = |name: &str, kind, attributes| Span { name: name.into(), kind, attributes, ..Default::default() };
    let body = spans(
        vec![pair("service.name", text("shop")), pair("n", kind(Kind::IntValue(5)))],
        vec![
            span("get /cart", 3, vec![pair("d", kind(Kind::DoubleValue(0.5)))]),
            span("put", 2, vec![pair("b", kind(Kind::BoolValue(true))), pair("s", text("täglich"))]),
            span("", 99, Vec::new()),
        ],
    );
    let config = Config { actions: vec![with_value("upsert", "t", Value::bool(true))], include, exclude };
    let batch = apply(config, Signal::Traces, body, Context::default());
    let mut touched = String::new();
    for_each_item(Signal::Traces, batch.body(), |_, _, item| {
        let seen = item.attributes().any(|pair: KeyValueView<'_>| pair.key() == "t");
        touched.push(if seen { '1' } else { '0' });
    });
    touched
}

#[test]
fn spans_are_matched_by_every_criterion() {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let library = |name: &str, version: Option<&str>| Library { name: name.into(), version: version.map(String::from) };
    for (of, expected) in [
        (strict(|of| of.services = list(&["other", "shop"])), "111"),
        (strict(|of| of.services = list(&["sho"])), "000"),
        (regexp(|of| of.services = list(&["sho"])), "111"),
        (strict(|of| of.span_names = list(&["put"])), "010"),
        (regexp(|of| of.span_names = list(&["^$", "/c"])), "101"),
        (strict(|of| of.span_kinds = list(&["SPAN_KIND_CLIENT"])), "100"),
        (regexp(|of| of.span_kinds = list(&["^SPAN_KIND_(SERVER|CLIENT)$"])), "110"),
        (regexp(|of| of.span_kinds = list(&["^$"])), "001"),
        (strict(|of| of.attributes = vec![attribute("d", None)]), "100"),
        (strict(|of| of.attributes = vec![attribute("d", Some(Value::double(0.5)))]), "100"),
        (strict(|of| of.attributes = vec![attribute("d", Some(Value::string("0.5")))]), "000"),
        (regexp(|of| of.attributes = vec![attribute("d", Some(Value::string("^0.5$")))]), "100"),
        (
            regexp(|of| {
                of.attributes =
                    vec![attribute("b", Some(Value::string("true"))), attribute("s", Some(Value::string("ä")))];
            }),
            "010",
        ),
        (strict(|of| of.resources = vec![attribute("n", Some(Value::int(5)))]), "111"),
        (strict(|of| of.resources = vec![attribute("n", Some(Value::int(6)))]), "000"),
        (strict(|of| of.libraries = vec![library("lib", None)]), "111"),
        (strict(|of| of.libraries = vec![library("x", None), library("lib", Some("1.2"))]), "111"),
        (strict(|of| of.libraries = vec![library("lib", Some(""))]), "000"),
        (
            strict(|of| {
                of.services = list(&["shop"]);
                of.span_names = list(&["put", "get /cart"]);
                of.attributes = vec![attribute("s", None)];
            }),
            "010",
        ),
    ] {
        assert_eq!(touched(Some(of.clone()), None), expected, "include {of:?}");
        let inverse: String = expected.chars().map(|touched| if touched == '1' { '0' } else { '1' }).collect();
        assert_eq!(touched(None, Some(of.clone())), inverse, "exclude {of:?}");
    }
    let (include, exclude) =
        (regexp(|of| of.span_names = list(&["u", "g"])), strict(|of| of.span_kinds = list(&["SPAN_KIND_SERVER"])));
    assert_eq!(touched(Some(include), Some(exclude)), "100");
}

#[test]
fn matching_sees_what_earlier_processors_changed() {
    let tag = |key: &str, include| {
        let actions = vec![with_value("upsert", key, Value::bool(true))];
        Attributes::new(Config { actions, include, exclude: None }, Signal::Traces).unwrap()
    };
    let mut pass = Pass::default();
    for step in [
        tag("early", Some(strict(|of| of.attributes = vec![attribute("first", None)]))),
        tag("first", None),
        tag("late", Some(strict(|of| of.attributes = vec![attribute("first", None)]))),
    ] {
        pass.join(step.as_any().unwrap().downcast_ref().unwrap());
    }
    let body = spans(Vec::new(), vec![Span::default()]);
    let batch = pass.apply(Batch::trusted(Signal::Traces, ItemCount(1), body)).unwrap().unwrap();
    let mut keys = Vec::new();
    for_each_item(Signal::Traces, batch.body(), |_, _, item| {
        keys.extend(item.attributes().map(|pair| pair.key().to_owned()));
    });
    assert_eq!(keys, ["first", "late"]);
}

#[test]
fn log_records_are_matched_by_body_and_severity() {
    let record = |body: Option<ProtoValue>, severity_number, severity_text: &str| LogRecord {
        body,
        severity_number,
        severity_text: severity_text.into(),
        ..Default::default()
    };
    let log_records = vec![
        record(Some(text("started")), 9, "INFO"),
        record(Some(kind(Kind::IntValue(17))), 17, "ERROR"),
        record(None, 0, ""),
    ];
    let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
    let body: Bytes =
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] }
            .encode_to_vec()
            .into();
    let number = |min, match_undefined| Some(SeverityNumberMatch { min, match_undefined });
    for (of, expected) in [
        (strict(|of| of.log_bodies = vec!["started".into()]), "100"),
        (regexp(|of| of.log_bodies = vec!["^1".into(), "^$".into()]), "011"),
        (strict(|of| of.log_severity_texts = vec!["ERROR".into()]), "010"),
        (strict(|of| of.log_severity_number = number(10, false)), "010"),
        (strict(|of| of.log_severity_number = number(9, true)), "111"),
        (strict(|of| of.log_severity_number = number(24, true)), "001"),
    ] {
        let actions = vec![with_value("insert", "t", Value::int(1))];
        let config = Config { actions, include: Some(of.clone()), exclude: None };
        let batch = apply(config, Signal::Logs, body.clone(), Context::default());
        let mut touched = String::new();
        for_each_item(Signal::Logs, batch.body(), |_, _, item| {
            touched.push(if item.attributes().count() > 0 { '1' } else { '0' });
        });
        assert_eq!(touched, expected, "{of:?}");
    }
}

#[test]
fn metrics_are_matched_by_name_and_resource_only() {
    let gauge = |name: &str| metrics::Metric {
        name: name.into(),
        data: Some(metrics::metric::Data::Gauge(metrics::Gauge { data_points: vec![Default::default(); 2] })),
        ..Default::default()
    };
    let scope_metrics = vec![metrics::ScopeMetrics { metrics: vec![gauge("a"), gauge("b")], ..Default::default() }];
    let resource = Some(Resource { attributes: vec![pair("r", text("x"))], ..Default::default() });
    let resource_metrics = vec![metrics::ResourceMetrics { resource, scope_metrics, ..Default::default() }];
    let body: Bytes = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into();
    let names = |name: &str| strict(|of| of.metric_names = vec![name.into()]);
    let resources = |value: &str| strict(|of| of.resources = vec![attribute("r", Some(Value::string(value)))]);
    let nothing_for_metrics = || strict(|of| of.attributes = vec![attribute("nothing", None)]);
    for (include, exclude, expected) in [
        (Some(names("a")), None, "1100"),
        (None, Some(names("a")), "0011"),
        (Some(resources("x")), None, "1111"),
        (Some(resources("y")), None, "0000"),
        (None, Some(resources("x")), "0000"),
        (None, Some(resources("y")), "1111"),
        (Some(resources("x")), Some(names("b")), "1100"),
        (Some(nothing_for_metrics()), Some(nothing_for_metrics()), "1111"),
    ] {
        let actions = vec![with_value("insert", "t", Value::int(1))];
        let config = Config { actions, include: include.clone(), exclude: exclude.clone() };
        let batch = apply(config, Signal::Metrics, body.clone(), Context::default());
        let mut touched = String::new();
        for_each_item(Signal::Metrics, batch.body(), |_, _, item| {
            touched.push(if item.attributes().count() > 0 { '1' } else { '0' });
        });
        assert_eq!(touched, expected, "{include:?} {exclude:?}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let pattern = |kind: &str, pattern: &str| Action { pattern: pattern.into(), ..action(kind, "k") };
    let both = Action { from_attribute: "x".into(), ..with_value("upsert", "k", Value::int(1)) };
    let keyed = |change: fn(&mut Action)| {
        let mut action = with_value("insert", "k", Value::int(1));
        change(&mut action);
        action
    };
    for (bad, key) in [
        (action("frobnicate", "k"), "action"),
        (action("", "k"), "action"),
        (action("insert", ""), "key"),
        (action("delete", ""), "key"),
        (action("insert", "k"), "value"),
        (both, "value"),
        (keyed(|action| action.pattern = "x".into()), "pattern"),
        (keyed(|action| action.converted_type = "int".into()), "converted_type"),
        (with_value("delete", "k", Value::int(1)), "value"),
        (Action { from_attribute: "x".into(), ..action("hash", "k") }, "from_attribute"),
        (pattern("delete", "("), "pattern"),
        (pattern("extract", ""), "pattern"),
        (pattern("extract", "no groups"), "pattern"),
        (pattern("extract", "(?P<a>x)(y)"), "pattern"),
        (Action { from_context: "x".into(), ..pattern("extract", "(?P<a>x)") }, "from_context"),
        (action("convert", "k"), "converted_type"),
        (Action { converted_type: "bool".into(), ..action("convert", "k") }, "converted_type"),
    ] {
        let config = Config { actions: vec![action("delete", "fine"), bad.clone()], ..Config::default() };
        assert_eq!(config.check().unwrap_err().key, format!("actions[1].{key}"), "{bad:?}");
    }
    assert_eq!(Config::default().check().unwrap_err().key, "actions");
    let alone = Action { default_value: Some(Value::int(1)), ..action("insert", "k") };
    assert_eq!(run(vec![alone], Vec::new()), [pair("k", kind(Kind::IntValue(1)))]);
}

#[test]
fn matches_that_cannot_be_used_are_named() {
    let names = vec!["x".to_owned()];
    for (of, signal, key) in [
        (Match::default(), Signal::Traces, "include.match_type"),
        (strict(|_| {}), Signal::Traces, "include"),
        (strict(|_| {}), Signal::Logs, "include"),
        (strict(|of| of.log_bodies = names.clone()), Signal::Traces, "include.log_bodies"),
        (strict(|of| of.services = names.clone()), Signal::Logs, "include.services"),
        (strict(|of| of.span_kinds = names.clone()), Signal::Traces, "include.span_kinds"),
        (regexp(|of| of.span_names = vec!["(".into()]), Signal::Traces, "include.span_names"),
        (strict(|of| of.attributes = vec![attribute("", None)]), Signal::Traces, "include.attributes[0].key"),
        (
            regexp(|of| of.resources = vec![attribute("k", Some(Value::int(1)))]),
            Signal::Logs,
            "include.resources[0].value",
        ),
    ] {
        let config = Config { actions: vec![action("delete", "k")], include: Some(of.clone()), exclude: None };
        assert_eq!(Attributes::new(config, signal).unwrap_err().key, key, "{of:?}");
    }
}
