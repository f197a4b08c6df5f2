//! Requests that come while another is under way, and callers who do not wait.

use std::thread;

use serde_json::json;

use crate::engine;
use crate::house::{GPU, House, STUBBORN, until, web};
use crate::parts::two;

/// Waits for a file in the container of a service's part.
fn prepare(house: &House, part: &str) -> String {
    let name = format!("{}-{part}-1", house.project("web"));
    until(|| engine::runs(&name).then_some(()), || format!("'{name}' never runs"));
    name
}

const PATIENT: &str = "exec sleep 86400";

/// What `STUBBORN` says when it ignores requests to stop.
const HARDENED: &str = "web-1  | up\n";

#[test]
fn b6_a_start_during_a_stop_ends_running() {
    let stubborn = web(STUBBORN, "stop_grace_period: 10s").replace("init: true", "init: false");
    for manifest in ["", GPU] {
        let Some(house) = House::with(manifest, &stubborn) else { return };
        house.started("web");
        house.says("web", HARDENED);
        let container = house.container("web");
        let first = engine::inspect(&container)["State"]["StartedAt"].clone();
        thread::scope(|scope| {
            let stop = scope.spawn(|| house.ask("POST", "/services/web/stop", ""));
            house.becomes("web", "stopping");
            house.started("web");
            // Answered once it is down; or told that a start came in between.
            let stopped = stop.join().unwrap();
            assert!(matches!(stopped.status, 200 | 409), "{stopped:?}");
        });
        assert!(engine::runs(&container));
        assert_ne!(engine::inspect(&container)["State"]["StartedAt"], first, "it was restarted");
        assert_eq!(house.status("web")["status"], "running");
    }
}

#[test]
fn b7_what_ignores_the_stop_is_killed_when_its_time_is_over() {
    let stubborn = web(STUBBORN, "stop_grace_period: 1s").replace("init: true", "init: false");
    let Some(house) = House::with(GPU, &stubborn) else { return };
    house.started("web");
    house.says("web", HARDENED);
    house.stop("web", "").expect(200);
    let state = engine::inspect(&house.container("web"))["State"].clone();
    assert_eq!((&state["Running"], &state["ExitCode"]), (&json!(false), &json!(137)));
    let now = house.status("web");
    assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("stopped"), &json!(false)));
}

#[test]
fn a_stop_during_a_start_cancels_it() {
    let Some(house) = House::with(GPU, &two(PATIENT)) else { return };
    thread::scope(|scope| {
        let start = scope.spawn(|| house.ask("POST", "/services/web/start", ""));
        prepare(&house, "db");
        house.stop("web", "").expect(200);
        assert_eq!(start.join().unwrap().expect(409)["code"], "start_cancelled");
    });
    let now = house.status("web");
    assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("stopped"), &json!(false)));
    assert!(engine::projects_up(&house.tag).is_empty());
}

#[test]
fn a_client_that_hangs_up_changes_nothing() {
    let Some(house) = House::with("", &two(PATIENT)) else { return };
    let client = house.begin_start("web", "");
    let database = prepare(&house, "db");
    drop(client);
    engine::execute(&database, "touch /ready");
    house.becomes("web", "running");
    assert!(engine::runs(&house.container("web")));
}

#[test]
fn a_start_that_takes_too_long_is_answered_and_goes_on() {
    let Some(house) = House::with("", &two(PATIENT)) else { return };
    let late = house.start("web", r#"{"timeout": 0.5}"#).expect(504);
    assert_eq!(late["code"], "start_timeout");
    assert_eq!(house.status("web")["status"], "starting");
    let database = prepare(&house, "db");
    engine::execute(&database, "touch /ready");
    house.becomes("web", "running");
}

#[test]
fn whoever_does_not_want_to_wait_is_answered_at_once() {
    let Some(house) = House::with("", &two(PATIENT)) else { return };
    let begun = house.start("web", r#"{"wait": "none"}"#).expect(200);
    assert_eq!(begun["status"], "starting");
    let database = prepare(&house, "db");
    thread::scope(|scope| {
        let joined = scope.spawn(|| house.start("web", r#"{"wait": "healthy"}"#));
        engine::execute(&database, "touch /ready");
        assert_eq!(joined.join().unwrap().expect(200)["status"], "running");
    });
    assert_eq!(house.status("web")["is_healthy"], true);
}
