//! The traits that receivers, processors and exporters implement, and what is promised on both sides.
//!
//! # Life cycle
//!
//! - `start` returns quickly: it binds and spawns, it does not wait for a peer. A destination that is down does not delay
//!   the start.
//! - `shutdown` is safe at any time and twice, returns by its deadline, and joins what the component spawned.
//! - After `shutdown` nothing is accepted; what was accepted before has been handed on, or settled with an outcome.
//! - A batch that is not taken comes back in the error, or has been settled. Never neither.
//! - No method panics on input. A panic is caught by the caller: the batch is rejected, counted, and the next goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::batch::{Batch, Group};
use crate::flow::gate::{Room, Weight};
use crate::outcome::{Failure, Outcome};
use crate::shutdown::Deadline;
use crate::signal::Signal;
use crate::unit::ItemCount;

/// How a component fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// In one word.
    pub state: HealthState,
    /// For a person: what is wrong and since when. Empty when nothing is.
    pub message: String,
}

/// How a component fares, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// Works.
    Ok,
    /// Not started yet.
    Starting,
    /// Does not work now but may again without anybody's help.
    Unhealthy,
    /// Does not work and will not without help.
    Failed,
    /// Stopped on request.
    Stopped,
}

impl Health {
    /// All is well.
    pub fn ok() -> Health {
        Health { state: HealthState::Ok, message: String::new() }
    }

    /// Something is wrong that may pass.
    pub fn unhealthy(message: impl Into<String>) -> Health {
        Health { state: HealthState::Unhealthy, message: message.into() }
    }
}

/// A batch that was not taken, and why.
pub struct Refused {
    /// It comes back, as it went.
    pub batch: Box<Batch>,
    /// Why.
    pub failure: Failure,
    /// Whether whoever sends should hold it and try again rather than answer: the gate's policy is to block.
    pub hold: bool,
}

/// Where a receiver puts what it received: the inlet of one pipeline, or of several.
///
/// # Threads
///
/// Called from the receiver's threads; never blocks, so that one full pipeline does not hold up the others' senders.
pub trait Outlet: Send + Sync {
    /// Hands a batch over. Its acknowledgement says later what became of it.
    ///
    /// # Errors
    ///
    /// The batch comes back with the reason.
    fn try_send(&self, batch: Batch) -> Result<(), Refused>;

    /// What the receiver's thread may look after beside its own sockets: the connections over which what it hands over
    /// leaves. Then nobody has to be woken between a request and its way out, nor between the two answers.
    fn guests(&self) -> Vec<Arc<dyn Guest>> {
        Vec::new()
    }
}

/// Sockets that are waited for by a thread that waits for others anyway: its *host*.
///
/// # Threads
///
/// Has at most one host at a time, and a thread of its own where it has none and needs one.
pub trait Guest: Send + Sync {
    /// Readable, and stays so, while there is something to do.
    #[cfg(unix)]
    fn source(&self) -> std::os::fd::BorrowedFd<'_>;

    /// Does what is ready and what is due. Never waits, and lets no panic out.
    fn turn(&self);

    /// When [`Guest::turn`] is to be called at the latest though nothing is ready. Where another thread than the host makes
    /// that sooner, the source is made readable.
    fn due(&self) -> Option<Instant>;

    /// Asks whether the calling thread may be the host; false where another is.
    fn adopt(&self) -> bool;

    /// Says that the host that [`Guest::adopt`] let in will not call any more.
    fn release(&self);
}

/// The outlets of a receiver: one for each signal that a pipeline takes from it.
#[derive(Clone, Default)]
pub struct Outlets([Option<Arc<dyn Outlet>>; 3]);

impl Outlets {
    /// The outlet for a signal, if any pipeline takes it.
    pub fn get(&self, signal: Signal) -> Option<&Arc<dyn Outlet>> {
        self.0[signal.index()].as_ref()
    }

    /// Sets the outlet for a signal.
    pub fn set(&mut self, signal: Signal, outlet: Arc<dyn Outlet>) {
        self.0[signal.index()] = Some(outlet);
    }
}

/// Why a component could not be started; names the key that mends it.
#[derive(Debug)]
pub struct StartError {
    /// What was being done, with what values, and the remedy.
    pub message: String,
    /// The cause, if there is one below.
    pub source: Option<std::io::Error>,
}

/// Takes telemetry in.
pub trait Receiver: Send {
    /// Binds and begins to receive.
    ///
    /// # Errors
    ///
    /// Where it cannot: the address is in use, say.
    fn start(&mut self, outlets: Outlets) -> Result<(), StartError>;

    /// Stops accepting, answers what is open until the deadline, and joins its threads.
    fn shutdown(&mut self, deadline: Deadline);

    /// How it fares.
    fn health(&self) -> Health;
}

/// Where processors put what they are done with, and where they ask before they hold something back.
pub trait Downstream {
    /// Passes a group on.
    fn emit(&mut self, group: Group);

    /// Asks for room in every destination's queue for a batch that a processor wants to hold, and enters it into the
    /// books: from here on it counts as accepted and cannot be refused any more. Where room in memory is all that the
    /// sender was promised, it hears OK now.
    ///
    /// `joins` says that the batch will leave together with others that have a place already.
    ///
    /// # Errors
    ///
    /// Where a destination that is not to lose anything has no room. The batch is unchanged.
    fn hold(&mut self, batch: &mut Batch, joins: bool) -> Result<Room, Failure>;

    /// As [`Downstream::hold`] for a batch that is to be split: `begins` says how many groups it will begin. What it
    /// does not begin it joins. The parts' room is split off from what is given back.
    ///
    /// # Errors
    ///
    /// As [`Downstream::hold`].
    fn hold_split(&mut self, batch: &mut Batch, begins: u64) -> Result<Room, Failure> {
        self.hold(batch, begins == 0)
    }

    /// Ends the journey of a batch that a processor refused and that cannot come back to whoever sent it: an earlier
    /// processor emitted it. Dropped and counted where it was accepted before, refused where it was not.
    fn refuse(&mut self, refused: Refused) {
        refused.batch.settle(refused.failure.into());
    }

    /// Reports that a processor panicked on a batch that an earlier processor emitted. The batch is gone; where it had been
    /// accepted that is in the books. `offered` is what [`Ticket::offered`](crate::Ticket::offered) said, for where it had
    /// not; the sender has been told.
    fn panicked(&mut self, offered: ItemCount, message: &str) {
        log::error!("a processor panicked: {message}; {offered} items had not been accepted");
    }

    /// Enters into the books that a processor removed, as configured, all of a batch that was not accepted before. `offered`
    /// is what [`Ticket::offered`](crate::Ticket::offered) said; the sender has been told.
    fn removed(&mut self, offered: ItemCount) {
        let _ = offered;
    }

    /// Whether nothing else is open: no batch waits to be processed and no destination has any, so that every open
    /// request waits in the processor that asks.
    fn is_idle(&self) -> bool {
        false
    }

    /// The time of this turn.
    fn now(&self) -> Instant;
}

/// Changes, removes, holds back or joins batches.
///
/// # Threads
///
/// Called on the pipeline's own thread, in arrival order. One whose [`Processor::transform`] is given is not called at
/// all: its transform is run instead, on any thread, on several batches at once.
pub trait Processor: Send {
    /// What it does, where that needs no memory of other batches.
    fn transform(&self) -> Option<Arc<dyn Transform>> {
        None
    }

    /// Takes a batch and emits it, or others, now or later.
    ///
    /// # Errors
    ///
    /// The batch comes back where it is refused.
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused>;

    /// Does what is due, and says when it wants to be called again at the latest.
    fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        let _ = downstream;
        None
    }

    /// Emits all that is held, in arrival order.
    fn flush(&mut self, downstream: &mut dyn Downstream) {
        let _ = downstream;
    }

    /// Ends it, after a last [`Processor::flush`].
    fn shutdown(&mut self, deadline: Deadline) {
        let _ = deadline;
    }

    /// How it fares.
    fn health(&self) -> Health {
        Health::ok()
    }
}

/// The part of a processor that works on one batch at a time and remembers nothing.
///
/// # Threads
///
/// Called from several threads at once, on whole batches. The law: batches are independent, and their order does not
/// matter.
pub trait Transform: Send + Sync {
    /// Gives the batch back, changed or not; `None` where all of its items were removed, and then it has been settled.
    /// Removing is done by [`Batch::retained`], which settles it too.
    ///
    /// # Errors
    ///
    /// The batch comes back where it is refused.
    fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused>;

    /// For fusing: how this transform can be one step in a pass over the bytes that does the work of several.
    ///
    /// Downcast by the chain; a transform from outside need not give it.
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }
}

/// The destinations of a pipeline, as its processing stage sees them.
///
/// # Threads
///
/// Called on the pipeline's thread. May block where a destination is configured to block.
pub trait Fanout: Send + Sync {
    /// Reserves a place in every destination's queue, all or nothing.
    ///
    /// # Errors
    ///
    /// Where a destination that is to refuse has no room; then nothing is reserved anywhere.
    fn reserve(&self, weight: Weight) -> Result<Room, Failure>;

    /// As [`Fanout::reserve`], never waiting: for those who hold places themselves, which they could not give up while
    /// they wait.
    ///
    /// # Errors
    ///
    /// As [`Fanout::reserve`], and where it would have to wait.
    fn try_reserve(&self, weight: Weight) -> Result<Room, Failure> {
        self.reserve(weight)
    }

    /// Hands a group whose tickets have all been accepted to every destination, into the room that was reserved for it.
    fn send(&self, group: Group, room: Room);

    /// Whether [`Fanout::reserve`] or [`Fanout::send`] may hold up its caller, so that no thread may call it that others
    /// rely on.
    fn may_wait(&self) -> bool {
        true
    }

    /// As [`Outlet::guests`].
    fn guests(&self) -> Vec<Arc<dyn Guest>> {
        Vec::new()
    }
}

/// Hears what became of a group that [`Exporter::begin`] took, and gets it back. `None`: it was not sent, and may be sent by
/// [`Exporter::export`] at once.
///
/// Called once, on whatever thread; must not block.
pub type Landed = Box<dyn FnOnce(Group, Option<Outcome>) + Send>;

/// Hands telemetry to a destination.
///
/// # Threads
///
/// `export` is called from several workers at once and blocks its caller.
pub trait Exporter: Send + Sync {
    /// Sends a group once and says what became of it. The caller retries, settles and counts.
    fn export(&self, group: &Group, deadline: Deadline) -> Outcome;

    /// Whether it is worth calling [`Exporter::begin`] at all.
    fn begins(&self) -> bool {
        false
    }

    /// As [`Exporter::export`] for a caller that must not wait: begins to send, and says later what became of it.
    ///
    /// # Errors
    ///
    /// Both come back where that cannot be done without waiting, where a connection would have to be made first, say.
    fn begin(&self, group: Group, deadline: Deadline, landed: Landed) -> Result<(), Box<(Group, Landed)>> {
        let _ = deadline;
        Err(Box::new((group, landed)))
    }

    /// What [`Exporter::begin`] sent, waiting for its answers.
    fn guest(&self) -> Option<Arc<dyn Guest>> {
        None
    }

    /// Closes connections and files. What is being exported is finished or given up by the deadline.
    fn shutdown(&self, deadline: Deadline);

    /// How it fares.
    fn health(&self) -> Health;
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("failure", &self.failure).field("hold", &self.hold).finish_non_exhaustive()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}

impl fmt::Debug for Outlets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Signal::ALL.into_iter().filter(|&signal| self.get(signal).is_some())).finish()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
