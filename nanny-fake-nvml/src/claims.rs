//! Claims: memory that real processes take, and keep a little longer than they live.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a process has on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The process; `None` once it is gone.
    pub(crate) pid: Option<u32>,
    /// The device's index, or its UUID.
    pub(crate) gpu: String,
    pub(crate) mib: u64,
}

/// What all processes have, those that died less than `release_delay` ago included.
pub(crate) fn read(folder: &Path, release_delay: Duration) -> Vec<Claim> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let claims = files.filter_map(|file| ClaimFile::at(file.path()));
    claims.flat_map(|claim| claim.claims(release_delay)).collect()
}

struct ClaimFile {
    path: PathBuf,
    /// The process that it is named after, if there is one.
    pid: Option<u32>,
    text: String,
    written: SystemTime,
}

impl ClaimFile {
    fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let pid = match name.split_once('@') {
            None => Some(name.parse().ok()?),
            Some((pid, container)) => in_container(pid.parse().ok()?, container),
        };
        let text = fs::read_to_string(&path).ok()?;
        let written = fs::metadata(&path).ok()?.modified().ok()?;
        Some(Self { path, pid, text, written })
    }

    fn claims(&self, release_delay: Duration) -> Vec<Claim> {
        let pid = self.living();
        let is_held = pid.is_some() || self.gone_for() < release_delay;
        let lines = self.text.lines().filter(|_| is_held);
        let claims = lines.filter_map(|line| {
            let mut words = line.split_whitespace();
            let gpu = words.next()?.to_owned();
            let mib = words.next()?.parse().ok()?;
            Some(Claim { pid, gpu, mib })
        });
        claims.collect()
    }

    /// The process that made the claim, while it lives.
    fn living(&self) -> Option<u32> {
        let gone = self.note("gone");
        if gone.is_some() {
            return None;
        }
        let started = self.pid.and_then(start_time)?;
        let wanted = self.text.split_whitespace().nth(2).map(str::to_owned);
        let wanted = wanted.or_else(|| self.note("start").map(|(text, _)| text));
        match wanted {
            Some(wanted) if wanted != started => None,
            Some(_) => self.pid,
            None => {
                self.write_note("start", &started);
                self.pid
            }
        }
    }

    /// For how long its process is gone: since it was first looked for in vain.
    fn gone_for(&self) -> Duration {
        if self.note("gone").is_none() {
            self.write_note("gone", "");
        }
        let since = self.note("gone").map(|(_, since)| since);
        since.and_then(|since| since.elapsed().ok()).unwrap_or_default()
    }

    /// What was noted about this claim, and when; not about an earlier one of the same name.
    fn note(&self, kind: &str) -> Option<(String, SystemTime)> {
        let path = self.note_path(kind);
        let written = fs::metadata(&path).ok()?.modified().ok()?;
        let text = fs::read_to_string(path).ok()?;
        let (note, claim) = text.split_once('\n')?;
        (written >= self.written && claim == self.text).then(|| (note.to_owned(), written))
    }

    /// Others may note the same thing at the same time: whoever is last replaces the whole.
    fn write_note(&self, kind: &str, note: &str) {
        let draft = self.note_path(&format!("{kind}.{}", std::process::id()));
        let written = fs::write(&draft, format!("{note}\n{}", self.text));
        // A directory that cannot be written to costs the delay, or the guard.
        let _ = written.and_then(|()| fs::rename(&draft, self.note_path(kind)));
    }

    fn note_path(&self, kind: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{kind}"));
        path.into()
    }
}

/// When a process was started, in ticks since the boot; `None` if it does not live.
pub(crate) fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, brackets and blanks included.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    let is_dead = matches!(state, "Z" | "X" | "x");
    fields.nth(18).map(str::to_owned).filter(|_| !is_dead)
}

/// The number on the host of the process that has `inner` in a container.
fn in_container(inner: u32, container: &str) -> Option<u32> {
    if container.len() < 12 {
        return None;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |pid: &u32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(container) && inner_number(*pid) == Some(inner)
    };
    pids.into_iter().find(is_it)
}

fn inner_number(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}
