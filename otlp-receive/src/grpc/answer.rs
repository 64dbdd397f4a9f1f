//! Answers: what a caller is told, written as gRPC.

use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use otlp_core::status::{PartialSuccess, Status, encode_response};
use otlp_core::{Code, Failure, Outcome, Reason, Retry};

use super::protocol::{base64, percent_encode};
use crate::admission::RETRY_AFTER;
use crate::metrics::Ending;

/// Bytes of a message in an answer. It is there twice, in text and in the details, and clients take 8 KiB of header
/// fields at least.
const MESSAGE_BYTES_MAX: usize = 1024;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What a caller is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) reason: Option<Reason>,
    content: Content,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// OK with an `Export*ServiceResponse` (OTLP/gRPC Response).
    Response(Option<PartialSuccess>),
    /// An error of gRPC.
    Status(Status),
    /// What is no call of gRPC is answered by HTTP.
    Http(u16),
}

impl Answer {
    /// All was taken.
    pub(super) fn success() -> Answer {
        Answer { reason: None, content: Content::Response(None) }
    }

    /// It is no call of gRPC.
    pub(super) fn http(status: u16) -> Answer {
        Answer { reason: Some(Reason::UNSUPPORTED), content: Content::Http(status) }
    }

    /// What the caller has to mend.
    pub(super) fn rejection(code: Code, reason: Reason, message: impl Into<String>) -> Answer {
        Answer::failure(Failure::rejected(code, reason, message.into()))
    }

    /// The answer to a batch with that outcome.
    pub(super) fn outcome(outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Delivered => Answer::success(),
            Outcome::Partial { rejected, message } => {
                let partial = PartialSuccess { rejected, message: cut(message.to_string()) };
                Answer { content: Content::Response(Some(partial)), ..Answer::success() }
            }
            Outcome::Failed(failure) => Answer::failure(failure),
        }
    }

    /// The answer to something that was not taken: with the code that makes the caller do right (OTLP/gRPC, Failures).
    pub(super) fn failure(failure: Failure) -> Answer {
        let mut status = Status::of(&failure);
        status.message = cut(status.message);
        status.violations.iter_mut().for_each(|violation| *violation = cut(std::mem::take(violation)));
        status.retry_delay = None;
        let mut code = failure.code;
        if failure.is_retryable() {
            if !code.retryable(true) {
                code = Code::Unavailable;
            }
            if matches!(code, Code::Unavailable | Code::ResourceExhausted) {
                status.retry_delay = Some(match failure.retry {
                    Retry::After(delay) => delay,
                    _ => RETRY_AFTER,
                });
            }
        } else if code.retryable(false) {
            code = Code::Internal;
        }
        status.code = code.number();
        Answer { reason: Some(failure.reason), content: Content::Status(status) }
    }

    /// For the metrics.
    pub(super) fn ending(&self) -> Ending {
        match &self.content {
            Content::Response(_) => Ending::Success,
            Content::Status(status) => {
                match Code::from_number(status.code.into()).retryable(status.retry_delay.is_some()) {
                    true => Ending::Refused,
                    false => Ending::Failure,
                }
            }
            Content::Http(_) => Ending::Failure,
        }
    }

    /// Gives the answer. What fails is a call that its caller has given up.
    pub(super) fn send(&self, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
        match &self.content {
            Content::Response(partial) => {
                let mut response = Response::new(());
                response.headers_mut().clone_from(&HEAD);
                let mut stream = respond.send_response(response, false)?;
                stream.send_data(message(partial.as_ref()), false)?;
                stream.send_trailers(OK.clone())
            }
            Content::Status(status) => respond.send_response(trailers_only(status), true).map(drop),
            Content::Http(status) => {
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                if *status == 405 {
                    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
                }
                respond.send_response(response, true).map(drop)
            }
        }
    }
}

/// The header fields that begin every answer. Made once: a copy is a third of the work.
static HEAD: LazyLock<HeaderMap> = LazyLock::new(|| {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (GRPC_ACCEPT_ENCODING, HeaderValue::from_static(super::service::ACCEPT_ENCODING)),
    ])
});

/// The trailers of an answer with a message.
static OK: LazyLock<HeaderMap> = LazyLock::new(|| HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]));

/// An answer without a message: its trailers stand in the place of its head.
fn trailers_only(status: &Status) -> Response<()> {
    let mut response = Response::new(());
    let fields = response.headers_mut();
    fields.clone_from(&HEAD);
    fields.insert(GRPC_STATUS, HeaderValue::from(status.code));
    // Both are of printable ASCII alone, so neither can fail.
    if let Ok(message) = HeaderValue::try_from(percent_encode(&status.message)) {
        fields.insert(GRPC_MESSAGE, message);
    }
    if status.retry_delay.is_some() || !status.violations.is_empty() {
        let mut details = Vec::new();
        status.encode(&mut details);
        if let Ok(details) = HeaderValue::try_from(base64(&details)) {
            fields.insert(GRPC_DETAILS, details);
        }
    }
    response
}

/// The response as one message.
fn message(partial: Option<&PartialSuccess>) -> Bytes {
    let Some(partial) = partial else { return Bytes::from_static(&[0; 5]) };
    let mut body = Vec::new();
    encode_response(Some(partial), &mut body);
    let mut message = BytesMut::with_capacity(5 + body.len());
    message.put_u8(0);
    // Cut to a kilobyte above.
    message.put_u32(body.len() as u32);
    message.put_slice(&body);
    message.freeze()
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn failures_have_the_code_that_makes_the_caller_do_right_grpc_46() {
        let rejected = |code| Failure::rejected(code, Reason::PERMANENT, "no");
        let refused = |code| Failure { code, ..Failure::refused(Reason::QUEUE_FULL, "full") };
        for (failure, code, delay) in [
            (rejected(Code::InvalidArgument), 3, None),
            (rejected(Code::Unavailable), 13, None),
            (rejected(Code::OutOfRange), 13, None),
            (crate::admission::too_large(otlp_core::ByteSize(9)), 8, None),
            (refused(Code::Unavailable), 14, Some(RETRY_AFTER)),
            (refused(Code::Internal), 14, Some(RETRY_AFTER)),
            (refused(Code::ResourceExhausted).retry_after(Duration::from_millis(5)), 8, Some(Duration::from_millis(5))),
            (refused(Code::DeadlineExceeded), 4, None),
        ] {
            let retryable = failure.is_retryable();
            let answer = Answer::failure(failure.clone());
            let Content::Status(status) = &answer.content else { panic!("{answer:?}") };
            assert_eq!((status.code, status.retry_delay), (code, delay), "{failure:?}");
            assert_eq!(answer.ending() == Ending::Refused, retryable, "{failure:?}");
            let fields = trailers_only(status).headers().clone();
            assert_eq!(fields["grpc-status"], *code.to_string());
            assert_eq!(fields.contains_key("grpc-status-details-bin"), delay.is_some() || code == 3);
        }
    }

    #[test]
    fn answers_stay_below_the_header_limit_of_clients_lim_11() {
        let failure = Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, "\u{e9}".repeat(10_000));
        let Content::Status(status) = Answer::failure(failure).content else { panic!() };
        let fields = trailers_only(&status);
        let bytes: usize = fields.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8 << 10, "{bytes}");
    }
}
