//! The settings of a client, their defaults, their limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use otlp_core::codec::Coding;
use otlp_core::flow::gate::WhenFull;
use otlp_core::{Failure, Signal};

use super::envelope::{Encoded, Origin};
use super::fork::PerProcess;
use super::outbox::{Mode, OnFailure, Outbox, Plan, Ways};
use super::queue::Limits;
use super::record::attributes;
use super::{Inner, OtlpClient, ways};
use crate::otlp_http::Headers;
use crate::{ConfigError, retry};

/// How requests travel: `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `http/protobuf`.
    #[default]
    HttpProtobuf,
    /// `http/json`.
    HttpJson,
    /// `grpc`; needs the feature of that name.
    Grpc,
}

impl Protocol {
    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Protocol> {
        [Protocol::HttpProtobuf, Protocol::HttpJson, Protocol::Grpc].into_iter().find(|known| known.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::HttpProtobuf => "http/protobuf",
            Protocol::HttpJson => "http/json",
            Protocol::Grpc => "grpc",
        }
    }
}

/// What may differ from signal to signal. What is not set is as for all signals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) endpoint: Option<String>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) headers: Option<Vec<(String, String)>>,
    pub(crate) compression: Option<Coding>,
    pub(crate) timeout: Option<Duration>,
    /// Plaintext for gRPC endpoints without a scheme.
    pub(crate) insecure: Option<bool>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Config>,
    pub(crate) certificate: Option<String>,
    pub(crate) client_certificate: Option<String>,
    pub(crate) client_key: Option<String>,
}

/// Settings of an [`OtlpClient`]: [`OtlpClient::builder`], or [`OtlpClient::from_env`].
///
/// Every setting has a default. Nothing is checked before [`Builder::build`].
#[derive(Clone)]
#[must_use = "nothing happens before build()"]
pub struct Builder {
    pub(crate) all: Connection,
    pub(crate) own: [Connection; 3],
    pub(crate) resource: Vec<(String, String)>,
    pub(crate) scope: (String, String),
    pub(crate) mode: Mode,
    pub(crate) disabled: bool,
    pub(crate) limits: [Limits; 3],
    pub(crate) export_timeouts: [Option<Duration>; 3],
    pub(crate) ignored: Vec<ConfigError>,
    queue_bytes_max: u64,
    pub(crate) when_full: WhenFull,
    block_timeout: Duration,
    pub(crate) retry: Option<retry::Config>,
    thread_name: String,
    stack_kib: usize,
    pub(crate) drop_timeout: Duration,
    on_failure: Option<OnFailure>,
    #[cfg(feature = "tls")]
    crypto_provider: Option<crate::tls::Provider>,
}

/// The specification's (OpenTelemetry SDK, Batching processor).
pub(crate) const LIMITS: Limits = Limits { queue_items_max: 2048, batch_items_max: 512, delay: Duration::from_secs(5) };

/// The specification's (OTLP Exporter Configuration).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            all: Connection::default(),
            own: Default::default(),
            resource: Vec::new(),
            scope: Default::default(),
            mode: Mode::Queued,
            disabled: false,
            limits: [LIMITS; 3],
            export_timeouts: [None; 3],
            ignored: Vec::new(),
            queue_bytes_max: 16 << 20,
            when_full: WhenFull::DropNewest,
            block_timeout: TIMEOUT,
            retry: None,
            thread_name: "otlp-client".to_owned(),
            stack_kib: 512,
            drop_timeout: Duration::from_secs(1),
            on_failure: None,
            #[cfg(feature = "tls")]
            crypto_provider: None,
        }
    }
}

impl Builder {
    /// Base URL of the destination; for HTTP `/v1/traces` and so on are appended. Default `http://localhost:4318`, for
    /// gRPC `http://localhost:4317`. https needs the
    /// feature `ring`, or `tls` and a [`Builder::crypto_provider`].
    pub fn endpoint(mut self, url: impl Into<String>) -> Builder {
        self.all.endpoint = Some(url.into());
        self
    }

    /// The whole URL for one signal, used as it is.
    pub fn signal_endpoint(mut self, signal: Signal, url: impl Into<String>) -> Builder {
        self.own[signal.index()].endpoint = Some(url.into());
        self
    }

    /// How requests travel. Default [`Protocol::HttpProtobuf`].
    pub fn protocol(mut self, protocol: Protocol) -> Builder {
        self.all.protocol = Some(protocol);
        self
    }

    /// `service.name` of the resource. Default `unknown_service:` and the program's name.
    pub fn service(self, name: impl Into<String>) -> Builder {
        self.resource_attribute("service.name", name)
    }

    /// An attribute of the resource, in place of an earlier one of that name.
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Builder {
        let key = key.into();
        self.resource.retain(|(known, _)| *known != key);
        self.resource.push((key, value.into()));
        self
    }

    /// Name and version of what records: the instrumentation scope. Default empty.
    pub fn scope(mut self, name: impl Into<String>, version: impl Into<String>) -> Builder {
        self.scope = (name.into(), version.into());
        self
    }

    /// A header of every request. Its value is secret: it shows in no message and no `Debug` form.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Builder {
        self.all.headers.get_or_insert_default().push((name.into(), value.into()));
        self
    }

    /// How requests are compressed. Default not at all. Codings but identity need the feature of their name.
    pub fn compression(mut self, coding: Coding) -> Builder {
        self.all.compression = Some(coding);
        self
    }

    /// How long one attempt may take, in direct mode the whole call. Default 10 s, more than 0.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.all.timeout = Some(timeout);
        self
    }

    /// Cryptography of the host's own for https: rustls's, or what has the same shape. Default: what the process has
    /// installed, else ring, where the feature `ring` has it built in. Nothing is installed.
    #[cfg(feature = "tls")]
    pub fn crypto_provider(mut self, provider: Arc<rustls::crypto::CryptoProvider>) -> Builder {
        self.crypto_provider = Some(provider.into());
        self
    }

    /// Whom to trust, and who we are.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::tls::Config) -> Builder {
        self.all.tls = Some(tls);
        self
    }

    /// How failures are tried again. Default: in queued mode after 1 s, 1.5 s and so on up to 30 s, for 5 minutes; in
    /// direct mode not at all, and never for longer than `timeout`.
    pub fn retry(mut self, policy: retry::Config) -> Builder {
        self.retry = Some(policy);
        self
    }

    /// Who does the I/O. Default [`Mode::Queued`].
    pub fn mode(mut self, mode: Mode) -> Builder {
        self.mode = mode;
        self
    }

    /// [`Mode::Direct`].
    pub fn direct(self) -> Builder {
        self.mode(Mode::Direct)
    }

    /// How many items of each signal wait or are on their way at most. Default 2048, at least `batch_items_max`. At the
    /// bound `when_full` decides.
    pub fn queue_items_max(mut self, items: u64) -> Builder {
        self.limits.iter_mut().for_each(|limits| limits.queue_items_max = items);
        self
    }

    /// How many bytes wait or are on their way at most, encoded and not compressed. Default 16 MiB, at least 64 KiB. At
    /// the bound `when_full` decides.
    pub fn queue_bytes_max(mut self, bytes: u64) -> Builder {
        self.queue_bytes_max = bytes;
        self
    }

    /// A request leaves at once when it has this many items. Default 512, at least 1.
    pub fn batch_items_max(mut self, items: u64) -> Builder {
        self.limits.iter_mut().for_each(|limits| limits.batch_items_max = items);
        self
    }

    /// A request leaves when its first item is this old. Default 5 s. Range 0 to an hour; 0 sends as soon as it can.
    pub fn batch_delay(mut self, delay: Duration) -> Builder {
        self.limits.iter_mut().for_each(|limits| limits.delay = delay);
        self
    }

    /// What happens to what is recorded while the queue is full. Default [`WhenFull::DropNewest`]. [`WhenFull::Block`]
    /// waits for as long as `block_timeout`, then drops. [`WhenFull::DropOldest`] drops a whole request that waits.
    pub fn when_full(mut self, policy: WhenFull) -> Builder {
        self.when_full = policy;
        self
    }

    /// How long recording waits for room under [`WhenFull::Block`]. Default 10 s.
    pub fn block_timeout(mut self, timeout: Duration) -> Builder {
        self.block_timeout = timeout;
        self
    }

    /// The name of the thread. Default `otlp-client`. Linux keeps 15 bytes.
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        self.thread_name = name.into();
        self
    }

    /// The stack of the thread. Default 512 KiB, at least 64; 0 is the platform's default.
    pub fn stack_kib(mut self, kib: usize) -> Builder {
        self.stack_kib = kib;
        self
    }

    /// How long dropping the last clone without a shutdown waits for what is held. Default 1 s; 0 does not wait.
    pub fn drop_timeout(mut self, timeout: Duration) -> Builder {
        self.drop_timeout = timeout;
        self
    }

    /// Is told of the first failed attempt, and of the first after each success. One line is logged beside it, for the
    /// first of all.
    ///
    /// # Threads
    ///
    /// Called by the client's thread, in direct mode by the caller's, without a lock: it may record and even flush. A
    /// panic in it goes no further.
    pub fn on_failure(mut self, callback: impl Fn(&Failure) + Send + Sync + 'static) -> Builder {
        self.on_failure = Some(Arc::new(callback));
        self
    }

    /// Variables of the environment that could not be read and are passed over, as the specification wants it, with a
    /// warning by [`Builder::build`].
    pub fn ignored(&self) -> &[ConfigError] {
        &self.ignored
    }

    /// What is said of one signal.
    pub(crate) fn connection(&self, signal: Signal) -> Connection {
        let (own, all) = (self.own[signal.index()].clone(), self.all.clone());
        Connection {
            endpoint: own.endpoint,
            protocol: own.protocol.or(all.protocol),
            headers: own.headers.or(all.headers),
            compression: own.compression.or(all.compression),
            timeout: own.timeout.or(all.timeout),
            insecure: own.insecure.or(all.insecure),
            #[cfg(feature = "tls")]
            tls: {
                let mut tls = own.tls.or(all.tls).unwrap_or_default();
                tls.crypto_provider = tls.crypto_provider.or_else(|| self.crypto_provider.clone());
                Some(tls)
            },
            certificate: own.certificate.or(all.certificate),
            client_certificate: own.client_certificate.or(all.client_certificate),
            client_key: own.client_key.or(all.client_key),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for signal in Signal::ALL {
            let limits = self.limits[signal.index()];
            if limits.batch_items_max == 0 {
                return Err(ConfigError::new("batch_items_max", "must be positive"));
            }
            if limits.queue_items_max < limits.batch_items_max {
                let message = format!("must be at least batch_items_max, which is {}", limits.batch_items_max);
                return Err(ConfigError::new("queue_items_max", message));
            }
            if limits.delay > Duration::from_secs(3600) {
                return Err(ConfigError::new("batch_delay", "must be at most an hour"));
            }
            let connection = self.connection(signal);
            if connection.timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(ConfigError::new("timeout", "must be positive"));
            }
            let compression = connection.compression.unwrap_or(Coding::Identity);
            if !compression.can_encode() {
                return Err(ConfigError::new("compression", format!("{compression} needs the feature of that name")));
            }
        }
        if self.queue_bytes_max < 64 << 10 {
            return Err(ConfigError::new("queue_bytes_max", "must be at least 65536"));
        }
        if self.stack_kib > 0 && self.stack_kib < 64 {
            return Err(ConfigError::new("stack_kib", "must be at least 64, or 0"));
        }
        if self.thread_name.is_empty() || self.thread_name.contains('\0') {
            return Err(ConfigError::new("thread_name", "must not be empty, nor contain a NUL"));
        }
        match &self.retry {
            Some(policy) => policy.check().map_err(|error| error.within("retry")),
            None => Ok(()),
        }
    }

    /// The client. Connects to nothing and starts nothing; files that `tls` names are read. Variables of the environment
    /// that were passed over are logged, a warning each.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be used, and never shows a secret.
    pub fn build(mut self) -> Result<OtlpClient, ConfigError> {
        self.check()?;
        for ignored in &self.ignored {
            log::warn!("passed over: {ignored}");
        }
        if !self.resource.iter().any(|(key, _)| key == "service.name") {
            self = self.service(default_service());
        }
        let pairs = self.resource.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let (name, version) = &self.scope;
        let origin = Origin {
            resource: Encoded::new(&attributes::resource(pairs), ""),
            scope: Encoded::new(&attributes::scope(name, version), ""),
        };
        Ok(OtlpClient(Arc::new(Inner {
            outbox: self.outbox()?,
            origin,
            disabled: self.disabled,
            drop_timeout: self.drop_timeout,
        })))
    }

    /// What carries requests, in this process and in each child of fork.
    pub(crate) fn outbox(&self) -> Result<PerProcess<Outbox>, ConfigError> {
        let first = ways::make(self)?;
        let plan = self.plan();
        let remake = {
            let (builder, plan) = (self.clone(), Plan { may_log: false, ..plan.clone() });
            move || Outbox::new(plan.clone(), remade(&builder))
        };
        Ok(PerProcess::new(Outbox::new(plan, first), remake))
    }

    fn plan(&self) -> Plan {
        let retry = match (&self.retry, self.mode) {
            (Some(policy), _) => policy.clone(),
            (None, Mode::Direct) => retry::Config::disabled(),
            (None, Mode::Queued) => {
                retry::Config { initial_interval: Duration::from_secs(1), ..retry::Config::default() }
            }
        };
        Plan {
            mode: self.mode,
            thread_name: self.thread_name.clone(),
            stack_kib: self.stack_kib,
            limits: self.limits,
            queue_bytes_max: self.queue_bytes_max,
            when_full: self.when_full,
            block_timeout: self.block_timeout,
            timeouts: Signal::ALL.map(|signal| self.connection(signal).timeout.unwrap_or(TIMEOUT)),
            export_timeouts: self.export_timeouts,
            retry,
            on_failure: self.on_failure.clone(),
            may_log: true,
        }
    }
}

/// For a child of fork: what could be made once can be made again, unless a file has gone since.
fn remade(builder: &Builder) -> Ways {
    ways::make(builder).unwrap_or_else(|error| ways::unusable(&error))
}

/// The specification's default for a program that does not say who it is.
fn default_service() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(std::path::Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.map_or_else(|| "unknown_service".to_owned(), |name| format!("unknown_service:{name}"))
}

/// Without the values of headers.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("endpoint", &self.all.endpoint.as_deref().map(ways::shown))
            .field("protocol", &self.all.protocol)
            .field("headers", &Headers(self.all.headers.clone().unwrap_or_default()))
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
