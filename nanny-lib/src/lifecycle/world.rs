//! The world and its one door: [`World::step`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::engines::Engine;
use super::gpus::Gpus;
use super::owners::Owners;
use super::service::{Desired, Down, Rollback, RollbackId, ServiceState, Work};
use super::{CallId, Command, Effect, EngineIndex, Input, Now, RequestId};
use crate::backend::{BackendInfo, Capabilities, ContainerInfo};
use crate::gpu::{GpuPolicy, Ledger};
use crate::journal::{Entry, Journal};
use crate::manifest::Problem;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::EngineState;
use crate::project::{Step, Subject};

/// What a step asks for.
pub(super) type Out = Vec<Effect>;

/// How the world behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Between two lists of an engine's containers.
    pub relist: Duration,
    /// Between two looks at the sources, beside what they say themselves.
    pub rediscover: Duration,
    /// How long a start may take in all, once its images are there.
    pub start_limit: Duration,
    /// How GPUs are arbitrated.
    pub gpu: GpuSettings,
}

/// How GPUs are measured, waited for and handed on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GpuSettings {
    /// Between two looks at the GPUs.
    pub sweep: Duration,
    /// Between two looks while somebody waits for memory to become free.
    pub sweep_waiting: Duration,
    /// How long a start waits for memory that others had to become free.
    pub release_limit: Duration,
    /// Memory kept free on each GPU, in MiB.
    pub headroom_mib: u64,
    /// How long whoever is next in the queue lets others have the GPU. Then those whom `force` would
    /// stop are stopped. `None`: as long as they like.
    pub max_bypass: Option<Duration>,
    /// One who waits gains a priority of one so often.
    pub ageing: Duration,
    /// So long after it got its GPU, nobody but `force` takes it away again.
    pub min_hold: Duration,
    /// How long a service that must make way may finish what it does.
    pub drain_limit: Duration,
}

impl Default for GpuSettings {
    fn default() -> Self {
        Self {
            sweep: Duration::from_secs(2),
            sweep_waiting: Duration::from_millis(250),
            release_limit: Duration::from_secs(15),
            headroom_mib: 0,
            max_bypass: Some(Duration::from_secs(300)),
            ageing: Duration::from_secs(60),
            min_hold: Duration::from_secs(30),
            drain_limit: Duration::from_secs(30),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            relist: Duration::from_secs(2),
            rediscover: Duration::from_secs(60),
            start_limit: Duration::from_secs(3600),
            gpu: GpuSettings::default(),
        }
    }
}

/// Everything the nanny knows and decides by.
#[derive(Debug)]
pub struct World {
    pub(super) settings: Settings,
    pub(super) policy: Arc<dyn GpuPolicy>,
    pub(super) engines: Vec<Engine>,
    /// Boxed, so that looking for one walks over names and not over states.
    pub(super) services: BTreeMap<ServiceName, Box<ServiceState>>,
    pub(super) owners: Owners,
    pub(super) ledger: Ledger,
    pub(super) gpus: Gpus,
    /// Somebody knows what services have under way.
    pub(super) drains: bool,
    /// Services that may be waiting for a GPU.
    pub(super) queue: BTreeSet<ServiceName>,
    /// The time of the step under way.
    pub(super) now: Now,
    pub(super) problems: Arc<[Problem]>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) rollbacks: BTreeMap<RollbackId, Rollback>,
    pub(super) probes: usize,
    /// Probes that wait for others to end, the longest overdue first.
    pub(super) probe_queue: BTreeSet<(Duration, ServiceName)>,
    pub(super) discovery: DiscoveryState,
    /// Grows with every use: numbers calls, lists, claims and everything else.
    pub(super) sequence: u64,
    pub(super) boot: String,
    /// What the journal said at the start, for services that were not yet seen since.
    pub(super) recorded: Journal,
    /// What is to be written down.
    journal: Journal,
    /// An engine came up: services may run that it brought back beside the one that holds the GPU.
    pub(super) unresolved: bool,
    timers: BTreeSet<(Duration, Timer)>,
    touched: BTreeSet<ServiceName>,
}

/// An engine call under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) service: ServiceName,
    pub(super) engine: EngineIndex,
    pub(super) subject: Subject,
    pub(super) step: Step,
}

/// Where the discovery is.
#[derive(Debug, Default)]
pub(super) struct DiscoveryState {
    pub(super) running: bool,
    /// It has answered once.
    pub(super) done: bool,
    /// Something changed since it began: once more.
    pub(super) again: bool,
    /// When the next one is due.
    pub(super) next: Duration,
    /// Callers whom the one under way answers.
    pub(super) waiters: Vec<RequestId>,
    /// Callers whom the next one answers.
    pub(super) next_waiters: Vec<RequestId>,
}

/// What to look at when a time comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Engine(EngineIndex),
    Service(ServiceName),
    Discover,
    Gpus,
    /// Somebody's time in the queue for a GPU has come.
    Queue,
}

impl World {
    /// A world with these engines, in order of preference, in which nothing was seen yet.
    ///
    /// `journal` is what the last run wrote; `boot` names the machine's present boot.
    #[must_use]
    pub fn new(
        settings: Settings,
        policy: Arc<dyn GpuPolicy>,
        engines: impl IntoIterator<Item = (BackendInfo, Capabilities)>,
        journal: Journal,
        boot: String,
    ) -> Self {
        let mut recorded = journal.clone();
        if journal.boot != boot {
            // A reboot ends whatever ran.
            recorded.engines.clear();
        }
        Self {
            settings,
            policy,
            engines: engines.into_iter().map(|(info, able)| Engine::new(info, able)).collect(),
            services: BTreeMap::new(),
            owners: Owners::default(),
            ledger: Ledger::default(),
            gpus: Gpus::default(),
            drains: false,
            queue: BTreeSet::new(),
            now: Now::new(Duration::ZERO, Timestamp::UNIX_EPOCH),
            problems: Arc::default(),
            calls: BTreeMap::new(),
            rollbacks: BTreeMap::new(),
            probes: 0,
            probe_queue: BTreeSet::new(),
            discovery: DiscoveryState::default(),
            sequence: 0,
            boot,
            recorded,
            journal,
            unresolved: false,
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// What to do first: look for services, and list every engine's containers.
    #[must_use]
    pub fn begin(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Out::new();
        self.now = now;
        self.discover(now, &mut out);
        self.sweep(now, &mut out);
        for index in 0..self.engines.len() {
            self.list(EngineIndex(index), now, &mut out);
        }
        out
    }

    /// Takes one input in, and says what is to be done now.
    #[must_use]
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Out::new();
        self.now = now;
        match input {
            Input::Command(request, command) => self.on_command(request, command, now, &mut out),
            Input::Discovered(discovery) => self.on_discovered(discovery, now, &mut out),
            Input::SourceChanged => self.discover(now, &mut out),
            Input::Event(engine, event) => self.on_event(engine, &event, now, &mut out),
            Input::Listed { engine, issued, result } => {
                self.on_listed(engine, issued, result, now, &mut out);
            }
            Input::Done(call, outcome) => self.on_done(call, outcome, now, &mut out),
            Input::Preparing(call, progress) => self.on_preparing(call, progress),
            Input::Probed { service, run, health, latency } => {
                self.on_probed(&service, run, (health, latency), now, &mut out);
            }
            Input::Drained(id) => self.on_drained(id, now, &mut out),
            Input::Used(name) => self.on_used(&name, now),
            Input::Swept(seen) => self.on_swept(seen, now, &mut out),
            Input::Tick => self.on_tick(now, &mut out),
        }
        self.serve_queue(now, &mut out);
        self.write_journal(&mut out);
        out
    }

    /// When the world wants the next [`Input::Tick`], if nothing comes before.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether the sources, every engine and whoever measures GPUs have answered, or failed to. Until then nobody can say
    /// what runs, and nothing must be started.
    #[must_use]
    pub fn has_looked_around(&self) -> bool {
        self.discovery.done
            && self.engines.iter().all(Engine::was_heard)
            && (self.gpus.were_seen || !self.gpus.are_measured)
    }

    /// Services whose view may have changed since this was last asked.
    #[must_use]
    pub fn take_touched(&mut self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut self.touched)
    }

    /// What the next run must know, should this one end now.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The claims.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn on_command(&mut self, request: RequestId, command: Command, now: Now, out: &mut Out) {
        match command {
            Command::Start(name, options) => {
                self.on_start(request, &name, options, None, now, out);
            }
            Command::StartInPlaceOf(name, victims, options) => {
                self.on_start(request, &name, options, Some(&victims), now, out);
            }
            Command::Stop(name, options) => self.on_stop(request, &name, options, now, out),
            Command::Restart(name, options) => self.on_restart(request, &name, options, now, out),
            Command::Plan(name, options) => self.on_plan(request, &name, options, now, out),
            Command::Rediscover => self.on_rediscover(request, now, out),
        }
    }

    fn on_tick(&mut self, now: Now, out: &mut Out) {
        // What these set anew for now is for the next tick: no step may go on for ever.
        let mut due = Vec::new();
        while self.timers.first().is_some_and(|(at, _)| *at <= now.mono) {
            due.extend(self.timers.pop_first());
        }
        for (_, timer) in due {
            match timer {
                Timer::Engine(engine) => self.list_if_due(engine, now, out),
                Timer::Discover => self.discover_if_due(now, out),
                Timer::Gpus => self.sweep_if_due(now, out),
                // The queue is looked at after every step.
                Timer::Queue => {}
                Timer::Service(name) => {
                    self.expire_waiters(&name, now, out);
                    self.advance(&name, now, out);
                    self.probe_due(&name, now, out);
                }
            }
        }
    }

    /// Does whatever can be done for a service now. Safe to call at any time.
    pub(super) fn advance(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        self.touch(name);
        match self.services.get(name).map(|service| &service.work) {
            None => {}
            Some(Work::None) => self.rest(name, now, out),
            Some(Work::Up(_)) => self.advance_up(name, now, out),
            Some(Work::Down(_)) => self.advance_down(name, now, out),
        }
        self.count_patience(name, now);
    }

    /// The containers of a service, as last seen.
    pub(super) fn containers(&self, name: &ServiceName) -> Vec<&ContainerInfo> {
        let Some(service) = self.services.get(name) else { return Vec::new() };
        let seen = |(id, engine): (&_, &EngineIndex)| self.engines[engine.0].containers.get(id);
        service.containers.iter().filter_map(seen).collect()
    }

    /// The engine that the last run's journal names for a service, as long as that engine has not
    /// answered to this run: what it runs there is unknown until then.
    pub(super) fn recorded_on(&self, name: &ServiceName) -> Option<EngineIndex> {
        let recorded = self.recorded.engines.get(name)?;
        let index = self.engines.iter().position(|engine| engine.info.name == *recorded)?;
        (self.engines[index].state == EngineState::Absent).then_some(EngineIndex(index))
    }

    /// The engine a service is on: where it was recorded to be, or has settled, else the one its
    /// manifest asks for, else of those that can run it the first that answers, else the first.
    pub(super) fn engine_of(&self, service: &ServiceState) -> Option<EngineIndex> {
        let name = &service.wanted.manifest.name;
        if let Some(engine) = self.recorded_on(name).or(service.engine) {
            return Some(engine);
        }
        if service.wanted.manifest.backend.is_some() {
            return self.engine_asked_for(service);
        }
        let project = &service.wanted.project;
        let mut able =
            self.engines.iter().enumerate().filter(|(_, engine)| engine.can_run(project));
        let first = able.clone().next();
        able.find(|(_, engine)| engine.is_up()).or(first).map(|(index, _)| EngineIndex(index))
    }

    /// The engine that a service's manifest names, if there is such a one.
    fn engine_asked_for(&self, service: &ServiceState) -> Option<EngineIndex> {
        let wanted = service.wanted.manifest.backend.as_ref()?;
        self.engines.iter().position(|engine| engine.info.name == *wanted).map(EngineIndex)
    }

    /// Settles a service on the engine where something of it runs, else on the one its manifest asks
    /// for, else where it has containers; unless something is being done on another.
    pub(super) fn settle_engine(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get(name) else { return };
        if !matches!(service.work, Work::None) || !service.calls.is_empty() {
            return;
        }
        let runs = |(id, engine): &(&ContainerId, &EngineIndex)| {
            self.engines[engine.0].containers.get(id).is_some_and(|found| found.state.holds())
        };
        let on = |found: &mut dyn Iterator<Item = EngineIndex>| {
            let found: BTreeSet<_> = found.collect();
            service.engine.filter(|engine| found.contains(engine)).or(found.first().copied())
        };
        let running = on(&mut service.containers.iter().filter(runs).map(|(_, engine)| *engine));
        let engine = running
            .or_else(|| self.engine_asked_for(service))
            .or_else(|| on(&mut service.containers.values().copied()));
        if let Some(service) = self.services.get_mut(name) {
            service.engine = engine;
        }
    }

    /// The containers of a service that matter on the engine that it is on: what was left behind on
    /// another does not, unless it runs.
    pub(super) fn containers_in_play(&self, name: &ServiceName) -> Vec<&ContainerInfo> {
        let Some(service) = self.services.get(name) else { return Vec::new() };
        let engine = self.engine_of(service);
        let mut containers = self.containers(name);
        containers.retain(|container| {
            container.state.holds() || service.containers.get(&container.id).copied() == engine
        });
        containers
    }

    /// Whether anything of a service runs, or may.
    pub(super) fn holds(&self, name: &ServiceName) -> bool {
        self.containers(name).iter().any(|container| container.state.holds())
    }

    /// No call of a service is under way, and none ended in the unknown: it is as it was seen last.
    pub(super) fn is_quiet(&self, name: &ServiceName) -> bool {
        self.services.get(name).is_some_and(|service| service.calls.is_empty())
            && !self.awaits_list(name)
    }

    /// Whether it goes on only after a list.
    pub(super) fn awaits_list(&self, name: &ServiceName) -> bool {
        self.engines.iter().any(|engine| engine.is_awaited_by(name))
    }

    pub(super) fn schedule(&mut self, at: Duration, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn touch(&mut self, name: &ServiceName) {
        self.touched.insert(name.clone());
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Notes what should be, and has it written down if that changed.
    fn write_journal(&mut self, out: &mut Out) {
        let mut changed = self.journal.boot != self.boot && !self.touched.is_empty();
        for name in &self.touched {
            let entry =
                match self.services.get(name).map(|service| (&service.work, service.desired)) {
                    Some((
                        Work::Up(_) | Work::Down(Down { then: Some(_), .. }),
                        Desired::Running,
                    )) => Some(Entry::Starting),
                    Some((Work::Down(down), Desired::Stopped)) if down.was_running => {
                        Some(Entry::Stopping)
                    }
                    Some((_, Desired::Running)) => Some(Entry::Running),
                    // What was not taken up yet is not forgotten.
                    _ => self.recorded.services.get(name).copied(),
                };
            let before = match entry {
                Some(entry) => self.journal.services.insert(name.clone(), entry),
                None => self.journal.services.remove(name),
            };
            let service = self.services.get(name).filter(|_| entry.is_some());
            // Other hands may have made containers of it elsewhere: what runs counts.
            let running = |service: &ServiceState| {
                let mut all = service.containers.iter();
                let runs = |id, engine: &EngineIndex| {
                    self.engines[engine.0].containers.get(id).is_some_and(|c| c.state.holds())
                };
                all.find(|(id, engine)| runs(id, engine)).map(|(_, engine)| *engine)
            };
            let engine = service.and_then(|s| running(s).or_else(|| self.engine_of(s)));
            let engine = engine.map(|index| &self.engines[index.0].info.name);
            let on = self.journal.engines.get(name);
            changed |= before != entry || engine != on && service.is_some();
            match engine.cloned() {
                Some(engine) => drop(self.journal.engines.insert(name.clone(), engine)),
                None if entry.is_none() => drop(self.journal.engines.remove(name)),
                // Recorded, and not discovered yet.
                None => {}
            }
        }
        if changed {
            self.journal.boot.clone_from(&self.boot);
            out.push(Effect::Journal);
        }
    }
}
