//! The end of an engine, and its return. What that does to containers is nobody's wish: neither the
//! stops before nor the starts after.

use std::time::Duration;

use super::service::{Desired, ServiceState, Work};
use super::world::{Out, World};
use super::{EngineIndex, Now};
use crate::backend::RestartPolicy;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::StartOptions;
use crate::project::Goal;

/// An engine that is told to end stops its containers first, and gives them so long. Until it is
/// gone, that looks like stops by hand.
const LAST_STOPS: Duration = Duration::from_secs(15);
/// So long after its return, an engine tells of stops that were its own, and brings back what it
/// thinks should run.
const AFTERMATH: Duration = Duration::from_secs(15);

impl World {
    /// An engine has gone away: what seemed to be stopped by hand just before was its doing.
    pub(super) fn blame_engine(&mut self, name: &ServiceName, now: Now) {
        let Some(service) = self.services.get_mut(name) else { return };
        let stops = std::mem::take(&mut service.stops_by_hand);
        let last = stops.into_iter().filter(|(_, stop)| stop.at + LAST_STOPS > now.mono);
        let mut was = None;
        for (id, stop) in last {
            was = Some(stop.was);
            service.stop_requested.remove(&id);
            // Its exit is answered when the engine is back.
            service.seen_up.insert(id);
        }
        let Some(was) = was.filter(|_| matches!(service.work, Work::None)) else { return };
        service.desired = was;
        let holds = was == Desired::Running && service.needs_gpu();
        if holds {
            // Unless somebody else has the GPU by now.
            let _ = self.readmit(name);
        }
    }

    /// An engine that comes back may bring back what we had stopped, where others told it to:
    /// beside the service that holds the GPU, it is stopped again.
    pub(super) fn undo_resurrection(
        &mut self,
        name: &ServiceName,
        now: Now,
        out: &mut Out,
    ) -> bool {
        if !self.is_resurrected(name, now) || self.admit(name, StartOptions::default()).is_ok() {
            return false;
        }
        self.adopt_claim(name, out);
        self.bring_down(name, Goal::Down, "another service holds the GPU", now, out);
        self.advance(name, now, out);
        true
    }

    fn is_resurrected(&self, name: &ServiceName, now: Now) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        if service.desired == Desired::Running || !service.needs_gpu() {
            return false;
        }
        self.containers(name).iter().any(|container| {
            let engine = service.containers.get(&container.id);
            container.state.holds()
                && service.put_down.contains(&container.id)
                && !matches!(container.restart, RestartPolicy::No | RestartPolicy::UnlessStopped)
                && engine.is_some_and(|engine| self.has_just_returned(*engine, now))
        })
    }

    pub(super) fn has_just_returned(&self, engine: EngineIndex, now: Now) -> bool {
        self.engines[engine.0].returned.is_some_and(|at| at + AFTERMATH > now.mono)
    }
}

impl ServiceState {
    /// A container is gone, and with it what was remembered of it.
    pub(super) fn forget(&mut self, id: &ContainerId) {
        self.containers.remove(id);
        self.stop_requested.remove(id);
        self.ended_with_engine.remove(id);
        self.stops_by_hand.remove(id);
        self.put_down.remove(id);
    }

    /// A container has ended while its engine was away, and the engine may tell yet that it was
    /// asked to stop it, which it did itself.
    pub(super) fn ended_with_engine(&mut self, id: &ContainerId, now: Now) {
        self.stop_requested.remove(id);
        self.ended_with_engine.insert(id.clone(), now.mono + AFTERMATH);
    }

    /// Somebody asked for the end of a container, unless that was its engine.
    pub(super) fn note_stop_request(&mut self, id: &ContainerId, now: Now) {
        self.ended_with_engine.retain(|_, until| *until > now.mono);
        if !self.ended_with_engine.contains_key(id) {
            self.stop_requested.insert(id.clone());
        }
    }
}
