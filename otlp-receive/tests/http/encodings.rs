//! Content codings and sizes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use otlp_core::codec::{Coding, encode};
use otlp_core::testing::generate;
use otlp_core::wire::writer::put_delimited;
use otlp_core::{ByteSize, Signal};
use otlp_receive::http::Config;

use crate::server::{Server, chunked, eventually, post};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(coding, None, &[bytes], &mut out).unwrap();
    out
}

/// A request of one span whose name makes it that long.
fn sized(bytes: usize) -> Vec<u8> {
    let mut out = vec![b'x'; bytes - 40];
    for field in [5, 2, 2, 1] {
        let mut outer = Vec::with_capacity(bytes);
        put_delimited(&mut outer, field, &out);
        out = outer;
    }
    let padding = bytes - out.len() - 3;
    put_delimited(&mut out, 99, &vec![0; padding]);
    assert_eq!(out.len(), bytes);
    out
}

#[test]
fn every_coding_is_undone_and_the_compressed_form_kept_enc_01_03_10_to_19() {
    let server = Server::start();
    let mut client = server.connect();
    for signal in Signal::ALL {
        let body = generate::request(signal, 9, 30);
        for (name, coding) in [
            ("", Coding::Identity),
            ("identity", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("GZIP", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("zstd", Coding::Zstd),
            ("zlib", Coding::Zlib),
            ("deflate", Coding::Zlib),
            ("snappy", Coding::Snappy),
            ("snappy", Coding::SnappyFramed),
            ("x-snappy-framed", Coding::SnappyFramed),
            ("lz4", Coding::Lz4),
        ] {
            let sent = compressed(coding, &body);
            let field = if name.is_empty() { String::new() } else { format!("Content-Encoding: {name}\r\n") };
            let answer = client.send(&post(signal, &field, &sent)).answer();
            assert_eq!((answer.status, answer.field("content-encoding")), (200, None), "{name} {coding}");
            let batch = server.batch();
            assert_eq!(batch.body(), &body, "{name} {coding}");
            assert_eq!(
                batch.encoded().map(|encoded| encoded.body.to_vec()),
                (coding != Coding::Identity).then_some(sent)
            );
        }
    }
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn the_compressed_form_of_an_odd_shape_is_kept_and_that_of_legacy_scopes_is_not() {
    let server = Server::start();
    let post_gzip = |body: &[u8]| {
        let sent = gzip(body);
        let request = post(Signal::Traces, "Content-Encoding: gzip\r\n", &sent);
        assert_eq!(server.connect().send(&request).answer().status, 200);
        (sent, server.batch())
    };
    let mut resource = Vec::new();
    put_delimited(&mut resource, 1, &[]);
    put_delimited(&mut resource, 1, &[]);
    let mut body = sized(200);
    // Resource, a singular field, twice: legal, and rewritten.
    let mut odd = Vec::new();
    put_delimited(&mut odd, 1, &resource);
    body.extend_from_slice(&odd);
    let (sent, batch) = post_gzip(&body);
    assert_ne!(batch.body(), &body);
    assert_eq!(batch.encoded().map(|encoded| encoded.body.to_vec()), Some(sent), "it means the same");

    // The scopes of OTLP 0.15 and before are moved to where they stand today.
    let mut scopes = Vec::new();
    put_delimited(&mut scopes, 2, b"");
    let mut legacy = Vec::new();
    put_delimited(&mut legacy, 1000, &scopes);
    let mut body = Vec::new();
    put_delimited(&mut body, 1, &legacy);
    let (_, batch) = post_gzip(&body);
    assert_eq!(batch.items().get(), 1);
    assert!(batch.encoded().is_none());
}

#[test]
fn gzip_may_come_in_chunks_and_in_several_members_enc_04_05() {
    let server = Server::start();
    let mut client = server.connect();
    let body = generate::request(Signal::Logs, 2, 50);
    let (one, two) = body.split_at(body.len() / 3);
    for sent in [gzip(&body), [gzip(one), gzip(two)].concat()] {
        let request = chunked(Signal::Logs, "Content-Encoding: gzip\r\n", &sent, 100);
        assert_eq!(client.send(&request).answer().status, 200);
        assert_eq!(server.batch().body(), &body);
    }
}

#[test]
fn damaged_bodies_are_bad_data_enc_06_07_08_22_err_03() {
    let server = Server::start();
    let mut client = server.connect();
    let good = gzip(&generate::request(Signal::Traces, 2, 5));
    let mut checksum = good.clone();
    let crc = checksum.len() - 6;
    checksum[crc] ^= 1;
    let garbage = [&good[..], b"garbage"].concat();
    for (what, sent) in [
        ("truncated", &good[..good.len() - 10]),
        ("not gzip", b"plain bytes"),
        ("wrong checksum", &checksum),
        ("empty", b""),
        ("bytes behind the end", &garbage),
    ] {
        let answer = client.send(&post(Signal::Traces, "Content-Encoding: gzip\r\n", sent)).answer();
        assert_eq!((answer.status, answer.failure().code), (400, 3), "{what}");
        assert!(!answer.failure().message.is_empty() && !answer.failure().violations.is_empty());
    }
    assert!(server.is_empty());
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn other_codings_are_unsupported_enc_09() {
    let server = Server::start();
    let mut client = server.connect();
    for fields in [
        "Content-Encoding: br\r\n",
        "Content-Encoding: gzip, gzip\r\n",
        "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n",
    ] {
        let answer = client.send(&post(Signal::Traces, fields, &gzip(b""))).answer();
        assert_eq!((answer.status, answer.failure().code), (415, 2), "{fields}");
        assert!(answer.field("accept-encoding").is_some_and(|list| list.contains("zstd")));
    }
    assert!(server.is_empty());
}

#[test]
fn codings_are_limited_as_configured() {
    let config = Config { compression_algorithms: vec!["gzip".into()], ..Config::default() };
    let server = Server::with(config, |_| {});
    let mut client = server.connect();
    let body = generate::request(Signal::Traces, 2, 5);
    for (field, sent, status) in [
        ("Content-Encoding: gzip\r\n", gzip(&body), 200),
        ("", body.to_vec(), 415),
        ("Content-Encoding: zstd\r\n", compressed(Coding::Zstd, &body), 415),
    ] {
        assert_eq!(client.send(&post(Signal::Traces, field, &sent)).answer().status, status);
    }
}

#[test]
fn bodies_up_to_the_limit_are_taken_and_larger_ones_refused_lim_01_03() {
    let limit = 100_000;
    let server = Server::with(Config { max_request_body_size: ByteSize(limit), ..Config::default() }, |_| {});
    for (bytes, status) in [(limit, 200), (limit + 1, 413)] {
        let body = sized(bytes as usize);
        for (what, request) in [
            ("announced", post(Signal::Traces, "", &body)),
            ("chunked", chunked(Signal::Traces, "", &body, 1000)),
            ("compressed", post(Signal::Traces, "Content-Encoding: gzip\r\n", &gzip(&body))),
        ] {
            let mut client = server.connect();
            let answer = client.try_send(&request).answer();
            assert_eq!(answer.status, status, "{bytes} {what}");
            if status == 413 {
                assert_eq!(answer.failure().code, 2);
                assert!(answer.failure().retry_delay.is_none());
                assert!(answer.failure().message.contains("100000"), "{}", answer.failure().message);
            }
        }
    }
    (0..3).for_each(|_| drop(server.batch()));
    assert!(server.is_empty());
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn a_bomb_is_refused_without_being_inflated_lim_02() {
    let config = Config { max_request_body_size: ByteSize::mib(1), ..Config::default() };
    let server = Server::with(config, |env| {
        env.budget = otlp_core::flow::memory::MemoryBudget::new(ByteSize::mib(3));
    });
    let bomb = gzip(&vec![0; 32 << 20]);
    let answer = server.connect().send(&post(Signal::Traces, "Content-Encoding: gzip\r\n", &bomb)).answer();
    assert_eq!((answer.status, answer.failure().code), (413, 2));
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn the_default_limit_takes_sixty_mebibytes_lim_04_14() {
    let server = Server::start();
    let mut client = server.connect();
    for mib in [4, 60] {
        let body = sized(mib << 20);
        assert_eq!(client.send(&post(Signal::Traces, "", &body)).answer().status, 200);
        assert!(server.batch().body() == &body);
    }
}

#[test]
fn announced_bodies_that_do_not_come_take_no_memory_lim_15() {
    let server = Server::start();
    let request = post(Signal::Traces, "", &vec![0; 15 << 20]);
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = server.connect();
            client.send(&request[..1024]);
            client
        })
        .collect();
    eventually("all have begun", || server.env.budget.reserved() == ByteSize::kib(200 * 64));
    server.assert_alive();
    drop(clients);
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}
