//! The nanny comes and goes; services stay.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, until, web};

/// What tells one run of a container from another.
fn run(container: &str) -> (Value, Value) {
    let found = engine::inspect(container);
    (found["Id"].clone(), found["State"]["StartedAt"].clone())
}

fn house() -> Option<House> {
    let mut house = House::new()?;
    house.add("gpu", GPU, &web(IDLE, "restart: unless-stopped"));
    house.add("rival", GPU, &web(IDLE, ""));
    house.add("plain", "", &web(IDLE, ""));
    house.open();
    house.started("gpu");
    house.started("plain");
    Some(house)
}

fn is_adopted(house: &House) {
    for service in ["gpu", "plain"] {
        let now = house.until(service, |now| now["ready"] == true);
        assert!(now["uptime"].is_string() && now["error"].is_null(), "{now}");
        assert_eq!((&now["drift"], &now["status"]), (&json!(false), &json!("running")), "{now}");
    }
    counts_from_the_start(house);
    assert_eq!(house.holder(), "gpu");
    assert_eq!(house.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    assert_eq!(house.started("gpu")["message"], "Service 'gpu' is already running");
}

/// The uptime is since the engine's own start of the container.
fn counts_from_the_start(house: &House) {
    let started = engine::time(&engine::inspect(&house.container("gpu"))["State"]["StartedAt"]);
    let (before, now, after) = (Timestamp::now(), house.status("gpu"), Timestamp::now());
    let uptime = now["uptime"].as_str().expect("it runs");
    let parts = uptime.split(':').map(|part| part.parse::<f64>().expect("a number"));
    let uptime = parts.fold(0.0, |sum, part| sum * 60.0 + part);
    let least = before.duration_since(started).as_secs_f64() - 0.001;
    let most = after.duration_since(started).as_secs_f64() + 0.001;
    assert!((least..=most).contains(&uptime), "{least} {uptime} {most}");
}

#[test]
fn a1_who_is_killed_finds_everything_as_it_was() {
    let Some(mut house) = house() else { return };
    let containers = ["gpu", "plain"].map(|service| house.container(service));
    let before = containers.each_ref().map(|name| run(name));
    for _ in 0..3 {
        house.end_with("KILL");
        assert_eq!(containers.each_ref().map(|name| run(name)), before);
        house.open();
        is_adopted(&house);
        assert_eq!(containers.each_ref().map(|name| run(name)), before);
    }
    house.stop("gpu", "").expect(200);
    assert!(!engine::runs(&containers[0]));
}

#[test]
fn l4_a_polite_end_leaves_services_and_takes_no_longer_than_it_may() {
    let Some(mut house) = house() else { return };
    let before = run(&house.container("gpu"));
    let mut open = house.connect();
    open.write_all(b"GET /health HT").unwrap();
    #[expect(clippy::disallowed_methods, reason = "another process is timed")]
    let began = std::time::Instant::now();
    assert_eq!(house.end_with("TERM"), Some(0));
    let took = began.elapsed();
    assert!(took.as_secs() < 60, "10 s are its budget; it took {took:?}");
    assert_eq!(run(&house.container("gpu")), before);
    house.open();
    is_adopted(&house);
}

#[test]
fn a7_the_second_nanny_of_a_state_directory_is_refused() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_nanny"))
        .args(["serve", "--listen", "127.0.0.1:0", "--services"])
        .arg(house.services())
        .arg("--state-dir")
        .arg(house.directory().join("state"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert_eq!(house.get("/health")["status"], "healthy");
}

#[test]
fn a13_without_its_notes_a_nanny_believes_the_engine() {
    let Some(mut house) = house() else { return };
    let before = run(&house.container("gpu"));
    house.end_with("KILL");
    let state = house.directory().join("state");
    for file in std::fs::read_dir(&state).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            std::fs::write(file, "{\"version\": ").unwrap();
        }
    }
    house.open();
    is_adopted(&house);
    assert_eq!(run(&house.container("gpu")), before);
}

#[test]
fn what_ended_while_nobody_looked_is_seen_by_the_next_nanny() {
    let Some(mut house) = house() else { return };
    house.notes("gpu", "running");
    house.end_with("KILL");
    engine::docker(&["stop", &house.container("gpu")]);
    house.open();
    house.until("gpu", |now| now["is_running"] == false && now["holds_gpu"] == false);
    assert!(!engine::runs(&house.container("gpu")), "a stop by hand holds");
    house.started("rival");
    assert_eq!(house.holder(), "rival");
}

#[test]
fn s4_a_service_of_the_same_name_of_another_nanny_is_left_alone() {
    let Some(mut theirs) = House::new() else { return };
    theirs.add("web", GPU, &web(IDLE, ""));
    theirs.open();
    theirs.started("web");
    let before = run(&theirs.container("web"));
    let Some(mut ours) = House::new() else { return };
    ours.add("web", "", &web(IDLE, ""));
    let name = theirs.project("web");
    ours.write("web", "service.yaml", &format!("name: {name}\n{GPU}"));
    ours.open();
    let ask = |action: &str, body: &str| {
        ours.ask_as_is("POST", &format!("/services/{name}/{action}"), body)
    };
    let status = ours.ask_as_is("GET", &format!("/services/{name}/status"), "").expect(200);
    assert_eq!((&status["status"], &status["containers"]), (&json!("stopped"), &json!([])));
    ask("stop", r#"{"remove": true}"#).expect(200);
    assert_eq!(run(&theirs.container("web")), before);
    ask("start", r#"{"force": true}"#).expect(200);
    ask("stop", r#"{"remove": true}"#).expect(200);
    assert_eq!(run(&theirs.container("web")), before);
    assert!(engine::runs(&theirs.container("web")));
    assert_eq!(theirs.status("web")["status"], "running");
}

#[test]
fn a3_who_is_killed_in_a_swap_leaves_one_or_none() {
    let Some(mut house) = house() else { return };
    // Killed as soon as the old one is down, which is before the new one is up, or just after.
    for (old, new) in [("gpu", "rival"), ("rival", "gpu"), ("gpu", "rival"), ("rival", "gpu")] {
        let container = house.container(old);
        let client = house.begin_start(new, r#"{"force": true}"#);
        until(|| (!engine::runs(&container)).then_some(()), || format!("'{old}' never stops"));
        house.end_with("KILL");
        drop(client);
        house.open();
        let settled = |now: &Value| now["status"] == "running" || now["status"] == "stopped";
        for service in [old, new] {
            let now = house.until(service, |now| {
                settled(now) && now["is_running"] == engine::runs(&house.container(service))
            });
            assert_eq!(now["holds_gpu"], now["is_running"], "{now}");
        }
        assert!(!engine::runs(&container), "it was to go");
        house.started(new);
        assert_eq!(house.holder(), new);
    }
}
