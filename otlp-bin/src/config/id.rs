//! Component ids (`type` or `type/name`) and pipeline ids (`signal` or `signal/name`).

use std::fmt;

/// A component's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The type as it was written: an alias stays one.
    pub kind: String,
    /// The part after the first `/`; empty when there is none.
    pub name: String,
}

impl Id {
    /// Reads an id; spaces around both parts do not count.
    ///
    /// # Errors
    ///
    /// A sentence that says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        if text.is_empty() {
            return Err("an id must not be empty".to_owned());
        }
        if kind.is_empty() {
            return Err(format!("in the id {text:?} the part before \"/\" is empty"));
        }
        if name == Some("") {
            return Err(format!("in the id {text:?} the part after \"/\" is empty"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !kind.starts_with(|c: char| c.is_ascii_alphabetic()) || !kind.chars().all(fits) || kind.len() > 63 {
            return Err(format!(
                "in the id {text:?} the type {kind:?} may only hold letters, digits and _, at most 63, a letter first"
            ));
        }
        let name = name.unwrap_or_default();
        if name.chars().count() > 1024 {
            return Err(format!("the name in an id of type {kind:?} is longer than 1024 characters"));
        }
        if let Some(c) = name.chars().find(|c| is_symbol(*c)) {
            return Err(format!("in the id {text:?} the name must not hold {c:?}"));
        }
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// Whitespace, control characters and symbols (Unicode Z, C and S), as far as std knows them: `$+<=>^|~` and
/// backquote are the symbols of ASCII; of the others the blocks that hold nothing else.
fn is_symbol(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
        || matches!(c, '¢'..='¦' | '¨' | '©' | '¬' | '®'..='±' | '´' | '¸' | '×' | '÷')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
        || matches!(c, '\u{20a0}'..='\u{20cf}' | '\u{2190}'..='\u{23ff}' | '\u{2500}'..='\u{27bf}')
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{1f000}'..='\u{1faff}')
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.name.is_empty() {
            write!(f, "/{}", self.name)?;
        }
        Ok(())
    }
}
