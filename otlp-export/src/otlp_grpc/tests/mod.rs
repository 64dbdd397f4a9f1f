//! Against a server that does what the test says: the rows XG and RG of the conformance checklist, TLS, and the contract.

mod credentials;
mod direct;
mod secured;
mod server;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason as Reset;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_core::batch::Encoded;
use otlp_core::codec::Coding;
use otlp_core::component::Exporter;
use otlp_core::outcome::Retry;
use otlp_core::status::{PartialSuccess, Status, encode_response};
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::Registry;
use otlp_core::testing::verify::{self, request};
use otlp_core::thread::ThreadOptions;
use otlp_core::{Batch, Clock, Deadline, Failure, Group, ItemCount, Outcome, Reason, Signal};

use prost::Message;

use super::{Balancer, Config, Headers, Keepalive, OtlpGrpc};
use crate::otlp_http::base64;
use crate::tls;
use server::{Do, Options, Seen, Server, ok, read_headers, status, success, write_frame};

/// Longer than anything here can take, and short enough to end a hanging test.
const LONG: Duration = Duration::from_secs(60);

fn config(server: &Server) -> Config {
    Config {
        endpoint: server.address.to_string(),
        compression: Coding::Identity,
        timeout: LONG,
        tls: tls::Config { insecure: true, ..tls::Config::default() },
        ..Config::default()
    }
}

fn exporter_for(config: &Config, signal: Signal, registry: &Registry) -> OtlpGrpc {
    exporter_in(config, signal, registry, &[]).unwrap()
}

/// With these variables in its environment.
fn exporter_in(
    config: &Config,
    signal: Signal,
    registry: &Registry,
    environment: &[(&str, String)],
) -> Result<OtlpGrpc, crate::ConfigError> {
    let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    OtlpGrpc::in_environment("otlp_grpc", config, signal, ThreadOptions::default(), Clock::system(), registry, variable)
}

fn exporter(config: &Config) -> OtlpGrpc {
    exporter_for(config, Signal::Traces, &Registry::new())
}

fn batch(signal: Signal, mark: u64) -> Batch {
    Batch::trusted(signal, ItemCount(3), request(signal, 3, mark))
}

fn export(exporter: &OtlpGrpc) -> Outcome {
    exporter.export(&Group::of(batch(Signal::Traces, 0)), Deadline::NEVER)
}

/// Until it is taken, as whoever retries would do it.
fn insist(exporter: &OtlpGrpc) {
    let until = Instant::now() + LONG;
    while export(exporter) != Outcome::Delivered {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn seen(server: &Server) -> Seen {
    server.seen.recv_timeout(LONG).unwrap()
}

#[test]
fn calls_are_as_the_specification_has_them_xg_01_02_03_10() {
    let server = Server::start([]);
    let headers = Headers(vec![
        ("X-Tenant".into(), "a".into()),
        ("blob-bin".into(), "\u{1}\u{2}".into()),
        ("content-type".into(), "text/plain".into()),
        ("grpc-timeout".into(), "1n".into()),
    ]);
    for signal in Signal::ALL {
        let config = Config { headers: headers.clone(), ..config(&server) };
        let exporter = exporter_for(&config, signal, &Registry::new());
        let group = Group::of(batch(signal, 7));
        assert_eq!(exporter.export(&group, Deadline::after(Instant::now(), LONG)), Outcome::Delivered);
        let call = seen(&server);
        assert_eq!(call.head.method, "POST");
        assert_eq!(call.head.uri.scheme_str(), Some("http"));
        assert_eq!(call.head.uri.path(), signal.grpc_path());
        assert_eq!(call.head.uri.authority().unwrap().as_str(), server.address.to_string());
        for (name, value) in [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", concat!("otlpd/", env!("CARGO_PKG_VERSION"))),
            ("x-tenant", "a"),
            ("blob-bin", "AQI="),
        ] {
            assert_eq!(call.header(name), Some(value), "{name}");
        }
        let timeout = call.header("grpc-timeout").unwrap();
        assert!(timeout.ends_with('u') && timeout.len() == 9, "{timeout}");
        assert_eq!(call.message(), request(signal, 3, 7));
    }
}

#[test]
fn messages_are_compressed_as_configured() {
    for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Snappy] {
        let server = Server::start([]);
        let exporter = exporter(&Config { compression: coding, ..config(&server) });
        let mut group = Group::of(batch(Signal::Traces, 0));
        group.push(batch(Signal::Traces, 1));
        assert_eq!(exporter.export(&group, Deadline::NEVER), Outcome::Delivered);
        let call = seen(&server);
        let both = [request(Signal::Traces, 3, 0), request(Signal::Traces, 3, 1)].concat();
        assert_eq!(call.message(), both, "{coding}");
        assert_eq!(call.header("grpc-encoding"), Some(coding.as_str()).filter(|_| coding != Coding::Identity));
        assert!(call.header("grpc-timeout").is_some());
        if coding == Coding::Snappy {
            // The framed format's own beginning.
            assert_eq!(call.body[5..15], *b"\xff\x06\x00\x00sNaPpY");
        }
    }
}

/// Begins a call and says where its outcome will be; the group comes back with it.
fn begin(exporter: &OtlpGrpc, group: Group) -> Option<crossbeam_channel::Receiver<(Group, Option<Outcome>)>> {
    let (sender, heard) = crossbeam_channel::unbounded();
    let landed = Box::new(move |group, outcome| drop(sender.send((group, outcome))));
    exporter.begin(group, Deadline::NEVER, landed).ok().map(|()| heard)
}

#[test]
fn calls_are_begun_without_waiting_once_the_thread_runs() {
    let server = Server::start([ok(b""), ok(b""), Do::Reply(status(14, &[])), Do::Stall]);
    let exporter = exporter(&config(&server));
    let one = || Group::of(batch(Signal::Traces, 1));
    assert!(exporter.begins());
    assert!(begin(&exporter, one()).is_none(), "there is no thread yet");
    assert_eq!(export(&exporter), Outcome::Delivered);
    let (group, outcome) = begin(&exporter, one()).unwrap().recv_timeout(LONG).unwrap();
    assert_eq!((group.items(), outcome), (ItemCount(3), Some(Outcome::Delivered)));
    let later = begin(&exporter, one()).unwrap().recv_timeout(LONG).unwrap().1.unwrap();
    assert!(failure(later).is_retryable());
    assert_eq!((0..3).map(|_| seen(&server).connection).max(), Some(0), "one connection");
    // One that is never answered ends when the exporter stops.
    let heard = begin(&exporter, one()).unwrap();
    seen(&server);
    exporter.shutdown(Deadline::after(Instant::now(), Duration::from_millis(10)));
    assert!(failure(heard.recv_timeout(LONG).unwrap().1.unwrap()).is_retryable());
    assert!(begin(&exporter, one()).is_none());
}

#[test]
fn what_has_to_be_compressed_is_not_begun() {
    let server = Server::start([]);
    let exporter = exporter(&Config { compression: Coding::Gzip, ..config(&server) });
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert!(begin(&exporter, Group::of(batch(Signal::Traces, 0))).is_none());
    let mut original = Vec::new();
    otlp_core::codec::encode(Coding::Gzip, Some(9), &[&request(Signal::Traces, 3, 0)], &mut original).unwrap();
    let came = batch(Signal::Traces, 0).with_encoded(Encoded { coding: Coding::Gzip, body: original.clone().into() });
    let heard = begin(&exporter, Group::of(came)).unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap().1, Some(Outcome::Delivered));
    seen(&server);
    assert_eq!(seen(&server).body[5..], original[..]);
}

#[test]
fn what_came_compressed_leaves_as_it_came() {
    let server = Server::start([]);
    let exporter = exporter(&Config { compression: Coding::Gzip, ..config(&server) });
    // Level 9 makes other bytes than ours.
    let (mut original, body) = (Vec::new(), request(Signal::Traces, 300, 0));
    otlp_core::codec::encode(Coding::Gzip, Some(9), &[&body], &mut original).unwrap();
    let encoded = |coding| Encoded { coding, body: Bytes::from(original.clone()) };
    let batch = || Batch::trusted(Signal::Traces, ItemCount(300), body.clone());
    for (batch, as_it_came) in [
        (batch().with_encoded(encoded(Coding::Gzip)), true),
        (batch().with_encoded(encoded(Coding::Zstd)), false),
        (batch().with_encoded(encoded(Coding::Gzip)).with_body(body.clone()), false),
    ] {
        assert_eq!(exporter.export(&Group::of(batch), Deadline::NEVER), Outcome::Delivered);
        let call = seen(&server);
        assert_eq!(call.message(), body);
        assert_eq!(call.body[5..] == original, as_it_came);
    }
}

#[test]
fn calls_share_one_connection_xg_04() {
    let server = Server::start([]);
    let registry = Registry::new();
    let exporter = exporter_for(&config(&server), Signal::Traces, &registry);
    for _ in 0..3 {
        assert_eq!(export(&exporter), Outcome::Delivered);
        assert_eq!(seen(&server).connection, 0);
    }
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(export(&exporter), Outcome::Delivered));
        }
    });
    for _ in 0..20 {
        assert_eq!(seen(&server).connection, 0);
    }
    let count = |name: names::Name| {
        let samples = registry.samples();
        samples.iter().find(|sample| sample.entry == name).and_then(|sample| sample.as_number())
    };
    assert_eq!(count(names::EXPORTER_CONNECTIONS_OPENED), Some(1.0));
    assert_eq!(count(names::EXPORTER_CONNECTIONS_REUSED), Some(22.0));
}

#[test]
fn pings_are_answered_xg_05() {
    let server = Server::with(Options { ping: true, ..Options::default() }, []);
    let exporter = exporter(&config(&server));
    assert_eq!(export(&exporter), Outcome::Delivered);
    // Also while nothing is open.
    server.pongs.recv_timeout(LONG).unwrap();
}

#[test]
fn after_goaway_there_is_a_new_connection_and_nothing_is_lost_xg_06() {
    let server = Server::start([Do::ReplyAndGoAway(success(b"")), ok(b""), Do::ReplyAndGoAway(success(b""))]);
    let exporter = exporter(&config(&server));
    let connections: Vec<usize> = (0..4)
        .map(|_| {
            assert_eq!(export(&exporter), Outcome::Delivered);
            seen(&server).connection
        })
        .collect();
    assert!(connections[0] == 0 && connections[3] > 0, "{connections:?}");
    assert_eq!(server.seen.try_iter().count(), 0, "nothing went twice");
}

#[test]
fn what_the_server_has_not_seen_goes_again_at_once() {
    fn going(mut stream: TcpStream) {
        write_frame(&mut stream, 4, 0, &[]);
        read_headers(&mut stream);
        // The last stream that was looked at: none.
        write_frame(&mut stream, 7, 0, &[0; 8]);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    let server = Server::with(Options { raw: vec![going], ..Options::default() }, [Do::Reset(Reset::REFUSED_STREAM)]);
    let exporter = exporter(&config(&server));
    // One attempt of whoever retries: sent back by GOAWAY, refused, and taken.
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!([seen(&server).connection, seen(&server).connection], [1, 1]);
    // A server that refuses for ever is left alone.
    let refusing = Server::start(std::iter::repeat_n(Do::Reset(Reset::REFUSED_STREAM), 4));
    let failure = failure(export(&self::exporter(&config(&refusing))));
    assert_eq!((failure.reason, failure.retry), (Reason::UNAVAILABLE, Retry::Backoff));
    assert_eq!(refusing.seen.try_iter().count(), 4);
}

#[test]
fn statuses_are_read_from_trailers_only_and_from_trailers_xg_07_rg_01_to_05() {
    let info = |delay: Duration| {
        let mut bytes = Vec::new();
        Status { code: 14, retry_delay: Some(delay), ..Status::default() }.encode(&mut bytes);
        base64(&bytes)
    };
    let (three, half) = (info(Duration::from_secs(3)), info(Duration::from_millis(500)));
    let in_trailers = |code: &str| {
        let trailers = vec![("grpc-status", code.to_owned())];
        Do::Reply(server::Reply { message: Some(vec![]), trailers, ..success(b"") })
    };
    let mut cases: Vec<(Do, Retry)> = Vec::new();
    for code in [1, 4, 10, 11, 14, 15] {
        cases.push((Do::Reply(status(code, &[])), Retry::Backoff));
        cases.push((in_trailers(&code.to_string()), Retry::Backoff));
    }
    for code in [2, 3, 5, 6, 7, 8, 9, 12, 13, 16] {
        cases.push((Do::Reply(status(code, &[])), Retry::Never));
        cases.push((in_trailers(&code.to_string()), Retry::Never));
    }
    cases.extend([
        (Do::Reply(status(8, &[("grpc-status-details-bin", &half)])), Retry::After(Duration::from_millis(500))),
        (Do::Reply(status(14, &[("grpc-status-details-bin", &three)])), Retry::After(Duration::from_secs(3))),
        (Do::Early(status(14, &[])), Retry::Backoff),
        (Do::Reset(Reset::CANCEL), Retry::Backoff),
        (Do::Reset(Reset::ENHANCE_YOUR_CALM), Retry::Backoff),
        (Do::Reset(Reset::INTERNAL_ERROR), Retry::Never),
    ]);
    for status in [503, 429, 502, 504] {
        let reply = server::Reply { status, headers: vec![], message: Some(b"<html>".to_vec()), trailers: vec![] };
        cases.push((Do::Reply(reply), Retry::Backoff));
    }
    let server = Server::start(cases.iter().map(|(step, _)| step.clone()));
    let exporter = exporter(&config(&server));
    for (step, retry) in cases {
        assert_eq!(failure(export(&exporter)).retry, retry, "{step:?}");
    }
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert!(server.seen.try_iter().all(|call| call.connection == 0), "no connection was given up for it");
}

#[test]
fn an_early_refusal_of_a_large_message_is_read() {
    let refusal = status(8, &[("grpc-message", "grpc: received message larger than max (5 vs. 4)")]);
    let server = Server::start([Do::Early(refusal)]);
    let exporter = exporter(&config(&server));
    let body = request(Signal::Traces, 100_000, 0);
    let group = || Group::of(Batch::trusted(Signal::Traces, ItemCount(100_000), body.clone()));
    assert_eq!(failure(exporter.export(&group(), Deadline::NEVER)).reason, Reason::TOO_LARGE);
    assert_eq!(exporter.export(&group(), Deadline::NEVER), Outcome::Delivered);
    assert_eq!(seen(&server).message(), body);
}

#[test]
fn windows_are_obeyed_xg_08() {
    let server = Server::with(Options { window: Some(16), ..Options::default() }, []);
    let exporter = exporter(&config(&server));
    let body = request(Signal::Traces, 200, 0);
    let group = Group::of(Batch::trusted(Signal::Traces, ItemCount(200), body.clone()));
    assert_eq!(exporter.export(&group, Deadline::NEVER), Outcome::Delivered);
    assert_eq!(seen(&server).message(), body);
}

#[test]
fn silence_ends_at_the_deadline_and_costs_one_stream_xg_09() {
    let server = Server::start([Do::Stall]);
    let exporter = exporter(&Config { timeout: Duration::from_millis(50), ..config(&server) });
    let failure = failure(export(&exporter));
    assert_eq!((failure.reason, failure.retry), (Reason::TIMEOUT, Retry::Backoff));
    assert_eq!(failure.code, otlp_core::Code::DeadlineExceeded);
    insist(&exporter);
    assert_eq!([seen(&server).connection, seen(&server).connection], [0, 0]);
}

#[test]
fn a_server_that_never_greets_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let exporter = exporter(&Config {
        endpoint: listener.local_addr().unwrap().to_string(),
        timeout: Duration::from_millis(50),
        tls: tls::Config { insecure: true, ..tls::Config::default() },
        ..Config::default()
    });
    assert_eq!(failure(export(&exporter)).reason, Reason::TIMEOUT);
    assert_eq!(failure(export(&exporter)).reason, Reason::TIMEOUT);
}

#[test]
fn an_answer_above_4_mib_is_not_asked_for_again_xg_11() {
    let long = vec![0; (4 << 20) + 1];
    let announced = [&[0][..], &u32::MAX.to_be_bytes()].concat();
    let server = Server::start([
        ok(&long),
        Do::Reply(server::Reply { message: Some(announced), ..success(b"") }),
        ok(&{
            let mut full = Vec::new();
            let message = "x".repeat((4 << 20) - 100);
            encode_response(Some(&PartialSuccess { rejected: ItemCount(1), message }), &mut full);
            full
        }),
    ]);
    let exporter = exporter(&config(&server));
    for _ in 0..2 {
        let failure = failure(export(&exporter));
        assert_eq!((failure.reason, failure.retry), (Reason::BAD_ANSWER, Retry::Never));
    }
    let outcome = export(&exporter);
    assert!(matches!(outcome, Outcome::Partial { rejected: ItemCount(1), .. }), "{:.300}", format!("{outcome:?}"));
}

#[test]
fn partial_success_is_success_rg_06() {
    let mut bytes = Vec::new();
    encode_response(Some(&PartialSuccess { rejected: ItemCount(2), message: "old".into() }), &mut bytes);
    let server = Server::start([ok(&bytes)]);
    let partial = Outcome::Partial { rejected: ItemCount(2), message: "old".into() };
    assert_eq!(export(&exporter(&config(&server))), partial);
    assert_eq!(server.seen.try_iter().count(), 1);
}

#[test]
fn a_broken_connection_may_be_tried_again_rg_07() {
    fn no_http2(mut stream: TcpStream) {
        read_headers(&mut stream);
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    fn nothing(mut stream: TcpStream) {
        read_headers(&mut stream);
    }
    let server = Server::with(Options { raw: vec![no_http2, nothing], ..Options::default() }, [Do::Close]);
    let exporter = exporter(&Config { wait_for_ready: true, ..config(&server) });
    for _ in 0..2 {
        let failure = failure(export(&exporter));
        assert_eq!((failure.reason, failure.retry), (Reason::CONNECTION, Retry::Backoff), "{failure}");
    }
    let failure = failure(export(&exporter));
    assert_eq!((failure.reason, failure.retry), (Reason::CONNECTION, Retry::Backoff), "{failure}");
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!([seen(&server).connection, seen(&server).connection], [2, 3]);
}

#[test]
fn without_a_connection_calls_fail_at_once_unless_they_wait() {
    // Bound and not listening would refuse, too; this port is free again.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = Config {
        endpoint: address.to_string(),
        timeout: LONG,
        tls: tls::Config { insecure: true, ..tls::Config::default() },
        ..Config::default()
    };
    let failing = exporter(&config);
    let failure = failure(export(&failing));
    assert_eq!((failure.reason, failure.retry), (Reason::CONNECTION, Retry::Backoff));
    assert!(failure.message.contains("refused"), "{failure}");
    let waiting = exporter(&Config { wait_for_ready: true, ..config });
    std::thread::scope(|scope| {
        let call = scope.spawn(|| export(&waiting));
        // Whether it has failed once before or not: it waits.
        let server = Server::listen(TcpListener::bind(address).unwrap(), Options::default(), []);
        assert_eq!(call.join().unwrap(), Outcome::Delivered);
        assert_eq!(seen(&server).connection, 0);
    });
    insist(&failing);
}

#[test]
fn no_more_calls_are_open_than_the_server_takes() {
    let server = Server::with(Options { streams_max: Some(3), ..Options::default() }, []);
    let exporter = exporter(&config(&server));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(export(&exporter), Outcome::Delivered));
        }
    });
    let calls: Vec<Seen> = server.seen.try_iter().collect();
    assert_eq!(calls.len(), 50, "none was refused and sent again");
    assert!(calls.iter().all(|call| call.connection == 0));
}

#[test]
fn calls_above_the_cap_wait() {
    let server = Server::start([Do::Stall]);
    let queue = crate::queue::Config { num_consumers: 1, ..Default::default() };
    let exporter = exporter(&Config { sending_queue: queue, ..config(&server) });
    let soon = || Deadline::after(Instant::now(), Duration::from_millis(50));
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| export(&exporter));
        assert_eq!(seen(&server).connection, 0);
        let late = failure(exporter.export(&Group::of(batch(Signal::Traces, 1)), soon()));
        assert_eq!(late.reason, Reason::TIMEOUT);
        assert!(late.message.contains("too many calls"), "{late}");
        assert!(server.seen.try_recv().is_err());
        exporter.shutdown(soon());
        assert_eq!(failure(stalled.join().unwrap()).reason, Reason::SHUTDOWN);
    });
}

#[test]
fn calls_go_round_the_addresses_or_stay_with_the_first() {
    let (one, two) = (Server::start([]), Server::start([]));
    for (balancer, seconds) in [(Balancer::RoundRobin, true), (Balancer::PickFirst, false)] {
        let exporter = exporter(&Config { balancer_name: balancer, endpoint: "several:1".into(), ..config(&one) });
        exporter.plan.names.remember("several", 1, vec![one.address, two.address]);
        let until = Instant::now() + LONG;
        let mut used = [0, 0];
        while used[1] == 0 && used[0] < 100 && Instant::now() < until {
            assert_eq!(export(&exporter), Outcome::Delivered);
            used[0] += one.seen.try_iter().count();
            used[1] += two.seen.try_iter().count();
        }
        assert_eq!(used[1] > 0, seconds, "{balancer:?} {used:?}");
    }
    // Where the first takes no connection it is the second's turn.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for balancer in [Balancer::RoundRobin, Balancer::PickFirst] {
        let exporter = exporter(&Config { balancer_name: balancer, endpoint: "several:1".into(), ..config(&one) });
        exporter.plan.names.remember("several", 1, vec![gone, two.address]);
        assert_eq!(export(&exporter), Outcome::Delivered, "{balancer:?}");
        assert_eq!(two.seen.try_iter().count(), 1);
    }
}

#[test]
fn a_connection_on_which_nothing_comes_is_given_up() {
    fn mute(mut stream: TcpStream) {
        write_frame(&mut stream, 4, 0, &[]);
        read_headers(&mut stream);
        // Reads, and never answers, not even a ping.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    let server = Server::with(Options { raw: vec![mute], ..Options::default() }, []);
    let short = Duration::from_millis(20);
    let keepalive = Keepalive { time: short, timeout: short, permit_without_stream: false };
    let exporter = exporter(&Config { keepalive, ..config(&server) });
    let failure = failure(export(&exporter));
    assert_eq!((failure.reason, failure.retry), (Reason::CONNECTION, Retry::Backoff));
    assert!(failure.message.contains("ping"), "{failure}");
    insist(&exporter);
    // Or a later one, where the machine was slower than the time for an answer.
    assert!(seen(&server).connection > 0);
}

#[test]
fn pings_keep_a_slow_call_alive() {
    let server = Server::start([Do::Stall]);
    let short = Duration::from_millis(20);
    let keepalive = Keepalive { time: short, timeout: LONG, permit_without_stream: true };
    let exporter = exporter(&Config { keepalive, timeout: Duration::from_millis(300), ..config(&server) });
    assert_eq!(failure(export(&exporter)).reason, Reason::TIMEOUT);
    insist(&exporter);
    assert_eq!([seen(&server).connection, seen(&server).connection], [0, 0]);
}

#[test]
fn unix_sockets_are_reached() {
    let folder = std::env::temp_dir().join(format!("otlp-export-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("grpc.sock");
    let _ = std::fs::remove_file(&path);
    let server = Server::listen_unix(&path);
    let exporter = exporter(&Config { endpoint: format!("unix://{}", path.display()), ..config(&server) });
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!(seen(&server).head.uri.authority().unwrap().as_str(), "localhost");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Answers CONNECT to anything with the way to `server`, and tells what it was asked.
fn proxy(server: std::net::SocketAddr, answer: &'static str) -> (std::net::SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, heard) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            asked.send(String::from_utf8(head).unwrap()).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            if !answer.contains("200") {
                continue;
            }
            let mut server = TcpStream::connect(server).unwrap();
            let (mut back, mut forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut back);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut client, &mut forth);
                let _ = forth.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (address, heard)
}

#[test]
fn calls_go_through_the_environments_proxy() {
    let server = Server::start([]);
    let (address, asked) = proxy(server.address, "HTTP/1.1 200 OK\r\n\r\n");
    // Nobody here could resolve that name: only the proxy can.
    let config = Config { endpoint: "collector.invalid:4317".into(), ..config(&server) };
    for variable in ["grpc_proxy", "HTTPS_PROXY", "https_proxy"] {
        let environment = [(variable, format!("http://user:pass@{address}"))];
        let exporter = exporter_in(&config, Signal::Traces, &Registry::new(), &environment).unwrap();
        assert_eq!(export(&exporter), Outcome::Delivered, "{variable}");
        assert_eq!(export(&exporter), Outcome::Delivered, "{variable}");
        assert_eq!(seen(&server).head.uri.authority().unwrap().as_str(), "collector.invalid:4317");
        seen(&server);
        let head = asked.recv_timeout(LONG).unwrap();
        assert!(head.starts_with("CONNECT collector.invalid:4317 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
        assert!(asked.try_recv().is_err(), "one connection");
    }
    // Not for this host, nor where NO_PROXY says otherwise.
    let near = Config { endpoint: server.address.to_string(), ..config.clone() };
    let https = ("HTTPS_PROXY", format!("http://{address}"));
    let exporter = exporter_in(&near, Signal::Traces, &Registry::new(), std::slice::from_ref(&https)).unwrap();
    assert_eq!(export(&exporter), Outcome::Delivered);
    let no_proxy = ("NO_PROXY", "invalid".to_owned());
    let exporter = exporter_in(&config, Signal::Traces, &Registry::new(), &[https, no_proxy]).unwrap();
    exporter.plan.names.remember("collector.invalid", 4317, vec![server.address]);
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert!(asked.try_recv().is_err());
    // A proxy that gives no way is a server that cannot be reached.
    let (address, _asked) = proxy(server.address, "HTTP/1.1 407 Who are you\r\n\r\n");
    let environment = [("HTTPS_PROXY", format!("http://{address}"))];
    let exporter = exporter_in(&config, Signal::Traces, &Registry::new(), &environment).unwrap();
    let failure = failure(export(&exporter));
    assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true));
    assert!(failure.message.contains("the proxy answered 407"), "{failure}");
    let error = exporter_in(&config, Signal::Traces, &Registry::new(), &[("grpc_proxy", "socks5://p".into())]);
    assert_eq!(error.unwrap_err().key, "HTTPS_PROXY");
    // One that is reached by https cannot be used, which is of no matter where none is needed.
    let secure = [("HTTPS_PROXY", "https://p".to_owned())];
    let error = exporter_in(&config, Signal::Traces, &Registry::new(), &secure).unwrap_err();
    assert!(error.to_string().contains("grpc_proxy, HTTPS_PROXY"), "{error}");
    assert!(exporter_in(&near, Signal::Traces, &Registry::new(), &secure).is_ok());
}

#[test]
fn the_contract_of_exporters_is_kept() {
    let server = Server::start([]);
    let arrived = || {
        let calls = server.seen.try_iter().map(|call| spans(&call.message()));
        Some(ItemCount(calls.sum()))
    };
    let total = std::cell::Cell::new(ItemCount::ZERO);
    let arrived = || {
        total.set(total.get() + arrived()?);
        Some(total.get())
    };
    verify::exporter(Signal::Traces, || exporter(&config(&server)), arrived);
}

fn spans(message: &[u8]) -> u64 {
    let request = ExportTraceServiceRequest::decode(message).unwrap();
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len() as u64).sum()
}
