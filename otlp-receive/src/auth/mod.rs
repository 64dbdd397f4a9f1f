//! Who may send: what a request's header fields have to show.
//!
//! | file         | purpose                                                          |
//! |--------------|------------------------------------------------------------------|
//! | `bearer.rs`  | tokens                                                           |
//! | `basic.rs`   | user names and passwords, from an htpasswd file                  |
//!
//! # Place in the pipeline
//!
//! Before a body is read and before memory is reserved for it. Who is turned away costs a head and an answer.
//!
//! # Threads
//!
//! Asked on the receiver's threads. A file is looked at when a request comes, at most once a second, and read again when
//! it changed; where the credentials will not do, at most a hundred times a second. Nothing runs in between.
//!
//! # Limits
//!
//! A file of credentials is at most 1 MiB. Work on passwords that are slow to check is bounded: see `basic.rs`.
//!
//! # On failure
//!
//! A file that cannot be read, or says nonsense, stops the start; unless it may come later: then nobody is let in until it is
//! there. Later the old contents stay, and the log says so.

pub mod basic;
pub mod bearer;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use otlp_core::auth::{Recheck, Stamp};
use otlp_core::{Clock, Code, Failure, Reason};
use parking_lot::{Mutex, RwLock};

use crate::config::ConfigError;

/// Largest file of credentials.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where credentials will not do, a file is looked at so soon after the last time: a flood of wrong ones costs a hundred
/// looks a second.
const WRONG_INTERVAL: Duration = Duration::from_millis(10);

/// Decides who may send. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Authenticator(Arc<Kind>);

enum Kind {
    Bearer(bearer::Bearer),
    Basic(basic::Basic),
}

/// What is known of a sender who may send: attributes for the batch's context.
pub(crate) type Identity = Vec<(String, String)>;

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Denied {
    /// The credentials are missing or wrong; the value says what would do, for WWW-Authenticate (RFC 9110, section 11.6.1).
    Credentials(Arc<str>),
    /// Too many wrong passwords came; whether this one is right can be found out after that time.
    Busy(Duration),
}

impl Authenticator {
    /// One that takes tokens. `id` is its name in messages. Reads the file, where there is one.
    ///
    /// # Errors
    ///
    /// Names the key that cannot be used. Never shows a token.
    pub fn bearer(id: &str, config: &bearer::Config, clock: Clock) -> Result<Authenticator, ConfigError> {
        bearer::Bearer::new(id, config, clock).map(|bearer| Authenticator(Arc::new(Kind::Bearer(bearer))))
    }

    /// One that takes user names with passwords. `id` is its name in messages. Reads the file, where there is one.
    ///
    /// # Errors
    ///
    /// Names the key that cannot be used, and the line. Never shows a password or a hash.
    pub fn basic(id: &str, config: &basic::Config, clock: Clock) -> Result<Authenticator, ConfigError> {
        basic::Basic::new(id, config, clock).map(|basic| Authenticator(Arc::new(Kind::Basic(basic))))
    }

    /// The header field that it looks at, in lower case.
    pub(crate) fn field(&self) -> &str {
        match &*self.0 {
            Kind::Bearer(bearer) => &bearer.field,
            Kind::Basic(_) => "authorization",
        }
    }

    /// Whether a request may be read that has these values in that field. Several are an error of the sender's: others
    /// on its way may have looked at another than we do.
    pub(crate) fn check<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> Result<Identity, Denied> {
        let value = match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        };
        match &*self.0 {
            Kind::Bearer(bearer) => bearer.check(value).map(|()| Identity::new()),
            Kind::Basic(basic) => basic.check(value),
        }
    }
}

impl Denied {
    /// As a failure, and what goes with it into WWW-Authenticate.
    pub(crate) fn failure(self) -> (Failure, Option<Arc<str>>) {
        match self {
            Denied::Credentials(challenge) => {
                let message = "the credentials are missing or wrong";
                (Failure::rejected(Code::Unauthenticated, Reason::UNAUTHORIZED, message), Some(challenge))
            }
            Denied::Busy(delay) => {
                let message = "too many wrong passwords came; whether this one is right is found out later";
                (Failure::refused(Reason::RATE_LIMIT, message).retry_after(delay), None)
            }
        }
    }
}

impl PartialEq for Authenticator {
    /// Whether they are one.
    fn eq(&self, other: &Authenticator) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Kind::Bearer(_) => "Authenticator(bearer)",
            Kind::Basic(_) => "Authenticator(basic)",
        })
    }
}

/// What a file says, read again when it changed.
struct Watched<T> {
    path: PathBuf,
    /// What reads it, for the log.
    id: String,
    clock: Clock,
    parse: fn(&str) -> Result<T, String>,
    recheck: Mutex<Recheck>,
    value: RwLock<Arc<T>>,
    /// The last attempt failed; told of once.
    stale: AtomicBool,
}

impl<T: Default> Watched<T> {
    /// `late`: whether the file may come later.
    fn new(
        id: &str,
        path: &Path,
        late: bool,
        clock: Clock,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Watched<T>, String> {
        let text = read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let parsed = text.and_then(|(stamp, text)| match parse(&text) {
            Ok(value) => Ok((Some(stamp), value)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        });
        let (stamp, value) = match parsed {
            Err(message) if late => {
                log::warn!("{id}: nobody is let in until the file is there: {message}");
                (None, T::default())
            }
            parsed => parsed?,
        };
        Ok(Watched {
            path: path.to_owned(),
            id: id.to_owned(),
            recheck: Mutex::new(Recheck::new(stamp, clock.now())),
            clock,
            parse,
            value: RwLock::new(Arc::new(value)),
            stale: AtomicBool::new(stamp.is_none()),
        })
    }
}

impl<T> Watched<T> {
    /// What it says now, or said when it was last looked at, less than a second ago.
    fn current(&self) -> Arc<T> {
        // One thread looks; others go by what is known meanwhile.
        if let Some(mut recheck) = self.recheck.try_lock() {
            let now = self.clock.now();
            if recheck.is_due(now) {
                self.look(&mut recheck, now);
            }
        }
        Arc::clone(&self.value.read())
    }

    /// What it says now where that is something else than it was: for credentials that will not do. A sender that has
    /// new ones must not lose its data because ours are a second old.
    fn changed(&self) -> Option<Arc<T>> {
        let before = Arc::clone(&self.value.read());
        {
            let mut recheck = self.recheck.lock();
            let now = self.clock.now();
            if recheck.is_due_after(WRONG_INTERVAL, now) {
                self.look(&mut recheck, now);
            }
        }
        let after = Arc::clone(&self.value.read());
        (!Arc::ptr_eq(&before, &after)).then_some(after)
    }

    fn look(&self, recheck: &mut Recheck, now: Instant) {
        let found = match stamp(&self.path) {
            Ok(stamp) if !recheck.is_other(stamp) => None,
            Ok(_) => Some(read(&self.path)),
            Err(error) => Some(Err(error)),
        };
        let parsed = match found {
            None => return,
            Some(Ok((stamp, text))) => (self.parse)(&text).map(|value| (stamp, value)),
            Some(Err(error)) => Err(error.to_string()),
        };
        match parsed {
            Ok((stamp, value)) => {
                recheck.was_read(stamp, now);
                *self.value.write() = Arc::new(value);
                self.stale.store(false, Ordering::Relaxed);
                log::info!("{}: {} changed and was read again", self.id, self.path.display());
            }
            Err(error) => {
                if !self.stale.swap(true, Ordering::Relaxed) {
                    let path = self.path.display();
                    log::warn!("{}: cannot use {path}, what it said before stays in force: {error}", self.id);
                }
            }
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp { modified: metadata.modified()?, len: metadata.len(), number: metadata.ino() })
}

/// The stamp is from before.
fn read(path: &Path) -> io::Result<(Stamp, String)> {
    let stamp = stamp(path)?;
    let mut text = String::new();
    let bytes = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok((stamp, text))
}

fn wrong<T>(key: &str, message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError { key: key.to_owned(), message: message.into() })
}

#[cfg(test)]
mod tests;
