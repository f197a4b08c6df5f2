//! What is not ours, although it looks so, is left alone.

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, web};

/// Asks for everything that could touch somebody, each of which must leave what is asked for alone.
fn try_everything(house: &House, untouched: impl Fn()) -> Vec<Value> {
    let mut refusals = Vec::new();
    for (request, body) in [
        ("start", ""),
        ("start", r#"{"force": true}"#),
        ("start", r#"{"recreate": true}"#),
        ("restart", ""),
    ] {
        let answer = house.ask("POST", &format!("/services/web/{request}"), body);
        refusals.push(answer.expect(500));
        untouched();
    }
    for body in ["", r#"{"remove": true}"#] {
        house.stop("web", body).expect(200);
        untouched();
    }
    refusals
}

#[test]
fn s4_a_container_of_the_same_name_that_is_not_ours_is_left_alone() {
    let Some(house) = House::with(GPU, &web(IDLE, "")) else { return };
    let name = house.container("web");
    let stranger = ["run", "-d", "--name", &name, "nanny-test/busybox:1", "sleep", "86400"];
    let id = engine::docker(&stranger).trim().to_owned();
    let started = engine::inspect(&id)["State"]["StartedAt"].clone();
    let untouched = || {
        let now = engine::inspect(&id);
        assert_eq!(
            (&now["State"]["Running"], &now["State"]["StartedAt"]),
            (&json!(true), &started)
        );
        assert_eq!(now["Name"], format!("/{name}"));
    };
    for refusal in try_everything(&house, untouched) {
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.contains("web-web-1") && detail.contains("taken"), "{refusal}");
    }
    assert_eq!(house.holder(), Value::Null, "what failed holds nothing");

    // Nor if it comes when ours is there already, under another name.
    engine::docker(&["rename", &name, &format!("{name}-stranger")]);
    house.started("web");
    let ours = engine::id(&name);
    engine::docker(&["rename", &name, &format!("{name}-ours")]);
    engine::docker(&["rename", &id, &name]);
    house.sees("web", |now| now["containers"][0]["name"] == "web-web-1-ours");
    house.stop("web", "").expect(200);
    untouched();
    assert!(!engine::runs(&ours));
    engine::docker(&["rm", "-f", &id]);
    house.started("web");
}

#[test]
fn s4_a_network_of_the_same_name_that_is_not_ours_is_left_alone() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    let name = format!("{}_default", house.project("web"));
    let id = engine::docker(&["network", "create", &name]).trim().to_owned();
    let network = |name: &str| engine::docker(&["network", "inspect", "-f", "{{.Id}}", name]);
    for refusal in try_everything(&house, || assert_eq!(network(&name).trim(), id)) {
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.contains("network") && detail.contains("does not belong"), "{refusal}");
    }
    engine::docker(&["network", "rm", &id]);
    house.started("web");
}

#[test]
fn two_nannies_on_one_engine_leave_each_other_alone() {
    let (Some(mut one), Some(mut other)) = (House::new(), House::new()) else { return };
    for house in [&mut one, &mut other] {
        house.add("web", GPU, &web(IDLE, "restart: always"));
        house.add("rival", GPU, &web(IDLE, ""));
        house.open();
    }
    one.started("web");
    let container = one.container("web");
    let started = engine::inspect(&container)["State"]["StartedAt"].clone();
    // Each has its own services, and its own idea of who has the GPU.
    other.started("web");
    assert_eq!(other.start("rival", r#"{"force": true}"#).expect(200)["stopped"], json!(["web"]));
    assert_eq!(one.get("/services")["total"], 2);
    other.notes("rival", "running");
    other.stop("rival", r#"{"remove": true}"#).expect(200);
    other.end_with("KILL");
    other.open();
    other.started("web");
    other.ask("POST", "/rediscover", "").expect(200);
    other.end_with("TERM");
    let now = engine::inspect(&container)["State"].clone();
    assert_eq!((&now["Running"], &now["StartedAt"]), (&json!(true), &started));
    let seen = one.status("web");
    assert_eq!((&seen["status"], one.holder()), (&json!("running"), json!("web")), "{seen}");
    one.stop("web", "").expect(200);
    assert!(engine::runs(&other.container("web")));
}
