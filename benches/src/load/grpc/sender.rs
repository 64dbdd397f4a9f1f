//! Sends calls on a schedule over one connection, many of them open at once.

use std::time::Instant;

use super::client::{Ended, Link};
use crate::load::Answer;
use crate::load::sender::{Shared, Timed, fate, wait_until};
use crate::load::stamp::Stamp;
use crate::load::tally::Fate;

/// One connection's, until the schedule is over and the last call is answered.
pub(in crate::load) struct Loop<'a> {
    shared: &'a Shared,
    first: u64,
    link: Option<Link>,
    timed: Timed,
    ended: Vec<Ended>,
}

impl<'a> Loop<'a> {
    pub(in crate::load) fn new(shared: &'a Shared, first: u64) -> Loop<'a> {
        Loop { shared, first, link: None, timed: Timed::new(), ended: Vec::new() }
    }

    pub(in crate::load) fn run(mut self) -> Timed {
        let (shared, options) = (self.shared, &self.shared.options);
        let end = options.schedule.end;
        let streams = options.streams.max(1);
        wait_until(options.schedule.begin);
        // A request that this connection is to send next, and is not due yet.
        let mut next: Option<(u64, Instant)> = None;
        // Whether nothing but the clock keeps it from being sent.
        let mut waits = false;
        let mut over = false;
        loop {
            let open = self.link.as_ref().map_or(0, Link::open_calls);
            if next.is_none() && !over && open < streams {
                let (number, due) = shared.next(self.first);
                over = due >= end || shared.stopped();
                next = (!over).then_some((number, due));
                waits = due > Instant::now();
            }
            let now = Instant::now();
            if let Some((number, due)) = next
                && due <= now
            {
                if now >= end {
                    self.timed.unsent += 1;
                    next = None;
                    continue;
                }
                if self.begin(number, due, now) {
                    if waits && due >= options.schedule.timed_from {
                        self.timed.late.saturating_record((now - due).as_nanos() as u64);
                    }
                    next = None;
                    continue;
                }
                waits = false;
            }
            let moved = self.turn();
            if over && self.link.as_ref().is_none_or(|link| link.open_calls() == 0) {
                return self.timed;
            }
            if moved {
                continue;
            }
            // A call that is due and cannot begin waits for the server, not for the clock.
            let due = next.map(|(_, due)| due).filter(|&due| due > now);
            self.wait(due);
        }
    }

    /// Begins a call; false where the server lets none begin now.
    fn begin(&mut self, number: u64, due: Instant, now: Instant) -> bool {
        let (options, corpus) = (&self.shared.options, &self.shared.corpus);
        if self.link.is_none() {
            match Link::open(options.address, corpus.plan.signal, corpus.plan.coding, options.timeout) {
                Ok(link) => self.link = Some(link),
                Err(problem) => {
                    self.timed.failed(problem.to_string());
                    // Nothing was sent. A dead receiver is not to be asked in a tight loop.
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    self.settle(number, due, Fate::Refused);
                    return true;
                }
            }
        }
        let Some(link) = &mut self.link else { return false };
        match link.takes_calls() {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.broken(&error);
                return false;
            }
        }
        let stamp = Stamp { request: number, due_unix_nano: self.shared.anchor.unix_nano(due) };
        if let Err(error) = link.begin(number, due, corpus.template(number), &stamp) {
            self.broken(&error);
            return false;
        }
        if due >= options.schedule.timed_from {
            self.timed.held_up.saturating_record((now - due).as_nanos() as u64);
        }
        true
    }

    /// True where calls ended, so that others may begin.
    fn turn(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let mut ended = std::mem::take(&mut self.ended);
        let mut result = link.turn(&mut ended);
        let moved = !ended.is_empty();
        for Ended { number, due, answer } in ended.drain(..) {
            let fate = match answer {
                Ok(answer) => {
                    if let Answer::Rejected(code) = answer {
                        self.timed.failed(format!("answered with code {code}"));
                    }
                    fate(answer)
                }
                Err(error) => {
                    self.timed.failed(format!("request {number}: {error}"));
                    Fate::Unknown
                }
            };
            self.settle(number, due, fate);
        }
        self.ended = ended;
        let timeout = self.shared.options.timeout;
        if let Some(link) = &self.link
            && link.oldest().is_some_and(|begun| begun.elapsed() > timeout)
        {
            result = result.and(Err(std::io::ErrorKind::TimedOut.into()));
        }
        if let Err(error) = result {
            self.broken(&error);
            return true;
        }
        moved
    }

    fn wait(&mut self, due: Option<Instant>) {
        let Some(link) = &self.link else {
            if let Some(due) = due {
                wait_until(due);
            }
            return;
        };
        let late = link.oldest().map(|begun| begun + self.shared.options.timeout);
        if let Err(error) = link.wait(due.into_iter().chain(late).min()) {
            self.broken(&error);
        }
    }

    fn broken(&mut self, error: &std::io::Error) {
        let Some(link) = self.link.take() else { return };
        self.timed.failed(format!("the connection broke: {error}"));
        for number in link.into_open() {
            self.shared.tally.answered(number, Fate::Unknown);
        }
    }

    fn settle(&mut self, number: u64, due: Instant, fate: Fate) {
        self.shared.tally.answered(number, fate);
        if due >= self.shared.options.schedule.timed_from && matches!(fate, Fate::Accepted | Fate::Partial) {
            self.timed.answers.saturating_record(due.elapsed().as_nanos() as u64);
        }
    }
}
