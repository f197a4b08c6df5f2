//! Engines that do not answer.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{MemoryBackend, RestartPolicy};
use nanny_lib::manifest::{RestartMode, Service};
use nanny_lib::{EngineState, Error, StartOptions, Status};

use crate::house::{House, cpu, gpu, restarting};

#[tokio::test(start_paused = true)]
async fn b1_an_engine_out_of_reach_makes_services_unknown_and_keeps_claims() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    house.engine.go_down();
    house.until("a", Status::Unknown).await;
    let snapshot = house.nanny.snapshot();
    let view = &snapshot.services["a"];
    assert!(view.is_running && view.holds_gpu && view.stale_since.is_some());
    let error = house.nanny.start("b", StartOptions::forced()).await.unwrap_err();
    assert!(matches!(error, Error::EngineUnavailable { .. }), "{error:?}");

    house.engine.come_back();
    house.until("a", Status::Running).await;
    let error = house.nanny.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    assert_eq!(house.engine.runs("a-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn b14_an_engine_that_never_answered_is_absent_and_comes_later() {
    let engine = MemoryBackend::new();
    engine.go_down();
    let house = House::on(engine, [cpu("a")]).await;
    assert_eq!(house.nanny.snapshot().engines[0].state, EngineState::Absent);
    let error = house.nanny.start("a", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::EngineUnavailable { .. }), "{error:?}");
    house.engine.come_back();
    house.until("a", Status::Stopped).await;
    house.start("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_start_under_way_outlasts_an_outage() {
    let engine = MemoryBackend::new().with_start_time(Duration::from_secs(2));
    let house = House::on(engine, [gpu("a")]).await;
    let start = house.nanny.start("a", StartOptions::default());
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.engine.go_down();
        tokio::time::sleep(Duration::from_secs(20)).await;
        house.engine.come_back();
    };
    let (start, ()) = tokio::join!(start, cut);
    assert!(matches!(start, Err(Error::EngineUnavailable { .. })), "{start:?}");
    house.until("a", Status::Running).await;
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn b2_a_death_during_an_outage_is_noticed() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    house.engine.go_down();
    house.until("a", Status::Unknown).await;
    house.engine.exit("a-main-1", 137);
    house.engine.come_back();
    house.until("a", Status::Failed).await;
    house.start("b").await;
}

#[tokio::test(start_paused = true)]
async fn a9_a_plug_in_that_panics_harms_nobody_else() {
    use nanny_lib::manifest::FixedSource;
    use nanny_lib::probe::{Health, HealthProbe, ProbeTarget};
    use nanny_lib::{Nanny, StopOptions};

    #[derive(Debug)]
    struct Bad;

    #[async_trait::async_trait]
    impl HealthProbe for Bad {
        async fn probe(&self, _: &ProbeTarget) -> Health {
            panic!("a bug in a probe")
        }
    }

    let nanny = Nanny::builder()
        .backend(Arc::new(MemoryBackend::new()))
        .source(FixedSource::new([cpu("a")]))
        .probe(Bad)
        .start()
        .await
        .unwrap();
    nanny.start("a", StartOptions::default()).await.unwrap();
    let seen = nanny.wait_until(|now| now.services["a"].health.is_some()).await.unwrap();
    let reason = seen.services["a"].health.as_ref().and_then(|health| health.reason.clone());
    assert_eq!(reason.as_deref(), Some("the probe panicked"));
    nanny.stop("a", StopOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stops_answering_loses_no_service() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::StreamExt as _;
    use futures_util::stream::BoxStream;
    use nanny_lib::Nanny;
    use nanny_lib::manifest::{Changed, Discovery, ManifestSource};

    /// Answers once.
    #[derive(Debug, Default)]
    struct Once(AtomicBool);

    #[async_trait::async_trait]
    impl ManifestSource for Once {
        async fn discover(&self) -> Discovery {
            if self.0.swap(true, Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Discovery::new(vec![cpu("a")], Vec::new())
        }

        fn watch(&self) -> BoxStream<'static, Changed> {
            futures_util::stream::pending().boxed()
        }
    }

    let nanny = Nanny::builder().backend(Arc::new(MemoryBackend::new())).source(Once::default());
    let nanny = nanny.start().await.unwrap();
    let found = nanny.rediscover().await.unwrap();
    assert_eq!((found.total, found.removed.len(), found.problems.len()), (1, 0, 1));
    nanny.start("a", StartOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn b19_what_an_engine_stops_before_it_ends_comes_back() {
    let house = House::new([restarting("a", RestartPolicy::Always), gpu("b")]).await;
    house.start("a").await;
    // From here it looks as if somebody had stopped it.
    house.engine.stop_by_hand("a-main-1");
    house.until("a", Status::Stopped).await;
    house.engine.go_down();
    house.until("a", Status::Unknown).await;
    assert!(house.nanny.snapshot().services["a"].holds_gpu);
    house.engine.come_back();
    house.until("a", Status::Running).await;
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn b16_what_is_stopped_by_hand_stays_stopped_when_the_engine_ends_later() {
    let house = House::new([restarting("a", RestartPolicy::Always)]).await;
    house.start("a").await;
    house.engine.stop_by_hand("a-main-1");
    house.until("a", Status::Stopped).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    house.engine.go_down();
    house.until("a", Status::Unknown).await;
    house.engine.come_back();
    house.until("a", Status::Stopped).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((house.status("a"), house.engine.runs("a-main-1")), (Status::Stopped, 1));
}

#[tokio::test(start_paused = true)]
async fn b1_what_an_engine_stopped_while_it_was_away_was_nobody_s_wish() {
    let house = House::new([restarting("a", RestartPolicy::Always)]).await;
    house.start("a").await;
    house.engine.go_down();
    house.until("a", Status::Unknown).await;
    house.engine.stop_by_hand("a-main-1");
    house.engine.come_back();
    house.until("a", Status::Running).await;
    assert_eq!(house.engine.runs("a-main-1"), 2);
}

/// A GPU service whose container the engine itself restarts.
fn restarted_by_the_engine(name: &str) -> Service {
    let mut service = restarting(name, RestartPolicy::Always);
    let mut manifest = (*service.manifest).clone();
    manifest.restart = RestartMode::Keep;
    service.manifest = Arc::new(manifest);
    service
}

#[tokio::test(start_paused = true)]
async fn b3_what_an_engine_brings_back_beside_the_holder_is_stopped() {
    let house = House::new([restarted_by_the_engine("a"), gpu("b")]).await;
    house.start("a").await;
    house.nanny.start("b", StartOptions::forced()).await.unwrap();
    // It has ended before it may be missed, and brings back what it was told to.
    house.engine.go_down();
    house.until("b", Status::Unknown).await;
    house.engine.start_by_hand("a-main-1");
    house.engine.come_back();
    house.until_seen(|now| now.services["b"].stale_since.is_none()).await;
    house.until("a", Status::Stopped).await;
    assert_eq!(house.engine.running(), ["b-main-1"]);

    // Long after that, it is a person.
    tokio::time::sleep(Duration::from_secs(60)).await;
    house.engine.start_by_hand("a-main-1");
    house.until("a", Status::Running).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(house.engine.running(), ["a-main-1", "b-main-1"]);
}
