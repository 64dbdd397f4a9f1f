//! A chain of processors, callable without threads.
//!
//! A chain has two parts. The *prefix* is every processor up to the first that needs memory of other batches: it works on
//! one batch at a time, on any thread, on several at once. The *tail* is the rest, in order, on the pipeline's own
//! thread: it may hold batches back and join them.
//!
//! ```text
//! batch ─▶ prefix: transforms (neighbours fused into one pass) ─▶ tail: stateful, transform, stateful … ─▶ downstream
//! ```
//!
//! # Threads
//!
//! [`Prefix`] may be used from several threads at once, [`Chain`] by its owner alone. Nothing here starts a thread or
//! waits.
//!
//! # On failure
//!
//! A batch refused by the prefix or by the first processor of the tail comes back. One refused further down, where it may
//! have been accepted and acknowledged long ago, goes to [`Downstream::refuse`]: dropped and counted where it was accepted,
//! refused and "send again" where it was not.
//!
//! A panic in the prefix or in the first processor of the tail is not caught here: the stage does that, for each batch.
//! Further down one group may be of many senders, so there it is caught for each part, and [`Downstream::panicked`] hears.
//!
//! # On shutdown
//!
//! [`Chain::flush`] empties the processors in order, so that what the first lets go flows through those behind it before
//! they are emptied themselves.

use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Instant;
use std::vec::IntoIter;

use otlp_core::component::{Downstream, Health, Processor, Refused, Transform};
use otlp_core::flow::gate::Room;
use otlp_core::telemetry::names;
use otlp_core::telemetry::registry::{Counter, Registry};
use otlp_core::thread::catch_panic;
use otlp_core::{Batch, Deadline, Failure, Group, ItemCount, Signal};
use smallvec::SmallVec;

use crate::pass::Pass;

/// Processors in the order in which data goes through them.
///
/// # Examples
///
/// ```
/// use otlp_core::wire::edit::Value;
/// use otlp_core::{Batch, ItemCount, Signal};
/// use otlp_process::attributes::Action;
/// use otlp_process::chain::{Chain, Stateless};
/// use otlp_process::resource::{Config, Resource};
///
/// let action =
///     Action { key: "env".into(), action: "insert".into(), value: Some(Value::string("test")), ..Action::default() };
/// let resource = Resource::new(Config { attributes: vec![action] }).unwrap();
/// let mut chain = Chain::new(vec![Box::new(Stateless::new(resource))]);
///
/// // One log record without anything, of a resource without anything.
/// let body = bytes::Bytes::from_static(&[0x0a, 4, 0x12, 2, 0x12, 0]);
/// let groups = chain.process(Batch::trusted(Signal::Logs, ItemCount(1), body)).unwrap();
/// assert_eq!(groups.len(), 1);
/// assert!(groups[0].parts()[0].body().windows(4).any(|bytes| bytes == b"test"));
/// ```
pub struct Chain {
    prefix: Arc<Prefix>,
    /// The processors whose transforms are the prefix: asked for their health and told of the end, never called.
    stateless: Vec<Box<dyn Processor>>,
    tail: Vec<Link>,
}

/// The part of a chain that remembers nothing.
///
/// # Threads
///
/// Shared freely; see [`Transform`] for the law that makes it correct.
#[derive(Default)]
pub struct Prefix {
    transforms: Vec<Fused>,
}

/// A transform, and the processors whose work it does.
struct Fused {
    transform: Arc<dyn Transform>,
    passages: SmallVec<[Passage; 1]>,
}

/// A processor of the tail: one that remembers, or neighbours that do not and work as one.
enum Link {
    Stateful(Box<dyn Processor>, Passage),
    Stateless(Vec<Box<dyn Processor>>, Prefix),
}

/// Counts the items that go into a processor and those that come out of it: one addition each for a batch.
#[derive(Clone, Debug, Default)]
pub struct Passage {
    incoming: Counter,
    outgoing: Counter,
}

/// A processor that remembers nothing: a transform in a processor's clothes.
#[derive(Clone)]
pub struct Stateless(Arc<dyn Transform>);

impl Chain {
    /// Puts processors behind one another. What passes them is not counted anywhere.
    pub fn new(processors: Vec<Box<dyn Processor>>) -> Chain {
        Chain::counted(processors.into_iter().map(|processor| (Passage::default(), processor)).collect())
    }

    /// Puts processors behind one another, each with where it is counted.
    pub fn counted(processors: Vec<(Passage, Box<dyn Processor>)>) -> Chain {
        let mut processors = processors.into_iter().peekable();
        let (stateless, prefix) = neighbours(&mut processors);
        let mut tail = Vec::new();
        while let Some((passage, processor)) = processors.next() {
            tail.push(Link::Stateful(processor, passage));
            let (stateless, prefix) = neighbours(&mut processors);
            if !stateless.is_empty() {
                tail.push(Link::Stateless(stateless, prefix));
            }
        }
        Chain { prefix: Arc::new(prefix), stateless, tail }
    }

    /// The part that may run on any thread, on several batches at once.
    pub fn prefix(&self) -> Arc<Prefix> {
        Arc::clone(&self.prefix)
    }

    /// Whether anything follows the prefix. Where nothing does, what leaves the prefix leaves the chain.
    pub fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Takes a batch that has been through the prefix through the rest; what comes out, now or at a later call, goes
    /// `downstream`.
    ///
    /// # Errors
    ///
    /// The batch comes back where the first processor of the tail refuses it.
    pub fn process_tail(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        match self.tail.split_first_mut() {
            Some((Link::Stateful(processor, passage), rest)) => {
                passage.incoming.add(batch.items().get());
                processor.process(batch, &mut Relay { passage, rest, downstream, room: None })
            }
            // No tail: one that remembers nothing would be in the prefix.
            _ => {
                downstream.emit(Group::of(batch));
                Ok(())
            }
        }
    }

    /// Lets every processor of the tail do what is due. Says when it wants to be called again at the latest.
    ///
    /// To be called after [`Chain::process_tail`] too: a batch that begins to wait brings its own deadline.
    pub fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for index in 0..self.tail.len() {
            let Some((link, rest)) = self.tail[index..].split_first_mut() else { break };
            let Link::Stateful(processor, passage) = link else { continue };
            let wanted = processor.tick(&mut Relay { passage, rest, downstream, room: None });
            next = match (next, wanted) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            };
        }
        next
    }

    /// Empties every processor of the tail, in order.
    pub fn flush(&mut self, downstream: &mut dyn Downstream) {
        for index in 0..self.tail.len() {
            let Some((link, rest)) = self.tail[index..].split_first_mut() else { break };
            if let Link::Stateful(processor, passage) = link {
                processor.flush(&mut Relay { passage, rest, downstream, room: None });
            }
        }
    }

    /// Ends all processors, after a last [`Chain::flush`].
    pub fn shutdown(&mut self, deadline: Deadline) {
        let tail = self.tail.iter_mut().flat_map(|link| match link {
            Link::Stateful(processor, _) => std::slice::from_mut(processor),
            Link::Stateless(processors, _) => processors,
        });
        for processor in self.stateless.iter_mut().chain(tail) {
            processor.shutdown(deadline);
        }
    }

    /// How the worst of its processors fares.
    pub fn health(&self) -> Health {
        let tail = self.tail.iter().flat_map(|link| match link {
            Link::Stateful(processor, _) => std::slice::from_ref(processor),
            Link::Stateless(processors, _) => processors,
        });
        let all = self.stateless.iter().chain(tail).map(|processor| processor.health());
        all.reduce(|worst, health| if health.state > worst.state { health } else { worst }).unwrap_or_else(Health::ok)
    }

    /// Takes a batch through the whole chain in the caller's thread and gives back what comes out of it now.
    ///
    /// For services that link a chain without a pipeline: there are no queues behind it, so room is never refused. What
    /// processors hold back comes with a later call, or with [`Chain::flush`].
    ///
    /// # Errors
    ///
    /// The batch comes back where it is refused.
    pub fn process(&mut self, batch: Batch) -> Result<Vec<Group>, Refused> {
        let mut collected = Collected(Vec::new());
        if let Some(batch) = self.prefix.apply(batch)? {
            self.process_tail(batch, &mut collected)?;
        }
        Ok(collected.0)
    }
}

impl Passage {
    /// Counts under the processor's id and the pipeline's signal: the places of one processor in several pipelines of a
    /// signal are counted together, as in the Collector.
    pub fn new(registry: &Registry, processor: &str, signal: Signal) -> Passage {
        let counter = |name| {
            let labels = vec![("processor", processor.to_owned()), ("otel.signal", signal.as_str().to_owned())];
            registry.counter(name, None, labels)
        };
        Passage { incoming: counter(names::PROCESSOR_INCOMING), outgoing: counter(names::PROCESSOR_OUTGOING) }
    }
}

impl Prefix {
    /// Puts transforms behind one another, and makes one pass over the bytes of neighbours that can share it. What passes
    /// them is not counted anywhere.
    pub fn new(transforms: Vec<Arc<dyn Transform>>) -> Prefix {
        Prefix::counted(transforms.into_iter().map(|transform| (Passage::default(), transform)).collect())
    }

    /// The same, each with where it is counted.
    fn counted(transforms: Vec<(Passage, Arc<dyn Transform>)>) -> Prefix {
        let mut fused: Vec<Fused> = Vec::with_capacity(transforms.len());
        let mut open: Option<(Pass, SmallVec<[Passage; 1]>)> = None;
        let close = |(pass, passages)| Fused { transform: Arc::new(pass), passages };
        for (passage, transform) in transforms {
            match transform.as_any().and_then(|any| any.downcast_ref::<Pass>()) {
                Some(own) => {
                    let (pass, passages) = open.get_or_insert_default();
                    pass.join(own);
                    passages.push(passage);
                }
                None => {
                    fused.extend(open.take().map(close));
                    fused.push(Fused { transform, passages: SmallVec::from_iter([passage]) });
                }
            }
        }
        fused.extend(open.map(close));
        Prefix { transforms: fused }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.transforms.is_empty()
    }

    /// Takes a batch through it. `None` where nothing is left of it; then it has been settled.
    ///
    /// # Errors
    ///
    /// The batch comes back where one of the transforms refuses it, changed by those before it.
    ///
    /// # Panics
    ///
    /// Where a transform does: nothing is caught here.
    pub fn apply(&self, batch: Batch) -> Result<Option<Batch>, Refused> {
        let mut batch = batch;
        for Fused { transform, passages } in &self.transforms {
            passages.iter().for_each(|passage| passage.incoming.add(batch.items().get()));
            match transform.apply(batch)? {
                Some(left) => batch = left,
                None => return Ok(None),
            }
            passages.iter().for_each(|passage| passage.outgoing.add(batch.items().get()));
        }
        Ok(Some(batch))
    }
}

/// Takes the processors from the front that remember nothing.
fn neighbours(processors: &mut Peekable<IntoIter<(Passage, Box<dyn Processor>)>>) -> (Vec<Box<dyn Processor>>, Prefix) {
    let (mut stateless, mut transforms) = (Vec::new(), Vec::new());
    while let Some(transform) = processors.peek().and_then(|(_, processor)| processor.transform())
        && let Some((passage, processor)) = processors.next()
    {
        transforms.push((passage, transform));
        stateless.push(processor);
    }
    (stateless, Prefix::counted(transforms))
}

/// What a processor of the tail sees as its downstream: the processors behind it, then the chain's own downstream.
struct Relay<'a> {
    /// Of the processor whose downstream it is.
    passage: &'a Passage,
    rest: &'a mut [Link],
    downstream: &'a mut dyn Downstream,
    /// Places in the queues reserved for the batch that is being processed, when an earlier processor held it. They
    /// travel on with what comes out, so that an accepted batch never has to ask twice.
    room: Option<Room>,
}

impl Downstream for Relay<'_> {
    fn emit(&mut self, group: Group) {
        let mut group = group;
        self.passage.outgoing.add(group.items().get());
        if let Some(room) = self.room.take() {
            group.join_room(room);
        }
        pass_on(group, self.rest, self.downstream);
    }

    fn hold(&mut self, batch: &mut Batch, joins: bool) -> Result<Room, Failure> {
        match self.room.take() {
            Some(room) => Ok(room),
            None => self.downstream.hold(batch, joins),
        }
    }

    fn hold_split(&mut self, batch: &mut Batch, begins: u64) -> Result<Room, Failure> {
        match self.room.take() {
            Some(room) => Ok(room),
            None => self.downstream.hold_split(batch, begins),
        }
    }

    fn refuse(&mut self, refused: Refused) {
        self.downstream.refuse(refused);
    }

    fn panicked(&mut self, offered: ItemCount, message: &str) {
        self.downstream.panicked(offered, message);
    }

    fn removed(&mut self, offered: ItemCount) {
        self.downstream.removed(offered);
    }

    fn is_idle(&self) -> bool {
        self.downstream.is_idle()
    }

    fn now(&self) -> Instant {
        self.downstream.now()
    }
}

impl Stateless {
    /// Makes a processor of a transform.
    pub fn new(transform: impl Transform + 'static) -> Stateless {
        Stateless(Arc::new(transform))
    }
}

impl Processor for Stateless {
    fn transform(&self) -> Option<Arc<dyn Transform>> {
        Some(Arc::clone(&self.0))
    }

    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        if let Some(left) = self.0.apply(batch)? {
            downstream.emit(Group::of(left));
        }
        Ok(())
    }
}

/// Takes a group through what is left of the tail.
fn pass_on(group: Group, links: &mut [Link], downstream: &mut dyn Downstream) {
    let mut group = group;
    let Some((next, rest)) = links.split_first_mut() else {
        return downstream.emit(group);
    };
    let mut room = group.take_room();
    match next {
        // A group goes through a transform part by part and stays one group.
        Link::Stateless(_, prefix) => {
            let mut left = Group::new(group.signal());
            for part in group.into_parts() {
                let offered = part.ticket().offered();
                match catch_panic(|| prefix.apply(part)) {
                    Ok(Ok(Some(part))) => left.push(part),
                    Ok(Ok(None)) => downstream.removed(offered),
                    Ok(Err(refused)) => downstream.refuse(refused),
                    Err(message) => downstream.panicked(offered, &message),
                }
            }
            if !left.is_empty() {
                if let Some(room) = room {
                    left.join_room(room);
                }
                pass_on(left, rest, downstream);
            }
        }
        Link::Stateful(processor, passage) => {
            for part in group.into_parts() {
                let offered = part.ticket().offered();
                passage.incoming.add(part.items().get());
                let mut relay = Relay { passage, rest: &mut *rest, downstream: &mut *downstream, room: room.take() };
                // What it held before has tickets of its own, so nothing can be lost without being counted.
                match catch_panic(|| processor.process(part, &mut relay)) {
                    Ok(Ok(())) => {}
                    Ok(Err(refused)) => downstream.refuse(refused),
                    Err(message) => downstream.panicked(offered, &message),
                }
            }
        }
    }
}

struct Collected(Vec<Group>);

impl Downstream for Collected {
    fn emit(&mut self, group: Group) {
        self.0.push(group);
    }

    fn hold(&mut self, _: &mut Batch, _: bool) -> Result<Room, Failure> {
        Ok(Room::default())
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} stateless, {} in the tail)", self.stateless.len(), self.tail.len())
    }
}

impl fmt::Debug for Stateless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stateless")
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({} transforms)", self.transforms.len())
    }
}

#[cfg(test)]
mod tests;
