//! Answers: what a sender is told, written as HTTP/1.1.

use std::time::Duration;

use otlp_core::json;
use otlp_core::status::{PartialSuccess, Status, encode_response};
use otlp_core::{Code, Failure, Outcome, Reason, Retry, Signal};

use super::config::{Config, Cors};
use crate::admission::RETRY_AFTER;
use crate::metrics::Ending;
use crate::request::Encoding;

/// Bytes of a message in an answer. Beyond it the rest is cut off: the response limit of senders is far above (LIM-11).
const MESSAGE_BYTES_MAX: usize = 4096;

/// What a sender is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    content: Content,
    fields: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// No body at all.
    Nothing,
    /// An `Export*ServiceResponse` (OTLP/HTTP Response, Full Success and Partial Success).
    Response(Option<(Signal, PartialSuccess)>),
    /// A `google.rpc.Status` (OTLP/HTTP Response, Failures).
    Status(Status),
}

/// How an answer is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) encoding: Encoding,
    /// The connection ends with it.
    pub(crate) close: bool,
    /// The request was HEAD.
    pub(crate) head_only: bool,
    /// The request's origin, where CORS allows it.
    pub(crate) origin: Option<&'a [u8]>,
    /// The Date field's value.
    pub(crate) date: &'a [u8],
}

/// What stands in every answer of a receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    fields: Vec<u8>,
    cors: Vec<u8>,
}

impl Answer {
    /// All was taken.
    pub(crate) fn success() -> Answer {
        Answer { status: 200, reason: None, content: Content::Response(None), fields: Vec::new() }
    }

    /// An answer without a body.
    pub(crate) fn empty(status: u16) -> Answer {
        Answer { status, reason: None, content: Content::Nothing, fields: Vec::new() }
    }

    /// An answer of HTTP's own making; the code is that of the status (ERR-17).
    pub(crate) fn error(status: u16, reason: Reason, message: impl Into<String>) -> Answer {
        let message = cut(message.into());
        let violations = if status == 400 { vec![message.clone()] } else { Vec::new() };
        let status_body = Status { code: Code::from_http(status).number(), message, retry_delay: None, violations };
        Answer { status, reason: Some(reason), content: Content::Status(status_body), fields: Vec::new() }
    }

    /// The answer to a batch of a signal with that outcome.
    pub(crate) fn outcome(signal: Signal, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Delivered => Answer::success(),
            Outcome::Partial { rejected, message } => {
                let partial = PartialSuccess { rejected, message: cut(message.to_string()) };
                Answer { content: Content::Response(Some((signal, partial))), ..Answer::success() }
            }
            Outcome::Failed(failure) => Answer::failure(failure),
        }
    }

    /// The answer to something that was not taken.
    pub(crate) fn failure(mut failure: Failure) -> Answer {
        let status = status_of(&failure);
        let mut fields = Vec::new();
        if failure.is_retryable() {
            let delay = match failure.retry {
                Retry::After(delay) => delay,
                _ => RETRY_AFTER,
            };
            failure.retry = Retry::After(delay);
            fields.push(("retry-after", whole_seconds(delay).to_string()));
        }
        let mut body = Status::of(&failure);
        body.message = cut(body.message);
        if failure.reason == Reason::TOO_LARGE {
            body.code = Code::from_http(status).number();
        }
        Answer { status, reason: Some(failure.reason), content: Content::Status(body), fields }
    }

    /// The same with a header field more.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// Whether it answers a try to send telemetry: not a question for health, nor a preflight.
    pub(crate) fn is_export(&self) -> bool {
        self.content != Content::Nothing
    }

    /// For the metrics.
    pub(crate) fn ending(&self) -> Ending {
        match self.status {
            200..=299 => Ending::Success,
            429 | 503 => Ending::Refused,
            _ => Ending::Failure,
        }
    }

    /// Appends the answer.
    pub(crate) fn write(&self, out: &mut Vec<u8>, frame: &Frame<'_>, common: &Common) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status_line(self.status).as_bytes());
        let mut body = Vec::new();
        match &self.content {
            Content::Nothing => {
                // RFC 9110, section 8.6: no Content-Length in an answer 204.
                out.extend_from_slice(if self.status == 204 { b"" } else { b"\r\ncontent-length: 0" });
            }
            Content::Response(None) if frame.encoding == Encoding::Protobuf => {
                out.extend_from_slice(b"\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0");
            }
            content => {
                content.encode(frame.encoding, &mut body);
                out.extend_from_slice(b"\r\ncontent-type: ");
                out.extend_from_slice(frame.encoding.media_type().as_bytes());
                out.extend_from_slice(b"\r\ncontent-length: ");
                out.extend_from_slice(body.len().to_string().as_bytes());
            }
        }
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(frame.date);
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.fields {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&common.fields);
        if let Some(origin) = frame.origin {
            out.extend_from_slice(b"access-control-allow-origin: ");
            out.extend_from_slice(origin);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&common.cors);
        }
        if frame.close {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !frame.head_only {
            out.extend_from_slice(&body);
        }
    }
}

impl Content {
    fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        match (self, encoding) {
            (Content::Nothing, _) => {}
            (Content::Response(partial), Encoding::Protobuf) => {
                encode_response(partial.as_ref().map(|(_, partial)| partial), out);
            }
            (Content::Response(None), Encoding::Json) => out.extend_from_slice(b"{}"),
            (Content::Response(Some((signal, partial))), Encoding::Json) => {
                json::encode_response(*signal, Some(partial), out);
            }
            (Content::Status(status), Encoding::Protobuf) => status.encode(out),
            (Content::Status(status), Encoding::Json) => out.extend_from_slice(status.to_json().as_bytes()),
        }
    }
}

impl Common {
    pub(crate) fn new(config: &Config) -> Common {
        let mut fields = Vec::new();
        for (name, value) in &config.response_headers {
            fields.extend_from_slice(format!("{name}: {}\r\n", value.reveal().trim()).as_bytes());
        }
        let mut cors = Vec::new();
        if let Some(Cors { exposed_headers, .. }) = &config.cors {
            // Also in answers to other origins: a cache must not give one origin's answer to another.
            fields.extend_from_slice(b"vary: origin\r\n");
            cors.extend_from_slice(b"access-control-allow-credentials: true\r\n");
            if !exposed_headers.is_empty() {
                let list = exposed_headers.join(", ");
                cors.extend_from_slice(format!("access-control-expose-headers: {list}\r\n").as_bytes());
            }
        }
        Common { fields, cors }
    }
}

/// The HTTP status of a failure: that of its code (ERR-16), unless that would make a sender repeat what cannot succeed, or
/// give up what can (OTLP/HTTP Response, Retryable Response Codes).
fn status_of(failure: &Failure) -> u16 {
    let by_code = failure.code.http();
    match (failure.is_retryable(), Code::http_retryable(by_code)) {
        (false, _) if failure.reason == Reason::TOO_LARGE => 413,
        (true, true) | (false, false) => by_code,
        (true, false) => 503,
        (false, true) => 500,
    }
}

/// Retry-After has whole seconds (BP-03): rounded up, and never 0, which would be no delay.
fn whole_seconds(delay: Duration) -> u64 {
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

fn status_line(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        204 => "204 No Content",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        408 => "408 Request Timeout",
        413 => "413 Content Too Large",
        415 => "415 Unsupported Media Type",
        417 => "417 Expectation Failed",
        429 => "429 Too Many Requests",
        431 => "431 Request Header Fields Too Large",
        503 => "503 Service Unavailable",
        _ => "500 Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::ItemCount;

    fn written(answer: &Answer, encoding: Encoding, close: bool, head_only: bool) -> (String, Vec<u8>) {
        let frame = Frame { encoding, close, head_only, origin: None, date: b"D" };
        let mut out = Vec::new();
        answer.write(&mut out, &frame, &Common::default());
        let end = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        (String::from_utf8(out[..end].to_vec()).unwrap(), out[end..].to_vec())
    }

    #[test]
    fn full_success_is_an_empty_response_http_01_06() {
        let (head, body) = written(&Answer::success(), Encoding::Protobuf, false, false);
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\ndate: D\r\n\r\n"
        );
        assert_eq!(body, b"");
        assert_eq!(written(&Answer::success(), Encoding::Json, false, false).1, b"{}");
    }

    #[test]
    fn partial_success_is_a_success_ps_05_06() {
        let outcome = Outcome::Partial { rejected: ItemCount(2), message: "two".into() };
        let (head, body) = written(&Answer::outcome(Signal::Traces, outcome.clone()), Encoding::Protobuf, true, false);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("connection: close\r\n\r\n"), "{head}");
        let partial = otlp_core::status::decode_response(&body).unwrap().unwrap();
        assert_eq!((partial.rejected, partial.message.as_str()), (ItemCount(2), "two"));
        for (signal, key) in [
            (Signal::Traces, "rejectedSpans"),
            (Signal::Metrics, "rejectedDataPoints"),
            (Signal::Logs, "rejectedLogRecords"),
        ] {
            let (_, body) = written(&Answer::outcome(signal, outcome.clone()), Encoding::Json, true, false);
            let document = format!("{{\"partialSuccess\":{{\"{key}\":\"2\",\"errorMessage\":\"two\"}}}}");
            assert_eq!(String::from_utf8(body).unwrap(), document, "JSON-37");
        }
    }

    #[test]
    fn failures_have_the_status_that_makes_the_sender_do_right_err_16_18() {
        let rejected = |code| Failure::rejected(code, Reason::PERMANENT, "no");
        let refused = |code| Failure { code, ..Failure::refused(Reason::QUEUE_FULL, "full") };
        for (failure, status) in [
            (rejected(Code::InvalidArgument), 400),
            (rejected(Code::Unauthenticated), 401),
            (rejected(Code::PermissionDenied), 403),
            (rejected(Code::Unimplemented), 404),
            (rejected(Code::Internal), 500),
            (rejected(Code::Unavailable), 500),
            (refused(Code::Unavailable), 503),
            (refused(Code::ResourceExhausted), 429),
            (refused(Code::Internal), 503),
            (crate::admission::too_large(otlp_core::ByteSize(9)), 413),
        ] {
            let answer = Answer::failure(failure.clone());
            assert_eq!(answer.status, status, "{failure:?}");
            let (head, body) = written(&answer, Encoding::Protobuf, false, false);
            let body = Status::decode(&body).unwrap();
            assert_eq!(head.contains("retry-after: 1\r\n"), failure.is_retryable(), "{head}");
            assert_eq!(body.retry_delay.is_some(), failure.is_retryable());
            assert!(!body.message.is_empty());
        }
    }

    #[test]
    fn delays_are_whole_seconds_bp_03() {
        for (ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (5000, 5)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds);
        }
    }

    #[test]
    fn answers_to_head_have_no_body_http_23() {
        let answer = Answer::error(405, Reason::UNSUPPORTED, "no").with("allow", "POST");
        let (head, body) = written(&answer, Encoding::Json, false, true);
        assert!(head.contains("\r\nallow: POST\r\n"), "{head}");
        assert_eq!(body, b"");
        assert!(!written(&Answer::empty(204), Encoding::Json, false, false).0.contains("content-length"));
    }

    #[test]
    fn long_messages_are_cut_lim_11() {
        let failure = Failure::refused(Reason::QUEUE_FULL, "ä".repeat(1 << 20));
        let (_, body) = written(&Answer::failure(failure), Encoding::Json, false, false);
        assert!(body.len() < MESSAGE_BYTES_MAX + 1000);
        assert!(String::from_utf8(body).is_ok());
    }
}
