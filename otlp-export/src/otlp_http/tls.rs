//! https, and proxies that are reached by CONNECT, by ureq.
//!
//! ureq gets our own resolver, because its default one spawns a thread for every request with a timeout, and our own TLS
//! connector, because its own builds a configuration anew, all root certificates read, for every connection of a request
//! that has settings of its own, which a deadline is. Redirects are not left to it: they may lead from one transport to
//! the other.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::{Deadline, Reason};
use rustls::{ClientConnection, StreamOwned};
use ureq::config::AutoHeaderValue;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport as UreqTransport, TransportAdapter,
};
use ureq::{Agent, Body, Proxy, ProxyProtocol, http};

use super::answer::{Answer, BODY_BYTES_MAX};
use super::transport::{Broken, Keeping, Pending, Request, Transport};
use super::url::Url;
use crate::resolve::Names;
use crate::tls::Client;

/// https by ureq.
pub(crate) struct Tls {
    agent: Agent,
}

impl Tls {
    /// `client` says whom it trusts and who it is, for each connection anew.
    pub(crate) fn new(client: &Arc<Client>, keeping: &Keeping, proxy: Option<&Url>) -> Result<Tls, String> {
        let proxy = proxy.map(connect_proxy).transpose()?;
        let idle_timeout = keeping.idle_timeout.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(AutoHeaderValue::None)
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            .max_idle_connections(keeping.idle_max)
            .max_idle_connections_per_host(keeping.idle_max)
            .max_idle_age(idle_timeout)
            .proxy(proxy)
            .build();
        let tls = TlsConnector { client: Arc::clone(client), opened: keeping.opened.clone() };
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(tls);
        let agent = Agent::with_parts(config, connector, OurResolver(Arc::clone(&keeping.names)));
        Ok(Tls { agent })
    }
}

fn connect_proxy(url: &Url) -> Result<Proxy, String> {
    let protocol = if url.https { ProxyProtocol::Https } else { ProxyProtocol::Http };
    let mut builder = Proxy::builder(protocol).host(&url.host).port(url.port).resolve_target(false);
    if let Some(userinfo) = &url.userinfo {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        builder = builder.username(user).password(password);
    }
    builder.build().map_err(|error| format!("cannot use the proxy {url}: {error}"))
}

impl Transport for Tls {
    fn send<'a>(
        &'a self,
        request: &Request<'_>,
        _fresh: bool,
        deadline: Deadline,
    ) -> Result<Box<dyn Pending + 'a>, Broken> {
        let left = deadline.remaining(Instant::now());
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Broken::new(Reason::TIMEOUT, "no time left before the deadline"));
        }
        let mut builder = http::Request::post(request.url.to_string());
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        // One piece, since ureq copies a body in any case; a reader would be sent in chunks.
        let joined;
        let body: &[u8] = match request.body {
            [only] => only,
            parts => {
                joined = parts.concat();
                &joined
            }
        };
        let http_request = builder.body(body).map_err(|error| Broken::new(Reason::BAD_ANSWER, error.to_string()))?;
        let http_request = self.agent.configure_request(http_request).timeout_global(left).build();
        let response = self.agent.run(http_request).map_err(broken)?;
        Ok(Box::new(Answered(response)))
    }

    fn close(&self) {
        self.agent.clone().shutdown();
    }
}

fn broken(error: ureq::Error) -> Broken {
    match error {
        ureq::Error::Timeout(which) => {
            Broken::new(Reason::TIMEOUT, format!("no answer in time ({which}); raise timeout"))
        }
        ureq::Error::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause) => {
                let cause = crate::tls::explained(cause);
                Broken::new(Reason::CONNECTION, format!("the connection failed: {cause}"))
            }
            None => Broken::io("the connection failed", &error),
        },
        ureq::Error::Http(error) => Broken::new(Reason::BAD_ANSWER, error.to_string()),
        ureq::Error::Protocol(error) => Broken::new(Reason::BAD_ANSWER, error.to_string()),
        error => Broken::new(Reason::CONNECTION, error.to_string()),
    }
}

struct Answered(http::Response<Body>);

impl Pending for Answered {
    fn answer(self: Box<Self>, _deadline: Deadline) -> Result<Answer, Broken> {
        let (head, body) = self.0.into_parts();
        let header = |name: http::HeaderName| {
            let value = head.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut answer = Answer {
            status: head.status.as_u16(),
            content_type: header(http::header::CONTENT_TYPE),
            retry_after: header(http::header::RETRY_AFTER),
            location: header(http::header::LOCATION),
            ..Answer::default()
        };
        // Past the limit the connection is closed, not drained.
        let reader = body.into_reader();
        reader
            .take(BODY_BYTES_MAX as u64 + 1)
            .read_to_end(&mut answer.body)
            .map_err(|error| Broken::io("cannot read the answer", &error))?;
        answer.truncated = answer.body.len() > BODY_BYTES_MAX;
        answer.body.truncate(BODY_BYTES_MAX);
        Ok(answer)
    }
}

#[derive(Debug)]
struct OurResolver(Arc<Names>);

impl Resolver for OurResolver {
    fn resolve(
        &self,
        uri: &http::Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut found = self.empty();
        // As many as it has room for.
        for address in self.0.resolve(host, port)?.into_iter().take(16) {
            found.push(address);
        }
        Ok(found)
    }
}

struct TlsConnector {
    client: Arc<Client>,
    opened: otlp_core::telemetry::registry::Counter,
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<In: UreqTransport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        self.opened.increment();
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let other = |message: String| ureq::Error::Other(message.into());
        let mut connection = self.client.begin(host).map_err(other)?;
        let mut adapter = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        adapter.set_timeout(details.timeout);
        connection.complete_io(&mut adapter)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned::new(connection, adapter) })))
    }
}

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl UreqTransport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let count = match self.stream.read(self.buffers.input_append_buf()) {
            // Many servers end without a close_notify; what matters has its own length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc::{Receiver, channel};

    use otlp_core::telemetry::registry::Counter;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// For localhost and 127.0.0.1, signed by itself.
    const CERTIFICATE: &[u8] = include_bytes!("testdata/cert.pem");
    const KEY: &[u8] = include_bytes!("testdata/key.pem");
    const LONG: Duration = Duration::from_secs(60);

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(CERTIFICATE).unwrap()
    }

    fn tls(trusted: bool) -> Tls {
        let own = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap().cert.pem();
        let ca = if trusted { std::str::from_utf8(CERTIFICATE).unwrap().to_owned() } else { own };
        let config = crate::tls::Config { ca_pem: Some(ca), ..Default::default() };
        let client = Arc::new(Client::new(&config, &[], "otlp_http").unwrap());
        let keeping = Keeping {
            idle_max: 2,
            idle_timeout: None,
            opened: Counter::default(),
            reused: Counter::default(),
            names: Arc::default(),
        };
        Tls::new(&client, &keeping, None).unwrap()
    }

    /// Says of each request over which connection it came, and with what body; answers the ones it is told to.
    fn server(answer: &'static [u8], silent: bool) -> (SocketAddr, Receiver<(usize, String)>) {
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate()], key)
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, socket.unwrap());
                let (mut text, mut buffer) = (String::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                    if text.ends_with("the end") {
                        sender.send((number, std::mem::take(&mut text))).unwrap();
                        if !silent {
                            stream.write_all(answer).unwrap();
                        }
                    }
                }
            }
        });
        (address, seen)
    }

    fn exchange(tls: &Tls, address: SocketAddr, deadline: Deadline) -> Result<Answer, Broken> {
        let url = Url::parse(&format!("https://localhost:{}/v1/traces", address.port())).unwrap();
        let headers = [("Content-Type".to_owned(), "application/x-protobuf".to_owned())];
        let request = Request { url: &url, headers: &headers, body: &[b"two parts, ", b"the end"] };
        tls.send(&request, false, deadline)?.answer(deadline)
    }

    #[test]
    fn requests_go_over_one_kept_connection() {
        let answer = b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nhi";
        let (address, seen) = server(answer, false);
        let tls = tls(true);
        for _ in 0..3 {
            let answer = exchange(&tls, address, Deadline::after(Instant::now(), LONG)).unwrap();
            assert_eq!((answer.status, answer.retry_after.as_deref(), &answer.body[..]), (503, Some("7"), &b"hi"[..]));
            let (connection, text) = seen.recv_timeout(LONG).unwrap();
            assert_eq!(connection, 0);
            assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{text}");
            assert!(text.to_lowercase().contains("content-length: 18\r\n"), "{text}");
            assert!(text.ends_with("\r\n\r\ntwo parts, the end"), "{text}");
        }
    }

    #[test]
    fn a_server_that_nobody_vouches_for_gets_nothing() {
        let (address, seen) = server(b"", false);
        let broken = exchange(&tls(false), address, Deadline::NEVER).unwrap_err();
        assert_eq!(broken.reason, Reason::CONNECTION);
        assert!(broken.message.contains("certificate"), "{}", broken.message);
        assert!(seen.try_recv().is_err());
    }

    #[test]
    fn silence_ends_at_the_deadline_and_at_shutdown() {
        let (address, seen) = server(b"", true);
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(50));
        assert_eq!(exchange(&tls(true), address, deadline).unwrap_err().reason, Reason::TIMEOUT);
        let (address, _) = (address, seen.try_iter().count());
        let tls = tls(true);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| exchange(&tls, address, Deadline::NEVER));
            seen.recv_timeout(LONG).unwrap();
            tls.close();
            assert!(waiting.join().unwrap().is_err());
        });
        assert!(exchange(&tls, address, Deadline::NEVER).is_err());
    }
}
