//! What the project is called.

use std::path::Path;

use super::Request;
use super::at::{At, Sink};
use super::reading::{PROJECT_NAME, Reading};
use crate::interpolate::interpolate;
use crate::names::normalize_project_name;
use crate::problem::Problem;
use crate::yaml::Node;

/// The project's name: the request's, else that of `.env`, else the file's, else the directory's.
pub(super) fn of_project(
    request: &Request,
    root: &Node,
    project_dir: &Path,
    reading: &Reading<'_>,
    sink: &Sink,
) -> String {
    if let Some(name) = &request.project_name {
        if normalize_project_name(name) != *name || name.is_empty() {
            sink.problem((0, 0), "", format!("the project name '{name}' {RULE}"));
        }
        return name.clone();
    }
    // An ambient one would merge all services into one project; this one lies beside the file.
    if let Some(name) = reading.dot_env(PROJECT_NAME).filter(|name| !name.is_empty()) {
        if normalize_project_name(name) != name {
            let message = format!("the project name in {PROJECT_NAME} {RULE}");
            reading.report(Problem::of_file(&project_dir.join(".env"), message));
        }
        return name.to_owned();
    }
    if let Some(at) = At::root(root, sink).field("name")
        && let Some(text) = at.string()
    {
        // What cannot be interpolated is reported with the rest of the tree.
        let Ok(done) = interpolate(&text, &|name| reading.variable(name)) else {
            return String::new();
        };
        if !done.text.is_empty() {
            if normalize_project_name(&done.text) != done.text {
                let shown =
                    if done.has_values { String::new() } else { format!(" '{}'", done.text) };
                at.problem(format!("the project name{shown} {RULE}"));
            }
            return done.text;
        }
    }
    let directory = project_dir.file_name().unwrap_or_default().to_string_lossy();
    let name = normalize_project_name(&directory);
    if name.is_empty() {
        let message = "the directory's name yields no project name; add a top-level 'name: …'";
        sink.problem((0, 0), "", message);
    }
    name
}

const RULE: &str = "must hold only a-z, 0-9, _ and -, and begin with a letter or digit";
