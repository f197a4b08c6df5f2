//! Container engines, by their own command lines.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::json;

use crate::house::House;
use crate::kind::{Kind, Program, variables};

/// An engine whose command line is called like it.
#[derive(Debug)]
pub(crate) struct Containers {
    name: &'static str,
    trouble: OnceLock<Option<String>>,
}

pub(crate) static DOCKER: Containers = Containers::new("docker");
pub(crate) static PODMAN: Containers = Containers::new("podman");

const IMAGE: &str = "nanny-test/busybox:1";
/// Where a container finds the folder that it may write into.
const MOUNTED: &str = "/shared";

impl Containers {
    const fn new(name: &'static str) -> Self {
        Self { name, trouble: OnceLock::new() }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let output = Command::new(self.name).args(arguments).output();
        output.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Runs its command line by hand.
    #[track_caller]
    pub(crate) fn by_hand(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?}: {said}{errors}", self.name);
        said
    }

    /// What of one kind has a project's label, by `list`.
    fn of_project(&self, list: &[&str], project: &str) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={project}");
        let found = self.by_hand(&[list, &["--quiet", "--filter", &filter]].concat());
        found.split_whitespace().map(str::to_owned).collect()
    }

    /// The containers of a project, whatever they do.
    pub(crate) fn containers(&self, project: &str) -> Vec<String> {
        self.of_project(&["ps", "--all"], project)
    }

    /// The names and identifiers of all containers that are up.
    pub(crate) fn up(&self) -> BTreeSet<(String, String)> {
        let listed = self.by_hand(&["ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
        let pairs = listed.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> String {
        let (variable, usual) = match self.name {
            "docker" => ("DOCKER_HOST", "/var/run/docker.sock"),
            _ => ("CONTAINER_HOST", "/run/podman/podman.sock"),
        };
        let host = std::env::var(variable).unwrap_or_default();
        host.strip_prefix("unix://").unwrap_or(usual).to_owned()
    }

    /// The nanny's flag that says where it listens.
    pub(crate) fn host_flag(&self) -> &'static str {
        if self.name == "docker" { "--docker-host" } else { "--podman-host" }
    }

    fn networks(&self, project: &str) -> Vec<String> {
        self.of_project(&["network", "ls"], project)
    }
}

impl Kind for Containers {
    fn name(&self) -> &'static str {
        self.name
    }

    fn trouble(&self) -> Option<String> {
        let look = || {
            let image = Command::new(self.name).args(["image", "inspect", IMAGE]).output();
            match image {
                Err(error) => Some(format!("there is no `{}`: {error}", self.name)),
                Ok(image) if !image.status.success() => {
                    let said = String::from_utf8_lossy(&image.stderr).into_owned();
                    Some(format!("{} has no {IMAGE}: {}", self.name, said.trim()))
                }
                Ok(_) => None,
            }
        };
        self.trouble.get_or_init(look).clone()
    }

    fn add(&self, house: &mut House, service: &str, manifest: &str, program: &Program) {
        house.add(service, manifest, &compose(&house.project(service), program));
    }

    fn change(&self, house: &House, service: &str, manifest: &str, program: &Program) {
        house.write(service, "docker-compose.yml", &compose(&house.project(service), program));
        house.manifest(service, manifest);
    }

    fn sees(&self, _: &Path) -> String {
        MOUNTED.to_owned()
    }

    fn prefix(&self, _: &str) -> String {
        "web-1  | ".to_owned()
    }

    fn stop_by_hand(&self, house: &House, service: &str) {
        self.by_hand(&["stop", &house.container(service)]);
    }

    fn keeps(&self, house: &House, service: &str) -> bool {
        let project = house.project(service);
        !self.containers(&project).is_empty() || !self.networks(&project).is_empty()
    }

    fn clean(&self, project: &str) {
        if self.trouble().is_some() {
            return;
        }
        // What is gone meanwhile is no trouble.
        for id in self.containers(project) {
            self.command(&["rm", "--force", "--volumes", &id]);
        }
        for id in self.networks(project) {
            self.command(&["network", "rm", &id]);
        }
        for name in self.of_project(&["volume", "ls"], project) {
            self.command(&["volume", "rm", &name]);
        }
    }
}

/// The Compose file of a project whose one part, `web`, runs `program`.
pub(crate) fn compose(project: &str, program: &Program) -> String {
    let Program { command, restart, grace, port, mount, is_in_the_open, wants_gpus } = program;
    let command = json!(command).to_string().replace('$', "$$");
    let mut environment = variables(project, "0.0.0.0");
    if *wants_gpus {
        environment = environment.replacen('{', "{NVIDIA_VISIBLE_DEVICES: all, ", 1);
    }
    // An init would run, and only then find out that there is nothing for it to start.
    let init = *program != Program::missing();
    let mut file = format!(
        "services:\n  web:\n    image: {IMAGE}\n    init: {init}\n    command: {command}\n    \
         environment: {environment}\n"
    );
    if let Some(policy) = restart {
        file += &format!("    restart: {policy}\n");
    }
    if let Some(seconds) = grace {
        file += &format!("    stop_grace_period: {seconds}s\n");
    }
    if let Some(port) = port {
        file += &format!("    ports: ['127.0.0.1:{port}:{port}']\n");
    }
    if *is_in_the_open {
        file += "    network_mode: host\n";
    }
    if let Some(folder) = mount {
        file += &format!("    volumes: ['{}:{MOUNTED}']\n", folder.display());
    }
    file
}
