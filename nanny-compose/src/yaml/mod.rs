//! YAML as Compose reads it, with a position on everything.
//!
//! [`parse`] turns text into a tree of [`Node`]s. Three things set it apart from a general YAML
//! library, and all three are needed to report honestly and to stay compatible:
//!
//! - scalars follow the rules of yaml.v3, the Go library Compose uses: `yes` and `on` stay
//!   strings, `0755` is 493, a quoted scalar is always a string;
//! - merge keys (`<<`) are resolved, duplicate keys are errors that name both places;
//! - hostile input is cheap: size, depth and the expansion of aliases are bounded by [`Limits`].
//!
//! ```
//! use nanny_compose::yaml::{parse, Limits};
//!
//! let tree = parse("name: chat\nhealth: {interval: 30}\n", &Limits::default())?;
//! let interval = tree.at("health.interval").expect("it was just written");
//! assert_eq!((interval.line, interval.column), (2, 20));
//! # Ok::<(), nanny_compose::yaml::YamlError>(())
//! ```

mod build;
mod node;
mod scalar;

pub(crate) use build::documents;
pub use build::parse;
pub use node::{Entry, Key, Mapping, Node, Value};
pub(crate) use scalar::format_float;

/// How much a YAML text may ask for.
///
/// The defaults fit a Compose file; a caller with a smaller file in mind lowers `max_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest text, in bytes (default 1 MiB).
    pub max_bytes: usize,
    /// The deepest nesting of lists and mappings, aliases included (default 64).
    pub max_depth: usize,
    /// How many bytes of tree anchors, aliases and merge keys may copy (default 16 MiB). A small
    /// text that names itself over and over runs into this, not into the memory of the machine.
    pub max_expansion: usize,
}

impl Limits {
    /// The default limits with another text size.
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 1 << 20, max_depth: 64, max_expansion: 16 << 20 }
    }
}

/// Why a text is not YAML we accept, and where.
///
/// Reads as `line:column: path: what is wrong, and what to do`; the path is left out at the top
/// of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {}{message}", lead_in(path))]
pub struct YamlError {
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
    /// Where in the tree it is, such as `services.web.ports[0]`; empty at the top.
    pub path: String,
    /// What is wrong and what to do, without the position.
    pub message: String,
}

fn lead_in(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

#[cfg(test)]
mod tests;
