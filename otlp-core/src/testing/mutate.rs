//! Damage to bytes, as a broken sender, a broken network or an attacker would do it.

use super::random::Random;

/// Changes some bytes: overwrites, flips, inserts, removes, repeats, cuts the end off. One to three times.
///
/// The result may happen to be what it was before, and may be legal.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.index(3) {
        let at = random.index(bytes.len());
        let span = (1 + random.index(8)).min(bytes.len() - at);
        match random.below(12) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] = random.bits() as u8,
            2 if !bytes.is_empty() => bytes[at] ^= 1 << random.index(8),
            // Tags, lengths and wire types that mean something.
            3..=6 if !bytes.is_empty() => {
                bytes[at] =
                    [0, 1, 8, 10, 18, 26, 42, 74, 0x0b, 0x0c, 0x0e, 0x0f, 0x7f, 0x80, 0xc0, 0xff][random.index(16)]
            }
            // One more, one less: lengths that nearly fit, field numbers next to each other, another wire type.
            7 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(1),
            8 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_sub(1),
            9 => {
                bytes.drain(at..at + span);
            }
            10 => {
                let copy = bytes[at..at + span].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.insert(at, random.bits() as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_mutations_change_something_and_none_panics() {
        let mut random = Random::new(1);
        let mut changed = 0;
        for length in 0..200 {
            let original = vec![7u8; length];
            let mut bytes = original.clone();
            mutate(&mut random, &mut bytes);
            changed += usize::from(bytes != original);
        }
        assert!(changed > 150, "{changed} of 200");
    }
}
