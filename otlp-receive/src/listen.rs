//! Sockets that listen: which addresses an endpoint has, and how one is bound.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Transport;

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Listens on the first address of `endpoint` that can be bound.
pub(crate) fn listen(endpoint: &str, transport: Transport) -> io::Result<(TcpListener, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in resolve(endpoint, transport)? {
        match bind(address).and_then(|listener| listener.local_addr().map(|address| (listener, address))) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of an endpoint, IPv4 before IPv6, as Go's listener prefers them.
fn resolve(endpoint: &str, transport: Transport) -> io::Result<Vec<SocketAddr>> {
    let wanted = |address: &SocketAddr| match transport {
        Transport::Tcp => true,
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

/// The system's words without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".into(),
        io::ErrorKind::AddrNotAvailable => "no such address on this machine".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}
