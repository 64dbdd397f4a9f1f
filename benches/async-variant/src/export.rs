//! The sending queue, its consumers, retries, and the two transports.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use otlp_core::Signal;
use otlp_core::codec::Coding;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use crate::Problem;
use crate::engine::Engine;
use crate::grpc::{ClientCodec, path};
use crate::pipeline::{Answer, Outgoing, Refusal};
use crate::settings::ExporterSettings;

/// How an attempt failed, and how long the backend wants us to wait.
struct Failed(Refusal, Option<Duration>);

enum Client {
    Http { client: reqwest::Client, url: reqwest::Url },
    Grpc(Channel),
}

/// Starts the exporter's task: it ends, with all that it began, when its channel is closed and empty.
///
/// # Errors
///
/// Where the client cannot be made.
#[expect(clippy::type_complexity, reason = "a sender and a handle")]
pub fn start<E: Engine>(
    signal: Signal,
    settings: &ExporterSettings,
) -> Result<(mpsc::Sender<Outgoing<E::Data>>, JoinHandle<()>), Problem> {
    let client = if settings.grpc {
        let endpoint = Endpoint::from_shared(settings.url.clone())?.tcp_nodelay(true);
        Client::Grpc(endpoint.initial_connection_window_size(1 << 20).connect_lazy())
    } else {
        let client = reqwest::Client::builder().no_proxy().http1_only().tcp_nodelay(true).build()?;
        Client::Http { client, url: settings.url.parse()? }
    };
    let exporter = Arc::new((client, settings.clone()));
    let (outlet, mut queue) = mpsc::channel::<Outgoing<E::Data>>(settings.queue_size);
    let consumers = settings.consumers;
    let task = tokio::spawn(async move {
        let free = Arc::new(Semaphore::new(consumers));
        while let Some(outgoing) = queue.recv().await {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
            let exporter = Arc::clone(&exporter);
            tokio::spawn(async move {
                let (client, settings) = &*exporter;
                let answer = deliver::<E>(client, settings, signal, outgoing.data).await;
                for waiting in outgoing.waiting {
                    let _ = waiting.send(answer.clone());
                }
                drop(permit);
            });
        }
        // Whoever holds a permit is still sending.
        let all = u32::try_from(consumers).unwrap_or(u32::MAX);
        let _ = free.acquire_many(all).await;
    });
    Ok((outlet, task))
}

/// Tries until it is delivered, refused for good, or no longer worth it.
async fn deliver<E: Engine>(client: &Client, settings: &ExporterSettings, signal: Signal, data: E::Data) -> Answer {
    let began = Instant::now();
    let mut interval = settings.retry.map(|retry| retry.initial);
    // Encoded once for HTTP, whatever happens; tonic encodes each attempt into its frame.
    let body = match client {
        Client::Http { .. } => Body::<E>::Bytes(E::body(&data, settings.compression)),
        Client::Grpc(_) => Body::Data(Arc::new(data)),
    };
    loop {
        let attempt = async {
            match (client, &body) {
                (Client::Http { client, url }, Body::Bytes(body)) => {
                    post(client, url.clone(), settings.compression, body.clone()).await
                }
                (Client::Grpc(channel), Body::Data(data)) => {
                    call::<E>(channel.clone(), settings.compression, signal, Arc::clone(data)).await
                }
                _ => unreachable!("the body is made for the client"),
            }
        };
        let attempt = match settings.timeout.is_zero() {
            true => attempt.await,
            false => tokio::time::timeout(settings.timeout, attempt)
                .await
                .unwrap_or(Err(Failed(Refusal::Later("the backend does not answer"), None))),
        };
        let Failed(refusal, wanted) = match attempt {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let (Some(retry), Some(next), Refusal::Later(_)) = (settings.retry, interval, &refusal) else {
            return Err(refusal);
        };
        let pause = next.max(wanted.unwrap_or_default());
        if !retry.elapsed.is_zero() && began.elapsed() + pause > retry.elapsed {
            return Err(refusal);
        }
        interval = Some(next.mul_f64(1.5).min(retry.max));
        sleep(pause).await;
    }
}

enum Body<E: Engine> {
    Bytes(Bytes),
    Data(Arc<E::Data>),
}

async fn post(client: &reqwest::Client, url: reqwest::Url, coding: Coding, body: Bytes) -> Result<(), Failed> {
    let mut request = client.post(url).header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    if coding != Coding::Identity {
        request = request.header(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    }
    let unreachable = |_| Failed(Refusal::Later("the backend cannot be reached"), None);
    let answer = request.body(body).send().await.map_err(unreachable)?;
    let status = answer.status();
    let wanted = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // To its end, so that the connection can be used again.
    let text = answer.bytes().await.map_err(unreachable)?;
    match status.as_u16() {
        200..=299 => Ok(()),
        429 | 502 | 503 | 504 => Err(Failed(Refusal::Later("the backend refuses"), wanted.map(Duration::from_secs))),
        code => Err(Failed(Refusal::Never(format!("the backend says {code}: {}", text.escape_ascii())), None)),
    }
}

async fn call<E: Engine>(channel: Channel, coding: Coding, signal: Signal, data: Arc<E::Data>) -> Result<(), Failed> {
    let mut client = tonic::client::Grpc::new(channel);
    client = match coding {
        Coding::Gzip => client.send_compressed(CompressionEncoding::Gzip),
        Coding::Zstd => client.send_compressed(CompressionEncoding::Zstd),
        _ => client,
    };
    client.ready().await.map_err(|_| Failed(Refusal::Later("the backend cannot be reached"), None))?;
    let path = http::uri::PathAndQuery::from_static(path(signal));
    match client.unary(tonic::Request::new(data), path, ClientCodec::<E>::default()).await {
        Ok(_) => Ok(()),
        Err(status) => Err(match status.code() {
            tonic::Code::Cancelled
            | tonic::Code::DeadlineExceeded
            | tonic::Code::Aborted
            | tonic::Code::OutOfRange
            | tonic::Code::Unavailable
            | tonic::Code::DataLoss
            | tonic::Code::ResourceExhausted => Failed(Refusal::Later("the backend refuses"), None),
            code => Failed(Refusal::Never(format!("the backend says {code}: {}", status.message())), None),
        }),
    }
}
