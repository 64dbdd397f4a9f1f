//! Pieces of a file → lines. No file, no clock.
//!
//! Invariants:
//!
//! - However the bytes are cut into pieces, the lines are the same.
//! - Every byte before [`Lines::position`] belongs to a line that was given out, or was passed over and counted.

/// A line, or what is instead of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Complete, without its end.
    Whole(Vec<u8>),
    /// Longer than is taken. Said once for each.
    TooLong,
}

/// The lines of a file, from some byte on.
#[derive(Debug)]
pub(super) struct Lines {
    max: usize,
    /// Of the byte after `held[..searched]`'s lines: where the line begins whose beginning is held.
    position: u64,
    held: Vec<u8>,
    /// How much of `held` has no line end.
    searched: usize,
    /// The rest of a line that is passed over.
    skipping: bool,
}

impl Lines {
    /// From the byte at `position` on. `inside`: that is in the middle of a line, whose rest is passed over.
    pub(super) fn new(max: usize, position: u64, inside: bool) -> Lines {
        Lines { max, position, held: Vec::new(), searched: 0, skipping: inside }
    }

    /// Where the first byte stands that does not belong to a line given out.
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

    /// The next line; none where more bytes are needed.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let found = self.held[self.searched..].iter().position(|&byte| byte == b'\n').map(|at| self.searched + at);
            let Some(end) = found else {
                self.searched = self.held.len();
                if self.skipping {
                    self.take(self.held.len());
                } else if self.held.len() > self.max {
                    self.skipping = true;
                    self.take(self.held.len());
                    return Some(Line::TooLong);
                }
                return None;
            };
            let mut line = self.take(end + 1);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            line.pop();
            if line.len() > self.max {
                return Some(Line::TooLong);
            }
            return Some(Line::Whole(line));
        }
    }

    /// What stands behind the last line end: torn, or the last line of a file that has no end.
    pub(super) fn rest(&self) -> &[u8] {
        if self.skipping { &[] } else { &self.held }
    }

    /// Gives out what stands behind the last line end.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        self.take(self.held.len())
    }

    /// Lets go of what stands behind the last line end, to be pushed again from [`Lines::position`].
    pub(super) fn forget_rest(&mut self) {
        self.held = Vec::new();
        self.searched = 0;
    }

    /// From the file's beginning again.
    pub(super) fn restart(&mut self) {
        *self = Lines::new(self.max, 0, false);
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

    fn expected(bytes: &[u8], max: usize) -> Vec<Line> {
        let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
        let rest = lines.pop().unwrap_or_default();
        let mut expected: Vec<_> = lines
            .into_iter()
            .map(|line| if line.len() > max { Line::TooLong } else { Line::Whole(line.to_vec()) })
            .collect();
        if rest.len() > max {
            expected.push(Line::TooLong);
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
            let mut lines = Lines::new(max, 0, false);
            let mut found = Vec::new();
            let mut sizes = sizes.iter().cycle();
            while lines.end() < bytes.len() as u64 {
                let begin = lines.end() as usize;
                let end = bytes.len().min(begin + sizes.next().unwrap());
                lines.push(&bytes[begin..end]);
                while let Some(line) = lines.next() {
                    found.push(line);
                    let before = &bytes[..lines.position() as usize];
                    prop_assert!(before.ends_with(b"\n") || found.last() == Some(&Line::TooLong));
                }
                // As where a torn end is read again later, with what has come to it.
                if forgetful && end < bytes.len() && !lines.rest().is_empty() {
                    let all = lines.rest().len() + 1;
                    let begin = lines.position() as usize;
                    lines.forget_rest();
                    lines.push(&bytes[begin..begin + all]);
                    while let Some(line) = lines.next() {
                        found.push(line);
                    }
                }
            }
            prop_assert_eq!(found, expected(&bytes, max));
            let tail = bytes.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
            prop_assert_eq!(lines.rest(), if tail.len() > max { &[] } else { tail });
        }
    }

    #[test]
    fn from_the_middle_of_a_line_its_rest_is_passed_over() {
        let mut lines = Lines::new(10, 7, true);
        lines.push(b"rest");
        assert_eq!((lines.next(), lines.position()), (None, 11));
        lines.push(b"\nnext\nlast");
        assert_eq!((lines.next(), lines.next()), (Some(Line::Whole(b"next".to_vec())), None));
        assert_eq!((lines.rest(), lines.position(), lines.end()), (&b"last"[..], 17, 21));
        assert_eq!((lines.take_rest(), lines.position()), (b"last".to_vec(), 21));
    }
}
