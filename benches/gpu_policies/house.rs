//! A machine with one GPU, played on simulated time: services load, work, make way and are released
//! as long as they take, the policy is the real one, and the queue follows the rules of
//! [`GpuSettings`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use nanny_lib::gpu::{
    Decision, GpuDevice, GpuPolicy, GpuRequest, GpuSnapshot, Holder, HolderName, Placement,
};
use nanny_lib::lifecycle::GpuSettings;
use nanny_lib::{GpuId, ServiceName};

use crate::CAPACITY_MIB;
use crate::trace::Trace;

/// How long a service takes to stop, and its memory to be free after that, in ms.
pub(crate) const STOP_MS: u64 = 1000;
pub(crate) const RELEASE_MS: u64 = 1500;

/// How those who ask for a service that does not run go about it.
#[derive(Debug, Clone)]
pub(crate) enum Discipline {
    /// One after the other, strictly in order, and always by force.
    Force,
    /// Without force, and willing to wait as long as it takes.
    Queue(GpuSettings),
}

/// What came of a trace.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) loads: u64,
    pub(crate) load_ms: u64,
    /// How long each request waited until work on it began, in ms.
    pub(crate) waits: Vec<u64>,
}

impl Outcome {
    pub(crate) fn load_seconds(&self) -> f64 {
        self.load_ms as f64 / 1000.0
    }

    pub(crate) fn mean_wait(&self) -> f64 {
        self.waits.iter().sum::<u64>() as f64 / self.waits.len() as f64 / 1000.0
    }

    pub(crate) fn p99_wait(&self) -> f64 {
        let mut sorted = self.waits.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * 99).div_ceil(100) - 1] as f64 / 1000.0
    }
}

/// Plays a trace to its end.
pub(crate) fn play(trace: &Trace, policy: &dyn GpuPolicy, discipline: &Discipline) -> Outcome {
    let outcome = Outcome { loads: 0, load_ms: 0, waits: vec![0; trace.requests.len()] };
    let mut house = House {
        trace,
        policy,
        discipline,
        now: 0,
        events: BinaryHeap::new(),
        claims: BTreeMap::new(),
        used_at: vec![0; trace.models.len()],
        waiting: vec![Vec::new(); trace.models.len()],
        line: VecDeque::new(),
        queue: Vec::new(),
        number: 0,
        outcome,
    };
    for (index, request) in trace.requests.iter().enumerate() {
        house.events.push(Reverse((request.at, Event::Arrive(index))));
    }
    while let Some(Reverse((at, event))) = house.events.pop() {
        house.now = at;
        house.on(event);
    }
    assert!(house.waiting.iter().all(Vec::is_empty), "somebody is never served");
    house.outcome
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    WorkEnds(usize),
    Gone(usize),
    Ready(usize),
    Arrive(usize),
    /// Somebody may have waited long enough, or had the GPU for long enough.
    Look,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Until these are gone, and nobody else starts.
    Reserved(Vec<usize>),
    Starting,
    Running,
    Draining,
    Stopping,
}

#[derive(Debug, Clone)]
struct Claim {
    phase: Phase,
    placement: Placement,
    /// Since when it has the GPU.
    since: u64,
    working: usize,
    /// Who was first.
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    model: usize,
    since: u64,
    number: u64,
}

struct House<'a> {
    trace: &'a Trace,
    policy: &'a dyn GpuPolicy,
    discipline: &'a Discipline,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    claims: BTreeMap<usize, Claim>,
    used_at: Vec<u64>,
    /// Requests that wait until their model is loaded.
    waiting: Vec<Vec<usize>>,
    /// Requests that have not had their turn, by force.
    line: VecDeque<usize>,
    queue: Vec<Queued>,
    number: u64,
    outcome: Outcome,
}

impl House<'_> {
    fn on(&mut self, event: Event) {
        match event {
            Event::Arrive(request) => self.arrive(request),
            Event::WorkEnds(model) => {
                self.used_at[model] = self.now;
                let Some(claim) = self.claims.get_mut(&model) else { return };
                claim.working -= 1;
                if claim.working == 0 && claim.phase == Phase::Draining {
                    self.stop(model);
                }
            }
            Event::Gone(model) => {
                self.claims.remove(&model);
                for claim in self.claims.values_mut() {
                    if let Phase::Reserved(after) = &mut claim.phase {
                        after.retain(|gone| *gone != model);
                    }
                }
            }
            Event::Ready(model) => {
                if let Some(claim) = self.claims.get_mut(&model) {
                    (claim.phase, claim.since) = (Phase::Running, self.now);
                    self.used_at[model] = self.now;
                }
                for request in std::mem::take(&mut self.waiting[model]) {
                    self.work(request);
                }
            }
            Event::Look => {}
        }
        match self.discipline {
            Discipline::Force => self.serve_line(),
            Discipline::Queue(settings) => self.serve_queue(settings),
        }
        self.start_next();
        self.check();
    }

    fn arrive(&mut self, request: usize) {
        let model = self.trace.requests[request].model;
        match (self.discipline, self.claims.get(&model).map(|claim| &claim.phase)) {
            (Discipline::Force, _) => self.line.push_back(request),
            (_, Some(Phase::Running)) => self.work(request),
            (_, Some(Phase::Reserved(_) | Phase::Starting)) => self.waiting[model].push(request),
            (_, None | Some(Phase::Draining | Phase::Stopping)) => {
                self.waiting[model].push(request);
                if self.queue.iter().all(|queued| queued.model != model) {
                    self.number += 1;
                    self.queue.push(Queued { model, since: self.now, number: self.number });
                }
            }
        }
    }

    fn work(&mut self, request: usize) {
        let request_made = self.trace.requests[request];
        self.outcome.waits[request] = self.now - request_made.at;
        let claim = self.claims.get_mut(&request_made.model).expect("it is loaded");
        claim.working += 1;
        let end = self.now + request_made.work_ms;
        self.events.push(Reverse((end, Event::WorkEnds(request_made.model))));
    }

    /// Strictly in order: whoever is first keeps all others waiting until it is served.
    fn serve_line(&mut self) {
        while let Some(&request) = self.line.front() {
            let model = self.trace.requests[request].model;
            match self.claims.get(&model).map(|claim| &claim.phase) {
                Some(Phase::Running) => {
                    self.line.pop_front();
                    self.work(request);
                }
                Some(_) => return,
                None => {
                    let decision = self.ask(model, true);
                    assert!(self.grant(model, decision), "force makes room");
                    return;
                }
            }
        }
    }

    /// Lets in whom there is room for, as the nanny does after every step.
    fn serve_queue(&mut self, settings: &GpuSettings) {
        while let Some(model) = self.next_of_queue(settings) {
            self.queue.retain(|queued| queued.model != model);
        }
    }

    fn next_of_queue(&mut self, settings: &GpuSettings) -> Option<usize> {
        let mut queue = self.queue.clone();
        queue.sort_by_key(|queued| {
            let waited = u128::from(self.now - queued.since);
            let aged = waited / settings.ageing.as_millis().max(1);
            let priority = i128::from(self.trace.models[queued.model].priority);
            (Reverse(priority + aged as i128), queued.number)
        });
        let mut is_next = true;
        for Queued { model, since, .. } in queue {
            // It is still being stopped.
            if self.claims.contains_key(&model) {
                continue;
            }
            let decision = self.ask(model, false);
            if self.grant(model, decision) {
                return Some(model);
            }
            let due = settings.max_bypass.map(|limit| since + ms(limit));
            let has_waited = due.is_some_and(|due| due <= self.now);
            if let Some(due) = due.filter(|due| is_next && *due > self.now) {
                self.events.push(Reverse((due, Event::Look)));
            }
            if is_next && has_waited && self.make_way_for(model, settings) {
                return Some(model);
            }
            if has_waited {
                return None;
            }
            is_next = false;
        }
        None
    }

    /// As if by force, but for those above it and those that have not had the GPU for long.
    fn make_way_for(&mut self, model: usize, settings: &GpuSettings) -> bool {
        let decision = self.ask(model, true);
        let Decision::Evict { victims, .. } = &decision else { return false };
        let victims: Vec<_> = victims.iter().map(number_of).collect();
        let priority = |model: usize| self.trace.models[model].priority;
        if victims.iter().any(|&victim| priority(victim) > priority(model)) {
            return false;
        }
        let held = victims.iter().filter_map(|victim| self.held_until(*victim, settings)).max();
        match held.filter(|until| *until > self.now) {
            Some(until) => {
                self.events.push(Reverse((until, Event::Look)));
                false
            }
            None => self.grant(model, decision),
        }
    }

    /// Until when nobody but force takes its GPU; one that is being started has not had it yet.
    fn held_until(&self, model: usize, settings: &GpuSettings) -> Option<u64> {
        let claim = self.claims.get(&model)?;
        match claim.phase {
            Phase::Reserved(_) | Phase::Starting => Some(self.now + ms(settings.min_hold)),
            Phase::Running => Some(claim.since + ms(settings.min_hold)),
            Phase::Draining | Phase::Stopping => None,
        }
    }

    fn ask(&self, model: usize, force: bool) -> Decision {
        let mut request = GpuRequest::new(name_of(model));
        request.vram_mib = self.trace.models[model].mib;
        request.priority = self.trace.models[model].priority;
        request.force = force;
        let holders = self.claims.iter().map(|(&held, claim)| {
            let mut holder = Holder::new(HolderName::Service(name_of(held)));
            holder.phase = match claim.phase {
                Phase::Reserved(_) => nanny_lib::gpu::ClaimPhase::Reserved,
                Phase::Starting => nanny_lib::gpu::ClaimPhase::Starting,
                Phase::Running => nanny_lib::gpu::ClaimPhase::Running,
                Phase::Draining => nanny_lib::gpu::ClaimPhase::Draining,
                Phase::Stopping => nanny_lib::gpu::ClaimPhase::Stopping,
            };
            holder.placement = claim.placement.clone();
            holder.vram_mib = self.trace.models[held].mib;
            holder.priority = self.trace.models[held].priority;
            let unused = if claim.working > 0 { 0 } else { self.now - self.used_at[held] };
            holder.unused_for = Duration::from_millis(unused);
            holder
        });
        let device = GpuDevice::new(GpuId::new("gpu"), CAPACITY_MIB);
        let snapshot = GpuSnapshot::new(holders.collect()).with_devices(vec![device]);
        self.policy.decide(&request, &snapshot)
    }

    /// Carries a decision out, if it lets the model in.
    fn grant(&mut self, model: usize, decision: Decision) -> bool {
        let (victims, placement) = match decision {
            Decision::Admit { placement } => (Vec::new(), placement),
            Decision::Evict { victims, placement } => {
                (victims.iter().map(number_of).collect(), placement)
            }
            _ => return false,
        };
        for &victim in &victims {
            let claim = self.claims.get_mut(&victim).expect("a victim holds the GPU");
            match claim.phase {
                Phase::Running if claim.working > 0 => claim.phase = Phase::Draining,
                Phase::Running => self.stop(victim),
                Phase::Draining | Phase::Stopping => {}
                Phase::Reserved(_) | Phase::Starting => unreachable!("it has not had the GPU yet"),
            }
        }
        self.number += 1;
        let claim = Claim {
            phase: Phase::Reserved(victims),
            placement,
            since: self.now,
            working: 0,
            number: self.number,
        };
        self.claims.insert(model, claim);
        true
    }

    fn stop(&mut self, model: usize) {
        if let Some(claim) = self.claims.get_mut(&model) {
            claim.phase = Phase::Stopping;
        }
        self.events.push(Reverse((self.now + STOP_MS + RELEASE_MS, Event::Gone(model))));
    }

    /// One start at a time.
    fn start_next(&mut self) {
        if self.claims.values().any(|claim| claim.phase == Phase::Starting) {
            return;
        }
        let ready =
            self.claims.iter_mut().filter(|(_, claim)| claim.phase == Phase::Reserved(Vec::new()));
        let Some((&model, claim)) = ready.min_by_key(|(_, claim)| claim.number) else { return };
        claim.phase = Phase::Starting;
        let load_ms = self.trace.models[model].load_ms;
        self.outcome.loads += 1;
        self.outcome.load_ms += load_ms;
        self.events.push(Reverse((self.now + load_ms, Event::Ready(model))));
    }

    /// Those that are loaded fit, whatever the policy.
    fn check(&self) {
        let loaded =
            self.claims.iter().filter(|(_, claim)| !matches!(claim.phase, Phase::Reserved(_)));
        let mib: u64 = loaded.map(|(&model, _)| self.trace.models[model].mib).sum();
        assert!(mib <= CAPACITY_MIB, "{mib} MiB are loaded");
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn name_of(model: usize) -> ServiceName {
    ServiceName::new(format!("model-{model}")).expect("a valid name")
}

fn number_of(name: &ServiceName) -> usize {
    let number = name.as_str().strip_prefix("model-").and_then(|number| number.parse().ok());
    number.expect("one of our names")
}
