//! Calls without a thread of ours.

use super::*;

fn direct(config: &Config) -> OtlpGrpc {
    exporter(config).without_thread()
}

#[test]
fn calls_follow_each_other_over_one_connection_and_start_no_thread() {
    let server = Server::start([ok(b""), Do::Reply(status(14, &[("grpc-message", "busy")])), ok(b"")]);
    let exporter = direct(&config(&server));
    assert_eq!(export(&exporter), Outcome::Delivered);
    let refused = failure(export(&exporter));
    assert!(refused.is_retryable() && refused.message.contains("busy"), "{refused}");
    assert_eq!(export(&exporter), Outcome::Delivered);
    assert_eq!([0; 3].map(|_| seen(&server).connection), [0, 0, 0]);
    assert!(exporter.thread.lock().is_none());
    exporter.shutdown(Deadline::NEVER);
    assert_eq!(failure(export(&exporter)).reason, Reason::SHUTDOWN);
}

#[test]
fn a_connection_that_ended_meanwhile_costs_no_call() {
    let away = || Do::ReplyAndGoAway(success(b""));
    // Before the call, with goodbye; then under it, once it was kept.
    let server = Server::start([away(), away(), ok(b""), Do::Close, ok(b"")]);
    let exporter = direct(&config(&server));
    for _ in 0..4 {
        assert_eq!(export(&exporter), Outcome::Delivered);
    }
    let connections: Vec<usize> = server.seen.try_iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 5);
    assert!(connections.is_sorted() && *connections.last().unwrap() >= 2, "{connections:?}");
}

#[test]
fn a_server_that_is_not_there_is_told_of_at_once_and_every_time() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tls = tls::Config { insecure: true, ..tls::Config::default() };
    let exporter = direct(&Config { endpoint: dead.to_string(), tls, timeout: LONG, ..Config::default() });
    for _ in 0..3 {
        let failure = failure(export(&exporter));
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::CONNECTION, true), "{failure}");
    }
}

#[test]
fn silence_ends_at_the_deadline_and_at_shutdown() {
    let server = Server::start([Do::Stall, Do::Stall]);
    let exporter = direct(&config(&server));
    let group = Group::of(batch(Signal::Traces, 0));
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(50));
    assert_eq!(failure(exporter.export(&group, deadline)).reason, Reason::TIMEOUT);
    assert_eq!(seen(&server).connection, 0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| failure(export(&exporter)));
        assert_eq!(seen(&server).connection, 1, "the first may be dead");
        exporter.shutdown(Deadline::at(Instant::now()));
        assert_eq!(waiting.join().unwrap().reason, Reason::SHUTDOWN);
    });
}

#[test]
fn callers_do_not_wait_for_each_other() {
    let server = Server::start([Do::Stall]);
    let exporter = direct(&config(&server));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| export(&exporter));
        seen(&server);
        let others: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..5).for_each(|_| insist(&exporter)))).collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(server.seen.try_iter().count(), 40);
        exporter.shutdown(Deadline::at(Instant::now()));
        assert!(!waiting.join().unwrap().is_delivered());
    });
}
