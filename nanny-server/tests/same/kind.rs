//! The kinds of engines, and what a scenario needs of each: how a service is written down for it,
//! and what somebody does there who is not the nanny.

use std::fmt::Debug;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::house::{CANARY, House};
use crate::witness::MARK;

/// A kind of engine. All are given the same programs, and must make the same of them.
pub(crate) trait Kind: Debug + Sync {
    /// As a manifest and `--backend` call it.
    fn name(&self) -> &'static str;

    /// Why it cannot be had here, if it cannot.
    fn trouble(&self) -> Option<String>;

    /// The variable by which somebody counts on it.
    fn counts(&self) -> String {
        format!("NANNY_TEST_{}", self.name().to_uppercase())
    }

    /// Adds a service that runs `program`. `manifest` is what it says beside that.
    fn add(&self, house: &mut House, service: &str, manifest: &str, program: &Program);

    /// Writes it down anew.
    fn change(&self, house: &House, service: &str, manifest: &str, program: &Program);

    /// Where a program finds the folder that it may write into.
    fn sees(&self, folder: &Path) -> String;

    /// What comes before each line of a service's log.
    fn prefix(&self, service: &str) -> String;

    /// Ends a service as somebody does who knows nothing of the nanny, and waits until it is down.
    fn stop_by_hand(&self, house: &House, service: &str);

    /// Whether the engine keeps anything of a project: containers, networks, files.
    fn keeps(&self, house: &House, service: &str) -> bool;

    /// Ends and removes whatever there still is of a project.
    fn clean(&self, project: &str);
}

/// What a service runs: a script, which `sh` reads wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Program {
    pub(crate) command: Vec<String>,
    pub(crate) restart: Option<&'static str>,
    /// So many seconds it may take to end.
    pub(crate) grace: Option<u32>,
    pub(crate) port: Option<u16>,
    /// A folder that it may write into.
    pub(crate) mount: Option<PathBuf>,
    /// It has the network of the machine.
    pub(crate) is_in_the_open: bool,
    /// It says itself that it wants GPUs, as is enough for an engine whose usual runtime is NVIDIA's.
    pub(crate) wants_gpus: bool,
}

impl Program {
    pub(crate) fn new(script: &str) -> Self {
        Self::command(&["sh", "-c", script])
    }

    pub(crate) fn command(words: &[&str]) -> Self {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        Self { command, ..Self::default() }
    }

    /// Runs until it is stopped, and stops at once.
    pub(crate) fn idle() -> Self {
        Self::new("echo up; exec sleep 86400")
    }

    /// Hears that it is to stop, says so, and does not.
    pub(crate) fn stubborn() -> Self {
        Self::new("trap 'echo told' TERM; echo up; while :; do sleep 0.1; done 2>/dev/null")
            .grace(8)
    }

    /// Is not there.
    pub(crate) fn missing() -> Self {
        Self::command(&["no-such-program"])
    }

    /// Crashes as soon as it is sent USR1.
    pub(crate) fn fragile() -> Self {
        Self::new("trap 'echo down; exit 7' USR1; echo up; while :; do sleep 0.1; done")
    }

    /// Serves what is in `www`, on `port`, once it has run `first`.
    pub(crate) fn serving(port: u16, first: &str) -> Self {
        let serve = format!("exec busybox httpd -f -p \"$BIND:{port}\" -h www");
        Self { port: Some(port), ..Self::new(&format!("mkdir -p www; {first} echo up; {serve}")) }
    }

    pub(crate) fn restart(self, policy: &'static str) -> Self {
        Self { restart: Some(policy), ..self }
    }

    pub(crate) fn grace(self, seconds: u32) -> Self {
        Self { grace: Some(seconds), ..self }
    }
}

/// The variables of a program: its mark, where it may listen, and a secret.
pub(crate) fn variables(mark: &str, bind: &str) -> String {
    format!("{{{MARK}: '{mark}', BIND: '{bind}', HUSH_A: '{CANARY}-literal'}}")
}

/// Says so; or fails, where somebody counts on the test.
#[track_caller]
pub(crate) fn not_tested(test: &str, trouble: &str, kind: &dyn Kind) {
    let is_set =
        |name: &str| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
    assert!(!is_set("CI") && !is_set(&kind.counts()), "{trouble}");
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {test}: {trouble} (see scripts/engines)");
}
