//! What is going on: engines, calls on their way, the nanny of the moment, and what is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::backend::{ContainerState, EngineHealth, ErrorKind, Event, EventKind, Exit};
use nanny_lib::journal::Journal;
use nanny_lib::lifecycle::RequestId;
use nanny_lib::manifest::Changed;
use nanny_lib::{ContainerId, Nanny};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::backend::resync;
use super::engine::{Deferred, Engine, Mood, Op, Reply, Result, Starter, error};
use super::random::Random;
use super::services;
use super::temper::{Fate, Temper};

/// The play, shared by all who take part in it. Never held across an await.
#[derive(Clone)]
pub(super) struct Stage(Arc<Mutex<Play>>);

/// Everything that is not the nanny.
pub(super) struct Play {
    me: Weak<Mutex<Play>>,
    began: Instant,
    pub(super) random: Random,
    pub(super) temper: Temper,
    /// Mischief has ended.
    pub(super) healed: bool,
    pub(super) engines: [Engine; 2],
    /// Which version of its files each service has.
    pub(super) catalogue: BTreeMap<&'static str, u64>,
    /// The source says that something changed.
    pub(super) watchers: Vec<mpsc::UnboundedSender<Changed>>,
    /// Grows with every end of a nanny: whoever belongs to an earlier one is not heard any more.
    pub(super) epoch: u32,
    pub(super) nanny: Option<Nanny>,
    pub(super) driver: Option<AbortHandle>,
    pub(super) journal: Journal,
    /// What the present nanny has found in its journal, of this boot.
    pub(super) born_with: Journal,
    pub(super) boot: u32,
    /// How far the wall clock has been set off.
    pub(super) clock: jiff::SignedDuration,
    /// What the present nanny has taken in, and not answered.
    pub(super) pending: BTreeSet<RequestId>,
    /// Callers who wait: what they asked, when, and whom.
    pub(super) callers: BTreeMap<u64, (u64, String)>,
    pub(super) asked: u64,
    /// Calls of the present nanny that change a container, and are not answered.
    pub(super) in_flight: BTreeMap<u64, (ContainerId, Op)>,
    calls: u64,
    /// When each service was last seen running, and not running.
    pub(super) last_up: BTreeMap<&'static str, u64>,
    pub(super) last_down: BTreeMap<&'static str, u64>,
    /// In a gentle run: whose containers may be stopped.
    pub(super) licences: BTreeSet<&'static str>,
    /// Once it has been asked whether all is at rest: what came of it.
    pub(super) rest: Option<std::result::Result<(), String>>,
    /// Containers of these names cannot be started.
    pub(super) refused: Vec<String>,
    pub(super) steps: (u64, u32),
    pub(super) broken: Option<String>,
    pub(super) ended: Arc<Notify>,
    pub(super) trace: Option<String>,
}

/// A call on its way.
pub(super) struct Call {
    number: u64,
    epoch: u32,
    engine: usize,
    op: Op,
    fate: Fate,
    reply: Option<oneshot::Sender<Result<Reply>>>,
}

impl Stage {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random(seed);
        let temper = Temper::new(&mut random);
        let catalogue = services::NAMES.into_iter();
        let catalogue =
            catalogue.map(|name| (name, 1 + 2 * u64::from(random.percent(10)))).collect();
        let mut engines = [Engine::default(), Engine::default()];
        if random.percent(50) {
            engines[1].mood = Mood::Down;
        }
        for engine in &mut engines {
            if random.percent(70) {
                engine.images.insert("image".to_owned());
            }
        }
        Self(Arc::new_cyclic(|me| {
            Mutex::new(Play {
                me: me.clone(),
                began: Instant::now(),
                random,
                temper,
                healed: false,
                engines,
                catalogue,
                watchers: Vec::new(),
                epoch: 0,
                nanny: None,
                driver: None,
                journal: Journal::default(),
                born_with: Journal::default(),
                boot: 0,
                clock: jiff::SignedDuration::ZERO,
                pending: BTreeSet::new(),
                callers: BTreeMap::new(),
                asked: 0,
                in_flight: BTreeMap::new(),
                calls: 0,
                last_up: BTreeMap::new(),
                last_down: BTreeMap::new(),
                licences: BTreeSet::new(),
                rest: None,
                refused: Vec::new(),
                steps: (0, 0),
                broken: None,
                ended: Arc::default(),
                trace: traced.then(String::new),
            })
        }))
    }

    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Play) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Play {
    /// Milliseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn wall(&self) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(self.began.elapsed());
        let day = jiff::SignedDuration::from_hours(24 * 365);
        let at = elapsed.ok().and_then(|e| e.checked_add(day)?.checked_add(self.clock));
        at.and_then(|at| Timestamp::UNIX_EPOCH.checked_add(at).ok()).unwrap_or_default()
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        self.me.upgrade().map(Stage)
    }

    /// Writes down what happens, for those who read the trace.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{now:>7} {}", what());
        }
    }

    /// A promise was broken: the run ends.
    pub(super) fn broken(&mut self, how: impl Into<String>) {
        let how = how.into();
        self.note(|| format!("BROKEN: {how}"));
        self.broken.get_or_insert(how);
        self.ended.notify_one();
    }

    /// Does something later.
    pub(super) fn later(&self, millis: u64, act: impl FnOnce(&mut Self) + Send + 'static) {
        let me = self.me.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            if let Some(stage) = me.upgrade().map(Stage) {
                stage.with(act);
            }
        });
    }

    /// Does something within the next `most` milliseconds.
    pub(super) fn soon(&mut self, most: u64, act: impl FnOnce(&mut Self) + Send + 'static) {
        let millis = self.random.below(most);
        self.later(millis, act);
    }

    /// A nanny sends a call, and is told its number.
    pub(super) fn send(
        &mut self,
        epoch: u32,
        engine: usize,
        op: Op,
        reply: oneshot::Sender<Result<Reply>>,
    ) -> u64 {
        // Whoever is dead waits for ever.
        if epoch != self.epoch {
            return 0;
        }
        self.calls += 1;
        let number = self.calls;
        let fate = self.temper.fate(&mut self.random, op.changes_something());
        let delay = self.temper.delay(&mut self.random);
        let call = Call { number, epoch, engine, op, fate, reply: Some(reply) };
        if call.op.changes_something() {
            self.note(|| format!("  call {number} on {engine}: {} ({fate:?})", shown(&call.op)));
            self.judge_call(engine, &call.op);
            if let Some(container) = call.op.container() {
                self.in_flight.insert(number, (container.clone(), call.op.clone()));
            }
            if self.temper.kills_here(&mut self.random) {
                if self.random.percent(50) {
                    self.later(delay, |play| play.arrive(call));
                }
                self.note(|| "the nanny is killed at this call".to_owned());
                self.kill(false);
                return number;
            }
        }
        match fate {
            Fate::Refused(kind) => {
                self.later(delay, move |play| play.answer(call, Err(error(kind))));
            }
            Fate::Late => {
                let at = 100 + self.random.below(10_000);
                let Call { op, reply, .. } = call;
                let late = Call { number, epoch, engine, op: op.clone(), fate, reply: None };
                self.later(at, |play| play.arrive(late));
                let told = Call { number, epoch, engine, op, fate, reply };
                let kind = [ErrorKind::Timeout, ErrorKind::Unavailable];
                let kind = self.random.pick(&kind).unwrap_or(ErrorKind::Timeout);
                self.soon(100, move |play| play.answer(told, Err(error(kind))));
            }
            Fate::Obeyed | Fate::Lost(_) => self.later(delay, |play| play.arrive(call)),
        }
        number
    }

    /// Whoever sent the call waits for it no more.
    pub(super) fn forget(&mut self, number: u64) {
        self.in_flight.remove(&number);
    }

    /// A call reaches its engine.
    fn arrive(&mut self, call: Call) {
        match self.engines[call.engine].mood {
            Mood::Down => {
                let delay = self.random.below(50);
                self.later(delay, |play| play.answer(call, Err(error(ErrorKind::Unavailable))));
                return;
            }
            Mood::Wedged => {
                self.engines[call.engine].deferred.push(Deferred::Arrival(call));
                return;
            }
            Mood::Up => {}
        }
        let given_up = call.reply.as_ref().is_none_or(oneshot::Sender::is_closed);
        let dead = call.epoch != self.epoch;
        if dead && self.random.percent(50) {
            return;
        }
        let by = match (dead, given_up) {
            (true, _) => Starter::Others,
            (false, true) => Starter::UsTooLate,
            (false, false) => Starter::Us,
        };
        let changes = call.op.changes_something();
        if changes {
            self.note(|| format!("  call {} is executed ({by:?})", call.number));
        }
        match self.execute(call.engine, &call.op, by) {
            Ok((reply, busy)) => {
                let delay = busy + self.temper.delay(&mut self.random);
                self.later(delay, move |play| play.deliver(call, Ok(reply)));
            }
            Err(failed) => {
                let delay = self.temper.delay(&mut self.random);
                self.later(delay, move |play| play.deliver(call, Err(failed)));
            }
        }
        self.judge_engines();
    }

    /// A reply sets out on its way back.
    fn deliver(&mut self, mut call: Call, result: Result<Reply>) {
        match self.engines[call.engine].mood {
            Mood::Down => self.answer(call, Err(error(ErrorKind::Unavailable))),
            Mood::Wedged => self.engines[call.engine].deferred.push(Deferred::Reply(call, result)),
            Mood::Up => match call.fate {
                Fate::Lost(Some(kind)) => self.answer(call, Err(error(kind))),
                // Nobody ever answers. Whoever asked must give it up.
                Fate::Lost(None) => drop(call.reply.take()),
                Fate::Obeyed | Fate::Refused(_) | Fate::Late => self.answer(call, result),
            },
        }
    }

    fn answer(&mut self, call: Call, result: Result<Reply>) {
        if let Err(failed) = &result
            && call.op.changes_something()
        {
            self.note(|| format!("  call {} fails: {:?}", call.number, failed.kind()));
        }
        if call.epoch == self.epoch
            && let Some(reply) = call.reply
        {
            // Whoever has given it up is not interested.
            let _ = reply.send(result);
        }
    }

    /// What the engine does, and for how long it is at it.
    pub(super) fn execute(&mut self, engine: usize, op: &Op, by: Starter) -> Result<(Reply, u64)> {
        let times = (self.now(), self.wall());
        let at = &mut self.engines[engine];
        Ok(match op {
            Op::Ping => (Reply::Done, 0),
            Op::List => (Reply::Containers(at.list()), 0),
            Op::Inspect(id) => match at.containers.get(id) {
                Some(held) => (Reply::Container(held.info.clone()), 0),
                None => return Err(error(ErrorKind::NotFound)),
            },
            Op::Image(reference) => (Reply::Image(at.images.contains(reference)), 0),
            Op::Pull(reference) => {
                let most = if self.random.percent(20) { 20_000 } else { 50 };
                let takes = self.random.below(most);
                let reference = reference.clone();
                self.later(takes, move |play| {
                    play.engines[engine].images.insert(reference);
                });
                (Reply::Done, takes + 1)
            }
            Op::FindNetworks(name) => {
                let named = at.networks.values().filter(|network| network.name == *name);
                (Reply::Networks(named.cloned().collect()), 0)
            }
            Op::ListNetworks => (Reply::Networks(at.networks.values().cloned().collect()), 0),
            Op::CreateNetwork(spec) => {
                at.create_network(spec)?;
                (Reply::Done, 1)
            }
            Op::RemoveNetwork(id) => {
                at.networks.remove(id);
                (Reply::Done, 1)
            }
            Op::FindVolume(name) => (Reply::Volume(at.volumes.contains(name)), 0),
            Op::CreateVolume(name) => {
                at.volumes.insert(name.clone());
                (Reply::Done, 1)
            }
            Op::Create(spec) => {
                let id = at.create(["p", "q"][engine], spec, times.0)?;
                self.emit(engine, &id, &EventKind::Created);
                (Reply::Made(id), 1)
            }
            Op::Start(id) => {
                let swallows = self.temper.swallows;
                self.mark(engine, id);
                let name = self.engines[engine].containers.get(id).map(|held| &held.info.name);
                if name.is_some_and(|name| self.refused.contains(name)) {
                    return Err(error(ErrorKind::Invalid));
                }
                if self.engines[engine].start(id, by, swallows, times)? {
                    self.started(engine, id);
                }
                (Reply::Done, self.random.below(300))
            }
            Op::Stop(id, grace) => {
                let grace = u64::try_from(grace.as_millis()).unwrap_or(10_000);
                let after = if self.random.percent(10) { grace } else { self.random.below(2000) };
                self.ask_to_stop(engine, id, after)?;
                (Reply::Done, after + 1)
            }
            Op::Kill(id) => {
                self.ask_to_stop(engine, id, 0)?;
                (Reply::Done, 1)
            }
            Op::Remove(id) => {
                self.mark(engine, id);
                if self.engines[engine].remove(id, times.0).is_some() {
                    self.emit(engine, id, &EventKind::Removed);
                }
                (Reply::Done, 1)
            }
        })
    }

    /// Notes of the service of a container whether it runs now: it may be about to change.
    fn mark(&mut self, engine: usize, id: &ContainerId) {
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

    fn ask_to_stop(&mut self, engine: usize, id: &ContainerId, after: u64) -> Result<()> {
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
                (Deferred::Reply(call, result), _) => self.deliver(call, result),
            }
        }
        if mood == Mood::Up {
            self.soon(500, move |play| play.tell(engine, &resync()));
        }
    }

    /// The nanny is gone from one moment to the next. Another will follow.
    ///
    /// `reboot`: with the whole machine.
    pub(super) fn kill(&mut self, reboot: bool) {
        self.over();
        if reboot {
            self.boot += 1;
        }
        let downtime = self.random.pick(&[10, 500, 5000]).unwrap_or(500);
        let downtime = self.random.below(downtime);
        self.reborn(downtime);
    }

    /// Whatever belongs to the present nanny ends.
    pub(super) fn over(&mut self) {
        self.epoch += 1;
        self.nanny = None;
        self.pending.clear();
        self.callers.clear();
        self.in_flight.clear();
        self.watchers.clear();
        for engine in &mut self.engines {
            engine.listeners.clear();
        }
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }

    /// The next nanny begins after so many milliseconds.
    pub(super) fn reborn(&self, millis: u64) {
        let me = self.me.clone();
        let epoch = self.epoch;
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            if let Some(stage) = me.upgrade().map(Stage)
                && stage.with(|play| play.epoch == epoch)
            {
                super::begin(&stage);
            }
        });
    }
}

pub(super) fn shown(op: &Op) -> String {
    match op {
        Op::Create(spec) => format!("create {}", spec.name),
        other => format!("{other:?}"),
    }
}
