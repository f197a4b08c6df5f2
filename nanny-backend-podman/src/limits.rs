//! What the kernel allows the engine, and so its containers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::UnixStream;

use crate::convert::Most;

/// For a connection on the same machine.
const CONNECT: Duration = Duration::from_secs(5);

/// The limits of the engine that listens on `socket`. Where they cannot be seen, our own, which are
/// most likely the same; but an engine allows itself no more processes than there are numbers for.
pub(crate) async fn most(socket: &Path) -> Most {
    let connected = tokio::time::timeout(CONNECT, UnixStream::connect(socket)).await;
    let peer = connected.ok().and_then(Result::ok).and_then(|stream| stream.peer_cred().ok());
    let limits = peer.and_then(|peer| peer.pid()).and_then(limits_of);
    limits.unwrap_or_else(|| {
        let numbers = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
        let numbers = numbers.and_then(|text| text.trim().parse().ok());
        let processes = getrlimit(Resource::Nproc).maximum;
        Most {
            files: getrlimit(Resource::Nofile).maximum,
            processes: processes.into_iter().chain(numbers).min(),
        }
    })
}

/// Those of a process, if it is an engine, and not somebody who listens in its place.
fn limits_of(pid: i32) -> Option<Most> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    (name.trim() == "podman").then(|| read(&limits))
}

/// Reads a table of the kernel's; what is unlimited is `None`.
fn read(table: &str) -> Most {
    let hard = |name: &str| {
        let row = table.lines().find_map(|line| line.strip_prefix(name))?;
        row.split_whitespace().nth(1)?.parse().ok()
    };
    Most { files: hard("Max open files"), processes: hard("Max processes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limits_are_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             unlimited            unlimited            processes \n\
                     Max open files            1024                 20000                files     \n";
        assert_eq!(read(table), Most { files: Some(20_000), processes: None });
    }
}
