//! Whether the projects beside this file, together, use every key that is supported.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;
use nanny_compose::spec::{Row, Support, all};
use nanny_compose::yaml::{Limits, Node, parse};

/// Keys that no project here can use, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("services.*.cpu_rt_period", "kernels as they come schedule no group in real time"),
    ("services.*.cpu_rt_runtime", "kernels as they come schedule no group in real time"),
    ("services.*.volumes.[].image", "goes with mounts of a type that is refused"),
    ("services.*.volumes.[].image.subpath", "goes with mounts of a type that is refused"),
];

pub(crate) fn of(projects: &Path) -> Result<(), Failed> {
    let mut trees = Vec::new();
    read(projects, &mut trees)?;
    let is_left_out = |row: &Row| LEFT_OUT.iter().any(|(path, _)| *path == row.path);
    let wanted =
        all().into_iter().filter(|row| row.support == Support::Supported && !is_left_out(row));
    let unused: Vec<_> = wanted
        .filter(|row| {
            let keys: Vec<_> = row.path.split('.').collect();
            !trees.iter().any(|tree| has(tree, &keys))
        })
        .map(|row| row.path)
        .collect();
    if unused.is_empty() { Ok(()) } else { Err(format!("no project uses {unused:?}").into()) }
}

fn read(folder: &Path, trees: &mut Vec<Node>) -> Result<(), Failed> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, trees)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let tree = parse(&fs::read_to_string(&path)?, &Limits::default());
            trees.push(tree.map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    Ok(())
}

/// Whether a tree has something at a place: `*` is any key, `[]` any item.
fn has(node: &Node, keys: &[&str]) -> bool {
    let Some((key, rest)) = keys.split_first() else { return true };
    match *key {
        "*" => node.as_mapping().is_some_and(|m| m.iter().any(|entry| has(&entry.value, rest))),
        "[]" => node.as_sequence().is_some_and(|items| items.iter().any(|item| has(item, rest))),
        key => node.as_mapping().and_then(|m| m.get(key)).is_some_and(|node| has(node, rest)),
    }
}
