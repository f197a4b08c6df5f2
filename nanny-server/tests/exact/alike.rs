//! Whether two projects are alike: what the engine reports about both, less what it makes up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::theirs::Made;

/// What may differ, by its path; `*` stands for any name, and for any place in a list.
///
/// All of it is made up by the engine for each container, network or volume anew, or is ours and
/// comes on top. Identifiers within other fields are replaced by the names that they stand for, see
/// `settle`.
const MAY_DIFFER: &[&str] = &[
    "containers.*.Id",
    "containers.*.Created",
    // Compared for containers that never ran, it says when they did not.
    "containers.*.State",
    "containers.*.ResolvConfPath",
    "containers.*.HostnamePath",
    "containers.*.HostsPath",
    "containers.*.LogPath",
    "containers.*.GraphDriver",
    "containers.*.Config.Labels.dev.nanny.*",
    "containers.*.NetworkSettings.SandboxID",
    "containers.*.NetworkSettings.SandboxKey",
    "containers.*.NetworkSettings.Networks.*.NetworkID",
    "networks.*.Id",
    "networks.*.Created",
    "volumes.*.CreatedAt",
];

/// Lists whose order means nothing: the engine or Compose fills them from maps.
const UNORDERED: &[&str] = &[
    "Config.Env",
    "HostConfig.Binds",
    "HostConfig.Mounts",
    "HostConfig.ExtraHosts",
    "HostConfig.Ulimits",
    "Mounts",
];

/// How two projects compare.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// How many fields were compared.
    pub(crate) fields: usize,
    /// How many containers.
    pub(crate) containers: usize,
    /// Those that differ: where, theirs, ours.
    pub(crate) differences: Vec<String>,
}

pub(crate) fn compare(theirs: &Made, ours: &Made) -> Comparison {
    let containers = theirs.containers.len();
    let (theirs, ours) = (flat(theirs), flat(ours));
    let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    Comparison {
        fields: paths.iter().filter(|path| !may_differ(path)).count(),
        containers,
        differences: differences(&theirs, &ours),
    }
}

/// In which fields two requests differ.
pub(crate) fn requests(theirs: &Value, ours: &Value) -> Vec<String> {
    let fields = |request: &Value| {
        let mut fields = BTreeMap::new();
        flatten("request", request, &mut fields);
        fields
    };
    differences(&fields(theirs), &fields(ours))
}

fn differences(theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> Vec<String> {
    let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let differs = |path: &&&String| !may_differ(path) && theirs.get(**path) != ours.get(**path);
    let told = |path: &String| {
        let of = |side: &BTreeMap<String, String>| {
            side.get(path).cloned().unwrap_or_else(|| "(absent)".to_owned())
        };
        format!("{path}: theirs {}, ours {}", of(theirs), of(ours))
    };
    paths.iter().filter(differs).map(|path| told(path)).collect()
}

fn may_differ(path: &str) -> bool {
    MAY_DIFFER.iter().any(|pattern| matches(pattern, path))
}

/// `pattern` fits `path` or one above it.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    pattern.all(|word| path.next().is_some_and(|other| word == "*" || word == other))
}

/// Every field of everything by its path, with what is made up replaced by what it stands for.
fn flat(made: &Made) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for container in &made.containers {
        let name = text(&container["Name"]).trim_start_matches('/').to_owned();
        let id = text(&container["Id"]).to_owned();
        names.insert(id[..12].to_owned(), format!("<{name}>"));
        names.insert(id, format!("<{name}>"));
        for mount in container["Mounts"].as_array().into_iter().flatten() {
            let volume = text(&mount["Name"]);
            if volume.len() == 64 {
                names.insert(volume.to_owned(), "<anonymous>".to_owned());
            }
        }
    }
    let mut fields = BTreeMap::new();
    let kinds = [
        ("containers", &made.containers),
        ("networks", &made.networks),
        ("volumes", &made.volumes),
    ];
    for (kind, items) in kinds {
        for item in items {
            // A name may hold dots, which would look like a path.
            let name = text(&item["Name"]).trim_start_matches('/').replace('.', "·");
            let mut item = item.clone();
            settle(&mut item, &names);
            flatten(&format!("{kind}.{name}"), &item, &mut fields);
        }
    }
    fields
}

/// Puts names in the place of identifiers, and lists that have no order into one.
fn settle(value: &mut Value, names: &BTreeMap<String, String>) {
    rename(value, names);
    for path in UNORDERED {
        let pointer = format!("/{}", path.replace('.', "/"));
        if let Some(Value::Array(items)) = value.pointer_mut(&pointer) {
            items.sort_by_key(Value::to_string);
        }
    }
    // The engine chooses a range where the file leaves that to it.
    if let Some(Value::Array(pools)) = value.pointer_mut("/IPAM/Config")
        && value_is_automatic(pools)
    {
        pools.clear();
    }
    // The hash of a container that shares another's namespace holds the other's identifier.
    let shares = ["Network", "Ipc", "Pid"].iter().any(|kind| {
        let mode = value.pointer(&format!("/HostConfig/{kind}Mode")).map(text);
        mode.is_some_and(|mode| mode.starts_with("container:<"))
    });
    if let Some(hash) = value.pointer_mut("/Config/Labels/com.docker.compose.config-hash")
        && shares
    {
        *hash = "<of an identifier>".into();
    }
    let depends_on = "/Config/Labels/com.docker.compose.depends_on";
    if let Some(Value::String(label)) = value.pointer_mut(depends_on) {
        let mut dependencies: Vec<_> = label.split(',').collect();
        dependencies.sort_unstable();
        *label = dependencies.join(",");
    }
}

/// Ranges of the engine's own pools; those of a file are taken from elsewhere.
fn value_is_automatic(pools: &[Value]) -> bool {
    pools.iter().all(|pool| {
        let subnet = text(&pool["Subnet"]);
        subnet.ends_with("/16") || subnet.ends_with("/20")
    })
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            for (id, name) in names.iter().rev() {
                if text.contains(id) {
                    *text = text.replace(id, name);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, names)),
        _ => {}
    }
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            for (key, value) in inner {
                flatten(&format!("{path}.{key}"), value, fields);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                flatten(&format!("{path}.{index}"), value, fields);
            }
        }
        plain => {
            fields.insert(path.to_owned(), plain.to_string());
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
