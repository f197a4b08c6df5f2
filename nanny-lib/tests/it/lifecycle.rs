//! Starting and stopping.

use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use nanny_lib::backend::{ContainerSpec, EngineHealth, MemoryBackend, RestartPolicy};
use nanny_lib::manifest::{Changed, Discovery, FixedSource, Manifest, ManifestSource, Service};
use nanny_lib::project::{Condition, Dependency, Project};
use nanny_lib::{Error, Nanny, ServiceName, StartOptions, Status, StopOptions, Wait};

use crate::house::{House, cpu, gpu, gpu_with, healthy_within, restarting, web_and_db};

fn slow_to_stop(seconds: u64) -> MemoryBackend {
    MemoryBackend::new().with_stop_time(Duration::from_secs(seconds))
}

fn slow_to_start(seconds: u64) -> MemoryBackend {
    MemoryBackend::new().with_start_time(Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn starting_what_runs_changes_nothing() {
    let house = House::new([cpu("a")]).await;
    assert!(!house.start("a").await.already_running);
    assert!(house.start("a").await.already_running);
    assert_eq!(house.engine.runs("a-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_what_does_not_run_changes_nothing() {
    let house = House::new([cpu("a")]).await;
    assert!(!house.nanny.stop("a", StopOptions::default()).await.unwrap().was_running);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_service_is_not_found() {
    let house = House::new([]).await;
    let error = house.nanny.start("x", StartOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "Service 'x' not found");
}

#[tokio::test(start_paused = true)]
async fn containers_are_listed_by_name_whatever_came_first() {
    // Parts are made in the order of their keys, and what is made first has the lower identifier.
    let [one, two] = ["a-zebra-1", "a-ant-1"].map(|name| ContainerSpec::new(name, "image"));
    let project = Project::new("a").with_part("one", one).with_part("two", two);
    let manifest = Manifest::new(ServiceName::new("a").unwrap());
    let house = House::new([Service::new(manifest, project, "a")]).await;
    house.start("a").await;
    let snapshot = house.nanny.snapshot();
    let listed: Vec<_> = snapshot.services["a"].containers.iter().map(|it| &it.name).collect();
    assert_eq!(listed, ["a-ant-1", "a-zebra-1"]);
}

#[tokio::test(start_paused = true)]
async fn starts_of_one_service_join() {
    let house = House::on(slow_to_start(1), [cpu("a")]).await;
    let (one, two) = tokio::join!(house.start("a"), house.start("a"));
    assert!(!one.already_running && !two.already_running);
    assert_eq!(house.engine.runs("a-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn b6_start_during_stop_ends_running() {
    let house = House::on(slow_to_stop(3), [gpu("a")]).await;
    house.start("a").await;
    let stop = house.nanny.stop("a", StopOptions::default());
    let start = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.nanny.start("a", StartOptions::default()).await
    };
    let (stop, start) = tokio::join!(stop, start);
    assert!(stop.unwrap().was_running);
    start.unwrap();
    assert_eq!(house.engine.running(), ["a-main-1"]);
    assert_eq!(house.status("a"), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_start_cancels_it() {
    let house = House::on(slow_to_start(3), [gpu("a")]).await;
    let start = house.nanny.start("a", StartOptions::default());
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.nanny.stop("a", StopOptions::default()).await
    };
    let (start, stop) = tokio::join!(start, stop);
    assert!(matches!(start, Err(Error::Cancelled { .. })), "{start:?}");
    stop.unwrap();
    assert!(house.engine.running().is_empty());
    assert_eq!(house.status("a"), Status::Stopped);
}

#[tokio::test(start_paused = true)]
async fn c9_a_caller_who_hangs_up_changes_nothing() {
    let house = House::on(slow_to_start(3), [gpu("a")]).await;
    let start = house.nanny.start("a", StartOptions::default());
    tokio::time::timeout(Duration::from_secs(1), start).await.unwrap_err();
    house.until("a", Status::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_changes_nothing() {
    let house = House::on(slow_to_start(10), [gpu("a")]).await;
    let options = StartOptions::default().within(Duration::from_secs(2));
    let error = house.nanny.start("a", options).await.unwrap_err();
    assert!(matches!(error, Error::StartTimeout { .. }), "{error:?}");
    house.until("a", Status::Running).await;
}

#[tokio::test(start_paused = true)]
async fn without_waiting_the_answer_comes_at_once() {
    let house = House::on(slow_to_start(10), [gpu("a")]).await;
    let options = StartOptions::default().waiting_for(Wait::None);
    assert!(house.nanny.start("a", options).await.unwrap().pending);
    assert_eq!(house.status("a"), Status::Starting);
}

#[tokio::test(start_paused = true)]
async fn parts_start_in_order_and_stop_in_reverse() {
    let house = House::new([web_and_db("a")]).await;
    let start = house.nanny.start("a", StartOptions::default());
    let check = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(house.engine.running(), ["a-db-1"], "web waits until db is healthy");
        house.engine.set_health("a-db-1", EngineHealth::Healthy);
    };
    let (start, ()) = tokio::join!(start, check);
    start.unwrap();
    assert_eq!(house.engine.running(), ["a-db-1", "a-web-1"]);
    house.nanny.stop("a", StopOptions::removing()).await.unwrap();
    assert!(house.engine.id_of("a-db-1").is_none() && house.engine.id_of("a-web-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_dependency_fails_the_start_and_clears_what_was_started() {
    let house = House::new([web_and_db("a")]).await;
    let start = house.nanny.start("a", StartOptions::default());
    let sicken = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        house.engine.set_health("a-db-1", EngineHealth::Unhealthy);
    };
    let (start, ()) = tokio::join!(start, sicken);
    assert!(start.unwrap_err().to_string().contains("'a-db-1' is unhealthy"));
    assert!(house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn d2_what_exits_before_it_runs_has_failed() {
    let house = House::new([gpu("a")]).await;
    house.engine.exits_after("a-main-1", Duration::ZERO, 3);
    let error = house.nanny.start("a", StartOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("exited with code 3"), "{error}");
    assert_eq!(house.status("a"), Status::Failed);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_health_ends_when_it_is_healthy() {
    let house = House::new([web_and_db("a")]).await;
    let start = house.nanny.start("a", healthy_within(30));
    let heal = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        house.engine.set_health("a-db-1", EngineHealth::Healthy);
    };
    let (start, ()) = tokio::join!(start, heal);
    start.unwrap();
    assert!(house.nanny.snapshot().services["a"].is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_answered_as_the_file_asks_and_keeps_the_gpu() {
    let house = House::new([restarting("a", RestartPolicy::UnlessStopped), gpu("b")]).await;
    house.start("a").await;
    house.engine.exit("a-main-1", 1);
    house.until("a", Status::Starting).await;
    let error = house.nanny.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "a crash whose restart is due still holds");
    house.until("a", Status::Running).await;
    assert_eq!(house.engine.runs("a-main-1"), 2);
}

/// Waits until 'a' has been restarted so often that it is left alone.
async fn fails_too_often(house: &House) {
    house.until("a", Status::Failed).await;
    let error = house.nanny.snapshot().services["a"].error.clone().expect("why it failed");
    assert!(error.contains("too often"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn d10_a_crash_loop_ends_failed() {
    let house = House::new([restarting("a", RestartPolicy::Always), gpu("b")]).await;
    house.start("a").await;
    for _ in 0..6 {
        house.until("a", Status::Running).await;
        house.engine.exit("a-main-1", 1);
        house.until_seen(|s| s.services["a"].status != Status::Running).await;
    }
    fails_too_often(&house).await;
    house.start("b").await;
}

#[tokio::test(start_paused = true)]
async fn d10_a_restart_that_ends_at_once_is_one_of_so_many() {
    let house = House::new([restarting("a", RestartPolicy::Always), gpu("b")]).await;
    house.start("a").await;
    house.engine.exits_after("a-main-1", Duration::ZERO, 1);
    house.engine.exit("a-main-1", 1);
    fails_too_often(&house).await;
    assert_eq!(house.engine.runs("a-main-1"), 6);
    house.start("b").await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_done_is_not_taken_for_the_part_that_ended() {
    let service = gpu_with("a", |project| {
        let job = ContainerSpec::new("a-job-1", "image");
        project.parts.extend(Project::new("a").with_part("job", job).parts);
        let main = project.parts.get_mut("main").expect("it has one part");
        main.restart = RestartPolicy::Always;
        main.depends_on = vec![Dependency::new("job", Condition::Completed)];
    });
    let house = House::new([service, gpu("b")]).await;
    house.engine.exits_after("a-job-1", Duration::ZERO, 0);
    house.start("a").await;
    house.engine.exits_after("a-main-1", Duration::ZERO, 1);
    house.engine.exit("a-main-1", 1);
    fails_too_often(&house).await;
    house.start("b").await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_without_a_policy_is_a_failure_and_frees_the_gpu() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    house.engine.exit("a-main-1", 139);
    house.until("a", Status::Failed).await;
    house.start("b").await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_services_running() {
    let house = House::new([gpu("a")]).await;
    house.start("a").await;
    house.nanny.shutdown().await;
    assert_eq!(house.engine.running(), ["a-main-1"]);
    let error = house.nanny.start("a", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::ShuttingDown));
}

/// Finds its services after a while, during which engines are listed again and again.
#[derive(Debug)]
struct SlowSource(FixedSource);

#[async_trait::async_trait]
impl ManifestSource for SlowSource {
    async fn discover(&self) -> Discovery {
        tokio::time::sleep(Duration::from_secs(8)).await;
        self.0.discover().await
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        self.0.watch()
    }
}

#[tokio::test(start_paused = true)]
async fn a_nanny_is_ready_when_all_have_answered_however_often_one_did() {
    let nanny = Nanny::builder()
        .backend(Arc::new(MemoryBackend::new()))
        .source(SlowSource(FixedSource::new([cpu("web")])))
        .start()
        .await
        .unwrap();
    assert!(nanny.snapshot().services.contains_key("web"));
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_files_are_at_fault_is_shown_and_not_started() {
    let house = House::new([cpu("a").as_unusable("a/compose.yaml:3:5: not a key")]).await;
    assert_eq!(house.status("a"), Status::Failed);
    let error = house.nanny.start("a", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::StartFailed { .. }), "{error:?}");
    assert!(error.to_string().contains("a/compose.yaml:3:5"), "{error}");
    assert!(!house.nanny.stop("a", StopOptions::default()).await.unwrap().was_running);
}

#[tokio::test(start_paused = true)]
async fn a_pull_may_take_longer_than_the_limit_of_a_start() {
    use std::sync::Arc;

    use nanny_lib::Nanny;
    use nanny_lib::lifecycle::Settings;
    use nanny_lib::manifest::FixedSource;

    let engine = MemoryBackend::new()
        .with_images(Vec::<String>::new())
        .with_registry(["image"])
        .with_pull_time(Duration::from_secs(60));
    let mut settings = Settings::default();
    settings.start_limit = Duration::from_secs(5);
    let nanny = Nanny::builder()
        .backend(Arc::new(engine))
        .source(FixedSource::new([gpu("a"), cpu("b")]))
        .settings(settings);
    let nanny = nanny.start().await.unwrap();
    let start = nanny.start("a", StartOptions::default());
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(nanny.snapshot().services["a"].status, Status::Starting);
        nanny.stop("b", StopOptions::default()).await
    };
    let (start, meanwhile) = tokio::join!(start, meanwhile);
    start.unwrap();
    meanwhile.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_steady_service_is_probed_once_each_time() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nanny_lib::Nanny;
    use nanny_lib::manifest::FixedSource;
    use nanny_lib::probe::{Health, HealthProbe, ProbeTarget};

    #[derive(Debug, Clone, Default)]
    struct Counting(Arc<AtomicU32>);

    #[async_trait::async_trait]
    impl HealthProbe for Counting {
        async fn probe(&self, _: &ProbeTarget) -> Health {
            self.0.fetch_add(1, Ordering::Relaxed);
            Health::Healthy
        }
    }

    let probe = Counting::default();
    let nanny = Nanny::builder()
        .backend(Arc::new(MemoryBackend::new()))
        .source(FixedSource::new([cpu("a")]))
        .probe(probe.clone())
        .start()
        .await
        .unwrap();
    nanny.start("a", StartOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let probes = probe.0.load(Ordering::Relaxed);
    assert!((9..=13).contains(&probes), "{probes} probes in ten intervals");
}
