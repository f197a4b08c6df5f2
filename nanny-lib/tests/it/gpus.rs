//! GPUs that are measured.

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
use nanny_lib::{Error, GpuId, Nanny, StartOptions, Status, StopOptions, Verdict};
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

    async fn refused(&self, name: &str, options: StartOptions) -> Error {
        self.house.nanny.start(name, options).await.expect_err("it is refused")
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn two_that_fit_share_a_gpu_and_a_third_evicts_exactly_one() {
    let services = vec![service("a", 8), service("b", 10), service("c", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    lab.start("b").await;
    let error = lab.refused("c", StartOptions::default()).await;
    let Error::GpuConflict { holders, account } = &error else { panic!("{error:?}") };
    assert_eq!(*holders, ["a"], "whom force would stop");
    assert_eq!((account.need_mib, account.devices[0].free_mib), (12 * GIB, Some(6 * GIB)));
    assert!(error.to_string().contains("12288 MiB are needed"), "{error}");
    let plan = lab.house.nanny.plan("c", StartOptions::forced()).await.unwrap();
    assert!(matches!(&plan.verdict, Verdict::Evict { victims, .. } if *victims == [name("a")]));
    let started = lab.house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
    assert_eq!(lab.house.engine.running(), ["b-main-1", "c-main-1"]);
    let view = &lab.house.nanny.snapshot().services["c"];
    assert_eq!(view.gpus, [GpuId::new("GPU-0")]);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_waits_until_the_memory_is_really_free() {
    for policy in [false, true] {
        let (gpus, services) = (vec![card("GPU-0", 24)], vec![service("a", 16), service("b", 16)]);
        let lab = if policy {
            Lab::new(Fit::new(), gpus, services).await
        } else {
            Lab::new(Exclusive, gpus, services).await
        };
        lab.set(|state| state.late = secs(3));
        lab.start("a").await;
        let began = Instant::now();
        lab.house.nanny.start("b", StartOptions::forced()).await.unwrap();
        // The machine counts from when it was last looked at, up to a second before.
        assert!(began.elapsed() >= secs(2), "{:?}", began.elapsed());
        assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_free_before_others_took_it_lets_nobody_in() {
    let services = vec![service("a", 10), service("b", 12), service("c", 8)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.set(|state| state.late = secs(3));
    lab.start("a").await;
    lab.house.until_seen(|seen| seen.gpus[0].used_mib == Some(10 * GIB)).await;
    // When the GPU was last looked at, there was room for 'c' beside 'a', and 'b' was not there.
    lab.house.start("b").await;
    let began = Instant::now();
    let started = lab.house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
    // The machine counts from when it was last looked at, up to a second before.
    assert!(began.elapsed() >= secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_came_after_the_last_look_is_seen_before_anybody_starts_beside() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    let said = lab.refused("a", StartOptions::default()).await.to_string();
    assert!(said.contains("77"), "{said}");
    assert!(lab.house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_process_that_ends_before_its_container_is_no_strangers() {
    let engine = MemoryBackend::new().with_stop_time(secs(5));
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::on(engine, Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    let nanny = lab.house.nanny.clone();
    let forced = tokio::spawn(async move { nanny.start("b", StartOptions::forced()).await });
    // From now on its process is gone, its container is not, and its memory is not free.
    lab.set(|state| {
        let (gpu, mib) = state.uses.remove("a-main-1").unwrap();
        state.remains = Some((gpu, mib));
    });
    tokio::time::sleep(secs(12)).await;
    assert!(lab.house.engine.running().is_empty(), "it is down, and its memory is not free");
    lab.set(|state| state.remains = None);
    forced.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_that_never_becomes_free_fails_the_start_and_names_who_has_it() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    // What it used stays, in a process that nobody knows.
    lab.set(|state| {
        let mut left = GpuProcess::new(4711);
        left.used_mib = Some(16 * GIB);
        left.name = Some("python".to_owned());
        state.uses.remove("a-main-1");
        state.strangers.push((GpuId::new("GPU-0"), left));
    });
    let began = Instant::now();
    let error = lab.refused("b", StartOptions::forced()).await;
    let Error::GpuMemoryHeld { reason, restored, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("4711") && reason.contains("python"), "{reason}");
    assert!(restored.is_empty(), "there is no room for it any more either: {restored:?}");
    assert!(began.elapsed() >= secs(15) && began.elapsed() < secs(20), "{:?}", began.elapsed());
    assert_eq!(lab.house.status("b"), Status::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_on_the_gpu_is_named_in_the_conflict() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        game.name = Some("game".to_owned());
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    lab.house.until_seen(|seen| seen.gpus[0].foreign_mib == 20 * GIB).await;
    for options in [StartOptions::default(), StartOptions::forced()] {
        let error = lab.refused("a", options).await;
        let account = match &error {
            Error::GpuConflict { account, .. } | Error::GpuRefused { account, .. } => account,
            other => panic!("{other:?}"),
        };
        assert_eq!(account.devices[0].others[0].pid, 77);
    }
    let said = lab.refused("a", StartOptions::default()).await.to_string();
    assert!(said.contains("77") && said.contains("game") && said.contains("4096 MiB"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_came_just_now_is_named_at_once() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    // A sweep later, so that nobody has looked since.
    tokio::time::sleep(Duration::from_millis(100)).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    let began = Instant::now();
    let error = lab.refused("a", StartOptions::default()).await;
    let Error::GpuRefused { account, .. } = &error else { panic!("{error:?}") };
    assert_eq!(account.devices[0].others[0].pid, 77);
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    assert_eq!(lab.house.status("a"), Status::Stopped);
    lab.set(|state| state.strangers.clear());
    lab.house.until_seen(|seen| seen.gpus[0].foreign_mib == 0).await;
    lab.start("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_queue_waits_for_strangers_to_go() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    lab.house.until_seen(|seen| seen.gpus[0].foreign_mib == 20 * GIB).await;
    let nanny = lab.house.nanny.clone();
    let options = StartOptions::default().queued_for(Duration::MAX);
    let waits = tokio::spawn(async move { nanny.start("a", options).await });
    lab.house.until("a", Status::Queued).await;
    lab.set(|state| state.strangers.clear());
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_crashes_is_restarted_on_its_own_memory_once_that_is_free() {
    let mut crashing = service("a", 16);
    let project = Arc::make_mut(&mut crashing.project);
    project.parts.get_mut("main").unwrap().restart = RestartPolicy::Always;
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![crashing]).await;
    lab.set(|state| state.late = secs(6));
    lab.start("a").await;
    let began = Instant::now();
    lab.house.engine.exit("a-main-1", 1);
    lab.house.until("a", Status::Starting).await;
    lab.house.until("a", Status::Running).await;
    assert!(began.elapsed() >= secs(4), "{:?}", began.elapsed());
    assert_eq!(lab.house.engine.runs("a-main-1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_stops_answering_holds_nobody_up() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    lab.set(|state| state.is_stuck = true);
    lab.house.nanny.start("b", StartOptions::forced()).await.unwrap();
    let seen = lab.house.nanny.snapshot();
    assert_eq!(seen.gpus[0].used_mib, None);
    assert!(seen.gpu_problems[0].contains("not answered"), "{:?}", seen.gpu_problems);
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_charged_for_as_long_as_the_claim_lasts() {
    let services = vec![service("a", 8), service("b", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.set(|state| state.uses.get_mut("a-main-1").unwrap().1 = 14 * GIB);
    lab.start("a").await;
    lab.set(|state| state.uses.get_mut("a-main-1").unwrap().1 = GIB);
    tokio::time::sleep(secs(5)).await;
    let error = lab.refused("b", StartOptions::default()).await;
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    let seen = lab.house.nanny.snapshot();
    let claim = &seen.gpus[0].claims[0];
    assert_eq!((claim.charge_mib, claim.used_mib), (14 * GIB, Some(GIB)));
    let notices = &seen.services["a"].notices;
    assert!(notices.iter().any(|notice| notice.contains("vram_gb: 14")), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gpu_that_is_lost_is_told_and_the_others_go_on() {
    let services = vec![service("a", 8), service("b", 8), service("c", 20)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24), card("GPU-1", 24)], services).await;
    lab.start("a").await;
    lab.set(|state| {
        state.gpus.remove(0);
    });
    lab.house
        .until_seen(|seen| seen.gpus.iter().any(|gpu| matches!(gpu.health, GpuHealth::Unusable(_))))
        .await;
    assert_eq!(lab.house.status("a"), Status::Running);
    let seen = lab.house.nanny.snapshot();
    let told = "it is on GPU-0, which is not in order: it is gone";
    let notices = &seen.services["a"].notices;
    assert!(notices.iter().any(|notice| notice == told), "{notices:?}");
    let lost = seen.gpus.iter().find(|gpu| gpu.id.as_str() == "GPU-0").unwrap();
    assert_eq!((lost.charged_mib, lost.free_mib), (8 * GIB, Some(0)));
    lab.start("b").await;
    assert_eq!(lab.house.nanny.snapshot().services["b"].gpus, [GpuId::new("GPU-1")]);
    let error = lab.refused("c", StartOptions::default()).await;
    let Error::GpuConflict { account, .. } = &error else { panic!("{error:?}") };
    let free = account.devices.iter().map(|device| (device.gpu.as_str(), device.free_mib));
    let free: BTreeMap<_, _> = free.collect();
    assert_eq!(free, [("GPU-0", Some(0)), ("GPU-1", Some(16 * GIB))].into());
    lab.set(|state| state.gpus.insert(0, card("GPU-0", 24)));
    lab.house.until_seen(|seen| seen.gpus.iter().all(|gpu| gpu.health == GpuHealth::Ok)).await;
}

#[tokio::test(start_paused = true)]
async fn where_no_gpu_is_in_order_a_refusal_says_what_is_wrong() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        state.gpus[0].health = GpuHealth::Unusable("it fell off the bus".to_owned());
        state.problem = Some("the driver is of another version: reboot".to_owned());
    });
    lab.house.until_seen(|seen| !seen.gpu_problems.is_empty()).await;
    let said = lab.refused("a", StartOptions::default()).await.to_string();
    assert!(said.contains("in order; the driver is of another version: reboot"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn whoever_declares_nothing_is_told_what_that_means() {
    let services = vec![service("a", 8), service("b", 0)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    let said = lab.refused("b", StartOptions::default()).await.to_string();
    assert!(said.contains("declares no vram_gb and so needs a GPU of its own"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn one_whose_gpu_is_lost_is_restarted_on_another() {
    let mut crashing = service("a", 16);
    let project = Arc::make_mut(&mut crashing.project);
    project.parts.get_mut("main").unwrap().restart = RestartPolicy::Always;
    let gpus = vec![card("GPU-0", 24), card("GPU-1", 24)];
    let lab = Lab::new(Fit::new(), gpus, vec![crashing]).await;
    lab.start("a").await;
    let placed = || lab.house.nanny.snapshot().services["a"].gpus.clone();
    assert_eq!(placed(), [GpuId::new("GPU-0")]);
    lab.set(|state| {
        state.gpus.remove(0);
    });
    lab.house.engine.exit("a-main-1", 1);
    lab.house.until("a", Status::Starting).await;
    lab.house.until("a", Status::Running).await;
    assert_eq!(placed(), [GpuId::new("GPU-1")]);
}

#[tokio::test(start_paused = true)]
async fn starts_on_one_gpu_come_one_after_another() {
    let engine = MemoryBackend::new().with_start_time(secs(5));
    let services = vec![service("a", 8), service("b", 8)];
    let lab = Lab::on(engine, Fit::new(), vec![card("GPU-0", 24)], services).await;
    let began = Instant::now();
    let (a, b) = tokio::join!(
        lab.house.nanny.start("a", StartOptions::default()),
        lab.house.nanny.start("b", StartOptions::default()),
    );
    a.unwrap();
    b.unwrap();
    assert!(began.elapsed() >= secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn starts_on_different_gpus_go_on_at_once() {
    let engine = MemoryBackend::new().with_start_time(secs(5));
    let services = vec![service("a", 20), service("b", 20)];
    let lab =
        Lab::on(engine, Fit::new(), vec![card("GPU-0", 24), card("GPU-1", 24)], services).await;
    let began = Instant::now();
    let (a, b) = tokio::join!(
        lab.house.nanny.start("a", StartOptions::default()),
        lab.house.nanny.start("b", StartOptions::default()),
    );
    a.unwrap();
    b.unwrap();
    assert!(began.elapsed() < secs(8), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_nanny_that_comes_back_knows_where_everything_is() {
    let engine = MemoryBackend::new();
    let services = || vec![service("a", 20), service("b", 20)];
    let gpus = || vec![card("GPU-0", 24), card("GPU-1", 24)];
    let lab = Lab::on(engine.clone(), Fit::new(), gpus(), services()).await;
    lab.start("a").await;
    lab.start("b").await;
    let seen = |lab: &Lab| {
        let seen = lab.house.nanny.snapshot();
        [seen.services["a"].gpus.clone(), seen.services["b"].gpus.clone()]
    };
    let before = seen(&lab);
    assert_ne!(before[0], before[1]);
    lab.house.nanny.shutdown().await;
    let lab = Lab::on(engine, Fit::new(), gpus(), services()).await;
    assert_eq!(seen(&lab), before);
    assert!(!lab.house.nanny.snapshot().services["a"].drift);
}

#[tokio::test(start_paused = true)]
async fn without_a_view_of_processes_memory_is_arbitrated_all_the_same() {
    let services = vec![service("a", 8), service("b", 10), service("c", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.set(|state| {
        state.hides_processes = true;
        state.late = secs(3);
    });
    lab.start("a").await;
    lab.start("b").await;
    assert!(matches!(lab.refused("c", StartOptions::default()).await, Error::GpuConflict { .. }));
    let began = Instant::now();
    lab.house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert!(began.elapsed() >= secs(2), "{:?}", began.elapsed());
    assert_eq!(lab.house.engine.running().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_was_cut_short_waits_for_the_memory_of_who_made_way() {
    for comes_back in [true, false] {
        let journal = tempfile::tempdir().unwrap();
        let begun = r#"{"boot": "", "services": {"b": "starting"}}"#;
        std::fs::write(journal.path().join("journal.json"), begun).unwrap();
        let engine = MemoryBackend::new();
        // What 'a' had is in use, by nobody that is seen, and 'a' is down.
        let remains = Some((GpuId::new("GPU-0"), 16 * GIB));
        let state = State { gpus: vec![card("GPU-0", 24)], remains, ..State::default() };
        let machine = Arc::new(Machine { engine: engine.clone(), state: Mutex::new(state) });
        let nanny = Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new(vec![service("a", 16), service("b", 16)]))
            .policy(Fit::new())
            .gpus(Arc::<Machine>::clone(&machine))
            .state_dir(journal.path())
            .start()
            .await
            .unwrap();
        let lab = Lab { house: House { nanny, engine }, machine };
        lab.house.until("b", Status::Queued).await;
        if comes_back {
            lab.set(|state| state.remains = None);
            lab.house.until("b", Status::Running).await;
        } else {
            // It is somebody else's after all.
            lab.house.until("b", Status::Stopped).await;
            lab.set(|state| state.remains = None);
            tokio::time::sleep(secs(60)).await;
            assert!(lab.house.engine.running().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_measured_exclusive_still_holds() {
    let services = vec![service("a", 8), service("b", 8)];
    let lab = Lab::new(Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.set(|state| {
        state.gpus.clear();
        state.problem = Some("the driver is not loaded".to_owned());
    });
    lab.start("a").await;
    assert!(matches!(lab.refused("b", StartOptions::default()).await, Error::GpuConflict { .. }));
    let problems = lab.house.nanny.snapshot().gpu_problems.clone();
    assert_eq!(problems, ["the driver is not loaded"]);
    lab.house.nanny.start("b", StartOptions::forced()).await.unwrap();
    lab.house.nanny.stop("b", StopOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_is_made_anew_does_not_wait_for_its_own_memory() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 16)]).await;
    lab.set(|state| state.late = secs(3));
    lab.start("a").await;
    let mut anew = StartOptions::default();
    anew.recreate = true;
    let began = Instant::now();
    lab.house.nanny.start("a", anew).await.unwrap();
    assert!(began.elapsed() >= secs(2), "what the old one had is not free yet");
    assert!(began.elapsed() < secs(6), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_part_that_ends_is_restarted_beside_the_memory_of_the_others() {
    for hides_processes in [false, true] {
        let mut made = service("a", 16);
        let spec = |part: &str| ContainerSpec::new(format!("a-{part}-1"), "image");
        let mut project =
            Project::new("a").with_part("llm", spec("llm")).with_part("web", spec("web"));
        project.parts.get_mut("web").unwrap().restart = RestartPolicy::Always;
        made.project = Arc::new(project);
        let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![made]).await;
        lab.set(|state| {
            state.uses.insert("a-llm-1".to_owned(), (GpuId::new("GPU-0"), 16 * GIB));
            state.hides_processes = hides_processes;
        });
        lab.start("a").await;
        lab.house.engine.exit("a-web-1", 1);
        tokio::time::sleep(secs(5)).await;
        assert_eq!(lab.house.status("a"), Status::Running);
        assert_eq!(lab.house.engine.runs("a-web-1"), 2);
        assert_eq!(lab.house.engine.runs("a-llm-1"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_whose_gpu_is_lost_goes_elsewhere_when_somebody_restarts_it() {
    let gpus = vec![card("GPU-0", 24), card("GPU-1", 24)];
    let lab = Lab::new(Fit::new(), gpus, vec![service("a", 16)]).await;
    lab.start("a").await;
    lab.set(|state| drop(state.gpus.remove(0)));
    tokio::time::sleep(secs(3)).await;
    lab.house.nanny.restart("a", StartOptions::default()).await.unwrap();
    assert_eq!(lab.house.nanny.snapshot().services["a"].gpus, [GpuId::new("GPU-1")]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_holds_nobody_up_on_its_gpu() {
    let engine = MemoryBackend::new()
        .with_images(["image"])
        .with_registry(["big"])
        .with_pull_time(secs(110));
    let mut pulling = service("a", 8);
    let project = Arc::make_mut(&mut pulling.project);
    project.parts.get_mut("main").unwrap().spec.image = Some("big".to_owned());
    let services = vec![pulling, service("b", 8)];
    let lab = Lab::on(engine, Fit::new(), vec![card("GPU-0", 24)], services).await;
    let nanny = lab.house.nanny.clone();
    let pulls = tokio::spawn(async move { nanny.start("a", StartOptions::default()).await });
    tokio::time::sleep(secs(1)).await;
    let began = Instant::now();
    lab.house.nanny.start("b", StartOptions::default()).await.unwrap();
    assert!(began.elapsed() < secs(2), "{:?}", began.elapsed());
    pulls.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_started_by_hand_is_charged_what_it_declares() {
    let engine = MemoryBackend::new();
    let services = || vec![service("a", 20), service("b", 20)];
    let lab = Lab::on(engine.clone(), Exclusive, vec![card("GPU-0", 24)], services()).await;
    lab.start("a").await;
    lab.house.nanny.shutdown().await;
    // It has loaded little of its model yet.
    let lab = Lab::using(engine, Fit::new(), vec![card("GPU-0", 24)], services(), GIB).await;
    tokio::time::sleep(secs(5)).await;
    let error = lab.refused("b", StartOptions::default()).await;
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    assert_eq!(lab.house.nanny.snapshot().gpus[0].claims[0].charge_mib, 20 * GIB);
}

#[tokio::test(start_paused = true)]
async fn whoever_needs_less_than_is_free_does_not_wait_for_the_rest() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.set(|state| {
        state.hides_processes = true;
        state.late = secs(3);
    });
    lab.start("a").await;
    let nanny = lab.house.nanny.clone();
    let began = Instant::now();
    let forced = tokio::spawn(async move { nanny.start("b", StartOptions::forced()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.set(|state| state.remains = Some((GpuId::new("GPU-0"), 200)));
    forced.await.unwrap().unwrap();
    assert!(began.elapsed() > secs(2), "{:?}", began.elapsed());
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_pinned_keeps_nobody_from_other_room() {
    let mut pinned = service("p", 10);
    Arc::make_mut(&mut pinned.manifest).pinned = true;
    let services = vec![pinned, service("h", 20), service("s", 8)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("p").await;
    let nanny = lab.house.nanny.clone();
    let options = StartOptions::default().queued_for(Duration::MAX);
    let waits = tokio::spawn(async move { nanny.start("h", options).await });
    tokio::time::sleep(secs(600)).await;
    lab.house.nanny.start("s", StartOptions::default()).await.unwrap();
    lab.house.nanny.stop("p", StopOptions::default()).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_waiting_while_its_gpu_is_not_in_order() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    let nanny = lab.house.nanny.clone();
    let options = StartOptions::default().queued_for(Duration::MAX);
    let waits = tokio::spawn(async move { nanny.start("b", options).await });
    lab.house.until("b", Status::Queued).await;
    lab.set(|state| state.gpus[0].health = GpuHealth::Suspect("XID 62".to_owned()));
    tokio::time::sleep(secs(5)).await;
    lab.set(|state| state.gpus[0].health = GpuHealth::Ok);
    tokio::time::sleep(secs(5)).await;
    lab.house.nanny.stop("a", StopOptions::default()).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_by_those_of_no_higher_priority() {
    let mut above = service("x", 8);
    Arc::make_mut(&mut above.manifest).priority = 100;
    let services = vec![above, service("y", 8), service("h", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("x").await;
    lab.start("y").await;
    let options = StartOptions::default().queued_for(Duration::MAX);
    let started = lab.house.nanny.start("h", options).await.unwrap();
    assert_eq!(started.stopped, [name("y")]);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_told_apart_a_swap_waits_and_goes_on() {
    for (remains, least, most) in [(0, secs(2), secs(5)), (200, secs(14), secs(17))] {
        let lab =
            Lab::new(Exclusive, vec![card("GPU-0", 24)], vec![service("a", 0), service("b", 0)])
                .await;
        lab.set(|state| {
            state.uses.insert("a-main-1".to_owned(), (GpuId::new("GPU-0"), 16 * GIB));
            state.hides_processes = true;
            state.late = secs(3);
        });
        lab.start("a").await;
        let nanny = lab.house.nanny.clone();
        let began = Instant::now();
        let forced = tokio::spawn(async move { nanny.start("b", StartOptions::forced()).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        lab.set(|state| state.remains = Some((GpuId::new("GPU-0"), remains)));
        forced.await.unwrap().unwrap();
        let took = began.elapsed();
        assert!(least <= took && took < most, "{took:?}");
        assert_eq!(lab.house.nanny.snapshot().gpus[0].foreign_mib, remains);
    }
}
