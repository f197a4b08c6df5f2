//! The whole of the lifecycle against engines that misbehave, on time that only we move.
//!
//! A run has two phases. In the first, callers, other hands and faults do what they like, and
//! safety is judged after every step. Then all of that stops, and liveness is judged. A seed
//! reproduces a run exactly; `NANNY_SEEDS=from..to` runs others than the usual ones.

mod calls;
mod checks;
mod engine;
mod mischief;
mod named;
mod services;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::calls::{Fate, failed};
use self::engine::{Engine, Random, Starter};
use self::mischief::Temper;
use super::{CallId, Effect, EngineIndex, Input, Now, Outcome, RequestId, Settings, World};
use crate::backend::{BackendError, BackendInfo, EngineHealth, ErrorKind, EventKind};
use crate::gpu::Exclusive;
use crate::journal::Journal;
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
        // An engine that was never seen to answer is in nobody's way, whatever runs on it.
        for engine in self.engines.iter_mut().filter(|engine| !engine.up) {
            engine.containers.values_mut().for_each(|held| held.starter = Starter::Others);
        }
        self.begin()
    }

    /// What runs and is no GPU service's, because its files changed while we were not there, is as
    /// if other hands had started it.
    fn disown_unknown(&mut self, discovery: &Discovery) {
        for held in self.engines.iter_mut().flat_map(|engine| engine.containers.values_mut()) {
            let project = held.info.labels.get(services::PROJECT).map_or("", String::as_str);
            if self.world.services.contains_key(project) {
                continue;
            }
            let mut found = discovery.services.iter();
            let found = found.find(|service| service.manifest.name.as_str() == project);
            let late = held.starter == Starter::UsTooLate;
            if late || !found.is_some_and(|service| service.manifest.gpu_required) {
                held.starter = Starter::Others;
            }
        }
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
            Effect::Journal => {
                let journal = Arc::new(self.world.journal().clone());
                self.at(self.now + 5, Happening::Written(self.epoch, journal));
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

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Input(epoch, input) if epoch == self.epoch => {
                if let Input::Done(id, _) = &input {
                    self.calls.remove(id);
                }
                if let Input::Discovered(discovery) = &input {
                    self.disown_unknown(discovery);
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
                    self.emit(engine, &container, &EventKind::Changed);
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
}

fn world(journal: Journal) -> World {
    let engines = [BackendInfo::new("one", ""), BackendInfo::new("two", "")];
    let policy = Arc::new(Exclusive);
    World::new(Settings::default(), policy, engines, journal, "boot".to_owned())
}
