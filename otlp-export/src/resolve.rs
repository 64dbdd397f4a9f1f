//! Names to addresses, remembered for a while.
//!
//! The system's resolver blocks and has no deadline, so it is asked as seldom as can be: not for addresses, and once for
//! a name in [`KEPT`], or after a connection to one of the addresses failed. Where it fails, what it said before is used
//! again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::lock::Mutex;

/// How long an answer of the resolver is used: as long as many servers' records live at least, so that a change of
/// address is followed soon.
const KEPT: Duration = Duration::from_secs(30);

#[cfg(feature = "grpc")]
/// How long an answer is used at least: connections that fail one after the other ask once.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// Names seen at most; a configuration has a handful, redirects may add some.
const NAMES_MAX: usize = 256;

/// Resolved names of one exporter.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<(String, u16), Known>>);

/// Until when, and what.
type Known = (Instant, Vec<SocketAddr>);

impl Names {
    pub(crate) fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let key = (host.to_owned(), port);
        let known = self.0.lock().get(&key).cloned();
        if let Some((until, addresses)) = &known
            && Instant::now() < *until
        {
            return Ok(addresses.clone());
        }
        match (host, port).to_socket_addrs().map(Vec::from_iter) {
            Ok(addresses) if !addresses.is_empty() => {
                let mut names = self.0.lock();
                if names.len() >= NAMES_MAX {
                    names.clear();
                }
                names.insert(key, (Instant::now() + KEPT, addresses.clone()));
                Ok(addresses)
            }
            failed => match known {
                Some((_, addresses)) => Ok(addresses),
                None => Err(failed.err().unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))),
            },
        }
    }

    #[cfg(feature = "grpc")]
    /// As [`Names::resolve`] where nobody has to be asked.
    pub(crate) fn known(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(vec![SocketAddr::new(address, port)]);
        }
        let names = self.0.lock();
        names.get(&(host.to_owned(), port)).filter(|(until, _)| Instant::now() < *until).map(|(_, known)| known.clone())
    }

    /// Says that what is known of a name led nowhere: it may be old.
    #[cfg(feature = "grpc")]
    pub(crate) fn expire(&self, host: &str, port: u16) {
        if let Some((until, _)) = self.0.lock().get_mut(&(host.to_owned(), port)) {
            // Of an answer this young it is not the age.
            *until = (*until).min(Instant::now() + KEPT_MIN);
        }
    }

    /// As if the resolver had said so.
    #[cfg(test)]
    pub(crate) fn remember(&self, host: &str, port: u16, addresses: Vec<SocketAddr>) {
        self.0.lock().insert((host.to_owned(), port), (Instant::now() + KEPT, addresses));
    }
}
