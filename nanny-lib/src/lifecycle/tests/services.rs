//! Services for tests of the world.

use crate::backend::{ContainerSpec, DeviceMapping, NetworkSpec};
use crate::manifest::{Manifest, Service};
use crate::name::ServiceName;
use crate::project::{Condition, Dependency, NetworkWanted, Project, labels};

/// `a`, `b` and `g` need a GPU, and with variant 3 of its files `e` does, too; `d` and `g` have two parts,
/// and `d` a network.
pub(super) fn service(name: &str, variant: u64) -> Service {
    let mut project = Project::new(name);
    project.selector = [("project".to_owned(), name.to_owned())].into();
    let gpu = matches!(name, "a" | "b" | "g") || (name, variant) == ("e", 3);
    let parts: &[&str] = if matches!(name, "d" | "g") { &["db", "web"] } else { &["main"] };
    for part in parts {
        let mut spec = ContainerSpec::new(format!("{name}-{part}-1"), "image");
        spec.labels.insert(labels::SPEC_HASH.to_owned(), variant.to_string());
        spec.labels.insert(labels::SERVICE.to_owned(), name.to_owned());
        if gpu {
            spec.devices = vec![DeviceMapping::new("/dev/nvidia0")];
        }
        project = project.with_part(*part, spec);
    }
    if let Some(web) = project.parts.get_mut("web") {
        web.depends_on = vec![Dependency::new("db", Condition::Started)];
    }
    if name == "d" {
        let network = NetworkSpec { name: "d_net".to_owned(), ..NetworkSpec::default() };
        project.networks = vec![NetworkWanted::new(network, false, Default::default())];
    }
    let mut manifest = Manifest::new(ServiceName::new(name).expect("a valid name"));
    if gpu {
        manifest = manifest.with_gpu(8);
    }
    Service::new(manifest, project, name)
}
