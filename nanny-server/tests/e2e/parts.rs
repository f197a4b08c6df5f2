//! Services of several containers.

use std::thread;

use serde_json::json;

use crate::engine;
use crate::house::{House, until};

/// A web server that wants a healthy database, which is healthy when `/ready` is there.
pub(crate) fn two(database: &str) -> String {
    format!(
        "services:
  web:
    image: nanny-test/busybox:1
    init: true
    command: [sh, -c, 'echo serving; exec sleep 86400']
    depends_on:
      db: {{condition: service_healthy}}
  db:
    image: nanny-test/busybox:1
    init: true
    command: [sh, -c, '{database}']
    volumes: ['data:/data']
    healthcheck:
      test: test -e /ready
      interval: 500ms
      retries: 1000
volumes:
  data:
"
    )
}

#[test]
fn parts_start_when_what_they_need_is_healthy_and_stop_in_reverse() {
    let Some(house) = House::with("", &two("echo storing; touch /data/kept; exec sleep 86400"))
    else {
        return;
    };
    let project = house.project("web");
    let (web, db) = (format!("{project}-web-1"), format!("{project}-db-1"));
    thread::scope(|scope| {
        let start = scope.spawn(|| house.started("web"));
        until(|| engine::runs(&db).then_some(()), || "the database never runs".to_owned());
        assert_eq!(house.status("web")["status"], "starting");
        assert!(!engine::runs(&web), "the database is not healthy yet");
        engine::execute(&db, "touch /ready");
        assert_eq!(start.join().unwrap()["status"], "running");
    });
    let checks = engine::inspect(&db)["State"]["Health"]["Log"].as_array().cloned().unwrap();
    let healthy = checks.iter().find(|check| check["ExitCode"] == 0).expect("it is healthy");
    let started = engine::time(&engine::inspect(&web)["State"]["StartedAt"]);
    // The engine keeps the last five.
    let is_first = checks[0]["ExitCode"] != 0;
    assert!(!is_first || engine::time(&healthy["Start"]) <= started, "{checks:?}");

    let status = house.status("web");
    let mut parts: Vec<_> = status["containers"].as_array().unwrap().iter().collect();
    parts.sort_by_key(|part| part["part"].as_str());
    assert_eq!((&parts[0]["part"], &parts[0]["health"]), (&json!("db"), &json!("healthy")));
    assert_eq!(parts[1]["state"], "running");
    let logs = "db-1   | storing\nweb-1  | serving\n";
    house.says("web", logs);

    house.stop("web", "").expect(200);
    let ended = |name: &str| engine::time(&engine::inspect(name)["State"]["FinishedAt"]);
    assert!(ended(&web) <= ended(&db));
    // Stopped, not removed: the log is still there.
    house.says("web", logs);

    house.stop("web", r#"{"remove": true}"#).expect(200);
    assert!(engine::containers(&project).is_empty());
    assert!(!engine::network_exists(&format!("{project}_default")));
    assert!(engine::volume_exists(&format!("{project}_data")), "volumes are never removed");

    // With the volume there is still what was in it.
    let database = two("cat /data/kept && touch /ready; exec sleep 86400");
    house.write("web", "docker-compose.yml", &database);
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert!(engine::runs(&web));
}

#[test]
fn a_service_of_which_a_part_is_down_is_completed_by_a_start() {
    let Some(house) = House::with("", &two("touch /ready; exec sleep 86400")) else { return };
    house.started("web");
    let project = house.project("web");
    let (web, db) = (format!("{project}-web-1"), format!("{project}-db-1"));
    let database = engine::id(&db);
    engine::docker(&["stop", &web]);
    let partly = house.becomes("web", "unhealthy");
    assert_eq!((&partly["is_running"], &partly["ready"]), (&json!(true), &json!(false)));
    house.started("web");
    assert!(engine::runs(&web));
    assert_eq!(engine::id(&db), database, "what ran was left alone");
}
