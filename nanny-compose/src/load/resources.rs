//! The top-level `networks` and `volumes`.

use std::collections::BTreeMap;

use super::at::At;
use super::context::Context;
use crate::model::{Network, Volume};
use crate::names::resource_name;

/// The networks of the file, by key.
pub(super) fn networks(at: &At<'_>, context: &Context<'_>) -> BTreeMap<String, Network> {
    let read = |(key, at): (String, At<'_>)| {
        let network = network(&key, &at, context);
        (key, network)
    };
    named(at).into_iter().map(read).collect()
}

/// The volumes of the file, by key.
pub(super) fn volumes(at: &At<'_>, context: &Context<'_>) -> BTreeMap<String, Volume> {
    let read = |(key, at): (String, At<'_>)| {
        let volume = volume(&key, &at, context);
        (key, volume)
    };
    named(at).into_iter().map(read).collect()
}

fn network(key: &str, at: &At<'_>, context: &Context<'_>) -> Network {
    let mut network = Network::new(resource_name(context.project, key));
    if at.node.is_null() || at.mapping().is_none() {
        return network;
    }
    let flag = |key: &str| at.field(key).and_then(|at| at.boolean());
    network.driver = at.field("driver").and_then(|at| at.word());
    network.driver_opts = at.field("driver_opts").map(|at| options(&at)).unwrap_or_default();
    network.internal = flag("internal").unwrap_or(false);
    network.attachable = flag("attachable").unwrap_or(false);
    network.enable_ipv4 = flag("enable_ipv4");
    network.enable_ipv6 = flag("enable_ipv6");
    network.labels = at.field("labels").map(|at| at.text_pairs()).unwrap_or_default();
    (network.name, network.external) = name(key, at, context);
    network
}

fn volume(key: &str, at: &At<'_>, context: &Context<'_>) -> Volume {
    let mut volume = Volume::new(resource_name(context.project, key));
    if at.node.is_null() || at.mapping().is_none() {
        return volume;
    }
    volume.driver = at.field("driver").and_then(|at| at.word());
    volume.driver_opts = at.field("driver_opts").map(|at| options(&at)).unwrap_or_default();
    // A local volume with these options is a bind mount under another name.
    if volume.driver_opts.get("o").is_some_and(|value| value == "bind")
        && let Some(device) = volume.driver_opts.get_mut("device")
        && let Some(path) = context.resolve_path(device, at)
    {
        *device = path;
    }
    volume.labels = at.field("labels").map(|at| at.text_pairs()).unwrap_or_default();
    (volume.name, volume.external) = name(key, at, context);
    volume
}

/// The name at the engine, and whether it is external.
fn name(key: &str, at: &At<'_>, context: &Context<'_>) -> (String, bool) {
    let own = at.field("name").and_then(|at| at.word());
    let Some(external) = at.field("external") else {
        return (own.unwrap_or_else(|| resource_name(context.project, key)), false);
    };
    if external.node.as_mapping().is_some() {
        external
            .warn("the form 'external: {name: …}' is old; write 'external: true' and 'name: …'");
        let name = external.field("name").and_then(|at| at.word()).or(own);
        return (name.unwrap_or_else(|| key.to_owned()), true);
    }
    if external.boolean() != Some(true) {
        return (own.unwrap_or_else(|| resource_name(context.project, key)), false);
    }
    for other in ["driver", "driver_opts", "labels"] {
        if let Some(field) = at.field(other) {
            field.problem("an external one exists already; remove this, or 'external'");
        }
    }
    (own.unwrap_or_else(|| key.to_owned()), true)
}

fn options(at: &At<'_>) -> BTreeMap<String, String> {
    let entries = at.entries().into_iter();
    entries.filter_map(|(key, at)| Some((key.text.clone(), at.string_or_number()?))).collect()
}

/// The entries of a mapping whose keys are names.
pub(super) fn named<'a>(at: &At<'a>) -> Vec<(String, At<'a>)> {
    let mut entries = Vec::new();
    for (key, value) in at.entries() {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if key.text.is_empty() || !key.text.chars().all(allowed) {
            value.problem_at_key("a name can only hold letters, digits and . _ -");
        } else {
            entries.push((key.text.clone(), value));
        }
    }
    entries
}
