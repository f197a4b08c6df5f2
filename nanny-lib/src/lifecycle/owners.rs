//! Whose a container is.

use std::collections::{BTreeMap, BTreeSet};

use super::service::ServiceState;
use crate::backend::ContainerInfo;
use crate::name::ServiceName;
use crate::project::{Project, labels};

/// Services, and where among them to look for the one that a container belongs to.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Services by one label of those that tell their containers from others: key, then value.
    by_label: BTreeMap<String, BTreeMap<String, BTreeSet<ServiceName>>>,
}

impl Owners {
    /// Of these services, as their projects are now. Made anew when a project changes.
    pub(super) fn of(services: &BTreeMap<ServiceName, Box<ServiceState>>) -> Self {
        let mut owners = Self::default();
        for (name, service) in services {
            for project in service.former.iter().chain([&service.wanted.project]) {
                owners.add(name, project);
            }
        }
        owners
    }

    fn add(&mut self, name: &ServiceName, project: &Project) {
        let Some((key, value)) = project.selector.first_key_value() else { return };
        let values = self.by_label.entry(key.clone()).or_default();
        values.entry(value.clone()).or_default().insert(name.clone());
    }

    /// The service a container belongs to: the one whose project it is part of. Our label is a
    /// short cut and no proof: another nanny may have a service of the same name.
    pub(super) fn find(
        &self,
        services: &BTreeMap<ServiceName, Box<ServiceState>>,
        container: &ContainerInfo,
    ) -> Option<ServiceName> {
        let owns = |name: &&ServiceName| services.get(*name).is_some_and(|s| s.owns(container));
        if let Some(label) = container.labels.get(labels::SERVICE)
            && let Some((name, _)) = services.get_key_value(label.as_str())
            && owns(&name)
        {
            return Some(name.clone());
        }
        let of_label = self.by_label.iter().filter_map(|(key, values)| {
            container.labels.get(key).and_then(|value| values.get(value))
        });
        of_label.flatten().filter(owns).min().cloned()
    }
}
