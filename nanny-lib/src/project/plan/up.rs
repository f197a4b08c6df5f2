//! The way up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parts::{Held, Parts};
use super::{Plan, exit_reason, has_completed, runs};
use crate::backend::{ContainerInfo, ContainerSpec, ContainerState, EngineHealth};
use crate::project::{Condition, DEFAULT_STOP_GRACE, Dependency, ImageWanted, Part, Step};

pub(super) struct Up<'a>(pub(super) Parts<'a>);

#[expect(clippy::large_enum_variant, reason = "one at a time, and never kept")]
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

impl Up<'_> {
    pub(super) fn plan(&self) -> Plan {
        let mut steps = self.resources();
        let resources_missing = !steps.is_empty();
        let mut done = !resources_missing;
        for (key, part) in &self.0.project.parts {
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
        let Parts { project, progress, .. } = self.0;
        let wanted = project.parts.iter().filter(|(_, part)| part.is_wanted);
        let stays = |key: &str| self.0.held(key).container.is_some_and(runs);
        if wanted.clone().all(|(key, _)| stays(key)) && progress.replace.is_empty() {
            return Vec::new();
        }
        let networks = project.networks.iter();
        let networks = networks.filter(|n| !progress.networks.contains(&n.spec.name));
        let volumes = project.volumes.iter();
        let volumes = volumes.filter(|v| !progress.volumes.contains(&v.spec.name));
        let compared = wanted.filter(|(key, _)| self.is_compared(key));
        let images = images(compared.map(|(_, part)| &**part)).into_values();
        let images = images.filter(|image| !progress.images.contains_key(&image.reference));
        networks
            .map(|network| Step::Network(network.clone()))
            .chain(volumes.map(|volume| Step::Volume(volume.clone())))
            .chain(images.map(|image| Step::Image(Box::new(image))))
            .collect()
    }

    /// Whether a part's container is to be made, or made anew if it is not what it should be.
    fn is_compared(&self, key: &str) -> bool {
        let progress = self.0.progress;
        self.0.held(key).container.is_none_or(|container| {
            let stays = runs(container) || progress.as_is.contains(&container.id);
            !stays || progress.replace.contains(&container.id)
        })
    }

    fn part(&self, key: &str, part: &Part, resources_missing: bool) -> PartPlan {
        let held = self.0.held(key);
        if !part.is_wanted {
            return held.any().map_or(PartPlan::Done, |container| clear(part, container));
        }
        match held {
            Held { container: Some(container), heir } => {
                self.existing(key, part, (container, heir), resources_missing)
            }
            // Its old container is gone.
            Held { container: None, heir: Some(heir) } => {
                PartPlan::Step(Step::Rename { id: heir.id.clone(), name: part.spec.name.clone() })
            }
            Held { container: None, heir: None } if resources_missing => PartPlan::Waits,
            Held { container: None, heir: None } => match self.0.expected(key) {
                Some(spec) => create(key, spec),
                None => PartPlan::Waits,
            },
        }
    }

    fn existing(
        &self,
        key: &str,
        part: &Part,
        (container, heir): (&ContainerInfo, Option<&ContainerInfo>),
        resources_missing: bool,
    ) -> PartPlan {
        let replace = self.0.progress.replace.contains(&container.id);
        match container.state {
            ContainerState::Running | ContainerState::Paused | ContainerState::Restarting
                if !replace && self.must_follow(part) =>
            {
                return stop(part, container);
            }
            ContainerState::Running | ContainerState::Paused if !replace => {
                return heir.map_or(PartPlan::Done, remove);
            }
            ContainerState::Created | ContainerState::Exited if !replace => {
                if self.0.progress.started.contains(&container.id) {
                    return if has_completed(self.0.project, key, container) {
                        PartPlan::Done
                    } else {
                        PartPlan::Stuck(exit_reason(container))
                    };
                }
            }
            ContainerState::Running
            | ContainerState::Paused
            | ContainerState::Created
            | ContainerState::Exited => {}
            // One that crashes again and again runs only now and then.
            ContainerState::Restarting if replace => {}
            ContainerState::Restarting
            | ContainerState::Stopping
            | ContainerState::Removing
            | ContainerState::Unknown => return PartPlan::Waits,
        }
        if resources_missing {
            return PartPlan::Waits;
        }
        match (self.0.is_outdated(key, container), heir) {
            (None, _) => PartPlan::Waits,
            (Some(true), _) => self.replace(key, part, container, heir),
            // It is of no use any more, and is in the way of the next one.
            (Some(false), Some(heir)) => remove(heir),
            (Some(false), None) => self.resting(key, part, container),
        }
    }

    /// Makes a container anew: the new one is there before the old one goes.
    fn replace(
        &self,
        key: &str,
        part: &Part,
        old: &ContainerInfo,
        heir: Option<&ContainerInfo>,
    ) -> PartPlan {
        let Some(expected) = self.0.expected(key) else { return PartPlan::Waits };
        match heir {
            None => create(key, self.0.heir_of(old, expected)),
            Some(heir) if !self.0.is_fit(&expected, heir) => remove(heir),
            Some(_) if self.is_followed(key) => PartPlan::Waits,
            Some(_) if old.state.holds() => stop(part, old),
            Some(_) => remove(old),
        }
    }

    /// Whether a part that runs must end first because another one that it goes with is made anew.
    fn must_follow(&self, part: &Part) -> bool {
        let parts = self.0.project.parts.keys();
        parts.filter(|other| part.follows(other)).any(|other| self.0.is_handed_over(other))
    }

    /// Whether anything still runs that must end before this part does.
    fn is_followed(&self, key: &str) -> bool {
        let parts = self.0.project.parts.iter();
        let followers = parts.filter(|(other, part)| *other != key && part.follows(key));
        let mut held = followers.filter_map(|(other, _)| self.0.held(other).container);
        held.any(|container| container.state.holds())
    }

    /// A part whose container is what it should be, and does not run.
    fn resting(&self, key: &str, part: &Part, container: &ContainerInfo) -> PartPlan {
        let id = container.id.clone();
        match self.dependencies(part) {
            Dependencies::Pending => PartPlan::Waits,
            Dependencies::Failed(reason) => PartPlan::Stuck(reason),
            Dependencies::Met if part.files.is_empty() || self.0.progress.filled.contains(&id) => {
                PartPlan::Step(Step::Start { part: key.to_owned(), id, settle: Duration::ZERO })
            }
            Dependencies::Met => {
                let files = part.files.clone();
                PartPlan::Step(Step::Fill { part: key.to_owned(), id, files })
            }
        }
    }

    fn dependencies(&self, part: &Part) -> Dependencies {
        let by_namespace = part.joins.iter().filter(|join| {
            let mut named = part.depends_on.iter();
            !named.any(|dependency| dependency.part == join.part)
        });
        let implied: Vec<_> =
            by_namespace.map(|join| Dependency::new(&join.part, Condition::Started)).collect();
        for dependency in part.depends_on.iter().chain(&implied) {
            match self.dependency(dependency) {
                Dependencies::Met => {}
                Dependencies::Failed(_) if !dependency.required => {}
                unmet => return unmet,
            }
        }
        Dependencies::Met
    }

    fn dependency(&self, dependency: &Dependency) -> Dependencies {
        let unwanted = self.0.project.parts.get(&dependency.part).is_some_and(|p| !p.is_wanted);
        if unwanted {
            // Nothing is ever there to be waited for.
            return Dependencies::Met;
        }
        match (self.0.held(&dependency.part).container, dependency.condition) {
            (None, _) => Dependencies::Pending,
            // Whatever it does until then, another one will take its place.
            (Some(other), _) if self.0.progress.replace.contains(&other.id) => {
                Dependencies::Pending
            }
            (Some(other), Condition::Started) => self.started(other),
            (Some(other), Condition::Healthy) => self.healthy(other),
            (Some(other), Condition::Completed) => self.completed(other),
        }
    }

    fn started(&self, container: &ContainerInfo) -> Dependencies {
        if runs(container) || self.0.progress.started.contains(&container.id) {
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
            // Between two runs an engine says nothing of its health.
            None if !runs(container) => Dependencies::Pending,
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
        if ended_well && self.0.progress.started.contains(&container.id) {
            Dependencies::Met
        } else {
            self.exited_or_pending(container)
        }
    }

    fn exited_or_pending(&self, container: &ContainerInfo) -> Dependencies {
        if self.0.progress.started.contains(&container.id)
            && container.state == ContainerState::Exited
        {
            Dependencies::Failed(exit_reason(container))
        } else {
            Dependencies::Pending
        }
    }
}

/// The images of `parts`, by name: if several are made from one, what the most demanding asks for,
/// and whoever can build it builds it for all.
fn images<'a>(parts: impl Iterator<Item = &'a Part>) -> BTreeMap<&'a str, ImageWanted> {
    let mut images = BTreeMap::<_, ImageWanted>::new();
    for part in parts {
        let Some(reference) = part.spec.image.as_deref() else { continue };
        let image = images.entry(reference).or_insert_with(|| {
            let mut image = ImageWanted::new(reference);
            image.pull = part.pull;
            image
        });
        image.pull = image.pull.max(part.pull);
        if image.platform.is_none() {
            image.platform.clone_from(&part.spec.platform);
        }
        if image.build.is_none() {
            image.build.clone_from(&part.build);
        }
    }
    images
}

fn create(key: &str, spec: ContainerSpec) -> PartPlan {
    PartPlan::Step(Step::Create { part: key.to_owned(), spec: Box::new(spec) })
}

fn stop(part: &Part, container: &ContainerInfo) -> PartPlan {
    let grace = part.spec.stop_grace.unwrap_or(DEFAULT_STOP_GRACE);
    PartPlan::Step(Step::Stop { id: container.id.clone(), grace })
}

fn remove(container: &ContainerInfo) -> PartPlan {
    PartPlan::Step(Step::Remove { id: container.id.clone() })
}

/// There is to be no container of it.
fn clear(part: &Part, container: &ContainerInfo) -> PartPlan {
    match container.state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => {
            stop(part, container)
        }
        ContainerState::Created | ContainerState::Exited => remove(container),
        ContainerState::Stopping | ContainerState::Removing | ContainerState::Unknown => {
            PartPlan::Waits
        }
    }
}
