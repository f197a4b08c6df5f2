//! Reading a tree with an eye on where one is.

use std::cell::RefCell;
use std::iter::successors;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use indexmap::IndexSet;

use crate::problem::{Problem, brief};
use crate::yaml::{Key, Mapping, Node, Value};

/// Collects what there is to say about the files of a project, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) files: RefCell<IndexSet<PathBuf>>,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

/// A node, its path, and where to report.
///
/// The reading methods return `None` after they have reported what is wrong, so that a reader
/// simply goes on and finds the next problem too.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    path: Option<Rc<Step<'a>>>,
    place: Place,
    key_place: Place,
    sink: &'a Sink,
}

/// The last step of a path. Only a report spells the whole path out: a hostile file can have
/// long paths to very many nodes.
#[derive(Debug)]
struct Step<'a> {
    before: Option<Rc<Self>>,
    name: Name<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    Key(&'a str),
    Index(usize),
}

/// File, line and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    source: u16,
    line: usize,
    column: usize,
}

/// How many problems, and how many warnings, a project gets at most.
const MAX_REPORTS: usize = 100;

impl Sink {
    /// The number by which nodes of a file name it.
    pub(super) fn file(&self, path: &Path) -> u16 {
        let (index, _) = self.files.borrow_mut().insert_full(path.to_owned());
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    /// The file that a node stands in.
    pub(super) fn path_of(&self, source: u16) -> PathBuf {
        self.files.borrow().get_index(source.into()).cloned().unwrap_or_default()
    }

    pub(super) fn problem(&self, place: Place, path: &str, message: impl Into<String>) {
        self.report(&self.problems, place, path, message.into());
    }

    pub(super) fn warn(&self, place: Place, path: &str, message: impl Into<String>) {
        self.report(&self.warnings, place, path, message.into());
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    fn report(&self, list: &RefCell<Vec<Problem>>, place: Place, path: &str, message: String) {
        let mut list = list.borrow_mut();
        let Place { source, line, column } = place;
        let file = self.path_of(source);
        if list.len() < MAX_REPORTS {
            let (path, message) = (brief(path.to_owned()), brief(message));
            list.push(Problem { file, line, column, path, message });
        } else if list.len() == MAX_REPORTS {
            list.push(Problem {
                // Sorts behind all others.
                line: usize::MAX,
                ..Problem::of_file(&file, "there is more; mend what is listed first")
            });
        }
    }
}

impl Place {
    /// A file as a whole.
    pub(super) fn whole(source: u16) -> Self {
        Self { source, line: 0, column: 0 }
    }

    pub(super) fn new(source: u16, line: usize, column: usize) -> Self {
        Self { source, line, column }
    }
}

impl From<&Node> for Place {
    fn from(node: &Node) -> Self {
        Self { source: node.source, line: node.line, column: node.column }
    }
}

impl From<&Key> for Place {
    fn from(key: &Key) -> Self {
        Self { source: key.source, line: key.line, column: key.column }
    }
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node, sink: &'a Sink) -> Self {
        let place = Place::from(node);
        Self { node, path: None, place, key_place: place, sink }
    }

    /// The same node, with a path that begins with these keys.
    pub(super) fn beneath(root: &Self, keys: &[&'a str]) -> Self {
        let mut at = root.clone();
        for key in keys {
            at.path = at.step(Name::Key(key));
        }
        at
    }

    /// The value at a path of keys.
    pub(super) fn at(&self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self.clone(), |at, key| at.field(key))
    }

    /// Another node in this one's stead, such as the long form of a short one.
    pub(super) fn instead<'b>(&self, node: &'b Node) -> At<'b>
    where
        'a: 'b,
    {
        At { node, ..self.clone() }
    }

    pub(super) fn problem(&self, message: impl Into<String>) {
        self.sink.problem(self.place, &self.path(), message);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.sink.warn(self.place, &self.path(), message);
    }

    /// Whether the file has so many problems that no further one would be kept.
    pub(super) fn is_enough(&self) -> bool {
        self.sink.count() > MAX_REPORTS
    }

    /// A problem of this value's key, or of the value as a whole.
    pub(super) fn problem_at_key(&self, message: impl Into<String>) {
        self.sink.problem(self.key_place, &self.path(), message);
    }

    /// A warning about this value's key.
    pub(super) fn warn_at_key(&self, message: impl Into<String>) {
        self.sink.warn(self.key_place, &self.path(), message);
    }

    /// The value as a message may show it: not if a variable went into it.
    pub(super) fn shown(&self) -> String {
        match self.node.to_text() {
            Some(_) if self.node.secret => "the value (which comes from a variable)".to_owned(),
            Some(text) => format!("'{text}'"),
            None => self.node.kind().to_owned(),
        }
    }

    /// The value of a key, `None` if the key is absent.
    pub(super) fn field(&self, key: &str) -> Option<Self> {
        let entry = self.node.as_mapping()?.entry(key)?;
        Some(self.child(&entry.key, &entry.value))
    }

    /// Keys and values of a mapping.
    pub(super) fn entries(&self) -> Vec<(&'a Key, Self)> {
        let Some(mapping) = self.mapping() else {
            return Vec::new();
        };
        mapping.iter().map(|entry| (&entry.key, self.child(&entry.key, &entry.value))).collect()
    }

    pub(super) fn mapping(&self) -> Option<&'a Mapping> {
        let mapping = self.node.as_mapping();
        if mapping.is_none() {
            self.wrong_kind::<()>("a mapping of keys and values");
        }
        mapping
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let Some(items) = self.node.as_sequence() else {
            return self.wrong_kind("a list");
        };
        Some(items.iter().enumerate().map(|(index, item)| self.item(index, item)).collect())
    }

    /// A string, not a number.
    pub(super) fn string(&self) -> Option<String> {
        let text = self.node.as_str();
        if text.is_none() {
            let hint = if self.node.to_text().is_some() { "; put it in quotes" } else { "" };
            self.problem(format!("must be a string, not {}{hint}", self.node.kind()));
        }
        text.map(str::to_owned)
    }

    /// A boolean, also as text, as interpolation leaves it.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.to_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                "y" | "yes" | "on" => self.old_boolean(true),
                "n" | "no" | "off" => self.old_boolean(false),
                _ => self.wrong_kind("true or false"),
            },
            _ => self.wrong_kind("true or false"),
        }
    }

    /// Reports that the value is not what it must be. Always `None`.
    pub(super) fn wrong_kind<T>(&self, wanted: &str) -> Option<T> {
        self.problem(format!("must be {wanted}, not {}", self.shown()));
        None
    }

    fn old_boolean(&self, value: bool) -> Option<bool> {
        self.warn(format!("write {value} instead; YAML 1.2 does not take this for a boolean"));
        Some(value)
    }

    fn child(&self, key: &'a Key, node: &'a Node) -> Self {
        let key_place = Place::from(key);
        // An empty value has no place of its own worth showing.
        let place = if node.is_null() { key_place } else { Place::from(node) };
        let path = self.step(Name::Key(if key.secret { "*" } else { &key.text }));
        Self { node, path, place, key_place, sink: self.sink }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        let path = self.step(Name::Index(index));
        let place = Place::from(node);
        Self { node, path, place, key_place: place, sink: self.sink }
    }

    fn step(&self, name: Name<'a>) -> Option<Rc<Step<'a>>> {
        Some(Rc::new(Step { before: self.path.clone(), name }))
    }

    fn path(&self) -> String {
        let steps = successors(self.path.as_deref(), |step| step.before.as_deref());
        let mut names: Vec<_> = steps.map(|step| step.name).collect();
        names.reverse();
        let mut path = String::new();
        for name in names {
            match name {
                Name::Key(key) if path.is_empty() => path.push_str(key),
                Name::Key(key) => path.extend([".", key]),
                Name::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}
