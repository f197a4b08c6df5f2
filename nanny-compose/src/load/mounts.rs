//! Volumes of a service in their short form: `[source:]target[:options]`.

use indexmap::IndexMap;

use super::at::At;
use super::context::Context;
use super::scalars;
use crate::model::{Mount, MountSource, Propagation, Selinux};

/// The mounts of a service. Of two with the same target the later one counts, in the earlier
/// one's place.
pub(super) fn read(list: &At<'_>, context: &Context<'_>) -> Vec<Mount> {
    let mut mounts = IndexMap::new();
    for item in list.items() {
        if item.node.as_mapping().is_some() {
            item.problem("the long form is not supported yet; write 'source:target'");
            continue;
        }
        if let Some(mount) = item.string().and_then(|text| parse(&text, &item, context)) {
            mounts.insert(mount.target.clone(), mount);
        }
    }
    mounts.into_values().collect()
}

fn parse(text: &str, item: &At<'_>, context: &Context<'_>) -> Option<Mount> {
    let sections = match sections(text) {
        Ok(sections) => sections,
        Err(reason) => {
            item.problem(format!("{} is not a volume: {reason}", item.shown()));
            return None;
        }
    };
    let (source, target, options) = match sections.as_slice() {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, *options),
        _ => {
            item.problem(format!("{} is not a volume: too many colons", item.shown()));
            return None;
        }
    };
    let source = match source {
        None => MountSource::Anonymous,
        Some(source) if is_path(source) => {
            let path = context.resolve_path(source, item)?;
            MountSource::Bind { path, create_host_path: true }
        }
        Some(key) => {
            context.use_volume(key, item);
            MountSource::Volume { key: (*key).to_owned() }
        }
    };
    let mut mount = Mount::new(source, scalars::clean_text(target));
    options.split(',').for_each(|option| apply(option, &mut mount, item));
    Some(mount)
}

fn apply(option: &str, mount: &mut Mount, item: &At<'_>) {
    match option {
        "" => {}
        "ro" => mount.read_only = true,
        "rw" => mount.read_only = false,
        "nocopy" => mount.no_copy = true,
        "z" => mount.selinux = Some(Selinux::Shared),
        "Z" => mount.selinux = Some(Selinux::Private),
        // What Docker for Mac once took, and everybody ignores since.
        "cached" | "delegated" | "consistent" => {}
        _ => match Propagation::from_word(option) {
            Some(propagation) => mount.propagation = Some(propagation),
            None if item.node.secret => item.warn("an unknown mount option is ignored"),
            None => item.warn(format!("the mount option '{option}' is unknown and ignored")),
        },
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
