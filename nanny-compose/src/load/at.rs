//! Reading a tree with an eye on where one is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scalars;
use crate::problem::Problem;
use crate::yaml::{Key, Mapping, Node, Value};

/// Collects what there is to say about one file.
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
    path: String,
    place: (usize, usize),
    key_place: (usize, usize),
    sink: &'a Sink,
}

impl Sink {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn problem(&self, place: (usize, usize), path: &str, message: impl Into<String>) {
        self.problems
            .borrow_mut()
            .push(self.at(place, path, message.into()));
    }

    pub(super) fn warn(&self, place: (usize, usize), path: &str, message: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push(self.at(place, path, message.into()));
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    fn at(&self, (line, column): (usize, usize), path: &str, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line,
            column,
            path: path.to_owned(),
            message,
        }
    }
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node, sink: &'a Sink) -> Self {
        let place = (node.line, node.column);
        Self {
            node,
            path: String::new(),
            place,
            key_place: place,
            sink,
        }
    }

    pub(super) fn problem(&self, message: impl Into<String>) {
        self.sink.problem(self.place, &self.path, message);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.sink.warn(self.place, &self.path, message);
    }

    /// A problem of this value's key, or of the value as a whole.
    pub(super) fn problem_at_key(&self, message: impl Into<String>) {
        self.sink.problem(self.key_place, &self.path, message);
    }

    /// A warning about this value's key.
    pub(super) fn warn_at_key(&self, message: impl Into<String>) {
        self.sink.warn(self.key_place, &self.path, message);
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

    /// Keys and values of a mapping.
    pub(super) fn entries(&self) -> Vec<(&'a Key, Self)> {
        let Some(mapping) = self.mapping() else {
            return Vec::new();
        };
        mapping
            .iter()
            .map(|entry| (&entry.key, self.child(&entry.key, &entry.value)))
            .collect()
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
        items
            .iter()
            .enumerate()
            .map(|(index, item)| self.item(index, item))
            .collect()
    }

    /// A string, not a number.
    pub(super) fn string(&self) -> Option<String> {
        let text = self.node.as_str();
        if text.is_none() {
            let hint = if self.node.to_text().is_some() {
                "; put it in quotes"
            } else {
                ""
            };
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
        self.items()
            .iter()
            .filter_map(Self::string_or_number)
            .collect()
    }

    /// A list of different strings.
    pub(super) fn unique_strings(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for item in self.items() {
            let Some(text) = item.string() else { continue };
            if seen.contains(&text) {
                item.problem(format!("{} is listed twice; keep one", item.shown()));
            } else {
                seen.push(text);
            }
        }
        seen
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
            self.wrong_kind::<()>("a mapping or a list of KEY=value");
            return BTreeMap::new();
        }
        let pair = |(key, value): (&Key, Self)| (key.text.clone(), value.scalar_text());
        self.entries().into_iter().map(pair).collect()
    }

    /// Like [`At::pairs`], with empty text where there is no value.
    pub(super) fn text_pairs(&self) -> BTreeMap<String, String> {
        let pairs = self.pairs().into_iter();
        pairs
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect()
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
        self.warn(format!(
            "write {value} instead; YAML 1.2 does not take this for a boolean"
        ));
        Some(value)
    }

    fn child(&self, key: &Key, node: &'a Node) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        // An empty value has no place of its own worth showing.
        let key_place = (key.line, key.column);
        let place = if node.is_null() {
            key_place
        } else {
            (node.line, node.column)
        };
        let path = format!("{}{dot}{}", self.path, key.text);
        Self {
            node,
            path,
            place,
            key_place,
            sink: self.sink,
        }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        let path = format!("{}[{index}]", self.path);
        let place = (node.line, node.column);
        Self {
            node,
            path,
            place,
            key_place: place,
            sink: self.sink,
        }
    }
}
