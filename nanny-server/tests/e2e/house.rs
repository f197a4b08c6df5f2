//! A house: service directories, and a nanny that looks after them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::engine;
use crate::http::{Answer, exchange};

/// Nothing here takes as long as that unless it is broken.
const DEADLINE: Duration = Duration::from_secs(90);

/// Says something that is read even if the test passes.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// So soon what others do must be seen: the contract says 5 s, and this machine has other work.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// Asks until there is an answer, and fails with what `what` says if there never is.
#[track_caller]
pub(crate) fn until<T>(ask: impl FnMut() -> Option<T>, what: impl FnOnce() -> String) -> T {
    within(DEADLINE, ask, what)
}

#[track_caller]
fn within<T>(
    limit: Duration,
    mut ask: impl FnMut() -> Option<T>,
    what: impl FnOnce() -> String,
) -> T {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < limit, "{}", what());
        pause();
    }
}

/// The time between two looks at something that another process does.
pub(crate) fn pause() {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    std::thread::sleep(Duration::from_millis(50));
}

/// A port that nobody listens on, and that the system gives to no client.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_process = (std::process::id() % 100) as u16 * 100;
    loop {
        let port = 20_000 + (of_this_process + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A Compose file with one service, `web`, that runs `script` and has `more` lines of its own.
pub(crate) fn web(script: &str, more: &str) -> String {
    let mut file = format!(
        "services:\n  web:\n    image: nanny-test/busybox:1\n    init: true\n    \
         command: [sh, -c, {script:?}]\n"
    );
    for line in more.lines() {
        let _ = writeln!(file, "    {line}");
    }
    file
}

/// What runs until it is stopped, and stops at once.
pub(crate) const IDLE: &str = "echo up; exec sleep 86400";
/// Which dies hard: it ignores a polite request to stop.
pub(crate) const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 1; done";
/// Serves `/health` on port 8000.
pub(crate) const SERVING: &str =
    "mkdir /www; echo fine > /www/health; echo up; exec httpd -f -p 8000 -h /www";
/// Begins every secret of a house: in the environment and the token of its nanny, in the `.env` and
/// the Compose file of its services. Nothing that a nanny says may hold it, in any test.
pub(crate) const CANARY: &str = "hush-7f3a91";

/// A variable that every nanny inherits, and whoever runs Compose by hand has as well.
pub(crate) const INHERITED: (&str, &str) = ("HUSH_D", "hush-7f3a91-inherited");

/// A Compose file with secrets in it, where it says nothing of the kind itself.
fn planted(compose: &str) -> String {
    let image = "    image: nanny-test/busybox:1\n";
    let mut secrets = image.to_owned();
    if !compose.contains("environment") {
        let values =
            format!("{{HUSH_A: {CANARY}-literal, HUSH_B: '${{HUSH}}', HUSH_C: '${{HUSH_D}}'}}");
        let _ = writeln!(secrets, "    environment: {values}");
    }
    if !compose.contains("labels") {
        let _ = writeln!(secrets, "    labels: {{hush: '{CANARY}-label ${{HUSH}}'}}");
    }
    compose.replace(image, &secrets)
}

/// What a service that needs a GPU says.
pub(crate) const GPU: &str = "gpu_required: true\nvram_gb: 8\n";

fn token() -> String {
    format!("{CANARY}-token")
}

/// Service directories, and a nanny that looks after them.
pub(crate) struct House {
    directory: TempDir,
    /// Ends the names of all projects.
    pub(crate) tag: String,
    /// The nanny's binary.
    pub(crate) program: PathBuf,
    projects: Vec<String>,
    nanny: Option<Child>,
    address: String,
    log: PathBuf,
}

impl House {
    /// An empty one, without a nanny as yet; `None` if there is no engine.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        if !engine::answers() {
            return None;
        }
        let directory =
            tempfile::Builder::new().prefix("nanny-e2e-").tempdir().expect("a directory");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let house = Self {
            tag: format!("e2e{}-{number}", std::process::id()),
            program: env!("CARGO_BIN_EXE_nanny").into(),
            projects: Vec::new(),
            nanny: None,
            address: String::new(),
            log: directory.path().join("nanny.log"),
            directory,
        };
        fs::create_dir(house.services()).expect("it is new");
        Some(house)
    }

    /// One with a single service, `web`, and a nanny.
    pub(crate) fn with(manifest: &str, compose: &str) -> Option<Self> {
        let mut house = Self::new()?;
        house.add("web", manifest, compose);
        house.open();
        Some(house)
    }

    /// Where the service directories are.
    pub(crate) fn services(&self) -> PathBuf {
        self.directory.path().join("services")
    }

    /// A service's directory.
    pub(crate) fn home(&self, service: &str) -> PathBuf {
        self.services().join(self.project(service))
    }

    /// The Compose project of a service.
    pub(crate) fn project(&self, service: &str) -> String {
        format!("{service}-{}", self.tag)
    }

    /// The name of a service's container.
    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}-web-1", self.project(service))
    }

    /// Adds a service. `manifest` is what follows its name there.
    pub(crate) fn add(&mut self, service: &str, manifest: &str, compose: &str) {
        self.make_home(service);
        self.write(service, "docker-compose.yml", compose);
        self.manifest(service, manifest);
    }

    /// Adds a service whose manifest says itself what it runs.
    pub(crate) fn add_process(&mut self, service: &str, manifest: &str) {
        self.make_home(service);
        self.manifest(service, manifest);
    }

    fn make_home(&mut self, service: &str) {
        self.projects.push(self.project(service));
        fs::create_dir(self.home(service)).expect("it is new");
        self.write(service, ".env", "");
    }

    /// Writes a service's manifest, less its name.
    pub(crate) fn manifest(&self, service: &str, manifest: &str) {
        let name = self.project(service);
        self.write(service, "service.yaml", &format!("name: {name}\n{manifest}"));
    }

    /// Writes a file of a service, as an editor does: never half of it. Secrets are added where
    /// there may be some.
    pub(crate) fn write(&self, service: &str, file: &str, text: &str) {
        let home = self.home(service);
        let text = match file {
            ".env" => format!("{text}HUSH={CANARY}-dotenv\n"),
            "docker-compose.yml" => planted(text),
            _ => text.to_owned(),
        };
        let new = home.join(format!(".{file}.new"));
        fs::write(&new, text).expect("it is ours");
        fs::rename(new, home.join(file)).expect("it is ours");
    }

    /// Starts the nanny, and waits for its engine, which it serves without.
    pub(crate) fn open(&mut self) {
        self.open_with(|_| {});
        let engine = || self.get("/health")["engines"][0]["state"].clone();
        until(|| (engine() == "up").then_some(()), || format!("the engine is {}", engine()));
    }

    /// Starts the nanny with further settings.
    pub(crate) fn open_with(&mut self, settings: impl FnOnce(&mut Command)) {
        self.open_as(Command::new(&self.program), settings);
    }

    /// Starts the nanny so that it may open so many files.
    pub(crate) fn open_with_files(&mut self, most: usize) {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={most}:{most}")).arg(&self.program);
        self.open_as(command, |_| {});
    }

    fn open_as(&mut self, command: Command, settings: impl FnOnce(&mut Command)) {
        let before = self.log().len();
        self.spawn(command, settings);
        let (nanny, log) = (self.nanny.as_mut().expect("it was just started"), &self.log);
        self.address = until(
            || {
                let said = fs::read_to_string(log).expect("it is ours");
                let ended = nanny.try_wait().expect("it is our child");
                assert!(ended.is_none(), "{ended:?}: {said}");
                let mut lines = said[before..].lines();
                lines.find_map(|line| {
                    let line: Value = serde_json::from_str(line).ok()?;
                    line["fields"]["listen"].as_str().map(str::to_owned)
                })
            },
            || "the nanny never serves".to_owned(),
        );
    }

    /// Starts the nanny with further settings, and does not wait until it serves.
    pub(crate) fn open_unheard(&mut self, settings: impl FnOnce(&mut Command)) {
        self.spawn(Command::new(&self.program), settings);
    }

    fn spawn(&mut self, mut command: Command, settings: impl FnOnce(&mut Command)) {
        assert!(self.nanny.is_none(), "one nanny a house");
        let log = File::options().create(true).append(true).open(&self.log).expect("it is ours");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NANNY_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--services")
            .arg(self.services())
            .arg("--state-dir")
            .arg(self.state())
            .env(INHERITED.0, INHERITED.1)
            .env("NANNY_TOKEN", token())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("it is a file"))
            .stderr(log);
        settings(&mut command);
        self.nanny = Some(command.spawn().expect("the binary was built"));
    }

    /// Where the nanny listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The nanny's process.
    pub(crate) fn process(&self) -> u32 {
        self.nanny.as_ref().expect("there is a nanny").id()
    }

    /// Where the nanny keeps its journal.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// What the nanny has logged, in all its runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends the nanny a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let nanny = self.nanny.as_ref().expect("there is a nanny");
        let sent = Command::new("kill").args(["-s", signal, &nanny.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// Sends the nanny a signal and waits until it is gone; its exit code.
    pub(crate) fn end_with(&mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        let mut nanny = self.nanny.take().expect("it was there just now");
        nanny.wait().expect("it is our child").code()
    }

    /// A connection to the nanny.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        // A start is answered within two minutes.
        stream.set_read_timeout(Some(DEADLINE * 2)).expect("it is a socket");
        stream
    }

    /// A request without a body, as it is sent.
    pub(crate) fn request(&self, method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\n{}connection: close\r\n\r\n", self.headers())
    }

    /// Sends a request as curl does: a body goes as a form, whatever it is.
    ///
    /// A service has the name of its project, so that it is nobody else's on this engine. Here and
    /// in the answer it goes by the name the test gave it.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut answer = self.ask_as_is(method, &self.path(path), body);
        answer.text = answer.text.replace(&format!("-{}", self.tag), "");
        answer
    }

    /// The same, with names as they are.
    #[track_caller]
    pub(crate) fn ask_as_is(&self, method: &str, path: &str, body: &str) -> Answer {
        let form = "content-type: application/x-www-form-urlencoded\r\n";
        let form = if body.is_empty() { "" } else { form };
        let headers = format!("{}{form}", self.headers());
        let answer = exchange(self.connect(), &format!("{method} {path} HTTP/1.1"), &headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let shown = answer.head.contains(CANARY) || answer.text.contains(CANARY);
        assert!(!shown, "a secret shows in the answer to {method} {path}: {answer:?}");
        answer
    }

    /// What the nanny wants to see with every request.
    pub(crate) fn headers(&self) -> String {
        format!("host: {}\r\nauthorization: Bearer {}\r\n", self.address, token())
    }

    fn path(&self, path: &str) -> String {
        match path.strip_prefix("/services/").map(|rest| (rest, rest.find(['/', '?']))) {
            None | Some(("", _)) => path.to_owned(),
            Some((name, None)) => format!("/services/{}", self.project(name)),
            Some((rest, Some(end))) => {
                format!("/services/{}{}", self.project(&rest[..end]), &rest[end..])
            }
        }
    }

    /// Sends a start, and leaves the answer for later.
    pub(crate) fn begin_start(&self, service: &str, body: &str) -> TcpStream {
        self.begin("POST", &format!("/services/{service}/start"), body)
    }

    /// Sends a request on a connection that may have more of them, and leaves the answer for later.
    pub(crate) fn begin(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let path = self.path(path);
        let headers = format!("{}content-length: {}\r\n", self.headers(), body.len());
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\n{body}").expect("it reads");
        stream
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "").expect(200)
    }

    #[track_caller]
    pub(crate) fn start(&self, service: &str, body: &str) -> Answer {
        self.patiently(&format!("/services/{service}/start"), body)
    }

    #[track_caller]
    pub(crate) fn started(&self, service: &str) -> Value {
        self.start(service, "").expect(200)
    }

    #[track_caller]
    pub(crate) fn stop(&self, service: &str, body: &str) -> Answer {
        self.patiently(&format!("/services/{service}/stop"), body)
    }

    /// An engine that is slow just then is found to be out of reach. What it was asked for goes on,
    /// and who asks again joins it: a few times, for it should not be often.
    #[track_caller]
    fn patiently(&self, path: &str, body: &str) -> Answer {
        let mut answer = self.ask("POST", path, body);
        for _ in 0..5 {
            if answer.status != 503 || !answer.text.contains("engine_unavailable") {
                break;
            }
            say(&format!("{}: no engine for {path}", self.tag));
            for _ in 0..20 {
                pause();
            }
            answer = self.ask("POST", path, body);
        }
        answer
    }

    #[track_caller]
    pub(crate) fn status(&self, service: &str) -> Value {
        self.get(&format!("/services/{service}/status"))
    }

    #[track_caller]
    pub(crate) fn logs(&self, service: &str, query: &str) -> Value {
        self.get(&format!("/services/{service}/logs{query}"))
    }

    /// Waits until a service's log is this: what a container says comes after its start.
    #[track_caller]
    pub(crate) fn says(&self, service: &str, log: &str) {
        // Which is no answer while an engine is out of reach.
        let now = || self.ask("GET", &format!("/services/{service}/logs"), "").json();
        until(
            || (now()["logs"] == log).then_some(()),
            || format!("'{service}' says {}, and not {log:?}", now()),
        );
    }

    /// Who has the GPU, as the nanny sees it.
    #[track_caller]
    pub(crate) fn holder(&self) -> Value {
        self.get("/services")["gpu_service_running"].clone()
    }

    /// Waits until a service's status is as `wanted`.
    #[track_caller]
    pub(crate) fn until(&self, service: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.within(DEADLINE, service, wanted)
    }

    /// Waits until the journal has this word for a service: it is written after the answer, on a
    /// disk that may be slow.
    #[track_caller]
    pub(crate) fn notes(&self, service: &str, entry: &str) {
        let read = || fs::read_to_string(self.state().join("journal.json")).unwrap_or_default();
        let line = format!("\"{}\": \"{entry}\"", self.project(service));
        until(|| read().contains(&line).then_some(()), || format!("{line} is not in {}", read()));
    }

    /// Waits until what somebody did by hand is seen (L1).
    #[track_caller]
    pub(crate) fn sees(&self, service: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.within(SEEN_WITHIN, service, wanted)
    }

    #[track_caller]
    fn within(&self, limit: Duration, service: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let ask = || Some(self.status(service)).filter(|now| wanted(now));
        within(limit, ask, || format!("'{service}' stays {}", self.status(service)))
    }

    /// Waits until a service's status is this word.
    #[track_caller]
    pub(crate) fn becomes(&self, service: &str, status: &str) -> Value {
        self.until(service, |now| now["status"] == status)
    }

    /// Waits until a service is found.
    #[track_caller]
    pub(crate) fn appears(&self, service: &str) {
        let path = format!("/services/{service}");
        until(
            || (self.ask("GET", &path, "").status == 200).then_some(()),
            || format!("'{service}' is never found"),
        );
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut nanny) = self.nanny.take() {
            let _ = nanny.kill();
            let _ = nanny.wait();
        }
        // What is left in the state directory is no output, but somebody may send it with a report.
        let state = fs::read_dir(self.state()).into_iter().flatten();
        let state = state.filter_map(|entry| fs::read(entry.ok()?.path()).ok());
        let kept = state.filter(|file| String::from_utf8_lossy(file).contains(CANARY)).count();
        for project in &self.projects {
            engine::clean(project);
        }
        let log = self.log();
        let shown = log.lines().find(|line| line.contains(CANARY));
        if std::thread::panicking() {
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            say(&format!("the nanny of {} said at last:\n{last}", self.tag));
        } else if let Some(line) = shown {
            panic!("a secret shows in what the nanny of {} said: {line}", self.tag);
        } else {
            assert_eq!(kept, 0, "a secret is kept in the state directory of {}", self.tag);
        }
    }
}
