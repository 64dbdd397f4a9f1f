//! `debug`: telemetry in words, for a person.
//!
//! | file          | purpose                                              |
//! |---------------|------------------------------------------------------|
//! | `config.rs`   | the keys, their defaults, their limits               |
//! | `text.rs`     | counts, lines and blocks; no clock, no writer        |
//! | `value.rs`    | values, of which nothing is lost                     |
//! | `sampling.rs` | which groups are written                             |
//!
//! # Threads
//!
//! None. Groups of several callers are written one after another.
//!
//! # Limits
//!
//! `sampling_initial` groups a second, then every `sampling_thereafter`th. What is left out counts as exported.
//!
//! # On failure
//!
//! Where writing fails the group is rejected: a console that is gone does not come back, and nobody waits for it.
//!
//! # Specification
//!
//! None. The form is the Collector's, which calls it unstable; people read it and scripts look for its words. It is kept at
//! every verbosity. Where the Collector writes nothing for a value, or only a part of it, the value is written as OTLP/JSON
//! has it: NaN and the infinities in a list or a map, every value of a key that stands in a map twice.

mod config;
mod sampling;
mod text;
mod value;

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use otlp_core::component::{Exporter, Health};
use otlp_core::{Clock, Code, Deadline, Failure, Group, Outcome, Reason};
use parking_lot::Mutex;

pub use config::{Config, Verbosity};
use sampling::Sampling;

/// Where a debug exporter writes.
#[derive(Clone)]
pub enum Output {
    /// Log lines of level INFO.
    Logger,
    /// As it is, each group followed by a line end.
    Writer(Arc<Mutex<dyn Write + Send>>),
}

impl Output {
    /// The process's standard output.
    pub fn stdout() -> Output {
        Output::Writer(Arc::new(Mutex::new(std::io::stdout())))
    }
}

/// Writes what it gets.
///
/// # Threads
///
/// Any number may call it at once.
pub struct Debug {
    id: String,
    verbosity: Verbosity,
    sampling: Mutex<Sampling>,
    output: Output,
    clock: Clock,
}

impl Debug {
    /// An exporter for any signal.
    pub fn new(id: impl Into<String>, config: &Config, output: Output, clock: Clock) -> Debug {
        let sampling = Sampling::new(config.sampling_initial, config.sampling_thereafter, clock.now());
        Debug { id: id.into(), verbosity: config.verbosity, sampling: Mutex::new(sampling), output, clock }
    }
}

impl Exporter for Debug {
    fn export(&self, group: &Group, _deadline: Deadline) -> Outcome {
        if !self.sampling.lock().take(self.clock.now()) {
            return Outcome::Delivered;
        }
        let written = match &self.output {
            Output::Logger => {
                log::info!("{}", text::summary(&self.id, group));
                if self.verbosity != Verbosity::Basic {
                    log::info!("\n{}", text::body(self.verbosity, group));
                }
                Ok(())
            }
            Output::Writer(writer) => {
                // Made first: writing is one call, so that nothing of another writer gets between.
                let mut text = text::summary(&self.id, group) + "\n";
                if self.verbosity != Verbosity::Basic {
                    text.push_str(&text::body(self.verbosity, group));
                }
                let mut writer = writer.lock();
                writer.write_all(text.as_bytes()).and_then(|()| writer.flush())
            }
        };
        match written {
            Ok(()) => Outcome::Delivered,
            Err(error) => {
                let message = format!("exporter {} cannot write: {error}", self.id);
                Failure::rejected(Code::Unknown, Reason::IO, message).into()
            }
        }
    }

    fn shutdown(&self, _deadline: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Logger => "Logger",
            Output::Writer(_) => "Writer",
        })
    }
}

impl fmt::Debug for Debug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Debug({}, {:?}, {:?})", self.id, self.verbosity, self.output)
    }
}
