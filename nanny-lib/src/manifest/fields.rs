//! Reading the fields of a mapping one by one, and keeping track of what was wrong.

use std::path::Path;

use nanny_compose::brief;
use nanny_compose::yaml::{Entry, Mapping, Node};

use super::Problem;
use super::scalar::Fault;

/// What was found wrong with one file so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    origin: &'a Path,
    file: &'a Path,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(super) fn new(origin: &'a Path, file: &'a Path) -> Self {
        Self { origin, file, problems: Vec::new() }
    }

    pub(super) fn error(&mut self, at: (usize, usize), message: impl Into<String>) {
        self.push(at, message, |problem| problem);
    }

    pub(super) fn hint(&mut self, at: (usize, usize), message: impl Into<String>) {
        self.push(at, message, Problem::as_hint);
    }

    /// Keeps so many of each kind as somebody may read.
    fn push(
        &mut self,
        at: (usize, usize),
        message: impl Into<String>,
        kind: impl Fn(Problem) -> Problem,
    ) {
        let message = brief(message.into());
        let problem = kind(Problem::new(self.origin, self.file, at, message));
        let known = self.problems.iter().filter(|known| known.severity == problem.severity);
        match known.count() {
            MOST_OF_A_KIND.. => {}
            LAST_OF_A_KIND => {
                let more = "there is more; mend what is listed first";
                self.problems.push(Problem { message: more.to_owned(), ..problem });
            }
            _ => self.problems.push(problem),
        }
    }
}

/// What fields are called elsewhere, in small letters alone.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("gpu", "gpu_required"),
    ("vram", "vram_gb"),
    ("environment", "env"),
    ("cmd", "command"),
    ("cwd", "working_dir"),
    ("workdir", "working_dir"),
    ("healthcheck", "health_endpoint"),
    ("healthurl", "health_endpoint"),
    ("memory", "memory_limit"),
    ("cpus", "cpu_limit"),
];

const MOST_OF_A_KIND: usize = 100;
const LAST_OF_A_KIND: usize = MOST_OF_A_KIND - 1;

/// The fields of a mapping, or of no mapping, which has none. Null is absent.
#[derive(Debug)]
pub(super) struct Fields<'t> {
    mapping: Option<&'t Mapping>,
    prefix: &'static str,
    known: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The fields of `mapping`, which messages call by names that begin with `prefix`.
    pub(super) fn new(mapping: Option<&'t Mapping>, prefix: &'static str) -> Self {
        Self { mapping, prefix, known: Vec::new() }
    }

    /// The entry of a field, if it is there and not null.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<&'t Entry> {
        self.known.push(key);
        self.mapping?.entry(key).filter(|entry| !entry.value.is_null())
    }

    /// The value of a field, read by `read`; a fault is reported, and the field counts as absent.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnOnce(&Node) -> Result<T, Fault>,
    ) -> Option<T> {
        match read(&self.entry(key)?.value) {
            Ok(value) => Some(value),
            Err(Fault { at, message }) => {
                report.error(at, format!("'{}{key}' {message}", self.prefix));
                None
            }
        }
    }

    /// The fields of a field that is a mapping; of anything else, none.
    pub(super) fn nested(
        &mut self,
        key: &'static str,
        prefix: &'static str,
        report: &mut Report<'_>,
    ) -> Self {
        let Some(Entry { value, .. }) = self.entry(key) else {
            return Self::new(None, prefix);
        };
        if value.as_mapping().is_none() {
            let kind = value.kind();
            let message = format!(
                "'{}{key}' must be a mapping, not {kind}; write its fields on lines of their own, \
                 indented",
                self.prefix
            );
            report.error((value.line, value.column), message);
        }
        Self::new(value.as_mapping(), prefix)
    }

    /// The entries that nobody has asked for, each with the absent field it may be a slip for.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&'t Entry, Option<&'static str>)> {
        let known = |entry: &&Entry| self.known.contains(&entry.key.text.as_str());
        let entries = self.mapping.into_iter().flat_map(Mapping::iter);
        entries.filter(move |entry| !known(entry)).map(|entry| (entry, self.meant(&entry.key.text)))
    }

    /// Hints at every entry that nobody has asked for: nothing is dropped in silence.
    pub(super) fn hint_at_unknown(&self, report: &mut Report<'_>) {
        // Looking for what was meant takes time, and no more are kept.
        for (entry, meant) in self.unknown().take(MOST_OF_A_KIND) {
            let cure = meant.map(|meant| format!("; did you mean '{}{meant}'?", self.prefix));
            let name = format!("{}{}", self.prefix, entry.key.text);
            let message =
                format!("'{name}' is no field and does nothing{}", cure.unwrap_or_default());
            report.hint((entry.key.line, entry.key.column), message);
        }
    }

    /// The absent field that somebody who wrote `key` most likely meant.
    fn meant(&self, key: &str) -> Option<&'static str> {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
        let key = plain(key);
        let absent = |field: &&&str| self.mapping.is_some_and(|all| all.get(field).is_none());
        let word = OTHER_WORDS
            .iter()
            .find(|(word, field)| *word == key && self.known.contains(field) && absent(&field));
        if let Some((_, field)) = word {
            return Some(field);
        }
        let distance = |field: &str| strsim::osa_distance(&key, &plain(field));
        let candidates = self.known.iter().filter(absent).map(|field| (distance(field), *field));
        let (distance, field) = candidates.min()?;
        (distance <= 1.max(key.len() / 5)).then_some(field)
    }
}
