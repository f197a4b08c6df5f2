//! Engines that go away and come back.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nanny_testkit::proxy::{Endpoint, Fault, Line, Proxy, Requests};
use serde_json::{Value, json};

use crate::containers::{Containers, PODMAN};
use crate::house::until;
use crate::kind::{Kind, Program};
use crate::processes::{PROCESS, signal};
use crate::stage::Stage;

const FORCE: &str = r#"{"force": true}"#;

fn three(engine: &'static Containers) -> Stage {
    let mut stage = Stage::new(engine);
    for service in ["web", "rival", "plain"] {
        stage.add(service, "", &Program::idle());
    }
    stage
}

fn open_at(stage: &mut Stage, engine: &Containers, host: &str) {
    stage.open_with(|command| {
        command.args([engine.host_flag(), host]);
    });
    stage.until("web", |now| now["status"] == "stopped");
    stage.started("web");
    stage.started("plain");
}

#[track_caller]
fn is_out_of_reach(stage: &Stage) {
    let now = stage.sees("web", |now| now["status"] == "unknown");
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    assert!(now["stale_since"].is_string(), "{now}");
    let health = stage.get("/health");
    assert_eq!(
        (&health["status"], &health["engines"][0]["state"]),
        (&json!("healthy"), &json!("down"))
    );
    for (request, body) in [("rival/start", FORCE), ("web/stop", ""), ("plain/start", "")] {
        let answer = stage.ask("POST", &format!("/services/{request}"), body);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert_eq!(answer.expect(503)["code"], "engine_unavailable", "{request}");
    }
}

#[track_caller]
fn is_back(stage: &Stage) {
    for service in ["web", "plain"] {
        stage.until(service, |now| now["status"] == "running" && now["stale_since"].is_null());
    }
    assert_eq!(stage.start("rival", "").expect(409)["conflicts"], json!(["web"]));
}

pub(crate) fn b1_an_engine_out_of_reach_is_said_so_and_nothing_is_lost(
    engine: &'static Containers,
) {
    let mut stage = three(engine);
    let socket = Endpoint::unix(stage.directory().join("engine.sock"));
    let line = Proxy::start(&socket, Endpoint::unix(engine.socket())).expect("it can listen");
    open_at(&mut stage, engine, &line.endpoint().to_string());
    let run = stage.run("web");
    line.line(Line::HangUp);
    is_out_of_reach(&stage);
    line.line(Line::Open);
    is_back(&stage);
    assert_eq!(stage.run("web"), run);

    // While nobody looks, it ends.
    line.line(Line::HangUp);
    stage.sees("web", |now| now["status"] == "unknown");
    engine.stop_by_hand(&stage, "web");
    line.line(Line::Open);
    stage.sees("web", |now| now["status"] != "unknown" && now["is_running"] == false);
    stage.start("rival", FORCE).expect(200);
    stage.ends_with(&["plain", "rival"]);
}

/// Some engines answer no list while they start a container, and a start may take long.
pub(crate) fn b4_who_waits_for_a_start_waits_on_while_no_list_is_answered(
    engine: &'static Containers,
) {
    let mut stage = three(engine);
    let socket = Endpoint::unix(stage.directory().join("engine.sock"));
    let line = Proxy::start(&socket, Endpoint::unix(engine.socket())).expect("it can listen");
    open_at(&mut stage, engine, &line.endpoint().to_string());
    stage.stop("web", "").expect(200);
    let api = if engine.name() == "podman" { "/libpod" } else { "" };
    let on_containers = |method, path| Requests::new(method, &format!("{api}/containers/{path}"));
    let slow = Fault::HoldReply(Duration::from_secs(15));
    let started = line.once(on_containers("POST", "*/start"), slow);
    thread::scope(|scope| {
        // Nobody is to ask again.
        let start = scope.spawn(|| stage.ask("POST", "/services/web/start", ""));
        until(|| (started.count() == 1).then_some(()), || "it is never asked to start".to_owned());
        let silent = line.always(on_containers("GET", "json"), Fault::Swallow);
        // The first was waited for as long as any.
        until(|| (silent.count() > 1).then_some(()), || "it is never asked again".to_owned());
        assert_eq!(stage.get("/health")["engines"][0]["state"], "down");
        line.clear();
        start.join().expect("an answer").expect(200);
    });
    stage.ends_with(&["plain", "web"]);
}

/// A Podman service of our own, over the same containers as the one that was there.
struct Service {
    socket: PathBuf,
    process: Child,
}

impl Service {
    fn boot(socket: PathBuf) -> Self {
        // One that was killed leaves its socket behind.
        let _ = fs::remove_file(&socket);
        let process = Command::new("podman")
            .env_remove("CONTAINER_HOST")
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a podman");
        until(|| socket.exists().then_some(()), || "podman never listens".to_owned());
        Self { socket, process }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn b1_a_podman_service_that_is_killed_loses_nothing() {
    let mut stage = three(&PODMAN);
    let mut service = Service::boot(stage.directory().join("podman.sock"));
    let host = format!("unix://{}", service.socket.display());
    open_at(&mut stage, &PODMAN, &host);
    let runs = ["web", "plain"].map(|name| stage.run(name));
    for _ in 0..2 {
        let socket = service.socket.clone();
        drop(service);
        is_out_of_reach(&stage);
        assert_eq!(["web", "plain"].map(|name| stage.run(name)), runs);
        service = Service::boot(socket);
        is_back(&stage);
        assert_eq!(["web", "plain"].map(|name| stage.run(name)), runs);
    }
    // In a swap, at whatever moment that is.
    let client = stage.begin_start("rival", FORCE);
    until(|| (!stage.runs("web")).then_some(()), || "'web' never stops".to_owned());
    let socket = service.socket.clone();
    drop(service);
    drop(client);
    service = Service::boot(socket);
    let settled = |now: &Value| now["status"] != "unknown" && now["stale_since"].is_null();
    stage.until("rival", settled);
    until(
        || (stage.start("rival", FORCE).status == 200).then_some(()),
        || format!("'rival' never starts: {}", stage.status("rival")),
    );
    stage.ends_with(&["plain", "rival"]);
    drop(service);
}

/// Plain processes have no engine that could go away, only what is kept of them.
pub(crate) fn h11_what_is_kept_of_processes_may_vanish_and_they_are_not_lost() {
    let mut stage = Stage::new(&PROCESS);
    for service in ["web", "rival", "plain"] {
        stage.add(service, "", &Program::idle());
    }
    stage.open();
    stage.started("web");
    stage.started("plain");
    let runs = ["web", "plain"].map(|name| stage.run(name));
    let kept = stage.state().join("processes");
    let aside = stage.state().join("aside");
    fs::rename(&kept, &aside).expect("it is there");
    assert_eq!(["web", "plain"].map(|name| stage.run(name)), runs);
    fs::rename(&aside, &kept)
        .or_else(|_| {
            // Somebody has made it anew.
            fs::remove_dir_all(&kept)?;
            fs::rename(&aside, &kept)
        })
        .expect("it is ours");
    stage.kill_nanny();
    for service in ["web", "plain"] {
        stage.until(service, |now| now["status"] == "running" && now["ready"] == true);
    }
    assert_eq!(["web", "plain"].map(|name| stage.run(name)), runs);
    stage.start("rival", FORCE).expect(200);
    stage.ends_with(&["plain", "rival"]);
}

/// Nor have they anything between them and the nanny, but for a shim each.
pub(crate) fn b5_a_shim_that_is_killed_loses_nothing() {
    let stage = Stage::with(&PROCESS, &[("web", Program::idle()), ("rival", Program::idle())]);
    stage.started("web");
    let run = stage.run("web");
    signal(run.parent, "KILL");
    until(
        || Some(stage.run("web").parent).filter(|parent| *parent != run.parent),
        || "its shim is not gone".to_owned(),
    );
    assert_eq!(stage.run("web").pid, run.pid);
    stage.sees("web", |now| now["status"] == "running" && now["stale_since"].is_null());
    assert_eq!(stage.start("rival", "").expect(409)["conflicts"], json!(["web"]));
    let swapped = stage.never_two(|stage| stage.start("rival", FORCE)).expect(200);
    assert_eq!(swapped["stopped"], json!(["web"]));
    stage.ends_with(&["rival"]);
}
