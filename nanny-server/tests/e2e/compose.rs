//! The Compose command line and we, on the same services.

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, SERVING, until, web};
use crate::parts::two;

#[test]
fn what_we_start_is_compose_s_own() {
    if !engine::has_compose() {
        return;
    }
    let Some(house) = House::with("", &two("echo storing; touch /ready; exec sleep 86400")) else {
        return;
    };
    house.started("web");
    let (home, project) = (house.home("web"), house.project("web"));
    let names = [format!("{project}-web-1"), format!("{project}-db-1")];

    let listed = engine::compose(&home, &["ps", "--format", "json"]);
    let listed: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for name in &names {
        assert!(listed.iter().any(|found| found["Name"] == **name), "{listed:?}");
    }
    house.says("web", "db-1   | storing\nweb-1  | serving\n");
    let logs = engine::compose(&home, &["logs", "--no-color"]);
    for (part, line) in [("web-1", "serving"), ("db-1", "storing")] {
        // How wide it makes the names depends on whom it has heard of.
        let found = |said: &str| said.starts_with(part) && said.ends_with(&format!(" | {line}"));
        assert!(logs.lines().any(found), "{logs}");
    }

    let before = names.each_ref().map(|name| engine::id(name));
    let said = engine::compose(&home, &["up", "-d"]);
    assert_eq!(names.each_ref().map(|name| engine::id(name)), before, "{said}");
    assert!(!said.contains("Recreate"), "{said}");

    engine::compose(&home, &["stop", "-t", "1"]);
    house.becomes("web", "stopped");
    house.started("web");
    assert_eq!(names.each_ref().map(|name| engine::id(name)), before);

    engine::compose(&home, &["down", "-v", "-t", "1"]);
    assert!(engine::containers(&project).is_empty());
    assert!(!engine::network_exists(&format!("{project}_default")));
    assert!(!engine::volume_exists(&format!("{project}_data")));
    house.until("web", |now| now["status"] == "stopped" && now["containers"] == json!([]));
    house.started("web");
    engine::compose(&home, &["down", "-v", "-t", "1"]);
}

#[test]
fn every_command_of_compose_works_on_what_we_start() {
    if !engine::has_compose() {
        return;
    }
    let Some(house) = House::with("", &web(SERVING, "ports: ['127.0.0.1::8000']")) else { return };
    house.started("web");
    house.says("web", "web-1  | up\n");
    let (home, container) = (house.home("web"), house.container("web"));
    let compose = |arguments: &[&str]| engine::compose(&home, arguments);
    let (project, id) = (house.project("web"), engine::id(&container));

    let projects = compose(&["ls", "--format", "json"]);
    let projects: Value = serde_json::from_str(&projects).unwrap();
    let ours = |found: &&Value| found["Name"] == *project;
    let found = projects.as_array().unwrap().iter().find(ours).expect("it is listed").clone();
    assert_eq!(found["Status"], "running(1)");
    let file = home.join("docker-compose.yml");
    assert_eq!(found["ConfigFiles"], file.canonicalize().unwrap().to_str().unwrap());

    let address = compose(&["port", "web", "8000"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(compose(&["top"]).contains("httpd"), "{}", compose(&["top"]));
    assert!(compose(&["images"]).contains("nanny-test/busybox"));
    assert!(compose(&["logs", "--no-color", "--tail", "1"]).contains("up"));

    let since = || engine::time(&engine::inspect(&container)["State"]["StartedAt"]);
    let before = since();
    compose(&["restart", "-t", "1"]);
    assert!(since() > before);
    house.sees("web", |now| now["status"] == "running" && now["error"].is_null());
    compose(&["stop", "-t", "1"]);
    house.becomes("web", "stopped");
    compose(&["start"]);
    house.becomes("web", "running");
    let said = compose(&["up", "-d"]);
    assert_eq!(engine::id(&container), id, "{said}");
    compose(&["down", "-v", "-t", "1"]);
    house.until("web", |now| now["status"] == "stopped" && now["containers"] == json!([]));
}

#[test]
fn what_compose_started_is_ours_to_see_to_hold_and_to_stop() {
    if !engine::has_compose() {
        return;
    }
    let Some(mut house) = House::new() else { return };
    house.add("theirs", GPU, &web(IDLE, "restart: unless-stopped"));
    house.add("ours", GPU, &web(IDLE, ""));
    house.open();
    let (home, container) = (house.home("theirs"), house.container("theirs"));

    engine::compose(&home, &["up", "-d"]);
    let id = engine::id(&container);
    let now = house.becomes("theirs", "running");
    assert_eq!((&now["drift"], &now["holds_gpu"]), (&json!(false), &json!(true)), "{now}");
    assert!(now["uptime"].is_string());
    assert_eq!(house.holder(), "theirs");
    assert_eq!(house.start("ours", "").expect(409)["conflicts"], json!(["theirs"]));
    assert_eq!(house.started("theirs")["message"], "Service 'theirs' is already running");
    house.says("theirs", "web-1  | up\n");

    let swapped = house.start("ours", r#"{"force": true}"#).expect(200);
    assert_eq!(swapped["stopped"], json!(["theirs"]));
    assert!(!engine::runs(&container));

    house.stop("ours", "").expect(200);
    engine::compose(&home, &["start"]);
    house.becomes("theirs", "running");
    assert_eq!(house.stop("theirs", "").expect(200)["status"], "stopped");
    assert_eq!((engine::id(&container), engine::runs(&container)), (id, false));
    house.stop("theirs", r#"{"remove": true}"#).expect(200);
    assert!(engine::containers(&house.project("theirs")).is_empty());
}

#[test]
fn compose_finds_nothing_to_do_on_a_gpu_service_of_ours() {
    if !engine::has_compose() {
        return;
    }
    let Some(house) = House::with(GPU, &web(IDLE, "restart: unless-stopped")) else { return };
    house.started("web");
    let container = house.container("web");
    let id = engine::id(&container);
    // The engine is told another policy than the file's; the hash is of the file.
    assert_eq!(engine::inspect(&container)["HostConfig"]["RestartPolicy"]["Name"], "no");
    let said = engine::compose(&house.home("web"), &["up", "-d"]);
    assert_eq!(engine::id(&container), id, "{said}");
    assert_eq!(house.status("web")["drift"], false);
}

#[test]
fn what_compose_started_otherwise_is_drift_and_left_alone() {
    if !engine::has_compose() {
        return;
    }
    let Some(mut house) = House::new() else { return };
    house.add("theirs", GPU, &web(IDLE, "environment: {SIZE: '${SIZE}'}"));
    house.write("theirs", ".env", "SIZE=small\n");
    house.add("broken", GPU, &web(IDLE, "devices: [/dev/kfd]"));
    engine::compose(&house.home("theirs"), &["up", "-d"]);
    house.write("theirs", ".env", "SIZE=large\n");
    house.open();
    let container = house.container("theirs");
    let id = engine::id(&container);
    let now = house.becomes("theirs", "running");
    assert_eq!((&now["drift"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    assert_eq!(house.started("theirs")["message"], "Service 'theirs' is already running");
    assert_eq!(engine::id(&container), id);

    // It gives way to another, and it comes back when that one fails.
    let failed = house.start("broken", r#"{"force": true}"#).expect(500);
    assert_eq!(failed["restored"], json!(["theirs"]), "{failed}");
    assert!(engine::runs(&container));
    assert_eq!(house.holder(), "theirs");
}

#[test]
fn what_compose_recreates_is_followed() {
    if !engine::has_compose() {
        return;
    }
    let Some(house) = House::with(GPU, &web(IDLE, "")) else { return };
    house.started("web");
    let container = house.container("web");
    let old = engine::id(&container);
    engine::compose(&house.home("web"), &["up", "-d", "--force-recreate", "-t", "1"]);
    let new = until(
        || Some(engine::id(&container)).filter(|id| *id != old),
        || "it is never recreated".to_owned(),
    );
    house.until("web", |now| {
        now["status"] == "running"
            && now["containers"].as_array().is_some_and(|all| all.len() == 1 && all[0]["id"] == new)
    });
    assert_eq!(house.holder(), "web");
}
