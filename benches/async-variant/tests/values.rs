//! Both engines do to values what the other does, whole pipelines hand on what came in, and short memory refuses.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use bytes::Bytes;
use otlp_async_variant::engine::Engine;
use otlp_async_variant::objects::Objects;
use otlp_async_variant::settings::Settings;
use otlp_async_variant::wire::Wire;
use otlp_bin::config::{self, Resolved, Sources};
use otlp_core::Signal;
use otlp_core::codec::Coding;
use otlp_core::testing::generate::request;
use tokio::sync::oneshot;

const EDITS: &str = "\
receivers: {otlp: {protocols: {http: {endpoint: '${env:LISTEN}'}}}}
processors:
  memory_limiter: {check_interval: 1ms, limit_mib: LIMIT}
  attributes:
    actions:
      - {key: deployment.environment.name, value: production, action: insert}
      - {key: http.request.method, value: GET, action: upsert}
      - {key: network.protocol.version, action: delete}
      - {key: server.address, action: hash}
      - {key: copy, from_attribute: url.path, action: insert}
      - {key: url.path, value: 7, action: update}
  resource: {attributes: [{key: service.name, value: other, action: upsert}]}
exporters:
  otlp_http: {endpoint: '${env:SINK}', compression: gzip, sending_queue: {wait_for_result: true}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, attributes, resource], exporters: [otlp_http]}
    metrics: {receivers: [otlp], processors: [memory_limiter, attributes, resource], exporters: [otlp_http]}
    logs: {receivers: [otlp], processors: [memory_limiter, attributes, resource], exporters: [otlp_http]}
";

fn tree(listen: &str, sink: &str, limit_mib: u32) -> Resolved {
    let environment = BTreeMap::from([("LISTEN".to_owned(), listen.to_owned()), ("SINK".to_owned(), sink.to_owned())]);
    let text = format!("yaml:{}", EDITS.replace("LIMIT", &limit_mib.to_string()));
    config::load(&Sources::new(vec![text], vec![]).with_environment(environment)).expect("it is valid").tree
}

/// The values of a request: what is compared.
fn values(signal: Signal, body: &[u8]) -> <Objects as Engine>::Data {
    Objects::decode(signal, body).expect("it is valid")
}

#[test]
fn both_engines_edit_alike() {
    let tree = tree("127.0.0.1:1", "http://127.0.0.1:1", 512);
    let settings = Settings::read(&tree).unwrap();
    for pipeline in &settings.pipelines {
        let (objects, wire) = (Objects::new(&tree, pipeline).unwrap(), Wire::new(&tree, pipeline).unwrap());
        for seed in 0..20 {
            let body = request(pipeline.signal, seed, 50);
            let edited = objects.process(Objects::decode(pipeline.signal, body.clone()).unwrap());
            let bytes =
                Wire::body(&wire.process(Wire::decode(pipeline.signal, body.clone()).unwrap()), Coding::Identity);
            assert_eq!(edited, values(pipeline.signal, &bytes), "{:?}, seed {seed}", pipeline.signal);
            assert_ne!(edited, values(pipeline.signal, &body), "something is edited");
            assert_eq!(Objects::items(&edited), 50);
        }
    }
}

#[test]
fn joined_requests_are_both_of_them_in_order() {
    fn joined<E: Engine>(signal: Signal) -> Bytes {
        let mut all = E::decode(signal, request(signal, 1, 10)).unwrap();
        E::append(&mut all, E::decode(signal, request(signal, 2, 20)).unwrap());
        assert_eq!(E::items(&all), 30);
        E::body(&all, Coding::Identity)
    }
    for signal in Signal::ALL {
        assert_eq!(values(signal, &joined::<Objects>(signal)), values(signal, &joined::<Wire>(signal)));
    }
}

/// Answers one request after the other with 200 and hands on their bodies.
fn sink() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (_, body) = read(&mut stream);
            sender.send(body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    (format!("http://{address}"), bodies)
}

/// The head and the body of a message with a content-length.
fn read(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

fn post(address: &str, signal: Signal, body: &[u8]) -> String {
    let mut stream = connect(address);
    write!(stream, "POST /v1/{signal} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n").unwrap();
    write!(stream, "content-length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(body).unwrap();
    read(&mut stream).0
}

/// Waits until somebody listens.
fn connect(address: &str) -> TcpStream {
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Runs a pipeline around what `check` does with its address and what arrived at its backend.
fn with_pipeline<E: Engine>(limit_mib: u32, check: impl FnOnce(&str, &mpsc::Receiver<Vec<u8>>)) {
    // Free at this moment: the program says nowhere which port it was given.
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (sink, bodies) = sink();
    let tree = tree(&listen, &sink, limit_mib);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(otlp_async_variant::run::<E>(&tree, async { stopped.await.unwrap() })).unwrap();
    });
    check(&listen, &bodies);
    stop.send(()).unwrap();
    running.join().unwrap();
}

fn values_come_through<E: Engine>() {
    with_pipeline::<E>(4096, |address, bodies| {
        let all = tree(address, "http://127.0.0.1:1", 4096);
        let settings = Settings::read(&all).unwrap();
        for pipeline in &settings.pipelines {
            let signal = pipeline.signal;
            let body = request(signal, 3, 40);
            assert!(post(address, signal, &body).starts_with("http/1.1 200"));
            // It was answered after the backend had it.
            let arrived = bodies.try_recv().unwrap();
            let plain = otlp_core::codec::decode(Coding::Gzip, &arrived, otlp_core::ByteSize::mib(1), &mut |_| Ok(()));
            let expected = Objects::new(&all, pipeline).unwrap().process(values(signal, &body));
            assert_eq!(values(signal, &plain.unwrap()), expected);
        }
        assert!(post(address, Signal::Traces, b"\x0a\xff").starts_with("http/1.1 400"));
    });
}

#[test]
fn objects_come_through() {
    values_come_through::<Objects>();
}

#[test]
fn bytes_come_through() {
    values_come_through::<Wire>();
}

#[test]
fn short_memory_refuses() {
    with_pipeline::<Objects>(1, |address, bodies| {
        let body = request(Signal::Logs, 1, 5);
        // The first look at memory may come after the first request.
        while !post(address, Signal::Logs, &body).starts_with("http/1.1 503") {
            bodies.try_recv().expect("what is answered with OK is there");
        }
        assert!(bodies.try_recv().is_err());
    });
}
