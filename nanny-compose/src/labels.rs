//! The labels by which Compose knows what is its own.
//!
//! Containers, networks and volumes that carry these maps are found, shown, stopped and removed by
//! `docker compose` as if it had made them itself; `up` leaves them alone as long as the
//! configuration and the image are the same.

use std::collections::BTreeMap;

use crate::hash;
use crate::model::{Network, Project, Service, Volume};

/// Which project something belongs to.
pub const PROJECT: &str = "com.docker.compose.project";
/// Which service a container belongs to.
pub const SERVICE: &str = "com.docker.compose.service";
/// The hash of the configuration something was made from.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// The number of a container among those of its service.
pub const CONTAINER_NUMBER: &str = "com.docker.compose.container-number";
/// `True` for the containers of `docker compose run`, which are no part of the service.
pub const ONEOFF: &str = "com.docker.compose.oneoff";
/// The ID of the image a container was made from. Whoever creates the container adds it: it is
/// not known before the image is there.
pub const IMAGE: &str = "com.docker.compose.image";
/// What a container's service depends on: `service:condition:restart`, separated by commas.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The project directory.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The Compose files, separated by commas.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The Compose version that made something: for us, the one whose hashes we reproduce.
pub const VERSION: &str = "com.docker.compose.version";
/// A network's key in the file.
pub const NETWORK: &str = "com.docker.compose.network";
/// A volume's key in the file.
pub const VOLUME: &str = "com.docker.compose.volume";

/// The Compose version whose names, labels and hashes this crate reproduces.
pub const COMPOSE_VERSION: &str = "2.40.3";

impl Project {
    /// The label and value that all containers, networks and volumes of this project carry.
    pub fn selector(&self) -> (&'static str, &str) {
        (PROJECT, &self.name)
    }

    /// All labels of a service's container: those of the file and those of Compose. Only
    /// [`IMAGE`] is missing, which the image's ID goes into.
    pub fn container_labels(&self, service: &Service) -> BTreeMap<String, String> {
        let config_files: Vec<_> =
            self.config_files.iter().map(|file| file.display().to_string()).collect();
        let own = [
            (SERVICE, service.name.clone()),
            (CONFIG_HASH, hash::service(service)),
            (CONTAINER_NUMBER, "1".to_owned()),
            (ONEOFF, "False".to_owned()),
            (DEPENDS_ON, depends_on(service)),
            (WORKING_DIR, self.working_dir.display().to_string()),
            (CONFIG_FILES, config_files.join(",")),
        ];
        self.labels(&service.labels, own)
    }

    /// All labels of a network, by its key in the file.
    pub fn network_labels(&self, key: &str, network: &Network) -> BTreeMap<String, String> {
        let own = [(NETWORK, key.to_owned()), (CONFIG_HASH, hash::network(network))];
        self.labels(&network.labels, own)
    }

    /// All labels of a volume, by its key in the file.
    pub fn volume_labels(&self, key: &str, volume: &Volume) -> BTreeMap<String, String> {
        let own = [(VOLUME, key.to_owned()), (CONFIG_HASH, hash::volume(volume))];
        self.labels(&volume.labels, own)
    }

    fn labels<const N: usize>(
        &self,
        of_file: &BTreeMap<String, String>,
        own: [(&str, String); N],
    ) -> BTreeMap<String, String> {
        let common = [(PROJECT, self.name.clone()), (VERSION, COMPOSE_VERSION.to_owned())];
        let compose = own.into_iter().chain(common);
        let compose = compose.map(|(label, value)| (label.to_owned(), value));
        of_file.clone().into_iter().chain(compose).collect()
    }
}

fn depends_on(service: &Service) -> String {
    let entries: Vec<_> = service
        .depends_on
        .iter()
        .map(|(name, on)| format!("{name}:{}:{}", on.condition.as_str(), on.restart))
        .collect();
    entries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Condition, Dependency};

    #[test]
    fn a_container_carries_the_labels_compose_looks_for() {
        let mut project = Project::new("ai", "/srv/ai");
        project.config_files = vec!["/srv/ai/compose.yaml".into(), "/srv/ai/gpu.yaml".into()];
        let mut service = Service::new("web", "nginx");
        service.labels.insert("team".to_owned(), "a".to_owned());
        service.labels.insert(PROJECT.to_owned(), "someone else's".to_owned());
        let healthy = Dependency { condition: Condition::Healthy, restart: true, required: true };
        service.depends_on.insert("db".to_owned(), healthy);
        let labels = project.container_labels(&service);
        for (label, value) in [
            ("team", "a"),
            (PROJECT, "ai"),
            (SERVICE, "web"),
            (CONTAINER_NUMBER, "1"),
            (ONEOFF, "False"),
            (DEPENDS_ON, "db:service_healthy:true"),
            (WORKING_DIR, "/srv/ai"),
            (CONFIG_FILES, "/srv/ai/compose.yaml,/srv/ai/gpu.yaml"),
            (VERSION, "2.40.3"),
        ] {
            assert_eq!(labels.get(label).map(String::as_str), Some(value), "{label}");
        }
        assert_eq!(labels[CONFIG_HASH].len(), 64);
        assert!(!labels.contains_key(IMAGE));
    }

    #[test]
    fn networks_and_volumes_carry_their_keys() {
        let project = Project::new("ai", "/srv/ai");
        let network = project.network_labels("default", &Network::new("ai_default"));
        assert_eq!(network[NETWORK], "default");
        assert_eq!(network[PROJECT], "ai");
        let volume = project.volume_labels("models", &Volume::new("ai_models"));
        assert_eq!(volume[VOLUME], "models");
        assert_eq!(project.selector(), ("com.docker.compose.project", "ai"));
    }
}
