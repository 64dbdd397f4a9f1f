//! Ordinary calls: signals, codings, sizes, metadata, timeouts.

use otlp_core::codec::{Coding, encode};
use otlp_core::testing::generate;
use otlp_core::{ByteSize, ItemCount, Signal};
use otlp_receive::grpc::Config;

use crate::http2::{self, END_HEADERS, END_STREAM, HEADERS, PADDED, WITH_PRIORITY, block, fields, message};
use crate::raw::Raw;
use crate::server::Server;

fn body(signal: Signal, items: u64) -> Vec<u8> {
    generate::request(signal, 7, items as usize).to_vec()
}

fn compressed(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(coding, None, &[body], &mut out).unwrap();
    out
}

#[test]
fn every_signal_is_taken_whole_net_01_06_grpc_01_02_03_08_22_24() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    for (signal, content_type) in Signal::ALL.into_iter().zip(["application/grpc", "application/grpc+proto", ""]) {
        let content_type = if content_type.is_empty() { "Application/GRPC;a=b" } else { content_type };
        let body = body(signal, 20);
        let answer = client.export(signal, &[("content-type", content_type)], &message(0, &body));
        assert_eq!(answer.head[0], (":status".to_owned(), "200".to_owned()));
        assert_eq!(answer.field("content-type"), Some("application/grpc"));
        assert_eq!(answer.field("grpc-accept-encoding"), Some("gzip, zstd, snappy, identity"));
        assert_eq!(answer.data, [0; 5], "partial_success is not set");
        assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
        let batch = server.batch();
        assert_eq!((batch.signal(), batch.items(), &batch.body()[..]), (signal, ItemCount(20), &body[..]));
        assert_eq!((batch.context().transport, &*batch.context().receiver), ("grpc", "otlp"));
        assert!(batch.context().peer.is_some() && batch.context().metadata.is_empty());
    }
    let label = ("transport", "grpc");
    for name in ["spans", "metric_points", "log_records"] {
        assert_eq!(server.metric(&format!("otelcol_receiver_accepted_{name}"), label), 20.0);
    }
    assert_eq!(server.metric("otlpd_receiver_requests", ("outcome", "success")), 3.0);
    assert_eq!(server.metric("otlpd_receiver_connections", label), 1.0);
}

#[test]
fn requests_without_items_succeed_and_go_nowhere_grpc_05() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    for body in [&[][..], &[0x0a, 0]] {
        assert_eq!(client.export(Signal::Traces, &[], &message(0, body)).code(), Some(0));
    }
    assert!(server.is_empty());
}

#[test]
fn codings_are_undone_and_the_flag_decides_grpc_06_07_11_12() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    let body = body(Signal::Logs, 50);
    for (name, coding, passed_on) in [
        ("gzip", Coding::Gzip, Coding::Gzip),
        ("zstd", Coding::Zstd, Coding::Zstd),
        ("snappy", Coding::SnappyFramed, Coding::SnappyFramed),
        ("snappy", Coding::Snappy, Coding::Snappy),
    ] {
        let data = compressed(coding, &body);
        let answer = client.export(Signal::Logs, &[("grpc-encoding", name)], &message(1, &data));
        assert_eq!(answer.code(), Some(0), "{name}");
        let batch = server.batch();
        assert_eq!(&batch.body()[..], &body[..]);
        let encoded = batch.encoded().unwrap();
        assert_eq!((encoded.coding, &encoded.body[..]), (passed_on, &data[..]), "goes on as it came");
    }
    for coding in ["identity", "gzip", "zstd"] {
        let answer = client.export(Signal::Logs, &[("grpc-encoding", coding)], &message(0, &body));
        assert_eq!(answer.code(), Some(0), "{coding} with flag 0");
        assert_eq!(&server.batch().body()[..], &body[..]);
    }
}

#[test]
fn messages_may_come_in_frames_of_any_size_and_padded_grpc_13_14_15() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    let body = body(Signal::Traces, 2);
    let data = message(0, &body);
    for size in [1, 2, 3, 4, 5, 6, 100] {
        let stream = client.begin(Signal::Traces, &[]);
        for piece in data.chunks(size) {
            client.frame(http2::DATA, 0, stream, piece);
        }
        client.frame(http2::DATA, END_STREAM, stream, b"");
        assert_eq!(client.answer(stream).code(), Some(0), "frames of {size} bytes, and an empty one at the end");
        assert_eq!(&server.batch().body()[..], &body[..]);
    }
    let stream = client.next();
    let head = [&[0, 0, 0, 0, 200][..], &block(&fields(Signal::Traces.grpc_path(), &[]))].concat();
    client.frame(HEADERS, END_HEADERS | WITH_PRIORITY, stream, &head);
    for piece in data.chunks(50) {
        client.frame(http2::DATA, PADDED, stream, &[&[7][..], piece, &[0; 7]].concat());
    }
    client.frame(http2::DATA, PADDED | END_STREAM, stream, &[3, 0, 0, 0]);
    assert_eq!(client.answer(stream).code(), Some(0), "padded, with a priority");
    assert_eq!(&server.batch().body()[..], &body[..]);
    // A request may end with trailers.
    let stream = client.begin(Signal::Traces, &[]);
    client.frame(http2::DATA, 0, stream, &data);
    client.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-trailer", "1")]));
    assert_eq!(client.answer(stream).code(), Some(0));
}

#[test]
fn large_messages_get_the_window_they_need_grpc_33_lim_08_13() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    let one = body(Signal::Logs, 2000);
    for size in [3 << 20, (39 << 20) / 10, 60 << 20] {
        let body = one.repeat(size / one.len());
        let answer = client.export(Signal::Logs, &[], &message(0, &body));
        assert_eq!(answer.code(), Some(0), "{size} bytes: {}", answer.message());
        let batch = server.batch();
        assert_eq!(batch.size(), ByteSize::from(body.len()));
        assert!(batch.body()[..] == body[..]);
    }
}

#[test]
fn a_hundred_calls_at_once_grpc_34() {
    let server = Server::run(Config::default(), |_| {}, false);
    let mut client = Raw::connect(server.grpc());
    let data = message(0, &body(Signal::Traces, 1));
    let streams: Vec<_> = (0..100).map(|_| client.start(Signal::Traces, &[], &data)).collect();
    let batches: Vec<_> = streams.iter().map(|_| server.batch()).collect();
    batches.into_iter().rev().for_each(|batch| batch.settle(otlp_core::Outcome::Delivered));
    assert!(streams.into_iter().all(|stream| client.answer(stream).code() == Some(0)));
    // One more than may be open at once is refused, and may be sent again (REFUSED_STREAM).
    let streams: Vec<_> = (0..101).map(|_| client.start(Signal::Traces, &[], &data)).collect();
    assert_eq!(client.answer(streams[100]).reset, Some(7));
    streams[..100].iter().for_each(|_| server.batch().settle(otlp_core::Outcome::Delivered));
    assert!(streams[..100].iter().all(|&stream| client.answer(stream).code() == Some(0)));
    assert_eq!(client.export(Signal::Traces, &[], b"").code(), Some(13), "the connection lives");
}

#[test]
fn connections_at_once_grpc_43() {
    for threads in [1, 3] {
        let server = Server::with(Config::default(), |env| env.threads = threads);
        let data = message(0, &body(Signal::Metrics, 3));
        let mut clients: Vec<_> = (0..32).map(|_| Raw::connect(server.grpc())).collect();
        let streams: Vec<_> = clients.iter_mut().map(|client| client.start(Signal::Metrics, &[], &data)).collect();
        for (client, stream) in clients.iter_mut().zip(streams) {
            assert_eq!(client.answer(stream).code(), Some(0));
        }
    }
}

#[test]
fn timeouts_in_every_unit_grpc_26() {
    let server = Server::with(Config::default(), |_| {});
    let mut client = Raw::connect(server.grpc());
    let data = message(0, &body(Signal::Traces, 1));
    for timeout in ["1H", "99999999H", "2M", "60S", "60000m", "60000000u", "99999999n"] {
        let answer = client.export(Signal::Traces, &[("grpc-timeout", timeout)], &data);
        assert_eq!(answer.code(), Some(0), "{timeout}");
    }
}

#[test]
fn metadata_are_taken_and_kept_where_asked_for_grpc_29() {
    let config = Config { include_metadata: true, ..Config::default() };
    let server = Server::with(config, |_| {});
    let mut client = Raw::connect(server.grpc());
    let long = "v".repeat(6 << 10);
    let more = [("x-tenant", "a"), ("x-trace-bin", "AAE"), ("x-padded-bin", "AA=="), ("x-long", &long)];
    let more = [&more[..], &[("grpc-timeout", "60S")]].concat();
    assert_eq!(client.export(Signal::Traces, &more, &message(0, &body(Signal::Traces, 1))).code(), Some(0));
    let batch = server.batch();
    let of = |name| batch.context().metadata(name).collect::<Vec<_>>();
    assert_eq!((of("x-tenant"), of("x-trace-bin"), of("x-long")), (vec!["a"], vec!["AAE"], vec![&*long]));
    assert_eq!((of(":authority"), of("grpc-timeout")), (vec!["localhost"], vec![]));
}
