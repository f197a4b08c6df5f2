//! Real Compose files against what Docker Compose v2.40.3 makes of them.
//!
//! The cases lie beside the workspace, in `../../shared/compose`, and are nobody's to copy. Each
//! must come out identical, byte for byte, or be refused with a clear error; never silently
//! different. Where the folder is absent the test says so, and fails if `CI=true`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nanny_compose::{DiskFiles, Problem, Problems, Project, Request, hash, load};
use serde_json::Value;

#[test]
fn real_files_are_identical_to_compose_or_refused() {
    let Some(folder) = folder() else { return };
    let golden = std::fs::read_to_string(folder.join("golden.jsonl")).expect("the cases are text");
    let root = folder.join("corpus").canonicalize().expect("the corpus lies beside its cases");
    let mut tally = Tally::default();
    for line in golden.lines().filter(|line| !line.trim().is_empty()) {
        let case = Case::parse(line, &root);
        let outcome = case.judge();
        tally.add(&case, outcome);
    }
    tally.report();
    assert!(tally.different.is_empty(), "differs from Compose:\n{}", tally.different.join("\n"));
    assert!(tally.identical > 0, "no case at all was comparable");
}

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/compose");
    if folder.join("golden.jsonl").exists() {
        return Some(folder);
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "the golden cases are missing: {}", folder.display());
    say(&format!("SKIPPED: no golden cases at {}", folder.display()));
    None
}

/// Past the capture of test output: what is skipped must be seen.
fn say(line: &str) {
    writeln!(std::io::stderr(), "golden: {line}").expect("stderr is open");
}

/// One line of the golden file.
struct Case {
    files: Vec<PathBuf>,
    profile: Option<String>,
    environment: BTreeMap<String, String>,
    /// What Compose made of it, `None` if it refused.
    expected: Option<Expected>,
}

struct Expected {
    project: String,
    services: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
    volumes: BTreeMap<String, String>,
}

enum Outcome {
    Identical,
    BothRefuse,
    Refused(String),
    Different(String),
}

impl Case {
    fn parse(line: &str, root: &Path) -> Self {
        let root_text = root.to_str().expect("the path is text");
        let value: Value = serde_json::from_str(&line.replace("@ROOT@", root_text)).expect("JSON");
        let texts = |key: &str| -> BTreeMap<String, String> {
            let object = value[key].as_object().into_iter().flatten();
            let text = |value: &Value| value.as_str().expect("JSON as text").to_owned();
            object.map(|(name, json)| (name.clone(), text(json))).collect()
        };
        let expected = value["ok"].as_bool().unwrap_or(false).then(|| Expected {
            project: value["project"].as_str().expect("a project has a name").to_owned(),
            services: texts("services"),
            networks: texts("networks"),
            volumes: texts("volumes"),
        });
        let files = value["files"].as_array().expect("a case has files");
        Self {
            files: files.iter().filter_map(|file| Some(root.join(file.as_str()?))).collect(),
            profile: value["profile"].as_str().map(str::to_owned),
            environment: texts("env"),
            expected,
        }
    }

    fn judge(&self) -> Outcome {
        let [file] = self.files.as_slice() else {
            return Outcome::Refused("several files are not supported yet".to_owned());
        };
        match (self.load(file), &self.expected) {
            (Ok(_), None) => Outcome::Different("Compose refuses it".to_owned()),
            (Ok(project), Some(expected)) => match difference(&project, expected) {
                None => Outcome::Identical,
                Some(difference) => Outcome::Different(difference),
            },
            (Err(problems), expected) => {
                assert!(!problems.problems.is_empty(), "refused without a reason");
                let is_honest = |problem: &Problem| problem.message.contains("not supported");
                match expected {
                    None => Outcome::BothRefuse,
                    Some(_) if problems.problems.iter().all(is_honest) => {
                        Outcome::Refused(problems.to_string())
                    }
                    Some(_) => Outcome::Different(format!("Compose accepts it:\n{problems}")),
                }
            }
        }
    }

    fn load(&self, file: &Path) -> Result<Project, Problems> {
        let mut request = Request::new(file);
        request.profiles = self.profile.iter().cloned().collect();
        request.home = self.environment.get("HOME").map(PathBuf::from);
        let variable = |name: &str| self.environment.get(name).cloned();
        load(&request, &variable, &DiskFiles).map(|loaded| loaded.project)
    }

    fn name(&self) -> String {
        let names = self.files.iter().map(|file| file.display().to_string());
        names.collect::<Vec<_>>().join(" + ")
    }
}

fn difference(project: &Project, expected: &Expected) -> Option<String> {
    if project.name != expected.project {
        return Some(format!("the project is '{}', not '{}'", project.name, expected.project));
    }
    let services = project.services.iter();
    let services = services.map(|(name, it)| (name.clone(), hash::service_json(it))).collect();
    let networks = project.networks.iter();
    let networks = networks.map(|(name, it)| (name.clone(), hash::network_json(it))).collect();
    let volumes = project.volumes.iter();
    let volumes = volumes.map(|(name, it)| (name.clone(), hash::volume_json(it))).collect();
    first_difference("service", &services, &expected.services)
        .or_else(|| first_difference("network", &networks, &expected.networks))
        .or_else(|| first_difference("volume", &volumes, &expected.volumes))
}

fn first_difference(
    what: &str,
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
) -> Option<String> {
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    if names(ours) != names(theirs) {
        return Some(format!("{what}s: {:?}, not {:?}", names(ours), names(theirs)));
    }
    let mut pairs = ours.iter().zip(theirs.values());
    let ((name, ours), theirs) = pairs.find(|((_, ours), theirs)| ours != theirs)?;
    Some(format!("{what} {name}:\n  ours   {ours}\n  theirs {theirs}"))
}

#[derive(Default)]
struct Tally {
    identical: usize,
    both_refuse: usize,
    refused: Vec<String>,
    different: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &Case, outcome: Outcome) {
        match outcome {
            Outcome::Identical => self.identical += 1,
            Outcome::BothRefuse => self.both_refuse += 1,
            Outcome::Refused(why) => self.refused.push(format!("{}:\n{why}", case.name())),
            Outcome::Different(how) => self.different.push(format!("{}: {how}", case.name())),
        }
    }

    fn report(&self) {
        for refused in &self.refused {
            say(&format!("NOT COMPARED, refused: {refused}"));
        }
        say(&format!(
            "{} identical, {} refused by both, {} refused by us, {} different",
            self.identical,
            self.both_refuse,
            self.refused.len(),
            self.different.len()
        ));
    }
}
