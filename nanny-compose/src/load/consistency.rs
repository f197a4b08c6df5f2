//! What must hold between services.

use std::collections::{BTreeMap, BTreeSet};

use super::at::At;
use super::service::Draft;
use crate::model::Project;

/// Checks dependencies: they must exist, be active, and not go round in circles. Those that are
/// not required are dropped where they cannot be met.
pub(super) fn dependencies(drafts: &mut BTreeMap<String, Draft<'_>>, inactive: &BTreeSet<String>) {
    let active: BTreeSet<String> = drafts.keys().cloned().collect();
    for draft in drafts.values_mut() {
        let places = dependency_places(&draft.at);
        draft.service.depends_on.retain(|name, dependency| {
            if active.contains(name) || !dependency.required {
                return active.contains(name);
            }
            let at = places.get(name).unwrap_or(&draft.at);
            let shown = if at.node.secret { String::new() } else { format!(" '{name}'") };
            at.problem(if inactive.contains(name) {
                format!("the service{shown} is not active; select one of its profiles, or set 'required: false'")
            } else {
                format!("there is no service{shown}; define it, or remove this dependency")
            });
            false
        });
    }
    for (name, draft) in &*drafts {
        if let Some(circle) = circle_from(name, drafts) {
            let at = draft
                .at
                .field("depends_on")
                .unwrap_or_else(|| draft.at.clone());
            at.problem(format!(
                "services wait for each other: {circle}; remove one dependency"
            ));
            return;
        }
    }
}

/// Checks that no two containers bear the same name.
pub(super) fn container_names(drafts: &BTreeMap<String, Draft<'_>>, project: &Project) {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    // Explicit names come second, so that the problem is reported where there is a key to change.
    let (explicit, default): (Vec<_>, Vec<_>) = drafts
        .values()
        .partition(|draft| draft.service.container_name.is_some());
    for draft in default.into_iter().chain(explicit) {
        let name = project.container_name(&draft.service);
        if let Some(first) = taken.insert(name, &draft.service.name) {
            let at = draft
                .at
                .field("container_name")
                .unwrap_or_else(|| draft.at.clone());
            at.problem(format!(
                "the container of service '{first}' has this name already"
            ));
        }
    }
}

fn dependency_places<'a>(service: &At<'a>) -> BTreeMap<String, At<'a>> {
    let Some(at) = service.field("depends_on") else {
        return BTreeMap::new();
    };
    if at.node.as_mapping().is_some() {
        return at
            .entries()
            .into_iter()
            .map(|(key, at)| (key.text.clone(), at))
            .collect();
    }
    let named = |item: At<'a>| Some((item.node.as_str()?.to_owned(), item));
    at.items().into_iter().filter_map(named).collect()
}

/// A way from a service back to itself, as `a -> b -> a`.
fn circle_from(start: &str, drafts: &BTreeMap<String, Draft<'_>>) -> Option<String> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for next in drafts.get(name)?.service.depends_on.keys() {
            if next == start {
                let mut way = vec![start];
                let mut at = name;
                while at != start {
                    way.push(at);
                    at = came_from.get(at)?;
                }
                way.push(start);
                way.reverse();
                return Some(way.join(" -> "));
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, name);
                open.push(next);
            }
        }
    }
    None
}
