//! What all connections of a receiver share: where a request goes, what is admitted, what is answered at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use otlp_core::codec::Coding;
use otlp_core::component::Outlets;
use otlp_core::wire::Findings;
use otlp_core::{AckMode, Context, Reason, Signal};
use parking_lot::Mutex;

use super::answer::{Answer, Common};
use super::config::Config;
use super::head::Head;
use crate::Env;
use crate::admission::{Admission, draining};
use crate::metrics::Metrics;
use crate::request::{Codings, Encoding};

/// Where its health is asked for.
const HEALTH_PATH: &str = "/health";

/// The shared part of a receiver.
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) outlets: Outlets,
    pub(crate) admission: Admission,
    pub(crate) metrics: Metrics,
    pub(crate) common: Common,
    receiver: Arc<str>,
    paths: [String; 3],
    ack_mode: [AckMode; 3],
    codings: Codings,
    healthy: Arc<dyn Fn() -> bool + Send + Sync>,
    draining: AtomicBool,
    date: Mutex<(u64, Date)>,
    /// Whether an odd shape has been told of: once is enough.
    told: AtomicBool,
}

/// A Date field's value: always 29 bytes.
pub(crate) type Date = [u8; 29];

/// Where a request goes once its body is complete.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) signal: Signal,
    pub(crate) coding: Coding,
    /// Its own context where metadata was asked for.
    pub(crate) context: Option<Arc<Context>>,
}

impl Service {
    pub(crate) fn new(id: &str, config: &Config, outlets: Outlets, env: &Env) -> Service {
        let config = config.effective();
        let size_max = config.max_request_body_size;
        Service {
            admission: Admission::new(env.budget.clone(), size_max, config.rate_limit.as_ref(), &env.clock),
            metrics: Metrics::new(&env.registry, id, "http"),
            common: Common::new(&config),
            receiver: id.into(),
            paths: Signal::ALL.map(|signal| config.path(signal)),
            ack_mode: Signal::ALL.map(|signal| config.acknowledge.unwrap_or(env.ack_mode[signal.index()])),
            codings: Codings::new(&config.compression_algorithms),
            healthy: Arc::clone(&env.healthy),
            draining: AtomicBool::new(false),
            date: Mutex::new((u64::MAX, [b' '; 29])),
            told: AtomicBool::new(false),
            outlets,
            config,
        }
    }

    /// What a request is, or the answer that it gets without its body being looked at.
    pub(crate) fn route(&self, head: &Head<'_>, context: &Context) -> Result<Plan, Answer> {
        if head.path == HEALTH_PATH && matches!(head.method, "GET" | "HEAD") {
            return Err(Answer::empty(if !self.is_draining() && (self.healthy)() { 200 } else { 503 }));
        }
        let signal = Signal::ALL.into_iter().find(|signal| head.path == self.paths[signal.index()]);
        let Some(signal) = signal.filter(|&signal| self.outlets.get(signal).is_some()) else {
            return Err(Answer::error(404, Reason::UNSUPPORTED, "no signal is received at this path"));
        };
        if head.method == "OPTIONS" && head.cors_method.is_some() && self.config.cors.is_some() {
            return Err(self.preflight(head));
        }
        if head.method != "POST" {
            let answer = Answer::error(405, Reason::UNSUPPORTED, "the method is not POST");
            return Err(answer.with("allow", "POST"));
        }
        match head.content_type.and_then(Encoding::of) {
            Some(Encoding::Protobuf) => {}
            Some(Encoding::Json) => {
                let message = "application/json is not supported yet; send application/x-protobuf";
                return Err(Answer::error(415, Reason::UNSUPPORTED, message));
            }
            None => {
                let message = "the content type is not application/x-protobuf";
                return Err(Answer::error(415, Reason::UNSUPPORTED, message));
            }
        }
        let coding = if head.several_codings { None } else { self.codings.pick(head.content_encoding) };
        let Some(coding) = coding else {
            let answer = Answer::error(415, Reason::UNSUPPORTED, "the content encoding is none of those taken");
            return Err(answer.with("accept-encoding", self.codings.names()));
        };
        if self.is_draining() {
            return Err(Answer::failure(draining()));
        }
        let context =
            self.config.include_metadata.then(|| Arc::new(Context { metadata: head.fields(), ..context.clone() }));
        Ok(Plan { signal, coding, context })
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

    /// The context of a connection's batches.
    pub(crate) fn context(&self, peer: Option<SocketAddr>) -> Arc<Context> {
        Arc::new(Context { receiver: Arc::clone(&self.receiver), transport: "http", peer, metadata: Vec::new() })
    }

    pub(crate) fn ack_mode(&self, signal: Signal) -> AckMode {
        self.ack_mode[signal.index()]
    }

    /// From here on requests are refused.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
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

    /// Counts, and once tells of, what was odd about a request that was taken.
    pub(crate) fn found(&self, findings: &Findings, peer: Option<SocketAddr>) {
        self.metrics.invalid_ids.add(findings.invalid_ids.get());
        if (findings.legacy || findings.string_indexes > 0) && !self.told.swap(true, Ordering::Relaxed) {
            let receiver = &self.receiver;
            let what = if findings.legacy {
                "OTLP of before release 0.15, which was converted"
            } else {
                "attributes that refer to a string table, which read as absent"
            };
            log::warn!("receiver {receiver} got {what}; first from {peer:?}, others are not told of");
        }
    }

    /// When a request that was handed on now has to have its outcome.
    pub(crate) fn acknowledge_by(&self, now: Instant) -> Instant {
        now + self.config.acknowledge_timeout
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}
