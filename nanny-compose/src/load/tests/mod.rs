//! The loader on files in memory.

mod fields;
mod outside;
mod refusals;
mod shape;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Loaded, Request, load};
use crate::files::Files;
use crate::model::{Project, Service};
use crate::problem::Problems;

/// Where the tests' Compose file lies.
const FILE: &str = "/srv/My App/compose.yaml";

/// A load in preparation: files and variables that exist only here.
struct Stage {
    files: BTreeMap<PathBuf, Vec<u8>>,
    variables: BTreeMap<&'static str, &'static str>,
    request: Request,
}

impl Stage {
    fn new(compose: &str) -> Self {
        let mut request = Request::new(FILE);
        request.home = Some("/home/ann".into());
        Self { files: BTreeMap::new(), variables: BTreeMap::new(), request }.file(FILE, compose)
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.insert(name, value);
        self
    }

    fn profiles(mut self, profiles: &[&str]) -> Self {
        self.request.profiles = profiles.iter().map(|&profile| profile.to_owned()).collect();
        self
    }

    fn load(&self) -> Result<Loaded, Problems> {
        let variable = |name: &str| self.variables.get(name).map(|&value| value.to_owned());
        load(&self.request, &variable, self)
    }

    #[track_caller]
    fn project(&self) -> Project {
        self.load().map(|loaded| loaded.project).expect("the file is sound")
    }

    #[track_caller]
    fn refused(&self) -> Problems {
        self.load().expect_err("the file is not sound")
    }
}

impl Files for Stage {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() as u64 > limit {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(bytes.clone())
        }
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }
}

/// The service `web` with these lines, each indented below it.
#[track_caller]
fn web(lines: &str) -> Service {
    let mut project = Stage::new(&web_file(lines)).project();
    project.services.remove("web").expect("it was just written")
}

/// The problems of the service `web` with these lines, without the name of the file.
#[track_caller]
fn web_problems(lines: &str) -> Vec<String> {
    problems(&web_file(lines))
}

/// The problems of a file, without its name.
#[track_caller]
fn problems(compose: &str) -> Vec<String> {
    let lines = Stage::new(compose).refused().to_string();
    lines.lines().map(|line| line.strip_prefix(FILE).unwrap_or(line).to_owned()).collect()
}

/// The warnings of a file, without its name.
#[track_caller]
fn warnings(compose: &str) -> Vec<String> {
    let loaded = Stage::new(compose).load().expect("the file is sound");
    let lines = loaded.warnings.iter().map(ToString::to_string);
    lines.map(|line| line.strip_prefix(FILE).unwrap_or(&line).to_owned()).collect()
}

fn web_file(lines: &str) -> String {
    let mut file = String::from("services:\n  web:\n    image: nginx\n");
    for line in lines.lines() {
        file.push_str("    ");
        file.push_str(line);
        file.push('\n');
    }
    file.push_str("volumes:\n  models:\n  cache:\nnetworks:\n  front:\n  back:\n");
    file
}
