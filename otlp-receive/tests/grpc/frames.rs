//! Frames of HTTP/2: what must be understood, what must be answered, and what ends a connection and nothing else.

use otlp_core::testing::generate;
use otlp_core::{ByteSize, Signal};
use otlp_receive::grpc::Config;

use crate::http2::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, fields, frame, huffman, integer, message, settings, string,
};
use crate::raw::Raw;
use crate::server::{Server, eventually};

fn data() -> Vec<u8> {
    message(0, &generate::request(Signal::Traces, 1, 2))
}

fn server() -> Server {
    Server::with(Config::default(), |_| {})
}

/// An ordinary call on a connection of its own succeeds.
fn assert_alive(server: &Server) {
    let answer =
        Raw::connect(server.grpc()).export(Signal::Logs, &[], &message(0, &generate::request(Signal::Logs, 1, 1)));
    assert_eq!(answer.code(), Some(0));
}

#[test]
fn pings_are_answered_idle_and_during_a_call_grpc_30_40() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    client.frame(PING, 0, 0, b"12345678");
    let pong = client.await_frame(PING);
    assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"12345678"[..]));
    let stream = client.begin(Signal::Traces, &[]);
    let data = data();
    client.frame(DATA, 0, stream, &data[..7]).frame(PING, 0, 0, b"abcdefgh");
    assert_eq!(client.await_frame(PING).payload, b"abcdefgh");
    client.frame(DATA, END_STREAM, stream, &data[7..]);
    assert_eq!(client.answer(stream).code(), Some(0));
    client.frame(PING, 0, 0, b"ijklmnop");
    assert_eq!(client.await_frame(PING).payload, b"ijklmnop", "three pings and a call are no flood");
}

#[test]
fn settings_are_acknowledged_and_unknown_things_passed_over_grpc_31_36() {
    let server = server();
    let mut client = Raw::with(server.grpc(), &[(0x99, 1), (3, 5)]);
    assert!(client.await_frame(SETTINGS).flags & ACK == 0, "its own come first");
    assert_eq!(client.await_frame(SETTINGS).flags, ACK);
    client.frame(0x42, 0xff, 0, b"unknown").frame(0x42, 0, 5, b"unknown");
    client.send(&settings(&[(0x1234, 7)]));
    assert_eq!(client.await_frame(SETTINGS).flags, ACK);
    client.frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 16]);
    let stream = client.begin(Signal::Traces, &[]);
    client.frame(0x42, 0, stream, b"unknown").frame(DATA, END_STREAM, stream, &data());
    assert_eq!(client.answer(stream).code(), Some(0));
}

#[test]
fn no_data_leaves_beyond_the_window_grpc_32() {
    let server = server();
    let mut client = Raw::with(server.grpc(), &[(4, 0)]);
    let stream = client.start(Signal::Traces, &[], &data());
    assert_eq!(client.await_frame(HEADERS).stream, stream);
    client.frame(PING, 0, 0, b"12345678");
    client.await_frame(PING);
    assert!(client.seen.iter().all(|frame| frame.kind != DATA && !frame.ends_stream()), "{:?}", client.seen);
    for left in (0..5).rev() {
        client.frame(WINDOW_UPDATE, 0, stream, &1u32.to_be_bytes());
        let piece = client.await_frame(DATA);
        assert_eq!((piece.payload.len(), piece.ends_stream()), (1, false), "{left} bytes are left");
    }
    let end = client.await_frame(HEADERS);
    assert!(end.ends_stream() && http2::read_block(&end.payload)[0] == ("grpc-status".into(), "0".into()));
}

#[test]
fn calls_given_up_before_their_message_was_complete_go_nowhere_grpc_35() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    let data = data();
    for sent in [0, 3, 5, data.len() - 1, data.len()] {
        let stream = client.begin(Signal::Traces, &[]);
        client.frame(DATA, 0, stream, &data[..sent]);
        client.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    }
    assert_eq!(client.export(Signal::Logs, &[], &message(0, &generate::request(Signal::Logs, 1, 1))).code(), Some(0));
    assert_eq!(server.batch().signal(), Signal::Logs, "nothing else came");
    assert!(server.is_empty());
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn header_blocks_may_come_in_pieces_grpc_37() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    let block = block(&fields(Signal::Traces.grpc_path(), &[("x", "y")]));
    for size in [1, 7, 50] {
        let stream = client.next();
        let pieces: Vec<_> = block.chunks(size.max(block.len() / 6)).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let kind = if index == 0 { HEADERS } else { CONTINUATION };
            let flags = if index + 1 == pieces.len() { END_HEADERS } else { 0 };
            client.frame(kind, flags, stream, piece);
        }
        client.frame(DATA, END_STREAM, stream, &data());
        assert_eq!(client.answer(stream).code(), Some(0));
    }
}

#[test]
fn header_compression_is_understood_grpc_38() {
    let server = Server::with(Config { include_metadata: true, ..Config::default() }, |_| {});
    let mut client = Raw::connect(server.grpc());
    // With Huffman's code, all of it into the table.
    let all = fields(Signal::Traces.grpc_path(), &[("x-tenant", "caf\u{e9} %~ 0189")]);
    let mut first = Vec::new();
    for (name, value) in &all {
        first.push(0x40);
        huffman(&mut first, name);
        huffman(&mut first, value);
    }
    // Then by their numbers: the newest is 62.
    let mut again = Vec::new();
    for index in (0..all.len()).rev() {
        integer(&mut again, 0x80, 7, 62 + index);
    }
    // Then with a table of no size, by names of the static table and literals.
    let mut emptied = vec![0x20, 0x83, 0x86];
    for (name, value) in &all[2..] {
        emptied.push(0x10);
        string(&mut emptied, name);
        string(&mut emptied, value);
    }
    let mut blocks = vec![first.clone()];
    blocks.extend((0..20).map(|_| again.clone()));
    blocks.push(emptied);
    for block in blocks {
        let stream = client.next();
        client.frame(HEADERS, END_HEADERS, stream, &block).frame(DATA, END_STREAM, stream, &data());
        assert_eq!(client.answer(stream).code(), Some(0));
        assert_eq!(server.batch().context().metadata("x-tenant").collect::<Vec<_>>(), ["caf\u{e9} %~ 0189"]);
    }
}

#[test]
fn errors_of_http2_end_that_connection_alone_grpc_44() {
    let server = server();
    let bad: [(&str, Vec<u8>); 9] = [
        ("DATA on stream 0", frame(DATA, 0, 0, b"abc")),
        ("DATA on a stream that is idle", frame(DATA, 0, 9, b"abc")),
        ("a stream of an even number", http2::call(2, Signal::Traces.grpc_path(), &[], &data())),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, b"")),
        ("a header block that is none", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff])),
        ("a PING of 7 bytes", frame(PING, 0, 0, b"1234567")),
        ("a WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window above 2^31", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())),
        ("a frame that is too large", frame(0, 0, 1, &[0; 20_000])),
    ];
    let mut other = Raw::connect(server.grpc());
    for (what, bytes) in bad {
        let mut client = Raw::connect(server.grpc());
        client.try_send(&bytes);
        assert!(client.closed().is_some_and(|code| code != 0), "{what}: GOAWAY");
    }
    assert_eq!(other.export(Signal::Traces, &[], &data()).code(), Some(0));
    eventually("all others are closed", || server.metric("otlpd_receiver_connections", ("transport", "grpc")) == 1.0);
}

#[test]
fn streams_opened_and_reset_without_end_cost_nothing_grpc_45() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    let block = block(&fields(Signal::Traces.grpc_path(), &[]));
    let mut flood = Vec::new();
    for _ in 0..2000 {
        let stream = client.next();
        flood.extend(frame(HEADERS, END_HEADERS, stream, &block));
        flood.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    client.try_send(&flood);
    assert_alive(&server);
    drop(client);
    server.batch();
    assert!(server.is_empty());
    eventually("nothing is held", || server.env.budget.reserved() == ByteSize::ZERO);
}

#[test]
fn continuation_without_end_ends_the_connection() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    client.frame(HEADERS, 0, 1, &block(&fields(Signal::Traces.grpc_path(), &[])));
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
    assert!((0..100_000).any(|_| !client.try_send(&more)), "it is cut off");
    assert_alive(&server);
}

#[test]
fn empty_data_without_end_ends_the_connection() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    let stream = client.begin(Signal::Traces, &[]);
    let empty = frame(DATA, 0, stream, b"").repeat(100);
    assert!((0..100_000).any(|_| !client.try_send(&empty)), "it is cut off");
    assert_alive(&server);
}

#[test]
fn pings_without_end_end_the_connection_with_words() {
    let server = server();
    let mut client = Raw::connect(server.grpc());
    client.start(Signal::Traces, &[], &data());
    let ping = frame(PING, 0, 0, b"12345678").repeat(100);
    (0..1000).take_while(|_| client.try_send(&ping)).count();
    let goaway = client.await_frame_or_close(GOAWAY);
    // Where the server closed while we still wrote, the system may have thrown it away.
    if let Some(goaway) = goaway {
        assert_eq!((goaway.number(0), goaway.number(4), &goaway.payload[8..]), (1, 11, &b"too_many_pings"[..]));
    }
    assert_alive(&server);
}

#[test]
fn a_client_that_never_reads_is_held_to_a_bound() {
    let keepalive = otlp_receive::grpc::Keepalive {
        enforcement_policy: otlp_receive::grpc::EnforcementPolicy {
            min_time: std::time::Duration::from_nanos(1),
            permit_without_stream: true,
        },
        ..Default::default()
    };
    let server = Server::with(Config { keepalive, ..Config::default() }, |_| {});
    // Every SETTINGS wants an answer.
    let mut client = Raw::connect(server.grpc());
    let stream = std::net::TcpStream::connect(server.grpc()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut flood = Raw::over(Box::new(stream), &[]);
    let many = settings(&[]).repeat(1000);
    let mut sent = 0usize;
    // Until it takes no more: what it holds for us is bounded, and so is what the system holds.
    while flood.try_send(&many) {
        sent += many.len();
        assert!(sent < 256 << 20, "it goes on and on");
    }
    assert_eq!(client.export(Signal::Traces, &[], &data()).code(), Some(0), "others are served");
}

#[test]
fn over_a_unix_socket_any_authority_will_do() {
    let path = std::env::temp_dir().join(format!("otlp-receive-authority-{}.sock", std::process::id()));
    let grpc = Config {
        endpoint: path.to_str().unwrap().into(),
        transport: otlp_receive::Transport::Unix,
        include_metadata: true,
        ..Config::default()
    };
    let both = otlp_receive::Config { grpc: Some(grpc), ..otlp_receive::http::Config::default().into() };
    let server = Server::with(both, |_| {});
    for (authority, taken) in [("localhost", "localhost"), ("tmp%2Fa.sock", "tmp.2Fa.sock"), ("/tmp/a b", "3tmp3a-b")] {
        for coded in [true, false] {
            let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(crate::server::LONG)).unwrap();
            let mut client = Raw::over(Box::new(stream), &[]);
            let mut head = vec![0x41];
            if coded {
                huffman(&mut head, authority)
            } else {
                string(&mut head, authority)
            }
            // Every other field but the authority, which comes out of the table in the second call.
            let others: Vec<_> =
                fields(Signal::Traces.grpc_path(), &[]).into_iter().filter(|(name, _)| *name != ":authority").collect();
            for head in [head, vec![0xbe]] {
                let stream = client.next();
                client.frame(HEADERS, END_HEADERS, stream, &[head, block(&others)].concat());
                client.frame(DATA, END_STREAM, stream, &data());
                assert_eq!(client.answer(stream).code(), Some(0), "{authority}");
                let batch = server.batch();
                let seen: Vec<_> = batch.context().metadata(":authority").collect();
                let plain = authority.replace(['%', '/', ' '], "-");
                assert_eq!(seen, [if coded { taken } else { &plain }]);
            }
        }
    }
}
