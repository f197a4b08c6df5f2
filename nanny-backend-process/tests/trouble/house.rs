//! What the tests have at hand.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use nanny_backend_process::{ProcessBackend, ProcessConfig};
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    ContainerBackend as _, ContainerInfo, ContainerSpec, ContainerState, LogOptions, Selector,
};
use tempfile::TempDir;

/// Processes in a directory of their own, which end with the test.
pub(crate) struct House {
    pub(crate) directory: TempDir,
    pub(crate) backend: ProcessBackend,
}

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime can be made").block_on(test);
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ProcessConfig)) -> Self {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let mut config = ProcessConfig::new(directory.path().join("processes"));
        change(&mut config);
        Self { directory, backend: ProcessBackend::new(config) }
    }

    /// The directory of one container.
    pub(crate) fn home(&self, id: &ContainerId) -> PathBuf {
        self.directory.path().join("processes").join(id.as_str())
    }

    pub(crate) async fn created(&self, name: &str, script: &str) -> ContainerId {
        self.backend.create(&spec(name, script)).await.expect("it can be created")
    }

    pub(crate) async fn started(&self, name: &str, script: &str) -> ContainerId {
        let id = self.created(name, script).await;
        self.starts(&id).await;
        id
    }

    /// Starts it, and waits until it is seen to run: for a moment, what has just become another
    /// program shows no environment.
    pub(crate) async fn starts(&self, id: &ContainerId) {
        self.backend.start(id).await.expect("it can be started");
        until("its program is seen", async || match self.inspect(id).await.processes[..] {
            [main, ..] => {
                let environment = std::fs::read(format!("/proc/{main}/environ"));
                environment.is_ok_and(|shown| !shown.is_empty()).then_some(())
            }
            [] => Some(()),
        })
        .await;
    }

    pub(crate) async fn inspect(&self, id: &ContainerId) -> ContainerInfo {
        self.backend.inspect(id).await.expect("it is there")
    }

    pub(crate) async fn ended(&self, id: &ContainerId) -> ContainerInfo {
        until("it ends", async || {
            let info = self.inspect(id).await;
            (info.state == ContainerState::Exited).then_some(info)
        })
        .await
    }

    /// The lines of its log so far.
    pub(crate) async fn log(&self, id: &ContainerId) -> Vec<String> {
        let lines: Vec<_> = self
            .backend
            .logs(id, LogOptions::default())
            .try_collect()
            .await
            .expect("the log can be read");
        lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    /// Waits until the log has a line that `is_it`.
    pub(crate) async fn logged(&self, id: &ContainerId, is_it: impl Fn(&str) -> bool) -> String {
        until("it is in the log", async || self.log(id).await.into_iter().find(|it| is_it(it)))
            .await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let backend = self.backend.clone();
        // A test that failed is unwinding in its runtime.
        let cleaned = std::thread::spawn(move || {
            run(async {
                for info in backend.list(&Selector::All).await.unwrap_or_default() {
                    let _ = backend.remove(&info.id).await;
                }
            });
        });
        let _ = cleaned.join();
    }
}

/// A container that runs `script`.
pub(crate) fn spec(name: &str, script: &str) -> ContainerSpec {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    ContainerSpec { name: name.to_owned(), command: Some(command), ..ContainerSpec::default() }
}

/// Looks until there is something.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    };
    let found = tokio::time::timeout(LIMIT, found).await;
    found.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The processes whose command line or environment holds `text`, zombies excepted.
pub(crate) fn processes_with(file: &str, text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let bytes = std::fs::read(Path::new("/proc").join(pid.to_string()).join(file));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).contains(text)
    };
    pids.filter(has).collect()
}

/// The shim of `id`, and the first process of it, as the kernel knows them.
pub(crate) fn shims(id: &ContainerId) -> Vec<i32> {
    let of_stage = |stage: &str| {
        processes_with("cmdline", &format!("process-shim\0{stage}\0"))
            .into_iter()
            .filter(|pid| processes_with("cmdline", id.as_str()).contains(pid))
            .collect::<Vec<_>>()
    };
    [of_stage("run"), of_stage("adopt")].concat()
}

/// The processes of `id` that lead a session: one for each time that it runs.
pub(crate) fn leaders(id: &ContainerId) -> Vec<i32> {
    let mut pids = processes_with("environ", &format!("NANNY_PROCESS_ID={id}"));
    pids.retain(|pid| session(*pid) == Some(*pid));
    pids
}

fn session(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

pub(crate) fn send(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("it is a process");
    rustix::process::kill_process(pid, signal).expect("it is there");
}

/// Kills them, and waits until they have ended: they look empty before that.
pub(crate) async fn kill(pids: Vec<i32>) {
    for pid in pids {
        send(pid, rustix::process::Signal::KILL);
        until("it has ended", async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
            matches!(state, None | Some(Some('Z' | 'X'))).then_some(())
        })
        .await;
    }
}

/// For a person to see.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(crate) fn say(what: &str) {
    eprintln!("\n{what}\n");
}

/// Says that a test cannot be made here; in CI it has to be.
pub(crate) fn not_tested(why: &str) {
    say(&format!("*** NOT TESTED: {why} ***"));
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "not tested: {why}");
}
