use std::time::Duration;

use futures_util::StreamExt as _;

use crate::backend::{
    BackendError, ContainerBackend, ContainerSpec, ContainerState, ErrorKind, EventKind, HostPorts,
    LogOptions, LogStream, MemoryBackend, PortMapping, RestartPolicy,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_stop_takes_its_time_and_a_start_meanwhile_is_a_conflict() {
    let engine = MemoryBackend::new();
    engine.stop_takes("web", 3 * SECOND);
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    engine.start(&id).await.unwrap();
    let began = tokio::time::Instant::now();
    let (stopped, started) = tokio::join!(engine.stop(&id, Some(10 * SECOND)), async {
        tokio::time::sleep(SECOND).await;
        engine.start(&id).await
    });
    stopped.unwrap();
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert_eq!(engine.inspect(&id).await.unwrap().exit.unwrap().code, Some(143));
}

#[tokio::test(start_paused = true)]
async fn what_ignores_a_stop_is_killed_after_the_grace_period() {
    let engine = MemoryBackend::new();
    engine.stop_takes("web", Duration::MAX / 4);
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    engine.start(&id).await.unwrap();
    engine.stop(&id, Some(2 * SECOND)).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().exit.unwrap().code, Some(137));
}

#[tokio::test(start_paused = true)]
async fn a_kill_overtakes_a_stop() {
    let engine = MemoryBackend::new().with_stop_time(60 * SECOND);
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    engine.start(&id).await.unwrap();
    let began = tokio::time::Instant::now();
    let (stopped, killed) = tokio::join!(engine.stop(&id, None), async {
        tokio::time::sleep(SECOND).await;
        engine.kill(&id).await
    });
    stopped.unwrap();
    killed.unwrap();
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_start_goes_on_when_its_caller_has_gone() {
    let engine = MemoryBackend::new().with_start_time(5 * SECOND);
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    assert!(tokio::time::timeout(SECOND, engine.start(&id)).await.is_err());
    assert!(engine.running().is_empty());
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(engine.running(), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn two_running_containers_cannot_have_one_host_port() {
    let engine = MemoryBackend::new();
    let spec = |name| {
        let mut spec = ContainerSpec::new(name, "web");
        let mut port = PortMapping::new(80);
        port.host_ports = Some(HostPorts { first: 8080, last: 8080 });
        spec.ports.push(port);
        spec
    };
    let first = engine.create(&spec("a")).await.unwrap();
    let second = engine.create(&spec("b")).await.unwrap();
    engine.start(&first).await.unwrap();
    assert_eq!(engine.start(&second).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(engine.inspect(&second).await.unwrap().exit.unwrap().error.is_some());
    engine.stop(&first, None).await.unwrap();
    engine.start(&second).await.unwrap();
    assert_eq!(engine.running(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_engines_restart_policy_answers_crashes_and_not_stops() {
    let engine = MemoryBackend::new();
    let mut spec = ContainerSpec::new("web", "web");
    spec.restart = Some(RestartPolicy::OnFailure { max_retries: Some(2) });
    let id = engine.create(&spec).await.unwrap();
    engine.start(&id).await.unwrap();
    engine.exits_after("web", SECOND, 1);
    engine.exit("web", 1);
    assert_eq!(engine.inspect(&id).await.unwrap().state, ContainerState::Restarting);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(engine.inspect(&id).await.unwrap().state, ContainerState::Exited);
    assert_eq!(engine.runs("web"), 3);

    engine.runs_on("web");
    engine.start(&id).await.unwrap();
    engine.stop(&id, None).await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    assert!(engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_resync_and_say_it_again_after_an_outage() {
    let engine = MemoryBackend::new();
    let mut events = engine.watch();
    assert_eq!(events.next().await.unwrap().kind, EventKind::Resync);
    engine.exits_after("web", 5 * SECOND, 3);
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    engine.start(&id).await.unwrap();
    assert_eq!(events.next().await.unwrap().kind, EventKind::Created);
    assert_eq!(events.next().await.unwrap().kind, EventKind::Started);
    let exited = events.next().await.unwrap();
    assert!(matches!(exited.kind, EventKind::Exited(exit) if exit.code == Some(3)));
    assert_eq!(exited.container, Some(id.clone()));

    engine.go_down();
    assert_eq!(engine.start(&id).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(tokio::time::timeout(SECOND, events.next()).await.is_err());
    engine.come_back();
    assert_eq!(events.next().await.unwrap().kind, EventKind::Resync);
}

#[tokio::test(start_paused = true)]
async fn a_start_can_be_made_to_fail() {
    let engine = MemoryBackend::new();
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    engine.start_fails("web", BackendError::new(ErrorKind::Other, "start", "no such file"));
    assert_eq!(engine.start(&id).await.unwrap_err().message(), "no such file");
    assert_eq!(engine.inspect(&id).await.unwrap().state, ContainerState::Created);
    engine.start_fails("web", None);
    engine.start(&id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_followed_log_ends_with_its_container() {
    let engine = MemoryBackend::new();
    engine.prints("web", [(LogStream::Stdout, "one\ntwo".to_owned())]);
    let id = engine.create(&ContainerSpec::new("web", "web")).await.unwrap();
    engine.start(&id).await.unwrap();
    let mut log = engine.logs(&id, LogOptions::tail(Some(1)).follow());
    assert_eq!(log.next().await.unwrap().unwrap().bytes, "two");
    engine.print("web", LogStream::Stderr, "three");
    assert_eq!(log.next().await.unwrap().unwrap().bytes, "three");
    engine.exit("web", 0);
    assert!(log.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_has_to_be_pulled() {
    let engine =
        MemoryBackend::new().with_images(["here"]).with_registry(["there"]).with_pull_time(SECOND);
    let images = engine.images().unwrap();
    let spec = ContainerSpec::new("web", "there");
    assert_eq!(engine.create(&spec).await.unwrap_err().kind(), ErrorKind::NotFound);
    let steps = std::sync::Mutex::new(Vec::new());
    images.pull("there", None, &|step| steps.lock().unwrap().push(step)).await.unwrap();
    let steps = steps.into_inner().unwrap();
    assert!(steps.is_sorted_by_key(|step| step.current_bytes));
    assert!(images.inspect("there").await.unwrap().is_some());
    engine.create(&spec).await.unwrap();
    assert_eq!(
        images.pull("nowhere", None, &|_| {}).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
