//! Engines in trouble, and engines that cause it: none of them is real.

mod fake;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    ContainerBackend as _, ContainerSpec, ContainerState, ErrorKind, EventKind, LogOptions,
    NetworkAttachment, PullProgress, Selector,
};

use tokio::task::JoinSet;

use self::fake::{Answer, Fake, json};

fn container(id: &str, state: &str) -> String {
    format!(
        r#"{{"Id":"{id}","Name":"/c{id}","State":{{"Status":"{state}","StartedAt":"2026-11-23T08:00:00Z"}},"Config":{{"Image":"i"}},"HostConfig":{{}}}}"#
    )
}

fn summary(id: &str, state: &str, status: &str) -> String {
    format!(r#"{{"Id":"{id}","Names":["/c{id}"],"State":"{state}","Status":"{status}"}}"#)
}

#[tokio::test]
async fn an_engine_may_come_up_after_its_backend() {
    let mut engine = Fake::new(|_| json(200, "[]"));
    let docker = engine.backend();
    let error = docker.list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    engine.come_up();
    assert!(docker.list(&Selector::All).await.unwrap().is_empty());
}

#[tokio::test]
async fn b1_the_version_is_negotiated_again_after_an_outage() {
    let mut engine = Fake::new(|_| json(200, "[]")).up();
    let docker = engine.backend();
    docker.list(&Selector::All).await.unwrap();
    docker.list(&Selector::All).await.unwrap();
    assert_eq!(engine.requests("GET /version").len(), 1);
    engine.go_down().await;
    let error = docker.list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    engine.come_up();
    docker.list(&Selector::All).await.unwrap();
    assert_eq!(engine.requests("GET /version").len(), 2);
}

#[tokio::test]
async fn b4_an_engine_that_hangs_is_a_timeout() {
    let engine = Fake::new(|_| Answer::Hangs).up();
    let error = engine.backend().list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn b4_a_body_that_hangs_is_a_timeout_too() {
    let engine = Fake::new(|_| Answer::GoesOn(b"[{".to_vec())).up();
    let error = engine.backend().list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn b8_an_engine_that_hangs_up_is_out_of_reach() {
    let engine = Fake::new(|_| Answer::HangsUp).up();
    let error = engine.backend().list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn b15_a_strange_container_breaks_no_list_and_may_hold_things() {
    let engine = Fake::new(|request| match request {
        "GET /containers/json?all=1" => {
            let list = [summary("1", "running", "Up"), summary("2", "levitating", "Odd")];
            json(200, &format!("[{}]", list.join(",")))
        }
        "GET /containers/1/json" => json(200, &container("1", "running")),
        _ => json(200, &container("2", "levitating")),
    });
    let engine = engine.up();
    let list = engine.backend().list(&Selector::All).await.unwrap();
    assert_eq!(list[0].state, ContainerState::Running);
    assert_eq!(list[1].state, ContainerState::Unknown);
    assert!(list[1].state.holds());
}

#[tokio::test]
async fn a_container_that_vanishes_during_a_list_is_left_out() {
    let engine = Fake::new(|request| match request {
        "GET /containers/json?all=1" => {
            let list = [summary("1", "running", "Up 1 hour"), summary("2", "running", "Up 1 hour")];
            json(200, &format!("[{}]", list.join(",")))
        }
        "GET /containers/1/json" => json(404, r#"{"message":"No such container: 1"}"#),
        _ => json(200, &container("2", "running")),
    });
    let engine = engine.up();
    let list = engine.backend().list(&Selector::All).await.unwrap();
    assert_eq!(list.into_iter().map(|info| info.name).collect::<Vec<_>>(), ["c2"]);
}

#[tokio::test]
async fn a_list_inspects_only_what_may_have_changed() {
    let lists = AtomicU32::new(0);
    let engine = Fake::new(move |request| match request {
        "GET /containers/json?all=1" => {
            let status = match lists.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => "Up 2 hours",
                _ => "Up 2 hours (unhealthy)",
            };
            let list = [summary("1", "running", status), summary("2", "running", "Up 3 seconds")];
            json(200, &format!("[{}]", list.join(",")))
        }
        "GET /containers/1/json" => json(200, &container("1", "running")),
        _ => json(200, &container("2", "running")),
    });
    let engine = engine.up();
    let docker = engine.backend();
    for _ in 0..3 {
        docker.list(&Selector::All).await.unwrap();
    }
    assert_eq!(engine.requests("GET /containers/1/json").len(), 2);
    assert_eq!(engine.requests("GET /containers/2/json").len(), 3);
}

#[tokio::test]
async fn b4_what_the_engine_starts_for_us_holds_up_no_list() {
    let (lists, starts) = (AtomicU32::new(0), AtomicBool::new(false));
    let engine = Fake::new(move |request| match request {
        "GET /containers/json?all=1" => {
            let mut list = vec![summary("1", "exited", "Exited (0) 3 seconds ago")];
            if lists.fetch_add(1, Ordering::Relaxed) > 0 {
                list.push(summary("2", "created", "Created"));
                list.push(summary("3", "running", "Up 2 seconds"));
            }
            json(200, &format!("[{}]", list.join(",")))
        }
        "GET /containers/3/json" => json(200, &container("3", "running")),
        "GET /containers/1/json" if !starts.load(Ordering::Relaxed) => {
            json(200, &container("1", "exited"))
        }
        "GET /containers/2/json" if !starts.load(Ordering::Relaxed) => {
            json(200, &container("2", "created"))
        }
        _ => {
            // Neither start comes to an end, and nothing else is told of what is being started.
            starts.fetch_or(request == "POST /containers/2/start", Ordering::Relaxed);
            Answer::Hangs
        }
    });
    let engine = engine.up();
    let docker = engine.backend();
    docker.list(&Selector::All).await.unwrap();
    let mut starts = JoinSet::new();
    for id in ["1", "2"] {
        let docker = docker.clone();
        starts.spawn(async move { docker.start(&ContainerId::new(id)).await });
        let path = format!("POST /containers/{id}/start");
        for _ in 0..6000 {
            if !engine.requests(&path).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let list = docker.list(&Selector::All).await.unwrap();
    let seen: Vec<_> = list.iter().map(|info| (info.name.as_str(), info.state)).collect();
    let wanted = [
        ("c1", ContainerState::Exited),
        ("c2", ContainerState::Created),
        ("c3", ContainerState::Running),
    ];
    assert_eq!(seen, wanted);
    assert!(list[0].started_at.is_some(), "as it was known");
    // When nobody waits for a start any more, nobody knows what has come of it.
    starts.shutdown().await;
    let error = docker.list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn b12_a_stream_of_events_reconnects_and_says_resync_again() {
    let connections = AtomicU32::new(0);
    let event = r#"{"Type":"container","Action":"start","Actor":{"ID":"1","Attributes":{}},"time":5,"timeNano":5000000000}"#;
    let mut engine = Fake::new(move |request| {
        assert!(request.starts_with("GET /events"), "{request}");
        match connections.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Says(200, format!("{event}\n").into_bytes()),
            // The same event again, as the overlap brings it, and a new one.
            _ => {
                let other = event.replace(r#""ID":"1""#, r#""ID":"2""#);
                Answer::GoesOn(format!("{event}\n{other}\n").into_bytes())
            }
        }
    });
    let docker = engine.backend();
    let mut events = docker.watch();
    let absent = tokio::time::timeout(Duration::from_millis(300), events.next()).await;
    assert!(absent.is_err(), "{absent:?} from an engine that is not there");
    engine.come_up();
    let started = |id: &str| (EventKind::Started, Some(ContainerId::new(id)));
    let resync = (EventKind::Resync, None);
    // Also when it breaks: so that whoever listens looks at once whether the engine is there.
    for expected in [resync.clone(), started("1"), resync.clone(), resync, started("2")] {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        let event = event.unwrap().unwrap();
        assert_eq!((event.kind, event.container), expected);
    }
    let reconnect = &engine.requests("GET /events")[1];
    assert!(reconnect.contains("since=4&"), "{reconnect}");
}

#[tokio::test]
async fn a_log_that_is_none_is_an_error_and_then_the_end() {
    let engine = Fake::new(|request| match request {
        "GET /containers/1/json" => json(200, &container("1", "running")),
        _ => Answer::Says(200, b"<html>nonsense</html>".to_vec()),
    });
    let engine = engine.up();
    let lines: Vec<_> =
        engine.backend().logs(&ContainerId::new("1"), LogOptions::default()).collect().await;
    assert_eq!(lines.len(), 1);
    assert!(lines[0].is_err());
    let requests = engine.requests("GET /containers/1/logs");
    assert_eq!(requests, ["GET /containers/1/logs?stdout=1&stderr=1&timestamps=1"]);
}

#[tokio::test]
async fn a_container_whose_second_network_is_missing_does_not_stay() {
    let engine = Fake::new(|request| match request {
        _ if request.starts_with("POST /containers/create?name=web") => {
            json(201, r#"{"Id":"1","Warnings":[]}"#)
        }
        "POST /networks/b/connect" => json(404, r#"{"message":"network b not found"}"#),
        _ => Answer::Says(204, Vec::new()),
    });
    let engine = engine.up();
    let mut spec = ContainerSpec::new("web", "image");
    spec.networks = ["a", "b"].map(|name| NetworkAttachment::new(name, Vec::new())).to_vec();
    let error = engine.backend().create(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "network b not found"));
    assert_eq!(engine.requests("DELETE /containers/1").len(), 1);
}

/// What dockerd 20.10.24 says during a pull, shortened; `end` is its last line.
fn pull(end: &str) -> Vec<u8> {
    [
        r#"{"status":"Pulling from a/b","id":"1"}"#,
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"f8c2"}"#,
        r#"{"status":"Downloading","progressDetail":{"current":50,"total":100},"id":"f8c2"}"#,
        r#"{"status":"Download complete","progressDetail":{},"id":"f8c2"}"#,
        r#"{"status":"Extracting","progressDetail":{"current":32,"total":100},"id":"f8c2"}"#,
        end,
    ]
    .join("\r\n")
    .into_bytes()
}

#[tokio::test]
async fn a_pull_tells_how_far_it_is() {
    let done = r#"{"status":"Status: Downloaded newer image for far/a/b:1"}"#;
    let engine = Fake::new(move |request| match request {
        "GET /images/far/a/b:1/json" => json(200, r#"{"Id":"sha256:00"}"#),
        _ => Answer::Says(200, pull(done)),
    });
    let engine = engine.up();
    let docker = engine.backend();
    let steps = std::sync::Mutex::new(Vec::new());
    let progress = |step| steps.lock().unwrap().push(step);
    docker.images().unwrap().pull("far/a/b:1", None, &progress).await.unwrap();
    let steps = steps.into_inner().unwrap();
    assert!(steps.contains(&PullProgress::new(50, 100)), "{steps:?}");
    assert_eq!(steps.last(), Some(&PullProgress::new(100, 100)));
}

#[tokio::test]
async fn a_pull_that_ends_with_an_error_has_failed() {
    let failed = r#"{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}"#;
    let engine = Fake::new(move |request| match request {
        // An older one is here: no reason to call the pull a success.
        "GET /images/far/a/b/json" => json(200, r#"{"Id":"sha256:00"}"#),
        _ => Answer::Says(200, pull(failed)),
    });
    let engine = engine.up();
    let docker = engine.backend();
    let error = docker.images().unwrap().pull("far/a/b", None, &|_| {}).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "manifest unknown"));
    let asked = &engine.requests("POST /images/create")[0];
    assert!(asked.contains("tag=latest"), "all tags would be pulled: {asked}");
}

#[tokio::test]
async fn ids_do_not_lead_to_other_places() {
    let engine = Fake::new(|_| json(200, "{}")).up();
    let docker = engine.backend();
    for id in ["../images/x", "1/../../info", "1?a=b", "1#", ""] {
        let error = docker.inspect(&ContainerId::new(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        docker.remove(&ContainerId::new(id)).await.unwrap();
    }
    assert!(engine.requests("GET /info").is_empty());
    assert!(engine.requests("DELETE").is_empty());
}
