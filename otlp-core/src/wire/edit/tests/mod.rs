//! Every edit against prost's decode, change, encode; and what prost cannot show: unknown fields and untouched bytes.

mod generate;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue as ProtoValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use self::generate::{KEYS, Random, UNKNOWN, odd, request, value};
use super::*;

#[derive(Clone, Debug)]
enum Edit {
    Insert(&'static str, Value),
    Update(&'static str, Value),
    Upsert(&'static str, Value),
    SetString(&'static str, String),
    Delete(&'static str),
    DeleteAll(usize),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str),
}

impl Edit {
    fn random(random: &mut Random) -> Edit {
        let key = random.pick(&KEYS);
        match random.below(8) {
            0 => Edit::Insert(key, Value::of(&value(random, 2))),
            1 => Edit::Update(key, Value::of(&value(random, 2))),
            2 => Edit::Upsert(key, Value::of(&value(random, 2))),
            3 => Edit::SetString(key, "gesetzt".repeat(random.below(30))),
            4 => Edit::Delete(key),
            5 => Edit::DeleteAll(random.below(4)),
            6 => Edit::Rename(key, random.pick(&KEYS)),
            _ => Edit::Copy(key, random.pick(&KEYS)),
        }
    }

    fn on_wire(&self, list: &mut AttributeList<'_>) {
        match self {
            Edit::Insert(key, value) => drop(list.insert(key, value)),
            Edit::Update(key, value) => drop(list.update(key, value)),
            Edit::Upsert(key, value) => list.upsert(key, value),
            Edit::SetString(key, value) => match list.find(key) {
                Some(slot) => list.set_string(slot, value),
                None => drop(list.append_string(key, value)),
            },
            Edit::Delete(key) => drop(list.delete(key)),
            Edit::DeleteAll(len) => {
                for slot in list.find_all(|key| key.len() == *len) {
                    list.remove(slot);
                }
            }
            Edit::Rename(from, to) => {
                if let Some(slot) = list.find(from) {
                    list.rename(slot, to);
                }
            }
            Edit::Copy(from, to) => {
                if let Some(source) = list.find(from) {
                    match list.find(to) {
                        Some(slot) => list.set_from(slot, source),
                        None => drop(list.append_from(to, source)),
                    }
                }
            }
        }
    }

    fn on_proto(&self, list: &mut Vec<KeyValue>) {
        let find = |list: &[KeyValue], key: &str| list.iter().position(|pair| pair.key == key);
        let new = |key: &str, value: &ProtoValue| KeyValue {
            key: key.into(),
            value: Some(value.clone()),
            ..Default::default()
        };
        match self {
            Edit::Insert(key, value) => {
                if find(list, key).is_none() {
                    list.push(new(key, &value.proto()));
                }
            }
            Edit::Update(key, value) => {
                if let Some(at) = find(list, key) {
                    list[at].value = Some(value.proto());
                }
            }
            Edit::Upsert(key, value) => match find(list, key) {
                Some(at) => list[at].value = Some(value.proto()),
                None => list.push(new(key, &value.proto())),
            },
            Edit::SetString(key, value) => Edit::Upsert(key, Value::string(value)).on_proto(list),
            Edit::Delete(key) => {
                if let Some(at) = find(list, key) {
                    list.remove(at);
                }
            }
            Edit::DeleteAll(len) => list.retain(|pair| pair.key.len() != *len),
            Edit::Rename(from, to) => {
                if let Some(at) = find(list, from) {
                    list[at].key = (*to).into();
                }
            }
            Edit::Copy(from, to) => {
                if let Some(source) = find(list, from) {
                    let value = list[source].value.clone().unwrap_or_default();
                    match find(list, to) {
                        Some(at) => list[at].value = Some(value),
                        None => list.push(new(to, &value)),
                    }
                }
            }
        }
    }
}

impl Value {
    fn of(value: &ProtoValue) -> Value {
        Value(value.encode_to_vec())
    }

    fn proto(&self) -> ProtoValue {
        ProtoValue::decode(self.as_bytes()).unwrap()
    }
}

/// Edits for each level, applied on the wire or to prost's messages.
#[derive(Debug)]
struct Script {
    resource: Vec<Edit>,
    scope: Vec<Edit>,
    item: Vec<Edit>,
}

impl Script {
    fn random(random: &mut Random) -> Script {
        let mut some = |percent: usize| match random.chance(percent) {
            true => (0..1 + random.below(4)).map(|_| Edit::random(random)).collect(),
            false => Vec::new(),
        };
        Script { resource: some(40), scope: some(40), item: some(80) }
    }

    fn attributes(edits: &[Edit], list: &mut Vec<KeyValue>) {
        edits.iter().for_each(|edit| edit.on_proto(list));
    }

    fn envelope(&self, resource: &mut Option<Resource>) {
        let absent = resource.is_none();
        let message = resource.get_or_insert_default();
        Script::attributes(&self.resource, &mut message.attributes);
        if absent && message.attributes.is_empty() {
            *resource = None;
        }
    }

    fn scope(&self, scope: &mut Option<InstrumentationScope>) {
        let absent = scope.is_none();
        let message = scope.get_or_insert_default();
        Script::attributes(&self.scope, &mut message.attributes);
        if absent && message.attributes.is_empty() {
            *scope = None;
        }
    }

    /// Decode, change, encode.
    fn by_prost(&self, signal: Signal, body: &[u8]) -> Vec<u8> {
        match signal {
            Signal::Traces => {
                let mut request = ExportTraceServiceRequest::decode(body).unwrap();
                for envelope in &mut request.resource_spans {
                    self.envelope(&mut envelope.resource);
                    for scope in &mut envelope.scope_spans {
                        self.scope(&mut scope.scope);
                        scope.spans.iter_mut().for_each(|span| Script::attributes(&self.item, &mut span.attributes));
                    }
                }
                request.encode_to_vec()
            }
            Signal::Logs => {
                let mut request = ExportLogsServiceRequest::decode(body).unwrap();
                for envelope in &mut request.resource_logs {
                    self.envelope(&mut envelope.resource);
                    for scope in &mut envelope.scope_logs {
                        self.scope(&mut scope.scope);
                        for record in &mut scope.log_records {
                            Script::attributes(&self.item, &mut record.attributes);
                        }
                    }
                }
                request.encode_to_vec()
            }
            Signal::Metrics => {
                let mut request = ExportMetricsServiceRequest::decode(body).unwrap();
                for envelope in &mut request.resource_metrics {
                    self.envelope(&mut envelope.resource);
                    for scope in &mut envelope.scope_metrics {
                        self.scope(&mut scope.scope);
                        for metric in &mut scope.metrics {
                            points(metric.data.as_mut(), |attributes| Script::attributes(&self.item, attributes));
                        }
                    }
                }
                request.encode_to_vec()
            }
        }
    }
}

fn points(data: Option<&mut Data>, mut each: impl FnMut(&mut Vec<KeyValue>)) {
    match data {
        None => {}
        Some(Data::Gauge(data)) => data.data_points.iter_mut().for_each(|point| each(&mut point.attributes)),
        Some(Data::Sum(data)) => data.data_points.iter_mut().for_each(|point| each(&mut point.attributes)),
        Some(Data::Histogram(data)) => data.data_points.iter_mut().for_each(|point| each(&mut point.attributes)),
        Some(Data::ExponentialHistogram(data)) => {
            data.data_points.iter_mut().for_each(|point| each(&mut point.attributes));
        }
        Some(Data::Summary(data)) => data.data_points.iter_mut().for_each(|point| each(&mut point.attributes)),
    }
}

impl Editor for Script {
    fn resource(&mut self, _: ResourceItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        self.resource.iter().for_each(|edit| edit.on_wire(attributes));
        true
    }

    fn scope(&mut self, _: ScopeItemsView<'_>, attributes: &mut AttributeList<'_>) -> bool {
        self.scope.iter().for_each(|edit| edit.on_wire(attributes));
        !self.item.is_empty()
    }

    fn item(&mut self, _: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        self.item.iter().for_each(|edit| edit.on_wire(attributes));
    }
}

/// Decoded and encoded again by prost: what two requests that mean the same have in common.
fn canonical(signal: Signal, body: &[u8]) -> Vec<u8> {
    let nothing = Script { resource: Vec::new(), scope: Vec::new(), item: Vec::new() };
    nothing.by_prost(signal, body)
}

fn unknown_fields(body: &[u8]) -> usize {
    body.windows(UNKNOWN.len()).filter(|window| *window == UNKNOWN).count()
}

fn cases(default: u64) -> u64 {
    std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

#[test]
fn every_edit_is_decode_change_encode() {
    for seed in 0..cases(20_000) {
        let mut random = Random(seed);
        let signal = Signal::ALL[(seed % 3) as usize];
        let mut body = request(&mut random, signal);
        if random.chance(50) {
            let odd = odd(&mut random, signal, &body);
            assert_eq!(canonical(signal, &odd), canonical(signal, &body), "seed {seed}: the generator errs");
            body = odd;
        }
        let mut script = Script::random(&mut random);
        let expected = script.by_prost(signal, &body);
        match edit(signal, &body, &mut script) {
            None => assert_eq!(canonical(signal, &body), expected, "seed {seed}: {script:?}"),
            Some(edited) => {
                assert_eq!(canonical(signal, &edited), expected, "seed {seed}: {script:?}");
                // The same script on what it made gives what prost gives for it.
                let again = script.by_prost(signal, &edited);
                let twice = edit(signal, &edited, &mut script).unwrap_or(edited);
                assert_eq!(canonical(signal, &twice), again, "seed {seed}: {script:?}");
            }
        }
    }
}

#[test]
fn unknown_fields_survive_unless_their_attribute_is_removed() {
    let mut seen = 0;
    for seed in 0..cases(2_000) {
        let mut random = Random(seed);
        let signal = Signal::ALL[(seed % 3) as usize];
        let body = request(&mut random, signal);
        let body = odd(&mut random, signal, &body);
        let (key, other) = (random.pick(&KEYS), random.pick(&KEYS));
        let edits = || vec![Edit::Rename(key, other), Edit::Insert("new", Value::int(1))];
        let mut script = Script { resource: edits(), scope: edits(), item: edits() };
        if let Some(edited) = edit(signal, &body, &mut script) {
            assert_eq!(unknown_fields(&edited), unknown_fields(&body), "seed {seed}");
            seen += unknown_fields(&body);
        }
    }
    assert!(seen > 1_000, "only {seen} unknown fields were seen");
}

#[test]
fn lengths_change_width_at_every_level() {
    // One attribute grows byte by byte through the widths of one, two and three bytes of every length around it.
    for signal in Signal::ALL {
        let mut random = Random(3);
        let body = loop {
            let body = request(&mut random, signal);
            let mut items = 0;
            crate::wire::view::for_each_item(signal, &body, |_, _, _| items += 1);
            if items > 0 && body.len() < 600 {
                break body;
            }
        };
        let all = |value: &Value| vec![Edit::Upsert("a", value.clone())];
        for len in (0..600).chain(15_500..16_600) {
            let value = Value::string(&"y".repeat(len));
            let mut script = Script { resource: all(&value), scope: all(&value), item: all(&value) };
            let edited = edit(signal, &body, &mut script).unwrap();
            assert_eq!(canonical(signal, &edited), script.by_prost(signal, &body), "{signal} {len}");
            // And back again.
            let short = Value::int(1);
            let mut script = Script { resource: all(&short), scope: all(&short), item: all(&short) };
            let back = edit(signal, &edited, &mut script).unwrap();
            assert_eq!(canonical(signal, &back), script.by_prost(signal, &body), "{signal} {len}");
        }
    }
}

#[test]
fn nothing_to_change_keeps_the_bytes_and_the_compressed_form() {
    let mut random = Random(1);
    for seed in 0..100 {
        let signal = Signal::ALL[seed % 3];
        let body = Bytes::from(request(&mut random, signal));
        let encoded = crate::batch::Encoded { coding: crate::codec::Coding::Gzip, body: Bytes::from_static(b"zip") };
        let batch = Batch::trusted(signal, crate::ItemCount(1), body.clone()).with_encoded(encoded);
        let edits = || vec![Edit::Update("not there", Value::int(1)), Edit::Delete("not there")];
        let mut script = Script { resource: edits(), scope: edits(), item: edits() };
        let batch = edit_batch(batch, &mut script);
        assert_eq!(batch.body().as_ptr(), body.as_ptr());
        assert!(batch.encoded().is_some());
    }
}

#[test]
fn a_value_that_is_there_already_is_no_change() {
    let mut script = Script {
        resource: vec![Edit::Upsert("a", Value::string("x"))],
        scope: vec![Edit::Upsert("b", Value::kvlist([("k", Value::bool(false)), ("l", Value::bytes(b"\xff"))]))],
        item: vec![Edit::Upsert("c", Value::array([Value::double(0.0), Value::default()]))],
    };
    let mut random = Random(5);
    let body = loop {
        let body = request(&mut random, Signal::Traces);
        if let Some(edited) = edit(Signal::Traces, &body, &mut script) {
            break edited;
        }
    };
    assert!(edit(Signal::Traces, &body, &mut script).is_none());
}

#[test]
fn nothing_below_is_seen_where_the_editor_says_so() {
    struct Count(usize, bool, bool);
    impl Editor for Count {
        fn resource(&mut self, _: ResourceItemsView<'_>, _: &mut AttributeList<'_>) -> bool {
            self.1
        }
        fn scope(&mut self, _: ScopeItemsView<'_>, _: &mut AttributeList<'_>) -> bool {
            self.2
        }
        fn item(&mut self, _: ItemView<'_>, _: &mut AttributeList<'_>) {
            self.0 += 1;
        }
    }
    let mut random = Random(9);
    let (mut all, mut expected) = (Count(0, true, true), 0);
    for seed in 0..60 {
        let signal = Signal::ALL[seed % 3];
        let body = request(&mut random, signal);
        crate::wire::view::for_each_item(signal, &body, |_, _, _| expected += 1);
        assert!(edit(signal, &body, &mut all).is_none());
        for (resource, scope) in [(false, true), (true, false)] {
            let mut none = Count(0, resource, scope);
            assert!(edit(signal, &body, &mut none).is_none());
            assert_eq!(none.0, 0);
        }
    }
    assert_eq!(all.0, expected);
    assert!(expected > 0);
}

#[test]
fn broken_bytes_never_panic() {
    let mut random = Random(11);
    for seed in 0..300 {
        let signal = Signal::ALL[seed % 3];
        let mut body = request(&mut random, signal);
        body.truncate(random.below(body.len() + 1));
        for _ in 0..random.below(4) {
            if !body.is_empty() {
                let at = random.below(body.len());
                body[at] = random.next() as u8;
            }
        }
        let mut script = Script::random(&mut random);
        let _ = edit(signal, &body, &mut script);
    }
}
