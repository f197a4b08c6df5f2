//! Callers who wait for a service: who joins them, how long they wait, and what they are told.

use super::service::{Down, FailedStart, ReadyWaiter, Up, Waiter, Work};
use super::world::{Out, Timer, World};
use super::{Answer, Effect, Now};
use crate::error::Error;
use crate::name::ServiceName;
use crate::nanny::{Started, Wait};
use crate::project::Subject;

impl World {
    /// Adds a caller to a start under way, or answers who does not want to wait.
    pub(super) fn join(
        &mut self,
        name: &ServiceName,
        waiter: Option<Waiter>,
        now: Now,
        out: &mut Out,
    ) {
        let Some(waiter) = waiter else { return };
        let Some(up) = self.up_to_come(name) else { return };
        if waiter.wait == Wait::None {
            let started = Started {
                already_running: false,
                pending: true,
                queued: up.queued.is_some(),
                stopped: up.stopped.clone(),
            };
            out.push(Effect::Reply(waiter.request, Answer::Started(Ok(started))));
            return;
        }
        up.waiters.push(waiter);
        self.count_patience(name, now);
    }

    /// The start under way, or to come once the service is down.
    pub(super) fn up_to_come(&mut self, name: &ServiceName) -> Option<&mut Up> {
        match &mut self.services.get_mut(name)?.work {
            Work::Up(up) | Work::Down(Down { then: Some(up), .. }) => Some(up),
            Work::None | Work::Down(_) => None,
        }
    }

    pub(super) fn already_running(
        &mut self,
        name: &ServiceName,
        waiter: Option<Waiter>,
        now: Now,
        out: &mut Out,
    ) {
        let Some(mut waiter) = waiter else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        let ready = service.monitor.last.as_ref().is_some_and(|last| last.health.is_healthy());
        if waiter.wait == Wait::Healthy && !ready {
            let deadline = now.mono + waiter.timeout;
            waiter.deadline = Some(deadline);
            let ready = ReadyWaiter { waiter, already_running: true, stopped: Vec::new() };
            service.ready_waiters.push(ready);
            self.schedule(deadline, Timer::Service(name.clone()));
            return;
        }
        let started =
            Started { already_running: true, pending: false, queued: false, stopped: Vec::new() };
        out.push(Effect::Reply(waiter.request, Answer::Started(Ok(started))));
    }

    /// Callers' patience counts whenever no image is being pulled and no GPU waited for: from the
    /// beginning, and anew once the images are there.
    pub(super) fn count_patience(&mut self, name: &ServiceName, now: Now) {
        let Some(service) = self.services.get_mut(name) else { return };
        let pulling = service.calls.keys().any(|subject| matches!(subject, Subject::Image(_)));
        let Some(up) = self.up_to_come(name) else { return };
        let mut deadlines = Vec::new();
        for waiter in &mut up.waiters {
            if pulling || up.queued.is_some() {
                waiter.deadline = None;
            } else if waiter.deadline.is_none() {
                let deadline = now.mono.saturating_add(waiter.timeout);
                waiter.deadline = Some(deadline);
                deadlines.push(deadline);
            }
        }
        for deadline in deadlines {
            self.schedule(deadline, Timer::Service(name.clone()));
        }
    }

    /// Answers callers whose patience has ended; what they waited for goes on.
    pub(super) fn expire_waiters(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let expired = |waiter: &Waiter| waiter.deadline.is_some_and(|at| at <= now.mono);
        for rollback in self.rollbacks.values_mut().filter(|r| r.newcomer == *name) {
            let late: Vec<_> = rollback.failed.waiters.extract_if(.., |w| expired(w)).collect();
            rollback.failed.answer(name, &late, &rollback.restored, out);
        }
        let Some(service) = self.services.get_mut(name) else { return };
        if let Work::Down(Down { failed: Some(failed), .. }) = &mut service.work {
            let late: Vec<_> = failed.waiters.extract_if(.., |w| expired(w)).collect();
            failed.answer(name, &late, &[], out);
        }
        let ready = service.ready_waiters.extract_if(.., |ready| expired(&ready.waiter));
        let mut late: Vec<_> = ready.map(|ready| ready.waiter).collect();
        if let Work::Up(up) | Work::Down(Down { then: Some(up), .. }) = &mut service.work {
            late.extend(up.waiters.extract_if(.., |waiter| expired(waiter)));
        }
        for waiter in late {
            let error = Error::StartTimeout { name: name.clone() };
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error))));
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
                Ok(Started { already_running, pending: false, queued: false, stopped })
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
                if let Some(failed) = &mut down.failed {
                    let callers = std::mem::take(&mut failed.waiters);
                    failed.answer(name, &callers, &[], out);
                }
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
}

impl FailedStart {
    /// Tells `callers` that the start of `name` failed.
    pub(super) fn answer(
        &self,
        name: &ServiceName,
        callers: &[Waiter],
        restored: &[ServiceName],
        out: &mut Out,
    ) {
        for caller in callers {
            let (name, reason) = (name.clone(), self.reason.clone());
            let restored = restored.to_vec();
            let error = if self.for_memory {
                Error::GpuMemoryHeld { name, reason, restored }
            } else {
                let source = self.source.clone().map(Box::new);
                Error::StartFailed { name, reason, restored, source }
            };
            out.push(Effect::Reply(caller.request, Answer::Started(Err(error))));
        }
    }
}
