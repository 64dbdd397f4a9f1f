//! When connections want to be looked at again: one entry a connection in a heap, put right when it comes up.
//!
//! A connection's deadline moves with nearly every request, nearly always to later. So an entry is only made when the
//! deadline is earlier than the one that stands; one that comes up too early is put back. No heap operation a request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The deadlines of one driver's connections.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
}

/// What stands in the heap for one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry(Option<Instant>);

impl Timers {
    /// Sees to it that `key` comes up at `deadline` or before.
    pub(crate) fn set(&mut self, key: u64, entry: &mut Entry, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if entry.0.is_none_or(|standing| deadline < standing) {
            entry.0 = Some(deadline);
            self.heap.push(Reverse((deadline, key)));
        }
    }

    /// When the next entry comes up.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry that has come up. Its connection must be given to [`Timers::came_up`], and then be set again.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Instant, u64)> {
        match self.heap.peek() {
            Some(Reverse((at, _))) if *at <= now => self.heap.pop().map(|Reverse(entry)| entry),
            _ => None,
        }
    }

    /// Whether an entry that came up is the one that stands; an older one was replaced by an earlier.
    pub(crate) fn came_up(entry: &mut Entry, at: Instant) -> bool {
        let stands = entry.0 == Some(at);
        if stands {
            entry.0 = None;
        }
        stands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_entry_comes_up_by_its_earliest_deadline_and_later_ones_cost_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut timers, mut entry) = (Timers::default(), Entry::default());
        timers.set(1, &mut entry, Some(at(60)));
        (61..1000).for_each(|ms| timers.set(1, &mut entry, Some(at(ms))));
        assert_eq!(timers.heap.len(), 1);
        timers.set(1, &mut entry, Some(at(10)));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.take(at(9)), None);
        let (due, key) = timers.take(at(10)).unwrap();
        assert!(key == 1 && Timers::came_up(&mut entry, due));
        timers.set(1, &mut entry, Some(at(70)));
        let (due, _) = timers.take(at(60)).unwrap();
        assert!(!Timers::came_up(&mut entry, due), "was replaced");
        let (due, _) = timers.take(at(70)).unwrap();
        assert!(Timers::came_up(&mut entry, due));
        assert_eq!(timers.next(), None);
    }
}
