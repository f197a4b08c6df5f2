//! The same folder on Docker and on Podman: whoever talks to the nanny cannot tell which it is.

use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::containers::{Containers, DOCKER, PODMAN};
use crate::house::{free_port, until};
use crate::stage::Stage;

/// Services by name, with their Compose files and what their manifests say.
const FOLDER: [(&str, &str, &str); 12] = [
    ("alone", include_str!("alike/alone.yaml"), ""),
    ("builds", include_str!("alike/builds.yaml"), "description: Builds\ntags: [build]\n"),
    ("failing", include_str!("alike/failing.yaml"), ""),
    ("limits", include_str!("alike/limits.yaml"), "gpu_required: true\nvram_gb: 8\n"),
    ("missing", include_str!("alike/missing.yaml"), ""),
    ("mounts", include_str!("alike/mounts.yaml"), ""),
    ("networks", include_str!("alike/networks.yaml"), ""),
    ("nowhere", include_str!("alike/nowhere.yaml"), ""),
    ("order", include_str!("alike/order.yaml"), ""),
    (
        "serving",
        include_str!("alike/serving.yaml"),
        "health_endpoint: http://localhost:PORT/health\n",
    ),
    ("shared", include_str!("alike/shared.yaml"), ""),
    ("words", include_str!("alike/words.yaml"), "gpu_required: true\nauthor: nobody\n"),
];

const CANNOT_START: [&str; 2] = ["missing", "nowhere"];

pub(crate) fn one_folder_gets_the_same_answers_from_docker_and_from_podman() {
    let [docker, podman] = thread::scope(|scope| {
        [&DOCKER, &PODMAN]
            .map(|engine| scope.spawn(|| Session::of(engine)))
            .map(|session| session.join().expect("a session"))
    });
    let mut differences = String::new();
    assert_eq!(docker.len(), podman.len());
    for (docker, podman) in docker.iter().zip(&podman) {
        if docker != podman {
            differences +=
                &format!("{}\n  docker: {}\n  podman: {}\n", docker.0, docker.1, podman.1);
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

/// What was asked, and what was answered, less what differs from one run to the next.
type Exchange = (String, Value);

/// One run through the folder; takes the image with it that was built.
struct Session {
    stage: Stage,
    /// Where `serving` is published.
    port: u16,
    said: Vec<Exchange>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // There is none if it was never built.
        let image = format!("nanny-test/{}", self.stage.project("builds"));
        let _ = Command::new(self.stage.kind.name()).args(["image", "rm", &image]).output();
    }
}

impl Session {
    /// Everything that is said in a session with `engine`.
    fn of(engine: &'static Containers) -> Vec<Exchange> {
        let port = free_port();
        let mut stage = Stage::new(engine);
        for (service, compose, manifest) in FOLDER {
            stage.add_file(service, &manifest.replace("PORT", &port.to_string()), compose);
            stage.write(service, ".env", &format!("PORT={port}\nHERE=7\n"));
            stage.write(service, "more.env", "MORE=from a file\n");
            stage.write(service, "secret.txt", "a key");
        }
        stage.open();
        let mut session = Self { stage, port, said: Vec::new() };
        session.settles("words", 0);
        session.ask("GET", "/", "");
        session.ask("GET", "/health", "");
        session.ask("GET", "/services", "");
        for (service, ..) in FOLDER {
            session.play(service);
        }
        session.conflict();
        session.ask("POST", "/rediscover", "");
        session.ask("GET", "/services", "");
        std::mem::take(&mut session.said)
    }

    /// The life of one service.
    fn play(&mut self, service: &str) {
        let path = |action: &str| format!("/services/{service}{action}");
        self.ask("GET", &path(""), "");
        self.ask("GET", &path("/plan"), "");
        self.ask("GET", &path("/logs"), "");
        // What fails does so as often as one likes.
        let times = if CANNOT_START.contains(&service) { 1 } else { 2 };
        for run in 1..=times {
            self.ask("POST", &path("/start"), "");
            self.settles(service, run);
            self.ask("GET", &path("/status"), "");
            self.ask("GET", &path("/logs"), "");
            self.ask("GET", &path("/logs?tail=1"), "");
            self.ask("GET", &path("/plan"), "");
            self.ask("POST", &path("/stop"), "");
            self.ask("POST", &path("/stop"), "");
            self.ask("GET", &path("/status"), "");
        }
        self.ask("POST", &path("/stop"), r#"{"remove": true}"#);
        self.ask("GET", &path("/status"), "");
        self.ask("GET", &path("/logs"), "");
        self.ask("GET", &path("/plan"), "");
    }

    /// Two that want the GPU.
    fn conflict(&mut self) {
        for (path, body) in [
            ("/services/words/start", ""),
            ("/services/limits/plan", ""),
            ("/services/limits/plan?force=true", ""),
            ("/services/limits/start", ""),
            ("/services/limits/start", r#"{"force": true}"#),
            ("/services/limits/restart", ""),
            ("/services/limits/start", r#"{"recreate": true}"#),
            ("/services/limits/stop", r#"{"remove": true}"#),
            ("/services/words/stop", r#"{"remove": true}"#),
        ] {
            let method = if path.contains("plan") { "GET" } else { "POST" };
            self.ask(method, path, body);
            self.ask("GET", "/services?gpu=true", "");
        }
    }

    /// Waits until nothing more happens by itself to a service that was started so often.
    fn settles(&self, service: &str, runs: usize) {
        let is_over = |now: &Value| {
            let containers = now["containers"].as_array().expect("a list");
            let busy =
                ["starting", "stopping", "unknown"].iter().any(|word| now["status"] == **word);
            let checks = containers.iter().any(|container| container["health"] == "starting");
            // What is to end has ended, and what is to be healthy is.
            let ends = service == "failing" && now["is_running"] == true;
            // What has nothing to ask is ready before it was asked.
            let is_well = now["ready"] == true && now["health"].is_object();
            !busy && !checks && !ends && (now["is_running"] == false || is_well)
        };
        let now = self.stage.until(service, is_over);
        if now["is_running"] == true {
            // Each part says it in every run.
            let wanted = runs * now["containers"].as_array().map_or(0, Vec::len);
            let path = format!("/services/{service}/logs");
            let logs = || {
                let answer = self.stage.ask("GET", &path, "").json();
                answer["logs"].as_str().unwrap_or_default().to_owned()
            };
            until(
                || (logs().matches("| done").count() == wanted).then_some(()),
                || format!("'{service}' says {}", logs()),
            );
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) {
        let answer = self.stage.ask(method, path, body);
        let mut said = json!({
            "status": answer.status,
            "type": answer.header("content-type"),
            "body": answer.json(),
        });
        self.mask(None, &mut said);
        self.said.push((format!("{method} {path} {body}"), said));
    }

    /// Takes out what differs from one run to the next.
    fn mask(&self, key: Option<&str>, value: &mut Value) {
        const TIMES: [&str; 5] =
            ["uptime", "state_since", "stale_since", "checked_at", "latency_ms"];
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.mask(Some(key), value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(key, item)),
            Value::Null => {}
            _ if key.is_some_and(|key| TIMES.contains(&key) || key == "id") => *value = json!("…"),
            Value::String(text) => *text = self.masked(key, text),
            Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn masked(&self, key: Option<&str>, text: &str) -> String {
        let text = text.replace(&self.port.to_string(), "PORT");
        let engine = self.stage.kind.name();
        match key {
            Some("backend" | "name") if text == engine => "ENGINE".to_owned(),
            // Lines of different containers have no order.
            Some("logs") => {
                let mut lines: Vec<_> = text.lines().collect();
                lines.sort_unstable();
                lines.join("\n")
            }
            // Each engine has its own words for what went wrong.
            Some("detail" | "error") => match text.split_once("could not be started: ") {
                Some((who, why)) => format!("{who}could not be started: {}", gist(why)),
                None => gist(&text),
            },
            _ => text,
        }
    }
}

/// What an engine's words are about.
fn gist(text: &str) -> String {
    let words = ["no-such-program", "nowhere"];
    words.iter().find(|word| text.contains(**word)).map_or(text, |word| word).to_owned()
}
