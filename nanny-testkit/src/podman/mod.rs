//! A Podman that belongs to one test, as a [`Dockerd`](crate::dockerd::Dockerd) does: in namespaces
//! of its own, and the kernel ends all of it with the test.
//!
//! Its service can be killed and started again; its containers live on meanwhile. It takes root,
//! `podman` with what it needs, and util-linux. Everything here blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::dockerd::{Answer, ask};
use crate::private::Private;
use crate::process::run;

/// A private Podman. See the [module](self).
#[derive(Debug)]
pub struct Podman {
    engine: Private,
}

/// Its settings; `scripts/engines` has the same for its own.
const SETTINGS: &str = include_str!("containers.conf");
const STORAGE: &str = include_str!("storage.conf");
/// In a network namespace of its own, any will do.
const NET: &str = "250";

impl Podman {
    /// Why none can run here, if none can.
    #[must_use]
    pub fn unavailable() -> Option<String> {
        Private::unavailable(&["podman", "runc", "conmon"])
    }

    /// Starts one, with no images and no containers, and waits until its service answers.
    ///
    /// # Errors
    ///
    /// If it does not come up; the error says what it said at last.
    pub fn start() -> io::Result<Self> {
        // The second is where every Podman keeps what it knows of networks.
        let engine = Private::new("podman", &["home", "/run/containers"])?;
        let home = engine.folder().join("home").display().to_string();
        let settings = SETTINGS.replace("@HOME@", &home).replace("@NET@", NET);
        fs::write(engine.folder().join("containers.conf"), settings)?;
        let storage = STORAGE.replace("@HOME@", &home).replace("@DRIVER@", "overlay");
        fs::write(engine.folder().join("storage.conf"), storage)?;
        let mut engine = Self { engine };
        engine.boot()?;
        engine.wait()?;
        Ok(engine)
    }

    /// Where its service listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join("run/podman.sock")
    }

    /// The same, as `CONTAINER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A folder that is there as long as the engine is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.engine.folder()
    }

    /// The service's process, as this side of the namespaces sees it.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pid(&self) -> io::Result<u32> {
        self.engine.pid()
    }

    /// Sends the service a signal by name, such as `STOP` or `CONT`.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        self.engine.signal(name)
    }

    /// Ends the service with a signal, `KILL` or `TERM`, and waits until it is gone. Its containers
    /// live on.
    ///
    /// # Errors
    ///
    /// If it does not run, or does not end.
    pub fn end(&mut self, name: &str) -> io::Result<()> {
        self.engine.signal(name)?;
        self.engine.reap()
    }

    /// Starts the service again, after [`end`](Self::end), and does not wait until it answers.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or runs.
    pub fn boot(&mut self) -> io::Result<()> {
        let _ = fs::remove_file(self.socket());
        let (host, settings) = (self.host(), self.settings());
        self.engine.boot(|podman| {
            podman.args(["system", "service", "--time", "0", &host]).envs(settings);
            // With it, it would be a client of another.
            podman.env_remove("CONTAINER_HOST");
        })
    }

    /// Whether it answers a question that needs all of it, within 2 s.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.get("/v4.0.0/libpod/containers/json", Duration::from_secs(2))
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

    /// Kills a process by the number that it has in there, as `podman inspect` tells it.
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

    /// Runs `podman` in there, by hand and without the service, and returns what that says.
    ///
    /// # Errors
    ///
    /// If it fails; the error has what it says.
    pub fn podman(&self, arguments: &[&str]) -> io::Result<String> {
        run(&mut self.podman_command(arguments))
    }

    /// The same, not to be waited for, or with an input.
    #[must_use]
    pub fn podman_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside("podman");
        command.args(arguments).envs(self.settings()).env_remove("CONTAINER_HOST");
        command.stdin(Stdio::null());
        command
    }

    /// Asks its service for something, without any client of ours in between.
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

    fn settings(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("CONTAINERS_CONF", self.folder().join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", self.folder().join("storage.conf")),
        ]
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Control groups are no namespace's: they go with their containers, or stay.
        let mut clean = self.inside("timeout");
        clean.args(["20", "podman", "rm", "--all", "--force", "--time", "0"]);
        let _ = run(clean.envs(self.settings()).env_remove("CONTAINER_HOST"));
    }
}
