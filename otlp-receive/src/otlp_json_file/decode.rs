//! A record → a batch. No file, no clock.

use otlp_core::codec::{self, Coding, DecodeError};
use otlp_core::wire::validate;
use otlp_core::{Batch, ByteSize, Code, Failure, ItemCount, Reason, Signal, json};

/// How a zstd frame begins (RFC 8878, section 3.1.1). No protobuf request does: it has no field 5.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How a request begins that has anything known: the tag of its only field.
const REQUEST_FIELD: u8 = 0x0a;

/// The request in a record that stood behind its length: JSON or protobuf, compressed with zstd or not. None where it has
/// no items.
///
/// Protobuf does not say its signal. It is the one as which the record is valid: the ids and times of a span, the time of a
/// log record and the data of a metric exclude each other. Where little else is given it may be valid as several; then it
/// is metrics if it has data points, else what is `wanted`, else logs.
///
/// `record_bytes_max` bounds what it inflates to; `reserve` is asked before memory is taken for that.
///
/// # Errors
///
/// A rejection: the record is no request. And what `reserve` gives.
pub(super) fn frame(
    record: &[u8],
    record_bytes_max: ByteSize,
    wanted: impl Fn(Signal) -> bool,
    reserve: &mut dyn FnMut(ByteSize) -> Result<(), Failure>,
) -> Result<Option<Batch>, Failure> {
    let inflated;
    let plain = if record.starts_with(&ZSTD) {
        inflated = codec::decode(Coding::Zstd, record, record_bytes_max, reserve).map_err(|error| match error {
            DecodeError::Refused(failure) => failure,
            DecodeError::TooLarge { limit } => {
                let message = format!("a request inflates to more than {limit}");
                Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message)
            }
            error => malformed(format!("a compressed request is damaged: {error}")),
        })?;
        &inflated[..]
    } else {
        record
    };
    if plain.first() == Some(&b'{') {
        return line(plain, record_bytes_max);
    }
    protobuf(plain, wanted)
}

fn protobuf(plain: &[u8], wanted: impl Fn(Signal) -> bool) -> Result<Option<Batch>, Failure> {
    let bytes = bytes::Bytes::copy_from_slice(plain);
    let (mut valid, mut errors) = (Vec::new(), Vec::new());
    for signal in Signal::ALL {
        match Batch::check(signal, bytes.clone(), &validate::Limits::default()) {
            Ok((batch, _)) => valid.push(batch),
            Err(error) => errors.push(format!("as {signal}: {error}")),
        }
    }
    // Other fields are unknown, of which nearly any text consists.
    if valid.is_empty() || !(plain.is_empty() || plain[0] == REQUEST_FIELD) {
        return Err(malformed(format!("neither JSON nor a request in protobuf: {}", errors.join("; "))));
    }
    valid.retain(|batch| batch.items() > ItemCount::ZERO);
    if valid.len() > 1 {
        // A data point is far down; a span or log record that looks like one would have to begin its text with its tags.
        let metrics = valid.iter().any(|batch| batch.signal() == Signal::Metrics);
        valid.retain(|batch| (batch.signal() == Signal::Metrics) == metrics);
    }
    if valid.len() > 1 && valid.iter().any(|batch| wanted(batch.signal())) {
        valid.retain(|batch| wanted(batch.signal()));
    }
    // Logs come last: a log record may be a text alone, but a span has ids.
    Ok(valid.pop())
}

/// The request in a line; none where it has no items.
///
/// The signal is told by the first key. Where that is another the request may still be there, behind keys that nobody knows.
///
/// # Errors
///
/// A rejection: the line is not a request.
pub(super) fn line(line: &[u8], line_bytes_max: ByteSize) -> Result<Option<Batch>, Failure> {
    // Protobuf is nearly always smaller. Lists of numbers may grow by up to four times.
    let protobuf_bytes_max = ByteSize(line_bytes_max.get().saturating_mul(4));
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
    use otlp_core::testing::{generate, verify};

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
                let batch = super::line(line.as_bytes(), ByteSize::mib(1)).unwrap().unwrap();
                assert_eq!((batch.signal(), batch.items(), batch.body()), (signal, ItemCount(3), &body));
            }
            assert!(super::line(&plain.as_bytes()[..plain.len() - 1], ByteSize::mib(1)).is_err());
            assert!(super::line(plain.as_bytes(), ByteSize(10)).is_err(), "a limit is kept");
        }
        for nothing in ["{}", "{\"resourceSpans\":[]}", "{\"x\":1}"] {
            assert!(super::line(nothing.as_bytes(), ByteSize::mib(1)).unwrap().is_none(), "{nothing}");
        }
        for bad in ["x", "[]", "{\"resourceSpans\":7}", "{\"resourceSp{\"resourceSpans\":[]}"] {
            assert!(super::line(bad.as_bytes(), ByteSize::mib(1)).is_err(), "{bad}");
        }
    }

    /// The signal that alone is wanted, or all of them.
    fn frame_of(record: &[u8], only: Option<Signal>) -> Result<Option<Batch>, Failure> {
        frame(record, ByteSize::mib(1), |signal| only.is_none_or(|only| only == signal), &mut |_| Ok(()))
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        codec::encode(Coding::Zstd, None, &[plain], &mut out).unwrap();
        out
    }

    #[test]
    fn every_kind_of_record_is_told_by_its_content() {
        for (signal, seed) in Signal::ALL.into_iter().flat_map(|signal| (0..50).map(move |seed| (signal, seed))) {
            let body = generate::request(signal, seed, 5);
            let mut json = Vec::new();
            json::encode(signal, &body, &mut json);
            for record in [json.clone(), zstd(&json), body.to_vec(), zstd(&body)] {
                let batch = frame_of(&record, None).unwrap().unwrap();
                assert_eq!((batch.signal(), batch.items(), batch.body()), (signal, ItemCount(5), &body));
            }
        }
    }

    #[test]
    fn protobuf_that_may_be_several_signals_is_what_it_most_likely_is() {
        // One item without a field.
        let record = [0x0a, 4, 0x12, 2, 0x12, 0];
        for signal in [Signal::Traces, Signal::Logs] {
            assert_eq!(frame_of(&record, Some(signal)).unwrap().unwrap().signal(), signal);
        }
        assert_eq!(frame_of(&record, None).unwrap().unwrap().signal(), Signal::Logs);
        assert_eq!(frame_of(&record, Some(Signal::Metrics)).unwrap().unwrap().signal(), Signal::Logs);
        // Valid as spans and log records, too: their texts are short.
        let metrics = verify::request(Signal::Metrics, 2, 1);
        for only in [None, Some(Signal::Traces), Some(Signal::Logs), Some(Signal::Metrics)] {
            assert_eq!(frame_of(&metrics, only).unwrap().unwrap().signal(), Signal::Metrics);
        }
        assert!(frame_of(b"", None).unwrap().is_none());
        assert!(frame_of(&[0x0a, 0], None).unwrap().is_none());
    }

    #[test]
    fn what_is_no_record_is_refused_and_says_why() {
        let body = generate::request(Signal::Logs, 1, 5);
        let whole = zstd(&body);
        let bomb = zstd(&vec![0; 2 << 20]);
        for (record, reason, words) in [
            (&b"essay"[..], Reason::MALFORMED, "neither JSON nor"),
            (b"{\"resourceLogs\":7}", Reason::MALFORMED, "resourceLogs"),
            (&body[..body.len() - 1], Reason::MALFORMED, "as logs: "),
            (&whole[..whole.len() - 1], Reason::MALFORMED, "damaged"),
            (&bomb, Reason::TOO_LARGE, "more than 1"),
        ] {
            let failure = frame_of(record, None).unwrap_err();
            assert!(failure.reason == reason && !failure.is_retryable(), "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
        let refused = |_| Err(Failure::refused(Reason::MEMORY_BUDGET, "full"));
        let failure = frame(&whole, ByteSize::mib(1), |_| true, &mut { refused }).unwrap_err();
        assert!(failure.is_retryable(), "{failure}");
    }
}
