//! What the kernel tells of a process that uses a GPU, for finding the service it belongs to.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nanny_lib::gpu::GpuProcess;

/// What `/proc` says of `pid`, which uses that much memory.
#[cfg(any(feature = "nvml", test))]
pub(crate) fn describe(pid: u32, used_mib: Option<u64>) -> GpuProcess {
    Proc::default().describe(pid, used_mib)
}

/// The kernel's view of processes.
#[derive(Debug, Clone)]
pub(crate) struct Proc {
    root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Proc {
    /// As it is found in `root`.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What there is to know of `pid`. One that is gone, or that cannot be seen from here, is a
    /// bare number: a driver may name processes of the host to somebody in a container.
    ///
    /// Neither its arguments nor its environment are read beyond the program's name: both may hold
    /// secrets.
    pub(crate) fn describe(&self, pid: u32, used_mib: Option<u64>) -> GpuProcess {
        let mut process = GpuProcess::new(pid);
        process.used_mib = used_mib;
        let Some(stat) = self.stat(pid) else { return process };
        process.name = self.name(pid, &stat.comm);
        process.containers = self.containers(pid);
        process.lineage = self.lineage(pid, &stat);
        process
    }

    /// The program's name. The kernel keeps 15 bytes of it; what was cut off is read where the
    /// command line begins with the same.
    fn name(&self, pid: u32, comm: &str) -> Option<String> {
        let command = self.read(pid, "cmdline").unwrap_or_default();
        let program = command.split('\0').next().unwrap_or_default();
        let base = program.rsplit('/').next().unwrap_or_default();
        let longest = [program, base].into_iter().find(|name| name.starts_with(comm));
        let name = longest.filter(|_| comm.len() >= COMM_BYTES).unwrap_or(comm);
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        (!name.is_empty()).then_some(name)
    }

    /// Every container identifier that its control groups name.
    fn containers(&self, pid: u32) -> Vec<String> {
        let groups = self.read(pid, "cgroup").unwrap_or_default();
        let words = groups.split(|c: char| !c.is_ascii_alphanumeric());
        let mut found = Vec::new();
        for id in words.filter(|word| is_container_id(word)) {
            if !found.iter().any(|known| known == id) {
                found.push(id.to_owned());
            }
        }
        found
    }

    /// Itself, its ancestors from near to far, and the leaders of its group and session, which
    /// outlive an ancestor that is gone.
    fn lineage(&self, pid: u32, stat: &Stat) -> Vec<u32> {
        let mut lineage = vec![pid];
        let mut parent = stat.parent;
        while parent != 0 && lineage.len() < MAX_ANCESTORS && !lineage.contains(&parent) {
            lineage.push(parent);
            parent = self.stat(parent).map_or(0, |stat| stat.parent);
        }
        for leader in [stat.group, stat.session] {
            if leader != 0 && !lineage.contains(&leader) {
                lineage.push(leader);
            }
        }
        lineage
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        Stat::parse(&self.read(pid, "stat")?)
    }

    fn read(&self, pid: u32, file: &str) -> Option<String> {
        read_text(&self.root.join(pid.to_string()).join(file))
    }
}

/// A small text file of the kernel's; none if it cannot be read. What is beyond a limit is left
/// out.
pub(crate) fn read_text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of `/proc/PID/stat`, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    parent: u32,
    group: u32,
    session: u32,
}

impl Stat {
    /// Reads the line. The program's name stands in parentheses, and may hold any itself.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once('(')?;
        let (comm, rest) = rest.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        let mut number = || fields.next()?.parse().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        Some(Self { comm: comm.to_owned(), parent, group, session })
    }
}

/// Docker and Podman alike name containers by 64 hexadecimal digits, and control groups after
/// them: `/docker/ID`, `docker-ID.scope`, `libpod-ID.scope`.
fn is_container_id(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

const COMM_BYTES: usize = 15;
const NAME_CHARS: usize = 64;
const MAX_ANCESTORS: usize = 64;
const MAX_FILE_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::*;

    const ID: &str = "2079f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60";
    const OTHER: &str = "aa79f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60";

    /// A `/proc` of processes, each `(pid, comm, parent, group, session)`.
    fn fake(processes: &[(u32, &str, u32, u32, u32)]) -> TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (pid, comm, parent, group, session) in processes {
            let dir = root.path().join(pid.to_string());
            fs::create_dir(&dir).expect("a process's directory");
            let stat = format!("{pid} ({comm}) S {parent} {group} {session} 0 -1 4194304 1 2 3\n");
            fs::write(dir.join("stat"), stat).expect("its line");
        }
        root
    }

    fn write(root: &TempDir, pid: u32, file: &str, text: &str) {
        fs::write(root.path().join(pid.to_string()).join(file), text).expect("a file of its");
    }

    fn look(root: &TempDir, pid: u32) -> GpuProcess {
        Proc::at(root.path()).describe(pid, Some(7))
    }

    #[test]
    fn a_container_is_found_however_its_control_group_is_named() {
        let root = fake(&[(9, "python3", 1, 9, 9)]);
        for line in [
            format!("0::/docker/{ID}\n"),
            format!("12:memory:/\n3:devices:/docker/{ID}\n0::/\n"),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("0::/machine.slice/libpod-{ID}.scope/container\n"),
            format!("4:pids:/../../docker/{ID}/init\n2:cpu:/docker/{ID}\n"),
        ] {
            write(&root, 9, "cgroup", &line);
            assert_eq!(look(&root, 9).containers, [ID], "{line}");
        }
    }

    #[test]
    fn a_container_in_a_container_is_both() {
        let root = fake(&[(9, "python3", 1, 9, 9)]);
        write(&root, 9, "cgroup", &format!("0::/docker/{ID}/docker/{OTHER}\n"));
        assert_eq!(look(&root, 9).containers, [ID, OTHER]);
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        let root = fake(&[(9, "python3", 1, 9, 9)]);
        let (short, upper) = (&ID[1..], ID.to_uppercase());
        write(&root, 9, "cgroup", &format!("0::/{short}\n1:x:/{ID}0\n2:y:/{upper}\n"));
        assert_eq!(look(&root, 9).containers, [""; 0]);
    }

    #[test]
    fn the_lineage_has_ancestors_and_leaders() {
        let processes =
            [(40, "worker", 30, 25, 20), (30, "sh", 10, 25, 20), (10, "shim", 1, 10, 10)];
        assert_eq!(look(&fake(&processes), 40).lineage, [40, 30, 10, 1, 25, 20]);
    }

    #[test]
    fn ancestors_that_run_in_a_circle_end() {
        let root = fake(&[(40, "a", 30, 0, 0), (30, "b", 40, 0, 0)]);
        assert_eq!(look(&root, 40).lineage, [40, 30]);
    }

    #[test]
    fn a_name_may_hold_parentheses_and_blanks() {
        let root = fake(&[(9, "a) S (b 1", 3, 4, 5)]);
        let process = look(&root, 9);
        assert_eq!(process.name.as_deref(), Some("a) S (b 1"));
        assert_eq!(process.lineage, [9, 3, 4, 5]);
    }

    #[test]
    fn a_name_that_the_kernel_cut_is_made_whole() {
        let root = fake(&[(9, "text-generation", 1, 9, 9)]);
        write(&root, 9, "cmdline", "/usr/bin/text-generation-server\0--api-key\0hidden\0");
        assert_eq!(look(&root, 9).name.as_deref(), Some("text-generation-server"));
        write(&root, 9, "cmdline", "python3\0");
        assert_eq!(look(&root, 9).name.as_deref(), Some("text-generation"));
    }

    #[test]
    fn arguments_are_no_part_of_a_name() {
        let root = fake(&[(9, "python3", 1, 9, 9)]);
        write(&root, 9, "cmdline", "python3\0--token\0hidden\0");
        assert_eq!(look(&root, 9).name.as_deref(), Some("python3"));
    }

    #[test]
    fn a_process_that_is_gone_is_a_bare_number() {
        let mut bare = GpuProcess::new(9);
        bare.used_mib = Some(7);
        assert_eq!(look(&fake(&[]), 9), bare);
    }

    #[test]
    fn a_real_process_is_seen() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let process = describe(child.id(), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process.lineage[..2], [child.id(), std::process::id()]);
        // Between fork and exec it still bears the name of this test's thread.
        assert!(process.name.is_some());
    }
}
