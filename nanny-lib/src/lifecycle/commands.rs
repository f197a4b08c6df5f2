//! What callers ask for, up to the point where it is work.

use std::collections::BTreeSet;

use super::admission::{Admitted, room_may_come};
use super::service::{Desired, Down, Patience, ServiceState, Up, Waiter, Work};
use super::view::orphans;
use super::world::{Out, World};
use super::{Answer, Effect, Now, RequestId};
use crate::error::Error;
use crate::gpu::Placement;
use crate::name::ServiceName;
use crate::nanny::{StartOptions, StartPlan, StopOptions, Stopped, Verdict};
use crate::project::{Goal, PlacedGpu, Progress, Step, has_drifted, preview};

impl World {
    pub(super) fn on_start(
        &mut self,
        request: RequestId,
        name: &str,
        options: StartOptions,
        victims: Option<&[ServiceName]>,
        now: Now,
        out: &mut Out,
    ) {
        let waiter = Waiter::new(request, options);
        if let Err(error) = self.start(name, options, victims, Some(waiter), now, out) {
            out.push(Effect::Reply(request, Answer::Started(Err(error))));
        }
    }

    /// Starts a service, joins a start of it, or finds that it runs. If `victims` are given, nobody
    /// else is stopped for it: it does not wait for a GPU then, for the queue has its own victims, but
    /// it may join one who waits already.
    ///
    /// # Errors
    ///
    /// Whatever forbids the start; nothing was changed then, and `waiter` was not answered.
    pub(super) fn start(
        &mut self,
        name: &str,
        options: StartOptions,
        victims: Option<&[ServiceName]>,
        waiter: Option<Waiter>,
        now: Now,
        out: &mut Out,
    ) -> Result<(), Error> {
        let name = self.usable(name)?;
        match &self.services[&name].work {
            Work::Up(up) if up.queued.is_none() && (up.recreate || !options.recreate) => {
                self.join(&name, waiter, now, out);
                return Ok(());
            }
            Work::Down(Down { then: Some(up), .. }) if up.queued.is_none() => {
                let containers = self.services[&name].containers.keys().cloned().collect();
                if options.recreate
                    && let Some(up) = self.up_to_come(&name)
                {
                    up.progress.replace = containers;
                }
                self.join(&name, waiter, now, out);
                return Ok(());
            }
            // A call that is still under way may yet end what runs.
            Work::None if !options.recreate && self.is_quiet(&name) && self.is_complete(&name) => {
                self.take_in_hand(&name, Desired::Running);
                self.already_running(&name, waiter, now, out);
                return Ok(());
            }
            Work::None | Work::Up(_) | Work::Down(_) => {}
        }
        let up = self
            .in_turn(&name, options, now)
            .and_then(|()| self.admitted(&name, options, victims, now, out));
        match up {
            Ok(up) => {
                self.leave_for_start(&name);
                self.take_in_hand(&name, Desired::Running);
                self.begin_up(&name, up, waiter, now, out);
                Ok(())
            }
            Err(error)
                if !options.queue.is_zero()
                    && room_may_come(&error)
                    && (victims.is_none() || (self.is_queued(&name) && !options.force)) =>
            {
                self.enqueue(&name, options, error, waiter, now, out);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn on_stop(
        &mut self,
        request: RequestId,
        name: &str,
        options: StopOptions,
        now: Now,
        out: &mut Out,
    ) {
        let name = match self.usable(name) {
            Ok(name) => name,
            Err(error) => {
                out.push(Effect::Reply(request, Answer::Stopped(Err(error))));
                return;
            }
        };
        let goal = if options.remove { Goal::Removed } else { Goal::Down };
        self.take_in_hand(&name, Desired::Stopped);
        self.bring_down(&name, goal, "it was stopped", now, out);
        let Some(service) = self.services.get_mut(&name) else { return };
        if let Work::Down(down) = &mut service.work {
            down.waiters.push(request);
            down.draining = None;
            self.advance(&name, now, out);
        } else {
            let stopped = Stopped { was_running: false };
            out.push(Effect::Reply(request, Answer::Stopped(Ok(stopped))));
            self.advance(&name, now, out);
        }
    }

    pub(super) fn on_restart(
        &mut self,
        request: RequestId,
        name: &str,
        options: StartOptions,
        now: Now,
        out: &mut Out,
    ) {
        let resting = |service: &ServiceState| matches!(service.work, Work::None);
        if let Some((name, service)) = self.services.get_key_value(name)
            && resting(service)
            && self.holds(name)
        {
            // Its claim outlasts the stop, because a start follows.
            let name = name.clone();
            let waiter = Waiter::new(request, options);
            if let Err(error) = self.stop_and_start(&name, options, waiter, now, out) {
                out.push(Effect::Reply(request, Answer::Started(Err(error))));
            }
        } else {
            self.on_start(request, name, options, None, now, out);
        }
    }

    fn stop_and_start(
        &mut self,
        name: &ServiceName,
        options: StartOptions,
        waiter: Waiter,
        now: Now,
        out: &mut Out,
    ) -> Result<(), Error> {
        self.usable(name.as_str())?;
        let admitted = self.admit(name, options)?;
        let moves_to = match &admitted {
            Admitted::Freely(placement) | Admitted::Evicting(_, placement) => placement.clone(),
            Admitted::WithoutGpu => Placement::default(),
        };
        let mut up = self.grant(name, options, admitted, now, out);
        up.moves_to = Some(moves_to).filter(|placement| !placement.is_anywhere());
        self.take_in_hand(name, Desired::Running);
        self.set_work(name, Work::Down(Down::new(Goal::Down, true)));
        self.begin_up(name, up, Some(waiter), now, out);
        Ok(())
    }

    pub(super) fn on_plan(
        &mut self,
        request: RequestId,
        name: &str,
        options: StartOptions,
        now: Now,
        out: &mut Out,
    ) {
        let answer = self.usable(name).map(|name| self.start_plan(&name, options, now));
        out.push(Effect::Reply(request, Answer::Plan(answer)));
    }

    fn start_plan(&self, name: &ServiceName, options: StartOptions, now: Now) -> StartPlan {
        let account = self.services[name].needs_gpu().then(|| self.account(name, options));
        let verdict = if self.is_complete(name) && !options.recreate {
            Verdict::AlreadyRunning
        } else {
            match self.in_turn(name, options, now).and_then(|()| self.admit(name, options)) {
                Ok(Admitted::Evicting(victims, placement)) => Verdict::Evict { victims, placement },
                Ok(Admitted::Freely(placement)) => Verdict::Admit { placement },
                Ok(Admitted::WithoutGpu) => Verdict::Admit { placement: Placement::default() },
                Err(error) if !options.queue.is_zero() && room_may_come(&error) => {
                    let queue = self.gpu_queue(now);
                    let position = queue.iter().position(|waiting| waiting == name);
                    let position = position.unwrap_or(queue.len());
                    Verdict::Wait { position, reason: error.to_string() }
                }
                Err(error) => {
                    let holders = match &error {
                        Error::GpuConflict { holders, .. } => holders.clone(),
                        _ => Vec::new(),
                    };
                    Verdict::Refuse { reason: error.to_string(), holders }
                }
            }
        };
        let mut progress = Progress::default();
        if options.recreate {
            progress.replace = self.services[name].containers.keys().cloned().collect();
        }
        let mut containers = self.containers_in_play(name);
        containers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let placement = match &verdict {
            Verdict::Admit { placement } | Verdict::Evict { placement, .. } => placement.clone(),
            _ => Placement::default(),
        };
        let gpus = PlacedGpu::of(&placement, &self.gpu_readings());
        let project = &self.services[name].wanted.project.placed_on(&gpus).project;
        let steps = match preview(project, &containers, &progress) {
            Ok(steps) => steps.iter().map(Step::to_string).collect(),
            Err(reason) => vec![reason],
        };
        let drifted = containers.iter().filter(|found| has_drifted(project, &containers, found));
        let drift = drifted.map(|found| found.name.clone()).collect();
        StartPlan { verdict, account, steps, drift, orphans: orphans(project, &containers) }
    }

    /// Finds a service that may be started and stopped, on an engine that answers.
    pub(super) fn usable(&self, name: &str) -> Result<ServiceName, Error> {
        let Some((name, service)) = self.services.get_key_value(name) else {
            return Err(Error::NotFound { name: name.to_owned() });
        };
        if let Some(reason) = &service.wanted.manifest.off_limits {
            return Err(Error::Protected { name: name.clone(), reason: reason.clone() });
        }
        match self.engine_of(service) {
            Some(engine) if self.engines[engine.0].is_up() => Ok(name.clone()),
            Some(engine) => Err(self.unavailable(engine)),
            None => {
                let backend = service.wanted.manifest.backend.as_deref();
                Err(Error::NoEngine { name: name.clone(), reason: self.why_no_engine(backend) })
            }
        }
    }

    /// Why no engine runs a service whose manifest names this one, if any.
    fn why_no_engine(&self, backend: Option<&str>) -> String {
        let known: Vec<_> = self.engines.iter().map(|engine| engine.info.name.as_str()).collect();
        let there_is = match known[..] {
            [] => "none is configured".to_owned(),
            _ => format!("configured are {}", known.join(", ")),
        };
        match backend {
            Some(backend) => format!(
                "its manifest says 'backend: {backend}', and {there_is}; mend the manifest, or \
                 configure that one, too"
            ),
            None if known.is_empty() => format!("{there_is}; configure one"),
            None => format!("{there_is}, and none of them runs what it is; configure another"),
        }
    }

    /// Somebody said what should be: what went before is forgotten.
    pub(super) fn take_in_hand(&mut self, name: &ServiceName, desired: Desired) {
        self.touch(name);
        if let Some(service) = self.services.get_mut(name) {
            service.desired = desired;
            service.failure = None;
            service.stops_by_hand.clear();
            service.restarts.reset();
        }
    }

    pub(super) fn new_up(&self, name: &ServiceName, options: StartOptions, now: Now) -> Up {
        let containers = self.containers(name).into_iter();
        let was_up = containers.filter(|c| c.state.holds()).map(|c| c.id.clone()).collect();
        let mut progress = Progress::default();
        if options.recreate {
            progress.replace = self.services[name].containers.keys().cloned().collect();
        }
        Up {
            progress,
            waiters: Vec::new(),
            after: BTreeSet::new(),
            stopped: Vec::new(),
            restore: Vec::new(),
            rollback: options.rollback,
            recreate: options.recreate,
            queue: options.queue,
            part_of: None,
            was_up,
            deadline: now.mono + self.settings.start_limit,
            images_ready: false,
            patience: Patience::default(),
            queued: None,
            moves_to: None,
            looks_from: None,
            memory_by: None,
            has_gpu: false,
            lacks_memory: false,
        }
    }

    /// Begins to bring a service up, or, if it is being brought down, as soon as it is.
    pub(super) fn begin_up(
        &mut self,
        name: &ServiceName,
        mut up: Up,
        waiter: Option<Waiter>,
        now: Now,
        out: &mut Out,
    ) {
        let Some(service) = self.services.get_mut(name) else { return };
        match &mut service.work {
            Work::Down(down) => {
                if let Some(before) = down.then.take() {
                    up.take_over(before);
                }
                up.was_up.clear();
                down.then = Some(up);
            }
            Work::Up(_) => {
                if let Work::Up(before) = std::mem::replace(&mut service.work, Work::None) {
                    up.take_over(before);
                }
                service.work = Work::Up(up);
            }
            Work::None => service.work = Work::Up(up),
        }
        self.join(name, waiter, now, out);
        self.advance(name, now, out);
    }
}
