//! What a service needs to know of the rest of the project while it is read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::at::At;
use super::scalars;

/// The surroundings of a service.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) project: &'a str,
    pub(super) project_dir: &'a Path,
    pub(super) home: Option<&'a Path>,
    /// The keys under the top-level `networks` and `volumes`.
    pub(super) networks: BTreeSet<String>,
    pub(super) volumes: BTreeSet<String>,
    /// Whether the service being read is active; an inactive one may refer to what is not there.
    pub(super) is_active: bool,
    /// The networks and volumes that active services use.
    pub(super) used_networks: RefCell<BTreeSet<String>>,
    pub(super) used_volumes: RefCell<BTreeSet<String>>,
}

impl Context<'_> {
    /// Notes that a volume is in use, and reports one that the file does not define.
    pub(super) fn use_volume(&self, key: &str, at: &At<'_>) {
        if !self.is_active {
            return;
        }
        if self.volumes.contains(key) {
            self.used_volumes.borrow_mut().insert(key.to_owned());
            return;
        }
        let advice = if key.contains('/') {
            "for a path beside the file, begin it with './'"
        } else {
            "define it under the top-level 'volumes'"
        };
        match at.node.secret {
            true => at.problem(format!("the volume is not defined; {advice}")),
            false => at.problem(format!("the volume '{key}' is not defined; {advice}")),
        }
    }

    /// Notes that a network is in use, and reports one that the file does not define.
    pub(super) fn use_network(&self, key: &str, at: &At<'_>) {
        if !self.is_active {
            return;
        }
        if self.networks.contains(key) || key == "default" {
            self.used_networks.borrow_mut().insert(key.to_owned());
            return;
        }
        let advice = "define it under the top-level 'networks'";
        match at.node.secret {
            true => at.problem_at_key(format!("the network is not defined; {advice}")),
            false => at.problem_at_key(format!("the network '{key}' is not defined; {advice}")),
        }
    }

    /// A host path as an absolute and clean one: relative ones start at the project directory,
    /// `~` at the home directory.
    pub(super) fn resolve_path(&self, text: &str, at: &At<'_>) -> Option<String> {
        let path = match text.strip_prefix('~') {
            Some(rest) => {
                let Some(home) = self.home else {
                    at.problem("'~' stands for a home directory, and none is known; write it out");
                    return None;
                };
                home.join(rest.trim_start_matches('/'))
            }
            None => self.project_dir.join(PathBuf::from(text)),
        };
        Some(scalars::clean(&path).to_string_lossy().into_owned())
    }
}
