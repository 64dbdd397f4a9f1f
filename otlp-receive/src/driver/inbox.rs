//! What comes to a driver from other threads: connections to own, outcomes, the wish to stop.
//!
//! Invariant: after [`Inbox::post`] the driver looks at the inbox without waiting for anything else. Posts in between
//! cost no system call: a driver that is awake is not woken, and one that is being woken is not woken twice.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

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
    // Unbounded, but what is in it is bounded elsewhere: one message for each open request and new connection.
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    awake: AtomicBool,
    waker: Waker,
}

/// Where the outcomes of one connection's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    inbox: Arc<Inbox>,
    connection: u64,
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Inbox {
        let (sender, receiver) = unbounded();
        Inbox { sender, receiver, awake: AtomicBool::new(true), waker }
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

    /// The oldest message. Only the driver calls this.
    pub(crate) fn take(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Says that the driver is going to wait; false where it must not, because there is news.
    pub(crate) fn sleep(&self) -> bool {
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

    /// Tells the connection what became of a request. From any thread.
    pub(crate) fn answered(&self, request: u64, outcome: Outcome) {
        self.inbox.post(Message::Answered { connection: self.connection, request, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::poll::{self, Poller as _};
    use std::time::{Duration, Instant};

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
