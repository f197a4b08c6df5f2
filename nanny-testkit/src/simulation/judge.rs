//! What must hold: at every instant, after every step, and once all has come to rest.
//!
//! The judge knows the truth, which is what the engines hold, and compares. The names of the
//! promises are those of the list of invariants: S for safety, L for liveness.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use nanny_lib::backend::{ContainerInfo, ContainerState};
use nanny_lib::lifecycle::{Effect, Input, Now, Outcome, World};
use nanny_lib::{ContainerId, EngineState, Error, Nanny, Snapshot, StepObserver};

use super::calls::shown;
use super::engine::{Held, Op, Starter};
use super::people::{Ask, Told};
use super::play::{Play, Stage};
use super::services;

/// More inputs than this in a second of the run are a loop.
const MOST_STEPS_A_SECOND: u32 = 1000;
/// So long after a change, in milliseconds, the view must show it.
const SEEN: u64 = 5000;
/// An answer was true at some instant not longer ago than this, in milliseconds: views are as old as
/// the last list, and lists may be slow.
const TRUE_LATELY: u64 = 10_000;

impl Play {
    fn ensure(&mut self, holds: bool, promise: &str, broken: impl FnOnce() -> String) {
        if !holds {
            let broken = broken();
            self.broken(format!("{promise}: {broken}"));
        }
    }

    pub(super) fn held(&self) -> impl Iterator<Item = (usize, &Held)> {
        let engines = self.engines.iter().enumerate();
        engines
            .flat_map(|(index, engine)| engine.containers.values().map(move |held| (index, held)))
    }

    /// S1, at every instant: never two GPU services that we started, by the engines' own word.
    pub(super) fn judge_engines(&mut self) {
        let ours = self.gpu_services(&[Starter::Us]);
        if ours.len() > 1 {
            let ours = format!("{ours:?}");
            self.broken(format!("S1: {ours} run at once"));
        }
    }

    /// What runs on an engine that this nanny has never seen to answer is in nobody's way.
    fn excuse_unseen(&mut self) {
        let seen = self.nanny.as_ref().map(Nanny::snapshot);
        let never_seen: Vec<usize> = seen.map_or_else(Vec::new, |seen| {
            let engines = seen.engines.iter().enumerate();
            let absent = engines.filter(|(_, engine)| engine.state == EngineState::Absent);
            absent.map(|(index, _)| index).collect()
        });
        for engine in never_seen {
            let recorded = &self.born_with.engines;
            let name = ["one", "two"][engine];
            for held in self.engines[engine].containers.values_mut() {
                // Unless the last one has left word of it.
                let known = services::of(&held.info).and_then(|name| recorded.get(name));
                if known.is_none_or(|engine| engine != name) {
                    held.starter = Starter::Others;
                }
            }
        }
    }

    fn gpu_services(&self, started_by: &[Starter]) -> BTreeSet<&'static str> {
        let held = self.held().map(|(_, held)| held);
        held.filter(|held| held.info.uses_gpu && held.info.state.holds())
            .filter(|held| started_by.contains(&held.starter))
            .filter_map(|held| services::of(&held.info))
            .collect()
    }

    /// A call that changes something is about to be sent.
    pub(super) fn judge_call(&mut self, engine: usize, op: &Op) {
        if let Op::Start(id) = op {
            self.excuse_unseen();
            self.judge_memory(engine, id);
        }
        if self.temper.readers {
            self.ensure(false, "S6", || format!("{} because somebody looked", shown(op)));
        }
        if let Op::RemoveNetwork(id) = op
            && let Some(network) = self.engines[engine].networks.get(id)
        {
            let ours = network.labels == services::identity("d");
            self.ensure(ours, "S4", || "a stranger's network is removed".to_owned());
        }
        let Some(container) = op.container() else { return };
        let rivals = self.in_flight.values().filter(|(id, _)| id == container);
        // A kill may overtake a stop.
        let rival = rivals
            .map(|(_, other)| other)
            .find(|other| !matches!((op, other), (Op::Kill(_), Op::Stop(..))));
        let rival = rival.map(shown);
        self.ensure(rival.is_none(), "S2", || {
            format!("{} while {} is under way", shown(op), rival.unwrap_or_default())
        });
        let Some(held) = self.engines[engine].containers.get(container) else { return };
        let (name, runs) = (services::of(&held.info), held.info.state.holds());
        let inside = held.files;
        let is = held.info.name.clone();
        self.ensure(name.is_some(), "S4", || format!("{} touches '{is}'", shown(op)));
        let wanted = name.map_or(0, services::files);
        let ready = !matches!(op, Op::Start(_)) || inside >= wanted;
        self.ensure(ready, "S2", || format!("'{is}' is started without its files"));
        let ends = matches!(op, Op::Stop(..) | Op::Kill(_) | Op::Remove(_));
        if self.temper.gentle && ends && runs {
            let licensed = name.is_some_and(|name| self.licences.contains(name));
            self.ensure(licensed, "S3", || format!("'{is}' is stopped, and nobody asked for it"));
        }
    }

    /// In a gentle run, and if the GPU is measured: nothing is started on memory that another had,
    /// before it is free.
    fn judge_memory(&mut self, engine: usize, id: &ContainerId) {
        if !self.temper.gentle || !self.temper.measured {
            return;
        }
        let Some(held) = self.engines[engine].containers.get(id) else { return };
        let Some(name) = services::of(&held.info).filter(|_| held.info.uses_gpu) else { return };
        let lingers = self.lingering().find(|other| *other != name);
        self.ensure(lingers.is_none(), "S8", || {
            format!("'{name}' is started on the memory of '{}'", lingers.unwrap_or_default())
        });
    }

    /// In a gentle run, what callers ask for is what gives leave to stop something.
    pub(super) fn license(&mut self, ask: &Ask) {
        let is_gpu = |name, catalogue: &std::collections::BTreeMap<&'static str, u64>| {
            catalogue.get(name).is_some_and(|variant| services::needs_gpu(name, *variant))
        };
        match ask {
            Ask::Stop(name, _) | Ask::Restart(name, _) => {
                self.licences.insert(name);
            }
            // What ended meanwhile may be made anew, and take others along.
            Ask::Start(name, options) if options.recreate || services::follows(name) => {
                self.licences.insert(name);
            }
            _ => {}
        }
        let (Ask::Start(name, options) | Ask::Restart(name, options)) = ask else { return };
        if (options.force || !options.queue.is_zero()) && is_gpu(name, &self.catalogue) {
            for other in services::NAMES {
                let pinned =
                    self.catalogue.get(other).is_some_and(|v| services::is_pinned(other, *v));
                if other != *name && !pinned && is_gpu(other, &self.catalogue) {
                    self.licences.insert(other);
                }
            }
        }
    }

    /// Once a service is down, and nobody waits for anything, the leave to stop it is used up. Where
    /// starts are queued, it may be stopped for one of them later.
    pub(super) fn use_up_licence(&mut self, engine: usize, id: &ContainerId) {
        let held = self.engines[engine].containers.get(id);
        if let Some(name) = held.and_then(|held| services::of(&held.info))
            && self.callers.is_empty()
            && self.temper.queue == 0
            && !self.holds(name)
        {
            self.licences.remove(name);
        }
    }

    /// A caller is told how its request ended.
    pub(super) fn judge_answer(
        &mut self,
        ask: &Ask,
        asked: u64,
        answer: &Result<(Told, String), Error>,
    ) {
        let words = match answer {
            Ok((_, words)) => words.clone(),
            Err(error) => format!("{error} {error:?}"),
        };
        self.judge_words(&words);
        match (ask, answer) {
            (Ask::Start(name, _) | Ask::Restart(name, _), Ok((Told::Runs, _))) => {
                let lately = self.last_up.get(name).is_some_and(|at| self.is_late(*at));
                let ended_well =
                    self.held().any(|(_, held)| services::of(&held.info) == Some(name))
                        && self.held().all(|(_, held)| {
                            services::of(&held.info) != Some(name) || ended_well(&held.info)
                        });
                let holds = self.holds(name) || lately || ended_well;
                self.ensure(holds, "S2", || format!("'{name}' was said to run, and does not"));
            }
            (Ask::Stop(name, _), Ok(_)) => {
                let lately = self.last_down.get(name).is_some_and(|at| self.is_late(*at));
                // Nobody can tell what runs on an engine that this nanny has not seen.
                let seen = self.nanny.as_ref().map(Nanny::snapshot).unwrap_or_default();
                let unseen = |engine: usize| {
                    seen.engines.get(engine).is_none_or(|engine| engine.state != EngineState::Up)
                };
                // What others have just started may not have been seen yet.
                let runs = self.held().any(|(engine, held)| {
                    !unseen(engine)
                        && services::of(&held.info) == Some(name)
                        && held.info.state.holds()
                        && !(held.starter == Starter::Others && self.is_late(held.changed))
                });
                let down = !runs || lately;
                self.ensure(down, "S2", || format!("'{name}' was said to be stopped, and runs"));
            }
            _ => {}
        }
        if !self.temper.gentle {
            return;
        }
        let waited = self.now() - asked;
        self.ensure(waited <= 60_000, "L5", || format!("{ask:?} is answered after {waited} ms"));
        let excused = match (ask, answer) {
            (_, Ok(_)) => true,
            (
                Ask::Start(name, _)
                | Ask::Stop(name, _)
                | Ask::Restart(name, _)
                | Ask::Plan(name, _),
                Err(Error::EngineUnavailable { engine, .. }),
            ) => self.asks_for(name) == Some(engine.as_str()),
            (Ask::Start(..) | Ask::Restart(..), Err(error)) => matches!(
                error,
                Error::GpuConflict { .. }
                    // Somebody who is pinned has it.
                    | Error::GpuRefused { .. }
                    | Error::Cancelled { .. }
                    | Error::StartTimeout { .. }
            ),
            (_, Err(_)) => false,
        };
        self.ensure(excused, "L5", || format!("{ask:?} fails without a cause: {words}"));
    }

    /// The engine that a service asks for as its files are now.
    fn asks_for(&self, name: &str) -> Option<&'static str> {
        self.catalogue.get(name).and_then(|variant| services::backend(name, *variant))
    }

    fn is_late(&self, at: u64) -> bool {
        self.now() - at <= TRUE_LATELY
    }

    /// S5: no secret in any output.
    pub(super) fn judge_words(&mut self, words: &str) {
        let told = words.contains(services::SECRET);
        self.ensure(!told, "S5", || format!("a secret is told: {words}"));
    }

    /// L1: whatever changed more than five seconds ago is seen as it is.
    pub(super) fn judge_view(&mut self) {
        let Some(nanny) = self.nanny.as_ref() else {
            return self.ensure(false, "L1", || "there is no nanny".to_owned());
        };
        let seen = nanny.snapshot();
        let wrong = self.differs(&seen);
        self.ensure(wrong.is_none(), "L1", || wrong.unwrap_or_default());
    }

    fn differs(&self, seen: &Snapshot) -> Option<String> {
        let old = |at: u64| at + SEEN <= self.now();
        if let Some(engine) = seen.engines.iter().find(|engine| engine.state != EngineState::Up) {
            return Some(format!("the engine {} is said to be {:?}", engine.name, engine.state));
        }
        for (engine, held) in self.held().filter(|(_, held)| old(held.changed)) {
            let (info, runs) = (&held.info, held.info.state.holds());
            let name = services::of(info);
            let Some(service) = name.and_then(|name| seen.services.get(name)) else {
                let foreign = seen.foreign_gpu_containers.contains(&info.name);
                if runs && info.uses_gpu && !foreign {
                    return Some(format!("'{}' has a GPU, and nobody says so", info.name));
                }
                continue;
            };
            // What a service has left behind on another engine is of no interest.
            let here = service.backend.as_deref() == Some(seen.engines[engine].name.as_str());
            if !runs && !here {
                continue;
            }
            let shown = service.containers.iter().find(|shown| shown.id == info.id);
            if shown.map(|shown| shown.state) != Some(info.state) {
                let shown = shown.map(|shown| shown.state);
                return Some(format!("'{}' is {:?} and seen as {shown:?}", info.name, info.state));
            }
            if runs && !service.is_running {
                return Some(format!("'{}' runs, and its service is said not to", info.name));
            }
            let holder = service.holds_gpu && seen.gpu_services_running.contains(service.name());
            if runs && info.uses_gpu && service.manifest.gpu_required && !holder {
                return Some(format!("'{}' holds the GPU, and is not said to", info.name));
            }
        }
        for name in &seen.foreign_gpu_containers {
            let mut named = self.held().filter(|(_, held)| held.info.name == *name);
            if named.all(|(_, held)| old(held.changed) && !held.info.state.holds()) {
                return Some(format!("'{name}' is said to have a GPU, and does not run"));
            }
        }
        for service in seen.services.values() {
            for shown in &service.containers {
                let gone = self.engines.iter().find_map(|engine| engine.removed.get(&shown.id));
                if gone.is_some_and(|at| old(*at)) {
                    return Some(format!("'{}' is gone, and still shown", shown.name));
                }
            }
        }
        None
    }

    /// Long after the last fault: two that we started are not left side by side, however late the
    /// second came; nobody waits; and nothing of ours is out of reach (L2).
    pub(super) fn judge_rest(&mut self) {
        let two = self.gpu_services(&[Starter::Us, Starter::UsTooLate]);
        let (count, two) = (two.len(), format!("{two:?}"));
        self.ensure(count <= 1, "S1", || format!("{two} go on running side by side"));
        let callers = format!("{:?}", self.callers);
        self.ensure(self.callers.is_empty(), "L5", || format!("never answered: {callers}"));
        let seen = self.nanny.as_ref().map(Nanny::snapshot).unwrap_or_default();
        let orphan = self.held().map(|(_, held)| held).find(|held| {
            let known =
                services::of(&held.info).is_some_and(|name| seen.services.contains_key(name));
            held.starter == Starter::Us && held.info.state.holds() && !known
        });
        let orphan = orphan.map(|held| held.info.name.clone());
        self.ensure(orphan.is_none(), "L2", || {
            format!("'{}' runs, and nobody can stop it", orphan.unwrap_or_default())
        });
        let strange = seen
            .services
            .values()
            .find(|service| !service.gone && !self.catalogue.contains_key(service.name().as_str()));
        let strange = strange.map(|service| service.name().to_string());
        self.ensure(strange.is_none(), "L1", || {
            format!("'{}' is still offered", strange.unwrap_or_default())
        });
    }
}

fn ended_well(container: &ContainerInfo) -> bool {
    let code = container.exit.as_ref().and_then(|exit| exit.code);
    container.state == ContainerState::Exited && code == Some(0)
}

/// Looks over the shoulder of one nanny.
pub(super) struct Judge {
    pub(super) stage: Stage,
    pub(super) epoch: u32,
}

impl StepObserver for Judge {
    fn before(&self, _: Now, input: &Input) {
        self.stage.with(|play| {
            if play.epoch != self.epoch {
                return;
            }
            let second = play.now() / 1000;
            let (at, steps) = play.steps;
            play.steps = if at == second { (second, steps + 1) } else { (second, 1) };
            if play.steps.1 > MOST_STEPS_A_SECOND {
                play.broken("it goes round in circles");
                // Or no time would ever pass again.
                play.over();
                return;
            }
            if !matches!(input, Input::Tick | Input::Probed { .. }) {
                play.note(|| format!("> {}", brief(input)));
            }
            if let Input::Command(request, _) = input {
                play.pending.insert(*request);
            }
            if let Input::Discovered(discovery) = input {
                play.disown_unknown(
                    discovery.services.iter().map(|found| found.manifest.name.as_str()),
                );
            }
        });
    }

    fn after(&self, _: Now, world: &World, effects: &[Effect]) {
        self.stage.with(|play| {
            if play.epoch != self.epoch {
                return;
            }
            for effect in effects {
                if let Effect::Reply(request, answer) = effect {
                    let waited = play.pending.remove(request);
                    play.ensure(waited, "S2", || {
                        format!("{request:?} is answered twice: {answer:?}")
                    });
                }
                if let Effect::Announce(change) = effect {
                    play.note(|| format!("< {change:?}"));
                    play.judge_words(&format!("{change:?}"));
                }
                if let Effect::Journal = effect {
                    play.note(|| format!("< journal {:?}", world.journal().services));
                }
            }
            // Between what it decided and what becomes of it, too.
            let kills = play.temper.kills_here(&mut play.random) && play.random.percent(20);
            if kills && !effects.is_empty() {
                play.note(|| "the nanny is killed after this step".to_owned());
                play.kill(false);
                return;
            }
            let pending: Vec<_> = play.pending.iter().copied().collect();
            let waiting = world.waiting();
            play.ensure(waiting == pending, "S2", || {
                format!("{pending:?} wait for an answer, and {waiting:?} are remembered")
            });
            let mut books = world.audit();
            if play.steps.1 % 8 == 0 {
                books = books.and_then(|()| world.audit_owners());
            }
            if let Err(wrong) = books {
                play.broken(format!("S7: {wrong}"));
            }
            if let Some(verdict) = &mut play.rest {
                *verdict = world.audit_at_rest();
            }
        });
    }
}

impl Play {
    /// What runs and is no GPU service's when the nanny first hears of its files, because they
    /// changed while no nanny was there, is as if other hands had started it.
    fn disown_unknown<'a>(&mut self, found: impl Iterator<Item = &'a str>) {
        let found: BTreeSet<_> = found.collect();
        let seen = self.nanny.as_ref().map(Nanny::snapshot).unwrap_or_default();
        let catalogue = self.catalogue.clone();
        let held = self.engines.iter_mut().flat_map(|engine| engine.containers.values_mut());
        for held in held {
            let Some(name) = services::of(&held.info) else { continue };
            if seen.services.contains_key(name) {
                continue;
            }
            let gpu = catalogue.get(name).is_some_and(|v| services::needs_gpu(name, *v));
            if !found.contains(name) || !gpu {
                held.starter = Starter::Others;
            }
        }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Judge({})", self.epoch)
    }
}

/// An input on one line.
fn brief(input: &Input) -> String {
    match input {
        Input::Listed { engine, result: Ok(list), .. } => {
            format!("{} lists {}", engine.0, states(list))
        }
        Input::Discovered(discovery) => {
            let names: Vec<_> =
                discovery.services.iter().map(|service| service.manifest.name.as_str()).collect();
            format!("discovered {names:?}, {} problems", discovery.problems.len())
        }
        Input::Done(id, Outcome::Container(container)) => {
            format!("{id:?} {}", states(std::slice::from_ref(container)))
        }
        Input::Swept(Ok(sweep)) => {
            let seen = sweep.devices.iter().map(|device| {
                let users = device.processes.iter().flatten();
                let users: Vec<_> = users.map(|process| process.containers.join(",")).collect();
                format!("{} MiB by {users:?}", device.used_mib.unwrap_or_default())
            });
            format!("swept {:?}", seen.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}

fn states(containers: &[ContainerInfo]) -> String {
    let mut line = String::new();
    for c in containers {
        let _ = write!(line, "{}={} {:?}, ", c.id.as_str(), c.name, c.state);
    }
    line
}
