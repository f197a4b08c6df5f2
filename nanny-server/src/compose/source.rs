//! Where a command in this directory finds its Compose files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nanny_compose::{DiskFiles, Request, default_files, dotenv};

use super::ConfigArgs;

/// A working directory and its environment.
#[derive(Debug)]
pub(super) struct Source {
    directory: PathBuf,
    /// Without what is ours: `NANNY_TOKEN` is not for Compose files.
    environment: BTreeMap<String, String>,
}

impl Source {
    /// This process's.
    pub(super) fn here() -> io::Result<Self> {
        let variables = env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let environment = variables.filter(|(name, _)| !name.starts_with("NANNY_")).collect();
        Ok(Self { directory: env::current_dir()?, environment })
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    /// What is asked for: by flags, else by variables, else by what lies here.
    pub(super) fn request(&self, args: ConfigArgs) -> Request {
        let project_dir = args.project_directory.map(|path| self.directory.join(path));
        let env_files = match args.env_files {
            given if !given.is_empty() => given,
            _ => self.paths("COMPOSE_ENV_FILES", ","),
        };
        let env_files: Vec<_> =
            env_files.into_iter().map(|path| self.directory.join(path)).collect();
        let files = match args.files {
            given if !given.is_empty() => self.absolute(given),
            _ => self.files(project_dir.as_deref(), &env_files),
        };
        let mut request = Request::of_files(files);
        request.project_dir = project_dir;
        request.env_files = env_files;
        let given = args.project_name.or_else(|| self.variable("COMPOSE_PROJECT_NAME"));
        request.project_name = given.filter(|name| !name.is_empty());
        request.profiles = args.profiles;
        request.home = self.variable("HOME").map(PathBuf::from);
        request
    }

    /// The files that `COMPOSE_FILE` names, which may itself be in the `.env` here; else the ones
    /// under default names, here or in the nearest directory above that has any.
    fn files(&self, project_dir: Option<&Path>, env_files: &[PathBuf]) -> Vec<PathBuf> {
        let directory = project_dir.unwrap_or(&self.directory);
        let dot_env = [directory.join(".env")];
        let env_files = if env_files.is_empty() { &dot_env[..] } else { env_files };
        let in_files = env_files.iter().filter_map(|path| self.variables_of(path));
        let in_files = in_files.reduce(|mut all, later| {
            all.extend(later);
            all
        });
        let in_files = in_files.unwrap_or_default();
        let variable = |name: &str| self.variable(name).or_else(|| in_files.get(name).cloned());
        let separator = variable("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
        let separator = separator.as_deref().unwrap_or(":");
        match variable("COMPOSE_FILE").filter(|text| !text.is_empty()) {
            Some(files) => self.absolute(files.split(separator).map(PathBuf::from).collect()),
            None => {
                let found = directory.ancestors().map(|above| default_files(above, &DiskFiles));
                found.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
            }
        }
    }

    /// What is not sound in it is told when the project is loaded.
    fn variables_of(&self, path: &Path) -> Option<BTreeMap<String, String>> {
        let text = fs::read_to_string(path).ok()?;
        dotenv::parse(&text, &|name| self.variable(name)).ok().map(|found| found.values)
    }

    fn paths(&self, name: &str, separator: &str) -> Vec<PathBuf> {
        let value = self.variable(name).unwrap_or_default();
        value.split(separator).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
    }

    fn absolute(&self, paths: Vec<PathBuf>) -> Vec<PathBuf> {
        paths.into_iter().map(|path| self.directory.join(path)).collect()
    }
}
