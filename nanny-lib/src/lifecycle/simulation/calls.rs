//! What becomes of the calls to the engines, and of what they start.

use crate::backend::{BackendError, ContainerState, ErrorKind, Event, EventKind, Exit};
use crate::lifecycle::{CallId, EngineIndex, Input, Outcome};
use crate::name::ContainerId;
use crate::project::Step;

use super::engine::Starter;
use super::{CHAOS, Happening, Simulation, Verdict};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Obeyed,
    /// Not executed.
    Refused(ErrorKind),
    /// Executed, and reported as failed.
    Lost(ErrorKind),
    /// Executed after it was reported as failed.
    Late,
}

impl Simulation {
    pub(super) fn call(&mut self, id: CallId, engine: EngineIndex, step: Step) -> Verdict {
        self.check_call(id, engine, &step)?;
        let fate = self.temper.fate(&mut self.random, self.now < CHAOS);
        self.note(|| format!("< {id:?} {step} on {} ({fate:?})", engine.0));
        let service = &self.world.services[&self.world.calls[&id].service];
        let by = if service.needs_gpu() { Starter::UsOnGpu } else { Starter::Us };
        self.calls.insert(id, (engine, step.clone()));
        let delay = self.temper.delay(&mut self.random);
        let arrives =
            |by| Happening::Arrives { epoch: self.epoch, id, engine: engine.0, step, fate, by };
        if fate == Fate::Late {
            let arrives = arrives(if by == Starter::UsOnGpu { Starter::UsTooLate } else { by });
            self.tell(100, failed(id, ErrorKind::Timeout));
            let at = self.now + 100 + self.random.below(10_000);
            self.at(at, arrives);
        } else {
            let arrives = arrives(by);
            self.soon(delay, arrives);
        }
        Ok(())
    }

    /// A call is executed, or not.
    pub(super) fn arrive(
        &mut self,
        id: CallId,
        engine: usize,
        step: &Step,
        fate: Fate,
        by: Starter,
    ) {
        if !self.engines[engine].up && fate != Fate::Late {
            self.tell(50, failed(id, ErrorKind::Unavailable));
            return;
        }
        let lost = match fate {
            Fate::Refused(kind) => {
                self.tell(50, failed(id, kind));
                return;
            }
            Fate::Lost(kind) => Some(kind),
            Fate::Obeyed | Fate::Late => None,
        };
        self.note(|| format!("  {id:?} is executed: {step} ({by:?})"));
        let executed = self.execute(engine, step, by);
        if fate == Fate::Late {
            return;
        }
        match executed {
            Ok((Some(container), after)) => {
                let answers = Happening::Answers { epoch: self.epoch, id, engine, container, lost };
                self.at(self.now + after, answers);
            }
            Ok((None, after)) => {
                let outcome = match (lost, step) {
                    (Some(kind), _) => Outcome::Failed(BackendError::new(kind, "call", "lost")),
                    (None, Step::Image(image)) => Outcome::Image(format!("id of {image}")),
                    (None, Step::Remove { id }) => Outcome::Gone(id.clone()),
                    (None, _) => Outcome::Ensured,
                };
                self.at(self.now + after, Happening::Input(self.epoch, Input::Done(id, outcome)));
            }
            Err(error) => self.tell(50, Input::Done(id, Outcome::Failed(error))),
        }
    }

    pub(super) fn answer(
        &mut self,
        id: CallId,
        engine: usize,
        container: &ContainerId,
        lost: Option<ErrorKind>,
    ) {
        let held = self.engines[engine].containers.get(container);
        let outcome = match (lost, held) {
            (Some(kind), _) => Outcome::Failed(BackendError::new(kind, "call", "lost")),
            (None, Some(held)) => Outcome::Container(held.info.clone()),
            (None, None) => Outcome::Gone(container.clone()),
        };
        self.tell(50, Input::Done(id, outcome));
    }

    /// What the engine does, and for how long it is at it: the container it is about, if any.
    pub(super) fn execute(
        &mut self,
        engine: usize,
        step: &Step,
        by: Starter,
    ) -> Result<(Option<ContainerId>, u64), BackendError> {
        let at = self.instant().wall;
        match step {
            Step::Network(_) | Step::Volume(_) | Step::RemoveNetwork(_) => Ok((None, 1)),
            Step::Image(_) => {
                let most = if self.random.percent(20) { 20_000 } else { 50 };
                Ok((None, self.random.below(most)))
            }
            Step::Create { spec, .. } => {
                let id = self.engines[engine].create(["p", "q"][engine], spec)?;
                self.emit(engine, &id, &EventKind::Created);
                Ok((Some(id), 1))
            }
            Step::Start { id, .. } => {
                let runs = self.engines[engine].containers.get(id).map(|held| held.run);
                self.engines[engine].start(id, by, at)?;
                if runs != self.engines[engine].containers.get(id).map(|held| held.run) {
                    self.started(engine, id);
                }
                Ok((Some(id.clone()), self.random.below(300)))
            }
            Step::Stop { id, grace } => {
                let grace = u64::try_from(grace.as_millis()).unwrap_or(10_000);
                let after = if self.random.percent(10) { grace } else { self.random.below(2000) };
                self.ask_to_stop(engine, id, after)?;
                Ok((Some(id.clone()), after + 1))
            }
            Step::Kill { id } => {
                self.ask_to_stop(engine, id, 0)?;
                Ok((Some(id.clone()), 1))
            }
            Step::Remove { id } => {
                if self.engines[engine].containers.remove(id).is_some() {
                    self.emit(engine, id, &EventKind::Removed);
                }
                Ok((None, 1))
            }
        }
    }

    /// A container has been started: some end soon.
    fn started(&mut self, engine: usize, id: &ContainerId) {
        self.emit(engine, id, &EventKind::Started);
        let Some(held) = self.engines[engine].containers.get(id) else { return };
        let (run, job) = (held.run, held.info.name.contains("init"));
        self.soon(3000, Happening::Healthy { engine, container: id.clone() });
        if job || self.temper.crashes(&mut self.random, self.now < CHAOS) {
            let code = if job { 0 } else { self.random.pick(&[0, 1, 137]).unwrap_or(1) };
            self.soon(3000, Happening::Ends { engine, container: id.clone(), run, code });
        }
    }

    fn ask_to_stop(
        &mut self,
        engine: usize,
        id: &ContainerId,
        after: u64,
    ) -> Result<(), BackendError> {
        let held = self.engines[engine].containers.get_mut(id);
        let held = held.ok_or_else(|| BackendError::new(ErrorKind::NotFound, "stop", "gone"))?;
        if held.info.state.holds() {
            held.stopping = true;
            if self.random.percent(50) {
                held.info.state = ContainerState::Stopping;
            }
            let run = held.run;
            self.emit(engine, id, &EventKind::StopRequested);
            if after == 0 {
                self.end(engine, id, run, 137);
            } else {
                let ends = Happening::Ends { engine, container: id.clone(), run, code: 143 };
                self.at(self.now + after, ends);
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, engine: usize, id: &ContainerId, run: u64, code: i64) {
        let by_itself = self.engines[engine].containers.get(id).is_some_and(|held| !held.stopping);
        if !self.engines[engine].end(id, run, code) {
            return;
        }
        self.note(|| format!("  {} ended with {code}", id.as_str()));
        self.emit(engine, id, &EventKind::Exited(Exit::with_code(code)));
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        if by_itself && held.info.restart.answers(Some(code), 0) {
            held.info.state = ContainerState::Restarting;
            self.soon(1000, Happening::Revives { engine, container: id.clone() });
        }
    }

    pub(super) fn revive(&mut self, engine: usize, id: &ContainerId) {
        let at = self.instant().wall;
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        if held.info.state == ContainerState::Restarting {
            held.info.state = ContainerState::Running;
            held.info.started_at = Some(at);
            held.run += 1;
            self.started(engine, id);
        }
    }

    /// Tells the nanny of something, late, twice or not at all.
    pub(super) fn emit(&mut self, engine: usize, id: &ContainerId, kind: &EventKind) {
        for _ in 0..self.temper.echoes(&mut self.random, self.now < CHAOS) {
            let event = Event { kind: kind.clone(), container: Some(id.clone()) };
            let delay = self.temper.delay(&mut self.random);
            self.tell(delay, Input::Event(EngineIndex(engine), event));
        }
    }

    pub(super) fn emit_to_all(&mut self, engine: usize) {
        let resync = Event { kind: EventKind::Resync, container: None };
        self.tell(500, Input::Event(EngineIndex(engine), resync));
    }
}

pub(super) fn failed(id: CallId, kind: ErrorKind) -> Input {
    Input::Done(id, Outcome::Failed(BackendError::new(kind, "call", format!("{kind:?}"))))
}
