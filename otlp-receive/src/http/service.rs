//! What all connections of a receiver share: where a request goes, what is admitted, what is answered at once.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use otlp_core::{Context, Reason, Signal};
use parking_lot::Mutex;

use super::answer::{Answer, Common};
use super::config::Config;
use super::head::Head;
use crate::Env;
use crate::admission::draining;
use crate::auth::{Authenticator, Identity};
use crate::intake::{self, Intake, Plan};
use crate::request::{Codings, Encoding};

/// Where its health is asked for.
const HEALTH_PATH: &str = "/health";

/// The shared part of a receiver.
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) intake: Intake,
    pub(crate) common: Common,
    paths: [String; 3],
    codings: Codings,
    healthy: Arc<dyn Fn() -> bool + Send + Sync>,
    date: Mutex<(u64, Date)>,
}

/// A Date field's value: always 29 bytes.
pub(crate) type Date = [u8; 29];

impl Service {
    pub(crate) fn new(config: &Config, common: &intake::Common, env: &Env) -> Service {
        let config = config.effective();
        Service {
            intake: Intake::new(common, "http", config.max_request_body_size, env),
            common: Common::new(&config),
            paths: Signal::ALL.map(|signal| config.path(signal)),
            codings: Codings::new(&config.compression_algorithms),
            healthy: Arc::clone(&env.healthy),
            date: Mutex::new((u64::MAX, [b' '; 29])),
            config,
        }
    }

    /// What a request is, or the answer that it gets without its body being looked at.
    pub(crate) fn route(
        &self,
        head: &Head<'_>,
        context: &Context,
        auth: Option<&Authenticator>,
    ) -> Result<Plan, Answer> {
        if head.path == HEALTH_PATH && matches!(head.method, "GET" | "HEAD") {
            return Err(Answer::empty(if !self.intake.is_draining() && (self.healthy)() { 200 } else { 503 }));
        }
        let signal = Signal::ALL.into_iter().find(|signal| head.path == self.paths[signal.index()]);
        let Some(signal) = signal.filter(|&signal| self.intake.serves(signal)) else {
            return Err(Answer::error(404, Reason::UNSUPPORTED, "no signal is received at this path"));
        };
        if head.method == "OPTIONS" && head.cors_method.is_some() && self.config.cors.is_some() {
            return Err(self.preflight(head));
        }
        let identity = authenticate(head, auth)?;
        if head.method != "POST" {
            let answer = Answer::error(405, Reason::UNSUPPORTED, "the method is not POST");
            return Err(answer.with("allow", "POST"));
        }
        let Some(encoding) = head.content_type.and_then(Encoding::of) else {
            let message = "the content type is neither application/x-protobuf nor application/json";
            return Err(Answer::error(415, Reason::UNSUPPORTED, message));
        };
        let coding = if head.several_codings { None } else { self.codings.pick(head.content_encoding) };
        let Some(coding) = coding else {
            let answer = Answer::error(415, Reason::UNSUPPORTED, "the content encoding is none of those taken");
            return Err(answer.with("accept-encoding", self.codings.names()));
        };
        if self.intake.is_draining() {
            return Err(Answer::failure(draining()));
        }
        let metadata = if self.config.include_metadata { head.fields() } else { Vec::new() };
        let own = self.config.include_metadata || !identity.is_empty();
        let context = own.then(|| Arc::new(Context { metadata, auth: identity, ..context.clone() }));
        Ok(Plan { signal, encoding, coding, context })
    }

    fn preflight(&self, head: &Head<'_>) -> Answer {
        let Some(cors) = &self.config.cors else { return Answer::empty(204) };
        let allowed = head.origin.is_some_and(|origin| cors.allows(origin))
            && head.cors_method == Some(b"POST")
            && cors.allows_headers(head.cors_headers.unwrap_or_default());
        if !allowed {
            return Answer::empty(204);
        }
        let mut answer = Answer::empty(204).with("access-control-allow-methods", "POST");
        if let Some(list) = head.cors_headers {
            answer = answer.with("access-control-allow-headers", String::from_utf8_lossy(list));
        }
        if !cors.max_age.is_zero() {
            answer = answer.with("access-control-max-age", cors.max_age.as_secs().to_string());
        }
        answer
    }

    /// The request's origin, where it is to be told that it may read the answer.
    pub(crate) fn allowed_origin(&self, head: &Head<'_>) -> Option<Box<[u8]>> {
        let (cors, origin) = (self.config.cors.as_ref()?, head.origin?);
        // An origin that may post but not with these header fields gets no permission at all.
        let fields = head.method != "OPTIONS" || cors.allows_headers(head.cors_headers.unwrap_or_default());
        (cors.allows(origin) && fields).then(|| origin.into())
    }

    /// The Date field's value; made once a second.
    pub(crate) fn date(&self, wall: SystemTime) -> Date {
        let seconds = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut date = self.date.lock();
        if date.0 != seconds {
            let text = httpdate::fmt_http_date(wall);
            let mut value = [b' '; 29];
            value.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
            *date = (seconds, value);
        }
        date.1
    }
}

/// Who sends, or the answer to somebody who may not.
fn authenticate(head: &Head<'_>, auth: Option<&Authenticator>) -> Result<Identity, Answer> {
    let Some(auth) = auth else { return Ok(Identity::new()) };
    auth.check(head.values(auth.field()).into_iter()).map_err(|denied| {
        let (failure, challenge) = denied.failure();
        let answer = Answer::failure(failure);
        match challenge {
            Some(challenge) => answer.with("www-authenticate", &*challenge),
            None => answer,
        }
    })
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("intake", &self.intake).finish_non_exhaustive()
    }
}
