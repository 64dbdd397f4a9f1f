//! A server on plain threads, instrumented: a span for each request, a child span for the work in it, a log record for
//! what went wrong, and the time of each request as a histogram.
//!
//! Run it beside a collector, `otlpd` for one, and ask it something:
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example threaded_server &
//! curl http://localhost:8080/orders/7
//! ```
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use otlp_export::client::{Kind, OtlpClient, Severity, SpanContext};

/// Milliseconds.
const BOUNDS: &[f64] = &[1.0, 5.0, 25.0, 100.0, 500.0];

#[allow(dead_code, reason = "the test calls serve")]
fn main() -> Result<(), Box<dyn Error>> {
    let client = OtlpClient::from_env(|name| std::env::var(name).ok()).service("orders").build()?;
    let listener = TcpListener::bind("127.0.0.1:8080")?;
    println!("listening on {}", listener.local_addr()?);
    serve(&listener, &client, usize::MAX)
}

/// Answers as many requests as that, each in a thread of its own.
pub(crate) fn serve(listener: &TcpListener, client: &OtlpClient, requests: usize) -> Result<(), Box<dyn Error>> {
    std::thread::scope(|scope| {
        for stream in listener.incoming().take(requests) {
            // A clone is a pointer; every thread may have one.
            let client = client.clone();
            scope.spawn(move || stream.map(|stream| answer(stream, &client)));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, client: &OtlpClient) -> std::io::Result<()> {
    let begun = Instant::now();
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    let mut parent = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        // The caller's span, where it sends one: ours becomes its child, in the same trace.
        if let Some(header) = line.strip_prefix("traceparent: ") {
            parent = SpanContext::from_traceparent(header);
        }
    }
    let path = line.split(' ').nth(1).unwrap_or("/");

    let mut span = client.send_trace("GET /orders/{id}").with_kind(Kind::Server).with_attribute("url.path", path);
    if let Some(parent) = parent {
        span = span.with_parent(parent);
    }
    let status = match find(path, client, span.context()) {
        Some(order) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{order}", order.len())?;
            200
        }
        None => {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            404
        }
    };
    span = span.with_numeric_attribute("http.response.status_code", status);
    if status == 404 {
        client
            .send_log("no such order")
            .with_severity(Severity::Warn)
            .with_span(span.context())
            .with_attribute("url.path", path)
            .finish();
    }
    span.finish();
    let taken = begun.elapsed().as_secs_f64() * 1000.0;
    client
        .send_histogram("http.server.request.duration", BOUNDS, &[taken])
        .with_unit("ms")
        .with_numeric_attribute("http.response.status_code", status)
        .finish();
    Ok(())
}

fn find(path: &str, client: &OtlpClient, parent: SpanContext) -> Option<String> {
    let span = client.send_trace("find").with_parent(parent);
    std::thread::sleep(Duration::from_millis(1));
    let order = path.strip_prefix("/orders/")?.parse::<u32>().ok()?;
    span.with_numeric_attribute("order", order).finish();
    Some(format!("order {order}"))
}
