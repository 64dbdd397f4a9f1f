//! Ports and protocols: which one a connection speaks, and what becomes of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use otlp_core::testing::generate;
use otlp_core::{ByteSize, Signal};
use otlp_receive::{Config, grpc, http};

use crate::http2::{self, GOAWAY, hello, message};
use crate::raw::Raw;
use crate::server::{Client, LONG, Server, eventually, post};

fn data() -> Vec<u8> {
    message(0, &generate::request(Signal::Traces, 1, 2))
}

#[test]
fn both_protocols_are_understood_on_either_port_net_03_04() {
    let server = Server::with(Config::default(), |_| {});
    let (http, grpc) = (server.receiver.http_addr().unwrap(), server.grpc());
    assert_ne!(http, grpc);
    for address in [http, grpc] {
        assert_eq!(Raw::connect(address).export(Signal::Traces, &[], &data()).code(), Some(0));
        assert_eq!(server.batch().context().transport, "grpc");
        let mut client = Client::connect(address);
        for _ in 0..2 {
            client.send(&post(Signal::Traces, "", &data()[5..]));
            assert_eq!(client.answer().status, 200);
            assert_eq!(server.batch().context().transport, "http");
        }
    }
    let opened = |transport| server.metric("otlpd_receiver_connections_opened", ("transport", transport));
    assert_eq!((opened("grpc"), opened("http")), (2.0, 2.0));
    // By what it speaks, not by its port; and by its port while it has said nothing.
    let open = |transport| server.metric("otlpd_receiver_connections", ("transport", transport));
    eventually("all are closed", || open("grpc") + open("http") == 0.0);
    let silent = TcpStream::connect(grpc).unwrap();
    eventually("the silent one is taken", || open("grpc") == 1.0);
    let mut lost = Client::connect(grpc);
    lost.send(&post(Signal::Traces, "", &data()[5..]));
    assert_eq!(lost.answer().status, 200);
    assert_eq!((open("grpc"), open("http")), (1.0, 1.0));
    assert_eq!((opened("grpc"), opened("http")), (2.0, 3.0));
    drop((silent, lost));
    eventually("both are closed", || open("grpc") + open("http") == 0.0);
    assert_eq!((opened("grpc"), opened("http")), (3.0, 3.0));
}

#[test]
fn the_preface_may_come_in_pieces_net_06() {
    let server = Server::with(Config::default(), |_| {});
    let mut bytes = hello(&[]);
    bytes.extend_from_slice(&http2::call(1, Signal::Traces.grpc_path(), &[], &data()));
    for size in [1, 3, 23, 24, 25] {
        let mut stream = TcpStream::connect(server.grpc()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        for piece in bytes.chunks(size) {
            stream.write_all(piece).unwrap();
        }
        server.batch();
        let mut first = [0; 9];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first[3..5], [http2::SETTINGS, 0], "the server's SETTINGS come first");
    }
}

#[test]
fn what_is_no_http2_ends_and_nothing_else_does_net_07() {
    let both = Server::with(Config::default(), |_| {});
    let alone = Server::with(grpc::Config::default(), |_| {});
    for server in [&both, &alone] {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xff; 100],
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n..............",
            b"",
        ] {
            let mut stream = TcpStream::connect(server.grpc()).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.write_all(bytes).unwrap();
            if bytes.is_empty() {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut answer = Vec::new();
            // Closed, whatever it says before.
            let _ = stream.read_to_end(&mut answer);
        }
        assert_eq!(Raw::connect(server.grpc()).export(Signal::Traces, &[], &data()).code(), Some(0));
        eventually("all are closed", || server.metric("otlpd_receiver_connections", ("transport", "grpc")) == 0.0);
    }
}

#[test]
fn http_alone_refuses_http2_cleanly_net_05() {
    let server = Server::with(http::Config::default(), |_| {});
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&hello(&[])).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
    server.assert_alive();
}

#[test]
fn idle_connections_hold_no_memory_of_the_budget() {
    let server = Server::with(Config::default(), |_| {});
    let mut clients: Vec<_> = (0..200).map(|_| Raw::connect(server.grpc())).collect();
    for client in &mut clients {
        client.await_frame(http2::SETTINGS);
    }
    assert_eq!(server.metric("otlpd_receiver_connections", ("transport", "grpc")), 200.0);
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
    assert!(clients.iter_mut().all(|client| client.export(Signal::Traces, &[], &data()).code() == Some(0)));
    drop(clients);
    eventually("all are closed", || server.metric("otlpd_receiver_connections", ("transport", "grpc")) == 0.0);
}

#[test]
fn announced_messages_that_do_not_come_are_not_reserved_lim_15() {
    let server = Server::with(Config::default(), |_| {});
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Raw::connect(server.grpc());
        let stream = client.begin(Signal::Traces, &[]);
        client.frame(http2::DATA, 0, stream, &[&[0, 0, 0xf0, 0, 0][..], &[7; 1024]].concat());
        clients.push(client);
    }
    eventually("all have begun", || server.env.budget.reserved() >= ByteSize::kib(20 * 64));
    assert!(server.env.budget.reserved() <= ByteSize::kib(20 * 64));
    drop(clients);
    eventually("all is given back", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn connections_leave_when_they_are_old_or_idle() {
    let server_parameters =
        grpc::ServerParameters { max_connection_age: std::time::Duration::from_millis(100), ..Default::default() };
    let keepalive = grpc::Keepalive { server_parameters, ..Default::default() };
    let server = Server::run(grpc::Config { keepalive, ..Default::default() }, |_| {}, false);
    let mut client = Raw::connect(server.grpc());
    let stream = client.start(Signal::Traces, &[], &data());
    assert_eq!(client.await_frame(GOAWAY).number(4), 0, "NO_ERROR");
    server.batch().settle(otlp_core::Outcome::Delivered);
    assert_eq!(client.answer(stream).code(), Some(0), "the call that was open has its answer");
    client.closed();
}
