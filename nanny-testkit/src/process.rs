//! Processes: finding, signalling and running them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The children of a process.
pub(crate) fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(found)
}

/// Sends a signal to one process; never to a group, nor to everybody.
pub(crate) fn signal(pid: u32, name: &str) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::Error::other("that is no process of ours"));
    }
    run(Command::new("kill").args(["-s", name, &pid.to_string()])).map(drop)
}

/// Runs a command to its end, and returns what it says.
pub(crate) fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}: {said}{errors}", output.status)))
}

pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Removes the control groups that containers have left behind, in whatever hierarchies there are.
pub(crate) fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in hierarchies.map(|path| path.join(name)).chain([root.join(name)]) {
        remove_tree(&group);
    }
}

/// The files in there vanish with their directory.
fn remove_tree(group: &PathBuf) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // One that is not empty stays, and is seen by whoever looks.
    let _ = fs::remove_dir(group);
}
