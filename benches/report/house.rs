//! Service directories in a temporary place, and a nanny that looks after them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::numbers::now;

/// Nothing takes as long as that unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// What each service is: it runs until it is told to stop, and stops at once.
const COMPOSE: &str = "\
services:
  main:
    image: nanny-test/busybox:1
    init: true
    command: [sleep, '86400']
";

#[derive(Debug)]
pub(crate) struct House {
    directory: TempDir,
    /// In the names of all services, so that they are nobody else's on this engine.
    tag: String,
    nanny: Option<Child>,
    address: String,
}

impl House {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("nanny-bench-").tempdir();
        let directory = directory.expect("a temporary directory");
        fs::create_dir(directory.path().join("services")).expect("it is new");
        let tag = format!("bench{}", std::process::id());
        Self { directory, tag, nanny: None, address: String::new() }
    }

    pub(crate) fn services(&self) -> PathBuf {
        self.directory.path().join("services")
    }

    /// The full name of a service, which is that of its directory and its project.
    pub(crate) fn name(&self, service: &str) -> String {
        format!("{}-{service}", self.tag)
    }

    pub(crate) fn home(&self, service: &str) -> PathBuf {
        self.services().join(self.name(service))
    }

    /// Adds a service; `manifest` is what follows its name there.
    pub(crate) fn add(&mut self, service: &str, manifest: &str) {
        let home = self.home(service);
        fs::create_dir(&home).expect("it is new");
        fs::write(home.join("docker-compose.yml"), COMPOSE).expect("it is ours");
        let manifest = format!("name: {}\n{manifest}", self.name(service));
        fs::write(home.join("service.yaml"), manifest).expect("it is ours");
    }

    /// Adds many services, of which every second one needs the GPU.
    pub(crate) fn fill(&mut self, services: usize) {
        for index in 0..services {
            let gpu = index % 2 == 0;
            let manifest = format!(
                "description: What it does, in a sentence\nversion: 1.0.0\ngpu_required: {gpu}\n\
                 vram_gb: 8\ntags: [one, two]\nports: ['8000:8000']\n\
                 health_endpoint: http://localhost:8000/health\n"
            );
            self.add(&index.to_string(), &manifest);
        }
    }

    /// Starts the nanny, and waits until it serves.
    pub(crate) fn open(&mut self) {
        let path = self.directory.path().join("nanny.log");
        let log = File::create(&path).expect("it is ours");
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NANNY_") {
                command.env_remove(name);
            }
        }
        let nanny = command
            .args([
                "serve",
                "--backend",
                "docker",
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .arg("--services")
            .arg(self.services())
            .arg("--state-dir")
            .arg(self.directory.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.nanny = Some(nanny.expect("the nanny was built: see scripts/bench"));
        self.address = until("the nanny serves", || listens(&path));
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The number of the nanny's process.
    pub(crate) fn process(&self) -> u32 {
        self.nanny.as_ref().expect("it was opened").id()
    }

    /// Asks the nanny about a service.
    pub(crate) fn ask(&self, method: &str, service: &str, rest: &str, body: &str) -> Answer {
        let path = format!("/services/{}{rest}", self.name(service));
        http::server(&self.address, method, &path, body).expect("the nanny answers")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut nanny) = self.nanny.take() {
            let _ = nanny.kill();
            let _ = nanny.wait();
        }
        // What a run that broke off leaves behind, too.
        let Ok(filters) = http::engine("GET", "/containers/json?all=1", "") else { return };
        for container in filters.json().as_array().into_iter().flatten() {
            let named =
                |name: &Value| name.as_str().is_some_and(|name| name[1..].starts_with(&self.tag));
            if container["Names"].as_array().is_some_and(|names| names.iter().any(named)) {
                let id = container["Id"].as_str().unwrap_or_default();
                let _ = http::engine("DELETE", &format!("/containers/{id}?force=1&v=1"), "");
            }
        }
        let Ok(networks) = http::engine("GET", "/networks", "") else { return };
        for network in networks.json().as_array().into_iter().flatten() {
            let name = network["Name"].as_str().unwrap_or_default();
            if name.starts_with(&self.tag) {
                let _ = http::engine("DELETE", &format!("/networks/{name}"), "");
            }
        }
    }
}

/// The nanny that was built with this program.
pub(crate) fn binary() -> PathBuf {
    let this = std::env::current_exe().expect("it runs");
    let profile = this.parent().and_then(Path::parent).expect("it is in target/*/deps");
    profile.join("nanny")
}

/// The address that a log names.
fn listens(log: &Path) -> Option<String> {
    let said = fs::read_to_string(log).ok()?;
    said.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["fields"]["listen"].as_str().map(str::to_owned)
    })
}

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "not yet: {what}");
        pause(Duration::from_millis(20));
    }
}

pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "other processes are waited for")]
    sleep(time);
}
