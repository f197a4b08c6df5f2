//! What must hold: after every step, and once all has come to rest.

use std::collections::BTreeSet;

use super::engine::Starter;
use super::{Simulation, Verdict, services};
use crate::backend::{ContainerInfo, ContainerState};
use crate::lifecycle::service::{Desired, Down, ServiceState, Waiter, Work};
use crate::lifecycle::{Answer, CallId, EngineIndex, Input, Outcome, RequestId};
use crate::nanny::Started;
use crate::project::{Step, Subject, labels};

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Simulation {
    pub(super) fn check_call(&self, id: CallId, engine: EngineIndex, step: &Step) -> Verdict {
        let Some(call) = self.world.calls.get(&id) else {
            return Err(format!("{id:?} is not in the books"));
        };
        ensure(self.world.services.contains_key(&call.service), || {
            format!("{step} for a service that is gone")
        })?;
        let subject = step.subject();
        let name = &call.service;
        let busy = self.calls.iter().any(|(other, (on, step))| {
            let shared = matches!(subject, Subject::Part(_) | Subject::Image(_));
            let ours = self.world.calls.get(other).is_some_and(|other| other.service == *name);
            *on == engine && step.subject() == subject && (ours || !shared)
        });
        ensure(!busy, || format!("{step} while another call on {subject:?} is under way"))?;
        if let Subject::Container(container) = &subject
            && let Some(held) = self.engines[engine.0].containers.get(container)
        {
            let mine = held.info.labels.get(services::PROJECT).map(String::as_str);
            let labelled = held.info.labels.get(labels::SERVICE).map(String::as_str);
            ensure([mine, labelled].contains(&Some(name.as_str())), || {
                format!("{step} for '{name}' touches what is not its own")
            })?;
        }
        Ok(())
    }

    pub(super) fn check_answer(&mut self, request: RequestId, answer: &Answer) -> Verdict {
        let Some(asked) = self.pending.remove(&request) else {
            return Err(format!("{request:?} is answered twice, or was never asked: {answer:?}"));
        };
        if let Answer::Started(Ok(Started { pending: false, .. })) = answer {
            let name = asked.split('"').nth(1).unwrap_or_default();
            let name = self.world.services.get_key_value(name).map(|(name, _)| name);
            let complete = name.is_some_and(|name| {
                self.world.is_complete(name) || self.world.containers(name).iter().all(ended_well)
            });
            ensure(complete, || format!("'{asked}' was told it runs, and it does not"))?;
        }
        Ok(())
    }

    /// After every step.
    pub(super) fn check(&self) -> Verdict {
        self.check_engines()?;
        self.check_callers()?;
        let world = &self.world;
        world.audit()?;
        for (id, call) in &world.calls {
            let booked = world.services.get(&call.service).and_then(|s| s.calls.get(&call.subject));
            ensure(booked == Some(id), || format!("{id:?} of '{}' is lost", call.service))?;
            ensure(self.calls.contains_key(id), || format!("{id:?} will never end"))?;
        }
        for (name, _) in world.ledger.iter() {
            let service = world.services.get(name);
            ensure(service.is_some(), || format!("'{name}' has a claim and is no service"))?;
        }
        for (id, rollback) in &world.rollbacks {
            for name in &rollback.pending {
                let part_of = world.services.get(name).map(|service| match &service.work {
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
        for (name, service) in &world.services {
            let claims = world.ledger.get(name).is_some();
            let waits = matches!(&service.work, Work::Up(up) if !up.after.is_empty());
            ensure(claims || !waits, || format!("'{name}' waits for the GPU without a claim"))?;
            // What comes down may have been started before its files said that it needs a GPU.
            let wants = match service.work {
                Work::None => world.holds(name),
                Work::Up(_) => {
                    let engine = world.engine_of(service);
                    engine.is_some_and(|engine| world.engines[engine.0].is_up())
                }
                Work::Down(_) => false,
            };
            ensure(claims || !wants || !service.needs_gpu(), || {
                format!("'{name}' runs, or is started, without a claim")
            })?;
        }
        Ok(())
    }

    /// Nobody who waits is forgotten.
    fn check_callers(&self) -> Verdict {
        let world = &self.world;
        let mut waiting: Vec<RequestId> = Vec::new();
        waiting.extend(&world.discovery.waiters);
        waiting.extend(&world.discovery.next_waiters);
        for rollback in world.rollbacks.values() {
            waiting.extend(rollback.failed.waiters.iter().map(|waiter| waiter.request));
        }
        for service in world.services.values() {
            waiting.extend(service.ready_waiters.iter().map(|ready| ready.waiter.request));
            waiting.extend(waiting_for(service));
        }
        waiting.sort();
        let pending: Vec<_> = self.pending.keys().copied().collect();
        ensure(waiting == pending, || {
            format!("{pending:?} wait for an answer, and {waiting:?} are remembered")
        })
    }

    /// Never two GPU services that we started, by the engines' own word.
    pub(super) fn check_engines(&self) -> Verdict {
        let ours = self.gpu_services(&[Starter::UsOnGpu]);
        ensure(ours.len() <= 1, || format!("{ours:?} run at once"))
    }

    fn gpu_services(&self, started_by: &[Starter]) -> BTreeSet<&str> {
        let held = self.engines.iter().flat_map(|engine| engine.containers.values());
        held.filter(|held| held.info.state.holds() && started_by.contains(&held.starter))
            .filter_map(|held| held.info.labels.get(services::PROJECT).map(String::as_str))
            .collect()
    }

    /// Long after the last fault.
    pub(super) fn check_rest(&self) -> Verdict {
        let world = &self.world;
        let pending = &self.pending;
        ensure(pending.is_empty(), || format!("never answered: {pending:?}"))?;
        ensure(world.calls.is_empty(), || format!("calls under way: {:?}", world.calls))?;
        ensure(world.rollbacks.is_empty(), || "a rollback is not resolved".to_owned())?;
        for (index, engine) in self.engines.iter().enumerate() {
            let seen: Vec<_> = world.engines[index].containers.iter().cloned().collect();
            let is = engine.list();
            ensure(seen == is, || format!("{} is seen as {}", states(&is), states(&seen)))?;
        }
        let two = self.gpu_services(&[Starter::UsOnGpu, Starter::UsTooLate]);
        ensure(two.len() <= 1, || format!("{two:?} go on running side by side"))?;
        for (name, service) in &world.services {
            ensure(matches!(service.work, Work::None), || {
                format!("'{name}' is stuck: {:?}", service.work)
            })?;
            let holds = world.holds(name);
            let claim = world.ledger.get(name).is_some();
            ensure(if claim { holds } else { !holds || !service.needs_gpu() }, || {
                format!("'{name}' has a claim: {claim}, and holds: {holds}")
            })?;
            ensure(!service.gone || holds, || format!("'{name}' is gone and still remembered"))?;
            ensure(service.gone || self.catalogue.contains_key(name.as_str()), || {
                format!("'{name}' is still offered")
            })?;
            let explained = service.failure.is_some() || service.desired != Desired::Running;
            let ended_well = world.containers(name).iter().all(ended_well);
            ensure(explained || holds || ended_well, || {
                format!("'{name}' should run, does not, and nobody knows why")
            })?;
        }
        Ok(())
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

/// An input on one line.
pub(super) fn shown(input: &Input) -> String {
    match input {
        Input::Listed { engine, result: Ok(list), .. } => {
            format!("{} lists {}", engine.0, states(list))
        }
        Input::Discovered(discovery) => {
            let names: Vec<_> =
                discovery.services.iter().map(|service| service.manifest.name.as_str()).collect();
            format!("discovered {names:?}")
        }
        Input::Done(id, Outcome::Container(container)) => {
            format!("{id:?} {}", states(std::slice::from_ref(container)))
        }
        other => format!("{other:?}"),
    }
}

fn states(containers: &[ContainerInfo]) -> String {
    let one = |c: &ContainerInfo| format!("{}={} {:?}", c.id.as_str(), c.name, c.state);
    containers.iter().map(one).collect::<Vec<_>>().join(", ")
}
