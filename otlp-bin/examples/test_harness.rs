//! A collector inside a test: an OTLP receiver on a free port and a file that holds what the code under test has sent.
//!
//! `cargo run --example test_harness`

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use otlp_bin::Pipeline;
use otlp_core::component::Exporter;
use otlp_core::telemetry::Registry;
use otlp_core::wire::Limits;
use otlp_core::{Batch, Clock, Deadline, Group, Outcome, Signal};
use otlp_export::file;
use otlp_export::otlp_http::{self, OtlpHttp};
use otlp_receive::{Config, http};

fn main() -> Result<(), Box<dyn Error>> {
    for line in run()? {
        println!("{line}");
    }
    Ok(())
}

/// A collector for one test.
pub struct Harness {
    pipeline: Pipeline,
    path: PathBuf,
}

impl Harness {
    /// Listens on a free port. Nothing is shared with other tests: they may run at once.
    pub fn start() -> Result<Harness, Box<dyn Error>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("harness-{}-{}.jsonl", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let http = http::Config { endpoint: "127.0.0.1:0".into(), ..http::Config::default() };
        let pipeline = Pipeline::builder("harness")
            .otlp("otlp", Config { grpc: None, http: Some(http), ..Config::default() })
            // Without a queue: once the sender hears OK, it is in the file.
            .file("file", file::Config::new(&path))
            .start()?;
        Ok(Harness { pipeline, path })
    }

    /// Where the code under test sends to: what goes into `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.pipeline.http_addr("otlp").map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// What has come so far, one request of OTLP/JSON a line.
    pub fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Stops, and fails where anything that was accepted is not in the file.
    pub fn finish(mut self) -> Vec<String> {
        let summary = self.pipeline.shutdown(Deadline::after(Instant::now(), Duration::from_secs(10)));
        assert!(summary.balances() && !summary.has_loss(), "{summary:?}");
        self.lines()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is to be tested: here it sends one span by HTTP.
fn code_under_test(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let config = otlp_http::Config { endpoint: endpoint.to_owned(), ..otlp_http::Config::default() };
    let exporter = OtlpHttp::new("test", &config, Signal::Traces, Clock::system(), &Registry::new())?;
    // A resource, a scope, a span named "checkout".
    let body: &[u8] = b"\x0a\x0e\x12\x0c\x12\x0a\x2a\x08checkout";
    let (batch, _) = Batch::check(Signal::Traces, body.into(), &Limits::default())?;
    let group = Group::of(batch);
    let outcome = exporter.export(&group, Deadline::after(Instant::now(), Duration::from_secs(10)));
    exporter.shutdown(Deadline::after(Instant::now(), Duration::from_secs(1)));
    match outcome {
        Outcome::Delivered => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// The test.
pub fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let harness = Harness::start()?;
    code_under_test(&harness.endpoint())?;
    assert!(harness.lines().iter().any(|line| line.contains("\"checkout\"")), "it arrived: {:?}", harness.lines());
    Ok(harness.finish())
}
