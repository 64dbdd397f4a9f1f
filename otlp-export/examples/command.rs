//! A command-line tool that flushes before it exits, and says in its exit code whether its telemetry arrived.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example command -- Cargo.toml README.md
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::process::ExitCode;
use std::time::Duration;

use otlp_export::client::OtlpClient;

#[allow(dead_code, reason = "the test calls run")]
fn main() -> ExitCode {
    let client = match OtlpClient::from_env(|name| std::env::var(name).ok()).service("count").build() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("count: {error}");
            return ExitCode::from(2);
        }
    };
    let code = run(&client, std::env::args().skip(1));
    // Nothing was sent yet, most likely: the tool took less time than a batch waits. So this is what sends it, for two
    // seconds at most, whatever the collector does.
    match client.shutdown(Duration::from_secs(2)) {
        Ok(_) => code,
        Err(lost) => {
            eprintln!("count: {lost}");
            ExitCode::from(3)
        }
    }
}

/// Counts the lines of files, a span for each.
pub(crate) fn run(client: &OtlpClient, files: impl Iterator<Item = String>) -> ExitCode {
    let all = client.send_trace("count");
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let span = client.send_trace("file").with_parent(all.context()).with_attribute("file.path", &file);
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let lines = text.lines().count();
                println!("{lines} {file}");
                span.with_numeric_attribute("lines", lines).finish();
            }
            Err(error) => {
                eprintln!("count: {file}: {error}");
                span.with_error(error.to_string()).finish();
                code = ExitCode::FAILURE;
            }
        }
    }
    all.finish();
    code
}
