//! Names of Unix sockets, as gRPC writes them: `unix:path`, `unix:///path`, and `unix-abstract:name` for one without a file
//! (Linux).
//!
//! # Specification
//!
//! gRPC Name Resolution.

use std::fmt;
use std::io;

use socket2::SockAddr;

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketName {
    Path(String),
    Abstract(String),
}

impl SocketName {
    /// What `text` names; `None` where it is no such name at all.
    pub(crate) fn parse(text: &str) -> Option<Result<SocketName, String>> {
        // Relative paths only without an authority: `unix://a/b` has the authority `a`, which nobody could mean.
        let name = if let Some(name) = text.strip_prefix("unix-abstract:") {
            SocketName::Abstract(name.to_owned())
        } else if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Some(Err(format!("must be an absolute path after unix://, got {text:?}")));
            }
            SocketName::Path(path.to_owned())
        } else {
            SocketName::Path(text.strip_prefix("unix:")?.to_owned())
        };
        Some(match &name {
            SocketName::Path(text) | SocketName::Abstract(text) if text.is_empty() => {
                Err(format!("must name a socket, got {text:?}"))
            }
            // As the system's address has room for, with a byte for its end or its beginning.
            SocketName::Path(text) | SocketName::Abstract(text) if text.len() > 107 => {
                Err("is longer than 107 bytes, which no Unix socket's name can be".into())
            }
            SocketName::Path(text) | SocketName::Abstract(text) if text.contains('\0') => Err("has a zero byte".into()),
            SocketName::Abstract(_) if !cfg!(target_os = "linux") => {
                Err("names a socket without a file, which only Linux has".into())
            }
            _ => Ok(name),
        })
    }

    /// As the system takes it.
    pub(crate) fn address(&self) -> io::Result<SockAddr> {
        match self {
            SocketName::Path(path) => SockAddr::unix(path),
            SocketName::Abstract(name) => SockAddr::unix(format!("\0{name}")),
        }
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketName::Path(path) if path.starts_with('/') => write!(f, "unix://{path}"),
            SocketName::Path(path) => write!(f, "unix:{path}"),
            SocketName::Abstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_table() {
        for (text, shown) in [
            ("unix:///run/a.sock", "unix:///run/a.sock"),
            ("unix:/run/a.sock", "unix:///run/a.sock"),
            ("unix:a.sock", "unix:a.sock"),
            #[cfg(target_os = "linux")]
            ("unix-abstract:a", "unix-abstract:a"),
        ] {
            let name = SocketName::parse(text).unwrap().unwrap();
            assert_eq!(name.to_string(), shown);
            assert!(name.address().is_ok());
            assert_eq!(SocketName::parse(&name.to_string()), Some(Ok(name)));
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["unix:", "unix://", "unix://a/b", "unix-abstract:", "unix:/a\0b", &long] {
            assert!(SocketName::parse(text).unwrap().is_err(), "{text}");
        }
        for text in ["h:1", "http://h", "unixes:a", ""] {
            assert_eq!(SocketName::parse(text), None, "{text}");
        }
    }
}
