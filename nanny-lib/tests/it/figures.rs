//! What is counted and measured of services: for curves, and for nothing that decides.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{BackendError, EngineHealth, ErrorKind, MemoryBackend, RestartPolicy};
use nanny_lib::manifest::{FixedSource, Service};
use nanny_lib::{Error, Nanny, StartOptions, Status, StopOptions, Tally};
use tokio::time::{Instant, sleep};

use crate::house::{House, cpu, gpu, restarting, web_and_db};

/// A house whose wall clock goes by paused time.
async fn house(services: impl IntoIterator<Item = Service>) -> House {
    let engine = MemoryBackend::new();
    let clock = engine.clone();
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new(services))
        .wall_clock(move || clock.time());
    House { nanny: nanny.start().await.expect("a nanny starts"), engine }
}

fn tally(house: &House, service: &str) -> Tally {
    house.nanny.snapshot().services[service].tally
}

/// Starts and failures.
fn counted(house: &House, service: &str) -> (u64, u64) {
    let tally = tally(house, service);
    (tally.starts, tally.failures)
}

fn gpu_seconds(house: &House, service: &str) -> u64 {
    tally(house, service).gpu_time(house.engine.time()).as_secs()
}

#[tokio::test(start_paused = true)]
async fn starts_are_counted_once_each_and_no_others() {
    let house = house([cpu("a")]).await;
    assert_eq!(tally(&house, "a"), Tally::default());
    house.start("a").await;
    house.start("a").await;
    assert_eq!(counted(&house, "a"), (1, 0), "the second one found it running");
    house.nanny.restart("a", StartOptions::default()).await.unwrap();
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    assert_eq!(counted(&house, "a"), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_crash_that_is_answered_is_a_failure_and_a_start() {
    let house = house([restarting("a", RestartPolicy::Always)]).await;
    house.start("a").await;
    for crash in 1..=3 {
        house.engine.exit("a-main-1", 1);
        house.until("a", Status::Starting).await;
        assert_eq!(counted(&house, "a"), (crash, crash));
        house.until("a", Status::Running).await;
        assert_eq!(counted(&house, "a"), (crash + 1, crash));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_a_failure_and_no_start() {
    let house = house([gpu("a")]).await;
    let error = BackendError::new(ErrorKind::Invalid, "start", "no such device");
    house.engine.start_fails("a-main-1", error);
    house.nanny.start("a", StartOptions::default()).await.unwrap_err();
    assert_eq!(counted(&house, "a"), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_without_an_answer_and_a_run_to_the_end_are_told_apart() {
    for (code, failures) in [(139, 1), (0, 0)] {
        let house = house([cpu("a")]).await;
        house.start("a").await;
        house.engine.exit("a-main-1", code);
        house.until_seen(|now| !now.services["a"].is_running).await;
        assert_eq!(counted(&house, "a"), (1, failures), "code {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_wished_is_no_failure() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let refused = house.nanny.start("b", StartOptions::default()).await;
    assert!(matches!(refused, Err(Error::GpuConflict { .. })), "{refused:?}");
    house.nanny.start("b", StartOptions::forced()).await.unwrap();
    house.engine.stop_by_hand("b-main-1");
    house.until("b", Status::Stopped).await;
    assert_eq!((counted(&house, "a"), counted(&house, "b")), ((1, 0), (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_time_with_a_gpu_goes_on_while_there_is_a_claim_and_stands_while_there_is_none() {
    let house = house([gpu("a"), gpu("b"), cpu("c")]).await;
    house.start("a").await;
    house.start("c").await;
    sleep(Duration::from_secs(100)).await;
    // Nothing has happened meanwhile, and what readers see is as old as that.
    assert_eq!(gpu_seconds(&house, "a"), 100);
    house.nanny.start("b", StartOptions::forced()).await.unwrap();
    sleep(Duration::from_secs(50)).await;
    assert_eq!((gpu_seconds(&house, "a"), gpu_seconds(&house, "b")), (100, 50));
    house.nanny.start("a", StartOptions::forced()).await.unwrap();
    sleep(Duration::from_secs(7)).await;
    assert_eq!((gpu_seconds(&house, "a"), gpu_seconds(&house, "b")), (107, 50));
    assert_eq!(gpu_seconds(&house, "c"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_running_containers_use_is_read_by_name() {
    let house = house([cpu("a"), cpu("b")]).await;
    house.start("a").await;
    sleep(Duration::from_secs(100)).await;
    let read = house.nanny.stats("a").await.unwrap();
    let [main] = &read[..] else { panic!("{read:?}") };
    let stats = main.stats.unwrap();
    assert_eq!((main.name.as_str(), stats.cpu), ("main-1", Duration::from_secs(5)));
    assert!(stats.memory_bytes > 0);

    assert_eq!(house.nanny.stats("b").await.unwrap(), [], "it never ran");
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    assert_eq!(house.nanny.stats("a").await.unwrap(), [], "it runs no more");
    let unknown = house.nanny.stats("x").await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_does_not_come_leaves_a_gap_and_keeps_no_other() {
    let house = house([web_and_db("a")]).await;
    let start = house.nanny.start("a", StartOptions::default());
    let heal = async {
        sleep(Duration::from_secs(1)).await;
        house.engine.set_health("a-db-1", EngineHealth::Healthy);
    };
    let (start, ()) = tokio::join!(start, heal);
    start.unwrap();
    house.engine.stats_take("a-db-1", Duration::from_secs(3600));
    let began = Instant::now();
    let read = house.nanny.stats("a").await.unwrap();
    let read: Vec<_> = read.iter().map(|it| (it.name.as_str(), it.stats.is_some())).collect();
    assert_eq!(read, [("db-1", false), ("web-1", true)]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    house.engine.go_down();
    let read = house.nanny.stats("a").await.unwrap();
    assert!(read.iter().all(|it| it.stats.is_none()), "{read:?}");
}
