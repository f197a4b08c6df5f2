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

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub use self::http::{Answer, ask};
pub use self::observer::{Look, Observer};

use crate::private::{Private, other};
use crate::process::{children, run, signal};

/// A private Docker Engine. See the [module](self).
#[derive(Debug)]
pub struct Dockerd {
    engine: Private,
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

/// A runtime (`runtime:` of a service) that starts a container once there is a file `go` in the
/// engine's folder, or after a minute.
pub const SLOW_RUNTIME: &str = "slow-runc";

fn slow_runtime(folder: &Path) -> io::Result<()> {
    let go = folder.join("go");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" start \"*)\n  n=0\n  \
         until [ -e '{}' ] || [ $n -ge 600 ]; do n=$((n+1)); sleep 0.1; done;;\nesac\n\
         exec runc \"$@\"\n",
        go.display()
    );
    let path = folder.join(SLOW_RUNTIME);
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
}

impl Dockerd {
    /// Why none can run here, if none can.
    #[must_use]
    pub fn unavailable() -> Option<String> {
        Private::unavailable(&["dockerd", "docker"])
    }

    /// Starts one, with no images and no containers, and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not come up; the error says what it said at last.
    pub fn start(survival: Survival) -> io::Result<Self> {
        let engine = Private::new("dockerd", &["data", "exec"])?;
        let settings = settings(engine.folder(), engine.tag(), survival);
        slow_runtime(engine.folder())?;
        fs::write(engine.folder().join("daemon.json"), settings)?;
        let mut engine = Self { engine };
        engine.boot()?;
        engine.wait()?;
        Ok(engine)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join("run/docker.sock")
    }

    /// The same, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A folder that is there as long as the engine is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.engine.folder()
    }

    /// The engine's process, as this side of the namespaces sees it.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pid(&self) -> io::Result<u32> {
        self.engine.pid()
    }

    /// Sends it a signal by name, such as `STOP` or `CONT`.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        self.engine.signal(name)
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
        self.engine.reap()
    }

    /// Starts it again, after [`end`](Self::end), and does not wait until it answers.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or runs.
    pub fn boot(&mut self) -> io::Result<()> {
        // What a killed one leaves behind keeps the next one from starting.
        let _ = fs::remove_file(self.folder().join("run/docker.pid"));
        let settings = self.folder().join("daemon.json");
        self.engine.boot(|dockerd| {
            dockerd.arg("--config-file").arg(settings);
        })
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
        self.engine.wait(|| self.answers())
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
        self.engine.kill_inside(pid)
    }

    /// A command that runs in its namespaces: its loopback interface is not ours.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        self.engine.inside(program)
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
        self.engine.log_tail()
    }
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
        "runtimes": {SLOW_RUNTIME: {"path": path(SLOW_RUNTIME)}},
    })
    .to_string()
}
