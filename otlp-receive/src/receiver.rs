//! The receiver as a component: it binds, starts its drivers, and stops them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Weak};

use otlp_core::component::{Health, HealthState, Outlets, Receiver, StartError};
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::Registry;
use otlp_core::thread::{RestartBackoff, Supervised, ThreadOptions};
use otlp_core::{AckMode, Clock, Deadline, Stop};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::driver::{self, Driver};
use crate::http::service::Service;
use crate::http::{Config, Transport};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// What a receiver needs of the process it lives in.
#[derive(Clone)]
pub struct Env {
    /// The memory that bodies are taken from.
    pub budget: MemoryBudget,
    /// Where its metrics are registered.
    pub registry: Registry,
    /// The time.
    pub clock: Clock,
    /// Threads that own connections. Default 1, at least 1; more than the cores have no use.
    pub threads: usize,
    /// How they are made.
    pub thread_options: ThreadOptions,
    /// What OK means for each signal, by [`otlp_core::Signal::index`], where the configuration does not say.
    pub ack_mode: [AckMode; 3],
    /// What `GET /health` tells: whether the process is well. Called on the receiver's threads; must not block.
    pub healthy: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The `otlp` receiver.
///
/// # Threads
///
/// `start` makes [`Env::threads`] threads named `rx-0`, `rx-1` and so on; `shutdown` joins them. The listener is in the
/// first one's poll; connections are dealt out in turn and stay where they are.
pub struct OtlpReceiver {
    id: String,
    config: Config,
    env: Env,
    running: Option<Running>,
    stopped: bool,
}

struct Running {
    service: Arc<Service>,
    drivers: Vec<Arc<driver::Shared>>,
    threads: Vec<Supervised>,
    /// Closed when it stops; a driver that is begun again listens on it again.
    listener: Arc<TcpListener>,
    local_addr: SocketAddr,
}

impl Default for Env {
    /// For tests and small programs: a budget of 160 MiB, one thread, always healthy.
    fn default() -> Env {
        Env {
            budget: MemoryBudget::new(otlp_core::ByteSize::mib(160)),
            registry: Registry::new(),
            clock: Clock::system(),
            threads: 1,
            thread_options: ThreadOptions::default(),
            ack_mode: [AckMode::Queued; 3],
            healthy: Arc::new(|| true),
        }
    }
}

impl OtlpReceiver {
    /// A receiver that is not started. `id` is its name in the configuration, as in the `receiver` label.
    pub fn new(id: impl Into<String>, config: Config, env: Env) -> OtlpReceiver {
        OtlpReceiver { id: id.into(), config, env, running: None, stopped: false }
    }

    /// The address it listens on; `None` unless it runs.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.running.as_ref().map(|running| running.local_addr)
    }

    fn listen(&self) -> Result<(TcpListener, SocketAddr), StartError> {
        let endpoint = &self.config.endpoint;
        let failed = |error: io::Error| StartError {
            message: format!(
                "cannot listen on {endpoint}: {}; set receivers.{}.protocols.http.endpoint",
                plain(&error),
                self.id
            ),
            source: Some(error),
        };
        let addresses = resolve(endpoint, self.config.transport).map_err(failed)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match bind(address).and_then(|listener| listener.local_addr().map(|address| (listener, address))) {
                Ok(bound) => return Ok(bound),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

impl Receiver for OtlpReceiver {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        if self.running.is_some() || self.stopped {
            return Err(StartError { message: format!("receiver {} was started before", self.id), source: None });
        }
        self.config.check().map_err(|error| {
            let at = if error.key.starts_with("receivers") { "" } else { "receivers.otlp.protocols.http." };
            StartError { message: format!("{at}{error}"), source: None }
        })?;
        let (listener, local_addr) = self.listen()?;
        let service = Arc::new(Service::new(&self.id, &self.config, outlets, &self.env));
        let threads_error = |error: io::Error| StartError {
            message: format!("cannot start the threads of receiver {}: {}", self.id, plain(&error)),
            source: Some(error),
        };
        let drivers: Vec<_> = (0..self.env.threads.max(1))
            .map(|_| driver::Shared::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(threads_error)?;
        let listener = Arc::new(listener);
        let mut threads = Vec::new();
        for index in 0..drivers.len() {
            let (peers, service, clock) = (drivers.clone(), Arc::clone(&service), self.env.clock.clone());
            // Not the listener itself: it must be closed when the receiver stops, whatever this thread does.
            let listener = (index == 0).then(|| Arc::downgrade(&listener));
            let make = move || {
                let listener = listener.as_ref().and_then(Weak::upgrade);
                let driver = Driver {
                    index,
                    peers: peers.clone(),
                    listener,
                    service: Arc::clone(&service),
                    clock: clock.clone(),
                };
                move |_: &Stop| driver.live()
            };
            let (name, options) = (format!("rx-{index}"), self.env.thread_options);
            match Supervised::spawn(name, options, RestartBackoff::default(), make) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    drivers.iter().for_each(|driver| driver.drain(Deadline::at(self.env.clock.now())));
                    return Err(threads_error(error));
                }
            }
        }
        log::info!("Starting HTTP server: receiver {} listens on {local_addr}", self.id);
        self.running = Some(Running { service, drivers, threads, listener, local_addr });
        Ok(())
    }

    fn shutdown(&mut self, deadline: Deadline) {
        self.stopped = true;
        if let Some(running) = self.running.take() {
            running.service.drain();
            drop(running.listener);
            running.drivers.iter().for_each(|driver| driver.drain(deadline));
            // Joins them. One that runs ends by its inbox; one that pauses after a panic ends at once.
            drop(running.threads);
        }
    }

    fn health(&self) -> Health {
        match &self.running {
            Some(running) => {
                let ill = running.threads.iter().map(Supervised::health).find(|health| health.state != HealthState::Ok);
                let trouble = || running.drivers.iter().find_map(|driver| driver.trouble()).map(Health::unhealthy);
                ill.or_else(trouble).unwrap_or_else(Health::ok)
            }
            None if self.stopped => Health { state: HealthState::Stopped, message: String::new() },
            None => Health { state: HealthState::Starting, message: String::new() },
        }
    }
}

impl Drop for OtlpReceiver {
    /// As [`Receiver::shutdown`] with a deadline that has passed.
    fn drop(&mut self) {
        self.shutdown(Deadline::at(self.env.clock.now()));
    }
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
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".into(),
        io::ErrorKind::AddrNotAvailable => "no such address on this machine".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

impl fmt::Debug for OtlpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpReceiver").field("id", &self.id).field("local_addr", &self.local_addr()).finish()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("budget", &self.budget)
            .field("threads", &self.threads)
            .field("ack_mode", &self.ack_mode)
            .finish_non_exhaustive()
    }
}
