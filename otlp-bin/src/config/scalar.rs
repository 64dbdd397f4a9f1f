//! Text to values, as the Collector reads it: plain YAML scalars (go-yaml's rules) and durations (Go's).

use super::node::Value;

/// What a plain (unquoted) scalar is.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Str(text.to_owned());
    }
    if is_date(text) {
        return Value::Time(text.to_owned());
    }
    // go-yaml drops every underscore before it looks for a number.
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(int) = integer(&digits) {
        return Value::Int(int);
    }
    if is_float(&digits)
        && let Ok(float) = digits.parse()
    {
        return Value::Float(float);
    }
    Value::Str(text.to_owned())
}

/// An integer with the prefixes 0x, 0o, 0b and the leading zero of octal, in the range of i64 and u64.
fn integer(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = rest.to_ascii_lowercase();
    let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -magnitude } else { magnitude };
    (value >= i128::from(i64::MIN)).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && digits(fraction),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_fits && exponent_fits
}

/// `2006-1-2`, alone or with a time after `T`, `t` or a space.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim_start())),
        None => (text, None),
    };
    let mut parts = date[5..].split('-').map(|part| match part.len() {
        1 | 2 => part.parse::<u8>().ok(),
        _ => None,
    });
    let (Some(Some(month)), Some(Some(day)), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    let time_fits = time.is_none_or(|time| {
        time.starts_with(|c: char| c.is_ascii_digit())
            && time.matches(':').count() >= 2
            && time.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'Z' | b'z' | b'+' | b'-' | b' '))
    });
    (1..=12).contains(&month) && (1..=31).contains(&day) && time_fits
}

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotADuration;

/// A Go duration such as `300ms`, `-1.5h` or `2h45m`, in nanoseconds.
pub(super) fn duration_ns(text: &str) -> Result<i64, NotADuration> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(NotADuration);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(NotADuration)?;
        let (number, after) = rest.split_at(number_end);
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(NotADuration);
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ns: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(NotADuration),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 19 {
            return Err(NotADuration);
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| NotADuration)? };
        total += whole * unit_ns;
        let mut scale = unit_ns;
        for digit in fraction.bytes() {
            scale /= 10;
            total += i128::from(digit - b'0') * scale;
        }
        if total > i128::from(i64::MAX) {
            return Err(NotADuration);
        }
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| NotADuration)?;
    Ok(if negative { -total } else { total })
}

/// The shortest usual spelling of a duration: `200ms`, `1m30s`, `0s`.
pub(super) fn show_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let magnitude = ns.unsigned_abs();
    for (unit, unit_ns) in [("ns", 1_u64), ("us", 1_000), ("ms", 1_000_000)] {
        if magnitude < unit_ns * 1_000 || (unit_ns == 1_000_000 && magnitude < 1_000_000_000) {
            return format!("{sign}{}{unit}", trimmed(magnitude, unit_ns));
        }
    }
    let (hours, rest) = (magnitude / 3_600_000_000_000, magnitude % 3_600_000_000_000);
    let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
    let mut text = sign.to_owned();
    if hours > 0 {
        text += &format!("{hours}h");
    }
    if minutes > 0 {
        text += &format!("{minutes}m");
    }
    if rest > 0 {
        text += &format!("{}s", trimmed(rest, 1_000_000_000));
    }
    text
}

/// `magnitude / unit` as an exact decimal without trailing zeros.
fn trimmed(magnitude: u64, unit: u64) -> String {
    let (whole, fraction) = (magnitude / unit, magnitude % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{fraction:0width$}").trim_end_matches('0').to_owned()
}
