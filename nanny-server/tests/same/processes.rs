//! Plain processes. Their engine is the nanny's own, so all that others see is the kernel's word.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::house::{House, until};
use crate::kind::{Kind, Program, variables};
use crate::witness;

/// Plain processes.
#[derive(Debug)]
pub(crate) struct Processes;

pub(crate) static PROCESS: Processes = Processes;

impl Kind for Processes {
    fn name(&self) -> &'static str {
        "process"
    }

    fn trouble(&self) -> Option<String> {
        // Whoever may read our own environment may read that of our children.
        let readable = std::fs::read("/proc/self/environ").is_ok();
        let busybox = Command::new("busybox").arg("true").output();
        match (readable, busybox) {
            (false, _) => Some("there is no /proc to look into".to_owned()),
            (true, Err(error)) => Some(format!("there is no `busybox`: {error}")),
            (true, Ok(_)) => None,
        }
    }

    fn add(&self, house: &mut House, service: &str, manifest: &str, program: &Program) {
        let manifest = written(house, service, manifest, program);
        house.add_process(service, &manifest);
    }

    fn change(&self, house: &House, service: &str, manifest: &str, program: &Program) {
        house.manifest(service, &written(house, service, manifest, program));
    }

    fn sees(&self, folder: &Path) -> String {
        folder.display().to_string()
    }

    fn prefix(&self, service: &str) -> String {
        format!("{service}  | ")
    }

    fn stop_by_hand(&self, house: &House, service: &str) {
        let project = house.project(service);
        let first = until(|| witness::run(&project), || format!("'{service}' does not run"));
        signal(first.pid, "TERM");
        let place = format!("/proc/{}", first.pid);
        let gone = || (!Path::new(&place).exists()).then_some(());
        until(gone, || format!("{first:?} does not end"));
    }

    fn keeps(&self, house: &House, service: &str) -> bool {
        let kept = house.state().join("processes");
        let files = Command::new("grep").args(["-rlF", &house.project(service)]).arg(kept).output();
        !files.expect("there is a grep").stdout.is_empty()
    }

    fn clean(&self, project: &str) {
        for process in witness::processes(|found| found == project) {
            signal(process.pid, "KILL");
        }
    }
}

/// The manifest of a service that runs `program`.
fn written(house: &House, service: &str, manifest: &str, program: &Program) -> String {
    let Program { command, restart, grace, .. } = program;
    let environment = variables(&house.project(service), "127.0.0.1");
    let mut file = format!("{manifest}command: {}\nenv: {environment}\n", json!(command));
    if let Some(policy) = restart {
        file += &format!("restart: {policy}\n");
    }
    if let Some(seconds) = grace {
        file += &format!("stop_timeout: {seconds}\n");
    }
    file
}

/// Sends a signal to a process, which may be gone by now.
pub(crate) fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).output();
    sent.expect("there is a kill");
}
