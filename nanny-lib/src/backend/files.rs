//! Files that are put into a container before it starts: secrets and configs.

use std::fmt;

/// A file to be put into a container.
///
/// Its content may be a secret: `Debug` does not show it, and nothing serialises it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInside {
    /// Where, an absolute path inside the container.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// The number of its owner, and of its group; `None` leaves both to the engine.
    pub owner: Option<(u32, u32)>,
}

impl FileInside {
    /// A file at `path` that everybody inside may read.
    #[must_use]
    pub fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), mode: 0o444, owner: None }
    }
}

impl fmt::Debug for FileInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileInside")
            .field("path", &self.path)
            .field("mode", &format_args!("{:o}", self.mode))
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_says_where_and_not_what() {
        let shown = format!("{:?}", FileInside::new("/run/secrets/key", "hunter2"));
        assert!(shown.contains("/run/secrets/key") && shown.contains("444"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }
}
