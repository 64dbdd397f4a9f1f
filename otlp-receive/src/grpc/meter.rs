//! Watches the frames that a client sends, for what `h2` answers by itself and tells nobody of: pings.
//!
//! It only counts. Whether the frames are right is for `h2` to say; what is wrong ends the connection there.

use std::time::{Duration, Instant};

use super::config::EnforcementPolicy;

/// Before the first frame: the preface (RFC 9113, section 3.4).
const PREFACE_BYTES: u32 = 24;
/// Type, length, flags and stream of a frame.
const HEADER_BYTES: usize = 9;
const PING: u8 = 6;
const HEADERS: u8 = 1;
const ACK: u8 = 1;
/// Pings too early that are forgiven.
const STRIKES_MAX: u32 = 2;
/// Least time between pings of a connection without a call, where it may not ping at all.
const WITHOUT_STREAM: Duration = Duration::from_secs(2 * 3600);

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    policy: EnforcementPolicy,
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Bytes to the next frame's header.
    skip: u32,
    strikes: u32,
    last_ping: Option<Instant>,
    /// Something was answered since the last ping.
    answered: bool,
    /// The highest stream that the client opened.
    pub(super) last_stream: u32,
}

impl Meter {
    pub(super) fn new(policy: EnforcementPolicy) -> Meter {
        Meter {
            policy,
            header: [0; HEADER_BYTES],
            have: 0,
            skip: PREFACE_BYTES,
            strikes: 0,
            last_ping: None,
            answered: false,
            last_stream: 0,
        }
    }

    /// Looks at what came. False where the client pings too much.
    pub(super) fn observe(&mut self, mut bytes: &[u8], has_calls: bool, now: Instant) -> bool {
        loop {
            let skipped = bytes.len().min(self.skip as usize);
            self.skip -= skipped as u32;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return true;
            }
            let take = bytes.len().min(HEADER_BYTES - self.have);
            self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have < HEADER_BYTES {
                return true;
            }
            self.have = 0;
            let [l0, l1, l2, kind, flags, stream @ ..] = self.header;
            self.skip = u32::from_be_bytes([0, l0, l1, l2]);
            match kind {
                PING if flags & ACK == 0 && !self.may_ping(has_calls, now) => return false,
                HEADERS => self.last_stream = self.last_stream.max(u32::from_be_bytes(stream) & (u32::MAX >> 1)),
                _ => {}
            }
        }
    }

    /// Says that something was answered: a ping after that is no offence.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    fn may_ping(&mut self, has_calls: bool, now: Instant) -> bool {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.answered) {
            self.strikes = 0;
            return true;
        }
        let least = if has_calls || self.policy.permit_without_stream { self.policy.min_time } else { WITHOUT_STREAM };
        self.strikes += u32::from(last.is_some_and(|last| now < last + least));
        self.strikes <= STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        bytes.resize(HEADER_BYTES + usize::from(length), 7);
        bytes
    }

    fn meter() -> (Meter, Instant) {
        let policy = EnforcementPolicy { min_time: Duration::from_secs(300), permit_without_stream: false };
        let mut meter = Meter::new(policy);
        let now = Instant::now();
        assert!(meter.observe(&[b'P'; PREFACE_BYTES as usize], false, now));
        (meter, now)
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes = [frame(4, 0, 0, 6), frame(1, 4, 5, 33), frame(6, 1, 0, 8), frame(0, 1, 5, 200), frame(1, 4, 9, 1)];
        let bytes = bytes.concat();
        for size in 1..bytes.len() {
            let (mut meter, now) = meter();
            assert!(bytes.chunks(size).all(|piece| meter.observe(piece, false, now)));
            assert_eq!((meter.last_stream, meter.last_ping), (9, None), "an answer to our ping is none of theirs");
        }
    }

    #[test]
    fn the_third_ping_too_early_is_one_too_many_grpc_40() {
        let ping = frame(PING, 0, 0, 8);
        let (mut early, now) = meter();
        let taken = (0..10).take_while(|_| early.observe(&ping, true, now)).count();
        assert_eq!(taken, 3, "the first one is not early");
        let (mut answered, _) = meter();
        for _ in 0..10 {
            answered.answered();
            assert!(answered.observe(&ping, true, now), "with an answer in between");
        }
        let (mut slow, _) = meter();
        let mut at = now;
        for _ in 0..10 {
            assert!(slow.observe(&ping, true, at), "slowly, with calls open");
            at += Duration::from_secs(300);
        }
        let taken = (0..10).take_while(|n| slow.observe(&ping, false, at + Duration::from_secs(300 * n))).count();
        assert_eq!(taken, 2, "without calls 5 min are too early");
    }
}
