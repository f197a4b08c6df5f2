//! Looking through the directories: blocking, and one at a time.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nanny_compose::{DiskFiles, Files as _};

use super::project::{self, Loading};
use super::{Paths, Settings};
use crate::manifest::parse::{self, MAX_BYTES};
use crate::manifest::{Problem, Service, Severity};
use crate::name::ServiceName;
use crate::project::{Project, labels};

/// What a manifest may be called; the first that is there counts.
pub(super) const MANIFEST_NAMES: &[&str] = &["service.yaml", "service.yml"];
/// What a Compose file may be called if nobody says; the first that is there counts.
pub(super) const COMPOSE_NAMES: &[&str] =
    &["docker-compose.yml", "compose.yaml", "compose.yml", "docker-compose.yaml"];

/// What one directory holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) manifest: Option<FoundManifest>,
    /// What is known of one that could not be read.
    pub(super) unreadable: Option<Service>,
    pub(super) problems: Vec<Problem>,
    /// Files that were read or looked for.
    pub(super) files: Vec<PathBuf>,
}

/// A manifest that could be read.
#[derive(Debug)]
pub(super) struct FoundManifest {
    pub(super) name: ServiceName,
    /// Where it says the service's name.
    pub(super) name_at: (usize, usize),
    pub(super) origin: PathBuf,
    pub(super) file: PathBuf,
    /// The service; one that cannot be started if its Compose file is at fault.
    pub(super) service: Option<Service>,
}

/// The directories beneath `root` that may hold a service, in the order of their names.
pub(super) fn service_directories(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        // Through a link as well: whoever keeps services elsewhere links them in.
        if !is_skipped(&entry.file_name()) && entry.path().is_dir() {
            found.insert(entry.path());
        }
    }
    Ok(found)
}

/// Templates, hidden directories and the nanny's own are no services.
pub(super) fn is_skipped(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(['_', '.']) || name == "service-nanny"
}

/// Reads what there is in one directory, given by its name beneath the root.
pub(super) fn read(paths: &Paths, directory: &OsStr, settings: &Settings) -> Found {
    let origin = paths.shown.join(directory);
    let absolute = paths.absolute.join(directory);
    let mut found = Found::default();
    found.files.extend(MANIFEST_NAMES.iter().map(|name| absolute.join(name)));
    let Some(name) = MANIFEST_NAMES.iter().find(|name| is_there(&absolute.join(name))) else {
        return found;
    };
    let manifest_file = origin.join(name);
    let text = match read_text(&absolute.join(name)) {
        Ok(text) => text,
        Err(Unreadable { at, message }) => {
            found.problems.push(Problem::new(&origin, &manifest_file, at, message));
            found.unreadable = unreadable(None, &origin, &absolute, &found.problems);
            return found;
        }
    };
    let parsed = match parse::parse(&text, &origin, &manifest_file) {
        Ok(parsed) => parsed,
        Err(problems) => {
            found.unreadable = unreadable(Some(&text), &origin, &absolute, &problems);
            found.problems = problems;
            return found;
        }
    };
    found.problems = parsed.problems;
    let mut manifest = parsed.manifest;
    let mut loading = Loading { paths, settings, origin, manifest_file, absolute, found };
    let project = project::load(&mut loading, &manifest, &parsed.files);
    let Loading { origin, manifest_file: file, absolute, mut found, .. } = loading;
    let (name, name_at) = (manifest.name.clone(), parsed.name_at);
    let fault = match &project {
        Some(_) => None,
        None => found.problems.iter().find(|problem| problem.severity == Severity::Error),
    };
    let fault = fault.map(ToString::to_string);
    // What somebody started there by hand is still to be seen and stopped.
    let project = project.or_else(|| project::without_parts(&absolute, &manifest));
    let service = project.map(|mut project| {
        let home = absolute.to_string_lossy();
        for part in project.parts.values_mut() {
            part.spec.labels.insert(labels::ORIGIN.to_owned(), home.clone().into_owned());
        }
        if settings.protected.contains(&project.name) {
            manifest.off_limits = Some("the nanny itself runs in its project".to_owned());
        }
        let service = Service::new(manifest, Arc::new(project), origin.clone());
        match fault {
            None => service,
            Some(fault) => service.as_unusable(fault),
        }
    });
    found.manifest = Some(FoundManifest { name, name_at, origin, file, service });
    found
}

/// A service by which what was started of it is known again: by its name and its directory.
fn unreadable(
    text: Option<&str>,
    origin: &Path,
    absolute: &Path,
    problems: &[Problem],
) -> Option<Service> {
    let manifest = parse::salvage(text, origin)?;
    let mut project = Project::new(manifest.name.as_str());
    let home = absolute.to_string_lossy().into_owned();
    project.selector.insert(labels::ORIGIN.to_owned(), home);
    let fault = problems.iter().find(|problem| problem.severity == Severity::Error)?;
    Some(Service::new(manifest, project, origin).as_unusable(fault.to_string()))
}

/// Whether there is anything at `path`, even if it cannot be read: then the reading says why.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

struct Unreadable {
    at: (usize, usize),
    message: String,
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let whole = |message: String| Unreadable { at: (1, 1), message };
    let bytes = DiskFiles.read(path, MAX_BYTES as u64).map_err(|error| {
        whole(match error.kind() {
            io::ErrorKind::FileTooLarge => {
                format!("the file is longer than {} KiB; make it smaller", MAX_BYTES >> 10)
            }
            _ => format!("cannot be read: {error}"),
        })
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..sound]).into_owned();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let at = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        Unreadable { at, message: "this is not UTF-8; save the file as UTF-8".to_owned() }
    })
}
