//! What the tests of this crate share: batches in the books of a pipeline, and exporters that do as they are told.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_core::component::{Exporter, Fanout, Health};
use otlp_core::telemetry::ledger::{Ledger, Page};
use otlp_core::{Ack, AckMode, Batch, Deadline, Group, ItemCount, Outcome, Signal};
use otlp_export::{Destination, Destinations};
use prost::Message;

/// Longer than anything here can take, and short enough to end a hanging test.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Traces with `items` spans, named from `first` on.
pub(crate) fn spans(first: u64, items: u64) -> Bytes {
    let spans = (first..first + items)
        .map(|number| Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: format!("span-{number}"),
            ..Span::default()
        })
        .collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// The names of all spans in a body.
pub(crate) fn names(body: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

/// One pipeline's last step: accepts a batch into the books and hands it to the destinations, as a stage does it.
pub(crate) struct Pipeline {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) destinations: Destinations,
}

impl Pipeline {
    pub(crate) fn new(destinations: impl IntoIterator<Item = Arc<Destination>>) -> Pipeline {
        let destinations = Destinations::new(destinations);
        let ids: Vec<String> = destinations.iter().map(|destination| destination.id().to_owned()).collect();
        Pipeline { ledger: Ledger::new("traces", Signal::Traces, ids), destinations }
    }

    /// Sends a batch; what the sender hears comes through the channel. Nothing where it was refused at once.
    pub(crate) fn send(&self, mode: AckMode, first: u64, items: u64) -> Receiver<Outcome> {
        self.send_batch(mode, Batch::trusted(Signal::Traces, ItemCount(items), spans(first, items))).0
    }

    pub(crate) fn send_batch(&self, mode: AckMode, batch: Batch) -> (Receiver<Outcome>, otlp_core::ack::Withdrawal) {
        let (sender, heard) = channel();
        let ack = Ack::new(mode, move |outcome| drop(sender.send(outcome)));
        let withdrawal = ack.withdrawal();
        let mut batch = batch.with_ack(ack);
        match self.destinations.reserve(batch.weight()) {
            Ok(room) => {
                let items = batch.items();
                batch.ticket_mut().accept(&self.ledger, items);
                self.destinations.send(Group::of(batch), room);
            }
            Err(failure) => {
                let mut batch = batch;
                let ticket = otlp_core::Ticket::new(batch.items(), Ack::nobody());
                batch.replace_ticket(ticket).refuse(&self.ledger, failure);
            }
        }
        (heard, withdrawal)
    }

    pub(crate) fn shutdown(&self, deadline: Deadline) {
        self.destinations.iter().for_each(|destination| destination.shutdown(deadline));
    }

    /// The books, which must balance and hold nothing any more.
    pub(crate) fn closed_page(&self) -> Page {
        let page = self.ledger.page();
        assert_eq!(page.balance(), Ok(()));
        assert_eq!(page.held, ItemCount::ZERO);
        for (column, id) in page.destinations.iter().zip(self.ledger.destinations()) {
            assert_eq!(column.held, ItemCount::ZERO, "{id} still holds something");
        }
        page
    }
}

/// An exporter that hands each call to the test and waits for its answer.
pub(crate) struct Asking {
    calls: Mutex<Sender<Call>>,
}

/// A call of an [`Asking`] exporter.
pub(crate) struct Call {
    pub(crate) names: Vec<String>,
    answer: Sender<Outcome>,
}

impl Asking {
    pub(crate) fn new() -> (Arc<Asking>, Receiver<Call>) {
        let (calls, asked) = channel();
        (Arc::new(Asking { calls: Mutex::new(calls) }), asked)
    }
}

impl Call {
    pub(crate) fn answer(self, outcome: impl Into<Outcome>) {
        self.answer.send(outcome.into()).unwrap();
    }
}

impl Exporter for Asking {
    fn export(&self, group: &Group, _deadline: Deadline) -> Outcome {
        let (answer, answered) = channel();
        let call = Call { names: names(&group.joined()), answer };
        self.calls.lock().unwrap().send(call).unwrap();
        answered.recv_timeout(LONG).unwrap()
    }

    fn shutdown(&self, _deadline: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}

/// An exporter made of a function.
pub(crate) struct By<F>(pub F);

impl<F: Fn(&Group, Deadline) -> Outcome + Send + Sync> Exporter for By<F> {
    fn export(&self, group: &Group, deadline: Deadline) -> Outcome {
        self.0(group, deadline)
    }

    fn shutdown(&self, _deadline: Deadline) {}

    fn health(&self) -> Health {
        Health::ok()
    }
}
