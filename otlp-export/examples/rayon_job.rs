//! A batch job on rayon, with metrics: how many items were done, how long each took, and what is left.
//!
//! Recording takes well under a microsecond and never waits, so it may be done from rayon's threads.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --release --example rayon_job
//! ```
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use otlp_export::client::{OtlpClient, Temporality};
use rayon::prelude::*;

#[allow(dead_code, reason = "the test calls run")]
fn main() -> Result<(), Box<dyn Error>> {
    let client = OtlpClient::from_env(|name| std::env::var(name).ok()).service("primes").build()?;
    println!("{} primes", run(&client, 1_000_000, 10_000));
    client.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// Counts the primes below a limit, in pieces.
pub(crate) fn run(client: &OtlpClient, limit: u64, piece: u64) -> u64 {
    let job = client.send_trace("primes").with_numeric_attribute("limit", limit);
    let parent = job.context();
    let pieces = limit.div_ceil(piece);
    let left = AtomicU64::new(pieces);
    let found = (0..pieces)
        .into_par_iter()
        .map(|index| {
            let begun = Instant::now();
            let span = client.send_trace("piece").with_parent(parent).with_numeric_attribute("index", index);
            let found = (index * piece..((index + 1) * piece).min(limit)).filter(|&number| is_prime(number)).count();
            span.with_numeric_attribute("found", found).finish();
            client.send_sum("primes.found", found).with_unit("{prime}").finish();
            let taken = begun.elapsed().as_secs_f64() * 1000.0;
            client.send_histogram("primes.duration", &[1.0, 10.0, 100.0], &[taken]).with_unit("ms").finish();
            let left = left.fetch_sub(1, Ordering::Relaxed) - 1;
            client.send_gauge("primes.pieces.left", left).finish();
            found as u64
        })
        .sum();
    client.send_sum("primes.jobs", 1).with_temporality(Temporality::Delta).finish();
    job.with_numeric_attribute("found", found).finish();
    found
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
