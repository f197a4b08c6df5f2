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

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

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

/// The score to be set, if any. The nanny may be spared when memory is short; a program that does not
/// ask for it is not, or the nanny would die for it.
fn oom_score(asked: Option<i64>, inherited: &str) -> Option<i64> {
    let is_spared = inherited.trim().parse().is_ok_and(|score: i64| score < 0);
    asked.or(is_spared.then_some(0))
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
    let inherited = fs::read_to_string(OOM_SCORE).unwrap_or_default();
    if let Some(score) = oom_score(saved.bounds.oom_score_adj, &inherited) {
        fs::write(OOM_SCORE, score.to_string())
            .map_err(|error| format!("oom_score_adj cannot be set: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_not_spared_with_the_nanny_when_memory_is_short() {
        assert_eq!(oom_score(None, "-500\n"), Some(0));
        assert_eq!(oom_score(Some(-7), "-500\n"), Some(-7));
        assert_eq!(oom_score(None, "0\n"), None);
        assert_eq!(oom_score(None, "300\n"), None);
        assert_eq!(oom_score(None, ""), None);
    }
}
