//! Credentials that go with every request: the Collector's keys of `bearertokenauth` and of `basicauth::client_auth`.
//!
//! # Threads
//!
//! Whoever sends asks. A file is looked at then, at most once a second, and read again when it changed, or at once where
//! the destination answered that the credentials will not do; nothing runs in between.
//!
//! # Limits
//!
//! A file is at most 64 KiB.
//!
//! # On failure
//!
//! A file that cannot be read, or holds nothing, stops the start; unless it may come later: then what was to be sent waits,
//! as it would for a destination that cannot be reached. Later the old contents stay, and the log says so.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "grpc")]
use http::{HeaderName, HeaderValue};
use otlp_core::auth::{Recheck, Secret, Stamp, base64, tokens};
use otlp_core::{Clock, Code, Failure, Outcome, Reason};

use crate::ConfigError;
use crate::lock::Mutex;

/// Largest file of credentials.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A token for every request.
#[derive(Clone, Debug, PartialEq)]
pub struct Bearer {
    /// What stands before the token, with a blank between. Default `Bearer`. Empty: the token stands alone.
    pub scheme: String,
    /// The header field that it stands in. Default `Authorization`.
    pub header: String,
    /// The token. Not looked at where there is a file.
    pub token: Secret,
    /// A file whose first word is the token. Read again when it changes, and after a 401 or UNAUTHENTICATED.
    pub filename: Option<PathBuf>,
    /// Whether the file may come later. Until then every request fails, to be tried again. Default false: one that is
    /// not there is an error.
    pub file_may_come_later: bool,
}

impl Default for Bearer {
    fn default() -> Bearer {
        Bearer {
            scheme: "Bearer".into(),
            header: "Authorization".into(),
            token: Secret::default(),
            filename: None,
            file_may_come_later: false,
        }
    }
}

/// A user name and a password for every request. Either may stand in a file, whose blanks and line breaks at the end do
/// not count, and which then goes before what is written here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Basic {
    /// The user's name. It must not contain a colon.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// A file with the name. Read again when it changes, and after a 401 or UNAUTHENTICATED.
    pub username_file: Option<PathBuf>,
    /// A file with the password. Read again like the other.
    pub password_file: Option<PathBuf>,
}

/// Makes the credentials of every request. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    id: String,
    /// As it is to be written.
    header: String,
    make: Make,
    clock: Clock,
    state: Mutex<State>,
}

enum Make {
    Bearer { scheme: String, token: Source },
    Basic { username: Source, password: Source },
}

/// Where a piece of text comes from.
enum Source {
    Fixed(Secret),
    File(PathBuf, fn(&str) -> Option<Secret>),
}

struct State {
    recheck: [Recheck; 2],
    /// None where the file has not come yet.
    value: Option<Secret>,
    /// The last attempt failed; told of once.
    stale: bool,
}

/// A header field with credentials.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Credentials {
    pub(crate) header: String,
    pub(crate) value: Secret,
}

impl Authenticator {
    /// One that sends a token. `id` is its name in messages. Reads the file, where there is one.
    ///
    /// # Errors
    ///
    /// Names the key that cannot be used. Never shows the token.
    pub fn bearer(id: &str, config: &Bearer, clock: Clock) -> Result<Authenticator, ConfigError> {
        if config.header.is_empty() || !config.header.bytes().all(is_token) {
            return Err(ConfigError::new("header", format!("{:?} is no header name", config.header)));
        }
        if !config.scheme.bytes().all(is_token) {
            return Err(ConfigError::new("scheme", format!("{:?} is no authentication scheme", config.scheme)));
        }
        if config.filename.is_none() && config.token.is_empty() {
            return Err(ConfigError::new("token", "must be given"));
        }
        let token = Source::of(&config.filename, &config.token, |text| tokens(text).into_iter().next());
        let make = Make::Bearer { scheme: config.scheme.clone(), token };
        Authenticator::new(id, config.header.clone(), make, config.file_may_come_later, clock)
    }

    /// One that sends a user name and a password. `id` is its name in messages. Reads the files, where there are some.
    ///
    /// # Errors
    ///
    /// Names the key that cannot be used. Never shows the password.
    pub fn basic(id: &str, config: &Basic, clock: Clock) -> Result<Authenticator, ConfigError> {
        let trimmed: fn(&str) -> Option<Secret> = |text| Some(Secret::from(text.trim()));
        let make = Make::Basic {
            username: Source::of(&config.username_file, &Secret::from(&*config.username), trimmed),
            password: Source::of(&config.password_file, &config.password, trimmed),
        };
        Authenticator::new(id, "Authorization".into(), make, false, clock)
    }

    fn new(id: &str, header: String, make: Make, late: bool, clock: Clock) -> Result<Authenticator, ConfigError> {
        let (stamps, value) = match make.value() {
            Ok((stamps, value)) => (stamps, Some(value)),
            Err(error) if late => {
                log::warn!("{id}: nothing is sent until the token is there: {}", error.message);
                ([None, None], None)
            }
            Err(error) => return Err(error),
        };
        let now = clock.now();
        let recheck = stamps.map(|stamp| Recheck::new(stamp, now));
        let stale = value.is_none();
        let state = Mutex::new(State { recheck, value, stale });
        Ok(Authenticator(Arc::new(Inner { id: id.to_owned(), header, make, clock, state })))
    }

    /// What the next request has to carry; a failure to be tried again where that has not come yet.
    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        let inner = &self.0;
        let mut state = inner.state.lock();
        let now = inner.clock.now();
        let mut changed = false;
        for (source, recheck) in inner.make.sources().into_iter().zip(&mut state.recheck) {
            if let Source::File(path, _) = source
                && recheck.is_due(now)
            {
                changed |= stamp(path).is_ok_and(|stamp| recheck.is_other(stamp));
            }
        }
        if changed {
            inner.renew(&mut state);
        }
        match &state.value {
            Some(value) => Ok(Credentials { header: inner.header.clone(), value: value.clone() }),
            None => Err(Failure::refused(Reason::UNAUTHORIZED, format!("{} has no token yet", inner.id))),
        }
    }

    /// The credentials to send once more after that answer to a request with `sent`: where they will not do, and the
    /// files, which are read again at once, say others now.
    pub(crate) fn renewed(&self, outcome: &Outcome, sent: &Credentials) -> Option<Credentials> {
        let refused = matches!(outcome, Outcome::Failed(failure) if failure.code == Code::Unauthenticated);
        if !refused || self.0.make.sources().iter().all(|source| matches!(source, Source::Fixed(_))) {
            return None;
        }
        let mut state = self.0.state.lock();
        // Another thread may have read them since.
        if state.value.as_ref() == Some(&sent.value) {
            self.0.renew(&mut state);
        }
        let value = state.value.as_ref().filter(|&value| *value != sent.value)?;
        Some(Credentials { value: value.clone(), ..sent.clone() })
    }
}

impl Credentials {
    /// Those headers with these credentials in place of any of the same name.
    pub(crate) fn among(&self, headers: &[(String, String)]) -> Vec<(String, String)> {
        let others = headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(&self.header));
        others.cloned().chain([(self.header.clone(), self.value.reveal().to_owned())]).collect()
    }

    /// As a header of HTTP/2.
    #[cfg(feature = "grpc")]
    pub(crate) fn field(&self) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::from_bytes(self.header.as_bytes()).ok()?;
        let mut value = HeaderValue::from_bytes(self.value.reveal().as_bytes()).ok()?;
        // Kept out of HPACK's table, where it could be guessed at, and out of whatever is printed.
        value.set_sensitive(true);
        Some((name, value))
    }
}

impl Inner {
    fn renew(&self, state: &mut State) {
        match self.make.value() {
            Ok((stamps, value)) => {
                let now = self.clock.now();
                for (recheck, stamp) in state.recheck.iter_mut().zip(stamps) {
                    if let Some(stamp) = stamp {
                        recheck.was_read(stamp, now);
                    }
                }
                if state.value.as_ref() != Some(&value) {
                    log::info!("{}: the credentials changed", self.id);
                }
                (state.value, state.stale) = (Some(value), false);
            }
            Err(error) => {
                if !std::mem::replace(&mut state.stale, true) {
                    log::warn!("{}: the credentials stay what they were: {}", self.id, error.message);
                }
            }
        }
    }
}

impl Make {
    fn sources(&self) -> [&Source; 2] {
        static NONE: Source = Source::Fixed(Secret::NONE);
        match self {
            Make::Bearer { token, .. } => [token, &NONE],
            Make::Basic { username, password } => [username, password],
        }
    }

    /// The header's value, and the stamps of what was read for it.
    fn value(&self) -> Result<([Option<Stamp>; 2], Secret), ConfigError> {
        match self {
            Make::Bearer { scheme, token } => {
                let key = if matches!(token, Source::File(..)) { "filename" } else { "token" };
                let (stamp, token) = token.read(key)?;
                let token = token.reveal();
                if !token.bytes().all(|byte| matches!(byte, b' '..=b'~' | 0x80..)) {
                    return Err(ConfigError::new(key, "the token contains a control character"));
                }
                let value = if scheme.is_empty() { token.to_owned() } else { format!("{scheme} {token}") };
                Ok(([stamp, None], Secret::new(value)))
            }
            Make::Basic { username, password } => {
                let (first, username) = username.read("client_auth::username_file")?;
                let (second, password) = password.read("client_auth::password_file")?;
                if username.reveal().contains(':') {
                    // RFC 7617, section 2: the server would take what follows for the password.
                    let key = if first.is_some() { "client_auth::username_file" } else { "client_auth::username" };
                    return Err(ConfigError::new(key, "the user name contains a colon"));
                }
                let pair = format!("{}:{}", username.reveal(), password.reveal());
                Ok(([first, second], Secret::new(format!("Basic {}", base64(pair.as_bytes())))))
            }
        }
    }
}

impl Source {
    fn of(file: &Option<PathBuf>, text: &Secret, parse: fn(&str) -> Option<Secret>) -> Source {
        match file {
            Some(path) => Source::File(path.clone(), parse),
            None => Source::Fixed(text.clone()),
        }
    }

    /// `key` is the file's.
    fn read(&self, key: &str) -> Result<(Option<Stamp>, Secret), ConfigError> {
        let (path, parse) = match self {
            Source::Fixed(text) => return Ok((None, text.clone())),
            Source::File(path, parse) => (path, parse),
        };
        let wrong = |message| ConfigError::new(key, message);
        let (stamp, text) = read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        match parse(&text) {
            Some(text) => Ok((Some(stamp), text)),
            None => Err(wrong(format!("{} is empty", path.display()))),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp { modified: metadata.modified()?, len: metadata.len(), number: metadata.ino() })
}

/// The stamp is from before: what is written in between is read the next time.
fn read(path: &Path) -> io::Result<(Stamp, String)> {
    let stamp = stamp(path)?;
    let mut text = String::new();
    let bytes = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok((stamp, text))
}

impl PartialEq for Authenticator {
    /// Whether they are one.
    fn eq(&self, other: &Authenticator) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({})", self.0.id)
    }
}

#[cfg(test)]
mod tests;
