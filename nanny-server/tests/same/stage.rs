//! Where a scenario is played: a house whose services all run on one kind of engine.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::process::Command;

use crate::house::{GPU, House, until};
use crate::kind::{Kind, Program};
use crate::processes::signal;
use crate::witness::{self, Run};

/// A house, and one kind of engine for all that is added to it. Ends in this order: the nanny, then
/// whatever still runs.
pub(crate) struct Stage {
    pub(crate) house: House,
    pub(crate) kind: &'static dyn Kind,
    left: Left,
}

/// Service names of which there may be two up; all others need a GPU.
const PLAIN: &str = "plain";

impl Stage {
    /// One without services and without a nanny.
    pub(crate) fn new(kind: &'static dyn Kind) -> Self {
        let house = House::new().expect("whoever is asked says yes");
        Self { house, kind, left: Left::default() }
    }

    /// One with these services, and a nanny.
    pub(crate) fn with(kind: &'static dyn Kind, services: &[(&str, Program)]) -> Self {
        let mut stage = Self::new(kind);
        for (service, program) in services {
            stage.add(service, "", program);
        }
        stage.open();
        stage
    }

    /// Adds a service: one that needs a GPU, unless it is called `plain`.
    pub(crate) fn add(&mut self, service: &str, manifest: &str, program: &Program) {
        self.add_on(self.kind, service, manifest, program);
    }

    /// The same for another kind of engine.
    pub(crate) fn add_on(
        &mut self,
        kind: &'static dyn Kind,
        service: &str,
        manifest: &str,
        program: &Program,
    ) {
        let gpu = if service.starts_with(PLAIN) { "" } else { GPU };
        self.left.0.push((kind, self.house.project(service)));
        kind.add(&mut self.house, service, &format!("{gpu}{manifest}"), program);
    }

    /// Adds a service that is a Compose file. `manifest` is what it says beside its name.
    pub(crate) fn add_file(&mut self, service: &str, manifest: &str, compose: &str) {
        self.left.0.push((self.kind, self.house.project(service)));
        self.house.add(service, manifest, compose);
    }

    /// Starts the nanny, with this kind of engine and no other.
    pub(crate) fn open(&mut self) {
        self.open_with(|_| {});
    }

    pub(crate) fn open_with(&mut self, settings: impl FnOnce(&mut Command)) {
        let kind = self.kind.name();
        self.house.open_with(|command| {
            command.args(["--backend", kind]);
            settings(command);
        });
    }

    /// Starts the nanny with every engine.
    pub(crate) fn open_all(&mut self, settings: impl FnOnce(&mut Command)) {
        self.house.open_with(settings);
    }

    /// Kills the nanny and starts it again.
    pub(crate) fn kill_nanny(&mut self) {
        self.house.end_with("KILL");
        self.open();
    }

    /// The first process of a service, if it runs.
    pub(crate) fn find(&self, service: &str) -> Option<Run> {
        witness::run(&self.project(service))
    }

    /// The first process of a service, which must run. For the moment in which a process becomes
    /// another program, it has no environment.
    #[track_caller]
    pub(crate) fn run(&self, service: &str) -> Run {
        until(|| self.find(service), || format!("'{service}' does not run"))
    }

    /// Whether a service runs.
    pub(crate) fn runs(&self, service: &str) -> bool {
        self.find(service).is_some()
    }

    /// The services that run, by the witness's word.
    pub(crate) fn up(&self) -> BTreeSet<String> {
        let suffix = format!("-{}", self.tag);
        witness::up(&suffix).iter().map(|project| project.replace(&suffix, "")).collect()
    }

    /// Waits until these services run and no others, and the nanny says the same.
    #[track_caller]
    pub(crate) fn ends_with(&self, services: &[&str]) {
        let wanted: BTreeSet<_> = services.iter().map(|name| (*name).to_owned()).collect();
        until(|| (self.up() == wanted).then_some(()), || format!("{:?} are up", self.up()));
        for service in &wanted {
            self.until(service, |now| now["status"] == "running");
        }
        let all = self.get("/services");
        for service in all["services"].as_array().expect("a list") {
            let name = service["name"].as_str().expect("a name");
            if !wanted.contains(name) {
                self.until(name, |now| now["is_running"] == false && now["holds_gpu"] == false);
            }
        }
        let holders: Vec<_> = services.iter().filter(|name| !name.starts_with(PLAIN)).collect();
        match holders[..] {
            [] => assert_eq!(self.holder(), serde_json::Value::Null),
            [holder] => assert_eq!(self.holder(), **holder),
            _ => panic!("there can be one: {holders:?}"),
        }
    }

    /// Does something, during which no two services may be up at once.
    #[track_caller]
    pub(crate) fn never_two<T>(&self, act: impl FnOnce(&Self) -> T) -> T {
        let suffix = format!("-{}", self.tag);
        let exclusive = |found: &str| found.ends_with(&suffix) && !found.starts_with(PLAIN);
        witness::never_two(exclusive, || act(self))
    }

    /// Sends a signal to the first process of a service, behind everybody's back.
    #[track_caller]
    pub(crate) fn signal_service(&self, service: &str, name: &str) {
        signal(self.run(service).pid, name);
    }

    /// Waits until the log of a service is made of these lines.
    #[track_caller]
    pub(crate) fn says_lines(&self, service: &str, lines: &[&str]) {
        let prefix = self.kind.prefix(service);
        let log: String = lines.iter().map(|line| format!("{prefix}{line}\n")).collect();
        self.says(service, &log);
    }
}

impl Deref for Stage {
    type Target = House;

    fn deref(&self) -> &House {
        &self.house
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut House {
        &mut self.house
    }
}

/// What must be taken down in the end.
#[derive(Default)]
struct Left(Vec<(&'static dyn Kind, String)>);

impl Drop for Left {
    fn drop(&mut self) {
        for (kind, project) in &self.0 {
            kind.clean(project);
        }
    }
}

/// What a house asks of its engine.
pub(crate) mod engine {
    /// Whoever has a house has found out before.
    pub(crate) fn answers() -> bool {
        true
    }

    /// The stage does it.
    pub(crate) fn clean(_: &str) {}
}
