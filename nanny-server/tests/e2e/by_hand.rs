//! What somebody does to containers with `docker` is seen, and not fought.

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, web};

#[test]
fn b16_every_action_by_hand_is_seen() {
    let Some(house) = House::with(GPU, &web(IDLE, "restart: unless-stopped")) else { return };
    let container = house.container("web");
    house.started("web");
    let first = house.status("web");

    engine::docker(&["stop", &container]);
    let now = house.sees("web", |now| now["status"] == "stopped");
    assert_eq!((&now["holds_gpu"], &now["uptime"]), (&json!(false), &Value::Null));
    assert_eq!(house.holder(), Value::Null);

    engine::docker(&["start", &container]);
    house.sees("web", |now| now["status"] == "running");
    assert_eq!(house.holder(), "web");

    engine::docker(&["restart", &container]);
    let started = engine::inspect(&container)["State"]["StartedAt"].clone();
    house.sees("web", |now| now["status"] == "running" && now["is_running"] == true);
    // It was a restart by hand, which we must not answer with one of our own.
    assert_eq!(engine::inspect(&container)["State"]["StartedAt"], started);

    let renamed = format!("{container}-renamed");
    engine::docker(&["rename", &container, &renamed]);
    house.sees("web", |now| now["containers"][0]["name"] == "web-web-1-renamed");
    assert_eq!(house.status("web")["status"], "running");
    engine::docker(&["rename", &renamed, &container]);
    house.sees("web", |now| now["containers"][0]["name"] == "web-web-1");

    engine::docker(&["pause", &container]);
    house.sees("web", |now| now["containers"][0]["state"] == "paused");
    assert_eq!(house.holder(), "web", "what is paused keeps its memory");
    engine::docker(&["unpause", &container]);
    house.sees("web", |now| now["containers"][0]["state"] == "running");

    engine::docker(&["kill", &container]);
    house.sees("web", |now| now["is_running"] == false && now["holds_gpu"] == false);
    assert!(!engine::runs(&container), "a kill by hand is somebody's wish");

    house.started("web");
    assert_eq!(house.status("web")["containers"][0]["id"], first["containers"][0]["id"]);
    engine::docker(&["rm", "-f", &container]);
    let now = house.sees("web", |now| now["containers"] == json!([]));
    assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("stopped"), &json!(false)));
    house.started("web");
    assert!(engine::runs(&container));
}

#[test]
fn a_second_start_after_a_stop_by_hand_is_no_surprise() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    let container = house.container("web");
    house.started("web");
    for _ in 0..5 {
        engine::docker(&["kill", &container]);
        house.sees("web", |now| now["is_running"] == false);
        house.started("web");
        assert!(engine::runs(&container));
    }
}
