//! GPUs that are measured.

mod memory;
mod placement;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::backend::{ContainerSpec, MemoryBackend, RestartPolicy};
use nanny_lib::gpu::{
    Exclusive, Fit, GpuHealth, GpuInventory, GpuPolicy, GpuProblem, GpuProcess, GpuReading,
    GpuVendor, Sweep,
};
use nanny_lib::lifecycle::Settings;
use nanny_lib::manifest::{FixedSource, Service};
use nanny_lib::project::Project;
use nanny_lib::{Error, GpuId, Nanny, StartOptions, Started, Status, StopOptions, Verdict};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::house::{House, gpu, name};

const GIB: u64 = 1024;

/// A machine of which the GPUs hold what the containers of an engine use, and for a while what they
/// used.
#[derive(Debug)]
struct Machine {
    engine: MemoryBackend,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    gpus: Vec<GpuReading>,
    /// What a container uses, in MiB, and where.
    uses: BTreeMap<String, (GpuId, u64)>,
    /// What strangers use.
    strangers: Vec<(GpuId, GpuProcess)>,
    /// How long memory takes to be free.
    late: Duration,
    /// When containers were last seen running.
    seen: BTreeMap<String, Instant>,
    /// Memory in use that no process is seen to have.
    remains: Option<(GpuId, u64)>,
    hides_processes: bool,
    is_stuck: bool,
    problem: Option<String>,
}

#[async_trait]
impl GpuInventory for Machine {
    async fn sweep(&self) -> Sweep {
        if self.state.lock().expect("nobody panics").is_stuck {
            std::future::pending::<()>().await;
        }
        let running = self.engine.running();
        let mut state = self.state.lock().expect("nobody panics");
        let now = Instant::now();
        for container in &running {
            state.seen.insert(container.clone(), now);
        }
        let state = &*state;
        let devices = state.gpus.iter().map(|gpu| {
            let mut gpu = gpu.clone();
            let mut used = 0;
            let mut processes = Vec::new();
            for (number, (container, (on, mib))) in (100..).zip(&state.uses) {
                let runs = running.contains(container);
                let lingers = state
                    .seen
                    .get(container)
                    .is_some_and(|at| now.duration_since(*at) < state.late);
                if *on != gpu.id || !runs && !lingers {
                    continue;
                }
                used += mib;
                if runs {
                    let mut process = GpuProcess::new(number);
                    process.used_mib = Some(*mib);
                    let id = self.engine.id_of(container).expect("it runs");
                    process.containers = vec![id.to_string()];
                    processes.push(process);
                }
            }
            for (on, process) in &state.strangers {
                if *on == gpu.id {
                    used += process.used_mib.unwrap_or(0);
                    processes.push(process.clone());
                }
            }
            used += state
                .remains
                .iter()
                .filter(|(on, _)| *on == gpu.id)
                .map(|(_, mib)| mib)
                .sum::<u64>();
            gpu.used_mib = Some(used);
            gpu.processes = Some(processes).filter(|_| !state.hides_processes);
            gpu
        });
        let problems = state.problem.iter().map(|problem| GpuProblem::new(None, problem));
        Sweep::new(devices.collect(), problems.collect())
    }
}

fn card(id: &str, gib: u64) -> GpuReading {
    let mut gpu = GpuReading::new(GpuId::new(id), GpuVendor::Nvidia);
    gpu.total_mib = Some(gib * GIB);
    gpu
}

/// A service that declares so much, and uses as much.
fn service(service: &str, gib: u32) -> Service {
    let mut made = gpu(service);
    let manifest = Arc::make_mut(&mut made.manifest);
    *manifest = manifest.clone().with_gpu(gib);
    made
}

struct Lab {
    house: House,
    machine: Arc<Machine>,
}

impl Lab {
    async fn new(policy: impl GpuPolicy, gpus: Vec<GpuReading>, services: Vec<Service>) -> Self {
        let engine = MemoryBackend::new();
        Self::on(engine, policy, gpus, services).await
    }

    async fn on(
        engine: MemoryBackend,
        policy: impl GpuPolicy,
        gpus: Vec<GpuReading>,
        services: Vec<Service>,
    ) -> Self {
        Self::using(engine, policy, gpus, services, u64::MAX).await
    }

    /// Services use what they declare, but at most so much.
    async fn using(
        engine: MemoryBackend,
        policy: impl GpuPolicy,
        gpus: Vec<GpuReading>,
        services: Vec<Service>,
        most_mib: u64,
    ) -> Self {
        let first = gpus[0].id.clone();
        let uses = services.iter().map(|service| {
            let manifest = &service.manifest;
            let mib = manifest.vram_mib().min(most_mib);
            (format!("{}-main-1", manifest.name), (first.clone(), mib))
        });
        let state = State { uses: uses.collect(), gpus, ..State::default() };
        let machine = Arc::new(Machine { engine: engine.clone(), state: Mutex::new(state) });
        let mut settings = Settings::default();
        settings.gpu.min_hold = Duration::ZERO;
        let nanny = Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new(services))
            .policy(policy)
            .gpus(Arc::<Machine>::clone(&machine))
            .settings(settings)
            .start()
            .await
            .expect("a nanny starts");
        Self { house: House { nanny, engine }, machine }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.machine.state.lock().expect("nobody panics"));
    }

    async fn start(&self, name: &str) {
        self.house.start(name).await;
        // A sweep later, its use is seen.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    /// A start that waits for as long as it takes, once it does.
    async fn queued(&self, name: &str) -> JoinHandle<Result<Started, Error>> {
        let (nanny, service) = (self.house.nanny.clone(), name.to_owned());
        let options = StartOptions::default().queued_for(Duration::MAX);
        let waits = tokio::spawn(async move { nanny.start(&service, options).await });
        self.house.until(name, Status::Queued).await;
        waits
    }

    async fn refused(&self, name: &str, options: StartOptions) -> Error {
        self.house.nanny.start(name, options).await.expect_err("it is refused")
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
