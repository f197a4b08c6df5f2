//! The outside world as the loader sees it: files and variables, with a record of what was asked.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use indexmap::IndexSet;

use crate::dotenv::{DotenvError, Variables};
use crate::files::Files;
use crate::problem::{Problem, brief};

/// Files and variables of one load.
pub(super) struct Reading<'a> {
    files: &'a dyn Files,
    environment: &'a dyn Fn(&str) -> Option<String>,
    limit: u64,
    /// What the `.env` file adds to the environment.
    dot_env: BTreeMap<String, String>,
    project_name: OnceCell<String>,
    read: RefCell<IndexSet<PathBuf>>,
    reads: Cell<usize>,
    /// How many bytes of files and of values there were so far.
    taken: Cell<usize>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

/// What is left when all is read.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) files_read: Vec<PathBuf>,
    /// The problems and warnings of files other than the Compose file.
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) is_missing: bool,
    pub(super) is_folder: bool,
    pub(super) message: String,
}

/// How many bytes of files and of values of variables a project may take in, each time counted.
const MAX_TAKEN: usize = 24 << 20;

/// How many files a project may read, each time counted.
const MAX_READS: usize = 1000;

/// The variable that Compose sets itself. An ambient one would merge all projects into one.
pub(super) const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

impl<'a> Reading<'a> {
    pub(super) fn new(
        files: &'a dyn Files,
        environment: &'a dyn Fn(&str) -> Option<String>,
        limit: usize,
    ) -> Self {
        Self {
            files,
            environment,
            limit: limit as u64,
            dot_env: BTreeMap::new(),
            project_name: OnceCell::new(),
            read: RefCell::default(),
            reads: Cell::new(0),
            taken: Cell::new(0),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn set_dot_env(&mut self, variables: BTreeMap<String, String>) {
        self.dot_env = variables;
    }

    /// A variable of the `.env` file.
    pub(super) fn dot_env(&self, name: &str) -> Option<&str> {
        self.dot_env.get(name).map(String::as_str)
    }

    /// Says what the project is called, once that is known.
    pub(super) fn set_project_name(&self, name: &str) {
        let _ = self.project_name.set(name.to_owned());
    }

    /// A variable: from the environment, else from `.env`.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        if name == PROJECT_NAME {
            return self.project_name.get().cloned();
        }
        let value = (self.environment)(name).or_else(|| self.dot_env.get(name).cloned())?;
        // A long value that is named often must not fill the memory.
        Some(if self.may_take(value.len()) { value } else { String::new() })
    }

    /// Whether so much more may be taken in; the first time that it may not, says so.
    fn may_take(&self, bytes: usize) -> bool {
        let before = self.taken.get();
        self.taken.set(before.saturating_add(bytes));
        let fits = self.taken.get() <= MAX_TAKEN;
        if !fits && before <= MAX_TAKEN {
            let first = self.read.borrow().first().cloned().unwrap_or_default();
            let message = format!(
                "the project's files, and the values of its variables, come to more than \
                 {MAX_TAKEN} bytes; use shorter ones"
            );
            self.report(Problem::of_file(&first, message));
        }
        fits
    }

    /// The text of a file.
    pub(super) fn read(&self, path: &Path) -> Result<String, Unreadable> {
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() > MAX_READS {
            let message = format!("the project reads more than {MAX_READS} files; use fewer");
            return Err(Unreadable { is_missing: false, is_folder: false, message });
        }
        self.note(path);
        if path == Path::new("/dev/null") {
            // No file, but the usual way to name an empty one.
            return Ok(String::new());
        }
        let bytes = self.files.read(path, self.limit).map_err(|error| Unreadable {
            is_missing: error.kind() == ErrorKind::NotFound,
            is_folder: error.kind() == ErrorKind::IsADirectory,
            message: match error.kind() {
                ErrorKind::NotFound => "there is no such file".to_owned(),
                _ => error.to_string(),
            },
        })?;
        if !self.may_take(bytes.len()) {
            let message = "the project reads too much; use fewer or shorter files".to_owned();
            return Err(Unreadable { is_missing: false, is_folder: false, message });
        }
        String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            let message = format!("line {line} is not UTF-8 text");
            Unreadable { is_missing: false, is_folder: false, message }
        })
    }

    /// Reports a problem of a file other than the Compose file.
    pub(super) fn report(&self, mut problem: Problem) {
        problem.message = brief(problem.message);
        self.problems.borrow_mut().push(problem);
    }

    /// The variables of a file, after reporting what is wrong about them.
    pub(super) fn checked(
        &self,
        path: &Path,
        variables: Result<Variables, DotenvError>,
    ) -> BTreeMap<String, String> {
        let place = |line, message| Problem { line, column: 1, ..Problem::of_file(path, message) };
        match variables {
            Ok(variables) => variables.values,
            Err(error) => {
                self.report(place(error.line, error.kind.to_string()));
                BTreeMap::new()
            }
        }
    }

    pub(super) fn into_record(self) -> Record {
        Record {
            files_read: self.read.into_inner().into_iter().collect(),
            problems: self.problems.into_inner(),
            warnings: self.warnings.into_inner(),
        }
    }

    fn note(&self, path: &Path) {
        self.read.borrow_mut().insert(path.to_owned());
    }
}

/// Without the values of variables.
impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("read", &self.read).finish_non_exhaustive()
    }
}
