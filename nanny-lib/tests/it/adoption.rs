//! What other hands start and stop, and what a crash of ours leaves behind.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{
    BackendError, ContainerBackend as _, ErrorKind, MemoryBackend, RestartPolicy,
};
use nanny_lib::manifest::{FixedSource, Service};
use nanny_lib::{Error, Nanny, StartOptions, Status};

use crate::house::{House, gpu, gpu_with, name, restarting};

#[tokio::test(start_paused = true)]
async fn b16_what_is_stopped_by_hand_stays_stopped_and_frees_the_gpu() {
    let house = House::new([restarting("a", RestartPolicy::Always), gpu("b")]).await;
    house.start("a").await;
    house.engine.stop_by_hand("a-main-1");
    house.until("a", Status::Stopped).await;
    house.start("b").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_by_hand_is_gone() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    house.engine.remove_by_hand("a-main-1");
    house.until("a", Status::Stopped).await;
    house.start("b").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_started_by_hand_holds_the_gpu() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    let spec = gpu("a").project.parts["main"].spec.clone();
    let id = house.engine.create(&spec).await.unwrap();
    house.engine.start(&id).await.unwrap();
    house.until("a", Status::Running).await;
    assert_eq!(house.nanny.snapshot().gpu_service_running(), Some(&name("a")));
    let error = house.nanny.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    let started = house.nanny.start("b", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
}

#[tokio::test(start_paused = true)]
async fn two_started_by_hand_are_reported_and_not_fought() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let spec = gpu("b").project.parts["main"].spec.clone();
    let id = house.engine.create(&spec).await.unwrap();
    house.engine.start(&id).await.unwrap();
    house.until_seen(|snapshot| snapshot.gpu_services_running.len() == 2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(house.engine.running(), ["a-main-1", "b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_beside_another_holder_needs_leave() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let spec = gpu("b").project.parts["main"].spec.clone();
    let id = house.engine.create(&spec).await.unwrap();
    house.engine.start(&id).await.unwrap();
    house.until_seen(|snapshot| snapshot.gpu_services_running.len() == 2).await;
    let error = house.nanny.restart("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    let restarted = house.nanny.restart("b", StartOptions::forced()).await.unwrap();
    assert_eq!(restarted.stopped, [name("a")]);
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_restores_no_more_than_the_policy_admits() {
    let house = House::new([gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    let spec = gpu("b").project.parts["main"].spec.clone();
    let id = house.engine.create(&spec).await.unwrap();
    house.engine.start(&id).await.unwrap();
    house.until_seen(|snapshot| snapshot.gpu_services_running.len() == 2).await;
    house.engine.start_fails("c-main-1", BackendError::new(ErrorKind::Invalid, "start", "no"));
    house.nanny.start("c", StartOptions::forced()).await.unwrap_err();
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

async fn nanny(engine: &MemoryBackend, services: Vec<Service>, state: &std::path::Path) -> Nanny {
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new(services))
        .state_dir(state);
    nanny.start().await.expect("a nanny starts")
}

#[tokio::test(start_paused = true)]
async fn a1_the_next_run_adopts_what_runs() {
    let state = tempfile::tempdir().unwrap();
    let engine = MemoryBackend::new();
    let services = || vec![gpu("a"), gpu("b")];
    let first = nanny(&engine, services(), state.path()).await;
    first.start("a", StartOptions::default()).await.unwrap();
    first.shutdown().await;
    drop(first);

    let second = nanny(&engine, services(), state.path()).await;
    assert_eq!(second.snapshot().services["a"].status, Status::Running);
    let error = second.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    assert_eq!(engine.runs("a-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a3_a_start_that_was_cut_short_is_taken_up() {
    let state = tempfile::tempdir().unwrap();
    let engine = MemoryBackend::new();
    engine.start_takes("a-main-1", Duration::from_secs(60));
    let first = nanny(&engine, vec![gpu("a")], state.path()).await;
    let options = StartOptions::default().waiting_for(nanny_lib::Wait::None);
    first.start("a", options).await.unwrap();
    let started = || std::fs::read_to_string(state.path().join("journal.json"));
    while !started().is_ok_and(|journal| journal.contains("starting")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.shutdown().await;
    drop(first);
    assert!(engine.running().is_empty());

    engine.start_takes("a-main-1", Duration::ZERO);
    let second = nanny(&engine, vec![gpu("a")], state.path()).await;
    second.wait_until(|snapshot| snapshot.services["a"].status == Status::Running).await.unwrap();
    assert_eq!(engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a7_a_second_nanny_on_the_same_state_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let engine = MemoryBackend::new();
    let _first = nanny(&engine, vec![], state.path()).await;
    let second = Nanny::builder().state_dir(state.path()).start().await;
    assert!(matches!(second, Err(Error::StateDir { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_project_that_was_renamed_meanwhile_still_holds_the_gpu() {
    use nanny_lib::project::labels;

    // As a directory source labels them: the same service and directory, another project's name.
    let named = |project: &str| {
        let mut service = gpu_with("a", |_| {});
        let mut renamed = (*service.project).clone();
        renamed.name = project.to_owned();
        renamed.selector = [("project".to_owned(), project.to_owned())].into();
        for part in renamed.parts.values_mut() {
            part.spec.labels.extend(renamed.selector.clone());
            part.spec.labels.insert(labels::ORIGIN.to_owned(), "/services/a".to_owned());
        }
        service.project = Arc::new(renamed);
        service
    };
    let state = tempfile::tempdir().unwrap();
    let engine = MemoryBackend::new();
    let first = nanny(&engine, vec![named("old"), gpu("b")], state.path()).await;
    first.start("a", StartOptions::default()).await.unwrap();
    first.shutdown().await;
    drop(first);

    let second = nanny(&engine, vec![named("new"), gpu("b")], state.path()).await;
    assert_eq!(second.snapshot().services["a"].status, Status::Running);
    let error = second.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn c13_a_start_that_is_taken_up_does_not_go_beside_a_stranger() {
    use nanny_lib::backend::{ContainerSpec, DeviceMapping};

    let state = tempfile::tempdir().unwrap();
    let journal = r#"{"boot": "", "services": {"a": "starting"}}"#;
    std::fs::write(state.path().join("journal.json"), journal).unwrap();
    let engine = MemoryBackend::new();
    let mut foreign = ContainerSpec::new("jupyter", "image");
    foreign.devices = vec![DeviceMapping::new("/dev/nvidia0")];
    let id = engine.create(&foreign).await.unwrap();
    engine.start(&id).await.unwrap();

    let nanny = nanny(&engine, vec![gpu("a")], state.path()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(engine.running(), ["jupyter"]);
    assert_eq!(nanny.snapshot().services["a"].status, Status::Stopped);
}
