//! The services of the simulation.

use nanny_lib::ServiceName;
use nanny_lib::backend::{
    BuildSpec, ContainerInfo, ContainerSpec, DeviceMapping, Environment, FileInside, Healthcheck,
    HealthcheckTest, Labels, NetworkSpec, RestartPolicy, VolumeSpec,
};
use nanny_lib::manifest::{Manifest, Service};
use nanny_lib::project::{
    Condition, Dependency, Join, Namespace, NetworkWanted, Project, VolumeWanted, labels,
};

/// All that there ever are.
pub(super) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "g"];

/// The label that tells a project's containers from others, whoever made them.
pub(super) const PROJECT: &str = "project";

/// A value in every container's environment that no answer, log or message may hold.
pub(super) const SECRET: &str = "canary-7f3a";

/// Whether it needs a GPU in this version.
pub(super) fn needs_gpu(name: &str, variant: u64) -> bool {
    matches!(name, "a" | "b" | "c" | "g") || (name, variant) == ("e", 3)
}

/// Whether it may be stopped for others.
pub(super) fn is_pinned(name: &str, variant: u64) -> bool {
    (name, variant) == ("b", 3)
}

/// The service a container is part of, if it is a simulated one's.
pub(super) fn of(container: &ContainerInfo) -> Option<&'static str> {
    let named = |label| container.labels.get(label).map(String::as_str);
    let project = NAMES.into_iter().find(|name| named(PROJECT) == Some(name));
    let made = NAMES
        .into_iter()
        .find(|name| named(labels::SERVICE) == Some(name) && named(labels::ORIGIN) == Some(name));
    project.or(made)
}

/// Whether a container runs to its end.
pub(super) fn is_job(container: &ContainerInfo) -> bool {
    let part = container.labels.get(&Project::new("any").part_label);
    part.is_some_and(|part| part == "init")
}

/// How many files it must have inside when it is started.
pub(super) fn files(name: &str) -> usize {
    usize::from(name == "a")
}

/// Whether one of its parts ends and starts with another one that is made anew.
pub(super) fn follows(name: &str) -> bool {
    matches!(name, "e" | "g")
}

/// Which engine its manifest asks for in this version.
pub(super) fn backend(name: &str, variant: u64) -> Option<&'static str> {
    match (name, variant) {
        ("a", 2) | ("c", 3) | ("d", 1) => Some("two"),
        ("a" | "d", 3) => Some("one"),
        _ => None,
    }
}

/// A network that is the service's own is told from a stranger's by these.
pub(super) fn identity(name: &str) -> Labels {
    [(PROJECT.to_owned(), name.to_owned())].into()
}

/// Each variant is another version of the files; variant 2 of `d` and `g` has one part less, with
/// variant 3 `e` needs a GPU and `b` is pinned; some ask for an engine by name.
pub(super) fn service(name: &str, variant: u64) -> Service {
    let mut project = Project::new(name);
    project.selector = identity(name);
    let parts: &[&str] = match (name, variant) {
        ("c", _) => &["init", "main"],
        ("d" | "g", 2) => &["db"],
        ("d" | "g", _) => &["db", "web"],
        ("e", _) => &["main", "side"],
        _ => &["main"],
    };
    for part in parts {
        let mut spec = ContainerSpec::new(format!("{name}-{part}-1"), "image");
        spec.labels.insert(labels::SPEC_HASH.to_owned(), variant.to_string());
        spec.labels.insert(labels::SERVICE.to_owned(), name.to_owned());
        spec.labels.insert(labels::ORIGIN.to_owned(), name.to_owned());
        spec.environment = Environment([("PASSWORD".to_owned(), Some(SECRET.to_owned()))].into());
        if needs_gpu(name, variant) {
            spec.devices = vec![DeviceMapping::new("/dev/nvidia0")];
        }
        if (name, *part) == ("d", "db") {
            spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Inherit));
        }
        if name == "b" {
            spec.image = Some("built".to_owned());
        }
        project = project.with_part(*part, spec);
    }
    for part in project.parts.values_mut() {
        if name == "b" {
            part.build = Some(BuildSpec::new("built", "/"));
        }
        part.files = vec![FileInside::new("/run/secrets/password", SECRET); files(name)];
    }
    if let Some(side) = project.parts.get_mut("side") {
        side.joins = vec![Join::new(Namespace::Network, "main")];
    }
    let mut depend = |part: &str, on: &str, condition| {
        if let Some(part) = project.parts.get_mut(part) {
            part.depends_on = vec![Dependency::new(on, condition)];
        }
    };
    match name {
        "c" => depend("main", "init", Condition::Completed),
        "d" => depend("web", "db", Condition::Healthy),
        "g" => depend("web", "db", Condition::Started),
        _ => {}
    }
    if follows(name)
        && let Some(on) = project.parts.get_mut("web").and_then(|web| web.depends_on.first_mut())
    {
        on.restart = true;
    }
    let policy = match name {
        "a" => RestartPolicy::Always,
        "c" => RestartPolicy::OnFailure { max_retries: Some(3) },
        "g" => RestartPolicy::UnlessStopped,
        _ => RestartPolicy::No,
    };
    for (key, part) in &mut project.parts {
        part.restart = if key == "init" { RestartPolicy::No } else { policy };
    }
    if name == "d" {
        let labels = identity(name);
        let network = NetworkSpec { name: "d_net".to_owned(), labels, ..NetworkSpec::default() };
        project.networks = vec![NetworkWanted::new(network, false, identity(name))];
        let volume = VolumeSpec { name: "d_data".to_owned(), ..VolumeSpec::default() };
        project.volumes = vec![VolumeWanted::new(volume, false)];
    }
    let mut manifest = Manifest::new(ServiceName::new(name).expect("a valid name"));
    if needs_gpu(name, variant) {
        manifest = manifest.with_gpu(8);
    }
    manifest.pinned = is_pinned(name, variant);
    manifest.backend = backend(name, variant).map(str::to_owned);
    Service::new(manifest, project, name)
}
