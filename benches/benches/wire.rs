//! Wire operations against prost's decode, change, encode, on the same requests in the same run.
//!
//! Each size cycles through requests of about 8192 items in all, so that they come from the shared cache and not from
//! the core's own. Results are per request; `items/s` is criterion's throughput.

use std::hint::black_box;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_core::testing::generate;
use otlp_core::wire::{Limits, PartLimit, retain, split, validate, view, walk};
use otlp_core::{Batch, Group, ItemCount, Signal};
use prost::Message;

const SIZES: [usize; 3] = [10, 512, 4096];

/// Requests to take in turn.
struct Requests {
    bodies: Vec<Bytes>,
    next: usize,
}

impl Requests {
    fn new(signal: Signal, items: usize) -> Requests {
        let count = (8192 / items).max(1) as u64;
        Requests { bodies: (0..count).map(|seed| generate::request(signal, seed, items)).collect(), next: 0 }
    }

    fn take(&mut self) -> &Bytes {
        self.next = (self.next + 1) % self.bodies.len();
        &self.bodies[self.next]
    }
}

/// Decodes, lets `change` have the message, and encodes.
fn with_prost<R: Message + Default>(body: &Bytes, change: impl FnOnce(&mut R)) -> Vec<u8> {
    let mut request = R::decode(body.clone()).expect("generated requests are valid");
    change(&mut request);
    request.encode_to_vec()
}

fn pass_through(signal: Signal, body: &Bytes) -> Vec<u8> {
    match signal {
        Signal::Traces => with_prost::<ExportTraceServiceRequest>(body, |_| ()),
        Signal::Metrics => with_prost::<ExportMetricsServiceRequest>(body, |_| ()),
        Signal::Logs => with_prost::<ExportLogsServiceRequest>(body, |_| ()),
    }
}

/// Whether an item is among the 5 % that last longer than 120 ms: the times of a span as the wire has them, found where
/// every encoder puts them.
fn is_long(span: &[u8]) -> bool {
    let mut times = [0u64; 2];
    let mut at = 0;
    while at < span.len() {
        let Ok((field, wire_type)) = otlp_core::wire::reader::tag(span, &mut at) else { break };
        if let 7 | 8 = field {
            times[field as usize - 7] = otlp_core::wire::reader::fixed64(span, &mut at).unwrap_or(0);
            if field == 8 {
                break;
            }
        } else if otlp_core::wire::reader::skip(span, &mut at, field, wire_type, 0).is_err() {
            break;
        }
    }
    times[1] - times[0] > 120_000_000
}

fn retain_long(request: &mut ExportTraceServiceRequest) {
    for resource in &mut request.resource_spans {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(|span| span.end_time_unix_nano - span.start_time_unix_nano > 120_000_000);
        }
        resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    request.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
}

/// Decodes and encodes in parts of that many spans.
fn split_with_prost(body: &Bytes, max: usize) -> Vec<Vec<u8>> {
    let request = ExportTraceServiceRequest::decode(body.clone()).expect("generated requests are valid");
    let mut parts = Vec::new();
    let mut part = ExportTraceServiceRequest::default();
    let mut held = 0;
    for mut resource in request.resource_spans {
        for mut scope in std::mem::take(&mut resource.scope_spans) {
            let mut spans = std::mem::take(&mut scope.spans);
            while !spans.is_empty() {
                let rest = spans.split_off(spans.len().min(max - held));
                held += spans.len();
                let mut around = resource.clone();
                let mut inside = scope.clone();
                inside.spans = std::mem::replace(&mut spans, rest);
                around.scope_spans.push(inside);
                part.resource_spans.push(around);
                if held == max {
                    parts.push(part.encode_to_vec());
                    part = ExportTraceServiceRequest::default();
                    held = 0;
                }
            }
        }
    }
    if held > 0 {
        parts.push(part.encode_to_vec());
    }
    parts
}

fn run(
    group: &mut BenchmarkGroup<'_, WallTime>,
    signal: Signal,
    items: usize,
    name: &str,
    mut operation: impl FnMut(&Bytes),
) {
    group.throughput(Throughput::Elements(items as u64));
    let mut requests = Requests::new(signal, items);
    group.bench_function(format!("{name}/{signal}/{items}"), |bencher| {
        bencher.iter(|| operation(black_box(requests.take())));
    });
}

fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    for items in SIZES {
        for signal in Signal::ALL {
            run(&mut group, signal, items, "wire", |body| {
                black_box(validate(signal, body, &Limits::default()).expect("generated requests are valid"));
            });
            run(&mut group, signal, items, "prost", |body| {
                black_box(pass_through(signal, body));
            });
        }
    }
    group.finish();
}

/// Requests whose fields stand as the Collector sends them, as the receiver takes them.
fn from_collector(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check");
    for items in SIZES {
        for signal in Signal::ALL {
            let check = |body: &Bytes| {
                black_box(
                    Batch::check(signal, body.clone(), &Limits::default()).expect("generated requests are valid"),
                );
            };
            run(&mut group, signal, items, "in-order", check);
            group.throughput(Throughput::Elements(items as u64));
            let mut requests = Requests::new(signal, items);
            for body in &mut requests.bodies {
                *body = generate::in_collector_order(signal, body);
            }
            group.bench_function(format!("from-collector/{signal}/{items}"), |bencher| {
                bencher.iter(|| check(black_box(requests.take())));
            });
        }
    }
    group.finish();
}

fn counting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    for signal in Signal::ALL {
        run(&mut group, signal, 512, "wire", |body| {
            let mut bytes = 0;
            walk(signal, body, |item| bytes += item.bytes.len());
            black_box(bytes);
        });
    }
    group.finish();
}

/// Every attribute of every item, by views.
fn viewing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("view");
    for signal in Signal::ALL {
        run(&mut group, signal, 512, "attributes", |body| {
            let mut attributes = 0;
            view::for_each_item(signal, body, |_, _, item| attributes += item.attributes().count());
            black_box(attributes);
        });
    }
    group.finish();
}

/// Four requests as one: a list of slices, as they are written, and in one piece, as they are compressed or stored.
fn joining(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join-4");
    let joined = |body: &Bytes| {
        let mut group = Group::new(Signal::Traces);
        (0..4).for_each(|_| group.push(Batch::trusted(Signal::Traces, ItemCount(512), body.clone())));
        group
    };
    run(&mut group, Signal::Traces, 512, "slices", |body| {
        black_box(joined(body).slices().map(|slice| slice.len()).sum::<usize>());
    });
    run(&mut group, Signal::Traces, 512, "one-piece", |body| {
        black_box(joined(body).joined());
    });
    group.finish();
}

fn filter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter");
    for items in SIZES {
        run(&mut group, Signal::Traces, items, "wire", |body| {
            black_box(retain(Signal::Traces, body, |item| is_long(item.bytes)));
        });
        run(&mut group, Signal::Traces, items, "validate-and-wire", |body| {
            validate(Signal::Traces, body, &Limits::default()).expect("generated requests are valid");
            black_box(retain(Signal::Traces, body, |item| is_long(item.bytes)));
        });
        run(&mut group, Signal::Traces, items, "prost", |body| {
            black_box(with_prost::<ExportTraceServiceRequest>(body, retain_long));
        });
    }
    group.finish();
}

fn splitting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split-in-4");
    for items in [512, 4096] {
        // The parts are freed before the next are made, so that the allocator has the memory still: with every result
        // kept, page faults cost ten times what splitting does.
        run(&mut group, Signal::Traces, items, "wire", |body| {
            let batch = Batch::trusted(Signal::Traces, ItemCount::from(items), body.clone());
            black_box(split(batch, PartLimit::items(ItemCount::from(items / 4))));
        });
        run(&mut group, Signal::Traces, items, "prost", |body| {
            black_box(split_with_prost(body, items / 4));
        });
    }
    group.finish();
}

criterion_group!(benches, validation, from_collector, counting, viewing, filter, splitting, joining);
criterion_main!(benches);
