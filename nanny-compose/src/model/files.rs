//! Secrets and configs: files that the project puts into a container.

use std::fmt;

/// A secret or config as a file in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileMount {
    /// The key of the secret or config in the file.
    pub name: String,
    /// What is in it.
    pub content: Content,
    /// Where in the container, an absolute path.
    pub target: String,
    /// The owner, as written.
    pub uid: Option<String>,
    /// The group, as written.
    pub gid: Option<String>,
    /// The permissions.
    pub mode: Option<u32>,
}

/// What is in a secret or config. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// That of a file of the host, an absolute path: it is mounted, and follows changes.
    File(String),
    /// This text, from the file itself or from a variable: it is copied in before the start.
    Text(String),
}

impl FileMount {
    /// `content` at `target`.
    pub fn new(name: impl Into<String>, content: Content, target: impl Into<String>) -> Self {
        let (name, target) = (name.into(), target.into());
        Self { name, content, target, uid: None, gid: None, mode: None }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(…)"),
        }
    }
}
