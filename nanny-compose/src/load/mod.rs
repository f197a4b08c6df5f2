//! From a Compose file to a [`Project`].
//!
//! In this order, each step reporting all it finds: read `.env`, read the file, check every key,
//! replace variables, build the model, check what services ask of each other, read `env_file`s.

mod at;
mod check;
mod consistency;
mod context;
mod environment;
mod gpus;
mod mounts;
mod name;
mod parts;
mod ports;
mod reading;
mod resources;
mod scalars;
mod service;
mod variables;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use at::{At, Sink};
use context::Context;
use reading::{Reading, Record};
use service::Draft;

use crate::dotenv;
use crate::files::Files;
use crate::model::{Network, Project, Volume};
use crate::names::resource_name;
use crate::problem::{Problem, Problems};
use crate::yaml::{self, Limits, Node};

/// What to load, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The Compose file, an absolute path.
    pub compose_file: PathBuf,
    /// Where relative paths start and `.env` lies, absolute; the file's directory by default.
    pub project_dir: Option<PathBuf>,
    /// The project's name; by default the `COMPOSE_PROJECT_NAME` in `.env` (an ambient one is
    /// ignored), else the file's `name`, else the directory's.
    pub project_name: Option<String>,
    /// The profiles to activate, `*` for all; by default those in `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// What `~` stands for.
    pub home: Option<PathBuf>,
    /// How much the YAML text may ask for. The size also bounds `.env` and each `env_file`.
    pub limits: Limits,
}

impl Request {
    /// A request with all the defaults.
    pub fn new(compose_file: impl Into<PathBuf>) -> Self {
        Self {
            compose_file: compose_file.into(),
            project_dir: None,
            project_name: None,
            profiles: Vec::new(),
            home: None,
            limits: Limits::default(),
        }
    }
}

/// A project that could be loaded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What is odd about the file but does not keep it from running.
    pub warnings: Vec<Problem>,
    /// Every file that was read or looked for: when one of them changes, load again.
    pub files_read: Vec<PathBuf>,
}

/// Loads a project. The environment is whatever the lookup says; `.env` adds to it.
///
/// # Errors
///
/// All problems that were found, none with the value of a variable in it.
pub fn load(
    request: &Request,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<Loaded, Problems> {
    let mut reading = Reading::new(files, environment, request.limits.max_bytes);
    let sink = Sink::new(&request.compose_file);
    let project = build(request, &mut reading, &sink);
    let Record { files_read, problems: more, warnings: notes } = reading.into_record();
    let mut problems = sink.problems.into_inner();
    let mut warnings = sink.warnings.into_inner();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    warnings.sort_by_key(|warning| (warning.line, warning.column));
    problems.dedup();
    // The note that there is more comes last, and stands nowhere.
    let notes_last = problems.iter_mut().chain(&mut warnings);
    notes_last.filter(|report| report.line == usize::MAX).for_each(|report| report.line = 0);
    problems.extend(more);
    warnings.extend(notes);
    match project {
        Some(project) if problems.is_empty() => Ok(Loaded { project, warnings, files_read }),
        _ => Err(Problems { problems, warnings, files_read }),
    }
}

/// The steps of a load; `None` as soon as the next step has nothing sound to work on.
fn build(request: &Request, reading: &mut Reading<'_>, sink: &Sink) -> Option<Project> {
    let file = &request.compose_file;
    let beside = file.parent().unwrap_or(Path::new("/"));
    let project_dir = scalars::clean(request.project_dir.as_deref().unwrap_or(beside));
    if file.is_relative() || project_dir.is_relative() {
        sink.problem((0, 0), "", "the paths of file and project directory must be absolute");
        return None;
    }
    read_dot_env(&project_dir, reading);
    let mut root = read_tree(request, reading, sink)?;
    warn_of_overrides(file, reading, sink);
    check::keys(&root, sink);
    let name = name::of_project(request, &root, &project_dir, reading, sink);
    reading.set_project_name(&name);
    let found = sink.count();
    variables::replace(&mut root, sink, &|variable| reading.variable(variable));
    // A text that could not be interpolated would only cause false alarms further on.
    if sink.count() > found {
        return None;
    }
    let names = Names { project: &name, project_dir: &project_dir };
    model(request, &At::root(&root, sink), names, reading)
}

/// What the project and its directory are called.
#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    project: &'a str,
    project_dir: &'a Path,
}

fn read_dot_env(project_dir: &Path, reading: &mut Reading<'_>) {
    let path = project_dir.join(".env");
    match reading.read(&path) {
        Ok(text) => {
            let variables = dotenv::parse(&text, &|name| reading.variable(name));
            let variables = reading.checked(&path, variables);
            reading.set_dot_env(variables);
        }
        Err(reason) if reason.is_missing => {}
        Err(reason) => {
            let message = format!("cannot be read: {}", reason.message);
            reading.report(Problem::of_file(&path, message));
        }
    }
}

fn read_tree(request: &Request, reading: &Reading<'_>, sink: &Sink) -> Option<Node> {
    let text = match reading.read(&request.compose_file) {
        Ok(text) => text,
        Err(reason) => {
            sink.problem((0, 0), "", format!("cannot be read: {}", reason.message));
            return None;
        }
    };
    match yaml::parse(&text, &request.limits) {
        Ok(root) => Some(root),
        Err(error) => {
            sink.problem((error.line, error.column), &error.path, error.message);
            None
        }
    }
}

/// `docker compose` would merge an override file beside a file with one of its default names,
/// and read other files where `.env` says so.
fn warn_of_overrides(file: &Path, reading: &Reading<'_>, sink: &Sink) {
    if reading.dot_env("COMPOSE_FILE").is_some() {
        sink.warn((0, 0), "", "COMPOSE_FILE in .env has no effect here; only this file is read");
    }
    let is_default = file.file_name().is_some_and(|name| {
        DEFAULT_STEMS.iter().any(|stem| {
            name == format!("{stem}.yml").as_str() || name == format!("{stem}.yaml").as_str()
        })
    });
    if !is_default {
        return;
    }
    for stem in DEFAULT_STEMS {
        for extension in ["yml", "yaml"] {
            let name = format!("{stem}.override.{extension}");
            if reading.exists(&file.with_file_name(&name)) {
                let message = format!("{name} beside it is not read; merging is not supported yet");
                sink.warn((0, 0), "", message);
            }
        }
    }
}

const DEFAULT_STEMS: [&str; 2] = ["compose", "docker-compose"];

/// The project, as far as the tree is sound.
fn model(
    request: &Request,
    root: &At<'_>,
    names: Names<'_>,
    reading: &Reading<'_>,
) -> Option<Project> {
    root.mapping()?;
    // It means nothing any more, but Compose still wants it to be a string.
    let _ = root.field("version").and_then(|at| at.string());
    let Some(services) = root.field("services") else {
        root.problem("there is no 'services'; add at least one");
        return None;
    };
    let (networks, volumes) = (root.field("networks"), root.field("volumes"));
    let keys = |at: &Option<At<'_>>| -> BTreeSet<String> {
        let mapping = at.as_ref().and_then(|at| at.node.as_mapping());
        let entries = mapping.into_iter().flat_map(|mapping| mapping.iter());
        entries.map(|entry| entry.key.text.clone()).collect()
    };
    let mut context = Context {
        project: names.project,
        project_dir: names.project_dir,
        home: request.home.as_deref(),
        networks: keys(&networks),
        volumes: keys(&volumes),
        is_active: true,
        used_networks: RefCell::default(),
        used_volumes: RefCell::default(),
    };
    let mut project = Project::new(names.project, names.project_dir);
    project.config_files = vec![scalars::clean(&request.compose_file)];
    let networks = networks.map(|at| resources::networks(&at, &context)).unwrap_or_default();
    let volumes = volumes.map(|at| resources::volumes(&at, &context)).unwrap_or_default();

    let selected = selected_profiles(request, reading);
    let mut drafts: BTreeMap<String, Draft<'_>> = BTreeMap::new();
    for (name, at) in resources::named(&services) {
        context.is_active = is_active(&at, &selected);
        let Some(draft) = service::read(&name, at, &context) else {
            continue;
        };
        if context.is_active {
            drafts.insert(name, draft);
        } else {
            project.inactive.insert(name);
        }
    }
    consistency::dependencies(&mut drafts, &project.inactive);
    consistency::container_names(&drafts, &project);
    keep_used(&mut project, networks, volumes, &context);
    for (name, draft) in drafts {
        let Draft { mut service, environment, env_files, .. } = draft;
        service.environment = environment::resolve(environment, &env_files, reading);
        project.services.insert(name, service);
    }
    Some(project)
}

fn selected_profiles(request: &Request, reading: &Reading<'_>) -> Vec<String> {
    if !request.profiles.is_empty() {
        return request.profiles.clone();
    }
    let ambient = reading.variable("COMPOSE_PROFILES").unwrap_or_default();
    ambient.split(',').map(|profile| profile.trim().to_owned()).collect()
}

fn is_active(service: &At<'_>, selected: &[String]) -> bool {
    // A list that is no list of strings is reported when the service is read.
    let Some(profiles) = service.node.at("profiles").and_then(Node::as_sequence) else {
        return true;
    };
    let chosen = |profile: &Node| {
        profile.as_str().is_some_and(|profile| selected.iter().any(|name| name == profile))
    };
    profiles.is_empty() || selected.iter().any(|name| name == "*") || profiles.iter().any(chosen)
}

/// Keeps the networks and volumes that active services use.
fn keep_used(
    project: &mut Project,
    mut networks: BTreeMap<String, Network>,
    mut volumes: BTreeMap<String, Volume>,
    context: &Context<'_>,
) {
    for key in context.used_networks.borrow().iter() {
        let default = || Network::new(resource_name(context.project, key));
        project.networks.insert(key.clone(), networks.remove(key).unwrap_or_else(default));
    }
    for key in context.used_volumes.borrow().iter() {
        if let Some(volume) = volumes.remove(key) {
            project.volumes.insert(key.clone(), volume);
        }
    }
}

#[cfg(test)]
mod tests;
