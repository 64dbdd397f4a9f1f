//! Servers that take whatever comes, by every way that a client has: http, https, gRPC, and gRPC over TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use otlp_export::client::{Builder, Protocol};
use otlp_export::tls;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::{Seen, serve};

/// How long a connection is waited for before its calls are looked at again.
const TURN: Duration = Duration::from_millis(2);

/// The way that requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum By {
    Http,
    Https,
    Grpc,
    Grpcs,
}

impl By {
    pub(crate) const ALL: [By; 4] = [By::Http, By::Https, By::Grpc, By::Grpcs];

    pub(crate) fn is_grpc(self) -> bool {
        matches!(self, By::Grpc | By::Grpcs)
    }

    fn is_tls(self) -> bool {
        matches!(self, By::Https | By::Grpcs)
    }
}

pub(crate) struct Sink {
    pub(crate) seen: Receiver<Seen>,
    by: By,
    address: SocketAddr,
    /// That of whoever vouches for the server: itself.
    certificate: String,
}

impl Sink {
    /// Each of its threads calls `mark` first.
    pub(crate) fn start(by: By, mark: fn()) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        if by.is_grpc() {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let config = Arc::new(config);
        // Both kinds of thread end with the test's process; nothing waits for them.
        std::thread::spawn(move || {
            mark();
            for (connection, stream) in listener.incoming().enumerate() {
                let (sender, config, stream) = (sender.clone(), Arc::clone(&config), stream.unwrap());
                std::thread::spawn(move || {
                    mark();
                    if by.is_tls() {
                        let tls = ServerConnection::new(config).unwrap();
                        serve_by(by, StreamOwned::new(tls, stream), |stream| &stream.sock, connection, &sender);
                    } else {
                        serve_by(by, stream, |stream| stream, connection, &sender);
                    }
                });
            }
        });
        Sink { seen, by, address, certificate: certificate.pem() }
    }

    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.by.is_tls() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Settings that lead here.
    pub(crate) fn builder(&self, builder: Builder) -> Builder {
        let protocol = if self.by.is_grpc() { Protocol::Grpc } else { Protocol::HttpProtobuf };
        let tls = tls::Config { ca_pem: Some(self.certificate.clone()), ..tls::Config::default() };
        let builder = builder.endpoint(self.url()).protocol(protocol);
        if self.by.is_tls() { builder.tls(tls) } else { builder }
    }
}

fn serve_by<S: Read + Write + Unpin>(
    by: By,
    stream: S,
    socket: fn(&S) -> &TcpStream,
    connection: usize,
    sender: &Sender<Seen>,
) {
    if by.is_grpc() {
        socket(&stream).set_read_timeout(Some(TURN)).unwrap();
        let _ = calls(Patient(stream), connection, sender);
    } else {
        let _ = serve(stream, connection, &Mutex::default(), sender);
    }
}

/// A stream that waits for a while and then says "not now".
struct Patient<S>(S);

fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl<S: Read + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = self.0.read(buffer.initialize_unfilled());
        polled(result.map(|count| buffer.advance(count)))
    }
}

impl<S: Write + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        polled(self.0.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        polled(self.0.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Answers every call with OK.
fn calls<S: Read + Write + Unpin>(stream: Patient<S>, number: usize, sender: &Sender<Seen>) -> Result<(), h2::Error> {
    let context = &mut Context::from_waker(Waker::noop());
    let mut handshake = pin!(h2::server::Builder::new().handshake::<_, Bytes>(stream));
    let mut connection = loop {
        if let Poll::Ready(connection) = handshake.as_mut().poll(context) {
            break connection?;
        }
    };
    let mut open = Vec::new();
    loop {
        while let Poll::Ready(accepted) = connection.poll_accept(context) {
            let Some(accepted) = accepted else { return Ok(()) };
            let (request, respond) = accepted?;
            open.push((request, respond, Vec::new()));
        }
        let mut index = 0;
        while let Some((request, respond, body)) = open.get_mut(index) {
            match request.body_mut().poll_data(context) {
                Poll::Pending => index += 1,
                Poll::Ready(Some(data)) => {
                    let data = data?;
                    body.extend_from_slice(&data);
                    request.body_mut().flow_control().release_capacity(data.len())?;
                }
                Poll::Ready(None) => {
                    let response = http::Response::builder().header("content-type", "application/grpc");
                    let mut answer = respond.send_response(response.body(()).unwrap(), false)?;
                    answer.send_data(Bytes::from_static(&[0; 5]), false)?;
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    answer.send_trailers(trailers)?;
                    let (request, _, mut body) = open.swap_remove(index);
                    let line = request.uri().path().to_owned();
                    // The prefix of the message.
                    body.drain(..5);
                    let _ = sender.send(Seen { connection: number, line, headers: Vec::new(), body });
                }
            }
        }
    }
}
