//! What an answer means. No socket: status, headers, message and trailers in, outcome out.

use http::{HeaderMap, HeaderValue};
use otlp_core::codec::{self, Coding};
use otlp_core::status::{Status, decode_response};
use otlp_core::{ByteSize, Code, Failure, Outcome, Reason};

use super::message::{ANSWER_BYTES_MAX, Incoming, base64_decode};
use crate::otlp_http::{DELAY_MAX, one_line, percent_decode};

/// How much longer what `grpc-status-details-bin` says may be than the headers that we take in all.
const DETAILS_BYTES_MAX: usize = 64 << 10;

/// How an answer begins.
#[derive(Debug)]
pub(super) struct Head {
    /// The HTTP status.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
}

impl Head {
    /// Whether that is all of the answer that matters: it carries the call's status already (Trailers-Only), or is not
    /// gRPC's at all.
    pub(super) fn is_all(&self) -> bool {
        self.status != 200 || self.headers.contains_key("grpc-status") || !self.is_grpc()
    }

    fn is_grpc(&self) -> bool {
        // A server that leaves it out is taken for what it should be.
        let Some(value) = self.headers.get("content-type") else { return true };
        let prefix = b"application/grpc";
        let value = value.as_bytes();
        value.len() >= prefix.len() && value[..prefix.len()].eq_ignore_ascii_case(prefix)
    }
}

/// The outcome of a call to `to`. `trailers` are those of the answer, or its headers again where it is Trailers-Only.
///
/// OTLP/gRPC: Response, Full Success, Partial Success, Failures, Throttling.
pub(super) fn outcome(to: &str, head: &Head, incoming: &Incoming, trailers: Option<&HeaderMap>) -> Outcome {
    let fields = trailers.unwrap_or(&head.headers);
    let Some(status) = fields.get("grpc-status").or_else(|| head.headers.get("grpc-status")) else {
        return without_status(to, head).into();
    };
    let number = std::str::from_utf8(status.as_bytes()).ok().and_then(|text| text.parse().ok());
    match Code::from_number(number.unwrap_or(-1)) {
        Code::Ok => success(to, head, incoming),
        code => failure(to, code, fields).into(),
    }
}

/// Of an answer whose message is longer than we take. Nothing that would be better the next time.
pub(super) fn too_long(to: &str) -> Failure {
    let message = format!("the answer of {to} is longer than {}", ByteSize(ANSWER_BYTES_MAX as u64));
    Failure::rejected(Code::ResourceExhausted, Reason::BAD_ANSWER, message)
}

fn success(to: &str, head: &Head, incoming: &Incoming) -> Outcome {
    let bad = |what: &str| -> Outcome {
        let message = format!("cannot read the answer of {to}: {what}");
        Failure::rejected(Code::Internal, Reason::BAD_ANSWER, message).into()
    };
    let read = |message: &[u8]| decode_response(message).map_or_else(|_| bad("it is not protobuf"), Outcome::from);
    match incoming.message() {
        // gRPC wants a message. It says OK all the same, and that is what matters.
        Ok(None) => Outcome::Delivered,
        Ok(Some((false, message))) => read(message),
        Ok(Some((true, message))) => {
            let value = head.headers.get("grpc-encoding").and_then(|value| value.to_str().ok());
            let coding = value.and_then(Coding::from_header).filter(|coding| *coding != Coding::Identity);
            let Some(coding) = coding else { return bad("it is compressed in a way that is not known") };
            match codec::decode(coding, message, ByteSize(ANSWER_BYTES_MAX as u64), &mut |_| Ok(())) {
                Ok(message) => read(&message),
                Err(error) => bad(&error.to_string()),
            }
        }
        Err(what) => bad(what),
    }
}

/// gRPC, HTTP to gRPC Status Code Mapping; row RG-08.
fn without_status(to: &str, head: &Head) -> Failure {
    let code = match head.status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let mut message =
        format!("error exporting items, {to} answered with HTTP status {} and no grpc-status", head.status);
    if !head.is_grpc() {
        let media_type = head.headers.get("content-type").map_or(&b""[..], |value| value.as_bytes());
        message.push_str(&format!(" (content-type {})", one_line(&String::from_utf8_lossy(media_type))));
    }
    of_code(code, None, message)
}

fn failure(to: &str, code: Code, fields: &HeaderMap) -> Failure {
    let text = fields.get("grpc-message").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let text = percent_decode(&text.unwrap_or_default());
    let details = fields.get("grpc-status-details-bin").map(|value| value.as_bytes());
    let details = details.filter(|value| value.len() <= DETAILS_BYTES_MAX).and_then(base64_decode);
    let status = details.and_then(|bytes| Status::decode(&bytes).ok()).unwrap_or_default();
    let mut message = format!("error exporting items, {to} answered code = {code:?} desc = {}", one_line(&text));
    if !status.violations.is_empty() {
        message.push_str(&format!(", Details=[{}]", one_line(&status.violations.join("; "))));
    }
    if is_too_large(code, &text) && status.retry_delay.is_none() {
        return Failure::rejected(code, Reason::TOO_LARGE, message);
    }
    of_code(code, status.retry_delay, message)
}

/// What servers say of a message above their limit, which is 4 MiB in most: Go's and the C core's `message larger than
/// max`, tonic's `message length too large`, which comes as OUT_OF_RANGE and would be tried again as it is for minutes.
/// Such a request may be taken in halves.
fn is_too_large(code: Code, text: &str) -> bool {
    matches!(code, Code::ResourceExhausted | Code::OutOfRange)
        && ["larger than max", "too large", "message size", "exceeds"].iter().any(|words| text.contains(words))
}

/// OTLP/gRPC, Failures: which codes may be tried again.
fn of_code(code: Code, delay: Option<std::time::Duration>, message: String) -> Failure {
    if code.retryable(delay.is_some()) {
        let failure = Failure { code, ..Failure::refused(Reason::UNAVAILABLE, message) };
        return match delay {
            Some(delay) => failure.retry_after(delay.min(DELAY_MAX)),
            None => failure,
        };
    }
    let reason = match code {
        Code::Unauthenticated | Code::PermissionDenied => Reason::UNAUTHORIZED,
        _ => Reason::PERMANENT,
    };
    Failure::rejected(code, reason, message)
}

/// For fuzzing: an answer whose message is what follows the first eight bytes; those say what the call's status is, whether
/// a coding is named, and how the message is cut into frames.
///
/// # Panics
///
/// Where the pieces are understood in another way than the whole, or success is made of a message that was not all there.
pub fn fuzz(data: &[u8]) {
    let (&[status, named, ref cuts @ ..], message) =
        data.split_first_chunk::<8>().unwrap_or((&[0, 0, 1, 2, 3, 4, 5, 6], data));
    let (mut whole, mut pieces, mut at) = (Incoming::default(), Incoming::default(), 0);
    let taken = whole.take(message).is_ok();
    let mut cut = cuts.iter().map(|&byte| usize::from(byte).max(1)).cycle();
    let mut all = true;
    while all && at < message.len() {
        let to = message.len().min(at + cut.next().unwrap_or(1));
        all = pieces.take(&message[at..to]).is_ok();
        at = to;
    }
    assert_eq!(all, taken, "how the bytes are cut does not matter");
    assert!(!taken || pieces.message() == whole.message());
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from(u16::from(status % 20)));
    if let Ok(value) = HeaderValue::from_bytes(message) {
        fields.insert("grpc-message", value.clone());
        fields.insert("grpc-status-details-bin", value);
    }
    let mut headers = HeaderMap::new();
    if let Some(coding) = ["gzip", "zstd", "snappy", "identity"].get(usize::from(named)) {
        headers.insert("grpc-encoding", HeaderValue::from_static(coding));
    }
    let outcome = outcome("h:1", &Head { status: 200, headers }, &whole, Some(&fields));
    let whole_message = message.is_empty() || matches!(whole.message(), Ok(Some(_)));
    assert!(matches!(outcome, Outcome::Failed(_)) || (status % 20 == 0 && whole_message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp_http::base64;
    use http::{HeaderName, HeaderValue};
    use otlp_core::ItemCount;
    use otlp_core::outcome::Retry;
    use otlp_core::status::{PartialSuccess, encode_response};
    use proptest::prelude::*;
    use std::time::Duration;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn answer(status: u16, headers: &[(&str, &str)], message: &[u8], trailers: &[(&str, &str)]) -> Outcome {
        let mut incoming = Incoming::default();
        incoming.take(message).unwrap();
        outcome("h:1", &Head { status, headers: fields(headers) }, &incoming, Some(&fields(trailers)))
    }

    fn failed(outcome: Outcome) -> Failure {
        match outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    #[test]
    fn successes_by_table() {
        const OK: &[(&str, &str)] = &[("grpc-status", "0")];
        let (mut partial, mut gzip) = (Vec::new(), Vec::new());
        encode_response(Some(&PartialSuccess { rejected: ItemCount(3), message: "bad".into() }), &mut partial);
        codec::encode(Coding::Gzip, None, &[&partial], &mut gzip).unwrap();
        let some = Outcome::Partial { rejected: ItemCount(3), message: "bad".into() };
        let grpc = ("content-type", "application/grpc+proto");
        for (headers, message, trailers, expected) in [
            (&[grpc][..], framed(0, b""), OK, Outcome::Delivered),
            (&[grpc], vec![], OK, Outcome::Delivered),
            (&[], framed(0, b""), OK, Outcome::Delivered),
            (&[grpc, OK[0]], vec![], &[], Outcome::Delivered),
            (&[grpc], framed(0, &partial), OK, some.clone()),
            (&[grpc, ("grpc-encoding", "gzip")], framed(1, &gzip), OK, some),
        ] {
            assert_eq!(answer(200, headers, &message, trailers), expected, "{headers:?} {message:?}");
        }
        for (headers, message) in [
            (&[grpc][..], framed(1, &gzip)),
            (&[grpc, ("grpc-encoding", "gzip")], framed(1, b"no gzip")),
            (&[grpc], framed(0, b"<html>")),
            (&[grpc], framed(0, &partial)[..7].to_vec()),
        ] {
            let failure = failed(answer(200, headers, &message, OK));
            assert_eq!((failure.reason, failure.retry), (Reason::BAD_ANSWER, Retry::Never), "{message:?}");
        }
    }

    #[test]
    fn codes_by_table_rg_01_to_03() {
        for number in -1..20 {
            let text = number.to_string();
            if number == 0 {
                continue;
            }
            let failure = failed(answer(200, &[], b"", &[("grpc-status", &text), ("grpc-message", "a%20b%0A%C3%A9")]));
            let code = Code::from_number(number);
            assert_eq!((failure.code, failure.is_retryable()), (code, code.retryable(false)), "{number}");
            assert!(failure.message.ends_with("desc = a b é"), "{}", failure.message);
        }
        assert_eq!(failed(answer(200, &[], b"", &[("grpc-status", "x")])).code, Code::Unknown);
        for (code, reason) in [("16", Reason::UNAUTHORIZED), ("7", Reason::UNAUTHORIZED), ("13", Reason::PERMANENT)] {
            assert_eq!(failed(answer(200, &[], b"", &[("grpc-status", code)])).reason, reason);
        }
    }

    #[test]
    fn too_large_may_be_halved() {
        for (code, text, reason) in [
            ("8", "grpc: received message larger than max (5 vs. 4)", Reason::TOO_LARGE),
            ("11", "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes", Reason::TOO_LARGE),
            ("8", "quota", Reason::PERMANENT),
            ("11", "out of range", Reason::UNAVAILABLE),
            ("14", "too large", Reason::UNAVAILABLE),
        ] {
            let failure = failed(answer(200, &[], b"", &[("grpc-status", code), ("grpc-message", text)]));
            assert_eq!(failure.reason, reason, "{text}");
        }
    }

    #[test]
    fn delays_are_those_of_retry_info_rg_04_rg_05() {
        let with = |code: &str, delay: Option<Duration>| {
            let mut bytes = Vec::new();
            Status { code: 14, retry_delay: delay, ..Status::default() }.encode(&mut bytes);
            let details = base64(&bytes);
            let fields = [("grpc-status", code), ("grpc-status-details-bin", details.trim_end_matches('='))];
            failed(answer(200, &[], b"", &fields)).retry
        };
        for (code, delay, retry) in [
            ("14", Some(Duration::from_millis(3500)), Retry::After(Duration::from_millis(3500))),
            ("8", Some(Duration::from_secs(2)), Retry::After(Duration::from_secs(2))),
            ("8", Some(Duration::ZERO), Retry::After(Duration::ZERO)),
            ("8", None, Retry::Never),
            ("14", None, Retry::Backoff),
            ("3", Some(Duration::from_secs(2)), Retry::Never),
            ("14", Some(Duration::from_secs(1 << 40)), Retry::After(Duration::from_secs(24 * 3600))),
        ] {
            assert_eq!(with(code, delay), retry, "{code} {delay:?}");
        }
        let broken = [("grpc-status", "14"), ("grpc-status-details-bin", "!")];
        assert_eq!(failed(answer(200, &[], b"", &broken)).retry, Retry::Backoff);
    }

    #[test]
    fn http_statuses_by_table_rg_08() {
        let html = [("content-type", "text/html")];
        for (status, code, retryable) in [
            (400, Code::Internal, false),
            (401, Code::Unauthenticated, false),
            (403, Code::PermissionDenied, false),
            (404, Code::Unimplemented, false),
            (429, Code::Unavailable, true),
            (502, Code::Unavailable, true),
            (503, Code::Unavailable, true),
            (504, Code::Unavailable, true),
            (500, Code::Unknown, false),
            (200, Code::Unknown, false),
        ] {
            let head = Head { status, headers: fields(&html) };
            assert!(head.is_all());
            let failure = failed(outcome("h:1", &head, &Incoming::default(), None));
            assert_eq!((failure.code, failure.is_retryable()), (code, retryable), "{status}");
        }
        // What speaks gRPC is believed whatever the HTTP status is.
        let said = answer(503, &[("grpc-status", "3")], b"", &[]);
        assert_eq!(failed(said).code, Code::InvalidArgument);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(head: [u8; 8], flag in 0u8..3, message: Vec<u8>, lie in -2i32..3, any: Vec<u8>) {
            fuzz(&any);
            let length = (message.len() as i32 + lie).max(0) as u32;
            for status in [0, head[0]] {
                fuzz(&[&[status][..], &head[1..], &[flag], &length.to_be_bytes(), &message].concat());
            }
        }

        #[test]
        fn no_answer_panics(status in 100u16..600, message in proptest::collection::vec(any::<u8>(), 0..64),
            details: Vec<u8>, text in "[ -~]{0,20}", code in "[ -~]{0,3}") {
            let details = base64(&details);
            let trailers =
                [("grpc-status", &code[..]), ("grpc-message", &text), ("grpc-status-details-bin", &details)];
            let mut incoming = Incoming::default();
            let _ = incoming.take(&message);
            outcome("h:1", &Head { status, headers: fields(&trailers) }, &incoming, None);
        }
    }
}
