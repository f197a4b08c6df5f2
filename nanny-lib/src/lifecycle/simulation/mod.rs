//! The whole of the lifecycle against engines that misbehave, on time that only we move.
//!
//! A run has two phases. In the first, callers, other hands and faults do what they like, and
//! safety is judged after every step. Then all of that stops, and liveness is judged. A seed
//! reproduces a run exactly; `NANNY_SEEDS=from..to` runs others than the usual ones.

mod checks;
mod engine;
mod mischief;
mod services;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::engine::{Engine, Random, Starter};
use self::mischief::Temper;
use super::{
    CallId, Effect, EngineIndex, Input, Journal, Now, Outcome, RequestId, Settings, World,
};
use crate::backend::{
    BackendError, BackendInfo, ContainerState, EngineHealth, ErrorKind, Event, EventKind,
};
use crate::gpu::Exclusive;
use crate::manifest::Discovery;
use crate::name::ContainerId;
use crate::probe::Health;
use crate::project::Step;

/// When mischief ends, in milliseconds.
const CHAOS: u64 = 40_000;
/// When everything must have come to rest.
const END: u64 = CHAOS + 150_000;
/// More inputs than this in a second of the run are a loop.
const MOST_STEPS_A_SECOND: u32 = 1000;

type Verdict = Result<(), String>;

#[test]
fn whatever_happens_the_promises_hold() {
    let seeds = std::env::var("NANNY_SEEDS").unwrap_or_else(|_| "0..300".to_owned());
    let (from, to) = seeds.split_once("..").expect("NANNY_SEEDS is from..to");
    let from: u64 = from.parse().expect("a number");
    let to: u64 = to.parse().expect("a number");
    for seed in from..to {
        if let Err(broken) = run(seed, false).0 {
            if std::env::var("SURVEY").is_ok() {
                eprintln!(
                    "@{seed}: {}",
                    broken.chars().take(200).collect::<String>().replace('\n', " ")
                );
                continue;
            }
            let (_, trace) = run(seed, true);
            panic!("{trace}\nseed {seed}: {broken}");
        }
    }
}

#[test]
fn a_seed_reproduces_a_run() {
    assert_eq!(run(7, true).1, run(7, true).1);
}

/// Runs a seed; what happened is written down if `traced`.
fn run(seed: u64, traced: bool) -> (Verdict, String) {
    let mut simulation = Simulation::new(seed, traced);
    let run = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    let verdict = run.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        Err(format!("panicked: {}", message.unwrap_or_default()))
    });
    (verdict, simulation.trace)
}

struct Simulation {
    random: Random,
    temper: Temper,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    world: World,
    /// Grows with every crash of the nanny: what is addressed to an earlier one is lost.
    epoch: u32,
    journal: Journal,
    engines: [Engine; 2],
    catalogue: BTreeMap<&'static str, u64>,
    /// Calls under way, as the effects say.
    calls: BTreeMap<CallId, (EngineIndex, Step)>,
    pending: BTreeMap<RequestId, String>,
    requests: u64,
    steps: (u64, u32),
    traced: bool,
    trace: String,
}

/// Something due at a time.
#[derive(Debug, Clone)]
enum Happening {
    Input(u32, Input),
    /// A call reaches its engine.
    Arrives {
        epoch: u32,
        id: CallId,
        engine: usize,
        step: Step,
        fate: Fate,
        by: Starter,
    },
    /// The engine answers a call, with how the container is now.
    Answers {
        epoch: u32,
        id: CallId,
        engine: usize,
        container: ContainerId,
        lost: Option<ErrorKind>,
    },
    /// A container's run ends.
    Ends {
        engine: usize,
        container: ContainerId,
        run: u64,
        code: i64,
    },
    /// An engine brings a container back.
    Revives {
        engine: usize,
        container: ContainerId,
    },
    Healthy {
        engine: usize,
        container: ContainerId,
    },
    Returns(usize),
    Written(u32, Arc<Journal>),
    Mischief,
    Heal,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Obeyed,
    /// Not executed.
    Refused(ErrorKind),
    /// Executed, and reported as failed.
    Lost(ErrorKind),
    /// Executed after it was reported as failed.
    Late,
}

impl Simulation {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random(seed);
        let temper = Temper::new(&mut random);
        let catalogue = services::NAMES.into_iter().map(|name| (name, 1)).collect();
        let mut engines = [Engine::default(), Engine::default()];
        engines[0].up = true;
        engines[1].up = random.percent(50);
        Self {
            random,
            temper,
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            world: world(Journal::default()),
            epoch: 0,
            journal: Journal::default(),
            engines,
            catalogue,
            calls: BTreeMap::new(),
            pending: BTreeMap::new(),
            requests: 0,
            steps: (0, 0),
            traced,
            trace: String::new(),
        }
    }

    fn run(&mut self) -> Verdict {
        self.begin()?;
        self.at(0, Happening::Mischief);
        self.at(CHAOS, Happening::Heal);
        while self.now < END {
            let tick =
                self.world.next_tick().map(|at| u64::try_from(at.as_millis()).unwrap_or(END));
            let queued = self.queue.first_key_value().map_or(END, |((at, _), _)| *at);
            // A tick is due at the first whole millisecond at which its time has come.
            let tick = tick.map_or(END, |at| (at + 1).max(self.now));
            if tick <= queued {
                self.now = tick;
                self.step(Input::Tick)?;
                let next = self.world.next_tick();
                if next.is_some_and(|at| at <= self.mono()) {
                    return Err(format!("a tick at {} leaves another at {next:?}", self.now));
                }
            } else if let Some(((at, _), happening)) = self.queue.pop_first() {
                self.now = at;
                self.happen(happening)?;
            } else {
                break;
            }
        }
        self.check_rest()
    }

    fn begin(&mut self) -> Verdict {
        let effects = self.world.begin(self.instant());
        effects.into_iter().try_for_each(|effect| self.carry_out(effect))
    }

    /// The nanny is killed, and starts again.
    fn crash(&mut self) -> Verdict {
        self.note(|| "the nanny is killed".to_owned());
        self.epoch += 1;
        self.calls.clear();
        self.pending.clear();
        self.world = world(self.journal.clone());
        self.begin()
    }

    fn mono(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn instant(&self) -> Now {
        let wall =
            i64::try_from(self.now).ok().and_then(|now| Timestamp::from_millisecond(now).ok());
        Now::new(self.mono(), wall.expect("a run is short"))
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.traced {
            let _ = writeln!(self.trace, "{:>7} {}", self.now, what());
        }
    }

    fn at(&mut self, at: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at, self.queued), happening);
    }

    /// Something happens in less than `most` milliseconds.
    fn soon(&mut self, most: u64, happening: Happening) {
        let at = self.now + self.random.below(most);
        self.at(at, happening);
    }

    fn tell(&mut self, most: u64, input: Input) {
        self.soon(most, Happening::Input(self.epoch, input));
    }

    fn step(&mut self, input: Input) -> Verdict {
        let second = self.now / 1000;
        self.steps = if self.steps.0 == second { (second, self.steps.1 + 1) } else { (second, 1) };
        if self.steps.1 > MOST_STEPS_A_SECOND {
            return Err("it goes round in circles".to_owned());
        }
        if !matches!(input, Input::Tick | Input::Probed { .. }) {
            self.note(|| format!("> {}", checks::shown(&input)));
        }
        let now = self.instant();
        for effect in self.world.step(now, input) {
            self.carry_out(effect)?;
        }
        for name in self.world.take_touched() {
            let _ = self.world.view(&name, now);
        }
        self.check()
    }

    fn carry_out(&mut self, effect: Effect) -> Verdict {
        match effect {
            Effect::Call { id, engine, step } => self.call(id, engine, step)?,
            Effect::Cancel(id) => {
                let given_up = BackendError::new(ErrorKind::Timeout, "pull", "it was given up");
                self.tell(10, Input::Done(id, Outcome::Failed(given_up)));
            }
            Effect::List { engine, issued } => {
                let result = if self.engines[engine.0].up {
                    Ok(self.engines[engine.0].list())
                } else {
                    Err(BackendError::new(ErrorKind::Unavailable, "list", "down"))
                };
                let delay = self.temper.delay(&mut self.random);
                self.tell(delay, Input::Listed { engine, issued, result });
            }
            Effect::Probe { target, run } => {
                let sick = self.now < CHAOS && self.random.percent(30);
                let health = match target.engine_health {
                    Some(EngineHealth::Starting | EngineHealth::Unhealthy) => None,
                    _ if sick => None,
                    _ => Some(Health::Healthy),
                };
                let health = health.unwrap_or(Health::Unreachable { reason: "no".to_owned() });
                let (service, latency) = (target.service, Duration::ZERO);
                self.tell(100, Input::Probed { service, run, health, latency });
            }
            Effect::Discover => {
                let discovery = self.discovery();
                self.tell(200, Input::Discovered(discovery));
            }
            Effect::Reply(request, answer) => {
                self.note(|| format!("< {request:?} {answer:?}"));
                self.check_answer(request, &answer)?;
            }
            Effect::Journal(journal) => {
                self.at(self.now + 5, Happening::Written(self.epoch, journal))
            }
            Effect::Announce(change) => self.note(|| format!("< {change:?}")),
        }
        Ok(())
    }

    fn discovery(&mut self) -> Discovery {
        let services =
            self.catalogue.iter().map(|(name, variant)| services::service(name, *variant));
        Discovery::new(services.collect(), Vec::new())
    }

    fn call(&mut self, id: CallId, engine: EngineIndex, step: Step) -> Verdict {
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
            let arrives = arrives(Starter::UsTooLate);
            self.tell(100, failed(id, ErrorKind::Timeout));
            let at = self.now + 100 + self.random.below(10_000);
            self.at(at, arrives);
        } else {
            let arrives = arrives(by);
            self.soon(delay, arrives);
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Input(epoch, input) if epoch == self.epoch => {
                if let Input::Done(id, _) = &input {
                    self.calls.remove(id);
                }
                return self.step(input);
            }
            Happening::Input(..) => {}
            Happening::Arrives { epoch, id, engine, step, fate, by } => {
                if epoch == self.epoch {
                    self.arrive(id, engine, &step, fate, by);
                } else if self.random.percent(50) {
                    self.arrive(id, engine, &step, Fate::Late, Starter::Others);
                }
            }
            Happening::Answers { epoch, id, engine, container, lost } => {
                if epoch == self.epoch {
                    self.answer(id, engine, &container, lost);
                }
            }
            Happening::Ends { engine, container, run, code } => {
                self.end(engine, &container, run, code);
            }
            Happening::Revives { engine, container } => self.revive(engine, &container),
            Happening::Healthy { engine, container } => {
                if let Some(held) = self.engines[engine].containers.get_mut(&container)
                    && held.info.health.is_some()
                {
                    held.info.health = Some(EngineHealth::Healthy);
                    self.emit(engine, &container, EventKind::Changed);
                }
            }
            Happening::Returns(engine) => {
                self.note(|| format!("engine {engine} is back"));
                self.engines[engine].up = true;
                self.emit_to_all(engine);
            }
            Happening::Written(epoch, journal) => {
                if epoch == self.epoch {
                    self.journal = (*journal).clone();
                }
            }
            Happening::Mischief => return self.mischief(),
            Happening::Heal => return self.heal(),
        }
        self.check_engines()
    }

    /// A call is executed, or not.
    fn arrive(&mut self, id: CallId, engine: usize, step: &Step, fate: Fate, by: Starter) {
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

    fn answer(
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
    fn execute(
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
                self.emit(engine, &id, EventKind::Created);
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
                    self.emit(engine, id, EventKind::Removed);
                }
                Ok((None, 1))
            }
        }
    }

    /// A container has been started: some end soon.
    fn started(&mut self, engine: usize, id: &ContainerId) {
        self.emit(engine, id, EventKind::Started);
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
            self.emit(engine, id, EventKind::StopRequested);
            if after == 0 {
                self.end(engine, id, run, 137);
            } else {
                let ends = Happening::Ends { engine, container: id.clone(), run, code: 143 };
                self.at(self.now + after, ends);
            }
        }
        Ok(())
    }

    fn end(&mut self, engine: usize, id: &ContainerId, run: u64, code: i64) {
        let by_itself = self.engines[engine].containers.get(id).is_some_and(|held| !held.stopping);
        if !self.engines[engine].end(id, run, code) {
            return;
        }
        self.note(|| format!("  {} ended with {code}", id.as_str()));
        self.emit(engine, id, EventKind::Exited(crate::backend::Exit::with_code(code)));
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        if by_itself && held.info.restart.answers(Some(code), 0) {
            held.info.state = ContainerState::Restarting;
            self.soon(1000, Happening::Revives { engine, container: id.clone() });
        }
    }

    fn revive(&mut self, engine: usize, id: &ContainerId) {
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
    fn emit(&mut self, engine: usize, id: &ContainerId, kind: EventKind) {
        for _ in 0..self.temper.echoes(&mut self.random, self.now < CHAOS) {
            let event = Event { kind: kind.clone(), container: Some(id.clone()) };
            let delay = self.temper.delay(&mut self.random);
            self.tell(delay, Input::Event(EngineIndex(engine), event));
        }
    }

    fn emit_to_all(&mut self, engine: usize) {
        let resync = Event { kind: EventKind::Resync, container: None };
        self.tell(500, Input::Event(EngineIndex(engine), resync));
    }
}

fn world(journal: Journal) -> World {
    let engines = [BackendInfo::new("one", ""), BackendInfo::new("two", "")];
    let policy = Arc::new(Exclusive);
    World::new(Settings::default(), policy, engines, journal, "boot".to_owned())
}

fn failed(id: CallId, kind: ErrorKind) -> Input {
    Input::Done(id, Outcome::Failed(BackendError::new(kind, "call", format!("{kind:?}"))))
}
