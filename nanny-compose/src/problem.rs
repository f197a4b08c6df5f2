//! What is wrong with a file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// Something to say about a place in a file: an error, or a warning.
///
/// Displays as `file:line:column: path: message`, leaving out what is not known. It never holds
/// the value of a variable, nor a value that interpolation produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was given to the loader.
    pub file: PathBuf,
    /// Line from 1; 0 if it concerns the file as a whole.
    pub line: usize,
    /// Column from 1, in characters; 0 if it concerns the file as a whole.
    pub column: usize,
    /// The place in the tree, such as `services.web.ports[0]`; empty at the top.
    pub path: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let (line, column, path) = (0, 0, String::new());
        Self { file: file.to_owned(), line, column, path, message: message.into() }
    }

    /// A problem of the YAML text of a file.
    pub fn of_yaml(file: &Path, error: crate::yaml::YamlError) -> Self {
        let crate::yaml::YamlError { line, column, path, message } = error;
        Self { file: file.to_owned(), line, column, path, message }
    }
}

/// A text of a problem, cut where it gets too long to be read: a key may be a megabyte.
#[doc(hidden)]
pub fn brief(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// In characters. A path of honest keys has a tenth of it.
const LONGEST_TEXT: usize = 1000;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Why a project could not be loaded: every problem that was found, not only the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The problems, in the order of the file. Never empty.
    pub problems: Vec<Problem>,
    /// What was noticed beside them.
    pub warnings: Vec<Problem>,
    /// Every file that was read or looked for: when one of them changes, try again.
    pub files_read: Vec<PathBuf>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
