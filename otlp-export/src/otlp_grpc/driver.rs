//! The thread of one destination: calls in, outcomes out, over as many connections as there are addresses. Where there is
//! to be no thread, whoever calls does its work, for as long as his call takes.
//!
//! Invariants:
//!
//! - Every call that was taken ends exactly once: with an answer, a failure, or at its deadline.
//! - No more than `in_flight_max` calls are open at once; the others wait in the order in which they came.
//! - To an address that failed there is no new connection before its backoff is over, however many calls there are.
//! - Only this thread, or whoever has the driver, touches what `h2` has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otlp_core::{Failure, Outcome, Reason};
use parking_lot::Mutex;
use socket2::Socket;

use super::config::Balancer;
use super::link::{Call, Ended, Link};
use super::wire::{Readiness, Waker, wait};
use super::{Address, Plan, timed_out};
use crate::retry;

/// Connections at once; a name with more addresses than that is used in part.
const PEERS_MAX: usize = 16;

/// Backoff after the first failure; doubles with each one in a row.
const BACKOFF: Duration = Duration::from_millis(100);

/// gRPC lets it grow to two minutes: as long as that, data would wait for a server that is back.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Times that a call goes again at once after a server sent it back.
const RETURNS_MAX: u32 = 3;

/// What callers and the thread share.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    waker: Waker,
}

#[derive(Default)]
struct Inbox {
    calls: Vec<Call>,
    /// The newest addresses that were found.
    addresses: Option<Vec<Address>>,
    closed: bool,
    /// The thread waits for its sockets: it is to be woken, once.
    asleep: bool,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.addresses.is_none() && !self.closed
    }
}

impl Shared {
    pub(super) fn new() -> std::io::Result<Shared> {
        Ok(Shared { inbox: Mutex::default(), waker: Waker::new()? })
    }

    /// Hands a call over. After [`Shared::close`] it ends at once.
    pub(super) fn submit(&self, call: Call, addresses: Vec<Address>) {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            drop(inbox);
            return call.end(stopped());
        }
        inbox.calls.push(call);
        inbox.addresses = Some(addresses);
        let asleep = std::mem::take(&mut inbox.asleep);
        drop(inbox);
        if asleep {
            self.waker.wake();
        }
    }

    /// Ends what is open, and the thread.
    pub(super) fn close(&self) {
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        inbox.asleep = false;
        drop(inbox);
        self.waker.wake();
    }
}

pub(super) fn stopped() -> Failure {
    Failure::refused(Reason::SHUTDOWN, "the exporter is stopped")
}

/// One address of the server.
struct Peer {
    address: Address,
    link: Option<Link>,
    /// In a row.
    failures: u32,
    retry_at: Instant,
}

pub(super) struct Driver {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    waiting: VecDeque<Call>,
    peers: Vec<Peer>,
    /// Where the next call goes first.
    turn: usize,
    /// Take no new calls.
    leaving: Vec<Link>,
    /// Why there is no connection.
    trouble: String,
}

impl Driver {
    pub(super) fn new(plan: Arc<Plan>, shared: Arc<Shared>) -> Driver {
        let (waiting, peers, leaving) = (VecDeque::new(), Vec::new(), Vec::new());
        Driver { plan, shared, waiting, peers, turn: 0, leaving, trouble: String::new() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Until [`Shared::close`].
    pub(super) fn run(mut self) {
        if !self.run_until(|| false) {
            self.close();
        }
    }

    /// Until `done`, which is asked after each turn; false where it was closed before.
    pub(super) fn run_until(&mut self, done: impl Fn() -> bool) -> bool {
        loop {
            let closed = self.collect();
            if closed {
                return false;
            }
            let now = Instant::now();
            self.expire(now);
            // Calls are to be written, and answers, greetings and settings make room for calls.
            while self.connect(now) | self.begin(now) | self.turn(now) | self.begin(now) {}
            self.fail_fast(now);
            if done() {
                return true;
            }
            self.rest(self.due());
        }
    }

    /// Waits for something to do, until `due`.
    fn rest(&mut self, due: Option<Instant>) {
        let sockets = self.sockets();
        let more = sockets.iter().any(|(_, ready)| ready.has_more());
        // From here on whoever leaves something wakes us; what was left before is seen here.
        let timeout = if more || !self.may_sleep() {
            Some(Duration::ZERO)
        } else {
            due.map(|due| due.saturating_duration_since(Instant::now()))
        };
        if let Err(error) = wait(Some(&self.shared.waker), &sockets, timeout) {
            // No memory, most likely. Not at full speed.
            log::error!("exporter {}: cannot wait for sockets: {error}", self.plan.id);
            std::thread::sleep(BACKOFF);
        }
    }

    /// After a time in which nobody looked: takes what came, so that a connection that has ended gets no call.
    pub(super) fn catch_up(&mut self) {
        let now = Instant::now();
        self.rest(Some(now));
        self.turn(now);
    }

    fn may_sleep(&self) -> bool {
        let mut inbox = self.shared.inbox.lock();
        inbox.asleep = inbox.is_empty();
        inbox.asleep
    }

    /// Takes what callers left; true when it is time to end.
    fn collect(&mut self) -> bool {
        let mut inbox = self.shared.inbox.lock();
        let (calls, addresses) = (std::mem::take(&mut inbox.calls), inbox.addresses.take());
        let closed = inbox.closed;
        inbox.asleep = false;
        drop(inbox);
        self.waiting.extend(calls);
        if let Some(addresses) = addresses {
            self.resolved(addresses);
        }
        closed
    }

    /// Keeps to the addresses that the name has now. Calls that are open elsewhere end there.
    fn resolved(&mut self, mut addresses: Vec<Address>) {
        addresses.truncate(PEERS_MAX);
        if self.peers.iter().map(|peer| &peer.address).eq(&addresses) {
            return;
        }
        let mut known = std::mem::take(&mut self.peers);
        for address in addresses {
            let index = known.iter().position(|peer| peer.address == address);
            self.peers.push(match index {
                Some(index) => known.swap_remove(index),
                None => Peer { address, link: None, failures: 0, retry_at: Instant::now() },
            });
        }
        self.leaving.extend(known.into_iter().filter_map(|peer| peer.link));
    }

    /// Ends calls that wait for longer than they may.
    fn expire(&mut self, now: Instant) {
        if !self.waiting.iter().any(|call| call.deadline.passed(now)) {
            return;
        }
        let (late, waiting): (VecDeque<Call>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|call| call.deadline.passed(now));
        self.waiting = waiting;
        for call in late {
            let cause = if self.trouble.is_empty() { "there were too many calls before it" } else { &self.trouble };
            call.end(timed_out(format!("not sent to {} in time: {cause}; raise timeout", self.plan.to)));
        }
    }

    /// Begins connections where calls wait for them. False: it leads to nothing that could be done at once.
    fn connect(&mut self, now: Instant) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        for index in 0..self.peers.len() {
            let one_is_enough = self.plan.balancer == Balancer::PickFirst;
            if one_is_enough && self.peers.iter().any(|peer| peer.link.is_some()) {
                break;
            }
            let peer = &mut self.peers[index];
            if peer.link.is_some() || now < peer.retry_at {
                continue;
            }
            match Link::connect(&self.plan, &peer.address, now) {
                Ok(link) => peer.link = Some(link),
                Err(error) => self.failed(index, false, &error, now),
            }
        }
        false
    }

    /// Begins calls while there is a connection that takes one; true where it did.
    fn begin(&mut self, now: Instant) -> bool {
        let mut begun = false;
        while !self.waiting.is_empty() && self.open_calls() < self.plan.in_flight_max {
            let count = self.peers.len();
            let candidates = (0..count).map(|offset| (self.turn + offset) % count);
            let links = &mut self.peers;
            let Some(index) =
                candidates.into_iter().find(|&index| links[index].link.as_mut().is_some_and(Link::takes_calls))
            else {
                break;
            };
            let (Some(call), Some(link)) = (self.waiting.pop_front(), &mut self.peers[index].link) else { break };
            match link.begin(call, now) {
                None => {
                    self.trouble.clear();
                    self.turn = index + 1;
                    begun = true;
                }
                // It takes no more, and will not be asked again.
                Some(call) => self.waiting.push_front(call),
            }
        }
        begun
    }

    /// Lets every connection do what it can; true where calls ended.
    fn turn(&mut self, now: Instant) -> bool {
        let mut ended = Vec::new();
        for index in 0..self.peers.len() {
            let Some(link) = &mut self.peers[index].link else { continue };
            let result = link.turn(now, &mut ended);
            match result {
                Ok(()) => {
                    if link.draining
                        && let Some(link) = self.peers[index].link.take()
                    {
                        self.let_go(index, link, now);
                    }
                }
                Err(error) => {
                    if let Some(mut link) = self.peers[index].link.take() {
                        let was_of_use = link.answered > 0 || link.draining;
                        ended.extend(link.take_calls().map(|call| (call, Ended::Broken(error.clone()))));
                        self.failed(index, was_of_use, &error, now);
                    }
                }
            }
        }
        for mut link in std::mem::take(&mut self.leaving) {
            match link.turn(now, &mut ended) {
                Ok(()) if link.open_calls() == 0 => link.close(),
                Ok(()) => self.leaving.push(link),
                Err(error) => ended.extend(link.take_calls().map(|call| (call, Ended::Broken(error.clone())))),
            }
        }
        let any = !ended.is_empty();
        for (call, end) in ended.into_iter().rev() {
            self.end(call, end);
        }
        any
    }

    fn end(&mut self, mut call: Call, end: Ended) {
        let to = &self.plan.to;
        match end {
            Ended::Answered(outcome) => call.end(outcome),
            Ended::Returned(_) if call.returned < RETURNS_MAX => {
                call.returned += 1;
                self.waiting.push_front(call);
            }
            Ended::Returned(why) => {
                let message = format!("error exporting items, {to} takes no more calls: {why}");
                call.end(Failure::refused(Reason::UNAVAILABLE, message));
            }
            Ended::Broken(why) => {
                let message = format!("error exporting items, the connection to {to} failed: {why}");
                call.end(Failure::refused(Reason::CONNECTION, message));
            }
        }
    }

    /// A server that goes away as it should: its calls end, and the next go elsewhere.
    fn let_go(&mut self, index: usize, link: Link, now: Instant) {
        self.failed(index, true, "the server goes away", now);
        self.leaving.push(link);
    }

    /// Decides when there is a connection to that address again: at once where the last one was of use, or
    /// ended as it should.
    fn failed(&mut self, index: usize, was_of_use: bool, error: &str, now: Instant) {
        let peer = &mut self.peers[index];
        peer.failures = if was_of_use { 0 } else { peer.failures.saturating_add(1) };
        peer.retry_at = now + backoff(peer.failures, retry::seed());
        self.trouble = match &peer.address {
            Address::Tcp(address) => format!("cannot connect to {address}: {error}"),
            Address::Unix => format!("cannot connect to {}: {error}", self.plan.to),
        };
        if let Some((host, port)) = self.plan.host() {
            self.plan.names.expire(host, port);
        }
    }

    /// While no connection can be had calls do not wait for one.
    fn fail_fast(&mut self, now: Instant) {
        let hopeless = |peer: &Peer| peer.link.is_none() && now < peer.retry_at;
        if self.plan.wait_for_ready || self.waiting.is_empty() || !self.peers.iter().all(hopeless) {
            return;
        }
        for call in std::mem::take(&mut self.waiting) {
            let message = format!("error exporting items to {}: {}", self.plan.to, self.trouble);
            call.end(Failure::refused(Reason::CONNECTION, message));
        }
    }

    /// Whether there is a connection, or one on its way, that takes calls.
    pub(super) fn has_connection(&self) -> bool {
        self.peers.iter().any(|peer| peer.link.is_some())
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        self.peers.iter().filter_map(|peer| peer.link.as_ref()).chain(&self.leaving)
    }

    fn open_calls(&self) -> usize {
        self.links().map(Link::open_calls).sum()
    }

    fn sockets(&self) -> Vec<(Arc<Socket>, Arc<Readiness>)> {
        self.links().map(|link| (Arc::clone(&link.socket), Arc::clone(&link.ready))).collect()
    }

    /// When something is to be done though nothing comes.
    fn due(&self) -> Option<Instant> {
        let links = self.links().filter_map(Link::due);
        let waiting = self.waiting.iter().filter_map(|call| call.deadline.instant());
        let connect = self.peers.iter().filter(|peer| peer.link.is_none() && !self.waiting.is_empty());
        links.chain(waiting).chain(connect.map(|peer| peer.retry_at)).min()
    }

    pub(super) fn close(mut self) {
        let ended = |call: Call| call.end(Outcome::from(stopped()));
        self.waiting.drain(..).for_each(ended);
        let links: Vec<Link> =
            self.peers.drain(..).filter_map(|peer| peer.link).chain(self.leaving.drain(..)).collect();
        for mut link in links {
            link.take_calls().for_each(ended);
            link.close();
        }
    }
}

/// The wait after that many failures in a row, up to a fifth shorter or longer, so that a thousand clients of a server
/// that was away do not come back at once.
fn backoff(failures: u32, random: u64) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let factor = 1u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    let nominal = BACKOFF.saturating_mul(factor).min(BACKOFF_MAX);
    nominal.mul_f64(0.8 + 0.4 * (random >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit_and_is_spread() {
        assert_eq!(backoff(0, 7), Duration::ZERO);
        for (failures, millis) in [(1, 100), (2, 200), (5, 1600), (8, 10_000), (33, 10_000), (u32::MAX, 10_000)] {
            let nominal = Duration::from_millis(millis);
            assert_eq!(backoff(failures, 0), nominal.mul_f64(0.8));
            assert!(backoff(failures, u64::MAX) <= nominal.mul_f64(1.2));
            assert!(backoff(failures, u64::MAX) > nominal.mul_f64(1.19));
        }
    }
}
