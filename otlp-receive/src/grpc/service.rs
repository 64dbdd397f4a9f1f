//! What all connections share: where a call goes, what is admitted, what is answered at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request};
use otlp_core::codec::Coding;
use otlp_core::{Code, Context, Reason, Signal};

use super::answer::Answer;
use super::config::Config;
use super::protocol::timeout;
use crate::Env;
use crate::admission::draining;
use crate::auth::{Authenticator, Identity};
use crate::intake::{Common, Intake, Plan};
use crate::request::Encoding;

/// The codings that are taken, for `grpc-accept-encoding`.
pub(super) const ACCEPT_ENCODING: &str = "gzip, zstd, snappy, identity";
/// How the Content-Type of every call begins.
const GRPC: &[u8] = b"application/grpc";

/// The shared part of a receiver's gRPC.
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) intake: Intake,
}

/// What is known of a call from its head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) plan: Plan,
    /// How long its caller waits.
    pub(super) timeout: Option<Duration>,
}

impl Service {
    pub(crate) fn new(config: &Config, common: &Common, env: &Env) -> Service {
        let config = config.effective();
        Service { intake: Intake::new(common, "grpc", config.message_size_max(), env), config }
    }

    /// What a call is, or the answer that it gets without its message being looked at.
    pub(super) fn route<T>(
        &self,
        request: &Request<T>,
        context: &Context,
        auth: Option<&Authenticator>,
    ) -> Result<Head, Answer> {
        if request.method() != Method::POST {
            return Err(Answer::http(405));
        }
        let own = Own::of(request.headers());
        match own.content_type.map(|value| Subtype::of(value.as_bytes())) {
            Some(Subtype::Proto) => {}
            Some(Subtype::Other) => {
                let message = "only protobuf messages are served";
                return Err(Answer::rejection(Code::Unimplemented, Reason::UNSUPPORTED, message));
            }
            // PROTOCOL-HTTP2, Requests: what is not gRPC is answered 415.
            Some(Subtype::None) | None => return Err(Answer::http(415)),
        }
        let path = request.uri().path();
        let signal = Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path);
        let Some(signal) = signal.filter(|&signal| self.intake.serves(signal)) else {
            return Err(Answer::rejection(Code::Unimplemented, Reason::UNSUPPORTED, "no such method is served"));
        };
        let identity = match auth {
            None => Identity::new(),
            Some(auth) => {
                let values = request.headers().get_all(auth.field()).into_iter().map(|value| value.as_bytes());
                auth.check(values).map_err(|denied| Answer::failure(denied.failure().0))?
            }
        };
        let Some(coding) = own.coding() else {
            let message = format!("the message's encoding is none of {ACCEPT_ENCODING}");
            return Err(Answer::rejection(Code::Unimplemented, Reason::UNSUPPORTED, message));
        };
        let timeout = match own.timeout {
            None => None,
            Some(value) => match timeout(value.as_bytes()) {
                None => {
                    let message = "grpc-timeout is not up to eight digits and a unit";
                    return Err(Answer::rejection(Code::InvalidArgument, Reason::MALFORMED, message));
                }
                timeout => timeout,
            },
        };
        if self.intake.is_draining() {
            return Err(Answer::failure(draining()));
        }
        let metadata = if self.config.include_metadata { metadata(request) } else { Vec::new() };
        let has_own = self.config.include_metadata || !identity.is_empty();
        let context = has_own.then(|| Arc::new(Context { metadata, auth: identity, ..context.clone() }));
        Ok(Head { plan: Plan { signal, encoding: Encoding::Protobuf, coding, context }, timeout })
    }
}

/// What a Content-Type says of the messages.
enum Subtype {
    /// It is not gRPC.
    None,
    Proto,
    Other,
}

impl Subtype {
    fn of(content_type: &[u8]) -> Subtype {
        let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let (prefix, subtype) = media_type.split_at(media_type.len().min(GRPC.len()));
        match subtype {
            _ if !prefix.eq_ignore_ascii_case(GRPC) => Subtype::None,
            b"" => Subtype::Proto,
            [b'+', ..] if subtype.eq_ignore_ascii_case(b"+proto") => Subtype::Proto,
            [b'+', ..] => Subtype::Other,
            _ => Subtype::None,
        }
    }
}

/// The header fields that are gRPC's own. One look at each of the few there are is cheaper than one search for each.
#[derive(Default)]
struct Own<'a> {
    content_type: Option<&'a HeaderValue>,
    encoding: Option<&'a HeaderValue>,
    /// Several lines are several codings: none of ours.
    has_encodings: bool,
    timeout: Option<&'a HeaderValue>,
}

impl<'a> Own<'a> {
    fn of(fields: &'a HeaderMap) -> Own<'a> {
        let mut own = Own::default();
        for (name, value) in fields {
            match name.as_str() {
                // Of several lines the first counts.
                "content-type" => own.content_type = own.content_type.or(Some(value)),
                "grpc-timeout" => own.timeout = own.timeout.or(Some(value)),
                "grpc-encoding" => own.has_encodings |= own.encoding.replace(value).is_some(),
                _ => {}
            }
        }
        own
    }

    /// The coding of messages whose flag says that they are compressed.
    fn coding(&self) -> Option<Coding> {
        let Some(value) = self.encoding else { return Some(Coding::Identity) };
        let coding = Coding::from_header(value.to_str().ok().filter(|_| !self.has_encodings)?)?;
        matches!(coding, Coding::Identity | Coding::Gzip | Coding::Zstd | Coding::Snappy).then_some(coding)
    }
}

/// A call's metadata: all fields but those that are gRPC's own.
fn metadata<T>(request: &Request<T>) -> Vec<(String, String)> {
    let authority = request.uri().authority().map(|authority| (":authority".to_owned(), authority.to_string()));
    let fields = request
        .headers()
        .iter()
        .filter(|(name, _)| !name.as_str().starts_with("grpc-"))
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    authority.into_iter().chain(fields).collect()
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("intake", &self.intake).finish_non_exhaustive()
    }
}
