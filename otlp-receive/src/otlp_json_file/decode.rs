//! A line → a batch. No file, no clock.

use otlp_core::wire::validate;
use otlp_core::{Batch, ByteSize, Code, Failure, ItemCount, Reason, Signal, json};

/// The request in a line; none where it has no items.
///
/// The signal is told by the first key. Where that is another the request may still be there, behind keys that nobody knows.
///
/// # Errors
///
/// A rejection: the line is not a request.
pub(super) fn batch(line: &[u8], protobuf_bytes_max: ByteSize) -> Result<Option<Batch>, Failure> {
    let limits =
        json::Limits { any_id_length: true, protobuf_bytes_max: protobuf_bytes_max.as_usize(), ..Default::default() };
    let one = |signal| {
        let body = json::decode(signal, line, &limits).map_err(|error| malformed(error.to_string()))?;
        let checked = Batch::check(signal, body.into(), &validate::Limits::default());
        let (batch, _) = checked.map_err(|error| malformed(error.to_string()))?;
        Ok((batch.items() > ItemCount::ZERO).then_some(batch))
    };
    if let Some(signal) = signal(line) {
        return one(signal);
    }
    for signal in Signal::ALL {
        if let Some(batch) = one(signal)? {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

fn malformed(message: String) -> Failure {
    Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, message)
}

/// The signal that the first key names.
fn signal(line: &[u8]) -> Option<Signal> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    let key = line.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
    let key = &key[..key.iter().position(|&byte| byte == b'"')?];
    match key {
        b"resourceSpans" => Some(Signal::Traces),
        b"resourceMetrics" => Some(Signal::Metrics),
        b"resourceLogs" => Some(Signal::Logs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::testing::generate;

    #[test]
    fn the_signal_is_told_by_the_first_key_or_found_behind_others() {
        for signal in Signal::ALL {
            let body = generate::request(signal, 1, 3);
            let mut line = Vec::new();
            json::encode(signal, &body, &mut line);
            let plain = String::from_utf8(line).unwrap();
            for line in [
                plain.clone(),
                format!("\u{feff} {{ {}", &plain[1..]),
                format!("{{\"comment\":[1,{{}}],{}", &plain[1..]),
                plain.replacen("resource", "\\u0072esource", 1),
            ] {
                let batch = batch(line.as_bytes(), ByteSize::mib(1)).unwrap().unwrap();
                assert_eq!((batch.signal(), batch.items(), batch.body()), (signal, ItemCount(3), &body));
            }
            assert!(batch(&plain.as_bytes()[..plain.len() - 1], ByteSize::mib(1)).is_err());
            assert!(batch(plain.as_bytes(), ByteSize(10)).is_err(), "a limit is kept");
        }
        for nothing in ["{}", "{\"resourceSpans\":[]}", "{\"x\":1}"] {
            assert!(batch(nothing.as_bytes(), ByteSize::mib(1)).unwrap().is_none(), "{nothing}");
        }
        for bad in ["x", "[]", "{\"resourceSpans\":7}", "{\"resourceSp{\"resourceSpans\":[]}"] {
            assert!(batch(bad.as_bytes(), ByteSize::mib(1)).is_err(), "{bad}");
        }
    }
}
