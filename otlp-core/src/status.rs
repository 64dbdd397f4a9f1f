//! The small messages that go back to a sender: `Export*ServiceResponse` and `google.rpc.Status`.
//!
//! Written and read by [`crate::wire`]: they have a handful of fields, and a protobuf library would bring thirty crates.

use std::sync::Arc;
use std::time::Duration;

use crate::outcome::{Code, Failure, Outcome, Retry};
use crate::unit::ItemCount;
use crate::wire::reader::{Read, Value, fields};
use crate::wire::writer::{begin, end, put_delimited, put_varint_field};

/// `google.rpc.Status`: the body of every 4xx and 5xx answer (OTLP/HTTP Response, Failures).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// A gRPC code's number, as found.
    pub code: i32,
    /// For the client's eyes.
    pub message: String,
    /// The delay of a `google.rpc.RetryInfo` among the details.
    pub retry_delay: Option<Duration>,
    /// Descriptions of the violations of a `google.rpc.BadRequest` among the details.
    pub violations: Vec<String>,
}

const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    /// The status that tells a sender of this failure.
    ///
    /// A malformed request gets a `BadRequest` with the message as its one violation (OTLP/HTTP, Bad Data); a delay gets
    /// a `RetryInfo` (OTLP/gRPC Throttling).
    pub fn of(failure: &Failure) -> Status {
        Status {
            code: failure.code.number(),
            message: failure.message.to_string(),
            retry_delay: match failure.retry {
                Retry::After(delay) => Some(delay),
                Retry::Never | Retry::Backoff => None,
            },
            violations: match failure.code {
                Code::InvalidArgument => vec![failure.message.to_string()],
                _ => Vec::new(),
            },
        }
    }

    /// Appends the protobuf form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint_field(out, 1, self.code as i64 as u64);
        if !self.message.is_empty() {
            put_delimited(out, 2, self.message.as_bytes());
        }
        if !self.violations.is_empty() {
            let mut body = Vec::new();
            for violation in &self.violations {
                let open = begin(&mut body, 1, violation.len() + 2);
                put_delimited(&mut body, 2, violation.as_bytes());
                end(&mut body, open);
            }
            put_any(out, BAD_REQUEST, &body);
        }
        if let Some(delay) = self.retry_delay {
            let mut body = Vec::new();
            let open = begin(&mut body, 1, 8);
            put_varint_field(&mut body, 1, delay.as_secs());
            put_varint_field(&mut body, 2, u64::from(delay.subsec_nanos()));
            end(&mut body, open);
            put_any(out, RETRY_INFO, &body);
        }
    }

    /// Reads the protobuf form. Details of other types are passed over.
    ///
    /// # Errors
    ///
    /// Where the bytes are not protobuf. A message that is not UTF-8 is read with replacement characters.
    pub fn decode(bytes: &[u8]) -> Read<Status> {
        let mut status = Status::default();
        for field in fields(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Varint(code)) => status.code = code as i32,
                (2, Value::Len(text)) => status.message = String::from_utf8_lossy(text).into_owned(),
                (3, Value::Len(any)) => status.read_detail(any)?,
                _ => {}
            }
        }
        Ok(status)
    }

    fn read_detail(&mut self, any: &[u8]) -> Read<()> {
        let (mut url, mut body): (&[u8], &[u8]) = (&[], &[]);
        for field in fields(any) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Len(text)) => url = text,
                (2, Value::Len(bytes)) => body = bytes,
                _ => {}
            }
        }
        for field in fields(body) {
            let field = field?;
            if let (1, Value::Len(inner)) = (field.number, field.value) {
                if url == RETRY_INFO.as_bytes() {
                    self.retry_delay = read_duration(inner)?;
                } else if url == BAD_REQUEST.as_bytes() {
                    for field in fields(inner) {
                        let field = field?;
                        if let (2, Value::Len(text)) = (field.number, field.value) {
                            self.violations.push(String::from_utf8_lossy(text).into_owned());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The ProtoJSON form, for answers to JSON requests and to requests of an unknown type.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        if self.code != 0 {
            out.push_str(&format!("\"code\":{},", self.code));
        }
        out.push_str("\"message\":");
        put_json_string(&mut out, &self.message);
        let mut details = Vec::new();
        if !self.violations.is_empty() {
            let list: Vec<_> = self
                .violations
                .iter()
                .map(|text| {
                    let mut item = String::from("{\"description\":");
                    put_json_string(&mut item, text);
                    item + "}"
                })
                .collect();
            details.push(format!("{{\"@type\":\"{BAD_REQUEST}\",\"fieldViolations\":[{}]}}", list.join(",")));
        }
        if let Some(delay) = self.retry_delay {
            details.push(format!(
                "{{\"@type\":\"{RETRY_INFO}\",\"retryDelay\":\"{}.{:09}s\"}}",
                delay.as_secs(),
                delay.subsec_nanos()
            ));
        }
        if !details.is_empty() {
            out.push_str(&format!(",\"details\":[{}]", details.join(",")));
        }
        out + "}"
    }
}

/// A negative or absurd duration is none: a peer's clock must not decide that we wait for ever.
fn read_duration(bytes: &[u8]) -> Read<Option<Duration>> {
    let (mut seconds, mut nanos) = (0u64, 0u64);
    for field in fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(value)) => seconds = value,
            (2, Value::Varint(value)) => nanos = value,
            _ => {}
        }
    }
    Ok((seconds <= i64::MAX as u64 && nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos as u32)))
}

fn put_any(out: &mut Vec<u8>, url: &str, body: &[u8]) {
    let open = begin(out, 3, url.len() + body.len() + 8);
    put_delimited(out, 1, url.as_bytes());
    put_delimited(out, 2, body);
    end(out, open);
}

fn put_json_string(out: &mut String, text: &str) {
    out.push('"');
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            ch if ch < ' ' => out.push_str(&format!("\\u{:04x}", ch as u32)),
            ch => out.push(ch),
        }
    }
    out.push('"');
}

/// The `partial_success` of an `Export*ServiceResponse`; the three responses have the same form.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialSuccess {
    /// Items the server did not take and that must not be sent again.
    pub rejected: ItemCount,
    /// The server's words, for a person.
    pub message: String,
}

/// Appends an `Export*ServiceResponse`. Full success is the empty message: `partial_success` must not be set then.
pub fn encode_response(partial: Option<&PartialSuccess>, out: &mut Vec<u8>) {
    if let Some(partial) = partial {
        let open = begin(out, 1, partial.message.len() + 12);
        put_varint_field(out, 1, partial.rejected.get());
        if !partial.message.is_empty() {
            put_delimited(out, 2, partial.message.as_bytes());
        }
        end(out, open);
    }
}

/// Reads an `Export*ServiceResponse`. An empty `partial_success` is full success.
///
/// # Errors
///
/// Where the bytes are not protobuf.
pub fn decode_response(bytes: &[u8]) -> Read<Option<PartialSuccess>> {
    let mut partial = PartialSuccess { rejected: ItemCount::ZERO, message: String::new() };
    for field in fields(bytes) {
        let field = field?;
        let (1, Value::Len(inner)) = (field.number, field.value) else { continue };
        for field in fields(inner) {
            let field = field?;
            match (field.number, field.value) {
                // int64 on the wire; a negative count makes no sense and is read as none.
                (1, Value::Varint(count)) => partial.rejected = ItemCount(u64::try_from(count as i64).unwrap_or(0)),
                (2, Value::Len(text)) => partial.message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    Ok((partial.rejected != ItemCount::ZERO || !partial.message.is_empty()).then_some(partial))
}

impl From<Option<PartialSuccess>> for Outcome {
    fn from(partial: Option<PartialSuccess>) -> Outcome {
        match partial {
            None => Outcome::Delivered,
            Some(partial) => Outcome::Partial { rejected: partial.rejected, message: Arc::from(partial.message) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use prost::Message;

    #[test]
    fn responses_are_those_of_prost() {
        for partial in [None, Some((3, "bad ids")), Some((0, "a warning"))] {
            let ours = partial.map(|(n, text)| PartialSuccess { rejected: ItemCount(n), message: text.into() });
            let theirs = ExportTraceServiceResponse {
                partial_success: partial.map(|(n, text)| ExportTracePartialSuccess {
                    rejected_spans: n as i64,
                    error_message: text.into(),
                }),
            };
            let mut out = Vec::new();
            encode_response(ours.as_ref(), &mut out);
            assert_eq!(out, theirs.encode_to_vec());
            assert_eq!(decode_response(&out), Ok(ours));
        }
        let empty = ExportTraceServiceResponse { partial_success: Some(ExportTracePartialSuccess::default()) };
        assert_eq!(decode_response(&empty.encode_to_vec()), Ok(None));
    }

    #[test]
    fn a_status_comes_back_as_it_went() {
        let failure = Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, "not a \"request\": \u{1}");
        for failure in [failure.clone(), failure.retry_after(Duration::from_millis(1500))] {
            let status = Status::of(&failure);
            let mut out = Vec::new();
            status.encode(&mut out);
            assert_eq!(Status::decode(&out), Ok(status.clone()));
        }
        let refused = Failure::refused(Reason::QUEUE_FULL, "full").retry_after(Duration::from_secs(2));
        assert_eq!(
            Status::of(&refused).to_json(),
            r#"{"code":14,"message":"full","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2.000000000s"}]}"#
        );
    }

    #[test]
    fn hostile_answers_are_refused_or_read_as_nothing() {
        assert!(Status::decode(&[0x12, 0xff]).is_err());
        assert!(decode_response(b"<html>").is_err());
        let mut out = Vec::new();
        put_any(&mut out, RETRY_INFO, &[0x0a, 0x0b, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(Status::decode(&out).unwrap().retry_delay, None);
    }
}
