//! What recording a span costs the thread that records it: ours in queued mode, our bridge behind opentelemetry_sdk, and
//! opentelemetry_sdk with its batch processor and the exporter of opentelemetry-otlp, in the same run.
//!
//! All record one span with five attributes and send to something that says yes: ours a socket on the loopback, theirs a
//! stub of an HTTP client, which costs nothing. All have the specification's limits and record in bursts that fit into
//! the queue, which is emptied between them outside of what is timed: none is measured dropping. After criterion's
//! part two threads record at once and what each single span took goes into an HDR histogram.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use otlp_export::client::OtlpClient;
use otlp_export::sdk::Bridge;

/// Fits into a queue of 2048, and into what is left of it while a request of 512 is on its way.
const BURST: u64 = 1024;

const LONG: Duration = Duration::from_secs(10);

/// Says yes to every request, as far as this client can tell.
fn sink() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback is there");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let (mut buffer, mut bytes) = (vec![0; 1 << 16], Vec::new());
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    bytes.extend_from_slice(&buffer[..count]);
                    while let Some(length) = request_length(&bytes).filter(|length| bytes.len() >= *length) {
                        bytes.drain(..length);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    url
}

fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    Some(head + length.trim().parse::<usize>().ok()?)
}

#[derive(Debug)]
struct Yes;

#[async_trait::async_trait]
impl HttpClient for Yes {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        black_box(request);
        Ok(http::Response::new(Bytes::new()))
    }
}

fn ours() -> OtlpClient {
    OtlpClient::builder().endpoint(sink()).service("bench").build().expect("the settings are right")
}

fn theirs() -> (SdkTracerProvider, SdkTracer) {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Yes)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint("http://127.0.0.1:4318/v1/traces")
        .build()
        .expect("the settings are right");
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let tracer = provider.tracer("bench");
    (provider, tracer)
}

/// The SDK's spans, our processor.
fn bridged() -> (SdkTracerProvider, SdkTracer) {
    let bridge = Bridge::new(Bridge::builder().endpoint(sink())).expect("the settings are right");
    let provider = SdkTracerProvider::builder().with_span_processor(bridge.span_processor()).build();
    let tracer = provider.tracer("bench");
    (provider, tracer)
}

fn record_ours(client: &OtlpClient) {
    client
        .send_trace("operation")
        .with_attribute("http.request.method", "GET")
        .with_attribute("url.path", "/api/v1/orders/4711")
        .with_attribute("http.response.status_code", 200)
        .with_attribute("duration", 0.25)
        .with_attribute("cached", true)
        .finish();
}

fn record_theirs(tracer: &SdkTracer) {
    let mut span = tracer.start("operation");
    span.set_attribute(KeyValue::new("http.request.method", "GET"));
    span.set_attribute(KeyValue::new("url.path", "/api/v1/orders/4711"));
    span.set_attribute(KeyValue::new("http.response.status_code", 200));
    span.set_attribute(KeyValue::new("duration", 0.25));
    span.set_attribute(KeyValue::new("cached", true));
    span.end();
}

/// The time of `count` records, in bursts, without the flushes between.
fn timed(count: u64, record: impl Fn(), flush: impl Fn()) -> Duration {
    let (mut left, mut total) = (count, Duration::ZERO);
    while left > 0 {
        let burst = left.min(BURST);
        let begun = Instant::now();
        (0..burst).for_each(|_| record());
        total += begun.elapsed();
        flush();
        left -= burst;
    }
    total
}

fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(1));
    let client = ours();
    let flush = || drop(client.flush(LONG).expect("nothing was lost"));
    group.bench_function("otlpd", |bencher| bencher.iter_custom(|count| timed(count, || record_ours(&client), flush)));
    for (name, (provider, tracer)) in [("bridge", bridged()), ("sdk", theirs())] {
        let flush = || provider.force_flush().expect("nothing was lost");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| timed(count, || record_theirs(&tracer), flush));
        });
    }
    group.finish();
}

fn two_threads(_: &mut Criterion) {
    let client = ours();
    print("otlpd", &both(&|| record_ours(&client), &|| drop(client.flush(LONG))));
    for (name, (provider, tracer)) in [("bridge", bridged()), ("sdk", theirs())] {
        print(name, &both(&|| record_theirs(&tracer), &|| drop(provider.force_flush())));
    }
}

/// Two threads at once, each span timed; bursts that fit into the queue together.
fn both(record: &(dyn Fn() + Sync), flush: &(dyn Fn() + Sync)) -> Histogram<u64> {
    let mut all = Histogram::new(3).expect("three digits");
    let barrier = Arc::new(std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                scope.spawn(move || {
                    let mut taken = Histogram::<u64>::new(3).expect("three digits");
                    for _ in 0..400 {
                        barrier.wait();
                        for _ in 0..BURST / 2 {
                            let begun = Instant::now();
                            record();
                            taken.saturating_record(begun.elapsed().as_nanos() as u64);
                        }
                        if barrier.wait().is_leader() {
                            flush();
                        }
                    }
                    taken
                })
            })
            .collect();
        for thread in threads {
            all.add(thread.join().expect("it does not panic")).expect("the same digits");
        }
    });
    all
}

fn print(name: &str, taken: &Histogram<u64>) {
    let at = |percentile| taken.value_at_percentile(percentile);
    println!(
        "record/two-threads/{name}: {} spans, ns each: p50 {} p90 {} p99 {} p99.9 {} max {}",
        taken.len(),
        at(50.0),
        at(90.0),
        at(99.0),
        at(99.9),
        taken.max()
    );
}

criterion_group!(benches, record, two_threads);
criterion_main!(benches);
