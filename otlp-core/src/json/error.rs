//! Why a document cannot be read.

use std::fmt;

/// Why a JSON document cannot be taken. `Display` gives the message of the answer's `Status`: it names the place and what
/// was expected there, and quotes no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// What would have been right.
    pub expected: Expected,
    /// At which byte of the document: the first byte of the offending value or token.
    pub offset: usize,
    /// In which field, as `resourceSpans[0].scopeSpans[1].spans[3].traceId`. Empty for the document itself.
    pub path: String,
    /// Whether the document ends there.
    pub ended: bool,
}

/// What a JSON document should have had where it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Any value.
    Value,
    /// `{`
    Object,
    /// `[`
    Array,
    /// A string.
    Text,
    /// `true` or `false`.
    Boolean,
    /// An integer, as number or in a string, from `min` to `max`.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: u64,
    },
    /// The number of an enum's value. Names are not taken (OTLP, JSON Protobuf Encoding).
    Enum,
    /// A finite number, as number or in a string, or `"NaN"`, `"Infinity"`, `"-Infinity"`.
    Double,
    /// Hex digits for exactly so many bytes, or an empty string.
    Hex {
        /// How many.
        bytes: u8,
    },
    /// Hex digits, an even number of them.
    HexPairs,
    /// Base64.
    Base64,
    /// A key in quotes.
    Key,
    /// `:`
    Colon,
    /// `,` or the end of the object or list.
    CommaOrEnd,
    /// The closing quote.
    Quote,
    /// An escape as RFC 8259 section 7 lists them.
    Escape,
    /// An escape where a control character stands as it is.
    NoControl,
    /// UTF-8.
    Utf8,
    /// Nothing after the document.
    Nothing,
    /// Each key once in its object.
    Once,
    /// One member of a oneof; a second one is there.
    OneMember,
    /// Values that nest less deep.
    Depth,
    /// Less data: the protobuf form would be larger than the limit.
    Smaller {
        /// The limit.
        protobuf_bytes_max: usize,
    },
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expected::Value => "a value",
            Expected::Object => "an object",
            Expected::Array => "a list",
            Expected::Text => "a string",
            Expected::Boolean => "true or false",
            Expected::Integer { min, max } => return write!(f, "an integer from {min} to {max}, as number or string"),
            Expected::Enum => "an enum's value as an integer of 32 bits (names are not allowed)",
            Expected::Double => "a number that fits in 64 bits, or \"NaN\", \"Infinity\" or \"-Infinity\"",
            Expected::Hex { bytes } => return write!(f, "{} hex digits or an empty string", 2 * bytes),
            Expected::HexPairs => "an even number of hex digits",
            Expected::Base64 => "base64",
            Expected::Key => "a key in quotes",
            Expected::Colon => "a colon",
            Expected::CommaOrEnd => "a comma or the end of the object or list",
            Expected::Quote => "a closing quote",
            Expected::Escape => "an escape that JSON knows",
            Expected::NoControl => "an escape in place of a control character",
            Expected::Utf8 => "UTF-8",
            Expected::Nothing => "nothing after the document",
            Expected::Once => "each key only once",
            Expected::OneMember => "only one member of the oneof",
            Expected::Depth => "values that nest less deep",
            Expected::Smaller { protobuf_bytes_max } => {
                return write!(f, "at most {protobuf_bytes_max} bytes of data in protobuf form");
            }
        })
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JsonError { expected, offset, path, ended } = self;
        write!(f, "cannot decode the JSON at byte {offset}")?;
        if !path.is_empty() {
            write!(f, ", in {path}")?;
        }
        write!(f, ": expected {expected}")?;
        if *ended { f.write_str(", found the end") } else { Ok(()) }
    }
}

impl std::error::Error for JsonError {}

/// Longer keys are cut in an error's path: only unknown ones can be.
const KEY_SHOWN_MAX: usize = 40;

impl JsonError {
    /// Finds out where in the document the byte stands. All before it has been read without a fault.
    #[cold]
    pub(super) fn at(bytes: &[u8], offset: usize, expected: Expected) -> JsonError {
        JsonError { expected, offset, path: path(bytes, offset), ended: offset >= bytes.len() }
    }
}

enum Step<'a> {
    Key(&'a [u8]),
    Index(usize),
}

/// The path of the value that contains a byte. Reading again on an error costs the reader nothing when there is none.
fn path(bytes: &[u8], offset: usize) -> String {
    let mut stack: Vec<Step<'_>> = Vec::new();
    // Whether the next string is a key: after `{`, and after `,` in an object.
    let mut key_next = false;
    let end = offset.min(bytes.len());
    let mut at = 0;
    while at < end {
        let byte = bytes[at];
        at += 1;
        match byte {
            b'{' => {
                stack.push(Step::Key(b""));
                key_next = true;
            }
            b'[' => {
                stack.push(Step::Index(0));
                key_next = false;
            }
            b'}' | b']' => {
                stack.pop();
                key_next = false;
            }
            b',' => match stack.last_mut() {
                Some(Step::Index(index)) => *index += 1,
                Some(key) => {
                    *key = Step::Key(b"");
                    key_next = true;
                }
                None => {}
            },
            b'"' => {
                let start = at;
                while let Some(byte) = bytes.get(at)
                    && *byte != b'"'
                {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                if key_next && at < end {
                    if let Some(top) = stack.last_mut() {
                        *top = Step::Key(&bytes[start..at]);
                    }
                    key_next = false;
                }
                at += 1;
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for step in stack {
        match step {
            Step::Key(b"") => {}
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                let shown = String::from_utf8_lossy(&key[..key.len().min(KEY_SHOWN_MAX)]);
                path.push_str(&shown);
                if key.len() > KEY_SHOWN_MAX {
                    path.push('…');
                }
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_keys_and_indexes() {
        let text = r#"{"a" : [1, {"b":2}, [3, {"c\"":{}, "d": "x"}]], "e": 7}"#;
        let of = |needle: &str| path(text.as_bytes(), text.find(needle).unwrap());
        assert_eq!(of("{\"a"), "");
        assert_eq!(of("1"), "a[0]");
        assert_eq!(of("2"), "a[1].b");
        assert_eq!(of("3"), "a[2][0]");
        assert_eq!(of("{}"), "a[2][1].c\\\"");
        assert_eq!(of("\"x"), "a[2][1].d");
        assert_eq!(of("7"), "e");
        assert_eq!(path(text.as_bytes(), text.len()), "");
        assert_eq!(path(b"{\"\xff", 99), "");
        let long = format!("{{\"{}\":", "k".repeat(100));
        assert_eq!(path(long.as_bytes(), 99_999), format!("{}…", "k".repeat(40)));
    }
}
