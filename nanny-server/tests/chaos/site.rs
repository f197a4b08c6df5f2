//! A house on a private engine, with a proxy between the two and a witness beside.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::Duration;

use nanny_testkit::dockerd::{Dockerd, Observer, Survival};
use nanny_testkit::proxy::{Endpoint, Hits, Proxy};
use serde_json::Value;

use crate::engine;
use crate::house::{GPU, House, IDLE, pause, until, web};

/// A start that takes the GPU from whoever holds it.
pub(crate) const FORCE: &str = r#"{"force": true}"#;

/// Ends in this order: the nanny, the witness, the proxy, the engine.
pub(crate) struct Site {
    pub(crate) house: House,
    observer: Observer,
    pub(crate) proxy: Proxy,
    pub(crate) engine: Dockerd,
    services: Vec<String>,
}

impl Site {
    /// One without services and without a nanny; `None` if there can be none here. Services whose
    /// names begin with `plain` need no GPU; all others do.
    pub(crate) fn new(survival: Survival) -> Option<Self> {
        let house = House::new()?;
        let engine = engine::start(survival);
        let socket = Endpoint::unix(house.directory().join("engine.sock"));
        let proxy = Proxy::start(&socket, Endpoint::unix(engine.socket()));
        let observer = Observer::watch(engine.socket(), |project| !project.starts_with("plain"));
        let proxy = proxy.expect("it can listen");
        Some(Self { house, observer, proxy, engine, services: Vec::new() })
    }

    /// One with two services that want the GPU, `gpu` and `rival`, and one that does not, `plain`.
    /// The nanny is up, `gpu` and `plain` run.
    pub(crate) fn with_three(survival: Survival) -> Option<Self> {
        let mut site = Self::new(survival)?;
        site.add("gpu", &web(IDLE, ""));
        site.add("rival", &web(IDLE, ""));
        site.add("plain", &web(IDLE, ""));
        site.open();
        site.runs_now("gpu");
        site.runs_now("plain");
        Some(site)
    }

    pub(crate) fn add(&mut self, service: &str, compose: &str) {
        let manifest = if service.starts_with("plain") { "" } else { GPU };
        self.house.add(service, manifest, compose);
        self.services.push(service.to_owned());
    }

    /// Starts the nanny, with the proxy as its engine.
    pub(crate) fn open(&mut self) {
        self.open_with(|_| {});
    }

    pub(crate) fn open_with(&mut self, settings: impl FnOnce(&mut Command)) {
        let host = self.proxy.endpoint().to_string();
        self.house.open_with(|command| {
            command.args(["--backend", "docker", "--docker-host", &host]);
            settings(command);
        });
    }

    /// Starts a service, and has it running.
    #[track_caller]
    pub(crate) fn runs_now(&self, service: &str) {
        self.house.started(service);
        self.house.until(service, |now| now["status"] == "running");
    }

    /// Has a service take the GPU from whoever holds it.
    #[track_caller]
    pub(crate) fn takes_over(&self, service: &str) {
        self.house.start(service, FORCE).expect(200);
    }

    /// Kills the nanny, which nobody starts again.
    pub(crate) fn kill_nanny(&mut self) {
        self.house.end_with("KILL");
    }

    /// The nanny's process.
    pub(crate) fn nanny(&self) -> u32 {
        let ours = fs::read_dir("/proc/self/task").expect("it is there").flatten();
        let children = ours.map(|task| fs::read_to_string(task.path().join("children")));
        let children = children.flatten().collect::<Vec<_>>().join(" ");
        let state = self.house.directory().join("state").display().to_string();
        let is_it = |pid: &&str| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split('\0').any(|word| word == state)
        };
        let found = children.split_whitespace().find(is_it).expect("there is a nanny");
        found.parse().expect("a number")
    }

    pub(crate) fn signal_nanny(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.nanny().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// How many descriptors the nanny has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.nanny())).expect("it runs").count()
    }

    /// What the engine says of a service's container, if it has one.
    pub(crate) fn find(&self, service: &str) -> Option<Value> {
        let path = format!("/containers/{}/json", self.house.container(service));
        let answer = self.engine.get(&path, PATIENCE).expect("the engine answers");
        (answer.status == 200).then(|| answer.json())
    }

    #[track_caller]
    pub(crate) fn inspect(&self, service: &str) -> Value {
        self.find(service).unwrap_or_else(|| panic!("'{service}' has no container"))
    }

    /// Whether the engine says that a service's container runs.
    pub(crate) fn runs(&self, service: &str) -> bool {
        self.find(service).is_some_and(|found| found["State"]["Running"] == true)
    }

    /// What tells one run of a container from another.
    #[track_caller]
    pub(crate) fn run(&self, service: &str) -> (Value, Value) {
        let found = self.inspect(service);
        (found["Id"].clone(), found["State"]["StartedAt"].clone())
    }

    /// How many containers a service has.
    pub(crate) fn containers(&self, service: &str) -> usize {
        let filter = format!("label=com.docker.compose.project={}", self.house.project(service));
        let ids = self.docker(&["ps", "--all", "--quiet", "--filter", &filter]);
        ids.lines().count()
    }

    /// Kills a service's main process, behind everybody's back.
    #[track_caller]
    pub(crate) fn crash(&self, service: &str) {
        let pid = self.inspect(service)["State"]["Pid"].as_u64().expect("it runs");
        self.engine
            .kill_inside(u32::try_from(pid).expect("a number of a process"))
            .expect("it runs");
    }

    /// Says that a service may come up, started by others, beside whoever holds the GPU.
    pub(crate) fn by_hand(&self, service: &str) {
        self.observer.by_hand(&self.house.project(service));
    }

    /// Runs `docker` by hand.
    #[track_caller]
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        self.engine.docker(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs `docker compose` by hand in a service's directory.
    #[track_caller]
    pub(crate) fn compose(&self, service: &str, arguments: &[&str]) -> String {
        let arguments = [&["compose"], arguments].concat();
        let mut command = self.engine.docker_command(&arguments);
        let output = command.current_dir(self.house.home(service)).output();
        let output = output.expect("there is a docker command");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Something that listens inside, on `port` of the engine's loopback, and never says anything.
    pub(crate) fn silent_listener(&self, port: u16) -> Inside {
        let mut command = self.engine.inside("busybox");
        command.args(["nc", "-ll", "-p", &port.to_string(), "-e", "sleep", "600"]);
        let listener = Inside(command.spawn().expect("there is a busybox"));
        let (address, listening) = (format!(":{port:04X} "), " 0A ");
        let listens = || {
            let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
            let read = self.engine.inside("cat").args(tables).output().expect("there is a cat");
            let found = String::from_utf8_lossy(&read.stdout)
                .lines()
                .any(|line| line.contains(&address) && line.contains(listening));
            found.then_some(())
        };
        until(listens, || format!("nobody listens on {port} inside"));
        listener
    }

    /// Ends the engine with `signal`, starts it again, and waits until it answers.
    pub(crate) fn restart_engine(&mut self, signal: &str) {
        self.engine.end(signal).unwrap_or_else(|error| panic!("{error}"));
        self.boot_engine();
    }

    pub(crate) fn boot_engine(&mut self) {
        self.engine.boot().unwrap_or_else(|error| panic!("{error}"));
        self.engine.wait().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until the nanny says what the engine says, of every service, and has nothing more to do.
    #[track_caller]
    pub(crate) fn settles(&self) {
        for service in &self.services {
            self.house.until(service, |now| {
                let busy = ["starting", "stopping", "unknown"].iter().any(|s| now["status"] == **s);
                let right = now["is_running"] == self.runs(service);
                let claims = service.starts_with("plain") || now["holds_gpu"] == now["is_running"];
                !busy && right && claims && now["stale_since"].is_null()
            });
        }
    }

    /// Waits until what somebody did to a service is seen.
    #[track_caller]
    pub(crate) fn sees(&self, service: &str, running: bool) {
        self.house.sees(service, |now| {
            now["is_running"] == running
                && now["status"] != "unknown"
                && now["stale_since"].is_null()
        });
    }

    /// Waits until the nanny has asked its engine for something so often.
    #[track_caller]
    pub(crate) fn asks(&self, request: &str, times: usize) {
        let asked = || self.proxy.requests().iter().filter(|asked| *asked == request).count();
        until(
            || (asked() >= times).then_some(()),
            || format!("it asked for '{request}' {} times, not {times}", asked()),
        );
    }

    /// Whether something is in the journal about a service.
    fn is_written_down(&self, service: &str) -> bool {
        let journal = fs::read_to_string(self.house.state().join("journal.json"));
        journal.unwrap_or_default().contains(&self.house.project(service))
    }

    /// Waits until what should be with a service is in the journal: a disk may be slower than an
    /// engine.
    #[track_caller]
    pub(crate) fn writes_down(&self, service: &str) {
        let written = || self.is_written_down(service).then_some(());
        until(written, || format!("'{service}' is not written down"));
    }

    /// Waits until nothing is in the journal about a service.
    #[track_caller]
    pub(crate) fn strikes_out(&self, service: &str) {
        let struck_out = || (!self.is_written_down(service)).then_some(());
        until(struck_out, || format!("'{service}' is still written down"));
    }

    /// What the witness has to say in the end: never two, and which services are up.
    #[track_caller]
    pub(crate) fn ends_with(&self, services: &[&str]) {
        let wanted: BTreeSet<_> = services.iter().map(|s| self.house.project(s)).collect();
        let up = || {
            let last = self.observer.last()?;
            Some(last.up.into_keys().collect::<BTreeSet<_>>())
        };
        let before = self.observer.looks();
        until(
            || (self.observer.looks() > before + 1 && up() == Some(wanted.clone())).then_some(()),
            || format!("the engine has {:?} up, not {wanted:?}", up()),
        );
        let two = self.observer.two_at_once();
        assert!(two.is_empty(), "two at once: {two:?}");
        self.settles();
    }
}

/// A process beside the engine; ends with its value.
pub(crate) struct Inside(Child);

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of the answer to a request that was begun.
pub(crate) fn answered(client: TcpStream) -> u16 {
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).expect("there is an answer");
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// Waits until a fault has struck so often.
#[track_caller]
pub(crate) fn struck(hits: &Hits, times: u32) {
    until(
        || (hits.count() >= times).then_some(()),
        || format!("it struck {} times, not {times}", hits.count()),
    );
}

/// Waits for so long: where what must not happen has to be given the time to happen.
pub(crate) fn for_a_while(time: Duration) {
    for _ in 0..time.as_millis() / 50 {
        pause();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
