//! The engine and Compose, asked by their own command lines.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The variables that files are interpolated with, theirs and ours.
pub(crate) fn environment() -> Vec<(&'static str, String)> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    // Some files of others demand a key.
    vec![("HOME", home), ("NGC_API_KEY", "key".to_owned()), ("PWD", "/tmp".to_owned())]
}

/// Everything that carries a project's label, as the engine reports it.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) containers: Vec<Value>,
    pub(crate) networks: Vec<Value>,
    pub(crate) volumes: Vec<Value>,
}

impl Made {
    /// What there is of `project`.
    pub(crate) fn of(project: &str) -> Self {
        let filter = format!("label=com.docker.compose.project={project}");
        let inspect = |list: &[&str], inspect: &[&str]| {
            let listed = docker(&[list, &["--filter", &filter]].concat());
            let found: Vec<_> = listed.split_whitespace().collect();
            if found.is_empty() {
                return Vec::new();
            }
            let text = docker(&[inspect, &found].concat());
            serde_json::from_str::<Vec<Value>>(&text).expect("a list")
        };
        Self {
            containers: inspect(&["ps", "-aq", "--no-trunc"], &["inspect"]),
            networks: inspect(&["network", "ls", "-q", "--no-trunc"], &["network", "inspect"]),
            volumes: inspect(&["volume", "ls", "-q"], &["volume", "inspect"]),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }
}

/// Runs `docker` and returns what it prints; it must succeed.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("there is a docker");
    assert!(output.status.success(), "docker {arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `docker compose` in a project's directory.
pub(crate) fn compose(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    compose_at(None, directory, arguments)
}

/// The same, at another engine than the `docker` command talks to.
pub(crate) fn compose_at(
    host: Option<&str>,
    directory: &Path,
    arguments: &[&str],
) -> Result<String, String> {
    let kept = ["PATH", "DOCKER_HOST"].into_iter();
    let kept = kept.filter_map(|name| std::env::var(name).ok().map(|value| (name, value)));
    let kept = kept.chain(host.map(|host| ("DOCKER_HOST", host.to_owned())));
    let output = Command::new("docker")
        .arg("compose")
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(kept.chain(environment()))
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() { Ok(said(&output)) } else { Err(said(&output)) }
}

fn said(output: &Output) -> String {
    let [said, complained] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
    format!("{said}{complained}")
}

/// What keeps the tests from running, if anything does.
pub(crate) fn missing() -> Option<&'static str> {
    let works = |arguments: &[&str]| {
        Command::new("docker").args(arguments).output().is_ok_and(|o| o.status.success())
    };
    if !works(&["compose", "version"]) {
        return Some("there is no `docker compose`");
    }
    (!works(&["image", "inspect", IMAGE])).then_some("no engine has nanny-test/busybox:1")
}

/// What every container runs, or would.
pub(crate) const IMAGE: &str = "nanny-test/busybox:1";
