//! Numbers as JSON writes them: read without loss, written as short as they come back.
//!
//! # Specification
//!
//! RFC 8259 section 6 for the grammar; ProtoJSON for strings that hold numbers, for integers with an exponent or a
//! fraction of zeros, and for `NaN` and `Infinity`.

use std::io::Write;

/// An integer of up to 64 bits and a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) negative: bool,
    pub(super) magnitude: u64,
}

impl Integer {
    /// The value where it fits in an `i64`.
    #[inline(always)]
    pub(super) fn signed(self) -> Option<i64> {
        if self.negative {
            // Also for the one magnitude that only a negative number has.
            (self.magnitude <= 1 << 63).then(|| (self.magnitude as i64).wrapping_neg())
        } else {
            i64::try_from(self.magnitude).ok()
        }
    }

    /// The value where it is not negative. Minus zero is zero.
    #[inline(always)]
    pub(super) fn unsigned(self) -> Option<u64> {
        (!self.negative || self.magnitude == 0).then_some(self.magnitude)
    }
}

const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGH_NIBBLES: u64 = 0xf0f0_f0f0_f0f0_f0f0;

/// Reads a run of digits: its value, as far as 64 bits hold it, and how many there are. The value is exact for 19 digits
/// and less.
#[inline(always)]
pub(super) fn digits(bytes: &[u8]) -> (u64, usize) {
    let (mut value, mut at) = (0u64, 0);
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let below_ten = word.wrapping_add(0x0606_0606_0606_0606) & HIGH_NIBBLES;
        if (word & HIGH_NIBBLES) != ASCII_ZEROS || below_ten != ASCII_ZEROS {
            break;
        }
        value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
        at += 8;
    }
    while let Some(byte) = bytes.get(at)
        && byte.is_ascii_digit()
    {
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        at += 1;
    }
    (value, at)
}

/// The value of eight digits, the first in the lowest byte: pairs, then fours, then all, each by one multiplication.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let word = word - ASCII_ZEROS;
    let pairs = (word * 10 + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

/// The parts of a number's text.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: &'a [u8],
    exponent_negative: bool,
}

/// Takes a text apart that is a JSON number from its first byte to its last.
fn parse(text: &[u8]) -> Option<Decimal<'_>> {
    let split = |text: &'_ [u8]| text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, mut rest) = text.split_at(split(text));
    if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
        return None;
    }
    let mut fraction: &[u8] = &[];
    if let Some(after) = rest.strip_prefix(b".") {
        (fraction, rest) = after.split_at(split(after));
        if fraction.is_empty() {
            return None;
        }
    }
    let (mut exponent, mut exponent_negative): (&[u8], bool) = (&[], false);
    if let Some(after) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        exponent_negative = after.first() == Some(&b'-');
        let after = after.strip_prefix(b"-").or_else(|| after.strip_prefix(b"+")).unwrap_or(after);
        (exponent, rest) = after.split_at(split(after));
        if exponent.is_empty() {
            return None;
        }
    }
    rest.is_empty().then_some(Decimal { negative, whole, fraction, exponent, exponent_negative })
}

/// Whether the text is a number in JSON.
pub(super) fn is_number(text: &[u8]) -> bool {
    parse(text).is_some()
}

/// The integer that a number's text amounts to, whatever its form: `1e3`, `1.50e1`, `2.0`.
///
/// Nothing where it is no number, no integer, or needs more than 64 bits.
pub(super) fn integer(text: &[u8]) -> Option<Integer> {
    let number = parse(text)?;
    let all = || number.whole.iter().chain(number.fraction);
    let mut exponent = 0i64;
    for digit in number.exponent {
        // Beyond any length a text can have: the value is zero, no integer or too large all the same.
        exponent = (exponent * 10 + i64::from(digit - b'0')).min(1 << 40);
    }
    if number.exponent_negative {
        exponent = -exponent;
    }
    // How many of the digits stand before the decimal point once the exponent is applied.
    let before = number.whole.len() as i64 + exponent;
    let mut magnitude = 0u64;
    for (index, digit) in all().enumerate() {
        if (index as i64) < before {
            magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        } else if *digit != b'0' {
            return None;
        }
    }
    let missing = before - (number.whole.len() + number.fraction.len()) as i64;
    if magnitude != 0 && missing > 0 {
        magnitude = magnitude.checked_mul(10u64.checked_pow(u32::try_from(missing).ok()?)?)?;
    }
    Some(Integer { negative: number.negative, magnitude })
}

/// The double that a number's text stands for, rounded as IEEE 754 has it.
///
/// Nothing where it is no number, or larger than the largest double (ProtoJSON: out of range is an error).
pub(super) fn double(text: &[u8]) -> Option<f64> {
    parse(text)?;
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The double that a string stands for.
pub(super) fn double_in_string(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => double(text),
    }
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Up to here every integer is a double.
const EXACT: u64 = 1 << 53;

/// Reads a number without an exponent from the front of the bytes, where that needs no more than one exact division:
/// up to 15 digits or so. The value and how many bytes it took.
///
/// Digits and power of ten are exact then, so the quotient is rounded once, as the decimal fraction itself would be.
#[inline(always)]
pub(super) fn short_double(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let (whole, whole_len) = digits(bytes.get(start..)?);
    let mut at = start + whole_len;
    if whole_len == 0 || whole_len > 15 || (whole_len > 1 && bytes[start] == b'0') {
        return None;
    }
    let mut value = whole as f64;
    if bytes.get(at) == Some(&b'.') {
        let (fraction, places) = digits(&bytes[at + 1..]);
        if places == 0 || whole_len + places > 17 {
            return None;
        }
        let all = whole * POWERS[places] as u64 + fraction;
        if all > EXACT {
            return None;
        }
        value = all as f64 / POWERS[places];
        at += 1 + places;
    }
    match bytes.get(at) {
        Some(b'e' | b'E' | b'.' | b'0'..=b'9') => None,
        _ => Some((if negative { -value } else { value }, at)),
    }
}

/// Two digits for each number below 100.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut index = 0;
    while index < 100 {
        pairs[index] = [b'0' + (index / 10) as u8, b'0' + (index % 10) as u8];
        index += 1;
    }
    pairs
};

/// Writes the digits of an integer so that they end where the buffer does, which has room for 20. Gives the position of
/// the first.
#[inline(always)]
fn digits_before_end(buffer: &mut [u8], mut value: u64) -> usize {
    let mut at = buffer.len();
    // Eight at a time: a long number is a time, and halving it shortens the chain of divisions.
    while value >= 100_000_000 {
        let low = (value % 100_000_000) as u32;
        value /= 100_000_000;
        at -= 8;
        let (high, low) = (low / 10_000, low % 10_000);
        for (place, pair) in [high / 100, high % 100, low / 100, low % 100].into_iter().enumerate() {
            buffer[at + 2 * place..at + 2 * place + 2].copy_from_slice(&PAIRS[pair as usize]);
        }
    }
    let mut value = value as u32;
    while value >= 100 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        at -= 1;
        buffer[at] = b'0' + value as u8;
    }
    at
}

/// Appends the digits of an integer.
#[inline]
pub(super) fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    let mut buffer = [0u8; 20];
    let at = digits_before_end(&mut buffer, value);
    out.extend_from_slice(&buffer[at..]);
}

/// Appends the digits of an integer in quotes.
#[inline]
pub(super) fn put_quoted(out: &mut Vec<u8>, value: u64) {
    let mut buffer = [b'"'; 22];
    let at = digits_before_end(&mut buffer[..21], value);
    buffer[at - 1] = b'"';
    out.extend_from_slice(&buffer[at - 1..]);
}

/// Appends an integer with its sign.
#[inline]
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    put_unsigned(out, value.unsigned_abs());
}

/// Appends a double so that reading it gives the same bits, but for the payload of a NaN, which JSON cannot carry.
#[inline]
pub(super) fn put_double(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if magnitude < 1e15 {
        // A few places after the point are the common case. Where digits / power is the value, a reader that rounds
        // correctly gets it back, for both are exact.
        for places in [0usize, 1, 2, 3, 4, 6] {
            let scaled = magnitude * POWERS[places];
            let all = scaled as u64;
            if all >= EXACT {
                break;
            }
            if all as f64 == scaled && (all as f64 / POWERS[places]).to_bits() == magnitude.to_bits() {
                return put_decimal(out, value.is_sign_negative(), all, places);
            }
        }
    }
    put_any_double(out, value);
}

fn put_decimal(out: &mut Vec<u8>, negative: bool, all: u64, places: usize) {
    if negative {
        out.push(b'-');
    }
    let power = POWERS[places] as u64;
    put_unsigned(out, all / power);
    if places > 0 {
        // The power keeps the zeros that lead the fraction; its own leading 1 becomes the point.
        let point = out.len();
        put_unsigned(out, power + all % power);
        out[point] = b'.';
        while out.last() == Some(&b'0') {
            out.pop();
        }
    } else if negative && all == 0 {
        // Some readers take "-0" for the integer 0.
        out.extend_from_slice(b".0");
    }
}

#[inline(never)]
fn put_any_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    } else {
        // The shortest digits that come back, with an exponent where there would be many zeros. Writing to a `Vec`
        // cannot fail.
        let _ = write!(out, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random::Random;

    fn int(negative: bool, magnitude: u64) -> Option<Integer> {
        Some(Integer { negative, magnitude })
    }

    #[test]
    fn integers_are_exact_in_every_form() {
        let table: &[(&str, Option<Integer>)] = &[
            ("0", int(false, 0)),
            ("-0", int(true, 0)),
            ("18446744073709551615", int(false, u64::MAX)),
            ("18446744073709551616", None),
            ("1e3", int(false, 1000)),
            ("1E+3", int(false, 1000)),
            ("-1.50e1", int(true, 15)),
            ("1.0", int(false, 1)),
            ("1000e-3", int(false, 1)),
            ("1001e-3", None),
            ("1.5", None),
            ("0.0e99999999999999999999", int(false, 0)),
            ("1e99999999999999999999", None),
            ("1e-99999999999999999999", None),
            ("1.8446744073709551615e19", int(false, u64::MAX)),
            ("", None),
            ("-", None),
            ("+1", None),
            ("01", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("1e+", None),
            ("1 ", None),
            ("abc", None),
            ("0x10", None),
            ("NaN", None),
        ];
        for (text, expected) in table {
            assert_eq!(integer(text.as_bytes()), *expected, "{text}");
        }
        assert_eq!(integer(b"-9223372036854775808").unwrap().signed(), Some(i64::MIN));
        assert_eq!(integer(b"-9223372036854775809").unwrap().signed(), None);
        assert_eq!(integer(b"9223372036854775808").unwrap().signed(), None);
        assert_eq!(integer(b"-0").unwrap().unsigned(), Some(0));
        assert_eq!(integer(b"-1").unwrap().unsigned(), None);
    }

    #[test]
    fn runs_of_digits_of_every_length() {
        let text = b"1234567890123456789";
        for len in 0..=text.len() {
            let expected = std::str::from_utf8(&text[..len]).unwrap().parse().unwrap_or(0);
            for tail in [&b""[..], b"/", b":", b"x1234567890", b"\xb0"] {
                assert_eq!(digits(&[&text[..len], tail].concat()), (expected, len));
            }
        }
    }

    /// Doubles of every kind: any bits, few decimals, integers, the edges.
    fn doubles() -> impl Iterator<Item = f64> {
        let mut random = Random::new(7);
        let edges = [
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            5e-324,
            0.1,
            1e15,
            1e16,
            1e21,
            1e22,
            1e23,
            9007199254740991.0,
            9007199254740993.0,
            231361.82938450878,
            0.3,
            0.1 + 0.2,
            1e-7,
            123456.7890123,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        edges.into_iter().chain((0..20_000).map(move |index| match index % 4 {
            0 => f64::from_bits(random.bits()),
            1 => random.below(1 << 40) as f64 / POWERS[random.index(8)],
            2 => random.unit() * 1000.0,
            _ => -(random.below(1 << 60) as f64),
        }))
    }

    #[test]
    fn doubles_come_back_bit_for_bit() {
        for value in doubles().filter(|value| !value.is_nan()) {
            let mut out = Vec::new();
            put_double(&mut out, value);
            let text = String::from_utf8(out).unwrap();
            let read = match text.strip_prefix('"') {
                Some(text) => double_in_string(text.trim_end_matches('"').as_bytes()),
                None => double(text.as_bytes()),
            };
            assert_eq!(read.unwrap().to_bits(), value.to_bits(), "{text}");
        }
        assert!(double_in_string(b"NaN").unwrap().is_nan());
    }

    #[test]
    fn the_short_way_gives_what_the_standard_library_gives() {
        let mut taken = 0;
        for value in doubles().filter(|value| value.is_finite()) {
            for text in [format!("{value:?}"), format!("{value}"), format!("{value:.3}")] {
                if let Some((short, len)) = short_double(text.as_bytes()) {
                    assert_eq!(len, text.len(), "{text}");
                    assert_eq!(short.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
                    taken += 1;
                }
            }
        }
        assert!(taken > 10_000, "{taken}");
        for text in ["", "-", "01", "1.", ".5", "1e5", "1.5e5", "1.2.3", "12345678901234567"] {
            assert_eq!(short_double(text.as_bytes()), None, "{text}");
        }
        assert_eq!(short_double(b"-0").map(|(value, _)| value.to_bits()), Some((-0.0f64).to_bits()));
    }

    #[test]
    fn doubles_that_do_not_exist_are_none() {
        for text in ["1e999", "-1e999", "nan", "inf", "Infinity", "+1", "1.", ".5", "", "0x1p3", "1_000"] {
            assert_eq!(double(text.as_bytes()), None, "{text}");
        }
        assert_eq!(double(b"1e-999"), Some(0.0));
    }

    #[test]
    fn doubles_are_written_short() {
        let write = |value| {
            let mut out = Vec::new();
            put_double(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        for (value, text) in [
            (5.0, "5"),
            (-0.0, "-0.0"),
            (0.25, "0.25"),
            (-0.005, "-0.005"),
            (637.704, "637.704"),
            (1e300, "1e300"),
            (1.0e-7, "1e-7"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "\"NaN\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(write(value), text);
        }
    }

    #[test]
    fn integers_are_written_as_the_standard_library_does() {
        let mut random = Random::new(3);
        for shift in 0..64 {
            for value in [random.bits() >> shift, 1 << shift, (1 << shift) - 1] {
                let mut out = Vec::new();
                put_unsigned(&mut out, value);
                put_signed(&mut out, value as i64);
                put_quoted(&mut out, value);
                assert_eq!(String::from_utf8(out).unwrap(), format!("{value}{}\"{value}\"", value as i64));
            }
        }
    }
}
