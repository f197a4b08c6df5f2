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
    name: Name,
    text: String,
    written: SystemTime,
}

/// Whose a claim is, by the name of its file.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Pid(u32),
    InContainer(u32, String),
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        match name.split_once('@') {
            None => Some(Self::Pid(name.parse().ok()?)),
            Some((pid, container)) => {
                let is_id =
                    container.len() >= 12 && container.chars().all(|c| c.is_ascii_hexdigit());
                is_id.then_some(Self::InContainer(pid.parse().ok()?, container.to_owned()))
            }
        }
    }
}

impl ClaimFile {
    fn at(path: PathBuf) -> Option<Self> {
        let name = Name::parse(path.file_name()?.to_str()?)?;
        let text = fs::read_to_string(&path).ok()?;
        let written = fs::metadata(&path).ok()?.modified().ok()?;
        Some(Self { path, name, text, written })
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
        if self.note("gone").is_some() {
            return None;
        }
        let (pid, started) = self.process()?;
        (start_time(pid)? == started).then_some(pid)
    }

    /// The process that made the claim, and when it was started: as it was found to be at first.
    fn process(&self) -> Option<(u32, String)> {
        if let Some((note, _)) = self.note("process") {
            let (pid, started) = note.split_once(' ')?;
            return Some((pid.parse().ok()?, started.to_owned()));
        }
        let pid = match &self.name {
            Name::Pid(pid) => *pid,
            Name::InContainer(inner, container) => {
                in_container(Path::new("/proc"), *inner, container)?
            }
        };
        let said = self.text.split_whitespace().nth(2).map(str::to_owned);
        let started = said.or_else(|| start_time(pid))?;
        self.write_note("process", &format!("{pid} {started}"));
        Some((pid, started))
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
fn in_container(proc: &Path, inner: u32, container: &str) -> Option<u32> {
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |pid: &u32| {
        let read = |file| fs::read_to_string(proc.join(pid.to_string()).join(file)).ok();
        let status = read("status").unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let innermost = numbers.and_then(|numbers| numbers.split_whitespace().last());
        innermost == Some(inner.to_string().as_str())
            && read("cgroup").is_some_and(|groups| groups.contains(container))
    };
    pids.into_iter().find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_named_after_its_process_and_nothing_else_is_one() {
        let id = "0123456789abcdef";
        let in_container = Name::InContainer(7, id.to_owned());
        assert_eq!(Name::parse("4711"), Some(Name::Pid(4711)));
        assert_eq!(Name::parse(&format!("7@{id}")), Some(in_container));
        for name in ["", "4711.gone", "4711.new", "x", "7@", "7@0123456789a", "7@not-an-identifier"]
        {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_process_in_a_container_is_found_by_its_control_group_and_its_number_there() {
        let folder = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef".repeat(4);
        for (pid, inner, group) in [
            (100, "100", "/init.scope".to_owned()),
            (101, "101\t1", format!("/docker/{}", "f".repeat(64))),
            (102, "102\t1", format!("/system.slice/docker-{id}.scope")),
            (103, "103\t7", format!("/system.slice/docker-{id}.scope")),
        ] {
            let home = folder.path().join(format!("{pid}"));
            fs::create_dir(&home).unwrap();
            fs::write(home.join("status"), format!("Name:\tx\nNSpid:\t{inner}\n")).unwrap();
            fs::write(home.join("cgroup"), format!("0::{group}\n")).unwrap();
        }
        assert_eq!(in_container(folder.path(), 1, &id[..12]), Some(102));
        assert_eq!(in_container(folder.path(), 7, &id), Some(103));
        assert_eq!(in_container(folder.path(), 2, &id), None);
    }
}
