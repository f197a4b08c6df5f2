//! The names Compose gives to what it creates.

use crate::model::{Project, Service};

/// A project name from any text, as Compose makes one from a directory's name: lower case, only
/// `a-z 0-9 _ -`, beginning with a letter or digit. May come out empty.
pub fn normalize_project_name(text: &str) -> String {
    let lower = text.to_lowercase();
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let kept: String = lower.chars().filter(allowed).collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// The default name of a network or volume at the engine.
pub fn resource_name(project: &str, key: &str) -> String {
    format!("{project}_{key}")
}

/// The image that building a service without an `image` leaves behind.
pub fn built_image_name(project: &str, service: &str) -> String {
    format!("{project}-{service}")
}

impl Project {
    /// The name of a service's container: the one in the file, or `<project>-<service>-1`.
    pub fn container_name(&self, service: &Service) -> String {
        let default = || format!("{}-{}-1", self.name, service.name);
        // An engine takes a name with a slash before it for the name.
        let named = service.container_name.as_deref();
        named.map_or_else(default, |name| name.strip_prefix('/').unwrap_or(name).to_owned())
    }

    /// A network's name at the engine, by its key in the file.
    pub fn network_name(&self, key: &str) -> String {
        let network = self.networks.get(key).map(|network| network.name.clone());
        network.unwrap_or_else(|| resource_name(&self.name, key))
    }

    /// A volume's name at the engine, by its key in the file.
    pub fn volume_name(&self, key: &str) -> String {
        let volume = self.volumes.get(key).map(|volume| volume.name.clone());
        volume.unwrap_or_else(|| resource_name(&self.name, key))
    }

    /// By which names a service's container is known in one of its networks: the container's
    /// name, the service's name, and the aliases of the file.
    pub fn network_aliases(&self, service: &Service, network: &str) -> Vec<String> {
        let own = service.networks.get(network).map(|attachment| attachment.aliases.clone());
        let first = [self.container_name(service), service.name.clone()];
        first.into_iter().chain(own.unwrap_or_default()).collect()
    }

    /// By which names a service knows the containers it links to, each as `container:name`.
    pub fn container_links(&self, service: &Service) -> Vec<String> {
        let named = |link: &String| match link.split_once(':') {
            Some((target, name)) => (target.to_owned(), name.to_owned()),
            None => (link.clone(), link.clone()),
        };
        let inside = service.links.iter().flat_map(|link| {
            let (target, name) = named(link);
            let container = self.services.get(&target).map(|target| self.container_name(target));
            let container = container.unwrap_or_else(|| format!("{}-{target}-1", self.name));
            let names = [name, format!("{target}-1"), format!("{}-{target}-1", self.name)];
            names.map(|name| format!("{container}:{name}"))
        });
        let outside = service.external_links.iter().map(|link| {
            let (container, name) = named(link);
            format!("{container}:{name}")
        });
        inside.chain(outside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attachment, Network};

    #[test]
    fn project_names_are_normalised_as_compose_does() {
        for (text, expected) in [
            ("ChatUI", "chatui"),
            ("huggingface+chat-ui", "huggingfacechat-ui"),
            ("_-my.app", "myapp"),
            ("Café 2", "caf2"),
            ("...", ""),
        ] {
            assert_eq!(normalize_project_name(text), expected, "{text}");
        }
    }

    #[test]
    fn containers_are_named_after_project_and_service() {
        let project = Project::new("ai", "/srv/ai");
        let mut service = Service::new("web", "nginx");
        assert_eq!(project.container_name(&service), "ai-web-1");
        service.container_name = Some("front".to_owned());
        assert_eq!(project.container_name(&service), "front");
    }

    #[test]
    fn resources_are_named_after_project_and_key_unless_named() {
        let mut project = Project::new("ai", "/srv/ai");
        project.networks.insert("shared".to_owned(), Network::new("lan"));
        assert_eq!(project.network_name("shared"), "lan");
        assert_eq!(project.network_name("default"), "ai_default");
        assert_eq!(project.volume_name("models"), "ai_models");
    }

    #[test]
    fn a_container_answers_to_its_name_its_service_and_its_aliases() {
        let project = Project::new("ai", "/srv/ai");
        let mut service = Service::new("web", "nginx");
        let aliases = vec!["front".to_owned(), "web".to_owned()];
        let attachment = Attachment { aliases, ..Attachment::default() };
        service.networks.insert("default".to_owned(), attachment);
        assert_eq!(
            project.network_aliases(&service, "default"),
            ["ai-web-1", "web", "front", "web"]
        );
    }

    #[test]
    fn a_link_goes_by_its_name_and_by_those_of_the_container() {
        let mut project = Project::new("ai", "/srv/ai");
        let mut db = Service::new("db", "postgres");
        db.container_name = Some("store".to_owned());
        project.services.insert("db".to_owned(), db);
        let mut web = Service::new("web", "nginx");
        web.links = vec!["db:sql".to_owned()];
        web.external_links = vec!["cache".to_owned()];
        assert_eq!(
            project.container_links(&web),
            ["store:sql", "store:db-1", "store:ai-db-1", "cache:cache"]
        );
    }
}
