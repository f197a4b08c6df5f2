//! What the project is called.

use std::path::Path;
use std::rc::Rc;

use super::Request;
use super::at::{At, Place, Sink};
use super::reading::{PROJECT_NAME, Reading};
use crate::interpolate::interpolate;
use crate::names::normalize_project_name;
use crate::problem::Problem;
use crate::yaml::Node;

/// The project's name: the request's, else that of `.env`, else the last one in the files, else
/// the directory's.
pub(super) fn of_project(
    request: &Request,
    files: &[Rc<Vec<Node>>],
    dir: &Path,
    reading: &Reading<'_>,
    sink: &Sink,
) -> String {
    let place = request.compose_files.first().map_or(0, |file| sink.file(file));
    if let Some(name) = &request.project_name {
        if normalize_project_name(name) != *name || name.is_empty() {
            let message = format!("the project name '{name}' {RULE}");
            sink.problem(Place::whole(place), "", message);
        }
        return name.clone();
    }
    // An ambient one would merge all services into one project; this one lies beside the file.
    if let Some(name) = reading.dot_env(PROJECT_NAME).filter(|name| !name.is_empty()) {
        if normalize_project_name(name) != name {
            let message = format!("the project name in {PROJECT_NAME} {RULE}");
            reading.report(Problem::of_file(&dir.join(".env"), message));
        }
        return name.to_owned();
    }
    let documents = files.iter().rev().flat_map(|documents| documents.iter().rev());
    let mut names = documents.filter_map(|document| At::root(document, sink).field("name"));
    let said = |at: &At<'_>| at.node.as_str().is_some_and(|text| !text.is_empty());
    if let Some(at) = names.find(said) {
        // What cannot be interpolated is reported with the rest of the tree.
        let text = at.node.as_str().unwrap_or_default();
        let done = interpolate(text, &|name| reading.variable(name)).ok();
        let name = done.as_ref().map(|done| normalize_project_name(&done.text));
        if name.as_ref().is_some_and(String::is_empty) {
            at.problem(format!("yields no project name, which {RULE}"));
        }
        return name.unwrap_or_default();
    }
    let directory = dir.file_name().unwrap_or_default().to_string_lossy();
    let name = normalize_project_name(&directory);
    if name.is_empty() {
        let message = "the directory's name yields no project name; add a top-level 'name: …'";
        sink.problem(Place::whole(place), "", message);
    }
    name
}

const RULE: &str = "must hold only a-z, 0-9, _ and -, and begin with a letter or digit";
