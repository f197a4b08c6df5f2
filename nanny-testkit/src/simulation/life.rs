//! What becomes of containers, by themselves and by their engines, and who hears of it.

use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerState, EngineHealth, ErrorKind, Event, EventKind, Exit};
use tokio::sync::mpsc;

use super::backend::resync;
use super::engine::{Deferred, Mood, Result, Starter, error};
use super::play::Play;
use super::services;

impl Play {
    /// Notes of the service of a container whether it runs now: it may be about to change.
    pub(super) fn mark(&mut self, engine: usize, id: &ContainerId) {
        let held = self.engines[engine].containers.get(id);
        let Some(name) = held.and_then(|held| services::of(&held.info)) else { return };
        let now = self.now();
        if self.holds(name) {
            self.last_up.insert(name, now);
        } else {
            self.last_down.insert(name, now);
        }
    }

    /// Whether anything of a service runs, in truth.
    pub(super) fn holds(&self, name: &str) -> bool {
        let held = self.engines.iter().flat_map(|engine| engine.containers.values());
        held.filter(|held| services::of(&held.info) == Some(name))
            .any(|held| held.info.state.holds())
    }

    /// A container has been started: some end soon.
    pub(super) fn started(&mut self, engine: usize, id: &ContainerId) {
        self.emit(engine, id, &EventKind::Started);
        let Some(held) = self.engines[engine].containers.get(id) else { return };
        let (run, job) = (held.run, services::is_job(&held.info));
        let healthy = id.clone();
        self.soon(3000, move |play| play.gets_healthy(engine, &healthy));
        if job || self.random.percent(self.temper.crashes) {
            let code = if job { 0 } else { self.random.pick(&[0, 1, 137]).unwrap_or(1) };
            let id = id.clone();
            self.soon(3000, move |play| play.end(engine, &id, run, code));
        }
    }

    pub(super) fn gets_healthy(&mut self, engine: usize, id: &ContainerId) {
        let now = self.now();
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        if held.info.health.is_some() && held.info.health != Some(EngineHealth::Healthy) {
            held.info.health = Some(EngineHealth::Healthy);
            held.changed = now;
            self.emit(engine, id, &EventKind::Changed);
        }
    }

    pub(super) fn ask_to_stop(
        &mut self,
        engine: usize,
        id: &ContainerId,
        after: u64,
    ) -> Result<()> {
        let visibly = self.random.percent(50);
        let now = self.now();
        let held = self.engines[engine].containers.get_mut(id);
        let held = held.ok_or_else(|| error(ErrorKind::NotFound))?;
        if !held.info.state.holds() {
            return Ok(());
        }
        held.stopping = true;
        if visibly {
            held.info.state = ContainerState::Stopping;
            held.changed = now;
        }
        let run = held.run;
        self.emit(engine, id, &EventKind::StopRequested);
        if after == 0 {
            self.end(engine, id, run, 137);
        } else {
            let id = id.clone();
            self.later(after, move |play| play.end(engine, &id, run, 143));
        }
        Ok(())
    }

    /// A run of a container ends, if it has not ended yet.
    pub(super) fn end(&mut self, engine: usize, id: &ContainerId, run: u64, code: i64) {
        let now = self.now();
        self.mark(engine, id);
        let by_itself = self.engines[engine].containers.get(id).is_some_and(|held| !held.stopping);
        if !self.engines[engine].end(id, run, code, now) {
            return;
        }
        self.note(|| format!("  {} ended with {code}", id.as_str()));
        self.use_up_licence(engine, id);
        self.emit(engine, id, &EventKind::Exited(Exit::with_code(code)));
        let alive = self.engines[engine].mood != Mood::Down;
        let Some(held) = self.engines[engine].containers.get(id) else { return };
        if by_itself && alive && held.info.restart.answers(Some(code), 0) {
            self.revive(engine, id, 1000);
        }
    }

    /// The engine brings a container back, by its policy.
    pub(super) fn revive(&mut self, engine: usize, id: &ContainerId, most: u64) {
        let now = self.now();
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        held.info.state = ContainerState::Restarting;
        held.starter = Starter::Others;
        held.changed = now;
        let id = id.clone();
        self.soon(most, move |play| {
            let times = (play.now(), play.wall());
            let Some(held) = play.engines[engine].containers.get_mut(&id) else { return };
            if held.info.state == ContainerState::Restarting {
                held.begin(Starter::Others, times);
                play.note(|| format!("  {} is brought back by its engine", id.as_str()));
                play.started(engine, &id);
            }
        });
    }

    /// Tells the nanny of something, late, twice or not at all.
    pub(super) fn emit(&mut self, engine: usize, id: &ContainerId, kind: &EventKind) {
        if self.engines[engine].mood != Mood::Up {
            return;
        }
        for _ in 0..self.temper.echoes(&mut self.random) {
            let event = Event { kind: kind.clone(), container: Some(id.clone()) };
            let delay = self.temper.delay(&mut self.random);
            self.later(delay, move |play| play.tell(engine, &event));
        }
    }

    fn tell(&mut self, engine: usize, event: &Event) {
        for (_, listener) in &self.engines[engine].listeners {
            // Whoever does not listen any more misses nothing.
            let _ = listener.send(event.clone());
        }
    }

    /// A nanny listens to the events of an engine.
    pub(super) fn listen(
        &mut self,
        epoch: u32,
        engine: usize,
        listener: mpsc::UnboundedSender<Event>,
    ) {
        if epoch != self.epoch {
            return;
        }
        if self.engines[engine].mood == Mood::Up {
            let first = listener.clone();
            self.soon(50, move |_| drop(first.send(resync())));
        }
        self.engines[engine].listeners.push((epoch, listener));
    }

    /// The mood of an engine changes.
    pub(super) fn turn(&mut self, engine: usize, mood: Mood) {
        let before = std::mem::replace(&mut self.engines[engine].mood, mood);
        if mood == Mood::Wedged || before == mood {
            return;
        }
        for deferred in std::mem::take(&mut self.engines[engine].deferred) {
            match (deferred, mood) {
                (Deferred::Arrival(call) | Deferred::Reply(call, _), Mood::Down) => {
                    self.answer(call, Err(error(ErrorKind::Unavailable)));
                }
                (Deferred::Arrival(call), _) => self.arrive(call),
                (Deferred::Reply(call, result), _) => self.deliver(call, *result),
            }
        }
        if mood == Mood::Up {
            self.soon(500, move |play| play.tell(engine, &resync()));
        }
    }
}
