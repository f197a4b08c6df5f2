//! Who brings back what crashes.

use std::thread;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, STUBBORN, pause, until, web};

/// Crashes when it is told to by `crash`.
const FRAGILE: &str = "rm -f /begun; echo up; touch /begun; \
                       until test -e /crash; do sleep 0.1; done; rm /begun /crash; exit 7";

fn crash(container: &str) -> Value {
    let started = engine::inspect(container)["State"]["StartedAt"].clone();
    // Which may end before the command that tells it to does.
    let script = "until test -e /begun; do sleep 0.1; done; touch /crash";
    engine::docker(&["exec", "--detach", container, "sh", "-c", script]);
    started
}

#[test]
fn a_gpu_service_that_crashes_is_restarted_by_us_and_keeps_its_claim() {
    let Some(mut house) = House::new() else { return };
    house.add("web", GPU, &web(FRAGILE, "restart: unless-stopped"));
    house.add("rival", GPU, &web(FRAGILE, ""));
    house.open();
    house.started("web");
    let container = house.container("web");
    let policy = engine::inspect(&container)["HostConfig"]["RestartPolicy"]["Name"].clone();
    assert_eq!(policy, "no", "an engine would bring it back beside another");

    let id = engine::id(&container);
    let started = crash(&container);
    until(
        || {
            // All that time nobody else gets the GPU.
            let refused = house.start("rival", "").expect(409);
            assert_eq!(refused["conflicts"], json!(["web"]));
            let now = engine::inspect(&container)["State"].clone();
            (now["Running"] == true && now["StartedAt"] != started).then_some(())
        },
        || format!("it is never restarted: {}", house.status("web")),
    );
    assert_eq!(engine::id(&container), id);
    house.becomes("web", "running");
    assert_eq!(house.holder(), "web");
}

#[test]
fn a_gpu_service_that_was_stopped_by_hand_stays_stopped() {
    let Some(house) = House::with(GPU, &web(FRAGILE, "restart: always")) else { return };
    house.started("web");
    let container = house.container("web");
    engine::docker(&["stop", "-t", "1", &container]);
    house.becomes("web", "stopped");
    // A restart would be due within a second: the next of it is not seen in twice that time.
    for _ in 0..40 {
        assert!(!engine::runs(&container));
        pause();
    }
    assert_eq!(house.status("web")["status"], "stopped");
}

#[test]
fn d10_a_gpu_service_that_is_not_to_be_restarted_frees_its_gpu() {
    let Some(mut house) = House::new() else { return };
    house.add("web", GPU, &web(FRAGILE, ""));
    house.add("rival", GPU, &web(FRAGILE, ""));
    house.open();
    house.started("web");
    crash(&house.container("web"));
    let now = house.becomes("web", "failed");
    assert!(now["error"].as_str().unwrap().contains('7'), "{now}");
    assert_eq!((&now["holds_gpu"], &now["containers"][0]["exit_code"]), (&json!(false), &json!(7)));
    house.started("rival");
    assert_eq!(house.holder(), "rival");
}

#[test]
fn without_a_gpu_the_engine_restarts_as_the_file_says() {
    let Some(house) = House::with("", &web(FRAGILE, "restart: on-failure:5")) else { return };
    house.started("web");
    let container = house.container("web");
    let policy = engine::inspect(&container)["HostConfig"]["RestartPolicy"].clone();
    assert_eq!(policy, json!({"Name": "on-failure", "MaximumRetryCount": 5}));
    crash(&container);
    until(
        || {
            let now = engine::inspect(&container);
            (now["RestartCount"] == 1 && now["State"]["Running"] == true).then_some(())
        },
        || "the engine never restarts it".to_owned(),
    );
    house.becomes("web", "running");
}

#[test]
fn a_gpu_service_may_keep_the_engine_s_restarts() {
    let manifest = format!("{GPU}restart_policy: keep\n");
    let Some(house) = House::with(&manifest, &web(FRAGILE, "restart: always")) else { return };
    house.started("web");
    let container = house.container("web");
    assert_eq!(engine::inspect(&container)["HostConfig"]["RestartPolicy"]["Name"], "always");
    crash(&container);
    until(
        || (engine::inspect(&container)["RestartCount"] == 1).then_some(()),
        || "the engine never restarts it".to_owned(),
    );
    house.becomes("web", "running");
    assert_eq!(house.holder(), "web");
}

#[test]
fn a_restart_keeps_the_claim_between_stop_and_start() {
    let Some(mut house) = House::new() else { return };
    let stubborn = web(STUBBORN, "stop_grace_period: 1s").replace("init: true", "init: false");
    house.add("web", GPU, &stubborn);
    house.add("rival", GPU, &web(FRAGILE, ""));
    house.open();
    house.started("web");
    let container = house.container("web");
    let before = engine::inspect(&container);
    thread::scope(|scope| {
        let restart = scope.spawn(|| house.ask("POST", "/services/web/restart", ""));
        while !restart.is_finished() {
            assert_eq!(house.start("rival", "").expect(409)["conflicts"], json!(["web"]));
            pause();
        }
        restart.join().unwrap().expect(200);
    });
    let after = engine::inspect(&container);
    assert_eq!(after["Id"], before["Id"]);
    assert_ne!(after["State"]["StartedAt"], before["State"]["StartedAt"]);
    assert_eq!(house.holder(), "web");
}
