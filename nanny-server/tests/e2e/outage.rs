//! An engine that goes away and comes back. The one of this machine stays: what is cut is a line
//! of our own to it.

use nanny_testkit::proxy::{Endpoint, Line, Proxy};
use serde_json::json;

use crate::engine;
use crate::house::{GPU, House, IDLE, web};

#[test]
fn b1_an_engine_out_of_reach_is_said_so_and_nothing_is_lost() {
    let Some(mut house) = House::new() else { return };
    house.add("web", GPU, &web(IDLE, "restart: always"));
    house.add("rival", GPU, &web(IDLE, ""));
    let socket = Endpoint::unix(house.directory().join("engine.sock"));
    let proxy = Proxy::start(&socket, Endpoint::unix(engine::socket())).unwrap();
    let host = proxy.endpoint().to_string();
    house.open_with(|command| {
        command.args(["--backend", "docker", "--docker-host", &host]);
    });
    house.started("web");
    let container = house.container("web");
    let before = engine::inspect(&container)["State"]["StartedAt"].clone();

    proxy.line(Line::HangUp);
    let now = house.sees("web", |now| now["status"] == "unknown");
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    assert!(now["stale_since"].is_string(), "{now}");
    assert_eq!(house.get("/health")["status"], "healthy");
    assert_eq!(house.get("/health")["engines"][0]["state"], "down");
    assert_eq!(house.get("/services")["total"], 2);
    for request in ["web/stop", "rival/start", "web/start"] {
        let answer = house.ask("POST", &format!("/services/{request}"), "");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert_eq!(answer.expect(503)["code"], "engine_unavailable", "{request}");
    }

    // While nobody looks, it ends.
    engine::docker(&["stop", &container]);
    proxy.line(Line::Open);
    // It is one of those that are always restarted.
    house.sees("web", |now| now["status"] != "unknown" && now["stale_since"].is_null());
    house.start("web", r#"{"force": true}"#).expect(200);
    assert_ne!(engine::inspect(&container)["State"]["StartedAt"], before);

    let before = engine::inspect(&container)["State"]["StartedAt"].clone();
    proxy.line(Line::HangUp);
    house.sees("web", |now| now["status"] == "unknown");
    proxy.line(Line::Open);
    house.sees("web", |now| now["status"] == "running" && now["stale_since"].is_null());
    assert_eq!(house.holder(), "web");
    assert_eq!(engine::inspect(&container)["State"]["StartedAt"], before);
}

#[test]
fn b14_a_nanny_without_an_engine_serves_and_waits_for_one() {
    let Some(mut house) = House::new() else { return };
    house.add("web", "", &web(IDLE, ""));
    let socket = house.directory().join("late/engine.sock");
    let host = format!("unix://{}", socket.display());
    house.open_with(|command| {
        command.args(["--backend", "docker", "--docker-host", &host]);
    });
    assert_eq!(house.get("/health")["engines"][0]["state"], "absent");
    assert_eq!(house.status("web")["status"], "unknown");
    let refused = house.ask("POST", "/services/web/start", "");
    assert_eq!(refused.expect(503)["code"], "engine_unavailable");
    std::fs::create_dir(house.directory().join("late")).unwrap();
    std::os::unix::fs::symlink(engine::socket(), &socket).unwrap();
    house.becomes("web", "stopped");
    house.started("web");
}
