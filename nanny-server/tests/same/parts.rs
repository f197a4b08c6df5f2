//! Services of several containers, on engines that have such.

use std::thread;

use serde_json::{Value, json};

use crate::containers::Containers;
use crate::house::{GPU, until};
use crate::kind::{Kind, Program};
use crate::stage::Stage;
use crate::witness::{self, Run};

/// A web server that wants a job done and a healthy database, which is healthy when `ready` is in
/// its volume.
fn three(project: &str, mark: &str) -> String {
    let image = "image: nanny-test/busybox:1\n    init: true";
    format!(
        "services:
  web:
    {image}
    environment: {{{mark}: '{project}'}}
    command: [sh, -c, 'echo serving; cat /data/made; exec sleep 86400']
    volumes: ['data:/data']
    depends_on:
      db: {{condition: service_healthy}}
      job: {{condition: service_completed_successfully}}
  job:
    {image}
    environment: {{{mark}: 'job.{project}'}}
    command: [sh, -c, 'echo made of old >/data/made; echo done']
    volumes: ['data:/data']
  db:
    {image}
    environment: {{{mark}: 'db.{project}'}}
    command: [sh, -c, 'echo storing; exec sleep 86400']
    volumes: ['data:/data']
    networks: {{default: {{aliases: [database]}}}}
    healthcheck:
      test: test -e /data/ready
      interval: 300ms
      retries: 1000
volumes:
  data:
"
    )
}

fn stage(engine: &'static Containers) -> Stage {
    let mut stage = Stage::new(engine);
    let file = three(&stage.project("web"), witness::MARK);
    stage.add_file("web", GPU, &file);
    stage.open();
    stage
}

/// The first process of a part of the service "web", if it runs.
fn find(stage: &Stage, part: &str) -> Option<Run> {
    let project = stage.project("web");
    let mark = if part == "web" { project } else { format!("{part}.{project}") };
    witness::run(&mark)
}

/// The same, which must run. An engine says that a program runs when it lets it begin, a moment
/// before the program is there.
#[track_caller]
fn run(stage: &Stage, part: &str) -> Run {
    until(|| find(stage, part), || format!("'{part}' does not run"))
}

pub(crate) fn parts_start_when_what_they_need_is_there_and_stop_with_it(
    engine: &'static Containers,
) {
    let stage = stage(engine);
    let container = |part: &str| format!("{}-{part}-1", stage.project("web"));
    thread::scope(|scope| {
        let start = scope.spawn(|| stage.started("web"));
        run(&stage, "db");
        let now = stage.status("web");
        assert_eq!(now["status"], "starting", "{now}");
        assert_eq!(find(&stage, "web"), None, "the database is not healthy yet");
        engine.by_hand(&["exec", &container("db"), "touch", "/data/ready"]);
        let answer = start.join().expect("an answer");
        assert_eq!(answer["status"], "running");
    });
    run(&stage, "web");
    let now = stage.until("web", |now| now["ready"] == true);
    let parts: Vec<_> = now["containers"].as_array().expect("a list").iter().collect();
    let part = |name: &str| -> &Value {
        parts.iter().find(|part| part["part"] == name).unwrap_or_else(|| panic!("no '{name}'"))
    };
    assert_eq!(
        (&part("db")["state"], &part("db")["health"]),
        (&json!("running"), &json!("healthy"))
    );
    assert_eq!((&part("job")["state"], &part("job")["exit_code"]), (&json!("exited"), &json!(0)));
    assert_eq!((&now["status"], &now["ready"]), (&json!("running"), &json!(true)), "{now}");
    let logs = "db-1   | storing\njob-1  | done\nweb-1  | serving\nweb-1  | made of old\n";
    until(
        || (sorted(&stage.logs("web", "")["logs"]) == sorted(&json!(logs))).then_some(()),
        || format!("it says {}", stage.logs("web", "")["logs"]),
    );

    // A part that is down is completed, and the others are left alone.
    let database = run(&stage, "db");
    engine.by_hand(&["stop", &container("web")]);
    let partly = stage.becomes("web", "unhealthy");
    assert_eq!((&partly["is_running"], &partly["ready"]), (&json!(true), &json!(false)));
    stage.started("web");
    run(&stage, "web");
    assert_eq!(run(&stage, "db"), database);

    stage.stop("web", "").expect(200);
    stage.ends_with(&[]);
    stage.started("web");
    stage.ends_with(&["web"]);
    stage.stop("web", r#"{"remove": true}"#).expect(200);
    assert!(!engine.keeps(&stage, "web"));
    let volume = format!("{}_data", stage.project("web"));
    engine.by_hand(&["volume", "inspect", &volume]);
    // With the volume there is still what was in it: nobody has to say that it is ready.
    stage.started("web");
    stage.ends_with(&["web"]);
}

/// Lines of different containers have no order.
fn sorted(log: &Value) -> Vec<String> {
    let mut lines: Vec<_> = log.as_str().expect("it is text").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What others do to containers, on engines where they can.
pub(crate) fn b16_what_is_done_by_hand_is_seen(engine: &'static Containers) {
    let mut stage = Stage::new(engine);
    stage.add("web", "", &Program::idle());
    stage.open();
    stage.started("web");
    let name = stage.container("web");
    engine.by_hand(&["stop", &name]);
    // Podman does not tell that it was asked to: then it is taken for a failure.
    stage.sees("web", |now| now["is_running"] == false && now["holds_gpu"] == false);
    engine.by_hand(&["start", &name]);
    stage.sees("web", |now| now["status"] == "running");
    assert_eq!(stage.holder(), "web");
    engine.by_hand(&["kill", &name]);
    stage.sees("web", |now| now["is_running"] == false && now["holds_gpu"] == false);
    stage.started("web");
    engine.by_hand(&["pause", &name]);
    stage.sees("web", |now| now["containers"][0]["state"] == "paused");
    assert_eq!(stage.holder(), "web", "what is paused keeps its memory");
    engine.by_hand(&["unpause", &name]);
    stage.sees("web", |now| now["containers"][0]["state"] == "running");
    // As above, Podman may have been seen to end it first.
    engine.by_hand(&["rm", "--force", &name]);
    let now = stage.sees("web", |now| now["containers"] == json!([]));
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(false), &json!(false)), "{now}");
    stage.started("web");
    stage.ends_with(&["web"]);
}
