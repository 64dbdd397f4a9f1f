//! The books: for each pipeline and destination, where every accepted item is.
//!
//! For every destination d, at every moment, in items:
//!
//! ```text
//! accepted = removed + exported(d) + rejected(d) + dropped(d) + held + held(d)
//! ```
//!
//! `held` is before the destinations' queues, `held(d)` in d's queue or on its way. Refused items were never accepted.
//!
//! Invariants:
//!
//! - Every method moves items from one column to another under one lock, so a page is balanced whenever it is taken.
//! - Items are moved by [`crate::ack::Ticket`] only, which stands in exactly one column.
//!
//! The lock is taken a few times for each batch, never for each item, and nothing is done under it but adding.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use crate::outcome::{Outcome, Reason};
use crate::signal::Signal;
use crate::unit::ItemCount;

/// The books of one pipeline.
pub struct Ledger {
    pipeline: String,
    signal: Signal,
    names: Vec<String>,
    page: Mutex<Page>,
    /// Who is to be woken when no destination has anything any more. Taken only under the lock of `page`.
    wake: Mutex<Option<Sender<()>>>,
}

/// The books at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Taken in by the pipeline.
    pub accepted: ItemCount,
    /// Taken out by a processor, as configured.
    pub removed: ItemCount,
    /// Accepted and in no destination's queue yet.
    pub held: ItemCount,
    /// Never accepted: the sender was told to send again, or that it should not.
    pub refused: BTreeMap<Reason, ItemCount>,
    /// One for each destination, in the order of [`Ledger::destinations`].
    pub destinations: Vec<Column>,
}

/// One destination's side of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Confirmed by the destination.
    pub exported: ItemCount,
    /// In its queue, or being sent, or waiting to be sent again.
    pub held: ItemCount,
    /// What the destination said it will never take.
    pub rejected: BTreeMap<Reason, ItemCount>,
    /// What was accepted and lost, and why.
    pub dropped: BTreeMap<Reason, ItemCount>,
    /// Exported although the sender was told to send again: it may arrive twice. Part of `exported`.
    pub maybe_duplicated: ItemCount,
    /// Dropped or rejected after the sender had heard OK, so that nobody knows but these books. Part of both.
    pub lost: ItemCount,
}

/// A destination's place in a ledger.
#[derive(Clone)]
pub struct Account {
    ledger: Arc<Ledger>,
    destination: usize,
}

/// Books that do not balance: a defect of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Imbalance {
    /// The destination's index.
    pub destination: usize,
    /// What was taken in.
    pub accepted: ItemCount,
    /// The sum of all columns.
    pub found: ItemCount,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items accepted, {} accounted for at destination {}", self.accepted, self.found, self.destination)
    }
}

impl std::error::Error for Imbalance {}

impl Ledger {
    /// Opens the books of a pipeline.
    pub fn new<S: Into<String>>(
        pipeline: impl Into<String>,
        signal: Signal,
        destinations: impl IntoIterator<Item = S>,
    ) -> Arc<Ledger> {
        let names: Vec<String> = destinations.into_iter().map(Into::into).collect();
        let page = Page { destinations: vec![Column::default(); names.len()], ..Page::default() };
        Arc::new(Ledger { pipeline: pipeline.into(), signal, names, page: Mutex::new(page), wake: Mutex::new(None) })
    }

    /// The pipeline's id.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The pipeline's signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The destinations' ids.
    pub fn destinations(&self) -> &[String] {
        &self.names
    }

    /// The books as they are now. Balanced, always.
    pub fn page(&self) -> Page {
        self.lock().clone()
    }

    /// Whether no destination has anything. Where one has, `wake` is sent to, once, when none has any more.
    ///
    /// Sending never waits: the channel should have room for one.
    pub fn is_idle_or_wake(&self, wake: &Sender<()>) -> bool {
        let page = self.lock();
        let idle = page.is_idle();
        if !idle {
            *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake.clone());
        }
        idle
    }

    fn lock(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accept(&self, items: ItemCount, removed: ItemCount) {
        let mut page = self.lock();
        page.accepted += items;
        page.removed += removed;
        page.held += items - removed;
    }

    pub(crate) fn remove(&self, items: ItemCount) {
        let mut page = self.lock();
        page.held -= items;
        page.removed += items;
    }

    pub(crate) fn refuse(&self, items: ItemCount, reason: Reason) {
        *self.lock().refused.entry(reason).or_default() += items;
    }

    pub(crate) fn drop_held(&self, items: ItemCount, reason: Reason, told: bool) {
        if items == ItemCount::ZERO {
            return;
        }
        let mut page = self.lock();
        page.held -= items;
        for column in &mut page.destinations {
            *column.dropped.entry(reason).or_default() += items;
            column.lost += if told { ItemCount::ZERO } else { items };
        }
    }

    pub(crate) fn assign(self: Arc<Ledger>, items: ItemCount) -> Vec<Account> {
        {
            let mut page = self.lock();
            page.held -= items;
            for column in &mut page.destinations {
                column.held += items;
            }
        }
        (0..self.names.len()).map(|destination| Account { ledger: Arc::clone(&self), destination }).collect()
    }
}

impl Account {
    /// The books it stands in.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The destination's id.
    pub fn destination(&self) -> &str {
        &self.ledger.names[self.destination]
    }

    /// The destination's index.
    pub fn index(&self) -> usize {
        self.destination
    }

    /// `told` says that the sender hears of it: it waits for the outcome, or was told to send again.
    pub(crate) fn settle(&self, items: ItemCount, outcome: &Outcome, withdrawn: bool, told: bool) {
        if items == ItemCount::ZERO {
            return;
        }
        let mut page = self.ledger.lock();
        page.destinations[self.destination].settle(items, outcome, withdrawn, told);
        if page.is_idle()
            && let Some(wake) = self.ledger.wake.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // A full channel has woken them already.
            let _ = wake.try_send(());
        }
    }
}

impl Column {
    fn settle(&mut self, items: ItemCount, outcome: &Outcome, withdrawn: bool, told: bool) {
        self.held -= items;
        let rejected = match outcome {
            Outcome::Delivered => ItemCount::ZERO,
            Outcome::Partial { rejected, .. } => ItemCount(rejected.get().min(items.get())),
            Outcome::Failed(failure) => {
                let by_reason = if failure.is_retryable() { &mut self.dropped } else { &mut self.rejected };
                *by_reason.entry(failure.reason).or_default() += items;
                self.lost += if told { ItemCount::ZERO } else { items };
                return;
            }
        };
        if rejected != ItemCount::ZERO {
            *self.rejected.entry(Reason::PARTIAL_SUCCESS).or_default() += rejected;
            self.lost += if told { ItemCount::ZERO } else { rejected };
        }
        self.exported += items - rejected;
        if withdrawn {
            self.maybe_duplicated += items - rejected;
        }
    }
}

impl Column {
    /// The sum over all reasons.
    pub fn rejected_total(&self) -> ItemCount {
        self.rejected.values().copied().sum()
    }

    /// What was dropped, but for what its sender had not heard OK for and had been told to send again, or had gone.
    pub fn lost_total(&self) -> ItemCount {
        self.dropped.iter().filter(|(reason, _)| **reason != Reason::WITHDRAWN).map(|(_, items)| *items).sum()
    }

    /// The sum over all reasons.
    pub fn dropped_total(&self) -> ItemCount {
        self.dropped.values().copied().sum()
    }

    /// Items dropped for one reason.
    pub fn dropped_for(&self, reason: Reason) -> ItemCount {
        self.dropped.get(&reason).copied().unwrap_or_default()
    }

    /// Items rejected for one reason.
    pub fn rejected_for(&self, reason: Reason) -> ItemCount {
        self.rejected.get(&reason).copied().unwrap_or_default()
    }
}

impl Page {
    fn is_idle(&self) -> bool {
        self.destinations.iter().all(|column| column.held == ItemCount::ZERO)
    }

    /// Whether every accepted item stands in exactly one column.
    ///
    /// # Errors
    ///
    /// With the first destination for which that is not so.
    pub fn balance(&self) -> Result<(), Imbalance> {
        for (destination, column) in self.destinations.iter().enumerate() {
            let found = self.removed
                + column.exported
                + column.rejected_total()
                + column.dropped_total()
                + self.held
                + column.held;
            if found != self.accepted {
                return Err(Imbalance { destination, accepted: self.accepted, found });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("pipeline", &self.pipeline)
            .field("destinations", &self.names)
            .field("page", &self.page())
            .finish()
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({} of {})", self.destination(), self.ledger.pipeline)
    }
}
