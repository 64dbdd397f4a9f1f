//! A process without descriptors. Alone in its binary: the limit is the process's.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use otlp_core::component::{HealthState, Outlets, Receiver};
use otlp_receive::http::Config;
use otlp_receive::{Env, OtlpReceiver};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_secs(30);

fn health(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer[..15]).into_owned()
}

#[test]
fn connections_wait_while_the_process_has_no_descriptors_left() {
    let mut receiver = OtlpReceiver::new(
        "otlp",
        Config { endpoint: "127.0.0.1:0".into(), ..Config::default() }.into(),
        Env::default(),
    );
    receiver.start(Outlets::default()).unwrap();
    let address = receiver.http_addr().unwrap();
    let mut first = TcpStream::connect(address).unwrap();
    assert_eq!(health(&mut first), "HTTP/1.1 200 OK");

    // Room for one more: the client's end. Descriptors are given from below, so the next one is the count.
    let spare = std::fs::File::open("/dev/null").unwrap();
    let next = std::os::fd::AsRawFd::as_raw_fd(&spare) as u64;
    drop(spare);
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + 1), ..before }).unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    let end = Instant::now() + LONG;
    while receiver.health().state == HealthState::Ok {
        assert!(Instant::now() < end, "the receiver says that it cannot accept");
        std::thread::yield_now();
    }
    assert!(receiver.health().message.contains("cannot accept connections"), "{}", receiver.health().message);
    assert_eq!(health(&mut first), "HTTP/1.1 200 OK", "those that are open are served");

    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!(health(&mut second), "HTTP/1.1 200 OK", "the one that waited is served");
    let end = Instant::now() + LONG;
    while receiver.health().state != HealthState::Ok {
        assert!(Instant::now() < end, "the receiver is well again");
        std::thread::yield_now();
    }
}
