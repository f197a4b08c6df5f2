//! Starts that fail, and say why.

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, SERVING, free_port, until, web};

/// A start that fails with a message that has `words`, and leaves the GPU to others.
fn fails(compose: &str, words: &[&str]) {
    let Some(mut house) = House::new() else { return };
    house.add("web", GPU, compose);
    house.add("next", GPU, &web(IDLE, ""));
    house.open();
    let failed = house.start("web", "").expect(500);
    assert_eq!((&failed["code"], &failed["restored"]), (&json!("start_failed"), &json!([])));
    let detail = failed["detail"].as_str().unwrap_or_default();
    assert!(words.iter().any(|word| detail.contains(word)), "{detail}");
    let now = house.status("web");
    assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("failed"), &json!(false)), "{now}");
    assert!(now["error"].is_string(), "{now}");
    assert_eq!(house.holder(), Value::Null);
    house.started("next");
    // A stop is how a failure is acknowledged.
    house.stop("web", "").expect(200);
    assert_eq!(house.status("web")["status"], "stopped");
}

#[test]
fn b18_a_device_that_is_missing_is_named() {
    fails(&web(IDLE, "devices: [/dev/kfd]"), &["/dev/kfd"]);
}

#[test]
fn b18_a_gpu_that_is_missing_is_named() {
    let gpu = "deploy:\n  resources:\n    reservations:\n      devices:\n        - driver: nvidia\n          \
               count: 1\n          capabilities: [gpu]\n";
    fails(&web(IDLE, gpu), &["nvidia", "could not select device driver"]);
}

#[test]
fn b18_an_image_that_is_nowhere_is_named() {
    let file = "services:\n  web:\n    image: localhost:1/nanny-e2e/nowhere:1\n";
    fails(file, &["nowhere", "localhost:1"]);
}

#[test]
fn b18_a_mount_that_cannot_be_is_said() {
    fails(&web(IDLE, "volumes: [/etc/passwd/nothing:/data]"), &["/etc/passwd/nothing"]);
}

#[test]
fn d1_what_never_gets_healthy_is_unhealthy_and_goes_on() {
    let port = free_port();
    let manifest =
        format!("{GPU}health_endpoint: http://localhost:{port}/nothing\nhealth_timeout: 1\n");
    let ports = format!("ports: [\"127.0.0.1:{port}:8000\"]");
    let Some(house) = House::with(&manifest, &web(SERVING, &ports)) else { return };
    house.started("web");
    let now = house.until("web", |now| {
        let reason = now["health"]["reason"].as_str().unwrap_or_default();
        now["status"] == "unhealthy" && reason.contains("404")
    });
    assert_eq!((&now["is_running"], &now["is_healthy"]), (&json!(true), &json!(false)));
    let container = house.container("web");
    let started = engine::inspect(&container)["State"]["StartedAt"].clone();
    engine::execute(&container, "echo fine > /www/nothing");
    house.becomes("web", "running");
    assert_eq!(engine::inspect(&container)["State"]["StartedAt"], started);
}

#[test]
fn s4_a_container_of_the_same_name_that_is_not_ours_is_left_alone() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    let container = house.container("web");
    let made = engine::docker(&["create", "--name", &container, "nanny-test/busybox:1", "true"]);
    let failed = house.start("web", "");
    let id = engine::id(&container);
    engine::docker(&["rm", "-f", &container]);
    assert_eq!(id, made.trim());
    let failed = failed.expect(500);
    assert!(failed["detail"].as_str().unwrap().contains("'web-web-1'"), "{failed}");
    // The news that it is gone takes a moment.
    until(
        || (house.start("web", "").status == 200).then_some(()),
        || "the name is never free again".to_owned(),
    );
}
