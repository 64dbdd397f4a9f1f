//! What goes in comes out, once, to each destination, and the books balance.

use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::support::{Answer, Backend, Program, Sender, span_ids, traces, wait_until};

/// An otlp receiver on a free port, no metrics endpoint, and one traces pipeline.
pub(crate) fn config(processors: &str, exporters: &str, pipeline_processors: &str, pipeline_exporters: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{{processors}}}
exporters: {{{exporters}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [{pipeline_processors}], exporters: [{pipeline_exporters}]}}
"
    )
}

const RETRY: &str = "retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}";

#[test]
fn two_destinations_one_down_and_the_live_one_has_each_item_once() {
    let live = Backend::healthy();
    let config = config(
        "memory_limiter: {check_interval: 1s, limit_mib: 1000}, batch: {timeout: 20ms, send_batch_size: 100}, \
         attributes: {actions: [{key: secret, action: delete}, {key: added, value: 5, action: insert}]}, \
         resource: {attributes: [{key: env, value: test, action: upsert}]}",
        &format!(
            "otlp_http/live: {{endpoint: '{}', {RETRY}}}, otlp_http/dead: {{endpoint: '{}', {RETRY}}}",
            live.url(),
            Backend::dead_url()
        ),
        "memory_limiter, attributes, resource, batch",
        "otlp_http/live, otlp_http/dead",
    );
    let mut program = Program::start_with(&config, &["--drain-timeout", "1s"]);
    let address = program.address();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut connection = Sender::connect(address);
                for request in 0..100 {
                    let reply = connection.traces(&traces(sender * 10_000 + request * 10, 10)).unwrap();
                    assert_eq!((reply.status, reply.body.len()), (200, 0));
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    wait_until("everything at the live destination", || live.spans() >= 4000);
    let stopped = program.stop();
    let times = live.times();
    assert_eq!(times.len(), 4000);
    assert!(times.values().all(|&times| times == 1), "each once");
    for body in live.bodies() {
        for resource in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
            let keys: Vec<_> = resource.resource.unwrap().attributes.into_iter().map(|pair| pair.key).collect();
            assert_eq!(keys, ["service.name", "env"]);
            for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let keys: Vec<_> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
                assert_eq!(keys, ["http.request.method", "added"]);
            }
        }
    }
    assert_eq!(stopped.books.get("traces -> otlp_http/live", "exported"), 4000);
    assert_eq!(stopped.books.get("traces -> otlp_http/dead", "accepted"), 4000);
    assert_eq!(stopped.books.get("traces -> otlp_http/dead", "dropped"), 4000);
    assert_eq!(stopped.code, Some(1), "something was lost for one destination: {}", stopped.log);
}

#[test]
fn a_poison_batch_is_rejected_and_counted_and_the_next_goes_out() {
    let backend = Backend::scripted(|_, body| {
        let ids = span_ids(&ExportTraceServiceRequest::decode(body).unwrap());
        if ids.contains(&13) { Answer::Status(400, "") } else { Answer::Ok }
    });
    let config = config("", &format!("otlp_http: {{endpoint: '{}', {RETRY}}}", backend.url()), "", "otlp_http");
    let mut program = Program::start(&config);
    let mut sender = Sender::connect(program.address());
    for request in 0..5 {
        assert_eq!(sender.traces(&traces(request * 10, 10)).unwrap().status, 200);
    }
    wait_until("the others", || backend.spans() == 40);
    let stopped = program.stop();
    assert_eq!(backend.requests(), 5, "the poison is not sent again");
    assert_eq!(stopped.books.get("traces -> otlp_http", "exported"), 40);
    assert_eq!(stopped.books.get("traces -> otlp_http", "rejected"), 10);
    assert_eq!(stopped.code, Some(1), "its sender had heard OK: {}", stopped.log);
}

#[test]
fn retryable_answers_are_sent_again_and_arrive_once() {
    let backend = Backend::scripted(|number, _| match number {
        0 => Answer::Status(503, ""),
        1 => Answer::Status(429, "retry-after: 0\r\n"),
        2 => Answer::Close,
        _ => Answer::Ok,
    });
    let config = config("", &format!("otlp_http: {{endpoint: '{}', {RETRY}}}", backend.url()), "", "otlp_http");
    let mut program = Program::start(&config);
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 3)).unwrap().status, 200);
    wait_until("the fourth try", || backend.spans() == 3);
    let stopped = program.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    assert_eq!(stopped.books.get("traces -> otlp_http", "exported"), 3);
}

#[test]
fn what_nobody_changed_leaves_as_it_came() {
    let backend = Backend::healthy();
    let config = config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http");
    let mut program = Program::start(&config);
    let mut body = traces(0, 20).encode_to_vec();
    // Fields no schema knows: a varint, a string and a group, at the end of the request.
    body.extend_from_slice(&[0xc0, 0x3e, 0x07, 0xca, 0x3e, 0x02, b'h', b'i', 0xd3, 0x3e, 0x08, 0x01, 0xd4, 0x3e]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &body).unwrap();
    let gzip = gzip.finish().unwrap();
    let headers = "content-type: application/x-protobuf\r\ncontent-encoding: gzip\r\n";
    let reply = Sender::connect(program.address()).post("/v1/traces", headers, &gzip).unwrap();
    assert_eq!(reply.status, 200);
    wait_until("it", || backend.requests() == 1);
    assert_eq!(program.stop().code, Some(0));
    assert_eq!(backend.bodies(), [body]);
    let length = format!("content-length: {}", gzip.len());
    let head = backend.heads()[0].to_ascii_lowercase();
    assert!(head.contains(&length), "the compressed body goes out again as it came: {head}");
}

#[test]
fn a_forward_connector_joins_pipelines() {
    let backend = Backend::healthy();
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{resource: {{attributes: [{{key: via, value: forward, action: insert}}]}}}}
exporters: {{otlp_http: {{endpoint: '{}'}}, debug: {{}}}}
connectors: {{forward: {{}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces/in: {{receivers: [otlp], exporters: [forward, debug]}}
    traces/out: {{receivers: [forward], processors: [resource], exporters: [otlp_http]}}
",
        backend.url()
    );
    let mut program = Program::start(&text);
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 8)).unwrap().status, 200);
    wait_until("it", || backend.spans() == 8);
    let stopped = program.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    for place in ["traces/in -> forward", "traces/in -> debug", "traces/out -> otlp_http"] {
        assert_eq!(stopped.books.get(place, "exported"), 8, "{place}");
    }
    assert!(String::from_utf8_lossy(&backend.bodies()[0]).contains("forward"));
    assert!(stopped.log.contains("\"spans\": 8"), "debug wrote: {}", stopped.log);
}

#[test]
fn one_receiver_feeds_two_pipelines_and_each_item_goes_to_both() {
    let (one, two) = (Backend::healthy(), Backend::healthy());
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_http/1: {{endpoint: '{}'}}, otlp_http/2: {{endpoint: '{}'}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces/1: {{receivers: [otlp], exporters: [otlp_http/1]}}
    traces/2: {{receivers: [otlp], exporters: [otlp_http/2]}}
",
        one.url(),
        two.url()
    );
    let mut program = Program::start(&text);
    let mut sender = Sender::connect(program.address());
    for request in 0..20 {
        assert_eq!(sender.traces(&traces(request * 5, 5)).unwrap().status, 200);
    }
    wait_until("both", || one.spans() == 100 && two.spans() == 100);
    assert_eq!(program.stop().code, Some(0));
    assert_eq!(one.times().keys().collect::<HashSet<_>>(), two.times().keys().collect::<HashSet<_>>());
}

#[test]
fn grpc_carries_telemetry_between_two_of_us() {
    let backend = Backend::healthy();
    let gateway =
        config("", &format!("otlp_http: {{endpoint: '{}', compression: zstd}}", backend.url()), "", "otlp_http")
            .replace("protocols: {http:", "protocols: {grpc:");
    let mut gateway = Program::start(&gateway);
    let endpoint = gateway.grpc_address();
    let exporter =
        format!("otlp: {{endpoint: '{endpoint}', tls: {{insecure: true}}, sending_queue: {{wait_for_result: true}}}}");
    let mut agent = Program::start(&config("", &exporter, "", "otlp"));
    let mut sender = Sender::connect(agent.address());
    for request in 0..30 {
        assert_eq!(sender.traces(&traces(request * 3, 3)).unwrap().status, 200);
    }
    let agent = agent.stop();
    assert_eq!((agent.code, agent.books.get("traces -> otlp", "exported")), (Some(0), 90), "{}", agent.log);
    let gateway = gateway.stop();
    assert_eq!((gateway.code, gateway.books.get("traces -> otlp_http", "exported")), (Some(0), 90), "{}", gateway.log);
    // The test's backend knows no zstd: it counts requests, and the books count spans.
    assert_eq!(backend.requests(), 30);
}

#[test]
fn json_carries_telemetry_between_two_of_us() {
    for compression in ["none", "gzip"] {
        let backend = Backend::healthy();
        let exporter = format!("otlp_http: {{endpoint: '{}'}}", backend.url());
        let mut gateway = Program::start(&config("", &exporter, "", "otlp_http"));
        let exporter = format!(
            "otlp_http: {{endpoint: 'http://{}', encoding: json, compression: {compression}, sending_queue: {{wait_for_result: true}}}}",
            gateway.address()
        );
        let mut agent = Program::start(&config("batch: {timeout: 20ms}", &exporter, "batch", "otlp_http"));
        let mut sender = Sender::connect(agent.address());
        for request in 0..10 {
            assert_eq!(sender.traces(&traces(request * 3, 3)).unwrap().status, 200);
        }
        assert_eq!(agent.stop().code, Some(0));
        assert_eq!(gateway.stop().code, Some(0));
        assert_eq!((backend.spans(), backend.times().len()), (30, 30));
        let sent: Vec<_> = (0..10).map(|request| traces(request * 3, 3)).collect();
        let bodies = backend.bodies();
        let decoded = bodies.iter().map(|body| ExportTraceServiceRequest::decode(&body[..]).unwrap());
        let found: Vec<_> = decoded.flat_map(|request| request.resource_spans).collect();
        assert!(sent.iter().all(|request| found.contains(&request.resource_spans[0])), "every value is as it was sent");
    }
}
