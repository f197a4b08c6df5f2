//! The tree: values, where they stand, and how to find one by path.

use std::fmt;

use indexmap::IndexMap;

/// A value and the place where it was written.
///
/// A node that came in through an alias or a merge key keeps the position of its definition:
/// that is the text to mend.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// What the text means.
    pub value: Value,
    /// The scalar as it was written, where `value` no longer shows it (`1.10`, `0755`, `~`).
    pub text: Option<Box<str>>,
    /// A tag of the author's own (`!reset`); the core tags (`!!str`) are already applied.
    pub tag: Option<Box<str>>,
    /// Which of the loader's files it stands in.
    pub(crate) source: u16,
    /// Line of the first character, from 1.
    pub line: usize,
    /// Column of the first character, from 1.
    pub column: usize,
    /// Whether interpolation put a variable's value in here, which must not be shown.
    pub(crate) secret: bool,
    /// Whether Compose has this mapping as a list of `KEY=value`, in which it finds no key to reset.
    pub(crate) listed: bool,
}

/// The kinds of value, after yaml.v3's rules.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "YAML will not grow another kind")]
pub enum Value {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// `true` or `false`, and only these (and their upper case).
    Bool(bool),
    /// A whole number; wide enough for both of Go's 64-bit ranges.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// An unquoted date, which Compose accepts nowhere. Holds the text.
    Date(String),
    /// Text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in the order of the file.
    Mapping(Mapping),
}

/// A mapping in the order of its file, merged keys last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    /// Boxed, for a scalar is to take no more room than it must.
    pub(super) entries: Box<IndexMap<String, Entry>>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key and where it stands.
    pub key: Key,
    /// What belongs to it.
    pub value: Node,
}

/// A mapping's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key as text, also where YAML would read it as a number.
    pub text: String,
    /// Whether YAML reads it as text: `8080:` is a number, `"8080":` is not.
    pub is_string: bool,
    /// Which of the loader's files it stands in.
    pub(crate) source: u16,
    /// Line of the first character, from 1.
    pub line: usize,
    /// Column of the first character, from 1.
    pub column: usize,
    /// Whether a variable's value went into it, which must not be shown.
    pub(crate) secret: bool,
}

impl Node {
    /// The node at a path such as `health.interval` or `services.web.ports[0]`.
    ///
    /// A key that contains dots is found too: the longest key that fits is tried first.
    pub fn at(&self, path: &str) -> Option<&Self> {
        if path.is_empty() {
            return Some(self);
        }
        match &self.value {
            Value::Mapping(mapping) => ends_of_key(path).find_map(|end| {
                let rest = path[end..].strip_prefix('.').unwrap_or(&path[end..]);
                mapping.get(&path[..end])?.at(rest)
            }),
            Value::Sequence(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                item.at(rest.strip_prefix('.').unwrap_or(rest))
            }
            _ => None,
        }
    }

    /// The entry whose value [`Node::at`] would find: for the position of its key.
    pub fn entry_at(&self, path: &str) -> Option<&Entry> {
        let mut splits = path.rmatch_indices('.').map(|(at, _)| (&path[..at], &path[at + 1..]));
        let nested = splits.find_map(|(parent, key)| self.at(parent)?.as_mapping()?.entry(key));
        nested.or_else(|| self.as_mapping()?.entry(path))
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The mapping, if this is one.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// Whether there is nothing here.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// What this is, in words for a message: "a list", "a number", ….
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Date(_) => "a date",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// A value that stands nowhere in a file.
    pub(crate) fn nowhere(source: u16, value: Value) -> Self {
        let (line, column, secret, listed) = (0, 0, false, false);
        Self { value, text: None, tag: None, source, line, column, secret, listed }
    }

    /// Another value in the same place; whether a variable went into it is kept.
    pub(crate) fn with(&self, value: Value) -> Self {
        let Self { source, line, column, secret, .. } = *self;
        Self { value, text: None, tag: None, source, line, column, secret, listed: false }
    }

    /// A key in this place.
    pub(crate) fn key(&self, text: impl Into<String>) -> Key {
        let Self { source, line, column, secret, .. } = *self;
        Key { text: text.into(), is_string: true, source, line, column, secret }
    }

    /// Whether two trees mean the same, wherever they stand.
    pub(crate) fn means(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Sequence(a), Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.means(b))
            }
            (Value::Mapping(a), Value::Mapping(b)) => {
                let same = |entry: &Entry| {
                    b.get(&entry.key.text).is_some_and(|other| entry.value.means(other))
                };
                a.len() == b.len() && a.iter().all(same)
            }
            (a, b) => a == b,
        }
    }

    pub(crate) fn as_mapping_mut(&mut self) -> Option<&mut Mapping> {
        match &mut self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// A scalar as Go prints it, which is what reaches a container: 493 for `0755`, 1.1 for
    /// `1.10`. Nothing for null, lists and mappings.
    pub fn to_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(super::format_float(*value)),
            Value::Date(text) | Value::String(text) => Some(text.clone()),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }
}

/// Shows everything but what came from a variable.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ", self.line, self.column)?;
        if let Some(tag) = &self.tag {
            write!(f, "{tag} ")?;
        }
        if self.secret { f.write_str("<from a variable>") } else { self.value.fmt(f) }
    }
}

impl Mapping {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        Some(&self.entry(key)?.value)
    }

    /// A key and its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a key, in place of what it was.
    pub(crate) fn insert(&mut self, key: Key, value: Node) {
        self.entries.insert(key.text.clone(), Entry { key, value });
    }

    /// Takes a key out; the order of the others stays.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        Some(self.entries.shift_remove(key)?.value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        Some(&mut self.entries.get_mut(key)?.value)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Node) -> bool) {
        self.entries.retain(|_, entry| keep(&entry.value));
    }

    /// All entries by value, in the order of the file.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_values()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Node)> {
        self.entries.values_mut().map(|entry| (&entry.key, &mut entry.value))
    }
}

/// Where the first key of a path may end: at its end, before a dot or before a bracket.
fn ends_of_key(path: &str) -> impl Iterator<Item = usize> {
    let inner = path.rmatch_indices(['.', '[']).map(|(at, _)| at);
    std::iter::once(path.len()).chain(inner)
}
