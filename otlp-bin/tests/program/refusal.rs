//! Full means "try again later", bad input gets a clear answer, and nothing is lost by either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otlp_core::component::Exporter as _;
use otlp_core::status::Status;
use otlp_core::telemetry::Registry;
use otlp_core::thread::ThreadOptions;
use otlp_core::{Batch, Clock, Code, Deadline, Group, ItemCount, Outcome, Retry, Signal};
use otlp_export::otlp_grpc::{self, OtlpGrpc};

use crate::delivery::config;
use crate::support::{Answer, Backend, Program, Reply, Sender, traces, wait_until};

fn status_of(reply: &Reply) -> Status {
    assert_eq!(reply.header("content-type"), Some("application/x-protobuf"), "{reply:?}");
    Status::decode(&reply.body).unwrap()
}

#[test]
fn a_full_queue_refuses_and_all_that_was_acknowledged_arrives_once_there_is_room() {
    let shut = Arc::new(AtomicBool::new(true));
    let backend = Backend::scripted({
        let shut = Arc::clone(&shut);
        move |_, _| if shut.load(Ordering::Acquire) { Answer::Status(503, "") } else { Answer::Ok }
    });
    let exporter = format!(
        "otlp_http: {{endpoint: '{}', sending_queue: {{queue_size: 5}}, retry_on_failure: {{initial_interval: 20ms, max_interval: 40ms}}}}",
        backend.url()
    );
    let mut program = Program::start(&config("", &exporter, "", "otlp_http"));
    let mut sender = Sender::connect(program.address());
    let mut acknowledged = 0;
    let refused = loop {
        let reply = sender.traces(&traces(acknowledged, 2)).unwrap();
        if reply.status != 200 {
            break reply;
        }
        acknowledged += 2;
        assert!(acknowledged <= 10, "it never refuses");
    };
    assert_eq!(acknowledged, 10, "the queue holds five requests");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(status_of(&refused).code, 14);
    shut.store(false, Ordering::Release);
    wait_until("room", || sender.traces(&traces(acknowledged, 2)).unwrap().status == 200);
    acknowledged += 2;
    wait_until("all", || backend.spans() == acknowledged);
    let stopped = program.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    assert!(backend.times().values().all(|&times| times == 1));
}

#[test]
fn a_queue_is_full_by_bytes_long_before_its_thousand_requests() {
    // By the key, and not where the queue's length was said.
    for (queue, refuses) in [("{memory_mib: 8}", true), ("{queue_size: 100}", false)] {
        let gate = Arc::<crate::support::Gate>::default();
        let backend = Backend::scripted({
            let gate = Arc::clone(&gate);
            move |_, _| Answer::Stall(Arc::clone(&gate))
        });
        let exporter =
            format!("otlp_http: {{endpoint: '{}', sending_queue: {queue}, compression: none}}", backend.url());
        let mut program = Program::start(&config("", &exporter, "", "otlp_http"));
        let mut sender = Sender::connect(program.address());
        let body = traces(0, 6_000);
        let fit = (8 << 20) / prost::Message::encoded_len(&body);
        assert!((2..100).contains(&fit), "{fit}");
        let replies: Vec<_> = (0..fit + 1).map(|_| sender.traces(&body).unwrap()).collect();
        assert!(replies[..fit].iter().all(|reply| reply.status == 200), "{queue}");
        let last = &replies[fit];
        assert_eq!(last.status, if refuses { 503 } else { 200 }, "{queue} {last:?}");
        assert_eq!(last.header("retry-after").is_some(), refuses);
        gate.open();
        let taken = fit + usize::from(!refuses);
        wait_until("all", || backend.requests() == taken as u64);
        assert_eq!(program.stop().code, Some(0));
    }
}

#[test]
fn exported_answers_after_the_destination_did() {
    let gate = Arc::<crate::support::Gate>::default();
    let backend = Backend::scripted({
        let gate = Arc::clone(&gate);
        move |_, _| Answer::Stall(Arc::clone(&gate))
    });
    let exporter = format!("otlp_http: {{endpoint: '{}', sending_queue: {{wait_for_result: true}}}}", backend.url());
    let mut program = Program::start(&config("batch: {timeout: 10s}", &exporter, "batch", "otlp_http"));
    let address = program.address();
    let answered = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let answered = Arc::clone(&answered);
        move || {
            let reply = Sender::connect(address).traces(&traces(0, 2)).unwrap();
            answered.store(true, Ordering::Release);
            reply
        }
    });
    // It leaves before the batch's timeout of ten seconds, because the only open request waits in it.
    wait_until("the request at the destination", || backend.requests() == 1);
    assert!(!answered.load(Ordering::Acquire));
    gate.open();
    assert_eq!(sender.join().unwrap().status, 200);
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn exported_tells_the_sender_what_the_destination_said() {
    let backend = Backend::scripted(|number, _| Answer::Status(if number == 0 { 400 } else { 503 }, ""));
    let text = config(
        "",
        &format!("otlp_http: {{endpoint: '{}', retry_on_failure: {{enabled: false}}}}", backend.url()),
        "",
        "otlp_http",
    );
    let text = text.replace("receivers: {otlp: {", "receivers: {otlp: {acknowledge: exported, ");
    let mut program = Program::start(&text);
    let mut sender = Sender::connect(program.address());
    let rejected = sender.traces(&traces(0, 2)).unwrap();
    assert_eq!(rejected.status, 400, "{rejected:?}");
    let refused = sender.traces(&traces(0, 2)).unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    program.stop();
}

#[test]
fn an_acknowledgement_that_takes_too_long_is_answered_and_the_request_withdrawn() {
    let text = config(
        "",
        &format!("otlp_http: {{endpoint: '{}', sending_queue: {{num_consumers: 1}}}}", Backend::dead_url()),
        "",
        "otlp_http",
    );
    let text =
        text.replace("receivers: {otlp: {", "receivers: {otlp: {acknowledge: exported, acknowledge_timeout: 100ms, ");
    let mut program = Program::start_with(&text, &["--drain-timeout", "1s"]);
    let mut sender = Sender::connect(program.address());
    for request in 0..3 {
        let reply = sender.traces(&traces(request * 2, 2)).unwrap();
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    program.stop();
}

#[test]
fn a_configured_rate_is_answered_with_429_and_a_delay() {
    let backend = Backend::healthy();
    let text = config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http");
    let text = text.replace(
        "receivers: {otlp: {",
        "receivers: {otlp: {rate_limit: {unit: items, algorithm: token_bucket, rate: 1, capacity: 10}, ",
    );
    let mut program = Program::start(&text);
    let mut sender = Sender::connect(program.address());
    assert_eq!(sender.traces(&traces(0, 10)).unwrap().status, 200);
    let limited = sender.traces(&traces(10, 10)).unwrap();
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(status_of(&limited).code, 8);
    assert_eq!(program.stop().code, Some(0));
    assert_eq!(backend.spans(), 10);
}

#[test]
fn bad_requests_are_told_what_is_wrong_and_good_ones_go_on() {
    let backend = Backend::healthy();
    let mut program =
        Program::start(&config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http"));
    let mut sender = Sender::connect(program.address());
    let protobuf = "content-type: application/x-protobuf\r\n";
    for (path, headers, body, status) in [
        ("/v1/traces", protobuf, &b"\xff\xff\xff"[..], 400),
        ("/v1/traces", "content-type: application/x-protobuf\r\ncontent-encoding: gzip\r\n", b"not gzip", 400),
        ("/v1/traces", "content-type: text/plain\r\n", b"x", 415),
        ("/v1/traces", "", b"x", 415),
        ("/v1/metrics", protobuf, b"", 404),
        ("/nowhere", protobuf, b"", 404),
    ] {
        let reply = sender.post(path, headers, body).unwrap();
        assert_eq!(reply.status, status, "{path} {headers:?}: {reply:?}");
        assert!(!reply.body.is_empty(), "a Status: {reply:?}");
    }
    assert_eq!(status_of(&sender.post("/v1/traces", protobuf, b"\xff").unwrap()).code, 3);
    assert_eq!(sender.get("/v1/traces").unwrap().status, 405);
    assert_eq!(sender.post("/v1/traces", protobuf, b"").unwrap().status, 200);
    assert_eq!(sender.traces(&traces(0, 1)).unwrap().status, 200);
    wait_until("the good one", || backend.spans() == 1);
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn announced_bodies_cost_nothing_until_they_come() {
    let backend = Backend::healthy();
    let text = config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http");
    let mut program = Program::start_with(&text, &["--drain-timeout", "1s"]);
    let address = program.address();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 15728640\r\n\r\n";
    let _stalled: Vec<_> = (0..200)
        .map(|_| {
            let mut sender = Sender::connect(address);
            sender.write(head.as_bytes());
            sender.write(&[0; 1024]);
            sender
        })
        .collect();
    let mut sender = Sender::connect(address);
    assert_eq!(sender.traces(&traces(0, 1)).unwrap().status, 200);
    std::thread::sleep(Duration::from_millis(50));
    assert!(program.resident_bytes() < 200 << 20, "{} bytes", program.resident_bytes());
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn a_full_queue_makes_grpc_callers_come_again_and_all_that_was_acknowledged_arrives() {
    let gate = Arc::<crate::support::Gate>::default();
    let backend = Backend::scripted({
        let gate = Arc::clone(&gate);
        move |_, _| Answer::Stall(Arc::clone(&gate))
    });
    let exporter = format!("otlp_http: {{endpoint: '{}', sending_queue: {{queue_size: 5}}}}", backend.url());
    let grpc = config("", &exporter, "", "otlp_http").replace("{http: ", "{grpc: ");
    let mut program = Program::start(&grpc);
    let settings = otlp_grpc::Config {
        endpoint: program.grpc_address().to_string(),
        tls: otlp_export::tls::Config { insecure: true, ..Default::default() },
        timeout: crate::support::PATIENCE,
        ..otlp_grpc::Config::default()
    };
    let (threads, registry) = (ThreadOptions::default(), Registry::new());
    let sender = OtlpGrpc::new("sender", &settings, Signal::Traces, threads, Clock::system(), &registry).unwrap();
    let mut begin = 0;
    let mut send = || {
        let request = traces(begin, 2);
        begin += 2;
        let batch = Batch::trusted(Signal::Traces, ItemCount(2), prost::Message::encode_to_vec(&request).into());
        sender.export(&Group::of(batch), Deadline::NEVER)
    };
    let mut acknowledged = 0;
    let refused = loop {
        match send() {
            Outcome::Delivered => acknowledged += 2,
            outcome => break outcome,
        }
        assert!(acknowledged <= 10, "it never refuses");
    };
    assert_eq!(acknowledged, 10, "the queue holds five requests");
    let Outcome::Failed(failure) = refused else { panic!("{refused:?}") };
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    assert!(matches!(failure.retry, Retry::After(_)), "with RetryInfo: {failure:?}");
    gate.open();
    wait_until("room", || send() == Outcome::Delivered);
    acknowledged += 2;
    wait_until("all", || backend.spans() == acknowledged);
    assert_eq!(program.stop().code, Some(0));
    assert!(backend.times().values().all(|&times| times == 1));
}
