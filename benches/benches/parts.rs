//! What stands between the kernels: content codings, and the hand-off at a gate.
//!
//! Codings on one request of 512 spans, out and back in, with the buffers kept as the program keeps them. The hand-off
//! once on one thread, which is what a gate itself costs, and once to another thread that takes all the time, which adds
//! the channel's traffic between cores. Prost has no part in this; the requests are those of the `wire` bench.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otlp_core::codec::{Coding, decode_into, encode};
use otlp_core::flow::gate::{Capacity, Weight, gate};
use otlp_core::shutdown::Deadline;
use otlp_core::testing::generate;
use otlp_core::{ByteSize, Signal};

const SPANS: usize = 512;

fn codings(criterion: &mut Criterion) {
    let body = generate::request(Signal::Traces, 1, SPANS);
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(SPANS as u64));
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Snappy, Coding::Lz4] {
        let mut encoded = Vec::new();
        group.bench_function(format!("{}/out", coding.as_str()), |bencher| {
            bencher.iter(|| {
                encoded.clear();
                encode(coding, None, &[black_box(&body[..])], &mut encoded).expect("the default level is there");
            });
        });
        encoded.clear();
        encode(coding, None, &[&body], &mut encoded).expect("the default level is there");
        let mut decoded = Vec::new();
        group.bench_function(format!("{}/in", coding.as_str()), |bencher| {
            bencher.iter(|| {
                let limit = ByteSize::mib(64);
                decode_into(coding, black_box(&encoded), limit, &mut decoded, &mut |_| Ok(()))
                    .expect("it was just encoded");
            });
        });
    }
    group.finish();
}

fn hand_off(criterion: &mut Criterion) {
    let body = generate::request(Signal::Traces, 1, SPANS);
    let weight = Weight { requests: 1, items: SPANS as u64, bytes: body.len() as u64 };
    let capacity = Capacity { requests: Some(64), ..Capacity::default() };
    let mut group = criterion.benchmark_group("gate");
    group.throughput(Throughput::Elements(1));

    group.bench_function("one-thread", |bencher| {
        let (outlet, inlet) = gate::<Bytes>(capacity);
        bencher.iter(|| {
            outlet.offer(body.clone(), weight).expect("there is room");
            black_box(inlet.try_recv().expect("it was just offered").item)
        });
    });

    group.bench_function("two-threads", |bencher| {
        bencher.iter_custom(|count| {
            let (outlet, inlet) = gate::<Bytes>(capacity);
            let body = &body;
            std::thread::scope(move |scope| {
                scope.spawn(move || while inlet.recv_deadline(Deadline::NEVER).is_ok() {});
                // Dropped in here: the other thread ends, and with it the scope, when nobody can send any more.
                let outlet = outlet;
                let begun = Instant::now();
                for _ in 0..count {
                    let permit = outlet.reserve_deadline(weight, Deadline::NEVER).expect("the other thread takes");
                    outlet.send(body.clone(), permit).expect("the other thread takes");
                }
                begun.elapsed()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, codings, hand_off);
criterion_main!(benches);
