//! What the engines say: lists, events, and whether they answer at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::containers::{Containers, Handover};
use super::owners::Owners;
use super::restart::delay;
use super::world::{Out, Timer, World};
use super::{Effect, EngineIndex, Now};
use crate::backend::{
    BackendError, BackendInfo, Capabilities, ContainerInfo, ErrorKind, Event, EventKind,
};
use crate::error::Error;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::{Change, EngineState};
use crate::project::{Project, Subject};

/// After an engine did not answer, ask again so soon; then slower, up to the relist period.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// So many lists in a row may go unanswered before those who wait are told, while the engine has
/// something of ours in hand: some list nothing until the container that they start is started.
pub(super) const PATIENCE: u32 = 4;

/// One engine, as last seen.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) info: BackendInfo,
    able: Capabilities,
    pub(super) state: EngineState,
    /// Why it does not answer.
    pub(super) reason: Option<String>,
    /// Since when it does not, for people.
    pub(super) down_since: Option<jiff::Timestamp>,
    pub(super) containers: Containers,
    /// Containers known to be gone, and since which number: an older list does not bring them back.
    gone: BTreeMap<ContainerId, u64>,
    /// Services of which a call ended in the unknown: until a list that was asked for under this
    /// number or a later one has arrived, nobody knows what runs.
    awaited_by: BTreeMap<ServiceName, u64>,
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

impl Engine {
    pub(super) fn new(info: BackendInfo, able: Capabilities) -> Self {
        Self {
            info,
            able,
            state: EngineState::Absent,
            reason: None,
            down_since: None,
            containers: Containers::default(),
            gone: BTreeMap::new(),
            awaited_by: BTreeMap::new(),
            returned: None,
            listing: None,
            dirty: false,
            next_list: Duration::ZERO,
            failures: 0,
        }
    }

    /// Whether a project is of the kind that it runs.
    pub(super) fn can_run(&self, project: &Project) -> bool {
        let mut parts = project.parts.values().filter(|part| part.is_wanted);
        parts.all(|part| part.needs_image() == self.able.images)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == EngineState::Up
    }

    /// Whether it has answered, or failed to.
    pub(super) fn was_heard(&self) -> bool {
        self.state != EngineState::Absent || self.failures > 0
    }

    /// A list that is asked for from now on is news for `service`.
    pub(super) fn await_list(&mut self, service: &ServiceName, from: u64) {
        self.awaited_by.insert(service.clone(), from);
    }

    pub(super) fn is_awaited_by(&self, service: &ServiceName) -> bool {
        self.awaited_by.contains_key(service)
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
            && let Some(owner) = self.engines[index.0].containers.owner(id)
            && let Some(service) = self.services.get_mut(owner)
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
        engine.gone.retain(|_, since| *since > issued);
        let (gone, services) = (&engine.gone, &self.services);
        let owner = |container: &ContainerInfo| self.owners.find(services, container);
        let changed = engine.containers.merge(issued, listed, |id| gone.contains_key(id), owner);
        // Whoever waited for a list may go on.
        let waited = engine.awaited_by.extract_if(.., |_, from| *from <= issued);
        let mut affected: BTreeSet<_> = waited.map(|(name, _)| name).collect();
        for handover in changed {
            self.hand_over(index, &handover);
            affected.extend(handover.was.into_iter().chain(handover.is));
        }
        if before != EngineState::Up {
            let name = self.engines[index.0].info.name.clone();
            out.push(Effect::Announce(Change::EngineUp { engine: name }));
            affected.extend(self.services.keys().cloned());
        }
        let outage = before == EngineState::Down;
        if outage {
            self.engines[index.0].returned = Some(now.mono);
        }
        for name in affected {
            self.observe_exits(&name, outage, now, out);
            self.advance(&name, now, out);
            self.probe_due(&name, now, out);
        }
        if before != EngineState::Up {
            self.unresolved = true;
        }
    }

    /// The engine did not answer: what it runs is unknown, and all claims stay. Nothing is asked of
    /// it until it does; what it has in hand goes on.
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
        let is_at_work = error.kind() == ErrorKind::Timeout
            && engine.failures <= PATIENCE
            && self.is_at_work(index);
        let engine = &mut self.engines[index.0];
        let news = engine.state == EngineState::Up;
        if news {
            engine.state = EngineState::Down;
            engine.down_since = Some(now.wall);
            let (name, reason) = (engine.info.name.clone(), error.message().to_owned());
            out.push(Effect::Announce(Change::EngineDown { engine: name, reason }));
        } else if engine.state == EngineState::Absent {
            return;
        }
        let affected: Vec<_> = self
            .services
            .iter()
            .filter(|(_, service)| self.engine_of(service) == Some(index))
            .map(|(name, _)| name.clone())
            .collect();
        for name in affected {
            if news {
                self.touch(&name);
                // One that only takes its time has not ended, and has stopped nobody.
                if error.kind() != ErrorKind::Timeout {
                    self.blame_engine(&name, now);
                }
            }
            if !is_at_work {
                let error = self.unavailable(index);
                self.fail_waiters(&name, &error, out);
            }
        }
    }

    /// Whether the engine has a container, a network or a volume of ours in hand.
    fn is_at_work(&self, index: EngineIndex) -> bool {
        let mut calls = self.calls.values().filter(|call| call.engine == index);
        calls.any(|call| !matches!(call.subject, Subject::Image(_)))
    }

    /// Takes in what was learnt of one container, as of now.
    pub(super) fn observe(&mut self, index: EngineIndex, container: ContainerInfo) {
        let as_of = self.next_sequence();
        let owner = self.owners.find(&self.services, &container);
        let handover = self.engines[index.0].containers.put(container, owner, as_of);
        self.hand_over(index, &handover);
        for name in handover.was.iter().chain(&handover.is) {
            self.touch(name);
        }
    }

    /// Takes in that a container is gone, as of now.
    pub(super) fn forget(&mut self, index: EngineIndex, id: &ContainerId) {
        let since = self.next_sequence();
        let engine = &mut self.engines[index.0];
        engine.gone.insert(id.clone(), since);
        if let Some(handover) = engine.containers.remove(id) {
            if let Some(was) = &handover.was {
                self.touch(was);
            }
            self.hand_over(index, &handover);
        }
    }

    /// Tells the services whose a container was and is.
    fn hand_over(&mut self, index: EngineIndex, handover: &Handover) {
        let Handover { id, was, is, left_gpu } = handover;
        if let Some(was) = was
            && let Some(service) = self.services.get_mut(was)
        {
            if *left_gpu {
                service.left_gpu = Some(self.now.mono);
            }
            if is.as_ref() != Some(was) {
                service.forget(id);
                self.settle_engine(was);
            }
        }
        if let Some(is) = is
            && let Some(service) = self.services.get_mut(is)
        {
            service.containers.insert(id.clone(), index);
            self.settle_engine(is);
        }
    }

    /// Finds out anew whose the container is: a service came, changed or went.
    pub(super) fn reassign(&mut self, index: EngineIndex, id: &ContainerId) {
        let owner = |container: &ContainerInfo| self.owners.find(&self.services, container);
        if let Some(handover) = self.engines[index.0].containers.reassign(id, owner) {
            self.hand_over(index, &handover);
        }
    }

    /// Finds out anew whose every container is: services came or went.
    pub(super) fn reassign_all(&mut self) {
        self.owners = Owners::of(&self.services);
        for index in 0..self.engines.len() {
            let ids: Vec<_> = self.engines[index].containers.iter().map(|c| c.id.clone()).collect();
            for id in ids {
                self.reassign(EngineIndex(index), &id);
            }
        }
    }

    /// Containers of other hands that hold a GPU, by name.
    pub(super) fn foreign_gpu_containers(&self) -> Vec<String> {
        let foreign = self.engines.iter().flat_map(|engine| engine.containers.foreign_gpu());
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
