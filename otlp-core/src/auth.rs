//! What receivers and exporters share of authentication. Nothing here reads a file or knows the time.
//!
//! - [`Secret`]: text that shows nowhere.
//! - [`Recheck`]: when to look again at a file that holds one.
//! - [`without_userinfo`]: URLs as they may be shown.
//! - [`tokens`], [`base64`], [`from_base64`]: how credentials are written.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// How often a file is looked at, at most.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What stands for a secret where one would be printed.
pub const REDACTED: &str = "[REDACTED]";

/// A token or a password. Its `Debug` form is `[REDACTED]`; there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// No text.
    pub const NONE: Secret = Secret(String::new());

    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { REDACTED })
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret::new(text)
    }
}

/// What tells one state of a file from another: time of modification, length, and its number in the file system, which
/// changes where one file takes the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it was written.
    pub modified: SystemTime,
    /// In bytes.
    pub len: u64,
    /// Its inode.
    pub number: u64,
}

/// Decides when a file has to be looked at, and when read again. A file is looked at when it is used and not otherwise,
/// at most once a second.
#[derive(Clone, Debug, Default)]
pub struct Recheck {
    looked: Option<Instant>,
    read: Option<Stamp>,
}

impl Recheck {
    /// For a file that was read when it had that stamp.
    pub fn new(read: Option<Stamp>, now: Instant) -> Recheck {
        Recheck { looked: Some(now), read }
    }

    /// Whether to look at the file now; where so, the next time is a second later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.is_due_after(RECHECK_INTERVAL, now)
    }

    /// The same after another interval, for who has a reason to think that the file changed.
    pub fn is_due_after(&mut self, interval: Duration, now: Instant) -> bool {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < interval) {
            return false;
        }
        self.looked = Some(now);
        true
    }

    /// Whether to read it, now that it has that stamp. To be followed by [`Recheck::was_read`] where that succeeds.
    pub fn is_other(&self, stamp: Stamp) -> bool {
        self.read != Some(stamp)
    }

    /// It was read. `stamp` is from before it was: what was written in between is read the next time.
    pub fn was_read(&mut self, stamp: Stamp, now: Instant) {
        (self.looked, self.read) = (Some(now), Some(stamp));
    }
}

/// The tokens of a file: the first word of each line, as the Collector takes it; what follows is a comment.
pub fn tokens(text: &str) -> Vec<Secret> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(Secret::from).collect()
}

/// The user's name and password before the host of a URL, or of `host:port`. To the last `@`: what is no URL may hold
/// the rest of a password anywhere.
pub fn userinfo(url: &str) -> Option<&str> {
    // Paths and names of Unix sockets.
    if ["/", "unix:", "unix-abstract:"].iter().any(|begin| url.starts_with(begin)) {
        return None;
    }
    let from = url.find("://").map_or(0, |at| at + 3);
    let at = url[from..].rfind('@').filter(|&at| at > 0)?;
    Some(&url[from..from + at])
}

/// A URL as it may be shown: with `REDACTED` in the place of the user's name and password, without brackets, so
/// that it is a URL still.
pub fn without_userinfo(url: &str) -> Cow<'_, str> {
    match userinfo(url) {
        Some(userinfo) => Cow::Owned(url.replacen(&format!("{userinfo}@"), "REDACTED@", 1)),
        None => Cow::Borrowed(url),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 of RFC 4648, section 4, with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let at = |index: usize| u32::from(piece.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > piece.len() { '=' } else { symbol as char });
        }
    }
    text
}

/// The bytes of a text in base 64, with or without its padding. `None` where it is none.
pub fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&symbol| symbol == b'=').count();
    let symbols = &text[..text.len() - padding];
    // One symbol alone holds no byte, and padding, where there is any, fills up the last four.
    if symbols.len() % 4 == 1 || padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(symbols.len() / 4 * 3 + 2);
    for piece in symbols.chunks(4) {
        let mut bits = 0u32;
        for (place, symbol) in piece.iter().enumerate() {
            let value = match symbol {
                b'A'..=b'Z' => symbol - b'A',
                b'a'..=b'z' => symbol - b'a' + 26,
                b'0'..=b'9' => symbol - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits |= u32::from(value) << (18 - 6 * place);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..piece.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_do_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[REDACTED] Some([REDACTED])");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn a_file_is_looked_at_once_a_second_and_read_when_it_is_another() {
        let begin = Instant::now();
        let stamp = Stamp { modified: SystemTime::UNIX_EPOCH, len: 3, number: 1 };
        let mut recheck = Recheck::new(Some(stamp), begin);
        assert!(!recheck.is_due(begin + Duration::from_millis(999)));
        assert!(recheck.is_due(begin + Duration::from_secs(1)));
        assert!(!recheck.is_due(begin + Duration::from_millis(1999)));
        assert!(!recheck.is_other(stamp));
        for other in [Stamp { len: 4, ..stamp }, Stamp { number: 2, ..stamp }] {
            assert!(recheck.is_other(other));
        }
        recheck.was_read(Stamp { len: 4, ..stamp }, begin);
        assert!(recheck.is_other(stamp) && !recheck.is_due(begin));
    }

    #[test]
    fn tokens_stand_on_lines() {
        assert_eq!(tokens(" one \r\n\n two\tuntil May\n"), [Secret::from("one"), Secret::from("two")]);
        assert_eq!(tokens("\n \n"), []);
    }

    #[test]
    fn urls_are_shown_without_who_goes_there() {
        for (url, shown) in [
            ("http://host:4318/path", "http://host:4318/path"),
            ("host:4317", "host:4317"),
            ("http://user:word@host/", "http://REDACTED@host/"),
            ("http://user@host/", "http://REDACTED@host/"),
            ("http://us@er:wo/rd@host", "http://REDACTED@host"),
            ("user:word@host:4317", "REDACTED@host:4317"),
            ("http://@host", "http://@host"),
            ("/run/otlp@1.sock", "/run/otlp@1.sock"),
            ("unix:///run/otlp@1.sock", "unix:///run/otlp@1.sock"),
            ("unix-abstract:otlp@1", "unix-abstract:otlp@1"),
            ("@otlp", "@otlp"),
            ("", ""),
        ] {
            assert_eq!(without_userinfo(url), shown);
        }
    }

    #[test]
    fn base_64_is_that_of_rfc_4648_section_10() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
            assert_eq!(from_base64(text.trim_end_matches('=').as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        for text in ["Z", "Zg=", "Zg===", "Z===", "====", "Zm9v====", "Zm 9", "Zm9_", "Z=g="] {
            assert_eq!(from_base64(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back_from_base_64(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(from_base64(base64(&bytes).as_bytes()), Some(bytes));
        }
    }
}
