//! Receivers that are one receiver, with a lane each.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::component::{Health, HealthState, Outlets, Receiver, StartError};
use otlp_core::{Deadline, Signal};
use parking_lot::Mutex;

use super::{Merge, Options};

/// How long those that were started may take to stop again where another could not be started.
const START_FAILED_DEADLINE: Duration = Duration::from_secs(5);

/// Several receivers whose batches reach each pipeline in fair turns.
///
/// # Threads
///
/// Those of the receivers, and one for each signal that a pipeline takes. Stopping takes one for each receiver while it
/// lasts.
pub struct Merged {
    receivers: Vec<(String, Box<dyn Receiver>)>,
    options: Options,
    merges: Vec<Merge>,
}

impl Merged {
    /// Receivers with their ids, in the order in which they are started.
    pub fn new(receivers: Vec<(String, Box<dyn Receiver>)>, options: Options) -> Merged {
        Merged { receivers, options, merges: Vec::new() }
    }
}

impl Receiver for Merged {
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError> {
        let mut lanes: Vec<Outlets> = self.receivers.iter().map(|_| Outlets::default()).collect();
        for signal in Signal::ALL {
            let Some(outlet) = outlets.get(signal) else { continue };
            let name = format!("{}-{}", self.options.name, self.merges.len());
            let options = Options { name, ..self.options.clone() };
            let merge = Merge::start(Arc::clone(outlet), lanes.len(), options)?;
            for (number, own) in lanes.iter_mut().enumerate() {
                if let Some(lane) = merge.lane(number) {
                    own.set(signal, lane);
                }
            }
            self.merges.push(merge);
        }
        let started = self.receivers.iter_mut().zip(lanes).try_for_each(|((id, receiver), own)| {
            receiver.start(own).map_err(|error| StartError {
                message: format!("receiver {id}: {}", error.message),
                source: error.source,
            })
        });
        if started.is_err() {
            // None is to go on alone; nothing has come in yet.
            self.shutdown(Deadline::after(Instant::now(), START_FAILED_DEADLINE));
        }
        started
    }

    fn shutdown(&mut self, deadline: Deadline) {
        // Side by side, as the service stops its own; behind locks, so that one whose thread cannot be made is at hand.
        let receivers: Vec<_> = self.receivers.iter_mut().map(|(_, receiver)| Mutex::new(receiver)).collect();
        std::thread::scope(|scope| {
            for (number, receiver) in receivers.iter().enumerate() {
                let spawned = std::thread::Builder::new()
                    .name(format!("{}stop-{number}", self.options.thread.prefix))
                    .spawn_scoped(scope, || receiver.lock().shutdown(deadline));
                if spawned.is_err() {
                    receiver.lock().shutdown(deadline);
                }
            }
        });
        self.merges.drain(..).for_each(|mut merge| merge.shutdown(deadline));
    }

    fn health(&self) -> Health {
        let worst = self
            .receivers
            .iter()
            .map(|(id, receiver)| (id, receiver.health()))
            .reduce(|worst, other| if other.1.state > worst.1.state { other } else { worst });
        match worst {
            Some((id, health)) if health.state != HealthState::Ok && !health.message.is_empty() => {
                Health { message: format!("receiver {id}: {}", health.message), ..health }
            }
            Some((_, health)) => health,
            None => Health::ok(),
        }
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.receivers.iter().map(|(id, _)| id)).finish()
    }
}
