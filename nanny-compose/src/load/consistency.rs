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
            at.problem_at_key(if inactive.contains(name) {
                format!("the service{shown} is not active; select one of its profiles, or set 'required: false'")
            } else {
                format!("there is no service{shown}; define it, or remove this dependency")
            });
            false
        });
    }
    if let Some(circle) = circle(drafts)
        && let Some(first) = circle.first().and_then(|name| drafts.get(*name))
    {
        let at = first.at.field("depends_on").unwrap_or_else(|| first.at.clone());
        let circle = circle.join(" -> ");
        at.problem(format!("services wait for each other: {circle}; remove one dependency"));
    }
}

/// Checks that no two containers bear the same name.
pub(super) fn container_names(drafts: &BTreeMap<String, Draft<'_>>, project: &Project) {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    // Explicit names come second, so that the problem is reported where there is a key to change.
    let (explicit, default): (Vec<_>, Vec<_>) =
        drafts.values().partition(|draft| draft.service.container_name.is_some());
    for draft in default.into_iter().chain(explicit) {
        let name = project.container_name(&draft.service);
        if let Some(first) = taken.insert(name, &draft.service.name) {
            let at = draft.at.field("container_name").unwrap_or_else(|| draft.at.clone());
            at.problem(format!("the container of service '{first}' has this name already"));
        }
    }
}

fn dependency_places<'a>(service: &At<'a>) -> BTreeMap<String, At<'a>> {
    let Some(at) = service.field("depends_on") else {
        return BTreeMap::new();
    };
    if at.node.as_mapping().is_some() {
        return at.entries().into_iter().map(|(key, at)| (key.text.clone(), at)).collect();
    }
    let named = |item: At<'a>| Some((item.node.as_str()?.to_owned(), item));
    at.items().into_iter().filter_map(named).collect()
}

/// A way from a service back to itself, with that service at both ends.
fn circle<'a>(drafts: &'a BTreeMap<String, Draft<'_>>) -> Option<Vec<&'a str>> {
    let next_of = |name: &str| drafts.get(name).map(|draft| draft.service.depends_on.keys());
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in drafts.keys() {
        let mut way = vec![start.as_str()];
        let mut on_way: BTreeSet<&str> = BTreeSet::from([start.as_str()]);
        let mut open = vec![next_of(start)?];
        while let Some(nexts) = open.last_mut() {
            let Some(next) = nexts.next() else {
                open.pop();
                if let Some(name) = way.pop() {
                    on_way.remove(name);
                    done.insert(name);
                }
                continue;
            };
            if on_way.contains(next.as_str()) {
                way.push(next);
                return Some(way.into_iter().skip_while(|name| name != next).collect());
            }
            if !done.contains(next.as_str()) {
                way.push(next);
                on_way.insert(next);
                open.push(next_of(next)?);
            }
        }
    }
    None
}
