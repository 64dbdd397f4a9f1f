//! Pieces of a file → records. No file, no clock.
//!
//! ```text
//! lines       a JSON object without a line break   0x0a
//! lengths     length in bytes, 4, big endian       that many bytes
//! ```
//!
//! The first byte of a file tells which it is: no text begins with a byte below that of a tab, and a length that does not
//! would be 144 MiB.
//!
//! Invariants:
//!
//! - However the bytes are cut into pieces, the records are the same.
//! - Every byte before [`Records::position`] belongs to a record that was given out, or was passed over and counted.

/// Bytes in a length.
const LENGTH_BYTES: usize = 4;

/// How a file tells where a record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Lines,
    Lengths,
}

impl Framing {
    /// By the first byte of the file.
    pub(super) fn of(first: u8) -> Framing {
        if first < b'\t' { Framing::Lengths } else { Framing::Lines }
    }

    /// Bytes that follow a record and belong to none.
    pub(super) fn end_bytes(self) -> u64 {
        match self {
            Framing::Lines => 1,
            Framing::Lengths => 0,
        }
    }
}

/// A record, or what is instead of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Complete, without its end or its length.
    Whole(Vec<u8>),
    /// Longer than is taken. Said once for each.
    TooLong,
}

/// The records of a file, from some byte on.
#[derive(Debug)]
pub(super) struct Records {
    max: usize,
    /// None until the first byte of the file was seen.
    framing: Option<Framing>,
    /// Where the record begins whose beginning is held.
    position: u64,
    held: Vec<u8>,
    /// How much of `held` has no line end.
    searched: usize,
    /// The rest of a record that is passed over.
    skipping: Skipping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipping {
    No,
    /// To the next line end.
    Line,
    /// So many bytes.
    Bytes(u64),
}

impl Records {
    /// From the beginning of a file.
    pub(super) fn new(max: usize) -> Records {
        Records { max, framing: None, position: 0, held: Vec::new(), searched: 0, skipping: Skipping::No }
    }

    /// From the byte at `position` on. `inside`: that is in the middle of a line, whose rest is passed over.
    pub(super) fn from(max: usize, framing: Framing, position: u64, inside: bool) -> Records {
        let skipping = if inside { Skipping::Line } else { Skipping::No };
        Records { framing: Some(framing), position, skipping, ..Records::new(max) }
    }

    /// How the file tells where a record ends; none before its first byte.
    pub(super) fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Where the first byte stands that does not belong to a record given out.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Where the next bytes are to come from.
    pub(super) fn end(&self) -> u64 {
        self.position + self.held.len() as u64
    }

    /// Takes the bytes that follow.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next record; none where more bytes are needed.
    pub(super) fn next(&mut self) -> Option<Record> {
        let framing = match (self.framing, self.held.first()) {
            (Some(framing), _) => framing,
            (None, Some(&first)) => *self.framing.insert(Framing::of(first)),
            (None, None) => return None,
        };
        match framing {
            Framing::Lines => self.next_line(),
            Framing::Lengths => self.next_frame(),
        }
    }

    fn next_line(&mut self) -> Option<Record> {
        loop {
            let found = self.held[self.searched..].iter().position(|&byte| byte == b'\n').map(|at| self.searched + at);
            let Some(end) = found else {
                self.searched = self.held.len();
                if self.skipping != Skipping::No {
                    self.take(self.held.len());
                } else if self.held.len() > self.max {
                    self.skipping = Skipping::Line;
                    self.take(self.held.len());
                    return Some(Record::TooLong);
                }
                return None;
            };
            let mut line = self.take(end + 1);
            if std::mem::replace(&mut self.skipping, Skipping::No) != Skipping::No {
                continue;
            }
            line.pop();
            if line.len() > self.max {
                return Some(Record::TooLong);
            }
            return Some(Record::Whole(line));
        }
    }

    fn next_frame(&mut self) -> Option<Record> {
        if let Skipping::Bytes(bytes) = self.skipping {
            let here = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.held.len());
            self.take(here);
            let left = bytes - here as u64;
            self.skipping = if left > 0 { Skipping::Bytes(left) } else { Skipping::No };
            if left > 0 {
                return None;
            }
        }
        let length = self.held.first_chunk::<LENGTH_BYTES>().map(|length| u32::from_be_bytes(*length) as usize)?;
        if length > self.max {
            // Not kept: where a length is damaged the rest of the file is passed over, and what comes to it.
            self.skipping = Skipping::Bytes((LENGTH_BYTES + length) as u64);
            return Some(Record::TooLong);
        }
        if self.held.len() - LENGTH_BYTES < length {
            return None;
        }
        let mut frame = self.take(LENGTH_BYTES + length);
        frame.drain(..LENGTH_BYTES);
        Some(Record::Whole(frame))
    }

    /// What stands behind the last line end: torn, or the last line of a file that has no end. Nothing where records have
    /// their lengths: those that are not whole are torn.
    pub(super) fn rest(&self) -> &[u8] {
        match (self.framing, self.skipping) {
            (Some(Framing::Lines), Skipping::No) => &self.held,
            _ => &[],
        }
    }

    /// Gives out what stands behind the last line end.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        self.take(self.held.len())
    }

    /// Lets go of what stands behind the last whole record, to be pushed again from [`Records::position`].
    pub(super) fn forget_rest(&mut self) {
        self.held = Vec::new();
        self.searched = 0;
    }

    /// From the file's beginning again, which may be another file by now.
    pub(super) fn restart(&mut self) {
        *self = Records::new(self.max);
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.held.split_off(len);
        self.position += len as u64;
        self.searched = 0;
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected(bytes: &[u8], max: usize) -> Vec<Record> {
        let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
        let rest = lines.pop().unwrap_or_default();
        let mut expected: Vec<_> = lines
            .into_iter()
            .map(|line| if line.len() > max { Record::TooLong } else { Record::Whole(line.to_vec()) })
            .collect();
        if rest.len() > max {
            expected.push(Record::TooLong);
        }
        expected
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn lines_are_the_same_however_the_bytes_are_cut(
            bytes in prop::collection::vec(prop_oneof![3 => Just(b'x'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..200),
            sizes in prop::collection::vec(1usize..20, 1..10),
            max in 1usize..12,
            forgetful in any::<bool>(),
        ) {
            let mut records = Records::from(max, Framing::Lines, 0, false);
            let mut found = Vec::new();
            let mut sizes = sizes.iter().cycle();
            while records.end() < bytes.len() as u64 {
                let begin = records.end() as usize;
                let end = bytes.len().min(begin + sizes.next().unwrap());
                records.push(&bytes[begin..end]);
                while let Some(line) = records.next() {
                    found.push(line);
                    let before = &bytes[..records.position() as usize];
                    prop_assert!(before.ends_with(b"\n") || found.last() == Some(&Record::TooLong));
                }
                // As where a torn end is read again later, with what has come to it.
                if forgetful && end < bytes.len() && !records.rest().is_empty() {
                    let all = records.rest().len() + 1;
                    let begin = records.position() as usize;
                    records.forget_rest();
                    records.push(&bytes[begin..begin + all]);
                    while let Some(line) = records.next() {
                        found.push(line);
                    }
                }
            }
            prop_assert_eq!(found, expected(&bytes, max));
            let tail = bytes.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
            prop_assert_eq!(records.rest(), if tail.len() > max { &[] } else { tail });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn frames_are_the_same_however_the_bytes_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..8),
            sizes in prop::collection::vec(1usize..20, 1..10),
            max in 1usize..24,
            torn in 0usize..20,
            forgetful in any::<bool>(),
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for frame in &frames {
                bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                bytes.extend_from_slice(frame);
                ends.push(bytes.len());
            }
            bytes.truncate(bytes.len().saturating_sub(torn).max(1));
            // One that is too long is told by its length, the others when they are whole.
            let expected: Vec<_> = frames.iter().zip(&ends).filter_map(|(frame, &end)| match frame.len() > max {
                true => (end - frame.len() <= bytes.len()).then_some(Record::TooLong),
                false => (end <= bytes.len()).then(|| Record::Whole(frame.clone())),
            }).collect();
            let mut records = Records::new(max);
            let mut found = Vec::new();
            let mut sizes = sizes.iter().cycle();
            let mut size = 0;
            while records.end() < bytes.len() as u64 {
                // Grows after a torn end that was let go, so that it comes to an end.
                size = if forgetful { size } else { 0 } + sizes.next().unwrap();
                let begin = records.end() as usize;
                records.push(&bytes[begin..bytes.len().min(begin + size)]);
                while let Some(record) = records.next() {
                    found.push(record);
                    size = 0;
                }
                if forgetful && records.end() < bytes.len() as u64 {
                    records.forget_rest();
                }
            }
            prop_assert_eq!(records.framing(), Some(Framing::Lengths));
            prop_assert_eq!(found, expected);
            prop_assert_eq!(records.rest(), b"");
        }
    }

    #[test]
    fn the_first_byte_tells_lines_from_lengths() {
        for (bytes, framing) in [
            (&b"{}"[..], Framing::Lines),
            (b"\n{}", Framing::Lines),
            (b"\t{}", Framing::Lines),
            (b" {}", Framing::Lines),
            (b"\xef\xbb\xbf{}", Framing::Lines),
            (b"an essay", Framing::Lines),
            (b"\0\0\0\x01", Framing::Lengths),
            (b"\x04\0\0\0", Framing::Lengths),
        ] {
            let mut records = Records::new(10);
            records.push(bytes);
            records.next();
            assert_eq!(records.framing(), Some(framing), "{bytes:?}");
            records.restart();
            assert_eq!((records.framing(), records.position()), (None, 0));
        }
    }

    #[test]
    fn from_the_middle_of_a_line_its_rest_is_passed_over() {
        let mut records = Records::from(10, Framing::Lines, 7, true);
        records.push(b"rest");
        assert_eq!((records.next(), records.position()), (None, 11));
        records.push(b"\nnext\nlast");
        assert_eq!((records.next(), records.next()), (Some(Record::Whole(b"next".to_vec())), None));
        assert_eq!((records.rest(), records.position(), records.end()), (&b"last"[..], 17, 21));
        assert_eq!((records.take_rest(), records.position()), (b"last".to_vec(), 21));
    }
}
