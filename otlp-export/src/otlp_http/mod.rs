//! `otlp_http`: OTLP over HTTP/1.1, protobuf.
//!
//! | file           | purpose                                                            |
//! |----------------|--------------------------------------------------------------------|
//! | `config.rs`    | the keys, their defaults, their limits                             |
//! | `url.rs`       | URLs, as far as they are needed                                    |
//! | `proxy.rs`     | which proxy a request goes through                                 |
//! | `answer.rs`    | what an answer means; no socket                                    |
//! | `read.rs`      | an answer from bytes as they come; no socket                       |
//! | `secured.rs`   | tests: TLS as the exporter uses it                                 |
//! | `transport.rs` | the seam: send parts, read the answer                              |
//! | `plain.rs`     | our own connections, for http and Unix sockets                     |
//! | `lane.rs`      | the same, waited for together: no thread for a request; Linux      |
//! | `tls.rs`       | ureq, for https                                                    |
//!
//! # What it does
//!
//! One POST for each group. What came compressed as it is to leave, and was not changed, leaves as it came; everything
//! else is compressed here, or goes out in as many pieces as the group has parts.
//!
//! # Threads
//!
//! Whoever calls `export` blocks until the answer, the failure, or the deadline. What `begin` sent over plain http is
//! waited for by a host, else by a thread `tx-http`; see `lane.rs`.
//!
//! # Limits
//!
//! A request of more than 64 MiB, uncompressed, is not sent whole: it fails as too large, and is cut by whoever retries.
//! Of an answer 64 KiB are read.
//!
//! # On failure
//!
//! 429, 502, 503 and 504, broken connections and timeouts may be tried again, everything else may not. 307 and 308 are
//! followed, ten times at most, and never from https to http; the secrets among the headers do not follow to another host.
//!
//! # On shutdown
//!
//! Requests that are open may end until the deadline; then their connections are closed under them.
//!
//! # Specification
//!
//! OTLP/HTTP: Request, Response, Throttling, All Other Responses, Connection.

mod answer;
mod config;
#[cfg(all(target_os = "linux", feature = "pipeline"))]
mod lane;
mod plain;
mod proxy;
mod read;
#[cfg(all(test, feature = "tls"))]
mod secured;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod url;

use std::fmt;
#[cfg(all(target_os = "linux", feature = "pipeline"))]
use std::io::Write as _;
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(all(target_os = "linux", feature = "pipeline"))]
use bytes::Bytes;
use otlp_core::codec::{Coding, encode};
use otlp_core::component::{Exporter, Health, HealthState};
#[cfg(all(target_os = "linux", feature = "pipeline"))]
use otlp_core::component::{Guest, Landed};
use otlp_core::json;
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Registry};
use otlp_core::{ByteSize, Clock, Code, Deadline, Failure, Group, Outcome, Reason, Signal};
use smallvec::SmallVec;

use crate::ConfigError;
use crate::auth::{Authenticator, Credentials};
pub use crate::headers::Headers;
use crate::open::Open;
#[cfg(feature = "tls")]
use crate::tls as client_tls;
use answer::{Answer, Sent};
#[cfg(feature = "grpc")]
pub(crate) use answer::{DELAY_MAX, one_line};
pub use config::{Config, Encoding};
use plain::Plain;
pub(crate) use proxy::Proxies;
#[cfg(feature = "tls")]
use tls::Tls;
use transport::{Broken, Keeping, Request, Transport};
pub(crate) use url::Url;
#[cfg(feature = "grpc")]
pub(crate) use url::base64;
#[cfg(any(feature = "grpc", feature = "client"))]
pub(crate) use url::percent_decode;

/// What receivers take at most by default (OTLP/HTTP Request).
const REQUEST_BYTES_MAX: ByteSize = ByteSize::mib(64);

/// Go's limit.
const REDIRECTS_MAX: u32 = 10;

/// With `max_idle_conns_per_host: 0`.
const IDLE_MAX_DEFAULT: usize = 100;

/// Sends one signal to one URL.
///
/// # Threads
///
/// Any number may call it at once; each uses a connection of its own.
pub struct OtlpHttp {
    url: Url,
    headers: Vec<(String, String)>,
    auth: Option<Authenticator>,
    signal: Signal,
    encoding: Encoding,
    coding: Coding,
    level: i32,
    timeout: Option<Duration>,
    proxies: Proxies,
    #[cfg_attr(not(any(feature = "tls", feature = "client")), allow(dead_code))]
    keeping: Keeping,
    straight: Plain,
    proxied: Option<Plain>,
    #[cfg(feature = "tls")]
    client: Arc<client_tls::Client>,
    #[cfg(feature = "tls")]
    tls: OnceLock<Result<Tls, String>>,
    #[cfg(feature = "tls")]
    tls_proxied: OnceLock<Result<Tls, String>>,
    clock: Clock,
    bytes: Counter,
    open: Arc<Open>,
    /// Where requests need not be waited for.
    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    ahead: Option<Ahead>,
}

/// What it takes to send without waiting.
#[cfg(all(target_os = "linux", feature = "pipeline"))]
struct Ahead {
    lane: lane::Lane,
    /// The head of every request, up to the length of its body.
    head: Bytes,
    heard: Arc<Heard>,
}

/// What it takes to understand an answer.
#[cfg(all(target_os = "linux", feature = "pipeline"))]
struct Heard {
    url: Url,
    text: String,
    signal: Signal,
    encoding: Encoding,
    clock: Clock,
}

impl OtlpHttp {
    /// An exporter for one signal. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// Where the configuration is wrong, or asks for something that is not built yet; names the key.
    pub fn new(
        id: &str,
        config: &Config,
        signal: Signal,
        clock: Clock,
        registry: &Registry,
    ) -> Result<OtlpHttp, ConfigError> {
        config.check()?;
        #[cfg(feature = "pipeline")]
        if let Some(key) = config.unbuilt() {
            return Err(ConfigError::new(key, "not built yet"));
        }
        let parse = |text: &str| Url::endpoint(text).map_err(|error| ConfigError::new("endpoint", error.to_string()));
        let url = parse(&config.url(signal)?)?;
        if url.https && !cfg!(feature = "tls") {
            return Err(ConfigError::new("endpoint", format!("{url} needs TLS: build in the feature `ring`")));
        }
        #[cfg(feature = "tls")]
        if url.https {
            config.tls.check_provider(&url)?;
        }
        let proxies = Proxies::new(&config.proxy_url, |name| std::env::var(name).ok())?;
        let labels = || vec![("exporter", id.to_owned()), ("data_type", signal.to_string())];
        let idle_max = match (config.disable_keep_alives, config.max_idle_conns_per_host) {
            (true, _) => 0,
            (false, 0) => IDLE_MAX_DEFAULT,
            (false, some) => some,
        };
        let keeping = Keeping {
            idle_max,
            idle_timeout: Some(config.idle_conn_timeout).filter(|timeout| !timeout.is_zero()),
            opened: registry.counter(names::EXPORTER_CONNECTIONS_OPENED, None, labels()),
            reused: registry.counter(names::EXPORTER_CONNECTIONS_REUSED, None, labels()),
            names: Arc::default(),
        };
        // A proxy that is itself reached by https is ureq's, too.
        let plain_proxy = proxies.for_http.clone().filter(|proxy| !proxy.https);
        Ok(OtlpHttp {
            headers: headers(config, &url),
            auth: config.auth.clone(),
            url,
            signal,
            encoding: config.encoding,
            coding: config.compression,
            level: config.compression_level,
            timeout: Some(config.timeout).filter(|timeout| !timeout.is_zero()),
            #[cfg(feature = "tls")]
            client: Arc::new(client_tls::Client::new(&config.tls, &[], id)?),
            straight: Plain::new(keeping.clone(), None),
            proxied: plain_proxy.map(|proxy| Plain::new(keeping.clone(), Some(proxy))),
            #[cfg(feature = "tls")]
            tls: OnceLock::new(),
            #[cfg(feature = "tls")]
            tls_proxied: OnceLock::new(),
            proxies,
            keeping,
            clock,
            bytes: registry.counter(names::EXPORTER_BYTES, None, labels()),
            open: Arc::default(),
            #[cfg(all(target_os = "linux", feature = "pipeline"))]
            ahead: None,
        }
        .with_ahead())
    }

    #[cfg(not(all(target_os = "linux", feature = "pipeline")))]
    fn with_ahead(self) -> OtlpHttp {
        self
    }

    /// The way without waiting, where there can be one: not through TLS or a proxy, nor where each body has to be written
    /// anew, nor with credentials, whose refusal is answered by a second attempt.
    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    fn with_ahead(mut self) -> OtlpHttp {
        let reused = self.coding == Coding::Identity || reusable(self.coding);
        let straight = !self.url.https
            && self.auth.is_none()
            && self.proxies.for_url(&self.url).is_none()
            && self.keeping.idle_max > 0;
        if straight && reused && self.encoding == Encoding::Proto {
            match lane::Lane::new(self.keeping.idle_max, self.keeping.idle_timeout) {
                Ok(lane) => {
                    let heard = Heard {
                        text: self.url.to_string(),
                        url: self.url.clone(),
                        signal: self.signal,
                        encoding: self.encoding,
                        clock: self.clock.clone(),
                    };
                    let head = self.straight.head_start(&self.url, &self.headers).into();
                    self.ahead = Some(Ahead { lane, head, heard: Arc::new(heard) });
                }
                Err(error) => log::warn!("every request to {} is waited for by a thread: {error}", self.url),
            }
        }
        self
    }

    /// The body as it is to leave, where that takes no work.
    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    fn ready_body(&self, group: &Group) -> Option<SmallVec<[Bytes; 2]>> {
        let bodies = || group.parts().iter().map(|batch| batch.body().clone());
        if self.coding == Coding::Identity {
            // Room for the head.
            return Some(std::iter::once(Bytes::new()).chain(bodies()).collect());
        }
        let [batch] = group.parts() else { return None };
        let encoded = batch.encoded().filter(|encoded| encoded.coding == self.coding)?;
        Some([Bytes::new(), encoded.body.clone()].into_iter().collect())
    }

    /// Resolves the name that the first connection goes to, where that is not known, for as long as the system takes.
    #[cfg(feature = "client")]
    pub(crate) fn resolve_ahead(&self) {
        let to = self.proxies.for_url(&self.url).unwrap_or(&self.url);
        // What fails fails again when it connects, and is told then.
        let _ = self.keeping.names.resolve(&to.host, to.port);
    }

    /// The way to a URL.
    fn transport(&self, url: &Url) -> Result<&dyn Transport, Failure> {
        let proxy = self.proxies.for_url(url);
        if !url.https {
            match (proxy, &self.proxied) {
                (None, _) => return Ok(&self.straight),
                (Some(_), Some(proxied)) => return Ok(proxied),
                (Some(_), None) => {}
            }
        }
        #[cfg(feature = "tls")]
        let slot = if proxy.is_some() { &self.tls_proxied } else { &self.tls };
        #[cfg(feature = "tls")]
        return match slot.get_or_init(|| Tls::new(&self.client, &self.keeping, proxy)) {
            Ok(tls) => Ok(tls),
            Err(message) => Err(Failure::refused(Reason::CONNECTION, message.as_str())),
        };
        #[cfg(not(feature = "tls"))]
        Err(Failure::rejected(
            Code::Unimplemented,
            Reason::UNSUPPORTED,
            format!("{url} needs TLS: build in the feature `ring`"),
        ))
    }

    /// Sends a body with the credentials; once more where they would not do and others are at hand.
    fn deliver(&self, body: &[&[u8]], deadline: Deadline) -> Outcome {
        let Some(auth) = &self.auth else { return self.follow(&self.headers, None, body, deadline) };
        let send = |credentials: &Credentials| {
            self.follow(&credentials.among(&self.headers), Some(&credentials.header), body, deadline)
        };
        let credentials = match auth.credentials() {
            Ok(credentials) => credentials,
            Err(failure) => return failure.into(),
        };
        let outcome = send(&credentials);
        match auth.renewed(&outcome, &credentials) {
            Some(renewed) => send(&renewed),
            None => outcome,
        }
    }

    /// Sends a body to where it belongs in the end, redirects followed. `secret` names a header that must not follow to
    /// another host.
    fn follow(
        &self,
        headers: &[(String, String)],
        secret: Option<&str>,
        body: &[&[u8]],
        deadline: Deadline,
    ) -> Outcome {
        let (mut url, mut headers) = (self.url.clone(), std::borrow::Cow::Borrowed(headers));
        for _ in 0..=REDIRECTS_MAX {
            let answer = match self.exchange(&Request { url: &url, headers: &headers, body }, deadline) {
                Ok(answer) => answer,
                Err(failure) => return failure.into(),
            };
            // Others than these two turn a POST into a GET, which nobody could mean.
            let Some(location) = answer.location.as_deref().filter(|_| matches!(answer.status, 307 | 308)) else {
                return self.outcome(&answer, &url);
            };
            // What was to be secret is not told in the open because a server says so.
            let Some(next) = url.join(location).ok().filter(|next| next.https || !url.https) else {
                return self.outcome(&answer, &url);
            };
            if next.host != url.host || next.socket != url.socket {
                // `Host` is the old one's, too.
                headers.to_mut().retain(|(name, _)| {
                    !["authorization", "cookie", "host"].contains(&name.to_ascii_lowercase().as_str())
                        && secret.is_none_or(|secret| !name.eq_ignore_ascii_case(secret))
                });
            }
            url = next;
        }
        let message = format!("stopped after {REDIRECTS_MAX} redirects, the last to {url}");
        Failure::rejected(Code::Unknown, Reason::BAD_ANSWER, message).into()
    }

    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    fn try_begin(&self, group: Group, deadline: Deadline, landed: Landed) -> Result<(), Box<(Group, Landed)>> {
        let Some(Ahead { lane, head, heard }) = &self.ahead else { return Err(Box::new((group, landed))) };
        let fits = group.items().get() > 0 && group.size() <= REQUEST_BYTES_MAX;
        let Some(mut parts) = self.ready_body(&group).filter(|_| fits) else {
            return Err(Box::new((group, landed)));
        };
        let Some(call) = Open::begin_owned(&self.open) else { return Err(Box::new((group, landed))) };
        let length: usize = parts.iter().map(Bytes::len).sum();
        let mut head_bytes = Vec::with_capacity(head.len() + 24);
        head_bytes.extend_from_slice(head);
        let _ = write!(head_bytes, "{length}\r\n\r\n");
        parts[0] = head_bytes.into();
        let deadline = match self.timeout {
            Some(timeout) => deadline.min(Deadline::after(self.clock.now(), timeout)),
            None => deadline,
        };
        let heard = Arc::clone(heard);
        let landed = move |group, result| {
            landed(group, heard.outcome(result));
            drop(call);
        };
        let flight = lane::Flight::new(parts, group, deadline, Box::new(landed));
        match lane.begin(flight, || self.straight.give_away(&self.url)) {
            Ok(()) => {
                self.keeping.reused.increment();
                self.bytes.add(length as u64);
            }
            Err(flight) => flight.not_sent(),
        }
        Ok(())
    }

    fn outcome(&self, answer: &Answer, url: &Url) -> Outcome {
        let sent = Sent { url: &url.to_string(), signal: self.signal, encoding: self.encoding };
        answer.outcome(sent, self.clock.wall())
    }

    /// One request and its answer; once more at once where a kept connection turned out to be closed.
    fn exchange(&self, request: &Request<'_>, deadline: Deadline) -> Result<Answer, Failure> {
        let transport = self.transport(request.url)?;
        let once = |fresh| -> Result<Answer, Broken> {
            let bytes: usize = request.body.iter().map(|part| part.len()).sum();
            self.bytes.add(bytes as u64);
            transport.send(request, fresh, deadline)?.answer(deadline)
        };
        let again = |broken: Broken| if broken.stale { once(true) } else { Err(broken) };
        once(false).or_else(again).map_err(|broken| broken.failure(request.url))
    }
}

#[cfg(all(target_os = "linux", feature = "pipeline"))]
impl Heard {
    /// What an answer means; `None` where the request is to be sent again at once, by somebody who can wait.
    fn outcome(&self, result: Result<Answer, Broken>) -> Option<Outcome> {
        match result {
            Ok(answer) if answer.location.is_some() && matches!(answer.status, 307 | 308) => None,
            Ok(answer) => {
                let sent = Sent { url: &self.text, signal: self.signal, encoding: self.encoding };
                Some(answer.outcome(sent, self.clock.wall()))
            }
            Err(broken) if broken.stale => None,
            Err(broken) => Some(broken.failure(&self.url).into()),
        }
    }
}

/// Whether a body that came in that coding may leave in it: not where several things go by one name.
fn reusable(coding: Coding) -> bool {
    matches!(coding, Coding::Gzip | Coding::Zstd | Coding::Lz4 | Coding::SnappyFramed)
}

fn headers(config: &Config, url: &Url) -> Vec<(String, String)> {
    let agent = match config.user_agent.as_str() {
        "" => concat!("otlpd/", env!("CARGO_PKG_VERSION")),
        agent => agent,
    };
    let mut headers = vec![
        ("User-Agent".to_owned(), agent.to_owned()),
        ("Content-Type".to_owned(), config.encoding.media_type().to_owned()),
    ];
    if config.compression != Coding::Identity {
        headers.push(("Content-Encoding".to_owned(), config.compression.as_str().to_owned()));
    }
    if let Some(basic) = url.basic() {
        headers.push(("Authorization".to_owned(), basic));
    }
    for (name, value) in &config.headers.0 {
        // What frames the request is the transport's.
        let framing = ["content-length", "transfer-encoding", "connection"];
        if framing.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.push((name.clone(), value.clone()));
    }
    headers
}

impl Exporter for OtlpHttp {
    fn export(&self, group: &Group, deadline: Deadline) -> Outcome {
        if group.items().get() == 0 {
            return Outcome::Delivered;
        }
        if group.size() > REQUEST_BYTES_MAX {
            let message = format!("a request of {} is more than {REQUEST_BYTES_MAX}", group.size());
            return Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message).into();
        }
        let deadline = match self.timeout {
            Some(timeout) => deadline.min(Deadline::after(self.clock.now(), timeout)),
            None => deadline,
        };
        let Some(_open) = self.open.begin() else {
            return Failure::refused(Reason::SHUTDOWN, "the exporter is stopped").into();
        };
        let document = match self.encoding {
            Encoding::Proto => None,
            Encoding::Json => {
                let mut document = Vec::new();
                json::encode(self.signal, &group.joined(), &mut document);
                Some(document)
            }
        };
        let parts: SmallVec<[&[u8]; 4]> = match &document {
            Some(document) => std::iter::once(&document[..]).collect(),
            None => group.parts().iter().map(|batch| &batch.body()[..]).collect(),
        };
        if self.coding == Coding::Identity {
            return self.deliver(&parts, deadline);
        }
        if document.is_none()
            && let [batch] = group.parts()
            && let Some(encoded) = batch.encoded()
            && encoded.coding == self.coding
            && reusable(self.coding)
        {
            return self.deliver(&[&encoded.body[..]], deadline);
        }
        let mut body = Vec::new();
        match encode(self.coding, Some(self.level), &parts, &mut body) {
            Ok(()) => self.deliver(&[&body], deadline),
            Err(error) => Failure::rejected(Code::Internal, Reason::UNSUPPORTED, error.to_string()).into(),
        }
    }

    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    fn begins(&self) -> bool {
        self.ahead.is_some()
    }

    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    fn begin(&self, group: Group, deadline: Deadline, landed: Landed) -> Result<(), Box<(Group, Landed)>> {
        self.try_begin(group, deadline, landed)
    }

    #[cfg(all(target_os = "linux", feature = "pipeline"))]
    fn guest(&self) -> Option<Arc<dyn Guest>> {
        self.ahead.as_ref().map(|ahead| ahead.lane.guest())
    }

    fn shutdown(&self, deadline: Deadline) {
        self.open.close(&self.clock, deadline);
        #[cfg(all(target_os = "linux", feature = "pipeline"))]
        if let Some(ahead) = &self.ahead {
            ahead.lane.close();
        }
        self.straight.close();
        self.proxied.iter().for_each(Transport::close);
        #[cfg(feature = "tls")]
        [&self.tls, &self.tls_proxied].into_iter().filter_map(|tls| tls.get()?.as_ref().ok()).for_each(Tls::close);
    }

    fn health(&self) -> Health {
        if self.open.is_closed() {
            return Health { state: HealthState::Stopped, message: String::new() };
        }
        #[cfg(feature = "tls")]
        return self.client.trouble().map_or_else(Health::ok, Health::unhealthy);
        #[cfg(not(feature = "tls"))]
        Health::ok()
    }
}

impl fmt::Debug for OtlpHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpHttp({}, {})", self.url, self.coding)
    }
}
