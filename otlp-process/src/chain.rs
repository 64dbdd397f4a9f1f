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
//! have been accepted and acknowledged long ago, is settled with the failure: dropped and counted where it was accepted,
//! "send again" where it was not. Panics are not caught here: the stage does that, for each batch.
//!
//! # On shutdown
//!
//! [`Chain::flush`] empties the processors in order, so that what the first lets go flows through those behind it before
//! they are emptied themselves.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use otlp_core::component::{Downstream, Health, Processor, Refused, Transform};
use otlp_core::flow::gate::Room;
use otlp_core::{Batch, Deadline, Failure, Group};

/// Processors in the order in which data goes through them.
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
    transforms: Vec<Arc<dyn Transform>>,
}

struct Link {
    processor: Box<dyn Processor>,
    transform: Option<Arc<dyn Transform>>,
}

impl Chain {
    /// Puts processors behind one another.
    pub fn new(processors: Vec<Box<dyn Processor>>) -> Chain {
        let mut processors = processors.into_iter().peekable();
        let (mut stateless, mut transforms) = (Vec::new(), Vec::new());
        while let Some(transform) = processors.peek().and_then(|processor| processor.transform()) {
            transforms.push(transform);
            stateless.extend(processors.next());
        }
        let tail = processors.map(|processor| Link { transform: processor.transform(), processor }).collect();
        Chain { prefix: Arc::new(Prefix::new(transforms)), stateless, tail }
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
            None => {
                downstream.emit(Group::of(batch));
                Ok(())
            }
            Some((first, rest)) => first.take(batch, None, rest, downstream),
        }
    }

    /// Lets every processor of the tail do what is due. Says when it wants to be called again at the latest.
    pub fn tick(&mut self, downstream: &mut dyn Downstream) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for index in 0..self.tail.len() {
            let Some((link, rest)) = self.tail[index..].split_first_mut() else { break };
            let wanted = link.processor.tick(&mut Relay { rest, downstream, room: None });
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
            link.processor.flush(&mut Relay { rest, downstream, room: None });
        }
    }

    /// Ends all processors, after a last [`Chain::flush`].
    pub fn shutdown(&mut self, deadline: Deadline) {
        let tail = self.tail.iter_mut().map(|link| &mut link.processor);
        for processor in self.stateless.iter_mut().chain(tail) {
            processor.shutdown(deadline);
        }
    }

    /// How the worst of its processors fares.
    pub fn health(&self) -> Health {
        let tail = self.tail.iter().map(|link| &link.processor);
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

impl Prefix {
    fn new(transforms: Vec<Arc<dyn Transform>>) -> Prefix {
        Prefix { transforms }
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
        for transform in &self.transforms {
            match transform.apply(batch)? {
                Some(left) => batch = left,
                None => return Ok(None),
            }
        }
        Ok(Some(batch))
    }
}

impl Link {
    fn take(
        &mut self,
        batch: Batch,
        room: Option<Room>,
        rest: &mut [Link],
        downstream: &mut dyn Downstream,
    ) -> Result<(), Refused> {
        let mut relay = Relay { rest, downstream, room };
        match &self.transform {
            Some(transform) => {
                if let Some(left) = transform.apply(batch)? {
                    relay.emit(Group::of(left));
                }
                Ok(())
            }
            None => self.processor.process(batch, &mut relay),
        }
    }
}

/// What a processor of the tail sees as its downstream: the processors behind it, then the chain's own downstream.
struct Relay<'a> {
    rest: &'a mut [Link],
    downstream: &'a mut dyn Downstream,
    /// Places in the queues reserved for the batch that is being processed, when an earlier processor held it. They
    /// travel on with what comes out, so that an accepted batch never has to ask twice.
    room: Option<Room>,
}

impl Downstream for Relay<'_> {
    fn emit(&mut self, group: Group) {
        let mut group = group;
        if let Some(room) = self.room.take() {
            group.join_room(room);
        }
        let Some((next, rest)) = self.rest.split_first_mut() else {
            return self.downstream.emit(group);
        };
        let mut room = group.take_room();
        match &next.transform {
            // A group goes through a transform part by part and stays one group.
            Some(transform) => {
                let mut left = Group::new(group.signal());
                for part in group.into_parts() {
                    match transform.apply(part) {
                        Ok(Some(part)) => left.push(part),
                        Ok(None) => {}
                        Err(refused) => settle(refused),
                    }
                }
                if !left.is_empty() {
                    Relay { rest, downstream: &mut *self.downstream, room }.emit(left);
                }
            }
            None => {
                for part in group.into_parts() {
                    if let Err(refused) = next.take(part, room.take(), rest, self.downstream) {
                        settle(refused);
                    }
                }
            }
        }
    }

    fn hold(&mut self, batch: &mut Batch, joins: bool) -> Result<Room, Failure> {
        match self.room.take() {
            Some(room) => Ok(room),
            None => self.downstream.hold(batch, joins),
        }
    }

    fn now(&self) -> Instant {
        self.downstream.now()
    }
}

fn settle(refused: Refused) {
    refused.batch.settle(refused.failure.into());
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

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({} transforms)", self.transforms.len())
    }
}
