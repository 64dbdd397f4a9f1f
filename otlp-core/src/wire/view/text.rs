//! A value as text, as the Collector writes it (`pcommon.Value.AsString`): what its `convert` action, its matchers and
//! its debug exporter show.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::AnyValue;

impl<'a> AnyValue<'a> {
    /// The value as text: strings as they are, numbers and booleans as JSON writes them, bytes in base64, lists as JSON
    /// with sorted keys (where a key occurs twice its last value), and nothing for a value without kind.
    ///
    /// A number that JSON does not know is named where it stands alone; inside a list it makes the whole text empty.
    pub fn to_text(&self) -> Cow<'a, str> {
        match self {
            AnyValue::Empty => Cow::Borrowed(""),
            AnyValue::String(string) => Cow::Borrowed(string),
            AnyValue::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            AnyValue::Int(value) => Cow::Owned(value.to_string()),
            AnyValue::Double(value) if value.is_finite() => Cow::Owned(double_text(*value)),
            AnyValue::Double(value) => Cow::Owned(format!("json: unsupported value: {}", named(*value))),
            AnyValue::Bytes(bytes) => Cow::Owned(base64(bytes)),
            AnyValue::Array(_) | AnyValue::KvList(_) => {
                let mut out = String::new();
                match write_json(self, &mut out) {
                    Ok(()) => Cow::Owned(out),
                    Err(NoJson) => Cow::Borrowed(""),
                }
            }
        }
    }
}

fn named(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "+Inf",
        _ => "-Inf",
    }
}

/// A finite double as JavaScript writes it, which JSON follows: the shortest digits that read back as the same number,
/// with an exponent below 1e-6 and from 1e21 on.
pub(super) fn double_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return if text.contains("e-") { text } else { text.replacen('e', "e+", 1) };
    }
    format!("{value}")
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let (one, two, three) = (chunk[0], chunk.get(1).copied(), chunk.get(2).copied());
        let bits = u32::from(one) << 16 | u32::from(two.unwrap_or(0)) << 8 | u32::from(three.unwrap_or(0));
        let digit = |shift: u32| char::from(ALPHABET[(bits >> shift & 63) as usize]);
        out.push(digit(18));
        out.push(digit(12));
        out.push(if two.is_some() { digit(6) } else { '=' });
        out.push(if three.is_some() { digit(0) } else { '=' });
    }
    out
}

/// A double that JSON does not know.
struct NoJson;

/// Writes a value as JSON. The recursion is as deep as the validator let the bytes nest.
fn write_json(value: &AnyValue<'_>, out: &mut String) -> Result<(), NoJson> {
    match value {
        AnyValue::Empty => out.push_str("null"),
        AnyValue::String(string) => write_string(string, out),
        AnyValue::Double(value) if !value.is_finite() => return Err(NoJson),
        AnyValue::Bytes(_) => write_string(&value.to_text(), out),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => out.push_str(&value.to_text()),
        AnyValue::Array(values) => {
            out.push('[');
            for (index, value) in values.clone().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(&value, out)?;
            }
            out.push(']');
        }
        AnyValue::KvList(pairs) => {
            let sorted: BTreeMap<&str, AnyValue<'_>> = pairs.clone().map(|pair| (pair.key(), pair.value())).collect();
            out.push('{');
            for (index, (key, value)) in sorted.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(string: &str, out: &mut String) {
    out.push('"');
    for character in string.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            // The two line separators are escaped because JavaScript once could not read them in a string.
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
