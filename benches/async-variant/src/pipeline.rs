//! One task a pipeline: processors, batching, and the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use otlp_core::Signal;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::Problem;
use crate::engine::Engine;
use crate::export;
use crate::settings::PipelineSettings;

/// Requests that wait for the pipeline's task.
const INLET_REQUESTS: usize = 1000;

/// Why a sender does not hear OK.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// To be sent again.
    Later(&'static str),
    /// Never to be sent again.
    Never(String),
}

/// What a sender hears.
pub type Answer = Result<(), Refusal>;

/// A sender that waits.
pub type Waiting = oneshot::Sender<Answer>;

/// A request on its way to the pipeline.
pub struct Received<D> {
    data: D,
    waiting: Waiting,
}

/// One or several requests on their way to the exporter, with those who still wait.
pub struct Outgoing<D> {
    pub data: D,
    pub waiting: Vec<Waiting>,
}

/// Where receivers put requests.
pub struct Inlets<E: Engine> {
    pipelines: [Option<mpsc::Sender<Received<E::Data>>>; 3],
    over_limit: Option<Arc<AtomicBool>>,
}

impl<E: Engine> Inlets<E> {
    pub fn new(over_limit: Option<Arc<AtomicBool>>) -> Inlets<E> {
        Inlets { pipelines: [None, None, None], over_limit }
    }

    /// Whether memory is short; to be asked before a body is read.
    pub fn is_over_limit(&self) -> bool {
        self.over_limit.as_ref().is_some_and(|over| over.load(Ordering::Relaxed))
    }

    /// Whether there is a pipeline.
    pub fn takes(&self, signal: Signal) -> bool {
        self.pipelines[signal.index()].is_some()
    }

    /// Hands a request over and waits for the answer.
    pub async fn send(&self, signal: Signal, data: E::Data) -> Answer {
        let stopping = || Refusal::Later("stopping");
        let inlet = self.pipelines[signal.index()].as_ref().ok_or_else(stopping)?;
        let (waiting, answer) = oneshot::channel();
        inlet.send(Received { data, waiting }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Starts a pipeline and its exporter; the tasks end when all receivers have.
///
/// # Errors
///
/// Where the exporter cannot be made.
pub fn start<E: Engine>(
    engine: E,
    settings: &PipelineSettings,
    inlets: &mut Inlets<E>,
) -> Result<[JoinHandle<()>; 2], Problem> {
    let (outlet, exporter) = export::start::<E>(settings.signal, &settings.exporter)?;
    let (sender, inlet) = mpsc::channel(INLET_REQUESTS);
    inlets.pipelines[settings.signal.index()] = Some(sender);
    let early = !settings.exporter.wait_for_result;
    let pipeline = match settings.batch {
        None => tokio::spawn(pass(engine, inlet, outlet, early)),
        Some(batch) => tokio::spawn(join(engine, inlet, outlet, early, batch)),
    };
    Ok([pipeline, exporter])
}

/// Every request by itself. A full queue refuses.
async fn pass<E: Engine>(
    engine: E,
    mut inlet: mpsc::Receiver<Received<E::Data>>,
    outlet: mpsc::Sender<Outgoing<E::Data>>,
    early: bool,
) {
    while let Some(Received { data, waiting }) = inlet.recv().await {
        let permit = match outlet.try_reserve() {
            Ok(permit) => permit,
            Err(error) => {
                let why = match error {
                    TrySendError::Full(()) => "the sending queue is full",
                    TrySendError::Closed(()) => "stopping",
                };
                let _ = waiting.send(Err(Refusal::Later(why)));
                continue;
            }
        };
        let data = engine.process(data);
        if early {
            permit.send(Outgoing { data, waiting: Vec::new() });
            let _ = waiting.send(Ok(()));
        } else {
            permit.send(Outgoing { data, waiting: vec![waiting] });
        }
    }
}

/// Requests joined until there are enough or the time is up. A full queue holds senders up, so nothing is dropped.
async fn join<E: Engine>(
    engine: E,
    mut inlet: mpsc::Receiver<Received<E::Data>>,
    outlet: mpsc::Sender<Outgoing<E::Data>>,
    early: bool,
    batch: crate::settings::BatchSettings,
) {
    let mut held: Option<(Outgoing<E::Data>, usize, Instant)> = None;
    loop {
        let due = held.as_ref().map(|&(_, _, due)| due);
        let received = tokio::select! {
            biased;
            received = inlet.recv() => received,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((outgoing, ..)) = held.take() {
                    let _ = outlet.send(outgoing).await;
                }
                continue;
            }
        };
        let Some(Received { data, waiting }) = received else { break };
        let data = engine.process(data);
        let items = E::items(&data);
        let still = if early {
            let _ = waiting.send(Ok(()));
            None
        } else {
            Some(waiting)
        };
        match &mut held {
            Some((outgoing, count, _)) => {
                E::append(&mut outgoing.data, data);
                outgoing.waiting.extend(still);
                *count += items;
            }
            None => {
                let outgoing = Outgoing { data, waiting: still.into_iter().collect() };
                held = Some((outgoing, items, Instant::now() + batch.timeout));
            }
        }
        let full = held.as_ref().is_some_and(|&(_, count, due)| {
            (batch.send_batch_size > 0 && count >= batch.send_batch_size) || due <= Instant::now()
        });
        if full && let Some((outgoing, ..)) = held.take() {
            let _ = outlet.send(outgoing).await;
        }
    }
    if let Some((outgoing, ..)) = held {
        let _ = outlet.send(outgoing).await;
    }
}
