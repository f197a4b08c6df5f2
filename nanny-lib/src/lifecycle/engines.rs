//! What the engines say: lists, events, and whether they answer at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::restart::delay;
use super::world::{Out, Timer, World};
use super::{Effect, EngineIndex, Now};
use crate::backend::{BackendError, BackendInfo, ContainerInfo, Event, EventKind};
use crate::error::Error;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::{Change, EngineState};
use crate::project::labels;

/// After an engine did not answer, ask again so soon; then slower, up to the relist period.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// One engine, as last seen.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) info: BackendInfo,
    pub(super) state: EngineState,
    /// Why it does not answer.
    pub(super) reason: Option<String>,
    /// Since when it does not, for people.
    pub(super) down_since: Option<jiff::Timestamp>,
    containers: BTreeMap<ContainerId, Seen>,
    /// Containers known to be gone, and since which number: an older list does not bring them back.
    gone: BTreeMap<ContainerId, u64>,
    /// When it last came back after it had gone away.
    pub(super) returned: Option<Duration>,
    /// The number of the list under way.
    listing: Option<u64>,
    /// Something happened since that list was asked for: list again.
    dirty: bool,
    /// When the next list is due.
    next_list: Duration,
    failures: u32,
}

/// A container, and the number as of which that is so.
#[derive(Debug)]
struct Seen {
    container: ContainerInfo,
    as_of: u64,
}

impl Engine {
    pub(super) fn new(info: BackendInfo) -> Self {
        Self {
            info,
            state: EngineState::Absent,
            reason: None,
            down_since: None,
            containers: BTreeMap::new(),
            gone: BTreeMap::new(),
            returned: None,
            listing: None,
            dirty: false,
            next_list: Duration::ZERO,
            failures: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == EngineState::Up
    }

    /// Whether it has answered, or failed to.
    pub(super) fn was_heard(&self) -> bool {
        self.state != EngineState::Absent || self.failures > 0
    }

    pub(super) fn container(&self, id: &ContainerId) -> Option<&ContainerInfo> {
        self.containers.get(id).map(|seen| &seen.container)
    }

    pub(super) fn containers(&self) -> impl Iterator<Item = &ContainerInfo> {
        self.containers.values().map(|seen| &seen.container)
    }

    /// Takes a whole list in, and says which containers changed, came or went.
    ///
    /// What was learnt of a container after the list was asked for is newer than the list.
    fn merge(&mut self, issued: u64, listed: Vec<ContainerInfo>) -> BTreeSet<ContainerId> {
        let mut changed = BTreeSet::new();
        self.gone.retain(|_, since| *since > issued);
        let mut present = BTreeSet::new();
        for container in listed {
            let id = container.id.clone();
            present.insert(id.clone());
            if self.gone.contains_key(&id) {
                continue;
            }
            let known = self.containers.get(&id);
            if known.is_some_and(|seen| seen.as_of > issued) {
                continue;
            }
            if known.is_none_or(|seen| seen.container != container) {
                changed.insert(id.clone());
            }
            self.containers.insert(id, Seen { container, as_of: issued });
        }
        self.containers.retain(|id, seen| {
            let stays = present.contains(id) || seen.as_of > issued;
            if !stays {
                changed.insert(id.clone());
            }
            stays
        });
        changed
    }
}

impl World {
    /// Asks an engine for a list, now or as soon as the one under way has arrived.
    pub(super) fn list(&mut self, index: EngineIndex, now: Now, out: &mut Out) {
        let issued = self.next_sequence();
        let engine = &mut self.engines[index.0];
        if engine.listing.is_some() {
            engine.dirty = true;
            return;
        }
        engine.listing = Some(issued);
        engine.next_list = now.mono + self.settings.relist;
        out.push(Effect::List { engine: index, issued });
    }

    pub(super) fn list_if_due(&mut self, index: EngineIndex, now: Now, out: &mut Out) {
        if self.engines[index.0].next_list <= now.mono {
            self.list(index, now, out);
        }
    }

    pub(super) fn on_event(&mut self, index: EngineIndex, event: &Event, now: Now, out: &mut Out) {
        if let Some(id) = &event.container
            && let Some(owner) = self.owner_of_known(index, id)
            && let Some(service) = self.services.get_mut(&owner)
        {
            match event.kind {
                EventKind::StopRequested => service.note_stop_request(id, now),
                EventKind::Started => {
                    service.stop_requested.remove(id);
                    service.ended_with_engine.remove(id);
                    service.stops_by_hand.remove(id);
                }
                _ => {}
            }
        }
        // An engine that is down is asked again in its own time; anything else is news.
        if self.engines[index.0].failures == 0 || event.kind == EventKind::Resync {
            self.list(index, now, out);
        }
    }

    pub(super) fn on_listed(
        &mut self,
        index: EngineIndex,
        issued: u64,
        result: Result<Vec<ContainerInfo>, BackendError>,
        now: Now,
        out: &mut Out,
    ) {
        self.engines[index.0].listing = None;
        match result {
            Ok(listed) => self.on_list(index, issued, listed, now, out),
            Err(error) => self.on_silence(index, &error, now, out),
        }
        self.take_up_journal(now, out);
        let engine = &mut self.engines[index.0];
        if std::mem::take(&mut engine.dirty) && engine.is_up() {
            self.list(index, now, out);
        }
        let next = self.engines[index.0].next_list;
        self.schedule(next, Timer::Engine(index));
    }

    fn on_list(
        &mut self,
        index: EngineIndex,
        issued: u64,
        listed: Vec<ContainerInfo>,
        now: Now,
        out: &mut Out,
    ) {
        let engine = &mut self.engines[index.0];
        let before = engine.state;
        engine.state = EngineState::Up;
        engine.reason = None;
        engine.down_since = None;
        engine.failures = 0;
        let changed = engine.merge(issued, listed);
        let mut affected = BTreeSet::new();
        for id in changed {
            affected.extend(self.reassign(index, &id));
        }
        if before == EngineState::Up {
            // Whoever waited for a list may go on.
            let waiting = self.services.iter().filter(|(_, s)| s.waits_for_list(index, issued));
            affected.extend(waiting.map(|(name, _)| name.clone()));
        } else {
            let name = self.engines[index.0].info.name.clone();
            out.push(Effect::Announce(Change::EngineUp { engine: name }));
            affected.extend(self.services.keys().cloned());
        }
        let outage = before == EngineState::Down;
        if outage {
            self.engines[index.0].returned = Some(now.mono);
        }
        for name in affected {
            if let Some(service) = self.services.get_mut(&name) {
                service.list_arrived(index, issued);
            }
            self.observe_exits(&name, outage, now, out);
            self.advance(&name, now, out);
            self.probe_due(&name, now, out);
        }
        if before != EngineState::Up {
            self.unresolved = true;
        }
    }

    /// The engine did not answer: what it runs is unknown, and all claims stay.
    fn on_silence(&mut self, index: EngineIndex, error: &BackendError, now: Now, out: &mut Out) {
        let pause = delay(FIRST_RETRY, self.settings.relist, self.engines[index.0].failures);
        let engine = &mut self.engines[index.0];
        if engine.state != EngineState::Up && engine.failures == 0 {
            let (name, reason) = (engine.info.name.clone(), error.message().to_owned());
            out.push(Effect::Announce(Change::EngineDown { engine: name, reason }));
        }
        engine.failures = engine.failures.saturating_add(1);
        engine.next_list = now.mono + pause;
        engine.reason = Some(error.message().to_owned());
        if engine.state != EngineState::Up {
            return;
        }
        engine.state = EngineState::Down;
        engine.down_since = Some(now.wall);
        let (name, reason) = (engine.info.name.clone(), error.message().to_owned());
        out.push(Effect::Announce(Change::EngineDown { engine: name, reason }));
        let affected: Vec<_> = self
            .services
            .iter()
            .filter(|(_, service)| self.engine_of(service) == Some(index))
            .map(|(name, _)| name.clone())
            .collect();
        for name in affected {
            self.touch(&name);
            self.blame_engine(&name, now);
            let error = self.unavailable(index);
            self.fail_waiters(&name, &error, out);
        }
    }

    /// Takes in what was learnt of one container, as of now.
    pub(super) fn observe(&mut self, index: EngineIndex, container: ContainerInfo) {
        let as_of = self.next_sequence();
        let id = container.id.clone();
        self.engines[index.0].containers.insert(id.clone(), Seen { container, as_of });
        for name in self.reassign(index, &id) {
            self.touch(&name);
        }
    }

    /// Takes in that a container is gone, as of now.
    pub(super) fn forget(&mut self, index: EngineIndex, id: &ContainerId) {
        let since = self.next_sequence();
        let engine = &mut self.engines[index.0];
        engine.containers.remove(id);
        engine.gone.insert(id.clone(), since);
        for name in self.reassign(index, id) {
            self.touch(&name);
        }
    }

    /// Finds out anew whose a container is, and says whose it was and is.
    fn reassign(&mut self, index: EngineIndex, id: &ContainerId) -> Vec<ServiceName> {
        let was = self.owner_of_known(index, id);
        let container = self.engines[index.0].container(id);
        let is = container.and_then(|container| self.owner(container));
        if let Some(was) = &was
            && was_not(is.as_ref(), was)
            && let Some(service) = self.services.get_mut(was)
        {
            service.containers.remove(id);
            service.settle_engine();
        }
        if let Some(is) = &is
            && let Some(service) = self.services.get_mut(is)
        {
            service.containers.insert(id.clone(), index);
            service.settle_engine();
        }
        let mut both: Vec<_> = was.into_iter().chain(is).collect();
        both.dedup();
        both
    }

    /// Finds out anew whose every container is: services came or went.
    pub(super) fn reassign_all(&mut self) {
        for service in self.services.values_mut() {
            service.containers.clear();
            service.settle_engine();
        }
        for index in 0..self.engines.len() {
            let ids: Vec<_> = self.engines[index].containers.keys().cloned().collect();
            for id in ids {
                self.reassign(EngineIndex(index), &id);
            }
        }
    }

    /// The service a container belongs to: the one whose project it is part of. Our label is a
    /// short cut and no proof: another nanny may have a service of the same name.
    pub(super) fn owner(&self, container: &ContainerInfo) -> Option<ServiceName> {
        if let Some(label) = container.labels.get(labels::SERVICE)
            && let Some((name, service)) = self.services.get_key_value(label.as_str())
            && service.owns(container)
        {
            return Some(name.clone());
        }
        let mut services = self.services.iter();
        services.find(|(_, service)| service.owns(container)).map(|(name, _)| name.clone())
    }

    /// The service that a container was last assigned to.
    fn owner_of_known(&self, index: EngineIndex, id: &ContainerId) -> Option<ServiceName> {
        let known =
            |service: &&super::service::ServiceState| service.containers.get(id) == Some(&index);
        if let Some(owner) = self.engines[index.0].container(id).and_then(|c| self.owner(c))
            && self.services.get(&owner).as_ref().is_some_and(known)
        {
            return Some(owner);
        }
        self.services.iter().find(|(_, service)| known(service)).map(|(name, _)| name.clone())
    }

    /// Containers of other hands that hold a GPU, by name.
    pub(super) fn foreign_gpu_containers(&self) -> Vec<String> {
        let containers = self.engines.iter().flat_map(Engine::containers);
        let foreign = containers.filter(|container| {
            container.uses_gpu && container.state.holds() && self.owner(container).is_none()
        });
        foreign.map(|container| container.name.clone()).collect()
    }

    /// Why an engine cannot be used now.
    pub(super) fn unavailable(&self, index: EngineIndex) -> Error {
        let engine = &self.engines[index.0];
        let reason = engine.reason.clone();
        Error::EngineUnavailable {
            engine: engine.info.name.clone(),
            reason: reason.unwrap_or_else(|| "it has not answered yet".to_owned()),
        }
    }
}

fn was_not(is: Option<&ServiceName>, was: &ServiceName) -> bool {
    is != Some(was)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ContainerState;

    fn engine() -> Engine {
        Engine::new(BackendInfo::new("memory", ""))
    }

    fn container(id: &str, state: ContainerState) -> ContainerInfo {
        let mut container = ContainerInfo::new(ContainerId::new(id), id, "image");
        container.state = state;
        container
    }

    fn know(engine: &mut Engine, as_of: u64, container: ContainerInfo) {
        engine.containers.insert(container.id.clone(), Seen { container, as_of });
    }

    #[test]
    fn a_list_is_the_truth_about_what_is_older() {
        let mut engine = engine();
        know(&mut engine, 1, container("a", ContainerState::Running));
        know(&mut engine, 1, container("b", ContainerState::Running));
        let changed = engine.merge(2, vec![container("a", ContainerState::Exited)]);
        assert_eq!(changed.len(), 2);
        assert_eq!(engine.containers.len(), 1);
    }

    #[test]
    fn b12_a_late_list_does_not_undo_what_was_learnt_since() {
        let mut engine = engine();
        know(&mut engine, 5, container("a", ContainerState::Running));
        know(&mut engine, 5, container("new", ContainerState::Created));
        engine.gone.insert(ContainerId::new("removed"), 5);
        let late = vec![
            container("a", ContainerState::Created),
            container("removed", ContainerState::Exited),
        ];
        assert!(engine.merge(3, late).is_empty());
        assert_eq!(engine.containers.len(), 2);
        assert_eq!(
            engine.container(&ContainerId::new("a")).unwrap().state,
            ContainerState::Running
        );
    }
}
