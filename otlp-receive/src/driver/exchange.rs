//! What the driver asks of a protocol: one connection without its socket.

use std::time::{Instant, SystemTime};

use otlp_core::Outcome;

/// What the clock on the wall says; asked only where it is needed.
pub(crate) type Wall<'a> = &'a dyn Fn() -> SystemTime;

/// One connection of some protocol: bytes, outcomes and the time in, bytes out. Never blocks and owns no socket.
///
/// After any of these calls the driver, before it waits again, calls [`Exchange::advance`], writes what is to be written,
/// and asks what to wait for.
pub(crate) trait Exchange {
    /// Takes bytes that came. The buffer is the driver's; its content may be taken out of it.
    fn receive(&mut self, bytes: &mut Vec<u8>, now: Instant);

    /// The buffer of a large body that is being received, to read into it without a copy. To be followed by
    /// [`Exchange::received`].
    fn direct(&mut self) -> Option<&mut Vec<u8>> {
        None
    }

    /// Says that `bytes` were read into the buffer of [`Exchange::direct`].
    fn received(&mut self, _bytes: usize, _now: Instant) {}

    /// Whether a head is most likely next, and a large body after it: then little more than the head is read into the
    /// driver's buffer, from which it would have to be copied.
    fn expects_large(&self) -> bool {
        false
    }

    /// The sender will send no more. It may still read.
    fn closed_by_peer(&mut self, now: Instant);

    /// The connection is broken.
    fn broken(&mut self);

    /// What became of a request.
    fn answered(&mut self, request: u64, outcome: Outcome, now: Instant);

    /// Writes the answers that are due and goes on with what had to wait for that.
    fn advance(&mut self, now: Instant, wall: Wall<'_>);

    /// What is to be written.
    fn output(&self) -> &[u8];

    /// Whether an answer is among it, and not only what keeps a connection going: then somebody goes on once it is written.
    fn has_answers(&self) -> bool {
        !self.output().is_empty()
    }

    /// Says how much of it was. Less than all means that the sender does not read.
    fn written(&mut self, bytes: usize, now: Instant);

    /// Whether more may be read from the socket.
    fn wants_read(&self) -> bool;

    /// Whether our side is to be closed now: all answers are written. Asked once.
    fn closes(&mut self, now: Instant) -> bool;

    /// Whether the socket is to be closed.
    fn is_over(&self) -> bool;

    /// Stops taking requests. What was begun is finished.
    fn drain(&mut self, now: Instant);

    /// Answers all that is open with "come again" and ends.
    fn give_up(&mut self, now: Instant, wall: Wall<'_>);

    /// When it wants to be looked at, at the latest.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due.
    fn on_time(&mut self, now: Instant);
}
