//! From the text of a `service.yaml` to a [`Manifest`].
//!
//! The text goes through nanny-compose's YAML tree and is read from there field by field: that
//! keeps the place of everything for messages, and the text as written where it matters. Fields
//! without a meaning here need neither and are what serde_yaml makes of them.

mod mcp;

use std::cell::LazyCell;
use std::path::Path;

use nanny_compose::yaml::{self, Limits, Node, Value};

use super::fields::{Fields, Report};
use super::scalar::{self, Fault, place};
use super::service::{
    GpuDemand, HealthSettings, Manifest, ResourceLimits, RestartMode, ServiceDependency,
};
use super::{Problem, Severity};
use crate::backend::RestartPolicy;
use crate::name::ServiceName;
use crate::probe::Endpoint;

/// The longest manifest, in bytes.
pub(super) const MAX_BYTES: usize = 256 << 10;

/// A manifest with what only its source needs to know.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) manifest: Manifest,
    /// Where its name is written; the beginning if the directory gives it.
    pub(super) name_at: (usize, usize),
    pub(super) files: Files,
    /// Hints only.
    pub(super) problems: Vec<Problem>,
}

/// The files that a manifest names.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) compose_file: Option<Placed>,
    pub(super) working_dir: Option<Placed>,
    pub(super) env_files: Vec<Placed>,
    /// Where it says what a process runs, with `command`, `env` or `restart`.
    pub(super) process_at: Option<(usize, usize)>,
}

/// A text, and where it was written.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) text: String,
    pub(super) at: (usize, usize),
}

/// Reads the manifest of the service at `origin`, or says everything that is wrong with it.
pub(super) fn parse(text: &str, origin: &Path, file: &Path) -> Result<Parsed, Vec<Problem>> {
    let mut report = Report::new(origin, file);
    let tree = match yaml::parse(text, &Limits::with_max_bytes(MAX_BYTES)) {
        Ok(tree) => tree,
        Err(error) => {
            let path = if error.path.is_empty() { "" } else { &format!("{}: ", error.path) };
            report.error((error.line, error.column), format!("{path}{}", error.message));
            return Err(report.problems);
        }
    };
    let Some(mapping) = tree.as_mapping() else {
        let kind = if tree.is_null() { "the file is empty" } else { "this is no mapping" };
        let cure = "write fields such as 'name: my-service' on lines of their own";
        report.error(place(&tree), format!("{kind}; {cure}"));
        return Err(report.problems);
    };

    let name_at = mapping.get("name").map_or((1, 1), place);
    let mut fields = Fields::new(Some(mapping), "");
    let name = service_name(&mut fields, origin, &mut report);
    // Without a name there is no service; go on all the same, to find every problem at once.
    let placeholder = || ServiceName::new("unnamed").ok();
    let Some(name) = name.or_else(placeholder) else {
        return Err(report.problems);
    };
    let mut manifest = Manifest::new(name);
    fill_seed(&mut manifest, &mut fields, &mut report);
    fill_ours(&mut manifest, &mut fields, &mut report);
    fill_later(&mut manifest, &mut fields, &mut report);
    // Not by `fields`: it is shown as it is written, too, as it was before it meant anything.
    manifest.mcp = mapping.entry("mcp").and_then(|entry| mcp::read(&entry.value, &mut report));
    let files = named_files(&mut fields, &mut report);
    keep_extra(&mut manifest, &fields, text, &mut report);

    if report.problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(report.problems);
    }
    Ok(Parsed { manifest, name_at, files, problems: report.problems })
}

/// As much as can be made out of a manifest with faults, to know by what runs of it, and whom it must
/// not be in the way of: its name, and whether it needs a GPU, is pinned or protected. What cannot be
/// told is taken for what is safer.
pub(super) fn salvage(text: Option<&str>, origin: &Path) -> Option<Manifest> {
    let line = |key: &str| {
        let is_it = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        text?.lines().find(is_it)
    };
    // Each line by itself, so that the faults of others do not matter.
    let name = line("name").unwrap_or_default();
    let read = |line: &str| parse(&format!("{name}\n{line}"), origin, Path::new("")).ok();
    let flag = |key: &str, of: fn(&Manifest) -> bool| match line(key) {
        Some(line) => read(line).is_none_or(|read| of(&read.manifest)),
        None => text.is_none(),
    };
    let mut manifest = read("version: unknown")?.manifest;
    manifest.pinned = flag("pinned", |manifest| manifest.pinned);
    manifest.protected = flag("protected", |manifest| manifest.protected);
    manifest.gpu_required = match line("gpu_required") {
        Some(_) => flag("gpu_required", |manifest| manifest.gpu_required),
        None => text.is_none_or(speaks_of_gpus),
    };
    Some(manifest)
}

/// Whether a key of the manifest begins like those that are about GPUs.
fn speaks_of_gpus(text: &str) -> bool {
    let is_key =
        |line: &str| line.trim_start_matches([' ', '\t', '"', '\'', '{']).starts_with("gpu");
    text.lines().any(is_key)
}

fn service_name(
    fields: &mut Fields<'_>,
    origin: &Path,
    report: &mut Report<'_>,
) -> Option<ServiceName> {
    if fields.entry("name").is_some() {
        return fields.read("name", report, |node| {
            ServiceName::new(scalar::text(node)?).map_err(|error| Fault {
                at: place(node),
                message: format!("is {error}; write one such as 'my-service'"),
            })
        });
    }
    let directory = origin.file_name().unwrap_or_default().to_string_lossy();
    match ServiceName::new(&directory) {
        Ok(name) => Some(name),
        Err(error) => {
            let message = format!(
                "there is no 'name', and the directory's, '{}', is {error}; write 'name: my-service'",
                directory.escape_debug()
            );
            report.error((1, 1), message);
            None
        }
    }
}

/// The fields of the original.
fn fill_seed(manifest: &mut Manifest, fields: &mut Fields<'_>, report: &mut Report<'_>) {
    set(&mut manifest.description, fields.read("description", report, scalar::text));
    set(&mut manifest.version, fields.read("version", report, scalar::text));
    set(&mut manifest.gpu_required, fields.read("gpu_required", report, scalar::flag));
    set(&mut manifest.vram_gb, fields.read("vram_gb", report, scalar::gigabytes));
    set(&mut manifest.ports, fields.read("ports", report, scalar::texts));
    set(&mut manifest.health_endpoint, fields.read("health_endpoint", report, endpoint));
    set(&mut manifest.health_timeout, fields.read("health_timeout", report, scalar::duration));
    set(&mut manifest.tags, fields.read("tags", report, scalar::texts));
    set(&mut manifest.author, fields.read("author", report, scalar::some_text));
    set(&mut manifest.repository, fields.read("repository", report, scalar::some_text));
}

/// Our own fields.
fn fill_ours(manifest: &mut Manifest, fields: &mut Fields<'_>, report: &mut Report<'_>) {
    set(&mut manifest.backend, fields.read("backend", report, scalar::some_text));
    set(&mut manifest.restart, fields.read("restart_policy", report, restart_mode));
    let any = |node: &Node| scalar::whole(node, i32::MIN, i32::MAX);
    set(&mut manifest.priority, fields.read("priority", report, any));
    set(&mut manifest.pinned, fields.read("pinned", report, scalar::flag));
    set(&mut manifest.protected, fields.read("protected", report, scalar::flag));
    set(&mut manifest.profiles, fields.read("profiles", report, scalar::texts));
    manifest.stop_timeout = fields.read("stop_timeout", report, scalar::duration);
    // Who says how many GPUs it wants needs one, unless it says otherwise.
    if fields.entry("gpus").is_some() && fields.entry("gpu_required").is_none() {
        manifest.gpu_required = true;
    }
    manifest.command = fields.read("command", report, scalar::command);
    manifest.gpus = gpus(fields, report);
    manifest.health = health(fields, report);
    set(&mut manifest.on_exit, fields.read("restart", report, on_exit));
    set(&mut manifest.env, fields.read("env", report, scalar::environment));
}

fn gpus(fields: &mut Fields<'_>, report: &mut Report<'_>) -> GpuDemand {
    let mut fields = fields.nested("gpus", "gpus.", report);
    let demand = GpuDemand {
        count: fields.read("count", report, |node| scalar::whole(node, 1, 1024)),
        vram_gb: fields.read("vram_gb", report, scalar::gigabytes),
        devices: fields.read("devices", report, gpu_names).unwrap_or_default(),
    };
    let named = demand.devices.len();
    if let (Some(count), Some(entry), 1..) = (demand.count, fields.entry("count"), named)
        && usize::try_from(count).is_ok_and(|count| count > named)
    {
        let message = format!(
            "'gpus.count' is {count}, and 'gpus.devices' names {named}; lower it, or name more"
        );
        report.error(place(&entry.value), message);
    }
    fields.hint_at_unknown(report);
    demand
}

/// What people call GPUs. Which ones those are is known only where there are any.
fn gpu_names(node: &Node) -> Result<Vec<String>, Fault> {
    let names = scalar::texts(node)?;
    let fault = |number: usize, message: String| {
        let item = match &node.value {
            Value::Sequence(items) => items.get(number).unwrap_or(node),
            _ => node,
        };
        Err(Fault { at: place(item), message })
    };
    for (number, name) in names.iter().enumerate() {
        if name == "all" {
            let message =
                "names no GPU with 'all'; leave it out, and say with 'gpus.count' how many";
            return fault(number, message.to_owned());
        }
        if name.is_empty() || name.contains([',', '\0']) || name.contains(char::is_whitespace) {
            let message = format!(
                "names no GPU with '{}'; write an index as in 0, a UUID or a PCI address",
                name.escape_debug()
            );
            return fault(number, message);
        }
        if names[..number].contains(name) {
            return fault(number, format!("names '{name}' twice; name each GPU once"));
        }
    }
    Ok(names)
}

fn health(fields: &mut Fields<'_>, report: &mut Report<'_>) -> HealthSettings {
    let mut health = HealthSettings::default();
    let mut fields = fields.nested("health", "health.", report);
    set(&mut health.interval, fields.read("interval", report, scalar::interval));
    set(&mut health.timeout, fields.read("timeout", report, scalar::interval));
    let status = |node: &Node| scalar::whole(node, 100, 599);
    set(&mut health.expect, fields.read("expect", report, status));
    let times = |node: &Node| scalar::whole(node, 1, 1000);
    set(&mut health.failures, fields.read("failures", report, times));
    set(&mut health.successes, fields.read("successes", report, times));
    fields.hint_at_unknown(report);
    health
}

/// What is read now and acted upon later; in both spellings where there are two.
fn fill_later(manifest: &mut Manifest, fields: &mut Fields<'_>, report: &mut Report<'_>) {
    for key in
        ["depends_on", "dependencies", "autostart", "idle_timeout", "resources", "scheduling"]
    {
        if key == "resources" && manifest.command.is_some() {
            continue;
        }
        if let Some(entry) = fields.entry(key) {
            let at = (entry.key.line, entry.key.column);
            report.hint(at, format!("'{key}' is read and does not act yet"));
        }
    }
    for key in ["depends_on", "dependencies"] {
        manifest.depends_on.extend(fields.read(key, report, dependencies).unwrap_or_default());
    }
    let mut limits = fields.nested("resources", "resources.", report);
    manifest.resources = ResourceLimits {
        nano_cpus: limits.read("cpu_limit", report, scalar::processors),
        memory_bytes: limits.read("memory_limit", report, scalar::bytes),
    };
    limits.hint_at_unknown(report);
    let mut scheduling = fields.nested("scheduling", "scheduling.", report);
    let autostart = scheduling.read("auto_start", report, scalar::flag);
    manifest.autostart = fields.read("autostart", report, scalar::flag).or(autostart);
    let idle_timeout = scheduling.read("auto_stop_after", report, scalar::duration);
    manifest.idle_timeout = fields.read("idle_timeout", report, scalar::duration).or(idle_timeout);
    scheduling.hint_at_unknown(report);
}

fn named_files(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Files {
    let placed = |node: &Node| {
        let text = scalar::some_text(node)?;
        Ok(text.map(|text| Placed { text, at: place(node) }))
    };
    Files {
        compose_file: fields.read("compose_file", report, placed).flatten(),
        working_dir: fields.read("working_dir", report, placed).flatten(),
        env_files: fields
            .read("env_file", report, |node| match &node.value {
                Value::Sequence(items) => {
                    items.iter().filter_map(|item| placed(item).transpose()).collect()
                }
                _ => Ok(placed(node)?.into_iter().collect()),
            })
            .unwrap_or_default(),
        process_at: ["command", "env", "restart"].into_iter().find_map(|key| {
            let key = &fields.entry(key)?.key;
            Some((key.line, key.column))
        }),
    }
}

fn keep_extra(manifest: &mut Manifest, fields: &Fields<'_>, text: &str, report: &mut Report<'_>) {
    // Few manifests have such fields; the others are not read twice.
    let plain = LazyCell::new(|| plain_data(text));
    for (entry, meant) in fields.unknown() {
        let key = &entry.key;
        let at = (key.line, key.column);
        if let Some(meant) = meant {
            let message =
                format!("'{}' is no field and does nothing; did you mean '{meant}'?", key.text);
            report.hint(at, message);
        }
        let value = plain.as_ref().and_then(|plain| plain.get(&key.text));
        if let Some(value) = value.and_then(|value| serde_json::to_value(value).ok()) {
            manifest.extra.insert(key.text.clone(), value);
        } else {
            let message = format!(
                "'{}' is not kept, since not all of the file is plain data; put keys that are no \
                 words and numbers beyond 64 bits in quotes",
                key.text
            );
            report.hint(at, message);
        }
    }
}

/// All of the file, its merges carried out. The errors repeat values, and those may be secret.
fn plain_data(text: &str) -> Option<serde_yaml::Value> {
    // libyaml counts the mark as a column, and takes the second line to be indented less.
    let text = text.trim_start_matches('\u{feff}');
    let mut all: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    all.apply_merge().ok()?;
    Some(all)
}

fn endpoint(node: &Node) -> Result<Option<String>, Fault> {
    let Some(text) = scalar::some_text(node)? else {
        return Ok(None);
    };
    match Endpoint::parse(&text) {
        Ok(_) => Ok(Some(text)),
        Err(reason) => Err(Fault { at: place(node), message: format!("is no address: {reason}") }),
    }
}

fn restart_mode(node: &Node) -> Result<RestartMode, Fault> {
    match scalar::text(node)?.as_str() {
        "nanny" => Ok(RestartMode::Nanny),
        "keep" => Ok(RestartMode::Keep),
        _ => Err(Fault {
            at: place(node),
            message: "must be 'nanny' (the nanny restarts the containers of a GPU service) or \
                      'keep' (the engine does, as the Compose file says)"
                .to_owned(),
        }),
    }
}

/// Compose's words.
fn on_exit(node: &Node) -> Result<RestartPolicy, Fault> {
    let text = scalar::text(node)?;
    match text.as_str() {
        "no" | "false" | "" => return Ok(RestartPolicy::No),
        "always" => return Ok(RestartPolicy::Always),
        "unless-stopped" => return Ok(RestartPolicy::UnlessStopped),
        "on-failure" => return Ok(RestartPolicy::OnFailure { max_retries: None }),
        _ => {}
    }
    let limit = text.strip_prefix("on-failure:").and_then(|limit| limit.parse().ok());
    limit.map(|limit| RestartPolicy::OnFailure { max_retries: Some(limit) }).ok_or_else(|| Fault {
        at: place(node),
        message: "must be 'no', 'always', 'unless-stopped', 'on-failure' or 'on-failure:3'"
            .to_owned(),
    })
}

/// Names of services, or mappings as in `{service: db, required: false}`.
fn dependencies(node: &Node) -> Result<Vec<ServiceDependency>, Fault> {
    let one = |node: &Node| {
        let Some(mapping) = node.as_mapping() else {
            return scalar::text(node).map(ServiceDependency::new);
        };
        let Some(service) = mapping.get("service") else {
            let message = "must name a service; write '- service: its-name'".to_owned();
            return Err(Fault { at: place(node), message });
        };
        let required = mapping.get("required").filter(|required| !required.is_null());
        let required = required.map_or(Ok(true), scalar::flag)?;
        Ok(ServiceDependency { required, ..ServiceDependency::new(scalar::text(service)?) })
    };
    match &node.value {
        Value::Sequence(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(node)?]),
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests;
