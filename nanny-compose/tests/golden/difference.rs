//! Where two projects differ.

use std::collections::BTreeMap;

use nanny_compose::Project;

use crate::case::Expected;

/// What came of a case.
#[derive(Debug)]
pub(crate) enum Outcome {
    Identical,
    RefusedByBoth,
    /// Compose accepts it, and we have these problems with it.
    Stricter(Vec<String>),
    /// Compose has this against it, and we accept it.
    Laxer(String),
    /// Identical, but the canonical model does not mean the same when it is read again.
    Lossy(String),
    Different(String),
}

pub(crate) fn difference(project: &Project, expected: &Expected) -> Option<String> {
    if project.name != expected.project {
        return Some(format!("the project is '{}', not '{}'", project.name, expected.project));
    }
    let services = project.services.iter();
    let services = services.map(|(name, it)| (name.clone(), it.config.json())).collect();
    let networks = project.networks.iter();
    let networks = networks.map(|(name, it)| (name.clone(), it.config.json())).collect();
    let volumes = project.volumes.iter();
    let volumes = volumes.map(|(name, it)| (name.clone(), it.config.json())).collect();
    let hashed = expected.volumes.iter().map(|(name, json)| (name.clone(), with_driver(json)));
    first("service", &services, &expected.services)
        .or_else(|| first("network", &networks, &expected.networks))
        .or_else(|| first("volume", &volumes, &hashed.collect()))
        .or_else(|| {
            let theirs = expected.config.as_deref()?;
            let ours = project.to_json();
            (ours != theirs).then(|| format!("the whole:\n  ours   {ours}\n  theirs {theirs}"))
        })
}

/// A volume as Compose hashes it: the default driver is told.
fn with_driver(json: &str) -> String {
    let (name, rest) = json.split_once("\",").unwrap_or((json.trim_end_matches("\"}"), ""));
    match rest {
        "" => format!(r#"{name}","driver":"local"}}"#),
        rest if rest.starts_with(r#""driver":"#) => json.to_owned(),
        rest => format!(r#"{name}","driver":"local",{rest}"#),
    }
}

fn first(
    what: &str,
    ours: &BTreeMap<String, &str>,
    theirs: &BTreeMap<String, String>,
) -> Option<String> {
    if !ours.keys().eq(theirs.keys()) {
        return Some(format!("{what}s: {:?}, not {:?}", ours.keys(), theirs.keys()));
    }
    let mut pairs = ours.iter().zip(theirs.values());
    let ((name, ours), theirs) = pairs.find(|((_, ours), theirs)| **ours != *theirs)?;
    Some(format!("{what} {name}:\n  ours   {ours}\n  theirs {theirs}"))
}
