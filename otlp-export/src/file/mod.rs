//! `file`: telemetry into a file, one request after another, to be read back by the `otlp_json_file` receiver.
//!
//! | file          | purpose                                                               |
//! |---------------|-----------------------------------------------------------------------|
//! | `config.rs`   | the keys, their defaults, their limits                                |
//! | `record.rs`   | a request as it stands in a file; where the whole ones end            |
//! | `rotation.rs` | names of old files, and which are deleted; no clock, no disk          |
//! | `disk.rs`     | whole records only: what was half written is taken back               |
//! | `writer.rs`   | the file under its path: opened, repaired, rotated                    |
//!
//! # What it does
//!
//! Each group becomes one request: a line of OTLP/JSON, or, as protobuf or compressed, a length and the bytes. It is written
//! by one call and without a buffer of ours, so OK means that the system has it: the process may die. The disk has it
//! `flush_interval` later, when the machine may die, too. With `flush_interval: 0` OK means that the disk has it.
//!
//! # Place in the pipeline
//!
//! All signals of one exporter share its file; see [`FileExporter::share`].
//!
//! # Threads
//!
//! Written by whoever calls, one after another. While something is written and not synced there is one thread, `flush`, which
//! ends once there was nothing to sync for an interval.
//!
//! # Limits
//!
//! Files rotate by [`Rotation::max_megabytes`]; a single larger request has a file to itself.
//!
//! # On failure
//!
//! Refused with "retry": the disk may have room again. What was half written is cut off at once, so that the file stays
//! whole; after a crash the next start cuts it off, unless the file is emptied anyway. A last line that is whole but for its
//! end gets one. Where rotating fails the file grows on,
//! and the exporter is unhealthy.
//!
//! # On shutdown
//!
//! Synced and closed with the last of the signals.
//!
//! # Specification
//!
//! OpenTelemetry Protocol File Exporter; the lengths and the rotation are the Collector's.

mod config;
mod disk;
mod record;
mod rotation;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use otlp_core::component::{Exporter, Health, HealthState};
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Registry};
use otlp_core::thread::{Thread, ThreadOptions};
use otlp_core::{Clock, Deadline, Failure, Group, Outcome, Reason, Stopper, shutdown};
use parking_lot::Mutex;

pub use config::{Config, Format, Rotation};
use writer::Writer;

use crate::ConfigError;

/// Enough for one call to the system.
const STACK: ThreadOptions = ThreadOptions::stack_kib(128);

/// Writes what it gets to a file. One of several shares in it, one for each signal.
///
/// # Threads
///
/// Any number may call it at once.
pub struct FileExporter {
    shared: Arc<Shared>,
    stopped: AtomicBool,
}

struct Shared {
    id: String,
    config: Config,
    bytes: Counter,
    /// Shares that are not stopped.
    open: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// None once it is closed.
    writer: Option<Writer>,
    /// Why the last write, rotation or sync failed.
    trouble: Option<String>,
    unsynced: bool,
    /// The thread that syncs is there and will look at `unsynced` again.
    syncing: bool,
    thread: Option<(Stopper, Thread)>,
}

impl FileExporter {
    /// Opens the file. Nothing of it is overwritten before there is something to write.
    ///
    /// # Errors
    ///
    /// Where the configuration is wrong, or the file cannot be opened, or holds something else; names the key.
    pub fn new(
        id: impl Into<String>,
        config: &Config,
        clock: Clock,
        registry: &Registry,
    ) -> Result<FileExporter, ConfigError> {
        config.check()?;
        let id = id.into();
        let writer = Writer::open(config, clock).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound if !config.create_directory => {
                    "; set create_directory: true to make its folder"
                }
                io::ErrorKind::InvalidData => "; move it away or set another path",
                _ => "",
            };
            ConfigError::new("path", format!("cannot open {}: {error}{remedy}", config.path.display()))
        })?;
        let state = State { writer: Some(writer), trouble: None, unsynced: false, syncing: false, thread: None };
        let bytes = registry.counter(names::EXPORTER_BYTES, None, vec![("exporter", id.clone())]);
        let shared = Shared { id, config: config.clone(), bytes, open: AtomicUsize::new(1), state: Mutex::new(state) };
        Ok(FileExporter { shared: Arc::new(shared), stopped: AtomicBool::new(false) })
    }

    /// Another share in the same file, for another signal. It is closed when all of them are shut down or dropped.
    pub fn share(&self) -> FileExporter {
        let stopped = self.stopped.load(Ordering::Acquire);
        if !stopped {
            self.shared.open.fetch_add(1, Ordering::AcqRel);
        }
        FileExporter { shared: Arc::clone(&self.shared), stopped: AtomicBool::new(stopped) }
    }
}

impl Exporter for FileExporter {
    fn export(&self, group: &Group, _deadline: Deadline) -> Outcome {
        let stopped = || Failure::refused(Reason::SHUTDOWN, "the exporter is stopped").into();
        if self.stopped.load(Ordering::Acquire) {
            return stopped();
        }
        // Encoded before the lock is taken.
        let record = match record::encode(&self.shared.config, group) {
            Ok(record) => record,
            Err(failure) => return failure.into(),
        };
        let mut state = self.shared.state.lock();
        let Some(writer) = &mut state.writer else { return stopped() };
        let at_once = self.shared.config.flush_interval.is_zero();
        let written = writer.append(&record, at_once);
        let later = !at_once && writer.file().is_some();
        match written {
            Ok(()) => {
                self.shared.bytes.add(record.len() as u64);
                state.trouble = None;
                if later {
                    Shared::sync_later(&self.shared, &mut state);
                }
                Outcome::Delivered
            }
            Err(error) => {
                let message = format!("exporter {} cannot write {}: {error}", self.shared.id, self.shared.path());
                state.trouble = Some(message.clone());
                Failure::refused(Reason::IO, message).into()
            }
        }
    }

    fn shutdown(&self, _deadline: Deadline) {
        if self.stopped.swap(true, Ordering::AcqRel) || self.shared.open.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let (writer, thread) = {
            let mut state = self.shared.state.lock();
            (state.writer.take(), state.thread.take())
        };
        if let Some((stopper, thread)) = thread {
            // Asks it to stop; joined next.
            drop(stopper);
            drop(thread);
        }
        if let Some(Err(error)) = writer.and_then(|writer| writer.file()).map(|file| file.sync_data()) {
            log::error!("cannot sync {}: {error}", self.shared.path());
        }
    }

    fn health(&self) -> Health {
        if self.stopped.load(Ordering::Acquire) {
            return Health { state: HealthState::Stopped, message: String::new() };
        }
        let state = self.shared.state.lock();
        match (&state.trouble, &state.writer) {
            (Some(trouble), _) => Health::unhealthy(trouble.clone()),
            (None, Some(writer)) if writer.is_stuck() => {
                Health::unhealthy(format!("exporter {} cannot rotate {}", self.shared.id, self.shared.path()))
            }
            _ => Health::ok(),
        }
    }
}

impl Shared {
    fn path(&self) -> std::path::Display<'_> {
        self.config.path.display()
    }

    /// Sees to it that what was written is synced in time. A thread is there only while something is to be synced.
    fn sync_later(shared: &Arc<Shared>, state: &mut State) {
        state.unsynced = true;
        if state.syncing {
            return;
        }
        let (stopper, stop) = shutdown::stop();
        let (interval, syncing) = (shared.config.flush_interval, Arc::clone(shared));
        let thread = Thread::spawn("flush", STACK, move || {
            while !stop.wait(interval) {
                if !syncing.sync() {
                    break;
                }
            }
        });
        match thread {
            Ok(thread) => {
                state.syncing = true;
                // The one before, if any, has done its last under this lock.
                state.thread = Some((stopper, thread));
            }
            // There is no room for a thread now; the next write tries again, and so does shutdown.
            Err(error) => log::warn!("cannot start the thread that syncs {}: {error}", shared.path()),
        }
    }

    /// Syncs what was written since the last time; false where there was nothing.
    fn sync(&self) -> bool {
        let file: Option<Arc<File>> = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.unsynced) {
                state.syncing = false;
                return false;
            }
            state.writer.as_ref().and_then(Writer::file)
        };
        // Not under the lock: a slow disk holds up nobody who writes.
        if let Some(Err(error)) = file.map(|file| file.sync_data()) {
            let message = format!("exporter {} cannot sync {}: {error}", self.id, self.path());
            log::error!("{message}; what was written last may be lost when the machine dies");
            self.state.lock().trouble = Some(message);
        }
        true
    }
}

impl Drop for FileExporter {
    /// As [`Exporter::shutdown`].
    fn drop(&mut self) {
        self.shutdown(Deadline::NEVER);
    }
}

impl fmt::Debug for FileExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileExporter").field("id", &self.shared.id).field("path", &self.shared.config.path).finish()
    }
}
