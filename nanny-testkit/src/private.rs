//! An engine that belongs to one test, in namespaces of its own: what is the same for every kind.

#![expect(clippy::disallowed_methods, reason = "other processes are waited for, in real time")]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::{children, is_there, remove_cgroups, run, signal};

/// The namespaces, and the engine in them.
#[derive(Debug)]
pub(crate) struct Private {
    program: &'static str,
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

/// What takes longer than that is broken: after a kill, an engine needs 10 s for each of its
/// containers that ignore a polite request.
const DEADLINE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(20);

impl Private {
    /// Why none that needs `programs` can run here, if none can.
    pub(crate) fn unavailable(programs: &[&str]) -> Option<String> {
        let own = ["unshare", "nsenter", "ip"];
        let missing = programs.iter().chain(&own).find(|program| !is_there(program));
        if let Some(missing) = missing {
            return Some(format!("there is no `{missing}`"));
        }
        let entered =
            run(Command::new("unshare").args(["--pid", "--mount", "--net", "--fork"]).arg("true"));
        entered.err().map(|error| format!("no namespaces can be made: {error}"))
    }

    /// Namespaces for `program`, in which memory is mounted at `memory`: beneath the folder, unless
    /// the path is absolute.
    pub(crate) fn new(program: &'static str, memory: &[&str]) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("nanny-{program}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&tag);
        // A process of our number may have died here before.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("run"))?;
        let mut namespaces = Command::new("unshare")
            .args(["--pid", "--mount", "--net", "--fork", "--mount-proc", "--kill-child"])
            // The first process in there also buries the dead.
            .args(["bash", "-c", FIRST, "first"])
            .args(memory.iter().map(|path| folder.join(path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        match first_process(&mut namespaces) {
            Ok(init) => Ok(Self { program, folder, tag, namespaces, init, daemon: None }),
            Err(error) => {
                let _ = namespaces.kill();
                let _ = namespaces.wait();
                Err(error)
            }
        }
    }

    /// A name that is its alone on this machine.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn pid(&self) -> io::Result<u32> {
        self.daemon.as_ref().map(|daemon| daemon.pid).ok_or_else(|| other("it does not run"))
    }

    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let daemon = self.daemon.as_ref().ok_or_else(|| other("it does not run"))?;
        signal(daemon.pid, name)?;
        // `nsenter` stops with whom it waits for, and has to be woken up by itself.
        if name == "STOP" { Ok(()) } else { signal(daemon.entered.id(), "CONT") }
    }

    pub(crate) fn reap(&mut self) -> io::Result<()> {
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

    /// Starts the program, with what `arrange` gives it.
    pub(crate) fn boot(&mut self, arrange: impl FnOnce(&mut Command)) -> io::Result<()> {
        if self.daemon.is_some() {
            return Err(other("it runs already"));
        }
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = self.inside(self.program);
        arrange(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut entered = command.spawn()?;
        let Ok(pid) = first_child(&mut entered) else {
            return Err(self.trouble("it ended at once"));
        };
        self.daemon = Some(Daemon { entered, pid });
        Ok(())
    }

    pub(crate) fn wait(&self, answers: impl Fn() -> bool) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !answers() {
            if Instant::now() > deadline {
                return Err(self.trouble("it does not answer"));
            }
            std::thread::sleep(SOON);
        }
        Ok(())
    }

    pub(crate) fn kill_inside(&self, pid: u32) -> io::Result<()> {
        // Of everybody, otherwise.
        if pid <= 1 {
            return Err(other("no process of a container"));
        }
        run(self.inside("kill").args(["-s", "KILL", &pid.to_string()])).map(drop)
    }

    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--pid", "--mount", "--net"])
            .arg(program);
        command
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.program))
    }

    fn trouble(&self, what: &str) -> io::Error {
        other(&format!("{what}; {} says at last:\n{}", self.program, self.log_tail()))
    }
}

impl Drop for Private {
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

pub(crate) fn other(what: &str) -> io::Error {
    io::Error::other(what)
}
