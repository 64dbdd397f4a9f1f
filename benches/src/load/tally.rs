//! The books of a run: how often each item arrived, and what was answered to each request.
//!
//! # Limits
//!
//! A byte an item and one a request, for the whole run: 200 MB for a thousand seconds at 200 000 items a second.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use otlp_core::Signal;
use otlp_core::wire::index::walk;
use serde::Serialize;

use super::corpus::item_index;
use super::stamp::Stamp;

/// What came of one request, as its sender knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// Never sent.
    Unsent,
    /// Answered with success: every item must arrive once.
    Accepted,
    /// Answered with success, but for some items: those that arrive must not arrive twice.
    Partial,
    /// Told to come back later: nothing should arrive.
    Refused,
    /// Told never to send it again.
    Rejected,
    /// No answer: the connection broke, or the timeout passed.
    Unknown,
}

/// Items that arrived in one body: their request, their index, and how late they are.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Request and index of every item.
    pub items: Vec<(u64, u64)>,
    /// The stamps in it, each once where its items stand together.
    pub stamps: Vec<Stamp>,
    /// Items that carry no stamp or no index.
    pub strangers: u64,
}

impl Arrival {
    /// Reads which items a body has, in place of what was read before.
    pub fn read(&mut self, signal: Signal, body: &[u8]) {
        self.items.clear();
        self.stamps.clear();
        self.strangers = 0;
        let (mut resource_index, mut stamp) = (u32::MAX, None);
        walk(signal, body, |item| {
            if item.resource_index != resource_index {
                resource_index = item.resource_index;
                stamp = Stamp::of_resource(item.resource);
                if self.stamps.last().map(|last| last.request) != stamp.map(|stamp| stamp.request) {
                    self.stamps.extend(stamp);
                }
            }
            match (stamp, item_index(item.kind, item.bytes)) {
                (Some(stamp), Some(index)) => self.items.push((stamp.request, index)),
                _ => self.strangers += 1,
            }
        });
    }
}

/// Counts; shared by all threads of both ends.
#[derive(Debug)]
pub struct Tally {
    items_per_request: u64,
    seen: Mutex<Vec<u8>>,
    fates: Mutex<Vec<u8>>,
    /// Items that arrived, again and again counted.
    pub arrived: AtomicU64,
    /// Bodies that arrived.
    pub bodies: AtomicU64,
    /// Bytes of those, as they came.
    pub bytes: AtomicU64,
    /// Items without stamp or index, and bodies that could not be read.
    pub strangers: AtomicU64,
    /// Items of accepted requests.
    pub accepted: AtomicU64,
    /// Items of requests that were sent.
    pub offered: AtomicU64,
    /// Requests that were not accepted.
    pub not_accepted: AtomicU64,
    /// The sink's answers that were not a success.
    pub turned_away: AtomicU64,
}

impl Tally {
    /// For requests of that many items.
    pub fn new(items_per_request: usize) -> Tally {
        Tally {
            items_per_request: items_per_request.max(1) as u64,
            seen: Mutex::default(),
            fates: Mutex::default(),
            arrived: AtomicU64::new(0),
            bodies: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            not_accepted: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    /// A body arrived, and was taken.
    pub fn arrived(&self, arrival: &Arrival, encoded_len: usize) {
        let mut strangers = arrival.strangers;
        let mut seen = lock(&self.seen);
        for &(request, index) in &arrival.items {
            // A request so far ahead is a damaged stamp: it must not take all memory.
            if index >= self.items_per_request || request > self.bodies.load(Ordering::Relaxed) + (1 << 24) {
                strangers += 1;
                continue;
            }
            let place = (request * self.items_per_request + index) as usize;
            if place >= seen.len() {
                seen.resize((place + 1).next_power_of_two(), 0);
            }
            seen[place] = seen[place].saturating_add(1);
        }
        drop(seen);
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        add(&self.strangers, strangers);
        add(&self.arrived, arrival.items.len() as u64);
        add(&self.bytes, encoded_len as u64);
        add(&self.bodies, 1);
    }

    /// A request was answered, or was not.
    pub fn answered(&self, request: u64, fate: Fate) {
        let mut fates = lock(&self.fates);
        let place = request as usize;
        if place >= fates.len() {
            fates.resize((place + 1).next_power_of_two(), Fate::Unsent as u8);
        }
        fates[place] = fate as u8;
        drop(fates);
        self.offered.fetch_add(self.items_per_request, Ordering::Relaxed);
        match fate {
            Fate::Accepted | Fate::Partial => self.accepted.fetch_add(self.items_per_request, Ordering::Relaxed),
            _ => self.not_accepted.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// The books as they stand.
    pub fn books(&self) -> Books {
        let (seen, fates) = (lock(&self.seen), lock(&self.fates));
        let each = self.items_per_request as usize;
        let mut books = Books { strangers: self.strangers.load(Ordering::Relaxed), ..Books::default() };
        let arrived = |request: usize| seen.get(request * each..(request + 1) * each);
        for (request, &fate) in fates.iter().enumerate() {
            let is = |wanted: Fate| fate == wanted as u8;
            if is(Fate::Unsent) {
                continue;
            }
            books.offered += each as u64;
            let missing = arrived(request).map_or(each, |items| items.iter().filter(|&&times| times == 0).count());
            let there = (each - missing) as u64;
            books.delivered += there;
            if is(Fate::Accepted) {
                books.accepted += each as u64;
                books.lost += missing as u64;
            } else if is(Fate::Partial) {
                books.accepted += each as u64;
                books.rejected_in_part += missing as u64;
            } else {
                books.delivered_unasked += there;
                let name = if is(Fate::Refused) {
                    "refused"
                } else if is(Fate::Rejected) {
                    "rejected"
                } else {
                    "unanswered"
                };
                *books.not_accepted.entry(name).or_default() += each as u64;
            }
        }
        // Beyond the fates too: where the sender is another process, nothing else is known.
        books.doubled = seen.iter().filter(|&&times| times > 1).map(|&times| u64::from(times) - 1).sum();
        books.distinct = seen.iter().filter(|&&times| times > 0).count() as u64;
        books
    }

    /// Items that arrived of requests below the highest that did, and how many of those never came: for a sink alone.
    pub fn gaps(&self) -> u64 {
        let seen = lock(&self.seen);
        let Some(last) = seen.iter().rposition(|&times| times > 0) else { return 0 };
        let last = last / self.items_per_request as usize;
        let end = ((last + 1) * self.items_per_request as usize).min(seen.len());
        seen[..end].iter().filter(|&&times| times == 0).count() as u64
    }
}

/// What became of all items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Sent.
    pub offered: u64,
    /// Of requests answered with success.
    pub accepted: u64,
    /// Of requests not answered with success, by what they were told.
    pub not_accepted: BTreeMap<&'static str, u64>,
    /// Arrived, each counted once, of the requests sent by this process.
    pub delivered: u64,
    /// Arrived, each counted once, whoever sent them.
    pub distinct: u64,
    /// Accepted and never arrived.
    pub lost: u64,
    /// Not arrived of requests that were taken in part.
    pub rejected_in_part: u64,
    /// Arrivals beyond the first.
    pub doubled: u64,
    /// Arrived of requests that were not accepted.
    pub delivered_unasked: u64,
    /// Arrived without a number that could be read, or in a body that could not be.
    pub strangers: u64,
}

impl Books {
    /// Whether exactly the accepted items arrived, each once.
    pub fn balance(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.strangers == 0 && self.delivered_unasked == 0
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offered, {} accepted, {} delivered", self.offered, self.accepted, self.delivered)?;
        for (name, count) in &self.not_accepted {
            write!(f, ", {count} {name}")?;
        }
        for (name, count) in [
            ("LOST", self.lost),
            ("rejected in part", self.rejected_in_part),
            ("DOUBLED", self.doubled),
            ("delivered though not accepted", self.delivered_unasked),
            ("UNRECOGNISED", self.strangers),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(tally: &Tally, items: &[(u64, u64)]) {
        tally.arrived(&Arrival { items: items.to_vec(), ..Arrival::default() }, 1);
    }

    #[test]
    fn every_item_must_arrive_once() {
        let tally = Tally::new(2);
        for request in 0..3 {
            tally.answered(request, Fate::Accepted);
        }
        arrive(&tally, &[(0, 0), (0, 1), (1, 0)]);
        assert_eq!((tally.books().lost, tally.books().balance()), (3, false));
        arrive(&tally, &[(2, 1), (2, 0), (1, 1)]);
        let books = tally.books();
        assert!(books.balance(), "{books}");
        assert_eq!((books.offered, books.accepted, books.delivered, books.distinct), (6, 6, 6, 6));
        arrive(&tally, &[(1, 1)]);
        let books = tally.books();
        assert_eq!((books.doubled, books.delivered, books.balance()), (1, 6, false));
    }

    #[test]
    fn what_was_refused_may_not_arrive_and_is_not_missed() {
        let tally = Tally::new(1);
        for (request, fate) in [Fate::Refused, Fate::Rejected, Fate::Unknown, Fate::Partial].into_iter().enumerate() {
            tally.answered(request as u64, fate);
        }
        let books = tally.books();
        assert!(books.balance());
        assert_eq!(books.not_accepted, BTreeMap::from([("refused", 1), ("rejected", 1), ("unanswered", 1)]));
        assert_eq!((books.accepted, books.rejected_in_part), (1, 1));
        arrive(&tally, &[(2, 0)]);
        assert_eq!((tally.books().delivered_unasked, tally.books().balance()), (1, false));
    }

    #[test]
    fn numbers_out_of_range_are_strangers() {
        let tally = Tally::new(2);
        arrive(&tally, &[(0, 2), (u64::MAX / 4, 0)]);
        assert_eq!((tally.books().strangers, tally.books().distinct), (2, 0));
    }

    #[test]
    fn gaps_end_with_the_last_request_that_arrived() {
        let tally = Tally::new(2);
        assert_eq!(tally.gaps(), 0);
        arrive(&tally, &[(3, 0), (0, 1)]);
        assert_eq!(tally.gaps(), 6);
    }
}
