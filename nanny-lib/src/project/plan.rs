//! What to do next so that a project is up, or down: a pure comparison of what is wanted with what
//! is there.
//!
//! [`plan`] is asked again after every outcome, so each of its answers is only the next steps that
//! can be taken now, at once and in any order. Killed at any point and asked again, it converges.

mod down;
mod parts;
mod up;

use std::collections::{BTreeMap, BTreeSet};

use self::down::Down;
use self::parts::Parts;
use self::up::Up;
use super::{Condition, Part, Project, Step};
use crate::backend::{ContainerInfo, ContainerState, ImageInfo};
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
    /// Images that are there.
    pub images: BTreeMap<String, ImageInfo>,
    /// Containers that have their files inside.
    pub filled: BTreeSet<ContainerId>,
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
        Goal::Up => Up(Parts { project, containers, progress }).plan(),
        Goal::Down => Down { project, containers, progress }.plan(),
        Goal::Removed => match (Down { project, containers, progress }).plan() {
            Plan::Done => down::removal(project, containers, progress),
            unfinished => unfinished,
        },
    }
}

/// Whether `container`, one of the project's `containers`, was made from something else than its
/// part is now.
///
/// The first of the project's hash labels that it carries decides; one that carries none was made by
/// strangers to the scheme and is left alone. So is one whose part cannot be told without a container
/// of another part that is not there.
#[must_use]
pub fn has_drifted(
    project: &Project,
    containers: &[&ContainerInfo],
    container: &ContainerInfo,
) -> bool {
    let Some((key, part)) = project.part_of(container).and_then(|k| project.parts.get_key_value(k))
    else {
        return false;
    };
    if parts::is_heir(part, container) {
        return false;
    }
    // Readers are shown this after every step: most parts need no look at others.
    if part.joins.is_empty() {
        return parts::differs(project, &part.spec.labels, container);
    }
    let progress = Progress::default();
    let expected = Parts { project, containers, progress: &progress }.expected(key);
    expected.is_some_and(|spec| parts::differs(project, &spec.labels, container))
}

/// Containers that were about to give way to one that was made for it.
#[must_use]
pub fn giving_way(project: &Project, containers: &[&ContainerInfo]) -> BTreeSet<ContainerId> {
    let progress = Progress::default();
    let parts = Parts { project, containers, progress: &progress };
    let held = project.parts.keys().map(|key| parts.held(key));
    let replaced = held.filter(|held| held.heir.is_some()).filter_map(|held| held.container);
    replaced.map(|container| container.id.clone()).collect()
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
mod tests;
