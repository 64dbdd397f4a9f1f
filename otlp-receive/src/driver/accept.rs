//! A listener: takes connections and deals them out over the drivers in turn.
//!
//! One socket's trouble is passed over; the process's (no descriptors, no memory) makes it pause, because the connection
//! stays in the backlog and a level-triggered poller would report it without end.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Shared;
use super::inbox::Message;
use super::poll::{Interest, Poller, fd};
use crate::listen::Listener;

/// Connections taken in one turn, so that those that are open have theirs.
const ACCEPTS_PER_TURN: usize = 64;
/// How long nothing is accepted where the process has no descriptors left, or has all the connections it may have.
const PAUSE: Duration = Duration::from_millis(100);
/// How often that is said.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Arc<Listener>,
    /// Its number among the receiver's ports.
    port: usize,
    drivers: Vec<Arc<Shared>>,
    connections_max: usize,
    turn: usize,
    paused_until: Option<Instant>,
    logged_at: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(
        listener: Arc<Listener>,
        port: usize,
        drivers: Vec<Arc<Shared>>,
        connections_max: usize,
    ) -> Acceptor {
        Acceptor { listener, port, drivers, connections_max, turn: 0, paused_until: None, logged_at: None }
    }

    pub(crate) fn register(&mut self, poller: &mut impl Poller, key: u64) -> io::Result<()> {
        self.paused_until = None;
        poller.add(fd(&*self.listener), key, Interest { read: true, write: false })
    }

    /// Takes what waits, up to the limits. What is for the caller's own driver is returned.
    pub(crate) fn accept(
        &mut self,
        poller: &mut impl Poller,
        key: u64,
        own: usize,
        open: u64,
        now: Instant,
        shared: &Shared,
    ) -> Vec<(TcpStream, Option<SocketAddr>)> {
        let mut mine = Vec::new();
        let room = (self.connections_max as u64).saturating_sub(open).min(ACCEPTS_PER_TURN as u64);
        if room == 0 {
            let limit = self.connections_max;
            self.pause(poller, key, now, shared, &format!("all {limit} connections of max_connections are in use"));
        }
        for _ in 0..room {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let index = self.turn % self.drivers.len();
                    self.turn = self.turn.wrapping_add(1);
                    match self.drivers.get(index) {
                        Some(driver) if index != own => {
                            driver.inbox.post(Message::Connection { stream, peer, port: self.port })
                        }
                        _ => mine.push((stream, peer)),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_exhaustion(&error) => {
                    self.pause(poller, key, now, shared, &format!("cannot accept connections: {error}"));
                    break;
                }
                // The connection was gone before it was taken, or the network had a word to say about it.
                Err(_) => {}
            }
        }
        mine
    }

    /// When accepting goes on, if it pauses.
    pub(crate) fn resume_at(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Goes on when the pause is over.
    pub(crate) fn resume(&mut self, poller: &mut impl Poller, key: u64, now: Instant, shared: &Shared) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            shared.set_trouble(None);
            let _ = poller.modify(fd(&*self.listener), key, Interest { read: true, write: false });
        }
    }

    /// Ends listening.
    pub(crate) fn close(self, poller: &mut impl Poller, key: u64) {
        poller.remove(fd(&*self.listener), key);
    }

    fn pause(&mut self, poller: &mut impl Poller, key: u64, now: Instant, shared: &Shared, why: &str) {
        self.paused_until = Some(now + PAUSE);
        let _ = poller.modify(fd(&*self.listener), key, Interest::default());
        if self.logged_at.is_none_or(|at| at + LOG_INTERVAL <= now) {
            self.logged_at = Some(now);
            log::warn!("{why}; new ones wait");
        }
        shared.set_trouble(Some(why.to_owned()));
    }
}

/// Whether the process or the system lacks something, as opposed to one connection.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;
    use crate::driver::poll::{Ready, Waker};
    use crate::listen::listen;
    use std::os::fd::BorrowedFd;

    /// Remembers what it was last told to watch for.
    #[derive(Default)]
    struct Watches(Option<Interest>);

    impl Poller for Watches {
        fn add(&mut self, _source: BorrowedFd<'_>, _key: u64, interest: Interest) -> io::Result<()> {
            self.0 = Some(interest);
            Ok(())
        }

        fn modify(&mut self, _source: BorrowedFd<'_>, _key: u64, interest: Interest) -> io::Result<()> {
            self.0 = Some(interest);
            Ok(())
        }

        fn remove(&mut self, _source: BorrowedFd<'_>, _key: u64) {
            self.0 = None;
        }

        fn add_waker(&mut self, _waker: &Waker) -> io::Result<()> {
            Ok(())
        }

        fn wait(&mut self, _timeout: Option<Duration>, _ready: &mut Vec<Ready>) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn while_it_pauses_the_listener_is_not_watched() {
        let (listener, place) = listen("127.0.0.1:0", Transport::Tcp).unwrap();
        let address = place.socket_addr().unwrap();
        let shared = Arc::new(Shared::new().unwrap());
        let mut acceptor = Acceptor::new(Arc::new(listener), 0, vec![Arc::clone(&shared)], 2);
        let (mut poller, now) = (Watches::default(), Instant::now());
        let (reads, nothing) = (Interest { read: true, write: false }, Interest::default());
        acceptor.register(&mut poller, 1).unwrap();
        let _waits = TcpStream::connect(address).unwrap();
        assert!(acceptor.accept(&mut poller, 1, 0, 2, now, &shared).is_empty());
        assert_eq!((poller.0, acceptor.resume_at()), (Some(nothing), Some(now + PAUSE)));
        assert!(shared.trouble().is_some_and(|trouble| trouble.contains("max_connections")));
        acceptor.resume(&mut poller, 1, now, &shared);
        assert_eq!(poller.0, Some(nothing));
        acceptor.resume(&mut poller, 1, now + PAUSE, &shared);
        assert_eq!((poller.0, acceptor.resume_at(), shared.trouble()), (Some(reads), None, None));
        assert_eq!(acceptor.accept(&mut poller, 1, 0, 1, now, &shared).len(), 1, "it waited in the backlog");
        acceptor.close(&mut poller, 1);
        assert_eq!(poller.0, None);
    }

    #[test]
    fn only_what_the_process_lacks_makes_it_pause() {
        for (errno, exhausted) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::CONNABORTED, false),
            (Errno::PROTO, false),
            (Errno::NETDOWN, false),
        ] {
            assert_eq!(is_exhaustion(&errno.into()), exhausted, "{errno}");
        }
    }
}
