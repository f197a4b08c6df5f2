//! The engine, asked without any of our own code in between: its API, and its own command line.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::http::{Answer, exchange};

/// Whether there is an engine. Without one a test cannot run, and says so.
pub(crate) fn answers() -> bool {
    static ANSWERS: OnceLock<Option<String>> = OnceLock::new();
    let trouble = ANSWERS.get_or_init(|| {
        let image = match ask("GET", "/images/nanny-test%2Fbusybox:1/json") {
            Ok(answer) => answer.status,
            Err(error) => return Some(format!("no Docker Engine answers: {error}")),
        };
        (image != 200).then(|| "the image nanny-test/busybox:1 is not there".to_owned())
    });
    let Some(trouble) = trouble else { return true };
    not_tested(trouble);
    false
}

/// Says so; or fails, where somebody counts on the test.
#[track_caller]
pub(crate) fn not_tested(trouble: &str) {
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
    assert!(!is_set("CI") && !is_set("NANNY_TEST_DOCKER"), "{trouble}");
    crate::house::say(&format!("NOT TESTED: {trouble} (see scripts/engines)"));
}

/// Where the engine listens.
pub(crate) fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned()
}

fn ask(method: &str, path: &str) -> std::io::Result<Answer> {
    let stream = UnixStream::connect(socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // With HTTP/1.0 it sends no chunks.
    exchange(stream, &format!("{method} {path} HTTP/1.0"), "host: docker\r\n", "")
}

fn call(method: &str, path: &str) -> Answer {
    ask(method, path).expect("the engine answers")
}

fn filter(label: &str) -> String {
    format!("%7B%22label%22:%5B%22{label}%22%5D%7D")
}

fn of_project(project: &str) -> String {
    filter(&format!("com.docker.compose.project={project}"))
}

/// The containers of a Compose project, whatever they do.
pub(crate) fn containers(project: &str) -> Vec<Value> {
    let found = call("GET", &format!("/containers/json?all=1&filters={}", of_project(project)));
    found.expect(200).as_array().cloned().expect("a list")
}

/// The projects of all containers that are up and whose project ends in `suffix`.
pub(crate) fn projects_up(suffix: &str) -> Vec<String> {
    let up = call("GET", "/containers/json").expect(200);
    let projects = up.as_array().expect("a list").iter();
    let projects =
        projects.filter_map(|found| found["Labels"]["com.docker.compose.project"].as_str());
    let mut projects: Vec<_> =
        projects.filter(|name| name.ends_with(suffix)).map(str::to_owned).collect();
    projects.sort();
    projects.dedup();
    projects
}

/// A container by its name or identifier, if there is one.
pub(crate) fn find(container: &str) -> Option<Value> {
    let answer = call("GET", &format!("/containers/{container}/json"));
    (answer.status != 404).then(|| answer.expect(200))
}

/// A container by its name or identifier, which must be there.
#[track_caller]
pub(crate) fn inspect(container: &str) -> Value {
    find(container).unwrap_or_else(|| panic!("there is no container '{container}'"))
}

/// The identifier of a container.
#[track_caller]
pub(crate) fn id(container: &str) -> String {
    inspect(container)["Id"].as_str().expect("it has one").to_owned()
}

/// Whether a container is there and runs.
pub(crate) fn runs(container: &str) -> bool {
    find(container).is_some_and(|found| found["State"]["Running"] == true)
}

/// A time the engine says, such as a container's `["State"]["StartedAt"]`.
#[track_caller]
pub(crate) fn time(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(crate) fn network_exists(name: &str) -> bool {
    call("GET", &format!("/networks/{name}")).status == 200
}

pub(crate) fn volume_exists(name: &str) -> bool {
    call("GET", &format!("/volumes/{name}")).status == 200
}

/// Removes a container by hand, if it is still there.
pub(crate) fn remove(container: &str) {
    let answer = call("DELETE", &format!("/containers/{container}?force=1"));
    // 409: somebody else is at it.
    assert!(matches!(answer.status, 204 | 404 | 409), "{answer:?}");
}

/// Runs `docker` by hand.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    run(Command::new("docker").args(arguments))
}

/// Runs `docker compose` by hand in a service's directory.
#[track_caller]
pub(crate) fn compose(directory: &Path, arguments: &[&str]) -> String {
    run(&mut compose_in(directory, arguments))
}

/// Runs `docker compose` by hand as somebody who is at home in `home`.
#[track_caller]
pub(crate) fn compose_as(directory: &Path, home: &Path, arguments: &[&str]) -> String {
    let mut command = compose_in(directory, arguments);
    // The plug-in itself is found where it always is.
    if let (None, Some(real)) = (std::env::var_os("DOCKER_CONFIG"), std::env::var_os("HOME")) {
        command.env("DOCKER_CONFIG", Path::new(&real).join(".docker"));
    }
    run(command.env("HOME", home))
}

/// Runs `docker compose` by hand while others are at work, which it may fail at.
pub(crate) fn try_compose(directory: &Path, arguments: &[&str]) {
    compose_in(directory, arguments).output().expect("there is a docker command");
}

fn compose_in(directory: &Path, arguments: &[&str]) -> Command {
    let (name, value) = crate::house::INHERITED;
    let mut command = Command::new("docker");
    command.arg("compose").args(arguments).current_dir(directory).env(name, value);
    command
}

/// Whether the Compose CLI is there. Without it a test cannot run, and says so.
pub(crate) fn has_compose() -> bool {
    let found = Command::new("docker").args(["compose", "version"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        not_tested("there is no `docker compose`");
    }
    found
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("there is a docker command");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}{said}{errors}", output.status);
    said + &errors
}

/// Runs a shell command in a container.
#[track_caller]
pub(crate) fn execute(container: &str, script: &str) -> String {
    docker(&["exec", container, "sh", "-c", script])
}

/// Removes everything that belongs to a project.
pub(crate) fn clean(project: &str) {
    let Ok(answer) = ask("GET", &format!("/containers/json?all=1&filters={}", of_project(project)))
    else {
        return;
    };
    for container in answer.json().as_array().into_iter().flatten() {
        let id = container["Id"].as_str().unwrap_or_default();
        let _ = ask("DELETE", &format!("/containers/{id}?force=1&v=1"));
    }
    for (list, kind, member) in
        [("/networks", "networks", None), ("/volumes", "volumes", Some("Volumes"))]
    {
        let Ok(answer) = ask("GET", &format!("{list}?filters={}", of_project(project))) else {
            return;
        };
        let found = answer.json();
        let found = member.map_or(&found, |member| &found[member]);
        for resource in found.as_array().into_iter().flatten() {
            let name = resource["Name"].as_str().unwrap_or_default();
            let _ = ask("DELETE", &format!("/{kind}/{name}"));
        }
    }
}
