//! Control groups: what holds a process and its descendants to limits.
//!
//! Groups are made as container engines make them, beneath a directory of ours at the top of each
//! hierarchy, in the unified one or in those of each controller. That takes root, or a directory
//! that somebody prepared.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::Bounds;

/// The group of one container.
#[derive(Debug)]
pub(crate) struct Group {
    /// Where its files are: one directory, or one for each controller.
    directories: Vec<PathBuf>,
    settings: Vec<(PathBuf, String)>,
}

const TOP: &str = "/sys/fs/cgroup";
const OURS: &str = "nanny";
/// What limits swap, in each kind of hierarchy.
const SWAP: [&str; 2] = ["memory.swap.max", "memory.memsw.limit_in_bytes"];
const PERIOD_MICROSECONDS: u64 = 100_000;

impl Group {
    /// The group of the container `id` that `bounds` take; `None` if they take none.
    pub(crate) fn of(id: &str, bounds: &Bounds) -> Option<Self> {
        Self::beneath(Path::new(TOP), id, bounds)
    }

    fn beneath(top: &Path, id: &str, bounds: &Bounds) -> Option<Self> {
        let Bounds { memory_bytes, nano_cpus, pids, oom_score_adj: _ } = bounds;
        let is_unified = top.join("cgroup.controllers").exists();
        let quota = |nano_cpus: u64| {
            (u128::from(nano_cpus) * u128::from(PERIOD_MICROSECONDS) / 1_000_000_000).max(1000)
        };
        let mut group = Self { directories: Vec::new(), settings: Vec::new() };
        let mut set = |controller: &str, settings: &[(&str, String)]| {
            let hierarchy = if is_unified { top.to_owned() } else { top.join(controller) };
            let directory = hierarchy.join(OURS).join(id);
            for (file, value) in settings {
                group.settings.push((directory.join(file), value.clone()));
            }
            if !group.directories.contains(&directory) {
                group.directories.push(directory);
            }
        };
        match (memory_bytes, is_unified) {
            // Without swap, or it would be a limit on nothing much.
            (Some(bytes), true) => set(
                "memory",
                &[("memory.max", bytes.to_string()), ("memory.swap.max", "0".to_owned())],
            ),
            // This order: with swap it is never less than without.
            (Some(bytes), false) => set(
                "memory",
                &[
                    ("memory.limit_in_bytes", bytes.to_string()),
                    ("memory.memsw.limit_in_bytes", bytes.to_string()),
                ],
            ),
            (None, _) => {}
        }
        match (nano_cpus, is_unified) {
            (Some(cpus), true) => {
                let quota = format!("{} {PERIOD_MICROSECONDS}", quota(*cpus));
                set("cpu", &[("cpu.max", quota)]);
            }
            (Some(cpus), false) => set(
                "cpu",
                &[
                    ("cpu.cfs_period_us", PERIOD_MICROSECONDS.to_string()),
                    ("cpu.cfs_quota_us", quota(*cpus).to_string()),
                ],
            ),
            (None, _) => {}
        }
        if let Some(pids) = pids {
            set("pids", &[("pids.max", pids.to_string())]);
        }
        (!group.directories.is_empty()).then_some(group)
    }

    /// Whether it could be made; if not, why not.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.directories.iter().try_for_each(|directory| {
            let ours = directory.parent().unwrap_or(directory);
            let refused = |error: io::Error| format!("{}: {error}", ours.display());
            prepare(ours).map_err(refused)?;
            let access = rustix::fs::access(ours, rustix::fs::Access::WRITE_OK);
            access.map_err(|error| refused(error.into()))
        })
    }

    /// Makes it, and moves this process into it.
    pub(crate) fn enter(&self) -> Result<(), String> {
        let say = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        for directory in &self.directories {
            prepare(directory.parent().unwrap_or(directory))
                .and_then(|()| make(directory))
                .map_err(|error| say(directory, error))?;
        }
        for (file, value) in &self.settings {
            // A kernel that keeps no account of swap limits it in no other way, either.
            if SWAP.iter().any(|swap| file.ends_with(swap)) && !file.exists() {
                continue;
            }
            fs::write(file, value).map_err(|error| say(file, error))?;
        }
        for directory in &self.directories {
            let file = directory.join("cgroup.procs");
            fs::write(&file, "0").map_err(|error| say(&file, error))?;
        }
        Ok(())
    }

    /// How often the kernel killed something in it for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        let files = ["memory.events", "memory.oom_control"];
        let paths = self.directories.iter().flat_map(|it| files.map(|file| it.join(file)));
        let texts = paths.filter_map(|path| fs::read_to_string(path).ok());
        let counts = texts.filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        });
        counts.max().unwrap_or(0)
    }

    /// Takes it away, once nothing is in it.
    pub(crate) fn remove(&self) {
        for directory in &self.directories {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Makes the directory of ours in a hierarchy, with all that is beneath it under control.
fn prepare(ours: &Path) -> io::Result<()> {
    make(ours)?;
    let unified = |directory: &Path| directory.join("cgroup.subtree_control");
    for directory in [ours.parent().unwrap_or(ours), ours] {
        if directory.join("cgroup.controllers").exists() && unified(directory).exists() {
            // What is there is enough, or the limits cannot be written, and that is said then.
            let _ = fs::write(unified(directory), "+memory +cpu +pids");
        }
    }
    Ok(())
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds {
            memory_bytes: Some(1 << 20),
            nano_cpus: Some(1_500_000_000),
            pids: Some(7),
            oom_score_adj: None,
        }
    }

    #[test]
    fn limits_are_where_each_kind_of_hierarchy_has_them() {
        let top = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpu", "pids"] {
            fs::create_dir_all(top.path().join(controller)).unwrap();
        }
        let read = |path: &str| fs::read_to_string(top.path().join(path)).unwrap();
        let group = Group::beneath(top.path(), "x", &bounds()).unwrap();
        group.check().unwrap();
        group.enter().unwrap();
        assert_eq!(read("memory/nanny/x/memory.limit_in_bytes"), (1 << 20).to_string());
        assert_eq!(read("cpu/nanny/x/cpu.cfs_quota_us"), "150000");
        assert_eq!(read("pids/nanny/x/pids.max"), "7");
        assert_eq!(read("pids/nanny/x/cgroup.procs"), "0");

        fs::write(top.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        fs::write(top.path().join("cgroup.subtree_control"), "").unwrap();
        let group = Group::beneath(top.path(), "x", &bounds()).unwrap();
        group.enter().unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +cpu +pids");
        assert_eq!(read("nanny/x/memory.max"), (1 << 20).to_string());
        assert_eq!(read("nanny/x/cpu.max"), "150000 100000");
        fs::write(top.path().join("nanny/x/memory.events"), "oom 1\noom_kill 2\n").unwrap();
        assert_eq!(group.memory_kills(), 2);
    }

    #[test]
    fn swap_is_limited_where_the_kernel_keeps_an_account_of_it() {
        let top = tempfile::tempdir().unwrap();
        let enter = |wanted: &str| {
            let group = Group::beneath(top.path(), "x", &bounds()).unwrap();
            group.enter().unwrap();
            let there = top.path().join(wanted);
            assert!(!there.exists());
            fs::write(&there, "").unwrap();
            group.enter().unwrap();
            fs::read_to_string(&there).unwrap()
        };
        for controller in ["memory", "cpu", "pids"] {
            fs::create_dir_all(top.path().join(controller)).unwrap();
        }
        assert_eq!(enter("memory/nanny/x/memory.memsw.limit_in_bytes"), (1 << 20).to_string());
        fs::write(top.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        assert_eq!(enter("nanny/x/memory.swap.max"), "0");
    }

    #[test]
    fn who_has_no_limits_needs_no_group() {
        assert!(Group::of("x", &Bounds::default()).is_none());
    }
}
