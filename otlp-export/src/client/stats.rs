//! What became of what was recorded.

use std::fmt;

use otlp_core::{Failure, ItemCount, Reason, Signal};

const REASONS: usize = Reason::ALL.len();

/// Items that were lost, by reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Losses([u64; REASONS]);

/// The account of one signal, or of all three, in items: `recorded = delivered + held + dropped`, at every moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given to the client. What it [refused](otlp_core::flow::gate::WhenFull::Refuse) is not among them.
    pub recorded: ItemCount,
    /// The destination confirmed them.
    pub delivered: ItemCount,
    /// They wait to be sent, or are on their way.
    pub held: ItemCount,
    /// They are lost.
    pub dropped: Losses,
}

/// The account of a client, as it is now: see [`super::OtlpClient::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub(crate) signals: [Counts; 3],
    /// Items that came back to the caller: no room, under [`Refuse`](otlp_core::flow::gate::WhenFull::Refuse), or after
    /// shutdown.
    pub refused: ItemCount,
    /// Requests that were sent, each attempt one.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
}

/// What a flush or a shutdown comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Items that the destination confirmed.
    pub delivered: ItemCount,
    /// Items that still wait, or are on their way. None after a shutdown.
    pub held: ItemCount,
    /// Items that were lost.
    pub dropped: Losses,
}

/// Something was lost.
#[derive(Clone, PartialEq)]
pub struct Lost(Box<(Report, Option<Failure>)>);

impl Lost {
    /// What was lost, and what was not.
    pub fn report(&self) -> &Report {
        &self.0.0
    }

    /// What the last attempt that failed died of, where any did: most likely why.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.0.1.as_ref()
    }
}

impl Losses {
    /// How many items, for any reason.
    pub fn total(&self) -> ItemCount {
        ItemCount(self.0.iter().sum())
    }

    /// How many for that reason.
    pub fn of(&self, reason: Reason) -> ItemCount {
        ItemCount(self.0[reason.index()])
    }

    /// The reasons for which any were, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, ItemCount)> + '_ {
        Reason::ALL.iter().map(|&reason| (reason, self.of(reason))).filter(|(_, count)| count.get() > 0)
    }

    pub(crate) fn add(&mut self, reason: Reason, items: u64) {
        self.0[reason.index()] += items;
    }

    /// What came after `earlier`.
    fn since(&self, earlier: &Losses) -> Losses {
        Losses(std::array::from_fn(|index| self.0[index].saturating_sub(earlier.0[index])))
    }
}

impl Default for Losses {
    fn default() -> Losses {
        Losses([0; REASONS])
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(reason, count)| (reason.as_str(), count.get()))).finish()
    }
}

impl Stats {
    /// The account of one signal.
    pub fn of(&self, signal: Signal) -> Counts {
        self.signals[signal.index()]
    }

    /// The account of all signals together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in &self.signals {
            total.recorded += counts.recorded;
            total.delivered += counts.delivered;
            total.held += counts.held;
            for (sum, count) in total.dropped.0.iter_mut().zip(counts.dropped.0) {
                *sum += count;
            }
        }
        total
    }

    /// What came after `earlier`, and what is held now.
    pub(crate) fn report_since(&self, earlier: &Stats) -> Report {
        let (now, then) = (self.total(), earlier.total());
        Report {
            delivered: now.delivered.saturating_sub(then.delivered),
            held: now.held,
            dropped: now.dropped.since(&then.dropped),
        }
    }
}

impl Report {
    /// The report, or the loss that it tells of, with the failure that came last.
    pub(crate) fn into_result(self, last: Option<&Failure>) -> Result<Report, Lost> {
        if self.dropped.total().get() == 0 { Ok(self) } else { Err(Lost(Box::new((self, last.cloned())))) }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self.report().dropped;
        write!(f, "{} of the items recorded are lost", dropped.total())?;
        for (index, (reason, count)) in dropped.iter().enumerate() {
            write!(f, "{} {reason} {count}", if index == 0 { ":" } else { "," })?;
        }
        match self.last_failure() {
            Some(failure) => write!(f, "; the last failure: {}", failure.message),
            None => Ok(()),
        }
    }
}

/// In words: it is what `main` shows of an error that it returns.
impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lost({self})")
    }
}

impl std::error::Error for Lost {}
