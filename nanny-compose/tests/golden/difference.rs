//! Where two projects differ.

use std::collections::BTreeMap;

use nanny_compose::{Project, hash};

use crate::case::Expected;

/// What came of a case.
#[derive(Debug)]
pub(crate) enum Outcome {
    Identical,
    RefusedByBoth,
    /// Compose accepts it; we say that we do not support it.
    Refused(String),
    Different(String),
}

pub(crate) fn difference(project: &Project, expected: &Expected) -> Option<String> {
    if project.name != expected.project {
        return Some(format!("the project is '{}', not '{}'", project.name, expected.project));
    }
    let services = project.services.iter();
    let services = services.map(|(name, it)| (name.clone(), hash::service_json(it))).collect();
    let networks = project.networks.iter();
    let networks = networks.map(|(name, it)| (name.clone(), hash::network_json(it))).collect();
    let volumes = project.volumes.iter();
    let volumes = volumes.map(|(name, it)| (name.clone(), hash::volume_json(it))).collect();
    first("service", &services, &expected.services)
        .or_else(|| first("network", &networks, &expected.networks))
        .or_else(|| first("volume", &volumes, &expected.volumes))
}

fn first(
    what: &str,
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
) -> Option<String> {
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    if names(ours) != names(theirs) {
        return Some(format!("{what}s: {:?}, not {:?}", names(ours), names(theirs)));
    }
    let mut pairs = ours.iter().zip(theirs.values());
    let ((name, ours), theirs) = pairs.find(|((_, ours), theirs)| ours != theirs)?;
    Some(format!("{what} {name}:\n  ours   {ours}\n  theirs {theirs}"))
}
