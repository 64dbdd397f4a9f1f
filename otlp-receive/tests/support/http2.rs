//! HTTP/2 as a client that does whatever it is told: frames and header blocks as bytes, without a library, so that what
//! no library would send can be sent. No sockets: used over real ones and over sessions without any.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// A frame (RFC 9113, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Takes the first whole frame out of `bytes`.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
        let [l0, l1, l2, kind, flags, stream @ ..] = *bytes.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if bytes.len() < end {
            return None;
        }
        let payload = bytes.drain(..end).skip(9).collect();
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The number at `at`.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A SETTINGS frame.
pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// What a client begins with. Its header table has no room, so that answers can be read without one.
pub(crate) fn hello(pairs: &[(u16, u32)]) -> Vec<u8> {
    [PREFACE.to_vec(), settings(&[&[(1, 0)], pairs].concat())].concat()
}

/// A header block of literals without indexing (RFC 7541, section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        string(&mut out, name);
        string(&mut out, value);
    }
    out
}

/// A string as it is (RFC 7541, section 5.2).
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A string in Huffman's code.
pub(crate) fn huffman(out: &mut Vec<u8>, text: &str) {
    let codes = codes();
    let (mut bits, mut bytes) = (Vec::new(), Vec::new());
    for byte in text.bytes() {
        let (code, length) = codes[usize::from(byte)];
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(true);
    }
    for eight in bits.chunks(8) {
        bytes.push(eight.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit)));
    }
    integer(out, 0x80, 7, bytes.len());
    out.extend_from_slice(&bytes);
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1).
pub(crate) fn integer(out: &mut Vec<u8>, pattern: u8, prefix: u8, mut value: usize) {
    let max = (1usize << prefix) - 1;
    if value < max {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | max as u8);
    value -= max;
    while value >= 128 {
        out.push(value as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// Reads a header block of a server whose table has no room: static entries and literals.
pub(crate) fn read_block(mut block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(&first) = block.first() {
        if first & 0x80 != 0 {
            let (name, value) = table(read_integer(&mut block, 7));
            fields.push((name.to_owned(), value.to_owned()));
        } else if first & 0xe0 == 0x20 {
            assert_eq!(read_integer(&mut block, 5), 0, "a table of the size that was asked for");
        } else {
            let prefix = if first & 0x40 != 0 { 6 } else { 4 };
            let name = match read_integer(&mut block, prefix) {
                0 => read_string(&mut block),
                index => table(index).0.to_owned(),
            };
            let value = read_string(&mut block);
            fields.push((name, value));
        }
    }
    fields
}

/// The entries of the static table that servers use (RFC 7541, appendix A).
fn table(index: usize) -> (&'static str, &'static str) {
    match index {
        8 => (":status", "200"),
        9 => (":status", "204"),
        12 => (":status", "400"),
        13 => (":status", "404"),
        14 => (":status", "500"),
        22 => ("allow", ""),
        31 => ("content-type", ""),
        _ => panic!("static entry {index}"),
    }
}

fn read_integer(block: &mut &[u8], prefix: u8) -> usize {
    let max = (1usize << prefix) - 1;
    let mut value = usize::from(block[0]) & max;
    *block = &block[1..];
    if value == max {
        let mut shift = 0;
        loop {
            let byte = block[0];
            *block = &block[1..];
            value += usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
    }
    value
}

fn read_string(block: &mut &[u8]) -> String {
    let coded = block[0] & 0x80 != 0;
    let length = read_integer(block, 7);
    let (bytes, rest) = block.split_at(length);
    *block = rest;
    let bytes = if coded { read_huffman(bytes) } else { bytes.to_vec() };
    String::from_utf8(bytes).unwrap()
}

fn read_huffman(bytes: &[u8]) -> Vec<u8> {
    let codes = codes();
    let (mut out, mut code, mut length) = (Vec::new(), 0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(symbol) = codes.iter().position(|&own| own == (code, length)) {
            out.push(u8::try_from(symbol).expect("no end of string inside"));
            (code, length) = (0, 0);
        }
    }
    out
}

/// Code and length of every symbol (RFC 7541, appendix B). The code is canonical, so that its lengths say all: here in
/// runs of equal ones.
fn codes() -> Vec<(u32, u8)> {
    #[rustfmt::skip]
    const RUNS: &[(u8, u8)] = &[
        (13, 1), (23, 1), (28, 7), (24, 1), (30, 1), (28, 2), (30, 1), (28, 8), (30, 1), (28, 9), (6, 1), (10, 2),
        (12, 1), (13, 1), (6, 1), (8, 1), (11, 1), (10, 2), (8, 1), (11, 1), (8, 1), (6, 3), (5, 3), (6, 7), (7, 1),
        (8, 1), (15, 1), (6, 1), (12, 1), (10, 1), (13, 1), (6, 1), (7, 22), (8, 1), (7, 1), (8, 1), (13, 1), (19, 1),
        (13, 1), (14, 1), (6, 1), (15, 1), (5, 1), (6, 1), (5, 1), (6, 1), (5, 1), (6, 3), (5, 1), (7, 2), (6, 3),
        (5, 1), (6, 1), (7, 1), (6, 1), (5, 2), (6, 1), (7, 5), (15, 1), (11, 1), (14, 1), (13, 1), (28, 1), (20, 1),
        (22, 1), (20, 2), (22, 3), (23, 1), (22, 1), (23, 5), (24, 1), (23, 1), (24, 2), (22, 1), (23, 1), (24, 1),
        (23, 4), (21, 1), (22, 1), (23, 1), (22, 1), (23, 2), (24, 1), (22, 1), (21, 1), (20, 1), (22, 2), (23, 2),
        (21, 1), (23, 1), (22, 2), (24, 1), (21, 1), (22, 1), (23, 2), (21, 2), (22, 1), (21, 1), (23, 1), (22, 1),
        (23, 2), (20, 1), (22, 3), (23, 1), (22, 2), (23, 1), (26, 2), (20, 1), (19, 1), (22, 1), (23, 1), (22, 1),
        (25, 1), (26, 3), (27, 2), (26, 1), (24, 1), (25, 1), (19, 1), (21, 1), (26, 1), (27, 2), (26, 1), (27, 1),
        (24, 1), (21, 2), (26, 2), (28, 1), (27, 3), (20, 1), (24, 1), (20, 1), (21, 1), (22, 1), (21, 2), (23, 1),
        (22, 2), (25, 2), (24, 2), (26, 1), (23, 1), (26, 1), (27, 1), (26, 2), (27, 5), (28, 1), (27, 5), (26, 1),
        (30, 1),
    ];
    let lengths: Vec<u8> = RUNS.iter().flat_map(|&(length, count)| vec![length; count.into()]).collect();
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&symbol| (lengths[symbol], symbol));
    let mut codes = vec![(0, 0); lengths.len()];
    let (mut code, mut before) = (0u32, 0);
    for symbol in order {
        code <<= lengths[symbol] - before;
        before = lengths[symbol];
        codes[symbol] = (code, before);
        code += 1;
    }
    codes
}

/// One message of gRPC.
pub(crate) fn message(flag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The fields of an ordinary call.
pub(crate) fn fields<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    for &(name, value) in more {
        match fields.iter_mut().find(|(own, _)| *own == name) {
            Some(own) => own.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

/// The frames of a call.
pub(crate) fn call(stream: u32, path: &str, more: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block(&fields(path, more)));
    let pieces: Vec<_> = data.chunks(16_384).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let flags = if index + 1 == pieces.len() { END_STREAM } else { 0 };
        bytes.extend_from_slice(&frame(DATA, flags, stream, piece));
    }
    if pieces.is_empty() {
        bytes.extend_from_slice(&frame(DATA, END_STREAM, stream, b""));
    }
    bytes
}

/// What came back of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: Vec<(String, String)>,
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The code of RST_STREAM.
    pub(crate) reset: Option<u32>,
    pub(crate) ended: bool,
}

impl Answer {
    /// Takes a frame of its stream.
    pub(crate) fn take(&mut self, frame: &Frame) {
        match frame.kind {
            HEADERS if self.head.is_empty() => self.head = read_block(&frame.payload),
            HEADERS => self.trailers = read_block(&frame.payload),
            DATA => self.data.extend_from_slice(&frame.payload),
            RST_STREAM => self.reset = Some(frame.number(0)),
            _ => {}
        }
        self.ended |= frame.ends_stream() || frame.kind == RST_STREAM;
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.trailers.iter().chain(&self.head).find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The code of gRPC; `None` where there is none.
    pub(crate) fn code(&self) -> Option<i32> {
        self.field("grpc-status").map(|code| code.parse().unwrap())
    }

    /// `grpc-message` as text.
    pub(crate) fn message(&self) -> String {
        let (coded, mut bytes, mut at) = (self.field("grpc-message").unwrap_or_default().as_bytes(), Vec::new(), 0);
        assert!(coded.iter().all(|byte| (b' '..=b'~').contains(byte)));
        while at < coded.len() {
            if coded[at] == b'%' {
                let hex = std::str::from_utf8(&coded[at + 1..at + 3]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                at += 3;
            } else {
                bytes.push(coded[at]);
                at += 1;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// `grpc-status-details-bin` as bytes.
    pub(crate) fn details(&self) -> Option<Vec<u8>> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let text = self.field("grpc-status-details-bin")?;
        let (mut bits, mut have, mut out) = (0u32, 0, Vec::new());
        for digit in text.bytes() {
            bits = bits << 6 | DIGITS.iter().position(|&own| own == digit).unwrap() as u32;
            have += 6;
            if have >= 8 {
                have -= 8;
                out.push((bits >> have) as u8);
            }
        }
        Some(out)
    }
}
