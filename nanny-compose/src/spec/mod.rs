//! The Compose specification as data: which keys there are, what each may hold, how two files
//! are merged, how it is written, and whether we carry it out.
//!
//! One table, in the files beside this one, in the order in which Compose writes the fields. All
//! else is made from it: the check of a file, the canonical form and its JSON, and the
//! documentation. So nothing is dropped in silence: a key is supported, ignored with a notice, or
//! refused with a reason; what is not in the table is not a Compose key at all.

mod build;
mod deploy;
mod project;
mod resources;
mod service;

pub(crate) use project::PROJECT;
pub(crate) use resources::{NETWORK, VOLUME};
pub(crate) use service::SERVICE;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// It is carried out as Compose does.
    Supported,
    /// It has no effect, and a warning with this notice.
    Ignored(&'static str),
    /// It is an error, for this reason.
    Refused(&'static str),
}

/// A row of the table, for documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The key with its place: `services.*.image`. Names that the author chooses are `*`, items
    /// of a list `[]`.
    pub path: String,
    /// What becomes of it.
    pub support: Support,
    /// The lowest version of Docker's API that has it, where not every engine does.
    pub needs_api: Option<&'static str>,
}

/// All rows of the table, in its order.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    collect("", &PROJECT, &mut rows);
    rows
}

/// What becomes of a key, by its place as in [`Row::path`]. `None` if Compose has no such key.
pub fn support(path: &str) -> Option<Support> {
    all().into_iter().find(|row| row.path == path).map(|row| row.support)
}

fn collect(place: &str, object: &Object, rows: &mut Vec<Row>) {
    for field in object.fields {
        let dot = if place.is_empty() { "" } else { "." };
        let path = format!("{place}{dot}{}", field.key);
        let (support, needs_api) = (field.support, field.needs_api);
        rows.push(Row { path: path.clone(), support, needs_api });
        if support == Support::Supported {
            descend(&path, field.shape, rows);
        }
    }
}

fn descend(path: &str, shape: &Shape, rows: &mut Vec<Row>) {
    match shape {
        Shape::Object(object) => collect(path, object, rows),
        Shape::Named(value) => descend(&format!("{path}.*"), value, rows),
        Shape::List(list) => descend(&format!("{path}.[]"), list.item, rows),
        Shape::Short(_, long) => descend(path, long, rows),
        Shape::Optional(shape) => descend(path, shape, rows),
        _ => {}
    }
}

/// A mapping with fixed keys; names that begin with `x-` are notes of the author.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) fields: &'static [Field],
    /// What must be there once everything is merged.
    pub(crate) required: &'static [&'static str],
    /// How two of them are merged.
    pub(crate) merge: Merge,
}

/// How a value of a later file meets that of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Key by key.
    ByKey,
    /// Key by key, unless both name this key and differ in it: then the later one counts.
    ByKeyIfSame(&'static str),
    /// The later one counts.
    Replace,
}

/// A key of an [`Object`].
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) json: Json,
    pub(crate) support: Support,
    pub(crate) needs_api: Option<&'static str>,
    /// Whether Compose leaves it out before it hashes a service.
    pub(crate) is_unhashed: bool,
}

/// When a field appears in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Json {
    /// If it says something: not for zero, `false`, an empty text or an empty list.
    IfFilled,
    /// If the file has it, whatever it says.
    IfPresent,
    /// Always, as this text if it is absent.
    Always(&'static str),
    /// If it says something, and only in what is hashed for a container's label.
    InLabel,
    /// Never.
    Never,
}

/// What a value may be, and its canonical form.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// A string that this check finds nothing wrong with.
    Checked(fn(&str) -> Result<(), &'static str>),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A string, or another scalar, as text.
    Loose(Loose),
    /// `true` or `false`; canonical: a boolean.
    Flag,
    /// The same, and never as a string.
    PlainFlag,
    /// A whole number, also as a string; canonical: a number.
    Whole(Whole),
    /// A number, also as a string; canonical: a number of single precision.
    Decimal,
    /// A size such as `8gb`; canonical: bytes. The JSON has it as text.
    Size(Size),
    /// A duration; canonical: as Go writes it.
    Duration,
    /// A file mode; canonical: octal text.
    Mode,
    /// A path of the host; canonical: absolute.
    Path,
    /// A path of the host, unless it is a URL.
    PathOrUrl,
    /// `build.additional_contexts`: a path, a URL, or a reference to something that is no path.
    ContextRef,
    /// Whatever the author likes.
    Anything,
    /// Null, or this.
    Optional(&'static Self),
    /// A list.
    List(&'static List),
    /// A mapping from names of the author's choice.
    Named(&'static Self),
    /// A mapping with fixed keys.
    Object(&'static Object),
    /// A mapping, or a list of `KEY=value`; canonical: a mapping to text.
    Pairs,
    /// The same, where a key may have no value.
    Variables,
    /// Lines `host:ip` or `host=ip`, or a mapping; canonical: lines.
    Hosts,
    /// A command line; canonical: its words, or null.
    Command,
    /// `healthcheck.test`; canonical: its words.
    Test,
    /// `count` of devices: a whole number or `all`, which is -1.
    Count,
    /// A form of its own, which stands for a longer one.
    Short(Short, &'static Self),
}

/// Which scalars may stand for a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loose {
    /// Whole numbers.
    Whole,
    /// Numbers.
    Number,
    /// Numbers, and nothing for an empty text.
    NumberOrNull,
    /// Whole numbers, and nothing for an empty text.
    WholeOrNull,
    /// Booleans.
    Flag,
}

/// How a size may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// With a unit, or as any number; Compose takes a fraction for nothing.
    Any,
    /// With a unit, or as a whole number that is not below zero.
    NotNegative,
    /// With a unit, or as a whole number.
    Whole,
    /// As a string.
    Text,
}

/// Bounds and habits of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Whether a fraction is cut off rather than refused.
    pub(crate) cuts: bool,
    /// Whether it may be a string.
    pub(crate) reads: bool,
    /// The least that a number may be.
    pub(crate) min: i64,
    /// The most that a number may be.
    pub(crate) max: i64,
}

/// What a list holds.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) item: &'static Shape,
    pub(crate) repeats: Repeats,
    /// Whether a single value stands for a list of one.
    pub(crate) may_be_single: bool,
    /// Whether items that are empty texts are dropped.
    pub(crate) drops_empty: bool,
}

impl List {
    const fn of(item: &'static Shape) -> Self {
        Self { item, repeats: Repeats::Kept, may_be_single: false, drops_empty: false }
    }

    const fn unique(item: &'static Shape, identity: Identity) -> Self {
        Self { repeats: Repeats::LastWins(identity), ..Self::of(item) }
    }

    const fn or_single(mut self) -> Self {
        self.may_be_single = true;
        self
    }
}

/// What happens to items of a list that are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Nothing.
    Kept,
    /// They are an error.
    Refused,
    /// The last one counts, in the place of the first.
    LastWins(Identity),
    /// Nothing; and of two files only the later one's items count, each over the earlier one's
    /// that has the same in this field.
    KeptOfLater(&'static str),
}

/// What makes two items of a list the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The whole text.
    Text,
    /// The text up to a `=`.
    Key,
    /// The field `target`.
    Target,
    /// The field `path`.
    Path,
    /// The field `target`, or beneath this directory the field `source`.
    TargetOrSource(&'static str),
    /// The address, ports and protocol.
    Port,
}

/// The short forms there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// A path for `build`.
    Build,
    /// A text for a port, or several.
    Port,
    /// A text for a mount.
    Mount,
    /// A text for a device.
    Device,
    /// The name of a secret or config.
    Reference,
    /// The path of an `env_file`.
    EnvFile,
    /// A list of services for `depends_on`.
    DependsOn,
    /// A list of names for a mapping to nothing.
    Names,
    /// `gpus: all`.
    Gpus,
    /// One number for both limits.
    Ulimit,
    /// The name of a service to extend.
    Extends,
    /// The path of a file to include.
    Include,
    /// `external: {name: …}`, which is how a name was once given.
    External,
}

impl Object {
    pub(crate) const fn new(fields: &'static [Field]) -> Self {
        Self { fields, required: &[], merge: Merge::ByKey }
    }

    const fn requiring(mut self, keys: &'static [&'static str]) -> Self {
        self.required = keys;
        self
    }

    const fn merged(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }

    /// The key that an author most likely meant.
    pub(crate) fn nearest(&self, key: &str) -> Option<&'static str> {
        // No key is so long that a longer one could be a slip of the pen.
        if key.len() > 40 {
            return None;
        }
        let lower = key.to_lowercase().replace('-', "_");
        let distance = |known: &str| strsim::damerau_levenshtein(&lower, known);
        let nearest = self.fields.iter().map(|field| field.key).min_by_key(|key| distance(key))?;
        let at_most = 1 + lower.chars().count() / 4;
        (distance(nearest) <= at_most).then_some(nearest)
    }
}

impl Field {
    const fn new(key: &'static str, shape: &'static Shape) -> Self {
        let (json, support) = (Json::IfFilled, Support::Supported);
        Self { key, shape, json, support, needs_api: None, is_unhashed: false }
    }

    const fn json(mut self, json: Json) -> Self {
        self.json = json;
        self
    }

    /// In the JSON whenever the file has it.
    const fn if_present(self) -> Self {
        self.json(Json::IfPresent)
    }

    const fn ignored(mut self, notice: &'static str) -> Self {
        self.support = Support::Ignored(notice);
        self
    }

    const fn refused(mut self, reason: &'static str) -> Self {
        self.support = Support::Refused(reason);
        self
    }

    const fn unhashed(mut self) -> Self {
        self.is_unhashed = true;
        self
    }

    const fn needs_api(mut self, version: &'static str) -> Self {
        self.needs_api = Some(version);
        self
    }
}

const TEXTS: Shape = Shape::List(&List::unique(&Shape::Text, Identity::Key));
const TEXT_OR_TEXTS: Shape = Shape::List(&List::unique(&Shape::Text, Identity::Key).or_single());
/// Those that are empty, as a variable may leave them, do not count.
const FILLED_TEXTS: Shape = Shape::List(&List {
    drops_empty: true,
    ..List::unique(&Shape::Text, Identity::Key).or_single()
});
const ALL_TEXTS: Shape = Shape::List(&List::of(&Shape::Text));
const UNIQUE_TEXTS: Shape =
    Shape::List(&List { repeats: Repeats::Refused, ..List::of(&Shape::Text) });
const LOOSE_MAP: Shape = Shape::Named(&Shape::Loose(Loose::Number));
const ANY_WHOLE: Whole = Whole { cuts: false, reads: true, min: i64::MIN, max: i64::MAX };
const WHOLE: Shape = Shape::Whole(ANY_WHOLE);
const CUT: Shape = Shape::Whole(Whole { cuts: true, ..ANY_WHOLE });
/// A number, and never a string.
const CUT_NUMBER: Shape = Shape::Whole(Whole { cuts: true, reads: false, ..ANY_WHOLE });
const SIZE: Shape = Shape::Size(Size::Any);

/// Keys that make no sense here.
const NOT_HERE: &str = "not supported; remove it, or run this project with docker compose";
const SWARM: &str = "has a meaning only in a swarm, and none here";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_key_once() {
        let mut paths: Vec<_> = all().into_iter().map(|row| row.path).collect();
        let before = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), before);
        assert!(before > 200, "the table has {before} rows");
    }

    #[test]
    fn a_key_is_found_by_its_place() {
        assert_eq!(support("services.*.image"), Some(Support::Supported));
        assert_eq!(support("services.*.volumes.[].bind.propagation"), Some(Support::Supported));
        assert!(matches!(support("services.*.blkio_config"), Some(Support::Refused(_))));
        assert!(matches!(support("version"), Some(Support::Ignored(_))));
        assert_eq!(support("services.*.imag"), None);
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(SERVICE.nearest("imag"), Some("image"));
        assert_eq!(SERVICE.nearest("Env-File"), Some("env_file"));
        assert_eq!(SERVICE.nearest("shmsize"), Some("shm_size"));
        assert_eq!(SERVICE.nearest("wombat"), None);
    }
}
