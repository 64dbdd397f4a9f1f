//! Who is told what became of a batch, and the entry it has in the books.
//!
//! Invariants:
//!
//! - The sender is told exactly once, when every part of its request has an outcome, and it is told the worst of them.
//! - Every part has an outcome: one that is dropped without is counted as lost and answered with "send again", or, where
//!   a panic dropped it, counted as such and answered with "do not send again".
//! - An item stands in exactly one column of the [`Ledger`] for each destination, from acceptance on.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::outcome::{Code, Failure, Outcome, Reason};
use crate::telemetry::ledger::{Account, Ledger};
use crate::unit::ItemCount;

/// What a success answer to a sender means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckMode {
    /// Every destination's queue holds it. What can still lose the data: the process dying.
    Queued,
    /// Every destination's disk queue has it. What can still lose the data: the disk dying.
    Stored,
    /// Every destination confirmed it.
    Exported,
}

/// A share in one request's answer. Clones are further shares; each has to be settled.
///
/// # Threads
///
/// Shares may be settled on any thread. The last one calls the sink on its own thread, so a sink must not block.
pub struct Ack(Option<Arc<Request>>);

struct Request {
    mode: AckMode,
    withdrawn: AtomicBool,
    /// Of the pipeline before, which the sender may withdraw.
    parent: Option<Arc<Request>>,
    state: Mutex<State>,
}

struct State {
    worst: Outcome,
    sink: Option<Sink>,
}

type Sink = Box<dyn FnOnce(Outcome) + Send>;

/// The sender's hand on a request that has not been answered yet.
#[derive(Clone)]
pub struct Withdrawal(Weak<Request>);

impl Ack {
    /// An acknowledgement nobody waits for: data we made ourselves.
    pub const fn nobody() -> Ack {
        Ack(None)
    }

    /// The first share of a request; `sink` is called once with the worst outcome of all shares.
    pub fn new(mode: AckMode, sink: impl FnOnce(Outcome) + Send + 'static) -> Ack {
        Ack::request(mode, None, Box::new(sink))
    }

    /// The first share of what one pipeline hands to the next. The outcome there settles `ticket`, which it has from here;
    /// what the sender was promised and whether it withdrew are inherited.
    pub fn chained(ticket: Ticket) -> Ack {
        let (mode, parent) = (ticket.ack.mode(), ticket.ack.0.clone());
        Ack::request(mode, parent, Box::new(move |outcome| ticket.settle(outcome)))
    }

    fn request(mode: AckMode, parent: Option<Arc<Request>>, sink: Sink) -> Ack {
        Ack(Some(Arc::new(Request {
            mode,
            withdrawn: AtomicBool::new(false),
            parent,
            state: Mutex::new(State { worst: Outcome::Delivered, sink: Some(sink) }),
        })))
    }

    /// What the sender was promised; [`AckMode::Queued`] where nobody waits.
    pub fn mode(&self) -> AckMode {
        self.0.as_ref().map_or(AckMode::Queued, |request| request.mode)
    }

    /// Whether anybody still waits for this share.
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Says that a destination's queue in memory holds this share. Settles it where that was all that was promised.
    pub fn queued(&mut self) {
        if self.mode() == AckMode::Queued {
            self.give(Outcome::Delivered);
        }
    }

    /// Says that a destination's disk queue holds this share. Settles it unless more was promised.
    pub fn stored(&mut self) {
        if self.mode() <= AckMode::Stored {
            self.give(Outcome::Delivered);
        }
    }

    /// Gives this share its outcome.
    pub fn settle(mut self, outcome: Outcome) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Outcome) {
        // A delivered share makes no outcome worse, so only the others need the lock; the last one to go tells.
        if let Some(request) = self.0.take()
            && !matches!(outcome, Outcome::Delivered)
        {
            let mut state = request.state.lock().unwrap_or_else(PoisonError::into_inner);
            let worst = std::mem::replace(&mut state.worst, Outcome::Delivered);
            state.worst = worst.worst(outcome);
        }
    }

    /// Whether the sender has been told to send again, or has gone: then what nobody began to send need not be sent.
    pub fn is_withdrawn(&self) -> bool {
        self.0.as_ref().is_some_and(|request| request.is_withdrawn())
    }

    /// The handle by which the receiver takes the request back.
    pub fn withdrawal(&self) -> Withdrawal {
        Withdrawal(self.0.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }
}

impl Request {
    fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire) || self.parent.as_ref().is_some_and(|parent| parent.is_withdrawn())
    }
}

impl Withdrawal {
    /// Takes the request back: parts that no worker has begun to send will not be sent, and nobody is told any more.
    pub fn withdraw(&self) {
        if let Some(request) = self.0.upgrade() {
            request.withdrawn.store(true, Ordering::Release);
            let sink = request.state.lock().unwrap_or_else(PoisonError::into_inner).sink.take();
            drop(sink);
        }
    }
}

impl Clone for Ack {
    /// Another share of the same request.
    fn clone(&self) -> Ack {
        Ack(self.0.clone())
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.give(Outcome::Failed(lost("the request was lost inside the pipeline")));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = state.sink.take() {
            sink(std::mem::replace(&mut state.worst, Outcome::Delivered));
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Ack(nobody)"),
            Some(request) => write!(f, "Ack({:?}, {} shares)", request.mode, Arc::strong_count(request)),
        }
    }
}

/// What is owed for the items of a batch: an answer to its sender and an entry in the books.
///
/// A ticket goes through three stages: *offered* (in no books yet), *held* (accepted by a pipeline), *assigned* (to one
/// destination). Dropping one without [`Ticket::settle`] counts its items as lost.
#[derive(Debug)]
pub struct Ticket {
    items: ItemCount,
    /// What processors took out while it was only offered: no pipeline's books know of it yet.
    removed: ItemCount,
    ack: Ack,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Offered,
    Held(Arc<Ledger>),
    Assigned(Account),
    Settled,
}

impl Ticket {
    /// For items that nobody has accepted yet.
    pub fn new(items: ItemCount, ack: Ack) -> Ticket {
        Ticket { items, removed: ItemCount::ZERO, ack, stage: Stage::Offered }
    }

    /// The items it stands for.
    pub fn items(&self) -> ItemCount {
        self.items
    }

    /// The share in the request's answer.
    pub fn ack(&self) -> &Ack {
        &self.ack
    }

    /// Whether a pipeline has accepted it.
    pub fn is_accepted(&self) -> bool {
        !matches!(self.stage, Stage::Offered)
    }

    /// The destination's account, once it is assigned.
    pub fn account(&self) -> Option<&Account> {
        match &self.stage {
            Stage::Assigned(account) => Some(account),
            _ => None,
        }
    }

    /// Another share of the same offer, for another pipeline.
    pub fn share(&self) -> Ticket {
        debug_assert!(matches!(self.stage, Stage::Offered), "only an offer can be shared");
        Ticket::new(self.items, self.ack.clone())
    }

    /// What was offered, with what processors have removed of it since; nothing once a pipeline accepted it.
    ///
    /// For whoever has to enter an offer into the books that may have ended meanwhile: settled by a processor that removed
    /// all of it, or dropped by a panic.
    pub fn offered(&self) -> ItemCount {
        match self.stage {
            Stage::Offered => self.items + self.removed,
            _ => ItemCount::ZERO,
        }
    }

    /// Takes out items that a processor removed, as configured. Of an offer, the books hear when it is accepted: taken in
    /// and removed; or refused as a whole.
    pub fn remove(&mut self, items: ItemCount) {
        // A processor cannot remove more than it was given; books that balance matter more than its mistake.
        debug_assert!(items <= self.items, "{items} items removed of {}", self.items);
        let items = items.min(self.items);
        match &self.stage {
            Stage::Offered => self.removed += items,
            Stage::Held(ledger) => ledger.remove(items),
            Stage::Assigned(_) | Stage::Settled => {
                debug_assert!(false, "removed from after it was assigned");
                return;
            }
        }
        self.items -= items;
    }

    /// Enters the items into a pipeline's books: all that was offered was taken in, of which `left` are left after
    /// processors removed the others. Does nothing but the removal on a ticket that was accepted before.
    pub fn accept(&mut self, ledger: &Arc<Ledger>, left: ItemCount) {
        debug_assert!(left <= self.items, "{left} items left of {}", self.items);
        self.remove(self.items.saturating_sub(left));
        if matches!(self.stage, Stage::Offered) {
            let removed = std::mem::take(&mut self.removed);
            ledger.accept(self.items + removed, removed);
            self.stage = Stage::Held(Arc::clone(ledger));
        }
    }

    /// Says that the queues in memory hold it; see [`Ack::queued`].
    pub fn queued(&mut self) {
        self.ack.queued();
    }

    /// Hands the items over to the destinations: one ticket for each, in the order in which the ledger names them.
    ///
    /// # Panics
    ///
    /// Where it was not accepted before: the books could not balance.
    pub fn assign(mut self) -> Vec<Ticket> {
        let Stage::Held(ledger) = std::mem::replace(&mut self.stage, Stage::Settled) else {
            panic!("a ticket is assigned once, after it was accepted")
        };
        let ack = std::mem::replace(&mut self.ack, Ack::nobody());
        let accounts = ledger.assign(self.items);
        let shares = accounts
            .into_iter()
            .map(|account| Ticket {
                items: self.items,
                removed: ItemCount::ZERO,
                ack: ack.clone(),
                stage: Stage::Assigned(account),
            })
            .collect();
        ack.settle(Outcome::Delivered);
        shares
    }

    /// Splits off the first `items` of it, in the same stage. What was removed before is accounted for by the rest.
    pub fn split(&mut self, items: ItemCount) -> Ticket {
        let items = ItemCount(items.get().min(self.items.get()));
        self.items -= items;
        let stage = match &self.stage {
            Stage::Offered => Stage::Offered,
            Stage::Held(ledger) => Stage::Held(Arc::clone(ledger)),
            Stage::Assigned(account) => Stage::Assigned(account.clone()),
            Stage::Settled => Stage::Settled,
        };
        Ticket { items, removed: ItemCount::ZERO, ack: self.ack.clone(), stage }
    }

    /// Gives the items their outcome, in the books and to the sender.
    pub fn settle(mut self, outcome: Outcome) {
        self.book(&outcome, true);
        std::mem::replace(&mut self.ack, Ack::nobody()).settle(outcome);
    }

    /// Refuses an offer, whatever was removed of it: counted in `ledger` as refused, never as accepted.
    pub fn refuse(self, ledger: &Ledger, failure: Failure) {
        if !self.is_accepted() {
            ledger.refuse(self.offered(), failure.reason);
        }
        self.settle(Outcome::Failed(failure));
    }

    /// Drops accepted items as a full queue's policy says: counted, and the sender hears OK, because the policy is not to
    /// hold it up.
    pub fn shed(mut self, reason: Reason) {
        self.book(&Outcome::Failed(Failure::refused(reason, "dropped, as configured")), false);
        std::mem::replace(&mut self.ack, Ack::nobody()).settle(Outcome::Delivered);
    }

    /// `told` says that a sender that still waits will hear of it.
    fn book(&mut self, outcome: &Outcome, told: bool) {
        let told = told && self.ack.is_open();
        match std::mem::replace(&mut self.stage, Stage::Settled) {
            Stage::Offered | Stage::Settled => {}
            Stage::Held(ledger) => match outcome {
                Outcome::Delivered | Outcome::Partial { .. } => ledger.remove(self.items),
                Outcome::Failed(failure) => ledger.drop_held(self.items, failure.reason, told),
            },
            Stage::Assigned(account) => account.settle(self.items, outcome, self.ack.is_withdrawn(), told),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Settled | Stage::Offered) {
            self.book(&Outcome::Failed(lost("the batch was lost inside the pipeline")), true);
        }
    }
}

/// Why something was dropped without an outcome. What is dropped by unwinding was in the hands of whoever panicked: sent
/// again, it would make it panic again, so the sender is told not to.
fn lost(message: &'static str) -> Failure {
    if std::thread::panicking() {
        Failure::rejected(Code::Internal, Reason::PANIC, "a component of the pipeline failed on this request")
    } else {
        Failure::refused(Reason::LOST, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;
    use std::sync::mpsc;

    fn heard() -> (impl FnOnce(Outcome) + Send + 'static, mpsc::Receiver<Outcome>) {
        let (sender, receiver) = mpsc::channel();
        (move |outcome| sender.send(outcome).unwrap(), receiver)
    }

    fn rejected() -> Outcome {
        Outcome::Failed(Failure::rejected(crate::Code::InvalidArgument, Reason::PERMANENT, "no"))
    }

    #[test]
    fn the_sender_hears_the_worst_once_all_shares_are_settled() {
        let (sink, heard) = heard();
        let ack = Ack::new(AckMode::Exported, sink);
        let (two, three) = (ack.clone(), ack.clone());
        two.settle(rejected());
        ack.settle(Outcome::Delivered);
        assert!(heard.try_recv().is_err());
        three.settle(Outcome::Delivered);
        assert_eq!(heard.try_recv(), Ok(rejected()));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_share_dropped_without_an_outcome_asks_to_send_again() {
        let (sink, heard) = heard();
        let ack = Ack::new(AckMode::Queued, sink);
        drop(ack);
        let Ok(Outcome::Failed(failure)) = heard.try_recv() else { panic!("no failure") };
        assert_eq!(failure.reason, Reason::LOST);
        assert!(failure.is_retryable());
    }

    #[test]
    fn what_a_panic_drops_is_rejected() {
        let (sink, heard) = heard();
        let ledger = Ledger::new("traces", Signal::Traces, ["a"]);
        let mut ticket = Ticket::new(ItemCount(3), Ack::new(AckMode::Exported, sink));
        ticket.accept(&ledger, ItemCount(3));
        let thread = std::thread::spawn(move || {
            let _ticket = ticket;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        let Ok(Outcome::Failed(failure)) = heard.try_recv() else { panic!("no failure") };
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::PANIC, false));
        assert_eq!(ledger.page().destinations[0].dropped_for(Reason::PANIC), ItemCount(3));
        assert_eq!(ledger.page().balance(), Ok(()));
    }

    #[test]
    fn queued_settles_only_what_was_promised() {
        for (mode, settles) in [(AckMode::Queued, true), (AckMode::Stored, false), (AckMode::Exported, false)] {
            let (sink, heard) = heard();
            let mut ack = Ack::new(mode, sink);
            ack.queued();
            assert_eq!(heard.try_recv().is_ok(), settles, "{mode:?}");
            ack.settle(Outcome::Delivered);
        }
    }

    #[test]
    fn a_withdrawn_request_tells_nobody() {
        let (sink, heard) = heard();
        let ack = Ack::new(AckMode::Exported, sink);
        let withdrawal = ack.withdrawal();
        assert!(!ack.is_withdrawn());
        withdrawal.withdraw();
        assert!(ack.is_withdrawn());
        ack.settle(Outcome::Delivered);
        assert!(heard.try_recv().is_err());
        withdrawal.withdraw();
    }

    #[test]
    fn a_chained_share_settles_the_pipeline_before() {
        let first = Ledger::new("traces", Signal::Traces, ["forward"]);
        let second = Ledger::new("traces/2", Signal::Traces, ["a"]);
        for (mode, exported_first) in [(AckMode::Queued, true), (AckMode::Exported, false)] {
            let (sink, heard) = heard();
            let ack = Ack::new(mode, sink);
            let withdrawal = ack.withdrawal();
            let mut ticket = Ticket::new(ItemCount(4), ack);
            ticket.accept(&first, ItemCount(4));
            let share = ticket.assign().pop().unwrap();
            let mut next = Ticket::new(ItemCount(4), Ack::chained(share));
            next.accept(&second, ItemCount(3));
            let mut held = next.assign().pop().unwrap();
            held.queued();
            assert_eq!(heard.try_recv().is_ok(), exported_first, "{mode:?}");
            assert!(!held.ack().is_withdrawn());
            withdrawal.withdraw();
            assert_eq!(held.ack().is_withdrawn(), !exported_first, "{mode:?}");
            held.settle(Outcome::Delivered);
            assert_eq!((first.page().balance(), second.page().balance()), (Ok(()), Ok(())));
        }
        assert_eq!(first.page().destinations[0].exported, ItemCount(8));
        assert_eq!(second.page().destinations[0].exported, ItemCount(6));
    }

    #[test]
    fn lost_is_only_what_nobody_was_told() {
        let dropped = || Outcome::Failed(Failure::refused(Reason::SHUTDOWN, "stopping"));
        let partial = || Outcome::Partial { rejected: ItemCount(4), message: "no".into() };
        for (mode, lost) in [(AckMode::Queued, 4), (AckMode::Exported, 0)] {
            for outcome in [rejected(), dropped(), partial()] {
                let ledger = Ledger::new("traces", Signal::Traces, ["a"]);
                let mut ticket = Ticket::new(ItemCount(4), Ack::new(mode, drop));
                ticket.accept(&ledger, ItemCount(4));
                let mut share = ticket.assign().pop().unwrap();
                share.queued();
                share.settle(outcome.clone());
                assert_eq!(ledger.page().destinations[0].lost, ItemCount(lost), "{mode:?} {outcome:?}");
            }
            let ledger = Ledger::new("traces", Signal::Traces, ["a"]);
            let mut held = Ticket::new(ItemCount(4), Ack::new(mode, drop));
            held.accept(&ledger, ItemCount(4));
            held.queued();
            held.settle(dropped());
            assert_eq!(ledger.page().destinations[0].lost, ItemCount(lost), "{mode:?}, held");
        }
        let ledger = Ledger::new("traces", Signal::Traces, ["a"]);
        let mut shed = Ticket::new(ItemCount(4), Ack::new(AckMode::Exported, drop));
        shed.accept(&ledger, ItemCount(4));
        shed.shed(Reason::QUEUE_FULL);
        assert_eq!(ledger.page().destinations[0].lost, ItemCount(4), "the sender of what is shed hears OK");
    }

    #[test]
    fn the_books_balance_whatever_happens_to_a_ticket() {
        let ledger = Ledger::new("traces", Signal::Traces, ["a", "b"]);
        let mut ticket = Ticket::new(ItemCount(10), Ack::nobody());
        ticket.accept(&ledger, ItemCount(8));
        let first = ticket.split(ItemCount(3));
        let mut shares = first.assign().into_iter();
        shares.next().unwrap().settle(Outcome::Delivered);
        shares.next().unwrap().settle(Outcome::Partial { rejected: ItemCount(1), message: "one".into() });
        drop(ticket);
        let page = ledger.page();
        assert_eq!(page.balance(), Ok(()));
        assert_eq!((page.accepted, page.removed), (ItemCount(10), ItemCount(2)));
        assert_eq!(page.destinations[0].exported, ItemCount(3));
        assert_eq!(page.destinations[1].exported, ItemCount(2));
        assert_eq!(page.destinations[1].dropped_for(Reason::LOST), ItemCount(5));
    }
    #[test]
    fn what_is_removed_of_an_offer_is_booked_when_it_is_accepted_or_refused() {
        let ledger = Ledger::new("traces", Signal::Traces, ["a"]);
        let mut ticket = Ticket::new(ItemCount(10), Ack::nobody());
        ticket.remove(ItemCount(3));
        assert_eq!((ticket.items(), ticket.offered()), (ItemCount(7), ItemCount(10)));
        assert_eq!(ledger.page().accepted, ItemCount::ZERO);
        let refused = ticket.split(ItemCount(2));
        ticket.accept(&ledger, ItemCount(5));
        assert_eq!(ticket.offered(), ItemCount::ZERO);
        let page = ledger.page();
        assert_eq!((page.accepted, page.removed, page.held), (ItemCount(8), ItemCount(3), ItemCount(5)));
        ticket.remove(ItemCount(1));
        ticket.accept(&ledger, ItemCount(3));
        let page = ledger.page();
        assert_eq!((page.accepted, page.removed, page.held), (ItemCount(8), ItemCount(5), ItemCount(3)));
        refused.refuse(&ledger, Failure::refused(Reason::QUEUE_FULL, "full"));
        let mut other = Ticket::new(ItemCount(4), Ack::nobody());
        other.remove(ItemCount(4));
        other.refuse(&ledger, Failure::refused(Reason::QUEUE_FULL, "full"));
        assert_eq!(ledger.page().refused[&Reason::QUEUE_FULL], ItemCount(6));
        drop(ticket);
        assert_eq!(ledger.page().balance(), Ok(()));
    }
}
