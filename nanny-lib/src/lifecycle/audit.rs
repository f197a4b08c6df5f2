//! The world's own books, checked against each other: for simulations and tests.

use super::service::{Desired, Down, ServiceState, Waiter, Work};
use super::{EngineIndex, RequestId, World};
use crate::backend::{ContainerInfo, ContainerState};

/// What is wrong, if anything is.
type Verdict = Result<(), String>;

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken()) }
}

impl World {
    /// What must hold after every step: calls, claims and rollbacks are in the books of exactly the
    /// services they are about, and no service has a GPU without a claim.
    ///
    /// # Errors
    ///
    /// The first thing found wrong.
    pub fn audit(&self) -> Verdict {
        for (id, call) in &self.calls {
            let booked = self.services.get(&call.service).and_then(|s| s.calls.get(&call.subject));
            ensure(booked == Some(id), || format!("{id:?} of '{}' is lost", call.service))?;
        }
        for (name, service) in &self.services {
            for id in service.calls.values() {
                let known = self.calls.get(id).is_some_and(|call| call.service == *name);
                ensure(known, || format!("'{name}' waits for {id:?}, which nobody knows"))?;
            }
        }
        for (name, _) in self.ledger.iter() {
            let known = self.services.contains_key(name);
            ensure(known, || format!("'{name}' has a claim and is no service"))?;
        }
        self.audit_rollbacks()?;
        for (name, service) in &self.services {
            // What comes down may have been started before its files said that it needs a GPU.
            let wants = match &service.work {
                Work::None => self.holds(name),
                Work::Up(up) => {
                    up.queued.is_none()
                        && self
                            .engine_of(service)
                            .is_some_and(|engine| self.engines[engine.0].is_up())
                }
                Work::Down(_) => false,
            };
            let claims = self.ledger.get(name).is_some();
            ensure(claims || !wants || !service.needs_gpu(), || {
                format!("'{name}' runs, or is started, without a claim")
            })?;
            let counted = service.counters.has_claim();
            ensure(claims == counted, || {
                format!(
                    "'{name}' has a claim: {claims}, and its time with one is counted: {counted}"
                )
            })?;
            let waits = matches!(&service.work, Work::Up(up) if !up.after.is_empty());
            ensure(claims || !waits, || format!("'{name}' waits for the GPU without a claim"))?;
        }
        Ok(())
    }

    /// What must hold after every step, too, and costs more: containers and services agree on whose
    /// is whose, and a fresh look finds the same.
    ///
    /// # Errors
    ///
    /// The first thing found wrong.
    pub fn audit_owners(&self) -> Verdict {
        for (index, engine) in self.engines.iter().enumerate() {
            for container in engine.containers.iter() {
                let owner = engine.containers.owner(&container.id);
                let is = self.owners.find(&self.services, container);
                let name = &container.name;
                ensure(owner == is.as_ref(), || format!("'{name}' is {is:?}'s, not {owner:?}'s"))?;
                let service = owner.and_then(|owner| self.services.get(owner));
                let booked = service.is_none_or(|service| {
                    service.containers.get(&container.id) == Some(&EngineIndex(index))
                });
                ensure(booked, || format!("{owner:?} does not know of its container '{name}'"))?;
            }
        }
        for (name, service) in &self.services {
            for (id, engine) in &service.containers {
                let owner = self.engines[engine.0].containers.owner(id);
                ensure(owner == Some(name), || format!("'{name}' has {id:?} of {owner:?}"))?;
            }
        }
        Ok(())
    }

    fn audit_rollbacks(&self) -> Verdict {
        for (id, rollback) in &self.rollbacks {
            for name in &rollback.pending {
                let part_of = self.services.get(name).map(|service| match &service.work {
                    Work::None => [None, None],
                    Work::Up(up) => [up.part_of, None],
                    Work::Down(Down { then, failed, .. }) => [
                        then.as_ref().and_then(|up| up.part_of),
                        failed.as_ref().and_then(|failed| failed.part_of),
                    ],
                });
                let resolves = part_of.is_some_and(|ids| ids.contains(&Some(*id)));
                ensure(resolves, || format!("a rollback waits for '{name}' in vain"))?;
            }
        }
        Ok(())
    }

    /// What must hold once nothing has happened for long enough: nothing is under way, claims are
    /// those of services that run, and what should run does or has a reason.
    ///
    /// # Errors
    ///
    /// The first thing found wrong.
    pub fn audit_at_rest(&self) -> Verdict {
        self.audit()?;
        self.audit_owners()?;
        ensure(self.calls.is_empty(), || format!("calls under way: {:?}", self.calls))?;
        ensure(self.rollbacks.is_empty(), || "a rollback is not resolved".to_owned())?;
        for (name, service) in &self.services {
            ensure(matches!(service.work, Work::None), || {
                format!("'{name}' is stuck: {:?}", service.work)
            })?;
            let holds = self.holds(name);
            let claim = self.ledger.get(name).is_some();
            ensure(if claim { holds } else { !holds || !service.needs_gpu() }, || {
                format!("'{name}' has a claim: {claim}, and holds: {holds}")
            })?;
            ensure(!service.gone || holds, || format!("'{name}' is gone and still remembered"))?;
            let explained = service.failure.is_some() || service.desired != Desired::Running;
            let ended_well = self.containers(name).iter().all(ended_well);
            ensure(explained || holds || ended_well, || {
                format!("'{name}' should run, does not, and nobody knows why")
            })?;
        }
        Ok(())
    }

    /// Callers who have not been answered, in order.
    #[must_use]
    pub fn waiting(&self) -> Vec<RequestId> {
        let mut waiting: Vec<RequestId> = Vec::new();
        waiting.extend(&self.discovery.waiters);
        waiting.extend(&self.discovery.next_waiters);
        for rollback in self.rollbacks.values() {
            waiting.extend(rollback.failed.waiters.iter().map(|waiter| waiter.request));
        }
        for service in self.services.values() {
            waiting.extend(service.ready_waiters.iter().map(|ready| ready.waiter.request));
            waiting.extend(waiting_for(service));
        }
        waiting.sort();
        waiting
    }
}

fn ended_well(container: &&ContainerInfo) -> bool {
    let code = container.exit.as_ref().and_then(|exit| exit.code);
    container.state != ContainerState::Exited || code == Some(0)
}

fn waiting_for(service: &ServiceState) -> Vec<RequestId> {
    let mut starts: Vec<&Waiter> = Vec::new();
    let mut stops: Vec<&RequestId> = Vec::new();
    match &service.work {
        Work::None => {}
        Work::Up(up) => starts.extend(&up.waiters),
        Work::Down(down) => {
            stops.extend(&down.waiters);
            starts.extend(down.then.iter().flat_map(|up| &up.waiters));
            starts.extend(down.failed.iter().flat_map(|failed| &failed.waiters));
        }
    }
    stops.into_iter().copied().chain(starts.into_iter().map(|waiter| waiter.request)).collect()
}
