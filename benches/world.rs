//! A world at work, and the engine's side of the talk: what `step` is measured with.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::backend::{
    BackendInfo, Capabilities, ContainerInfo, ContainerSpec, ContainerState, Event, EventKind,
    ImageInfo,
};
use nanny_lib::gpu::Exclusive;
use nanny_lib::journal::Journal;
use nanny_lib::lifecycle::{
    CallId, Command, Effect, EngineIndex, Input, Now, Outcome, RequestId, Settings, World,
};
use nanny_lib::manifest::{Discovery, Manifest, Service};
use nanny_lib::probe::Health;
use nanny_lib::project::{Project, Step, labels};
use nanny_lib::{ContainerId, ServiceName, StartOptions, StopOptions};

/// A world of many services on one engine. Every second of them needs the GPU; of the others, every
/// one runs and has a health endpoint.
#[derive(Debug)]
pub struct Town {
    world: World,
    now: Now,
    containers: BTreeMap<ContainerId, ContainerInfo>,
    /// The next list, and the question under way that it answers.
    list: Vec<ContainerInfo>,
    asked: Option<(EngineIndex, u64)>,
    services: usize,
    turn: usize,
    requests: u64,
    /// How many inputs the world has taken in.
    pub inputs: u64,
}

impl Town {
    /// One with so many services, all of which have been seen.
    #[must_use]
    pub fn new(services: usize) -> Self {
        let mut able = Capabilities::default();
        able.images = true;
        let world = World::new(
            Settings::default(),
            Arc::new(Exclusive),
            [(BackendInfo::new("bench", ""), able)],
            Journal::default(),
            String::new(),
        );
        let now = Now::new(Duration::ZERO, Timestamp::UNIX_EPOCH);
        let running = (0..services).filter(|index| index % 2 == 1).map(running);
        let containers = running.map(|container| (container.id.clone(), container)).collect();
        let mut town = Self {
            world,
            now,
            containers,
            list: Vec::new(),
            asked: None,
            services,
            turn: 0,
            requests: 0,
            inputs: 0,
        };
        let begin = town.world.begin(now);
        town.settle(begin);
        town.prepare();
        town.answer_list();
        town
    }

    /// Makes the list ready that the next round or list takes, which is not the world's work.
    pub fn prepare(&mut self) {
        self.list = self.containers.values().cloned().collect();
    }

    /// A round of some 5,000 inputs, in about the mix of a busy nanny: starts, forced swaps, refusals
    /// and stops of GPU services, with all the engine calls that they lead to; events; what time
    /// brings, which are ticks and probes; and one list of all containers. Of all that changes while
    /// a list is under way the world makes one question, so a faster world gets no more lists.
    pub fn round(&mut self) {
        for _ in 0..32 {
            for _ in 0..8 {
                self.swap();
            }
            let ids: Vec<_> = self.containers.keys().cycle().take(64).cloned().collect();
            for id in ids {
                let event = Event { kind: EventKind::Changed, container: Some(id) };
                self.input(Input::Event(EngineIndex(0), event));
            }
            self.pass(Duration::from_millis(50));
        }
        self.answer_list();
    }

    /// A start, a forced swap, a refusal and two stops: nothing is left of it.
    fn swap(&mut self) {
        let one = name(self.turn % self.services);
        let two = name((self.turn + 2) % self.services);
        self.turn += 4;
        self.command(Command::Start(one.clone(), StartOptions::default()));
        self.command(Command::Start(two.clone(), StartOptions::forced()));
        self.command(Command::Start(one.clone(), StartOptions::default()));
        self.command(Command::Stop(two, StopOptions::removing()));
        self.command(Command::Stop(one, StopOptions::removing()));
    }

    /// A list in which nothing is new.
    pub fn list(&mut self) {
        let event = Event { kind: EventKind::Resync, container: None };
        self.input(Input::Event(EngineIndex(0), event));
        self.answer_list();
    }

    fn answer_list(&mut self) {
        if let Some((engine, issued)) = self.asked.take() {
            let result = Ok(std::mem::take(&mut self.list));
            self.input(Input::Listed { engine, issued, result });
        }
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        self.now = Now::new(self.now.mono + time, self.now.wall);
        while self.world.next_tick().is_some_and(|at| at <= self.now.mono) {
            self.input(Input::Tick);
        }
    }

    fn command(&mut self, command: Command) {
        self.requests += 1;
        self.input(Input::Command(RequestId(self.requests), command));
    }

    /// Takes one input in, and plays the world outside until nothing is under way.
    fn input(&mut self, input: Input) {
        let effects = self.step(input);
        self.settle(effects);
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.inputs += 1;
        let effects = self.world.step(self.now, input);
        black_box(self.world.take_touched());
        effects
    }

    fn settle(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let answer = match effect {
                Effect::Call { id, step, .. } => Some(Input::Done(id, self.outcome(id, step))),
                Effect::List { engine, issued } => {
                    self.asked = Some((engine, issued));
                    None
                }
                Effect::Probe { target, run } => {
                    let (service, latency) = (target.service, Duration::from_millis(1));
                    Some(Input::Probed { service, run, health: Health::Healthy, latency })
                }
                Effect::Discover => {
                    let services = (0..self.services).map(service).collect();
                    Some(Input::Discovered(Discovery::new(services, Vec::new())))
                }
                _ => None,
            };
            effects.extend(answer.into_iter().flat_map(|input| self.step(input)));
        }
    }

    /// What a willing engine answers.
    fn outcome(&mut self, call: CallId, step: Step) -> Outcome {
        match step {
            Step::Image(_) => Outcome::Image(ImageInfo::new("sha256:0")),
            Step::Create { spec, .. } => {
                let id = ContainerId::new(format!("{}-{}", spec.name, call.0));
                let mut container = ContainerInfo::new(id.clone(), &spec.name, "image");
                container.labels.clone_from(&spec.labels);
                self.containers.insert(id, container.clone());
                Outcome::Container(container)
            }
            Step::Start { id, .. } => self.becomes(&id, ContainerState::Running),
            Step::Stop { id, .. } | Step::Kill { id } => self.becomes(&id, ContainerState::Exited),
            Step::Remove { id } => {
                self.containers.remove(&id);
                Outcome::Gone(id)
            }
            _ => Outcome::Ensured(None),
        }
    }

    fn becomes(&mut self, id: &ContainerId, state: ContainerState) -> Outcome {
        let container = self.containers.get_mut(id).expect("nobody else removes containers");
        container.state = state;
        Outcome::Container(container.clone())
    }
}

fn name(index: usize) -> String {
    format!("service-{index}")
}

fn service(index: usize) -> Service {
    let name = name(index);
    let mut manifest = Manifest::new(ServiceName::new(&name).expect("a valid name"));
    if index.is_multiple_of(2) {
        manifest = manifest.with_gpu(8);
    } else {
        manifest.health_endpoint = Some("http://localhost/".to_owned());
    }
    Service::new(manifest, project(&name), &name)
}

fn project(name: &str) -> Project {
    let mut container = ContainerSpec::new(format!("{name}-main-1"), "image");
    // As many labels as Compose gives a container.
    for index in 0..8 {
        container.labels.insert(format!("com.example.label-{index}"), name.to_owned());
    }
    Project::single(name, container)
}

fn running(index: usize) -> ContainerInfo {
    let name = name(index);
    let spec = &project(&name).parts["main"].spec;
    let mut container = ContainerInfo::new(ContainerId::new(name.as_str()), &spec.name, "image");
    container.labels.clone_from(&spec.labels);
    container.labels.insert(labels::SERVICE.to_owned(), name);
    container.state = ContainerState::Running;
    container.started_at = Some(Timestamp::UNIX_EPOCH);
    container
}
