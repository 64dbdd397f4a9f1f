//! What comes to a driver from other threads: connections to own, outcomes, the wish to stop.
//!
//! Invariant: after [`Inbox::post`] the driver looks at the inbox without waiting for anything else. Posts in between
//! cost no system call: a driver that is awake is not woken, and one that is being woken is not woken twice.
//!
//! An outcome that the driver's own thread has, since the pipeline took the batch and promised no more, does not go by
//! way of other threads: five atomic operations and a fence less for each request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, unbounded};
use otlp_core::Outcome;

use super::poll::Waker;

/// News for a driver.
#[derive(Debug)]
pub(crate) enum Message {
    /// A connection to own.
    Connection {
        stream: TcpStream,
        /// None behind a Unix socket.
        peer: Option<SocketAddr>,
        /// The number of the port it came by.
        port: usize,
    },
    /// What became of a request.
    Answered { connection: u64, request: u64, outcome: Outcome },
    /// No more requests: the deadline for those that are open has been set.
    Drain,
}

/// The sending side, shared by all threads.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Of all inboxes of the process: by this a driver's thread knows its own.
    number: u64,
    // Unbounded, but what is in it is bounded elsewhere: one message for each open request and new connection.
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    awake: AtomicBool,
    waker: Waker,
}

/// What a driver's thread tells itself.
struct Own {
    /// The inbox of this thread's driver.
    number: Cell<u64>,
    messages: RefCell<VecDeque<Message>>,
}

thread_local! {
    static OWN: Own = const { Own { number: Cell::new(0), messages: RefCell::new(VecDeque::new()) } };
}

/// Where the outcomes of one connection's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    inbox: Arc<Inbox>,
    connection: u64,
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Inbox {
        static INBOXES: AtomicU64 = AtomicU64::new(0);
        let (sender, receiver) = unbounded();
        // Zero is no inbox: that of threads that drive none.
        let number = INBOXES.fetch_add(1, Ordering::Relaxed) + 1;
        Inbox { number, sender, receiver, awake: AtomicBool::new(true), waker }
    }

    /// Makes the calling thread the one that drives. What the life before told itself was about connections that are gone.
    pub(crate) fn adopt(&self) {
        OWN.with(|own| {
            own.number.set(self.number);
            own.messages.borrow_mut().clear();
        });
    }

    /// As [`Inbox::post`], for what the driver most often tells itself.
    fn post_answer(&self, message: Message) {
        let mut message = Some(message);
        // A thread that is ending has no messages of its own any more.
        let _ = OWN.try_with(|own| {
            if own.number.get() == self.number {
                own.messages.borrow_mut().extend(message.take());
            }
        });
        if let Some(message) = message {
            self.post(message);
        }
    }

    /// The oldest of what the driver told itself.
    fn take_own(&self) -> Option<Message> {
        OWN.with(|own| if own.number.get() == self.number { own.messages.borrow_mut().pop_front() } else { None })
    }

    fn has_own(&self) -> bool {
        OWN.with(|own| own.number.get() == self.number && !own.messages.borrow().is_empty())
    }

    /// Leaves a message and sees to it that the driver reads it.
    pub(crate) fn post(&self, message: Message) {
        // Both ends are in `self`, so the channel is never closed.
        let _ = self.sender.send(message);
        fence(Ordering::SeqCst);
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// The next message; those of one thread in their order. Only the driver calls this.
    pub(crate) fn take(&self) -> Option<Message> {
        self.take_own().or_else(|| self.receiver.try_recv().ok())
    }

    /// Says that the driver is going to wait; false where it must not, because there is news.
    pub(crate) fn sleep(&self) -> bool {
        if self.has_own() {
            return false;
        }
        self.awake.store(false, Ordering::SeqCst);
        // Either the poster sees `false` and wakes, or we see its message: see the fence in `post`.
        fence(Ordering::SeqCst);
        if self.receiver.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says that the driver has waited.
    pub(crate) fn awake(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Mailbox {
    pub(crate) fn new(inbox: Arc<Inbox>, connection: u64) -> Mailbox {
        Mailbox { inbox, connection }
    }

    /// What became of a request, where that was said by the last that the driver's own thread, which must be the calling
    /// one, told itself. Then it will not be told again.
    pub(crate) fn answer(&self, request: u64) -> Option<Outcome> {
        OWN.with(|own| {
            let mut messages = own.messages.borrow_mut();
            let last = messages.back().filter(|_| own.number.get() == self.inbox.number);
            match last {
                Some(Message::Answered { connection, request: number, .. })
                    if (*connection, *number) == (self.connection, request) => {}
                _ => return None,
            }
            match messages.pop_back() {
                Some(Message::Answered { outcome, .. }) => Some(outcome),
                _ => None,
            }
        })
    }

    /// Tells the connection what became of a request. From any thread.
    pub(crate) fn answered(&self, request: u64, outcome: Outcome) {
        self.inbox.post_answer(Message::Answered { connection: self.connection, request, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::poll::{self, Poller as _};
    use std::time::{Duration, Instant};

    #[test]
    fn what_a_driver_tells_itself_keeps_it_awake_and_no_other() {
        let inbox = || Arc::new(Inbox::new(poll::waker().unwrap()));
        let (own, other) = (inbox(), inbox());
        own.adopt();
        let mailbox = Mailbox::new(Arc::clone(&own), 1);
        mailbox.answered(6, Outcome::Delivered);
        assert_eq!((mailbox.answer(7), mailbox.answer(6), mailbox.answer(6)), (None, Some(Outcome::Delivered), None));
        assert!(own.sleep(), "it was told");
        own.awake();
        mailbox.answered(7, Outcome::Delivered);
        Mailbox::new(Arc::clone(&other), 2).answered(8, Outcome::Delivered);
        let number = |message| match message {
            Some(Message::Answered { request, .. }) => request,
            other => panic!("{other:?}"),
        };
        assert!(own.receiver.is_empty() && !own.sleep(), "its own message is not in the channel");
        assert_eq!(number(own.take()), 7);
        assert!(own.sleep() && own.take().is_none());
        assert_eq!(number(other.take()), 8, "to another driver it goes as from any thread");
        let far = Mailbox::new(Arc::clone(&own), 1);
        std::thread::spawn(move || far.answered(9, Outcome::Delivered)).join().unwrap();
        assert!(!own.sleep());
        assert_eq!(number(own.take()), 9);
        Mailbox::new(Arc::clone(&own), 1).answered(10, Outcome::Delivered);
        own.adopt();
        assert!(own.take().is_none(), "the next life knows nothing of the last one's connections");
    }

    #[test]
    fn no_post_is_missed_and_posts_to_an_awake_driver_do_not_wake() {
        let mut poller = poll::new().unwrap();
        let inbox = Arc::new(Inbox::new(poll::waker().unwrap()));
        poller.add_waker(inbox.waker()).unwrap();
        let (posters, each) = (4, 5000);
        let threads: Vec<_> = (0..posters)
            .map(|connection| {
                let mailbox = Mailbox::new(Arc::clone(&inbox), connection);
                std::thread::spawn(move || (0..each).for_each(|request| mailbox.answered(request, Outcome::Delivered)))
            })
            .collect();
        let (mut seen, mut next, mut ready) = (0, vec![0; posters as usize], Vec::new());
        while seen < posters * each {
            if inbox.sleep() {
                let (limit, begun) = (Duration::from_secs(20), Instant::now());
                poller.wait(Some(limit), &mut ready).unwrap();
                // It may wake for a message that it has taken already: one whose poster was slow to wake it.
                assert!(begun.elapsed() < limit, "woke by the time limit: a post was missed");
            }
            inbox.awake();
            while let Some(message) = inbox.take() {
                let Message::Answered { connection, request, .. } = message else { panic!("{message:?}") };
                assert_eq!(next[connection as usize], request, "in order of each poster");
                next[connection as usize] += 1;
                seen += 1;
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(inbox.take().is_none());
    }
}
