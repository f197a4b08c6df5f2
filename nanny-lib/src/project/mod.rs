//! Projects: the containers, networks and volumes of one service.
//!
//! A [`Project`] is what is wanted, free of any engine and any file format; [`plan`] compares it
//! with what an engine reports and says what to do next.

mod lower;
mod plan;
mod preview;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use self::lower::from_compose;
pub(crate) use self::lower::spec_hash;
pub use self::plan::{Goal, Plan, Progress, exit_reason, has_completed, has_drifted, plan};
pub use self::preview::preview;
pub use self::step::{Step, Subject};
use crate::backend::{
    ContainerInfo, ContainerSpec, Labels, NetworkSpec, RestartPolicy, VolumeSpec,
};

/// Labels that we put on what we start.
pub mod labels {
    /// The service a container belongs to.
    pub const SERVICE: &str = "dev.nanny.service";
    /// The directory that the service was read from: with the service's name, proof that a container
    /// is its own, whatever its project is called by now.
    pub const ORIGIN: &str = "dev.nanny.origin";
    /// The hash of the spec a container was made from.
    pub const SPEC_HASH: &str = "dev.nanny.spec-hash";
    /// What the file asked the engine to do on an exit, where the nanny does it instead.
    pub const RESTART: &str = "dev.nanny.restart";
}

/// What is wanted of an engine for one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Project {
    /// Its name, unique among projects of one engine.
    pub name: String,
    /// The labels by which its containers are told from all others, whoever made them.
    pub selector: Labels,
    /// The label that says which of the project's parts a container is.
    pub part_label: String,
    /// Labels that mark a container as none of the project's parts, such as one-off runs.
    pub excluded: Labels,
    /// Labels that hold a hash of what a container was made from, the most trusted first.
    pub hash_labels: Vec<String>,
    /// The label that takes the image's identifier at creation, if there is one.
    pub image_label: Option<String>,
    /// Its parts, by name. Boxed, because a map makes room for eleven of them at once.
    pub parts: BTreeMap<String, Box<Part>>,
    /// Networks to be there before a container is created.
    pub networks: Vec<NetworkWanted>,
    /// Volumes to be there before a container is created.
    pub volumes: Vec<VolumeWanted>,
}

impl Project {
    /// A project called `name` without parts, told from others by `dev.nanny.service`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            selector: Labels::from([(labels::SERVICE.to_owned(), name.clone())]),
            part_label: "dev.nanny.part".to_owned(),
            hash_labels: vec![labels::SPEC_HASH.to_owned()],
            name,
            ..Self::default()
        }
    }

    /// A project of one container: the simplest there is.
    #[must_use]
    pub fn single(name: impl Into<String>, spec: ContainerSpec) -> Self {
        Self::new(name).with_part("main", spec)
    }

    /// Adds a part that depends on nothing, labelled so that it is found again.
    #[must_use]
    pub fn with_part(mut self, key: impl Into<String>, mut spec: ContainerSpec) -> Self {
        let key = key.into();
        spec.labels.extend(self.selector.clone());
        spec.labels.insert(self.part_label.clone(), key.clone());
        self.parts.insert(key, Box::new(Part::new(spec)));
        self
    }

    /// Whether `container` is one of this project's, whoever made it.
    #[must_use]
    pub fn owns(&self, container: &ContainerInfo) -> bool {
        let carries = |(key, value): (&String, &String)| container.labels.get(key) == Some(value);
        !self.selector.is_empty()
            && self.selector.iter().all(carries)
            && !self.excluded.iter().any(carries)
    }

    /// Which part `container` is, as its labels say.
    #[must_use]
    pub fn part_of<'a>(&self, container: &'a ContainerInfo) -> Option<&'a str> {
        container.labels.get(&self.part_label).map(String::as_str)
    }
}

/// One part of a project: a container to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// The container; its labels include the project's.
    pub spec: ContainerSpec,
    /// What must be so before it starts.
    pub depends_on: Vec<Dependency>,
    /// What the file asks for on an exit. The engine is told this, unless the service needs a GPU:
    /// then the engine is told nothing and the nanny does it.
    pub restart: RestartPolicy,
}

impl Part {
    /// A part that depends on nothing and is not restarted.
    #[must_use]
    pub fn new(spec: ContainerSpec) -> Self {
        Self { restart: spec.restart.unwrap_or_default(), spec, depends_on: Vec::new() }
    }
}

/// What must be so before a part starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dependency {
    /// The other part.
    pub part: String,
    /// In which state it must be.
    pub condition: Condition,
    /// Whether the project can do without it.
    pub required: bool,
}

impl Dependency {
    /// `part` must be in `condition`.
    #[must_use]
    pub fn new(part: impl Into<String>, condition: Condition) -> Self {
        Self { part: part.into(), condition, required: true }
    }
}

/// In which state a dependency must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Condition {
    /// It was started.
    Started,
    /// Its health check passes.
    Healthy,
    /// It ran and exited with 0.
    Completed,
}

/// A network that a project needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NetworkWanted {
    /// What to make; only the name counts if it is external.
    #[serde(skip)]
    pub spec: NetworkSpec,
    /// Somebody else makes it: it must be there, and is never removed.
    pub external: bool,
    /// Labels that tell a network of ours from a stranger of the same name.
    pub identity: Labels,
}

impl NetworkWanted {
    /// A network to make, or, if `external`, one to find.
    #[must_use]
    pub fn new(spec: NetworkSpec, external: bool, identity: Labels) -> Self {
        Self { spec, external, identity }
    }
}

/// A named volume that a project needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VolumeWanted {
    /// What to make; only the name counts if it is external.
    #[serde(skip)]
    pub spec: VolumeSpec,
    /// Somebody else makes it: it must be there.
    pub external: bool,
}

impl VolumeWanted {
    /// A volume to make, or, if `external`, one to find.
    #[must_use]
    pub fn new(spec: VolumeSpec, external: bool) -> Self {
        Self { spec, external }
    }
}

/// The time a container may take to end if nobody says otherwise.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
