//! The configuration: the Collector's YAML for the components otlpd has, with keys of our own beside them.
//!
//! [`load`] reads every source, merges them, replaces references, decodes by the tables and checks; what it finds it
//! reports all at once, each with file, line, column and path.
//!
//! ```text
//! Sources ─▶ yaml ─▶ Node ─ merge ─▶ Node ─ expand ─▶ Node ─ decode (tables, checks) ─▶ Section ─ topology ─▶ Resolved
//! ```
//!
//! # Limits
//!
//! See [`yaml`](self) texts of 4 MiB, nesting of 64, 200 000 values with aliases copied out, 10 000 references.
//!
//! # On failure
//!
//! Never panics on any input; an error stops the start with all that is wrong.

mod checks;
mod decode;
mod endpoint;
mod expand;
#[doc(hidden)]
pub mod fuzz;
mod id;
mod node;
mod print;
mod report;
mod scalar;
mod schema;
mod section;
mod shared;
mod source;
mod tables;
mod topology;
mod yaml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use decode::Checker;
pub use id::Id;
pub use node::{Entry, Map, Node, Place, Value};
pub(crate) use report::suggestion;
pub use report::{Diagnostic, Report, Severity};
pub use schema::{Block, Component, Default, Field, Kind, Presence, Role, Unknown, Unlimited};
pub(crate) use section::supported_curves;
pub use section::{REDACTED, Secret, Section};
pub use source::{BUILT_IN, Sources};
pub use tables::{COMPONENTS, component};
pub use topology::{ConfiguredComponent, Pipeline, Resolved};

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The components, the pipelines and the service's settings, with defaults filled in.
    pub tree: Resolved,
    /// What is accepted and evidently a mistake, or read without effect.
    pub warnings: Vec<Diagnostic>,
}

/// Reads, merges, resolves, decodes and checks `sources`. Neither binds, connects nor starts anything.
///
/// # Errors
///
/// A [`Report`] of all errors and warnings. Reading, substitution, and decoding come one after the other: an error in
/// one of them hides those of the next, which would only be its echo.
pub fn load(sources: &Sources) -> Result<Loaded, Report> {
    let mut diagnostics = Vec::new();
    let map = match sources.read(&mut diagnostics).and_then(|map| expand::expand(map, sources, &mut diagnostics)) {
        Ok(map) => map,
        Err(mut errors) => {
            errors.append(&mut diagnostics);
            return Err(Report::new(errors));
        }
    };
    // Where something is missing there is no line; a single source is at least a place to look at.
    let names = sources.names();
    let line = u32::from(names.len() == 1);
    let whole = Place { line, column: line, ..Place::whole(&Arc::from(names.join(", "))) };
    let tree = topology::resolve(&map, &whole, &mut diagnostics);
    report::sort(&mut diagnostics);
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(Report { diagnostics });
    }
    Ok(Loaded { tree, warnings: diagnostics })
}

/// How [`Resolved::print`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML in block style.
    Yaml,
    /// JSON, indented.
    Json,
}

/// A duration as configurations write it (`500ms`, `1m30s`); `None` for anything else and for a negative one.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let nanoseconds = scalar::duration_ns(text).ok()?;
    u64::try_from(nanoseconds).ok().map(std::time::Duration::from_nanos)
}

/// `a` and `b` joined by `::`.
fn joined(path: &str, key: &str) -> String {
    if key.is_empty() {
        return path.to_owned();
    }
    if path.is_empty() { key.to_owned() } else { format!("{path}::{key}") }
}
