//! What the kernel says about processes: who they are, whose they are, and how they are signalled.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// One process, and no other that is given its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// When it began, in ticks since the machine did.
    pub(crate) began: u64,
}

/// A process as the kernel describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    is_dead: bool,
    /// Processor time of its own, in ticks.
    own_ticks: u64,
    /// Processor time of the children that it has waited for, in ticks.
    children_ticks: u64,
}

impl Identity {
    /// Our own.
    pub(crate) fn own() -> Option<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Some(process(pid)?.identity)
    }

    /// Whether it lives; one that has ended and not been waited for does not.
    pub(crate) fn lives(self) -> bool {
        process(self.pid).is_some_and(|process| process.identity == self && !process.is_dead)
    }

    /// Sends `signal`, to this process or to none.
    pub(crate) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // It may be gone, which is all that can go wrong: it is ours, or was.
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // Whatever has the number now is what the descriptor is of.
            Ok(process) if self.lives() => {
                let _ = rustix::process::pidfd_send_signal(process, signal);
            }
            Err(rustix::io::Errno::NOSYS) if self.lives() => {
                let _ = rustix::process::kill_process(pid, signal);
            }
            _ => {}
        }
    }
}

impl Process {
    /// Processor time of its own and of the children it has waited for.
    pub(crate) fn cpu(&self) -> Duration {
        time(self.own_ticks.saturating_add(self.children_ticks))
    }

    /// Processor time of the children that it has waited for.
    pub(crate) fn cpu_of_children(&self) -> Duration {
        time(self.children_ticks)
    }

    /// Memory that is its own, in bytes: not the pages of files.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = fs::read(format!("/proc/{}/status", self.identity.pid)).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
            kib.unwrap_or(0_u64)
        };
        (field("RssAnon:") + field("RssShmem:")) * 1024
    }

    fn carries(&self, mark: &[u8]) -> bool {
        let environment =
            fs::read(format!("/proc/{}/environ", self.identity.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    }
}

/// The process that has this number now.
pub(crate) fn process(pid: i32) -> Option<Process> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes that live.
fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(process).filter(|process| !process.is_dead).collect()
}

/// `process`, and all that descend from it.
pub(crate) fn descendants(ancestor: i32) -> Vec<Process> {
    let all = processes();
    let first = all.iter().filter(|process| process.parent == ancestor);
    family(&all, first.map(|process| process.identity.pid).collect())
}

/// What is left of a container whose shim is gone: its first process, what is of that one's session
/// or group, what carries its mark, and what descends from them.
pub(crate) fn orphans(main: Option<Identity>, mark: &str) -> Vec<Process> {
    let all = processes();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // The number of a session or a group is given to no other process, as long as it has members:
    // if another has it, there are none of ours.
    let is_still = |main: &Identity| process(main.pid).is_none_or(|it| it.identity == *main);
    let main = main.filter(is_still);
    let is_one = |process: &&Process| {
        let of_main = main.is_some_and(|main| {
            process.identity.began >= main.began
                && [process.identity.pid, process.session, process.group].contains(&main.pid)
        });
        process.identity.pid != own && (of_main || process.carries(mark.as_bytes()))
    };
    let first = all.iter().filter(is_one).map(|process| process.identity.pid).collect();
    family(&all, first)
}

fn family(all: &[Process], mut pids: BTreeSet<i32>) -> Vec<Process> {
    loop {
        let known = pids.len();
        let children = all.iter().filter(|process| pids.contains(&process.parent));
        let children: Vec<_> = children.map(|process| process.identity.pid).collect();
        pids.extend(children);
        if pids.len() == known {
            return all.iter().filter(|it| pids.contains(&it.identity.pid)).copied().collect();
        }
    }
}

/// The machine since it was switched on, and the name space that process numbers are of: in
/// another one they mean nothing.
pub(crate) fn world() -> &'static str {
    static WORLD: LazyLock<String> = LazyLock::new(|| {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        format!("{} {}", boot.trim(), space.display())
    });
    &WORLD
}

/// Time since the machine was switched on: nobody sets this clock.
pub(crate) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

fn time(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs(ticks / per_second)
        + Duration::from_nanos(ticks % per_second * (1_000_000_000 / per_second))
}

/// Reads a line of `/proc/PID/stat`. The name of the program is in parentheses, and may hold any.
fn parse(stat: &[u8]) -> Option<Process> {
    let (pid, rest) = stat.split_at(stat.iter().position(|byte| *byte == b' ')?);
    let rest = &rest[rest.iter().rposition(|byte| *byte == b')')? + 1..];
    let fields: Vec<_> = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let id = |at: usize| fields.get(at)?.parse::<i32>().ok();
    let pid = std::str::from_utf8(pid).ok()?.parse().ok()?;
    Some(Process {
        identity: Identity { pid, began: number(19)? },
        is_dead: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: id(1)?,
        group: id(2)?,
        session: id(3)?,
        own_ticks: number(11)? + number(12)?,
        children_ticks: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_have_any_name() {
        let line = b"77 (a) (b ) R 1 2 3 0 -1 4194560 100 0 0 0 7 8 9 10 20 0 1 0 4711 0 0\n";
        let process = parse(line).unwrap();
        assert_eq!(process.identity, Identity { pid: 77, began: 4711 });
        assert_eq!((process.parent, process.group, process.session), (1, 2, 3));
        assert_eq!((process.own_ticks, process.children_ticks), (15, 19));
        assert!(parse(b"77 (cut").is_none() && parse(b"").is_none());
    }

    #[test]
    fn a_session_outlives_who_began_it_and_not_the_next_of_its_number() {
        use std::os::unix::process::CommandExt as _;

        // It leads a group, and leaves somebody in it.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "sleep 1000 >/dev/null & echo $!"]).process_group(0);
        shell.stdout(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let leader = process(i32::try_from(shell.id()).unwrap()).unwrap().identity;
        let mut said = String::new();
        std::io::Read::read_to_string(&mut shell.stdout.take().unwrap(), &mut said).unwrap();
        shell.wait().unwrap();
        let left = process(said.trim().parse().unwrap()).unwrap().identity;
        let pids = |main: Identity| {
            let found = orphans(Some(main), "NO=MARK");
            found.iter().map(|process| process.identity).collect::<Vec<_>>()
        };
        assert_eq!(pids(leader), [left]);
        // One that began later than they did is not theirs, though it had the number.
        assert_eq!(pids(Identity { began: left.began + 1, ..leader }), []);
        // As if the number were another's by now.
        assert_eq!(pids(Identity { began: left.began - 1, ..left }), []);
        left.signal(Signal::KILL);
    }

    #[test]
    fn we_live_and_our_number_at_another_time_does_not() {
        let own = Identity::own().unwrap();
        assert!(own.lives());
        let earlier = Identity { began: own.began + 1, ..own };
        assert!(!earlier.lives());
        earlier.signal(Signal::KILL); // Or this test would not pass.
    }
}
