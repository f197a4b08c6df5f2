//! Volumes of a service in their short form: `[source:]target[:options]`.

use super::at::At;
use super::scalars;
use crate::model::Propagation;
use crate::yaml::{Mapping, Node, Value};

/// The long form of a mount.
pub(super) fn long_form(text: &str, item: &At<'_>) -> Option<Node> {
    let sections = match sections(text) {
        Ok(sections) => sections,
        Err(reason) => {
            item.problem(format!("{} is not a volume: {reason}", item.shown()));
            return None;
        }
    };
    let (source, target, options) = match sections.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            item.problem(format!("{} is not a volume: too many colons", item.shown()));
            return None;
        }
    };
    if source.or(Some(target)).is_some_and(is_windows_path) && sections.len() > 1 {
        item.problem("a path of Windows is not supported; write a path of this machine");
        return None;
    }
    let is_bind = source.is_some_and(is_path);
    let mut bind = Fields::of(item);
    let mut volume = Fields::of(item);
    let mut mount = Fields::of(item);
    mount.set("type", Value::String(if is_bind { "bind" } else { "volume" }.to_owned()));
    if let Some(source) = source {
        mount.set("source", Value::String(source.to_owned()));
    }
    mount.set("target", Value::String(target.to_owned()));
    for option in options.split(',') {
        match option {
            "" | "cached" | "delegated" | "consistent" => {}
            "ro" => mount.set("read_only", Value::Bool(true)),
            "rw" => mount.set("read_only", Value::Bool(false)),
            "nocopy" => volume.set("nocopy", Value::Bool(true)),
            "z" | "Z" => bind.set("selinux", Value::String(option.to_owned())),
            _ if Propagation::from_word(option).is_some() => {
                bind.set("propagation", Value::String(option.to_owned()));
            }
            _ if item.node.secret => item.warn("an unknown mount option is ignored"),
            _ => item.warn(format!("the mount option '{option}' is unknown and ignored")),
        }
    }
    if is_bind {
        bind.set("create_host_path", Value::Bool(true));
    }
    // Compose's shortcut for so short a text leaves the empty mapping out.
    let is_shortcut = text.len() <= 2;
    if !bind.is_empty() {
        mount.set("bind", bind.finish().value);
    }
    if (!is_bind && !is_shortcut) || !volume.is_empty() {
        mount.set("volume", volume.finish().value);
    }
    Some(mount.finish())
}

/// A path inside a container, cleaned.
pub(super) fn clean_target(target: &str) -> String {
    if target.is_empty() { String::new() } else { scalars::clean_text(target) }
}

/// A mapping in the making, all of it in one place.
pub(super) struct Fields<'a> {
    node: &'a Node,
    mapping: Mapping,
}

impl<'a> Fields<'a> {
    pub(super) fn of(at: &At<'a>) -> Self {
        Self { node: at.node, mapping: Mapping::default() }
    }

    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.mapping.insert(self.node.key(key), self.node.with(value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mapping.is_empty()
    }

    pub(super) fn finish(self) -> Node {
        self.node.with(Value::Mapping(self.mapping))
    }
}

/// The parts between the colons; the colon after a single letter is that of a Windows drive.
fn sections(text: &str) -> Result<Vec<&str>, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    // Compose's shortcut: so short a text is a target, whatever it holds.
    if text.len() <= 2 {
        return Ok(vec![text]);
    }
    let mut sections = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(':') {
        let mut so_far = text[start..at].chars();
        let is_drive = so_far.next().is_some_and(char::is_alphabetic) && so_far.next().is_none();
        if !is_drive {
            sections.push(&text[start..at]);
            start = at + 1;
        }
    }
    sections.push(&text[start..]);
    if sections.contains(&"") { Err("nothing between two colons") } else { Ok(sections) }
}

fn is_windows_path(source: &str) -> bool {
    let mut letters = source.chars();
    let drive = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    source.starts_with("\\\\") || drive && letters.next() == Some(':')
}

fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_end_at_colons_but_not_at_a_drives() {
        assert_eq!(sections("a/b:/c:ro,z"), Ok(vec!["a/b", "/c", "ro,z"]));
        assert_eq!(sections("/data"), Ok(vec!["/data"]));
        assert_eq!(sections("d:/x"), Ok(vec!["d:/x"]));
        assert_eq!(sections("a:"), Ok(vec!["a:"]));
        assert!(sections("ab:").is_err());
        assert!(sections("").is_err());
    }
}
