//! Reading a tree with an eye on where one is.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::iter::successors;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::scalars;
use crate::problem::{Problem, brief};
use crate::yaml::{Key, Mapping, Node, Value};

/// Collects what there is to say about one file, up to a limit.
#[derive(Debug)]
pub(super) struct Sink {
    file: PathBuf,
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

/// Line and column.
pub(super) type Place = (usize, usize);

/// How many problems, and how many warnings, a file gets at most.
const MAX_REPORTS: usize = 100;

impl Sink {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), problems: RefCell::default(), warnings: RefCell::default() }
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
        let (line, column) = place;
        if list.len() < MAX_REPORTS {
            let (path, message) = (brief(path.to_owned()), brief(message));
            list.push(Problem { file: self.file.clone(), line, column, path, message });
        } else if list.len() == MAX_REPORTS {
            list.push(Problem {
                // Sorts behind all others.
                line: usize::MAX,
                ..Problem::of_file(&self.file, "there is more; mend what is listed first")
            });
        }
    }
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node, sink: &'a Sink) -> Self {
        let place = (node.line, node.column);
        Self { node, path: None, place, key_place: place, sink }
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

    /// The value of a key that may be left empty.
    pub(super) fn nullable_field(&self, key: &str) -> Option<Self> {
        self.field(key).filter(|field| !field.node.is_null())
    }

    /// Whether this is a list or mapping with nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(mapping) => mapping.is_empty(),
            _ => false,
        }
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
    pub(super) fn items(&self) -> Vec<Self> {
        let Some(items) = self.node.as_sequence() else {
            self.wrong_kind::<()>("a list");
            return Vec::new();
        };
        items.iter().enumerate().map(|(index, item)| self.item(index, item)).collect()
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

    /// A string that counts as absent when empty, as it often is after interpolation.
    pub(super) fn word(&self) -> Option<String> {
        self.string().filter(|text| !text.is_empty())
    }

    /// A string or a number, as text.
    pub(super) fn string_or_number(&self) -> Option<String> {
        match &self.node.value {
            Value::String(_) | Value::Int(_) | Value::Float(_) => self.node.to_text(),
            _ => self.wrong_kind("a string or a number"),
        }
    }

    /// A boolean, also as text, as interpolation leaves it.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.to_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                "1" | "t" | "y" | "yes" | "on" => self.old_boolean(true),
                "0" | "f" | "n" | "no" | "off" => self.old_boolean(false),
                _ => self.wrong_kind("true or false"),
            },
            _ => self.wrong_kind("true or false"),
        }
    }

    /// A whole number, also as text.
    pub(super) fn integer(&self) -> Option<i64> {
        let value = match &self.node.value {
            Value::Int(value) => i64::try_from(*value).ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        value.or_else(|| self.wrong_kind("a whole number"))
    }

    /// A size such as `8gb`, in bytes.
    pub(super) fn bytes(&self) -> Option<u64> {
        let text = self.string_or_number()?;
        let size = scalars::bytes(&text);
        size.or_else(|| self.wrong_kind("a size such as 512m, 8gb or a number of bytes"))
    }

    /// A duration such as `1m30s`.
    pub(super) fn duration(&self) -> Option<Duration> {
        let text = self.string()?;
        let duration = scalars::duration(&text);
        duration.or_else(|| self.wrong_kind("a duration such as 30s, 1m30s or 500ms"))
    }

    /// A list of strings.
    pub(super) fn strings(&self) -> Vec<String> {
        self.items().iter().filter_map(Self::string).collect()
    }

    /// A list of strings and numbers.
    pub(super) fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Self::string_or_number).collect()
    }

    /// A list of different strings.
    pub(super) fn unique_strings(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut strings = Vec::new();
        for item in self.items() {
            let Some(text) = item.string() else { continue };
            if seen.insert(text.clone()) {
                strings.push(text);
            } else {
                item.problem(format!("{} is listed twice; keep one", item.shown()));
            }
        }
        strings
    }

    /// A mapping, or a list of `KEY=value` and `KEY`; of two equal keys the last counts.
    pub(super) fn pairs(&self) -> BTreeMap<String, Option<String>> {
        if self.node.as_sequence().is_some() {
            let lines = self.strings().into_iter();
            return lines
                .map(|line| match line.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (line, None),
                })
                .collect();
        }
        if self.node.as_mapping().is_none() {
            // Without the value: what stands here was meant to be an environment.
            let kind = self.node.kind();
            self.problem(format!("must be a mapping or a list of KEY=value, not {kind}"));
            return BTreeMap::new();
        }
        let pair = |(key, value): (&Key, Self)| (key.text.clone(), value.scalar_text());
        self.entries().into_iter().map(pair).collect()
    }

    /// Like [`At::pairs`], with empty text where there is no value.
    pub(super) fn text_pairs(&self) -> BTreeMap<String, String> {
        let pairs = self.pairs().into_iter();
        pairs.map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }

    /// Reports that the value is not what it must be. Always `None`.
    pub(super) fn wrong_kind<T>(&self, wanted: &str) -> Option<T> {
        self.problem(format!("must be {wanted}, not {}", self.shown()));
        None
    }

    fn scalar_text(&self) -> Option<String> {
        match &self.node.value {
            Value::Null => None,
            Value::Sequence(_) | Value::Mapping(_) => self.wrong_kind("a single value"),
            Value::Date(_) => {
                self.problem("a date must be put in quotes to be a string");
                None
            }
            _ => self.node.to_text(),
        }
    }

    fn old_boolean(&self, value: bool) -> Option<bool> {
        self.warn(format!("write {value} instead; YAML 1.2 does not take this for a boolean"));
        Some(value)
    }

    fn child(&self, key: &'a Key, node: &'a Node) -> Self {
        let key_place = (key.line, key.column);
        // An empty value has no place of its own worth showing.
        let place = if node.is_null() { key_place } else { (node.line, node.column) };
        let path = self.step(Name::Key(&key.text));
        Self { node, path, place, key_place, sink: self.sink }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        let path = self.step(Name::Index(index));
        let place = (node.line, node.column);
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
