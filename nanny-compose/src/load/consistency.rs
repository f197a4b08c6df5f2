//! What must hold between the parts of a project: what is referred to is there, and nothing is
//! asked for twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::at::{At, Sink};
use super::normal::text;
use super::read::entries;
use crate::model::Project;
use crate::yaml::{Node, Value};

/// A canonical project and which of its services are active.
pub(super) struct Consistency<'a> {
    pub(super) root: &'a Node,
    pub(super) sink: &'a Sink,
    pub(super) active: &'a BTreeSet<String>,
}

impl<'a> Consistency<'a> {
    /// Reports everything that does not fit together.
    pub(super) fn check(&self, project: &Project) {
        let root = At::root(self.root, self.sink);
        for section in ["services", "volumes", "secrets", "configs"] {
            for (key, value) in root.field(section).map(|at| at.entries()).unwrap_or_default() {
                if !is_name(&key.text) {
                    value.problem_at_key("a name may hold only a-z, A-Z, 0-9, ., _ and -");
                }
            }
        }
        for name in self.active {
            let Some(service) = self.service(name) else { continue };
            image(&service);
            self.references(&service);
            self.dependencies(&service);
            targets(&service);
            watches(&service);
            one_container(&service);
            self.namespaces(&service);
        }
        self.container_names(project);
        self.circles();
    }

    fn service(&self, name: &str) -> Option<At<'a>> {
        At::root(self.root, self.sink).field("services")?.field(name)
    }

    /// Networks, volumes, secrets and configs must be defined.
    fn references(&self, service: &At<'a>) {
        let is_defined = |section: &str, key: &str| {
            let section = self.root.at(section).and_then(Node::as_mapping);
            section.is_some_and(|section| section.get(key).is_some())
        };
        let networks = service.field("networks").filter(|at| at.node.as_mapping().is_some());
        for (key, at) in networks.map(|at| at.entries()).unwrap_or_default() {
            if key.text != "default" && !is_defined("networks", &key.text) {
                undefined(&at, "network", "networks", &key.text);
            }
        }
        for mount in list(service, "volumes") {
            let (Some("volume"), Some(source)) =
                (text(mount.node, "type"), text(mount.node, "source"))
            else {
                continue;
            };
            if !source.is_empty() && !is_defined("volumes", source) {
                let advice = if source.contains('/') {
                    "for a path beside the file, begin it with './'"
                } else {
                    "define it under the top-level 'volumes'"
                };
                let shown = shown(&mount, source);
                mount.problem(format!("the volume{shown} is not defined; {advice}"));
            }
        }
        for section in ["secrets", "configs"] {
            for reference in list(service, section) {
                let source = text(reference.node, "source").unwrap_or_default();
                if !is_defined(section, source) {
                    undefined(&reference, &section[..section.len() - 1], section, source);
                }
            }
        }
        if let Some(build) = service.field("build") {
            for reference in list(&build, "secrets") {
                let source = text(reference.node, "source").unwrap_or_default();
                if !is_defined("secrets", source) {
                    undefined(&reference, "secret", "secrets", source);
                }
            }
            let contexts = build.field("additional_contexts").map(|at| at.entries());
            for (_, context) in contexts.unwrap_or_default() {
                let name = context.node.as_str().and_then(|text| text.strip_prefix("service:"));
                if let Some(name) = name {
                    self.built(&context, name);
                }
            }
        }
    }

    /// A context that is what another service's `build` makes.
    fn built(&self, context: &At<'a>, name: &str) {
        let shown = shown(context, name);
        match self.service(name) {
            None => undefined(context, "service", "services", name),
            Some(_) if !self.active.contains(name) => context
                .problem(format!("the service{shown} is not active; select one of its profiles")),
            Some(other) if other.field("build").is_none() => context.problem(format!(
                "the service{shown} has no 'build' whose result this could be; \
                 write 'docker-image://' and its image"
            )),
            Some(_) => {}
        }
    }

    fn dependencies(&self, service: &At<'a>) {
        for (key, at) in service.field("depends_on").map(|at| at.entries()).unwrap_or_default() {
            let name = &key.text;
            if self.active.contains(name) {
                continue;
            }
            let shown = shown(&at, name);
            let is_required = at.node.at("required").is_none_or(|n| n.value != Value::Bool(false));
            match self.service(name) {
                None => at.problem_at_key(format!(
                    "there is no service{shown}; define it, or remove this dependency"
                )),
                Some(_) if is_required => at.problem_at_key(format!(
                    "the service{shown} is not active; select one of its profiles, \
                     or set 'required: false'"
                )),
                Some(_) => {}
            }
        }
    }

    /// A service cannot share what belongs to one that is to have no container.
    fn namespaces(&self, service: &At<'a>) {
        for key in ["network_mode", "ipc", "pid"] {
            let Some(mode) = service.field(key) else { continue };
            let other = mode.node.as_str().and_then(|mode| mode.strip_prefix("service:"));
            let Some(other) = other.and_then(|name| self.service(name)) else { continue };
            let is_none = |path| other.at(path).is_some_and(|at| at.node.value == Value::Int(0));
            if is_none("scale") || is_none("deploy.replicas") {
                mode.problem("that service is to have no container whose namespace could be shared; give it a scale of 1");
            }
        }
    }

    /// No two containers may bear the same name.
    fn container_names(&self, project: &Project) {
        let mut taken: HashMap<String, &str> = HashMap::new();
        // Explicit names come second, so that the problem is reported where there is a key to
        // change.
        let (explicit, default): (Vec<_>, Vec<_>) =
            project.services.values().partition(|service| service.container_name.is_some());
        for service in default.into_iter().chain(explicit) {
            let name = project.container_name(service);
            if let Some(first) = taken.insert(name, &service.name) {
                let Some(at) = self.service(&service.name) else { continue };
                let at = at.field("container_name").unwrap_or(at);
                at.problem(format!("the container of service '{first}' has this name already"));
            }
        }
    }

    fn circles(&self) {
        let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in self.active {
            let service = self.root.at("services").and_then(Node::as_mapping);
            let service = service.and_then(|services| services.get(name));
            let on = service.and_then(|service| service.at("depends_on"));
            let on = on.into_iter().flat_map(entries).map(|entry| entry.key.text.as_str());
            next.insert(name, on.filter(|on| self.active.contains(*on)).collect());
        }
        if let Some(circle) = circle(&next)
            && let Some(first) = circle.first().and_then(|name| self.service(name))
        {
            let at = first.field("depends_on").unwrap_or(first);
            let circle = circle.join(" -> ");
            at.problem(format!("services wait for each other: {circle}; remove one dependency"));
        }
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.chars().all(fits)
}

fn undefined(at: &At<'_>, what: &str, section: &str, name: &str) {
    let shown = shown(at, name);
    at.problem_at_key(format!(
        "the {what}{shown} is not defined; define it under the top-level '{section}'"
    ));
}

/// A name for a message, unless a variable went into it.
fn shown(at: &At<'_>, name: &str) -> String {
    if at.node.secret { String::new() } else { format!(" '{name}'") }
}

fn list<'a>(at: &At<'a>, key: &str) -> Vec<At<'a>> {
    at.field(key).and_then(|at| at.items()).unwrap_or_default()
}

fn image(service: &At<'_>) {
    let has_image = text(service.node, "image").is_some_and(|image| !image.is_empty());
    if !has_image && service.field("build").is_none() {
        service.problem_at_key("has neither 'image' nor 'build'; say what to run");
    }
    let periods = ["refresh", "daily", "weekly", "every_"];
    if let Some(policy) = service.field("pull_policy")
        && let Some(text) = policy.node.as_str()
        && periods.iter().any(|word| text.contains(word))
    {
        policy.warn("is taken for 'missing': the image is not fetched again by itself");
    }
    let Some(build) = service.field("build") else { return };
    let is_said = |key| text(build.node, key).is_some_and(|text| !text.is_empty());
    if is_said("dockerfile") && is_said("dockerfile_inline") {
        build.problem_at_key("has both 'dockerfile' and 'dockerfile_inline'; keep one of the two");
    }
    let platforms = list(&build, "platforms");
    if let Some(platform) = text(service.node, "platform").filter(|text| !text.is_empty())
        && !platforms.is_empty()
        && !platforms.iter().any(|at| at.node.as_str() == Some(platform))
    {
        build.problem_at_key("'platforms' must hold the service's 'platform'; add it there");
    }
}

/// What is synchronised must be told where to go.
fn watches(service: &At<'_>) {
    for watch in service.field("develop").map(|at| list(&at, "watch")).unwrap_or_default() {
        let has_target = text(watch.node, "target").is_some_and(|target| !target.is_empty());
        if !has_target && !matches!(text(watch.node, "action"), Some("rebuild" | "restart")) {
            watch.problem("'target' is missing: where in the container the files go");
        }
    }
}

/// No two things may be mounted at one place.
fn targets(service: &At<'_>) {
    let mut taken = BTreeSet::new();
    for item in list(service, "tmpfs") {
        let target = item.node.as_str().unwrap_or_default();
        let target = target.split(':').next().unwrap_or(target);
        if !taken.insert(target.to_owned()) {
            item.problem("something is mounted at this path already; keep one of the two");
        }
    }
    for item in list(service, "volumes") {
        let target = text(item.node, "target").unwrap_or_default();
        if !taken.insert(target.to_owned()) {
            item.problem("something is mounted at this path already; keep one of the two");
        }
        if let Some(kind @ ("image" | "npipe" | "cluster")) = text(item.node, "type") {
            item.problem(format!(
                "a mount of type {kind} is not supported; use a bind, a volume or tmpfs, \
                 or run this project with docker compose"
            ));
        }
    }
}

/// One container of a service is what a nanny runs, or none.
fn one_container(service: &At<'_>) {
    // Where both are said, they say the same.
    let said = service.at("scale").or_else(|| service.at("deploy.replicas"));
    if let Some(at) = said.filter(|at| !matches!(at.node.value, Value::Int(0 | 1))) {
        at.problem("more than one container of a service is not supported; write 0 or 1, or run this project with docker compose");
    }
}

/// A way from a service back to itself, with that service at both ends.
fn circle<'a>(next: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in next.keys() {
        let mut way = vec![*start];
        let mut on_way: BTreeSet<&str> = BTreeSet::from([*start]);
        let mut open = vec![next.get(start)?.iter()];
        while let Some(nexts) = open.last_mut() {
            let Some(name) = nexts.next().copied() else {
                open.pop();
                if let Some(name) = way.pop() {
                    on_way.remove(name);
                    done.insert(name);
                }
                continue;
            };
            if on_way.contains(name) {
                way.push(name);
                return Some(way.into_iter().skip_while(|step| *step != name).collect());
            }
            if !done.contains(name) {
                way.push(name);
                on_way.insert(name);
                open.push(next.get(name)?.iter());
            }
        }
    }
    None
}
