//! The stage `exec`: becomes the program that was asked for.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nanny_lib::ContainerId;
use rustix::process::Rlimit;

use super::Call;
use crate::cgroup::Group;
use crate::home::Home;
use crate::spec::{MARK, Saved, resource};

/// Waits on standard input for the word to begin, and says there what went wrong: nothing, if it is
/// closed without a word.
pub(super) fn main(call: &Call) -> ExitCode {
    // Of its own, with a group of its own: a program may signal either.
    let _ = rustix::process::setsid();
    let mut go = [0];
    if rustix::io::read(rustix::stdio::stdin(), &mut go) != Ok(1) {
        return ExitCode::FAILURE;
    }
    // It closes by itself when this process becomes another one.
    let Ok(shim) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let why = become_program(&call.directory);
    let _ = UnixStream::from(shim).write_all(why.as_bytes());
    ExitCode::FAILURE
}

/// Comes back only to say why not.
fn become_program(directory: &Path) -> String {
    let id = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let home = Home { id: ContainerId::new(id), path: directory.to_owned() };
    let saved = match home.saved() {
        Ok(saved) => saved,
        Err(error) => return format!("its spec cannot be read: {error}"),
    };
    if let Err(why) = limit(home.id.as_str(), &saved) {
        return why;
    }
    let Some((program, arguments)) = saved.command.split_first() else {
        return "there is no command to run".to_owned();
    };
    if let Some(place) = &saved.working_dir
        && let Err(error) = std::env::set_current_dir(place)
    {
        return format!("cannot work in '{place}': {error}");
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for (name, value) in &saved.environment.0 {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env(MARK, home.id.as_str());
    let error = command.exec();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no program '{program}', or none that could run it")
        }
        io::ErrorKind::PermissionDenied => format!("'{program}' is no program that may be run"),
        _ => format!("cannot run '{program}': {error}"),
    }
}

fn limit(id: &str, saved: &Saved) -> Result<(), String> {
    for (name, soft, hard) in &saved.ulimits {
        let Some(resource) = resource(name) else { continue };
        let limit = Rlimit { current: *soft, maximum: *hard };
        rustix::process::setrlimit(resource, limit)
            .map_err(|error| format!("the ulimit {name} cannot be set: {error}"))?;
    }
    if let Some(group) = Group::of(id, &saved.bounds) {
        group.enter().map_err(|why| format!("it cannot be limited: {why}"))?;
    }
    if let Some(score) = saved.bounds.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| format!("oom_score_adj cannot be set: {error}"))?;
    }
    Ok(())
}
