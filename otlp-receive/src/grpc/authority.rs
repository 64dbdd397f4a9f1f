//! Makes the `:authority` of calls over a Unix socket one that `h2` takes. Pure.
//!
//! gRPC's C core, and with it Python, Ruby, PHP and C++, sends the socket's path there, percent-encoded, and other clients
//! send the bare path. `h2` ends every such call with PROTOCOL_ERROR before anybody is asked. What stands there means nothing
//! on a Unix socket, so the offending bytes are replaced where they lie, one for one: lengths, and with them HPACK's table, stay what they
//! are. Nothing is decoded and nothing copied: HPACK (RFC 7541) is walked over, its strings by their lengths. In Huffman's code
//! the same is done with bits: one of them makes `.` of a percent sign, `-` of a blank and `3` of a slash, and all these are six
//! bits long. A value with a symbol of more than eight bits, which no path should have, is left to `h2` from there on.
//!
//! # Limits
//!
//! State of a few dozen bytes. What is no HTTP/2 is walked over all the same, and left to `h2` to refuse.

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The name, and its place in HPACK's static table.
const NAME: &[u8] = b":authority";
const NAME_INDEX: u8 = 1;

/// Walks over what one connection sends.
#[derive(Debug)]
pub(super) struct Mender {
    at: At,
    block: Block,
    symbol: Symbol,
    head: [u8; 9],
}

/// The symbol of Huffman's code that is being read (RFC 7541, appendix B).
#[derive(Clone, Copy, Debug, Default)]
struct Symbol {
    bits: u8,
    count: u8,
    /// One came whose end is not known here.
    lost: bool,
}

/// Where in the frames.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes that mean nothing here.
    Skip(usize),
    /// So many bytes of a frame's head are there.
    Head(usize),
    /// The length of a frame's padding; and how much of the frame is left.
    Padding { left: usize, priority: bool },
    /// So much of a header block, then so much to skip.
    Block { left: usize, skip: usize },
    /// As before, after so many bytes of priority.
    Priority { bytes: usize, left: usize, skip: usize },
}

/// Where in a header block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Block {
    /// Before a field.
    Field,
    /// In a number that goes on, after which comes: a field, or a value.
    Number { then_value: bool },
    /// Before a string.
    Length { of: Part },
    /// In the length of a string that goes on.
    LongLength { of: Part, length: usize, shift: u32 },
    /// In a string. `matched`: how much of [`NAME`] the string is so far; none where it is something else.
    Text { of: Part, left: usize, matched: Option<usize> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Name { huffman: bool },
    Value { of_authority: bool, huffman: bool },
}

const NAME_PART: Part = Part::Name { huffman: false };

fn value(of_authority: bool) -> Part {
    Part::Value { of_authority, huffman: false }
}

impl Mender {
    /// For a connection that has sent nothing yet.
    pub(super) fn new() -> Mender {
        Mender { at: At::Skip(PREFACE_BYTES), block: Block::Field, symbol: Symbol::default(), head: [0; 9] }
    }

    /// Takes what came next, and mends it.
    pub(super) fn mend(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let (taken, next) = match self.at {
                At::Skip(left) => {
                    let taken = left.min(bytes.len());
                    (taken, if taken == left { At::Head(0) } else { At::Skip(left - taken) })
                }
                At::Head(have) => {
                    let taken = (9 - have).min(bytes.len());
                    self.head[have..have + taken].copy_from_slice(&bytes[..taken]);
                    (taken, if have + taken == 9 { self.frame() } else { At::Head(have + taken) })
                }
                At::Padding { left, priority } => {
                    let (left, skip) = (left - 1, usize::from(bytes[0]));
                    let left = left.saturating_sub(skip);
                    (1, if priority { At::Priority { bytes: 5, left, skip } } else { At::Block { left, skip } })
                }
                At::Priority { bytes: ahead, left, skip } => {
                    let taken = ahead.min(left).min(bytes.len());
                    let (ahead, left) = (ahead - taken, left - taken);
                    let done = ahead == 0 || left == 0;
                    (taken, if done { At::Block { left, skip } } else { At::Priority { bytes: ahead, left, skip } })
                }
                At::Block { left, skip } => {
                    let taken = left.min(bytes.len());
                    for byte in &mut bytes[..taken] {
                        *byte = self.block(*byte);
                    }
                    (taken, At::Block { left: left - taken, skip })
                }
            };
            self.at = match next {
                At::Block { left: 0, skip: 0 } | At::Skip(0) => At::Head(0),
                At::Block { left: 0, skip } => At::Skip(skip),
                next => next,
            };
            bytes = &mut bytes[taken..];
        }
    }

    /// What follows a frame's head.
    fn frame(&mut self) -> At {
        let [high, middle, low, kind, flags, ..] = self.head;
        let left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let priority = flags & PRIORITY != 0;
        match kind {
            HEADERS => {
                self.block = Block::Field;
                match (flags & PADDED != 0 && left > 0, priority) {
                    (true, _) => At::Padding { left, priority },
                    (false, true) => At::Priority { bytes: 5, left, skip: 0 },
                    (false, false) => At::Block { left, skip: 0 },
                }
            }
            // It goes on where the frame before it ended.
            CONTINUATION => At::Block { left, skip: 0 },
            _ => At::Skip(left),
        }
    }

    /// Takes the next byte of a header block, and gives what is to stand in its place (RFC 7541, section 6).
    fn block(&mut self, byte: u8) -> u8 {
        let mut mended = byte;
        self.block = match self.block {
            Block::Field => match byte {
                0x80.. => number(byte & 0x7f, 0x7f, Block::Field, false),
                0x40.. => literal(byte & 0x3f, 0x3f),
                0x20.. => number(byte & 0x1f, 0x1f, Block::Field, false),
                _ => literal(byte & 0x0f, 0x0f),
            },
            Block::Number { then_value } if byte & 0x80 != 0 => Block::Number { then_value },
            Block::Number { then_value: true } => Block::Length { of: value(false) },
            Block::Number { then_value: false } => Block::Field,
            Block::Length { of } => {
                self.symbol = Symbol::default();
                let huffman = byte & 0x80 != 0;
                let of = match of {
                    Part::Name { .. } => Part::Name { huffman },
                    Part::Value { of_authority, .. } => Part::Value { of_authority, huffman },
                };
                match byte & 0x7f {
                    0x7f => Block::LongLength { of, length: 0x7f, shift: 0 },
                    length => text(of, usize::from(length)),
                }
            }
            Block::LongLength { of, length, shift } => {
                // Longer than a frame can be is h2's to refuse.
                let length = length.saturating_add(usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX));
                match byte & 0x80 {
                    0 => text(of, length),
                    _ => Block::LongLength { of, length, shift: shift.saturating_add(7) },
                }
            }
            Block::Text { of, left, matched } => {
                let matched = matched.filter(|&at| NAME.get(at) == Some(&byte)).map(|at| at + 1);
                match of {
                    Part::Value { of_authority: true, huffman: false } if !fits(byte) => mended = b'-',
                    Part::Value { of_authority: true, huffman: true } => mended = self.symbol.mend(byte),
                    _ => {}
                }
                match left {
                    1 => after(of, matched == Some(NAME.len())),
                    _ => Block::Text { of, left: left - 1, matched },
                }
            }
        };
        mended
    }
}

impl Symbol {
    /// Takes the next byte, and gives what is to stand in its place.
    fn mend(&mut self, mut byte: u8) -> u8 {
        for place in (0..8).rev() {
            if self.lost {
                break;
            }
            self.bits = self.bits << 1 | (byte >> place & 1);
            self.count += 1;
            // What begins a blank or a percent sign, and nothing else; and a slash.
            if matches!((self.count, self.bits), (5, 0b01010) | (6, 0b011000)) {
                byte |= 1 << place;
                self.bits |= 1;
            }
            // The code is canonical: the symbols of one length follow one another.
            match (self.count, self.bits) {
                (5, 0b00000..=0b01001)
                | (6, 0b010100..=0b101101)
                | (7, 0b1011100..=0b1111011)
                | (8, 0b11111000..=0b11111101) => *self = Symbol::default(),
                (8, _) => self.lost = true,
                _ => {}
            }
        }
        byte
    }
}

/// A field whose name is that of an index, or follows.
fn literal(index: u8, most: u8) -> Block {
    match index {
        0 => Block::Length { of: NAME_PART },
        index => number(index, most, Block::Length { of: value(index == NAME_INDEX) }, true),
    }
}

/// A number that is all there, or goes on.
fn number(value: u8, most: u8, whole: Block, then_value: bool) -> Block {
    if value == most { Block::Number { then_value } } else { whole }
}

fn text(of: Part, length: usize) -> Block {
    match length {
        0 => after(of, false),
        left => Block::Text { of, left, matched: matches!(of, Part::Name { huffman: false }).then_some(0) },
    }
}

/// What follows a string.
fn after(of: Part, is_authority: bool) -> Block {
    match of {
        Part::Name { .. } => Block::Length { of: value(is_authority) },
        Part::Value { .. } => Block::Field,
    }
}

/// What every reader of an authority takes.
fn fits(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte)
}

/// For fuzzing: what a client sends after the preface; the first bytes say in which pieces.
///
/// # Panics
///
/// Where the pieces are mended in another way than the whole.
pub fn fuzz(data: &[u8]) {
    let (cuts, sent) = data.split_at(data.len().min(4));
    let mut whole = [&[0; PREFACE_BYTES][..], sent].concat();
    let (mut pieces, mut at) = (whole.clone(), 0);
    Mender::new().mend(&mut whole);
    let mut mender = Mender::new();
    let mut cut = cuts.iter().map(|&byte| usize::from(byte).max(1)).cycle();
    while at < pieces.len() {
        let to = pieces.len().min(at + cut.next().unwrap_or(1));
        mender.mend(&mut pieces[at..to]);
        at = to;
    }
    assert!(pieces == whole, "how the bytes are cut does not matter");
    // In Huffman's code bits are only set.
    assert!(whole[PREFACE_BYTES..].iter().zip(sent).all(|(now, was)| now == was || *now == b'-' || now & was == *was));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn string(text: &str) -> Vec<u8> {
        [&[text.len() as u8], text.as_bytes()].concat()
    }

    /// A header block with fields of every form around one authority.
    fn block(authority: &[u8], value: &str) -> Vec<u8> {
        let path = [&[0x40][..], &string(":path"), &string("/a%b")].concat();
        let large = [&[0x0f, 0x2f][..], &string("x%y")].concat();
        let long = [&[0x00][..], &string("x"), &[0x7f, 0x49], &[b'%'; 200]].concat();
        let size = [0x3f, 0xe1, 0x1f];
        [&size[..], &[0x83, 0xff, 0x00], &path, &large, authority, &string(value), &long, &[0x86]].concat()
    }

    #[test]
    fn the_authority_is_mended_and_nothing_else_in_pieces_of_every_size() {
        let by_index: &[u8] = &[0x41];
        let never_indexed: &[u8] = &[0x11];
        let by_name = [&[0x40][..], &string(":authority")].concat();
        for authority in [by_index, never_indexed, &by_name] {
            for (value, mended) in
                [("tmp%2Fa.sock", "tmp-2Fa.sock"), ("/tmp/a", "-tmp-a"), ("localhost:80", "localhost:80"), ("", "")]
            {
                let made = |value: &str| {
                    let block = block(authority, value);
                    let (one, two) = block.split_at(block.len() / 2);
                    let padded = [&[3][..], &[0x80, 0, 0, 0, 9], one, b"%%%"].concat();
                    [
                        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                        &frame(4, 0, b"%%%%%%"),
                        &frame(HEADERS, PADDED | PRIORITY, &padded),
                        &frame(CONTINUATION, 4, two),
                        &frame(0, 0, b"%%"),
                        &frame(HEADERS, 4, &block),
                        &frame(HEADERS, 4 | PRIORITY, &[&[0, 0, 0, 0, 9][..], &block].concat()),
                        &frame(HEADERS, 4, b""),
                        &frame(0, 1, b"%41%01%"),
                    ]
                    .concat()
                };
                let (came, expected) = (made(value), made(mended));
                for size in 1..came.len() {
                    let (mut mender, mut bytes) = (Mender::new(), came.clone());
                    bytes.chunks_mut(size).for_each(|piece| mender.mend(piece));
                    assert_eq!(bytes, expected, "{value} by {size}");
                }
            }
        }
    }

    /// In Huffman's code.
    fn huffman(text: &str) -> Vec<u8> {
        let symbol = |byte: u8| match byte {
            b'%' => "010101",
            b' ' => "010100",
            b'-' => "010110",
            b'.' => "010111",
            b'/' => "011000",
            b'3' => "011001",
            b'2' => "00010",
            b'F' => "1100001",
            b'a' => "00011",
            b'c' => "00100",
            b'k' => "1110101",
            b'o' => "00111",
            b's' => "01000",
            b'X' => "11111100",
            b'_' => "100010",
            b'~' => "1111111111101",
            byte => panic!("{byte}"),
        };
        let mut bits: String = text.bytes().map(symbol).collect();
        bits.extend(std::iter::repeat_n('1', bits.len().next_multiple_of(8) - bits.len()));
        let bytes =
            bits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap());
        bytes.collect()
    }

    #[test]
    fn huffmans_code_is_mended_in_its_bits_in_pieces_of_every_size() {
        for (value, mended) in [
            ("/a/sock", "3a3sock"),
            ("a%2Fso cX", "a.2Fso-cX"),
            ("% / %_", ".-3-._"),
            ("//////////", "3333333333"),
            ("s.sock", "s.sock"),
            // Its length is not known here: what follows is h2's.
            ("/~/", "3~/"),
        ] {
            let made = |value: &str| {
                let coded = huffman(value);
                let text = |index: u8| [&[index, 0x80 | coded.len() as u8][..], &coded].concat();
                // Only the authority's value: not what stands in another field, nor another way.
                let other = [text(0x44), [&[0x41][..], &string("a%2F")].concat()].concat();
                (text(0x41), other)
            };
            let ((came, other), (expected, _)) = (made(value), made(mended));
            let came = [&[0; PREFACE_BYTES][..], &frame(HEADERS, 4, &[&came[..], &other].concat())].concat();
            let other = [&other[..other.len() - 3], b"-2F"].concat();
            let expected = [&[0; PREFACE_BYTES][..], &frame(HEADERS, 4, &[&expected[..], &other].concat())].concat();
            for size in 1..came.len() {
                let (mut mender, mut bytes) = (Mender::new(), came.clone());
                bytes.chunks_mut(size).for_each(|piece| mender.mend(piece));
                assert_eq!(bytes, expected, "{value} by {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_keeps_its_length_and_pieces_do_not_matter(cuts: [u8; 4], bytes: Vec<u8>, framed: bool) {
            let head = if framed { frame(HEADERS, 0, &[0; 200])[..9].to_vec() } else { Vec::new() };
            fuzz(&[&cuts[..], &head, &bytes].concat());
        }
    }
}
