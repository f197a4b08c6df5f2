//! Getting a shim away from the nanny, and what it answers.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Call, SELF};
use crate::config::ProcessConfig;
use crate::home::Home;
use crate::kernel::uptime;

/// What a shim answers to who launched it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It is there, and the program runs.
    Runs,
    /// Another shim is there.
    Busy,
    /// The container was removed.
    Gone,
    /// Its program does not run, and this is why.
    Failed(String),
}

/// Set for a program that is to be a shim. If it does not know how, it is as if it had been started
/// by hand, and must not do the same again.
const ASKED: &str = "NANNY_PROCESS_SHIM";
/// No answer is longer.
const REPLY_BYTES: u64 = 4096;

impl Reply {
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Runs => "runs\n".to_owned(),
            Self::Busy => "busy\n".to_owned(),
            Self::Gone => "gone\n".to_owned(),
            Self::Failed(why) => format!("failed {why}\n"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let line = text.strip_suffix('\n')?;
        match line {
            "runs" => Some(Self::Runs),
            "busy" => Some(Self::Busy),
            "gone" => Some(Self::Gone),
            _ => line.strip_prefix("failed ").map(|why| Self::Failed(why.to_owned())),
        }
    }
}

/// Starts the program of `home`, if it does not run. `None` is no answer: what happened is in its
/// record. Blocks, and no longer than `limit`.
///
/// The shim is given the lock, so that there is no moment in which a start is under way and nobody
/// can tell.
pub(crate) fn launch_start(
    config: &ProcessConfig,
    home: &Home,
    limit: Duration,
) -> io::Result<Option<Reply>> {
    let Some(lock) = home.try_lock()? else { return Ok(Some(Reply::Busy)) };
    let before = home.announce_start()?;
    let reply = launch(config, home, "launch", Stdio::from(lock), limit);
    if let Some(before) = before.filter(|_| !matches!(reply, Ok(Some(_)))) {
        home.withdraw_start(&before)?;
    }
    reply
}

/// Gives the program of `home` a shim in the place of one that is gone. As above.
pub(crate) fn launch_heir(
    config: &ProcessConfig,
    home: &Home,
    limit: Duration,
) -> io::Result<Option<Reply>> {
    launch(config, home, "relaunch", Stdio::null(), limit)
}

fn launch(
    config: &ProcessConfig,
    home: &Home,
    stage: &str,
    lock: Stdio,
    limit: Duration,
) -> io::Result<Option<Reply>> {
    if std::env::var_os(ASKED).is_some() {
        return Err(io::Error::other("this program was asked to be a shim, and is none"));
    }
    let mut command = Command::new(&config.program);
    if let Some(name) = std::env::args_os().next().filter(|_| config.program == Path::new(SELF)) {
        command.arg0(name);
    }
    command.args(&config.arguments).arg(stage).arg(&home.path).current_dir("/");
    for (name, _) in std::env::vars_os() {
        if is_ours(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.env(ASKED, "1");
    let (reader, writer) = io::pipe()?;
    command.stdin(lock).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // With its copies of our end of the pipe, which would never close otherwise.
    drop(command);
    let reply = read_reply(OwnedFd::from(reader), limit);
    // It ends at once; the shim is its child and not ours.
    if !matches!(reply, Ok(Some(_))) {
        child.kill()?;
    }
    child.wait()?;
    reply
}

/// What only we were meant to see, or what speaks of us as a process.
fn is_ours(variable: &str) -> bool {
    const NAMES: &[&str] = &[
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    variable.starts_with("NANNY_") || NAMES.contains(&variable)
}

fn read_reply(pipe: OwnedFd, limit: Duration) -> io::Result<Option<Reply>> {
    let deadline = uptime() + limit;
    let mut pipe = File::from(pipe);
    let mut text = String::new();
    loop {
        let left = deadline.saturating_sub(uptime());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 1024];
        let read = pipe.read(&mut bytes)?;
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        if read == 0 || text.ends_with('\n') || text.len() as u64 > REPLY_BYTES {
            return Ok(Reply::from_text(&text));
        }
    }
}

/// The stages `launch` and `relaunch`: start `run` or `adopt` in a session without a terminal, and
/// leave it to itself.
pub(super) fn main(call: &Call, next: &str) -> ExitCode {
    // Descriptors that whoever started the nanny left open are nobody's business further down.
    close_fds::set_fds_cloexec(3, &[]);
    // It fails only if there is such a session already.
    let _ = rustix::process::setsid();
    let mut run = call.next(next);
    run.stderr(Stdio::null()).env_remove(ASKED);
    match run.spawn() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            super::keeper::answer(&Reply::Failed(format!("the shim cannot be started: {error}")));
            ExitCode::FAILURE
        }
    }
}
