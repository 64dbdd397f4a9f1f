//! OTLP/JSON against serde_json with opentelemetry-proto's types, on the same requests in the same run.
//!
//! Both sides start and end with bytes: reading is JSON to protobuf, for the peer by way of its types and prost's encode;
//! writing is what comes out as JSON, for the peer from types that are there already, so that it is spared the decode.
//! Before anything is measured, our reading of what the peer wrote is compared with what the peer had.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_core::testing::generate;
use otlp_core::{Signal, json};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

const ITEMS: usize = 512;

fn ours(signal: Signal, protobuf: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(signal, protobuf, &mut out);
    out
}

fn bench<R: Message + Default + Serialize + DeserializeOwned>(c: &mut Criterion, signal: Signal) {
    let mut group = c.benchmark_group(format!("json/{}", signal.as_str()));
    group.throughput(Throughput::Elements(ITEMS as u64));
    // About 8192 items in all, so that they do not stay in the core's own cache.
    let requests: Vec<Bytes> = (0..16).map(|seed| generate::request(signal, seed, ITEMS)).collect();
    let typed: Vec<R> = requests.iter().map(|bytes| R::decode(bytes.clone()).expect("valid")).collect();
    let documents: Vec<Vec<u8>> = requests.iter().map(|bytes| ours(signal, bytes)).collect();
    for (request, document) in typed.iter().zip(&documents) {
        let peers = serde_json::to_vec(request).expect("types can be written");
        let protobuf = json::decode(signal, &peers, &json::Limits::default()).expect("the peer's JSON is OTLP");
        assert_eq!(R::decode(&*protobuf).expect("valid").encode_to_vec(), request.encode_to_vec());
        let protobuf = json::decode(signal, document, &json::Limits::default()).expect("our JSON is OTLP");
        assert_eq!(R::decode(&*protobuf).expect("valid").encode_to_vec(), request.encode_to_vec());
    }
    println!("json/{}: {} bytes an item", signal.as_str(), documents[0].len() / ITEMS);
    let mut next = 0;
    let mut turn = || {
        next = (next + 1) % requests.len();
        next
    };
    group.bench_function("read/ours", |b| {
        b.iter(|| json::decode(signal, black_box(&documents[turn()]), &json::Limits::default()));
    });
    group.bench_function("read/serde_json and prost", |b| {
        b.iter(|| {
            let request: R = serde_json::from_slice(black_box(&documents[turn()])).expect("OTLP");
            request.encode_to_vec()
        });
    });
    group.bench_function("write/ours", |b| b.iter(|| ours(signal, black_box(&requests[turn()]))));
    group.bench_function("write/serde_json", |b| {
        b.iter(|| serde_json::to_vec(black_box(&typed[turn()])).expect("types can be written"));
    });
    group.finish();
}

fn all(c: &mut Criterion) {
    bench::<ExportTraceServiceRequest>(c, Signal::Traces);
    bench::<ExportMetricsServiceRequest>(c, Signal::Metrics);
    bench::<ExportLogsServiceRequest>(c, Signal::Logs);
}

criterion_group!(benches, all);
criterion_main!(benches);
