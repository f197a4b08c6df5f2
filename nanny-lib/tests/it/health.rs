//! What probes say, and what follows from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use nanny_lib::backend::{MemoryBackend, RestartPolicy};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::probe::{Health, HealthProbe, ProbeTarget};
use nanny_lib::{Change, Error, Heard, Nanny, ServiceView, StartOptions, Status, StopOptions};
use tokio::time::{Instant, sleep};

use crate::house::{House, cpu, gpu, healthy_within, restarting};

/// What a probe says, and how long it takes to.
type Answer = (Duration, Health);

/// Answers as the test says.
struct Scripted {
    asked: AtomicUsize,
    answer: Box<dyn Fn(usize) -> Answer + Send + Sync>,
}

impl Scripted {
    /// `answer` is asked with the number of the probe.
    fn new(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self { asked: AtomicUsize::new(0), answer: Box::new(answer) }
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HealthProbe for Scripted {
    async fn probe(&self, _: &ProbeTarget) -> Health {
        let (takes, health) = (self.answer)(self.asked.fetch_add(1, Ordering::Relaxed));
        sleep(takes).await;
        health
    }
}

fn sick() -> Health {
    Health::Unhealthy { reason: "status 500".to_owned() }
}

/// The same service with a changed manifest.
fn with(mut service: Service, change: impl FnOnce(&mut Manifest)) -> Service {
    change(Arc::make_mut(&mut service.manifest));
    service
}

async fn house(
    engine: MemoryBackend,
    services: impl IntoIterator<Item = Service>,
    probe: impl HealthProbe,
) -> House {
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new(services))
        .probe(probe);
    House { nanny: nanny.start().await.expect("a nanny starts"), engine }
}

fn view(house: &House, service: &str) -> Arc<ServiceView> {
    Arc::clone(&house.nanny.snapshot().services[service])
}

/// What is told of a service's status while `time` passes.
async fn told(house: &House, time: Duration) -> Vec<Status> {
    let mut changes = house.nanny.changes(0);
    let mut told = Vec::new();
    let end = Instant::now() + time;
    while let Ok(Some(heard)) = tokio::time::timeout_at(end, changes.next()).await {
        let Heard::Change(change) = heard else { panic!("{heard:?}") };
        if let Change::Status { status, .. } = change.change {
            told.push(status);
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_ready_is_told_once_and_so_is_one_that_is_so_no_more() {
    let answers = |n| (Duration::ZERO, if (2..5).contains(&n) { Health::Healthy } else { sick() });
    let asked = with(cpu("a"), |manifest| {
        manifest.health_endpoint = Some("http://localhost:8000/health".to_owned());
    });
    let house = house(MemoryBackend::new(), [asked], Scripted::new(answers)).await;
    house.start("a").await;
    let mut changes = house.nanny.changes(0);
    let mut told = Vec::new();
    let end = Instant::now() + Duration::from_secs(600);
    while let Ok(Some(heard)) = tokio::time::timeout_at(end, changes.next()).await {
        let Heard::Change(change) = heard else { panic!("{heard:?}") };
        if let Change::Health { is_healthy, is_ready, .. } = change.change {
            told.push((is_healthy, is_ready));
        }
    }
    assert_eq!(told, [(true, true), (false, false)]);
}

#[tokio::test(start_paused = true)]
async fn d2_who_waits_for_health_is_told_at_once_that_it_ended() {
    for service in [gpu("a"), cpu("a")] {
        let probe = Scripted::new(|_| (Duration::ZERO, sick()));
        let house = house(MemoryBackend::new(), [service], probe).await;
        house.engine.exits_after("a-main-1", Duration::from_secs(5), 3);
        let began = Instant::now();
        let error = house.nanny.start("a", healthy_within(3600)).await.unwrap_err();
        assert!(matches!(error, Error::StartFailed { .. }), "{error:?}");
        assert!(error.to_string().contains("code 3"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert_eq!(house.status("a"), Status::Failed);
    }
}

#[tokio::test(start_paused = true)]
async fn d3_flapping_is_told_twice_an_interval_at_most_and_with_thresholds_not_at_all() {
    let minutes = Duration::from_secs(600);
    let flapping = |n| (Duration::ZERO, if n % 2 == 0 { Health::Healthy } else { sick() });
    let plain = with(cpu("a"), |manifest| manifest.health_timeout = Duration::ZERO);
    let calm = with(plain.clone(), |manifest| {
        manifest.health.failures = 3;
        manifest.health.successes = 2;
    });
    let house_of = |service| house(MemoryBackend::new(), [service], Scripted::new(flapping));

    let house = house_of(plain).await;
    house.start("a").await;
    let statuses = told(&house, minutes).await;
    let sickly = statuses.iter().filter(|status| **status == Status::Unhealthy).count();
    assert!((30..=67).contains(&sickly), "{sickly} times in 60 intervals");
    assert!(statuses.windows(2).all(|pair| pair[0] != pair[1]), "{statuses:?}");

    let house = house_of(calm).await;
    house.start("a").await;
    let statuses = told(&house, minutes).await;
    assert_eq!(statuses.last(), Some(&Status::Running));
    assert!(!statuses.contains(&Status::Unhealthy), "{statuses:?}");
}

#[tokio::test(start_paused = true)]
async fn d4_a_service_too_busy_to_answer_is_unhealthy_and_left_alone() {
    // It was healthy, and then works for an hour.
    let busy = |n| match n {
        0..3 => (Duration::ZERO, Health::Healthy),
        _ => (Duration::from_secs(3600), Health::Healthy),
    };
    let a = restarting("a", RestartPolicy::Always);
    let house = house(MemoryBackend::new(), [a, gpu("b")], Scripted::new(busy)).await;
    house.start("a").await;
    house.until_seen(|now| now.services["a"].status == Status::Unhealthy).await;
    sleep(Duration::from_secs(3000)).await;
    let now = view(&house, "a");
    assert_eq!(now.status, Status::Unhealthy);
    assert!(now.is_running && now.holds_gpu && now.error.is_none(), "{now:?}");
    assert_eq!(
        now.health.as_ref().and_then(|health| health.reason.as_deref()),
        Some("no answer within 5s")
    );
    assert_eq!(house.engine.runs("a-main-1"), 1);
    let error = house.nanny.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
}

/// Notes when each service was asked, and how many were at once.
#[derive(Debug, Clone, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    asked: Arc<Mutex<BTreeMap<String, Vec<Instant>>>>,
}

#[async_trait::async_trait]
impl HealthProbe for Crowd {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let service = target.service.to_string();
        self.asked
            .lock()
            .expect("nobody panics here")
            .entry(service)
            .or_default()
            .push(Instant::now());
        sleep(Duration::from_millis(100)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Health::Healthy
    }
}

#[tokio::test(start_paused = true)]
async fn d7_a_hundred_services_are_probed_a_few_at_once_and_out_of_step() {
    let services: Vec<_> = (0..100).map(|n| cpu(&format!("s{n}"))).collect();
    let engine = MemoryBackend::new();
    let before = House::on(engine.clone(), services.clone()).await;
    for service in &services {
        before.start(service.manifest.name.as_str()).await;
    }
    before.nanny.shutdown().await;

    let crowd = Crowd::default();
    let began = Instant::now();
    let house = house(engine, services, crowd.clone()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(crowd.most.load(Ordering::SeqCst), 16, "at once");
    drop(house);
    let asked = std::mem::take(&mut *crowd.asked.lock().unwrap());
    assert_eq!(asked.len(), 100);
    for (service, times) in &asked {
        assert!(times[0] - began < Duration::from_secs(2), "{service} waits for its first");
        assert!((5..=8).contains(&times.len()), "{service}: {} in a minute", times.len());
    }
    // The fourth round: nobody waits for a place any more, and no two dozen come together.
    let mut together = BTreeMap::<Instant, usize>::new();
    for times in asked.values() {
        *together.entry(times[4]).or_default() += 1;
    }
    assert!(together.values().all(|&count| count < 16), "{together:?}");
    assert!(together.len() > 50, "{} instants", together.len());
}

#[tokio::test(start_paused = true)]
async fn d9_what_answers_in_place_of_a_service_makes_it_neither_running_nor_healthy() {
    // Somebody always answers at its endpoint, and takes longer than its restart does.
    let probe = Scripted::new(|n| match n {
        0 => (Duration::from_secs(4), Health::Healthy),
        _ => (Duration::ZERO, sick()),
    });
    let house = house(MemoryBackend::new(), [gpu("a")], probe).await;
    sleep(Duration::from_secs(60)).await;
    let now = view(&house, "a");
    assert_eq!((now.status, now.is_healthy), (Status::Stopped, false));
    assert!(now.health.is_none(), "what does not run is not asked");

    house.start("a").await;
    sleep(Duration::from_secs(1)).await;
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("a").await;
    // The answer about the run before comes now, and says nothing about this one.
    sleep(Duration::from_secs(4)).await;
    let now = view(&house, "a");
    assert!(!now.is_healthy, "{now:?}");
}

/// Asked for the first time, it sleeps together with the nanny; later it answers at once.
#[derive(Debug, Default)]
struct Suspended(AtomicUsize);

#[async_trait::async_trait]
impl HealthProbe for Suspended {
    async fn probe(&self, _: &ProbeTarget) -> Health {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            tokio::time::advance(Duration::from_secs(3600)).await;
            return Health::Unreachable { reason: "no answer within 5 s".to_owned() };
        }
        Health::Healthy
    }
}

#[tokio::test(start_paused = true)]
async fn d11_a_nanny_that_was_not_awake_judges_nobody_by_it() {
    let service = with(cpu("a"), |manifest| manifest.health_timeout = Duration::ZERO);
    let house = house(MemoryBackend::new(), [service], Suspended::default()).await;
    house.start("a").await;
    house.until_seen(|now| now.services["a"].health.is_some()).await;
    let statuses = told(&house, Duration::from_secs(60)).await;
    assert!(!statuses.contains(&Status::Unhealthy), "{statuses:?}");
    assert_eq!(view(&house, "a").health.as_ref().and_then(|health| health.reason.clone()), None);
}

#[tokio::test(start_paused = true)]
async fn i9_a_service_that_starts_by_a_clock_ahead_of_ours_has_its_time_to_get_healthy() {
    let probe = Scripted::new(|_| (Duration::ZERO, sick()));
    let house = house(MemoryBackend::new(), [cpu("a")], probe).await;
    // The engine's clock goes with the paused one, ours does not.
    sleep(Duration::from_secs(3600)).await;
    house.start("a").await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(house.status("a"), Status::Running);
    house.until("a", Status::Unhealthy).await;
}
