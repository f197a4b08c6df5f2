//! `nanny demo`: the server on services of its own, where there is no engine at all.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{Running, nanny, not_tested, text};

const SERVICES: [&str; 5] =
    ["stable-diffusion", "llm-chat", "text-to-speech", "rag-search", "_template"];

/// A place for a demo whose services listen where nobody else does.
struct Stage {
    state: TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { state: tempfile::tempdir().expect("a temporary directory") };
        // A first demo writes the manifests, which are ours to edit then.
        stage.open().end();
        for name in SERVICES {
            let file = stage.services().join(name).join("service.yaml");
            let manifest = fs::read_to_string(&file).expect("the demo wrote it");
            let port = manifest.split("PORT: \"").nth(1).and_then(|rest| rest.split('"').next());
            let port = port.expect("it has a port");
            fs::write(&file, manifest.replace(port, &free_port())).expect("it can be written");
        }
        stage
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = nanny(&["demo", "--listen", "127.0.0.1:0", "--log-format", "json"]);
        command.arg("--state-dir").arg(self.state.path()).args(more);
        command.env_remove("NANNY_DOCKER_HOST");
        command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
        command.env("CONTAINER_HOST", "unix:///nonexistent/podman.sock");
        command
    }

    fn open(&self) -> Demo {
        Demo(Running::of(&mut self.command(&[])))
    }

    fn place(&self) -> PathBuf {
        self.state.path().join("demo")
    }

    fn services(&self) -> PathBuf {
        self.place().join("services")
    }

    /// The services that run, by the system's own word.
    fn running(&self) -> Vec<u32> {
        let binary = self.place().join("nanny");
        let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|process: &u32| {
                let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).next().map(text).map(PathBuf::from)
                    == Some(binary.clone())
            })
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in self.running() {
            let _ = Command::new("kill").args(["-s", "KILL", &process.to_string()]).status();
        }
    }
}

struct Demo(Running);

impl Demo {
    fn ask(&self, method: &str, path: &str) -> Value {
        let answer = self.0.ask(method, path, "content-length: 0\r\n");
        let body = answer.split("\r\n\r\n").nth(1).expect("it answers with a body");
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
    }

    fn start(&self, service: &str) {
        let answer = self.ask("POST", &format!("/services/{service}/start"));
        assert_eq!(answer["status"], "running", "{answer}");
    }

    /// Asks it to end, and answers what it had printed.
    fn end(mut self) -> String {
        self.0.signal("INT");
        self.ended()
    }

    fn ended(&mut self) -> String {
        assert!(self.0.child.wait().expect("it is our child").success());
        let mut said = String::new();
        let mut output = self.0.child.stdout.take().expect("it is piped");
        output.read_to_string(&mut said).expect("it prints text");
        said
    }
}

/// A port that nobody listens on, and that the system gives to no client.
fn free_port() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_process = (std::process::id() % 100) as u16 * 100;
    loop {
        let port = 10_000 + (of_this_process + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port.to_string();
        }
    }
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn session(demo: &Demo, services: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/readme_session.sh");
    let mut bash = Command::new("bash");
    bash.arg(script).arg(format!("http://{}", demo.0.address)).arg(services);
    let output = bash.stdin(Stdio::null()).output().expect("there is a bash");
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn the_whole_session_of_the_readme_works_where_there_is_no_engine() {
    let curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    if curl.is_err() {
        return not_tested("there is no curl");
    }
    let stage = Stage::new();
    let demo = stage.open();
    let engines = &demo.ask("GET", "/health")["engines"];
    assert_eq!((&engines[0]["name"], &engines[1]), (&"process".into(), &Value::Null));
    let (works, said) = session(&demo, &stage.services());
    assert!(works, "{said}");
    let said = demo.end();
    for service in ["stable-diffusion", "llm-chat", "text-to-speech", "rag-search"] {
        assert!(said.contains(service), "{said}");
    }
    assert!(!said.contains("is taken"), "{said}");
}

#[test]
fn the_end_of_a_demo_is_the_end_of_its_services() {
    let stage = Stage::new();
    for signal in ["INT", "TERM", "HUP"] {
        let mut demo = stage.open();
        demo.start("llm-chat");
        demo.start("text-to-speech");
        eventually("both run", || stage.running().len() == 2);
        demo.0.signal(signal);
        let said = demo.ended();
        assert!(said.contains("stops the services"), "{said}");
        eventually("they have ended", || stage.running().is_empty());
    }
}

#[test]
fn services_that_were_left_running_are_found_again() {
    let stage = Stage::new();
    let demo = Demo(Running::of(&mut stage.command(&["--keep"])));
    demo.start("llm-chat");
    eventually("it runs", || stage.running().len() == 1);
    let before = stage.running();
    assert!(demo.end().contains("leaves the services running"));
    assert_eq!(stage.running(), before);

    // A demo that is killed leaves them, too.
    let mut demo = stage.open();
    let again = demo.ask("POST", "/services/llm-chat/start");
    assert_eq!(again["message"], "Service 'llm-chat' is already running");
    demo.0.child.kill().expect("it is our child");
    demo.0.child.wait().expect("it is our child");
    assert_eq!(stage.running(), before);

    let said = stage.open().end();
    assert!(said.contains("runs already"), "{said}");
    eventually("it has ended", || stage.running().is_empty());
}

#[test]
fn two_demos_of_one_place_do_not_run_beside_each_other() {
    let stage = Stage { state: tempfile::tempdir().expect("a temporary directory") };
    let demo = stage.open();
    let second = stage.command(&[]).output().expect("the binary was built");
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    let first = format!("another nanny uses it (process {})", demo.0.child.id());
    assert!(said.contains(&first) && said.contains("--state-dir"), "{said}");

    // Those of two places, who are not told where to listen, want the same port.
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let mut third = nanny(&["demo", "--listen", &demo.0.address]);
    third.arg("--state-dir").arg(elsewhere.path());
    let third = third.output().expect("the binary was built");
    assert_eq!(third.status.code(), Some(1));
    let said = text(&third.stderr);
    assert!(said.contains("the port is in use") && said.contains("--listen"), "{said}");
    demo.end();
}

#[test]
fn with_a_token_what_is_there_to_try_carries_it() {
    let stage = Stage { state: tempfile::tempdir().expect("a temporary directory") };
    let mut command = stage.command(&[]);
    command.env("NANNY_TOKEN", "0123456789abcdef0123456789abcdef");
    let demo = Demo(Running::of(&mut command));
    assert!(demo.0.get("/services", "").starts_with("HTTP/1.1 401 "));
    let said = demo.end();
    assert!(said.contains("curl -H \"Authorization: Bearer $NANNY_TOKEN\" "), "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
}

#[test]
fn a_port_that_somebody_else_has_is_told() {
    let stage = Stage::new();
    let file = stage.services().join("rag-search/service.yaml");
    let manifest = fs::read_to_string(&file).unwrap();
    let port = manifest.split("PORT: \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let _somebody = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let said = stage.open().end();
    let expected = format!("Port {port} is taken: rag-search cannot start.");
    assert!(said.contains(&expected) && said.contains(file.to_str().unwrap()), "{said}");
    assert_eq!(said.matches("is taken").count(), 1, "{said}");
}

#[test]
fn the_demo_is_shown_to_a_network_with_a_token_only() {
    let state = tempfile::tempdir().unwrap();
    let mut command = nanny(&["demo", "--listen", "0.0.0.0:0", "--state-dir"]);
    let output = command.arg(state.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("set NANNY_TOKEN") && !said.contains("--token-file"), "{said}");
}

#[test]
fn a_model_of_the_demo_takes_a_moment_to_load() {
    let stage = Stage::new();
    let file = stage.services().join("llm-chat/service.yaml");
    let manifest = fs::read_to_string(&file).unwrap();
    let slow = manifest.replace("LOAD_SECONDS: \"1.5\"", "LOAD_SECONDS: \"3600\"");
    assert_ne!(slow, manifest);
    fs::write(&file, slow).unwrap();
    let demo = stage.open();
    demo.start("llm-chat");
    let status = || demo.ask("GET", "/services/llm-chat/status");
    let mut now = Value::Null;
    // Before it listens, it refuses connections.
    eventually("it was found to be loading", || {
        now = status();
        now["health"]["reason"].as_str().is_some_and(|reason| reason.contains("503"))
    });
    assert_eq!((&now["status"], &now["is_healthy"]), (&"running".into(), &false.into()), "{now}");
    demo.end();
    eventually("it has ended", || stage.running().is_empty());
}
