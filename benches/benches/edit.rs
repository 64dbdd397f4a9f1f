//! Attribute edits on a request of 512 spans, against prost's decode, change, encode in the same run.
//!
//! `upsert/wire` and `three/wire` run the processors as a pipeline does; `three` is an upsert, a delete and a SHA-256 in one
//! fused pass, and its values repeat ten times a request but in `all-distinct`. A request is validated once, when it is received; `validate-and-wire` has that in it, as prost's decode has.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Kind};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span};
use otlp_core::component::Transform;
use otlp_core::wire::edit::Value;
use otlp_core::wire::{Limits, validate};
use otlp_core::{Batch, ItemCount, Signal};
use otlp_process::attributes::{Action, Attributes, Config};
use otlp_process::chain::Prefix;
use otlp_process::resource::{self, Resource};
use prost::Message;
use sha2::{Digest, Sha256};

const SPANS: u64 = 512;
const UPSERTED: &str = "deployment.environment.name";
const DELETED: &str = "network.protocol.version";
const HASHED: &str = "server.address";

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = Some(AnyValue { value: Some(Kind::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Kind::IntValue(value)) }), ..Default::default() }
}

/// Spans of about 460 bytes: nine attributes, every fifth with an event.
/// `servers` is how many addresses there are to hash.
fn request(servers: u64) -> Bytes {
    let span = |index: u64| {
        let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let event = span::Event {
            time_unix_nano: mixed,
            name: "exception".into(),
            attributes: vec![text("exception.type", "io.timeout"), text("exception.message", "deadline exceeded")],
            ..Default::default()
        };
        Span {
            trace_id: u128::from(mixed).to_be_bytes().to_vec(),
            span_id: mixed.to_be_bytes().to_vec(),
            parent_span_id: index.to_be_bytes().to_vec(),
            name: format!("GET /api/v1/items/{}", index % 20),
            kind: 2,
            start_time_unix_nano: 1_767_225_600_000_000_000 + index,
            end_time_unix_nano: 1_767_225_600_010_000_000 + mixed % 1_000_000,
            attributes: vec![
                text("http.request.method", "GET"),
                text("url.path", format!("/api/v1/items/{}", index % 20)),
                number("http.response.status_code", 200),
                text(HASHED, format!("node-{}.example.net", index % servers)),
                number("server.port", 8443),
                text("network.protocol.name", "http"),
                text(DELETED, "1.1"),
                text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0"),
                text("thread.name", format!("worker-{}", index % 16)),
            ],
            events: if index.is_multiple_of(5) { vec![event] } else { Vec::new() },
            flags: 0x101,
            ..Default::default()
        }
    };
    let resource = ProtoResource {
        attributes: (0..8).map(|index| text(&format!("resource.attribute.{index}"), "value of it")).collect(),
        ..Default::default()
    };
    let scope = InstrumentationScope { name: "io.example.http".into(), version: "2.1.0".into(), ..Default::default() };
    let scope_spans =
        vec![ScopeSpans { scope: Some(scope), spans: (0..SPANS).map(span).collect(), ..Default::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

fn action(action: &str, key: &str) -> Action {
    let value = (action == "upsert").then(|| Value::string("production"));
    Action { action: action.into(), key: key.into(), value, ..Action::default() }
}

fn attributes(action: Action) -> Arc<dyn Transform> {
    let config = Config { actions: vec![action], ..Config::default() };
    Arc::new(Attributes::new(config, Signal::Traces).expect("the configuration is good"))
}

fn by_prost(body: &Bytes, change: impl Fn(&mut Vec<KeyValue>)) -> Vec<u8> {
    let mut request = ExportTraceServiceRequest::decode(body.clone()).expect("the request is good");
    for scope in request.resource_spans.iter_mut().flat_map(|envelope| &mut envelope.scope_spans) {
        scope.spans.iter_mut().for_each(|span| change(&mut span.attributes));
    }
    request.encode_to_vec()
}

fn upsert(list: &mut Vec<KeyValue>) {
    match list.iter_mut().find(|pair| pair.key == UPSERTED) {
        Some(pair) => *pair = text(UPSERTED, "production"),
        None => list.push(text(UPSERTED, "production")),
    }
}

/// By a table with one allocation, so that prost's side does not pay for formatting.
fn hex(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

fn edits(criterion: &mut Criterion) {
    let body = request(50);
    let distinct = request(SPANS);
    let batch = |body: &Bytes| Batch::trusted(Signal::Traces, ItemCount(SPANS), body.clone());
    let run =
        |prefix: &Prefix, body: &Bytes| prefix.apply(batch(body)).expect("nothing refuses").map(|left| left.items());
    let mut group = criterion.benchmark_group("edit");
    group.throughput(Throughput::Elements(SPANS));

    group.bench_function("none/prost", |bencher| bencher.iter(|| by_prost(black_box(&body), |_| {})));
    group.bench_function("upsert/prost", |bencher| bencher.iter(|| by_prost(black_box(&body), upsert)));
    group.bench_function("three/prost", |bencher| {
        bencher.iter(|| {
            by_prost(black_box(&body), |list| {
                upsert(list);
                list.retain(|pair| pair.key != DELETED);
                for pair in list.iter_mut().filter(|pair| pair.key == HASHED) {
                    if let Some(AnyValue { value: Some(Kind::StringValue(value)) }) = &mut pair.value {
                        *value = hex(&Sha256::digest(value.as_bytes()));
                    }
                }
            })
        });
    });

    let one = Prefix::new(vec![attributes(action("upsert", UPSERTED))]);
    let three = Prefix::new(vec![
        attributes(action("upsert", UPSERTED)),
        attributes(action("delete", DELETED)),
        attributes(action("hash", HASHED)),
    ]);
    let nothing = Prefix::new(vec![attributes(action("delete", "not.there"))]);
    let config = resource::Config { attributes: vec![action("upsert", UPSERTED)] };
    let resource = Prefix::new(vec![Arc::new(Resource::new(config).expect("the configuration is good"))]);
    for (name, prefix) in
        [("upsert", &one), ("three", &three), ("nothing_to_change", &nothing), ("resource", &resource)]
    {
        group.bench_function(format!("{name}/wire"), |bencher| bencher.iter(|| run(prefix, black_box(&body))));
        group.bench_function(format!("{name}/validate-and-wire"), |bencher| {
            bencher.iter(|| {
                validate(Signal::Traces, black_box(&body), &Limits::default()).expect("the request is good");
                run(prefix, &body)
            });
        });
    }
    group.bench_function("three/validate-and-wire/all-distinct", |bencher| {
        bencher.iter(|| {
            validate(Signal::Traces, black_box(&distinct), &Limits::default()).expect("the request is good");
            run(&three, &distinct)
        });
    });
    group.finish();
}

criterion_group!(benches, edits);
criterion_main!(benches);
