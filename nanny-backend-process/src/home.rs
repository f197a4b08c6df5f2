//! The directory of one container, and what it says about the container now.
//!
//! | file | written by | |
//! |---|---|---|
//! | `spec` | the nanny, once | what to run; mode 0600, since the environment may hold secrets |
//! | `name` | the nanny | what it is called |
//! | `run` | who holds the lock | the record of its last run |
//! | `lock` | | held by the shim for as long as it lives |
//! | `control` | the nanny | a pipe by which the shim is told to end it |
//! | `stdout`, `stderr` | the program | pipes, which the shim reads |
//! | `log-N` | the shim | its log; the last two of them |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerInfo, ContainerState, Exit};
use nanny_lib::project::labels;
use rustix::fs::OFlags;

use crate::cgroup::Group;
use crate::kernel::{self, Identity, Process};
use crate::record::{Ended, Phase, Record, Slots};
use crate::spec::{MARK, Saved};

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) id: ContainerId,
    pub(crate) path: PathBuf,
}

/// The pipes in it.
pub(crate) const CONTROL: &str = "control";
pub(crate) const STDOUT: &str = "stdout";
pub(crate) const STDERR: &str = "stderr";

/// Stands for whichever run there is, where no record can be read.
pub(crate) const UNKNOWN_RUN: u64 = 0;

/// A container at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) record: Record,
    pub(crate) life: Life,
}

/// What lives of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nothing.
    None,
    /// Its shim, which knows better than we do.
    Shim,
    /// Its first process lives, or what that left behind, and its shim does not.
    Orphaned,
}

/// What the shim is told through the pipe `control`, a line each, which begins with the run that is
/// meant: it may be read late, and the next run is not to end by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Send the signal, wait so long, kill.
    Stop {
        signal: i32,
        grace: Duration,
    },
    Kill,
}

impl Home {
    pub(crate) fn new(root: &Path, id: &ContainerId) -> Self {
        Self { id: id.clone(), path: root.join(id.as_str()) }
    }

    /// Fills a new directory.
    pub(crate) fn furnish(&self, name: &str, saved: &Saved) -> io::Result<()> {
        create_private(&self.path)?;
        write_new(&self.path.join("spec"), &serde_json::to_vec(saved)?)?;
        write_new(&self.path.join("name"), name.as_bytes())?;
        write_new(&self.path.join("lock"), b"")?;
        for pipe in [CONTROL, STDOUT, STDERR] {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, self.path.join(pipe), mode)?;
        }
        Slots::create(&self.path.join("run"))
    }

    pub(crate) fn saved(&self) -> io::Result<Saved> {
        Ok(serde_json::from_slice(&fs::read(self.path.join("spec"))?)?)
    }

    pub(crate) fn name(&self) -> io::Result<String> {
        fs::read_to_string(self.path.join("name"))
    }

    /// Gives it another name: from one moment to the next, whoever is killed.
    pub(crate) fn rename(&self, name: &str) -> io::Result<()> {
        let new = self.path.join("name.new");
        let _ = fs::remove_file(&new);
        write_new(&new, name.as_bytes())?;
        fs::rename(new, self.path.join("name"))
    }

    pub(crate) fn slots(&self) -> io::Result<Slots> {
        Slots::open(&self.path.join("run"))
    }

    /// The right to write the record and to start it; `None` if somebody else has it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        let path = self.path.join("lock");
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The container may have been removed between the two, and the lock with it.
        let (ours, theirs) = (file.metadata()?, fs::metadata(&path)?);
        let is_same = (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino());
        is_same.then_some(Some(file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Says that a start is under way, from now on until the shim says more, which is given the
    /// lock; answers what was said before. One whose program runs is left as it is.
    pub(crate) fn announce_start(&self) -> io::Result<Option<Record>> {
        let slots = self.slots()?;
        let Some(before) = slots.read()?.filter(|record| !record.main_lives()) else {
            return Ok(None);
        };
        let mut record = before.clone();
        record.run += 1;
        (record.phase, record.shim) = (Phase::Starting, None);
        slots.write(&mut record)?;
        Ok(Some(before))
    }

    /// Takes that back, if no shim has said anything.
    pub(crate) fn withdraw_start(&self, before: &Record) -> io::Result<()> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        let slots = self.slots()?;
        let Some(mut record) = slots.read()? else { return Ok(()) };
        if record.phase == Phase::Starting && record.shim.is_none() {
            record.run = before.run;
            record.phase = before.phase;
            record.shim = before.shim;
            slots.write(&mut record)?;
        }
        Ok(())
    }

    /// Opens one of the pipes, from both ends: it never ends, and breaks for nobody.
    pub(crate) fn open_pipe(&self, pipe: &str, flags: OFlags) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        options.read(true).write(true).custom_flags(flags).open(self.path.join(pipe))
    }

    /// Tells the shim what to do about a run; one that is gone hears nothing.
    pub(crate) fn tell(&self, run: u64, request: Request) -> io::Result<()> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        let mut control = options.write(true).custom_flags(flags).open(self.path.join(CONTROL))?;
        control.write_all(request.to_line(run).as_bytes())
    }

    /// What stands in the environment of all its processes.
    pub(crate) fn mark(&self) -> String {
        format!("{MARK}={}", self.id)
    }

    /// What lives of it, if its shim does not.
    pub(crate) fn orphans(&self, record: &Record) -> Vec<Process> {
        let main = record.main.filter(|_| record.world == kernel::world());
        kernel::orphans(main, &self.mark())
    }

    /// The container as it is now. A run whose end nobody recorded is recorded as ended.
    pub(crate) fn look(&self) -> io::Result<Sight> {
        let slots = self.slots()?;
        let record = slots.read()?;
        if let Some(record) = record.as_ref().and_then(settled) {
            return Ok(record);
        }
        // Nobody there, as it seems; but the shim may live in another world, or be just starting.
        let Some(_lock) = self.try_lock()? else {
            let record = record.unwrap_or_else(unreadable);
            return Ok(Sight { record, life: Life::Shim });
        };
        let mut record = slots.read()?.unwrap_or_else(unreadable);
        if let Some(sight) = settled(&record) {
            return Ok(sight);
        }
        if record.main_lives() || !self.orphans(&record).is_empty() {
            return Ok(Sight { record, life: Life::Orphaned });
        }
        record.lose();
        self.leave_group();
        // If it cannot be written, the next look comes to the same end.
        let _ = slots.write(&mut record);
        Ok(Sight { record, life: Life::None })
    }

    /// Takes its control group away, which nothing is in any more: a shim that was killed did not.
    pub(crate) fn leave_group(&self) {
        let saved = self.saved().ok();
        if let Some(group) = saved.and_then(|saved| Group::of(self.id.as_str(), &saved.bounds)) {
            group.remove();
        }
    }

    /// What is told of it.
    pub(crate) fn info(&self, sight: &Sight, saved: Option<&Saved>) -> io::Result<ContainerInfo> {
        let mut info = ContainerInfo::new(self.id.clone(), self.name()?, String::new());
        if let Some(saved) = saved {
            info.labels.clone_from(&saved.labels);
            let says = |label: &&str| saved.labels.contains_key(*label);
            info.uses_gpu = saved.names_gpus || [labels::GPU, labels::PLACEMENT].iter().any(says);
            info.gpus = saved.chosen_gpus();
        }
        info.processes = sight.record.leaders();
        info.state = sight.state();
        info.started_at = sight.record.started_at;
        if !info.state.holds() {
            info.exit = sight.record.ended.as_ref().map(Ended::to_exit);
        }
        Ok(info)
    }
}

impl Sight {
    pub(crate) fn state(&self) -> ContainerState {
        match (self.record.phase, self.life) {
            (Phase::Created, _) => ContainerState::Created,
            (Phase::Ended, _) | (_, Life::None) => ContainerState::Exited,
            // It may run by now, and hold what it is started for.
            (Phase::Starting, Life::Shim) => ContainerState::Restarting,
            (Phase::Stopping, _) => ContainerState::Stopping,
            (Phase::Running | Phase::Starting, _) => ContainerState::Running,
        }
    }
}

impl Request {
    pub(crate) fn to_line(self, run: u64) -> String {
        match self {
            Self::Stop { signal, grace } => {
                let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                format!("{run} stop {signal} {grace}\n")
            }
            Self::Kill => format!("{run} kill\n"),
        }
    }

    /// What is asked, if it is about `own`, the run that there is now.
    pub(crate) fn from_line(line: &str, own: u64) -> Option<Self> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (run, words) = words.split_first()?;
        let run: u64 = run.parse().ok()?;
        if run != own && run != UNKNOWN_RUN {
            return None;
        }
        match *words {
            ["stop", signal, grace] => Some(Self::Stop {
                signal: signal.parse().ok()?,
                grace: Duration::from_millis(grace.parse().ok()?),
            }),
            ["kill"] => Some(Self::Kill),
            _ => None,
        }
    }
}

impl Record {
    /// Ends a run of which nobody can say how it ended.
    pub(crate) fn lose(&mut self) {
        let is_start = self.phase == Phase::Starting;
        let error = is_start.then(|| "the start was interrupted".to_owned());
        self.end(Ended { at: Some(Timestamp::now()), error, ..Ended::default() });
    }

    pub(crate) fn main_lives(&self) -> bool {
        self.world == kernel::world() && self.main.is_some_and(Identity::lives)
    }

    /// The processes that all others of it descend from: its first one, and the shim, to which those
    /// come whose parent has ended.
    fn leaders(&self) -> Vec<u32> {
        let is_here = self.world == kernel::world();
        let live = self.main.into_iter().chain(self.shim).filter(|it| is_here && it.lives());
        live.filter_map(|it| u32::try_from(it.pid).ok()).collect()
    }

    pub(crate) fn end(&mut self, ended: Ended) {
        self.phase = Phase::Ended;
        (self.shim, self.main) = (None, None);
        self.left.clear();
        self.ended = Some(ended);
    }
}

impl Ended {
    fn to_exit(&self) -> Exit {
        let mut exit = Exit::default();
        exit.code = self.code;
        exit.out_of_memory = self.out_of_memory;
        exit.error.clone_from(&self.error);
        exit.at = self.at;
        exit
    }
}

/// What a record says, if it needs no closer look.
fn settled(record: &Record) -> Option<Sight> {
    let life = match record.phase {
        Phase::Created | Phase::Ended => Life::None,
        Phase::Starting | Phase::Running | Phase::Stopping => {
            let is_here = record.world == kernel::world();
            is_here.then_some(record.shim?).filter(|shim| shim.lives())?;
            Life::Shim
        }
    };
    Some(Sight { record: record.clone(), life })
}

/// What is assumed where no record can be read: that it runs, until it is seen that nothing does.
fn unreadable() -> Record {
    let mut record = Record::default();
    (record.phase, record.run) = (Phase::Running, UNKNOWN_RUN);
    record
}

/// A new file that only its owner may read.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// A new directory that only its owner may enter.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_one_run() {
        let stop = Request::Stop { signal: 15, grace: Duration::from_millis(1500) };
        for request in [stop, Request::Kill] {
            let line = request.to_line(7);
            assert_eq!(Request::from_line(&line, 7), Some(request));
            assert_eq!(Request::from_line(&line, 8), None);
            let of_any = request.to_line(UNKNOWN_RUN);
            assert_eq!(Request::from_line(&of_any, 8), Some(request));
        }
        for damaged in ["", "\n", "kill\n", "7\n", "7 stop 15\n", "7 stop x 1\n", "7 kill 1\n"] {
            assert_eq!(Request::from_line(damaged, 7), None, "{damaged}");
        }
    }
}
