//! The small messages that go back to a sender, in JSON: `Export*ServiceResponse` and `google.rpc.Status`.

use std::time::Duration;

use crate::signal::Signal;
use crate::status::{PartialSuccess, Status};
use crate::unit::ItemCount;

use super::encode::put_text;
use super::error::{Expected, JsonError};
use super::number::put_unsigned;
use super::scan::{Cursor, Scan};

/// Lists and objects may nest so deep in an answer.
const DEPTH_MAX: u32 = 100;

/// The key under which the response of a signal counts what was rejected.
const fn rejected_key(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    }
}

/// Appends an `Export*ServiceResponse` in JSON. Full success is `{}`: `partialSuccess` must not be set then (OTLP/HTTP
/// Response, Full Success).
pub fn encode_response(signal: Signal, partial: Option<&PartialSuccess>, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(partial) = partial {
        out.extend_from_slice(b"\"partialSuccess\":{");
        if partial.rejected != ItemCount::ZERO {
            put_text(out, rejected_key(signal).as_bytes());
            out.extend_from_slice(b":\"");
            put_unsigned(out, partial.rejected.get());
            out.push(b'"');
        }
        if !partial.message.is_empty() {
            if partial.rejected != ItemCount::ZERO {
                out.push(b',');
            }
            out.extend_from_slice(b"\"errorMessage\":");
            put_text(out, partial.message.as_bytes());
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Reads an `Export*ServiceResponse` in JSON. An empty `partialSuccess` is full success; a negative count makes no sense and
/// is read as none.
///
/// # Errors
///
/// Where the document is not JSON, or its known fields are of another type.
pub fn decode_response(signal: Signal, document: &[u8]) -> Result<Option<PartialSuccess>, JsonError> {
    let mut partial = PartialSuccess { rejected: ItemCount::ZERO, message: String::new() };
    read(document, |cursor| {
        object(cursor, |cursor, key| {
            if key != b"partialSuccess" {
                return cursor.skip(DEPTH_MAX);
            }
            object(cursor, |cursor, key| {
                if key == rejected_key(signal).as_bytes() {
                    let count = integer(cursor, i64::MIN, i64::MAX)?;
                    partial.rejected = ItemCount(u64::try_from(count).unwrap_or(0));
                } else if key == b"errorMessage" {
                    partial.message = text(cursor)?;
                } else {
                    cursor.skip(DEPTH_MAX)?;
                }
                Ok(())
            })
        })
    })?;
    Ok((partial.rejected != ItemCount::ZERO || !partial.message.is_empty()).then_some(partial))
}

impl Status {
    /// Reads the ProtoJSON form. Details of other types are passed over, and so is a delay that is no duration.
    ///
    /// # Errors
    ///
    /// Where the document is not JSON, or its known fields are of another type.
    pub fn from_json(document: &[u8]) -> Result<Status, JsonError> {
        let mut status = Status::default();
        read(document, |cursor| {
            object(cursor, |cursor, key| {
                match key {
                    b"code" => status.code = integer(cursor, i64::from(i32::MIN), i64::from(i32::MAX))? as i32,
                    b"message" => status.message = text(cursor)?,
                    b"details" => list(cursor, |cursor| detail(cursor, &mut status))?,
                    _ => cursor.skip(DEPTH_MAX)?,
                }
                Ok(())
            })
        })?;
        Ok(status)
    }
}

/// A `google.protobuf.Any` in JSON: the fields of its message beside its type. The two types that matter have no field
/// name in common, so the type need not be known before the fields.
fn detail(cursor: &mut Cursor<'_>, status: &mut Status) -> Scan<()> {
    let (mut retry_info, mut bad_request) = (false, false);
    let (mut delay, mut violations) = (None, Vec::new());
    object(cursor, |cursor, key| {
        match key {
            b"@type" => {
                let url = text(cursor)?;
                retry_info = url.ends_with("/google.rpc.RetryInfo");
                bad_request = url.ends_with("/google.rpc.BadRequest");
            }
            b"retryDelay" => delay = duration(&text_or_other(cursor)?),
            b"fieldViolations" => list(cursor, |cursor| {
                object(cursor, |cursor, key| {
                    match key {
                        b"description" => violations.push(text(cursor)?),
                        _ => cursor.skip(DEPTH_MAX)?,
                    }
                    Ok(())
                })
            })?,
            _ => cursor.skip(DEPTH_MAX)?,
        }
        Ok(())
    })?;
    if retry_info {
        status.retry_delay = delay;
    }
    if bad_request {
        status.violations.append(&mut violations);
    }
    Ok(())
}

/// A duration in ProtoJSON, `"1.5s"`. A negative or absurd one is none.
fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: u64 = seconds.parse().ok().filter(|seconds| *seconds <= i64::MAX as u64)?;
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos))
}

fn read(document: &[u8], body: impl FnOnce(&mut Cursor<'_>) -> Scan<()>) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(document);
    body(&mut cursor).and_then(|()| cursor.end()).map_err(|_| {
        let (offset, expected) = cursor.failure();
        JsonError::at(document, offset, expected)
    })
}

/// Calls back with each key that has a value other than null. Of a key given twice the last counts: an answer is read for
/// what can be had from it.
fn object<'a>(cursor: &mut Cursor<'a>, mut field: impl FnMut(&mut Cursor<'a>, &[u8]) -> Scan<()>) -> Scan<()> {
    cursor.expect(b'{', Expected::Object)?;
    if cursor.closes(b'}') {
        return Ok(());
    }
    loop {
        let key = cursor.any_key()?;
        if !cursor.null()? {
            field(cursor, &key)?;
        }
        if !cursor.more(b'}')? {
            return Ok(());
        }
    }
}

fn list<'a>(cursor: &mut Cursor<'a>, mut element: impl FnMut(&mut Cursor<'a>) -> Scan<()>) -> Scan<()> {
    cursor.expect(b'[', Expected::Array)?;
    if cursor.closes(b']') {
        return Ok(());
    }
    loop {
        element(cursor)?;
        if !cursor.more(b']')? {
            return Ok(());
        }
    }
}

fn text(cursor: &mut Cursor<'_>) -> Scan<String> {
    // The cursor gives UTF-8; nothing is replaced.
    cursor.string(Expected::Text).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// A string; another value is passed over as if it were empty.
fn text_or_other(cursor: &mut Cursor<'_>) -> Scan<String> {
    if cursor.peek() == b'"' { text(cursor) } else { cursor.skip(DEPTH_MAX).map(|()| String::new()) }
}

fn integer(cursor: &mut Cursor<'_>, min: i64, max: i64) -> Scan<i64> {
    let (start, integer) = cursor.integer()?;
    match integer.and_then(|integer| integer.signed()).filter(|value| (min..=max).contains(value)) {
        Some(value) => Ok(value),
        None => Err(cursor.fail(start, Expected::Integer { min, max: max as u64 })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Code, Failure, Reason};

    #[test]
    fn json_37_responses_go_both_ways() {
        let partial = |rejected, message: &str| Some(PartialSuccess { rejected, message: message.into() });
        let table = [
            (Signal::Traces, None, "{}"),
            (
                Signal::Traces,
                partial(ItemCount(3), "bad \"ids\""),
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"bad \"ids\""}}"#,
            ),
            (Signal::Metrics, partial(ItemCount(1), ""), r#"{"partialSuccess":{"rejectedDataPoints":"1"}}"#),
            (Signal::Logs, partial(ItemCount::ZERO, "slow"), r#"{"partialSuccess":{"errorMessage":"slow"}}"#),
        ];
        for (signal, partial, text) in table {
            let mut out = Vec::new();
            encode_response(signal, partial.as_ref(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            assert_eq!(decode_response(signal, text.as_bytes()), Ok(partial));
        }
    }

    #[test]
    fn responses_of_others_are_read() {
        let read = |text: &str| decode_response(Signal::Logs, text.as_bytes());
        let rejected = |count| Ok(Some(PartialSuccess { rejected: ItemCount(count), message: String::new() }));
        for text in ["{}", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":null}"#, " {\"x\":[{}]} "] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        assert_eq!(read(r#"{"partialSuccess":{"rejectedLogRecords":5,"x":1}}"#), rejected(5));
        assert_eq!(read(r#"{"partialSuccess":{"rejectedLogRecords":"-5"}}"#), Ok(None));
        assert_eq!(read(r#"{"partialSuccess":{"rejectedSpans":"5"}}"#), Ok(None));
        let error = read(r#"{"partialSuccess":{"rejectedLogRecords":"many"}}"#).unwrap_err();
        assert_eq!((error.path.as_str(), error.offset), ("partialSuccess.rejectedLogRecords", 40));
        for text in ["", "<html>", "[]", "{} x", r#"{"partialSuccess":"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_status_comes_back_as_it_went() {
        let failures = [
            Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, "not a \"request\": \u{1}\n"),
            Failure::refused(Reason::QUEUE_FULL, "full").retry_after(Duration::from_millis(1500)),
            Failure::refused(Reason::QUEUE_FULL, "full").retry_after(Duration::from_nanos(1)),
        ];
        for status in failures.iter().map(Status::of).chain([Status::default()]) {
            assert_eq!(Status::from_json(status.to_json().as_bytes()), Ok(status));
        }
    }

    #[test]
    fn statuses_of_others_are_read() {
        let text = r#"{"details":[{"retryDelay":"3s","@type":"type.googleapis.com/google.rpc.RetryInfo"},
            {"@type":"other","retryDelay":7,"fieldViolations":[{"description":"no"}]},
            {"@type":"x/google.rpc.BadRequest","fieldViolations":[{"field":"f","description":"d"},{}]}],
            "message":null,"code":"3"}"#;
        let expected = Status {
            code: 3,
            message: String::new(),
            retry_delay: Some(Duration::from_secs(3)),
            violations: vec!["d".into()],
        };
        assert_eq!(Status::from_json(text.as_bytes()), Ok(expected));
        assert!(Status::from_json(b"<html>").is_err());
        for (text, expected) in [
            ("1.5s", Some(Duration::from_millis(1500))),
            ("0.000000001s", Some(Duration::from_nanos(1))),
            ("-1s", None),
            ("1", None),
            ("s", None),
            ("1.s", None),
            ("1.0000000001s", None),
            ("99999999999999999999s", None),
            ("+1s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
