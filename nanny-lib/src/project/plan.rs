//! What to do next so that a project is up, or down: a pure comparison of what is wanted with what
//! is there.
//!
//! [`plan`] is asked again after every outcome, so each of its answers is only the next steps that
//! can be taken now, at once and in any order. Killed at any point and asked again, it converges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Condition, DEFAULT_STOP_GRACE, Part, Project, Step};
use crate::backend::{ContainerInfo, ContainerSpec, ContainerState, EngineHealth};
use crate::name::ContainerId;

/// Where a project is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Goal {
    /// All parts run, or have completed.
    Up,
    /// No container runs.
    Down,
    /// No container and no network is there.
    Removed,
}

/// What is known beyond what the engine lists: what the operation under way has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Networks that are there.
    pub networks: BTreeSet<String>,
    /// Volumes that are there.
    pub volumes: BTreeSet<String>,
    /// Images that are there, with their identifiers.
    pub images: BTreeMap<String, String>,
    /// Containers that were started: what exits after that has failed, or completed.
    pub started: BTreeSet<ContainerId>,
    /// Containers to be made anew although they run.
    pub replace: BTreeSet<ContainerId>,
    /// Containers to be started as they are, whatever the files say now.
    pub as_is: BTreeSet<ContainerId>,
    /// Containers that stay as they are when the goal is down.
    pub keep: BTreeSet<ContainerId>,
    /// Networks that were removed, or are still in use by others.
    pub removed_networks: BTreeSet<String>,
}

/// What a plan comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// These steps can be taken now. None: something that is under way must end first.
    Next(Vec<Step>),
    /// The goal is reached.
    Done,
    /// The goal cannot be reached.
    Stuck {
        /// Why, for a person.
        reason: String,
    },
}

/// The next steps towards `goal`.
///
/// `containers` are the project's own, whoever made them; `progress` is what the operation has
/// done so far, empty at its beginning.
#[must_use]
pub fn plan(
    project: &Project,
    containers: &[&ContainerInfo],
    goal: Goal,
    progress: &Progress,
) -> Plan {
    match goal {
        Goal::Up => Up { project, containers, progress }.plan(),
        Goal::Down => Down { project, containers, progress }.plan(),
        Goal::Removed => match (Down { project, containers, progress }).plan() {
            Plan::Done => removal(project, containers, progress),
            unfinished => unfinished,
        },
    }
}

/// Whether `container` was made from something else than `part` is now.
///
/// The first of the project's hash labels that the container carries decides; a container that
/// carries none was made by strangers to the scheme and is left alone.
#[must_use]
pub fn has_drifted(project: &Project, part: &Part, container: &ContainerInfo) -> bool {
    project
        .hash_labels
        .iter()
        .find_map(|label| container.labels.get(label).map(|made_from| (label, made_from)))
        .is_some_and(|(label, made_from)| part.spec.labels.get(label) != Some(made_from))
}

/// Whether a part that ran and ended needs not run again: a job, not a server.
#[must_use]
pub fn has_completed(project: &Project, key: &str, container: &ContainerInfo) -> bool {
    let ended_well = container.state == ContainerState::Exited
        && container.exit.as_ref().is_some_and(|exit| exit.code == Some(0));
    ended_well
        && project.parts.len() > 1
        && (project.awaits_completion(key) || {
            let restart = project.parts.get(key).map(|part| part.restart);
            restart.is_some_and(|policy| !policy.answers(Some(0), 0))
        })
}

struct Up<'a> {
    project: &'a Project,
    containers: &'a [&'a ContainerInfo],
    progress: &'a Progress,
}

impl Up<'_> {
    fn plan(&self) -> Plan {
        let mut steps = self.resources();
        let resources_missing = !steps.is_empty();
        let mut done = !resources_missing;
        for (key, part) in &self.project.parts {
            match self.part(key, part, resources_missing) {
                PartPlan::Done => {}
                PartPlan::Waits => done = false,
                PartPlan::Step(step) => {
                    done = false;
                    steps.push(step);
                }
                PartPlan::Stuck(reason) => return Plan::Stuck { reason },
            }
        }
        if done { Plan::Done } else { Plan::Next(steps) }
    }

    /// Networks, volumes and images, as far as a part that must be started or created needs them.
    fn resources(&self) -> Vec<Step> {
        let all_up = self.project.parts.keys().all(|key| self.container(key).is_some_and(runs));
        if all_up && self.progress.replace.is_empty() {
            return Vec::new();
        }
        let networks = self.project.networks.iter();
        let networks = networks.filter(|n| !self.progress.networks.contains(&n.spec.name));
        let volumes = self.project.volumes.iter();
        let volumes = volumes.filter(|v| !self.progress.volumes.contains(&v.spec.name));
        let made =
            |key: &str| self.container(key).is_some_and(|c| self.progress.as_is.contains(&c.id));
        let to_make = self.project.parts.iter().filter(|(key, _)| !made(key));
        let images: BTreeSet<_> =
            to_make.filter_map(|(_, part)| part.spec.image.as_ref()).collect();
        let images = images.into_iter().filter(|i| !self.progress.images.contains_key(*i));
        networks
            .map(|network| Step::Network(network.clone()))
            .chain(volumes.map(|volume| Step::Volume(volume.clone())))
            .chain(images.map(|image| Step::Image(image.clone())))
            .collect()
    }

    fn part(&self, key: &str, part: &Part, resources_missing: bool) -> PartPlan {
        let Some(container) = self.container(key) else {
            if resources_missing {
                return PartPlan::Waits;
            }
            let spec = Box::new(self.labelled(part));
            return PartPlan::Step(Step::Create { part: key.to_owned(), spec });
        };
        let id = container.id.clone();
        let replace = self.progress.replace.contains(&id);
        match container.state {
            ContainerState::Running | ContainerState::Paused if replace => {
                let grace = part.spec.stop_grace.unwrap_or(DEFAULT_STOP_GRACE);
                PartPlan::Step(Step::Stop { id, grace })
            }
            ContainerState::Running | ContainerState::Paused => PartPlan::Done,
            ContainerState::Created | ContainerState::Exited => {
                self.resting(key, part, container, resources_missing)
            }
            ContainerState::Restarting
            | ContainerState::Stopping
            | ContainerState::Removing
            | ContainerState::Unknown => PartPlan::Waits,
        }
    }

    /// A part whose container does not run.
    fn resting(
        &self,
        key: &str,
        part: &Part,
        container: &ContainerInfo,
        resources_missing: bool,
    ) -> PartPlan {
        let id = container.id.clone();
        let replace = self.progress.replace.contains(&id);
        if self.progress.started.contains(&id) && !replace {
            return if has_completed(self.project, key, container) {
                PartPlan::Done
            } else {
                PartPlan::Stuck(exit_reason(container))
            };
        }
        if resources_missing {
            return PartPlan::Waits;
        }
        let changed =
            has_drifted(self.project, part, container) || self.image_changed(part, container);
        let outdated = replace || changed && !self.progress.as_is.contains(&id);
        if outdated {
            return PartPlan::Step(Step::Remove { id });
        }
        match self.dependencies(part) {
            Dependencies::Met => {
                PartPlan::Step(Step::Start { part: key.to_owned(), id, settle: Duration::ZERO })
            }
            Dependencies::Pending => PartPlan::Waits,
            Dependencies::Failed(reason) => PartPlan::Stuck(reason),
        }
    }

    fn dependencies(&self, part: &Part) -> Dependencies {
        for dependency in &part.depends_on {
            let met = match (self.container(&dependency.part), dependency.condition) {
                (None, _) => Dependencies::Pending,
                // Whatever it does until then, another one will take its place.
                (Some(other), _) if self.progress.replace.contains(&other.id) => {
                    Dependencies::Pending
                }
                (Some(other), Condition::Started) => self.started(other),
                (Some(other), Condition::Healthy) => self.healthy(other),
                (Some(other), Condition::Completed) => self.completed(other),
            };
            match met {
                Dependencies::Met => {}
                Dependencies::Failed(_) if !dependency.required => {}
                unmet => return unmet,
            }
        }
        Dependencies::Met
    }

    fn started(&self, container: &ContainerInfo) -> Dependencies {
        if runs(container) || self.progress.started.contains(&container.id) {
            Dependencies::Met
        } else {
            Dependencies::Pending
        }
    }

    fn healthy(&self, container: &ContainerInfo) -> Dependencies {
        if !container.state.holds() {
            return self.exited_or_pending(container);
        }
        match container.health {
            Some(EngineHealth::Healthy) => Dependencies::Met,
            Some(EngineHealth::Starting) => Dependencies::Pending,
            Some(EngineHealth::Unhealthy) => {
                Dependencies::Failed(format!("container '{}' is unhealthy", container.name))
            }
            None => Dependencies::Failed(format!(
                "container '{}' has no health check, so 'service_healthy' can never hold",
                container.name
            )),
        }
    }

    fn completed(&self, container: &ContainerInfo) -> Dependencies {
        if container.state.holds() {
            return Dependencies::Pending;
        }
        let ended_well = container.exit.as_ref().is_some_and(|exit| exit.code == Some(0));
        if ended_well && self.progress.started.contains(&container.id) {
            Dependencies::Met
        } else {
            self.exited_or_pending(container)
        }
    }

    fn exited_or_pending(&self, container: &ContainerInfo) -> Dependencies {
        if self.progress.started.contains(&container.id)
            && container.state == ContainerState::Exited
        {
            Dependencies::Failed(exit_reason(container))
        } else {
            Dependencies::Pending
        }
    }

    /// The container of a part: of several, one that runs, else the first by name.
    fn container(&self, key: &str) -> Option<&ContainerInfo> {
        let of_part = self.containers.iter().filter(|c| self.project.part_of(c) == Some(key));
        of_part.copied().min_by_key(|c| (!c.state.holds(), c.name.clone()))
    }

    fn image_changed(&self, part: &Part, container: &ContainerInfo) -> bool {
        let made_from = self.project.image_label.as_ref().and_then(|l| container.labels.get(l));
        let now = part.spec.image.as_ref().and_then(|image| self.progress.images.get(image));
        matches!((made_from, now), (Some(made_from), Some(now)) if made_from != now)
    }

    /// The part's spec with the label that names the image's identifier.
    fn labelled(&self, part: &Part) -> ContainerSpec {
        let mut spec = part.spec.clone();
        let image = spec.image.as_ref().and_then(|image| self.progress.images.get(image));
        if let (Some(label), Some(id)) = (&self.project.image_label, image) {
            spec.labels.insert(label.clone(), id.clone());
        }
        spec
    }
}

enum PartPlan {
    Done,
    Waits,
    Step(Step),
    Stuck(String),
}

enum Dependencies {
    Met,
    Pending,
    Failed(String),
}

fn runs(container: &ContainerInfo) -> bool {
    matches!(container.state, ContainerState::Running | ContainerState::Paused)
}

/// Why a container that was started does not run, for a person.
#[must_use]
pub fn exit_reason(container: &ContainerInfo) -> String {
    let name = &container.name;
    let Some(exit) = &container.exit else {
        return format!("container '{name}' does not run");
    };
    match (&exit.error, exit.code) {
        (Some(error), _) if !error.is_empty() => format!("container '{name}': {error}"),
        (_, Some(_)) if exit.out_of_memory => format!("container '{name}' ran out of memory"),
        (_, Some(code)) => format!("container '{name}' exited with code {code}"),
        (_, None) => format!("container '{name}' exited"),
    }
}

struct Down<'a> {
    project: &'a Project,
    containers: &'a [&'a ContainerInfo],
    progress: &'a Progress,
}

impl Down<'_> {
    /// Dependents first: a container is stopped once nothing that depends on it runs.
    fn plan(&self) -> Plan {
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
        let part = self.project.parts.get(part);
        part.is_some_and(|part| part.depends_on.iter().any(|dependency| dependency.part == on))
    }
}

fn removal(project: &Project, containers: &[&ContainerInfo], progress: &Progress) -> Plan {
    if !containers.is_empty() {
        let remove = |container: &&ContainerInfo| Step::Remove { id: container.id.clone() };
        return Plan::Next(containers.iter().map(remove).collect());
    }
    let networks = project.networks.iter().filter(|network| {
        !network.external && !progress.removed_networks.contains(&network.spec.name)
    });
    let steps: Vec<_> = networks.map(|network| Step::RemoveNetwork(network.clone())).collect();
    if steps.is_empty() { Plan::Done } else { Plan::Next(steps) }
}

impl Project {
    /// Whether another part waits until this one has run and exited with 0.
    pub(crate) fn awaits_completion(&self, key: &str) -> bool {
        let waits = |part: &Part| {
            let mut dependencies = part.depends_on.iter();
            dependencies.any(|d| d.part == key && d.condition == Condition::Completed)
        };
        self.parts.values().any(|part| waits(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{ContainerInfo, Exit, Healthcheck, HealthcheckTest};
    use crate::project::{Condition, Dependency};

    #[test]
    fn what_is_stopped_to_be_replaced_fails_nobody_who_waits_for_it() {
        let mut db = ContainerSpec::new("db-1", "image");
        db.healthcheck = Some(Healthcheck::new(HealthcheckTest::Inherit));
        let mut project = Project::new("shop")
            .with_part("db", db)
            .with_part("web", ContainerSpec::new("web-1", "image"));
        let web = project.parts.get_mut("web").unwrap();
        web.depends_on = vec![Dependency::new("db", Condition::Healthy)];
        let labels = project.parts["db"].spec.labels.clone();
        let mut stopped = ContainerInfo::new(ContainerId::new("1"), "db-1", "image");
        stopped.labels = labels;
        stopped.state = ContainerState::Exited;
        stopped.exit = Some(Exit::with_code(143));
        let mut progress = Progress::default();
        progress.images.insert("image".to_owned(), "id".to_owned());
        progress.started.insert(stopped.id.clone());
        progress.replace.insert(stopped.id.clone());
        let mut waiting = ContainerInfo::new(ContainerId::new("2"), "web-1", "image");
        waiting.labels = project.parts["web"].spec.labels.clone();
        let Plan::Next(steps) = plan(&project, &[&stopped, &waiting], Goal::Up, &progress) else {
            panic!("it goes on");
        };
        assert!(matches!(&steps[..], [Step::Remove { id }] if *id == stopped.id), "{steps:?}");
    }
}
