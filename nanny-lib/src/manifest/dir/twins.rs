//! Services that would be taken for each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::scan::FoundService;
use crate::manifest::Problem;

/// Leaves out services that share their name with another, and reports each of them.
pub(super) fn refuse_same_name(
    services: Vec<FoundService>,
    problems: &mut Vec<Problem>,
) -> Vec<FoundService> {
    let name = |found: &FoundService| found.service.manifest.name.clone();
    refuse(services, problems, name, |name, others| {
        format!("the name '{name}' is also that of {others}; give one of them another 'name'")
    })
}

/// Leaves out services that share their project with another, and reports each of them: a stop of
/// one would stop both.
pub(super) fn refuse_same_project(
    services: Vec<FoundService>,
    problems: &mut Vec<Problem>,
) -> Vec<FoundService> {
    let project = |found: &FoundService| {
        let project = &found.service.project;
        (project.selector.clone(), project.name.clone())
    };
    refuse(services, problems, project, |(_, name), others| {
        format!(
            "its project '{name}' is also that of {others}; \
             give one of the two Compose files another 'name'"
        )
    })
}

fn refuse<K: Ord>(
    services: Vec<FoundService>,
    problems: &mut Vec<Problem>,
    key: impl Fn(&FoundService) -> K,
    message: impl Fn(&K, &str) -> String,
) -> Vec<FoundService> {
    let mut files: BTreeMap<K, Vec<PathBuf>> = BTreeMap::new();
    for found in &services {
        files
            .entry(key(found))
            .or_default()
            .push(found.manifest_file.clone());
    }
    let is_alone = |found: &FoundService| {
        let key = key(found);
        let others = files[&key]
            .iter()
            .filter(|file| **file != found.manifest_file);
        let others: Vec<_> = others.map(|file| file.display().to_string()).collect();
        if !others.is_empty() {
            let message = message(&key, &others.join(" and "));
            let FoundService {
                service,
                manifest_file,
                name_at,
            } = found;
            problems.push(Problem::new(
                &service.origin,
                manifest_file,
                *name_at,
                message,
            ));
        }
        others.is_empty()
    };
    let mut services = services;
    services.retain(is_alone);
    services
}
