//! The canonical project: what a Compose file means, with every default filled in.
//!
//! Plain data with public fields. Where a field is an `Option`, `None` means that the file says
//! nothing and the image or the engine decides.

mod build;
mod config;
mod container;
mod environment;
mod files;
mod gpu;
mod mount;
mod resource;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use build::Build;
pub(crate) use build::is_remote;
pub use config::Config;
pub use container::{Device, Healthcheck, Port, Protocol, RestartPolicy, Ulimit};
pub use environment::Environment;
pub use files::{Content, FileMount};
pub use gpu::GpuRequest;
pub use mount::{Mount, MountSource, Propagation, Selinux};
pub use resource::{Ipam, IpamPool, Network, Volume};
pub use service::{
    Attachment, Condition, Dependency, Logging, Namespaces, NetworkMode, PullPolicy, Resources,
    Service,
};

/// A Compose project, ready to be carried out.
///
/// Holds what the selected profiles activate, and of the networks and volumes those that an
/// active service uses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Project {
    /// The project's name; what Compose finds its containers by.
    pub name: String,
    /// The project directory, absolute: relative paths of the file start here.
    pub working_dir: PathBuf,
    /// The Compose files, absolute, in merge order.
    pub config_files: Vec<PathBuf>,
    /// The active services by name.
    pub services: BTreeMap<String, Service>,
    /// The services that no selected profile activates. Their containers are no orphans.
    pub inactive: BTreeSet<String>,
    /// The networks in use, by their key in the file.
    pub networks: BTreeMap<String, Network>,
    /// The named volumes in use, by their key in the file.
    pub volumes: BTreeMap<String, Volume>,
    pub(crate) json: Config,
}

impl Project {
    /// A project without services; for tests and for projects that come from elsewhere.
    pub fn new(name: impl Into<String>, working_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            working_dir: working_dir.into(),
            config_files: Vec::new(),
            services: BTreeMap::new(),
            inactive: BTreeSet::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            json: Config::default(),
        }
    }

    /// The whole project in its canonical form, as `docker compose config --format json` prints
    /// it but for the white space: every default filled in, a dollar sign doubled, so that it is
    /// a Compose file again. Holds the values of variables. Empty if the project was not loaded.
    pub fn to_json(&self) -> &str {
        self.json.json()
    }
}
