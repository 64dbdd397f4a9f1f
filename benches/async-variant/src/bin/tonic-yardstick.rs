//! A minimal tonic server on one thread: takes OTLP/gRPC as raw bytes, counts the items by walking over them, and answers.
//! What the gRPC receiver is measured against: `tonic-yardstick ADDRESS`.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use otlp_core::Signal;
use otlp_core::wire::validate::{Limits, validate};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::transport::server::TcpIncoming;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static ITEMS: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4317".to_owned());
    let incoming = TcpIncoming::from(otlp_async_variant::settings::listen(&address).map_err(|e| e.to_string())?);
    let stop = async {
        if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            signal.recv().await;
        }
    };
    tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_concurrent_streams(100)
        .serve_with_incoming_shutdown(Server, incoming.with_nodelay(Some(true)), stop)
        .await?;
    println!("items {}", ITEMS.load(Ordering::Relaxed));
    Ok(())
}

#[derive(Clone)]
struct Server;

impl Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = |signal| otlp_async_variant::grpc::path(signal);
        let signal = Signal::ALL.into_iter().find(|&signal| path(signal) == request.uri().path());
        Box::pin(async move {
            let Some(signal) = signal else { return Ok(Status::unimplemented("").into_http()) };
            let mut grpc = tonic::server::Grpc::new(Raw)
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(64 << 20);
            Ok(grpc.unary(Count(signal), request).await)
        })
    }
}

struct Count(Signal);

impl Service<tonic::Request<Bytes>> for Count {
    type Response = tonic::Response<()>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        // The very check that our receiver makes, so that only the transports differ.
        ready(match validate(self.0, request.get_ref(), &Limits::default()) {
            Ok(checked) => {
                ITEMS.fetch_add(checked.items.get(), Ordering::Relaxed);
                Ok(tonic::Response::new(()))
            }
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        })
    }
}

/// Bytes in, the empty message out.
struct Raw;

impl Codec for Raw {
    type Encode = ();
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
