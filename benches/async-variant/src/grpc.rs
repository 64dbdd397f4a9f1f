//! OTLP/gRPC in, and what a message is to tonic in either direction.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use otlp_core::Signal;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::transport::server::TcpIncoming;

use crate::Problem;
use crate::engine::Engine;
use crate::pipeline::{Inlets, Refusal};

/// As otlpd's default.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The method of a signal.
pub const fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// Serves until told to stop, and then until every open call is answered.
///
/// # Errors
///
/// Where the listener fails.
pub async fn serve<E: Engine>(
    listener: TcpListener,
    inlets: Arc<Inlets<E>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Problem> {
    let stop = async move {
        let _ = stopped.wait_for(|&stopped| stopped).await;
    };
    tonic::transport::Server::builder()
        // Windows and streams as otlpd's.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_concurrent_streams(100)
        .serve_with_incoming_shutdown(Otlp(inlets), TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await?;
    Ok(())
}

struct Otlp<E: Engine>(Arc<Inlets<E>>);

impl<E: Engine> Clone for Otlp<E> {
    fn clone(&self) -> Self {
        Otlp(Arc::clone(&self.0))
    }
}

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<E: Engine> Service<http::Request<Body>> for Otlp<E> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pinned<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inlets = Arc::clone(&self.0);
        let signal = Signal::ALL.into_iter().find(|&signal| path(signal) == request.uri().path());
        Box::pin(async move {
            let Some(signal) = signal.filter(|&signal| inlets.takes(signal)) else {
                return Ok(Status::unimplemented("no pipeline takes that").into_http());
            };
            if inlets.is_over_limit() {
                return Ok(Status::unavailable("memory is short").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(ServerCodec::<E>(signal, PhantomData))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(Export { signal, inlets }, request).await)
        })
    }
}

struct Export<E: Engine> {
    signal: Signal,
    inlets: Arc<Inlets<E>>,
}

impl<E: Engine> Service<tonic::Request<E::Data>> for Export<E> {
    type Response = tonic::Response<()>;
    type Error = Status;
    type Future = Pinned<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<E::Data>) -> Self::Future {
        let (signal, inlets) = (self.signal, Arc::clone(&self.inlets));
        Box::pin(async move {
            match inlets.send(signal, request.into_inner()).await {
                Ok(()) => Ok(tonic::Response::new(())),
                Err(Refusal::Later(why)) => Err(Status::unavailable(why)),
                Err(Refusal::Never(why)) => Err(Status::invalid_argument(why)),
            }
        })
    }
}

/// Requests in, empty answers out.
struct ServerCodec<E>(Signal, PhantomData<fn() -> E>);

/// Requests out, answers in: of which nothing is looked at.
pub struct ClientCodec<E>(PhantomData<fn() -> E>);

impl<E> Default for ClientCodec<E> {
    fn default() -> Self {
        ClientCodec(PhantomData)
    }
}

/// The empty message, or one that is not looked at.
pub struct Nothing;

impl<E: Engine> Codec for ServerCodec<E> {
    type Encode = ();
    type Decode = E::Data;
    type Encoder = Nothing;
    type Decoder = ServerCodec<E>;

    fn encoder(&mut self) -> Nothing {
        Nothing
    }

    fn decoder(&mut self) -> ServerCodec<E> {
        ServerCodec(self.0, PhantomData)
    }
}

impl<E: Engine> Decoder for ServerCodec<E> {
    type Item = E::Data;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<E::Data>, Status> {
        E::decode(self.0, from).map(Some).map_err(Status::invalid_argument)
    }
}

impl<E: Engine> Codec for ClientCodec<E> {
    type Encode = Arc<E::Data>;
    type Decode = ();
    type Encoder = ClientCodec<E>;
    type Decoder = Nothing;

    fn encoder(&mut self) -> ClientCodec<E> {
        ClientCodec::default()
    }

    fn decoder(&mut self) -> Nothing {
        Nothing
    }
}

impl<E: Engine> Encoder for ClientCodec<E> {
    type Item = Arc<E::Data>;
    type Error = Status;

    fn encode(&mut self, data: Arc<E::Data>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(E::encoded_len(&data));
        E::write(&data, to);
        Ok(())
    }
}

impl Encoder for Nothing {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Nothing {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use bytes::Buf as _;
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
