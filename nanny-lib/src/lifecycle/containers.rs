//! The containers of one engine, as last seen, and what must be found among them at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::ContainerInfo;
use crate::name::{ContainerId, ServiceName};

/// Every container of one engine. All changes go through [`Containers::put`] and
/// [`Containers::remove`], which keep the two indexes true.
#[derive(Debug, Default)]
pub(super) struct Containers {
    seen: BTreeMap<ContainerId, Seen>,
    by_name: BTreeMap<String, BTreeSet<ContainerId>>,
    /// Those of other hands that hold a GPU.
    foreign_gpu: BTreeSet<ContainerId>,
}

/// A container, whose it is, and the number as of which that is so.
#[derive(Debug)]
struct Seen {
    container: ContainerInfo,
    owner: Option<ServiceName>,
    as_of: u64,
}

impl Seen {
    fn uses_gpu(&self) -> bool {
        self.container.uses_gpu && self.container.state.holds()
    }
}

/// Whose a container was and is.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) id: ContainerId,
    pub(super) was: Option<ServiceName>,
    pub(super) is: Option<ServiceName>,
    /// It used a GPU, and runs no more.
    pub(super) left_gpu: bool,
}

impl Containers {
    pub(super) fn get(&self, id: &ContainerId) -> Option<&ContainerInfo> {
        self.seen.get(id).map(|seen| &seen.container)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ContainerInfo> {
        self.seen.values().map(|seen| &seen.container)
    }

    /// The service that a container belongs to.
    pub(super) fn owner(&self, id: &ContainerId) -> Option<&ServiceName> {
        self.seen.get(id)?.owner.as_ref()
    }

    /// Containers of that name; an engine that is renaming may show two.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &ContainerInfo> {
        self.by_name.get(name).into_iter().flatten().filter_map(|id| self.get(id))
    }

    /// Containers that hold a GPU and belong to no service.
    pub(super) fn foreign_gpu(&self) -> impl Iterator<Item = &ContainerInfo> {
        self.foreign_gpu.iter().filter_map(|id| self.get(id))
    }

    /// Takes in how a container is as of `as_of`.
    pub(super) fn put(
        &mut self,
        container: ContainerInfo,
        owner: Option<ServiceName>,
        as_of: u64,
    ) -> Handover {
        let id = container.id.clone();
        let before = self.take(&id);
        let left_gpu = before.as_ref().is_some_and(Seen::uses_gpu) && !container.state.holds();
        let was = before.and_then(|seen| seen.owner);
        if container.uses_gpu && container.state.holds() && owner.is_none() {
            self.foreign_gpu.insert(id.clone());
        }
        match self.by_name.get_mut(&container.name) {
            Some(ids) => drop(ids.insert(id.clone())),
            None => {
                self.by_name.insert(container.name.clone(), BTreeSet::from([id.clone()]));
            }
        }
        self.seen.insert(id.clone(), Seen { container, owner: owner.clone(), as_of });
        Handover { id, was, is: owner, left_gpu }
    }

    /// Takes in that a container is gone, and says whose it was, if it was there.
    pub(super) fn remove(&mut self, id: &ContainerId) -> Option<Handover> {
        let seen = self.take(id)?;
        let left_gpu = seen.uses_gpu();
        Some(Handover { id: id.clone(), was: seen.owner, is: None, left_gpu })
    }

    /// Finds out anew whose the container is.
    pub(super) fn reassign(
        &mut self,
        id: &ContainerId,
        owner: impl FnOnce(&ContainerInfo) -> Option<ServiceName>,
    ) -> Option<Handover> {
        let Seen { container, owner: was, as_of } = self.take(id)?;
        let is = owner(&container);
        Some(Handover { was, ..self.put(container, is, as_of) })
    }

    fn take(&mut self, id: &ContainerId) -> Option<Seen> {
        let seen = self.seen.remove(id)?;
        self.foreign_gpu.remove(id);
        if let Some(ids) = self.by_name.get_mut(&seen.container.name) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_name.remove(&seen.container.name);
            }
        }
        Some(seen)
    }

    /// Takes in a whole list that was asked for under `issued`, and says which containers changed,
    /// came or went. `gone` picks those that are known to be gone since.
    ///
    /// What was learnt of a container after the list was asked for is newer than the list.
    pub(super) fn merge(
        &mut self,
        issued: u64,
        listed: Vec<ContainerInfo>,
        gone: impl Fn(&ContainerId) -> bool,
        owner: impl Fn(&ContainerInfo) -> Option<ServiceName>,
    ) -> Vec<Handover> {
        let mut changed = Vec::new();
        for container in listed {
            if gone(&container.id) {
                continue;
            }
            match self.seen.get_mut(&container.id) {
                Some(seen) if seen.as_of > issued => {}
                Some(seen) if seen.container == container => seen.as_of = issued,
                _ => {
                    let owner = owner(&container);
                    changed.push(self.put(container, owner, issued));
                }
            }
        }
        // All that the list shows is of that number by now.
        let missing = self.seen.iter().filter(|(_, seen)| seen.as_of < issued);
        let missing: Vec<_> = missing.map(|(id, _)| id.clone()).collect();
        changed.extend(missing.iter().filter_map(|id| self.remove(id)));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ContainerState;

    fn container(id: &str, state: ContainerState) -> ContainerInfo {
        let mut container = ContainerInfo::new(ContainerId::new(id), id, "image");
        container.state = state;
        container
    }

    fn merge(known: &mut Containers, issued: u64, listed: Vec<ContainerInfo>) -> Vec<Handover> {
        known.merge(issued, listed, |id| id.as_str() == "removed", |_| None)
    }

    #[test]
    fn a_list_is_the_truth_about_what_is_older() {
        let mut known = Containers::default();
        known.put(container("a", ContainerState::Running), None, 1);
        known.put(container("b", ContainerState::Running), None, 1);
        let changed = merge(&mut known, 2, vec![container("a", ContainerState::Exited)]);
        assert_eq!(changed.len(), 2);
        assert_eq!(known.iter().count(), 1);
    }

    #[test]
    fn b12_a_late_list_does_not_undo_what_was_learnt_since() {
        let mut known = Containers::default();
        known.put(container("a", ContainerState::Running), None, 5);
        known.put(container("new", ContainerState::Created), None, 5);
        let late = vec![
            container("a", ContainerState::Created),
            container("removed", ContainerState::Exited),
        ];
        assert!(merge(&mut known, 3, late).is_empty());
        assert_eq!(known.iter().count(), 2);
        assert_eq!(known.get(&ContainerId::new("a")).unwrap().state, ContainerState::Running);
    }

    #[test]
    fn what_is_renamed_given_an_owner_or_removed_is_found_as_it_is_now() {
        let names = |known: &Containers| -> Vec<bool> {
            ["old", "new"].iter().map(|name| known.named(name).next().is_some()).collect()
        };
        let mut one = container("1", ContainerState::Running);
        (one.name, one.uses_gpu) = ("old".into(), true);
        let mut known = Containers::default();
        known.put(one.clone(), None, 1);
        assert_eq!((names(&known), known.foreign_gpu().count()), (vec![true, false], 1));

        one.name = "new".into();
        merge(&mut known, 2, vec![one.clone()]);
        assert_eq!((names(&known), known.foreign_gpu().count()), (vec![false, true], 1));

        let service = ServiceName::new("a").unwrap();
        let handover = known.reassign(&one.id, |_| Some(service.clone())).unwrap();
        assert_eq!((handover.was, handover.is), (None, Some(service)));
        assert_eq!((names(&known), known.foreign_gpu().count()), (vec![false, true], 0));

        merge(&mut known, 3, Vec::new());
        assert_eq!((names(&known), known.foreign_gpu().count()), (vec![false, false], 0));
    }
}
