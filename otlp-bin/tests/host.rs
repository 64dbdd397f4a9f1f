//! A host of pipelines and clients keeps what is its own: allocator, logger, signal handlers, provider of cryptography.
//!
//! A program of its own, since these are the process's.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use otlp_bin::Pipeline;
use otlp_core::{Deadline, Signal};
use otlp_export::client::OtlpClient;
use otlp_export::otlp_http;

/// Does not compile beside one of ours.
#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

struct Hosts;

impl log::Log for Hosts {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}

/// Which signals are caught and ignored.
fn signals() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("SigCgt") || line.starts_with("SigIgn")).map(str::to_owned).collect()
}

#[test]
fn nothing_is_installed_behind_the_hosts_back() {
    let before = signals();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = otlp_receive::Config {
        http: Some(otlp_receive::http::Config { endpoint: "127.0.0.1:0".into(), ..Default::default() }),
        ..Default::default()
    };
    let https = otlp_http::Config { endpoint: format!("https://{dead}"), ..Default::default() };
    let mut pipeline = Pipeline::builder("host")
        .signals([Signal::Logs])
        .otlp("otlp", otlp_receive::Config { grpc: None, ..receiver })
        .otlp_http("https", https)
        .start()
        .unwrap();
    let url = format!("http://{}", pipeline.http_addr("otlp").unwrap());
    let client = OtlpClient::builder().endpoint(url).build().unwrap();
    client.send_log("hello").finish();
    client.shutdown(Duration::from_secs(60)).unwrap();
    // What it says of TLS and of connections it says to nobody.
    OtlpClient::builder().endpoint(format!("https://{dead}")).direct().build().unwrap().send_log("lost").finish();
    let summary = pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_millis(100)));
    assert!(summary.balances());
    assert_eq!(signals(), before);
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    assert_eq!(log::max_level(), log::LevelFilter::Off);
    log::set_logger(&Hosts).expect("the logger is the host's");
}
