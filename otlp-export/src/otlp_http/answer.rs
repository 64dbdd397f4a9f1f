//! What an answer means. No socket, no clock: status, headers and body in, outcome out.

use std::time::{Duration, SystemTime};

use otlp_core::json;
use otlp_core::status::{Status, decode_response};
use otlp_core::{Code, Failure, Outcome, Reason, Signal};

use super::config::Encoding;

/// What an answer answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) url: &'a str,
    pub(crate) signal: Signal,
    pub(crate) encoding: Encoding,
}

/// An answer, its body cut off at [`BODY_BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Whether there was more.
    pub(crate) truncated: bool,
}

/// As much of an answer's body is read; the Collector's limit, too. A full response is a few bytes, a status a line.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

/// As much of a server's own words goes into messages and logs.
const MESSAGE_BYTES_MAX: usize = 1024;

impl Answer {
    /// The outcome for the request that was sent, at the time `now`.
    ///
    /// OTLP/HTTP Response: full and partial success, failures, retryable response codes, throttling.
    pub(crate) fn outcome(&self, sent: Sent<'_>, now: SystemTime) -> Outcome {
        match self.status {
            200..=299 => self.success(sent),
            _ => self.failure(sent.url, now).into(),
        }
    }

    /// How the body is written, where its Content-Type says so.
    fn encoding(&self) -> Option<Encoding> {
        let media_type = self.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        [Encoding::Proto, Encoding::Json]
            .into_iter()
            .find(|encoding| media_type.eq_ignore_ascii_case(encoding.media_type()))
    }

    fn success(&self, sent: Sent<'_>) -> Outcome {
        // A body of another type is somebody's own idea of OK (RH-11).
        if self.body.is_empty() || self.encoding() != Some(sent.encoding) {
            return Outcome::Delivered;
        }
        let partial = match sent.encoding {
            Encoding::Proto => decode_response(&self.body).ok(),
            Encoding::Json => json::decode_response(sent.signal, &self.body).ok(),
        };
        match partial {
            Some(partial) if !self.truncated => partial.into(),
            _ => {
                let message = format!("cannot read the answer to the request to {}: status {}", sent.url, self.status);
                Failure::rejected(Code::Unknown, Reason::BAD_ANSWER, message).into()
            }
        }
    }

    fn failure(&self, url: &str, now: SystemTime) -> Failure {
        let status = self.status;
        let said = match self.encoding() {
            Some(Encoding::Proto) => Status::decode(&self.body).ok(),
            Some(Encoding::Json) => Status::from_json(&self.body).ok(),
            None => None,
        };
        let mut message = format!("error exporting items, request to {url} responded with HTTP Status Code {status}");
        if let Some(said) = said.as_ref().filter(|said| !said.message.is_empty()) {
            message.push_str(", Message=");
            message.push_str(one_line(&said.message).as_str());
            if !said.violations.is_empty() {
                message.push_str(&format!(", Details=[{}]", one_line(&said.violations.join("; "))));
            }
        }
        if Code::http_retryable(status) {
            let failure = Failure { code: Code::from_http(status), ..Failure::refused(Reason::UNAVAILABLE, message) };
            let asked = self.retry_after.as_deref().and_then(|value| delay(value, now));
            return match asked.or(said.and_then(|said| said.retry_delay)) {
                Some(delay) => failure.retry_after(delay.min(DELAY_MAX)),
                None => failure,
            };
        }
        let (code, reason) = match status {
            401 | 403 => (Code::from_http(status), Reason::UNAUTHORIZED),
            413 => (Code::ResourceExhausted, Reason::TOO_LARGE),
            _ => (Code::from_http(status), Reason::PERMANENT),
        };
        Failure::rejected(code, reason, message)
    }
}

/// A server's clock or its mistake must not make us wait for ever.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

/// The delay that a `Retry-After` asks for: seconds, or a date (RFC 9110, section 10.2.3). A date that has passed is no
/// delay.
fn delay(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// A server's words are not trusted: one line, and not endless.
pub(crate) fn one_line(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::ItemCount;
    use otlp_core::outcome::Retry;
    use otlp_core::status::{PartialSuccess, encode_response};
    use proptest::prelude::*;

    const PROTOBUF: Option<&str> = Some("application/x-protobuf");

    fn answer(status: u16, content_type: Option<&str>, body: &[u8]) -> Answer {
        Answer { status, content_type: content_type.map(str::to_owned), body: body.to_vec(), ..Answer::default() }
    }

    fn outcome(answer: &Answer) -> Outcome {
        let sent = Sent { url: "http://h/v1/traces", signal: Signal::Traces, encoding: Encoding::Proto };
        answer.outcome(sent, SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
    }

    fn failure(answer: &Answer) -> Failure {
        match outcome(answer) {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_in_json_are_read_where_json_was_sent() {
        const JSON: Option<&str> = Some("application/json; charset=utf-8");
        let sent = |encoding| Sent { url: "http://h/v1/logs", signal: Signal::Logs, encoding };
        let some = br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"bad"}}"#;
        let partial = Outcome::Partial { rejected: ItemCount(3), message: "bad".into() };
        let outcome = |body: &[u8], encoding| answer(200, JSON, body).outcome(sent(encoding), SystemTime::UNIX_EPOCH);
        assert_eq!(outcome(some, Encoding::Json), partial);
        assert_eq!(outcome(b"{}", Encoding::Json), Outcome::Delivered);
        assert!(!outcome(b"nonsense", Encoding::Json).is_delivered());
        assert_eq!(outcome(b"nonsense", Encoding::Proto), Outcome::Delivered, "RH-11");
        let refused =
            answer(503, JSON, br#"{"code":14,"message":"later"}"#).failure("http://h/v1/logs", SystemTime::UNIX_EPOCH);
        assert!(refused.is_retryable() && refused.message.ends_with("Message=later"), "{}", refused.message);
    }

    #[test]
    fn successes_by_table() {
        let mut partial = Vec::new();
        encode_response(Some(&PartialSuccess { rejected: ItemCount(3), message: "bad".into() }), &mut partial);
        let some = Outcome::Partial { rejected: ItemCount(3), message: "bad".into() };
        for (answer, expected) in [
            (answer(200, PROTOBUF, b""), Outcome::Delivered),
            (answer(202, None, b""), Outcome::Delivered),
            (answer(204, None, b""), Outcome::Delivered),
            (answer(200, None, b"OK"), Outcome::Delivered),
            (answer(200, Some("text/html"), b"<html>"), Outcome::Delivered),
            (answer(200, Some("application/json"), b"{\"partialSuccess\":{}}"), Outcome::Delivered),
            (answer(200, PROTOBUF, &[0x0a, 0x00]), Outcome::Delivered),
            (answer(200, PROTOBUF, &partial), some.clone()),
            (answer(200, Some("Application/X-Protobuf; charset=x"), &partial), some),
        ] {
            assert_eq!(outcome(&answer), expected, "{answer:?}");
        }
        let garbled = failure(&answer(200, PROTOBUF, b"<html>"));
        assert_eq!((garbled.reason, garbled.retry), (Reason::BAD_ANSWER, Retry::Never));
        let endless = failure(&Answer { truncated: true, ..answer(200, PROTOBUF, &partial) });
        assert_eq!((endless.reason, endless.retry), (Reason::BAD_ANSWER, Retry::Never));
    }

    #[test]
    fn only_four_codes_are_tried_again() {
        for status in (100..200).chain(300..600) {
            let failure = failure(&answer(status, None, b""));
            assert_eq!(failure.is_retryable(), [429, 502, 503, 504].contains(&status), "{status}");
        }
        for (status, reason) in [
            (400, Reason::PERMANENT),
            (401, Reason::UNAUTHORIZED),
            (403, Reason::UNAUTHORIZED),
            (404, Reason::PERMANENT),
            (408, Reason::PERMANENT),
            (413, Reason::TOO_LARGE),
            (500, Reason::PERMANENT),
            (503, Reason::UNAVAILABLE),
        ] {
            assert_eq!(failure(&answer(status, None, b"")).reason, reason, "{status}");
        }
    }

    #[test]
    fn delays_by_table() {
        let with = |status, value: &str| {
            failure(&Answer { retry_after: Some(value.into()), ..answer(status, None, b"") }).retry
        };
        let after = |seconds| Retry::After(Duration::from_secs(seconds));
        for (status, value, expected) in [
            (503, "3", after(3)),
            (429, " 10 ", after(10)),
            (503, "Thu, 01 Jan 2026 00:00:07 GMT", after(7)),
            (503, "Thursday, 01-Jan-26 00:00:07 GMT", after(7)),
            (503, "Wed, 31 Dec 2025 00:00:00 GMT", after(0)),
            (503, "18446744073709551615", after(24 * 3600)),
            (503, "soon", Retry::Backoff),
            (503, "-3", Retry::Backoff),
            (503, "", Retry::Backoff),
            (400, "3", Retry::Never),
        ] {
            assert_eq!(with(status, value), expected, "{status} {value:?}");
        }
        let mut body = Vec::new();
        let said = Status { code: 14, retry_delay: Some(Duration::from_millis(1500)), ..Status::default() };
        said.encode(&mut body);
        let unavailable = answer(503, PROTOBUF, &body);
        assert_eq!(failure(&unavailable).retry, Retry::After(Duration::from_millis(1500)));
        let both = Answer { retry_after: Some("2".into()), ..unavailable };
        assert_eq!(failure(&both).retry, after(2));
    }

    #[test]
    fn the_servers_words_are_in_the_message() {
        let mut body = Vec::new();
        Status { code: 3, message: "bad\nid".into(), violations: vec!["span 3".into()], ..Status::default() }
            .encode(&mut body);
        assert_eq!(
            &*failure(&answer(400, PROTOBUF, &body)).message,
            "error exporting items, request to http://h/v1/traces responded with HTTP Status Code 400, \
             Message=bad id, Details=[span 3]"
        );
        assert!(failure(&answer(400, Some("text/html"), b"<html>")).message.ends_with("Code 400"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in 100u16..600, body: Vec<u8>, after: Option<String>, protobuf: bool, truncated: bool) {
            let content_type = protobuf.then(|| "application/x-protobuf".to_owned());
            outcome(&Answer { status, content_type, retry_after: after, body, truncated, location: None });
        }
    }
}
