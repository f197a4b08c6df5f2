//! A real Podman in trouble: its service is killed, frozen and cut off, while its containers run.
//!
//! It takes root and `podman`. Where there is none, each test says so and passes, unless `CI=true` or
//! `NANNY_TEST_PODMAN=1` ask for more.

mod house;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use nanny_lib::backend::{
    ContainerBackend, ContainerState, EngineHealth, ErrorKind, Event, EventKind, LogOptions,
    Selector,
};
use nanny_testkit::proxy::{Endpoint, Fault, Line, Proxy, Requests};

use self::house::House;

/// A bound on waiting, and no measure.
const SOON: Duration = Duration::from_secs(30);

async fn next(events: &mut BoxStream<'static, Event>) -> Event {
    let event = tokio::time::timeout(SOON, events.next()).await;
    event.expect("an event comes in time").expect("the stream does not end")
}

async fn resync(events: &mut BoxStream<'static, Event>) {
    while next(events).await.kind != EventKind::Resync {}
}

#[tokio::test]
async fn b1_a_killed_service_is_an_outage_of_which_nothing_is_lost() {
    let Some(mut house) = House::new() else { return };
    let podman = house.backend();
    let mut events = podman.watch();
    resync(&mut events).await;
    let (stays, ends) =
        (house.sleeping(&podman, "stays").await, house.sleeping(&podman, "ends").await);
    let before = podman.inspect(&stays).await.unwrap();

    house.engine.end("KILL").unwrap();
    resync(&mut events).await;
    let error = podman.list(&Selector::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = podman.start(&stays).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // Its containers have lived on so far.
    house.kill_process_of(&ends);

    house.engine.boot().unwrap();
    resync(&mut events).await;
    assert_eq!(podman.inspect(&stays).await.unwrap(), before);
    let ended = house.until(&podman, &ends, |info| info.state == ContainerState::Exited).await;
    assert_eq!(ended.exit.and_then(|exit| exit.code), Some(137));
    podman.stop(&stays, Some(Duration::ZERO)).await.unwrap();
    let exited = async {
        loop {
            let event = next(&mut events).await;
            let is_exit = matches!(event.kind, EventKind::Exited(_));
            if is_exit && event.container.as_ref() == Some(&stays) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, exited).await.expect("what happens after it is told again");
}

#[tokio::test]
async fn b1_a_create_that_was_cut_off_does_not_keep_its_name() {
    let Some(mut house) = House::new() else { return };
    house.cut_off_creates(&["web", "other"]);
    let podman = house.backend();
    assert_eq!(podman.list(&Selector::All).await.unwrap(), []);
    let id = podman.create(&house.spec("web")).await.unwrap();
    podman.start(&id).await.unwrap();
    assert_eq!(podman.inspect(&id).await.unwrap().state, ContainerState::Running);
    // What nobody asks for is nobody's business.
    let left = house.engine.podman(&["ps", "--external", "--format", "{{.Names}}"]).unwrap();
    assert_eq!(left.lines().filter(|name| *name == "other").count(), 1, "{left}");
    // A container that has the name keeps it.
    let error = podman.create(&house.spec("web")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(podman.inspect(&id).await.unwrap().state, ContainerState::Running);
}

#[tokio::test]
async fn b4_a_frozen_service_is_a_timeout_and_thaws() {
    let Some(house) = House::new() else { return };
    let podman = house.backend();
    let id = house.sleeping(&podman, "frozen").await;
    house.freeze().await;
    let (listed, pinged) = tokio::join!(podman.list(&Selector::All), podman.ping());
    house.engine.signal("CONT").unwrap();
    for error in [listed.map(drop).unwrap_err(), pinged.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert_eq!(podman.inspect(&id).await.unwrap().state, ContainerState::Running);
}

#[tokio::test]
async fn b8_what_was_done_although_the_reply_was_lost_is_found_by_looking() {
    let Some(house) = House::new() else { return };
    let front = Endpoint::unix(house.engine.folder().join("front.sock"));
    let proxy = Proxy::start(&front, Endpoint::unix(house.engine.socket())).unwrap();
    let podman = house.backend_at(&front);

    let lost = proxy.once(Requests::new("POST", "/libpod/containers/create"), Fault::LoseReply);
    let spec = house.spec("lost");
    let error = podman.create(&spec).await.unwrap_err();
    assert_eq!((error.kind(), lost.count()), (ErrorKind::Unavailable, 1), "{error}");
    let all = podman.list(&Selector::All).await.unwrap();
    let id = &all.iter().find(|info| info.name == spec.name).expect("it was created").id;
    assert_eq!(podman.create(&spec).await.unwrap_err().kind(), ErrorKind::Conflict);

    let lost = proxy.once(Requests::new("POST", "/libpod/containers/*/start"), Fault::LoseReply);
    let error = podman.start(id).await.unwrap_err();
    assert_eq!((error.kind(), lost.count()), (ErrorKind::Unavailable, 1), "{error}");
    house.until(&podman, id, |info| info.state == ContainerState::Running).await;
    podman.start(id).await.unwrap();

    proxy.line(Line::Refuse);
    let error = podman.inspect(id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    proxy.line(Line::Open);
    let back = async {
        while podman.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, back).await.expect("the line is open again");
    assert_eq!(podman.inspect(id).await.unwrap().state, ContainerState::Running);
}

#[tokio::test]
async fn b12_it_does_not_matter_how_replies_are_cut_into_pieces() {
    let Some(house) = House::new() else { return };
    let front = Endpoint::unix(house.engine.folder().join("front.sock"));
    let proxy = Proxy::start(&front, Endpoint::unix(house.engine.socket())).unwrap();
    let (direct, sliced) = (house.backend(), house.backend_at(&front));
    let mut events = direct.watch();
    resync(&mut events).await;
    proxy.always(Requests::any(), Fault::SliceReply(3));
    let mut events = sliced.watch();
    resync(&mut events).await;

    let mut spec = house.spec("sliced");
    spec.command = Some(["sh", "-c", "echo one; echo two >&2"].map(str::to_owned).to_vec());
    let id = sliced.create(&spec).await.unwrap();
    sliced.start(&id).await.unwrap();
    house.until(&direct, &id, |info| info.state == ContainerState::Exited).await;
    assert_eq!(sliced.inspect(&id).await.unwrap(), direct.inspect(&id).await.unwrap());
    let listed = sliced.list(&Selector::All).await.unwrap();
    assert_eq!(listed, direct.list(&Selector::All).await.unwrap());
    let lines = sliced.logs(&id, LogOptions::default()).collect::<Vec<_>>().await;
    let mut texts: Vec<_> = lines.into_iter().map(|line| line.unwrap().bytes).collect();
    texts.sort();
    assert_eq!(texts, ["one", "two"]);
    let mut told = Vec::new();
    while !matches!(told.last(), Some(EventKind::Exited(exit)) if exit.code == Some(0)) {
        let event = next(&mut events).await;
        assert!(event.container.as_ref() == Some(&id), "{event:?}");
        told.push(event.kind);
    }
    assert_eq!(&told[..2], [EventKind::Created, EventKind::Started]);
}

#[tokio::test]
async fn e10_a_followed_log_ends_with_an_error_when_the_engine_goes() {
    let Some(mut house) = House::new() else { return };
    let podman = house.backend();
    let id = house.sleeping(&podman, "followed").await;
    let mut log = podman.logs(&id, LogOptions::default().follow());
    // Nothing has been written, so the engine has not even said that it will answer.
    let silent = tokio::time::timeout(Duration::from_millis(500), log.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    house.engine.end("KILL").unwrap();
    let end = tokio::time::timeout(SOON, log.next()).await.expect("it is noticed");
    let error = end.expect("not a quiet end").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn b4_a_log_that_stands_still_is_a_timeout_unless_it_is_followed() {
    let Some(house) = House::new() else { return };
    let front = Endpoint::unix(house.engine.folder().join("front.sock"));
    let proxy = Proxy::start(&front, Endpoint::unix(house.engine.socket())).unwrap();
    let podman = house.backend_at(&front);
    let id = house.sleeping(&podman, "silent").await;
    let reads = Requests::new("GET", "/libpod/containers/*/logs");
    for options in [LogOptions::default(), LogOptions::tail(Some(3)).follow()] {
        let lost = proxy.once(reads.clone(), Fault::Swallow);
        let mut log = podman.logs(&id, options);
        let end = tokio::time::timeout(SOON, log.next()).await.expect("it does not wait for ever");
        let error = end.expect("not a quiet end").unwrap_err();
        assert_eq!((error.kind(), lost.count()), (ErrorKind::Timeout, 1), "{error}");
    }
}

#[tokio::test]
async fn health_checks_end_with_their_backend() {
    let Some(house) = House::new() else { return };
    let podman = house.backend();
    let id = house.checked(&podman, Duration::from_millis(300)).await;
    house.until(&podman, &id, |info| info.health == Some(EngineHealth::Healthy)).await;
    drop(podman);
    // One may be on its way.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let then = house.checks_of(&id);
    assert!(then > 0, "no check was run");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = house.checks_of(&id) - then;
    assert!(more <= 1, "{more} more checks were run");
}

#[tokio::test]
async fn health_checks_that_somebody_else_runs_are_left_alone() {
    let Some(house) = House::new() else { return };
    let podman = house.backend();
    let id = house.checked(&podman, Duration::from_secs(6)).await;
    // As often as systemd would, by the interval.
    for _ in 0..3 {
        podman.inspect(&id).await.unwrap();
        house.engine.podman(&["healthcheck", "run", id.as_str()]).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(house.checks_of(&id), 3);
    assert_eq!(podman.inspect(&id).await.unwrap().health, Some(EngineHealth::Healthy));
}
