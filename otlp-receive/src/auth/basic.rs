//! User names and passwords: the Collector's keys of `basicauth::htpasswd`.
//!
//! Invariants:
//!
//! - Of a password nothing is kept but digests.
//! - bcrypt is slow by design, a twentieth of a second and more, and it runs on a receiver's thread. It is asked until a
//!   user's password is known to be right; from then on a SHA-256 of it, which is kept until the file changes, tells
//!   right from wrong.
//! - Wrong passwords of users of whom that is not known yet may take a tenth of a thread's time, and one second ahead.
//!   Beyond that requests with such a user's name are refused, to come again.
//!
//! A password is right in one spelling: bcrypt looks at 72 bytes, so longer ones that only begin alike would be right
//! too, and once one is known they are not.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::Clock;
use otlp_core::auth::{Secret, from_base64};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Denied, Identity, Watched, wrong};
use crate::config::ConfigError;

/// How much of a thread's time wrong passwords may take at once, and up to which it gathers.
const BURST: Duration = Duration::from_secs(1);
/// It gathers a nanosecond in so many.
const SHARE: u32 = 10;
/// A hash that takes longer would hold up all connections of a thread for more than a second.
const COST_MAX: u32 = 14;

/// Who may send, by which passwords.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Lines `user:hash`, where a hash is one of bcrypt (`$2y$`, `$2a$`, `$2b$`), a SHA-1 (`{SHA}`), or the password.
    /// A user who stands here and in the file has the password that stands here.
    pub inline: Secret,
    /// A file of such lines. Read again when it changes.
    pub file: Option<PathBuf>,
}

pub(super) struct Basic {
    inline: Users,
    file: Option<Watched<Users>>,
    challenge: Arc<str>,
    clock: Clock,
    slow: Mutex<Allowance>,
}

type Users = HashMap<String, Entry>;

struct Entry {
    hash: Hash,
    /// Of the password that bcrypt found right.
    right: Mutex<Option<[u8; 32]>>,
}

enum Hash {
    Bcrypt(String),
    Sha1([u8; 20]),
    /// A SHA-256.
    Plain([u8; 32]),
}

/// The time that wrong passwords may take: what there is, in nanoseconds, less than nothing where it was overdrawn.
#[derive(Debug)]
struct Allowance {
    left: i64,
    at: Instant,
}

impl Basic {
    pub(super) fn new(id: &str, config: &Config, clock: Clock) -> Result<Basic, ConfigError> {
        let inline = match parse(config.inline.reveal()) {
            Ok(users) => users,
            Err(message) => return wrong("htpasswd.inline", message),
        };
        let file = match &config.file {
            None => None,
            Some(path) => match Watched::new(id, path, false, clock.clone(), parse) {
                Ok(file) => Some(file),
                Err(message) => return wrong("htpasswd.file", message),
            },
        };
        if file.is_none() && inline.is_empty() {
            return wrong("htpasswd", "must name a user, in file or inline");
        }
        let slow = Mutex::new(Allowance::new(clock.now()));
        let challenge = "Basic realm=\"otlpd\", charset=\"UTF-8\"".into();
        Ok(Basic { inline, file, challenge, clock, slow })
    }

    pub(super) fn check(&self, value: Option<&[u8]>) -> Result<Identity, Denied> {
        let denied = || Denied::Credentials(Arc::clone(&self.challenge));
        let credentials = value.and_then(credentials).ok_or_else(denied)?;
        let (user, password) = split(&credentials).ok_or_else(denied)?;
        let right = match self.inline.get(user) {
            Some(entry) => self.is_right(entry, password)?,
            None => match &self.file {
                Some(file) => {
                    self.is_among(&file.current(), user, password)?
                        || match file.changed() {
                            Some(users) => self.is_among(&users, user, password)?,
                            None => false,
                        }
                }
                None => false,
            },
        };
        if right { Ok(vec![("username".to_owned(), user.to_owned())]) } else { Err(denied()) }
    }

    fn is_among(&self, users: &Users, user: &str, password: &[u8]) -> Result<bool, Denied> {
        users.get(user).map_or(Ok(false), |entry| self.is_right(entry, password))
    }

    fn is_right(&self, entry: &Entry, password: &[u8]) -> Result<bool, Denied> {
        match &entry.hash {
            Hash::Plain(known) => Ok(known.ct_eq(&sha256(password)).into()),
            Hash::Sha1(known) => Ok(known.ct_eq(&<[u8; 20]>::from(sha1::Sha1::digest(password))).into()),
            Hash::Bcrypt(hash) => {
                let digest = sha256(password);
                if let Some(right) = *entry.right.lock() {
                    return Ok(right.ct_eq(&digest).into());
                }
                let begin = self.clock.now();
                self.slow.lock().ask(begin).map_err(Denied::Busy)?;
                // Not under a lock: other threads have other requests.
                let right = bcrypt::verify(password, hash).unwrap_or(false);
                if right {
                    *entry.right.lock() = Some(digest);
                } else {
                    self.slow.lock().spend(self.clock.now().saturating_duration_since(begin));
                }
                Ok(right)
            }
        }
    }
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance { left: nanoseconds(BURST), at: now }
    }

    /// Whether there is some, or when there will be.
    fn ask(&mut self, now: Instant) -> Result<(), Duration> {
        let gathered = nanoseconds(now.saturating_duration_since(self.at) / SHARE);
        self.left = self.left.saturating_add(gathered).min(nanoseconds(BURST));
        self.at = self.at.max(now);
        match u64::try_from(-self.left) {
            // Not before a second: by then it is worth asking.
            Ok(debt) => Err((Duration::from_nanos(debt) * SHARE).max(Duration::from_secs(1))),
            Err(_) => Ok(()),
        }
    }

    fn spend(&mut self, took: Duration) {
        self.left = self.left.saturating_sub(nanoseconds(took));
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What stands behind `Basic` (RFC 7617, section 2).
fn credentials(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.trim_ascii().split_at_checked(5)?;
    let apart = rest.first().is_some_and(|&byte| byte == b' ');
    if !apart || !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    from_base64(rest.trim_ascii())
}

fn split(credentials: &[u8]) -> Option<(&str, &[u8])> {
    let colon = credentials.iter().position(|&byte| byte == b':')?;
    Some((std::str::from_utf8(&credentials[..colon]).ok()?, &credentials[colon + 1..]))
}

/// Never shows what a line says.
fn parse(text: &str) -> Result<Users, String> {
    let mut users = Users::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = match line.split_once(':') {
            Some((user, hash)) if !user.is_empty() && !hash.is_empty() => parse_hash(hash).map(|hash| (user, hash)),
            _ => Err("expected user:hash"),
        };
        let (user, hash) = entry.map_err(|message| format!("line {}: {message}", index + 1))?;
        users.insert(user.to_owned(), Entry { hash, right: Mutex::new(None) });
    }
    Ok(users)
}

fn parse_hash(hash: &str) -> Result<Hash, &'static str> {
    if let Some(text) = hash.strip_prefix("{SHA}") {
        let bytes = from_base64(text.as_bytes()).and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
        return bytes.map(Hash::Sha1).ok_or("behind {SHA} 20 bytes in base64 are expected");
    }
    if hash.starts_with("$2") {
        let parts = hash.parse::<bcrypt::HashParts>().map_err(|_| "this is no hash of bcrypt")?;
        return match parts.get_cost() {
            0..=COST_MAX => Ok(Hash::Bcrypt(hash.to_owned())),
            _ => Err(
                "a bcrypt cost above 14 would hold up the receiver for seconds; make the hash with htpasswd -B -C 10",
            ),
        };
    }
    if hash.starts_with('$') || hash.starts_with("{SSHA}") {
        return Err("hashes of this kind are not taken; make one of bcrypt with htpasswd -B");
    }
    Ok(Hash::Plain(sha256(hash.as_bytes())))
}

#[cfg(test)]
mod tests;
