//! UTF-8 tests that cost little for the short ASCII strings that telemetry is made of.
//!
//! `str::from_utf8` on each string costs more than all other validation together; thirty-two bytes at a time with
//! an overlapping tail take a fifth of that, and only what is not ASCII is decoded.

const HIGH: u64 = 0x8080_8080_8080_8080;

/// Whether all bytes are below 0x80.
#[inline(always)]
pub fn is_ascii(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<32>() {
        let mut all = words(*last);
        let (blocks, _) = bytes.as_chunks::<32>();
        for block in blocks {
            let block = words(*block);
            all = std::array::from_fn(|place| all[place] | block[place]);
        }
        (all[0] | all[1] | all[2] | all[3]) & HIGH == 0
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        let all = u128::from_le_bytes(*first) | u128::from_le_bytes(*last);
        (all as u64 | (all >> 64) as u64) & HIGH == 0
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (u64::from_le_bytes(*first) | u64::from_le_bytes(*last)) & HIGH == 0
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (u32::from_le_bytes(*first) | u32::from_le_bytes(*last)) & HIGH as u32 == 0
    } else {
        bytes.iter().fold(0, |all, byte| all | byte) < 0x80
    }
}

/// What the compiler makes two vectors of.
#[inline(always)]
fn words(bytes: [u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|place| u64::from_le_bytes(words[place]))
}

/// Whether the bytes are UTF-8.
#[inline(always)]
pub fn is_utf8(bytes: &[u8]) -> bool {
    is_ascii(bytes) || is_utf8_slow(bytes)
}

#[inline(never)]
fn is_utf8_slow(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_position_is_seen() {
        for length in 0..140 {
            let mut bytes = vec![b'a'; length];
            assert!(is_ascii(&bytes));
            for at in 0..length {
                bytes[at] = 0x80;
                assert!(!is_ascii(&bytes) && !is_utf8(&bytes), "{at} of {length}");
                bytes[at] = 0x7f;
                assert!(is_ascii(&bytes));
            }
        }
        assert!(is_utf8("é鍵🗝".as_bytes()) && !is_utf8(&"🗝".as_bytes()[..3]));
    }
}
