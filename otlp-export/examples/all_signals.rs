//! Everything the client can record, once each, sent to where the standard variables say.
//!
//! The interoperability tests read back what it sends, with sinks that nobody here wrote.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use otlp_export::client::{Kind, OtlpClient, Severity, Temporality, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let builder = OtlpClient::from_env(|name| std::env::var(name).ok()).service("everything").scope("example", "1.0");
    let client = builder.build()?;
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);

    let parent = client.send_trace("parent").with_kind(Kind::Server).with_start_time(at(1_700_000_000));
    let child = client
        .send_trace("child")
        .with_parent(parent.context())
        .with_attribute("text", "grün")
        .with_attribute("flag", true)
        .with_attribute("bytes", &[0u8, 255][..])
        .with_numeric_attribute("whole", -42)
        .with_numeric_attribute("half", 0.5)
        .with_event_at("happened", at(1_700_000_001), &[("n", Value::Int(1))])
        .with_error("it failed");
    client
        .send_log("a record")
        .with_severity(Severity::Error)
        .with_span(child.context())
        .with_numeric_attribute("code", 7)
        .finish();
    child.finish();
    parent.with_end_time(at(1_700_000_002)).finish();

    client.send_gauge("gauge", 0.25).with_unit("1").with_attribute("cpu", "0").with_time(at(1_700_000_003)).finish();
    client.send_sum("sum", 3).with_temporality(Temporality::Cumulative).with_start_time(at(1_700_000_000)).finish();
    client.send_histogram("histogram", &[1.0, 10.0], &[0.5, 5.0, 5.0, 50.0]).with_unit("ms").finish();

    let report = client.shutdown(Duration::from_secs(20))?;
    println!("{} items delivered", report.delivered);
    Ok(())
}
