//! The examples, run against a server that reads what they send.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use otlp_core::Signal;
use otlp_export::client::{OtlpClient, SpanContext};
use prost::Message;

use crate::server::{Seen, Server};

#[path = "../../examples/command.rs"]
mod command;
#[path = "../../examples/rayon_job.rs"]
mod rayon_job;
#[cfg(feature = "sdk")]
#[path = "../../examples/replace_opentelemetry_otlp.rs"]
mod replace_opentelemetry_otlp;
#[path = "../../examples/threaded_server.rs"]
mod threaded_server;

mod link_it {
    include!("../../examples/link_it.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

const LONG: Duration = Duration::from_secs(60);

/// A client as the examples make it, for a server.
fn client(server: &Server) -> OtlpClient {
    let url = server.url();
    OtlpClient::from_env(|name| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| url.clone())).build().unwrap()
}

fn spans(seen: &[Seen]) -> Vec<Span> {
    let traces = seen.iter().filter(|seen| seen.line.contains("/v1/traces"));
    let bodies = traces.map(|seen| ExportTraceServiceRequest::decode(&seen.body[..]).unwrap());
    let scopes = bodies.flat_map(|body| body.resource_spans).flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

#[test]
#[ignore = "run by the next, in a process with an environment of its own"]
fn main_of_the_readme() {
    link_it::run();
}

#[test]
fn the_lines_of_the_readme_are_those_of_the_example_and_run() {
    let code = include_str!("../../examples/link_it.rs").split_once('\n').unwrap().1;
    // Not where the crate has been packed.
    if let Ok(readme) = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")) {
        assert!(readme.contains("## Link it\n") && readme.contains(code), "README.md has other lines");
    }
    let server = Server::start([]);
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "examples::main_of_the_readme", "--ignored"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", server.url())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let seen: Vec<_> = server.seen.try_iter().collect();
    let names: Vec<_> = spans(&seen).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["pay", "order"]);
    assert!(seen.iter().any(|seen| seen.line.contains("/v1/logs")));
}

#[test]
fn the_server_records_a_span_for_each_request_within_the_callers_trace() {
    let server = Server::start([]);
    let client = client(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let caller = SpanContext::from_traceparent("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| threaded_server::serve(&listener, &client, 2).unwrap());
        let ask = |path: &str, more: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\n{more}\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(ask("/orders/7", &format!("traceparent: {}\r\n", caller.to_traceparent())).ends_with("order 7"));
        assert!(ask("/nothing", "").starts_with("HTTP/1.1 404"));
    });
    client.shutdown(LONG).unwrap();
    let seen: Vec<_> = server.seen.try_iter().collect();
    let spans = spans(&seen);
    let found = spans.iter().find(|span| span.name == "find").unwrap();
    let request = spans.iter().find(|span| span.span_id == found.parent_span_id).unwrap();
    assert_eq!((&request.trace_id[..], &request.parent_span_id[..]), (&caller.trace_id.0[..], &caller.span_id.0[..]));
    assert_eq!((found.trace_id.as_slice(), spans.len()), (&request.trace_id[..], 3));
    let logs = seen.iter().find(|seen| seen.line.contains("/v1/logs")).unwrap();
    let logs = ExportLogsServiceRequest::decode(&logs.body[..]).unwrap();
    let span_id = &logs.resource_logs[0].scope_logs[0].log_records[0].span_id;
    assert!(spans.iter().any(|span| span.span_id == *span_id && span.trace_id != caller.trace_id.0));
    assert!(seen.iter().any(|seen| seen.line.contains("/v1/metrics")));
}

#[test]
fn the_command_has_sent_everything_when_it_ends() {
    let server = Server::start([]);
    let client = client(&server);
    let files = [concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "/does/not/exist"];
    let code = command::run(&client, files.into_iter().map(str::to_owned));
    assert_eq!(code, std::process::ExitCode::FAILURE);
    assert_eq!(client.shutdown(LONG).unwrap().delivered.get(), 3);
    let spans = spans(&server.seen.try_iter().collect::<Vec<_>>());
    assert_eq!(spans.iter().filter(|span| span.status.as_ref().is_some_and(|status| status.code == 2)).count(), 1);
    let root = spans.iter().find(|span| span.name == "count").unwrap();
    assert!(spans.iter().all(|span| span.trace_id == root.trace_id));
}

#[test]
fn the_job_counts_and_its_books_balance() {
    let server = Server::start([]);
    let client = client(&server);
    assert_eq!(rayon_job::run(&client, 10_000, 500), 1229);
    client.shutdown(LONG).unwrap();
    let stats = client.stats();
    assert_eq!(stats.of(Signal::Traces).delivered.get(), 21);
    assert_eq!(stats.of(Signal::Metrics).delivered.get(), 61);
}

#[cfg(feature = "sdk")]
#[test]
fn a_program_with_the_sdk_is_moved_to_the_bridge() {
    let server = Server::start([]);
    let url = server.url();
    let look_up = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| url.clone());
    let providers = replace_opentelemetry_otlp::providers(look_up).unwrap();
    replace_opentelemetry_otlp::work(&providers);
    assert!(replace_opentelemetry_otlp::shutdown(&providers));
    let seen: Vec<_> = server.seen.try_iter().collect();
    let spans = spans(&seen);
    let order = spans.iter().find(|span| span.name == "order").unwrap();
    assert!(spans.iter().any(|span| span.name == "pay" && span.parent_span_id == order.span_id));
    let logs = seen.iter().find(|seen| seen.line.contains("/v1/logs")).unwrap();
    let logs = ExportLogsServiceRequest::decode(&logs.body[..]).unwrap();
    assert_eq!(logs.resource_logs[0].scope_logs[0].log_records[0].span_id, order.span_id);
    assert!(seen.iter().any(|seen| seen.line.contains("/v1/metrics")));
}
