//! The way down.

use std::collections::BTreeSet;

use super::{Plan, Progress};
use crate::backend::ContainerInfo;
use crate::project::{DEFAULT_STOP_GRACE, Project, Step};

pub(super) struct Down<'a> {
    pub(super) project: &'a Project,
    pub(super) containers: &'a [&'a ContainerInfo],
    pub(super) progress: &'a Progress,
}

impl Down<'_> {
    /// Dependents first: a container is stopped once nothing that depends on it runs.
    pub(super) fn plan(&self) -> Plan {
        let up: Vec<_> = self
            .containers
            .iter()
            .filter(|c| c.state.holds() && !self.progress.keep.contains(&c.id))
            .collect();
        if up.is_empty() {
            return Plan::Done;
        }
        let up_parts: BTreeSet<_> = up.iter().filter_map(|c| self.project.part_of(c)).collect();
        let ready = up.iter().filter(|container| {
            let part = self.project.part_of(container);
            !up_parts.iter().any(|other| part.is_some_and(|part| self.depends(other, part)))
        });
        let steps = ready.map(|container| {
            let part = self.project.part_of(container).and_then(|key| self.project.parts.get(key));
            let grace = part.and_then(|part| part.spec.stop_grace).unwrap_or(DEFAULT_STOP_GRACE);
            Step::Stop { id: container.id.clone(), grace }
        });
        Plan::Next(steps.collect())
    }

    fn depends(&self, part: &str, on: &str) -> bool {
        self.project.parts.get(part).is_some_and(|part| part.needs(on))
    }
}

/// What remains to be removed once nothing runs.
pub(super) fn removal(
    project: &Project,
    containers: &[&ContainerInfo],
    progress: &Progress,
) -> Plan {
    let ours: Vec<_> = containers.iter().filter(|found| !project.is_orphan(found)).collect();
    // An engine may keep a container as long as another one shares a namespace with it.
    let parts = ours.iter().filter_map(|found| project.parts.get(project.part_of(found)?));
    let shared: BTreeSet<_> =
        parts.flat_map(|part| &part.joins).map(|join| join.part.as_str()).collect();
    let free =
        ours.iter().filter(|found| project.part_of(found).is_none_or(|it| !shared.contains(it)));
    let steps: Vec<_> = free.map(|found| Step::Remove { id: found.id.clone() }).collect();
    if !steps.is_empty() {
        return Plan::Next(steps);
    }
    let networks = project.networks.iter().filter(|network| {
        !network.external && !progress.removed_networks.contains(&network.spec.name)
    });
    let steps: Vec<_> = networks.map(|network| Step::RemoveNetwork(network.clone())).collect();
    if steps.is_empty() { Plan::Done } else { Plan::Next(steps) }
}
