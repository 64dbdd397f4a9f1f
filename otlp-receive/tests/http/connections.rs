//! HTTP/1.1 on the wire, many connections, slow and hostile senders.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use otlp_core::testing::generate;
use otlp_core::testing::random::Random;
use otlp_core::{AckMode, ByteSize, Failure, Outcome, Reason, Signal};
use otlp_receive::http::Config;

use crate::server::{Client, Server, chunked, eventually, post, request};

fn body() -> Vec<u8> {
    generate::request(Signal::Traces, 3, 4).to_vec()
}

fn head(fields: &str) -> String {
    format!("POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n{fields}\r\n")
}

#[test]
fn a_connection_serves_many_requests_con_01() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.send(&post(Signal::Traces, "", &body())).answer().status, 200);
    }
    assert_eq!(server.metric("otlpd_receiver_connections_opened", ("transport", "http")), 1.0);
}

#[test]
fn pipelined_requests_are_answered_in_order_con_02() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(
        &[post(Signal::Traces, "", &body()), post(Signal::Traces, "", b"\xff"), request("GET", "/health", "", b"")]
            .concat(),
    );
    let statuses: Vec<_> = (0..3).map(|_| client.answer().status).collect();
    assert_eq!(statuses, [200, 400, 200]);
}

#[test]
fn outcomes_may_come_in_any_order_and_from_any_thread() {
    let server =
        Server::waiting(otlp_receive::Config { acknowledge: Some(AckMode::Exported), ..Config::default().into() });
    let mut client = server.connect();
    client.send(&post(Signal::Traces, "", &body()).repeat(8));
    let mut batches: Vec<_> = (0..8).map(|_| server.batch()).collect();
    batches.reverse();
    let settlers: Vec<_> = batches
        .into_iter()
        .enumerate()
        .map(|(index, batch)| {
            std::thread::spawn(move || match index {
                0 => batch.settle(Failure::refused(Reason::QUEUE_FULL, "full").into()),
                _ => batch.settle(Outcome::Delivered),
            })
        })
        .collect();
    let statuses: Vec<_> = (0..8).map(|_| client.answer().status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 503]);
    settlers.into_iter().for_each(|settler| settler.join().unwrap());
}

#[test]
fn chunked_bodies_are_taken_whole_con_03_04() {
    let server = Server::start();
    let mut client = server.connect();
    for size in [1, 7, 1000, 1 << 20] {
        assert_eq!(client.send(&chunked(Signal::Traces, "", &body(), size)).answer().status, 200);
        assert_eq!(server.batch().body(), &body());
    }
}

#[test]
fn a_sender_that_waits_is_told_to_go_on_con_05() {
    let server = Server::start();
    let mut client = server.connect();
    let request = post(Signal::Traces, "Expect: 100-continue\r\n", &body());
    let (head, body) = request.split_at(request.len() - body().len());
    client.send(head);
    assert_eq!(client.answer().status, 100);
    assert_eq!(client.send(body).answer().status, 200);
}

#[test]
fn requests_that_end_nobody_knows_where_are_refused_con_06_09_10_11_12_19_21() {
    let server = Server::start();
    let hidden = String::from_utf8_lossy(&post(Signal::Logs, "", b"")).into_owned();
    for hostile in [
        "POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(),
        head("Content-Length: 3\r\nContent-Length: 4\r\n") + "abcd",
        head("Content-Length: 3, 4\r\n") + "abcd",
        head("Content-Length: abc\r\n"),
        head("Content-Length: -1\r\n"),
        head("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n") + "0\r\n\r\n" + &hidden,
        head("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + &hidden,
        head("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n" + &hidden,
        head("Transfer-Encoding: chunked\r\n") + "zz\r\n" + &hidden,
        head("Content-Length : 0\r\n"),
        "POST\r\n\r\n".to_owned(),
        "POST /v1/traces HTTP/1.1 more\r\nHost: a\r\n\r\n".to_owned(),
        "\u{1}\u{2}\u{3}".to_owned(),
    ] {
        let mut client = server.connect();
        client.try_send(hostile.as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("connection")), (400, Some("close")), "{hostile:?}");
        if answer.field("content-type") == Some("application/json") {
            answer.json();
        }
        assert!(client.is_closed(), "nothing smuggled is answered: {hostile:?}");
    }
    assert!(server.is_empty());
    server.assert_alive();
}

#[test]
fn connections_end_when_the_sender_wants_con_07_08() {
    let server = Server::start();
    let length = format!("Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n", body().len());
    for head in [
        format!("POST /v1/traces HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}"),
        format!("POST /v1/traces HTTP/1.0\r\n{length}"),
    ] {
        let mut client = server.connect();
        let answer = client.send(head.as_bytes()).send(&body()).answer();
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    let never = Server::with(Config { keep_alives_enabled: false, ..Config::default() }, |_| {});
    let mut client = never.connect();
    assert_eq!(client.send(&post(Signal::Traces, "", &body())).answer().field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_head_of_two_mebibytes_is_refused_con_13() {
    let server = Server::start();
    let mut client = server.connect();
    client.try_send(head(&format!("X: {}\r\n", "x".repeat(2 << 20))).as_bytes());
    assert_eq!(client.answer().status, 431);
    server.assert_alive();
}

#[test]
fn bodies_may_come_in_small_pieces_con_14() {
    let server = Server::start();
    let mut client = server.connect();
    for piece in post(Signal::Traces, "", &body()).chunks(3) {
        client.send(piece);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(server.batch().body(), &body());
}

#[test]
fn half_a_body_is_never_handed_on_con_15() {
    let server = Server::start();
    for shutdown in [false, true] {
        let mut client = server.connect();
        let request = post(Signal::Traces, "", &body());
        client.send(&request[..request.len() - 1]);
        eventually("the body's memory is reserved", || server.env.budget.reserved() > ByteSize::ZERO);
        if shutdown {
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert!(client.is_closed());
        }
        drop(client);
        eventually("its memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
    }
    assert!(server.is_empty());
    server.assert_alive();
}

#[test]
fn absolute_targets_are_served_con_16() {
    let server = Server::start();
    let request = request("POST", "http://host:4318/v1/traces", "Content-Type: application/x-protobuf\r\n", &body());
    assert_eq!(server.connect().send(&request).answer().status, 200);
}

#[test]
fn stalled_senders_hold_up_nobody_and_are_dropped_con_17() {
    let config = Config {
        read_header_timeout: Duration::from_millis(300),
        read_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    let server = Server::with(config, |_| {});
    let request = post(Signal::Traces, "", &body());
    let mut stalled: Vec<_> = (0..20)
        .map(|index| {
            let mut client = server.connect();
            client.send(&request[..if index % 2 == 0 { 10 } else { request.len() - 1 }]);
            client
        })
        .collect();
    let mut other = server.connect();
    for _ in 0..20 {
        assert_eq!(other.send(&request).answer().status, 200);
    }
    for client in &mut stalled {
        assert_eq!(client.answer().status, 408);
        assert!(client.is_closed());
    }
    eventually("their memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
    assert_eq!(server.metric("otlpd_receiver_failures", ("reason", "timeout")), 20.0);
}

#[test]
fn sixty_four_clients_at_once_are_served_on_any_number_of_threads_con_18() {
    for threads in [1, 3] {
        let server = Server::with(Config::default(), |env| env.threads = threads);
        let address = server.address;
        let clients: Vec<_> = (0..64)
            .map(|seed| {
                std::thread::spawn(move || {
                    let mut client = Client::connect(address);
                    for _ in 0..10 {
                        let body = generate::request(Signal::Traces, seed, 5);
                        assert_eq!(client.send(&post(Signal::Traces, "", &body)).answer().status, 200);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let items: u64 = (0..640).map(|_| server.batch().items().get()).sum();
        assert_eq!(items, 3200);
        assert!(server.is_empty());
    }
}

#[test]
fn three_hundred_idle_connections_do_not_matter_con_20() {
    let server = Server::start();
    let idle: Vec<_> = (0..300).map(|_| server.connect()).collect();
    eventually("all are open", || server.metric("otlpd_receiver_connections", ("transport", "http")) == 300.0);
    server.assert_alive();
    drop(idle);
    eventually("all are gone", || server.metric("otlpd_receiver_connections", ("transport", "http")) <= 1.0);
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let server = Server::with(Config { idle_timeout: Duration::from_millis(100), ..Config::default() }, |_| {});
    let mut client = server.connect();
    assert_eq!(client.send(&post(Signal::Traces, "", &body())).answer().status, 200);
    assert!(client.is_closed());
}

#[test]
fn connections_above_the_limit_wait_until_one_closes() {
    let server = Server::with(otlp_receive::Config { max_connections: 2, ..Config::default().into() }, |_| {});
    let mut open: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut open {
        assert_eq!(client.send(&post(Signal::Traces, "", &body())).answer().status, 200);
    }
    let mut third = server.connect();
    third.send(&post(Signal::Traces, "", &body()));
    assert_eq!(server.metric("otlpd_receiver_connections_opened", ("transport", "http")), 2.0);
    open.pop();
    assert_eq!(third.answer().status, 200);
}

#[test]
fn what_is_not_http_1_is_closed_cleanly_net_05_09() {
    let server = Server::start();
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"\x00\xff\xfe"] {
        let mut client = server.connect();
        client.try_send(bytes);
        assert_eq!(client.answer().status, 400);
        assert!(client.is_closed());
    }
    drop(server.connect());
    server.assert_alive();
}

#[test]
fn a_sender_that_does_not_read_its_answers_is_dropped() {
    let server = Server::with(Config { write_timeout: Duration::from_millis(200), ..Config::default() }, |_| {});
    let mut client = server.connect();
    client.stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // Answers of some hundred bytes to requests of a few: the socket's buffers fill up, then we are cut off.
    let requests = request("GET", "/", "", b"").repeat(1000);
    let cut_off = (0..2000).any(|_| client.stream.write_all(&requests).is_err());
    assert!(cut_off);
    server.assert_alive();
}

/// Clients that send whole and half requests, good and bad ones, in pieces, and leave when they like: whoever was told OK
/// was handed on, all memory comes back, no connection stays, and others are served.
#[test]
fn whatever_clients_do_nothing_is_lost_or_left_behind() {
    let cases: u64 = std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200);
    let server = Server::with(Config::default(), |env| env.threads = 2);
    let address = server.address;
    let clients: Vec<_> = (0..8u64)
        .map(|client| {
            std::thread::spawn(move || {
                (0..cases / 8)
                    .map(|case| one_client(address, client << 32 | case))
                    .fold((0, 0), |sum, (ok, sent)| (sum.0 + ok, sum.1 + sent))
            })
        })
        .collect();
    let (mut ok, mut sent) = (0, 0);
    for client in clients {
        let (client_ok, client_sent) = client.join().unwrap();
        ok += client_ok;
        sent += client_sent;
    }
    eventually("no connection stays", || server.metric("otlpd_receiver_connections", ("transport", "http")) == 0.0);
    eventually("all memory is given back", || server.env.budget.reserved() == ByteSize::ZERO);
    let accepted = server.metric("otelcol_receiver_accepted_spans", ("transport", "http")) as u64;
    let mut handed_on = 0;
    while let Some(batch) = server.try_batch() {
        handed_on += batch.items().get();
    }
    assert!(ok > 0 && ok <= handed_on && handed_on <= sent, "{ok} OK, {handed_on} handed on, {sent} sent");
    assert!(ok <= accepted && accepted <= handed_on, "{ok} OK, {accepted} accepted, {handed_on} handed on");
    server.assert_alive();
}

/// What one client was told OK for, and what it sent, in items.
fn one_client(address: std::net::SocketAddr, seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let mut client = Client::connect(address);
    let (mut stream, mut expected, mut sent) = (Vec::new(), Vec::new(), 0);
    for _ in 0..1 + random.below(6) {
        let items = 1 + random.below(40) as usize;
        let body = generate::request(Signal::Traces, random.bits(), items);
        let bad = random.below(4) == 0;
        let body = if bad { &body[..body.len() - 1] } else { &body[..] };
        match random.below(2) {
            0 => stream.extend(post(Signal::Traces, "", body)),
            _ => stream.extend(chunked(Signal::Traces, "", body, 1 + random.below(3000) as usize)),
        }
        expected.push(if bad { (400, 0) } else { (200, items as u64) });
        sent += expected[expected.len() - 1].1;
    }
    let leaves_early = random.below(3) == 0;
    let end = if leaves_early { random.below(stream.len() as u64) as usize } else { stream.len() };
    let mut at = 0;
    while at < end {
        let piece = (1 + random.below(8000) as usize).min(end - at);
        client.try_send(&stream[at..at + piece]);
        at += piece;
    }
    if leaves_early {
        return (0, sent);
    }
    let mut ok = 0;
    for (status, items) in expected {
        assert_eq!(client.answer().status, status, "seed {seed}");
        ok += items;
    }
    (ok, sent)
}
