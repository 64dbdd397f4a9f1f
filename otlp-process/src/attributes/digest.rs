//! SHA-256 of attribute values, with those of the moment remembered.
//!
//! What is hashed (addresses, user names, sessions) repeats within a batch, and a digest costs as much as all the rest of
//! an edit. So a digest is kept in each of a few hundred places, chosen by the text's ends; the text itself is
//! kept beside it and compared, so another text never gets its digest.
//!
//! # Limits
//!
//! 20 KiB for a batch that hashes more than [`PLAIN`] values, nothing before that; texts longer than [`TEXT_MAX`] are
//! hashed each time.

use sha2::{Digest, Sha256};

/// Longest text that is remembered, in bytes.
const TEXT_MAX: usize = 47;

/// Places: a power of two.
const PLACES: usize = 256;

/// Digests of a batch before anything is remembered: what follows them pays for the memory.
const PLAIN: u32 = 16;

/// The digests of one batch. Empty until it is worth it.
#[derive(Default)]
pub(super) struct Digests {
    asked: u32,
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    /// 0 for a place that is free: nothing of no length is remembered.
    len: u8,
    text: [u8; TEXT_MAX],
    digest: [u8; 32],
}

impl Place {
    fn holds(&self, text: &[u8]) -> bool {
        usize::from(self.len) == text.len() && &self.text[..text.len()] == text
    }
}

impl Digests {
    pub(super) fn of(&mut self, text: &[u8]) -> [u8; 32] {
        if self.asked < PLAIN || text.is_empty() || text.len() > TEXT_MAX {
            self.asked = self.asked.saturating_add(1);
            return Sha256::digest(text).into();
        }
        if self.places.is_empty() {
            self.places = vec![Place { len: 0, text: [0; TEXT_MAX], digest: [0; 32] }; PLACES];
        }
        // Its neighbour where its own is taken: two texts of one place do not push each other out in turns.
        let own = place_of(text);
        let at = if self.places[own].len == 0 || self.places[own].holds(text) { own } else { own ^ 1 };
        let place = &mut self.places[at];
        if !place.holds(text) {
            place.len = text.len() as u8;
            place.text[..text.len()].copy_from_slice(text);
            place.digest = Sha256::digest(text).into();
        }
        place.digest
    }
}

/// Where a text belongs, by its length and its first and last eight bytes: names and addresses differ in one of them.
fn place_of(text: &[u8]) -> usize {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let mixed = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => word(first).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word(last),
        _ => text.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)),
    };
    let spread = (mixed ^ text.len() as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (spread >> (64 - PLACES.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_is_of_its_own_text() {
        let mut digests = Digests::default();
        // More texts than places, so that they push one another out, of every length around the limits, again and again.
        for round in 0..3 {
            for number in 0..2000_usize {
                let text = format!("{number}{}", "x".repeat(number % 60));
                let text = if number % 50 == 0 { "" } else { &text };
                let expected: [u8; 32] = Sha256::digest(text).into();
                assert_eq!(digests.of(text.as_bytes()), expected, "round {round}, {text:?}");
                assert_eq!(digests.of(text.as_bytes()), expected, "round {round}, {text:?} again");
            }
        }
    }

    #[test]
    fn a_small_batch_takes_no_memory() {
        let mut digests = Digests::default();
        for number in 0..PLAIN {
            digests.of(&number.to_le_bytes());
        }
        assert!(digests.places.is_empty());
        digests.of(b"one more");
        assert_eq!(digests.places.len(), PLACES);
    }
}
