//! Bytes as JSON writes them: ids in hex, everything else in base64.
//!
//! # Specification
//!
//! OTLP, JSON Protobuf Encoding, for hex (any case is read, lower case written). ProtoJSON for base64: the standard
//! alphabet with padding is written; the URL-safe one and missing padding are read as well (RFC 4648).

/// Value of a hex digit; 0xff for all other bytes.
static HEX: [u8; 256] = values(b"0123456789abcdef", b"0123456789ABCDEF");
/// Value of a base64 digit of either alphabet; 0xff for all other bytes.
static BASE64: [u8; 256] = values(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
);
const BASE64_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

const fn values(digits: &[u8], also: &[u8]) -> [u8; 256] {
    let mut table = [0xff; 256];
    let mut index = 0;
    while index < digits.len() {
        table[digits[index] as usize] = index as u8;
        table[also[index] as usize] = index as u8;
        index += 1;
    }
    table
}

/// The bytes of `2 * N` hex digits.
#[inline(always)]
pub(super) fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    let mut all = 0;
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (HEX[pair[0] as usize], HEX[pair[1] as usize]);
        all |= high | low;
        *byte = high << 4 | low & 0xf;
    }
    (all < 16).then_some(bytes)
}

/// Appends the bytes of any even number of hex digits.
pub(super) fn put_unhex(out: &mut Vec<u8>, digits: &[u8]) -> Option<()> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    for pair in digits.as_chunks::<2>().0 {
        out.extend_from_slice(&unhex::<1>(pair)?);
    }
    Some(())
}

/// Appends bytes as hex.
#[inline]
pub(super) fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut digits = [0; 16];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(word) {
            *pair = [HEX_DIGITS[(byte >> 4) as usize], HEX_DIGITS[(byte & 0xf) as usize]];
        }
        out.extend_from_slice(&digits);
    }
    for byte in rest {
        out.extend_from_slice(&[HEX_DIGITS[(byte >> 4) as usize], HEX_DIGITS[(byte & 0xf) as usize]]);
    }
}

/// Appends the bytes of base64. Nothing where it is none: other bytes, a length that no bytes have, padding of the wrong
/// length, or bits set that belong to no byte (the text was damaged then).
pub(super) fn put_unbase64(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        digits => digits,
    };
    out.reserve(digits.len() / 4 * 3 + 2);
    let (quads, rest) = digits.as_chunks::<4>();
    for quad in quads {
        let [a, b, c, d] = quad.map(|digit| BASE64[digit as usize]);
        if a | b | c | d > 63 {
            return None;
        }
        out.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
    }
    match *rest {
        [] => {}
        [a, b] => {
            let [a, b] = [a, b].map(|digit| BASE64[digit as usize]);
            if a | b > 63 || b & 0xf != 0 {
                return None;
            }
            out.push(a << 2 | b >> 4);
        }
        [a, b, c] => {
            let [a, b, c] = [a, b, c].map(|digit| BASE64[digit as usize]);
            if a | b | c > 63 || c & 3 != 0 {
                return None;
            }
            out.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2]);
        }
        _ => return None,
    }
    Some(())
}

/// Appends bytes as base64.
pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |bits: u32| BASE64_DIGITS[(bits & 63) as usize];
    out.reserve(bytes.len().div_ceil(3) * 4);
    let (triples, rest) = bytes.as_chunks::<3>();
    for &[a, b, c] in triples {
        let bits = u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c);
        out.extend_from_slice(&[digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), digit(bits)]);
    }
    match *rest {
        [a] => {
            let bits = u32::from(a) << 4;
            out.extend_from_slice(&[digit(bits >> 6), digit(bits), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from(a) << 10 | u32::from(b) << 2;
            out.extend_from_slice(&[digit(bits >> 12), digit(bits >> 6), digit(bits), b'=']);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways_in_any_case() {
        let bytes: [u8; 16] = std::array::from_fn(|index| (index * 17) as u8 ^ 0x5a);
        let mut text = Vec::new();
        put_hex(&mut text, &bytes);
        assert_eq!(unhex::<16>(&text), Some(bytes));
        assert_eq!(unhex::<16>(&text.to_ascii_uppercase()), Some(bytes));
        let mut out = Vec::new();
        assert_eq!((put_unhex(&mut out, &text), &out[..]), (Some(()), &bytes[..]));
        let mut odd = Vec::new();
        put_hex(&mut odd, &bytes[..11]);
        assert_eq!(odd, text[..22]);
        for wrong in [&text[1..], &text[2..], b"", b"0g".repeat(16).as_slice(), b"0\xc3".repeat(16).as_slice()] {
            assert_eq!(unhex::<16>(wrong), None);
        }
        assert_eq!(put_unhex(&mut out, b"abc"), None);
        assert_eq!(put_unhex(&mut out, b"-1"), None);
    }

    #[test]
    fn base64_of_every_length_goes_both_ways() {
        let bytes: Vec<u8> = (0..60).map(|index| (index * 37) as u8 ^ 0xb7).collect();
        for len in 0..bytes.len() {
            let mut text = Vec::new();
            put_base64(&mut text, &bytes[..len]);
            assert_eq!(text.len(), len.div_ceil(3) * 4);
            let text = String::from_utf8(text).unwrap();
            let url_safe = text.replace('+', "-").replace('/', "_");
            for text in [&text, &url_safe, text.trim_end_matches('='), url_safe.trim_end_matches('=')] {
                let mut out = Vec::new();
                assert_eq!((put_unbase64(&mut out, text.as_bytes()), &out[..]), (Some(()), &bytes[..len]), "{text}");
            }
        }
    }

    #[test]
    fn base64_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let mut out = Vec::new();
            put_base64(&mut out, bytes.as_bytes());
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["Z", "Zm9vY", "Zg=", "Z===", "====", "=", "Zg==Zg==", "Zm 9", "Zm9\n", "Zh==", "Zm9=", "ä", "Zm=v"]
        {
            assert_eq!(put_unbase64(&mut Vec::new(), text.as_bytes()), None, "{text}");
        }
    }
}
