//! Each against prost's decode, change, encode; the contract; the books and the answers.

mod items;
mod windows;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use otlp_core::component::Downstream;
use otlp_core::flow::gate::Room;
use otlp_core::telemetry::ledger::Ledger;
use otlp_core::{Ack, AckMode, Batch, Clock, Failure, Group, ItemCount, Outcome, Reason};

/// How many generated cases each property has; `OTLPD_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

/// A batch whose sender waits.
fn asked(batch: Batch, mode: AckMode) -> (Batch, Receiver<Outcome>) {
    let (sender, heard) = channel();
    (batch.with_ack(Ack::new(mode, move |outcome| drop(sender.send(outcome)))), heard)
}

/// The end of a pipeline with one destination, which keeps what comes until it is told what becomes of it.
struct End {
    ledger: Arc<Ledger>,
    clock: Clock,
    full: bool,
    out: Vec<Group>,
}

impl End {
    fn new(signal: otlp_core::Signal) -> End {
        let ledger = Ledger::new("closures", signal, ["only"]);
        End { ledger, clock: Clock::simulated(), full: false, out: Vec::new() }
    }

    fn sizes(&self) -> Vec<u64> {
        self.out.iter().map(|group| group.items().get()).collect()
    }

    /// What the destination makes of all that came.
    fn settle(&mut self, outcome: &Outcome) {
        for group in self.out.drain(..) {
            group.assign(1).into_iter().for_each(|group| group.settle(outcome.clone()));
        }
    }

    /// The books, which balance: accepted, removed, exported, held.
    fn books(&self) -> [u64; 4] {
        let page = self.ledger.page();
        assert_eq!(page.balance(), Ok(()));
        let destination = &page.destinations[0];
        [page.accepted, page.removed, destination.exported, page.held + destination.held].map(ItemCount::get)
    }
}

impl Downstream for End {
    fn emit(&mut self, group: Group) {
        let mut group = group;
        for batch in group.parts_mut() {
            let items = batch.items();
            batch.ticket_mut().accept(&self.ledger, items);
        }
        group.queued();
        self.out.push(group);
    }

    fn hold(&mut self, batch: &mut Batch, _: bool) -> Result<Room, Failure> {
        if self.full {
            return Err(Failure::refused(Reason::QUEUE_FULL, "full"));
        }
        let items = batch.items();
        batch.ticket_mut().accept(&self.ledger, items);
        batch.ticket_mut().queued();
        Ok(Room::default())
    }

    fn removed(&mut self, offered: ItemCount) {
        let mut ticket = otlp_core::Ticket::new(offered, Ack::nobody());
        ticket.accept(&self.ledger, ItemCount::ZERO);
        ticket.settle(Outcome::Delivered);
    }

    fn now(&self) -> std::time::Instant {
        self.clock.now()
    }
}
