//! Services that rest: adopting what runs, noticing what ends, restarting what should not have.

use std::collections::BTreeSet;
use std::time::Duration;

use super::admission::{Admitted, room_may_come};
use super::service::{Desired, ServiceState, StopByHand, Work};
use super::world::{Out, Timer, World};
use super::{Effect, Now};
use crate::backend::{ContainerInfo, RestartPolicy};
use crate::error::Error;
use crate::gpu::ClaimPhase;
use crate::journal::Entry;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::{Change, StartOptions};
use crate::project::{Goal, exit_reason, giving_way, has_completed, labels};

/// A restart waits so long for those who leave the GPU, and looks again.
const A_MOMENT: Duration = Duration::from_secs(1);

impl World {
    /// Brings claims, health and restarts of a resting service in line with what is seen.
    pub(super) fn rest(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let up: Vec<_> = self.containers(name).into_iter().filter(|c| c.state.holds()).collect();
        let run: Vec<_> = up.iter().map(|c| (c.id.clone(), c.started_at)).collect();
        let all_seen = self.has_looked_around();
        let recorded = self.recorded_on(name);
        self.settle_engine(name);
        let Some(service) = self.services.get_mut(name) else { return };
        let engine = recorded.or(service.engine);
        let reachable = engine.is_none_or(|engine| self.engines[engine.0].is_up());
        if !matches!(service.work, Work::None) {
            return;
        }
        if !reachable {
            // What was seen running before its engine went out of reach holds its GPU.
            self.adopt_claim(name, out);
            return;
        }
        service.seen_up = run.iter().map(|(id, _)| id.clone()).collect();
        if run.is_empty() && all_seen {
            service.seen_down = Some(now.mono);
        }
        if service.run != run {
            if run.is_empty() {
                service.monitor.end();
            } else {
                let latest = run.iter().filter_map(|(_, started_at)| *started_at).max();
                let age = latest.and_then(|at| now.wall.duration_since(at).try_into().ok());
                // The engine's clock may be another than ours, and clocks are set: nothing has run
                // for longer than since it was last seen not to.
                let most = service.seen_down.map_or(Duration::MAX, |at| now.mono - at);
                service.monitor.begin(now.mono, age.unwrap_or(Duration::ZERO).min(most));
                let settled = now.mono + service.wanted.manifest.health_timeout;
                self.schedule(settled, Timer::Service(name.clone()));
            }
            if let Some(service) = self.services.get_mut(name) {
                service.run = run;
            }
        }
        if self.undo_late_start(name, now, out) || self.undo_resurrection(name, now, out) {
            return;
        }
        self.restart_if_due(name, now, out);
        self.settle_claim(name, now, out);
        self.answer_ready(name, now, out);
        self.drop_if_gone(name, now, out);
    }

    /// A start that was given up may take effect after all. What should not run is stopped again:
    /// nobody can tell it from a start by hand, so for a while that is undone as well.
    fn undo_late_start(&mut self, name: &ServiceName, now: Now, out: &mut Out) -> bool {
        let Some(service) = self.services.get_mut(name) else { return false };
        service.late_starts.retain(|_, until| *until > now.mono);
        let late = service.run.iter().any(|(id, _)| service.late_starts.contains_key(id));
        if !late || service.desired != Desired::Stopped {
            return false;
        }
        // Until it is down again, it has the GPU like anybody else.
        self.adopt_claim(name, out);
        self.bring_down(name, Goal::Down, "a start that was given up came late", now, out);
        self.advance(name, now, out);
        true
    }

    /// A service that runs has a claim, whoever started it; one that does not and is not due back
    /// has none.
    fn settle_claim(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let holds = self.holds(name);
        let Some(service) = self.services.get(name) else { return };
        if !matches!(service.work, Work::None) {
            return;
        }
        let due_back = service.needs_gpu() && service.restarts.due.is_some();
        if holds {
            self.adopt_claim(name, out);
        } else if !due_back && self.is_quiet(name) && self.ledger.get(name).is_some() {
            self.release_claim(name, now, out);
            self.wake_those_after(name, now, out);
        }
    }

    /// Files that no longer ask for a GPU take none away from what runs.
    pub(super) fn adopt_claim(&mut self, name: &ServiceName, out: &mut Out) {
        let needs_gpu = self.services.get(name).is_some_and(|service| service.needs_gpu());
        if needs_gpu && self.holds(name) && self.ledger.get(name).is_none() {
            self.claim(name, self.found_on(name));
            let others = self.ledger.iter().filter(|(other, _)| *other != name);
            let others = others.map(|(other, _)| other.clone()).collect();
            out.push(Effect::Announce(Change::Adopted { service: name.clone(), others }));
        }
        if self.holds(name) {
            self.ledger.advance(name, ClaimPhase::Running);
            let found = self.found_on(name);
            if self.ledger.locate(name, found) {
                self.place(name);
            }
        }
    }

    /// Notices containers that were seen running and are not any more.
    ///
    /// `outage`: their engine was out of reach meanwhile, so that nobody can say who ended them.
    pub(super) fn observe_exits(
        &mut self,
        name: &ServiceName,
        outage: bool,
        now: Now,
        out: &mut Out,
    ) {
        let Some(service) = self.services.get(name) else { return };
        if !matches!(service.work, Work::None) {
            return;
        }
        let holding = |id: &&ContainerId| {
            self.containers(name).iter().any(|c| c.id == **id && c.state.holds())
        };
        let ended: Vec<_> = service.seen_up.iter().filter(|id| !holding(id)).cloned().collect();
        for id in ended {
            let container = self.containers(name).into_iter().find(|c| c.id == id).cloned();
            self.on_exit(name, container.as_ref(), outage, now, out);
        }
    }

    fn on_exit(
        &mut self,
        name: &ServiceName,
        container: Option<&ContainerInfo>,
        outage: bool,
        now: Now,
        out: &mut Out,
    ) {
        let Some(container) = container else {
            // Somebody removed it.
            self.stopped_by_hand(name, out);
            return;
        };
        let Some(service) = self.services.get_mut(name) else { return };
        if outage {
            service.ended_with_engine(&container.id, now);
        } else if service.stop_requested.contains(&container.id) {
            // What should be before the first of its parts was stopped is what counts.
            let mut stops = std::mem::take(&mut service.stops_by_hand);
            let was = stops.values().next().map_or(service.desired, |stop| stop.was);
            stops.insert(container.id.clone(), StopByHand { at: now.mono, was });
            self.stopped_by_hand(name, out);
            if let Some(service) = self.services.get_mut(name) {
                service.stops_by_hand = stops;
            }
            return;
        }
        let reason = exit_reason(container);
        self.expect_own_release(name, now, out);
        out.push(Effect::Announce(Change::Exited {
            service: name.clone(),
            reason: reason.clone(),
        }));
        self.answer_exit(name, container, &reason, now);
    }

    /// Restarts what its file wants restarted; otherwise notes a failure.
    fn answer_exit(
        &mut self,
        name: &ServiceName,
        container: &ContainerInfo,
        reason: &str,
        now: Now,
    ) {
        let holds = self.holds(name);
        let Some(service) = self.services.get_mut(name) else { return };
        let code = container.exit.as_ref().and_then(|exit| exit.code);
        let comes_back = service.is_restarted_by_us(container, code);
        if comes_back || code != Some(0) {
            service.counters.failures += 1;
        }
        if comes_back {
            // One restart answers all that ended together.
            if service.restarts.due.is_some() {
                return;
            }
            if let Some(due) = service.restarts.schedule(now.mono) {
                service.failure = Some(reason.to_owned());
                self.schedule(due, Timer::Service(name.clone()));
            } else {
                service.failure = Some(format!("{reason}; it was restarted too often"));
                service.desired = Desired::Stopped;
            }
        } else if code != Some(0) {
            service.failure = Some(reason.to_owned());
            service.desired = Desired::Stopped;
        } else if !holds {
            // It ran to its end, whatever came of it before.
            service.failure = None;
            service.desired = Desired::Stopped;
        }
    }

    fn stopped_by_hand(&mut self, name: &ServiceName, out: &mut Out) {
        self.take_in_hand(name, Desired::Stopped);
        out.push(Effect::Announce(Change::StoppedByOthers { service: name.clone() }));
    }

    fn restart_if_due(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(due) = service.restarts.due else { return };
        let by_hand = service.containers.keys().any(|id| service.stop_requested.contains(id));
        if by_hand {
            // The news that somebody stopped it came after the news that it had ended.
            self.stopped_by_hand(name, out);
        } else if due <= now.mono && self.others_leave(name) {
            self.schedule(now.mono + A_MOMENT, Timer::Service(name.clone()));
        } else if due <= now.mono {
            self.restart_now(name, now, out);
        }
    }

    fn restart_now(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        if let Some(service) = self.services.get_mut(name) {
            service.restarts.due = None;
        }
        if let Err(error) = self.readmit(name) {
            self.give_up_restart(name, error.to_string(), out);
            return;
        }
        let mut up = self.new_up(name, StartOptions::default(), now);
        // As an engine would: the very containers that ended, and no news from files or registries.
        let containers = self.containers_in_play(name).into_iter();
        up.progress.as_is = containers.map(|container| container.id.clone()).collect();
        self.set_work(name, Work::Up(up));
        out.push(Effect::Announce(Change::Restarting { service: name.clone() }));
        self.advance(name, now, out);
    }

    /// What a restart by us has started may have ended before it counted as running: that is one
    /// more exit, to be answered like those before. Answers whether it was that.
    pub(super) fn restart_ended(&mut self, name: &ServiceName, now: Now, out: &mut Out) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        let Work::Up(up) = &service.work else { return false };
        if !up.waiters.is_empty() || up.part_of.is_some() {
            return false;
        }
        let (progress, project) = (&up.progress, &service.wanted.project);
        let ended = self.containers_in_play(name).into_iter().find(|container| {
            let part = project.part_of(container);
            progress.as_is.contains(&container.id)
                && progress.started.contains(&container.id)
                && container.exit.is_some()
                && !container.state.holds()
                && !part.is_some_and(|part| has_completed(project, part, container))
        });
        let Some(ended) = ended.cloned() else { return false };
        if !service.calls.is_empty() {
            // Another part may be about to run; this is asked again when that is known.
            return true;
        }
        let engine = service.containers.get(&ended.id).copied();
        let outage = engine.is_some_and(|engine| self.has_just_returned(engine, now));
        if let Some(service) = self.services.get_mut(name) {
            service.preparing = None;
            service.work = Work::None;
        }
        self.on_exit(name, Some(&ended), outage, now, out);
        self.advance(name, now, out);
        true
    }

    /// Leave to start beside those who hold a GPU now, strangers aside, who were there before.
    pub(super) fn readmit(&mut self, name: &ServiceName) -> Result<(), Error> {
        match self.admit(name, StartOptions::forced())? {
            Admitted::WithoutGpu => Ok(()),
            Admitted::Freely(placement) => {
                self.claim(name, placement);
                Ok(())
            }
            Admitted::Evicting(victims, _) => {
                let holders = victims.iter().map(ToString::to_string).collect();
                let account = Box::new(self.account(name, StartOptions::forced()));
                Err(Error::GpuConflict { holders, account })
            }
        }
    }

    fn give_up_restart(&mut self, name: &ServiceName, reason: String, out: &mut Out) {
        let Some(service) = self.services.get_mut(name) else { return };
        service.desired = Desired::Stopped;
        service.failure = Some(reason.clone());
        service.counters.failures += 1;
        out.push(Effect::Announce(Change::Failed { service: name.clone(), reason }));
    }

    /// Takes up what the last run's journal says, for services that are seen for the first time,
    /// and resolves what engines that came up brought back.
    pub(super) fn take_up_journal(&mut self, now: Now, out: &mut Out) {
        // A service may run where nobody has looked yet.
        if !self.has_looked_around() {
            return;
        }
        let rebooted = self.recorded.boot != self.boot;
        let ready = |(name, _): &(&ServiceName, &Entry)| {
            let service = self.services.get(*name);
            // What does not run is for when its manifest can be read.
            let service = service.filter(|service| !service.gone || self.holds(name));
            let engine = service.and_then(|service| self.engine_of(service));
            engine.is_some_and(|engine| self.engines[engine.0].is_up())
        };
        let entries = self.recorded.services.iter().filter(ready);
        let entries: Vec<_> = entries.map(|(name, entry)| (name.clone(), *entry)).collect();
        for (name, _) in &entries {
            self.recorded.services.remove(name);
        }
        // Who was on the way down goes on, so that who was to come after it finds it going.
        let (leaving, coming): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(_, entry)| *entry == Entry::Stopping);
        for (name, _) in leaving {
            if rebooted {
                // The reboot has stopped it. What runs since was started by others.
                continue;
            }
            self.take_in_hand(&name, Desired::Stopped);
            self.bring_down(&name, Goal::Down, "it was stopped", now, out);
            self.advance(&name, now, out);
        }
        for (name, entry) in coming {
            self.take_up(&name, entry, rebooted, now, out);
        }
        if std::mem::take(&mut self.unresolved) {
            self.resolve_double_holders(now, out);
        }
    }

    fn take_up(
        &mut self,
        name: &ServiceName,
        entry: Entry,
        rebooted: bool,
        now: Now,
        out: &mut Out,
    ) {
        let Some(service) = self.services.get(name) else { return };
        let containers = self.containers_in_play(name);
        // What runs of it may be on its way down: the last run was making it anew.
        let giving_way = match entry {
            Entry::Starting => giving_way(&service.wanted.project, &containers),
            Entry::Running | Entry::Stopping => BTreeSet::new(),
        };
        if self.is_complete(name) && giving_way.is_empty() {
            self.take_in_hand(name, Desired::Running);
            return;
        }
        let due_back = |container: &&ContainerInfo| {
            let code = container.exit.as_ref().and_then(|exit| exit.code);
            // Within one boot, an end by a signal was somebody's wish.
            let by_hand = !rebooted && matches!(code, Some(130 | 137 | 143));
            !by_hand && service.asks_us_to_restart(container, code)
        };
        let due =
            entry == Entry::Starting || !containers.is_empty() && containers.iter().all(due_back);
        if !due || !matches!(service.work, Work::None) {
            return;
        }
        let options = StartOptions { force: self.others_leave(name), ..StartOptions::default() };
        match self.admitted(name, options, None, now, out) {
            Ok(mut up) => {
                up.progress.replace = giving_way;
                self.take_in_hand(name, Desired::Running);
                self.begin_up(name, up, None, now, out);
            }
            // What the last run waited for may be on its way back, and be nobody's that is known.
            Err(error)
                if self.gpu_memory_may_come_back()
                    && room_may_come(&error)
                    && giving_way.is_empty() =>
            {
                let options = options.queued_for(self.settings.gpu.release_limit);
                self.enqueue(name, options, error, None, now, out);
            }
            Err(_) => out.push(Effect::Announce(Change::Interrupted { service: name.clone() })),
        }
    }

    /// Whether those who hold a GPU are all on the way down: a swap was cut short, and goes on.
    /// Nobody goes beside a container of other hands without being told to.
    fn others_leave(&self, name: &ServiceName) -> bool {
        let others: Vec<_> = self.ledger.iter().filter(|(other, _)| *other != name).collect();
        let leaves = |other: &ServiceName| {
            let work = self.services.get(other).map(|service| &service.work);
            matches!(work, Some(Work::Down(_)))
        };
        !others.is_empty()
            && others.iter().all(|(other, _)| leaves(other))
            && self.foreign_gpu_containers().is_empty()
    }

    /// After an outage, services may run that the engine brought back beside the one that holds
    /// the GPU. The recorded holder stays; another is stopped if we started it, and reported if
    /// not.
    fn resolve_double_holders(&mut self, now: Now, out: &mut Out) {
        let recorded = self.ledger.iter().any(|(name, _)| {
            self.services.get(name).is_some_and(|s| s.desired == Desired::Running)
                && self.holds(name)
        });
        if !recorded {
            return;
        }
        let unrecorded = self.ledger.iter().filter(|(name, claim)| {
            claim.phase == ClaimPhase::Running
                && self.services.get(*name).is_some_and(|s| s.desired != Desired::Running)
        });
        let unrecorded: Vec<_> = unrecorded.map(|(name, _)| name.clone()).collect();
        for name in unrecorded {
            let ours = self
                .containers(&name)
                .iter()
                .filter(|container| container.state.holds())
                .all(|container| container.labels.contains_key(labels::SERVICE));
            let admitted = self.admit(&name, StartOptions::default()).is_ok();
            if ours && !admitted {
                let reason = "another service holds the GPU";
                self.take_in_hand(&name, Desired::Stopped);
                self.bring_down(&name, Goal::Down, reason, now, out);
                self.advance(&name, now, out);
            }
        }
    }

    /// A service that is gone and of which nothing runs is forgotten.
    pub(super) fn drop_if_gone(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let unused = self.services.get(name).is_some_and(|service| {
            service.gone && matches!(service.work, Work::None) && self.is_quiet(name)
        });
        // What runs on an engine that nobody has asked yet is not known to be unused.
        let unknown = self.recorded_on(name).is_some();
        if !unused || unknown || self.holds(name) || !self.has_looked_around() {
            return;
        }
        self.fail_waiters(name, &Error::NotFound { name: name.to_string() }, out);
        let containers = self.services.remove(name).map(|service| service.containers);
        for (id, engine) in containers.unwrap_or_default() {
            self.reassign(engine, &id);
        }
        self.release_claim(name, now, out);
        self.touch(name);
        self.wake_those_after(name, now, out);
    }
}

impl ServiceState {
    /// Whether an exit of `container` is ours to answer with a restart.
    fn is_restarted_by_us(&self, container: &ContainerInfo, code: Option<i64>) -> bool {
        self.desired == Desired::Running && self.asks_us_to_restart(container, code)
    }

    fn asks_us_to_restart(&self, container: &ContainerInfo, code: Option<i64>) -> bool {
        let part = self.wanted.project.part_of(container);
        let part = part.and_then(|key| self.wanted.project.parts.get(key));
        container.restart == RestartPolicy::No
            && part.is_some_and(|part| {
                // The engine was not told what the file asks for.
                part.spec.restart.unwrap_or_default() == RestartPolicy::No
                    && part.restart.answers(code, self.restarts.count())
            })
    }
}
