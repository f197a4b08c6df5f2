//! The project of a manifest: from its Compose file, or from its command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nanny_compose::{DiskFiles, Request, dotenv};

use super::scan::{COMPOSE_NAMES, Found};
use super::{Paths, Settings, clean};
use crate::backend::{ContainerSpec, Environment, GpuDevices, Limits};
use crate::manifest::parse::{Files, Placed};
use crate::manifest::{Manifest, Problem};
use crate::project::{Project, from_compose, labels, spec_hash};

/// One directory while it is read.
pub(super) struct Loading<'a> {
    pub(super) paths: &'a Paths,
    pub(super) settings: &'a Settings,
    /// The directory, as the user calls it.
    pub(super) origin: PathBuf,
    /// The manifest, as the user calls it.
    pub(super) manifest_file: PathBuf,
    /// The directory, absolute and clean, links kept: Compose names projects after it.
    pub(super) absolute: PathBuf,
    pub(super) found: Found,
}

/// The project that runs the service; what is wrong goes to the findings.
pub(super) fn load(
    loading: &mut Loading<'_>,
    manifest: &Manifest,
    files: &Files,
) -> Option<Project> {
    let working_dir = loading.working_dir(files.working_dir.as_ref())?;
    let may_be_process = manifest.backend.as_deref().is_none_or(|backend| backend == "process");
    let compose_file = match &files.compose_file {
        Some(named) => loading.named_file("compose_file", named, &working_dir)?,
        None => match loading.standard_file(&working_dir) {
            found if manifest.command.is_some() && (may_be_process || found.is_none()) => {
                if let (Some(file), Some(at)) = (found, files.process_at) {
                    loading.pass_over(&file, at);
                }
                let variables = loading.env_files(&files.env_files, &working_dir)?;
                return Some(process(manifest, variables, &working_dir));
            }
            Some(file) => loading.inside(&file, "compose_file", (1, 1)).then_some(file)?,
            None => {
                let name = working_dir.join(COMPOSE_NAMES[0]);
                let name = loading.paths.shown(&name);
                let message = format!(
                    "there is no {}; write one, name another with 'compose_file', \
                     or say with 'command' what to run",
                    name.display()
                );
                loading.error((1, 1), message);
                return None;
            }
        },
    };
    if let Some(at) = files.process_at {
        loading.hint(
            at,
            "'command', 'env' and 'restart' are for plain processes and do nothing here: \
             the Compose file says what runs",
        );
    }
    let variables = loading.env_files(&files.env_files, &working_dir)?;
    loading.compose(manifest, &compose_file, &variables)
}

/// The project of a directory whose files are at fault: nothing to start, but the name by which
/// what runs is found.
pub(super) fn without_parts(directory: &Path, manifest: &Manifest) -> Option<Project> {
    let name = directory.file_name()?.to_string_lossy();
    let name = nanny_compose::names::normalize_project_name(&name);
    from_compose(&nanny_compose::Project::new(name, directory), manifest).ok()
}

/// A project of one plain process. `variables` are those of its `env_file`s.
fn process(
    manifest: &Manifest,
    variables: BTreeMap<String, String>,
    working_dir: &Path,
) -> Project {
    let mut environment = Environment::default();
    environment.0.extend(variables.into_iter().map(|(name, value)| (name, Some(value))));
    environment.0.extend(manifest.env.0.clone());
    let limit = |limit: Option<u64>| limit.and_then(|n| i64::try_from(n).ok()).unwrap_or_default();
    let mut spec = ContainerSpec {
        name: manifest.name.as_str().to_owned(),
        command: manifest.command.clone(),
        environment,
        working_dir: Some(working_dir.to_string_lossy().into_owned()),
        stop_grace: manifest.stop_timeout,
        limits: Limits {
            nano_cpus: limit(manifest.resources.nano_cpus),
            memory: limit(manifest.resources.memory_bytes),
            ..Limits::default()
        },
        ..ContainerSpec::default()
    };
    if !manifest.gpus.devices.is_empty() {
        let device_ids = manifest.gpus.devices.clone();
        spec.gpus.push(GpuDevices { device_ids, ..GpuDevices::default() });
    }
    if manifest.gpu_required {
        spec.labels.insert(labels::GPU.to_owned(), "required".to_owned());
    }
    let mut project = Project::single(manifest.name.as_str(), spec);
    for part in project.parts.values_mut() {
        part.restart = manifest.on_exit;
        let hash = spec_hash(&part.spec);
        part.spec.labels.insert(labels::SPEC_HASH.to_owned(), hash);
    }
    project
}

impl Loading<'_> {
    fn working_dir(&mut self, named: Option<&Placed>) -> Option<PathBuf> {
        let Some(named) = named else {
            return Some(self.absolute.clone());
        };
        let path = clean(&self.absolute.join(&named.text));
        if !self.inside(&path, "working_dir", named.at) {
            return None;
        }
        if path.is_dir() {
            return Some(path);
        }
        let message =
            format!("'working_dir' is '{}', which is no directory; make it one", named.text);
        self.error(named.at, message);
        None
    }

    /// A file that the manifest names: beside the working directory's files, or else beside the
    /// manifest.
    fn named_file(&mut self, field: &str, named: &Placed, working_dir: &Path) -> Option<PathBuf> {
        let places = [working_dir, &self.absolute].map(|place| clean(&place.join(&named.text)));
        self.found.files.extend(places.clone());
        let path = places.iter().find(|path| path.exists()).unwrap_or(&places[0]);
        if !self.inside(path, field, named.at) {
            return None;
        }
        if path.is_file() {
            return Some(path.clone());
        }
        let shown = self.paths.shown(path);
        let message = format!(
            "'{field}' names {}, which is no file; write it or name another",
            shown.display()
        );
        self.error(named.at, message);
        None
    }

    fn standard_file(&mut self, working_dir: &Path) -> Option<PathBuf> {
        let places: Vec<_> = COMPOSE_NAMES.iter().map(|name| working_dir.join(name)).collect();
        self.found.files.extend(places.clone());
        places.into_iter().find(|path| path.exists())
    }

    /// Whether `path` lies in the service's directory, wherever links lead; if not, says so. A path
    /// that is not there is judged by its name.
    fn inside(&mut self, path: &Path, field: &str, at: (usize, usize)) -> bool {
        let real = path.canonicalize();
        let is_inside = match (&real, self.absolute.canonicalize()) {
            (Ok(real), Ok(directory)) => real.starts_with(directory),
            _ => path.starts_with(&self.absolute),
        };
        if !is_inside {
            let message = format!(
                "'{field}' leads out of the service's directory; keep the file inside, \
                 or link the whole directory"
            );
            self.error(at, message);
        }
        is_inside
    }

    /// The variables of the manifest's `env_file`s, later files over earlier ones.
    fn env_files(
        &mut self,
        named: &[Placed],
        working_dir: &Path,
    ) -> Option<BTreeMap<String, String>> {
        let mut variables = BTreeMap::new();
        for named in named {
            let path = clean(&working_dir.join(&named.text));
            self.found.files.push(path.clone());
            let text = match nanny_compose::Files::read(&DiskFiles, &path, ENV_FILE_BYTES) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => {
                    let message = format!(
                        "'env_file' {} cannot be read: {error}; write it or take it out",
                        named.text
                    );
                    self.error(named.at, message);
                    return None;
                }
            };
            let settings = self.settings;
            let known =
                |name: &str| settings.variable(name).or_else(|| variables.get(name).cloned());
            match dotenv::parse(&text, &known) {
                Ok(found) => variables.extend(found.values),
                Err(error) => {
                    let file = self.paths.shown(&path);
                    let at = (error.line.max(1), 1);
                    let problem = Problem::new(&self.origin, file, at, error.kind.to_string());
                    self.found.problems.push(problem);
                    return None;
                }
            }
        }
        Some(variables)
    }

    fn compose(
        &mut self,
        manifest: &Manifest,
        compose_file: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Option<Project> {
        // As for `docker compose` in that directory: a file under a default name comes with the
        // override file beside it.
        let beside = compose_file.parent().unwrap_or(Path::new("/"));
        let mut files = nanny_compose::default_files(beside, &DiskFiles);
        if files.first().map(PathBuf::as_path) != Some(compose_file) {
            files = vec![compose_file.to_owned()];
        }
        if !files.iter().all(|file| self.inside(file, "compose_file", (1, 1))) {
            return None;
        }
        let overrides = nanny_compose::OVERRIDE_NAMES.iter().map(|name| beside.join(name));
        self.found.files.extend(overrides);
        let mut request = Request::of_files(files);
        request.profiles.clone_from(&manifest.profiles);
        request.home.clone_from(&self.settings.home);
        let settings = self.settings;
        let lookup = |name: &str| settings.variable(name).or_else(|| variables.get(name).cloned());
        match nanny_compose::load(&request, &lookup, &DiskFiles) {
            Ok(loaded) => {
                self.found.files.extend(loaded.files_read);
                self.say(loaded.warnings, Problem::as_hint);
                if loaded.project.services.is_empty() {
                    let file = self.paths.shown(compose_file);
                    let message = "there is no service to run; add one under 'services', or \
                                   activate its profile with 'profiles' in the manifest";
                    let problem = Problem::new(&self.origin, file, (1, 1), message);
                    self.found.problems.push(problem);
                    return None;
                }
                let lowered = from_compose(&loaded.project, manifest);
                self.hint_at_gpu(manifest, &loaded.project);
                lowered.map_err(|problems| self.adopt(problems)).ok()
            }
            Err(problems) => {
                self.found.files.extend(problems.files_read);
                self.say(problems.warnings, Problem::as_hint);
                self.say(problems.problems, |problem| problem);
                None
            }
        }
    }

    /// A service that reserves a GPU behind the back of the arbiter is seldom meant.
    fn hint_at_gpu(&mut self, manifest: &Manifest, project: &nanny_compose::Project) {
        let mut services = project.services.values();
        if !manifest.gpu_required && services.any(|service| !service.gpus.is_empty()) {
            let message = "the Compose file reserves a GPU, and the manifest does not say \
                           'gpu_required: true': it would run beside whoever holds the GPU";
            let problem = Problem::new(&self.origin, &self.manifest_file, (1, 1), message);
            self.found.problems.push(problem.as_hint());
        }
    }

    /// Takes over what the Compose loader found, under the names that the user knows.
    fn say(&mut self, found: Vec<nanny_compose::Problem>, change: impl Fn(Problem) -> Problem) {
        for problem in found {
            let path = self.paths.shown(&problem.file);
            let at = (problem.line.max(1), problem.column.max(1));
            let place = if problem.path.is_empty() { "" } else { &format!("{}: ", problem.path) };
            let message = format!("{place}{}", problem.message);
            self.found.problems.push(change(Problem::new(&self.origin, path, at, message)));
        }
    }

    fn adopt(&mut self, problems: Vec<Problem>) {
        for mut problem in problems {
            problem.path = self.paths.shown(&problem.path);
            problem.origin.clone_from(&self.origin);
            self.found.problems.push(problem);
        }
    }

    /// Says that the Compose file beside a command is of no use.
    fn pass_over(&mut self, file: &Path, at: (usize, usize)) {
        let file = self.paths.shown(file);
        self.hint(
            at,
            format!(
                "'command' says what runs, as a plain process, and {} does nothing; take one of \
                 them out, or name the file with 'compose_file'",
                file.display()
            ),
        );
    }

    fn hint(&mut self, at: (usize, usize), message: impl Into<String>) {
        let problem = Problem::new(&self.origin, &self.manifest_file, at, message);
        self.found.problems.push(problem.as_hint());
    }

    fn error(&mut self, at: (usize, usize), message: impl Into<String>) {
        self.found.problems.push(Problem::new(&self.origin, &self.manifest_file, at, message));
    }
}

/// As for `.env`.
const ENV_FILE_BYTES: u64 = 1 << 20;
