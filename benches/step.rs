//! Inputs per second that the world takes in, by the number of services it knows.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use nanny_lib::ServiceName;
use nanny_lib::backend::{BackendInfo, ContainerInfo, ContainerSpec, ContainerState};
use nanny_lib::gpu::Exclusive;
use nanny_lib::lifecycle::{
    Command, Effect, Input, Journal, Now, Outcome, RequestId, Settings, World,
};
use nanny_lib::manifest::{Discovery, Manifest, Service};
use nanny_lib::project::{Project, Step, labels};
use nanny_lib::{ContainerId, StartOptions, StopOptions};

/// A world, and the engine's side of the talk.
struct Bench {
    world: World,
    now: Now,
    requests: u64,
    inputs: u64,
}

impl Bench {
    fn new(services: usize) -> Self {
        let engine = BackendInfo::new("bench", "");
        let world = World::new(
            Settings::default(),
            Arc::new(Exclusive),
            [engine],
            Journal::default(),
            String::new(),
        );
        let now = Now::new(Duration::ZERO, Timestamp::UNIX_EPOCH);
        let mut bench = Self { world, now, requests: 0, inputs: 0 };
        let services: Vec<_> = (0..services).map(service).collect();
        for effect in bench.world.begin(now) {
            match effect {
                Effect::Discover => {
                    let found = Discovery::new(Vec::clone(&services), vec![]);
                    bench.input(Input::Discovered(found));
                }
                Effect::List { engine, issued } => {
                    bench.input(Input::Listed { engine, issued, result: Ok(Vec::new()) });
                }
                _ => {}
            }
        }
        bench
    }

    /// Takes one input in, and plays the engine until nothing is under way.
    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.inputs += 1;
            self.now = Now::new(self.now.mono + Duration::from_micros(10), self.now.wall);
            for effect in self.world.step(self.now, input) {
                if let Effect::Call { id, step, .. } = effect {
                    inputs.push(Input::Done(id, outcome(step)));
                }
            }
            black_box(self.world.take_touched());
        }
    }

    fn command(&mut self, command: Command) {
        self.requests += 1;
        self.input(Input::Command(RequestId(self.requests), command));
    }
}

fn name(index: usize) -> String {
    format!("service-{index}")
}

fn service(index: usize) -> Service {
    let name = name(index);
    let manifest = Manifest::new(ServiceName::new(&name).expect("a valid name")).with_gpu(8);
    let container = ContainerSpec::new(format!("{name}-1"), "image");
    Service::new(manifest, Project::single(&name, container), &name)
}

/// What a willing engine answers.
fn outcome(step: Step) -> Outcome {
    let container = |id: ContainerId, service: &str, state| {
        let mut info = ContainerInfo::new(id, format!("{service}-1"), "image");
        info.labels =
            Project::single(service, ContainerSpec::new("", "")).parts["main"].spec.labels.clone();
        info.state = state;
        Outcome::Container(info)
    };
    match step {
        Step::Image(_) => Outcome::Image("sha256:0".to_owned()),
        Step::Create { spec, .. } => {
            let service = spec.labels[labels::SERVICE].clone();
            container(ContainerId::new(service.clone()), &service, ContainerState::Created)
        }
        Step::Start { id, .. } => {
            let service = id.as_str().to_owned();
            container(id, &service, ContainerState::Running)
        }
        Step::Stop { id, .. } | Step::Kill { id } => {
            let service = id.as_str().to_owned();
            container(id, &service, ContainerState::Exited)
        }
        Step::Remove { id } => Outcome::Gone(id),
        _ => Outcome::Ensured,
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for services in [10, 1_000, 10_000] {
        let mut bench = Bench::new(services);
        // A round: a start, a forced swap, a refusal, a stop. So many inputs does it take.
        let mut turn = 0;
        let mut round = move |bench: &mut Bench| {
            let (one, two) = (name(turn % services), name((turn + 1) % services));
            turn += 2;
            bench.command(Command::Start(one.clone(), StartOptions::default()));
            bench.command(Command::Start(two.clone(), StartOptions::forced()));
            bench.command(Command::Start(one, StartOptions::default()));
            bench.command(Command::Stop(two, StopOptions::removing()));
        };
        round(&mut bench);
        let before = bench.inputs;
        round(&mut bench);
        group.throughput(Throughput::Elements(bench.inputs - before));
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| round(&mut bench));
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
