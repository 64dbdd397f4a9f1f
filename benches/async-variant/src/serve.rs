//! OTLP/HTTP in.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use otlp_core::codec::{self, Coding};
use otlp_core::{ByteSize, Signal};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Problem;
use crate::engine::Engine;
use crate::pipeline::{Inlets, Refusal};

/// As otlpd's default, before and after inflating.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Serves until told to stop, and then until every open request is answered.
///
/// # Errors
///
/// Where the listener fails.
pub async fn serve<E: Engine>(
    listener: TcpListener,
    inlets: Arc<Inlets<E>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Problem> {
    let mut router = Router::new();
    for signal in Signal::ALL.into_iter().filter(|&signal| inlets.takes(signal)) {
        let handler = move |state: State<Arc<Inlets<E>>>, request: Request| take::<E>(signal, state, request);
        router = router.route(&format!("/v1/{signal}"), post(handler));
    }
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(inlets);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let stop = async move {
        let _ = stopped.wait_for(|&stopped| stopped).await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(())
}

async fn take<E: Engine>(signal: Signal, State(inlets): State<Arc<Inlets<E>>>, request: Request) -> Response {
    if inlets.is_over_limit() {
        // Unread, hyper would end the connection with it, and a sender that still writes would not see the answer.
        discard(request.into_body()).await;
        return later("memory is short");
    }
    let Some(coding) = coding(request.headers()) else { return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response() };
    let body = match <Bytes as axum::extract::FromRequest<()>>::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let data = match decode::<E>(signal, coding, body) {
        Ok(data) => data,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    match inlets.send(signal, data).await {
        // An empty message: all of it was taken.
        Ok(()) => ([(CONTENT_TYPE, "application/x-protobuf")], Bytes::new()).into_response(),
        Err(Refusal::Later(why)) => later(why),
        Err(Refusal::Never(why)) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// Reads a body and keeps nothing of it.
async fn discard(mut body: Body) {
    while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
}

fn decode<E: Engine>(signal: Signal, coding: Coding, body: Bytes) -> Result<E::Data, String> {
    if coding == Coding::Identity {
        return E::decode(signal, body);
    }
    let plain = codec::decode(coding, &body, ByteSize(BODY_BYTES_MAX as u64), &mut |_| Ok(()))
        .map_err(|error| format!("{error:?}"))?;
    Ok(E::came_as(E::decode(signal, Bytes::from(plain))?, coding, body))
}

fn coding(headers: &HeaderMap) -> Option<Coding> {
    let name = headers.get(CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?"));
    Coding::from_header(name).filter(|coding| matches!(coding, Coding::Identity | Coding::Gzip | Coding::Zstd))
}

fn later(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
}
