//! Acknowledgement over time, and stopping.

use std::time::{Duration, Instant};

use otlp_core::component::{HealthState, Receiver};
use otlp_core::testing::{generate, verify};
use otlp_core::{AckMode, Outcome, Signal};
use otlp_receive::{Config, Env, OtlpReceiver, grpc};

use crate::http2::{self, GOAWAY, PING, RST_STREAM, message};
use crate::raw::Raw;
use crate::server::{LONG, Server, eventually};

fn data() -> Vec<u8> {
    message(0, &generate::request(Signal::Traces, 1, 2))
}

fn exported() -> Config {
    Config { acknowledge: Some(AckMode::Exported), ..grpc::Config::default().into() }
}

#[test]
fn answers_come_in_the_order_of_the_outcomes() {
    let server = Server::waiting(exported());
    let mut client = Raw::connect(server.grpc());
    let streams: Vec<_> = (0..3).map(|_| client.start(Signal::Traces, &[], &data())).collect();
    let batches: Vec<_> = streams.iter().map(|_| server.batch()).collect();
    for (batch, &stream) in batches.into_iter().zip(&streams).rev() {
        std::thread::spawn(move || batch.settle(Outcome::Delivered)).join().unwrap();
        assert_eq!(client.answer(stream).code(), Some(0));
    }
}

#[test]
fn without_an_outcome_in_time_it_is_unavailable_and_withdrawn() {
    let config = Config { acknowledge_timeout: Duration::from_millis(100), ..exported() };
    let server = Server::waiting(config);
    let mut client = Raw::connect(server.grpc());
    let stream = client.start(Signal::Traces, &[], &data());
    let batch = server.batch();
    let answer = client.answer(stream);
    assert_eq!((answer.code(), answer.details().is_some()), (Some(14), true));
    assert!(batch.ticket().ack().is_withdrawn());
    batch.settle(Outcome::Delivered);
    assert_eq!(server.metric("otelcol_receiver_refused_spans", ("transport", "grpc")), 2.0);
    assert_eq!(server.metric("otelcol_receiver_accepted_spans", ("transport", "grpc")), 0.0);
}

#[test]
fn the_callers_deadline_ends_the_wait_grpc_28() {
    let server = Server::waiting(exported());
    let mut client = Raw::connect(server.grpc());
    for timeout in ["1n", "50m"] {
        let stream = client.start(Signal::Traces, &[("grpc-timeout", timeout)], &data());
        let batch = server.batch();
        assert_eq!(client.answer(stream).code(), Some(4), "DEADLINE_EXCEEDED");
        eventually("it is withdrawn", || batch.ticket().ack().is_withdrawn());
    }
    // Also while the message has not come.
    let stream = client.begin(Signal::Traces, &[("grpc-timeout", "50m")]);
    assert_eq!(client.answer(stream).code(), Some(4));
}

#[test]
fn a_caller_that_gives_up_withdraws_its_request() {
    let server = Server::waiting(exported());
    let mut client = Raw::connect(server.grpc());
    let stream = client.start(Signal::Traces, &[], &data());
    let batch = server.batch();
    client.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    eventually("it is withdrawn", || batch.ticket().ack().is_withdrawn());
    batch.settle(Outcome::Delivered);
    let stream = client.start(Signal::Traces, &[], &data());
    let batch = server.batch();
    assert!(!batch.ticket().ack().is_withdrawn());
    batch.settle(Outcome::Delivered);
    assert_eq!(client.answer(stream).code(), Some(0), "an outcome that came late meets no other call");
    // So does one that is gone.
    client.start(Signal::Traces, &[], &data());
    let batch = server.batch();
    drop(client);
    eventually("it is withdrawn", || batch.ticket().ack().is_withdrawn());
    eventually("it is counted", || server.metric("otlpd_receiver_failures", ("reason", "withdrawn")) == 2.0);
}

#[test]
fn stopping_says_goaway_and_answers_what_is_open_grpc_39() {
    let mut server = Server::waiting(exported());
    let mut client = Raw::connect(server.grpc());
    let mut idle = Raw::connect(server.grpc());
    idle.await_frame(http2::SETTINGS);
    let stream = client.start(Signal::Traces, &[], &data());
    let batch = server.batch();
    let stopping = std::thread::spawn(move || {
        server.shutdown(LONG);
        server
    });
    assert_eq!(client.await_frame(GOAWAY).number(4), 0, "NO_ERROR");
    batch.settle(Outcome::Delivered);
    assert_eq!(client.answer(stream).code(), Some(0), "what was open is answered");
    // A client answers the ping by which the server learns that its GOAWAY has arrived.
    let pong = client.await_frame(PING);
    client.try_send(&http2::frame(PING, http2::ACK, 0, &pong.payload));
    client.closed();
    idle.closed();
    drop((client, idle));
    let begun = Instant::now();
    let server = stopping.join().unwrap();
    assert!(begun.elapsed() < LONG / 2, "did not wait for the deadline");
    assert_eq!(server.receiver.health().state, HealthState::Stopped);
    assert_eq!(server.metric("otlpd_receiver_connections", ("transport", "grpc")), 0.0);
}

#[test]
fn calls_begun_while_stopping_are_told_to_come_again() {
    let mut server = Server::waiting(exported());
    let mut client = Raw::connect(server.grpc());
    let open = client.start(Signal::Traces, &[], &data());
    let batch = server.batch();
    let stopping = std::thread::spawn(move || server.shutdown(LONG));
    client.await_frame(GOAWAY);
    let late = client.start(Signal::Traces, &[], &data());
    assert_eq!(client.answer(late).code(), Some(14));
    batch.settle(Outcome::Delivered);
    assert_eq!(client.answer(open).code(), Some(0));
    client.closed();
    drop(client);
    stopping.join().unwrap();
}

#[test]
fn at_the_deadline_what_is_open_is_withdrawn() {
    let mut server = Server::waiting(exported());
    let mut client = Raw::connect(server.grpc());
    let waits = client.start(Signal::Traces, &[], &data());
    let receives = client.begin(Signal::Traces, &[]);
    let batch = server.batch();
    server.shutdown(Duration::ZERO);
    for stream in [waits, receives] {
        assert_eq!(client.answer(stream).code(), Some(14));
    }
    assert_eq!(client.closed(), Some(0), "GOAWAY with NO_ERROR");
    assert!(batch.ticket().ack().is_withdrawn());
}

#[test]
fn the_receiver_keeps_the_contract_of_receivers() {
    for signal in Signal::ALL {
        let make = || {
            let config = Config {
                acknowledge: Some(AckMode::Exported),
                acknowledge_timeout: Duration::from_secs(60),
                ..grpc::Config { endpoint: "127.0.0.1:0".into(), ..grpc::Config::default() }.into()
            };
            OtlpReceiver::new("otlp", config, Env::default())
        };
        let connect = |receiver: &OtlpReceiver| -> verify::SendOne {
            let address = receiver.grpc_addr().unwrap();
            Box::new(move |signal, body| {
                // The receiver may be gone by now.
                let Ok(stream) = std::net::TcpStream::connect(address) else { return false };
                stream.set_read_timeout(Some(LONG)).unwrap();
                let mut client = Raw::over_or_closed(Box::new(stream));
                client.try_send(&http2::call(1, signal.grpc_path(), &[], &message(0, &body)));
                client.answer_or_close(1).is_some_and(|answer| answer.code() == Some(0))
            })
        };
        verify::receiver(signal, make, connect);
    }
}
