//! Which container is which part, and what it is to be made from.
//!
//! A part has one container, except while it is made anew: then its heir is made beside it, under a
//! name of its own, and gets the part's name when the old one is gone. So the old one goes only when
//! there is a new one, and whoever is killed half-way finds both. Compose does the same, with the
//! same names: what one of the two leaves half done, the other completes.

use super::{Progress, runs};
use crate::backend::{ContainerInfo, ContainerSpec, ContainerState, Labels, Mount, MountKind};
use crate::name::ContainerId;
use crate::project::{Part, Project, labels};

/// So much of the old container's identifier is in its heir's name.
const ID_LENGTH: usize = 12;

/// So many parts may share a namespace in a row: no engine goes further, and no question about a
/// project may take for ever.
const MOST_IN_A_ROW: usize = 8;

/// The parts of a project and their containers.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) project: &'a Project,
    pub(super) containers: &'a [&'a ContainerInfo],
    pub(super) progress: &'a Progress,
}

/// The containers of one part.
#[derive(Clone, Copy, Default)]
pub(super) struct Held<'a> {
    /// The one that counts: of several, one that runs, else the one of the right name.
    pub(super) container: Option<&'a ContainerInfo>,
    /// One that waits to take its place.
    pub(super) heir: Option<&'a ContainerInfo>,
}

impl<'a> Held<'a> {
    /// The one there is, whichever.
    pub(super) fn any(self) -> Option<&'a ContainerInfo> {
        self.container.or(self.heir)
    }
}

impl<'a> Parts<'a> {
    pub(super) fn held(self, key: &str) -> Held<'a> {
        let Some(part) = self.project.parts.get(key) else { return Held::default() };
        let of_part = self.containers.iter().filter(|c| self.project.part_of(c) == Some(key));
        let (heirs, others): (Vec<_>, Vec<_>) =
            of_part.copied().partition(|container| is_heir(part, container));
        let rank =
            |c: &&ContainerInfo| (!c.state.holds(), c.name != part.spec.name, c.name.clone());
        Held {
            container: others.into_iter().min_by_key(rank),
            heir: heirs.into_iter().min_by_key(rank),
        }
    }

    /// What the container of a part is to be made from, with all that is known only by now; `None`
    /// as long as a container it is to share a namespace with is not there.
    pub(super) fn expected(self, key: &str) -> Option<ContainerSpec> {
        self.expected_within(key, MOST_IN_A_ROW)
    }

    /// Whether the container of a part is to give way to another: `None` if nobody can say yet.
    pub(super) fn is_outdated(self, key: &str, container: &ContainerInfo) -> Option<bool> {
        if self.progress.replace.contains(&container.id) {
            return Some(true);
        }
        if self.stays(container) {
            return Some(false);
        }
        Some(!self.is_fit(&self.expected(key)?, container))
    }

    /// Whether a heir is what its part is to be.
    pub(super) fn is_fit(self, expected: &ContainerSpec, heir: &ContainerInfo) -> bool {
        !differs(self.project, &expected.labels, heir)
            && !moves(&expected.labels, heir)
            && !self.image_changed(expected, heir)
    }

    /// Whether everything is ready for the heir of a part to take the old container's place.
    pub(super) fn is_handed_over(self, key: &str) -> bool {
        let Held { container: Some(old), heir: Some(heir) } = self.held(key) else { return false };
        self.is_outdated(key, old) == Some(true)
            && self.expected(key).is_some_and(|expected| self.is_fit(&expected, heir))
    }

    /// `distance`: so many more parts may share each other's namespaces in a row.
    fn expected_within(self, key: &str, distance: usize) -> Option<ContainerSpec> {
        let part = self.project.parts.get(key)?;
        let mut spec = part.resolved(|other| self.successor(other, distance.checked_sub(1)?))?;
        let image = spec.image.as_ref().and_then(|image| self.progress.images.get(image));
        if let (Some(label), Some(image)) = (&self.project.image_label, image) {
            spec.labels.insert(label.clone(), image.id.clone());
        }
        Some(spec)
    }

    /// The container that a part has, or will have once it was made anew.
    fn successor(self, key: &str, distance: usize) -> Option<&'a ContainerId> {
        let held = self.held(key);
        let Some(old) = held.container else { return held.heir.map(|heir| &heir.id) };
        let replace = self.progress.replace.contains(&old.id);
        if !replace && self.stays(old) {
            return Some(&old.id);
        }
        let expected = self.expected_within(key, distance)?;
        if !replace && self.is_fit(&expected, old) {
            return Some(&old.id);
        }
        held.heir.filter(|heir| self.is_fit(&expected, heir)).map(|heir| &heir.id)
    }

    /// Whether nobody asks what it was made from: that was asked before it was started.
    fn stays(self, container: &ContainerInfo) -> bool {
        let progress = self.progress;
        runs(container)
            || progress.as_is.contains(&container.id)
            || progress.started.contains(&container.id)
    }

    fn image_changed(self, expected: &ContainerSpec, container: &ContainerInfo) -> bool {
        let Some(label) = &self.project.image_label else { return false };
        let (now, made_from) = (expected.labels.get(label), container.labels.get(label));
        matches!((now, made_from), (Some(now), Some(made_from)) if now != made_from)
    }

    /// What the heir of `old` is made from: with the volumes of the old one that have no name in the
    /// file, as Compose keeps them.
    pub(super) fn heir_of(self, old: &ContainerInfo, mut spec: ContainerSpec) -> ContainerSpec {
        let image = spec.image.as_ref().and_then(|image| self.progress.images.get(image));
        for (target, volume) in &old.volumes {
            let kind = MountKind::volume(volume);
            let declared = image.is_some_and(|image| image.volumes.contains(target));
            match spec.mounts.iter_mut().find(|mount| mount.target == *target) {
                Some(mount) if mount.kind == MountKind::Anonymous => mount.kind = kind,
                None if declared => spec.mounts.push(Mount::new(target, kind)),
                Some(_) | None => {}
            }
        }
        let id = old.id.as_str();
        let short = id.get(..ID_LENGTH).unwrap_or(id);
        spec.name = format!("{short}_{}", spec.name);
        spec
    }
}

/// Whether `container` was made to take another one's place, and has not begun to.
pub(super) fn is_heir(part: &Part, container: &ContainerInfo) -> bool {
    let prefix = container.name.strip_suffix(&part.spec.name);
    let id = prefix.and_then(|prefix| prefix.strip_suffix('_')).unwrap_or_default();
    let is_id =
        (1..=ID_LENGTH).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id && matches!(container.state, ContainerState::Created | ContainerState::Exited)
}

/// Whether `container` was made from something else than what has the labels `expected`.
pub(super) fn differs(project: &Project, expected: &Labels, container: &ContainerInfo) -> bool {
    let carried =
        project.hash_labels.iter().find(|hash| container.labels.contains_key(&hash.label));
    carried.is_some_and(|hash| {
        hash.is_known_of(&container.labels)
            && container.labels.get(&hash.label) != expected.get(&hash.label)
    })
}

/// Whether `container` was placed on other GPUs than what has the labels `expected`. What it was
/// charged there is no reason to make it anew.
fn moves(expected: &Labels, container: &ContainerInfo) -> bool {
    let gpus =
        |labels: &Labels| labels::placement_in(labels).map(|it| it.mib.into_keys().collect());
    let (now, made_on): (Option<Vec<_>>, Option<Vec<_>>) =
        (gpus(expected), gpus(&container.labels));
    now != made_on
}
