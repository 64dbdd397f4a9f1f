//! Sockets that listen: which addresses an endpoint has, and how one is bound.
//!
//! # Unix sockets
//!
//! The file of one that nobody listens on any more, left by a process that died, is replaced; where somebody does, it is
//! in use. Two processes that start at the same moment can both find it dead: the one that comes second is the one that
//! is reached then, as with every program that removes such files. The file is removed before the socket is closed, and
//! only if it is still ours.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Transport;

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// A socket that listens. Closed when dropped, and its file removed. Its calls do not block unless told to.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix {
        /// If it has one. Before the socket, so that it is removed first.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
}

/// What is listened on.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// An address, with its real port.
    Tcp(SocketAddr),
    /// A path, or `@name`.
    Unix(String),
}

/// The file of a Unix socket. Removed when dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and number.
    identity: (u64, u64),
}

impl Listener {
    /// The next connection and whose it is. A Unix socket has no address of the peer's worth telling.
    ///
    /// # Errors
    ///
    /// As of [`TcpListener::accept`].
    pub fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match &self.0 {
            Kind::Tcp(listener) => listener.accept().map(|(stream, peer)| (stream, Some(peer))),
            // To a driver a connection is a descriptor to be read, written and shut down: one type for both.
            Kind::Unix { listener, .. } => {
                listener.accept().map(|(stream, _)| (TcpStream::from(OwnedFd::from(stream)), None))
            }
        }
    }
}

impl Listener {
    /// Whether [`Listener::accept`] fails where no connection waits, in place of waiting for one. It does at first.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &self.0 {
            Kind::Tcp(listener) => listener.set_nonblocking(nonblocking),
            Kind::Unix { listener, .. } => listener.set_nonblocking(nonblocking),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl Place {
    /// The address of a TCP socket; `None` for a Unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Place::Tcp(address) => Some(*address),
            Place::Unix(_) => None,
        }
    }

    /// Whether it is every address of the machine.
    pub fn is_every_address(&self) -> bool {
        self.socket_addr().is_some_and(|address| address.ip().is_unspecified())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => write!(f, "{address}"),
            Place::Unix(name) => write!(f, "unix:{name}"),
        }
    }
}

/// Listens on the first address of `endpoint` that can be bound.
///
/// # Errors
///
/// Where the host has no address, or none can be bound; `AddrInUse` for a Unix socket that somebody listens on, and
/// `AlreadyExists` where its path is something else's.
pub fn listen(endpoint: &str, transport: Transport) -> io::Result<(Listener, Place)> {
    if transport == Transport::Unix {
        return Ok((bind_unix(endpoint)?, Place::Unix(endpoint.to_owned())));
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in resolve(endpoint, transport)? {
        match bind(address).and_then(|listener| listener.local_addr().map(|address| (listener, address))) {
            Ok((listener, address)) => return Ok((Listener(Kind::Tcp(listener)), Place::Tcp(address))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of an endpoint, IPv4 before IPv6, as Go's listener prefers them.
fn resolve(endpoint: &str, transport: Transport) -> io::Result<Vec<SocketAddr>> {
    let wanted = |address: &SocketAddr| match transport {
        Transport::Tcp | Transport::Unix => true,
        Transport::Tcp4 => address.is_ipv4(),
        Transport::Tcp6 => address.is_ipv6(),
    };
    let mut addresses: Vec<SocketAddr> = match endpoint.strip_prefix(':') {
        // Every address of the machine: both families by one socket where the system can, IPv4 alone where not.
        Some(port) => {
            let port = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            let every: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
            every.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
        }
        None => {
            let mut addresses: Vec<_> = endpoint.to_socket_addrs()?.collect();
            addresses.sort_by_key(SocketAddr::is_ipv6);
            addresses
        }
    };
    addresses.retain(wanted);
    Ok(addresses)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before (LIFE-05).
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        let _ = socket.set_only_v6(false);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(name: &str) -> io::Result<Listener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let path = Path::new(name);
    let file = match name.strip_prefix('@') {
        // Linux: an address that begins with a zero byte has no file, and ends with its socket.
        Some(name) => {
            socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
            None
        }
        None => {
            let address = SockAddr::unix(path)?;
            if let Err(error) = socket.bind(&address) {
                if error.kind() != io::ErrorKind::AddrInUse || !remove_dead(path)? {
                    return Err(error);
                }
                socket.bind(&address)?;
            }
            Some(SocketFile { path: std::path::absolute(path)?, identity: identity(path)? })
        }
    };
    socket.listen(BACKLOG)?;
    Ok(Listener(Kind::Unix { _file: file, listener: socket.into() }))
}

/// Removes a socket's file that nobody listens on; false where somebody does.
fn remove_dead(path: &Path) -> io::Result<bool> {
    let before = identity(path)?;
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something is there that is no socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One that has no room for more waits is alive all the same.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Ok(false),
    }
    if identity(path)? == before {
        fs::remove_file(path)?;
        log::info!("removed {}, the socket of a process that is no more", path.display());
    }
    Ok(true)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The system's words without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".into(),
        io::ErrorKind::AddrNotAvailable => "no such address on this machine".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotFound if error.raw_os_error().is_some() => "no such file or directory".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A folder of this test's own; removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("otlp-receive-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn at(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn unix(name: &str) -> io::Result<Listener> {
        listen(name, Transport::Unix).map(|(listener, _)| listener)
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_in_use() {
        let folder = Folder::new("dead");
        let path = folder.at("a.sock");
        // As a process leaves it that is killed: std's listener does not remove its file.
        drop(UnixListener::bind(&path).unwrap());
        let first = unix(&path).unwrap();
        assert_eq!(unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let client = UnixStream::connect(&path).unwrap();
        assert!(first.accept().is_ok_and(|(_, peer)| peer.is_none()), "the probe, or the client");
        drop((first, client));
        assert!(!Path::new(&path).exists(), "removed at the end");
        drop(unix(&path).unwrap());
    }

    #[test]
    fn what_is_no_socket_and_what_is_anothers_is_left_alone() {
        let folder = Folder::new("other");
        let path = folder.at("file");
        fs::write(&path, "telemetry").unwrap();
        assert_eq!(unix(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "telemetry");
        let path = folder.at("b.sock");
        let ours = unix(&path).unwrap();
        // Both are there at once, so that they cannot have the same number.
        let theirs = UnixListener::bind(folder.at("c.sock")).unwrap();
        fs::rename(folder.at("c.sock"), &path).unwrap();
        drop(ours);
        assert!(Path::new(&path).exists(), "it is another's by now");
        drop(theirs);
        assert_eq!(unix(&folder.at("missing/d.sock")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_without_a_file_is_free_when_its_socket_is_closed() {
        let name = format!("@otlp-receive-{}", std::process::id());
        let (first, place) = listen(&name, Transport::Unix).unwrap();
        assert_eq!((place.to_string(), place.socket_addr()), (format!("unix:{name}"), None));
        assert_eq!(unix(&name).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        unix(&name).unwrap();
    }
}
