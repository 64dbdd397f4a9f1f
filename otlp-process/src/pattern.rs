//! Regular expressions as the Collector takes them.
//!
//! The Collector's are Go's, which are RE2's. The `regex` crate is a close relative; where the same text means something
//! else in it, it is rewritten:
//!
//! - `\d`, `\w`, `\s` and `\b` are ASCII;
//! - `[` inside a class is a bracket, as are `&&`, `--` and `~~` what they look like;
//! - `\Q…\E` quotes, `\<` and `\>` are brackets, `\123` is octal;
//! - `{` that begins no repetition is a brace.
//!
//! What neither knows (look-around, back-references) is an error in both. `\C`, one byte of a character, is one here only.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Compiles a pattern. It matches anywhere in a text unless it says otherwise.
///
/// # Errors
///
/// Where the pattern is none, or would take more than the crate's limit of 10 MB.
pub fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&translate(pattern)).octal(true).build()
}

/// Compiles several patterns into a set that matches where one of them does.
///
/// # Errors
///
/// As [`compile`], for any of them.
pub fn compile_set<S: AsRef<str>>(patterns: &[S]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns.iter().map(|pattern| translate(pattern.as_ref()))).octal(true).build()
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    // Inside a class: whether anything stands in it yet, because a bracket that stands first is itself.
    let mut class: Option<bool> = None;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = after;
        match (character, class) {
            ('\\', _) => rest = translate_escape(after, class.is_some(), &mut out),
            ('[', None) => {
                out.push('[');
                class = Some(false);
                if let Some(negated) = after.strip_prefix('^') {
                    out.push('^');
                    rest = negated;
                }
                continue;
            }
            ('[', Some(_)) if after.starts_with(':') && after.contains(":]") => {
                let name_end = after.find(":]").map_or(after.len(), |at| at + 2);
                out.push('[');
                out.push_str(&after[..name_end]);
                rest = &after[name_end..];
            }
            ('[', Some(_)) => out.push_str("\\["),
            (']', Some(true)) => {
                out.push(']');
                class = None;
                continue;
            }
            (']', Some(false)) => out.push_str("\\]"),
            ('&' | '~', Some(_)) => {
                out.push('\\');
                out.push(character);
            }
            ('{', None) if !is_repetition(after) => out.push_str("\\{"),
            _ => out.push(character),
        }
        class = class.map(|_| true);
    }
    out
}

/// Translates what follows a backslash and gives back what follows that.
fn translate_escape<'p>(after: &'p str, in_class: bool, out: &mut String) -> &'p str {
    if let Some(quoted) = after.strip_prefix('Q') {
        let end = quoted.find("\\E");
        out.push_str(&regex::escape(&quoted[..end.unwrap_or(quoted.len())]));
        return end.map_or("", |end| &quoted[end + 2..]);
    }
    let Some(escaped) = after.chars().next() else {
        out.push('\\');
        return "";
    };
    let ascii = match escaped {
        'd' | 'D' => Some("0-9"),
        'w' | 'W' => Some("0-9A-Za-z_"),
        's' | 'S' => Some("\\t\\n\\f\\r "),
        _ => None,
    };
    match (ascii, escaped) {
        (Some(set), 'd' | 'w' | 's') if in_class => out.push_str(set),
        (Some(set), 'd' | 'w' | 's') => out.extend(["[", set, "]"]),
        (Some(set), _) => out.extend(["[^", set, "]"]),
        (None, 'b') if !in_class => out.push_str("(?-u:\\b)"),
        (None, '<' | '>') => out.push(escaped),
        (None, _) => out.extend(['\\', escaped]),
    }
    let rest = &after[escaped.len_utf8()..];
    // The braces of \p{Greek} and \x{7f} belong to the escape.
    match (escaped, rest.strip_prefix('{').and_then(|name| name.find('}'))) {
        ('p' | 'P' | 'x', Some(end)) => {
            let (name, rest) = rest.split_at(end + 2);
            out.push_str(name);
            rest
        }
        _ => rest,
    }
}

/// Whether what follows a brace makes it a repetition: digits, perhaps a comma and more digits, a brace.
fn is_repetition(after: &str) -> bool {
    let Some(end) = after.find('}') else { return false };
    let (least, most) = after[..end].split_once(',').unwrap_or((&after[..end], ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "१२", false),
            (r"^\w$", "é", false),
            (r"^\W$", "é", true),
            (r"^[\w.]+$", "a.b", true),
            (r"^[^\d]$", "1", false),
            (r"^[\D]$", "x", true),
            (r"\bé", " é", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^[[a]$", "[", true),
            (r"^[]a]$", "]", true),
            (r"^[^]a]$", "]", false),
            (r"^[[:alpha:]]$", "x", true),
            (r"^[a&&b]$", "&", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\Qa.b", "a.b", true),
            (r"^a{2}$", "aa", true),
            (r"^a{1,}$", "aaa", true),
            (r"^a{b}$", "a{b}", true),
            (r"^{$", "{", true),
            (r"^\<x\>$", "<x>", true),
            (r"^\/api\/v1$", "/api/v1", true),
            (r"^\101$", "A", true),
            (r"(?i)^GET$", "get", true),
            (r"(?P<one>a)(?<two>b)", "ab", true),
            (r"\s", "\u{b}", false),
            (r"^\p{Greek}\x{3b1}$", "αα", true),
            (r"^[\x{3b1}b]$", "α", true),
        ] {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), matches, "{pattern} on {text:?} as {regex}");
        }
        for pattern in ["(", "a**b(", r"(?=a)", r"(a)\8", "[z-a]", "\\"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
