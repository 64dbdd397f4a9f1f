//! The unit that flows: [`Batch`], and [`Group`], several of them on their way out together.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::ack::{Ack, Ticket};
use crate::codec::Coding;
use crate::flow::gate::{Room, Weight};
use crate::flow::memory::Reservation;
use crate::outcome::{Outcome, Reason};
use crate::signal::Signal;
use crate::unit::{ByteSize, ItemCount};
use crate::wire::Retained;

/// Valid OTLP of one signal, with what is known about where it came from and what is owed for it.
///
/// # Shape
///
/// The body is one `Export*ServiceRequest`, uncompressed, under 4 GiB, completely validated and in canonical shape: no
/// singular field given twice, lists of scalars packed, fields in any order. Never empty of items once a pipeline has it.
///
/// # Threads
///
/// Moves between threads freely; cloning the bytes is free.
#[derive(Debug)]
pub struct Batch {
    signal: Signal,
    body: Bytes,
    encoded: Option<Encoded>,
    context: Arc<Context>,
    memory: Option<Arc<Reservation>>,
    ticket: Ticket,
}

/// The body as it came over the wire, kept so that it can leave that way without a compressor running. It means what the
/// batch means; where the request had an odd shape its bytes are others.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// How it is compressed.
    pub coding: Coding,
    /// The compressed bytes: exactly one complete body of that coding.
    pub body: Bytes,
}

/// Where a batch came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// The receiver's id, as in the configuration.
    pub receiver: Arc<str>,
    /// `http` or `grpc`, as in the `transport` label; empty for other receivers.
    pub transport: &'static str,
    /// The sender's address.
    pub peer: Option<SocketAddr>,
    /// Request metadata by lower-case name, in order of arrival; empty unless `include_metadata` is set.
    pub metadata: Vec<(String, String)>,
    /// What authentication established of the sender, by attribute name: `username`. Empty without.
    pub auth: Vec<(String, String)>,
}

impl Context {
    /// What authentication established of the sender under that name.
    pub fn auth(&self, attribute: &str) -> Option<&str> {
        self.auth.iter().find(|(name, _)| name == attribute).map(|(_, value)| value.as_str())
    }

    /// All values of a metadata key; its case does not matter.
    pub fn metadata<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.metadata.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }
}

impl Batch {
    /// Wraps bytes of which the caller knows that they are what the type promises: they come from the validator, or
    /// from an operation that keeps its promise.
    pub fn trusted(signal: Signal, items: ItemCount, body: Bytes) -> Batch {
        Batch {
            signal,
            body,
            encoded: None,
            context: Arc::default(),
            memory: None,
            ticket: Ticket::new(items, Ack::nobody()),
        }
    }

    /// The same with an acknowledgement that somebody waits for.
    pub fn with_ack(mut self, ack: Ack) -> Batch {
        self.ticket = Ticket::new(self.ticket.items(), ack);
        self
    }

    /// The same with where it came from.
    pub fn with_context(mut self, context: Arc<Context>) -> Batch {
        self.context = context;
        self
    }

    /// The same with the compressed form in which it came.
    pub fn with_encoded(mut self, encoded: Encoded) -> Batch {
        self.encoded = Some(encoded);
        self
    }

    /// The same with the memory it takes, to be given back when its last part is gone.
    pub fn with_memory(mut self, memory: Reservation) -> Batch {
        self.memory = Some(Arc::new(memory));
        self
    }

    /// Its signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Its number of items.
    pub fn items(&self) -> ItemCount {
        self.ticket.items()
    }

    /// Its bytes, uncompressed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The size of its bytes, uncompressed.
    pub fn size(&self) -> ByteSize {
        ByteSize::from(self.body.len())
    }

    /// The compressed form in which it came, as long as nothing was changed.
    pub fn encoded(&self) -> Option<&Encoded> {
        self.encoded.as_ref()
    }

    /// Where it came from.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What is owed for it.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// What is owed for it.
    pub fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }

    /// Exchanges what is owed for it, where one pipeline hands it to the next. Both tickets stand for as many items.
    pub fn replace_ticket(&mut self, ticket: Ticket) -> Ticket {
        debug_assert_eq!(ticket.items(), self.items(), "a ticket stands for the items of its batch");
        std::mem::replace(&mut self.ticket, ticket)
    }

    /// What it takes of a gate's capacity.
    pub fn weight(&self) -> Weight {
        Weight { requests: 1, items: self.items().get(), bytes: self.size().get() }
    }

    /// The same batch with other bytes and as many items. The compressed form is forgotten.
    pub fn with_body(mut self, body: Bytes) -> Batch {
        self.body = body;
        self.encoded = None;
        self
    }

    /// What is left of it after a processor removed items, as configured: the books hear of them. `None` where nothing is
    /// left; then its sender has been told that all is well. The compressed form is forgotten where anything was removed.
    pub fn retained(mut self, left: Retained) -> Option<Batch> {
        if left.kept == ItemCount::ZERO {
            self.settle(Outcome::Delivered);
            return None;
        }
        if left.removed == ItemCount::ZERO {
            return Some(self);
        }
        self.ticket.remove(left.removed);
        Some(self.with_body(left.body))
    }

    /// Splits off the first `items` items, whose bytes are `first`; what stays has the bytes `rest`.
    ///
    /// The caller made both bodies and knows their counts.
    pub fn split_off(&mut self, items: ItemCount, first: Bytes, rest: Bytes) -> Batch {
        let ticket = self.ticket.split(items);
        self.body = rest;
        self.encoded = None;
        Batch {
            signal: self.signal,
            body: first,
            encoded: None,
            context: Arc::clone(&self.context),
            memory: self.memory.clone(),
            ticket,
        }
    }

    /// The same bytes offered to another pipeline as well. The sender hears once all of them have an outcome.
    pub fn share(&self) -> Batch {
        self.again(self.ticket.share())
    }

    fn again(&self, ticket: Ticket) -> Batch {
        Batch {
            signal: self.signal,
            body: self.body.clone(),
            encoded: self.encoded.clone(),
            context: Arc::clone(&self.context),
            memory: self.memory.clone(),
            ticket,
        }
    }

    /// One batch for each destination of the pipeline that accepted it, in the ledger's order.
    ///
    /// # Panics
    ///
    /// As [`Ticket::assign`].
    pub fn assign(mut self) -> Vec<Batch> {
        let ticket = std::mem::replace(&mut self.ticket, Ticket::new(ItemCount::ZERO, Ack::nobody()));
        ticket.assign().into_iter().map(|ticket| self.again(ticket)).collect()
    }

    /// Ends its journey.
    pub fn settle(self, outcome: Outcome) {
        self.ticket.settle(outcome);
    }

    /// Takes the ticket and lets the bytes go.
    pub fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

/// Batches of one signal on their way out together, to be written one after another as one request.
///
/// `Export*ServiceRequest` is a repeated field, so the bodies in sequence are the joined request.
#[derive(Debug)]
pub struct Group {
    signal: Signal,
    parts: SmallVec<[Batch; 1]>,
    items: ItemCount,
    size: ByteSize,
    room: Option<Room>,
}

impl Group {
    /// An empty group: only to be filled.
    pub fn new(signal: Signal) -> Group {
        Group { signal, parts: SmallVec::new(), items: ItemCount::ZERO, size: ByteSize::ZERO, room: None }
    }

    /// A group of one.
    pub fn of(batch: Batch) -> Group {
        let mut group = Group::new(batch.signal());
        group.push(batch);
        group
    }

    /// Adds a batch at the end.
    ///
    /// # Panics
    ///
    /// Where it is of another signal.
    pub fn push(&mut self, batch: Batch) {
        assert_eq!(batch.signal(), self.signal, "a group has one signal");
        self.items += batch.items();
        self.size += batch.size();
        self.parts.push(batch);
    }

    /// Adds all parts of another group, and its room.
    ///
    /// # Panics
    ///
    /// Where it is of another signal.
    pub fn append(&mut self, mut other: Group) {
        if let Some(room) = other.room.take() {
            self.join_room(room);
        }
        for batch in other.parts {
            self.push(batch);
        }
    }

    /// Its signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The batches, in order.
    pub fn parts(&self) -> &[Batch] {
        &self.parts
    }

    /// The batches, in order. What is changed here must keep its item count and size.
    pub fn parts_mut(&mut self) -> &mut [Batch] {
        &mut self.parts
    }

    /// Takes it apart. The room is given back.
    pub fn into_parts(self) -> impl Iterator<Item = Batch> {
        self.parts.into_iter()
    }

    /// Items of all parts.
    pub fn items(&self) -> ItemCount {
        self.items
    }

    /// Bytes of all parts, uncompressed.
    pub fn size(&self) -> ByteSize {
        self.size
    }

    /// Whether it has no parts.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What it takes of a gate's capacity: one request.
    pub fn weight(&self) -> Weight {
        Weight { requests: 1, items: self.items.get(), bytes: self.size.get() }
    }

    /// The bodies, for one vectored write.
    pub fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.parts.iter().map(|batch| IoSlice::new(batch.body()))
    }

    /// The bodies as one piece: free for a group of one, a copy otherwise.
    pub fn joined(&self) -> Bytes {
        match self.parts.as_slice() {
            [only] => only.body().clone(),
            parts => {
                let mut joined = Vec::with_capacity(self.size.as_usize());
                for batch in parts {
                    joined.extend_from_slice(batch.body());
                }
                joined.into()
            }
        }
    }

    /// The room that was reserved for it in the destinations' queues, if it was.
    pub fn take_room(&mut self) -> Option<Room> {
        self.room.take()
    }

    /// Room reserved in the destinations' queues, if there is any yet.
    pub fn room_mut(&mut self) -> &mut Option<Room> {
        &mut self.room
    }

    /// Adds room that was reserved for a part of it.
    pub fn join_room(&mut self, room: Room) {
        match &mut self.room {
            Some(own) => own.join(room),
            None => self.room = Some(room),
        }
    }

    /// One group for each destination of the pipeline that accepted all of its parts, in the ledger's order.
    ///
    /// # Panics
    ///
    /// As [`Ticket::assign`].
    pub fn assign(self, destinations: usize) -> Vec<Group> {
        let mut groups: Vec<Group> = (0..destinations).map(|_| Group::new(self.signal)).collect();
        for batch in self.parts {
            for (group, share) in groups.iter_mut().zip(batch.assign()) {
                group.push(share);
            }
        }
        groups
    }

    /// Takes out the parts whose senders have been told to send again, or have gone, and settles them as withdrawn.
    ///
    /// To be called before each attempt that is the first: what was begun stays.
    pub fn remove_withdrawn(&mut self) {
        if self.parts.iter().all(|batch| !batch.ticket().ack().is_withdrawn()) {
            return;
        }
        let parts = std::mem::take(&mut self.parts);
        self.items = ItemCount::ZERO;
        self.size = ByteSize::ZERO;
        for batch in parts {
            if batch.ticket().ack().is_withdrawn() {
                batch.settle(crate::Failure::refused(Reason::WITHDRAWN, "the sender sends it again").into());
            } else {
                self.push(batch);
            }
        }
    }

    /// Says that a queue in memory holds it; see [`Ack::queued`].
    pub fn queued(&mut self) {
        for batch in &mut self.parts {
            batch.ticket_mut().queued();
        }
    }

    /// Ends its journey. Items rejected in part are charged to the parts in order: the destination does not say whose
    /// they were.
    pub fn settle(self, outcome: Outcome) {
        let mut outcome = outcome;
        for batch in self.parts {
            let share = match &mut outcome {
                Outcome::Partial { rejected, message } if self.items > batch.items() => {
                    let part = ItemCount(rejected.get().min(batch.items().get()));
                    *rejected -= part;
                    if part == ItemCount::ZERO {
                        Outcome::Delivered
                    } else {
                        Outcome::Partial { rejected: part, message: Arc::clone(message) }
                    }
                }
                outcome => outcome.clone(),
            };
            batch.settle(share);
        }
    }
}
