//! Bringing a service up, and what follows if that fails.

use std::time::Duration;

use super::gpus::Lack;
use super::service::{
    Desired, Down, FailedStart, ReadyWaiter, Rollback, RollbackId, ServiceState, Work,
};
use super::world::{Call, Out, Timer, World};
use super::{Answer, CallId, Effect, EngineIndex, Now};
use crate::backend::{BackendError, ContainerState};
use crate::gpu::ClaimPhase;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::{Change, StartOptions, Started, Wait};
use crate::project::{Goal, Plan, Step, Subject, has_completed, plan};

/// How long after a start for which others made way to look whether it runs: if it ended at once,
/// they are to have the GPU back. Of 120 programs that did, an engine under heavy load still called
/// nine running, for 11 ms at most; from then on it answers only once it knows of the exit.
const SETTLE: Duration = Duration::from_millis(15);

impl World {
    pub(super) fn advance_up(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        if self.is_queued(name) {
            return;
        }
        let Some(service) = self.services.get(name) else { return };
        let Some(engine) = self.engine_of(service).filter(|e| self.engines[e.0].is_up()) else {
            return;
        };
        // One that came to need a GPU while it was being started needs leave as any other.
        if service.needs_gpu()
            && self.ledger.get(name).is_none()
            && let Err(error) = self.readmit(name)
        {
            self.fail_up(name, error.to_string(), None, now, out);
            return;
        }
        let Work::Up(up) = &self.services[name].work else { return };
        if up.after.iter().any(|victim| self.ledger.get(victim).is_some()) {
            self.wait_for_victims(name, now, out);
            return;
        }
        if up.images_ready && now.mono >= up.deadline {
            let reason = format!("it was not up within {:?}", self.settings.start_limit);
            self.fail_up(name, reason, None, now, out);
            return;
        }
        if !self.may_go_on(name, now) {
            return;
        }
        self.move_claim(name);
        let containers = self.containers_in_play(name);
        let Work::Up(up) = &self.services[name].work else { return };
        if let Some(reason) = self.name_taken(name, engine) {
            if up.patience.failures == 0 {
                // It may be free again: the news of that is perhaps on its way.
                self.try_again_after_list(name, engine, now, out);
            } else {
                self.fail_up(name, reason, None, now, out);
            }
            return;
        }
        match plan(self.services[name].project(), &containers, Goal::Up, &up.progress) {
            Plan::Next(mut steps) => {
                let needs_memory = steps.iter().any(|step| matches!(step, Step::Start { .. }));
                if needs_memory && !self.may_use_gpu(name, now, out) {
                    steps.retain(|step| !matches!(step, Step::Start { .. }));
                }
                // It may have failed for want of memory.
                let Work::Up(up) = &self.services[name].work else { return };
                if up.has_gpu || self.holds(name) {
                    self.ledger.advance(name, ClaimPhase::Starting);
                }
                if !up.restore.is_empty() {
                    for step in &mut steps {
                        if let Step::Start { settle, .. } = step {
                            *settle = SETTLE;
                        }
                    }
                }
                self.issue(name, engine, steps, out);
            }
            // A call of what went before may still end something.
            Plan::Done if !self.services[name].calls.is_empty() => {}
            Plan::Done => self.finish_up(name, now, out),
            Plan::Stuck { reason } => {
                if !self.restart_ended(name, now, out) {
                    self.fail_up(name, reason, None, now, out);
                }
            }
        }
        self.check_images(name, now);
    }

    /// Whoever must make way is being brought down. Who rests with a claim was started again, or
    /// could not be stopped, and will not make way.
    fn wait_for_victims(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let ledger = &self.ledger;
        let Some(Work::Up(up)) = self.services.get_mut(name).map(|s| &mut s.work) else { return };
        up.after.retain(|victim| ledger.get(victim).is_some());
        let after = up.after.clone();
        let stays = |victim: &&ServiceName| {
            let work = self.services.get(*victim).map(|service| &service.work);
            !matches!(work, Some(Work::Down(_)))
        };
        if let Some(victim) = after.iter().find(stays) {
            let reason = format!("'{victim}' holds the GPU and did not make way");
            self.fail_up(name, reason, None, now, out);
        }
    }

    /// Sends those steps on their way whose subject has no call under way.
    pub(super) fn issue(
        &mut self,
        name: &ServiceName,
        engine: EngineIndex,
        steps: Vec<Step>,
        out: &mut Out,
    ) {
        for step in steps {
            let subject = step.subject();
            if self.is_busy(name, &subject) {
                continue;
            }
            let id = CallId(self.next_sequence());
            let Some(service) = self.services.get_mut(name) else { return };
            let engine = match &subject {
                Subject::Container(id) => service.containers.get(id).copied().unwrap_or(engine),
                Subject::Part(_) | Subject::Network(_) | Subject::Volume(_) | Subject::Image(_) => {
                    engine
                }
            };
            service.calls.insert(subject.clone(), id);
            // What was prepared on one engine is of no use on another.
            service.engine.get_or_insert(engine);
            let call = Call { service: name.clone(), engine, subject, step: step.clone() };
            self.calls.insert(id, call);
            out.push(Effect::Call { id, engine, step });
        }
    }

    /// Whether a call on the subject is under way. One that makes a container goes on until it has
    /// looked at it, and a list may have shown the container before.
    fn is_busy(&self, name: &ServiceName, subject: &Subject) -> bool {
        let service = &self.services[name];
        let made_now = |id: &ContainerId| {
            let container = self.containers(name).into_iter().find(|c| c.id == *id);
            container.is_some_and(|container| {
                let part = service.wanted.project.part_of(container).unwrap_or_default();
                let call = service.calls.get(&Subject::Part(part.to_owned()));
                let step = call.and_then(|call| self.calls.get(call)).map(|call| &call.step);
                // An older one of the same part is not what is being made.
                matches!(step, Some(Step::Create { spec, .. }) if spec.name == container.name)
            })
        };
        service.calls.contains_key(subject)
            || matches!(subject, Subject::Container(id) if made_now(id))
    }

    /// Whether a service's patience with its engine allows another try now.
    pub(super) fn may_go_on(&mut self, name: &ServiceName, now: Now) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        let Some(patience) = service.patience() else { return true };
        if now.mono < patience.not_before {
            self.schedule(patience.not_before, Timer::Service(name.clone()));
            return false;
        }
        !self.awaits_list(name)
    }

    /// Whether a name the project needs is another container's.
    fn name_taken(&self, name: &ServiceName, engine: EngineIndex) -> Option<String> {
        let service = &self.services[name];
        let parts = service.wanted.project.parts.values().filter(|part| part.is_wanted);
        let containers = &self.engines[engine.0].containers;
        let mut namesakes = parts.flat_map(|part| containers.named(&part.spec.name));
        let stranger = namesakes.find(|container| {
            container.state != ContainerState::Removing
                && !service.containers.contains_key(&container.id)
        })?;
        Some(format!(
            "the container name '{}' is taken by a container that does not belong to it; \
             remove or rename that one",
            stranger.name
        ))
    }

    /// Once all images are there, the limit on the start begins to count.
    fn check_images(&mut self, name: &ServiceName, now: Now) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(up) = &mut service.work else { return };
        let pulling = service.calls.keys().any(|subject| matches!(subject, Subject::Image(_)));
        if up.images_ready || pulling {
            return;
        }
        up.images_ready = true;
        service.preparing = None;
        let deadline = now.mono + self.settings.start_limit;
        up.deadline = deadline;
        self.schedule(deadline, Timer::Service(name.clone()));
    }

    /// Every part runs, or has completed.
    fn finish_up(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(up) = std::mem::replace(&mut service.work, Work::None) else { return };
        self.ledger.advance(name, ClaimPhase::Running);
        if let Some(service) = self.services.get_mut(name) {
            service.used_at = now.mono;
            service.gpu_since.get_or_insert(now.mono);
            service.counters.starts += 1;
        }
        out.push(Effect::Announce(Change::Started {
            service: name.clone(),
            stopped: up.stopped.clone(),
        }));
        for waiter in up.waiters {
            let stopped = up.stopped.clone();
            if waiter.wait == Wait::Healthy {
                if let Some(service) = self.services.get_mut(name) {
                    let ready = ReadyWaiter { waiter, already_running: false, stopped };
                    service.ready_waiters.push(ready);
                }
                continue;
            }
            let started =
                Started { already_running: false, pending: false, queued: false, stopped };
            out.push(Effect::Reply(waiter.request, Answer::Started(Ok(started))));
        }
        self.resolve_rollback(up.part_of, name, true, out);
        self.rest(name, now, out);
        self.probe_due(name, now, out);
    }

    /// It cannot be started: what was started of it is stopped, and its callers are answered when
    /// those who made way for it run again.
    pub(super) fn fail_up(
        &mut self,
        name: &ServiceName,
        reason: String,
        source: Option<BackendError>,
        now: Now,
        out: &mut Out,
    ) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(mut up) = std::mem::replace(&mut service.work, Work::None) else { return };
        service.desired = Desired::Stopped;
        service.failure = Some(reason.clone());
        service.counters.failures += 1;
        service.preparing = None;
        out.push(Effect::Announce(Change::Failed {
            service: name.clone(),
            reason: reason.clone(),
        }));
        for waiter in &mut up.waiters {
            let deadline = waiter.deadline.unwrap_or(now.mono.saturating_add(waiter.timeout));
            waiter.deadline = Some(deadline);
            self.schedule(deadline, Timer::Service(name.clone()));
        }
        let mut down = Down::new(Goal::Down, true);
        down.progress.keep = up.was_up;
        down.failed = Some(FailedStart {
            reason,
            source,
            for_memory: up.lacks_memory,
            waiters: up.waiters,
            restore: if up.rollback { up.restore } else { Vec::new() },
            part_of: up.part_of,
        });
        self.set_work(name, Work::Down(down));
        self.advance(name, now, out);
    }

    /// The memory that it was promised did not become free.
    pub(super) fn fail_up_for_memory(
        &mut self,
        name: &ServiceName,
        lack: &Lack,
        now: Now,
        out: &mut Out,
    ) {
        let Some(service) = self.services.get_mut(name) else { return };
        if let Work::Up(up) = &mut service.work {
            up.lacks_memory = true;
        }
        self.fail_up(name, lack.reason(), None, now, out);
    }

    /// What was started of a failed start is down: those who made way for it get the GPU back in
    /// this very step, and start again.
    pub(super) fn roll_back(
        &mut self,
        newcomer: &ServiceName,
        mut failed: FailedStart,
        now: Now,
        out: &mut Out,
    ) {
        let owed = std::mem::take(&mut failed.restore);
        let id = RollbackId(self.next_sequence());
        let mut starting = Vec::new();
        for name in owed {
            // Whoever was started or deleted meanwhile, or has no engine, is not started by us.
            let resting = self.services.get(&name).is_some_and(|s| matches!(s.work, Work::None));
            let engine = self.services.get(&name).and_then(|service| self.engine_of(service));
            let up = engine.is_some_and(|engine| self.engines[engine.0].is_up());
            // What was kept of the one that failed, or others, may hold the GPU now.
            if resting && up && !self.holds(&name) && self.readmit(&name).is_ok() {
                starting.push(name);
            }
        }
        let rollback = Rollback {
            newcomer: newcomer.clone(),
            failed,
            pending: starting.iter().cloned().collect(),
            restored: Vec::new(),
        };
        if starting.is_empty() {
            Self::answer_failed(rollback, out);
            return;
        }
        self.rollbacks.insert(id, rollback);
        for name in &starting {
            self.take_in_hand(name, Desired::Running);
            let mut up = self.new_up(name, StartOptions::default(), now);
            up.part_of = Some(id);
            // The very containers that were stopped: this is no time for news in their files.
            let containers = self.containers_in_play(name).into_iter();
            up.progress.as_is = containers.map(|container| container.id.clone()).collect();
            self.begin_up(name, up, None, now, out);
        }
    }

    /// One of a rollback's services was started, or will not be.
    pub(super) fn resolve_rollback(
        &mut self,
        id: Option<RollbackId>,
        name: &ServiceName,
        runs: bool,
        out: &mut Out,
    ) {
        let Some(id) = id else { return };
        let Some(rollback) = self.rollbacks.get_mut(&id) else { return };
        rollback.pending.remove(name);
        if runs {
            rollback.restored.push(name.clone());
        }
        if rollback.pending.is_empty()
            && let Some(rollback) = self.rollbacks.remove(&id)
        {
            Self::answer_failed(rollback, out);
        }
    }

    fn answer_failed(rollback: Rollback, out: &mut Out) {
        let Rollback { newcomer, failed, restored, .. } = rollback;
        failed.answer(&newcomer, &failed.waiters, &restored, out);
    }

    /// Whether all parts of a service run, or have completed.
    pub(super) fn is_complete(&self, name: &ServiceName) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        let project = &service.wanted.project;
        let containers = self.containers_in_play(name);
        let runs = |key: &String| {
            containers.iter().filter(|c| project.part_of(c) == Some(key)).any(|container| {
                matches!(container.state, ContainerState::Running | ContainerState::Paused)
                    || has_completed(project, key, container)
            })
        };
        let any_up = containers.iter().any(|container| container.state.holds());
        let mut wanted = project.parts.iter().filter(|(_, part)| part.is_wanted);
        any_up && wanted.all(|(key, _)| runs(key))
    }

    pub(super) fn is_healthy(&self, name: &ServiceName) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        let healthy = match &service.monitor.last {
            Some(last) => last.health.is_healthy(),
            // Nothing to ask: what runs is healthy.
            None => {
                let endpoint = &service.wanted.manifest.health_endpoint;
                endpoint.is_none() && self.engine_health(name).is_none()
            }
        };
        healthy && self.holds(name)
    }

    pub(super) fn set_work(&mut self, name: &ServiceName, work: Work) {
        if let Some(service) = self.services.get_mut(name) {
            service.work = work;
        }
    }
}

impl ServiceState {
    fn patience(&self) -> Option<&super::service::Patience> {
        match &self.work {
            Work::None => None,
            Work::Up(up) => Some(&up.patience),
            Work::Down(down) => Some(&down.patience),
        }
    }

    pub(super) fn patience_mut(&mut self) -> Option<&mut super::service::Patience> {
        match &mut self.work {
            Work::None => None,
            Work::Up(up) => Some(&mut up.patience),
            Work::Down(down) => Some(&mut down.patience),
        }
    }
}

/// How long to pause after the `failures`-th failure in a row.
pub(super) fn pause(failures: u32) -> Duration {
    super::restart::delay(Duration::from_millis(200), Duration::from_secs(5), failures)
}
