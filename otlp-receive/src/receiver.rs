//! The receiver as a component: it binds, starts its drivers, and stops them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use otlp_core::component::{Guest, Health, HealthState, Outlets, Receiver, StartError};
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::Registry;
use otlp_core::thread::{RestartBackoff, Supervised, ThreadOptions};
use otlp_core::{AckMode, Clock, Deadline, Signal, Stop};

use crate::config::{Config, Transport};
use crate::driver::{self, Driver, Kind, Port, Protocols};
use crate::intake::Common;
use crate::listen::{Listener, Place, listen, plain};
use crate::{grpc, http, tls};

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
/// `start` makes [`Env::threads`] threads named `rx-0`, `rx-1` and so on; `shutdown` joins them. The listeners are in the
/// first one's poll; connections are dealt out in turn and stay where they are. So are the guests of its outlets.
pub struct OtlpReceiver {
    id: String,
    config: Config,
    env: Env,
    running: Option<Running>,
    stopped: bool,
}

struct Running {
    common: Common,
    ports: Arc<[Port]>,
    drivers: Vec<Arc<driver::Shared>>,
    threads: Vec<Supervised>,
    /// Closed when it stops; a driver that is begun again listens on them again. In the order of the ports.
    listeners: Vec<Arc<Listener>>,
    places: Vec<Place>,
}

/// A port as configured.
struct Wanted<'a> {
    kind: Kind,
    /// The name of its section.
    name: &'static str,
    endpoint: &'a str,
    transport: Transport,
    tls: Option<&'a tls::Config>,
    /// Whether senders have to authenticate.
    authenticates: bool,
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

impl Wanted<'_> {
    /// Whether it takes from everybody what comes to every address.
    fn is_open_to_all(&self, place: &Place) -> bool {
        place.is_every_address() && self.tls.is_none() && !self.authenticates
    }
}

impl OtlpReceiver {
    /// A receiver that is not started. `id` is its name in the configuration, as in the `receiver` label.
    pub fn new(id: impl Into<String>, config: Config, env: Env) -> OtlpReceiver {
        OtlpReceiver { id: id.into(), config, env, running: None, stopped: false }
    }

    /// The address where it takes OTLP/HTTP; `None` unless it runs and does, by TCP.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.address(Kind::Http)
    }

    /// The address where it takes OTLP/gRPC; `None` unless it runs and does, by TCP.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.address(Kind::Grpc)
    }

    fn address(&self, kind: Kind) -> Option<SocketAddr> {
        let running = self.running.as_ref()?;
        let index = running.ports.iter().position(|port| port.kind == kind)?;
        running.places.get(index)?.socket_addr()
    }

    fn wanted(&self) -> Vec<Wanted<'_>> {
        let grpc = self.config.grpc.as_ref().map(|config| Wanted {
            kind: Kind::Grpc,
            name: "grpc",
            endpoint: &config.endpoint,
            transport: config.transport,
            tls: config.tls.as_ref(),
            authenticates: config.auth.is_some(),
        });
        let http = self.config.http.as_ref().map(|config| Wanted {
            kind: Kind::Http,
            name: "http",
            endpoint: &config.endpoint,
            transport: config.transport,
            tls: config.tls.as_ref(),
            authenticates: config.auth.is_some(),
        });
        grpc.into_iter().chain(http).collect()
    }

    /// Binds the port and reads its certificates.
    fn open(&self, wanted: &Wanted<'_>) -> Result<(Port, Listener, Place), StartError> {
        let at = format!("receivers.{}.protocols.{}", self.id, wanted.name);
        // gRPC clients ask for h2 alone. A client that asks for both has a preference of its own at most, and what it
        // most likely wants is what the port is for: an OTLP/HTTP client as well offers h2 first.
        let mut names = [(self.config.grpc.is_some(), "h2"), (self.config.http.is_some(), "http/1.1")];
        if wanted.kind == Kind::Http {
            names.reverse();
        }
        let alpn = names.into_iter().filter_map(|(spoken, name)| spoken.then_some(name)).collect();
        let now = self.env.clock.now();
        let tls = wanted.tls.map(|config| tls::Acceptor::new(config, alpn, &at, now)).transpose();
        let tls = tls.map_err(|error| StartError { message: format!("{at}.{error}"), source: None })?;
        let endpoint = wanted.endpoint;
        let (listener, place) = listen(endpoint, wanted.transport).map_err(|error| StartError {
            message: format!("cannot listen on {endpoint}: {}; set {at}.endpoint", plain(&error)),
            source: Some(error),
        })?;
        Ok((Port { kind: wanted.kind, tls }, listener, place))
    }

    fn start_threads(
        &self,
        drivers: &[Arc<driver::Shared>],
        ports: &Arc<[Port]>,
        listeners: &[Arc<Listener>],
        protocols: &Arc<Protocols>,
        guests: &[Arc<dyn Guest>],
    ) -> io::Result<Vec<Supervised>> {
        let mut threads = Vec::new();
        for index in 0..drivers.len() {
            let (peers, clock) = (drivers.to_vec(), self.env.clock.clone());
            let (ports, protocols) = (Arc::clone(ports), Arc::clone(protocols));
            // Not the listeners themselves: they must be closed when the receiver stops, whatever this thread does.
            let listeners: Vec<_> =
                if index == 0 { listeners.iter().map(Arc::downgrade).collect() } else { Vec::new() };
            let guests = if index == 0 { guests.to_vec() } else { Vec::new() };
            let make = move || {
                let driver = Driver {
                    index,
                    peers: peers.clone(),
                    ports: Arc::clone(&ports),
                    listeners: listeners.iter().filter_map(Weak::upgrade).collect(),
                    protocols: Arc::clone(&protocols),
                    guests: guests.clone(),
                    clock: clock.clone(),
                };
                move |_: &Stop| driver.live()
            };
            let (name, options) = (format!("rx-{index}"), self.env.thread_options);
            threads.push(Supervised::spawn(name, options, RestartBackoff::default(), make)?);
        }
        Ok(threads)
    }
}

impl Receiver for OtlpReceiver {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        if self.running.is_some() || self.stopped {
            return Err(StartError { message: format!("receiver {} was started before", self.id), source: None });
        }
        self.config
            .check()
            .map_err(|error| StartError { message: format!("receivers.{}.{error}", self.id), source: None })?;
        let (mut ports, mut listeners, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in self.wanted() {
            let (port, listener, place) = self.open(&wanted)?;
            ports.push(port);
            listeners.push(Arc::new(listener));
            places.push(place);
        }
        let ports: Arc<[Port]> = ports.into();
        let outlets_of = Signal::ALL.into_iter().filter_map(|signal| outlets.get(signal));
        let guests: Vec<_> = outlets_of.flat_map(|outlet| outlet.guests()).collect();
        let common = Common::new(&self.id, &self.config, outlets, &self.env);
        let (grpc, http) = (self.config.grpc.as_ref(), self.config.http.as_ref());
        let protocols = Arc::new(Protocols {
            grpc: grpc.map(|config| Arc::new(grpc::service::Service::new(config, &common, &self.env))),
            http: http.map(|config| Arc::new(http::service::Service::new(config, &common, &self.env))),
            connections_max: self.config.max_connections,
        });
        let mut drivers = Vec::new();
        let threads = (0..self.env.threads.max(1))
            .try_for_each(|_| driver::Shared::new().map(|driver| drivers.push(Arc::new(driver))))
            .and_then(|()| self.start_threads(&drivers, &ports, &listeners, &protocols, &guests))
            .map_err(|error| {
                drivers.iter().for_each(|driver| driver.drain(Deadline::at(self.env.clock.now())));
                StartError {
                    message: format!("cannot start the threads of receiver {}: {}", self.id, plain(&error)),
                    source: Some(error),
                }
            })?;
        for (port, place) in ports.iter().zip(&places) {
            let protocol = if port.kind == Kind::Grpc { "GRPC" } else { "HTTP" };
            log::info!("Starting {protocol} server: receiver {} listens on {place}", self.id);
        }
        for (wanted, _) in self.wanted().iter().zip(&places).filter(|(wanted, place)| wanted.is_open_to_all(place)) {
            let (id, name, endpoint) = (&self.id, wanted.name, wanted.endpoint);
            log::warn!(
                "receivers.{id}.protocols.{name}.endpoint: {endpoint:?} listens on every address of the machine, without \
                 TLS and without authentication: whoever reaches it may send; name one address, or set tls or auth"
            );
        }
        self.running = Some(Running { common, ports, drivers, threads, listeners, places });
        Ok(())
    }

    fn shutdown(&mut self, deadline: Deadline) {
        self.stopped = true;
        if let Some(running) = self.running.take() {
            running.common.drain();
            drop(running.listeners);
            running.drivers.iter().for_each(|driver| driver.drain(deadline));
            // Joins them. One that runs ends by its inbox; one that pauses after a panic ends at once.
            drop(running.threads);
        }
    }

    fn health(&self) -> Health {
        match &self.running {
            Some(running) => {
                let ill = running.threads.iter().map(Supervised::health).find(|health| health.state != HealthState::Ok);
                let driver = || running.drivers.iter().find_map(|driver| driver.trouble());
                let tls = || running.ports.iter().filter_map(|port| port.tls.as_ref()).find_map(|tls| tls.trouble());
                let trouble = || driver().or_else(tls).map(Health::unhealthy);
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

impl fmt::Debug for OtlpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpReceiver")
            .field("id", &self.id)
            .field("http", &self.http_addr())
            .field("grpc", &self.grpc_addr())
            .finish()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Authenticator, bearer};

    #[test]
    fn endpoints_that_are_open_to_all_are_found() {
        let token = bearer::Config { tokens: vec!["a".into()], ..bearer::Config::default() };
        let auth = Authenticator::bearer("bearertokenauth", &token, Clock::system()).unwrap();
        for (endpoint, every) in
            [("0.0.0.0:0", true), ("0:0", true), (":0", true), ("127.0.0.1:0", false), ("localhost:0", false)]
        {
            let (_, place) = listen(endpoint, Transport::Tcp).unwrap();
            let open = |auth: Option<Authenticator>, tls: Option<tls::Config>| {
                let http = http::Config { endpoint: endpoint.into(), auth, tls, ..http::Config::default() };
                let receiver = OtlpReceiver::new("otlp", Config::from(http), Env::default());
                receiver.wanted().iter().filter(|wanted| wanted.is_open_to_all(&place)).count()
            };
            assert_eq!(open(None, None), usize::from(every), "{endpoint}");
            assert_eq!(open(Some(auth.clone()), None) + open(None, Some(tls::Config::default())), 0, "{endpoint}");
        }
        assert!(Place::Tcp("[::]:1".parse().unwrap()).is_every_address());
        assert!(!Place::Unix(":4318".into()).is_every_address(), "a path, however it looks");
    }
}
