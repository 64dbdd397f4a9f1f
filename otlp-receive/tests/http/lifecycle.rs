//! Starting, acknowledgement over time, stopping.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use otlp_core::component::{Guest, HealthState, Outlet, Outlets, Receiver, Refused};
use otlp_core::testing::{generate, verify};
use otlp_core::{AckMode, ByteSize, Deadline, Outcome, Signal};
use otlp_receive::http::Config;
use otlp_receive::{Env, OtlpReceiver};

use crate::server::{LONG, Server, eventually, post};

fn request() -> Vec<u8> {
    post(Signal::Traces, "", &generate::request(Signal::Traces, 1, 2))
}

#[test]
fn an_address_in_use_names_the_key_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = taken.local_addr().unwrap().to_string();
    let mut receiver =
        OtlpReceiver::new("otlp", Config { endpoint: endpoint.clone(), ..Config::default() }.into(), Env::default());
    let error = receiver.start(Outlets::default()).unwrap_err();
    assert_eq!(
        error.message,
        format!("cannot listen on {endpoint}: address in use; set receivers.otlp.protocols.http.endpoint")
    );
    assert_eq!((receiver.http_addr(), receiver.health().state), (None, HealthState::Starting));
}

#[test]
fn a_value_that_cannot_be_used_names_its_key() {
    let config = Config { endpoint: "nonsense".into(), ..Config::default() };
    let error = OtlpReceiver::new("otlp", config.into(), Env::default()).start(Outlets::default()).unwrap_err();
    assert!(error.message.starts_with("receivers.otlp.protocols.http.endpoint: "), "{}", error.message);
}

#[test]
fn every_address_is_served_where_no_host_is_given() {
    let mut receiver =
        OtlpReceiver::new("otlp", Config { endpoint: ":0".into(), ..Config::default() }.into(), Env::default());
    receiver.start(Outlets::default()).unwrap();
    let port = receiver.http_addr().unwrap().port();
    let mut client = crate::server::Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.send(&request()).answer().status, 404);
}

/// Sockets of somebody else's: says when it had its turn, and counts its hosts.
struct Visitor {
    source: UnixStream,
    turns: Mutex<mpsc::Sender<()>>,
    due: Mutex<Option<Instant>>,
    hosts: AtomicUsize,
    adopted: AtomicUsize,
}

impl Guest for Visitor {
    fn source(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    fn turn(&self) {
        *self.due.lock().unwrap() = None;
        let _ = (&self.source).read(&mut [0; 64]);
        let _ = self.turns.lock().unwrap().send(());
    }

    fn due(&self) -> Option<Instant> {
        *self.due.lock().unwrap()
    }

    fn adopt(&self) -> bool {
        self.adopted.fetch_add(1, Ordering::SeqCst);
        self.hosts.fetch_add(1, Ordering::SeqCst) == 0
    }

    fn release(&self) {
        self.hosts.store(0, Ordering::SeqCst);
    }
}

struct Visited(Arc<Visitor>);

impl Outlet for Visited {
    fn try_send(&self, batch: otlp_core::Batch) -> Result<(), Refused> {
        // The thread that asks is the host: it looks at this before it waits again.
        *self.0.due.lock().unwrap() = Some(Instant::now());
        batch.settle(Outcome::Delivered);
        Ok(())
    }

    fn guests(&self) -> Vec<Arc<dyn Guest>> {
        vec![self.0.clone()]
    }
}

#[test]
fn guests_have_their_turn_when_they_are_ready_and_when_they_are_due() {
    let (mut ours, source) = UnixStream::pair().unwrap();
    source.set_nonblocking(true).unwrap();
    let (sender, turns) = mpsc::channel();
    let visitor = Arc::new(Visitor {
        source,
        turns: Mutex::new(sender),
        due: Mutex::default(),
        hosts: AtomicUsize::new(0),
        adopted: AtomicUsize::new(0),
    });
    let mut outlets = Outlets::default();
    // The same behind two signals: it is hosted once.
    outlets.set(Signal::Traces, Arc::new(Visited(visitor.clone())));
    outlets.set(Signal::Logs, Arc::new(Visited(visitor.clone())));
    let mut server = Server::with_outlets(Config::default(), |_| {}, outlets, mpsc::channel().1);
    for _ in 0..3 {
        ours.write_all(b"!").unwrap();
        turns.recv_timeout(LONG).unwrap();
        assert_eq!(server.connect().send(&request()).answer().status, 200);
        turns.recv_timeout(LONG).unwrap();
    }
    server.shutdown(LONG);
    assert_eq!((visitor.adopted.load(Ordering::SeqCst), visitor.hosts.load(Ordering::SeqCst)), (2, 0));
}

#[test]
fn a_restart_binds_the_same_port_at_once_life_05() {
    let mut server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.send(&request()).answer().status, 200);
    server.shutdown(LONG);
    let config = Config { endpoint: server.address.to_string(), ..Config::default() };
    let mut again = OtlpReceiver::new("otlp", config.into(), Env::default());
    again.start(Outlets::default()).unwrap();
    assert_eq!(again.http_addr(), Some(server.address));
}

#[test]
fn stopping_closes_idle_connections_at_once_and_is_safe_twice_life_03() {
    let mut server = Server::start();
    let mut idle: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.send(&request()).answer().status, 200);
    }
    let begun = Instant::now();
    server.shutdown(LONG);
    assert!(begun.elapsed() < LONG / 2, "did not wait for the deadline");
    assert!(idle.iter_mut().all(|client| client.is_closed()));
    assert!(std::net::TcpStream::connect(server.address).is_err());
    server.shutdown(LONG);
    assert_eq!(server.receiver.health().state, HealthState::Stopped);
    assert!(server.receiver.start(Outlets::default()).is_err());
    assert_eq!(server.metric("otlpd_receiver_connections", ("transport", "http")), 0.0);
}

#[test]
fn stopping_answers_what_is_open() {
    let mut server = Server::run(
        otlp_receive::Config { acknowledge: Some(AckMode::Exported), ..Config::default().into() },
        |env| env.threads = 2,
        false,
    );
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.send(&request());
    });
    let batches: Vec<_> = (0..4).map(|_| server.batch()).collect();
    let address = server.address;
    let stopper = std::thread::spawn(move || {
        server.shutdown(LONG);
        server
    });
    eventually("it stops accepting", || std::net::TcpStream::connect(address).is_err());
    assert!(!stopper.is_finished());
    batches.into_iter().for_each(|batch| batch.settle(Outcome::Delivered));
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    drop(clients);
    stopper.join().unwrap();
}

#[test]
fn stopping_ends_at_the_deadline_and_tells_senders_to_come_again() {
    let mut server = Server::waiting(Config::default());
    let mut client = server.connect();
    client.send(&request());
    let batch = server.batch();
    server.shutdown(Duration::from_millis(50));
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection"), answer.failure().code), (503, Some("close"), 14));
    assert!(batch.ticket().ack().is_withdrawn());
    drop(batch);
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
}

#[test]
fn a_half_received_request_is_finished_while_stopping() {
    let mut server = Server::start();
    let mut client = server.connect();
    let request = request();
    client.send(&request[..request.len() - 1]);
    eventually("it was begun", || server.env.budget.reserved() > ByteSize::ZERO);
    let address = server.address;
    let stopper = std::thread::spawn(move || {
        server.shutdown(LONG);
        server
    });
    eventually("it stops accepting", || std::net::TcpStream::connect(address).is_err());
    let answer = client.send(&request[request.len() - 1..]).answer();
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    drop(client);
    assert_eq!(stopper.join().unwrap().batch().items().get(), 2);
}

#[test]
fn a_request_not_settled_in_time_is_refused_and_withdrawn() {
    let config = otlp_receive::Config { acknowledge_timeout: Duration::from_millis(100), ..Config::default().into() };
    let server = Server::waiting(config);
    let mut client = server.connect();
    client.send(&request());
    let batch = server.batch();
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("retry-after"), answer.failure().code), (503, Some("1"), 14));
    assert!(batch.ticket().ack().is_withdrawn());
    batch.settle(Outcome::Delivered);
    client.send(&request());
    server.batch().settle(Outcome::Delivered);
    assert_eq!(client.answer().status, 200, "the late outcome was told nobody");
}

#[test]
fn a_sender_that_goes_away_withdraws_its_request() {
    let server = Server::waiting(Config::default());
    for reset in [false, true] {
        let mut client = server.connect();
        client.send(&request());
        let batch = server.batch();
        if reset {
            // Closing with something unread resets the connection.
            socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        eventually("it is withdrawn", || batch.ticket().ack().is_withdrawn());
    }
    assert_eq!(server.metric("otelcol_receiver_refused_spans", ("receiver", "otlp")), 4.0);
}

#[test]
fn queued_is_acknowledged_when_the_queue_holds_it() {
    let server =
        Server::waiting(otlp_receive::Config { acknowledge: Some(AckMode::Queued), ..Config::default().into() });
    let mut client = server.connect();
    client.send(&request());
    let mut batch = server.batch();
    batch.ticket_mut().queued();
    assert_eq!(client.answer().status, 200);
    batch.settle(Outcome::Delivered);
}

#[test]
fn dropping_a_receiver_stops_it() {
    let server = Server::start();
    let mut client = server.connect();
    let address = server.address;
    drop(server);
    assert!(client.is_closed());
    assert!(std::net::TcpStream::connect(address).is_err());
    let mut never_started = OtlpReceiver::new("otlp", Config::default().into(), Env::default());
    never_started.shutdown(Deadline::NEVER);
}

#[test]
fn the_receiver_keeps_the_contract_of_receivers() {
    for signal in Signal::ALL {
        let make = || {
            let config = otlp_receive::Config {
                acknowledge: Some(AckMode::Exported),
                acknowledge_timeout: Duration::from_secs(60),
                ..Config { endpoint: "127.0.0.1:0".into(), ..Config::default() }.into()
            };
            OtlpReceiver::new("otlp", config, Env::default())
        };
        let connect = |receiver: &OtlpReceiver| -> verify::SendOne {
            let address = receiver.http_addr().unwrap();
            Box::new(move |signal, body| {
                // The receiver may be gone by now.
                let Ok(stream) = std::net::TcpStream::connect(address) else { return false };
                let mut client = crate::server::Client::of(stream);
                client.try_send(&post(signal, "", &body));
                client.answer_to("POST").is_some_and(|answer| answer.status == 200)
            })
        };
        verify::receiver(signal, make, connect);
    }
}

#[test]
fn a_driver_that_panics_is_begun_again() {
    let panics = Arc::new(AtomicBool::new(true));
    let server = Server::run(
        Config::default(),
        |env| {
            let panics = Arc::clone(&panics);
            env.healthy = Arc::new(move || !panics.swap(false, Ordering::SeqCst) || panic!("a defect of the process"));
        },
        false,
    );
    let mut open = server.connect();
    open.send(&request());
    let batch = server.batch();
    let mut client = server.connect();
    client.send(&crate::server::request("GET", "/health", "", b""));
    assert!(client.is_closed() && open.is_closed(), "its connections are lost");
    assert!(batch.ticket().ack().is_withdrawn(), "and their requests withdrawn");
    batch.settle(Outcome::Delivered);
    let mut again = server.connect();
    again.send(&request());
    server.batch().settle(Outcome::Delivered);
    assert_eq!(again.answer().status, 200);
    eventually("it is healthy again", || server.receiver.health().state == HealthState::Ok);
    assert_eq!(server.metric("otlpd_receiver_connections", ("transport", "http")), 1.0);
    assert_eq!(server.env.budget.reserved(), ByteSize::ZERO);
}
