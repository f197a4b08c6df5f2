//! A machine with GPUs, services that use them, and a nanny.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nanny_fake_nvml::{Driver, Machine};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Answer, exchange};
use crate::witness::Witness;

/// Nothing here takes as long as that unless it is broken.
const DEADLINE: Duration = Duration::from_secs(90);

/// Asks until there is an answer, and fails with what `what` says if there never is.
#[track_caller]
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>, what: impl FnOnce() -> String) -> T {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "{}", what());
        pause();
    }
}

pub(crate) fn pause() {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    thread::sleep(Duration::from_millis(20));
}

/// GiB in MiB.
pub(crate) const GIB: u64 = 1024;

/// A machine, its services, and a nanny that may be ended and begun.
pub(crate) struct Stage {
    directory: TempDir,
    pub(crate) driver: Driver,
    pub(crate) machine: Machine,
    flags: Vec<String>,
    nanny: Option<Nanny>,
    services: Vec<&'static str>,
}

struct Nanny {
    child: Child,
    address: String,
}

impl Stage {
    /// A machine with these GPUs, and a nanny with these flags that is not begun yet.
    pub(crate) fn new(machine: Machine, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = directory.path().join("driver");
        fs::create_dir(&place).expect("it is ours");
        fs::create_dir(directory.path().join("services")).expect("it is ours");
        let driver = Driver::install(&place, &machine).expect("Cargo has built the library");
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { directory, driver, machine, flags, nanny: None, services: Vec::new() }
    }

    /// Adds a service that needs so much memory, and takes it on the first GPU that it sees.
    pub(crate) fn service(&mut self, name: &'static str, gib: u64) {
        // As a program does that computes: it takes what is there, and looks at nothing.
        let script = format!(
            "gpu=${{CUDA_VISIBLE_DEVICES:-0}}\n\
             printf '%s {} %s\\n' \"${{gpu%%,*}}\" \"$(cut -d' ' -f22 /proc/$$/stat)\" \
             >\"$CLAIMS/$$\"\n\
             printf %s \"$$\" >\"$CLAIMS/../{name}.pid\"\n\
             exec sleep 86400",
            gib * GIB,
        );
        let manifest = format!(
            "name: {name}\ngpu_required: true\nvram_gb: {gib}\n\
             command: [sh, -c, {script:?}]\nenv: {{CLAIMS: {:?}}}\n",
            self.driver.claims(),
        );
        let place = self.directory.path().join("services").join(name);
        fs::create_dir(&place).expect("it is new");
        fs::write(place.join("service.yaml"), manifest).expect("it is ours");
        self.services.push(name);
    }

    /// Begins a nanny, and waits until it has seen the GPUs, if it measures any.
    pub(crate) fn open(&mut self) {
        let library = self.driver.library();
        let nanny = Nanny::open(self.directory.path(), &library, &self.flags);
        self.nanny = Some(nanny);
        let measures = !self.flags.iter().any(|flag| flag == "--gpu");
        if measures && library.exists() {
            let count = self.machine.gpus.len();
            self.until_gpus(|gpus| gpus["total"] == count);
        }
    }

    /// Kills the nanny without a warning.
    pub(crate) fn kill(&mut self) {
        let mut nanny = self.nanny.take().expect("it runs");
        nanny.child.kill().expect("it is our child");
        nanny.child.wait().expect("it is our child");
    }

    /// Changes the machine.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Machine)) {
        change(&mut self.machine);
        self.driver.set(&self.machine).expect("the script is ours");
    }

    /// Somebody who asks the driver from now on whether a GPU is overrun.
    pub(crate) fn witness(&self) -> Witness {
        let totals = self.machine.gpus.iter().map(|gpu| gpu.total_mib).collect();
        Witness::watch(self.driver.clone(), totals)
    }

    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let nanny = self.nanny.as_ref().expect("it runs");
        nanny.ask(method, target, body).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    pub(crate) fn get(&self, target: &str) -> Value {
        self.ask("GET", target, "").expect(200)
    }

    pub(crate) fn start(&self, service: &str, body: &str) -> Answer {
        self.ask("POST", &format!("/services/{service}/start"), body)
    }

    pub(crate) fn stop(&self, service: &str) {
        self.ask("POST", &format!("/services/{service}/stop"), "").expect(200);
    }

    pub(crate) fn status(&self, service: &str) -> Value {
        self.get(&format!("/services/{service}/status"))
    }

    pub(crate) fn is_running(&self, service: &str) -> bool {
        self.status(service)["is_running"] == true
    }

    /// Waits until the GPUs look as they should, and answers how.
    #[track_caller]
    pub(crate) fn until_gpus(&self, looks: impl Fn(&Value) -> bool) -> Value {
        until(
            || Some(self.get("/gpus")).filter(|gpus| looks(gpus)),
            || format!("the GPUs never look as they should: {}", self.get("/gpus")),
        )
    }

    /// Waits until a service is seen to use so much on a GPU.
    #[track_caller]
    pub(crate) fn until_used(&self, service: &str, gib: u64) {
        until(
            || {
                let status = self.status(service);
                (status["gpus"][0]["used_mib"] == gib * GIB).then_some(())
            },
            || format!("'{service}' is never seen to use {gib} GiB: {}", self.get("/gpus")),
        );
    }

    /// The process that a service is, by its own word.
    pub(crate) fn pid(&self, service: &str) -> u32 {
        let file = self.driver.claims().with_file_name(format!("{service}.pid"));
        until(
            || fs::read_to_string(&file).ok()?.parse().ok(),
            || format!("'{service}' never said who it is"),
        )
    }

    /// All that the nannies have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("it logs there")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Services outlive their nanny, and not their test.
        if let Some(nanny) = &self.nanny {
            for service in &self.services {
                let _ = nanny.ask("POST", &format!("/services/{service}/stop"), "");
            }
        }
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "the nannies' log:\n{log}");
        }
    }
}

impl Nanny {
    fn open(directory: &Path, library: &Path, flags: &[String]) -> Self {
        let log = directory.join("log");
        let file = File::options().append(true).create(true).open(&log).expect("it is ours");
        let before = file.metadata().expect("it is a file").len();
        let mut command = command();
        command.arg("--services").arg(directory.join("services"));
        command.arg("--state-dir").arg(directory.join("state"));
        if !flags.iter().any(|flag| flag == "--gpu") {
            command.arg("--nvml-library").arg(library);
        }
        command.args(flags).stderr(file);
        let child = command.spawn().expect("the binary was built");
        let address = until(|| listens(&log, before), || "it never served".to_owned());
        Self { child, address }
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> std::io::Result<Answer> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let headers = format!("host: {}\r\n", self.address);
        exchange(stream, &format!("{method} {target} HTTP/1.1"), &headers, body)
    }
}

impl Drop for Nanny {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A nanny of plain processes, on a port of its own.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nanny"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NANNY_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--backend", "process"]);
    command.args(["--log-format", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The address that a log names, beyond what stood there before.
fn listens(log: &PathBuf, before: u64) -> Option<String> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::open(log).ok()?;
    file.seek(SeekFrom::Start(before)).ok()?;
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let mut entries = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    entries.find_map(|entry| entry["fields"]["listen"].as_str().map(str::to_owned))
}

/// A process that is no service's.
pub(crate) struct Stranger(Child);

impl Stranger {
    pub(crate) fn new() -> Self {
        let command = Command::new("sleep").arg("86400").stdin(Stdio::null()).spawn();
        Self(command.expect("there is a sleep"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
