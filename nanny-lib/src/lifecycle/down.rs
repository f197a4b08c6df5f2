//! Bringing a service down.

use super::service::{Desired, Down, ServiceState, Up, Work};
use super::world::{Out, Timer, World};
use super::{Answer, DrainId, Effect, Now};
use crate::error::Error;
use crate::gpu::ClaimPhase;
use crate::name::ServiceName;
use crate::nanny::{Change, Stopped};
use crate::project::{Goal, Plan, Step, Subject, plan};

impl World {
    /// Gives a service the work to come down, if there is anything to bring down; a start under
    /// way is cancelled, and its callers are told `reason`.
    pub(super) fn bring_down(
        &mut self,
        name: &ServiceName,
        goal: Goal,
        reason: &str,
        now: Now,
        out: &mut Out,
    ) {
        let holds = self.holds(name);
        let anything = holds || goal == Goal::Removed || !self.is_quiet(name);
        let queued = self.take_queued(name);
        let Some(service) = self.services.get_mut(name) else { return };
        let ready_waiters = std::mem::take(&mut service.ready_waiters).into_iter();
        let cancelled = match &mut service.work {
            Work::None => {
                if anything {
                    service.work = Work::Down(Down::new(goal, holds));
                }
                queued
            }
            Work::Up(_) => {
                let down = Work::Down(Down::new(goal, true));
                match std::mem::replace(&mut service.work, down) {
                    Work::Up(up) => Some(up),
                    Work::None | Work::Down(_) => None,
                }
            }
            Work::Down(down) => {
                if goal == Goal::Removed {
                    down.goal = goal;
                }
                down.progress.keep.clear();
                down.then.take()
            }
        };
        service.preparing = None;
        let pulls = service.calls.iter().filter(|(on, _)| matches!(on, Subject::Image(_)));
        out.extend(pulls.map(|(_, id)| Effect::Cancel(*id)));
        let mut waiters: Vec<_> = ready_waiters.map(|ready| ready.waiter).collect();
        let mut part_of = None;
        if let Some(Up { waiters: cancelled, part_of: rollback, .. }) = cancelled {
            waiters.extend(cancelled);
            part_of = rollback;
        }
        for waiter in waiters {
            let error = Error::Cancelled { name: name.clone(), reason: reason.to_owned() };
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error))));
        }
        self.resolve_rollback(part_of, name, false, out);
        self.probe_due(name, now, out);
    }

    pub(super) fn advance_down(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get(name) else { return };
        let Some(engine) = self.engine_of(service) else {
            self.finish_down(name, now, out);
            return;
        };
        if !self.engines[engine.0].is_up() || !self.may_go_on(name, now) {
            return;
        }
        if self.is_draining(name, now) {
            return;
        }
        self.ledger.advance(name, ClaimPhase::Stopping);
        let Some(service) = self.services.get(name) else { return };
        let Work::Down(down) = &service.work else { return };
        let containers = self.containers(name);
        match plan(&service.wanted.project, &containers, down.goal, &down.progress) {
            Plan::Next(mut steps) => {
                if down.kill {
                    for step in &mut steps {
                        if let Step::Stop { id, .. } = step {
                            *step = Step::Kill { id: id.clone() };
                        }
                    }
                }
                self.issue(name, engine, steps, out);
            }
            // A call of the start that was cancelled may still start something.
            Plan::Done if !service.calls.is_empty() => {}
            Plan::Done => self.finish_down(name, now, out),
            Plan::Stuck { reason } => self.fail_down(name, &reason, now, out),
        }
    }

    /// Lets a service that must make way finish what it does, for a while.
    pub(super) fn drain(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        if !self.drains {
            return;
        }
        let (id, limit) = (DrainId(self.next_sequence()), self.settings.gpu.drain_limit);
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Down(down) = &mut service.work else { return };
        if down.draining.is_none() {
            down.draining = Some((id, now.mono.saturating_add(limit)));
            self.ledger.advance(name, ClaimPhase::Draining);
            self.schedule(now.mono.saturating_add(limit), Timer::Service(name.clone()));
            out.push(Effect::Drain { service: name.clone(), id, limit });
        }
    }

    fn is_draining(&self, name: &ServiceName, now: Now) -> bool {
        match self.services.get(name).map(|service| &service.work) {
            Some(Work::Down(down)) => down.draining.is_some_and(|(_, until)| now.mono < until),
            _ => false,
        }
    }

    pub(super) fn on_drained(&mut self, id: DrainId, now: Now, out: &mut Out) {
        let drained = self.services.iter_mut().find_map(|(name, service)| {
            let Work::Down(down) = &mut service.work else { return None };
            down.draining.take_if(|(draining, _)| *draining == id).map(|_| name.clone())
        });
        if let Some(name) = drained {
            self.advance(&name, now, out);
        }
    }

    pub(super) fn on_used(&mut self, name: &ServiceName, now: Now) {
        if let Some(service) = self.services.get_mut(name) {
            service.used_at = now.mono;
        }
    }

    /// Everything is down. What was waiting for that goes on in this very step.
    fn finish_down(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Down(down) = std::mem::replace(&mut service.work, Work::None) else { return };
        service.seen_up.clear();
        service.stop_requested.clear();
        service.put_down = service.containers.keys().cloned().collect();
        if down.was_running && down.failed.is_none() {
            out.push(Effect::Announce(Change::Stopped { service: name.clone() }));
        }
        for request in down.waiters {
            let stopped = Stopped { was_running: down.was_running };
            out.push(Effect::Reply(request, Answer::Stopped(Ok(stopped))));
        }
        if let Some(mut up) = down.then {
            if up.queued.is_some() {
                // It was not let in: it waits without a claim, and is down unless it ever is.
                self.queue.insert(name.clone());
                if let Some(service) = self.services.get_mut(name) {
                    service.desired = Desired::Stopped;
                }
                self.release_claim(name, now, out);
            }
            // The claim is kept: the start was admitted while it was held. What the start that
            // failed owed to others, this one owes now.
            if let Some(mut failed) = down.failed {
                up.restore.append(&mut failed.restore);
                self.resolve_rollback(failed.part_of, name, false, out);
                self.roll_back(name, failed, now, out);
            }
            // Files that no longer ask for a GPU need no claim to be kept, and wait for none.
            let needs_gpu = self.services.get(name).is_some_and(|service| service.needs_gpu());
            if !needs_gpu && !self.holds(name) {
                self.release_claim(name, now, out);
                up.after.clear();
            }
            self.expect_own_release(name, now, out);
            self.set_work(name, Work::Up(up));
            self.advance(name, now, out);
            self.wake_those_after(name, now, out);
            return;
        }
        let kept = self.holds(name);
        if !kept {
            self.release_claim(name, now, out);
        }
        if let Some(failed) = down.failed {
            self.resolve_rollback(failed.part_of, name, false, out);
            self.roll_back(name, failed, now, out);
        }
        self.rest(name, now, out);
        for newcomer in self.those_after(name) {
            self.advance(&newcomer, now, out);
        }
    }

    /// It cannot be brought down. Its claim stays as long as anything of it runs.
    pub(super) fn fail_down(&mut self, name: &ServiceName, reason: &str, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Work::Down(down) = std::mem::replace(&mut service.work, Work::None) else { return };
        service.failure = Some(format!("it could not be stopped: {reason}"));
        service.counters.failures += 1;
        out.push(Effect::Announce(Change::Failed {
            service: name.clone(),
            reason: reason.to_owned(),
        }));
        for request in down.waiters {
            let error = Error::StopFailed { name: name.clone(), reason: reason.to_owned() };
            out.push(Effect::Reply(request, Answer::Stopped(Err(error))));
        }
        let failure = |name: &ServiceName| Error::StartFailed {
            name: name.clone(),
            reason: format!("what ran before could not be stopped: {reason}"),
            restored: Vec::new(),
            source: None,
        };
        for waiter in down.then.iter().flat_map(|up| &up.waiters) {
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(failure(name)))));
        }
        self.resolve_rollback(down.then.and_then(|up| up.part_of), name, false, out);
        if let Some(failed) = down.failed {
            failed.answer(name, &failed.waiters, &[], out);
            self.resolve_rollback(failed.part_of, name, false, out);
        }
        for newcomer in self.those_after(name) {
            let reason = format!("'{name}' holds the GPU and could not be stopped: {reason}");
            self.fail_up(&newcomer, reason, None, now, out);
        }
        self.rest(name, now, out);
    }

    /// Services whose start waits until `name`'s claim has ended. Each has a claim of its own.
    fn those_after(&self, name: &ServiceName) -> Vec<ServiceName> {
        let waits = |service: &ServiceState| match &service.work {
            Work::Up(up) => up.after.contains(name),
            Work::None | Work::Down(_) => false,
        };
        let claimants = self.ledger.iter().map(|(name, _)| name);
        let waiting = claimants.filter(|name| self.services.get(*name).is_some_and(|s| waits(s)));
        waiting.cloned().collect()
    }

    /// A claim may have ended: whoever waited for it goes on.
    pub(super) fn wake_those_after(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        if self.ledger.get(name).is_some() {
            return;
        }
        for newcomer in self.those_after(name) {
            self.advance(&newcomer, now, out);
        }
    }
}
