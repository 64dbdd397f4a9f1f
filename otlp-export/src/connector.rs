//! A destination that is the next pipeline.
//!
//! # What it does
//!
//! Offers each batch to the next pipeline's inlet. What is owed for it here is settled by what becomes of it there: once
//! the next pipeline has queued it, where that was all the sender was promised, else once it has been exported.
//!
//! # Threads
//!
//! In the caller's, the pipeline's own. Where the next inlet asks to be waited for, it waits.
//!
//! # On failure
//!
//! Where the next pipeline refuses, the batch is dropped at this destination and counted, and the sender, who has not
//! heard yet, is told to send again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use otlp_core::component::Outlet;
use otlp_core::{Ack, Group, Outcome, Ticket};

use crate::delivery::Closing;

/// How long to wait before a held batch is offered again. Long enough to cost nothing, short against a network.
const OFFER_AGAIN: Duration = Duration::from_millis(1);

pub(crate) struct Connector {
    id: String,
    outlet: Arc<dyn Outlet>,
    closing: Arc<Closing>,
}

impl Connector {
    pub(crate) fn new(id: String, outlet: Arc<dyn Outlet>, closing: Arc<Closing>) -> Connector {
        Connector { id, outlet, closing }
    }

    pub(crate) fn pass_on(&self, group: Group) {
        for mut batch in group.into_parts() {
            let items = batch.items();
            let ticket = batch.replace_ticket(Ticket::new(items, Ack::nobody()));
            batch.replace_ticket(Ticket::new(items, Ack::chained(ticket)));
            loop {
                let Err(refused) = self.outlet.try_send(batch) else { break };
                batch = *refused.batch;
                if !refused.hold || self.closing.stop.wait(OFFER_AGAIN) {
                    log::debug!("connector {}: the next pipeline refuses: {}", self.id, refused.failure);
                    batch.settle(Outcome::Failed(refused.failure));
                    break;
                }
            }
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({})", self.id)
    }
}
