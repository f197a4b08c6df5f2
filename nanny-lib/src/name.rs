//! Names that were validated once, at the edge, and are trusted after.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a service, as its manifest gives it: the key of everything in this crate.
///
/// Cheap to clone. One to 128 bytes, begins with a letter or a digit, and holds no control
/// character, no `/` and no white space at its ends; so it is safe in a URL path segment, in a
/// log line and in a JSON document. It is never used as a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks `name` against the rules above.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] says which rule it breaks.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
        let name = name.as_ref();
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > 128 {
            "it is longer than 128 bytes"
        } else if !name.starts_with(char::is_alphanumeric) {
            "it must begin with a letter or a digit"
        } else if name.contains('/') {
            "it contains '/'"
        } else if name.chars().any(char::is_control) {
            "it contains a control character"
        } else if name.ends_with(char::is_whitespace) {
            "it ends with white space"
        } else {
            return Ok(Self(name.into()));
        };
        Err(InvalidName { reason })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// Why a text is no [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a service name: {reason}")]
pub struct InvalidName {
    reason: &'static str,
}

/// An engine's own identifier of one container: one incarnation, never reused for another.
///
/// Opaque: a container id for an engine, a process id and its start time for a plain process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId(Arc<str>);

impl ContainerId {
    /// Wraps an identifier that an engine handed out.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.get(..12).unwrap_or(&self.0))
    }
}

/// A GPU's stable identifier: a UUID where the vendor gives one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GpuId(Arc<str>);

impl GpuId {
    /// Wraps an identifier that an inventory or a configuration gave.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["minimal-sd-api", "LLM 7B", "tts_2", "ümlaut", "a.b"] {
            assert_eq!(ServiceName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_be_mistaken_for_something_else_are_refused() {
        for name in ["", "-v", "..", ".hidden", "a/b", "a\nb", "a ", " a", &"x".repeat(129)] {
            assert!(ServiceName::new(name).is_err(), "{name:?} passed");
        }
    }
}
