//! One line of a file of cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nanny_compose::{DiskFiles, Problems, Project, Request, load};
use serde_json::Value;

use crate::difference::{Outcome, difference};

/// Files, an environment, and what Compose made of them. Paths are told as `@ROOT@`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    files: Vec<String>,
    profiles: Vec<String>,
    environment: BTreeMap<String, String>,
    project: Option<String>,
    directory: Option<String>,
    env_files: Vec<String>,
    place: Place,
    /// The line itself, of which [`Expected`] is read.
    line: String,
}

/// Where the files are.
#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Here(BTreeMap<String, String>),
}

/// What Compose made of a case.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) project: String,
    pub(crate) services: BTreeMap<String, String>,
    pub(crate) networks: BTreeMap<String, String>,
    pub(crate) volumes: BTreeMap<String, String>,
    /// The whole, as `docker compose config --format json` prints it but for the white space.
    pub(crate) config: Option<String>,
}

impl Case {
    pub(crate) fn parse(line: &str, corpus: &Path) -> Self {
        let value: Value = serde_json::from_str(line).expect("a case is JSON");
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let files = texts(&value["files"]);
        let profiles: Vec<_> =
            text("profile").into_iter().chain(texts(&value["profiles"])).collect();
        let place = match value.get("tree") {
            Some(tree) => Place::Here(map(tree)),
            None => Place::Folder(corpus.canonicalize().expect("the corpus lies beside its cases")),
        };
        Self {
            name: text("case").unwrap_or_else(|| name(&files, &profiles)),
            files,
            profiles,
            environment: map(&value["env"]),
            project: text("project_flag"),
            directory: text("directory"),
            env_files: texts(&value["env-file"]),
            place,
            line: line.to_owned(),
        }
    }

    pub(crate) fn judge(&self) -> Outcome {
        match &self.place {
            Place::Folder(root) => self.judge_in(root),
            Place::Here(tree) => {
                let above = tempfile::tempdir().expect("there is room for a folder");
                let above = above.path().canonicalize().expect("it is there");
                let root = above.join("work");
                fs::create_dir(&root).expect("the folder is new");
                for (path, text) in tree {
                    let path = root.join(path);
                    let folder = path.parent().expect("it is in a folder");
                    fs::create_dir_all(folder).expect("there is room for a folder");
                    fs::write(path, at(text, &root)).expect("there is room for a file");
                }
                self.judge_in(&root)
            }
        }
    }

    fn judge_in(&self, root: &Path) -> Outcome {
        match (self.load(root), self.expected(root)) {
            (Err(_), None) => Outcome::RefusedByBoth,
            (Ok(_), None) => Outcome::Laxer(self.error()),
            (Err(problems), Some(_)) => {
                Outcome::Stricter(problems.problems.iter().map(ToString::to_string).collect())
            }
            (Ok(project), Some(expected)) => match difference(&project, &expected) {
                Some(difference) => Outcome::Different(difference),
                None => read_again(&project).map_or(Outcome::Identical, Outcome::Lossy),
            },
        }
    }

    fn load(&self, root: &Path) -> Result<Project, Problems> {
        let variable = |name: &str| self.environment.get(name).map(|value| at(value, root));
        let files = self.files.iter().map(|file| root.join(file)).collect();
        let mut request = Request::of_files(files);
        request.profiles.clone_from(&self.profiles);
        request.project_dir = self.directory.as_ref().map(|path| root.join(path));
        request.project_name = self
            .project
            .clone()
            .or_else(|| variable("COMPOSE_PROJECT_NAME"))
            .filter(|it| !it.is_empty());
        let env_files = variable("COMPOSE_ENV_FILES").unwrap_or_default();
        let env_files = env_files.split(',').filter(|path| !path.is_empty());
        let env_files = self.env_files.iter().map(String::as_str).chain(env_files);
        request.env_files = env_files.map(|path| root.join(path)).collect();
        request.home = variable("HOME").map(PathBuf::from);
        let loaded = load(&request, &variable, &DiskFiles);
        let is_told = |problems: &Problems| !problems.problems.is_empty();
        assert!(loaded.as_ref().err().is_none_or(is_told), "refused without a reason");
        loaded.map(|loaded| loaded.project)
    }

    fn expected(&self, root: &Path) -> Option<Expected> {
        let value: Value = serde_json::from_str(&at(&self.line, root)).expect("a case is JSON");
        value["ok"].as_bool().unwrap_or(false).then(|| Expected {
            project: value["project"].as_str().expect("a project has a name").to_owned(),
            services: map(&value["services"]),
            networks: map(&value["networks"]),
            volumes: map(&value["volumes"]),
            config: value["config"].as_str().map(str::to_owned),
        })
    }

    fn error(&self) -> String {
        let value: Value = serde_json::from_str(&self.line).expect("a case is JSON");
        value["error"].as_str().unwrap_or("?").to_owned()
    }
}

/// The canonical model is a Compose file that means the same; if not, how it differs.
fn read_again(project: &Project) -> Option<String> {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("again.yaml");
    fs::write(&file, project.to_json()).expect("there is room for a file");
    let mut request = Request::new(file);
    request.project_dir = Some(project.working_dir.clone());
    request.profiles = vec!["*".to_owned()];
    match load(&request, &|_| None, &DiskFiles) {
        Err(problems) => Some(problems.to_string()),
        Ok(again) if texts_of(project) == texts_of(&again.project) => None,
        Ok(again) => Some(again.project.to_json().to_owned()),
    }
}

/// What is hashed of all that a project has.
fn texts_of(project: &Project) -> Vec<(&String, &str)> {
    let services = project.services.iter().map(|(name, it)| (name, it.config.json()));
    let networks = project.networks.iter().map(|(name, it)| (name, it.config.json()));
    let volumes = project.volumes.iter().map(|(name, it)| (name, it.config.json()));
    services.chain(networks).chain(volumes).collect()
}

/// A text with the places that it names.
fn at(text: &str, root: &Path) -> String {
    let path = |path: &Path| path.to_str().expect("the path is text").to_owned();
    let above = root.parent().map(path).unwrap_or_default();
    text.replace("@ROOT@", &path(root)).replace("@ABOVE@", &above)
}

fn name(files: &[String], profiles: &[String]) -> String {
    let profiles = profiles.iter().map(|profile| format!(" [{profile}]"));
    files.join(" + ") + &profiles.collect::<String>()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("it is text").to_owned();
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}
