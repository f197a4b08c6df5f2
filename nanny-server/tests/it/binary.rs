//! The command `nanny` itself.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

pub(crate) fn nanny(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nanny"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NANNY_") {
            command.env_remove(name);
        }
    }
    command.env("NANNY_DOCKER_HOST", "unix:///nonexistent/docker.sock");
    command.env("CONTAINER_HOST", "unix:///nonexistent/podman.sock");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().expect("the binary was built")
}

/// Says that a test could not run; fails where somebody counts on it.
#[track_caller]
pub(crate) fn not_tested(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {why}");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that runs, killed at the latest when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// Its lines. They are read all the time: it would wait for who does not.
    log: Receiver<String>,
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(state: &Path, more: impl FnOnce(&mut Command)) -> Self {
        let services = state.join("services");
        fs::create_dir_all(&services).expect("a temporary directory");
        let mut command = nanny(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
        command.arg("--services").arg(services).arg("--state-dir").arg(state.join("state"));
        more(&mut command);
        Self::of(&mut command)
    }

    /// The server that a command comes to be.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary was built");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (tell, log) = channel();
        std::thread::spawn(move || lines.all(|line| tell.send(line.expect("UTF-8")).is_ok()));
        let address = loop {
            let line = log.recv().expect("it ended before it served");
            let entry: Value = serde_json::from_str(&line).expect("log lines are JSON");
            if let Some(address) = entry["fields"]["listen"].as_str() {
                break address.to_owned();
            }
        };
        Self { child, log, address }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("there is a kill");
        assert!(sent.success());
    }

    fn wait_for_log(&mut self, text: &str) {
        let found = self.log.iter().any(|line| line.contains(text));
        assert!(found, "it ended without {text}");
    }

    /// The exit code, and the rest of the log.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        let log: Vec<_> = self.log.iter().collect();
        let log = log.join("\n");
        (self.child.wait().expect("it is our child").code(), log)
    }

    pub(crate) fn get(&self, target: &str, headers: &str) -> String {
        self.ask("GET", target, headers)
    }

    pub(crate) fn ask(&self, method: &str, target: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let address = &self.address;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_knows_its_version() {
    let output = run(&mut nanny(&["--version"]));
    assert_eq!(text(&output.stdout), concat!("nanny ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn it_refuses_to_be_open_to_the_network() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let output = run(&mut nanny(&["serve", "--listen", address]));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("without a token"), "{}", text(&output.stderr));
    }
}

#[test]
fn l4_a_signal_ends_it_though_a_connection_is_open() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Running::start(directory.path(), |_| {});
        assert!(running.get("/health", "").contains("\"status\":\"healthy\""));
        let mut open = TcpStream::connect(&running.address).unwrap();
        open.write_all(b"GET /health HT").unwrap();
        running.signal(signal);
        let (code, log) = running.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("shutting down"), "{log}");
    }
}

#[test]
fn a6_a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path(), |_| {});
    let mut stream = TcpStream::connect(&running.address).unwrap();
    let address = &running.address;
    let head = format!(
        "POST /rediscover HTTP/1.1\r\nhost: {address}\r\ncontent-length: 9\r\n\
         expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It says so when it begins to read the rest, which then does not come.
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(said[..13], *b"HTTP/1.1 100 ");
    running.signal("TERM");
    running.wait_for_log("shutting down");
    running.signal("INT");
    let (code, log) = running.wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

#[test]
fn empty_variables_are_no_values() {
    let mut command = nanny(&["check", "/nonexistent"]);
    for name in ["NANNY_HOME", "NANNY_LOG_FORMAT", "NANNY_LOG_LEVEL"] {
        command.env(name, "");
    }
    assert!(text(&run(&mut command).stderr).contains("0 services, 1 error"));
}

#[test]
fn e12_g7_a_token_is_asked_for_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path(), |command| {
        command.env("NANNY_TOKEN", "canary-token").args(["--log-level", "trace"]);
    });
    assert!(running.get("/health", "").starts_with("HTTP/1.1 401"));
    let asked = running.get("/health?token=canary-token", "");
    assert!(asked.starts_with("HTTP/1.1 401") && !asked.contains("canary"));
    let headers = "x-request-id: find-me\r\nauthorization: Bearer canary-token\r\n";
    assert!(running.get("/health", headers).starts_with("HTTP/1.1 200"));
    running.signal("TERM");
    let (_, log) = running.wait();
    assert!(!log.contains("canary"), "{log}");
    assert!(log.contains("find-me"), "the request's id is in its log lines: {log}");
}

#[test]
fn check_passes_what_is_sound_and_names_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(nanny(&["check"]).arg(directory.path()));
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.contains("0 services, 0 errors") && said.contains("service.yaml"), "{said}");

    let good = directory.path().join("good");
    fs::create_dir(&good).unwrap();
    fs::write(good.join("service.yaml"), "name: good\n").unwrap();
    fs::write(good.join("docker-compose.yml"), "services:\n  web:\n    image: busybox\n").unwrap();
    let output = run(nanny(&["check"]).arg(directory.path()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("1 service, 0 errors"), "{}", text(&output.stderr));

    let bad = directory.path().join("bad");
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("service.yaml"), "name: bad\ngpu_required: perhaps\n").unwrap();
    let output = run(nanny(&["check"]).arg(directory.path()));
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("bad/service.yaml:2:"), "{said}");
}

/// A title for the terminal's window, and red letters.
const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{1b}[31m";

#[test]
fn e3_nothing_that_a_file_says_reaches_the_terminal_raw() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("services").join(format!("a{ESCAPES}"));
    fs::create_dir_all(&home).unwrap();
    let manifest = "name: a\n\"\\e]0;owned\\a\": 1\nvram_gb: \"\\e[31m\"\n";
    fs::write(home.join("service.yaml"), manifest).unwrap();
    fs::write(home.join("docker-compose.yml"), "services: {web: {\"\\e[31m\": 1}}\n").unwrap();
    let output = run(nanny(&["check"]).arg(directory.path().join("services")));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("vram_gb") && said.contains("owned"), "{said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");

    for format in ["text", "json"] {
        let state = directory.path().join(format!("{format}{ESCAPES}"));
        let mut command = nanny(&["serve", "--listen", "127.0.0.1:0", "--log-level", "trace"]);
        command.args(["--log-format", format, "--services"]).arg(directory.path().join("services"));
        let mut child = command.arg("--state-dir").arg(state).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("serving") {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "{said}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        log.read_to_string(&mut said).unwrap();
        assert!(said.contains("vram_gb") && said.contains("owned"), "{said}");
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
    }
}

#[test]
fn s5_check_shows_no_value() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("web");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("service.yaml"), "name: web\nenv_file: [own.env]\n").unwrap();
    fs::write(home.join(".env"), "PORT=canary\nOPEN='canary\n").unwrap();
    fs::write(home.join("own.env"), "TAG=canary\n").unwrap();
    let compose = "services:\n  web:\n    image: 'a:$TAG'\n    ports: ['$PORT', '$INHERITED:1']\n    \
                   mem_limit: $INHERITED\n    restart: ${INHERITED}\n    environment: canary\n";
    fs::write(home.join("docker-compose.yml"), compose).unwrap();
    let output = run(nanny(&["check"]).arg(directory.path()).env("INHERITED", "canary"));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("services.web.") && said.contains(".env:2:"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}
