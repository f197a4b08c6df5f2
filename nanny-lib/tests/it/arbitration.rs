//! Who gets the GPU.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{BackendError, ContainerBackend as _, ErrorKind, MemoryBackend};
use nanny_lib::gpu::Placement;
use nanny_lib::{Error, StartOptions, Status, StopOptions, Verdict};

use crate::house::{House, cpu, gpu, gpu_with, name, web_and_db};

#[tokio::test(start_paused = true)]
async fn a_second_gpu_service_is_refused_and_the_holder_is_named() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let error = house.nanny.start("b", StartOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "GPU service 'a' is already running");
    let Error::GpuConflict { holders, .. } = error else { panic!("{error:?}") };
    assert_eq!(holders, ["a"]);
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn services_without_a_gpu_are_never_in_the_way() {
    let house = House::new([gpu("a"), cpu("b"), cpu("c")]).await;
    for service in ["a", "b", "c"] {
        house.start(service).await;
    }
    assert_eq!(house.engine.running().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn force_swaps_and_says_who_was_stopped() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let started = house.nanny.start("b", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
    assert_eq!(house.engine.running(), ["b-main-1"]);
    assert_eq!(house.status("a"), Status::Stopped);
    assert_eq!(house.nanny.snapshot().gpu_service_running(), Some(&name("b")));
}

#[tokio::test(start_paused = true)]
async fn a_start_in_place_of_some_stops_nobody_else() {
    let house = House::new([gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    let in_place_of =
        |victim| house.nanny.start_in_place_of("b", vec![name(victim)], StartOptions::forced());
    let error = in_place_of("c").await.unwrap_err();
    assert!(matches!(&error, Error::GpuConflict { holders, .. } if holders == &["a"]), "{error:?}");
    assert_eq!(house.engine.running(), ["a-main-1"]);
    assert_eq!(in_place_of("a").await.unwrap().stopped, [name("a")]);
    assert_eq!(house.engine.running(), ["b-main-1"]);
    assert!(in_place_of("c").await.unwrap().already_running);
}

#[tokio::test(start_paused = true)]
async fn c3_a_swap_whose_newcomer_cannot_start_is_rolled_back() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let refusal = BackendError::new(ErrorKind::Invalid, "start", "no such device");
    house.engine.start_fails("b-main-1", refusal);
    let error = house.nanny.start("b", StartOptions::forced()).await.unwrap_err();
    let Error::StartFailed { restored, reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(restored, &[name("a")]);
    assert!(reason.contains("no such device"), "{reason}");
    assert_eq!(house.engine.running(), ["a-main-1"]);
    assert_eq!(house.status("b"), Status::Failed);
}

#[tokio::test(start_paused = true)]
async fn c3_without_rollback_the_gpu_stays_free() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    house.engine.start_fails("b-main-1", BackendError::new(ErrorKind::Invalid, "start", "no"));
    let mut options = StartOptions::forced();
    options.rollback = false;
    house.nanny.start("b", options).await.unwrap_err();
    assert!(house.engine.running().is_empty());
    house.start("a").await;
}

#[tokio::test(start_paused = true)]
async fn no_third_service_slips_in_between_a_failed_start_and_its_rollback() {
    let engine = MemoryBackend::new().with_start_time(Duration::from_secs(2));
    let house = House::on(engine, [gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    house.engine.start_fails("b-main-1", BackendError::new(ErrorKind::Invalid, "start", "no"));
    let swap = house.nanny.start("b", StartOptions::forced());
    let intruder = async {
        loop {
            match house.nanny.start("c", StartOptions::default()).await {
                Err(Error::GpuConflict { .. }) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => panic!("the third got {other:?}"),
            }
        }
    };
    let swapped = tokio::select! { swapped = swap => swapped, never = intruder => never };
    swapped.unwrap_err();
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn c1_of_many_starts_at_once_one_wins() {
    let services = ["a", "b", "c", "d"];
    let house = House::new(services.map(gpu)).await;
    let starts = (0..60).map(|n| {
        let nanny = house.nanny.clone();
        async move { nanny.start(services[n % 4], StartOptions::default()).await }
    });
    let answers = futures_util::future::join_all(starts).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 15, "all starts of the winner join");
    assert!(lost.iter().all(|answer| matches!(answer, Err(Error::GpuConflict { .. }))));
    assert_eq!(house.engine.running().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c2_a_storm_of_swaps_ends_with_one_holder_and_answers_everybody() {
    let services = ["a", "b", "c", "d"];
    let engine = MemoryBackend::new()
        .with_start_time(Duration::from_millis(300))
        .with_stop_time(Duration::from_millis(200));
    let house = House::on(engine, services.map(gpu)).await;
    let storm = (0..24).map(|n| {
        let nanny = house.nanny.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(70 * n)).await;
            let service = services[usize::try_from(n).expect("small") % 4];
            let swap = nanny.start(service, StartOptions::forced());
            let swap = tokio::time::timeout(Duration::from_secs(100), swap).await;
            swap.unwrap_or_else(|_| panic!("{n} has no answer"))
        }
    });
    let watch = async {
        loop {
            let running = house.engine.running();
            assert!(running.len() <= 1, "two at once: {running:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let storm = futures_util::future::join_all(storm);
    let answers = tokio::select! { answers = storm => answers, () = watch => unreachable!() };
    for answer in answers {
        assert!(matches!(answer, Ok(_) | Err(Error::Cancelled { .. })), "{answer:?}");
    }
    assert_eq!(house.engine.running().len(), 1);
    assert_eq!(house.nanny.snapshot().gpu_services_running.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_superseded_newcomer_still_gives_the_gpu_back_to_whom_it_was_taken_from() {
    let engine = MemoryBackend::new().with_stop_time(Duration::from_secs(3));
    let house = House::on(engine, [gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    house.engine.start_fails("c-main-1", BackendError::new(ErrorKind::Invalid, "start", "no"));
    let first = house.nanny.start("b", StartOptions::forced());
    let second = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.nanny.start("c", StartOptions::forced()).await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(Error::Cancelled { .. })), "{first:?}");
    let Err(Error::StartFailed { restored, .. }) = second else { panic!("{second:?}") };
    assert_eq!(restored, [name("a")]);
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn c13_a_foreign_gpu_container_is_in_the_way_and_is_never_stopped() {
    use nanny_lib::backend::{ContainerSpec, DeviceMapping};

    let house = House::new([gpu("a")]).await;
    let mut foreign = ContainerSpec::new("jupyter", "image");
    foreign.devices = vec![DeviceMapping::new("/dev/nvidia0")];
    let id = house.engine.create(&foreign).await.unwrap();
    house.engine.start(&id).await.unwrap();
    house.until_seen(|snapshot| !snapshot.foreign_gpu_containers.is_empty()).await;

    let error = house.nanny.start("a", StartOptions::default()).await.unwrap_err();
    let Error::GpuConflict { holders, .. } = error else { panic!("{error:?}") };
    assert_eq!(holders, ["jupyter"]);

    house.nanny.start("a", StartOptions::forced()).await.unwrap();
    assert_eq!(house.engine.running(), ["a-main-1", "jupyter"]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_what_a_start_would_do_and_does_nothing() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let plan = house.nanny.plan("b", StartOptions::default()).await.unwrap();
    assert!(matches!(plan.verdict, Verdict::Refuse { .. }));
    let plan = house.nanny.plan("b", StartOptions::forced()).await.unwrap();
    assert_eq!(
        plan.verdict,
        Verdict::Evict { victims: vec![name("a")], placement: Placement::default() }
    );
    let plan = house.nanny.plan("a", StartOptions::default()).await.unwrap();
    assert_eq!(plan.verdict, Verdict::AlreadyRunning);
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_lists_what_has_drifted_by_name_whatever_the_engine_calls_it() {
    let hashed = |hash: &str| {
        let mut service = web_and_db("a");
        for part in Arc::make_mut(&mut service.project).parts.values_mut() {
            part.spec.labels.insert(nanny_lib::project::labels::SPEC_HASH.into(), hash.into());
        }
        service
    };
    let engine = MemoryBackend::new();
    let before = hashed("old").project;
    for part in ["web", "db"] {
        engine.create(&before.parts[part].spec).await.unwrap();
    }
    let house = House::on(engine, [hashed("new")]).await;
    let plan = house.nanny.plan("a", StartOptions::default()).await.unwrap();
    assert_eq!(plan.drift, ["a-db-1", "a-web-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_gpu() {
    let engine = MemoryBackend::new().with_stop_time(Duration::from_secs(2));
    let house = House::on(engine, [gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let restart = house.nanny.restart("a", StartOptions::default());
    let intruder = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.nanny.start("b", StartOptions::default()).await
    };
    let (restart, intruder) = tokio::join!(restart, intruder);
    restart.unwrap();
    assert!(matches!(intruder, Err(Error::GpuConflict { .. })));
    assert_eq!(house.engine.runs("a-main-1"), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_the_gpu_is_free() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    assert!(house.nanny.stop("a", StopOptions::default()).await.unwrap().was_running);
    house.start("b").await;
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_starts_the_very_containers_that_were_stopped() {
    let changed = || {
        gpu_with("a", |project| {
            let part = project.parts.get_mut("main").expect("it has one part");
            part.spec.labels.insert(nanny_lib::project::labels::SPEC_HASH.into(), "new".into());
        })
    };
    let engine = MemoryBackend::new();
    let mut before = gpu_with("a", |_| {}).project.parts["main"].spec.clone();
    before.labels.insert(nanny_lib::project::labels::SPEC_HASH.into(), "old".into());
    let id = engine.create(&before).await.unwrap();
    engine.start(&id).await.unwrap();
    let house = House::on(engine, [changed(), gpu("b")]).await;
    house.until("a", Status::Running).await;
    assert!(house.nanny.snapshot().services["a"].drift);
    house.engine.start_fails("b-main-1", BackendError::new(ErrorKind::Invalid, "start", "no"));
    let error = house.nanny.start("b", StartOptions::forced()).await.unwrap_err();
    assert!(
        matches!(error, Error::StartFailed { ref restored, .. } if restored[..] == [name("a")])
    );
    assert_eq!(house.engine.id_of("a-main-1"), Some(id), "not made anew");
}
