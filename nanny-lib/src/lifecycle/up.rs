//! Bringing a service up, and what follows if that fails.

use std::collections::BTreeSet;
use std::time::Duration;

use super::service::{
    Desired, Down, FailedStart, ReadyWaiter, Rollback, RollbackId, ServiceState, Settling, Waiter,
    Work,
};
use super::world::{Call, Out, Timer, World};
use super::{Answer, CallId, Effect, EngineIndex, Now};
use crate::backend::{BackendError, ContainerState};
use crate::error::Error;
use crate::gpu::ClaimPhase;
use crate::name::ServiceName;
use crate::nanny::{Change, StartOptions, Started, Wait};
use crate::project::{Goal, Plan, Step, Subject, has_completed, plan};

/// How long a start for which others made way is watched before it counts: a program that ends at
/// once was seen to run for 10 ms.
const SETTLE: Duration = Duration::from_millis(40);

impl World {
    pub(super) fn advance_up(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get(name) else { return };
        let Work::Up(up) = &service.work else { return };
        let Some(engine) = self.engine_of(service).filter(|e| self.engines[e.0].is_up()) else {
            return;
        };
        if up.after.iter().any(|victim| self.ledger.get(victim).is_some()) {
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
        self.ledger.advance(name, ClaimPhase::Starting);
        let containers = self.containers(name);
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
        match plan(&self.services[name].wanted.project, &containers, Goal::Up, &up.progress) {
            Plan::Next(steps) => self.issue(name, engine, steps, now, out),
            Plan::Done if !up.restore.is_empty() && up.settling != Settling::Looked => {
                self.settle(name, engine, now, out);
            }
            Plan::Done => self.finish_up(name, now, out),
            Plan::Stuck { reason } => self.fail_up(name, reason, None, now, out),
        }
        self.check_images(name, now);
    }

    /// Looks once more in a moment: others made way for this start, and if it ends at once they are
    /// to have the GPU back.
    fn settle(&mut self, name: &ServiceName, engine: EngineIndex, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(up) = &mut service.work else { return };
        if up.settling == Settling::NotYet {
            up.settling = Settling::Pause;
            up.patience.not_before = now.mono + SETTLE;
            self.schedule(now.mono + SETTLE, Timer::Service(name.clone()));
        } else {
            up.settling = Settling::Looked;
            self.look_again(name, engine, now, out);
        }
    }

    /// Sends those steps on their way whose subject has no call under way.
    pub(super) fn issue(
        &mut self,
        name: &ServiceName,
        engine: EngineIndex,
        steps: Vec<Step>,
        now: Now,
        out: &mut Out,
    ) {
        for step in steps {
            let subject = step.subject();
            let id = CallId(self.next_sequence());
            let Some(service) = self.services.get_mut(name) else { return };
            if service.calls.contains_key(&subject) {
                continue;
            }
            service.calls.insert(subject.clone(), id);
            let call = Call { service: name.clone(), engine, subject, step: step.clone() };
            self.calls.insert(id, call);
            out.push(Effect::Call { id, engine, step });
        }
        if let Some(Work::Up(up)) = self.services.get(name).map(|service| &service.work) {
            let at = up.deadline.max(now.mono);
            self.schedule(at, Timer::Service(name.clone()));
        }
    }

    /// Whether a service's patience with its engine allows another try now.
    pub(super) fn may_go_on(&mut self, name: &ServiceName, now: Now) -> bool {
        let Some(patience) = self.services.get(name).and_then(ServiceState::patience) else {
            return true;
        };
        if now.mono < patience.not_before {
            self.schedule(patience.not_before, Timer::Service(name.clone()));
            return false;
        }
        patience.after_list == 0
    }

    /// Whether a name the project needs is another container's.
    fn name_taken(&self, name: &ServiceName, engine: EngineIndex) -> Option<String> {
        let service = &self.services[name];
        let parts = service.wanted.project.parts.values();
        let names: BTreeSet<_> = parts.map(|part| part.spec.name.as_str()).collect();
        let stranger = self.engines[engine.0].containers().find(|container| {
            names.contains(container.name.as_str())
                && container.state != ContainerState::Removing
                && !service.containers.contains(&container.id)
        })?;
        Some(format!(
            "the container name '{}' is taken by a container that does not belong to it; \
             remove or rename that one",
            stranger.name
        ))
    }

    /// Once all images are there, callers' patience begins to count.
    fn check_images(&mut self, name: &ServiceName, now: Now) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(up) = &mut service.work else { return };
        let pulling = service.calls.keys().any(|subject| matches!(subject, Subject::Image(_)));
        if up.images_ready || pulling {
            return;
        }
        up.images_ready = true;
        service.pulling = None;
        let deadline = now.mono + self.settings.start_limit;
        if let Some(Work::Up(up)) = self.services.get_mut(name).map(|service| &mut service.work) {
            up.deadline = deadline;
        }
        self.start_patience(name, now);
    }

    /// Sets the deadlines of callers that have none yet.
    pub(super) fn start_patience(&mut self, name: &ServiceName, now: Now) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(up) = &mut service.work else { return };
        let mut deadlines = Vec::new();
        for waiter in up.waiters.iter_mut().filter(|waiter| waiter.deadline.is_none()) {
            let deadline = now.mono.saturating_add(waiter.timeout);
            waiter.deadline = Some(deadline);
            deadlines.push(deadline);
        }
        for deadline in deadlines {
            self.schedule(deadline, Timer::Service(name.clone()));
        }
    }

    /// Every part runs, or has completed.
    fn finish_up(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Up(up) = std::mem::replace(&mut service.work, Work::None) else { return };
        self.ledger.advance(name, ClaimPhase::Running);
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
            let started = Started { already_running: false, pending: false, stopped };
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
        service.pulling = None;
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
            waiters: up.waiters,
            restore: if up.rollback { up.restore } else { Vec::new() },
            part_of: up.part_of,
        });
        self.set_work(name, Work::Down(down));
        self.advance(name, now, out);
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
            if resting && up && !self.holds(&name) {
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
            if self.services[name].needs_gpu() {
                self.claim(name, crate::gpu::Placement::default());
            }
        }
        for name in &starting {
            self.take_in_hand(name, Desired::Running);
            let mut up = self.new_up(name, StartOptions::default(), now);
            up.part_of = Some(id);
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
        let error = Error::StartFailed {
            name: newcomer,
            reason: failed.reason,
            restored,
            source: failed.source.map(Box::new),
        };
        for waiter in failed.waiters {
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error.clone()))));
        }
    }

    /// Answers callers whose patience has ended; what they waited for goes on.
    pub(super) fn expire_waiters(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let expired = |waiter: &Waiter| waiter.deadline.is_some_and(|at| at <= now.mono);
        let ready = service.ready_waiters.extract_if(.., |ready| expired(&ready.waiter));
        let mut late: Vec<_> = ready.map(|ready| ready.waiter).collect();
        if let Work::Up(up) | Work::Down(Down { then: Some(up), .. }) = &mut service.work {
            late.extend(up.waiters.extract_if(.., |waiter| expired(waiter)));
        }
        for waiter in late {
            let error = Error::StartTimeout { name: name.clone() };
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error))));
        }
        let clearing = match &mut service.work {
            Work::Down(Down { failed: Some(failed), .. }) => Some((failed, Vec::new())),
            _ => None,
        };
        let giving_back = self.rollbacks.values_mut().filter(|r| r.newcomer == *name);
        let giving_back = giving_back.map(|r| (&mut r.failed, r.restored.clone()));
        for (failed, restored) in clearing.into_iter().chain(giving_back) {
            for waiter in failed.waiters.extract_if(.., |waiter| expired(waiter)) {
                let error = failed_start(name, &failed.reason, restored.clone());
                out.push(Effect::Reply(waiter.request, Answer::Started(Err(error))));
            }
        }
    }

    /// Answers callers who waited until the service is ready.
    pub(super) fn answer_ready(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        // Not what may be assumed before the first probe: what a probe found.
        let probed = self.services.get(name).is_some_and(|s| s.monitor.last.is_some());
        let ready = probed && self.is_complete(name) && self.is_healthy(name);
        let holds = self.holds(name);
        let Some(service) = self.services.get_mut(name) else { return };
        if service.ready_waiters.is_empty() || !matches!(service.work, Work::None) {
            return;
        }
        let restarting = service.restarts.due.is_some_and(|due| due >= now.mono);
        if !ready && (holds || restarting) {
            return;
        }
        let reason = service.failure.clone();
        for waiting in std::mem::take(&mut service.ready_waiters) {
            let ReadyWaiter { waiter, already_running, stopped } = waiting;
            let answer = if ready {
                Ok(Started { already_running, pending: false, stopped })
            } else {
                Err(Error::StartFailed {
                    name: name.clone(),
                    reason: reason
                        .clone()
                        .unwrap_or_else(|| "it ended before it was healthy".into()),
                    restored: Vec::new(),
                    source: None,
                })
            };
            out.push(Effect::Reply(waiter.request, Answer::Started(answer)));
        }
    }

    /// Whether all parts of a service run, or have completed.
    pub(super) fn is_complete(&self, name: &ServiceName) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        let project = &service.wanted.project;
        let containers = self.containers(name);
        let runs = |key: &String| {
            containers.iter().filter(|c| project.part_of(c) == Some(key)).any(|container| {
                matches!(container.state, ContainerState::Running | ContainerState::Paused)
                    || has_completed(project, key, container)
            })
        };
        let any_up = containers.iter().any(|container| container.state.holds());
        any_up && project.parts.keys().all(runs)
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

    /// Answers everybody who waits for a service's start: its engine is out of reach.
    pub(super) fn fail_waiters(&mut self, name: &ServiceName, error: &Error, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let ready = std::mem::take(&mut service.ready_waiters).into_iter();
        let mut waiters: Vec<_> = ready.map(|ready| ready.waiter).collect();
        let mut stops = Vec::new();
        match &mut service.work {
            Work::Up(up) => waiters.append(&mut up.waiters),
            Work::Down(down) => {
                stops.append(&mut down.waiters);
                waiters.extend(down.then.iter_mut().flat_map(|up| std::mem::take(&mut up.waiters)));
            }
            Work::None => {}
        }
        for waiter in waiters {
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error.clone()))));
        }
        for request in stops {
            out.push(Effect::Reply(request, Answer::Stopped(Err(error.clone()))));
        }
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

    /// Whether it waits for the list that was asked for under `issued`, or an earlier one.
    pub(super) fn waits_for_list(&self, issued: u64) -> bool {
        self.patience()
            .is_some_and(|patience| patience.after_list != 0 && patience.after_list <= issued)
    }

    pub(super) fn list_arrived(&mut self, issued: u64) {
        if let Some(patience) = self.patience_mut()
            && patience.after_list <= issued
        {
            patience.after_list = 0;
        }
    }
}

fn failed_start(name: &ServiceName, reason: &str, restored: Vec<ServiceName>) -> Error {
    Error::StartFailed { name: name.clone(), reason: reason.to_owned(), restored, source: None }
}

/// How long to pause after the `failures`-th failure in a row.
pub(super) fn pause(failures: u32) -> Duration {
    super::restart::delay(Duration::from_millis(200), Duration::from_secs(5), failures)
}
