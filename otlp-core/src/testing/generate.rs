//! Seeded OTLP requests, as an instrumented shop would send them.
//!
//! | item       | bytes each at 512 a request | what is in it                                                        |
//! |------------|-----------------------------|----------------------------------------------------------------------|
//! | span       | about 458                   | 8 to 10 attributes, one in five with an event, one in four with a status |
//! | log record | about 297                   | body of about 75 bytes, 4 attributes, ids                            |
//! | data point | about 268                   | sums, 15-bucket histograms, 40-bucket exponential histograms, 4 attributes |
//!
//! Each request has one resource of 8 attributes; traces of 20 spans or more have 1 to 3 scopes.
//! The bytes are what an encoder in field order writes. [`in_collector_order`] puts them as the Collector sends them; odd
//! shapes are made by [`ugly`].

mod collector;
mod ugly;

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::batch::Batch;
use crate::signal::Signal;
use crate::unit::ItemCount;
use crate::wire::reader::{FIXED32, FIXED64};
use crate::wire::writer::{begin, end, put_delimited, put_tag, put_varint_field};

use super::random::Random;

pub use collector::in_collector_order;
pub use ugly::ugly;

/// The time at which all data begins, in nanoseconds since the epoch.
pub const BEGIN_UNIX_NANO: u64 = 1_760_000_000_000_000_000;

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.34.0";

const ROUTES: [&str; 8] = [
    "/api/v1/products/{id}",
    "/api/v1/cart",
    "/api/v1/checkout/{orderId}/confirm",
    "/healthz",
    "/api/v2/users/{userId}/orders",
    "/api/v1/search",
    "/login",
    "/api/v1/recommendations",
];

const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// A realistic request with that many items; the same arguments always give the same bytes.
///
/// With no items it is the empty request: no bytes.
pub fn request(signal: Signal, seed: u64, items: usize) -> Bytes {
    request_at(signal, seed, items, BEGIN_UNIX_NANO)
}

/// The same with data that begins at another time, for who looks at it in a backend.
pub fn request_at(signal: Signal, seed: u64, items: usize, begin_unix_nano: u64) -> Bytes {
    let mut out = Vec::with_capacity(items * 470 + 1024);
    if items == 0 {
        return Bytes::new();
    }
    let mut random = Source { random: Random::new(seed ^ (signal.index() as u64) << 56), begin_unix_nano };
    message(&mut out, 1, items * 470, |out| {
        resource(out, &mut random);
        match signal {
            Signal::Traces => traces(out, &mut random, items),
            Signal::Metrics => metrics(out, &mut random, items),
            Signal::Logs => logs(out, &mut random, items),
        }
        put_delimited(out, 3, SCHEMA_URL.as_bytes());
    });
    out.into()
}

/// The same as a batch that nobody waits for.
pub fn batch(signal: Signal, seed: u64, items: usize) -> Batch {
    Batch::trusted(signal, ItemCount::from(items), request(signal, seed, items))
}

/// What values are drawn from.
struct Source {
    random: Random,
    begin_unix_nano: u64,
}

impl Deref for Source {
    type Target = Random;

    fn deref(&self) -> &Random {
        &self.random
    }
}

impl DerefMut for Source {
    fn deref_mut(&mut self) -> &mut Random {
        &mut self.random
    }
}

fn message(out: &mut Vec<u8>, field: u32, expected_len: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let open = begin(out, field, expected_len);
    body(out);
    end(out, open);
}

fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    if !value.is_empty() {
        put_delimited(out, field, value.as_bytes());
    }
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64(out, field, value.to_bits());
}

fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    put_tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Attributes of one message, which has them in `field`.
struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    field: u32,
}

impl Attributes<'_> {
    fn text(&mut self, key: &str, value: &str) -> &mut Self {
        message(self.out, self.field, 64, |out| {
            put_delimited(out, 1, key.as_bytes());
            message(out, 2, 64, |out| put_delimited(out, 1, value.as_bytes()));
        });
        self
    }

    fn int(&mut self, key: &str, value: u64) -> &mut Self {
        message(self.out, self.field, 64, |out| {
            put_delimited(out, 1, key.as_bytes());
            message(out, 2, 8, |out| {
                put_tag(out, 3, crate::wire::reader::VARINT);
                crate::wire::writer::put_varint(out, value);
            });
        });
        self
    }
}

fn resource(out: &mut Vec<u8>, random: &mut Source) {
    let service = random.pick(&["checkout", "cart", "frontend", "payment", "recommendation", "shipping"]);
    message(out, 1, 400, |out| {
        Attributes { out, field: 1 }
            .text("service.name", service)
            .text("service.namespace", "shop")
            .text("service.version", &format!("1.{}.{}", random.below(20), random.below(10)))
            .text("service.instance.id", &format!("{:016x}-{:08x}", random.bits(), random.bits() as u32))
            .text(
                "host.name",
                &format!("ip-10-0-{}-{}.eu-west-1.compute.internal", random.below(255), random.below(255)),
            )
            .text("k8s.pod.name", &format!("{service}-{:x}-{:05x}", random.below(1 << 36), random.below(1 << 20)))
            .text("telemetry.sdk.language", random.pick(&["java", "go", "python", "nodejs"]))
            .text("telemetry.sdk.version", "1.49.0");
    });
}

fn scope(out: &mut Vec<u8>, random: &mut Source) {
    let name = random.pick(&[
        "io.opentelemetry.tomcat-10.0",
        "io.opentelemetry.jdbc",
        "io.opentelemetry.kafka-clients-2.6",
        "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
        "@opentelemetry/instrumentation-http",
    ]);
    message(out, 1, 64, |out| {
        text(out, 1, name);
        text(out, 2, "2.14.0-alpha");
    });
}

fn method(random: &mut Source) -> &'static str {
    match random.below(20) {
        0..13 => "GET",
        13..17 => "POST",
        17 => "PUT",
        18 => "PATCH",
        _ => "DELETE",
    }
}

fn route(random: &mut Source) -> &'static str {
    ROUTES[random.index(ROUTES.len())]
}

fn traces(out: &mut Vec<u8>, random: &mut Source, items: usize) {
    let scopes = if items < 20 { 1 } else { 1 + random.index(3) };
    let each = items.div_ceil(scopes);
    let mut trace_id: [u8; 16] = random.bytes();
    let mut left = items;
    while left > 0 {
        let count = left.min(each);
        left -= count;
        message(out, 2, count * 460, |out| {
            scope(out, random);
            for _ in 0..count {
                if random.once_in(8) {
                    trace_id = random.bytes();
                }
                message(out, 2, 460, |out| span(out, random, &trace_id));
            }
            put_delimited(out, 3, SCHEMA_URL.as_bytes());
        });
    }
}

fn span(out: &mut Vec<u8>, random: &mut Source, trace_id: &[u8; 16]) {
    let of = random.below(6);
    let begin_nano = random.begin_unix_nano + random.below(10_000_000_000);
    // Exponential with a mean of 40 ms, so that about 5 % last longer than 120 ms.
    let duration = (-(1.0 - random.unit()).ln() * 40e6) as u64;
    put_delimited(out, 1, trace_id);
    put_delimited(out, 2, &random.bytes::<8>());
    if !random.once_in(5) {
        put_delimited(out, 4, &random.bytes::<8>());
    }
    match of {
        0 | 1 => text(out, 5, &format!("{} {}", method(random), route(random))),
        2 | 3 => text(out, 5, "GET"),
        4 => text(out, 5, "SELECT orders"),
        _ => text(out, 5, "shop.v1.RecommendationService/ListRecommendations"),
    }
    put_varint_field(out, 6, if of < 2 { 2 } else { 3 });
    fixed64(out, 7, begin_nano);
    fixed64(out, 8, begin_nano + duration);
    span_attributes(out, random, of);
    if random.once_in(5) {
        message(out, 11, 150, |out| {
            fixed64(out, 1, begin_nano + duration / 2);
            text(out, 2, "exception");
            Attributes { out, field: 3 }
                .text("exception.type", "java.net.SocketTimeoutException")
                .text("exception.message", "Read timed out")
                .text("event.detail", "retry=1 backoff=200ms");
        });
    }
    if random.once_in(4) {
        message(out, 15, 4, |out| put_varint_field(out, 3, if random.once_in(3) { 2 } else { 1 }));
    }
    fixed32(out, 16, 0x101);
}

fn span_attributes(out: &mut Vec<u8>, random: &mut Source, of: u64) {
    let status =
        [200, 200, 200, 200, 200, 200, 201, 204, 302, 400, 404, 404, 500, 503].map(|code: u64| code)[random.index(14)];
    let mut attributes = Attributes { out, field: 9 };
    match of {
        0 | 1 => {
            let route = route(random);
            let path = route.replace("{id}", &random.below(100_000).to_string());
            attributes
                .text("http.request.method", method(random))
                .text("url.scheme", "https")
                .text("url.path", &path)
                .text("http.route", route)
                .text("server.address", "shop.example.com")
                .int("server.port", 443)
                .text("client.address", &format!("203.0.113.{}", random.below(255)))
                .text(
                    "user_agent.original",
                    random.pick(&[
                        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 \
                         Safari/537.36",
                        "curl/8.5.0",
                        "okhttp/4.12.0",
                        "Go-http-client/2.0",
                    ]),
                )
                .text("network.protocol.version", "1.1")
                .int("http.response.status_code", status);
        }
        2 | 3 => {
            let service = random.pick(&["cart", "inventory", "payment"]);
            attributes
                .text("http.request.method", method(random))
                .text(
                    "url.full",
                    &format!(
                        "https://{service}.shop.svc.cluster.local:8443/api/v1/items/{}?currency=EUR&limit=50",
                        random.below(1_000_000)
                    ),
                )
                .text("server.address", &format!("{service}.shop.svc.cluster.local"))
                .int("server.port", 8443)
                .int("http.response.status_code", status)
                .text("network.protocol.version", "2")
                .int("thread.id", random.below(200))
                .text("thread.name", &format!("http-nio-8080-exec-{}", random.below(64)));
        }
        4 => {
            attributes
                .text("db.system.name", "postgresql")
                .text("db.namespace", "orders")
                .text("db.operation.name", random.pick(&["SELECT", "INSERT", "UPDATE"]))
                .text("db.collection.name", random.pick(&["orders", "order_items", "customers"]))
                .text(
                    "db.query.text",
                    "SELECT o.id, o.status, o.total FROM orders o WHERE o.customer_id = ? AND o.created_at > ? ORDER \
                     BY o.created_at DESC LIMIT ?",
                )
                .text("server.address", "pg-primary.db.svc.cluster.local")
                .int("server.port", 5432)
                .int("thread.id", random.below(200))
                .text("thread.name", &format!("http-nio-8080-exec-{}", random.below(64)));
        }
        _ => {
            attributes
                .text("rpc.system", "grpc")
                .text("rpc.service", "shop.v1.RecommendationService")
                .text("rpc.method", random.pick(&["ListRecommendations", "GetProduct", "GetQuote"]))
                .int("rpc.grpc.status_code", 0)
                .text("server.address", "recommendation.shop.svc.cluster.local")
                .int("server.port", 9090)
                .text("network.peer.address", &format!("10.0.{}.{}", random.below(255), random.below(255)))
                .int("network.peer.port", 30_000 + random.below(30_000));
        }
    }
}

fn logs(out: &mut Vec<u8>, random: &mut Source, items: usize) {
    message(out, 2, items * 300, |out| {
        scope(out, random);
        for _ in 0..items {
            message(out, 2, 300, |out| log_record(out, random));
        }
    });
}

fn log_record(out: &mut Vec<u8>, random: &mut Source) {
    let time_nano = random.begin_unix_nano + random.below(10_000_000_000);
    let (number, name) =
        [(9, "INFO"), (9, "INFO"), (9, "INFO"), (5, "DEBUG"), (13, "WARN"), (17, "ERROR")][random.index(6)];
    let body = match random.below(3) {
        0 => format!(
            "Processed order {} for customer {} in {} ms, items={}, total={}.{:02} EUR",
            random.below(10_000_000),
            random.below(100_000),
            random.below(500),
            random.below(20),
            random.below(900),
            random.below(100)
        ),
        1 => format!(
            "GET /api/v1/products/{} 200 {}ms \"Mozilla/5.0\" 10.0.{}.{}",
            random.below(100_000),
            random.below(300),
            random.below(255),
            random.below(255)
        ),
        _ => format!(
            "connection pool stats: active={}, idle={}, waiting={}, max=50",
            random.below(50),
            random.below(50),
            random.below(10)
        ),
    };
    fixed64(out, 1, time_nano);
    put_varint_field(out, 2, number);
    text(out, 3, name);
    message(out, 5, 80, |out| put_delimited(out, 1, body.as_bytes()));
    Attributes { out: &mut *out, field: 6 }
        .text("code.function.name", "com.example.shop.OrderService.process")
        .text("log.file.name", "application.log")
        .text("thread.name", &format!("http-nio-8080-exec-{}", random.below(64)))
        .int("code.line.number", random.below(900));
    fixed32(out, 8, 1);
    put_delimited(out, 9, &random.bytes::<16>());
    put_delimited(out, 10, &random.bytes::<8>());
    fixed64(out, 11, time_nano + 1000);
}

fn metrics(out: &mut Vec<u8>, random: &mut Source, items: usize) {
    message(out, 2, items * 270, |out| {
        scope(out, random);
        let mut left = items;
        let mut number = 0;
        while left > 0 {
            let points = left.min(8);
            left -= points;
            message(out, 2, points * 250, |out| metric(out, random, number, points));
            number += 1;
        }
    });
}

fn metric(out: &mut Vec<u8>, random: &mut Source, number: usize, points: usize) {
    text(out, 1, &format!("http.server.request.metric_{number}"));
    text(out, 2, "Duration of HTTP server requests.");
    text(out, 3, "s");
    let field = [7, 7, 9, 10][number % 4];
    message(out, field, points * 200, |out| {
        for _ in 0..points {
            message(out, 1, 200, |out| match number % 4 {
                0 => number_point(out, random, true),
                1 => number_point(out, random, false),
                2 => histogram_point(out, random),
                _ => exponential_point(out, random),
            });
        }
        put_varint_field(out, 2, if number % 4 == 3 { 1 } else { 2 });
        if number % 4 < 2 {
            put_varint_field(out, 3, 1);
        }
    });
}

fn point_times(out: &mut Vec<u8>, random: &Source) {
    fixed64(out, 2, random.begin_unix_nano);
    fixed64(out, 3, random.begin_unix_nano + 60_000_000_000);
}

fn point_attributes(out: &mut Vec<u8>, random: &mut Source, field: u32) {
    Attributes { out, field }
        .text("http.request.method", method(random))
        .text("http.route", route(random))
        .int("http.response.status_code", 200 + random.below(4) * 100)
        .text("server.address", "shop.example.com");
}

fn number_point(out: &mut Vec<u8>, random: &mut Source, int: bool) {
    point_times(out, random);
    if int {
        fixed64(out, 6, random.below(1 << 30));
        point_attributes(out, random, 7);
    } else {
        double(out, 4, random.unit() * 1e6);
        point_attributes(out, random, 7);
    }
}

fn histogram_point(out: &mut Vec<u8>, random: &mut Source) {
    point_times(out, random);
    fixed64(out, 4, random.below(10_000));
    double(out, 5, random.unit() * 1e4);
    message(out, 6, 120, |out| {
        for _ in 0..15 {
            out.extend_from_slice(&random.below(1000).to_le_bytes());
        }
    });
    message(out, 7, 112, |out| {
        for bound in BOUNDS {
            out.extend_from_slice(&bound.to_le_bytes());
        }
    });
    point_attributes(out, random, 9);
    double(out, 11, 0.001);
    double(out, 12, 9.0);
}

fn exponential_point(out: &mut Vec<u8>, random: &mut Source) {
    point_attributes(out, random, 1);
    point_times(out, random);
    fixed64(out, 4, random.below(10_000));
    double(out, 5, random.unit() * 1e4);
    put_varint_field(out, 6, 6);
    message(out, 8, 60, |out| {
        put_varint_field(out, 1, 23);
        message(out, 2, 50, |out| {
            for _ in 0..40 {
                crate::wire::writer::put_varint(out, random.below(200));
            }
        });
    });
    double(out, 12, 0.001);
    double(out, 13, 9.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    fn again(signal: Signal, body: &[u8]) -> Vec<u8> {
        match signal {
            Signal::Traces => ExportTraceServiceRequest::decode(body).unwrap().encode_to_vec(),
            Signal::Metrics => ExportMetricsServiceRequest::decode(body).unwrap().encode_to_vec(),
            Signal::Logs => ExportLogsServiceRequest::decode(body).unwrap().encode_to_vec(),
        }
    }

    #[test]
    fn requests_are_what_prost_would_write_and_of_realistic_size() {
        for signal in Signal::ALL {
            for items in [0, 1, 10, 100, 512] {
                let body = request(signal, 5, items);
                assert_eq!(again(signal, &body), body, "{signal} {items}");
            }
            let each = request(signal, 5, 512).len() / 512;
            let expected = [440..480, 250..290, 280..320][signal.index()].clone();
            assert!(expected.contains(&each), "{signal}: {each} bytes an item");
        }
    }
}
