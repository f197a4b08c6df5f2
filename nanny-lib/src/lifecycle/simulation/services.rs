//! The services of the simulation.

use crate::backend::{
    ContainerSpec, Healthcheck, HealthcheckTest, NetworkSpec, RestartPolicy, VolumeSpec,
};
use crate::manifest::{Manifest, Service};
use crate::name::ServiceName;
use crate::project::{Condition, Dependency, NetworkWanted, Project, VolumeWanted, labels};

/// All that there ever are.
pub(super) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "g"];

/// The label that tells a project's containers from others, whoever made them.
pub(super) const PROJECT: &str = "project";

/// `a`, `b`, `c` and `g` need a GPU. Each variant is another version of the files; variant 2 has
/// one part less, and with variant 3 `e` needs a GPU too.
pub(super) fn service(name: &str, variant: u64) -> Service {
    let mut project = Project::new(name);
    project.selector = [(PROJECT.to_owned(), name.to_owned())].into();
    let parts: &[&str] = match (name, variant) {
        ("c", _) => &["init", "main"],
        ("d" | "g", 2) => &["db"],
        ("d" | "g", _) => &["db", "web"],
        _ => &["main"],
    };
    for part in parts {
        let mut spec = ContainerSpec::new(format!("{name}-{part}-1"), "image");
        spec.labels.insert(labels::SPEC_HASH.to_owned(), variant.to_string());
        spec.labels.insert(labels::SERVICE.to_owned(), name.to_owned());
        if (name, *part) == ("d", "db") {
            spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Inherit));
        }
        project = project.with_part(*part, spec);
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
        let network = NetworkSpec { name: "d_net".to_owned(), ..NetworkSpec::default() };
        project.networks = vec![NetworkWanted::new(network, false, Default::default())];
        let volume = VolumeSpec { name: "d_data".to_owned(), ..VolumeSpec::default() };
        project.volumes = vec![VolumeWanted::new(volume, false)];
    }
    let mut manifest = Manifest::new(ServiceName::new(name).expect("a valid name"));
    if matches!(name, "a" | "b" | "c" | "g") || (name, variant) == ("e", 3) {
        manifest = manifest.with_gpu(8);
    }
    manifest.pinned = (name, variant) == ("b", 3);
    Service::new(manifest, project, name)
}
