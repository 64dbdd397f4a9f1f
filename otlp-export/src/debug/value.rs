//! A value as a person reads it: the Collector's form, and nothing lost where that has none.

use std::borrow::Cow;
use std::fmt::Write;

use otlp_core::wire::view::AnyValue;

/// Strings as they are, numbers and booleans as JSON writes them, bytes in base64, lists and maps as JSON with sorted keys;
/// nothing for a value without kind. NaN and the infinities are named, in quotes inside a list or a map as ProtoJSON has
/// them; a key that stands in a map twice is written twice.
pub(super) fn text<'a>(value: &AnyValue<'a>) -> Cow<'a, str> {
    match value {
        AnyValue::Array(_) | AnyValue::KvList(_) => {
            let mut out = String::new();
            write(value, &mut out);
            Cow::Owned(out)
        }
        AnyValue::Double(value) if !value.is_finite() => Cow::Borrowed(named(*value)),
        scalar => scalar.to_text(),
    }
}

fn named(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

/// The recursion is as deep as the validator let the bytes nest.
fn write(value: &AnyValue<'_>, out: &mut String) {
    match value {
        AnyValue::Empty => out.push_str("null"),
        AnyValue::String(string) => quoted(string, out),
        AnyValue::Double(value) if !value.is_finite() => quoted(named(*value), out),
        AnyValue::Bytes(_) => quoted(&value.to_text(), out),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => out.push_str(&value.to_text()),
        AnyValue::Array(values) => {
            out.push('[');
            for (index, value) in values.clone().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(&value, out);
            }
            out.push(']');
        }
        AnyValue::KvList(pairs) => {
            let mut sorted: Vec<_> = pairs.clone().map(|pair| (pair.key(), pair.value())).collect();
            // Stable: values of one key stay in their order.
            sorted.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in sorted.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(key, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

fn quoted(string: &str, out: &mut String) {
    out.push('"');
    for character in string.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => drop(write!(out, "\\u{:04x}", u32::from(character))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
    use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, ArrayValue, KeyValue, KeyValueList};
    use prost::Message;

    fn any(kind: Kind) -> Any {
        Any { value: Some(kind) }
    }

    fn map(pairs: Vec<(&str, Any)>) -> Any {
        let pairs = pairs.into_iter();
        let values =
            pairs.map(|(key, value)| KeyValue { key: key.into(), value: Some(value), ..Default::default() }).collect();
        any(Kind::KvlistValue(KeyValueList { values }))
    }

    #[test]
    fn nothing_of_a_value_is_lost() {
        let list = |values| any(Kind::ArrayValue(ArrayValue { values }));
        let double = |value| any(Kind::DoubleValue(value));
        for (value, expected) in [
            (double(f64::NAN), "NaN"),
            (double(f64::INFINITY), "Infinity"),
            (double(1.5), "1.5"),
            (double(-0.0), "-0"),
            (Any { value: None }, ""),
            (any(Kind::StringValue("a\n\"b\"".into())), "a\n\"b\""),
            (any(Kind::BytesValue(vec![1, 2, 255])), "AQL/"),
            (list(vec![]), "[]"),
            (map(vec![]), "{}"),
            (
                map(vec![
                    ("nan", double(f64::NAN)),
                    ("low", double(f64::NEG_INFINITY)),
                    ("int", any(Kind::IntValue(i64::MIN))),
                ]),
                r#"{"int":-9223372036854775808,"low":"-Infinity","nan":"NaN"}"#,
            ),
            (
                map(vec![("b", any(Kind::BoolValue(true))), ("a", double(2.0)), ("b", any(Kind::IntValue(7)))]),
                r#"{"a":2,"b":true,"b":7}"#,
            ),
            (
                list(vec![Any { value: None }, any(Kind::BytesValue(vec![0])), map(vec![("k\u{1}\"", list(vec![]))])]),
                r#"[null,"AA==",{"k\u0001\"":[]}]"#,
            ),
        ] {
            let bytes = value.encode_to_vec();
            let found = AnyValue::new(&bytes);
            assert_eq!(text(&found), expected);
            if !expected.contains("NaN") && !expected.contains("Inf") && !expected.contains(r#""b":true,"b""#) {
                assert_eq!(found.to_text(), expected, "the same as elsewhere where nothing is lost there");
            }
        }
    }
}
