//! `include`: other projects whose services, networks and the like become part of this one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::at::At;
use super::layers::{Loader, Scope};
use super::normal;
use crate::dotenv;
use crate::yaml::{Mapping, Node, Value};

/// What an included project brings along.
const SECTIONS: [&str; 5] = ["services", "networks", "volumes", "secrets", "configs"];

/// Resolves all `include`s of a canonical layer.
pub(super) fn resolve(
    loader: &Loader<'_>,
    file: &Path,
    layer: &mut Node,
    scope: Scope<'_>,
    within: &[PathBuf],
) {
    let Some(includes) = layer.as_mapping_mut().and_then(|layer| layer.remove("include")) else {
        return;
    };
    let mut within = within.to_vec();
    within.push(file.to_owned());
    let at = At::root(&includes, loader.sink);
    let items = if includes.is_null() { None } else { at.items() };
    for item in items.unwrap_or_default() {
        if let Some(included) = included(loader, &item, scope, &within)
            && loader.may_copy(&included, &item)
        {
            import(included, layer, &item);
        }
    }
}

fn included(
    loader: &Loader<'_>,
    item: &At<'_>,
    scope: Scope<'_>,
    within: &[PathBuf],
) -> Option<Node> {
    let paths = item.field("path")?;
    if !loader.may_include(item) {
        return None;
    }
    let mut files = Vec::new();
    for path in paths.items()? {
        let text = path.node.as_str()?;
        if is_remote(text) {
            path.problem("files from elsewhere are not fetched; copy it here and include that");
            return None;
        }
        let file = loader.path(text, &path, scope)?;
        if within.contains(&file) {
            path.problem("this file is being included already, in a circle; take one out");
            return None;
        }
        // Reported here, where the missing file is named.
        loader.documents(&file, Some(&path))?;
        files.push(file);
    }
    let beside = files.first()?.parent().unwrap_or(Path::new("/")).to_owned();
    let dir = match item.field("project_directory") {
        Some(dir) => loader.path(dir.node.as_str()?, &dir, scope)?,
        None => beside,
    };
    let env = env_files(loader, item, &dir, scope)?;
    let variable = |name: &str| (scope.variable)(name).or_else(|| env.get(name).cloned());
    let inner = Scope { dir: &dir, variable: &variable };
    let mut project = loader.stack(&files, inner, within)?;
    normal::resolve_variables(&mut project, &variable);
    Some(project)
}

/// The variables of an included project: its `.env`, or the files that `env_file` names.
fn env_files(
    loader: &Loader<'_>,
    item: &At<'_>,
    dir: &Path,
    scope: Scope<'_>,
) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    let add = |path: &Path, text: &str, values: &mut BTreeMap<String, String>| {
        let known = |name: &str| (scope.variable)(name).or_else(|| values.get(name).cloned());
        let parsed = loader.reading.checked(path, dotenv::parse(text, &known));
        values.extend(parsed);
    };
    let named = item.field("env_file").filter(|named| !named.node.is_null());
    let named = named.map(|named| named.items()).unwrap_or_default().unwrap_or_default();
    if named.is_empty() {
        let path = dir.join(".env");
        if let Ok(text) = loader.reading.read(&path) {
            add(&path, &text, &mut values);
        }
        return Some(values);
    }
    for named in named {
        let path = loader.path(named.node.as_str()?, &named, scope)?;
        match loader.reading.read(&path) {
            Ok(text) => add(&path, &text, &mut values),
            Err(reason) => {
                named.problem(format!("the file cannot be read: {}", reason.message));
                return None;
            }
        }
    }
    Some(values)
}

/// Puts what an included project has into the including one; both having it is an error, unless
/// they mean the same.
fn import(mut included: Node, layer: &mut Node, item: &At<'_>) {
    let (Some(from), Some(to)) = (included.as_mapping_mut(), layer.as_mapping_mut()) else {
        return;
    };
    for section in SECTIONS {
        let Some(Node { value: Value::Mapping(more), .. }) = from.remove(section) else {
            continue;
        };
        if to.get(section).is_none_or(Node::is_null) {
            let empty = item.node.with(Value::Mapping(Mapping::default()));
            to.insert(item.node.key(section), empty);
        }
        let Some(target) = to.get_mut(section).and_then(Node::as_mapping_mut) else {
            continue;
        };
        for entry in more.into_entries() {
            match target.get(&entry.key.text) {
                Some(other) if !other.means(&entry.value) => item.problem(format!(
                    "{section}.{} is defined here and in the included file; rename one",
                    entry.key.text
                )),
                Some(_) => {}
                None => target.insert(entry.key, entry.value),
            }
        }
    }
}

fn is_remote(path: &str) -> bool {
    ["https://", "http://", "git@", "oci://", "ssh://", "git://", "github.com/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}
