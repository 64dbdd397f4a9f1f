//! What the processors of a program share: the queue, the thread, the account.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use otlp_core::flow::gate::WhenFull;
use otlp_core::{Deadline, Failure, Signal};

use super::{LogProcessor, SpanProcessor};
use crate::client::envelope::{Encoded, Origin};
use crate::client::fork::PerProcess;
use crate::client::outbox::Outbox;
use crate::client::{Builder, Counts, Report, Stats, env};
use crate::{ConfigError, quiet, retry};

/// The specification's `OTEL_BSP_EXPORT_TIMEOUT` and `OTEL_BLRP_EXPORT_TIMEOUT`.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The specification's `OTEL_BLRP_SCHEDULE_DELAY`.
const LOGS_DELAY: Duration = Duration::from_secs(1);

/// How long a flush waits, which the SDK gives no deadline: the SDK's default for a shutdown.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Processors for the providers of a program, which share one queue and one thread.
///
/// # Examples
///
/// See [the module](super).
#[derive(Clone)]
pub struct Bridge {
    shared: Arc<Shared>,
    warnings: Arc<[ConfigError]>,
}

struct Shared {
    outbox: PerProcess<Outbox>,
    /// Processors that have not been shut down.
    open: AtomicUsize,
    disabled: bool,
    drop_timeout: Duration,
}

impl Bridge {
    /// Settings, all at their defaults: those of [`Builder`], with the specification's for processors in their place. A
    /// batch of log records waits for 1 s, and a batch is tried for 30 s at most.
    ///
    /// [`Builder::direct`] makes the processors simple ones: whoever ends a span sends it, within
    /// [`Builder::timeout`]. Service and resource are the SDK's, those of the builder are not used.
    pub fn builder() -> Builder {
        let mut builder = Builder::default();
        builder.limits[Signal::Logs.index()].delay = LOGS_DELAY;
        builder.export_timeouts = [Some(EXPORT_TIMEOUT); 3];
        builder
    }

    /// Settings as the standard variables have them, which are read through `look_up`: those of
    /// [`OtlpClient::from_env`](crate::client::OtlpClient::from_env), and `OTEL_BSP_EXPORT_TIMEOUT` and
    /// `OTEL_BLRP_EXPORT_TIMEOUT`. What is set on the builder afterwards goes before.
    pub fn from_env(look_up: impl Fn(&str) -> Option<String>) -> Builder {
        env::read_onto(Bridge::builder(), &look_up)
    }

    /// A bridge. Connects to nothing and starts nothing; files that `tls` names are read.
    ///
    /// What the variables say and cannot be used, and what can be but is hardly meant, is logged as a warning each and
    /// kept: [`Bridge::warnings`].
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be used, and never shows a secret.
    pub fn new(mut builder: Builder) -> Result<Bridge, ConfigError> {
        builder.check()?;
        // Nobody could take a span back.
        if builder.when_full == WhenFull::Refuse {
            builder.when_full = WhenFull::DropNewest;
        }
        let warnings: Vec<_> = builder.ignored.iter().cloned().chain(super::sensible::warnings(&builder)).collect();
        for warning in &warnings {
            log::warn!("{warning}");
        }
        let shared = Shared {
            outbox: builder.outbox()?,
            open: AtomicUsize::new(0),
            disabled: builder.disabled,
            drop_timeout: builder.drop_timeout,
        };
        Ok(Bridge { shared: Arc::new(shared), warnings: warnings.into() })
    }

    /// For `SdkTracerProvider::builder().with_span_processor(…)`. Batching, unless the builder was
    /// [direct](Builder::direct).
    pub fn span_processor(&self) -> SpanProcessor {
        SpanProcessor(self.tap(Signal::Traces))
    }

    /// For `SdkLoggerProvider::builder().with_log_processor(…)`. Batching, unless the builder was
    /// [direct](Builder::direct).
    pub fn log_processor(&self) -> LogProcessor {
        LogProcessor(self.tap(Signal::Logs))
    }

    fn tap(&self, signal: Signal) -> Tap {
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        Tap {
            shared: Arc::clone(&self.shared),
            signal,
            resource: Encoded::default(),
            closed: AtomicBool::new(false),
            reported: AtomicU64::new(0),
        }
    }

    /// What became of everything recorded, as it is now.
    pub fn stats(&self) -> Stats {
        self.shared.outbox.get_surely().stats()
    }

    /// Settings that were passed over or are outside the sensible ranges: delays of 10 ms to a minute, up to 65,536 items
    /// in the queue, up to 8,192 in a batch, 1 s to 5 minutes for a batch to be tried.
    pub fn warnings(&self) -> &[ConfigError] {
        &self.warnings
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // In a child of fork that has never used it there is nothing to be done, and no lock that may be touched.
        if let Some(outbox) = self.outbox.existing() {
            let _ = outbox.shutdown(Deadline::after(Instant::now(), self.drop_timeout));
        }
    }
}

/// One processor's end of the bridge.
pub(super) struct Tap {
    shared: Arc<Shared>,
    signal: Signal,
    resource: Encoded,
    closed: AtomicBool,
    /// Losses that a flush has told of.
    reported: AtomicU64,
}

impl Tap {
    pub(super) fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.resource = super::encode::resource(resource);
    }

    /// Whether anything given to it now would go anywhere. Not what is made on the export path: it would never end.
    pub(super) fn is_open(&self) -> bool {
        !self.shared.disabled && !quiet::is_quiet()
    }

    /// Takes an encoded item.
    pub(super) fn send(&self, scope: Encoded, item: &[u8]) {
        let outbox = self.shared.outbox.get();
        if self.closed.load(Ordering::Relaxed) {
            return outbox.refuse(1);
        }
        let origin = Origin { resource: self.resource.clone(), scope };
        // What was not taken is counted there, and told of by the next flush.
        let _ = outbox.send_item(self.signal, &origin, item, 1);
    }

    pub(super) fn flush(&self) -> OTelSdkResult {
        let deadline = Deadline::after(Instant::now(), FLUSH_TIMEOUT);
        let outbox = self.shared.outbox.get_surely();
        // Its report is of all signals.
        let _ = outbox.flush(deadline);
        let counts = outbox.stats().of(self.signal);
        let dropped = counts.dropped.total().get();
        // In a child of fork the count begins anew.
        if self.reported.swap(dropped, Ordering::Relaxed) != dropped && dropped > 0 {
            return lost(counts, outbox.last_failure().as_ref());
        }
        if counts.held.get() > 0 && deadline.passed(Instant::now()) {
            return Err(OTelSdkError::Timeout(FLUSH_TIMEOUT));
        }
        Ok(())
    }

    /// The last processor's stops the thread; each waits for what is held, and answers for its own signal.
    pub(super) fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        let deadline = Deadline::after(Instant::now(), timeout);
        let first = !self.closed.swap(true, Ordering::AcqRel);
        let outbox = self.shared.outbox.get_surely();
        let is_last = first && self.shared.open.fetch_sub(1, Ordering::AcqRel) == 1;
        let _ = if is_last { outbox.shutdown(deadline) } else { outbox.flush(deadline) };
        let counts = outbox.stats().of(self.signal);
        if counts.dropped.total().get() > 0 {
            return lost(counts, outbox.last_failure().as_ref());
        }
        if counts.held.get() > 0 {
            // Not lost: it may leave until the last processor is shut down.
            return Err(OTelSdkError::Timeout(timeout));
        }
        Ok(())
    }
}

/// In the words of [`Lost`](crate::client::Lost).
pub(super) fn lost(counts: Counts, last: Option<&Failure>) -> OTelSdkResult {
    let report = Report { delivered: counts.delivered, held: counts.held, dropped: counts.dropped };
    report.into_result(last).map(drop).map_err(|lost| OTelSdkError::InternalFailure(lost.to_string()))
}

/// How an exporter tries again: as the client does, within its timeout.
pub(super) fn retry_of_exporters() -> retry::Config {
    retry::Config { initial_interval: Duration::from_secs(1), ..retry::Config::default() }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if !*self.closed.get_mut() {
            self.shared.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bridge")
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("signal", &self.signal).finish_non_exhaustive()
    }
}
