//! From what a file says to its canonical form, by the table of the specification.

use std::cell::Cell;
use std::path::Path;

use super::at::At;
use super::short;
use super::{mounts, scalars, words};
use crate::hash::go_duration;
use crate::model::is_remote;
use crate::spec::{
    Field, Identity, List, Loose, Object, Repeats, Shape, Short, Size, Support, Whole,
};
use crate::yaml::{Entry, Key, Mapping, Node, Value, format_float};

/// Reads values for files of one directory.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// Where relative paths start.
    pub(super) dir: &'a Path,
    /// What `~` stands for.
    pub(super) home: Option<&'a Path>,
    /// How many ports there are so far: a short range can stand for very many.
    pub(super) ports: &'a Cell<usize>,
}

/// The tags that say what becomes of an earlier file's value.
pub(super) const RESET: &str = "!reset";
pub(super) const OVERRIDE: &str = "!override";

static LIMIT: Shape =
    Shape::Whole(Whole { cuts: false, reads: true, min: i64::MIN, max: i64::MAX });

/// How many ports a project may list: a range for calls or streams has some ten thousand.
const MAX_PORTS: usize = 20_000;

impl Reader<'_> {
    /// The canonical form of a value, or `None` after a report of what is wrong with it.
    pub(super) fn read(&self, shape: &'static Shape, at: &At<'_>) -> Option<Node> {
        let tag = at.node.tag.as_deref();
        if tag == Some(RESET) {
            return Some(Node { tag: at.node.tag.clone(), ..at.node.with(Value::Null) });
        }
        let mut node = self.untagged(shape, at)?;
        if tag == Some(OVERRIDE) {
            node.tag.clone_from(&at.node.tag);
        }
        Some(node)
    }

    fn untagged(&self, shape: &'static Shape, at: &At<'_>) -> Option<Node> {
        if at.node.is_null() && !matches!(shape, Shape::Loose(_) | Shape::Test) {
            // Over what an earlier file says, nothing changes nothing; alone, it may be wrong.
            return Some(at.node.clone());
        }
        let value = match shape {
            Shape::Text => Value::String(at.string()?),
            Shape::Checked(check) => checked(at, *check)?,
            Shape::Choice(choices) => choice(at, choices)?,
            Shape::Loose(loose) => loosely(at, *loose)?,
            Shape::Flag => Value::Bool(at.boolean()?),
            Shape::PlainFlag => match at.node.value {
                Value::Bool(value) => Value::Bool(value),
                _ => return at.wrong_kind("true or false"),
            },
            Shape::Whole(whole) => whole_number(at, *whole)?,
            Shape::Decimal => decimal(at)?,
            Shape::Size(kind) => size(at, *kind)?,
            Shape::Duration => duration(at)?,
            Shape::Mode => mode(at)?,
            Shape::Count => count(at)?,
            Shape::Path => Value::String(self.path(&at.string()?, at)?),
            Shape::PathOrUrl => {
                let text = at.string()?;
                let is_path = !text.is_empty() && !is_remote(&text);
                Value::String(if is_path { self.host_path(&text, at)? } else { text })
            }
            Shape::ContextRef => return self.contexts(at),
            Shape::Anything => return Some(at.node.clone()),
            Shape::Optional(shape) => return self.untagged(shape, at),
            Shape::List(list) => return self.list(list, at),
            Shape::Named(shape) => return self.named(shape, at),
            Shape::Object(object) => return self.object(object, at),
            Shape::Pairs => return pairs(at, false),
            Shape::Variables => return pairs(at, true),
            Shape::Hosts => return hosts(at),
            Shape::Command => command(at)?,
            Shape::Test => test(at)?,
            Shape::Short(short, long) => return self.short(*short, long, at),
        };
        Some(at.node.with(value))
    }

    fn object(&self, object: &'static Object, at: &At<'_>) -> Option<Node> {
        at.mapping()?;
        let mut mapping = Mapping::default();
        for (key, value) in at.entries() {
            if !key.is_string {
                value.problem_at_key("a key must be a string; put it in quotes");
            } else if key.text.starts_with("x-") {
                // A note of the author.
            } else if let Some(field) = object.field(&key.text) {
                if is_welcome(field, &value)
                    && let Some(node) = self.read(field.shape, &value)
                {
                    mapping.insert(key.clone(), node);
                }
            } else if !value.is_enough() {
                let hint = match object.nearest(&key.text) {
                    Some(nearest) => format!("did you mean '{nearest}'?"),
                    None => "remove it, or name it 'x-…' to keep it as a note".to_owned(),
                };
                value.problem_at_key(format!("not a Compose key; {hint}"));
            }
        }
        name_from_external(at, &mut mapping);
        Some(at.node.with(Value::Mapping(mapping)))
    }

    fn named(&self, shape: &'static Shape, at: &At<'_>) -> Option<Node> {
        at.mapping()?;
        let mut mapping = Mapping::default();
        for (key, value) in at.entries() {
            if !key.is_string {
                value.problem_at_key("a name must be a string; put it in quotes");
            } else if is_scalar(shape) && is_note(key) {
                value.problem_at_key(NOTE);
            } else if let Some(node) = self.read(shape, &value) {
                mapping.insert(key.clone(), node);
            }
        }
        Some(at.node.with(Value::Mapping(mapping)))
    }

    fn list(&self, list: &'static List, at: &At<'_>) -> Option<Node> {
        let is_single = list.may_be_single && at.node.as_str().is_some();
        let items = if is_single { vec![at.clone()] } else { at.items()? };
        let mut nodes = Vec::new();
        for item in items {
            if item.node.tag.as_deref() == Some(RESET) {
                continue;
            }
            if let Shape::Short(Short::Port, long) = list.item {
                nodes.extend(self.ports(long, &item));
            } else {
                nodes.extend(self.read(list.item, &item));
            }
        }
        if list.drops_empty {
            nodes.retain(|node| node.as_str() != Some(""));
        }
        let unique = without_repeats(list.repeats, nodes);
        Some(at.node.with(Value::Sequence(unique)))
    }

    fn ports(&self, long: &'static Shape, item: &At<'_>) -> Vec<Node> {
        let room = MAX_PORTS.saturating_sub(self.ports.get());
        let nodes = short::ports(item, room);
        self.ports.set(self.ports.get() + nodes.len());
        nodes.iter().filter_map(|node| self.untagged(long, &item.instead(node))).collect()
    }

    fn short(&self, short: Short, long: &'static Shape, at: &At<'_>) -> Option<Node> {
        if short == Short::Ulimit && at.node.as_mapping().is_none() {
            if matches!(at.node.value, Value::Float(_)) {
                return at.wrong_kind("a whole number");
            }
            // Stays a number: Compose writes it back as one.
            return self.untagged(&LIMIT, at);
        }
        let expanded = short::expand(short, at)?;
        let at = at.instead(&expanded);
        let mut node = self.untagged(long, &at)?;
        if short == Short::Mount {
            self.finish_mount(&mut node, &at)?;
        }
        Some(node)
    }

    /// The host's path of a bind mount, and the clean path inside.
    fn finish_mount(&self, node: &mut Node, at: &At<'_>) -> Option<()> {
        let is_bind = node.at("type").and_then(Node::as_str) == Some("bind");
        let mapping = node.as_mapping_mut()?;
        if is_bind {
            match mapping.get_mut("source") {
                Some(source) => {
                    let text = source.as_str()?.to_owned();
                    *source = source.with(Value::String(self.path(&text, at)?));
                }
                None => {
                    at.problem("a bind mount needs a 'source': the path of the host");
                    return None;
                }
            }
        }
        if let Some(target) = mapping.get_mut("target") {
            let clean = mounts::clean_target(target.as_str()?);
            *target = target.with(Value::String(clean));
        }
        Some(())
    }

    /// A host path as an absolute one: relative ones start at the directory, `~` at home.
    pub(super) fn path(&self, text: &str, at: &At<'_>) -> Option<String> {
        if is_windows(text) { Some(text.to_owned()) } else { self.host_path(text, at) }
    }

    /// The same where Compose knows no drives of Windows.
    fn host_path(&self, text: &str, at: &At<'_>) -> Option<String> {
        let path = match text.strip_prefix('~') {
            Some(rest) => {
                let Some(home) = self.home else {
                    at.problem("'~' stands for a home directory, and none is known; write it out");
                    return None;
                };
                home.join(rest.trim_start_matches('/'))
            }
            // Compose leaves an absolute path as it is written.
            None if text.starts_with('/') => return Some(text.to_owned()),
            None => self.dir.join(text),
        };
        Some(scalars::clean(&path).to_string_lossy().into_owned())
    }

    fn contexts(&self, at: &At<'_>) -> Option<Node> {
        let lines = if at.node.as_sequence().is_some() { at.items()? } else { Vec::new() };
        for line in lines {
            if line.node.as_str().is_some_and(|text| !text.contains('=')) {
                line.problem(format!("{} has no value; write 'name=context'", line.shown()));
                return None;
            }
        }
        let mut node = pairs(at, false)?;
        for (_, value) in node.as_mapping_mut()?.values_mut() {
            let text = value.as_str()?.to_owned();
            let is_path = !text.is_empty() && !is_remote(&text) && !text.contains("://");
            if is_path && !text.starts_with("service:") {
                *value = value.with(Value::String(self.host_path(&text, at)?));
            }
        }
        Some(node)
    }
}

/// Whether a path begins with a drive of Windows.
fn is_windows(path: &str) -> bool {
    matches!(path.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic())
}

/// `external: {name: …}`, which once was the way to give a name.
fn name_from_external(at: &At<'_>, mapping: &mut Mapping) {
    let Some(external) = at.field("external") else { return };
    let Some(name) = external.field("name") else { return };
    match mapping.get("name").and_then(Node::as_str) {
        Some(other) if name.node.as_str() != Some(other) => {
            name.problem("differs from the 'name' beside 'external'; keep that one");
        }
        _ if name.string().is_some() => {
            mapping.insert(name.node.key("name"), name.node.clone());
        }
        _ => {}
    }
}

/// Says what is to be said about a key; whether it is one to read.
fn is_welcome(field: &Field, value: &At<'_>) -> bool {
    match field.support {
        Support::Supported => true,
        Support::Ignored(notice) => {
            value.warn_at_key(notice);
            true
        }
        Support::Refused(reason) => {
            let is_reset = value.node.tag.as_deref() == Some(RESET);
            // `external: false` asks for nothing.
            let says_no = field.key == "external" && value.node.value == Value::Bool(false);
            if !is_reset && !says_no {
                value.problem_at_key(reason);
            }
            is_reset || says_no
        }
    }
}

/// The items of a list as its rule for repeated ones wants them.
pub(super) fn without_repeats(repeats: Repeats, nodes: Vec<Node>) -> Vec<Node> {
    let Repeats::LastWins(identity) = repeats else {
        return nodes;
    };
    let mut unique = indexmap::IndexMap::new();
    for (index, node) in nodes.into_iter().enumerate() {
        // What has no identity is like nothing else.
        let key = identify(identity, &node).unwrap_or_else(|| format!("\u{0}{index}"));
        unique.insert(key, node);
    }
    unique.into_values().collect()
}

fn identify(identity: Identity, node: &Node) -> Option<String> {
    let text = |key: &str| node.at(key).and_then(Node::to_text);
    match identity {
        Identity::Text => node.to_text(),
        Identity::Key => {
            let text = node.as_str()?;
            Some(text.split_once('=').map_or(text, |(key, _)| key).to_owned())
        }
        Identity::Target => text("target"),
        Identity::Path => text("path"),
        Identity::TargetOrSource(directory) => text("target")
            .or_else(|| Some(format!("{directory}/{}", text("source").unwrap_or_default()))),
        Identity::Port => Some(format!(
            "{}:{}:{}/{}",
            text("host_ip").unwrap_or_else(|| "0.0.0.0".to_owned()),
            node.at("published").and_then(Node::as_str).unwrap_or_default(),
            text("target")?,
            text("protocol").unwrap_or_else(|| "tcp".to_owned()),
        )),
    }
}

fn checked(at: &At<'_>, check: fn(&str) -> Result<(), &'static str>) -> Option<Value> {
    let text = at.string()?;
    if let Err(reason) = check(&text) {
        at.problem(format!("{} {reason}", at.shown()));
        return None;
    }
    Some(Value::String(text))
}

fn choice(at: &At<'_>, choices: &[&str]) -> Option<Value> {
    let text = at.string()?;
    if choices.contains(&text.as_str()) {
        return Some(Value::String(text));
    }
    at.wrong_kind(&format!("one of {}", choices.join(", ")))
}

/// Whole numbers stay numbers where only these may stand for a text: Compose tells `80` from
/// `"80"` when it looks for ports that are the same.
fn loosely(at: &At<'_>, loose: Loose) -> Option<Value> {
    let (fits, wanted) = match (&at.node.value, loose) {
        (Value::String(_), _) => (true, ""),
        (Value::Int(_), Loose::Number | Loose::NumberOrNull | Loose::WholeOrNull) => (true, ""),
        (Value::Float(_), Loose::Number | Loose::NumberOrNull) => (true, ""),
        (Value::Bool(_), Loose::Flag) => (true, ""),
        (Value::Null, Loose::NumberOrNull | Loose::WholeOrNull) => {
            return Some(Value::String(String::new()));
        }
        (Value::Int(value), Loose::Whole) => return Some(Value::Int(*value)),
        (_, Loose::Whole | Loose::WholeOrNull) => (false, "a string or a whole number"),
        (_, Loose::Number | Loose::NumberOrNull) => (false, "a string or a number"),
        (_, Loose::Flag) => (false, "a string, true or false"),
    };
    if !fits {
        return at.wrong_kind(wanted);
    }
    at.node.to_text().map(Value::String)
}

fn whole_number(at: &At<'_>, whole: Whole) -> Option<Value> {
    let value = match &at.node.value {
        Value::Int(value) => Some(*value),
        #[expect(clippy::cast_possible_truncation, reason = "the fraction is to be cut off")]
        Value::Float(value) if whole.cuts || value.fract() == 0.0 => Some(*value as i128),
        Value::String(text) if whole.reads => text.strip_prefix('+').unwrap_or(text).parse().ok(),
        _ => None,
    };
    let fits = |value: &i128| (i128::from(whole.min)..=i128::from(whole.max)).contains(value);
    let wanted = match (whole.min, whole.max) {
        (i64::MIN, i64::MAX) => "a whole number".to_owned(),
        (min, i64::MAX) => format!("a whole number of at least {min}"),
        (min, max) => format!("a whole number from {min} to {max}"),
    };
    value.filter(fits).map(Value::Int).or_else(|| at.wrong_kind(&wanted))
}

fn decimal(at: &At<'_>) -> Option<Value> {
    let value = match &at.node.value {
        #[expect(clippy::cast_precision_loss, reason = "Compose keeps single precision")]
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let value = value.filter(|value: &f64| value.is_finite());
    value.map(Value::Float).or_else(|| at.wrong_kind("a number"))
}

fn size(at: &At<'_>, kind: Size) -> Option<Value> {
    let bytes = match &at.node.value {
        Value::Int(value) if *value < 0 && kind == Size::NotNegative => None,
        Value::Int(value) if kind != Size::Text => Some(*value),
        Value::Float(_) if kind == Size::Any => Some(0),
        Value::String(text) => scalars::parse_bytes(text).map(i128::from),
        _ => None,
    };
    let fits = |value: &i128| (i128::from(i64::MIN)..=i128::from(i64::MAX)).contains(value);
    let bytes = bytes.filter(fits).map(Value::Int);
    bytes.or_else(|| at.wrong_kind("a size such as 512m, 8gb or a number of bytes"))
}

fn duration(at: &At<'_>) -> Option<Value> {
    let text = at.string()?;
    let duration = scalars::duration(&text).map(|duration| Value::String(go_duration(duration)));
    duration.or_else(|| at.wrong_kind("a duration such as 30s, 1m30s or 500ms"))
}

fn mode(at: &At<'_>) -> Option<Value> {
    let mode = match &at.node.value {
        Value::Int(value) => Some(*value),
        Value::String(text) => i128::from_str_radix(text, 8).ok(),
        _ => None,
    };
    let mode = mode.filter(|mode| (0..=0o7777_7777).contains(mode));
    let text = mode.map(|mode| Value::String(format!("0{mode:o}")));
    text.or_else(|| at.wrong_kind("a file mode such as 0440"))
}

fn count(at: &At<'_>) -> Option<Value> {
    match &at.node.value {
        Value::Int(value) => Some(Value::Int(*value)),
        Value::String(text) if text == "all" => Some(Value::Int(-1)),
        Value::String(text) => {
            let count = text.parse().ok().map(Value::Int);
            count.or_else(|| at.wrong_kind("a whole number or 'all'"))
        }
        _ => at.wrong_kind("a whole number or 'all'"),
    }
}

/// A mapping to text, from a mapping or a list of `KEY=value`.
fn pairs(at: &At<'_>, may_be_null: bool) -> Option<Node> {
    let mut mapping = Mapping::default();
    let nothing = |node: &Node| {
        node.with(if may_be_null { Value::Null } else { Value::String(String::new()) })
    };
    if at.node.as_sequence().is_some() {
        for item in at.items()? {
            let Some(line) = item.string() else { continue };
            if line.split('=').next().is_some_and(|key| may_be_null && key.ends_with(' ')) {
                item.problem("there is a space before the '='; take it out");
                continue;
            }
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key, item.node.with(Value::String(value.to_owned()))),
                None => (line.as_str(), nothing(item.node)),
            };
            mapping.insert(item.node.key(key), value);
        }
        return Some(Node { listed: true, ..at.node.with(Value::Mapping(mapping)) });
    }
    if at.node.as_mapping().is_none() {
        // Without the value: what stands here was meant to be an environment.
        let kind = at.node.kind();
        at.problem(format!("must be a mapping or a list of KEY=value, not {kind}"));
        return None;
    }
    for (key, value) in at.entries() {
        if !key.is_string {
            value.problem_at_key("a key must be a string; put it in quotes");
            continue;
        }
        if is_note(key) {
            value.problem_at_key(NOTE);
            continue;
        }
        if key.text.is_empty() {
            value.problem_at_key(NAMELESS);
            continue;
        }
        let node = match &value.node.value {
            _ if value.node.tag.as_deref() == Some(RESET) => {
                Node { tag: value.node.tag.clone(), ..value.node.with(Value::Null) }
            }
            Value::Null => nothing(value.node),
            Value::Sequence(_) | Value::Mapping(_) => {
                value.wrong_kind::<()>("a single value");
                continue;
            }
            Value::Date(_) => {
                value.problem("a date must be put in quotes to be a string");
                continue;
            }
            Value::Float(number) => value.node.with(Value::String(format_float(*number))),
            _ => value.node.with(Value::String(value.node.to_text().unwrap_or_default())),
        };
        mapping.insert(key.clone(), node);
    }
    Some(at.node.with(Value::Mapping(mapping)))
}

/// Among names of the author's choice, Compose takes such a one for a note, and what it then makes
/// of the mapping is of no use.
fn is_note(key: &Key) -> bool {
    key.text.starts_with("x-")
}

const NOTE: &str = "a name that begins with 'x-' is not supported in a mapping, where Compose \
                    takes it for a note; write a list of KEY=value, or another name";

const NAMELESS: &str = "a key must not be empty; give it a name";

fn is_scalar(shape: &Shape) -> bool {
    matches!(shape, Shape::Text | Shape::Loose(_) | Shape::Short(Short::Ulimit, _))
}

/// Lines as they are written; a mapping becomes lines with `=`.
fn hosts(at: &At<'_>) -> Option<Node> {
    let mut lines = Vec::new();
    if at.node.as_sequence().is_some() {
        for item in at.items()? {
            let Some(line) = item.string() else { continue };
            let end = line.find('=').or_else(|| line.find(':'));
            if end == Some(0) {
                item.problem("the host has no name; write 'host:address'");
            } else if let Some(end) = end {
                let (host, addresses) = line.split_at(end + 1);
                let each = addresses.split(',').map(|address| format!("{host}{address}"));
                lines.extend(each.map(|line| item.node.with(Value::String(line))));
            } else {
                item.problem(format!("{} has no address; write 'host:address'", item.shown()));
            }
        }
        return Some(at.node.with(Value::Sequence(lines)));
    }
    if at.node.as_mapping().is_none() {
        return at.wrong_kind("a mapping or a list of host:address");
    }
    let mut entries = at.entries();
    entries.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
    for (key, value) in entries {
        if key.text.is_empty() {
            value.problem_at_key(NAMELESS);
            continue;
        }
        let addresses = match value.node.as_sequence() {
            Some(_) => value.items()?,
            None => vec![value],
        };
        for address in addresses {
            if address.node.tag.as_deref() == Some(RESET) {
                address.problem("a single host cannot be reset; write '!override' before them all");
                continue;
            }
            let Some(text) = address.string() else { continue };
            lines.push(address.node.with(Value::String(format!("{}={text}", key.text))));
        }
    }
    Some(at.node.with(Value::Sequence(lines)))
}

fn command(at: &At<'_>) -> Option<Value> {
    let words = match &at.node.value {
        Value::Null => return Some(Value::Null),
        Value::String(line) => match words::split(line) {
            Ok(split) => {
                if let Some(cut_at) = split.cut_at {
                    at.warn(format!(
                        "everything from '{cut_at}' on is dropped, as Compose drops it; \
                         for a shell write 'sh -c \"…\"'"
                    ));
                }
                split.words
            }
            Err(reason) => {
                at.problem(format!("the command {reason}; quote it as for a shell"));
                return None;
            }
        },
        Value::Sequence(_) => {
            let items = at.items()?;
            items.iter().filter_map(At::string).collect()
        }
        _ => return at.wrong_kind("a string or a list of strings"),
    };
    let words = words.into_iter().map(|word| at.node.with(Value::String(word)));
    Some(Value::Sequence(words.collect()))
}

fn test(at: &At<'_>) -> Option<Value> {
    let words = match &at.node.value {
        Value::String(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        Value::Sequence(_) => {
            let words: Vec<_> = at.items()?.iter().filter_map(At::string).collect();
            let kind = words.first().map(String::as_str);
            if !matches!(kind, None | Some("NONE" | "CMD" | "CMD-SHELL")) {
                at.problem("a list must begin with NONE, CMD or CMD-SHELL");
                return None;
            }
            words
        }
        _ => return at.wrong_kind("a string or a list of strings"),
    };
    let words = words.into_iter().map(|word| at.node.with(Value::String(word)));
    Some(Value::Sequence(words.collect()))
}

/// The entries of a mapping node.
pub(super) fn entries(node: &Node) -> impl Iterator<Item = &Entry> {
    node.as_mapping().into_iter().flat_map(Mapping::iter)
}
