//! Services that would be taken for each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::scan::FoundManifest;
use crate::manifest::Problem;

/// Leaves out manifests that share their name with another, and reports each of them.
pub(super) fn refuse_same_name(
    manifests: Vec<FoundManifest>,
    problems: &mut Vec<Problem>,
) -> Vec<FoundManifest> {
    let name = |found: &FoundManifest| Some(found.name.clone());
    refuse(manifests, problems, name, |name, others| {
        format!("the name '{name}' is also that of {others}; give one of them another 'name'")
    })
}

/// Leaves out services that share their project with another, and reports each of them: a stop of
/// one would stop both.
pub(super) fn refuse_same_project(
    manifests: Vec<FoundManifest>,
    problems: &mut Vec<Problem>,
) -> Vec<FoundManifest> {
    let project = |found: &FoundManifest| {
        let project = &found.service.as_ref()?.project;
        Some((project.selector.clone(), project.name.clone()))
    };
    refuse(manifests, problems, project, |(_, name), others| {
        format!(
            "its project '{name}' is also that of {others}; \
             give one of the two Compose files another 'name'"
        )
    })
}

fn refuse<K: Ord>(
    mut manifests: Vec<FoundManifest>,
    problems: &mut Vec<Problem>,
    key: impl Fn(&FoundManifest) -> Option<K>,
    message: impl Fn(&K, &str) -> String,
) -> Vec<FoundManifest> {
    let mut files: BTreeMap<K, Vec<PathBuf>> = BTreeMap::new();
    for found in &manifests {
        if let Some(key) = key(found) {
            files.entry(key).or_default().push(found.file.clone());
        }
    }
    manifests.retain(|found| {
        let Some(key) = key(found) else { return true };
        let others = files[&key].iter().filter(|file| **file != found.file);
        let others: Vec<_> = others.map(|file| file.display().to_string()).collect();
        if !others.is_empty() {
            let message = message(&key, &others.join(" and "));
            problems.push(Problem::new(&found.origin, &found.file, found.name_at, message));
        }
        others.is_empty()
    });
    manifests
}
