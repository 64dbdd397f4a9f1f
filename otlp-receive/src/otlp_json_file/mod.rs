//! `otlp_json_file`: files that the `file` exporter writes, read back request by request: OTLP/JSON in lines, and, told by
//! their content, protobuf and what is compressed with zstd.
//!
//! | file         | purpose                                                        |
//! |--------------|----------------------------------------------------------------|
//! | `config.rs`  | the keys, their defaults, their limits                         |
//! | `pattern.rs` | paths with wildcards                                           |
//! | `records.rs` | pieces of a file → lines or frames; no file, no clock          |
//! | `decode.rs`  | a record → a batch                                             |
//! | `tail.rs`    | the files, wherever they move, and how far each has been read  |
//! | `intake.rs`  | records → the pipeline, each until it is taken                 |
//! | `metrics.rs` | what it tells about itself                                     |
//!
//! # What it does
//!
//! Reads the files to their end, then looks every `poll_interval` for more: new files, new lines, files renamed, files begun
//! anew. Each line is a request of the signal that its first key names; those of a signal that no pipeline takes from here are
//! passed over.
//!
//! A file whose first byte is below that of a tab holds requests behind their lengths, as the exporter writes them with
//! `format: proto` or `compression: zstd`. Each is inflated where it begins as zstd does, and is JSON where it begins with a
//! brace. Protobuf does not say its signal: it is the one as which the request is valid, which
//! leaves a choice only where items have neither ids nor times.
//!
//! # Threads
//!
//! One, `file-N`.
//!
//! # Limits
//!
//! At most 64 requests are with the pipeline at once, in memory of the process's budget; beside it one piece of 64 KiB, and a
//! record of at most `line_bytes_max` as it is read, and again as it is inflated. How far a file was read is not remembered beyond the process.
//!
//! # On failure
//!
//! What the pipeline refuses, or a destination fails on for now, is offered again with a growing wait, and nothing more is read
//! before it is taken; a destination that had it beside one that failed gets it twice. A record that is no request is passed
//! over, counted, and logged once a minute. A torn one at the end is left until the rest of it comes. Behind a damaged length
//! nothing can be found any more: the rest of that file is passed over.
//!
//! # On shutdown
//!
//! Stops at once; what is with the pipeline is left to it.
//!
//! # Specification
//!
//! OpenTelemetry Protocol File Exporter, JSON File Serialization.

mod config;
mod decode;
mod intake;
mod metrics;
mod pattern;
mod records;
mod tail;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use otlp_core::component::{Health, HealthState, Outlets, Receiver, StartError};
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::Registry;
use otlp_core::thread::{RestartBackoff, Supervised, ThreadOptions};
use otlp_core::{AckMode, Deadline, Stop};
use parking_lot::Mutex;

pub use config::{Config, Invalid, StartAt};
use intake::Intake;
use metrics::Metrics;

/// What the receiver needs of the process it lives in.
#[derive(Clone, Debug)]
pub struct Env {
    /// The memory that requests are taken from.
    pub budget: MemoryBudget,
    /// Where its metrics are registered.
    pub registry: Registry,
    /// The N in its thread's name.
    pub number: usize,
    /// How the thread is made.
    pub thread_options: ThreadOptions,
    /// What a line has to have reached to be behind us, for each signal by [`otlp_core::Signal::index`].
    pub ack_mode: [AckMode; 3],
}

/// The `otlp_json_file` receiver.
///
/// # Threads
///
/// `start` makes one, `shutdown` joins it.
pub struct OtlpJsonFile {
    id: String,
    config: Config,
    env: Env,
    running: Option<Supervised>,
    status: Arc<Mutex<Status>>,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Status {
    /// The file that is read.
    path: PathBuf,
    /// Why it cannot be read.
    trouble: Option<String>,
}

impl OtlpJsonFile {
    /// A receiver that is not started. `id` is its name in the configuration.
    pub fn new(id: impl Into<String>, config: Config, env: Env) -> OtlpJsonFile {
        OtlpJsonFile { id: id.into(), config, env, running: None, status: Arc::default(), stopped: false }
    }
}

impl Receiver for OtlpJsonFile {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        let failed = |message: String, source| StartError { message, source };
        if self.running.is_some() || self.stopped {
            return Err(failed(format!("receiver {} was started before", self.id), None));
        }
        self.config
            .check()
            .map_err(|invalid| failed(format!("receivers.{}.{}: {}", self.id, invalid.key, invalid.message), None))?;
        let metrics = Arc::new(Metrics::new(&self.env.registry, &self.id));
        let status = Arc::clone(&self.status);
        let intake = Intake::new(&self.id, &self.config, outlets, &self.env, metrics, status);
        // Outlives a panic, so that the thread that is begun again goes on where the other was.
        let intake = Arc::new(Mutex::new(intake));
        let make = move || {
            let intake = Arc::clone(&intake);
            move |stop: &Stop| intake.lock().run(stop)
        };
        let name = format!("file-{}", self.env.number);
        let thread = Supervised::spawn(name, self.env.thread_options, RestartBackoff::default(), make);
        self.running = Some(thread.map_err(|error| {
            failed(format!("cannot start the thread of receiver {}: {error}", self.id), Some(error))
        })?);
        Ok(())
    }

    fn shutdown(&mut self, _deadline: Deadline) {
        self.stopped = true;
        // Asks it to stop and joins it.
        self.running = None;
    }

    fn health(&self) -> Health {
        match &self.running {
            Some(thread) => match thread.health() {
                Health { state: HealthState::Ok, .. } => {
                    self.status.lock().trouble.clone().map_or_else(Health::ok, Health::unhealthy)
                }
                ill => ill,
            },
            None if self.stopped => Health { state: HealthState::Stopped, message: String::new() },
            None => Health { state: HealthState::Starting, message: String::new() },
        }
    }
}

impl fmt::Debug for OtlpJsonFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpJsonFile").field("id", &self.id).field("include", &self.config.include).finish()
    }
}
