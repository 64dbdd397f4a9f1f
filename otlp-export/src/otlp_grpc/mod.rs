//! `otlp_grpc`: OTLP over gRPC, which is HTTP/2, with or without TLS.
//!
//! | file         | purpose                                                                       |
//! |--------------|-------------------------------------------------------------------------------|
//! | `config.rs`  | the keys, their defaults, their limits                                        |
//! | `message.rs` | what gRPC adds to HTTP/2: messages, timeouts, binary headers; no socket       |
//! | `answer.rs`  | what an answer means; no socket                                               |
//! | `driver.rs`  | the thread: calls to connections, backoff, deadlines                          |
//! | `direct.rs`  | the same in the caller's thread                                               |
//! | `link.rs`    | one connection and its calls                                                  |
//! | `tunnel.rs`  | the way through a proxy                                                       |
//! | `wire.rs`    | a socket as `h2` wants it, and waiting for several                            |
//! | `tests/`     | against a server that does what the test says: the rows XG and RG             |
//!
//! # What it does
//!
//! One call for each group. What came compressed as it is to leave, and was not changed, leaves as it came; everything
//! else is compressed here, or goes out in as many pieces as the group has parts. Calls share one connection to each
//! address of the endpoint.
//!
//! # Threads
//!
//! `tx-grpc`, one for each exporter, begun by its first call. It owns the connections and never blocks but in one wait.
//! Whoever calls `export` blocks until the answer, the failure, or the deadline; names are resolved there. `begin` blocks
//! nobody: the thread says what became of the call. After [`OtlpGrpc::without_thread`] there is none: whoever calls does
//! the I/O, over a connection of its own that the next call may have.
//!
//! # Limits
//!
//! As many calls are open as there are consumers, and no more than the server allows; one until it has said how many.
//! A message of more than 64 MiB, uncompressed, is not sent whole: it fails as too large, and is cut by whoever retries.
//! Of an answer 4 MiB are taken, of its headers 64 KiB. At most 16 addresses are used. A connection is given up after
//! 10 s without one, and to an address that failed the next one begins after 100 ms to 10 s.
//!
//! # On failure
//!
//! By the table of OTLP/gRPC, Failures. A call that the server sent back unseen goes again at once, three times. While
//! there is no connection calls fail at once, to be tried again by schedule, unless `wait_for_ready` is set. What a
//! server finds too large is marked as that, to be halved.
//!
//! # On shutdown
//!
//! Calls that are open may end until the deadline; then they fail, their streams are reset and the connections closed.
//!
//! # Specification
//!
//! OTLP/gRPC; gRPC over HTTP2; RFC 9113.

pub(crate) mod answer;
mod config;
mod direct;
mod driver;
mod link;
mod message;
#[cfg(test)]
mod tests;
mod tunnel;
mod wire;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use otlp_core::auth::without_userinfo;
use otlp_core::codec::{Coding, encode};
use otlp_core::component::{Exporter, Health, HealthState, Landed};
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Registry};
use otlp_core::thread::{RestartBackoff, Supervised, ThreadOptions};
use otlp_core::{ByteSize, Clock, Code, Deadline, Failure, Group, Outcome, Reason, Signal};
use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};

pub use self::config::{Balancer, Config, Keepalive};
use self::config::{Place, Target};
use self::direct::Direct;
use self::driver::{Driver, Shared};
use self::link::{Answer, Call};
use self::message::Message;
use crate::ConfigError;
use crate::auth::{Authenticator, Credentials};
pub use crate::headers::Headers;
use crate::open::Open;
use crate::otlp_http::{Proxies, Url, base64};
use crate::resolve::Names;
use crate::tls;

/// What receivers take at most by default (OTLP/HTTP Request; gRPC servers mostly less).
const REQUEST_BYTES_MAX: ByteSize = ByteSize::mib(64);

/// What never comes from the `headers` key: it is the transport's, or gRPC's own.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Sends one signal to one server.
///
/// # Threads
///
/// Any number may call it at once; they share its connections.
pub struct OtlpGrpc {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    /// What goes by the name of the configured coding in gRPC.
    coding: Coding,
    timeout: Option<Duration>,
    auth: Option<Authenticator>,
    threads: ThreadOptions,
    thread: Mutex<Option<Supervised>>,
    /// Where callers are to do without.
    direct: Option<Direct>,
    clock: Clock,
    bytes: Counter,
    open: Arc<Open>,
}

/// What the thread goes by.
struct Plan {
    id: String,
    target: Target,
    /// The proxy, where there is one.
    proxy: Option<Url>,
    /// The endpoint, for messages.
    to: String,
    uri: Uri,
    headers: HeaderMap,
    tls: Option<tls::Client>,
    balancer: Balancer,
    keepalive: Keepalive,
    wait_for_ready: bool,
    in_flight_max: usize,
    names: Names,
    meters: Meters,
}

struct Meters {
    opened: Counter,
    reused: Counter,
}

/// Where one connection goes.
#[derive(Clone, Debug, PartialEq)]
enum Address {
    Tcp(SocketAddr),
    /// The path is in the target.
    Unix,
}

fn timed_out(message: String) -> Failure {
    Failure { code: Code::DeadlineExceeded, ..Failure::refused(Reason::TIMEOUT, message) }
}

impl OtlpGrpc {
    /// An exporter for one signal. Connects to nothing yet and starts no thread; reads the certificates.
    ///
    /// # Errors
    ///
    /// Where the configuration is wrong, a file cannot be used, or something is asked for that is not built yet; names
    /// the key.
    pub fn new(
        id: &str,
        config: &Config,
        signal: Signal,
        threads: ThreadOptions,
        clock: Clock,
        registry: &Registry,
    ) -> Result<OtlpGrpc, ConfigError> {
        OtlpGrpc::in_environment(id, config, signal, threads, clock, registry, |name| std::env::var(name).ok())
    }

    /// The same, with `variable` to look into the environment.
    fn in_environment(
        id: &str,
        config: &Config,
        signal: Signal,
        threads: ThreadOptions,
        clock: Clock,
        registry: &Registry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<OtlpGrpc, ConfigError> {
        config.check()?;
        #[cfg(feature = "pipeline")]
        if let Some(key) = config.unbuilt() {
            return Err(ConfigError::new(key, "not built yet"));
        }
        let target = config.target()?;
        let proxy = match target.url() {
            Some(url) => Proxies::of_grpc(variable)?.for_url(&url).cloned(),
            None => None,
        };
        if proxy.as_ref().is_some_and(|proxy| proxy.https) {
            let message = "the environment's proxy for gRPC (grpc_proxy, HTTPS_PROXY) must begin with http://";
            return Err(ConfigError::new("endpoint", message));
        }
        let tls = match config.is_tls(&target) {
            true => {
                config.tls.check_provider(without_userinfo(&config.endpoint))?;
                Some(tls::Client::new(&config.tls, &[b"h2"], id)?)
            }
            false => None,
        };
        let uri = Uri::builder()
            .scheme(if tls.is_some() { "https" } else { "http" })
            .authority(config.authority(&target))
            .path_and_query(signal.grpc_path())
            .build()
            .map_err(|error| ConfigError::new("endpoint", error.to_string()))?;
        let labels = || vec![("exporter", id.to_owned()), ("data_type", signal.to_string())];
        let shared = Shared::new().map_err(|error| ConfigError::new("endpoint", format!("no socket: {error}")))?;
        let plan = Plan {
            id: id.to_owned(),
            to: config.endpoint.clone(),
            uri,
            headers: headers(config)?,
            tls,
            balancer: config.balancer_name,
            keepalive: config.keepalive,
            wait_for_ready: config.wait_for_ready,
            in_flight_max: config.in_flight_max(),
            names: Names::default(),
            target,
            proxy,
            meters: Meters {
                opened: registry.counter(names::EXPORTER_CONNECTIONS_OPENED, None, labels()),
                reused: registry.counter(names::EXPORTER_CONNECTIONS_REUSED, None, labels()),
            },
        };
        Ok(OtlpGrpc {
            plan: Arc::new(plan),
            shared: Arc::new(shared),
            coding: match config.compression {
                // In gRPC the name stands for the framed format: that is what collectors register under it.
                Coding::Snappy => Coding::SnappyFramed,
                coding => coding,
            },
            timeout: Some(config.timeout).filter(|timeout| !timeout.is_zero()),
            auth: config.auth.clone(),
            threads,
            thread: Mutex::new(None),
            direct: None,
            clock,
            bytes: registry.counter(names::EXPORTER_BYTES, None, labels()),
            open: Arc::default(),
        })
    }

    /// The same, without a thread, ever: whoever calls `export` does the I/O. [`Exporter::begin`] begins nothing.
    ///
    /// Each call has a connection to itself, of which up to four are kept for those that come later. While none is called
    /// nobody answers the server's pings or hears that it goes away; the next call does, before it begins.
    pub fn without_thread(mut self) -> OtlpGrpc {
        self.direct = Some(Direct::default());
        self
    }

    /// Resolves the endpoint's name where it is not known, for as long as the system takes.
    #[cfg(feature = "client")]
    pub(crate) fn resolve_ahead(&self) {
        // What fails fails again when it is called, and is told then.
        let _ = self.addresses();
    }

    /// A group as it goes over the wire, where that takes no work.
    fn ready_message(&self, group: &Group) -> Option<Message> {
        if self.coding == Coding::Identity {
            return Some(Message::new(false, group.parts().iter().map(|batch| batch.body().clone()).collect()));
        }
        let [batch] = group.parts() else { return None };
        let encoded = batch.encoded().filter(|encoded| encoded.coding == self.coding)?;
        Some(Message::new(true, smallvec![encoded.body.clone()]))
    }

    /// A group as it goes over the wire.
    fn message(&self, group: &Group) -> Result<Message, Failure> {
        if let Some(message) = self.ready_message(group) {
            return Ok(message);
        }
        let parts: SmallVec<[&[u8]; 4]> = group.parts().iter().map(|batch| &batch.body()[..]).collect();
        let mut body = Vec::new();
        encode(self.coding, None, &parts, &mut body)
            .map_err(|error| Failure::rejected(Code::Internal, Reason::UNSUPPORTED, error.to_string()))?;
        Ok(Message::new(true, smallvec![Bytes::from(body)]))
    }

    fn addresses(&self) -> Result<Vec<Address>, Failure> {
        let Some((host, port)) = self.plan.host() else { return Ok(vec![Address::Unix]) };
        let found = self.plan.names.resolve(host, port).map_err(|error| {
            Failure::refused(Reason::CONNECTION, format!("cannot resolve {host} of {}: {error}", self.plan.to))
        })?;
        Ok(found.into_iter().map(Address::Tcp).collect())
    }

    /// Those that are known, where nobody has to be asked.
    fn known_addresses(&self) -> Option<Vec<Address>> {
        let Place::Host(host, port) = &self.plan.target.place else { return Some(vec![Address::Unix]) };
        Some(self.plan.names.known(host, *port)?.into_iter().map(Address::Tcp).collect())
    }

    fn deadline(&self, deadline: Deadline) -> Deadline {
        match self.timeout {
            Some(timeout) => deadline.min(Deadline::after(self.clock.now(), timeout)),
            None => deadline,
        }
    }

    fn ensure_thread(&self) -> Result<(), Failure> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (plan, shared) = (Arc::clone(&self.plan), Arc::clone(&self.shared));
            let make = move || {
                let driver = Driver::new(Arc::clone(&plan), Arc::clone(&shared));
                // It is closed, not stopped: what is open is to end first.
                move |_: &otlp_core::Stop| {
                    #[cfg(feature = "client")]
                    let _quiet = crate::quiet::enter();
                    driver.run();
                }
            };
            let spawned = Supervised::spawn("tx-grpc", self.threads, RestartBackoff::default(), make);
            let failed = |error| Failure::refused(Reason::IO, format!("cannot start the thread tx-grpc: {error}"));
            *thread = Some(spawned.map_err(failed)?);
        }
        Ok(())
    }

    /// Calls with the credentials; once more where they would not do and others are at hand.
    fn deliver(&self, group: &Group, deadline: Deadline) -> Result<Outcome, Failure> {
        let Some(auth) = &self.auth else { return self.call(group, None, deadline) };
        let credentials = auth.credentials()?;
        let outcome = self.call(group, Some(&credentials), deadline)?;
        match auth.renewed(&outcome, &credentials) {
            Some(renewed) => self.call(group, Some(&renewed), deadline),
            None => Ok(outcome),
        }
    }

    fn call(&self, group: &Group, credentials: Option<&Credentials>, deadline: Deadline) -> Result<Outcome, Failure> {
        let credentials = credentials.and_then(Credentials::field);
        let message = self.message(group)?;
        let addresses = self.addresses()?;
        if let Some(direct) = &self.direct {
            self.bytes.add(bytes::Buf::remaining(&message) as u64);
            return direct.call(&self.plan, &message, credentials, deadline, &addresses);
        }
        self.ensure_thread()?;
        self.bytes.add(bytes::Buf::remaining(&message) as u64);
        let (answer, answered) = crossbeam_channel::bounded(1);
        // Whoever asked does not go before.
        let answer = Answer::new(move |outcome| drop(answer.send(outcome)));
        self.shared.submit(Call { message, deadline, answer, credentials, returned: 0 }, addresses);
        answered.recv().map_err(|_| Failure::refused(Reason::PANIC, "the thread tx-grpc panicked"))
    }
}

impl Plan {
    /// Where connections go: the proxy, or the server; `None` for a Unix socket.
    fn host(&self) -> Option<(&str, u16)> {
        match (&self.proxy, &self.target.place) {
            (Some(proxy), _) => Some((&proxy.host, proxy.port)),
            (None, Place::Host(host, port)) => Some((host, *port)),
            (None, Place::Unix(_)) => None,
        }
    }
}

/// Those of every call.
fn headers(config: &Config) -> Result<HeaderMap, ConfigError> {
    let agent = match config.user_agent.as_str() {
        "" => concat!("otlpd/", env!("CARGO_PKG_VERSION")),
        agent => agent,
    };
    let wrong = |name: &str| ConfigError::new("headers", format!("{name:?} cannot be sent"));
    let mut headers = HeaderMap::new();
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let agent = HeaderValue::from_str(agent).map_err(|error| ConfigError::new("user_agent", error.to_string()))?;
    headers.insert("user-agent", agent);
    if config.compression != Coding::Identity {
        headers.insert("grpc-encoding", HeaderValue::from_static(config.compression.as_str()));
    }
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd,snappy"));
    for (name, value) in &config.headers.0 {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?;
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
            continue;
        }
        let mut value = match name.as_str().ends_with("-bin") {
            true => HeaderValue::try_from(base64(value.as_bytes())),
            false => HeaderValue::from_str(value),
        }
        .map_err(|_| wrong(name.as_str()))?;
        // Kept out of HPACK's table, where it could be guessed at, and out of whatever is printed.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

impl Exporter for OtlpGrpc {
    fn export(&self, group: &Group, deadline: Deadline) -> Outcome {
        if group.items().get() == 0 {
            return Outcome::Delivered;
        }
        if group.size() > REQUEST_BYTES_MAX {
            let message = format!("a request of {} is more than {REQUEST_BYTES_MAX}", group.size());
            return Failure::rejected(Code::ResourceExhausted, Reason::TOO_LARGE, message).into();
        }
        let deadline = self.deadline(deadline);
        let Some(_open) = self.open.begin() else {
            return Failure::refused(Reason::SHUTDOWN, "the exporter is stopped").into();
        };
        self.deliver(group, deadline).unwrap_or_else(Outcome::from)
    }

    /// Not with credentials: a refusal of them is answered by a second attempt, which is waited for.
    fn begins(&self) -> bool {
        self.auth.is_none()
    }

    fn begin(&self, group: Group, deadline: Deadline, landed: Landed) -> Result<(), Box<(Group, Landed)>> {
        let fits = group.items().get() > 0 && group.size() <= REQUEST_BYTES_MAX;
        // The first call begins the thread.
        let runs = self.begins() && self.thread.try_lock().is_some_and(|thread| thread.is_some());
        let ready = || Some((self.ready_message(&group)?, self.known_addresses()?));
        let Some((message, addresses)) = (fits && runs).then(ready).flatten() else {
            return Err(Box::new((group, landed)));
        };
        let Some(open) = Open::begin_owned(&self.open) else { return Err(Box::new((group, landed))) };
        self.bytes.add(bytes::Buf::remaining(&message) as u64);
        let deadline = self.deadline(deadline);
        let answer = Answer::new(move |outcome| {
            landed(group, Some(outcome));
            drop(open);
        });
        self.shared.submit(Call { message, deadline, answer, credentials: None, returned: 0 }, addresses);
        Ok(())
    }

    fn shutdown(&self, deadline: Deadline) {
        self.open.close(&self.clock, deadline);
        self.shared.close();
        if let Some(direct) = &self.direct {
            direct.close();
        }
        // It ends what is open, writes a few frames and never blocks: joined in no time.
        drop(self.thread.lock().take());
    }

    fn health(&self) -> Health {
        if self.open.is_closed() {
            return Health { state: HealthState::Stopped, message: String::new() };
        }
        let trouble = self.plan.tls.as_ref().and_then(tls::Client::trouble);
        trouble.map_or_else(Health::ok, Health::unhealthy)
    }
}

impl Drop for OtlpGrpc {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(direct) = &self.direct {
            direct.close();
        }
    }
}

impl fmt::Debug for OtlpGrpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpGrpc({}, {})", self.plan.uri, self.coding)
    }
}
