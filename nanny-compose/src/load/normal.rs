//! Defaults, and what follows from what a file says: the last step to the canonical form.

use std::path::Path;

use super::at::{At, Sink};
use super::read::entries;
use super::scalars;
use crate::names::resource_name;
use crate::yaml::{Mapping, Node, Value};

/// What the defaults are made of.
pub(super) struct Normal<'a> {
    pub(super) project: &'a str,
    pub(super) dir: &'a Path,
    pub(super) sink: &'a Sink,
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Under this key, which no file can have, the canonical form keeps what a secret or config takes
/// from a variable.
pub(super) const CONTENT: &str = "#content";

/// Local volumes that bind a directory: its path starts where the project's others do.
pub(super) fn bind_devices(project: &mut Node, dir: &Path) {
    let volumes = section_mut(project, "volumes").into_iter().flat_map(Mapping::values_mut);
    for (_, volume) in volumes {
        let is_local = text(volume, "driver") == Some("local");
        let binds = volume.at("driver_opts.o").and_then(Node::as_str) == Some("bind");
        let options = volume.as_mapping_mut().and_then(|volume| volume.get_mut("driver_opts"));
        let options = options.filter(|_| is_local && binds).and_then(Node::as_mapping_mut);
        if let Some(device) = options.and_then(|options| options.get_mut("device"))
            && let Some(path) = device.as_str().filter(|path| !path.starts_with('/'))
        {
            let path = scalars::clean(&dir.join(path)).to_string_lossy().into_owned();
            *device = device.with(Value::String(path));
        }
    }
}

impl Normal<'_> {
    /// Fills a merged project in.
    pub(super) fn fill(&self, project: &mut Node) {
        self.check(&At::root(project, self.sink));
        resolve_variables(project, self.variable);
        for section in ["networks", "volumes", "secrets", "configs"] {
            self.resources(project, section);
        }
        let services = section_mut(project, "services");
        for (_, service) in services.into_iter().flat_map(Mapping::values_mut) {
            self.service(service);
        }
    }

    /// Reports what cannot be true together.
    fn check(&self, project: &At<'_>) {
        let entries = |section: &str| {
            let section = project.field(section).filter(|at| !at.node.is_null());
            section.map(|at| at.entries()).unwrap_or_default()
        };
        for (_, volume) in entries("volumes") {
            if flag(volume.node, "external") {
                external_alone(&volume);
            }
        }
        for (_, secret) in entries("secrets") {
            one_source(&secret, &["file", "environment"]);
            if let Some(nothing) = secret.field("environment").filter(|at| is_empty(at.node)) {
                nothing.problem("must name a variable");
            }
        }
        for (_, config) in entries("configs") {
            one_source(&config, &["file", "environment", "content"]);
        }
        for (_, service) in entries("services") {
            exclusive(&service);
            agree(&service);
            agree_on_pids(&service);
        }
    }

    fn resources(&self, project: &mut Node, section: &str) {
        let Some(resources) = section_mut(project, section) else { return };
        for (key, resource) in resources.values_mut() {
            if resource.is_null() {
                resource.value = Value::Mapping(Mapping::default());
            }
            if text(resource, "name").is_none() {
                let name = if flag(resource, "external") {
                    key.text.clone()
                } else {
                    resource_name(self.project, &key.text)
                };
                set(resource, "name", Value::String(name));
            }
        }
    }

    fn service(&self, service: &mut Node) {
        self.build(service);
        implied_dependencies(service);
        let is_own_network = service.at("network_mode").is_some();
        let has_networks = service.at("networks").is_some_and(|networks| !is_empty(networks));
        if !is_own_network && !has_networks {
            let mut default = Mapping::default();
            default.insert(service.key("default"), service.with(Value::Null));
            set(service, "networks", Value::Mapping(default));
        }
        if text(service, "pull_policy") == Some("if_not_present") {
            set(service, "pull_policy", Value::String("missing".to_owned()));
        }
        for port in items_mut(service, "ports") {
            default_text(port, "mode", "ingress");
            default_text(port, "protocol", "tcp");
        }
        for secret in items_mut(service, "secrets") {
            let source = text(secret, "source").unwrap_or_default();
            let target = format!("/run/secrets/{source}");
            default_text(secret, "target", &target);
        }
        for request in items_mut(service, "gpus") {
            default_count(request);
        }
        scale_to_replicas(service);
        let devices = service.as_mapping_mut().and_then(|service| service.get_mut("deploy"));
        let devices = devices.and_then(|deploy| child_mut(deploy, "resources"));
        if let Some(reservations) =
            devices.and_then(|resources| child_mut(resources, "reservations"))
        {
            items_mut(reservations, "devices").for_each(default_count);
        }
    }

    fn build(&self, service: &mut Node) {
        let Some(build) = child_mut(service, "build").filter(|build| build.as_mapping().is_some())
        else {
            return;
        };
        if build.at("context").is_none() {
            set(build, "context", Value::String(self.dir.to_string_lossy().into_owned()));
        }
        // One that is empty stays so: the builder knows the usual name.
        if build.at("dockerfile").is_none() && build.at("dockerfile_inline").is_none() {
            set(build, "dockerfile", Value::String("Dockerfile".to_owned()));
        }
        if let Some(args) = child_mut(build, "args").and_then(Node::as_mapping_mut) {
            fill_variables(args, self.variable);
            args.retain(|value| !value.is_null());
        }
    }
}

/// Gives variables that are named without a value the one from outside, and secrets and configs
/// what they take from a variable.
pub(super) fn resolve_variables(project: &mut Node, variable: &dyn Fn(&str) -> Option<String>) {
    let services = section_mut(project, "services");
    for (_, service) in services.into_iter().flat_map(Mapping::values_mut) {
        let environment = child_mut(service, "environment");
        if let Some(environment) = environment.and_then(Node::as_mapping_mut) {
            fill_variables(environment, variable);
        }
    }
    for section in ["secrets", "configs"] {
        let resources = section_mut(project, section);
        for (_, resource) in resources.into_iter().flat_map(Mapping::values_mut) {
            let Some(content) = text(resource, "environment").and_then(variable) else { continue };
            if resource.at(CONTENT).is_none() {
                set(resource, CONTENT, Value::String(content));
            }
        }
    }
}

fn fill_variables(variables: &mut Mapping, variable: &dyn Fn(&str) -> Option<String>) {
    for (key, value) in variables.values_mut() {
        if value.is_null()
            && let Some(text) = variable(&key.text)
        {
            value.value = Value::String(text);
            value.secret = true;
        }
    }
}

/// An external volume is somebody else's: nothing can be said about how it is made.
fn external_alone(at: &At<'_>) {
    for (key, value) in at.entries() {
        if !matches!(key.text.as_str(), "name" | "external") {
            value.problem_at_key(
                "says how to make a volume that is 'external'; keep one of the two",
            );
        }
    }
}

fn one_source(at: &At<'_>, keys: &[&str]) {
    let given = keys.iter().filter(|key| at.field(key).is_some()).count();
    let wanted = keys.join("', '");
    match given {
        0 if at.field("driver").is_none() && at.field("external").is_none() => {
            at.problem_at_key(format!("needs one of '{wanted}'"));
        }
        0 | 1 => {}
        _ => at.problem_at_key(format!("needs only one of '{wanted}'")),
    }
}

/// Keys that cannot be true together.
fn exclusive(at: &At<'_>) {
    let filled = |key: &str| at.field(key).filter(|field| !is_empty(field.node));
    if let (Some(_), Some(networks)) = (filled("network_mode"), filled("networks")) {
        networks.problem_at_key("cannot be together with 'network_mode'; keep one of the two");
    }
    let requests = |at: Option<At<'_>>| at.and_then(|at| at.items()).unwrap_or_default().len();
    for request in [at.field("gpus"), at.at("deploy.resources.reservations.devices")] {
        let count = requests(request.clone());
        let Some(request) = request.filter(|_| count > 0) else { continue };
        for item in request.items().unwrap_or_default() {
            if item.field("count").is_some() && item.field("device_ids").is_some() {
                item.problem("has both 'count' and 'device_ids'; keep one of the two");
            }
        }
    }
    if let Some(devices) = at.at("deploy.resources.reservations.devices") {
        for item in devices.items().unwrap_or_default() {
            if item.field("capabilities").is_none() {
                item.problem("'capabilities' is missing; write [gpu] for a GPU");
            }
        }
    }
}

/// Pairs of keys that mean the same, and must not say different things.
fn agree(at: &At<'_>) {
    for (one, other) in [
        ("cpus", "deploy.resources.limits.cpus"),
        ("mem_limit", "deploy.resources.limits.memory"),
        ("mem_reservation", "deploy.resources.reservations.memory"),
        ("scale", "deploy.replicas"),
    ] {
        let (Some(one_at), Some(other_at)) = (at.field(one), at.at(other)) else { continue };
        let is_said = |at: &At<'_>| one == "scale" || !is_zero(at.node);
        if is_said(&one_at) && is_said(&other_at) && !one_at.node.means(other_at.node) {
            one_at.problem_at_key(format!("differs from '{other}'; keep one of the two"));
        }
    }
}

/// Compose wants a limit of processes in both places or in one, and there is no other limit beside
/// it.
fn agree_on_pids(at: &At<'_>) {
    let (Some(own), Some(limits)) = (at.field("pids_limit"), at.at("deploy.resources.limits"))
    else {
        return;
    };
    let agrees = limits.field("pids").is_some_and(|pids| pids.node.means(own.node));
    if !is_zero(own.node) && !agrees {
        own.problem_at_key(
            "differs from 'deploy.resources.limits.pids'; say the same there, or only there",
        );
    }
}

/// A service starts after those whose network, namespace or files it uses.
fn implied_dependencies(service: &mut Node) {
    let mut implied = Vec::new();
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let Some(mode) = service.at(key) else { continue };
        let other = mode.as_str().and_then(|mode| mode.strip_prefix("service:"));
        implied.extend(other.map(|name| (mode.with(Value::Null), name.to_owned())));
    }
    for link in service.at("links").and_then(Node::as_sequence).unwrap_or_default() {
        let name = link.as_str().map(|text| match text.split_once(':') {
            Some((name, alias)) if !alias.contains(':') => name,
            _ => text,
        });
        implied.extend(name.map(|name| (link.with(Value::Null), name.to_owned())));
    }
    for (place, name) in implied {
        if service.at("depends_on").is_none() {
            set(service, "depends_on", Value::Mapping(Mapping::default()));
        }
        let Some(all) = child_mut(service, "depends_on").and_then(Node::as_mapping_mut) else {
            return;
        };
        if all.get(&name).is_some() {
            continue;
        }
        let mut dependency = place.with(Value::Mapping(Mapping::default()));
        set(&mut dependency, "condition", Value::String("service_started".to_owned()));
        set(&mut dependency, "restart", Value::Bool(true));
        set(&mut dependency, "required", Value::Bool(true));
        all.insert(place.key(name), dependency);
    }
    let dependencies = child_mut(service, "depends_on").and_then(Node::as_mapping_mut);
    for (_, dependency) in dependencies.into_iter().flat_map(Mapping::values_mut) {
        if dependency.at("required").is_none() {
            set(dependency, "required", Value::Bool(true));
        }
    }
}

/// Compose says a scale again where a swarm would look for it.
fn scale_to_replicas(service: &mut Node) {
    let Some(scale) = service.at("scale").cloned() else { return };
    if let Some(deploy) = child_mut(service, "deploy") {
        set(deploy, "replicas", scale.value);
    }
}

fn default_count(request: &mut Node) {
    if request.at("count").is_none() && request.at("device_ids").is_none() {
        set(request, "count", Value::Int(-1));
    }
}

fn default_text(node: &mut Node, key: &str, default: &str) {
    if node.at(key).is_none() {
        set(node, key, Value::String(default.to_owned()));
    }
}

/// The text of a field.
pub(super) fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.as_mapping()?.get(key)?.as_str()
}

/// Whether a field is there and true.
pub(super) fn flag(node: &Node, key: &str) -> bool {
    node.as_mapping().and_then(|node| node.get(key)).is_some_and(|n| n.value == Value::Bool(true))
}

pub(super) fn set(node: &mut Node, key: &str, value: Value) {
    let (key, value) = (node.key(key), node.with(value));
    if let Some(mapping) = node.as_mapping_mut() {
        mapping.insert(key, value);
    }
}

pub(super) fn child_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    node.as_mapping_mut()?.get_mut(key)
}

pub(super) fn section_mut<'a>(project: &'a mut Node, key: &str) -> Option<&'a mut Mapping> {
    child_mut(project, key)?.as_mapping_mut()
}

fn items_mut<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let items = child_mut(node, key).and_then(|node| match &mut node.value {
        Value::Sequence(items) => Some(items),
        _ => None,
    });
    items.into_iter().flatten()
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(_) => entries(node).next().is_none(),
        _ => false,
    }
}

fn is_zero(node: &Node) -> bool {
    matches!(node.value, Value::Int(0)) || node.value == Value::Float(0.0)
}
