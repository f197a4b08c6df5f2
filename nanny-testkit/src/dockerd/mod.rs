//! A Docker Engine that belongs to one test, which may do to it as it likes: kill it, freeze it,
//! cut it off, and start it again.
//!
//! Each has PID, mount and network namespaces of its own. What it starts cannot be seen from other
//! engines, nor can it take anything from them; and when the [`Dockerd`] is dropped, or its process
//! dies of whatever, the kernel ends all of it: engine, shims, containers, mounts, bridges. The
//! price is that published ports cannot be reached from outside.
//!
//! It takes root, `dockerd`, and util-linux. Everything here blocks.
//!
//! [`Observer`] is the witness: it asks the engine, and nobody else, what runs.

#![expect(clippy::disallowed_methods, reason = "other processes are waited for, in real time")]

mod http;
mod observer;
mod process;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use self::http::{Answer, ask};
pub use self::observer::{Look, Observer};

use self::process::{children, remove_cgroups, run, signal};

/// A private Docker Engine. See the [module](self).
#[derive(Debug)]
pub struct Dockerd {
    folder: PathBuf,
    tag: String,
    /// Holds the namespaces, and ends when we do: it waits for its standard input to end.
    namespaces: Child,
    /// The first process in there.
    init: u32,
    daemon: Option<Daemon>,
}

/// One run of the engine.
#[derive(Debug)]
struct Daemon {
    /// Entered the namespaces, and waits for it.
    entered: Child,
    pid: u32,
}

/// What happens to containers when the engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survival {
    /// They end with it, or the next run of it ends them.
    End,
    /// They go on, and the next run takes them up (`live-restore`).
    LiveOn,
}

/// What takes longer than that is broken: after a kill, the engine needs 10 s for each of those
/// that ignore a polite request.
const DEADLINE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(20);

impl Dockerd {
    /// Why none can run here, if none can.
    #[must_use]
    pub fn unavailable() -> Option<String> {
        let programs = ["dockerd", "docker", "unshare", "nsenter", "ip"];
        let missing = programs.iter().find(|program| !process::is_there(program));
        if let Some(missing) = missing {
            return Some(format!("there is no `{missing}`"));
        }
        let entered =
            run(Command::new("unshare").args(["--pid", "--mount", "--net", "--fork"]).arg("true"));
        entered.err().map(|error| format!("no namespaces can be made: {error}"))
    }

    /// Starts one, with no images and no containers, and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not come up; the error says what it said at last.
    pub fn start(survival: Survival) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("nanny-dockerd-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&tag);
        // A process of our number may have died here before.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("run"))?;
        fs::write(folder.join("daemon.json"), settings(&folder, &tag, survival))?;
        let mut namespaces = Command::new("unshare")
            .args(["--pid", "--mount", "--net", "--fork", "--mount-proc", "--kill-child"])
            // The first process in there also buries the dead.
            .args(["bash", "-c", FIRST, "first"])
            .args([folder.join("data"), folder.join("exec")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let init = match first_process(&mut namespaces) {
            Ok(init) => init,
            Err(error) => {
                let _ = namespaces.kill();
                let _ = namespaces.wait();
                return Err(error);
            }
        };
        let mut engine = Self { folder, tag, namespaces, init, daemon: None };
        engine.boot()?;
        engine.wait()?;
        Ok(engine)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/docker.sock")
    }

    /// The same, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A folder that is there as long as the engine is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The engine's process, as this side of the namespaces sees it.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pid(&self) -> io::Result<u32> {
        self.daemon.as_ref().map(|daemon| daemon.pid).ok_or_else(|| other("it does not run"))
    }

    /// Sends it a signal by name, such as `STOP` or `CONT`.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let daemon = self.daemon.as_ref().ok_or_else(|| other("it does not run"))?;
        signal(daemon.pid, name)?;
        // `nsenter` stops with whom it waits for, and has to be woken up by itself.
        if name == "STOP" { Ok(()) } else { signal(daemon.entered.id(), "CONT") }
    }

    /// Ends it with a signal, `KILL` or `TERM`, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it does not run, or does not end.
    pub fn end(&mut self, name: &str) -> io::Result<()> {
        self.signal(name)?;
        self.reap()
    }

    /// Waits until it is gone, after a [`signal`](Self::signal) that ends it.
    ///
    /// # Errors
    ///
    /// If it does not run, or does not end.
    pub fn reap(&mut self) -> io::Result<()> {
        let mut daemon = self.daemon.take().ok_or_else(|| other("it does not run"))?;
        let deadline = Instant::now() + DEADLINE;
        while daemon.entered.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.daemon = Some(daemon);
                return Err(self.trouble("it does not end"));
            }
            std::thread::sleep(SOON);
        }
        Ok(())
    }

    /// Starts it again, after [`end`](Self::end), and does not wait until it answers.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or runs.
    pub fn boot(&mut self) -> io::Result<()> {
        if self.daemon.is_some() {
            return Err(other("it runs already"));
        }
        // What a killed one leaves behind keeps the next one from starting.
        let _ = fs::remove_file(self.folder.join("run/docker.pid"));
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut entered = self
            .inside("dockerd")
            .arg("--config-file")
            .arg(self.folder.join("daemon.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let Ok(pid) = first_child(&mut entered) else {
            return Err(self.trouble("it ended at once"));
        };
        self.daemon = Some(Daemon { entered, pid });
        Ok(())
    }

    /// Whether it answers a question that needs all of it, within 2 s.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.get("/containers/json", Duration::from_secs(2))
            .is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until it answers.
    ///
    /// # Errors
    ///
    /// If it never does.
    pub fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.answers() {
            if Instant::now() > deadline {
                return Err(self.trouble("it does not answer"));
            }
            std::thread::sleep(SOON);
        }
        Ok(())
    }

    /// Kills its containerd. The engine starts another one.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn kill_containerd(&self) -> io::Result<()> {
        let found = children(self.pid()?)?;
        let is_containerd = |pid: &&u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim_end() == "containerd"
        };
        let containerd = found.iter().find(is_containerd);
        signal(*containerd.ok_or_else(|| other("it has no containerd"))?, "KILL")
    }

    /// Kills a process by the number that it has in there, as `docker inspect` tells it.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn kill_inside(&self, pid: u32) -> io::Result<()> {
        // Of everybody, otherwise.
        if pid <= 1 {
            return Err(other("no process of a container"));
        }
        run(self.inside("kill").args(["-s", "KILL", &pid.to_string()])).map(drop)
    }

    /// A command that runs in its namespaces: its loopback interface is not ours.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--pid", "--mount", "--net"])
            .arg(program);
        command
    }

    /// Runs `docker` on it, by hand, and returns what that says.
    ///
    /// # Errors
    ///
    /// If it fails; the error has what it says.
    pub fn docker(&self, arguments: &[&str]) -> io::Result<String> {
        run(&mut self.docker_command(arguments))
    }

    /// The same, to be run in another directory, or not to be waited for.
    #[must_use]
    pub fn docker_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", self.host()).stdin(Stdio::null());
        command
    }

    /// Asks it for something, without any client of ours in between.
    ///
    /// # Errors
    ///
    /// If it does not answer within `limit`.
    pub fn get(&self, path: &str, limit: Duration) -> io::Result<Answer> {
        ask(&self.socket(), "GET", path, limit)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("dockerd.log")
    }

    fn trouble(&self, what: &str) -> io::Error {
        other(&format!("{what}; dockerd says at last:\n{}", self.log_tail()))
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // With its input, the first process ends, and with it everything in there.
        drop(self.namespaces.stdin.take());
        // First: the namespaces do not end before whoever waits for one of their processes.
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.entered.kill();
            let _ = daemon.entered.wait();
        }
        let _ = self.namespaces.wait();
        remove_cgroups(&self.tag);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the first process does: memory instead of a disk, which other work may keep busy for
/// seconds, and then nothing until its input ends.
const FIRST: &str = "set -e; ip link set lo up
for folder; do mkdir -p $folder; mount -t tmpfs -o size=1g,mode=711 none $folder; done
echo ready; read";

/// Waits until the first process is ready, and returns its number.
fn first_process(namespaces: &mut Child) -> io::Result<u32> {
    let output = namespaces.stdout.take().ok_or_else(|| other("it has no output"))?;
    let mut said = String::new();
    BufReader::new(output).read_line(&mut said)?;
    if said != "ready\n" {
        return Err(other("the namespaces cannot be furnished"));
    }
    first_child(namespaces)
}

/// In a file: the flags would be shown to everybody, and there are many.
fn settings(folder: &Path, tag: &str, survival: Survival) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    serde_json::json!({
        "data-root": path("data"),
        "exec-root": path("exec"),
        "pidfile": path("run/docker.pid"),
        "hosts": [format!("unix://{}", path("run/docker.sock"))],
        "cgroup-parent": format!("/{tag}"),
        "live-restore": survival == Survival::LiveOn,
        "iptables": false,
        "ip-masq": false,
        "ip-forward": false,
        "max-download-attempts": 1,
    })
    .to_string()
}

/// The process that another one has been started for.
fn first_child(parent: &mut Child) -> io::Result<u32> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(child) = children(parent.id())?.first() {
            return Ok(*child);
        }
        if parent.try_wait()?.is_some() || Instant::now() > deadline {
            return Err(other("it ended at once"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn other(what: &str) -> io::Error {
    io::Error::other(what)
}
