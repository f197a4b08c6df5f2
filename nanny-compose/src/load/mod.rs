//! From Compose files to a [`Project`].
//!
//! In this order: read `.env`; read each file, replace its variables, bring it into the canonical
//! form, resolve its `extends` and `include`s; lay the files over each other; fill in the
//! defaults; check what the parts ask of each other; read `env_file`s; build the model. Each step
//! reports all it finds.

mod at;
mod check;
mod consistency;
mod decode;
mod environment;
mod extends;
mod include;
mod layers;
mod merge;
mod mounts;
mod name;
mod normal;
mod ports;
mod read;
mod reading;
mod scalars;
mod security;
mod short;
mod variables;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use at::{At, Place, Sink};
use consistency::Consistency;
use decode::Decoder;
use layers::{Loader, Scope};
use normal::Normal;
use reading::{Reading, Record};
pub use scalars::parse_bytes;

use crate::dotenv;
use crate::files::Files;
use crate::hash::Writer;
use crate::model::{Config, MountSource, Network, Project};
use crate::names::resource_name;
use crate::problem::{Problem, Problems};
use crate::spec::PROJECT;
use crate::yaml::{Limits, Mapping, Node, Value};

/// What to load, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The Compose files, absolute paths; a later one says what to change in the earlier ones.
    pub compose_files: Vec<PathBuf>,
    /// Where relative paths start and `.env` lies, absolute; the first file's directory by
    /// default.
    pub project_dir: Option<PathBuf>,
    /// The project's name; by default the `COMPOSE_PROJECT_NAME` in `.env` (an ambient one is
    /// ignored), else the `name` in the files, else the directory's.
    pub project_name: Option<String>,
    /// The profiles to activate, `*` for all; by default those in `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Files of variables in place of `.env`, absolute paths; unlike it they must be there.
    pub env_files: Vec<PathBuf>,
    /// What `~` stands for.
    pub home: Option<PathBuf>,
    /// How much the YAML text may ask for. The size also bounds `.env` and each `env_file`.
    pub limits: Limits,
}

impl Request {
    /// A request for one file with all the defaults.
    pub fn new(compose_file: impl Into<PathBuf>) -> Self {
        Self::of_files(vec![compose_file.into()])
    }

    /// A request for several files with all the defaults.
    pub fn of_files(compose_files: Vec<PathBuf>) -> Self {
        Self {
            compose_files,
            project_dir: None,
            project_name: None,
            profiles: Vec::new(),
            env_files: Vec::new(),
            home: None,
            limits: Limits::default(),
        }
    }
}

/// The files that Compose takes in a directory when none is named: those of `COMPOSE_FILE` in its
/// `.env`, else the first of the default names that is there, with the override file beside it.
/// Empty if there is none.
pub fn default_files(directory: &Path, files: &dyn Files) -> Vec<PathBuf> {
    let text = files.read(&directory.join(".env"), Limits::default().max_bytes as u64);
    let text = text.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let variables = dotenv::parse(&text, &|_| None).map(|read| read.values).unwrap_or_default();
    let separator = variables.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
    if let Some(named) = variables.get("COMPOSE_FILE").filter(|named| !named.is_empty()) {
        return named.split(separator).map(|name| directory.join(name)).collect();
    }
    let first_of = |names: [&str; 4]| {
        names.iter().map(|name| directory.join(name)).find(|path| files.exists(path))
    };
    let Some(file) = first_of(DEFAULT_NAMES) else { return Vec::new() };
    std::iter::once(file).chain(override_file(directory, files)).collect()
}

/// The override file of a directory, which Compose lays over a file with a default name.
pub fn override_file(directory: &Path, files: &dyn Files) -> Option<PathBuf> {
    OVERRIDE_NAMES.iter().map(|name| directory.join(name)).find(|path| files.exists(path))
}

/// The names under which Compose looks for a file, the first one first.
pub const DEFAULT_NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// The names under which Compose looks for an override file, the first one first.
pub const OVERRIDE_NAMES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// A project that could be loaded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What is odd about the files but does not keep them from running.
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
    let sink = Sink::default();
    let project = build(request, &mut reading, &sink);
    let Record { files_read, problems: more, warnings: notes } = reading.into_record();
    let mut problems = sink.problems.into_inner();
    let mut warnings = sink.warnings.into_inner();
    let order = sink.files.into_inner();
    for list in [&mut problems, &mut warnings] {
        list.sort_by_key(|it| (order.get_index_of(&it.file), it.line, it.column));
        list.dedup();
        // The note that there is more comes last, and stands nowhere.
        let notes = list.iter_mut().filter(|report| report.line == usize::MAX);
        notes.for_each(|report| report.line = 0);
    }
    problems.extend(more);
    warnings.extend(notes);
    match project {
        Some(project) if problems.is_empty() => Ok(Loaded { project, warnings, files_read }),
        _ => {
            debug_assert!(!problems.is_empty(), "refused without a reason");
            Err(Problems { problems, warnings, files_read })
        }
    }
}

/// The steps of a load; `None` as soon as the next step has nothing sound to work on.
fn build(request: &Request, reading: &mut Reading<'_>, sink: &Sink) -> Option<Project> {
    let Some(first) = request.compose_files.first() else {
        let message = "there is no Compose file; write one, or name it";
        sink.problem(Place::whole(sink.file(Path::new("compose.yaml"))), "", message);
        return None;
    };
    let beside = first.parent().unwrap_or(Path::new("/"));
    let dir = scalars::clean(request.project_dir.as_deref().unwrap_or(beside));
    if dir.is_relative() || request.compose_files.iter().any(|file| file.is_relative()) {
        let message = "the paths of files and project directory must be absolute";
        sink.problem(Place::whole(sink.file(first)), "", message);
        return None;
    }
    read_dot_env(request, &dir, reading);
    let reading = &*reading;
    let loader = Loader::new(reading, sink, request.limits, request.home.as_deref());
    let files: Vec<_> = request.compose_files.iter().map(|file| scalars::clean(file)).collect();
    let name = {
        let documents = files.iter().map(|file| loader.documents(file, None));
        let documents = documents.collect::<Option<Vec<_>>>()?;
        name::of_project(request, &documents, &dir, reading, sink)
    };
    reading.set_project_name(&name);
    let variable = |name: &str| reading.variable(name);
    let scope = Scope { dir: &dir, variable: &variable };
    let mut root = loader.stack(&files, scope, &[])?;
    // What is wrong so far would only cause false alarms further on.
    if sink.count() > 0 {
        return None;
    }
    if root.as_mapping().is_none_or(Mapping::is_empty) {
        sink.problem(Place::whole(sink.file(first)), "", "there is nothing here; add 'services'");
        return None;
    }
    Normal { project: &name, dir: &dir, sink, variable: &variable }.fill(&mut root);
    let selected = selected_profiles(request, reading);
    let mut project = Project::new(&name, &dir);
    project.config_files = files;
    model(&mut project, &mut root, &selected, reading, sink);
    Some(project)
}

fn read_dot_env(request: &Request, dir: &Path, reading: &mut Reading<'_>) {
    let dot_env = [dir.join(".env")];
    let is_default = request.env_files.is_empty();
    let files = if is_default { &dot_env[..] } else { &request.env_files };
    let mut all = std::collections::BTreeMap::new();
    for path in files {
        match reading.read(path) {
            Ok(text) => {
                let known = |name: &str| reading.variable(name).or_else(|| all.get(name).cloned());
                let variables = dotenv::parse(&text, &known);
                let variables = reading.checked(path, variables);
                all.extend(variables);
            }
            // A folder of that name is somebody else's.
            Err(reason) if is_default && (reason.is_missing || reason.is_folder) => {}
            Err(reason) => {
                let message = format!("cannot be read: {}", reason.message);
                reading.report(Problem::of_file(path, message));
            }
        }
    }
    reading.set_dot_env(all);
}

/// Fills the project from the canonical tree.
fn model(
    project: &mut Project,
    root: &mut Node,
    selected: &[String],
    reading: &Reading<'_>,
    sink: &Sink,
) {
    let names = |node: Option<&Node>| -> Vec<String> {
        node.into_iter().flat_map(read::entries).map(|entry| entry.key.text.clone()).collect()
    };
    let (active, inactive): (Vec<_>, Vec<_>) = names(root.at("services"))
        .into_iter()
        .partition(|name| is_active(service_of(root, name), selected));
    let active: BTreeSet<_> = active.into_iter().collect();
    project.inactive = inactive.into_iter().collect();
    take_from_files(root, &active, reading, sink);

    let dir = &project.working_dir;
    let decoder = Decoder { project: &project.name, root, dir, reading };
    let at = At::root(root, sink);
    let services = at.field("services");
    for name in &active {
        let Some(at) = services.as_ref().and_then(|services| services.field(name)) else {
            continue;
        };
        project.services.insert(name.clone(), decoder.service(name, &at));
    }
    let node_of = |section: &str, key: &str| {
        root.at(section).and_then(Node::as_mapping).and_then(|section| section.get(key))
    };
    for service in project.services.values() {
        for key in service.networks.keys() {
            let network = node_of("networks", key).map(|node| decoder.network(key, node));
            let default = || Network::new(resource_name(decoder.project, key));
            project.networks.insert(key.clone(), network.unwrap_or_else(default));
        }
        for mount in &service.mounts {
            if let MountSource::Volume { key, .. } = &mount.source
                && let Some(node) = node_of("volumes", key)
            {
                project.volumes.insert(key.clone(), decoder.volume(key, node));
            }
        }
    }
    Consistency { root, sink, active: &active }.check(project);
    keep_used(root, project);
    project.json = Config::new(document(root));
}

/// Reads `env_file`s and `label_file`s of the active services.
fn take_from_files(root: &mut Node, active: &BTreeSet<String>, reading: &Reading<'_>, sink: &Sink) {
    let Some(services) = normal::section_mut(root, "services") else { return };
    for (key, service) in services.values_mut().filter(|(key, _)| active.contains(&key.text)) {
        let names_files = service.at("env_file").is_some() || service.at("label_file").is_some();
        if !names_files {
            continue;
        }
        let before = service.clone();
        let at = At::root(&before, sink);
        let at = At::beneath(&at, &["services", &key.text]);
        environment::resolve(service, &at, reading);
        environment::resolve_labels(service, &at, reading);
    }
}

fn service_of<'a>(root: &'a Node, name: &str) -> Option<&'a Node> {
    root.at("services")?.as_mapping()?.get(name)
}

fn selected_profiles(request: &Request, reading: &Reading<'_>) -> Vec<String> {
    if !request.profiles.is_empty() {
        return request.profiles.clone();
    }
    let ambient = reading.variable("COMPOSE_PROFILES").unwrap_or_default();
    ambient.split(',').map(|profile| profile.trim().to_owned()).collect()
}

fn is_active(service: Option<&Node>, selected: &[String]) -> bool {
    let profiles = service.and_then(|service| service.at("profiles")).and_then(Node::as_sequence);
    let Some(profiles) = profiles else { return true };
    let chosen = |profile: &Node| {
        profile.as_str().is_some_and(|profile| selected.iter().any(|name| name == profile))
    };
    profiles.is_empty() || selected.iter().any(|name| name == "*") || profiles.iter().any(chosen)
}

/// Leaves in the tree what the active services use, as Compose shows it.
fn keep_used(root: &mut Node, project: &Project) {
    let place = root.with(Value::Null);
    let services = project.services.values();
    let mounted = services.clone().flat_map(|it| &it.secrets).map(|file| file.name.clone());
    let built =
        project.services.keys().filter_map(|name| service_of(root, name)?.at("build.secrets"));
    let built = built.filter_map(Node::as_sequence).flatten();
    let built = built.filter_map(|secret| normal::text(secret, "source")).map(str::to_owned);
    let secrets: BTreeSet<String> = mounted.chain(built).collect();
    let configs: BTreeSet<_> = services.flat_map(|it| &it.configs).map(|f| &f.name).collect();
    let mut keep = |section: &str, is_used: &dyn Fn(&str) -> bool| {
        if let Some(mapping) = normal::section_mut(root, section) {
            let unused: Vec<_> = mapping
                .iter()
                .map(|entry| entry.key.text.clone())
                .filter(|key| !is_used(key))
                .collect();
            unused.iter().for_each(|key| {
                mapping.remove(key);
            });
        }
    };
    keep("services", &|key| project.services.contains_key(key));
    keep("networks", &|key| project.networks.contains_key(key));
    keep("volumes", &|key| project.volumes.contains_key(key));
    keep("secrets", &|key| secrets.contains(key));
    keep("configs", &|key| configs.contains(&key.to_owned()));
    if root.at("networks").is_none() {
        normal::set(root, "networks", Value::Mapping(Mapping::default()));
    }
    if let Some(networks) = normal::section_mut(root, "networks") {
        for (key, network) in &project.networks {
            if networks.get(key).is_none() {
                let mut node = place.with(Value::Mapping(Mapping::default()));
                normal::set(&mut node, "name", Value::String(network.name.clone()));
                networks.insert(place.key(key), node);
            }
        }
    }
    normal::set(root, "name", Value::String(project.name.clone()));
    if root.at("services").is_none() {
        normal::set(root, "services", Value::Mapping(Mapping::default()));
    }
}

/// The project as `docker compose config --format json` prints it, but for the white space.
fn document(root: &Node) -> String {
    Writer::Shown.project(&PROJECT, root)
}

#[cfg(test)]
mod tests;
