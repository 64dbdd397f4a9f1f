//! URLs of the kind that are exported to: scheme, host, port, path and query; or a Unix socket.
//!
//! HTTP has no URL for a Unix socket. Ours is `unix:///path/of/the/socket:/path/of/the/request`, the latter `/` where it is
//! missing, with the names that gRPC has for sockets in place of `unix:///path`. A colon before a slash is not possible in
//! such a socket's path.

use std::fmt;

use crate::unix::SocketName;

/// An http or https URL, or a Unix socket with what is asked for there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    /// Lower case; an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query; at least `/`.
    pub(crate) path: String,
    /// `user:password`, as it is sent.
    pub(crate) userinfo: Option<String>,
    /// In place of host and port, which are `localhost` and 80 then.
    pub(crate) socket: Option<SocketName>,
}

/// Why a text is no such URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UrlError {
    Scheme,
    Host,
    Port,
    Character,
    Socket(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Socket(what) => what,
            UrlError::Scheme => "must begin with http:// or https://",
            UrlError::Host => "must name a host",
            UrlError::Port => "must have a port from 1 to 65535",
            UrlError::Character => "must not contain spaces or control characters",
        })
    }
}

impl Url {
    /// What an endpoint says: a URL, or a Unix socket.
    pub(crate) fn endpoint(text: &str) -> Result<Url, UrlError> {
        let (socket, path) = text.find(":/").filter(|_| Url::is_socket(text)).map_or((text, "/"), |_| {
            // The scheme's own colon is not the one that is meant.
            let scheme = text.find(':').map_or(0, |colon| colon + 1);
            text[scheme..].find(":/").map_or((text, "/"), |at| (&text[..scheme + at], &text[scheme + at + 1..]))
        });
        let Some(socket) = SocketName::parse(socket) else { return Url::parse(text) };
        if text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(UrlError::Character);
        }
        let (path, socket) = (path.to_owned(), Some(socket.map_err(UrlError::Socket)?));
        Ok(Url { https: false, host: "localhost".into(), port: 80, path, userinfo: None, socket })
    }

    /// Whether an endpoint is a Unix socket.
    pub(crate) fn is_socket(text: &str) -> bool {
        SocketName::parse(text).is_some()
    }

    /// An endpoint and what follows it.
    pub(crate) fn append(base: &str, path: &str) -> String {
        let has_path = |base: &str| base.split_once(':').is_some_and(|(_, rest)| rest.contains(":/"));
        let colon = if Url::is_socket(base) && !has_path(base) { ":" } else { "" };
        format!("{}{colon}{path}", base.trim_end_matches('/'))
    }

    /// An http or https URL, and nothing else: what servers and proxies may be named by.
    pub(crate) fn parse(text: &str) -> Result<Url, UrlError> {
        if text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(percent_decode(userinfo)), host_port),
            None => (None, authority),
        };
        let (host, port) = match host_port.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or(UrlError::Host)?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(UrlError::Port)?) };
                (host, port)
            }
            None => host_port.rsplit_once(':').map_or((host_port, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let port = match port {
            None | Some("") => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or(UrlError::Port)?,
        };
        let path = match path.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{path}"),
            Some(_) => path.to_owned(),
        };
        Ok(Url { https, host: host.to_ascii_lowercase(), port, path, userinfo, socket: None })
    }

    /// Host and port as they stand in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Where a `Location` points that was read at this URL.
    pub(crate) fn join(&self, location: &str) -> Result<Url, UrlError> {
        if location.contains("://") {
            return Url::parse(location);
        }
        let mut base = self.clone();
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.https { "https" } else { "http" };
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        if location.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(UrlError::Character);
        }
        base.path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let path = self.path.split('?').next().unwrap_or("/");
            let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
            format!("{folder}{location}")
        };
        Ok(base)
    }

    /// The value of a `Basic` authorization, if the URL has a user.
    pub(crate) fn basic(&self) -> Option<String> {
        self.userinfo.as_ref().map(|userinfo| {
            let with_colon = if userinfo.contains(':') { userinfo.clone() } else { format!("{userinfo}:") };
            format!("Basic {}", base64(with_colon.as_bytes()))
        })
    }
}

/// Without the user: it is as secret as a header.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(socket) = &self.socket {
            return write!(f, "{socket}:{}", self.path);
        }
        write!(f, "http{}://{}{}", if self.https { "s" } else { "" }, self.authority(), self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn percent_decode(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// RFC 4648, section 4. Here because a crate for one header is more than ten lines.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let sextet = (word >> (18 - 6 * position)) & 63;
            out.push(if position <= chunk.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_by_table() {
        for (text, shown, authority) in [
            ("http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces", "localhost:4318"),
            ("HTTPS://Example.com", "https://example.com/", "example.com"),
            ("https://h:443/a?b=c#d", "https://h/a?b=c", "h"),
            ("http://h:/x", "http://h/x", "h"),
            ("http://h?q", "http://h/?q", "h"),
            ("http://[::1]:4318", "http://[::1]:4318/", "[::1]:4318"),
            ("http://user:secret@h/x", "http://h/x", "h"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((format!("{url:?}").as_str(), url.authority().as_str()), (shown, authority));
        }
        for (text, error) in [
            ("localhost:4318", UrlError::Scheme),
            ("ftp://h", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://:80", UrlError::Host),
            ("http://h:0", UrlError::Port),
            ("http://h:66000", UrlError::Port),
            ("http://[::1", UrlError::Host),
            ("http://h/a b", UrlError::Character),
            ("http://h/a\r\nX: y", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn unix_sockets_by_table() {
        for (text, shown, path) in [
            ("unix:///run/a.sock", "unix:///run/a.sock:/", "/"),
            ("unix:///run/a.sock:/v1/traces?x=y", "unix:///run/a.sock:/v1/traces?x=y", "/v1/traces?x=y"),
            ("unix:/run/a.sock:/x", "unix:///run/a.sock:/x", "/x"),
            ("unix:a.sock", "unix:a.sock:/", "/"),
            #[cfg(target_os = "linux")]
            ("unix-abstract:a:/x", "unix-abstract:a:/x", "/x"),
        ] {
            let url = Url::endpoint(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.path.as_str(), url.https), (shown, path, false), "{text}");
            assert_eq!((url.authority().as_str(), url.socket.is_some()), ("localhost", true));
        }
        for text in ["unix:", "unix://a/b", "unix:///a b", "unix:///a:/b c"] {
            assert!(Url::endpoint(text).is_err(), "{text}");
        }
        assert_eq!(Url::endpoint("http://h/x").unwrap().to_string(), "http://h/x");
        for (base, joined) in [
            ("unix:///run/a.sock", "unix:///run/a.sock:/v1/logs"),
            ("unix:///run/a.sock:/base/", "unix:///run/a.sock:/base/v1/logs"),
            ("http://h:1/", "http://h:1/v1/logs"),
        ] {
            assert_eq!(Url::append(base, "/v1/logs"), joined);
        }
        // A server cannot send us to a socket of this machine.
        let base = Url::parse("http://h/").unwrap();
        assert_eq!(base.join("unix:///run/docker.sock:/x"), Err(UrlError::Scheme));
        assert!(Url::parse("unix:///run/a.sock").is_err());
    }

    #[test]
    fn locations_and_users() {
        let base = Url::parse("http://h:1/a/b?c").unwrap();
        for (location, joined) in [
            ("/x", "http://h:1/x"),
            ("x", "http://h:1/a/x"),
            ("https://other/y", "https://other/y"),
            ("//other/y", "http://other/y"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), joined);
        }
        assert!(base.join("/a\nb").is_err());
        for (userinfo, value) in
            [("user:pass", "Basic dXNlcjpwYXNz"), ("a", "Basic YTo="), ("a:b%40", "Basic YTpiQA==")]
        {
            assert_eq!(Url::parse(&format!("http://{userinfo}@h")).unwrap().basic().unwrap(), value);
        }
    }
}
